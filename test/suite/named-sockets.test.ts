/** `interface { spmd …; spmd_password …; pfkey …; }`: further sockets beside those of the run directory, which the daemons go on using. */

import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startIked } from '../../iked/daemon.ts';
import { type SpmdHandle, startSpmd } from '../../spmd/daemon.ts';
import type { SpmdStatus } from '../../spmd/ports.ts';
import { utf8 } from '../../src/bytes/bytes.ts';
import { startDatapath } from '../../src/datapath-process/daemon.ts';
import type { DatapathStatus } from '../../src/datapath-process/ports.ts';
import type { Event } from '../../src/event.ts';
import { readSadb, sadb, writeSadb } from '../../src/pfkey/message.ts';
import { SADB_SATYPE } from '../../src/pfkey/registry.ts';
import { controlClient } from '../../src/runtime/control.ts';
import { runDir } from '../../src/runtime/run-dir.ts';
import type { Daemon } from '../../src/runtime/shell.ts';
import { plain } from '../../src/runtime/unix-socket.ts';
import { loginDigest } from '../../src/spmif/protocol.ts';
import { loopbackNet, until } from './nodes.ts';

const net = loopbackNet();
let directory = '';
let file = '';
let events: Event[] = [];
let running: Daemon[] = [];
let spmd: SpmdHandle;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tanuki-test-'));
  file = join(directory, 'tanuki.conf');
  writeFileSync(join(directory, 'password'), 'a password\n', { mode: 0o600 });
  events = [];
  running = [];
});
afterEach(async () => {
  for (const daemon of running.reverse()) await daemon.stop();
  rmSync(directory, { recursive: true, force: true });
});

function write(words: string): void {
  writeFileSync(
    file,
    `interface { ike { ${net}.1 port 10500; }; datapath { device memory; encap_port 14500; addresses 10.1.0.1; }; ${words} };\n`,
  );
}

const options = () => ({ runDir: join(directory, 'run'), quiet: true, onEvent: (event: Event) => events.push(event) });

/** The three daemons, met through the sockets of the run directory. */
async function start(words: string): Promise<void> {
  write(words);
  running.push(await startDatapath(options()));
  spmd = await startSpmd({ ...options(), file });
  running.push(spmd, await startIked(options()));
  await until('a configuration in force everywhere', 10_000, isInForce);
}

async function statusOf<T>(daemon: 'spmd' | 'datapath'): Promise<T> {
  const client = await controlClient(runDir(options().runDir).control(daemon));
  const status = (await client.ask('status')) as T;
  client.close();
  return status;
}

async function isInForce(): Promise<boolean> {
  const { generation, daemons } = await statusOf<SpmdStatus>('spmd');
  return generation !== undefined && daemons.length === 1 && daemons[0]?.generation === generation;
}

/** Says `first`, and `next` once a line came back; resolves with what came within two answers, or with the error's code. */
function converse(path: string, next: (banner: string) => string): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(path);
    socket.once('error', ({ code }: NodeJS.ErrnoException) => resolve(String(code)));
    socket.once('data', (banner) => socket.write(next(banner.toString())));
    socket.on('data', (chunk) => {
      text += chunk;
      if (text.split('\r\n').length > 2) socket.end(() => resolve(text.split('\r\n').slice(1).join('\n').trim()));
    });
  });
}

test('spmd: LOGIN is asked for at the named socket, the daemons need none, and a restarted iked is served', async () => {
  const path = join(directory, 'racoon2', 'spmif');
  await start(`spmd { unix "${path}"; }; spmd_password "${join(directory, 'password')}";`);
  await until('the named socket', 5_000, async () => existsSync(path));
  expect([statSync(path).mode & 0o777, statSync(join(directory, 'racoon2')).mode & 0o777]).toEqual([0o600, 0o700]);
  expect(await converse(path, () => 'STAT\r\n')).toBe('550 need login');
  const login = (banner: string) => `LOGIN ${loginDigest(banner.slice(4).trim(), utf8('a password\n'))}\r\n`;
  expect(await converse(path, login)).toBe('250 OK');
  await running.pop()!.stop();
  running.push(await startIked(options()));
  await until('the new iked to be served', 10_000, isInForce);
});

test('pfkey: the named socket speaks PF_KEY; a reload moves it, and taking the word out closes it', async () => {
  const [first, second] = [join(directory, 'first.sock'), join(directory, 'second.sock')];
  const register = (path: string): Promise<string> =>
    new Promise((resolve) => {
      const socket = connect(path, () => socket.write(writeSadb(sadb('REGISTER', { satype: SADB_SATYPE.ESP, pid: 5 }))));
      socket.once('error', ({ code }: NodeJS.ErrnoException) => resolve(String(code)));
      socket.once('data', (chunk) => socket.end(() => resolve(readSadb(plain(chunk)).type)));
    });
  await start(`pfkey "${first}";`);
  expect(await register(first)).toBe('REGISTER');
  expect(await register(runDir(options().runDir).pfkey)).toBe('REGISTER');
  const ups = () => events.filter(({ name }) => name === 'datapath-up').length;
  const before = ups();
  write(`pfkey "${second}";`);
  await spmd.reload();
  await until('the other socket', 5_000, async () => existsSync(second));
  expect([await register(second), await register(first)]).toEqual(['REGISTER', 'ENOENT']);
  write('');
  await spmd.reload();
  await until('no named socket', 5_000, async () => !existsSync(second));
  expect(await register(runDir(options().runDir).pfkey)).toBe('REGISTER');
  expect(ups()).toBe(before);
});

test('a socket that cannot be is an event and a line of status, and goes away with a reload; the daemons work', async () => {
  writeFileSync(join(directory, 'file'), '');
  mkdirSync(join(directory, 'directory.sock'));
  await start(`spmd unix "${join(directory, 'file', 'spmif')}"; pfkey "${join(directory, 'directory.sock')}";`);
  const problems = async () => [
    ...(await statusOf<SpmdStatus>('spmd')).problems,
    ...(await statusOf<DatapathStatus>('datapath')).problems,
  ];
  await until('both problems', 5_000, async () => (await problems()).length === 2);
  expect(await problems()).toEqual([
    expect.stringMatching(/^interface \{ spmd … \}: cannot make the directory of \S+\/file\/spmif: /),
    expect.stringMatching(/^interface \{ pfkey … \}: \S+\/directory\.sock is in the way: it exists and is no socket/),
  ]);
  expect(events.filter(({ name }) => name === 'socket-failed').map(({ severity }) => severity)).toEqual(['error', 'error']);
  write('');
  await spmd.reload();
  await until('no problems', 5_000, async () => (await problems()).length === 0);
});
