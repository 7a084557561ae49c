/** How the daemons' processes end, and what the supervisor makes of it: 2 is not tried again, 1 is. */

import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Event } from '../../src/event.ts';
import { runDir } from '../../src/runtime/run-dir.ts';
import { supervise } from '../../src/runtime/supervisor.ts';
import { listen } from '../../src/runtime/unix-socket.ts';

const DAEMONS = {
  datapath: 'src/datapath-process/cli.js',
  spmd: 'spmd/cli.js',
  iked: 'iked/cli.js',
  kinkd: 'kinkd/cli.js',
} as const;
const script = (daemon: keyof typeof DAEMONS) => fileURLToPath(new URL(`../../dist/${DAEMONS[daemon]}`, import.meta.url));

let directory = '';
let good = '';
let bad = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tanuki-test-'));
  good = join(directory, 'good.conf');
  bad = join(directory, 'bad.conf');
  writeFileSync(good, 'interface { ike { 127.0.0.1 port 10500; }; datapath { device memory; encap_port 14500; }; };\n');
  writeFileSync(bad, 'remote r { ikev2 { nonsense; }; };\nselector { };\n');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Runs a daemon that is expected to end by itself. */
function run(daemon: keyof typeof DAEMONS, ...args: readonly string[]): Promise<{ code: number | null; stderr: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [script(daemon), ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.once('close', (code) => resolve({ code, stderr }));
  });
}

describe('a daemon that cannot run as it was told ends with 2', () => {
  test('spmd with a policy file that has mistakes', async () => {
    const { code, stderr } = await run('spmd', '-f', bad, '--no-datapath', '--run-dir', join(directory, 'run'));
    expect(code).toBe(2);
    expect(stderr).toMatch(/^spmd: cannot run: \S+bad\.conf has \d mistakes:\n/);
    expect(stderr).toMatch(/bad\.conf:1:20: .*nonsense/);
  });

  test('spmd with a password that is not there', async () => {
    writeFileSync(good, `interface { spmd unix "/x"; spmd_password "${join(directory, 'none')}"; };\n`);
    const { code, stderr } = await run('spmd', '-f', good, '--no-datapath', '--run-dir', join(directory, 'run'));
    expect([code, stderr]).toEqual([
      2,
      expect.stringMatching(/^spmd: cannot run: interface \{ spmd_password … \}: cannot read /),
    ]);
  });

  test.each(['datapath', 'spmd', 'iked', 'kinkd'] as const)('%s in a run directory that cannot be', async (daemon) => {
    writeFileSync(join(directory, 'file'), '');
    const file = daemon === 'spmd' ? ['-f', good, '--no-datapath'] : [];
    const { code, stderr } = await run(daemon, ...file, '--run-dir', join(directory, 'file', 'run'));
    expect(code).toBe(2);
    expect(stderr).toMatch(new RegExp(`^${daemon}: cannot run: cannot use run directory .*choose another with --run-dir\n$`));
  });
});

describe('the supervisor', () => {
  const argv = (file: string) => [script('spmd'), '-f', file, '--no-datapath', '--run-dir', join(directory, 'run')];

  test('takes 2 for hopeless: the daemon is not started again', async () => {
    const events: Event[] = [];
    let supervisor: ReturnType<typeof supervise> | undefined;
    const hopeless = await new Promise<readonly [string, number]>((resolve) => {
      supervisor = supervise({
        children: [{ name: 'spmd', argv: argv(bad) }],
        onEvent: (event) => events.push(event),
        onHopeless: (name, code) => resolve([name, code]),
      });
    });
    expect(hopeless).toEqual(['spmd', 2]);
    expect(events).toEqual([]);
    expect(supervisor!.status()).toMatchObject([{ running: false, restarts: 0, lastExit: 'exit code 2' }]);
    await supervisor!.stop();
  });

  test('takes 1 for passing: a daemon whose socket is taken is started again until it is free', async () => {
    const run = join(directory, 'run');
    mkdirSync(run, { mode: 0o700 });
    const other = await listen(runDir(run).spmif, () => ({ onData: () => {}, onClose: () => {} }));
    let died: (how: unknown) => void = () => {};
    const ended = new Promise<unknown>((resolve) => {
      died = resolve;
    });
    const supervisor = supervise({
      children: [{ name: 'spmd', argv: argv(good) }],
      onEvent: ({ how }) => died(how),
      onHopeless: () => died('hopeless'),
    });
    expect(await ended).toBe('exit code 1');
    await other.close();
    await expect.poll(() => supervisor.status()[0], { timeout: 15_000 }).toMatchObject({ running: true, restarts: 1 });
    await supervisor.stop();
  });
});
