/** The operating system's randomness. */

import { randomFillSync } from 'node:crypto';
import type { RandomBytes } from '../machine.ts';

export const systemRandom: RandomBytes = (length) => randomFillSync(new Uint8Array(length));
