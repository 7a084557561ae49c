/** rtnetlink's octets: what is encoded decodes to the same, and what is broken is refused without harm. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hex } from '../../../../src/bytes/bytes.ts';
import { WireError } from '../../../../src/errors.ts';
import { IpAddress } from '../../../../src/net/address.ts';
import { parsePrefix } from '../../../../src/net/prefix.ts';
import { attributes, encodeMessage, messages } from '../../../../src/runtime/netlink/codec.ts';
import { decodeChain, decodeCounter, decodeTable } from '../../../../src/runtime/netlink/nftables.ts';
import {
  decodeAddress,
  decodeLink,
  decodeRoute,
  decodeRule,
  encodeRoute,
  encodeRule,
  type Route,
  type Rule,
} from '../../../../src/runtime/netlink/route.ts';

const ROUTES: Route[] = [
  { destination: parsePrefix('0.0.0.0/0')!, table: 7, type: 'unicast', index: 3, protocol: 4 },
  {
    destination: parsePrefix('10.1.0.0/16')!,
    table: 254,
    type: 'unicast',
    gateway: IpAddress.parse('192.0.2.1')!,
    metric: 50,
    protocol: 200,
  },
  { destination: parsePrefix('2001:db8::/32')!, table: 70000, type: 'blackhole', protocol: 4 },
  {
    destination: parsePrefix('fd00::/8')!,
    table: 9,
    type: 'unicast',
    index: 2,
    preferredSource: IpAddress.parse('fd00::1')!,
    mtu: 1400,
    protocol: 4,
  },
];

const RULES: Rule[] = [
  { family: 4, priority: 100, table: 7, mark: 0x7a, mask: 0xff },
  { family: 6, priority: 101, table: 70000, mark: 0x7a, mask: 0xffffffff, invert: true, protocol: 200 },
  {
    family: 4,
    priority: 0,
    table: 254,
    from: parsePrefix('10.0.0.0/8')!,
    to: parsePrefix('192.0.2.0/24')!,
    suppressPrefixLength: 0,
  },
  {
    family: 6,
    priority: 5,
    table: 1,
    inputInterface: 'eth0',
    outputInterface: 'lo',
    ipProtocol: 17,
    sourcePorts: [500, 500],
    destinationPorts: [1, 65535],
  },
];

test.each(ROUTES.map((route) => [String(route.destination.address), route] as const))('route %s comes back', (_, route) => {
  expect(decodeRoute(encodeRoute(route))).toEqual(route);
});

test.each(RULES.map((rule) => [rule.priority, rule] as const))('rule %d comes back', (_, rule) => {
  expect(decodeRule(encodeRule(rule))).toEqual(rule);
});

test('a route has the octets of struct rtmsg and its attributes', () => {
  expect(hex(encodeRoute(ROUTES[0]!))).toBe('02000000' + '0704fd01' + '00000000' + '0800040003000000' + '08000f0007000000');
});

describe('hostile octets', () => {
  const objects = [decodeTable, decodeChain, decodeCounter];
  const decoders = [
    decodeLink,
    decodeAddress,
    decodeRoute,
    decodeRule,
    ...objects,
    (body: Uint8Array) => attributes(body, 0),
    messages,
  ];

  test('give a WireError or a value, never another exception', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        for (const decode of decoders) {
          try {
            decode(bytes);
          } catch (error) {
            if (!(error instanceof WireError)) throw error;
          }
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('a length that lies is told', () => {
    const message = encodeMessage(24, 1, 7, encodeRoute(ROUTES[1]!));
    expect(messages(message)).toHaveLength(1);
    message[0] = 0xff;
    expect(() => messages(message)).toThrow('netlink: a netlink message of 255 octets where');
    expect(() => attributes(Uint8Array.of(9, 0, 1, 0, 0), 0)).toThrow('a netlink attribute of 9 octets where 5 are left');
  });
});
