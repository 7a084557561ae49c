/** The printer and the registries. */

import { expect, test } from 'vitest';
import { Secret } from '../../../src/bytes/secret.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { dump, knownName, nameOf, printable, registry, Writer } from '../../../src/wire/index.ts';

test('a value is printed a member a line, nested by indentation', () => {
  const value = {
    type: 'SA',
    proposals: [{ number: 1, spi: Uint8Array.of(1, 2), transforms: [] }, { number: 2 }],
    none: undefined,
    start: IpAddress.parse('192.0.2.1'),
    flag: true,
  };
  expect(dump(value)).toBe(
    [
      'type: SA',
      'proposals:',
      '  1:',
      '    number: 1',
      '    spi: 0102',
      '    transforms: (none)',
      '  2: number: 2',
      'start: 192.0.2.1',
      'flag: true',
    ].join('\n'),
  );
});

test('numbers get their names, long octet strings are cut, hidden members are only counted', () => {
  const name = (member: string, value: number) => (member === 'notify' && value === 16390 ? 'COOKIE' : undefined);
  const value = { notify: 16390, count: 2, data: new Uint8Array(40), eap: new Uint8Array(40), empty: new Uint8Array(0) };
  expect(dump(value, { name, octets: 4, hide: ['eap'] })).toBe(
    'notify: 16390 (COOKIE)\ncount: 2\ndata: 00000000… (40 octets)\neap: (40 octets)\nempty: (0 octets)',
  );
});

test('a secret prints its length and nothing of itself', () => {
  expect(dump({ SK_d: new Secret(new Uint8Array(32).fill(0xab)) })).toBe('SK_d: Secret(32 bytes)');
});

test('text from the wire cannot write lines, colours or directions of its own', () => {
  expect(dump({ id: 'a\nb\u001b[31m\u202e' })).toBe('id: a\\u000ab\\u001b[31m\\u202e');
  expect(printable('größe $(x) ok')).toBe('größe $(x) ok');
});

test('registries are read both ways and know no inherited names', () => {
  const TABLE = registry({ none: 0, SA: 33, alias: 33 });
  expect(TABLE.SA).toBe(33);
  expect(nameOf(TABLE, 33)).toBe('SA');
  expect(nameOf(TABLE, 200)).toBe('200');
  expect(knownName(TABLE, 200)).toBeUndefined();
  expect(Object.isFrozen(TABLE)).toBe(true);
});

test('a writer patches only what it has written, and grows', () => {
  const to = new Writer(1);
  to.u16(0);
  to.bytes(new Uint8Array(5).fill(1));
  to.zeros(2);
  to.patch(0, 2, to.length);
  expect(() => to.patch(8, 2, 0)).toThrow('octet 8 has not been written yet');
  expect([...to.finish()]).toEqual([0, 9, 1, 1, 1, 1, 1, 0, 0]);
});
