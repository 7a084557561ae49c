/** `tanuki keygen`: a strong pre-shared key in a file that is closed to others. */

import { randomBytes } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { EXIT, Exit } from './exit-codes.ts';

/** RFC 7296 §2.15 asks for as much unpredictability as the strongest key negotiated: 256 bits by default. */
export const KEY_BITS = 256;

/** Writes `bits` of randomness as one line of base64 to a new file, mode 0600. Throws Exit where the file exists or cannot be made. */
export function keygen(file: string, bits: number): void {
  if (!Number.isInteger(bits) || bits < 128 || bits > 4096 || bits % 8 !== 0) {
    throw new Exit(EXIT.usage, `expected a key of 128 to 4096 bits, a multiple of 8; found ${bits}`);
  }
  let descriptor: number;
  try {
    descriptor = openSync(file, 'wx', 0o600);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST')
      throw new Exit(EXIT.failed, `${file} exists and is left as it is; remove it first or choose another name`);
    throw new Exit(EXIT.failed, `cannot make ${file}: ${message}`);
  }
  try {
    writeSync(descriptor, `${randomBytes(bits / 8).toString('base64')}\n`);
  } finally {
    closeSync(descriptor);
  }
}
