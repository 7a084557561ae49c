/** X_MIGRATE on the engine: what moves, what stays, and the table of Linux' behaviour row by row in `linux-strict`. */

import { describe, expect, test } from 'vitest';
import { announce } from '../../../src/datapath/announce.ts';
import { INPUT } from '../../../src/datapath/slots.ts';
import { EngineVerbs } from '../../../src/datapath/verbs.ts';
import type { Template } from '../../../src/ipsec/policy.ts';
import { saIdTo, saToAdd, saToGetspi, saToUpdate } from '../../../src/pfkey/convert.ts';
import { type Migrate, migrateToSadb, readMigrate } from '../../../src/pfkey/convert-migrate.ts';
import { policyIdTo, policyToSpdAdd, policyToSpdUpdate } from '../../../src/pfkey/convert-policy.ts';
import type { SadbMessage } from '../../../src/pfkey/message.ts';
import { ERRNO } from '../../../src/pfkey/registry.ts';
import { at, copyOf, ip, NOW, Node, policyOf, rawIpv4, saOf, seeded, selectorOf, templateOf, udpPacket } from './pair.ts';

const [A, B, C, HA] = ['192.0.2.1', '198.51.100.1', '203.0.113.1', '192.0.2.2'].map(ip) as [
  ReturnType<typeof ip>,
  ReturnType<typeof ip>,
  ReturnType<typeof ip>,
  ReturnType<typeof ip>,
];
const OLD = { source: A, destination: HA };
const NEW = { source: B, destination: HA };
const KM = { local: { address: B, port: 500 }, remote: { address: HA, port: 500 } };
const RANGE = { min: 0x1000, max: 0x2000 };

function move(changes: Partial<Migrate> = {}, movement: Partial<Migrate['movements'][0]> = {}): SadbMessage {
  const movements = [{ protocol: 'esp', mode: 'tunnel', reqid: 1, old: OLD, new: NEW, ...movement }] as const;
  return { ...migrateToSadb({ selector: selectorOf(), direction: 'outbound', movements, ...changes }), seq: 77, pid: 4711 };
}

/** A policy with its ends, and what a test adds. */
function rig(dialect: 'tanuki' | 'linux-strict' = 'tanuki', template: Partial<Template> = {}) {
  const node = new Node();
  const verbs = new EngineVerbs(node.engine, { random: seeded(99), dialect });
  const policy = policyOf({ templates: [templateOf({ endpoints: OLD, ...template })] });
  const id = verbs.handle(policyToSpdAdd(policy), NOW).broadcast![0]!.policy!.id;
  const { sad, spd } = node.engine.core;
  return {
    node,
    verbs,
    id,
    policy,
    ends: () => [...sad.all].map(({ spi, parameters }) => `${spi.toString(16)} ${parameters.source} ${parameters.destination}`),
    template: () => spd.byId(id)!.template!,
    say: (message: SadbMessage, now = NOW) => verbs.handle(message, now),
  };
}

describe('the default dialect', () => {
  test('all SAs of the pair move alive: mature, dying and larval; others stay', () => {
    const { node, say, ends, template, id } = rig();
    for (const spi of [0xa1, 0xa2, 0xa3]) say(saToAdd(saOf({ spi: spi << 8 })));
    say(saToAdd(saOf({ spi: 0xb100, reqid: 2 })));
    say(saToAdd(saOf({ spi: 0xb200, source: C })));
    const larval = say(saToGetspi(saOf(), RANGE)).reply![0]!.sa!.spi;
    const [first, dying] = [...node.engine.core.sad.all];
    dying!.state = 'dying';
    node.protect([udpPacket(new Uint8Array(9))]);
    const before = { sa: first!, handle: first!.sealHandle, window: first!.window, serial: first!.serial };
    const { broadcast } = say(move());
    expect(ends()).toEqual([
      'a100 198.51.100.1 192.0.2.2',
      'a200 198.51.100.1 192.0.2.2',
      'a300 198.51.100.1 192.0.2.2',
      'b100 192.0.2.1 192.0.2.2',
      'b200 203.0.113.1 192.0.2.2',
    ]);
    const after = [...node.engine.core.sad.all][0]!;
    expect({ sa: after, handle: after.sealHandle, window: after.window, serial: after.serial }).toEqual(before);
    expect(after).toBe(first);
    expect(dying!.state).toBe('dying');
    expect([...node.engine.core.sad.larvals].map(({ spi, source }) => [spi, `${source}`])).toEqual([[larval, '198.51.100.1']]);
    expect(`${template().endpoints!.source}`).toBe('198.51.100.1');
    expect(broadcast![0]!.policy!.id).toBe(id);
  });

  test('the requester gets a header with its seq and pid, everybody the full selector with seq and pid 0', () => {
    const selector = selectorOf({ protocol: 135, sourcePort: 5 });
    const { say, policy, id } = rig();
    say(policyToSpdAdd({ ...policy, selector }));
    const request = move({ selector, kmAddress: KM });
    const { reply, broadcast } = say(request);
    expect(reply).toEqual([{ ...reply![0]!, type: 'X_MIGRATE', seq: 77, pid: 4711, policy: undefined }]);
    expect(broadcast).toHaveLength(1);
    expect(broadcast![0]).toMatchObject({ seq: 0, pid: 0, satype: 3, source: { protocol: 135, port: 5 } });
    expect(readMigrate(broadcast![0]!)).toMatchObject({ selector, movements: readMigrate(request).movements, kmAddress: KM });
    expect(readMigrate(broadcast![0]!).policyId).not.toBe(id);
  });

  test('what is sent afterwards leaves between the new ends and goes on counting; encapsulation keeps its ports', () => {
    const { node, say } = rig();
    const encapsulation = { source: { address: A, port: 4500 }, destination: { address: HA, port: 61000 } };
    say(saToAdd(saOf({ encapsulation })));
    const sequence = () =>
      node.protect([udpPacket(new Uint8Array(9))]).map(({ bytes, path }) => [bytes[7], node.engine.path(path)]);
    expect(sequence()).toEqual([[1, expect.objectContaining({ local: { address: A, port: 4500 } })]]);
    say(move());
    expect(sequence()).toEqual([
      [2, { local: { address: B, port: 4500 }, remote: { address: HA, port: 61000 }, encapsulated: true }],
    ]);
  });

  test('reqid 0 in the message takes any, and the ends decide', () => {
    const { say, ends } = rig();
    say(saToAdd(saOf({ spi: 0xa100 })));
    say(saToAdd(saOf({ spi: 0xa200, reqid: 9 })));
    say(move({}, { reqid: 0 }));
    expect(ends()).toEqual(['a100 198.51.100.1 192.0.2.2', 'a200 198.51.100.1 192.0.2.2']);
  });

  test('a target that exists is EEXIST, and then nothing has moved', () => {
    const { say, ends, template } = rig();
    const to = { source: A, destination: C };
    say(saToAdd(saOf({ spi: 0xa100 })));
    say(saToAdd(saOf({ spi: 0xa200 })));
    say(saToAdd(saOf({ spi: 0xa200, destination: C, reqid: 7 })));
    const before = ends();
    expect(() => say(move({ kmAddress: KM }, { new: to }))).toThrow(/EEXIST/);
    expect(ends()).toEqual(before);
    expect(template().endpoints).toEqual(OLD);
  });

  test('an open ACQUIRE is asked again from the new end by a new seq; GETSPI by the old one is still taken', () => {
    const { node, say } = rig();
    node.protect([udpPacket(new Uint8Array(9))]);
    const [first] = node.engine.drain().map(announce);
    expect(first).toMatchObject({ type: 'ACQUIRE', seq: 1, kmAddress: undefined, source: { address: A } });
    say(move({ kmAddress: KM }));
    const [again] = node.engine.drain().map(announce);
    expect(again).toMatchObject({ type: 'ACQUIRE', seq: 2, kmAddress: KM, source: { address: B }, policy: first!.policy });
    expect(say(saToGetspi(saOf({ source: HA, destination: B }), RANGE, 1)).reply![0]!.seq).toBe(1);
    say(saToAdd(saOf({ source: B })));
    expect(node.engine.hasReleasable).toBe(true);
  });

  test('KMADDRESS stays with the policy: in SPDGET, in later ACQUIREs, through old == new and SPDUPDATE with the same ends', () => {
    const { node, say, id, policy } = rig();
    say(move({ kmAddress: KM }, { new: OLD }));
    expect(say(policyIdTo('X_SPDGET', id)).reply![0]!.kmAddress).toEqual(KM);
    say(policyToSpdUpdate({ ...policy, priority: 5 }));
    say(move({}, { new: NEW }));
    node.protect([udpPacket(new Uint8Array(9))]);
    expect(node.engine.drain().map(announce)).toMatchObject([{ type: 'ACQUIRE', kmAddress: KM }]);
    say(policyToSpdUpdate(policy));
    expect(say(policyIdTo('X_SPDGET', id)).reply![0]!.kmAddress).toBeUndefined();
  });

  test('packets to the former end of a tunnel are taken for three seconds; then only those to the new one', () => {
    const { node, say } = rig();
    const sender = new Node();
    sender.engine.addPolicy(policyOf(), NOW);
    const sa = saOf({ source: HA, destination: A });
    sender.engine.addSa(copyOf(sa), NOW);
    say(
      policyToSpdAdd(policyOf({ direction: 'inbound', templates: [templateOf({ endpoints: { source: HA, destination: A } })] })),
    );
    node.engine.addSa(copyOf(sa), NOW, 'inbound');
    const one = () => sender.protect([udpPacket(new Uint8Array(9))])[0]!;
    const arrives = (destination: typeof A, now = NOW) => {
      const wire = one();
      const bytes = rawIpv4(wire.bytes, { ...sa, destination });
      return node.unprotect([{ ...wire, bytes }], INPUT.rawWithHeader, undefined, now).length;
    };
    expect([arrives(A), arrives(B)]).toEqual([1, 0]);
    say(move({ direction: 'inbound' }, { old: { source: HA, destination: A }, new: { source: HA, destination: B } }));
    expect([arrives(A, at(2999)), arrives(B, at(2999)), arrives(C, at(2999))]).toEqual([1, 1, 0]);
    expect([arrives(A, at(3000)), arrives(B, at(3000))]).toEqual([0, 1]);
  });

  test('the peer that moved is not told to have moved back by what it sent before', () => {
    const { node, say } = rig();
    const sender = new Node();
    sender.engine.addPolicy(policyOf(), NOW);
    const encapsulation = { source: { address: HA, port: 4500 }, destination: { address: A, port: 4500 } };
    const sa = saOf({ source: HA, destination: A, encapsulation });
    sender.engine.addSa(copyOf(sa), NOW);
    const endpoints = { source: HA, destination: A };
    say(policyToSpdAdd(policyOf({ direction: 'inbound', templates: [templateOf({ endpoints })] })));
    node.engine.addSa(copyOf(sa), NOW, 'inbound');
    say(move({ direction: 'inbound' }, { old: endpoints, new: { source: C, destination: A } }));
    const arrives = (address: typeof A, now: typeof NOW) => {
      node.unprotect(sender.protect([udpPacket(new Uint8Array(9))]), INPUT.udp, { address, port: 4500 }, now);
      return node.engine.drain().map(({ kind }) => kind);
    };
    expect([arrives(HA, at(100)), arrives(C, at(200)), arrives(HA, at(4000))]).toEqual([[], [], ['new-mapping']]);
  });

  test('an end that the policy leaves open stays open, and its SAs move', () => {
    const { say, ends, template } = rig('tanuki', { endpoints: { source: A, destination: ip('0.0.0.0') } });
    say(saToAdd(saOf({ spi: 0xa100 })));
    say(move());
    expect(ends()).toEqual(['a100 198.51.100.1 192.0.2.2']);
    expect(template().endpoints).toEqual({ source: B, destination: ip('0.0.0.0') });
  });

  test('what a daemon makes between former ends is made between the present ones, and former names still find SAs', () => {
    const { say, ends, node } = rig();
    const spi = say(saToGetspi(saOf({ source: HA, destination: A }), RANGE)).reply![0]!.sa!.spi;
    say(move());
    const inbound = { source: HA, destination: A };
    say(policyToSpdAdd(policyOf({ direction: 'inbound', templates: [templateOf({ endpoints: inbound })] })));
    say(move({ direction: 'inbound' }, { old: inbound, new: { source: HA, destination: B } }));
    const encapsulation = { source: { address: A, port: 4500 }, destination: { address: HA, port: 61000 } };
    say(saToAdd(saOf({ spi: 0xa100, encapsulation })));
    say(saToUpdate(saOf({ spi, ...inbound })));
    const present = ['a100 198.51.100.1 192.0.2.2', `${spi.toString(16)} 192.0.2.2 198.51.100.1`];
    expect(ends()).toEqual(present);
    expect(node.engine.path([...node.engine.core.sad.all][0]!.path)!.local).toEqual({ address: B, port: 4500 });
    say(saToUpdate(saOf({ spi, ...inbound })));
    expect(ends().toSorted()).toEqual(present.toSorted());
    say(saIdTo('DELETE', { spi, protocol: 'esp', destination: A }, HA));
    expect(ends()).toEqual(present.slice(0, 1));
  });

  test('thirty seconds later, or when a policy asks for the former ends again, they are taken as they are', () => {
    for (const later of [true, false]) {
      const { say, ends, policy } = rig();
      say(move());
      if (!later) say(policyToSpdUpdate(policy));
      say(saToAdd(saOf({ spi: 0xa100 })), at(later ? 30_000 : 1));
      expect(ends()).toEqual(['a100 192.0.2.1 192.0.2.2']);
    }
  });

  test('there and back: what is made between the ends of the first time is right again', () => {
    const { say, ends } = rig();
    say(move());
    say(move({}, { old: NEW, new: OLD }));
    say(saToAdd(saOf({ spi: 0xa100 })));
    say(saToAdd(saOf({ spi: 0xa200, source: B })));
    expect(ends()).toEqual(['a100 192.0.2.1 192.0.2.2', 'a200 192.0.2.1 192.0.2.2']);
  });

  test('a policy whose new ends were put before the MIGRATE came: its SAs follow; without any it is ENODATA', () => {
    const { say, ends, policy } = rig();
    say(saToAdd(saOf({ spi: 0xa100 })));
    say(policyToSpdUpdate({ ...policy, templates: [templateOf({ endpoints: NEW })] }));
    say(move());
    expect(ends()).toEqual(['a100 198.51.100.1 192.0.2.2']);
    expect(() => say(move())).toThrow(/ENODATA/);
  });

  test('two movements chain; from where the SAs are no more it is ENODATA', () => {
    const { say, ends } = rig();
    say(saToAdd(saOf({ spi: 0xa100 })));
    say(move());
    expect(() => say(move({}, { new: { source: C, destination: HA } }))).toThrow(/ENODATA/);
    say(move({}, { old: NEW, new: { source: C, destination: HA } }));
    expect(ends()).toEqual(['a100 203.0.113.1 192.0.2.2']);
  });
});

describe('linux-strict, row by row', () => {
  test('no such policy: ENOENT; not these ends or this reqid, as in a repetition: ENODATA', () => {
    const { say } = rig('linux-strict');
    expect(() => say(move({ direction: 'inbound' }))).toThrow(/ENOENT/);
    expect(() => say(move({ selector: selectorOf({ protocol: 135, sourcePort: 5 }) }))).toThrow(/ENOENT/);
    expect(() => say(move({}, { reqid: 2 }))).toThrow(/ENODATA/);
    expect(() => say(move({}, { old: NEW }))).toThrow(/ENODATA/);
    say(move());
    expect(() => say(move())).toThrow(/ENODATA/);
  });

  test('no SA yet: the policy moves; there is no answer, and the notification has no ports, no "any" and no id', () => {
    const { say, template, id } = rig('linux-strict');
    const { reply, broadcast, error } = say(move());
    expect([reply, error]).toEqual([undefined, undefined]);
    expect(broadcast).toHaveLength(1);
    const [told] = broadcast!;
    expect(told).toMatchObject({
      seq: 0,
      pid: 0,
      satype: 3,
      source: { protocol: 0, port: 0 },
      policy: { type: 2, id: 0, priority: 0 },
    });
    expect(told!.policy!.requests.map(({ level }) => level)).toEqual([3, 3]);
    expect(template().endpoints).toEqual(NEW);
    expect(say(policyIdTo('X_SPDGET', id)).reply).toHaveLength(1);
  });

  test('a larval SA or an open ACQUIRE of the pair: ENODATA, and nothing changes', () => {
    for (const larval of [true, false]) {
      const { node, say, template } = rig('linux-strict');
      if (larval) say(saToGetspi(saOf(), RANGE));
      else node.protect([udpPacket(new Uint8Array(9))]);
      expect(() => say(move())).toThrow(/ENODATA/);
      expect(template().endpoints).toEqual(OLD);
    }
  });

  test('of two SAs only the newer moves', () => {
    const { say, ends } = rig('linux-strict');
    say(saToAdd(saOf({ spi: 0xa100 })));
    say(saToAdd(saOf({ spi: 0xa200 })));
    say(move());
    expect(ends()).toEqual(['a100 192.0.2.1 192.0.2.2', 'a200 198.51.100.1 192.0.2.2']);
  });

  test('reqid 0 takes any; old == new is accepted and announced; the family changes there and back', () => {
    const { say, ends } = rig('linux-strict');
    const six = { source: ip('2001:db8::1'), destination: ip('2001:db8::2') };
    say(saToAdd(saOf({ spi: 0xa100 })));
    say(move({}, { reqid: 0, new: OLD }));
    say(move({}, { new: six }));
    expect(ends()).toEqual(['a100 2001:db8::1 2001:db8::2']);
    say(move({}, { old: six, new: OLD }));
    expect(ends()).toEqual(['a100 192.0.2.1 192.0.2.2']);
  });

  test('transport mode: the SA moves to the care-of address, the policy has no ends to change', () => {
    const { say, ends, template } = rig('linux-strict', { mode: 'transport', endpoints: undefined });
    say(saToAdd(saOf({ spi: 0xa100, mode: 'transport' })));
    say(move({}, { mode: 'transport' }));
    expect(ends()).toEqual(['a100 198.51.100.1 192.0.2.2']);
    expect(template().endpoints).toBeUndefined();
  });

  test('kept: SPI, keys, counters, lifetimes, reqid, and the policy with its id and priority', () => {
    const { node, say, id } = rig('linux-strict');
    say(saToAdd(saOf({ spi: 0xa100 })));
    node.protect([udpPacket(new Uint8Array(9))]);
    const get = () =>
      [...node.engine.core.sad.all].map(({ parameters: { source, destination, ...rest }, ...sa }) => [
        rest,
        sa.packets,
        sa.sequence,
        sa.ivHigh,
        sa.ivLow,
      ]);
    const before = get();
    say(move());
    expect(get()).toEqual(before);
    expect(node.engine.core.spd.byId(id)!.policy).toMatchObject({ id, priority: 100 });
    expect(ERRNO.ENODATA).toBe(61);
  });
});
