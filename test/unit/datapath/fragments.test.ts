/** RFC 4301 §7: fragments under policies with ports and in transport mode, both ways; and what is refused (RFC 1858, RFC 3128, RFC 5722, RFC 7112). */

import { describe, expect, test } from 'vitest';
import { cat, u16be, u32be } from '../../../src/bytes/bytes.ts';
import { explainOutbound } from '../../../src/datapath/explain.ts';
import { INPUT, OUTPUT } from '../../../src/datapath/slots.ts';
import type { Policy } from '../../../src/ipsec/policy.ts';
import {
  at,
  copyOf,
  ip,
  ipPacket,
  NOW,
  Node,
  policyOf,
  rawIpv4,
  saOf,
  selectorOf,
  slowSum,
  tcpPacket,
  templateOf,
  udpPacket,
} from './pair.ts';

const V6 = { source: 'fd00:1::1', destination: 'fd00:2::2' };
const PAYLOAD = Uint8Array.from({ length: 3000 }, (_, i) => i % 251);
const UDP = { 4: udpPacket(PAYLOAD, { dontFragment: false }), 6: udpPacket(PAYLOAD, V6) };

/** As a router or a host cuts it, `each` payload octets at a time. */
function cut(packet: Uint8Array, each: number, id = 7): Uint8Array[] {
  const is4 = packet[0]! >> 4 === 4;
  const header = is4 ? (packet[0]! & 15) * 4 : 40;
  const payload = packet.slice(header);
  const fragments: Uint8Array[] = [];
  for (let from = 0; from < payload.length; from += each) {
    const body = payload.slice(from, from + each);
    fragments.push(fragmentOf(packet.slice(0, header), body, from, from + each < payload.length, id));
  }
  return fragments;
}

/** One fragment with any offset. */
function fragmentOf(header: Uint8Array, body: Uint8Array, offset: number, more: boolean, id = 7): Uint8Array {
  if (header[0]! >> 4 === 6) {
    const fragment = cat(header, Uint8Array.of(header[6]!, 0), u16be(offset | (more ? 1 : 0)), u32be(id), body);
    fragment[6] = 44;
    fragment.set(u16be(8 + body.length), 4);
    return fragment;
  }
  const fragment = cat(header, body);
  fragment.set(u16be(fragment.length), 2);
  fragment.set(u16be(id), 4);
  fragment.set(u16be((more ? 0x2000 : 0) | (offset / 8)), 6);
  fragment.set([0, 0], 10);
  fragment.set(u16be(~slowSum(fragment.subarray(0, header.length)) & 0xffff), 10);
  return fragment;
}

/** A whole packet as it is once its fragments were put together. */
function rejoined(packet: Uint8Array, id = 7): Uint8Array {
  return packet[0]! >> 4 === 6 ? packet : fragmentOf(packet.slice(0, 20), packet.slice(20), 0, false, id);
}

const ports = (changes: Partial<Policy['selector']> = {}, family: 4 | 6 = 4) =>
  selectorOf({ protocol: 17, destinationPort: 2000, ...changes }, family);

/** A seals under policies on port 2000, B opens. */
function portPair(mode: 'tunnel' | 'transport', family: 4 | 6 = 4) {
  const sa = saOf({ mode, ...(mode === 'transport' ? { source: ip('10.1.0.1'), destination: ip('10.2.0.2') } : {}) });
  const [a, b] = [new Node({ coalesce: false }), new Node({ coalesce: false })];
  const templates = [templateOf({ mode })];
  a.engine.addPolicy(policyOf({ selector: ports({}, family), templates }), NOW);
  b.engine.addPolicy(policyOf({ selector: ports({}, family), templates, direction: 'inbound' }), NOW);
  a.engine.addSa(copyOf(sa), NOW, 'outbound');
  b.engine.addSa(copyOf(sa), NOW, 'inbound');
  return { a, b, sa };
}

const held = (node: Node) => {
  const { inbound, outbound } = node.engine.core.fragments;
  return inbound.held + outbound.held;
};

describe.each([4, 6] as const)('outbound, IPv%i', (family) => {
  const packet = UDP[family];

  test('under a policy with ports they go as one packet, in whatever order they come', () => {
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [1, 2, 0],
      [2, 0, 1],
    ]) {
      const { a, b, sa } = portPair('tunnel', family);
      const fragments = cut(packet, 1200);
      expect(fragments).toHaveLength(3);
      const wires = order.map((i) => a.protect([fragments[i]!]));
      expect(wires.map(({ length }) => length)).toEqual([0, 0, 1]);
      expect(held(a)).toBe(0);
      const [frame] = b.unprotect([{ ...wires[2]![0]!, bytes: rawIpv4(wires[2]![0]!.bytes, sa) }], INPUT.rawWithHeader);
      expect(frame!.packet).toEqual(rejoined(packet));
    }
  });

  test('what a policy with ports is not about leaves as it came', () => {
    const { a } = portPair('tunnel', family);
    const other = udpPacket(PAYLOAD, { ...(family === 6 ? V6 : {}), destinationPort: 53 });
    const fragments = cut(other, 1200);
    a.protect(fragments);
    expect(a.clears()).toEqual(fragments);
    expect(a.engine.core.fragments.outbound.joined).toBe(0);
  });

  test('a policy that discards by port discards the whole', () => {
    const node = new Node();
    node.engine.addPolicy(policyOf({ selector: ports({}, family), action: 'discard', priority: 1 }), NOW);
    node.protect(cut(packet, 1200));
    expect([node.clears(), node.engine.drops.toJSON(), node.drop(2)]).toEqual([[], { discard: 1 }, 'discard']);
    expect(node.engine.core.fragments.outbound.joined).toBe(2);
  });

  test('where no policy about them has ports, and a tunnel carries them, they go one by one', () => {
    const node = new Node();
    node.engine.addPolicy(policyOf({ selector: selectorOf({}, family) }), NOW);
    node.engine.addSa(saOf(), NOW, 'outbound');
    expect(node.protect(cut(packet, 1200))).toHaveLength(3);
  });
});

test('transport mode carries the whole packet (RFC 4303 §3.3.4)', () => {
  const { a, b, sa } = portPair('transport');
  const wires = a.protect(cut(UDP[4], 1200));
  expect([wires.length, a.engine.drops.total]).toEqual([1, 0]);
  const [frame] = b.unprotect([{ ...wires[0]!, bytes: rawIpv4(wires[0]!.bytes, sa) }], INPUT.rawWithHeader);
  expect(frame!.packet.subarray(20)).toEqual(UDP[4].subarray(20));
});

test('the ACQUIRE is for the ports of the whole packet, which waits as one', () => {
  const node = new Node();
  node.engine.addPolicy(policyOf({ selector: ports() }), NOW);
  node.protect(cut(UDP[4], 1200));
  const [effect] = node.engine.drain();
  expect(effect).toMatchObject({ kind: 'acquire', trigger: { sourcePort: 1000, destinationPort: 2000 } });
  node.engine.addSa(saOf(), NOW, 'outbound');
  node.engine.releaseHeld(NOW);
  expect(node.wires()).toHaveLength(1);
});

describe('inbound, through an SA that a policy with ports asks for (RFC 4301 §7.3)', () => {
  /** The peer has no ports in its policy, and sends fragments one by one. */
  const scene = () => {
    const { b, sa } = portPair('tunnel');
    const a = new Node();
    a.engine.addPolicy(policyOf(), NOW);
    a.engine.addSa(copyOf(sa), NOW, 'outbound');
    const send = (fragments: readonly Uint8Array[], now = NOW) => {
      const wires = a.protect(fragments).map((wire) => ({ ...wire, bytes: rawIpv4(wire.bytes, sa) }));
      return b.unprotect(wires, INPUT.rawWithHeader, undefined, now).map(({ packet }) => packet);
    };
    return { b, send };
  };

  test('later fragments are delivered with the first, as they are', () => {
    const { b, send } = scene();
    const fragments = cut(UDP[4], 1200);
    expect(send([fragments[2]!, fragments[1]!])).toEqual([]);
    expect(held(b)).toBe(2);
    expect(send([fragments[0]!])).toEqual(fragments);
    expect([held(b), b.engine.drops.total]).toEqual([0, 0]);
    expect(b.engine.core.spd.ordered('inbound')[0]!.hits).toBe(3);
  });

  test('none is where the first names another port', () => {
    const { b, send } = scene();
    expect(send(cut(udpPacket(PAYLOAD, { dontFragment: false, destinationPort: 53 }), 1200))).toEqual([]);
    expect([held(b), b.engine.drops.toJSON()]).toEqual([0, { policyMismatch: 3 }]);
  });

  test('without the first none is, and after a minute they are dropped', () => {
    const { b, send } = scene();
    send(cut(UDP[4], 1200).slice(1));
    expect(b.engine.wakeAt()).toBe(at(60_000).mono);
    b.engine.tick(at(59_999));
    expect(held(b)).toBe(2);
    b.engine.tick(at(60_000));
    expect([held(b), b.engine.drops.toJSON(), b.engine.wakeAt()]).toEqual([0, { reassemblyTimeout: 2 }, undefined]);
  });

  test('those of two SAs are never put together', () => {
    const { b, send } = scene();
    const other = saOf({ spi: 0xc0ffee02 });
    b.engine.addSa(copyOf(other), NOW, 'inbound');
    const a = new Node();
    a.engine.addPolicy(policyOf(), NOW);
    a.engine.addSa(copyOf(other), NOW, 'outbound');
    const [first, ...later] = cut(UDP[4], 1200);
    send([first!]);
    const wires = a.protect(later).map((wire) => ({ ...wire, bytes: rawIpv4(wire.bytes, other) }));
    expect(b.unprotect(wires, INPUT.rawWithHeader)).toEqual([]);
    expect(held(b)).toBe(3);
  });
});

describe('refused', () => {
  const header = UDP[4].slice(0, 20);
  const body = (octets: number) => new Uint8Array(octets);
  const node = () => {
    const one = new Node();
    one.engine.addPolicy(
      policyOf({ selector: selectorOf({ protocol: 0, destinationPort: 0 }), templates: [templateOf({ mode: 'transport' })] }),
      NOW,
    );
    return one;
  };
  const tcp = tcpPacket(1, body(100)).slice(0, 20);

  test.each<[string, string, Uint8Array[]]>([
    [
      'an overlap takes all of its packet with it, and what comes later',
      'fragmentOverlap',
      [
        fragmentOf(header, body(800), 0, true),
        fragmentOf(header, body(800), 1600, false),
        fragmentOf(header, body(808), 800, true),
        fragmentOf(header, body(800), 800, true),
      ],
    ],
    [
      'one that goes beyond the last',
      'fragmentOverlap',
      [fragmentOf(header, body(8), 800, false), fragmentOf(header, body(8), 1600, true)],
    ],
    ['two last ones', 'fragmentOverlap', [fragmentOf(header, body(8), 800, false), fragmentOf(header, body(8), 1600, false)]],
    ["a first one without TCP's flags", 'tinyFragment', [fragmentOf(tcp, body(16), 0, true)]],
    ["one that begins within TCP's header", 'tinyFragment', [fragmentOf(tcp, body(100), 8, false)]],
    ['no whole number of eight octets', 'badFragment', [fragmentOf(header, body(801), 0, true)]],
    ['an end beyond what a packet may have', 'badFragment', [fragmentOf(header, body(800), 65_000, false)]],
    ['nothing', 'badFragment', [fragmentOf(header, body(0), 800, true)]],
  ])('%s: %s', (_, reason, fragments) => {
    const one = node();
    for (const fragment of fragments) {
      const told = explainOutbound(one.engine.core, fragment);
      one.protect([fragment]);
      expect([told.fate, told.drop ?? 'none']).toEqual([one.drop(0) === 'none' ? 'waits' : 'dropped', one.drop(0)]);
    }
    expect([held(one), one.engine.drops.toJSON()]).toEqual([0, { [reason]: fragments.length }]);
  });

  test('a repeated one alone: its packet goes on', () => {
    const { a } = portPair('tunnel');
    const [first, ...others] = cut(UDP[4], 1200);
    a.protect([first!, first!]);
    expect([a.drop(1), held(a)]).toEqual(['fragmentOverlap', 1]);
    expect(a.protect(others)).toHaveLength(1);
  });

  test('extension headers are part of what the first has to have (RFC 7112)', () => {
    const one = new Node();
    one.engine.addPolicy(policyOf({ selector: selectorOf({ protocol: 17, destinationPort: 53 }, 6) }), NOW);
    const options = cat(Uint8Array.of(17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), new Uint8Array(64));
    const rich = ipPacket(60, options, V6);
    one.protect([fragmentOf(rich.slice(0, 40), rich.slice(40, 56), 0, true)]);
    expect(one.drop(0)).toBe('tinyFragment');
    one.protect([fragmentOf(rich.slice(0, 40), rich.slice(40, 64), 0, true, 8)]);
    expect([one.drop(0), held(one)]).toEqual(['none', 1]);
  });
});

test('memory is bounded: the oldest packets make room', () => {
  const { a } = portPair('tunnel');
  for (let id = 1; id <= 2000; id++) {
    a.protect([cut(UDP[4], 1200, id)[0]!]);
    if (id % 4 === 0) expect(a.engine.core.fragments.outbound.size).toBeLessThanOrEqual(256);
  }
  expect(held(a)).toBe(256);
  expect(a.engine.drops.toJSON()).toEqual({ reassemblyFull: 2000 - 256 });
  const { a: big } = portPair('tunnel');
  const long = udpPacket(new Uint8Array(60_000), { dontFragment: false });
  for (let id = 1; id <= 40; id++) big.protect([cut(long, 30_000, id)[0]!]);
  expect(held(big)).toBe(Math.floor((1024 * 1024) / (30_020 + 128)));
});

test('a packet of many small fragments is given up', () => {
  const { a } = portPair('tunnel');
  const long = udpPacket(new Uint8Array(2000), { dontFragment: false });
  for (const fragment of cut(long, 8)) a.protect([fragment]);
  expect(held(a)).toBe(0);
  expect(Object.keys(a.engine.drops.toJSON())).toEqual(['reassemblyFull']);
});

test('congestion that one fragment has met is that of the whole (RFC 3168 §5.3)', () => {
  const { a, b, sa } = portPair('tunnel');
  const fragments = cut(udpPacket(PAYLOAD, { dontFragment: false, trafficClass: 2 }), 1200);
  fragments[1]![1] = 3;
  const [wire] = a.protect(fragments);
  const [frame] = b.unprotect([{ ...wire!, bytes: rawIpv4(wire!.bytes, sa) }], INPUT.rawWithHeader);
  expect([frame!.packet[1], slowSum(frame!.packet.subarray(0, 20))]).toEqual([3, 0xffff]);
  expect(a.engine.outputs.kind[0]).toBe(OUTPUT.esp);
});
