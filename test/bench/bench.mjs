/**
 * `npm run bench -- [WHICH ...] [--rounds N] [--peers charon,wireguard-go,tanuki,tanuki-raw] [--loads tcp] [--patience SECONDS] [--json FILE]`: `throughput` needs two namespaces and is
 * what runs without a name; `evp`, `engine` and `scale` (`--free`: without a real cipher)
 * are micro-benchmarks without I/O. Nothing here passes or fails by a
 * time. See docs/performance.md.
 */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

const LAB = ['throughput'];
const ALONE = ['evp', 'engine', 'scale'];

/** Each option is an environment variable of the benchmarks. */
const OPTIONS = {
  json: 'BENCH_JSON',
  rounds: 'BENCH_ROUNDS',
  peers: 'BENCH_PEERS',
  loads: 'BENCH_LOADS',
  patience: 'BENCH_IDLE_SECONDS',
};

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { free: { type: 'boolean' }, ...Object.fromEntries(Object.keys(OPTIONS).map((name) => [name, { type: 'string' }])) },
});
const which = positionals.length === 0 ? LAB : positionals;
const unknown = which.filter((name) => ![...LAB, ...ALONE].includes(name));
if (unknown.length > 0) {
  console.error(`no benchmark ${unknown.join(', ')}; there are ${[...LAB, ...ALONE].join(', ')}`);
  process.exit(64);
}
const env = { ...process.env };
for (const [name, variable] of Object.entries(OPTIONS)) if (values[name] !== undefined) env[variable] = values[name];
const run = (argv) => spawnSync(process.execPath, argv, { stdio: 'inherit', env }).status ?? 1;
const failed = which.filter((name) =>
  ALONE.includes(name)
    ? run(['--expose-gc', `test/bench/${name}.mjs`, ...(values.free ? ['--free'] : [])]) !== 0
    : run(['node_modules/vitest/vitest.mjs', 'run', '--config', 'test/bench/vitest.config.ts', `${name}.bench`]) !== 0,
);
process.exitCode = failed.length === 0 ? 0 : 1;
