/**
 * `npm run bench -- [WHICH ...] [--rounds N] [--peers charon,tanuki] [--patience SECONDS] [--json FILE]`: with no name, what needs two namespaces (`throughput` and `handshakes`); `evp` and `engine` are
 * micro-benchmarks without I/O. Nothing here passes or fails by a time. See docs/performance.md.
 */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

const LAB = ['throughput', 'handshakes'];
const ALONE = ['evp', 'engine'];

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'string' }, rounds: { type: 'string' }, peers: { type: 'string' }, patience: { type: 'string' } },
});
const which = positionals.length === 0 ? LAB : positionals;
const unknown = which.filter((name) => ![...LAB, ...ALONE].includes(name));
if (unknown.length > 0) {
  console.error(`no benchmark ${unknown.join(', ')}; there are ${[...LAB, ...ALONE].join(', ')}`);
  process.exit(64);
}
const env = {
  ...process.env,
  ...(values.json !== undefined && { BENCH_JSON: values.json }),
  ...(values.rounds !== undefined && { BENCH_ROUNDS: values.rounds }),
  ...(values.peers !== undefined && { BENCH_PEERS: values.peers }),
  ...(values.patience !== undefined && { BENCH_IDLE_SECONDS: values.patience }),
};
const run = (argv) => spawnSync(process.execPath, argv, { stdio: 'inherit', env }).status ?? 1;
const failed = which.filter((name) =>
  ALONE.includes(name)
    ? run([`test/bench/${name}.mjs`]) !== 0
    : run(['node_modules/vitest/vitest.mjs', 'run', '--config', 'test/bench/vitest.config.ts', `${name}.bench`]) !== 0,
);
process.exitCode = failed.length === 0 ? 0 : 1;
