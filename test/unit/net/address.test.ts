import { describe, expect, test } from 'vitest';
import { compare } from '../../../src/bytes/bytes.ts';
import { type Endpoint, IpAddress, sameEndpoint, samePath, showEndpoint } from '../../../src/net/address.ts';
import {
  everything,
  firstAddress,
  host,
  lastAddress,
  parsePrefix,
  prefixHolds,
  rangeToCoveringPrefix,
  rangeToPrefixes,
  samePrefix,
  showPrefix,
} from '../../../src/net/prefix.ts';
import { seededRandom } from '../../support/random.ts';

const address = (text: string) => IpAddress.parse(text)!;

const EDGES = [0, 0, 1, 0x7f, 0x80, 0xff];

describe('addresses (RFC 4291 §2.2, RFC 5952)', () => {
  test.each([
    ['192.0.2.1', '192.0.2.1'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['::', '::'],
    ['::1', '::1'],
    ['2001:db8::', '2001:db8::'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['::ffff:192.0.2.1', '::ffff:c000:201'],
    ['fe80::1%eth0', 'fe80::1%eth0'],
    ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
  ])('%s is %s', (text, shown) => {
    expect(`${address(text)}`).toBe(shown);
    expect(address(shown).equals(address(text))).toBe(true);
  });

  test.each([
    '',
    '1.2.3',
    '1.2.3.4.5',
    '01.2.3.4',
    '256.0.0.1',
    '1.2.3.-4',
    ':::',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '::1::',
    '12345::',
    'g::',
    '1:2:3:4:5:6:7::8',
    '::1.2.3',
  ])('%j is none', (text) => {
    expect(IpAddress.parse(text)).toBeUndefined();
  });

  test('octets go in and come out as they are, at any place, and order addresses as numbers', () => {
    const random = seededRandom(4);
    for (let i = 0; i < 1000; i++) {
      const family = i % 2 === 0 ? 4 : 6;
      const [a, b] = [0, 1].map(() =>
        Uint8Array.from({ length: family === 4 ? 4 : 16 }, () => EDGES[random(1)[0]! % EDGES.length]!),
      );
      const around = Uint8Array.of(7, ...a!, 7);
      const [one, other] = [IpAddress.at(around, 1, family), IpAddress.of(b!)];
      expect(one.family).toBe(family);
      expect(one.bytes).toEqual(a);
      const written = new Uint8Array(a!.length + 2).fill(7);
      one.writeTo(written, 1);
      expect(written).toEqual(around);
      expect(Math.sign(one.compare(other))).toBe(Math.sign(compare(a!, b!)));
      expect(one.equals(other)).toBe(compare(a!, b!) === 0);
      expect(one.isUnspecified).toBe(a!.every((octet) => octet === 0));
    }
  });

  test('what is not the same is never taken for it, however many there have been', () => {
    const all = Array.from({ length: 20_000 }, (_, i) => IpAddress.of(Uint8Array.of(10, i >> 16, i >> 8, i)));
    expect(new Set(all.map(String)).size).toBe(all.length);
    expect(all[77]!.equals(IpAddress.of(all[77]!.bytes))).toBe(true);
    expect(address('::').equals(address('0.0.0.0'))).toBe(false);
    expect(address('fe80::1%eth0').equals(address('fe80::1%eth1'))).toBe(false);
    expect(address('fe80::1%eth0').zone).toBe('eth0');
    expect(address('fe80::1').zone).toBe('');
    const octets = Uint8Array.of(192, 0, 2, 1);
    const kept = IpAddress.of(octets);
    octets[0] = 10;
    kept.bytes[1] = 9;
    expect(`${kept}`).toBe('192.0.2.1');
  });

  test('kinds and order', () => {
    expect(address('127.0.0.2').isLoopback && address('::1').isLoopback).toBe(true);
    expect(address('fe80::1').isLinkLocal && address('169.254.0.1').isLinkLocal && !address('fec0::1').isLinkLocal).toBe(true);
    expect(address('224.0.0.1').isMulticast && address('ff02::1').isMulticast && !address('223.255.255.255').isMulticast).toBe(
      true,
    );
    expect(address('0.0.0.0').isUnspecified && IpAddress.unspecified(6).isUnspecified).toBe(true);
    expect(['10.0.0.2', '::', '9.255.255.255', '10.0.0.10'].sort((a, b) => address(a).compare(address(b)))).toEqual([
      '9.255.255.255',
      '10.0.0.2',
      '10.0.0.10',
      '::',
    ]);
  });

  test('endpoints and paths compare by value', () => {
    const endpoint = (text: string, port: number): Endpoint => ({ address: address(text), port });
    expect(sameEndpoint(endpoint('192.0.2.1', 500), endpoint('192.0.2.1', 500))).toBe(true);
    expect(sameEndpoint(endpoint('192.0.2.1', 500), endpoint('192.0.2.1', 4500))).toBe(false);
    const path = { local: endpoint('192.0.2.1', 500), remote: endpoint('192.0.2.2', 500), encapsulated: false };
    expect(samePath(path, { ...path })).toBe(true);
    expect(samePath(path, { ...path, encapsulated: true })).toBe(false);
    expect(showEndpoint(endpoint('2001:db8::1', 4500))).toBe('2001:db8::1[4500]');
  });
});

describe('prefixes', () => {
  test('text and back', () => {
    expect(showPrefix(parsePrefix('10.1.0.0/16')!)).toBe('10.1.0.0/16');
    expect(showPrefix(parsePrefix('2001:db8::1')!)).toBe('2001:db8::1');
    expect(samePrefix(parsePrefix('192.0.2.1/32')!, host(address('192.0.2.1')))).toBe(true);
    for (const bad of ['10.0.0.0/33', '::/129', '10.0.0.0/', '10.0.0.0/8/8', 'x/8', '10.0.0.0/-1'])
      expect(parsePrefix(bad)).toBeUndefined();
  });

  test('first, last and what lies between', () => {
    const prefix = parsePrefix('10.1.35.7/19')!;
    expect(`${firstAddress(prefix)} ${lastAddress(prefix)}`).toBe('10.1.32.0 10.1.63.255');
    expect(prefixHolds(prefix, address('10.1.63.255')) && !prefixHolds(prefix, address('10.1.64.0'))).toBe(true);
    expect(prefixHolds(everything(4), address('10.1.63.255')) && !prefixHolds(everything(4), address('::'))).toBe(true);
  });

  test.each([
    ['10.0.0.0', '10.0.0.255', ['10.0.0.0/24']],
    ['10.0.0.1', '10.0.0.6', ['10.0.0.1', '10.0.0.2/31', '10.0.0.4/31', '10.0.0.6']],
    ['0.0.0.0', '255.255.255.255', ['0.0.0.0/0']],
    ['2001:db8::', '2001:db8::ffff', ['2001:db8::/112']],
    ['10.0.0.5', '10.0.0.5', ['10.0.0.5']],
  ])('%s to %s', (start, end, prefixes) => {
    expect(rangeToPrefixes(address(start), address(end)).map(showPrefix)).toEqual(prefixes);
  });

  test('the smallest prefix that holds both ends', () => {
    expect(showPrefix(rangeToCoveringPrefix(address('10.0.0.5'), address('10.0.0.9')))).toBe('10.0.0.0/28');
    expect(showPrefix(rangeToCoveringPrefix(address('10.0.0.5'), address('10.0.0.5')))).toBe('10.0.0.5');
  });
});
