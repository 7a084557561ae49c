import { expect, test } from 'vitest';
import { Checksum, fold, writeIpv4Checksum } from '../../../src/net/checksum.ts';
import { ipPacket, pseudoHeader, seeded, slowSum } from '../datapath/pair.ts';

test('the sum equals the one by the book at every alignment and length', () => {
  const arena = seeded(4)(70_000);
  const checksum = new Checksum(arena);
  for (const at of [0, 1, 2, 3, 4, 5, 6, 7, 1001, 1002]) {
    for (const length of [0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 18, 19, 20, 33, 1348, 1349, 65_535]) {
      expect([at, length, checksum.sum(at, length)]).toEqual([at, length, slowSum(arena.slice(at, at + length))]);
    }
  }
});

test('carries are kept in the longest packet of ones', () => {
  const arena = new Uint8Array(65_540).fill(0xff);
  expect(new Checksum(arena).sum(2, 65_535)).toBe(slowSum(arena.slice(0, 65_535)));
  expect(fold(0x1fffe)).toBe(0xffff);
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
