/** The assembled engine with its PF_KEY side: who registers late is told what is open. */
import { expect, test } from 'vitest';
import { INPUT } from '../../../src/datapath/slots.ts';
import { assemble } from '../../../src/datapath-process/assembly.ts';
import { packetMemory } from '../../../src/datapath-process/packet-memory.ts';
import { acquireFailed, policyToSpdAdd } from '../../../src/pfkey/convert-policy.ts';
import { readSadb, type SadbMessage, sadb, writeSadb } from '../../../src/pfkey/message.ts';
import { ERRNO, SADB_SATYPE } from '../../../src/pfkey/registry.ts';
import { at, ip, NOW, policyOf, templateOf, udpPacket } from '../datapath/pair.ts';
import { datapathSettings } from './settings.ts';

/** One packet waits for an SA and is answered by nobody. */
async function rig() {
  const memory = await packetMemory('noble', 4 * 1024 * 1024, []);
  const heard = new Map<number, SadbMessage[]>();
  const { engine, control } = assemble(
    { settings: datapathSettings(), memory, slots: 2, coalesce: false },
    {
      send: (client, bytes) => heard.set(client, [...(heard.get(client) ?? []), readSadb(bytes)]),
      close: () => {},
      report: () => {},
    },
  );
  const settle = () => control.tell(engine.drain(), NOW);
  const say = (client: number, message: SadbMessage) => {
    control.handle({ kind: 'bytes', client, bytes: writeSadb(message) }, NOW);
    settle();
  };
  const take = (client: number) => {
    const messages = heard.get(client) ?? [];
    heard.delete(client);
    return messages;
  };
  for (const client of [1, 2]) control.handle({ kind: 'connect', client }, NOW);
  const endpoints = { source: ip('192.0.2.1'), destination: ip('192.0.2.2') };
  say(1, policyToSpdAdd(policyOf({ templates: [templateOf({ endpoints })] })));
  const packet = udpPacket(new Uint8Array(20));
  memory.bytes.set(packet, engine.inputs.buffer[0]!);
  engine.inputs.takePacket(0, INPUT.frame, packet.length);
  engine.protectBatch(0, 1, NOW);
  settle();
  take(1);
  return { engine, control, say, take };
}

const acquires = (messages: readonly SadbMessage[]) => messages.filter(({ type }) => type === 'ACQUIRE').map(({ seq }) => seq);

test('an ACQUIRE that nobody heard is told to the key daemon that registers afterwards, behind the answer to REGISTER', async () => {
  const { say, take } = await rig();
  expect(take(2)).toEqual([expect.objectContaining({ type: 'X_SPDADD' })]);
  say(2, sadb('REGISTER', { satype: SADB_SATYPE.ESP }));
  expect(take(2).map(({ type }) => type)).toEqual(['REGISTER', 'ACQUIRE']);
});

test('a key daemon that was started anew hears of it under the same seq; who only asks for extensions hears nothing', async () => {
  const { control, say, take } = await rig();
  say(2, sadb('REGISTER', { satype: SADB_SATYPE.ESP }));
  const [seq] = acquires(take(2));
  control.handle({ kind: 'disconnect', client: 2 }, NOW);
  control.handle({ kind: 'connect', client: 3 }, NOW);
  say(3, sadb('REGISTER', { satype: SADB_SATYPE.UNSPEC }));
  expect(acquires(take(3))).toEqual([]);
  say(3, sadb('REGISTER', { satype: SADB_SATYPE.ESP }));
  expect(acquires(take(3))).toEqual([seq]);
  say(3, sadb('REGISTER', { satype: SADB_SATYPE.ESP }));
  expect(acquires(take(3))).toEqual([]);
});

test('what was refused, or has waited too long, is not told again', async () => {
  const refused = await rig();
  refused.say(1, sadb('REGISTER', { satype: SADB_SATYPE.ESP }));
  const [seq] = acquires(refused.take(1));
  refused.say(1, acquireFailed({ seq: seq!, protocol: 'esp' }, ERRNO.ECONNREFUSED));
  refused.say(2, sadb('REGISTER', { satype: SADB_SATYPE.ESP }));
  expect(acquires(refused.take(2))).toEqual([]);

  const late = await rig();
  late.engine.tick(at(60_000));
  late.say(2, sadb('REGISTER', { satype: SADB_SATYPE.ESP }));
  expect(acquires(late.take(2))).toEqual([]);
});
