import { describe, expect, test } from 'vitest';
import { cat } from '../../../src/bytes/bytes.ts';
import { INPUT } from '../../../src/datapath/slots.ts';
import { ip, ipPacket, NOW, type Node, pair, rawIpv4, saOf, seeded, tcpPacket, udpPacket, type Wire } from './pair.ts';

/** Seals any payload under any next header, which no engine would send. */
function sealed(a: Node, payload: Uint8Array, nextHeader: number): Wire {
  const { esp, sad, outputs } = a.engine.core;
  const [sa] = [...sad.all];
  a.arena.set(payload, esp.payloadAt(sa!, outputs.start));
  const length = esp.seal(sa!, outputs.start, payload.length, nextHeader);
  return { bytes: a.arena.slice(outputs.start, outputs.start + length), path: 0, trafficClass: 0 };
}

describe('tunnel mode', () => {
  test('TFC padding is cut off by the inner length, dummy packets are thrown away (RFC 4303 §2.6, §2.7)', () => {
    const { a, b } = pair();
    const inner = udpPacket(new Uint8Array(50));
    expect(b.unprotect([sealed(a, cat(inner, seeded(1)(300)), 4)], INPUT.udp)[0]!.packet).toEqual(inner);
    expect(b.unprotect([sealed(a, seeded(1)(100), 59)], INPUT.udp)).toEqual([]);
    expect(b.engine.drops.toJSON()).toEqual({ dummy: 1 });
  });

  test('what is no packet of the family announced is dropped by name', () => {
    const { a, b } = pair();
    const inner = udpPacket(new Uint8Array(50));
    const cases = [
      [inner, 6, 'badNextHeader'],
      [inner, 41, 'badInner'],
      [inner.slice(0, 40), 4, 'badInner'],
      [new Uint8Array(0), 4, 'badInner'],
    ] as const;
    for (const [payload, nextHeader, reason] of cases) {
      expect(b.unprotect([sealed(a, payload, nextHeader)], INPUT.udp)).toEqual([]);
      expect(b.drop(0)).toBe(reason);
    }
  });

  test('fragments go through', () => {
    const { a, b } = pair();
    const fragment = udpPacket(new Uint8Array(50));
    fragment[6] = 0x20;
    expect(b.unprotect(a.protect([fragment]), INPUT.udp)[0]!.packet).toEqual(fragment);
  });

  test('a packet is taken once; a late one inside the window too, an older one not', () => {
    const { a, b } = pair();
    const wires = Array.from({ length: 100 }, (_, n) => a.protect([udpPacket(Uint8Array.of(n))])[0]!);
    const arrives = (n: number) => b.unprotect([wires[n]!], INPUT.udp).length === 1 || b.drop(0);
    expect([0, 0, 99, 99, 40, 40, 36, 35, 1].map(arrives)).toEqual([
      true,
      'replayed',
      true,
      'replayed',
      true,
      'replayed',
      true,
      'replayed',
      'replayed',
    ]);
  });
});

describe('transport mode', () => {
  const HOSTS = { source: '192.0.2.1', destination: '192.0.2.2' };
  const HOSTS6 = { source: '2001:db8::1', destination: '2001:db8::2' };
  const SA6 = { mode: 'transport', source: ip(HOSTS6.source), destination: ip(HOSTS6.destination) } as const;

  test('the outer header of a raw IPv4 packet gives the traffic class', () => {
    const sa = saOf({ mode: 'transport' });
    const { a, b } = pair(sa);
    const inner = udpPacket(new Uint8Array(5), { ...HOSTS, trafficClass: 0xb8, id: 0 });
    const wires = a.protect([inner]).map((wire) => ({ ...wire, bytes: rawIpv4(wire.bytes, sa, wire.trafficClass) }));
    expect(b.unprotect(wires, INPUT.rawWithHeader)[0]!.packet).toEqual(inner);
  });

  test('options and extension headers in front of ESP cannot be carried; destination options travel inside', () => {
    const v4 = pair(saOf({ mode: 'transport' })).a;
    const plain = udpPacket(new Uint8Array(5), HOSTS);
    const rich = cat(plain.slice(0, 20), Uint8Array.of(1, 1, 1, 0), plain.slice(20));
    rich[0] = 0x46;
    rich[3] = rich.length;
    v4.protect([rich]);
    expect(v4.drop(0)).toBe('notForTransport');
    const { a, b } = pair(saOf(SA6));
    const options = (next: number) =>
      cat(Uint8Array.of(next, 0, 1, 4, 0, 0, 0, 0), udpPacket(new Uint8Array(3), HOSTS6).slice(40));
    a.protect([ipPacket(0, options(17), HOSTS6)]);
    expect(a.drop(0)).toBe('notForTransport');
    const inner = ipPacket(60, options(17), HOSTS6);
    expect(b.unprotect(a.protect([inner]), INPUT.raw)[0]!.packet).toEqual(inner);
  });

  test('behind a NAT the checksum is made right for the addresses seen here (RFC 3948 §3.1.2)', () => {
    const ends = (source: string) => ({
      source: ip(source),
      encapsulation: { source: { address: ip(source), port: 4500 }, destination: { address: ip('192.0.2.2'), port: 4500 } },
    });
    const a = pair(saOf({ mode: 'transport', ...ends('10.0.0.5') })).a;
    const b = pair(saOf({ mode: 'transport', ...ends('192.0.2.1') })).b;
    for (const make of [tcpPacket.bind(undefined, 7, seeded(3)(60)), udpPacket.bind(undefined, seeded(3)(60))]) {
      const sent = make({ source: '10.0.0.5', destination: '192.0.2.2', id: 0 });
      expect(b.unprotect(a.protect([sent]), INPUT.udp)[0]!.packet).toEqual(make({ ...HOSTS, id: 0 }));
    }
  });

  test('a packet between other hosts asks for an SA of its own', () => {
    const { a } = pair(saOf({ mode: 'transport' }));
    expect(a.protect([udpPacket(new Uint8Array(5), { ...HOSTS, destination: '192.0.2.3' })])).toEqual([]);
    expect(a.engine.drain()).toMatchObject([{ kind: 'acquire', trigger: { protocol: 17, destinationPort: 2000 } }]);
  });
});

describe('the outside', () => {
  test('fragments, short packets, unknown SPIs and other destinations are dropped by name', () => {
    const sa = saOf();
    const { a, b } = pair(sa);
    const [wire] = a.protect([udpPacket(new Uint8Array(5))]) as [Wire];
    const raw = (bytes: Uint8Array, reason: string) => {
      expect(b.unprotect([{ ...wire, bytes }], INPUT.rawWithHeader)).toEqual([]);
      expect(b.drop(0)).toBe(reason);
    };
    const fragment = rawIpv4(wire.bytes, sa);
    fragment[6] = 0x20;
    raw(fragment, 'outerFragment');
    raw(rawIpv4(wire.bytes.slice(0, 11), sa), 'truncated');
    raw(rawIpv4(wire.bytes.slice(0, 30), sa), 'truncated');
    raw(rawIpv4(wire.bytes, { ...sa, destination: ip('192.0.2.9') }), 'noSa');
    raw(rawIpv4(Uint8Array.of(1, ...wire.bytes.slice(1)), sa), 'noSa');
    raw(new Uint8Array(10), 'malformed');
    expect(b.unprotect([{ ...wire, bytes: rawIpv4(wire.bytes, sa) }], INPUT.rawWithHeader)).toHaveLength(1);
  });

  test('two peers may have given the same SPI: the destination tells them apart', () => {
    const { a, b } = pair();
    b.engine.addSa(
      saOf({ destination: ip('192.0.2.77'), suite: { encr: 'aes_gcm_16', keyBits: 256, integ: 'none' } }),
      NOW,
      'inbound',
    );
    const sa = saOf();
    const wires = a.protect([udpPacket(new Uint8Array(5))]).map((wire) => ({ ...wire, bytes: rawIpv4(wire.bytes, sa) }));
    expect(b.unprotect(wires, INPUT.rawWithHeader)).toHaveLength(1);
  });
});
