import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/interop/**', 'test/sim/full/**', 'node_modules/**'],
    testTimeout: 20_000,
    // Many tests wait for processes and sockets: two at a time even where there are two cores only.
    maxWorkers: 2,
  },
});
