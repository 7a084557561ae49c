import { describe, expect, test } from 'vitest';
import { INPUT } from '../../../src/datapath/slots.ts';
import { selectorOf as trafficSelector } from '../../../src/ipsec/selector.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';
import {
  at,
  copyOf,
  ip,
  ipPacket,
  NOW,
  Node,
  pair,
  policyOf,
  saOf,
  selectorOf,
  tcpPacket,
  templateOf,
  udpPacket,
} from './pair.ts';

const prefix = (text: string) => parsePrefix(text)!;

describe('outbound policies (RFC 4301 §5.1)', () => {
  test('the lowest priority number decides; equals keep their order', () => {
    const node = new Node();
    const udp = udpPacket(new Uint8Array(4));
    const verdict = () => {
      node.protect([udp]);
      return node.clears().length === 1 ? 'bypass' : node.drop(0);
    };
    expect(verdict()).toBe('bypass');
    const discard = node.engine.addPolicy(policyOf({ action: 'discard', priority: 50 }), NOW);
    expect(verdict()).toBe('discard');
    node.engine.addPolicy(policyOf({ action: 'bypass', priority: 50, selector: selectorOf({ protocol: 17 }) }), NOW);
    expect(verdict()).toBe('discard');
    node.engine.addPolicy(policyOf({ action: 'bypass', priority: 40, selector: selectorOf({ protocol: 6 }) }), NOW);
    expect(verdict()).toBe('discard');
    node.engine.removePolicy(discard);
    expect(verdict()).toBe('bypass');
    expect(node.engine.status().policies.map(({ hits }) => hits)).toEqual([1, 0]);
  });

  test('what no policy matches follows the default', () => {
    const node = new Node({ unmatched: 'discard' });
    expect(node.protect([udpPacket(new Uint8Array(4))])).toEqual([]);
    expect(node.drop(0)).toBe('unmatched');
  });

  test('prefixes, protocols, ports, ICMP types and codes select', () => {
    const matches = (selector: Parameters<typeof selectorOf>[0], packet: Uint8Array, family: 4 | 6 = 4) => {
      const node = new Node();
      node.engine.addPolicy(policyOf({ action: 'discard', selector: selectorOf(selector, family) }), NOW);
      node.protect([packet]);
      return node.drop(0) === 'discard';
    };
    const udp = udpPacket(new Uint8Array(4));
    const echo = ipPacket(1, Uint8Array.of(8, 0, 0, 0, 0, 1, 0, 1), {}, 2);
    const mobility = ipPacket(135, Uint8Array.of(59, 0, 5, 0, 0, 0, 0, 0), { source: 'fd00::1', destination: 'fd00::2' });
    expect(matches({ source: prefix('10.1.0.0/24'), destination: prefix('10.2.0.2/32') }, udp)).toBe(true);
    expect(matches({ source: prefix('10.1.0.2/31') }, udp)).toBe(false);
    expect(matches({ source: prefix('200.0.0.0/8') }, udpPacket(new Uint8Array(4), { source: '200.1.1.1' }))).toBe(true);
    expect(matches({ protocol: 17, sourcePort: 1000, destinationPort: 2000 }, udp)).toBe(true);
    expect(matches({ protocol: 17, destinationPort: 2001 }, udp)).toBe(false);
    expect(matches({ protocol: 6 }, udp)).toBe(false);
    expect(matches({ protocol: 1, sourcePort: 8 }, echo)).toBe(true);
    expect(matches({ protocol: 1, sourcePort: 3 }, echo)).toBe(false);
    expect(matches({ protocol: 135, sourcePort: 5 }, mobility, 6)).toBe(true);
    expect(matches({ protocol: 135, sourcePort: 6 }, mobility, 6)).toBe(false);
    expect(matches({ source: prefix('fd00::/127') }, mobility, 6)).toBe(true);
    expect(matches({ source: prefix('fd00::2/127') }, mobility, 6)).toBe(false);
    expect(matches({}, mobility)).toBe(false);
  });

  test('ranges of ports, types and codes select, and 0 is a type like any other there', () => {
    const matches = (protocol: number, low: number, high: number, packet: Uint8Array) => {
      const node = new Node();
      const portRanges = { sourceLow: low, sourceHigh: high, destinationLow: 0, destinationHigh: 65_535 };
      node.engine.addPolicy(policyOf({ action: 'discard', selector: selectorOf({ protocol, portRanges }) }), NOW);
      node.protect([packet]);
      return node.drop(0) === 'discard';
    };
    const from = (sourcePort: number) => udpPacket(new Uint8Array(4), { sourcePort });
    const icmp = (type: number) => ipPacket(1, Uint8Array.of(type, 0, 0, 0, 0, 1, 0, 1), {}, 2);
    expect([999, 1000, 1010, 1011].map((port) => matches(17, 1000, 1010, from(port)))).toEqual([false, true, true, false]);
    expect([0, 3, 8].map((type) => matches(1, 0, 0, icmp(type)))).toEqual([true, false, false]);
    expect([3, 4, 5, 12].map((type) => matches(1, 4, 11, icmp(type)))).toEqual([false, true, true, false]);
  });

  test('a fragment has no ports: an entry with ports is not about it', () => {
    const node = new Node();
    node.engine.addPolicy(policyOf({ action: 'discard', selector: selectorOf({ protocol: 17, sourcePort: 1000 }) }), NOW);
    const fragment = udpPacket(new Uint8Array(40));
    fragment[6] = 0x20;
    node.protect([fragment]);
    expect(node.drop(0)).toBe('none');
  });

  test('level use sends in clear while it asks for an SA', () => {
    const node = new Node();
    node.engine.addPolicy(policyOf({ templates: [templateOf({ level: 'use' })] }), NOW);
    node.protect([udpPacket(new Uint8Array(4))]);
    expect(node.clears()).toHaveLength(1);
    expect(node.engine.drain().map(({ kind }) => kind)).toEqual(['acquire']);
  });

  test('malformed packets are dropped by name', () => {
    const node = new Node();
    const long = udpPacket(new Uint8Array(4));
    long[3] = 200;
    for (const packet of [
      new Uint8Array(0),
      new Uint8Array(19),
      long,
      new Uint8Array(30),
      Uint8Array.of(0x60, ...new Uint8Array(30)),
    ]) {
      node.protect([packet]);
      expect(node.drop(0)).toBe('malformed');
    }
  });
});

describe('which SA (RFC 4301 §4.4.2)', () => {
  const SPI = (bytes: Uint8Array) => new DataView(bytes.buffer).getUint32(0);

  test('the newest, at once; without it the one before', () => {
    const { a } = pair();
    const packet = udpPacket(new Uint8Array(4));
    expect(SPI(a.protect([packet])[0]!.bytes)).toBe(0xc0ffee01);
    const second = a.engine.addSa(saOf({ spi: 0xc0ffee02 }), NOW);
    expect(SPI(a.protect([packet])[0]!.bytes)).toBe(0xc0ffee02);
    a.engine.removeSa(second);
    expect(SPI(a.protect([packet])[0]!.bytes)).toBe(0xc0ffee01);
  });

  test('an SA whose soft limit is reached serves only where there is no other', () => {
    const { a } = pair();
    const packet = udpPacket(new Uint8Array(4));
    a.engine.addSa(
      saOf({
        spi: 0xc0ffee02,
        lifetime: { soft: { seconds: 0, bytes: 0, packets: 2 }, hard: { seconds: 0, bytes: 0, packets: 9 } },
      }),
      NOW,
    );
    expect([1, 2, 3].map(() => SPI(a.protect([packet])[0]!.bytes))).toEqual([0xc0ffee02, 0xc0ffee02, 0xc0ffee01]);
  });

  test('an SA that came in for one direction does not serve the other', () => {
    const { a, b } = pair();
    const packet = udpPacket(new Uint8Array(4));
    const [wire] = a.protect([packet]);
    a.engine.addPolicy(policyOf({ direction: 'inbound' }), NOW);
    expect(a.unprotect([wire!], INPUT.udp)).toEqual([]);
    expect(a.drop(0)).toBe('noSa');
    b.engine.addPolicy(policyOf(), NOW);
    expect(b.protect([packet])).toEqual([]);
    expect(b.engine.drain().map(({ kind }) => kind)).toEqual(['acquire']);
  });

  test('an SA that ADD brought is bound to the direction of its first packet', () => {
    const { a } = pair();
    const b = new Node();
    for (const direction of ['inbound', 'outbound'] as const) b.engine.addPolicy(policyOf({ direction }), NOW);
    b.engine.addSa(saOf(), NOW);
    const packet = udpPacket(new Uint8Array(4));
    expect(b.unprotect(a.protect([packet]), INPUT.udp)).toHaveLength(1);
    expect(b.engine.status().sas[0]!.direction).toBe('inbound');
    expect(b.protect([packet])).toEqual([]);
  });

  test('narrowed selectors: what the SA does not cover asks for another one', () => {
    const narrow = saOf({
      selectors: {
        source: [trafficSelector(prefix('10.1.0.0/24'))],
        destination: [trafficSelector(prefix('10.2.0.2/32'), 17, { startPort: 2000, endPort: 2010 })],
      },
    });
    const { a, b } = pair(narrow);
    expect(a.protect([udpPacket(new Uint8Array(4))])).toHaveLength(1);
    for (const changes of [{ destinationPort: 2011 }, { destination: '10.2.0.3' }, { source: '10.1.1.1' }]) {
      expect(a.protect([udpPacket(new Uint8Array(4), changes)])).toEqual([]);
    }
    expect(a.engine.drain().map(({ kind }) => kind)).toEqual(['acquire', 'acquire', 'acquire']);
    // A peer that sends more than was agreed: everything is authentic, and still refused (RFC 4301 §5.2).
    const wide = new Node();
    wide.engine.addPolicy(policyOf(), NOW);
    wide.engine.addSa({ ...copyOf(narrow), ...{ encrKey: saOf().encrKey }, selectors: { source: [], destination: [] } }, NOW);
    expect(b.unprotect(wide.protect([udpPacket(new Uint8Array(4))]), INPUT.udp)).toHaveLength(1);
    expect(b.unprotect(wide.protect([tcpPacket(1, new Uint8Array(4))]), INPUT.udp)).toEqual([]);
    expect(b.drop(0)).toBe('policyMismatch');
  });

  test('a message type is for the selector of its sender to allow, not for that of its receiver (RFC 4301 §4.4.1.1, RFC 4877 §6.1)', () => {
    const type = (number: number) => ({ startPort: number << 8, endPort: number << 8 });
    const selectors = {
      source: [trafficSelector(prefix('fd00::1/128'), 135, type(5))],
      destination: [trafficSelector(prefix('fd00::2/128'), 135, type(6))],
    };
    const { a, b } = pair(saOf({ selectors }));
    const ends = { source: 'fd00::1', destination: 'fd00::2' };
    const message = (number: number) => ipPacket(135, Uint8Array.of(59, 0, number, 0, 0, 0, 0, 0), ends);
    const sent = a.protect([message(5)]);
    expect(sent).toHaveLength(1);
    expect(b.unprotect(sent, INPUT.udp)).toHaveLength(1);
    expect(a.protect([message(6)])).toEqual([]);
    const wide = new Node();
    wide.engine.addPolicy(policyOf({ selector: selectorOf({}, 6) }), NOW);
    wide.engine.addSa(saOf(), NOW);
    wide.protect([message(1)]);
    expect(b.unprotect(wide.protect([message(6)]), INPUT.udp)).toEqual([]);
    expect(b.drop(0)).toBe('policyMismatch');
  });

  test('a unique template keeps its SAs when the peer has moved', () => {
    const node = new Node();
    const endpoints = { source: ip('192.0.2.1'), destination: ip('192.0.2.2') };
    node.engine.addPolicy(policyOf({ templates: [templateOf({ reqid: 5, endpoints })] }), NOW);
    node.engine.addSa(saOf({ reqid: 5, destination: ip('198.51.100.9') }), NOW);
    expect(node.protect([udpPacket(new Uint8Array(4))])).toHaveLength(1);
  });

  test('templates choose by reqid, mode and endpoints', () => {
    const node = new Node();
    const template = templateOf({
      level: 'require',
      reqid: 5,
      endpoints: { source: ip('192.0.2.1'), destination: ip('192.0.2.2') },
    });
    node.engine.addPolicy(policyOf({ templates: [template] }), NOW);
    const tries = [
      saOf({ reqid: 6, spi: 0x301 }),
      saOf({ reqid: 5, mode: 'transport', spi: 0x302 }),
      saOf({ reqid: 5, destination: ip('192.0.2.3'), spi: 0x303 }),
    ];
    for (const sa of tries) {
      node.engine.addSa(sa, NOW);
      expect(node.protect([udpPacket(new Uint8Array(4))])).toEqual([]);
    }
    node.engine.addSa(saOf({ reqid: 5, spi: 0x304 }), NOW);
    expect(SPI(node.protect([udpPacket(new Uint8Array(4))])[0]!.bytes)).toBe(0x304);
  });

  test('many SAs come and go, and each is found by its SPI', () => {
    const node = new Node();
    node.engine.addPolicy(policyOf({ direction: 'inbound' }), NOW);
    const { sad } = node.engine.core;
    const spis = Array.from({ length: 500 }, (_, i) => (i * 2654435761 + 300) >>> 0);
    const sas = spis.map((spi) => node.engine.addSa(saOf({ spi }), NOW));
    for (let i = 0; i < 500; i += 3) node.engine.removeSa(sas[i]!);
    const any = new Int32Array(4);
    for (const [i, spi] of spis.entries())
      expect(sad.inbound(spi | 0, any, true, NOW.mono)).toBe(i % 3 === 0 ? undefined : sas[i]);
    expect(sad.size).toBe(333);
  });
});

describe('inbound (RFC 4301 §5.2)', () => {
  test('an authentic packet that no inbound policy of this reqid is about is refused', () => {
    const a = pair().a;
    const b = new Node();
    b.engine.addPolicy(policyOf({ direction: 'inbound', templates: [templateOf({ reqid: 2 })] }), NOW);
    b.engine.addSa(saOf(), NOW, 'inbound');
    b.unprotect(a.protect([udpPacket(new Uint8Array(4))]), INPUT.udp);
    expect(b.drop(0)).toBe('policyMismatch');
    b.engine.addPolicy(policyOf({ direction: 'forward' }), NOW);
    expect(b.unprotect(a.protect([udpPacket(new Uint8Array(4))]), INPUT.udp)).toHaveLength(1);
  });

  test('clear text that a policy protects or discards does not pass', () => {
    const node = new Node();
    node.engine.addPolicy(policyOf({ direction: 'inbound', selector: selectorOf({ protocol: 17 }) }), NOW);
    node.engine.addPolicy(
      policyOf({ direction: 'inbound', action: 'discard', selector: selectorOf({ protocol: 6, destinationPort: 80 }) }),
      NOW,
    );
    const packets = [
      udpPacket(new Uint8Array(4)),
      tcpPacket(1, new Uint8Array(4)),
      tcpPacket(1, new Uint8Array(4), { destinationPort: 81 }),
      new Uint8Array(5),
    ];
    packets.forEach((packet, slot) => {
      node.arena.set(packet, node.engine.inputs.buffer[slot]!);
      node.engine.inputs.takePacket(slot, INPUT.clear, packet.length);
    });
    expect(node.engine.checkClear(0, 4)).toBe(1);
    expect([0, 1, 2, 3].map((slot) => node.drop(slot))).toEqual(['clearText', 'discard', 'none', 'malformed']);
  });

  test('ECN comes through, and a mark that the inner packet cannot carry drops it (RFC 6040 §4.2)', () => {
    const seen: (number | string)[][] = [];
    for (const inner of [0, 1, 2, 3]) {
      const row: (number | string)[] = [];
      for (const outer of [0, 1, 2, 3]) {
        for (const hosts of [{}, { source: 'fd00:1::1', destination: 'fd00:2::2' }]) {
          const { a, b } = pair();
          const [wire] = a.protect([udpPacket(new Uint8Array(4), { trafficClass: 0xb8 + inner, ...hosts })]);
          expect(wire!.trafficClass).toBe(0xb8 + inner);
          const frame = b.unprotect([{ ...wire!, trafficClass: outer }], INPUT.udp)[0];
          const expected = frame && udpPacket(new Uint8Array(4), { trafficClass: 0xb8 + ecnOf(frame.packet), ...hosts });
          expect(frame?.packet).toEqual(expected);
          if (hosts.source === undefined) row.push(frame === undefined ? b.drop(0) : ecnOf(frame.packet));
        }
      }
      seen.push(row);
    }
    expect(seen).toEqual([
      [0, 0, 0, 'ecn'],
      [1, 1, 1, 3],
      [2, 1, 2, 3],
      [3, 3, 3, 3],
    ]);
  });

  test('a new mapping is told once a second, after authentication, by the newest packet', () => {
    const ends = { source: { address: ip('192.0.2.1'), port: 4500 }, destination: { address: ip('192.0.2.2'), port: 4500 } };
    const { a, b } = pair(saOf({ encapsulation: ends }));
    const wires = [1, 2, 3, 4].flatMap(() => a.protect([udpPacket(new Uint8Array(4))]));
    const from = (port: number) => ({ address: ip('192.0.2.1'), port });
    b.unprotect([wires[1]!], INPUT.udp, from(4500));
    b.unprotect([wires[0]!], INPUT.udp, from(61000));
    expect(b.engine.drain()).toEqual([]);
    const forged = { ...wires[2]!, bytes: wires[2]!.bytes.map((octet, i) => (i === 30 ? octet ^ 1 : octet)) };
    b.unprotect([forged], INPUT.udp, from(61000));
    expect([b.drop(0), b.engine.drain()]).toEqual(['badIcv', []]);
    b.unprotect([wires[2]!], INPUT.udp, from(61000));
    b.unprotect([wires[3]!], INPUT.udp, from(61001));
    expect(b.engine.drain()).toMatchObject([{ kind: 'new-mapping', before: { port: 4500 }, now: { port: 61000 } }]);
  });
});

describe('lifetimes (RFC 4301 §4.4.2.1)', () => {
  const none = { seconds: 0, bytes: 0, packets: 0 };

  test('by packets and by octets: soft once, hard at the next use', () => {
    for (const [soft, hard] of [
      [
        { ...none, packets: 2 },
        { ...none, packets: 3 },
      ],
      [
        { ...none, bytes: 64 },
        { ...none, bytes: 96 },
      ],
    ]) {
      const { a, b } = pair(saOf({ lifetime: { soft: soft!, hard: hard! } }));
      const packet = udpPacket(new Uint8Array(4));
      const sent = [1, 2, 3, 4].map(() => a.protect([packet])).filter((wires) => wires.length > 0);
      expect(sent).toHaveLength(3);
      expect(a.engine.drain().map((effect) => (effect.kind === 'expire' ? effect.hard : effect.kind))).toEqual([
        false,
        true,
        'acquire',
      ]);
      for (const wires of sent) expect(b.unprotect(wires, INPUT.udp)).toHaveLength(1);
      expect(b.engine.drain()).toMatchObject([{ kind: 'expire', hard: false }]);
    }
  });

  test('what comes in behind a hard limit finds no SA', () => {
    const lifetime = { soft: none, hard: { ...none, packets: 2 } };
    const { a, b } = pair(saOf({ lifetime: { soft: none, hard: none } }));
    b.engine.removeSa([...b.engine.core.sad.all][0]!);
    b.engine.addSa(saOf({ lifetime }), NOW, 'inbound');
    const wires = [1, 2, 3].flatMap(() => a.protect([udpPacket(new Uint8Array(4))]));
    expect(wires.map((wire) => b.unprotect([wire], INPUT.udp).length)).toEqual([1, 1, 0]);
    expect([b.drop(0), b.engine.core.sad.size]).toEqual(['noSa', 0]);
    expect(b.engine.drain()).toMatchObject([{ kind: 'expire', hard: true }]);
  });

  test('by time: wakeAt says when, and the keys are wiped at the end', () => {
    const sa = saOf({ lifetime: { soft: { ...none, seconds: 80 }, hard: { ...none, seconds: 100 } } });
    const node = new Node();
    node.engine.addSa(sa, NOW);
    expect(node.engine.wakeAt()).toBe(at(80_000).mono);
    node.engine.tick(at(80_000));
    expect(node.engine.wakeAt()).toBe(at(100_000).mono);
    node.engine.tick(at(90_000));
    node.engine.tick(at(100_000));
    expect(node.engine.drain()).toMatchObject([{ hard: false }, { hard: true }]);
    expect(sa.encrKey.reveal().every((octet) => octet === 0)).toBe(true);
    expect(node.engine.wakeAt()).toBeUndefined();
  });

  test('sequence numbers do not wrap: a rekey is asked for early, and the SA dies before', () => {
    const { a } = pair();
    const [sa] = [...a.engine.core.sad.all];
    sa!.sequence = 0.8 * 2 ** 32;
    a.protect([udpPacket(new Uint8Array(4))]);
    expect(a.engine.drain()).toMatchObject([{ kind: 'expire', hard: false }]);
    sa!.sequence = 2 ** 32 - 2;
    const [last] = a.protect([udpPacket(new Uint8Array(4))]);
    expect([...last!.bytes.slice(4, 8)]).toEqual([255, 255, 255, 255]);
    expect(a.protect([udpPacket(new Uint8Array(4))])).toEqual([]);
    expect(a.engine.drain()).toMatchObject([{ kind: 'expire', hard: true }, { kind: 'acquire' }]);
  });

  test('extended sequence numbers go over 2^32, also for a receiver that missed some (RFC 4303 appendix A)', () => {
    const { a, b } = pair(saOf({ extendedSequence: true }));
    const [sender] = [...a.engine.core.sad.all];
    const [receiver] = [...b.engine.core.sad.all];
    sender!.sequence = 2 ** 32 - 3;
    receiver!.window.accept(2 ** 32 - 20);
    const wires = [1, 2, 3, 4, 5].flatMap(() => a.protect([udpPacket(new Uint8Array(4))]));
    for (const i of [3, 0, 1, 4, 2]) expect(b.unprotect([wires[i]!], INPUT.udp)).toHaveLength(1);
    expect(receiver!.window.top).toBe(2 ** 32 + 2);
    b.unprotect([wires[0]!], INPUT.udp);
    expect(b.drop(0)).toBe('replayed');
  });
});

function ecnOf(packet: Uint8Array): number {
  return packet[0]! >> 4 === 4 ? packet[1]! & 3 : (packet[1]! >> 4) & 3;
}
