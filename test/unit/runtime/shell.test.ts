import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readPsk } from '../../../iked/key-files.ts';
import { utf8 } from '../../../src/bytes/bytes.ts';
import type { Event } from '../../../src/event.ts';
import { EXIT, Exit } from '../../../src/front-door/exit-codes.ts';
import { keygen } from '../../../src/front-door/keygen.ts';
import type { Machine } from '../../../src/machine.ts';
import { linkDoor } from '../../../src/runtime/door.ts';
import { drive } from '../../../src/runtime/drive.ts';
import { LineSplitter } from '../../../src/runtime/json-lines.ts';
import { textLine } from '../../../src/runtime/log-sink.ts';
import { prepareRunDir } from '../../../src/runtime/run-dir.ts';
import { readSecretFile } from '../../../src/runtime/secret-files.ts';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tanuki-test-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('driving a machine', () => {
  const now = () => ({ mono: performance.now(), wall: Date.now() });

  test('inputs put while another is handled wait their turn', () => {
    const log: string[] = [];
    const machine: Machine<string, string> = { handle: (input) => [`${input}!`, `${input}?`], wakeAt: () => undefined };
    const driven = drive({
      machine,
      now,
      tick: 'tick',
      perform(output) {
        log.push(output);
        if (output === 'a!') driven.put('b');
      },
      report: () => {},
    });
    driven.put('a');
    expect(log).toEqual(['a!', 'a?', 'b!', 'b?']);
    driven.stop();
  });

  test('a machine that throws, or an output that fails, is reported and the rest goes on', () => {
    const events: Event[] = [];
    const log: string[] = [];
    const machine: Machine<string, string> = {
      handle(input) {
        if (input === 'bad') throw new Error('broken');
        return ['first', 'second'];
      },
      wakeAt: () => undefined,
    };
    const driven = drive({
      machine,
      now,
      tick: 'tick',
      perform(output) {
        if (output === 'first') throw new Error('no socket');
        log.push(output);
      },
      report: (event) => events.push(event),
    });
    driven.put('bad');
    driven.put('good');
    expect(events.map(({ name, message }) => `${name} ${message}`)).toEqual([
      'machine-fault Error: broken',
      'output-failed Error: no socket',
    ]);
    expect(log).toEqual(['second']);
    driven.stop();
  });

  test('the machine is ticked when it asked to be', async () => {
    let due: number | undefined = now().mono + 5;
    const ticked = new Promise<string>((resolve) => {
      const machine: Machine<string, string> = {
        handle(input) {
          due = undefined;
          return [input];
        },
        wakeAt: () => due,
      };
      drive({ machine, now, tick: 'tick', perform: resolve, report: () => {} });
    });
    expect(await ticked).toBe('tick');
  });
});

describe('lines', () => {
  test('are cut from any pieces, within their bound', () => {
    const splitter = new LineSplitter(10);
    expect([...utf8('one\ntwo\r\nthree')].flatMap((octet) => splitter.put(Uint8Array.of(octet)))).toEqual(['one', 'two']);
    expect(() => splitter.put(utf8('0123456789'))).toThrow(/longer than 10/);
  });

  test('a log line holds no line end or escape of a peer', () => {
    const line = textLine(
      'iked',
      { name: 'x', severity: 'info', message: 'id "\u001b[31m\nroot"', peer: 'a b', port: 500 },
      new Date(0),
    );
    expect(line).toBe('1970-01-01T00:00:00.000Z iked info x: id "\\u001b[31m\\u000aroot" peer="a b" port=500');
  });
});

describe('a door within one process', () => {
  test('carries bytes both ways, and is dialled again when it closes', async () => {
    const door = linkDoor();
    const heard: string[] = [];
    let ups = 0;
    const twice = new Promise<void>((resolve) => {
      const dialled = door.dial((channel) => {
        ups++;
        if (ups === 2) {
          dialled.close();
          resolve();
        } else channel.send(utf8('hello'));
        return { onData: (bytes) => heard.push(new TextDecoder().decode(bytes)), onClose: () => {} };
      });
    });
    await door.listen((channel) => ({
      onData(bytes) {
        heard.push(new TextDecoder().decode(bytes));
        channel.send(utf8('welcome'));
        setTimeout(() => channel.close(), 5);
      },
      onClose: () => {},
    }));
    await twice;
    expect(heard).toEqual(['hello', 'welcome']);
  });
});

describe('files', () => {
  test('a key file that others may read is refused with the command that mends it', () => {
    const path = join(directory, 'psk');
    writeFileSync(path, 'secret\n', { mode: 0o600 });
    expect(readSecretFile(path)).toEqual(utf8('secret\n'));
    chmodSync(path, 0o640);
    expect(() => readSecretFile(path)).toThrow(`${path} is open to others (mode 640): chmod 600 ${path}`);
    expect(() => readSecretFile(join(directory, 'none'))).toThrow(/cannot read .*none: no such file/);
    expect(() => readSecretFile(directory)).toThrow(/no regular file/);
  });

  test.each([
    ['text with a newline', utf8('secret\n'), 'auto', 'text', utf8('secret')],
    ['text without one', utf8('secret'), 'auto', 'text', utf8('secret')],
    ['only the last newline goes', utf8('secret\n\n'), 'text', 'text', utf8('secret\n')],
    ['binary', Uint8Array.of(0, 1, 2, 10), 'auto', 'raw', Uint8Array.of(0, 1, 2, 10)],
    ['hexadecimal digits', utf8('0xC0 ffee\n'), 'hex', 'hex', Uint8Array.of(0xc0, 0xff, 0xee)],
    ['hexadecimal digits are text unless said otherwise', utf8('c0ffee\n'), 'auto', 'text', utf8('c0ffee')],
  ] as const)('a pre-shared key: %s', (_, file, format, as, key) => {
    const read = readPsk(file, format, 'psk');
    expect([read.as, read.key.reveal()]).toEqual([as, key]);
  });

  test('an empty key, and digits that are none, are refused', () => {
    expect(() => readPsk(utf8('\n'), 'auto', 'psk')).toThrow(/psk holds no key/);
    expect(() => readPsk(utf8('c0ffe\n'), 'hex', 'psk')).toThrow(/no even number of hexadecimal digits/);
  });

  test('keygen makes a private file and never overwrites one', () => {
    const path = join(directory, 'new.psk');
    keygen(path, 256);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readSecretFile(path)).toHaveLength(45);
    expect(() => keygen(path, 256)).toThrow(Exit);
    expect(() => keygen(join(directory, 'weak'), 64)).toThrow(expect.objectContaining({ code: EXIT.usage }));
  });

  test('the run directory is private, and short enough for sockets', () => {
    const { path } = prepareRunDir(join(directory, 'run'));
    expect(statSync(path).mode & 0o777).toBe(0o700);
    chmodSync(path, 0o755);
    prepareRunDir(path);
    expect(statSync(path).mode & 0o777).toBe(0o700);
    expect(() => prepareRunDir(join(directory, 'x'.repeat(100)))).toThrow(/too long for UNIX sockets/);
  });
});
