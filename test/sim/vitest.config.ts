import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

const chosen = process.env.SEED !== undefined || process.env.SEEDS !== undefined;

/** `npm run test:sim`: every seed that the acceptance lines name, on as many workers as there are cores; and whatever SEED or SEEDS says. */
export default defineConfig({
  test: {
    root: new URL('../..', import.meta.url).pathname,
    include: [chosen ? 'test/sim/seed.test.ts' : 'test/sim/**/*.test.ts'],
    testTimeout: 3_600_000,
    pool: 'forks',
    maxWorkers: availableParallelism(),
    disableConsoleIntercept: true,
  },
});
