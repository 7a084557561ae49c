/** Who may connect: checked by the kernel's word, even where the modes would let others in. */
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Event } from '../../../src/event.ts';
import { serveControl } from '../../../src/runtime/control.ts';
import { socketDoor } from '../../../src/runtime/door.ts';
import { libcDoor } from '../../../src/runtime/native/index.ts';
import { peerCheck } from '../../../src/runtime/peer-check.ts';
import { connect } from '../../../src/runtime/unix-socket.ts';

const NOBODY = 65_534;
const ASK = '{"id":1,"verb":"status"}\n';
const isRoot = process.getuid?.() === 0;
const hasLibc = libcDoor().open !== undefined;

let directory = '';
let events: Event[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tanuki-test-'));
  events = [];
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** What a process of `uid` hears from the socket after it has asked; empty where the connection ends without a word. */
function heardBy(uid: number, path: string): Promise<string> {
  const program = `const s = require('node:net').connect(${JSON.stringify(path)}, () => s.write(${JSON.stringify(ASK)}));
    s.on('data', (d) => { process.stdout.write(d); s.end(); }); s.on('error', (e) => process.stderr.write(e.message));`;
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['-e', program], { uid, cwd: '/', stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    let trouble = '';
    child.stdout.on('data', (chunk) => {
      text += chunk;
    });
    child.stderr.on('data', (chunk) => {
      trouble += chunk;
    });
    child.once('error', reject);
    child.once('close', () => (/EACCES|ENOENT/.test(trouble) ? reject(new Error(trouble)) : resolve(text)));
  });
}

describe.skipIf(!isRoot || !hasLibc)('another user (needs root, to be another user, and koffi)', () => {
  test('is turned away from a socket that is open to him by its modes, and the log says who', async () => {
    const path = join(directory, 'control.sock');
    const server = await serveControl(
      path,
      async () => 'welcome',
      peerCheck((event) => events.push(event)),
    );
    expect(await heardBy(0, path)).toContain('welcome');
    await expect(heardBy(NOBODY, path)).rejects.toThrow('EACCES');
    expect(events).toEqual([]);
    chmodSync(directory, 0o755);
    chmodSync(path, 0o666);
    expect(await heardBy(NOBODY, path)).toBe('');
    expect(events).toEqual([expect.objectContaining({ name: 'peer-refused', severity: 'warning', uid: NOBODY })]);
    expect(events[0]?.message).toMatch(/control\.sock: a process of user 65534 .* only user 0 and root may connect/);
    await server.close();
  });

  test('is turned away from the daemons’ doors, too', async () => {
    const path = join(directory, 'pfkey.sock');
    let accepted = 0;
    const listening = await socketDoor(path).listen((channel) => {
      accepted++;
      return { onData: () => channel.send(new Uint8Array(1)), onClose: () => {} };
    });
    chmodSync(directory, 0o755);
    chmodSync(path, 0o666);
    expect(await heardBy(NOBODY, path)).toBe('');
    expect(accepted).toBe(0);
    await listening.close();
  });
});

test('the same user is let in', async () => {
  const path = join(directory, 'a.sock');
  const listening = await socketDoor(
    path,
    peerCheck((event) => events.push(event)),
  ).listen((channel) => {
    channel.send(Uint8Array.of(1));
    return { onData: () => {}, onClose: () => {} };
  });
  const heard = new Promise<number>((resolve) => {
    void connect(path, () => ({ onData: (bytes) => resolve(bytes[0]!), onClose: () => resolve(-1) })).then();
  });
  expect(await heard).toBe(1);
  expect(events.filter(({ severity }) => severity !== 'debug')).toEqual([]);
  await listening.close();
});

test.skipIf(!hasLibc)('a connection that has ended already is not let in (needs koffi)', () => {
  expect(peerCheck((event) => events.push(event))(new Socket(), '/x')).toBe(false);
  expect(events).toEqual([]);
});

test('where the kernel cannot be asked the modes protect, which is said once', () => {
  const admits = peerCheck(
    (event) => events.push(event),
    () => ({ open: undefined, why: 'koffi is not installed' }),
  );
  expect([admits(new Socket(), '/x'), admits(new Socket(), '/y')]).toEqual([true, true]);
  expect(events).toMatchObject([{ severity: 'debug', message: expect.stringContaining('koffi is not installed') }]);
});
