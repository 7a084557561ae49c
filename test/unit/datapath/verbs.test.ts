import { describe, expect, test } from 'vitest';
import { announce } from '../../../src/datapath/announce.ts';
import { INPUT } from '../../../src/datapath/slots.ts';
import { EngineVerbs } from '../../../src/datapath/verbs.ts';
import { saIdTo, saToAdd, saToGetspi, saToUpdate } from '../../../src/pfkey/convert.ts';
import {
  acquireFailed,
  policyIdTo,
  policyToSpdAdd,
  policyToSpdDelete,
  policyToSpdUpdate,
  readAcquire,
  readExpire,
} from '../../../src/pfkey/convert-policy.ts';
import { type SadbMessage, sadb } from '../../../src/pfkey/message.ts';
import { ERRNO, SADB_SASTATE, SADB_SATYPE } from '../../../src/pfkey/registry.ts';
import { at, copyOf, ip, NOW, Node, policyOf, saOf, seeded, selectorOf, templateOf, udpPacket } from './pair.ts';

function verbsOf(dialect: 'tanuki' | 'linux-strict' = 'tanuki') {
  const node = new Node();
  return { node, verbs: new EngineVerbs(node.engine, { random: seeded(99), dialect }) };
}

const RANGE = { min: 0x1000, max: 0x2000 };

describe('SAD verbs (RFC 2367 §3.1)', () => {
  test('GETSPI sets an SPI aside, UPDATE makes an inbound SA of it, and everybody is told', () => {
    const { node, verbs } = verbsOf();
    const { reply } = verbs.handle({ ...saToGetspi(saOf(), RANGE, 5), pid: 7 }, NOW);
    expect(reply).toHaveLength(1);
    const spi = reply![0]!.sa!.spi;
    expect(reply![0]).toMatchObject({ type: 'GETSPI', seq: 5, pid: 7, sa: { state: 0 }, sa2: { mode: 2, reqid: 1 } });
    expect(spi >= RANGE.min && spi <= RANGE.max).toBe(true);
    expect(() => verbs.handle(saToAdd(saOf({ spi })), NOW)).toThrow(/EEXIST/);
    const { broadcast } = verbs.handle(saToUpdate(saOf({ spi })), NOW);
    expect(broadcast![0]).toMatchObject({ type: 'UPDATE', sa: { spi, state: SADB_SASTATE.MATURE } });
    expect(node.engine.status().larvals).toEqual([]);
    expect([...node.engine.core.sad.all].map((sa) => [sa.spi, sa.direction])).toEqual([[spi, 'inbound']]);
  });

  test('an SPI range that is full is ENOENT, and reserved SPIs are not given', () => {
    const { verbs } = verbsOf();
    const getspi = saToGetspi(saOf(), { min: 0x100, max: 0x101 });
    expect(new Set([verbs.handle(getspi, NOW), verbs.handle(getspi, NOW)].map(({ reply }) => reply![0]!.sa!.spi))).toEqual(
      new Set([0x100, 0x101]),
    );
    expect(() => verbs.handle(getspi, NOW)).toThrow(/ENOENT/);
    expect(() => verbs.handle(saToGetspi(saOf(), { min: 1, max: 255 }), NOW)).toThrow(/ENOENT/);
  });

  test('ADD twice is EEXIST; UPDATE, GET and DELETE of what is not there are ESRCH', () => {
    const { verbs } = verbsOf();
    const id = { spi: 0xc0ffee01, protocol: 'esp', destination: ip('192.0.2.2') } as const;
    for (const type of ['GET', 'DELETE'] as const) {
      expect(() => verbs.handle(saIdTo(type, id, ip('192.0.2.1')), NOW)).toThrow(/ESRCH/);
    }
    expect(() => verbs.handle(saToUpdate(saOf()), NOW)).toThrow(/ESRCH/);
    verbs.handle(saToAdd(copyOf(saOf())), NOW);
    expect(() => verbs.handle(saToAdd(saOf()), NOW)).toThrow(/EEXIST/);
    const got = verbs.handle(saIdTo('GET', id, ip('192.0.2.1')), NOW).reply![0]!;
    expect(got).toMatchObject({ type: 'GET', sa: { spi: id.spi }, lifetimeCurrent: { addtime: NOW.wall / 1000, usetime: 0 } });
    const deleted = verbs.handle(saIdTo('DELETE', id, ip('192.0.2.1')), NOW).broadcast![0]!;
    expect(deleted.sa!.state).toBe(SADB_SASTATE.DEAD);
    expect(deleted.keyEncrypt).toBeUndefined();
    expect(() => verbs.handle(saIdTo('GET', id, ip('192.0.2.1')), NOW)).toThrow(/ESRCH/);
  });

  test('an SA of AH has an integrity algorithm, its key, and no encapsulation', () => {
    const { node, verbs } = verbsOf();
    const ah = saOf({ protocol: 'ah', suite: { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha2_384' } });
    const { protocol, mode, reqid, source, destination } = ah;
    const larval = verbs.handle(saToGetspi({ protocol, mode, reqid, source, destination }, { min: 0x300, max: 0x300 }), NOW);
    expect(larval.reply![0]).toMatchObject({ satype: SADB_SATYPE.AH, sa: { spi: 0x300 } });
    verbs.handle(saToUpdate({ ...ah, spi: 0x300 }), NOW);
    verbs.handle(saToAdd(ah), NOW);
    expect(node.engine.status().sas).toMatchObject([
      { protocol: 'ah', spi: '00000300', direction: 'inbound', suite: 'NULL/HMAC_SHA2_384_192', icvBytes: 24 },
      { protocol: 'ah', spi: 'c0ffee01' },
    ]);
    const dumped = verbs.handle(sadb('DUMP', { satype: SADB_SATYPE.AH }), NOW).reply!;
    expect(dumped.map(({ satype, sa, keyAuth, keyEncrypt }) => [satype, sa!.auth, keyAuth?.bits, keyEncrypt])).toEqual([
      [SADB_SATYPE.AH, 6, 384, undefined],
      [SADB_SATYPE.AH, 6, 384, undefined],
    ]);
    const message = saToAdd({ ...ah, spi: 0x999 });
    const ports = { nattType: 2, nattSourcePort: 4500, nattDestinationPort: 4500 };
    expect(() => verbs.handle({ ...message, ...ports }, NOW)).toThrow(/a NAT changes.*EINVAL/);
    expect(() => verbs.handle({ ...message, sa: { ...message.sa!, auth: 0 } }, NOW)).toThrow(/an authentication algorithm/);
    expect(() => verbs.handle({ ...message, keyAuth: undefined }, NOW)).toThrow(/takes a key of 48 octets, not 0/);
    verbs.handle(sadb('FLUSH', { satype: SADB_SATYPE.AH }), NOW);
    expect(node.engine.status().sas).toEqual([]);
  });

  test('IPComp and algorithms that the cipher lacks are ENOSYS', () => {
    const { verbs } = verbsOf();
    expect(() => verbs.handle({ ...saToAdd(saOf()), satype: SADB_SATYPE.IPCOMP }, NOW)).toThrow(/ENOSYS/);
    const message = saToAdd(saOf());
    expect(() => verbs.handle({ ...message, sa: { ...message.sa!, encrypt: 99 } }, NOW)).toThrow(/ENOSYS/);
  });

  test('UPDATE moves a running SA: numbers, window and counters go on, keys cannot change', () => {
    const { node, verbs } = verbsOf();
    const sa = saOf({
      encapsulation: { source: { address: ip('192.0.2.1'), port: 4500 }, destination: { address: ip('192.0.2.2'), port: 4500 } },
    });
    node.engine.addPolicy(policyOf(), NOW);
    verbs.handle(saToAdd(copyOf(sa)), NOW);
    node.protect([udpPacket(new Uint8Array(9))]);
    expect(() => verbs.handle(saToUpdate(saOf({ suite: { encr: 'aes_gcm_16', keyBits: 256, integ: 'none' } })), NOW)).toThrow(
      /EINVAL/,
    );
    const moved = {
      ...saToUpdate(copyOf(sa)),
      newDestination: { protocol: 0, prefixLength: 32, address: ip('198.51.100.9'), port: 0 },
      nattDestinationPort: 61000,
    };
    expect(verbs.handle(moved, NOW).broadcast![0]).toMatchObject({
      destination: { address: ip('198.51.100.9') },
      lifetimeCurrent: { allocations: 1 },
    });
    const [wire] = node.protect([udpPacket(new Uint8Array(9))]);
    expect(wire!.bytes[7]).toBe(2);
    expect(node.engine.path(wire!.path)!.remote).toEqual({ address: ip('198.51.100.9'), port: 61000 });
  });

  test('DUMP numbers its messages and ends with 0; an empty one is ENOENT; FLUSH tells who asked, and all where something went', () => {
    const { verbs } = verbsOf();
    expect(verbs.handle(sadb('DUMP'), NOW)).toEqual({ error: ERRNO.ENOENT });
    for (const spi of [0x300, 0x301, 0x302]) verbs.handle(saToAdd(saOf({ spi })), NOW);
    verbs.handle(saToGetspi(saOf(), RANGE), NOW);
    expect(verbs.handle(sadb('DUMP'), NOW).reply!.map(({ seq }) => seq)).toEqual([1, 2, 3, 0]);
    expect(verbs.handle(sadb('DUMP', { satype: SADB_SATYPE.AH }), NOW)).toEqual({ error: ERRNO.ENOENT });
    expect(verbs.handle(sadb('FLUSH', { satype: SADB_SATYPE.ESP }), NOW).broadcast).toHaveLength(1);
    expect(verbs.handle(sadb('FLUSH'), NOW).broadcast).toBeUndefined();
    expect(verbs.handle(sadb('DUMP'), NOW)).toEqual({ error: ERRNO.ENOENT });
  });

  test('REGISTER lists what the cipher has', () => {
    const { verbs } = verbsOf();
    const { auth, encrypt } = verbs.supported();
    expect(encrypt.find(({ id }) => id === 20)).toEqual({ id: 20, ivBytes: 8, minBits: 160, maxBits: 288 });
    expect(auth.map(({ id }) => id).sort((a, b) => a - b)).toEqual([2, 3, 5, 6, 7, 9, 11, 12, 13, 254]);
  });
});

describe('SPD verbs', () => {
  const ends = { source: ip('192.0.2.1'), destination: ip('192.0.2.2') };
  const policy = policyOf({ templates: [templateOf({ endpoints: ends })] });

  test('SPDADD gives an id and refuses a second entry, SPDUPDATE replaces it and keeps the id', () => {
    const { verbs } = verbsOf();
    const added = verbs.handle(policyToSpdAdd(policy), NOW).broadcast![0]!;
    expect(added.policy!.id % 8).toBe(1);
    expect(() => verbs.handle(policyToSpdAdd(policy), NOW)).toThrow(/EEXIST/);
    const updated = verbs.handle(policyToSpdUpdate({ ...policy, priority: 3 }), NOW).broadcast![0]!;
    expect(updated.policy).toMatchObject({ id: added.policy!.id, priority: 3 });
    expect(verbs.handle(policyIdTo('X_SPDGET', added.policy!.id), NOW).reply![0]!.policy).toMatchObject({ priority: 3 });
    expect(verbs.handle(sadb('X_SPDDUMP'), NOW).reply).toHaveLength(1);
    expect(verbs.handle(policyToSpdDelete(policy), NOW).broadcast).toHaveLength(1);
    expect(() => verbs.handle(policyToSpdDelete(policy), NOW)).toThrow(/ENOENT/);
    expect(() => verbs.handle(policyIdTo('X_SPDDELETE2', added.policy!.id), NOW)).toThrow(/ENOENT/);
  });

  test('a unique template without a reqid gets one, "default" is "require", and what is too much is refused', () => {
    const { node, verbs } = verbsOf();
    const of = (level: 'unique' | 'default', reqid: number, port: number) =>
      policyOf({
        selector: selectorOf({ protocol: 17, sourcePort: port }),
        templates: [templateOf({ level, reqid, endpoints: ends })],
      });
    verbs.handle(policyToSpdAdd(of('unique', 0, 1)), NOW);
    verbs.handle(policyToSpdAdd(of('default', 0, 2)), NOW);
    verbs.handle(policyToSpdAdd(of('default', 77, 3)), NOW);
    expect(node.engine.core.spd.entries().map(({ template }) => [template!.level, template!.reqid])).toEqual([
      ['unique', 0x4000],
      ['require', 0],
      ['unique', 77],
    ]);
    const [template] = policy.templates;
    expect(() => verbs.handle(policyToSpdAdd({ ...policy, templates: [{ ...template!, protocol: 'ipcomp' }] }), NOW)).toThrow(
      /IPComp protects nothing/,
    );
    const transport = { ...template!, mode: 'transport' } as const;
    const around = [{ ...transport, protocol: 'ah' } as const, transport];
    expect(() => verbs.handle(policyToSpdAdd({ ...policy, templates: around }), NOW)).toThrow(/name ESP first/);
    const five = [1, 2, 3, 4, 5].map(() => template!);
    expect(() => verbs.handle(policyToSpdAdd({ ...policy, templates: five }), NOW)).toThrow(/4 SAs at most, not 5/);
  });

  test('SPDSETIDX answers as SPDADD in the dialect of Linux only; a policy with a lifetime goes by itself', () => {
    const strict = verbsOf('linux-strict').verbs;
    const { node, verbs } = verbsOf();
    const message: SadbMessage = { ...policyToSpdAdd(policy, 10), type: 'X_SPDSETIDX' };
    expect(strict.handle(message, NOW).broadcast![0]!.type).toBe('X_SPDADD');
    expect(verbs.handle(message, NOW).broadcast![0]).toMatchObject({ type: 'X_SPDSETIDX', lifetimeHard: { addtime: 10 } });
    expect(node.engine.wakeAt()).toBe(at(10_000).mono);
    node.engine.tick(at(10_000));
    expect(node.engine.core.spd.size).toBe(0);
    expect(node.engine.wakeAt()).toBeUndefined();
  });

  test('SPDFLUSH empties it', () => {
    const { verbs } = verbsOf();
    verbs.handle(policyToSpdAdd(policy), NOW);
    expect(verbs.handle(sadb('X_SPDFLUSH'), NOW)).toMatchObject({ reply: [{}], broadcast: [{}] });
    expect(verbs.handle(sadb('X_SPDDUMP'), NOW)).toEqual({ error: ERRNO.ENOENT });
  });
});

describe('an SA that is missing (RFC 2367 §3.1.6)', () => {
  const ends = { source: ip('192.0.2.1'), destination: ip('192.0.2.2') };

  function asking() {
    const { node, verbs } = verbsOf();
    const entry = node.engine.addPolicy(policyOf({ templates: [templateOf({ endpoints: ends })] }), NOW);
    return { node, verbs, entry };
  }

  test('one ACQUIRE for any number of packets; they leave in order once the SA is there', () => {
    const { node, verbs, entry } = asking();
    const packets = [1, 2, 3].map((n) => udpPacket(new Uint8Array(20).fill(n)));
    expect(node.protect(packets)).toEqual([]);
    const effects = node.engine.drain();
    expect(effects).toHaveLength(1);
    const message = announce(effects[0]!);
    expect(readAcquire(message)).toMatchObject({
      policyId: entry.policy.id,
      source: ends.source,
      destination: ends.destination,
      packet: packets[0],
    });
    expect(verbs.handle(sadb('DUMP'), NOW).reply![0]).toMatchObject({ sa: { spi: 0, state: 0 }, sa2: { reqid: 1 } });
    expect(node.engine.status().held).toBe(3);
    expect(node.engine.hasReleasable).toBe(false);
    verbs.handle(saToAdd(saOf()), NOW);
    const receiver = new Node();
    receiver.engine.addPolicy(policyOf({ direction: 'inbound' }), NOW);
    receiver.engine.addSa(saOf(), NOW, 'inbound');
    const arrived: Uint8Array[] = [];
    while (node.engine.hasReleasable) {
      node.engine.releaseHeld(NOW);
      for (const frame of receiver.unprotect(node.wires(), INPUT.udp)) arrived.push(frame.packet);
    }
    expect(arrived).toEqual(packets);
    expect(node.engine.status()).toMatchObject({ held: 0, larvals: [], drops: {} });
  });

  test('no answer in time: the packets are lost with a name, EXPIRE says so, and the next packet asks again', () => {
    const { node } = asking();
    node.protect([udpPacket(new Uint8Array(20))]);
    node.engine.drain();
    expect(node.engine.wakeAt()).toBe(at(30_000).mono);
    node.engine.tick(at(30_000));
    expect(node.engine.drops.toJSON()).toEqual({ acquireTimeout: 1 });
    expect(readExpire(announce(node.engine.drain()[0]!))).toMatchObject({ hard: true, spi: 0, reqid: 1 });
    node.protect([udpPacket(new Uint8Array(20))], at(30_001));
    expect(node.engine.drain().map(({ kind }) => kind)).toEqual(['acquire']);
  });

  test('refused by the key daemon: the packets are lost at once, and one may ask again after a second', () => {
    const { node, verbs } = asking();
    node.protect([udpPacket(new Uint8Array(20))]);
    const { seq, protocol } = readAcquire(announce(node.engine.drain()[0]!));
    expect(verbs.handle(acquireFailed({ seq, protocol }, ERRNO.ECONNREFUSED), NOW)).toEqual({});
    node.protect([udpPacket(new Uint8Array(20))], at(10));
    expect(node.drop(0)).toBe('acquireFailed');
    expect(node.engine.drain()).toEqual([]);
    node.engine.tick(at(1000));
    node.protect([udpPacket(new Uint8Array(20))], at(1001));
    expect(node.engine.drain()).toHaveLength(1);
    expect(node.engine.drops.toJSON()).toEqual({ acquireFailed: 2 });
  });

  test('the queue is bounded', () => {
    const { node } = asking();
    for (let i = 0; i < 20; i++) node.protect([udpPacket(new Uint8Array(20))]);
    expect(node.engine.status().held).toBe(16);
    expect(node.engine.drops.toJSON()).toEqual({ holdFull: 4 });
  });

  test('a policy that goes takes its waiting packets along; transport mode asks for each pair of hosts', () => {
    const { node } = verbsOf();
    const entry = node.engine.addPolicy(policyOf({ templates: [templateOf({ mode: 'transport' })] }), NOW);
    node.protect([
      udpPacket(new Uint8Array(1)),
      udpPacket(new Uint8Array(2)),
      udpPacket(new Uint8Array(3), { destination: '10.2.0.3' }),
    ]);
    expect(node.engine.drain().map((effect) => announce(effect).destination!.address.toString())).toEqual([
      '10.2.0.2',
      '10.2.0.3',
    ]);
    node.engine.removePolicy(entry);
    expect(node.engine.status()).toMatchObject({ held: 0, drops: { discard: 3 } });
  });
});
