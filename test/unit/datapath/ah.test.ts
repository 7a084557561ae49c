/** AH in the engine: what it covers, what may change on the way, and what it refuses (RFC 4302, appendix A). */
import { describe, expect, test } from 'vitest';
import { cat, u16be, u32be } from '../../../src/bytes/bytes.ts';
import { macOf } from '../../../src/crypto/mac.ts';
import { INTEG, INTEG_NAMES, type IntegName } from '../../../src/crypto/transforms.ts';
import type { DatapathOptions } from '../../../src/datapath/datapath.ts';
import { GSO, INPUT } from '../../../src/datapath/slots.ts';
import type { Mode, SaParameters } from '../../../src/ipsec/sa.ts';
import { type Frame, ip, ipPacket, NOW, type Node, pair, saOf, seeded, slowSum, tcpPacket, udpPacket } from './pair.ts';

const HOSTS = {
  4: { source: '192.0.2.1', destination: '192.0.2.2' },
  6: { source: '2001:db8::1', destination: '2001:db8::2' },
} as const;

function ahSa(mode: Mode, family: 4 | 6, integ: IntegName = 'hmac_sha2_256', changes: Partial<SaParameters> = {}): SaParameters {
  const { source, destination } = HOSTS[family];
  const ends = { source: ip(source), destination: ip(destination) };
  return saOf({ protocol: 'ah', mode, ...ends, suite: { encr: 'null_enc', keyBits: 0, integ }, ...changes });
}

function ahPair(sa: SaParameters, options: Partial<DatapathOptions> = {}): { a: Node; b: Node } {
  return pair(sa, options);
}

/** A sends; what leaves is whole packets. */
function sealed(a: Node, ...packets: Uint8Array[]): Uint8Array[] {
  expect(a.protect(packets)).toEqual([]);
  return a.clears();
}

function opened(b: Node, ...packets: Uint8Array[]): Frame[] {
  return b.unprotect(
    packets.map((bytes) => ({ bytes, path: 0, trafficClass: 0 })),
    INPUT.ah,
  );
}

function ipv4Options(packet: Uint8Array, options: Uint8Array): Uint8Array {
  const bytes = cat(packet.slice(0, 20), options, packet.slice(20));
  bytes[0] = 0x45 + options.length / 4;
  bytes.set(u16be(bytes.length), 2);
  return withChecksum(bytes);
}

function withChecksum(packet: Uint8Array): Uint8Array {
  packet.set([0, 0], 10);
  packet.set(u16be(~slowSum(packet.slice(0, (packet[0]! & 15) * 4)) & 0xffff), 10);
  return packet;
}

/** An IPv6 packet with extension headers `[next header number, octets]` in front of its payload; their next header fields are filled in. */
function withHeaders(packet: Uint8Array, headers: readonly (readonly [number, readonly number[]])[]): Uint8Array {
  const parts = headers.map(([, octets], i) => {
    const bytes = Uint8Array.from(octets);
    bytes[0] = headers[i + 1]?.[0] ?? packet[6]!;
    return bytes;
  });
  const body = cat(...parts, packet.slice(40));
  const head = packet.slice(0, 40);
  head[6] = headers[0]![0];
  head.set(u16be(body.length), 4);
  return cat(head, body);
}

const hostPacket = (family: 4 | 6, octets = 60) => udpPacket(seeded(octets + 1)(octets), HOSTS[family]);

describe('round trips', () => {
  for (const integ of INTEG_NAMES) {
    for (const mode of ['transport', 'tunnel'] as const) {
      for (const family of [4, 6] as const) {
        for (const extendedSequence of [false, true]) {
          test(`${integ}, ${mode}, IPv${family}${extendedSequence ? ', ESN' : ''}`, () => {
            const { a, b } = ahPair(ahSa(mode, family, integ, { extendedSequence }));
            const inners =
              mode === 'transport'
                ? [hostPacket(family), hostPacket(family, 1), hostPacket(family, 1300)]
                : [udpPacket(seeded(2)(99)), udpPacket(seeded(3)(100), { source: 'fd00:1::1', destination: 'fd00:2::2' })];
            const wires = sealed(a, ...inners);
            expect(wires.length).toBe(inners.length);
            expect(opened(b, ...wires).map(({ packet }) => packet)).toEqual(inners);
            expect(b.engine.drops.toJSON()).toEqual({});
          });
        }
      }
    }
  }

  test('a TCP burst is cut before AH, and joined after it', () => {
    const { a, b } = ahPair(ahSa('transport', 4));
    const burst = tcpPacket(5000, seeded(9)(4000), HOSTS[4]);
    const header = Uint8Array.of(1, GSO.tcp4, 52, 0, 1000 & 255, 1000 >> 8, 20, 0, 16, 0);
    a.protectFrame(header, burst);
    const wires = a.clears();
    expect(wires.length).toBe(4);
    const frames = opened(b, ...wires);
    expect(frames.map(({ packet }) => packet.length)).toEqual([burst.length]);
    expect(frames[0]!.packet.slice(40)).toEqual(burst.slice(40));
  });
});

describe('what is on the wire', () => {
  test('header, length and ICV are those of RFC 4302 §2, written down here by hand', () => {
    const sa = ahSa('transport', 4);
    const key = sa.integKey!.reveal().slice();
    const inner = hostPacket(4);
    const [wire] = sealed(ahPair(sa).a, inner);
    expect(wire!.slice(20, 32)).toEqual(cat(Uint8Array.of(17, 5, 0, 0), u32be(sa.spi), u32be(1)));
    expect([wire![9], wire!.length]).toEqual([51, inner.length + 28]);
    const covered = wire!.slice();
    covered[1] = 0;
    covered.fill(0, 6, 9);
    covered.fill(0, 10, 12);
    covered.fill(0, 32, 48);
    expect(wire!.slice(32, 48)).toEqual(macOf('hmac_sha2_256', key)(covered));
    expect(slowSum(wire!.slice(0, 20))).toBe(0xffff);
  });

  test('in IPv6 the header is a multiple of eight octets, in IPv4 of four, or of eight for Linux (§2.6)', () => {
    const lengths = (family: 4 | 6, integ: IntegName, options: Partial<DatapathOptions> = {}) => {
      const inner = hostPacket(family);
      return sealed(ahPair(ahSa('transport', family, integ), options).a, inner)[0]!.length - inner.length;
    };
    expect(INTEG_NAMES.map((name) => lengths(4, name))).toEqual(INTEG_NAMES.map((name) => 12 + INTEG[name].icvBytes));
    expect(INTEG_NAMES.map((name) => lengths(6, name) % 8)).toEqual(INTEG_NAMES.map(() => 0));
    expect(lengths(4, 'hmac_sha2_256', { ahAlignment: 8 })).toBe(32);
    expect(lengths(4, 'hmac_sha1', { ahAlignment: 8 })).toBe(24);
  });

  test('either alignment is taken in IPv4, any other length is not', () => {
    for (const [ours, theirs] of [
      [4, 8],
      [8, 4],
    ] as const) {
      const { a } = ahPair(ahSa('transport', 4), { ahAlignment: ours });
      const { b } = ahPair(ahSa('transport', 4), { ahAlignment: theirs });
      const [wire] = sealed(a, hostPacket(4));
      expect(opened(b, wire!).length).toBe(1);
      for (const words of [0, 3, 4, 7, 8, 200, 255]) {
        const bent = wire!.slice();
        bent[21] = words;
        expect(opened(b, bent)).toEqual([]);
        expect(b.drop(0)).toBe('truncated');
      }
    }
  });

  test('an identification of 0, which a raw socket would replace, leaves with one', () => {
    const { a, b } = ahPair(ahSa('transport', 4));
    const [wire] = sealed(a, udpPacket(new Uint8Array(8), { ...HOSTS[4], id: 0 }));
    expect(wire!.slice(4, 6)).not.toEqual(Uint8Array.of(0, 0));
    expect(opened(b, wire!).length).toBe(1);
  });
});

describe('what may change on the way, and what may not', () => {
  test('IPv4: traffic class, flags, fragment offset, TTL and checksum may; every other octet may not', () => {
    const sa = ahSa('transport', 4);
    const { a, b } = ahPair(sa, { ahAlignment: 4 });
    const mutable = new Set([1, 6, 8, 10, 11]);
    const [wire] = sealed(a, hostPacket(4));
    for (let i = 0; i < wire!.length; i++) {
      const bent = wire!.slice();
      // Don't fragment is the one flag that does not make a fragment of it.
      bent[i]! ^= i === 6 ? 0x40 : 1;
      const frames = opened(b, bent);
      if (!mutable.has(i)) expect([i, frames]).toEqual([i, []]);
      else {
        expect([i, frames.length]).toEqual([i, 1]);
        b.engine.removeSa([...b.engine.core.sad.all][0]!);
        b.engine.addSa({ ...ahSa('transport', 4) }, NOW, 'inbound');
      }
    }
    expect(Object.keys(b.engine.drops.toJSON()).sort()).toEqual([
      'badIcv',
      'malformed',
      'noSa',
      'outerFragment',
      'replayed',
      'truncated',
    ]);
  });

  test('IPv6: traffic class, flow label and hop limit may', () => {
    const { a, b } = ahPair(ahSa('tunnel', 6));
    const [wire] = sealed(a, udpPacket(new Uint8Array(30)));
    const aged = wire!.slice();
    aged.set([0x60, 0x15, 0x55, 0x55], 0);
    aged[7] = 3;
    expect(opened(b, aged).length).toBe(1);
    const bent = wire!.slice();
    bent[23]! ^= 1;
    expect(opened(b, bent)).toEqual([]);
  });

  test('IPv4 options: those of appendix A1 are covered, others count as zero', () => {
    const security = [130, 11, 0xab, 0, 0, 0, 0, 0, 0, 0, 0];
    const alert = [148, 4, 0, 0];
    const record = [7, 7, 4, 0, 0, 0, 0];
    const stamp = [68, 8, 5, 0, 1, 2, 3, 4];
    const packet = ipv4Options(hostPacket(4), Uint8Array.from([...security, ...alert, 1, ...record, ...stamp, 0]));
    const fresh = () => ahPair(ahSa('transport', 4));
    const [wire] = sealed(fresh().a, packet);
    expect(opened(fresh().b, wire!).map((frame) => frame.packet)).toEqual([packet]);
    const offset = { security: 20 + 2, alert: 20 + 11 + 3, record: 20 + 16 + 4, stamp: 20 + 16 + 7 + 5 };
    const passes = Object.entries(offset).map(([name, at]) => {
      const bent = wire!.slice();
      bent[at]! ^= 0x55;
      return [name, opened(fresh().b, bent).length];
    });
    expect(passes).toEqual([
      ['security', 0],
      ['alert', 0],
      ['record', 1],
      ['stamp', 1],
    ]);
  });

  test('a source route ends where its last address says', () => {
    const route = Uint8Array.from([131, 11, 4, 198, 51, 100, 1, ...ip('192.0.2.2').bytes, 0]);
    const first = ipv4Options(udpPacket(new Uint8Array(9), { ...HOSTS[4], destination: '192.0.2.2' }), route);
    const { a, b } = ahPair(ahSa('transport', 4));
    const [wire] = sealed(a, first);
    // On arrival the route has been used up, and holds the addresses of the routers.
    const arrived = wire!.slice();
    arrived.set([12, 203, 0, 113, 1, 203, 0, 113, 2], 22);
    expect(opened(b, withChecksum(arrived)).length).toBe(1);
  });

  test('IPv6 options: the bit in their type says whether their data may change (RFC 8200 §4.2)', () => {
    const fresh = () => ahPair(ahSa('transport', 6));
    const packet = withHeaders(hostPacket(6), [
      [0, [0, 0, 0x05, 2, 0, 0, 1, 0]],
      [60, [0, 1, 0x3e, 4, 1, 2, 3, 4, 0x1e, 4, 1, 2, 3, 4, 0, 0]],
    ]);
    const [wire] = sealed(fresh().a, packet);
    expect(wire!.slice(64, 65)).toEqual(Uint8Array.of(17));
    expect(opened(fresh().b, wire!).map((frame) => frame.packet)).toEqual([packet]);
    const passes = [44, 52, 58].map((at) => {
      const bent = wire!.slice();
      bent[at]! ^= 0x55;
      return opened(fresh().b, bent).length;
    });
    expect(passes).toEqual([0, 1, 0]);
  });

  test('a routing header counts as it is when no segment is left (appendix A2)', () => {
    const hops = ['2001:db8:a::1', '2001:db8:a::2', '2001:db8::2'].map((text) => ip(text).bytes);
    const route = [0, 6, 0, 3, 0, 0, 0, 0, ...cat(...hops)];
    const start = withHeaders(udpPacket(new Uint8Array(20), { ...HOSTS[6] }), [[43, route]]);
    const { a, b } = ahPair(ahSa('transport', 6));
    const [wire] = sealed(a, start);
    // Each hop swaps the destination with the next address (RFC 2460 §4.4).
    const arrived = wire!.slice();
    const seen = [arrived.slice(24, 40), ...hops];
    for (let i = 0; i < 3; i++) arrived.set(seen[i]!, 48 + 16 * i);
    arrived.set(seen[3]!, 24);
    arrived[43] = 0;
    expect(opened(b, arrived).length).toBe(1);
  });

  test('a home address counts as the source, the care-of address stands in its place (RFC 6275 §6.3, §6.4)', () => {
    const home = ip('2001:db8:77::7').bytes;
    const option = [0, 2, 1, 2, 0, 0, 0xc9, 16, ...home];
    const sa = ahSa('transport', 6);
    const key = sa.integKey!.reveal().slice();
    const packet = withHeaders(hostPacket(6), [[60, option]]);
    const [wire] = sealed(ahPair(sa).a, packet);
    const covered = wire!.slice();
    covered.set(home, 8);
    covered.set(ip(HOSTS[6].source).bytes, 48);
    covered.fill(0, 76, 92);
    covered[7] = 0;
    expect(wire![64]).toBe(17);
    expect(wire!.slice(76, 92)).toEqual(macOf('hmac_sha2_256', key)(covered));
  });
});

describe('refusals', () => {
  test('a replay, and a number before the window', () => {
    const { a, b } = ahPair(ahSa('tunnel', 4));
    const [wire] = sealed(a, udpPacket(new Uint8Array(8)));
    expect(opened(b, wire!).length).toBe(1);
    expect(opened(b, wire!)).toEqual([]);
    expect(b.drop(0)).toBe('replayed');
  });

  test('an SA of AH opens no ESP, and one of ESP no AH, whatever their SPIs', () => {
    const ah = ahSa('tunnel', 4);
    const esp = saOf({ suite: ah.suite });
    const fromEsp = pair(esp).a.protect([udpPacket(new Uint8Array(8))])[0]!;
    const { b } = ahPair(ah);
    expect(b.unprotect([fromEsp], INPUT.udp)).toEqual([]);
    expect(b.drop(0)).toBe('noSa');
    const [fromAh] = sealed(ahPair(ahSa('tunnel', 4)).a, udpPacket(new Uint8Array(8)));
    const other = pair(saOf({ suite: ah.suite })).b;
    expect(opened(other, fromAh!)).toEqual([]);
    expect(other.drop(0)).toBe('noSa');
  });

  test('options that do not end, routes with more segments left than addresses', () => {
    const { a, b } = ahPair(ahSa('transport', 4));
    sealed(a, ipv4Options(hostPacket(4), Uint8Array.of(7, 9, 4, 0)));
    expect(a.drop(0)).toBe('notForTransport');
    const [wire] = sealed(a, ipv4Options(hostPacket(4), Uint8Array.of(7, 4, 4, 0)));
    wire![21] = 0;
    expect(opened(b, wire!)).toEqual([]);
    expect(b.drop(0)).toBe('malformed');
    const { a: six } = ahPair(ahSa('transport', 6));
    sealed(six, withHeaders(hostPacket(6), [[43, [0, 2, 0, 2, 0, 0, 0, 0, ...new Uint8Array(16)]]]));
    expect(six.drop(0)).toBe('notForTransport');
  });

  test('a fragment waits for its packet in transport mode, and is not opened', () => {
    const { a, b } = ahPair(ahSa('transport', 4));
    const fragment = hostPacket(4);
    fragment.set([0, 3], 6);
    sealed(a, fragment);
    expect([a.drop(0), a.engine.core.fragments.outbound.held]).toEqual(['none', 1]);
    opened(b, ipPacket(51, new Uint8Array(60)).fill(0x20, 6, 7));
    expect(b.drop(0)).toBe('outerFragment');
  });
});
