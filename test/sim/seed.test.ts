import { expect, test } from 'vitest';
import { every, FROM_TO, failuresOf, ONLY, report } from './seeds.ts';
import { simulate } from './simulate.ts';

test.skipIf(ONLY === undefined)(`the run of the seed in the environment (SEED=N; skipped without it)`, () => {
  const verdict = simulate(ONLY!, {
    trace: true,
    minutes: Number(process.env.MINUTES ?? 30),
    realCrypto: process.env.REAL_CRYPTO === '1',
  });
  const { steps, packets, delivered, datagrams, events } = verdict;
  process.stdout.write(`${JSON.stringify({ steps, packets, delivered, datagrams, events })}\n`);
  expect(verdict.breaches, report(verdict)).toEqual([]);
});

test.skipIf(FROM_TO === undefined)(`the runs of the seeds in the environment (SEEDS=FROM-TO; skipped without it)`, () => {
  const [from, to] = FROM_TO!;
  const failures = failuresOf(every(from, 1, to - from + 1), {}, 100);
  expect(failures, failures.join('\n\n')).toEqual([]);
});
