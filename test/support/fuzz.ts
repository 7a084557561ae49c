/** What all tests with hostile input share: how many, how long, and how much memory may stay behind. */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'vitest';

/** Mutants of each test: 1,000 in `npm test`, 10,000 in CI, 100,000 in `npm run test:long`. */
export const COUNT = Number(process.env.FUZZ_COUNT ?? 1000);

/** Options of a test that takes `COUNT` mutants of at most 20 ms each. */
export const LIMIT = { timeout: 60_000 + 20 * COUNT } as const;

/** What may stay behind however many mutants there are, in octets: one state kept for each of 100,000 would be far more, a collector that waits is less. */
const GROWTH = 64 * 1024 * 1024;
/** Mutants after which every table and cache that has a bound is at it. */
const WARM = 1000;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function octets(): number {
  collect();
  const { heapUsed, external, arrayBuffers } = process.memoryUsage();
  return heapUsed + external + arrayBuffers;
}

/** Watches what is in use: told of each mutant, and of the end. */
export class MemoryBound {
  readonly #enough: number;
  #seen = 0;
  #warm: number | undefined;

  /** `count`: of the mutants that there will be. */
  constructor(count = COUNT) {
    this.#enough = Math.min(WARM, count / 4);
  }

  mutant(more = 1): void {
    this.#seen += more;
    if (this.#seen >= this.#enough) this.#warm ??= octets();
  }

  end(): void {
    const growth = octets() - this.#warm!;
    if (COUNT >= 100_000)
      process.stdout.write(`${expect.getState().currentTestName}: ${(growth / 2 ** 20).toFixed(1)} MiB more\n`);
    expect(growth).toBeLessThan(GROWTH);
  }
}
