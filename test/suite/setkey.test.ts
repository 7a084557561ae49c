/** `tanuki setkey` as a command against a running datapath: what it prints, what it changes, and how it ends. */

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startSpmd } from '../../spmd/daemon.ts';
import { startDatapath } from '../../src/datapath-process/daemon.ts';
import { connectPfkey } from '../../src/pfkey.ts';
import { runDir } from '../../src/runtime/run-dir.ts';
import type { Daemon } from '../../src/runtime/shell.ts';
import { CLI, outcomeOf, tanuki } from './nodes.ts';

const directory = mkdtempSync(join(tmpdir(), 'tanuki-setkey-'));
const run = join(directory, 'run');
let running: Daemon[] = [];

beforeAll(async () => {
  const file = join(directory, 'tanuki.conf');
  writeFileSync(
    file,
    'interface { ike { 127.0.0.1 port 10500; }; application_bypass off; datapath { device memory; encap_port 14500; }; };\n',
  );
  running = [await startDatapath({ runDir: run, quiet: true }), await startSpmd({ runDir: run, quiet: true, file })];
  (await connectPfkey(runDir(run).pfkey)).close();
});
afterAll(async () => {
  for (const daemon of running.reverse()) await daemon.stop();
  rmSync(directory, { recursive: true, force: true });
});

const setkey = (...args: string[]) => tanuki('setkey', '--run-dir', run, ...args);

function withInput(text: string) {
  const child = spawn(process.execPath, [CLI, 'setkey', '--run-dir', run], { stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.end(text);
  return outcomeOf(child, 20_000);
}

const SETUP = `
  add 192.0.2.1 192.0.2.2 esp 0x1000 -m tunnel -u 1 -E aes-gcm-16 0x000102030405060708090a0b0c0d0e0f10111213;
  spdadd 10.1.0.0/16 10.2.0.0/16 any -P out ipsec esp/tunnel/192.0.2.1-192.0.2.2/unique:1;
`;
const MIGRATE = `migrate 10.1.0.0/16 10.2.0.0/16 any -P out ipsec
  esp/tunnel/192.0.2.1-192.0.2.2/unique:1 esp/tunnel/198.51.100.7-192.0.2.2/unique:1 -k 198.51.100.7 192.0.2.2;`;

test('from a file, from standard input and from the command line: add, migrate, dump, flush', async () => {
  const file = join(directory, 'setup');
  writeFileSync(file, SETUP);
  expect(await setkey('-f', file)).toEqual({ code: 0, stdout: '', stderr: '' });
  expect(await withInput(MIGRATE)).toEqual({ code: 0, stdout: '', stderr: '' });
  const sas = await setkey('-D');
  expect(sas.stdout).toMatch(/^198\.51\.100\.7 192\.0\.2\.2\n\tesp mode=tunnel spi=4096\(0x00001000\) reqid=1/);
  expect(sas.stdout).not.toContain('0001020304');
  const { stdout } = await setkey('-DP');
  expect(stdout).toContain('\tesp/tunnel/198.51.100.7-192.0.2.2/unique:1\n\tkeys between 198.51.100.7 and 192.0.2.2\n');
  const json = await setkey('--json', '-c', 'get 192.0.2.1 192.0.2.2 esp 0x1000;');
  expect(JSON.parse(json.stdout)).toMatchObject({ verb: 'get', line: 1, found: [expect.stringContaining('198.51.100.7')] });
  expect(await setkey('-c', 'flush; spdflush; dump; spddump;')).toEqual({
    code: 0,
    stdout: 'No SAD entries.\nNo SPD entries.\n',
    stderr: '',
  });
});

test('a mistake ends with 2 and changes nothing; a refusal with 4 and a place; nobody there with 3', async () => {
  expect(await setkey('-c', `${SETUP} spdadd 10.1.0.0/99 ::1 any;`)).toEqual({
    code: 2,
    stdout: '',
    stderr: expect.stringMatching(/^tanuki: text:4:9: expected the source with a length up to 32 .*; nothing was changed\n$/),
  });
  expect((await setkey('-D')).stdout).toBe('No SAD entries.\n');
  expect(await setkey('-c', MIGRATE)).toEqual({
    code: 4,
    stdout: '',
    stderr: expect.stringMatching(/^tanuki: text:1:1: migrate was refused with ENOENT \(there is no such policy\)/),
  });
  expect((await setkey('-f', join(directory, 'absent'))).code).toBe(2);
  expect((await setkey('-D', '-c', 'flush;')).code).toBe(2);
  const nobody = await tanuki('setkey', '--run-dir', join(directory, 'nowhere'), '-D');
  expect([nobody.code, nobody.stderr]).toEqual([3, expect.stringContaining('is it running?')]);
});
