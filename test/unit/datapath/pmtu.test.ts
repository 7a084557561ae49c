import { describe, expect, test } from 'vitest';
import { cat, u16be, u32be } from '../../../src/bytes/bytes.ts';
import { PMTU_LIFETIME } from '../../../src/datapath/pmtu.ts';
import { NO_LIMIT } from '../../../src/datapath/sa.ts';
import { INPUT, VNET_HDR_BYTES } from '../../../src/datapath/slots.ts';
import type { SaParameters } from '../../../src/ipsec/sa.ts';
import {
  at,
  ip,
  ipPacket,
  NOW,
  type Node,
  type PacketOptions,
  pair,
  pseudoHeader,
  saOf,
  seeded,
  slowSum,
  tcpPacket,
  udpPacket,
  type Wire,
} from './pair.ts';

const random = seeded(31);
const PORT = 4500;
const ends = (source: string, destination: string) => ({ source: ip(source), destination: ip(destination) });
const encapsulated = (sa: SaParameters): SaParameters => ({
  ...sa,
  encapsulation: { source: { address: sa.source, port: PORT }, destination: { address: sa.destination, port: PORT } },
});
const V4 = saOf(ends('192.0.2.1', '192.0.2.2'));
const V6 = saOf(ends('2001:db8::1', '2001:db8::2'));
const OUTERS: readonly (readonly [string, SaParameters])[] = [
  ['IPv4, protocol 50', V4],
  ['IPv4, in UDP', encapsulated(V4)],
  ['IPv6, protocol 50', V6],
  ['IPv6, in UDP', encapsulated(V6)],
];

/** The outer packet that the kernel makes of ESP. */
function outerPacket(sa: SaParameters, esp: Uint8Array, sequence?: number): Uint8Array {
  const bytes = esp.slice();
  if (sequence !== undefined) bytes.set(u32be(sequence), 4);
  const udp = cat(u16be(PORT), u16be(PORT), u16be(8 + bytes.length), u16be(0));
  const options: PacketOptions = { source: `${sa.source}`, destination: `${sa.destination}` };
  return sa.encapsulation === undefined ? ipPacket(50, bytes, options) : ipPacket(17, cat(udp, bytes), options);
}

/** What a router says that has a link of `mtu`; `quotes`: how much of the packet it shows. */
function tooBig(about: Uint8Array, mtu: number, quotes = 548): Uint8Array {
  const v4 = about[0]! >> 4 === 4;
  const quoted = about.slice(0, quotes);
  if (!v4) return cat(Uint8Array.of(2, 0, 0, 0), u32be(mtu), quoted);
  const icmp = cat(Uint8Array.of(3, 4, 0, 0), u16be(0), u16be(mtu), quoted);
  icmp.set(u16be(~slowSum(icmp) & 0xffff), 2);
  return ipPacket(1, icmp, { source: '198.51.100.7', destination: '192.0.2.1' });
}

function hear(node: Node, message: Uint8Array, now = NOW): string {
  node.arena.set(message, node.engine.inputs.buffer[0]!);
  node.engine.inputs.takePacket(0, message[0] === 2 ? INPUT.icmpv6 : INPUT.icmp, message.length);
  node.engine.icmpError(0, now);
  return node.drop(0);
}

const longestOf = (node: Node) => [...node.engine.core.sad.all][0]!.longest;
const inner = (bytes: number, options: PacketOptions = {}) => udpPacket(random(bytes - 28), options);

describe.each(OUTERS)('what ICMP says of a path (RFC 4301 §8.2.1): %s', (_, sa) => {
  const sent = () => {
    const { a, b } = pair(sa);
    const wires = [a.protect([inner(1300)]), a.protect([inner(1300)])].flat() as Wire[];
    return { a, b, about: outerPacket(sa, wires[1]!.bytes) };
  };

  test('is believed where it quotes a packet of ours, and forgotten after ten minutes', () => {
    const { a, about } = sent();
    expect(longestOf(a)).toBe(NO_LIMIT);
    expect(hear(a, tooBig(about, 1300))).toBe('none');
    const longest = longestOf(a);
    // The longest packet that fits makes 1300 octets at most, and one more octet makes more.
    const outer = sa.source.family === 4 ? 20 : 40;
    const around = outer + (sa.encapsulation === undefined ? 0 : 8);
    const fits = a.protect([inner(longest)])[0]!.bytes.length + around;
    expect(fits).toBeLessThanOrEqual(1300);
    expect(fits).toBeGreaterThan(1296);
    expect(a.protect([inner(longest + 1)])).toEqual([]);
    expect(a.drop(0)).toBe('tooBig');
    expect(hear(a, tooBig(about, 1400))).toBe('forgedIcmp');
    expect(longestOf(a)).toBe(longest);
    expect(a.engine.wakeAt()).toBe(NOW.mono + PMTU_LIFETIME);
    a.engine.tick(at(PMTU_LIFETIME));
    expect(longestOf(a)).toBe(NO_LIMIT);
    expect(a.engine.wakeAt()).toBeUndefined();
  });

  test('holds for the SA that takes this one’s place', () => {
    const { a, about } = sent();
    hear(a, tooBig(about, 1300));
    const longest = longestOf(a);
    const [old] = [...a.engine.core.sad.all];
    a.engine.removeSa(old!);
    a.engine.addSa({ ...sa, spi: 0xc0ffee09, encrKey: saOf().encrKey }, NOW);
    expect(longestOf(a)).toBe(longest);
  });

  test('never makes a path smaller than the floor', () => {
    const { a, about } = sent();
    hear(a, tooBig(about, 300));
    const atFloor = longestOf(a);
    const fresh = sent();
    hear(fresh.a, tooBig(fresh.about, 1280));
    expect(atFloor).toBe(longestOf(fresh.a));
    // A path that carries less than may be believed gets packets without DF (RFC 4301 §8.1).
    const [wire] = a.protect([udpPacket(random(200), { dontFragment: true })]);
    expect(wire).toBeDefined();
    if (sa.source.family === 4) expect(a.engine.outputs.dontFragment[0]).toBe(0);
  });

  test('is not believed otherwise', () => {
    const { a, about } = sent();
    const esp = about.slice(about.length - a.protect([inner(1300)])[0]!.bytes.length);
    const otherSpi = esp.slice();
    otherSpi[0]! ^= 1;
    const elsewhere = { ...sa, destination: ip(sa.source.family === 4 ? '192.0.2.9' : '2001:db8::9') };
    const otherPort = about.slice();
    otherPort[(sa.source.family === 4 ? 20 : 40) + 3]! ^= 1;
    const flipped: SaParameters = sa.encapsulation === undefined ? encapsulated(sa) : { ...sa, encapsulation: undefined };
    const forgeries: readonly (readonly [string, Uint8Array])[] = [
      ['another SPI', outerPacket(sa, otherSpi)],
      ['a sequence number that is still to come', outerPacket(sa, esp, 4)],
      ['the sequence number 0, which is never sent', outerPacket(sa, esp, 0)],
      ['a sequence number of long ago', outerPacket(sa, esp, 0x8000_0000)],
      ['another destination', outerPacket(elsewhere, esp)],
      ['UDP where there is none, or none where there is', outerPacket(flipped, esp)],
      ...(sa.encapsulation === undefined ? [] : [['another port', otherPort] as const]),
      ['a packet that fits', outerPacket(sa, esp.slice(0, 200))],
    ];
    for (const [what, forged] of forgeries) expect([what, hear(a, tooBig(forged, 600))]).toEqual([what, 'forgedIcmp']);
    expect(hear(a, tooBig(about, 600, about.length - esp.length + 7))).toBe('forgedIcmp');
    expect(longestOf(a)).toBe(NO_LIMIT);
    expect(a.engine.drops.of('forgedIcmp')).toBe(forgeries.length + 1);
  });

  test('says nothing where it is cut off anywhere, or damaged', () => {
    const { a, about } = sent();
    const whole = tooBig(about, 1280);
    for (let length = 0; length < 56; length++) hear(a, whole.slice(0, length));
    expect(longestOf(a)).toBe(NO_LIMIT);
    if (sa.source.family === 6) return;
    const damaged = whole.slice();
    damaged[27]! ^= 1;
    expect(hear(a, damaged)).toBe('none');
    expect(longestOf(a)).toBe(NO_LIMIT);
  });
});

describe('a packet that is too long for its path', () => {
  const narrow = (sa: SaParameters = V4, mtu = 1280) => {
    const both = pair(sa);
    const wires = both.a.protect([inner(1300)]);
    both.b.unprotect(wires, INPUT.udp);
    hear(both.a, tooBig(outerPacket(sa, wires[0]!.bytes), mtu));
    return both;
  };

  test('is answered by "fragmentation needed", which says what fits (RFC 1191 §4)', () => {
    const { a } = narrow();
    const packet = inner(1400);
    expect(a.protect([packet])).toEqual([]);
    const [frame] = a.frames();
    expect(frame!.header).toEqual(new Uint8Array(VNET_HDR_BYTES));
    const { packet: error } = frame!;
    expect(error.length).toBe(576);
    expect([slowSum(error.slice(0, 20)), slowSum(error.slice(20))]).toEqual([0xffff, 0xffff]);
    expect([...error.slice(12, 20)]).toEqual([...packet.slice(16, 20), ...packet.slice(12, 16)]);
    expect([...error.slice(20, 22)]).toEqual([3, 4]);
    expect((error[26]! << 8) | error[27]!).toBe(longestOf(a));
    expect(error.slice(28)).toEqual(packet.slice(0, 548));
  });

  test('is answered by "packet too big" in IPv6, which never says less than 1280 (RFC 8200 §5)', () => {
    const { a } = narrow();
    const packet = udpPacket(random(1300), { source: 'fd00::1', destination: 'fd00::2' });
    expect(a.protect([packet])).toEqual([]);
    const { packet: error } = a.frames()[0]!;
    expect(error.length).toBe(1280);
    expect([...error.slice(40, 42)]).toEqual([2, 0]);
    expect((error[46]! << 8) | error[47]!).toBe(1280);
    expect(slowSum(pseudoHeader(error, 58, 1240), error.slice(40))).toBe(0xffff);
  });

  test('is not answered more often than a hundred times a second', () => {
    const { a } = narrow();
    let answers = 0;
    for (let i = 0; i < 300; i++) {
      a.protect([inner(1400)]);
      answers += a.frames().length;
    }
    expect(answers).toBe(50);
    a.protect([inner(1400)], at(10));
    expect(a.frames()).toHaveLength(1);
    expect(a.engine.drops.of('tooBig')).toBe(301);
  });

  test.each([
    ['an error', ipPacket(1, cat(Uint8Array.of(3, 1, 0, 0), random(1400)))],
    ['what was for many', inner(1400, { destination: '239.1.1.1' })],
    ['what nobody sent', inner(1400, { source: '0.0.0.0' })],
  ])('is not answered where it is %s (RFC 1122 §3.2.2)', (_, packet) => {
    const { a } = narrow();
    expect(a.protect([packet])).toEqual([]);
    expect(a.drop(0)).toBe('tooBig');
    expect(a.frames()).toEqual([]);
  });

  test('is cut before ESP where it may be, a fragment too (RFC 4301 §7, RFC 791 §3.2)', () => {
    const { a, b } = narrow();
    for (const bytes of [1300, 4000, 9000]) {
      const packet = inner(bytes, { dontFragment: false });
      const wires = a.protect([packet]);
      expect(wires.length).toBe(Math.ceil((bytes - 20) / ((longestOf(a) - 20) & -8)));
      const frames = b.unprotect(wires.slice(0, 8), INPUT.udp).map((frame) => frame.packet);
      expect(joined(frames)).toEqual(packet);
      const again = a.protect(frames.slice(0, 1).map((first) => cat(first.slice(0, 6), first.slice(6))));
      expect(again).toHaveLength(1);
    }
  });

  test('leaves whole and without DF where its SA is about ports, which fragments do not have', () => {
    const all = (startPort: number, endPort: number) => [
      { protocol: 17, start: ip('0.0.0.0'), end: ip('255.255.255.255'), startPort, endPort },
    ];
    const both = narrow({ ...V4, selectors: { source: all(1000, 1000), destination: all(0, 0xffff) } });
    const packet = inner(1400, { dontFragment: false });
    const wires = both.a.protect([packet]);
    expect(wires).toHaveLength(1);
    expect(both.a.engine.outputs.dontFragment[0]).toBe(0);
  });

  test.each([false, true])('in IPv6 of up to 1280 octets leaves in outer fragments (RFC 2473 §7.1); in UDP: %s', (inUdp) => {
    const sa = inUdp ? encapsulated(V6) : V6;
    const { a, b } = narrow(sa);
    const packet = udpPacket(random(1280 - 48), { source: 'fd00::1', destination: 'fd00::2' });
    expect(a.protect([packet])).toEqual([]);
    const fragments = a.clears();
    expect(fragments.map(({ length }) => length <= 1280)).toEqual([true, true]);
    const payload = cat(...fragments.map((fragment) => fragment.slice(48)));
    expect(fragments.map((fragment) => (fragment[42]! << 8) | fragment[43]!)).toEqual([1, fragments[0]!.length - 48]);
    if (inUdp) expect(slowSum(pseudoHeader(fragments[0]!, 17, payload.length), payload)).toBe(0xffff);
    const esp = inUdp ? payload.slice(8) : payload;
    const [frame] = b.unprotect([{ bytes: esp, path: 0, trafficClass: 0 }], inUdp ? INPUT.udp : INPUT.raw);
    expect(frame!.packet).toEqual(packet);
  });

  test('is cut smaller where it is a segment of a TCP frame, and nothing of the stream is lost', () => {
    const { a, b } = narrow();
    const data = random(20_000);
    const frame = tcpPacket(1, data);
    const header = Uint8Array.of(1, 1, 52, 0, 0x50, 0x05, 20, 0, 16, 0);
    const wires = a.protectFrame(header, frame);
    const around = 20;
    expect(Math.max(...wires.map(({ bytes }) => bytes.length + around))).toBeLessThanOrEqual(1280);
    expect(wires.length).toBe(Math.ceil(20_000 / (longestOf(a) - 52)));
    const received: Uint8Array[] = [];
    for (const wire of wires) {
      const [one] = b.unprotect([wire], INPUT.udp);
      expect(slowSum(pseudoHeader(one!.packet, 6, one!.packet.length - 20), one!.packet.slice(20))).toBe(0xffff);
      received.push(one!.packet.slice(52));
    }
    expect(cat(...received)).toEqual(data);
  });
});

/** IPv4 fragments in order, put together as RFC 791 has it. */
function joined(fragments: readonly Uint8Array[]): Uint8Array {
  let at = 0;
  for (const [index, fragment] of fragments.entries()) {
    const field = (fragment[6]! << 8) | fragment[7]!;
    expect([(field & 0x1fff) * 8, (field & 0x2000) !== 0]).toEqual([at, index < fragments.length - 1]);
    expect(slowSum(fragment.slice(0, 20))).toBe(0xffff);
    at += fragment.length - 20;
  }
  const whole = cat(fragments[0]!.slice(0, 20), ...fragments.map((fragment) => fragment.slice(20)));
  whole.set(u16be(whole.length), 2);
  whole.set([0, 0], 6);
  whole.set([0, 0], 10);
  whole.set(u16be(~slowSum(whole.slice(0, 20)) & 0xffff), 10);
  return whole;
}
