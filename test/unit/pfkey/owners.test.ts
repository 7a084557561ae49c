import { expect, test } from 'vitest';
import { IpAddress } from '../../../src/net/address.ts';
import { Owners } from '../../../src/pfkey/owners.ts';

const name = (spi: number, destination = '192.0.2.1', satype = 3) => ({
  spi,
  satype,
  destination: IpAddress.parse(destination)!,
});

test('SAs of one SPI are told apart by protocol and destination', () => {
  const owners = new Owners();
  const names = [name(0x1000), name(0x1000, '192.0.2.2'), name(0x1000, '192.0.2.1', 2), name(0xffff_ffff)];
  names.forEach((one, client) => {
    owners.set(one, client);
  });
  const all = () => names.map((one) => owners.get(one));
  expect(all()).toEqual([0, 1, 2, 3]);
  owners.set(names[1]!, 9);
  owners.delete(names[2]!);
  owners.delete(name(0x1000, '192.0.2.7'));
  owners.delete(name(0x2000));
  expect(all()).toEqual([0, 9, undefined, 3]);
});

test('what a client that is gone owned, or what was flushed, is forgotten, and nothing else', () => {
  const owners = new Owners();
  const names = Array.from({ length: 60 }, (_, i) => name(0x1000 + (i % 20), `192.0.2.${i}`, 2 + (i % 2)));
  names.forEach((one, i) => {
    owners.set(one, i % 3);
  });
  owners.keepOnly(({ client }) => client !== 1);
  expect(names.map((one) => owners.get(one))).toEqual(names.map((_, i) => (i % 3 === 1 ? undefined : i % 3)));
  owners.keepOnly(({ satype }) => satype !== 3);
  expect(names.map((one) => owners.get(one))).toEqual(names.map((_, i) => (i % 3 === 1 || i % 2 === 1 ? undefined : i % 3)));
});
