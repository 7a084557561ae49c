import { describe, expect, test } from 'vitest';
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

const address = (text: string) => IpAddress.parse(text)!;

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
