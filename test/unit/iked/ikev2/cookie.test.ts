import { expect, test } from 'vitest';
import { Cookies } from '../../../../iked/ikev2/cookie.ts';
import { IpAddress } from '../../../../src/net/address.ts';
import { seededRandom } from '../../../support/random.ts';

const Ni = Uint8Array.from({ length: 32 }, (_, i) => i);
const SPIi = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
const from = { address: IpAddress.parse('192.0.2.1')!, port: 500 };
const at = (seconds: number) => ({ mono: seconds * 1000, wall: 0 });

test('a cookie is good for its request, from its address and port, for a minute at least, and not for ever (§2.6)', () => {
  const cookies = new Cookies(seededRandom(1));
  const cookie = cookies.make(Ni, from, SPIi, at(0));
  expect(cookie.length).toBeLessThanOrEqual(64);
  expect(cookies.check(cookie, Ni, from, SPIi, at(59))).toBe(true);
  expect(cookies.check(cookie, Ni, from, SPIi, at(61))).toBe(true);
  expect(cookies.check(cookie, Ni, { ...from, port: 501 }, SPIi, at(61))).toBe(false);
  expect(cookies.check(cookie, Ni, { ...from, address: IpAddress.parse('192.0.2.3')! }, SPIi, at(61))).toBe(false);
  expect(cookies.check(cookie, Ni.slice(1), from, SPIi, at(61))).toBe(false);
  expect(
    cookies.check(
      cookie,
      Ni,
      from,
      SPIi.map((octet) => octet + 1),
      at(61),
    ),
  ).toBe(false);
  expect(cookies.check(cookie.slice(1), Ni, from, SPIi, at(61))).toBe(false);
  expect(cookies.check(new Uint8Array(0), Ni, from, SPIi, at(61))).toBe(false);
  expect(cookies.check(cookie, Ni, from, SPIi, at(122))).toBe(false);
});
