/** Padding that hides how long the packets of a tunnel are (RFC 4303 §2.7). */

import { describe, expect, test } from 'vitest';
import { INPUT } from '../../../src/datapath/slots.ts';
import { addToSa, saToAdd } from '../../../src/pfkey/convert.ts';
import { ip, pair, rawIpv4, SUITES, saOf, seeded, tcpPacket, udpPacket, type Wire } from './pair.ts';

const V6 = { source: 'fd00:1::1', destination: 'fd00:2::2' };
const raw = (wires: readonly Wire[], sa: ReturnType<typeof saOf>) =>
  wires.map((wire) => ({ ...wire, bytes: rawIpv4(wire.bytes, sa) }));

describe('TFC padding', () => {
  test.each(SUITES)('$encr $integ: every shorter packet is as long on the wire, and arrives as it was', (suite) => {
    const sa = saOf({ suite, tfcPadding: 700 });
    const { a, b } = pair(sa);
    const random = seeded(5);
    const inners = [0, 1, 2, 3, 100, 671].map((length) => udpPacket(random(length)));
    inners.push(udpPacket(random(10), V6));
    const wires = a.protect(inners);
    expect(new Set(wires.map(({ bytes }) => bytes.length)).size).toBe(1);
    const plain = pair(saOf({ suite })).a.protect([udpPacket(random(672))]);
    expect(wires[0]!.bytes.length).toBe(plain[0]!.bytes.length);
    expect(b.unprotect(raw(wires, sa), INPUT.rawWithHeader).map(({ packet }) => packet)).toEqual(inners);
    expect(b.engine.drops.toJSON()).toEqual({});
  });

  test('a longer packet is not padded, nor anything in transport mode, where nothing tells the receiver', () => {
    const long = udpPacket(new Uint8Array(900));
    const bare = pair(saOf()).a.protect([long])[0]!.bytes.length;
    expect(pair(saOf({ tfcPadding: 700 })).a.protect([long])[0]!.bytes.length).toBe(bare);
    const hosts = { source: '192.0.2.1', destination: '192.0.2.2' };
    const short = udpPacket(new Uint8Array(9), hosts);
    const lengths = [undefined, 700].map(
      (tfcPadding) => pair(saOf({ mode: 'transport', tfcPadding })).a.protect([short])[0]!.bytes.length,
    );
    expect(lengths[0]).toBe(lengths[1]);
  });

  test('what lies behind the packet in memory does not leave with it', () => {
    const sa = saOf({ suite: { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha2_256' }, tfcPadding: 300 });
    const { a } = pair(sa);
    a.protect([udpPacket(new Uint8Array(1200).fill(0xaa))]);
    const inner = udpPacket(new Uint8Array(5).fill(0xbb));
    const [wire] = a.protect([inner]);
    expect(wire!.bytes.subarray(8 + inner.length, 8 + 300).every((octet) => octet === 0)).toBe(true);
  });

  test('segments of a burst are padded each, and joined again', () => {
    const sa = saOf({ tfcPadding: 1000 });
    const { a, b } = pair(sa);
    const burst = tcpPacket(1, seeded(3)(1500));
    const header = Uint8Array.of(1, 1, 52, 0, 0xf4, 1, 20, 0, 16, 0);
    const wires = a.protectFrame(header, burst);
    expect(new Set(wires.map(({ bytes }) => bytes.length)).size).toBe(1);
    expect(wires.length).toBe(3);
    const frames = b.unprotect(raw(wires, sa), INPUT.rawWithHeader);
    expect(frames.map(({ packet }) => packet.slice(52))).toEqual([burst.slice(52)]);
  });

  test('there is room for the longest, whatever fills the outputs', () => {
    const sa = saOf({ tfcPadding: 9000, source: ip('2001:db8::1'), destination: ip('2001:db8::2') });
    const { a, b } = pair(sa);
    const inners = Array.from({ length: 8 }, (_, i) => udpPacket(new Uint8Array(i)));
    const wires = a.protect(inners);
    expect(b.unprotect(wires, INPUT.raw).map(({ packet }) => packet)).toEqual(inners);
  });

  test('goes through PF_KEY, and no further than 9000 octets', () => {
    expect(addToSa(saToAdd(saOf({ tfcPadding: 1200 }))).tfcPadding).toBe(1200);
    expect(addToSa(saToAdd(saOf())).tfcPadding).toBeUndefined();
    expect(() => addToSa(saToAdd(saOf({ tfcPadding: 70_000 })))).toThrow('up to 9000 octets, not 70000');
  });
});
