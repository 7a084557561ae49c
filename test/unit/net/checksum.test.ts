import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import wabt from 'wabt';
import { Checksum, fold, writeIpv4Checksum } from '../../../src/net/checksum.ts';
import { SIMD_CODE, simdMemory, simdSum } from '../../../src/net/checksum-simd.ts';
import { ipPacket, pseudoHeader, seeded, slowSum } from '../datapath/pair.ts';

/** The arena and a checksum over it, in JavaScript alone and with SIMD. */
const WAYS: readonly (readonly [string, (octets: Uint8Array) => Checksum])[] = [
  ['in JavaScript', (octets) => new Checksum(octets)],
  [
    'with SIMD',
    (octets) => {
      const memory = simdMemory(octets.length);
      const arena = new Uint8Array(memory.buffer);
      arena.set(octets);
      return new Checksum(arena, simdSum(memory));
    },
  ],
];

describe.each(WAYS)('the sum %s', (_, over) => {
  test('equals the one by the book at every alignment and length', () => {
    const arena = seeded(4)(70_000);
    const checksum = over(arena);
    const lengths = [...Array.from({ length: 140 }, (_, length) => length), 1348, 1349, 65_535];
    for (const at of [0, 1, 2, 3, 4, 5, 6, 7, 1001, 1002]) {
      for (const length of lengths)
        expect([at, length, checksum.sum(at, length)]).toEqual([at, length, slowSum(arena.slice(at, at + length))]);
    }
  });

  test('keeps the carries of the longest packet of ones, and tells zeros from ones', () => {
    const arena = new Uint8Array(65_540).fill(0xff);
    expect(over(arena).sum(2, 65_535)).toBe(slowSum(arena.slice(0, 65_535)));
    expect(over(arena).sum(0, 1348)).toBe(0xffff);
    expect(over(new Uint8Array(1348)).sum(0, 1348)).toBe(0);
    expect(fold(0x1fffe)).toBe(0xffff);
  });
});

test('what sums with SIMD is checksum.wat, assembled; and beyond the memory it reads nothing', async () => {
  const source = readFileSync(join(import.meta.dirname, '../../../src/net/checksum.wat'), 'utf8');
  const { buffer } = (await wabt()).parseWat('checksum.wat', source, { simd: true }).toBinary({});
  expect(Buffer.from(buffer).toString('base64')).toBe(SIMD_CODE);
  expect(() => simdSum(simdMemory(65_536))(65_500, 64)).toThrow(/out of bounds/);
});

test('the example of RFC 1071 §3', () => {
  const arena = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
  expect(new Checksum(arena).sum(0, 8)).toBe(0xddf2);
  expect(new Checksum(arena).of(0, 8)).toBe(0x220d);
});

test('pseudo-headers of both families', () => {
  for (const hosts of [{}, { source: 'fd00:1::1', destination: 'fd00:2::2' }]) {
    const packet = ipPacket(17, seeded(2)(31), hosts, 6);
    expect(new Checksum(packet).pseudo(0, 17, 31)).toBe(slowSum(pseudoHeader(packet, 17, 31)));
    const ipBytes = packet.length - 31;
    expect(new Checksum(packet).of(ipBytes, 31, new Checksum(packet).pseudo(0, 17, 31))).toBe(0);
  }
});

test('the IPv4 header checksum is written in place, options included', () => {
  const packet = Uint8Array.of(0x46, ...seeded(3)(23));
  writeIpv4Checksum(new Checksum(packet), packet, 0, 24);
  expect(slowSum(packet)).toBe(0xffff);
});
