/** The seeds in four parts, so that as many workers as there are cores can run them. */

import { expect } from 'vitest';
import { every, failuresOf } from '../seeds.ts';

const PARTS = 4;
const SEEDS = Number(process.env.SIM_SEEDS ?? 2000);
/** Noble takes some ten times longer. */
const REAL_EVERY = 50;

/** Part 1 to 4. */
export function quarter(part: number): void {
  const count = Math.ceil(SEEDS / PARTS);
  const real = Math.floor(count / REAL_EVERY);
  const failures = [
    ...failuresOf(every(part, PARTS, count - real)),
    ...failuresOf(every(1_000_000 + part, PARTS, real), { realCrypto: true }),
  ];
  expect(failures, failures.join('\n\n')).toEqual([]);
}
