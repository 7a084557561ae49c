/** Which seeds a test runs, and what it prints of those that fail. */

import { type RunOptions, simulate, type Verdict } from './simulate.ts';

/** The seed that the environment names, alone. */
export const ONLY = process.env.SEED === undefined ? undefined : Number(process.env.SEED);

/** The first and the last of the seeds that the environment names. */
export const FROM_TO = process.env.SEEDS?.split('-').map(Number) as [number, number] | undefined;

/** What a run showed, one line first that runs it again. */
export function report({ seed, minutes, realCrypto, scenario, breaches, trace }: Verdict): string {
  const how = `${minutes === 30 ? '' : ` MINUTES=${minutes}`}${realCrypto ? ' REAL_CRYPTO=1' : ''}`;
  return [
    `SEED=${seed}${how} npx vitest run --config test/sim/vitest.config.ts`,
    scenario,
    ...breaches.map((breach) => `  - ${breach}`),
    ...trace.slice(-400),
  ].join('\n');
}

/** Runs the seeds and returns the reports of those that broke an invariant, at most `most`; of a long run it says at once what failed and how far it is. */
export function failuresOf(seeds: Iterable<number>, options: RunOptions = {}, most = 5): string[] {
  const failures: string[] = [];
  let done = 0;
  for (const seed of seeds) {
    const verdict = simulate(seed, options);
    if (verdict.breaches.length > 0) {
      failures.push(report(verdict));
      process.stderr.write(`seed ${seed}: ${verdict.breaches[0]}\n`);
    }
    if (++done % 50 === 0) process.stderr.write(`${done} seeds run, ${failures.length} failed\n`);
    if (failures.length >= most) break;
  }
  return failures;
}

/** Every `step`th seed from `first`, `count` in all. */
export function* every(first: number, step: number, count: number): Iterable<number> {
  for (let i = 0; i < count; i++) yield first + i * step;
}
