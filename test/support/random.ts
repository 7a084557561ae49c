/** Reproducible randomness for tests: the same seed gives the same octets, in the same order. */

import type { RandomBytes } from '../../src/machine.ts';

/** mulberry32: good enough to be unpredictable to a test, and nothing more. Never for keys that matter. */
export function seededRandom(seed: number): RandomBytes {
  const next = seededNumber(seed);
  return (length) => {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = Math.floor(next() * 256);
    return bytes;
  };
}

/** Numbers from 0 inclusive to 1 exclusive. */
export function seededNumber(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
