/** DEFLATE by zlib, one packet at a time (RFC 1951, RFC 2394). */

import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { Compressor } from '../bytes/compressor.ts';

/** Linux inflates with a window of 2^11 octets and no more. */
const WINDOW_BITS = 11;
const TOO_LARGE = 'ERR_BUFFER_TOO_LARGE';

export const zlibCompressor: Compressor = {
  deflate: (bytes) => deflateRawSync(bytes, { windowBits: WINDOW_BITS }),
  inflate(bytes, most) {
    try {
      return inflateRawSync(bytes, { maxOutputLength: most });
    } catch (error) {
      const { code = '' } = error as { code?: string };
      if (code === TOO_LARGE || code.startsWith('Z_')) return undefined;
      throw error;
    }
  },
};
