import { defineConfig } from 'vitest/config';

/** Whole hosts, processes and sockets: a worker of its own for each file. */
const WHOLE = ['test/suite/**/*.test.ts', 'test/sim/*.test.ts'];
const OWN_COMMANDS = ['test/interop/**', 'test/long/**', 'test/sim/full/**', 'node_modules/**'];
const SETUP = ['test/support/octets.ts'];

export default defineConfig({
  test: {
    // Many tests wait for processes and sockets: three at a time even where there are two cores only.
    maxWorkers: 3,
    projects: [
      {
        test: {
          name: 'pure',
          include: ['test/**/*.test.ts'],
          exclude: [...WHOLE, ...OWN_COMMANDS],
          setupFiles: SETUP,
          testTimeout: 20_000,
          // What is pure leaves nothing behind: loading the same modules for each of some 150 files took as long as a third of the tests.
          isolate: false,
        },
      },
      { test: { name: 'whole', include: WHOLE, exclude: OWN_COMMANDS, setupFiles: SETUP, testTimeout: 20_000 } },
    ],
  },
});
