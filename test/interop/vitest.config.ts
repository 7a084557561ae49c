/** The interop suite: one file at a time, one test at a time, against real peers. Needs root; each file says what it misses otherwise. */
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/interop/**/*.test.ts'],
    fileParallelism: false,
    sequence: { concurrent: false },
    maxWorkers: 1,
    // Real daemons on a machine that others may use too: what fails twice, fails.
    retry: 1,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    teardownTimeout: 30_000,
    reporters: ['verbose'],
  },
});
