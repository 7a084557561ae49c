/** A PF_KEY client that does not read, over a real socket: it is closed, nobody else notices, and when it comes back it knows everything. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startDatapath } from '../../../src/datapath-process/daemon.ts';
import type { Event } from '../../../src/event.ts';
import { PfkeyClient } from '../../../src/pfkey/client.ts';
import { policyToSpdAdd } from '../../../src/pfkey/convert-policy.ts';
import { readSadb, SadbFramer, type SadbMessage, sadb, writeSadb } from '../../../src/pfkey/message.ts';
import { OPT_IN_ALL, SADB_SATYPE } from '../../../src/pfkey/registry.ts';
import { controlClient } from '../../../src/runtime/control.ts';
import { runDir } from '../../../src/runtime/run-dir.ts';
import type { Daemon } from '../../../src/runtime/shell.ts';
import { plain } from '../../../src/runtime/unix-socket.ts';
import { NOW, policyOf } from '../datapath/pair.ts';
import { datapathSettings } from './settings.ts';

let directory = '';
let datapath: Daemon;
let events: Event[] = [];
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'tanuki-test-'));
  events = [];
  datapath = await startDatapath({ runDir: directory, quiet: true, onEvent: (event) => events.push(event) });
  const control = await controlClient(runDir(directory).control('datapath'));
  await control.ask('configure', { settings: datapathSettings() });
  control.close();
});
afterEach(async () => {
  await datapath.stop();
  rmSync(directory, { recursive: true, force: true });
});

function dial(): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(runDir(directory).pfkey, () => resolve(socket));
    socket.once('error', reject);
  });
}

/** Reads until `enough` says so of what came since, or the end. */
function read(socket: Socket, enough: (messages: readonly SadbMessage[]) => boolean): Promise<SadbMessage[]> {
  const framer = new SadbFramer();
  const messages: SadbMessage[] = [];
  return new Promise((resolve) => {
    const take = (chunk: Buffer) => {
      for (const bytes of framer.push(plain(chunk))) messages.push(readSadb(bytes));
      if (enough(messages)) done();
    };
    const done = () => {
      socket.off('data', take);
      socket.off('end', done);
      resolve(messages);
    };
    socket.on('data', take);
    socket.once('end', done);
  });
}

/** Octets that the slow client gets of each request of the busy one. */
const LARGE = 60_000;

test('is closed at the bound with an event, reads the end of the stream, and resynchronises', { timeout: 60_000 }, async () => {
  const [slow, busy] = [await dial(), await dial()];
  // It asks for all that others say, and never reads.
  slow.pause();
  slow.write(writeSadb(sadb('REGISTER', { satype: SADB_SATYPE.UNSPEC, optIn: OPT_IN_ALL })));
  slow.write(writeSadb(sadb('X_PROMISC', { satype: 1 })));
  const closed = () => events.find(({ name }) => name === 'pfkey-client-closed');
  const ask = async (message: SadbMessage) => {
    const answered = read(busy, (heard) => heard.some(({ pid, seq }) => pid === 7 && seq === 0));
    busy.write(writeSadb({ ...message, pid: 7 }));
    return answered;
  };
  expect((await ask(policyToSpdAdd(policyOf({ action: 'discard' })))).at(-1)).toMatchObject({ type: 'X_SPDADD', errno: 0 });
  for (let asked = 0; closed() === undefined && asked < 1000; asked++)
    await ask(sadb('X_SPDGET', { packet: new Uint8Array(LARGE) }));
  expect(closed()?.message).toMatch(/8388608 octets wait for it; it has to connect again/);

  // What was under way arrives, nothing of the 8 MiB, and then the end.
  let octets = 0;
  slow.on('data', (chunk) => {
    octets += chunk.length;
  });
  const ended = new Promise<void>((resolve) => slow.once('end', resolve));
  slow.resume();
  await ended;
  expect(octets).toBeGreaterThan(256 * 1024);
  expect(octets).toBeLessThan(2 * 1024 * 1024);

  const again = await dial();
  const client = new PfkeyClient<number>({ pid: 9, register: [SADB_SATYPE.ESP] });
  const policies = await new Promise<readonly SadbMessage[]>((resolve) => {
    const carryOut = (outputs: ReturnType<typeof client.handle>) => {
      for (const output of outputs) {
        if (output.kind === 'send') again.write(writeSadb(output.message));
        if (output.kind === 'synchronised') resolve(output.policies);
      }
    };
    const framer = new SadbFramer();
    again.on('data', (chunk: Buffer) => {
      for (const bytes of framer.push(plain(chunk))) carryOut(client.handle({ kind: 'message', message: readSadb(bytes) }, NOW));
    });
    carryOut(client.handle({ kind: 'connected' }, NOW));
  });
  expect(policies).toHaveLength(1);
  expect((await ask(sadb('X_SPDDUMP'))).at(-1)).toMatchObject({ type: 'X_SPDDUMP', errno: 0 });
  for (const socket of [busy, again]) socket.destroy();
});
