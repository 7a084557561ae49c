import { describe, expect, test } from 'vitest';
import { fromHex, hex } from '../../../src/bytes/bytes.ts';
import { PeerError } from '../../../src/errors.ts';
import { sameSelector, selectorOf, showSelector } from '../../../src/ipsec/selector.ts';
import { areHosts, canIdentify, clientSelectors, idOf, selectorOfId } from '../../../src/isakmp/client-ids.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';

const address = (text: string) => IpAddress.parse(text)!;
const prefix = (text: string, protocol = 0, port?: number) =>
  selectorOf(parsePrefix(text)!, protocol, port === undefined ? undefined : { startPort: port, endPort: port });

describe.each([
  ['192.0.2.1', prefix('192.0.2.1'), 1, 'c0000201'],
  ['2001:db8::1', prefix('2001:db8::1', 6, 80), 5, '20010db8000000000000000000000001'],
  ['10.1.0.0/16', prefix('10.1.0.0/16'), 4, '0a010000ffff0000'],
  ['0.0.0.0/0', prefix('0.0.0.0/0'), 4, '0000000000000000'],
  ['2001:db8::/33', prefix('2001:db8::/33', 17), 6, '20010db8000000000000000000000000ffffffff800000000000000000000000'],
  ['10.0.0.1-10.0.0.9', { ...prefix('10.0.0.1'), end: address('10.0.0.9') }, 7, '0a0000010a000009'],
  [
    '2001:db8::1-2001:db8::9',
    { ...prefix('2001:db8::1'), end: address('2001:db8::9') },
    8,
    '20010db800000000000000000000000120010db8000000000000000000000009',
  ],
])('%s', (_text, selector, idType, data) => {
  test(`is an ID of type ${idType}, and back`, () => {
    const id = idOf(selector);
    expect([id.idType, hex(id.data), id.protocol, id.port]).toEqual([
      idType,
      data,
      selector.protocol,
      selector.startPort === selector.endPort ? selector.startPort : 0,
    ]);
    expect(sameSelector(selectorOfId(id), selector)).toBe(true);
  });
});

test('a range of ports cannot be said, nor port 0 alone, which means any', () => {
  const range = { ...prefix('192.0.2.1', 6), startPort: 80, endPort: 90 };
  expect(canIdentify(range)).toBe(false);
  expect(() => idOf(range)).toThrow(/one port, which is not 0, or any/);
  expect(canIdentify(prefix('192.0.2.1', 1, 0))).toBe(false);
});

describe('without meaning are', () => {
  test.each([
    ['a name', 2, '676f', 'names no address'],
    ['an address of three octets', 1, '0a0001', 'has 3 octets, expected 4'],
    ['a subnet without a mask', 4, '0a000000', 'has 4 octets, expected 8'],
    ['a mask with holes', 4, '0a000000ff00ff00', 'whose ones are not all in front'],
    ['a range backwards', 7, '0a0000090a000001', 'before it begins'],
  ])('%s', (_what, idType, data, problem) => {
    const id = { type: 'ID' as const, idType, protocol: 0, port: 0, data: fromHex(data)! };
    expect(() => selectorOfId(id)).toThrow(problem);
    expect(() => selectorOfId(id)).toThrow(PeerError);
  });
});

describe('IDci and IDcr', () => {
  const [i, r] = [address('192.0.2.1'), address('192.0.2.2')];

  test('are the hosts where there are none', () => {
    const hosts = clientSelectors([], i, r);
    expect([showSelector(hosts.IDci), showSelector(hosts.IDcr)]).toEqual(['192.0.2.1', '192.0.2.2']);
    expect(areHosts(hosts, i, r)).toBe(true);
    expect(areHosts(hosts, r, i)).toBe(false);
    expect(areHosts({ ...hosts, IDcr: prefix('192.0.2.2', 6) }, i, r)).toBe(false);
  });

  test('are two, in this order, of one family', () => {
    const ids = [idOf(prefix('10.1.0.0/24')), idOf(prefix('10.2.0.0/24'))];
    expect(showSelector(clientSelectors(ids, i, r).IDcr)).toBe('10.2.0.0-10.2.0.255');
    expect(() => clientSelectors(ids.slice(1), i, r)).toThrow('expected two ID payloads (IDci, IDcr) or none, found 1');
    expect(() => clientSelectors([...ids, ids[0]!], i, r)).toThrow('found 3');
    expect(() => clientSelectors([ids[0]!, idOf(prefix('2001:db8::/64'))], i, r)).toThrow(/IDci is .* but IDcr is/);
  });
});
