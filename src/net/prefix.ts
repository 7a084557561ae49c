/** Prefixes and address ranges, and the way from one to the other. */

import { compare } from '../bytes/bytes.ts';
import { type Family, IpAddress } from './address.ts';

/** An address and the number of its leading bits that count, 0 to 32 or 128. Host bits are kept as given. */
export interface Prefix {
  readonly address: IpAddress;
  readonly length: number;
}

/** Bits of an address of the family. */
export function bitsOf(family: Family): number {
  return family === 4 ? 32 : 128;
}

/** The prefix that holds one address. */
export function host(address: IpAddress): Prefix {
  return { address, length: bitsOf(address.family) };
}

/** `0.0.0.0/0` or `::/0`. */
export function everything(family: Family): Prefix {
  return { address: IpAddress.unspecified(family), length: 0 };
}

/** `192.0.2.0/24`, or a bare address for a host prefix; undefined where it is neither. */
export function parsePrefix(text: string): Prefix | undefined {
  const [addressText, lengthText, more] = text.split('/');
  const address = IpAddress.parse(addressText ?? '');
  if (address === undefined || more !== undefined) return undefined;
  if (lengthText === undefined) return host(address);
  if (!/^\d{1,3}$/.test(lengthText) || Number(lengthText) > bitsOf(address.family)) return undefined;
  return { address, length: Number(lengthText) };
}

export function showPrefix({ address, length }: Prefix): string {
  return length === bitsOf(address.family) ? address.toString() : `${address}/${length}`;
}

export function samePrefix(a: Prefix, b: Prefix): boolean {
  return a.length === b.length && a.address.equals(b.address);
}

/** The lowest address of the prefix. */
export function firstAddress({ address, length }: Prefix): IpAddress {
  return IpAddress.of(
    address.bytes.map((octet, i) => octet & maskOctet(length, i)),
    address.zone,
  );
}

/** The highest address of the prefix. */
export function lastAddress({ address, length }: Prefix): IpAddress {
  return IpAddress.of(
    address.bytes.map((octet, i) => octet | (~maskOctet(length, i) & 0xff)),
    address.zone,
  );
}

export function prefixHolds(prefix: Prefix, address: IpAddress): boolean {
  if (prefix.address.family !== address.family) return false;
  return address.bytes.every((octet, i) => ((octet ^ prefix.address.bytes[i]!) & maskOctet(prefix.length, i)) === 0);
}

/** The prefixes that together hold exactly the addresses from `start` to `end`, lowest first. */
export function rangeToPrefixes(start: IpAddress, end: IpAddress): Prefix[] {
  const bits = bitsOf(start.family);
  const prefixes: Prefix[] = [];
  let at = toBigInt(start.bytes);
  const last = toBigInt(end.bytes);
  while (at <= last) {
    let size = 0;
    while (size < bits && (at & ((1n << BigInt(size + 1)) - 1n)) === 0n && at + (1n << BigInt(size + 1)) - 1n <= last) size++;
    prefixes.push({ address: IpAddress.of(fromBigInt(at, bits / 8)), length: bits - size });
    at += 1n << BigInt(size);
  }
  return prefixes;
}

/** The smallest prefix that holds both ends of a range. */
export function rangeToCoveringPrefix(start: IpAddress, end: IpAddress): Prefix {
  let length = bitsOf(start.family);
  while (
    length > 0 &&
    compare(firstAddress({ address: start, length }).bytes, firstAddress({ address: end, length }).bytes) !== 0
  )
    length--;
  return { address: firstAddress({ address: start, length }), length };
}

/** The eight mask bits that a prefix of `length` has in octet `i`. */
function maskOctet(length: number, i: number): number {
  const bits = Math.min(8, Math.max(0, length - 8 * i));
  return (0xff00 >> bits) & 0xff;
}

function toBigInt(bytes: Uint8Array): bigint {
  let value = 0n;
  for (const octet of bytes) value = (value << 8n) | BigInt(octet);
  return value;
}

function fromBigInt(value: bigint, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = length - 1; i >= 0; i--, value >>= 8n) bytes[i] = Number(value & 0xffn);
  return bytes;
}
