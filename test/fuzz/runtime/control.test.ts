/**
 * Hostile control lines: to a server of our own, and to the three daemons. Every line that is read is answered in words, nothing escapes, nothing changes,
 * and who asks properly is served all the while.
 */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { utf8 } from '../../../src/bytes/bytes.ts';
import type { Event } from '../../../src/event.ts';
import { type ControlClient, type ControlRequest, controlClient, serveControl } from '../../../src/runtime/control.ts';
import { LineSplitter } from '../../../src/runtime/json-lines.ts';
import { type DaemonName, runDir } from '../../../src/runtime/run-dir.ts';
import { connect } from '../../../src/runtime/unix-socket.ts';
import { startSuite } from '../../../src/suite.ts';
import { COUNT, LIMIT, MemoryBound } from '../../support/fuzz.ts';
import { mutate, type Numbers, numbers } from '../../support/mutate.ts';
import { datapathSettings } from '../../unit/datapath-process/settings.ts';

const REQUESTS = [
  { id: 1, verb: 'status' },
  { id: 2, verb: 'ping', address: '10.1.0.1', sequence: 1, timeoutMs: 1 },
  { id: 3, verb: 'initiate', name: 'nosuch' },
  { id: 4, verb: 'terminate', name: 'nosuch' },
  { id: 5, verb: 'rekey', name: 'nosuch', what: 'child' },
  { id: 6, verb: 'reload', confirmSeconds: 'x' },
  { id: 7, verb: 'confirm' },
  { id: 8, verb: 'configure', settings: { ...datapathSettings(), unmatched: 'neither' } },
  { id: 9, verb: '__proto__', constructor: { prototype: [] } },
].map((request) => utf8(JSON.stringify(request)));
const VALUES = ['null', '-1', '1e999', '[]', '{}', '"\\ud800"', '"__proto__"', '{"toString":1}', '9007199254740993', 'true'];
/** Lines between two honest questions. */
const BATCH = 100;

/** A line of a request whose octets, or a value of which, were changed. */
function hostileLine(random: Numbers): Uint8Array {
  const line = REQUESTS[random(REQUESTS.length)]!;
  if (random(2) === 0) return mutate(line, random);
  const values = [...new TextDecoder().decode(line).matchAll(/(?<=:)("[^"]*"|\d+)/g)];
  const { index, 0: found } = values[random(values.length)]!;
  const text = new TextDecoder().decode(line);
  return utf8(text.slice(0, index) + VALUES[random(VALUES.length)] + text.slice(index + found.length));
}

function lines(count: number, random: Numbers): Uint8Array {
  return Buffer.concat(Array.from({ length: count }, () => Buffer.concat([hostileLine(random), Buffer.from('\n')])));
}

/** Sends batch after batch; each connection ends with an honest question, whose answer says that everything before it was read. */
async function attack(path: string, verb: string, random: Numbers, memory: MemoryBound, count: number): Promise<number> {
  let refused = 0;
  for (let sent = 0; sent < count; sent += BATCH) {
    memory.mutant(BATCH);
    refused += await new Promise<number>((resolve, reject) => {
      const splitter = new LineSplitter();
      let errors = 0;
      connect(path, (channel) => ({
        onData(bytes) {
          for (const line of splitter.put(bytes)) {
            const answer = JSON.parse(line) as { id: number; ok: boolean; error?: string };
            if (answer.id === -77) {
              channel.close();
              resolve(errors);
            } else if (answer.ok === false) {
              errors++;
              if (typeof answer.error !== 'string' || /^Cannot read|is not a function|undefined \(/.test(answer.error))
                reject(new Error(line));
            }
          }
        },
        onClose: () => reject(new Error('closed before the honest question was answered')),
      })).then((channel) => {
        channel.send(lines(BATCH, random));
        channel.send(utf8(`\n{"id":-77,"verb":"${verb}"}\n`));
      }, reject);
    });
  }
  return refused;
}

let directory = '';
const escaped: unknown[] = [];
const note = (error: unknown) => escaped.push(error);
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tanuki-test-'));
  escaped.length = 0;
  process.on('unhandledRejection', note);
});
afterEach(() => {
  process.off('unhandledRejection', note);
  rmSync(directory, { recursive: true, force: true });
});

test(`${COUNT} hostile lines to a control socket: only well-formed requests pass`, LIMIT, async () => {
  const path = join(directory, 'control.sock');
  const wrong: ControlRequest[] = [];
  const server = await serveControl(path, async (request) => {
    if (!Number.isSafeInteger(request.id) || typeof request.verb !== 'string') wrong.push(request);
    if (request.verb === 'terminate') throw new Error('no');
    return { verb: request.verb };
  });
  const memory = new MemoryBound();
  const refused = await attack(path, 'status', numbers(1), memory, COUNT);
  memory.end();
  expect([wrong, escaped]).toEqual([[], []]);
  expect(refused).toBeGreaterThan(COUNT / 10);
  expect(refused).toBeLessThan(COUNT);
  await server.close();
});

test(`${COUNT} hostile lines to the daemons: answered in words, and nothing has changed`, LIMIT, async () => {
  const file = join(directory, 'tanuki.conf');
  writeFileSync(
    file,
    'interface { ike { 127.0.0.1 port 10977; }; datapath { device memory; encap_port 14977; addresses 10.1.0.1; }; };\n',
  );
  const faults: Event[] = [];
  const suite = await startSuite({
    file,
    runDir: directory,
    quiet: true,
    onEvent: (_, event) => {
      if (/fault|failed/.test(event.name)) faults.push(event);
    },
  });
  const honest: ControlClient[] = [];
  const daemons: readonly Exclude<DaemonName, 'tanuki'>[] = ['datapath', 'spmd', 'iked', 'kinkd'];
  for (const daemon of daemons) honest.push(await controlClient(runDir(directory).control(daemon)));
  const status = async () => (await Promise.all(honest.map((client) => client.ask('status')))) as Record<string, unknown>[];
  await expect.poll(async () => (await status()).every(({ problems = [] }) => (problems as []).length === 0)).toBe(true);
  await expect.poll(async () => (await status())[1]?.daemons).toMatchObject([{ state: 'committed' }, { state: 'committed' }]);
  // A reload that is asked for rightly is carried out, and changes the number of the generation only.
  const state = async () =>
    JSON.parse(JSON.stringify(await status(), (name, value) => (name === 'generation' ? undefined : value)));
  const before: unknown = await state();
  const memory = new MemoryBound();
  for (const [i, daemon] of daemons.entries())
    await attack(runDir(directory).control(daemon), 'status', numbers(2 + i), memory, COUNT / daemons.length);
  memory.end();
  expect([faults, escaped]).toEqual([[], []]);
  expect(await state()).toEqual(before);
  for (const client of honest) client.close();
  await suite.stop();
});
