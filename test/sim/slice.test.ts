/** A slice of the runs, small enough for `npm test`: the rest is in `full/`. */

import { expect, test } from 'vitest';
import { every, failuresOf } from './seeds.ts';
import { simulate } from './simulate.ts';

test('20 seeds of 10 simulated minutes with the platform’s crypto', () => {
  const failures = failuresOf(every(900_001, 1, 20), { minutes: 10 });
  expect(failures, failures.join('\n\n')).toEqual([]);
});

test('two seeds with noble alone', () => {
  const failures = failuresOf(every(910_001, 1, 2), { minutes: 6, realCrypto: true });
  expect(failures, failures.join('\n\n')).toEqual([]);
});

test('a seed gives the same run every time', () => {
  const [one, two] = [simulate(4, { minutes: 5, trace: true }), simulate(4, { minutes: 5, trace: true })];
  expect(one).toEqual(two);
  expect(one.delivered).toBeGreaterThan(20);
});
