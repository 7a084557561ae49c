import { describe, expect, test } from 'vitest';
import { cat, u16be } from '../../../src/bytes/bytes.ts';
import { explainOutbound } from '../../../src/datapath/explain.ts';
import { longestInner } from '../../../src/datapath/pmtu.ts';
import { GSO, INPUT } from '../../../src/datapath/slots.ts';
import type { SaParameters } from '../../../src/ipsec/sa.ts';
import { selectorOf } from '../../../src/ipsec/selector.ts';
import { bitsOf } from '../../../src/net/prefix.ts';
import { ip, ipPacket, NOW, type Node, pair, rawIpv4, saOf, seeded, slowSum, tcpPacket, udpPacket, type Wire } from './pair.ts';

type Family = 4 | 6;
const INNER = {
  4: { source: '10.1.0.1', destination: '10.2.0.2' },
  6: { source: '2001:db8:1::1', destination: '2001:db8:2::2' },
} as const;
const OUTER = {
  4: { source: '192.0.2.1', destination: '192.0.2.2' },
  6: { source: '2001:db8::1', destination: '2001:db8::2' },
} as const;
/** What ESP in AES-GCM puts before and behind the payload: header and IV; at least the trailer and the ICV. */
const PAYLOAD_AT = 16;
const NULL_SUITE = { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha2_256' } as const;

function beet(inner: Family, outer: Family, changes: Partial<SaParameters> = {}): SaParameters {
  const host = (text: string) => [selectorOf({ address: ip(text), length: bitsOf(inner) })];
  const { source, destination } = OUTER[outer];
  return saOf({
    mode: 'beet',
    source: ip(source),
    destination: ip(destination),
    selectors: { source: host(INNER[inner].source), destination: host(INNER[inner].destination) },
    ...changes,
  });
}

/** The same with IPv4 options, NOPs that end with an end of options. */
function withOptions(packet: Uint8Array, octets: number): Uint8Array {
  const options = new Uint8Array(octets).fill(1);
  options[octets - 1] = 0;
  const rich = cat(packet.slice(0, 20), options, packet.slice(20));
  rich[0] = 0x40 + (20 + octets) / 4;
  rich.set(u16be(rich.length), 2);
  rich.set([0, 0], 10);
  rich.set(u16be(~slowSum(rich.slice(0, 20 + octets)) & 0xffff), 10);
  return rich;
}

/** The payload of ESP without encryption: what is between the header, and padding, trailer and ICV. */
function payloadOf({ bytes }: Wire): { nextHeader: number; payload: Uint8Array } {
  const trailer = bytes.length - 16 - 2;
  return { nextHeader: bytes[trailer + 1]!, payload: bytes.slice(8, trailer - bytes[trailer]!) };
}

/** Seals any payload, which no engine would send. */
function sealed({ engine, arena }: Node, payload: Uint8Array, nextHeader: number): Wire {
  const { esp, sad, outputs } = engine.core;
  const [sa] = [...sad.all];
  arena.set(payload, esp.payloadAt(sa!, outputs.start));
  const length = esp.seal(sa!, outputs.start, payload.length, nextHeader);
  return { bytes: arena.slice(outputs.start, outputs.start + length), path: 0, trafficClass: 0 };
}

describe('BEET mode', () => {
  for (const inner of [4, 6] as const)
    for (const outer of [4, 6] as const)
      test(`IPv${inner} in ESP over IPv${outer}: what is behind the IP header, and no more`, () => {
        const { a, b } = pair(beet(inner, outer, { suite: NULL_SUITE }));
        const sent = udpPacket(seeded(1)(100), { ...INNER[inner], id: 0, trafficClass: 0xb9 });
        const [wire] = a.protect([sent]) as [Wire];
        expect(wire.trafficClass).toBe(0xb9);
        expect(payloadOf(wire)).toEqual({ nextHeader: 17, payload: sent.slice(inner === 4 ? 20 : 40) });
        expect(b.unprotect([wire], INPUT.udp).map(({ packet }) => packet)).toEqual([sent]);
        const raw = outer === 4 ? rawIpv4(a.protect([sent])[0]!.bytes, beet(inner, outer), 0xb9) : a.protect([sent])[0]!.bytes;
        const got = b.unprotect([{ ...wire, bytes: raw }], outer === 4 ? INPUT.rawWithHeader : INPUT.raw);
        expect(got.map(({ packet }) => packet)).toEqual([sent]);
        expect(b.engine.drops.toJSON()).toEqual({});
      });

  test.each([4, 8, 12, 20, 36, 40])('%i octets of IPv4 options go behind a pseudo header of protocol 94', (octets) => {
    const { a, b } = pair(beet(4, 6, { suite: NULL_SUITE }));
    const sent = withOptions(udpPacket(seeded(2)(30), { ...INNER[4], id: 0 }), octets);
    const [wire] = a.protect([sent]) as [Wire];
    const padding = octets % 8 === 0 ? Uint8Array.of(1, 1, 1, 1) : new Uint8Array(0);
    const pseudo = cat(Uint8Array.of(17, Math.floor(octets / 8), padding.length, 0), padding);
    const { nextHeader, payload } = payloadOf(wire);
    expect(nextHeader).toBe(94);
    expect(payload).toEqual(cat(pseudo, sent.slice(20)));
    // RFC 8200's unit: eight octets, the first of them not counted.
    expect(pseudo.length + octets).toBe(8 + 8 * payload[1]!);
    expect(b.unprotect([wire], INPUT.udp)[0]!.packet).toEqual(sent);
  });

  test('extension headers of IPv6 go inside', () => {
    const { a, b } = pair(beet(6, 4, { suite: NULL_SUITE }));
    const udp = udpPacket(new Uint8Array(3), INNER[6]).slice(40);
    const sent = ipPacket(0, cat(Uint8Array.of(60, 0, 1, 4, 0, 0, 0, 0), Uint8Array.of(17, 0, 1, 4, 0, 0, 0, 0), udp), INNER[6]);
    const [wire] = a.protect([sent]) as [Wire];
    expect(payloadOf(wire)).toEqual({ nextHeader: 0, payload: sent.slice(40) });
    expect(b.unprotect([wire], INPUT.udp)[0]!.packet).toEqual(sent);
  });

  test('a frame of TCP is cut into segments, with options too', () => {
    const { a, b } = pair(beet(4, 6));
    const plain = tcpPacket(1000, seeded(3)(3000), { ...INNER[4], id: 0 });
    for (const frame of [plain, withOptions(plain, 8)]) {
      const header = new Uint8Array(10);
      const headerBytes = frame.length - 3000;
      header.set([1, GSO.tcp4, headerBytes & 0xff, 0, 1200 & 0xff, 1200 >> 8, headerBytes - 32, 0, 16, 0]);
      const wires = a.protectFrame(header, frame);
      expect(wires).toHaveLength(3);
      const got = b.unprotect(wires, INPUT.udp);
      const stream = cat(...got.map(({ packet }) => packet.slice(headerBytes)));
      expect(stream).toEqual(frame.slice(headerBytes));
      for (const { packet } of got) expect(packet.slice(12, headerBytes - 32)).toEqual(frame.slice(12, headerBytes - 32));
    }
    expect(a.engine.drops.toJSON()).toEqual({});
    expect(b.engine.drops.toJSON()).toEqual({});
  });

  test('a packet between other addresses asks for an SA of its own', () => {
    const { a } = pair(beet(4, 4));
    expect(a.protect([udpPacket(new Uint8Array(5), { ...INNER[4], source: '10.1.0.9' })])).toEqual([]);
    expect(a.engine.drain()).toMatchObject([{ kind: 'acquire' }]);
  });

  test('fragments become whole packets first, which is all that it carries', () => {
    const { a, b } = pair(beet(4, 4));
    const whole = udpPacket(seeded(4)(100), { ...INNER[4], dontFragment: false });
    const piece = (from: number, to: number, more: boolean) => {
      const part = ipPacket(17, whole.slice(20 + from, 20 + to), { ...INNER[4] });
      part.set(u16be((more ? 0x2000 : 0) + from / 8), 6);
      part.set([0, 0], 10);
      part.set(u16be(~slowSum(part.slice(0, 20)) & 0xffff), 10);
      return part;
    };
    const first = piece(0, 64, true);
    expect(explainOutbound(a.engine.core, first).fate).toBe('waits');
    expect(a.protect([first])).toEqual([]);
    const got = b.unprotect(a.protect([piece(64, 108, false)]), INPUT.udp);
    expect(got[0]!.packet.slice(20)).toEqual(whole.slice(20));
  });

  test('a payload that makes no packet is dropped by name', () => {
    const { a, b } = pair(beet(4, 4));
    const cases: [Uint8Array, number][] = [
      [Uint8Array.of(17, 0, 0), 94],
      [Uint8Array.of(17, 0, 0, 0, 1, 1, 1), 94],
      [cat(Uint8Array.of(17, 0, 5, 0), new Uint8Array(20)), 94],
      [cat(Uint8Array.of(17, 0, 1, 0), new Uint8Array(20)), 94],
      [cat(Uint8Array.of(17, 5, 0, 0), new Uint8Array(60)), 94],
      [cat(Uint8Array.of(17, 4, 4, 0), new Uint8Array(30)), 94],
      [cat(Uint8Array.of(17, 255, 255, 0), new Uint8Array(600)), 94],
    ];
    for (const [payload, nextHeader] of cases) {
      expect(b.unprotect([sealed(a, payload, nextHeader)], INPUT.udp)).toEqual([]);
      expect(b.drop(0)).toBe('badInner');
    }
    expect(b.unprotect([sealed(a, seeded(1)(9), 59)], INPUT.udp)).toEqual([]);
    expect(b.drop(0)).toBe('dummy');
  });

  test('the longest packet that fits is sent in one piece, with options as well', () => {
    for (const inner of [4, 6] as const)
      for (const outer of [4, 6] as const) {
        const { a } = pair(beet(inner, outer));
        const [sa] = [...a.engine.core.sad.all];
        const longest = longestInner(sa!, 1400);
        const headers = inner === 4 ? 28 : 48;
        const plain = udpPacket(new Uint8Array(longest - headers), INNER[inner]);
        const rich = inner === 4 ? [withOptions(udpPacket(new Uint8Array(longest - headers - 40), INNER[4]), 40)] : [];
        for (const packet of [plain, ...rich]) {
          const [wire] = a.protect([packet]) as [Wire];
          expect(wire.bytes.length + (outer === 4 ? 20 : 40)).toBeLessThanOrEqual(1400);
          expect(wire.bytes.length).toBeGreaterThan(1400 - 40 - PAYLOAD_AT);
        }
      }
  });

  test('an SA without inner addresses is none', () => {
    const { a } = pair(beet(4, 4));
    expect(() => a.engine.addSa(saOf({ mode: 'beet', spi: 7 }), NOW)).toThrow('without inner addresses');
  });
});
