/** A slice of the runs, small enough for `npm test`: the rest is in `full/`. */

import { expect, test } from 'vitest';
import { every, failuresOf } from './seeds.ts';
import { simulate } from './simulate.ts';

/** Milliseconds, for a machine with much else to do. */
const LIMIT = 180_000;

test('14 seeds of 6 simulated minutes with the crypto of the platform', { timeout: LIMIT }, () => {
  const failures = failuresOf(every(900_001, 1, 14), { minutes: 6 });
  expect(failures, failures.join('\n\n')).toEqual([]);
});

test('two seeds with noble alone', { timeout: LIMIT }, () => {
  const failures = failuresOf(every(910_001, 1, 2), { minutes: 5, realCrypto: true });
  expect(failures, failures.join('\n\n')).toEqual([]);
});

test('a seed gives the same run every time', { timeout: LIMIT }, () => {
  const [one, two] = [simulate(4, { minutes: 4, trace: true }), simulate(4, { minutes: 4, trace: true })];
  expect(one).toEqual(two);
  expect(one.delivered).toBeGreaterThan(20);
});
