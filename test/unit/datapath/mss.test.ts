import { expect, test } from 'vitest';
import { cat, u16be } from '../../../src/bytes/bytes.ts';
import { Mss } from '../../../src/datapath/mss.ts';
import { Checksum } from '../../../src/net/checksum.ts';
import { IpPacket } from '../../../src/net/ip-packet.ts';
import { ipPacket, pseudoHeader, seeded, slowSum, tcpPacket, udpPacket } from './pair.ts';

const SYN = 0x02;
const ACK = 0x10;

/** A TCP segment with these options, its checksum right. */
function segment(flags: number, options: readonly number[], v6 = false, payload = new Uint8Array()): Uint8Array {
  const padded = [...options, ...new Array((4 - (options.length % 4)) % 4).fill(1)];
  const tcp = cat(
    tcpPacket(7, new Uint8Array()).slice(20, 32),
    Uint8Array.of(((20 + padded.length) / 4) << 4, flags, 2, 0, 0, 0, 0, 0),
    Uint8Array.from(padded),
    payload,
  );
  return ipPacket(6, tcp, v6 ? { source: 'fd00::1', destination: 'fd00::2' } : {}, 16);
}

/** What becomes of a packet that lies at an odd or even place. */
function clamped(packet: Uint8Array, longest: number): Uint8Array {
  const arena = new Uint8Array(packet.length + 64);
  arena.set(packet, 8);
  const view = new IpPacket(arena);
  expect(view.read(8, packet.length)).toBe(true);
  new Mss(arena, new Checksum(arena)).clamp(view, longest);
  return arena.slice(8, 8 + packet.length);
}

const mss = (value: number) => [2, 4, value >> 8, value & 0xff];
const header = (packet: Uint8Array) => (packet[0]! >> 4 === 4 ? 20 : 40);
const sumOf = (packet: Uint8Array) =>
  slowSum(pseudoHeader(packet, 6, packet.length - header(packet)), packet.slice(header(packet)));

test.each([false, true])('the MSS of SYN and SYN-ACK becomes what fits, wherever the option is; IPv6: %s', (v6) => {
  const most = 1200 - (v6 ? 60 : 40);
  for (const flags of [SYN, SYN | ACK])
    for (const before of [[], [1], [1, 1], [3, 3, 7], [4, 2, 1]])
      for (const payload of [new Uint8Array(), Uint8Array.of(1, 2, 3)]) {
        const result = clamped(segment(flags, [...before, ...mss(1460)], v6, payload), 1200);
        expect(result).toEqual(segment(flags, [...before, ...mss(most)], v6, payload));
        expect(sumOf(result)).toBe(0xffff);
      }
});

test('what is small enough, is no SYN, has no such option, or is no TCP stays as it is', () => {
  for (const packet of [
    segment(SYN, mss(1160)),
    segment(SYN, mss(500)),
    segment(ACK, mss(1460)),
    segment(SYN, []),
    segment(SYN, [0, ...mss(1460)]),
    segment(SYN, [3, 0, ...mss(1460)]),
    segment(SYN, [2, 3, 5, 180]),
    segment(SYN, [1, 1, 1, 2]),
    udpPacket(new Uint8Array(40)),
    cat(segment(SYN, mss(1460)).slice(0, 2), u16be(30), segment(SYN, mss(1460)).slice(4, 30)),
  ])
    expect(clamped(packet, 1200)).toEqual(packet);
});

test('no path makes a host send less than 536 octets', () => {
  expect(clamped(segment(SYN, mss(1460)), 100)).toEqual(segment(SYN, mss(536)));
});

test('any octets as options change nothing but an MSS, and the checksum stays right', () => {
  const random = seeded(5);
  for (let i = 0; i < 500; i++) {
    const packet = segment(SYN, [...random(4 * (1 + (i % 10)))]);
    const result = clamped(packet, 1200);
    expect(sumOf(result)).toBe(0xffff);
    expect(result.length).toBe(packet.length);
  }
});
