/** The operating system's randomness. */

import { randomFillSync } from 'node:crypto';
import type { RandomBytes } from '../machine.ts';

/** Asking costs ten microseconds, whatever the length: small numbers come out of a pool, and are wiped there. */
const POOL_BYTES = 4096;
const SMALL = 64;

const pool = new Uint8Array(POOL_BYTES);
let used = POOL_BYTES;

export const systemRandom: RandomBytes = (length) => {
  if (length > SMALL) return randomFillSync(new Uint8Array(length));
  if (used + length > POOL_BYTES) {
    randomFillSync(pool);
    used = 0;
  }
  const octets = pool.slice(used, used + length);
  pool.fill(0, used, used + length);
  used += length;
  return octets;
};
