import { expect, test } from 'vitest';
import { identityOf, sameIdentity, showIdentity } from '../../../../iked/auth/identity.ts';
import { utf8 } from '../../../../src/bytes/bytes.ts';

const none = new Map<string, Uint8Array>();
const id = (type: 'ipaddr' | 'fqdn' | 'email' | 'keyid', value: string, file = false, files = none) =>
  identityOf({ type, value, file }, files);

test('the words of a policy become ID payloads (RFC 7296 §3.5)', () => {
  expect(id('ipaddr', '192.0.2.1')).toEqual({ idType: 1, data: Uint8Array.of(192, 0, 2, 1) });
  expect(id('ipaddr', '2001:db8::1')?.idType).toBe(5);
  expect(id('fqdn', 'a.example')).toEqual({ idType: 2, data: utf8('a.example') });
  expect(id('email', 'a@example')?.idType).toBe(3);
  expect(id('keyid', 'k')?.idType).toBe(11);
  expect(id('keyid', '/k', true, new Map([['/k', Uint8Array.of(7)]]))).toEqual({ idType: 11, data: Uint8Array.of(7) });
  expect(id('keyid', '/k', true)).toBeUndefined();
  expect(id('ipaddr', 'x')).toBeUndefined();
});

test('comparison is exact, host names apart from case', () => {
  expect(sameIdentity(id('fqdn', 'A.example')!, id('fqdn', 'a.EXAMPLE')!)).toBe(true);
  expect(sameIdentity(id('keyid', 'A')!, id('keyid', 'a')!)).toBe(false);
  expect(sameIdentity(id('fqdn', 'a')!, id('keyid', 'a')!)).toBe(false);
});

test('what a peer sent cannot forge a log line', () => {
  expect(showIdentity({ idType: 2, data: utf8('a\nevil') })).toBe('fqdn 0x610a6576696c');
  expect(showIdentity({ idType: 200, data: new Uint8Array(300) }).length).toBeLessThan(200);
  expect(showIdentity({ idType: 1, data: new Uint8Array(3) })).toBe('ID type 1 0x000000');
});
