import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ControlServer, controlClient, serveControl } from '../../../src/runtime/control.ts';
import { connect, listen } from '../../../src/runtime/unix-socket.ts';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tanuki-test-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Sends raw bytes and resolves with everything that came back once `lines` lines did, or the connection ended. */
function raw(path: string, bytes: Uint8Array, lines: number): Promise<string[]> {
  return new Promise((resolve, reject) => {
    let text = '';
    const done = () => resolve(text.split('\n').slice(0, -1));
    connect(path, (channel) => {
      setImmediate(() => channel.send(bytes));
      return {
        onData(chunk) {
          text += new TextDecoder().decode(chunk);
          if (text.split('\n').length > lines) {
            done();
            channel.close();
          }
        },
        onClose: done,
      };
    }).catch(reject);
  });
}

describe('control.sock', () => {
  let server: ControlServer;
  let path = '';
  beforeEach(async () => {
    path = join(directory, 'run', 'control.sock');
    server = await serveControl(path, async ({ verb, ...args }) => {
      if (verb === 'fail') throw new Error('no such name; expected one of the policy file');
      if (verb === 'never') return new Promise(() => {});
      return { verb, args };
    });
  });
  afterEach(() => server.close());

  test('the socket and its directory are closed to others', () => {
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(directory, 'run')).mode & 0o777).toBe(0o700);
  });

  test('questions are answered, refusals carry the sentence, silence is told', async () => {
    const client = await controlClient(path);
    expect(await client.ask('status', { deep: true })).toEqual({ verb: 'status', args: { id: 1, deep: true } });
    await expect(client.ask('fail')).rejects.toThrow('no such name; expected one of the policy file');
    await expect(client.ask('never', {}, 20)).rejects.toThrow(/did not answer "never" within 0.02 s/);
    client.close();
  });

  test('events go to those who asked for them', async () => {
    const seen: string[] = [];
    const listener = await controlClient(path, (event) => seen.push(event.name));
    const other = await controlClient(path, () => seen.push('wrong'));
    await listener.ask('events');
    await other.ask('status');
    server.publish({ name: 'child-sa-up', severity: 'info', message: 'up' });
    await listener.ask('status');
    await other.ask('status');
    expect(seen).toEqual(['child-sa-up']);
    listener.close();
    other.close();
  });

  test.each([
    ['not JSON', 'hello\n', 'expected one JSON object'],
    ['an array', '[1]\n', 'expected one JSON object'],
    ['no id', '{"verb":"status"}\n', 'expected "id"'],
    ['an id that is no whole number', '{"id":1.5,"verb":"status"}\n', 'expected "id"'],
    ['no verb', '{"id":1}\n', 'expected "verb"'],
    ['octets that are no UTF-8', '\xff\xfe\n', 'expected one JSON object'],
  ])('%s is refused in words', async (_, line, answer) => {
    const [reply] = await raw(path, Buffer.from(line, 'latin1'), 1);
    expect(JSON.parse(reply!)).toMatchObject({ ok: false, error: expect.stringContaining(answer) });
  });

  test('a line without an end closes the connection and nothing else', async () => {
    const replies = await raw(path, new Uint8Array(100_000).fill(0x20), 5);
    expect(replies).toHaveLength(1);
    expect(JSON.parse(replies[0]!)).toMatchObject({ ok: false, error: expect.stringContaining('longer than') });
    const client = await controlClient(path);
    await client.ask('status');
    client.close();
  });

  test('a client with too many open questions is told so', async () => {
    const flood = Buffer.from(Array.from({ length: 70 }, (_, id) => `{"id":${id},"verb":"never"}\n`).join(''));
    const replies = await raw(path, flood, 6);
    expect(replies.map((line) => JSON.parse(line) as { id: number; ok: boolean })).toEqual(
      [64, 65, 66, 67, 68, 69].map((id) => expect.objectContaining({ id, ok: false })),
    );
  });
});

describe('listening', () => {
  const quiet = () => ({ onData: () => {}, onClose: () => {} });

  test('a socket that nobody serves any more is replaced; one that is served is not', async () => {
    const path = join(directory, 'a.sock');
    const first = await listen(path, quiet);
    await expect(listen(path, quiet)).rejects.toThrow(/another daemon listens/);
    await first.close();
    const second = await listen(path, quiet);
    await second.close();
  });

  test('a file in the way stays, and is named', async () => {
    const path = join(directory, 'b.sock');
    writeFileSync(path, 'precious');
    await expect(listen(path, quiet)).rejects.toThrow(/is in the way/);
    expect(existsSync(path)).toBe(true);
  });

  test('nobody there: the error names the path', async () => {
    await expect(connect(join(directory, 'none.sock'), quiet)).rejects.toThrow(/cannot connect to .*none\.sock/);
  });
});
