/** IPv4 and IPv6 addresses, endpoints and paths: parse, print, compare (RFC 4291 §2.2, RFC 5952). */

import { compare, equal } from '../bytes/bytes.ts';

export type Family = 4 | 6;

/** One address, immutable. `zone` is the interface of a link-local IPv6 address (`%eth0`), or empty. */
export class IpAddress {
  readonly family: Family;
  readonly bytes: Uint8Array;
  readonly zone: string;

  private constructor(bytes: Uint8Array, zone: string) {
    this.family = bytes.length === 4 ? 4 : 6;
    this.bytes = bytes;
    this.zone = zone;
  }

  /** From 4 or 16 octets, which are copied. */
  static of(bytes: Uint8Array, zone = ''): IpAddress {
    if (bytes.length !== 4 && bytes.length !== 16) throw new RangeError(`an address has 4 or 16 octets, not ${bytes.length}`);
    return new IpAddress(bytes.slice(), zone);
  }

  /** From text, or undefined where it is no numeric address. */
  static parse(text: string): IpAddress | undefined {
    const bytes = text.includes(':') ? parseIpv6(text.split('%')[0]!) : parseIpv4(text);
    if (bytes === undefined) return undefined;
    const zone = text.includes(':') ? (text.split('%')[1] ?? '') : '';
    return new IpAddress(bytes, zone);
  }

  /** `0.0.0.0` or `::`. */
  static unspecified(family: Family): IpAddress {
    return new IpAddress(new Uint8Array(family === 4 ? 4 : 16), '');
  }

  get isUnspecified(): boolean {
    return this.bytes.every((octet) => octet === 0);
  }

  get isLinkLocal(): boolean {
    return this.family === 6
      ? this.bytes[0] === 0xfe && (this.bytes[1]! & 0xc0) === 0x80
      : this.bytes[0] === 169 && this.bytes[1] === 254;
  }

  get isMulticast(): boolean {
    return this.family === 6 ? this.bytes[0] === 0xff : (this.bytes[0]! & 0xf0) === 0xe0;
  }

  get isLoopback(): boolean {
    return this.family === 4 ? this.bytes[0] === 127 : this.bytes.every((octet, i) => octet === (i === 15 ? 1 : 0));
  }

  equals(other: IpAddress): boolean {
    return equal(this.bytes, other.bytes) && this.zone === other.zone;
  }

  /** Numeric order within a family; IPv4 sorts before IPv6. */
  compare(other: IpAddress): number {
    return this.family !== other.family ? this.family - other.family : compare(this.bytes, other.bytes);
  }

  toString(): string {
    if (this.family === 4) return this.bytes.join('.');
    return printIpv6(this.bytes) + (this.zone === '' ? '' : `%${this.zone}`);
  }

  toJSON(): string {
    return this.toString();
  }
}

/** A UDP endpoint; port 0 means any. */
export interface Endpoint {
  readonly address: IpAddress;
  readonly port: number;
}

/** Where a datagram came from or goes to. `encapsulated` says that it travels on the UDP-encapsulation port, behind the non-ESP marker (RFC 3948). */
export interface Path {
  readonly local: Endpoint;
  readonly remote: Endpoint;
  readonly encapsulated: boolean;
}

export function sameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return a.port === b.port && a.address.equals(b.address);
}

export function samePath(a: Path, b: Path): boolean {
  return a.encapsulated === b.encapsulated && sameEndpoint(a.local, b.local) && sameEndpoint(a.remote, b.remote);
}

/** `192.0.2.1[500]`, `2001:db8::1[4500]`: the form the logs use. */
export function showEndpoint({ address, port }: Endpoint): string {
  return `${address}[${port}]`;
}

function parseIpv4(text: string): Uint8Array | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  const bytes = new Uint8Array(4);
  for (let i = 0; i < 4; i++) {
    if (!/^(0|[1-9]\d{0,2})$/.test(parts[i]!) || Number(parts[i]) > 255) return undefined;
    bytes[i] = Number(parts[i]);
  }
  return bytes;
}

function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = groups(halves[0]!);
  const tail = halves.length === 2 ? groups(halves[1]!) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 16 - head.length - tail.length;
  if (halves.length === 2 ? missing < 2 : missing !== 0) return undefined;
  const bytes = new Uint8Array(16);
  bytes.set(head);
  bytes.set(tail, 16 - tail.length);
  return bytes;
}

/** The octets of colon-separated groups, the last of which may be a dotted IPv4 address. */
function groups(text: string): number[] | undefined {
  if (text === '') return [];
  const octets: number[] = [];
  const parts = text.split(':');
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i]!;
    if (i === parts.length - 1 && part.includes('.')) {
      const v4 = parseIpv4(part);
      if (v4 === undefined) return undefined;
      octets.push(...v4);
    } else if (/^[0-9a-f]{1,4}$/i.test(part)) {
      const group = Number.parseInt(part, 16);
      octets.push(group >> 8, group & 0xff);
    } else return undefined;
  }
  return octets.length <= 16 ? octets : undefined;
}

/** RFC 5952 §4: lower case, no leading zeros, the longest run of two or more zero groups shortened. */
function printIpv6(bytes: Uint8Array): string {
  const group = Array.from({ length: 8 }, (_, i) => (bytes[2 * i]! << 8) | bytes[2 * i + 1]!);
  let from = -1;
  let length = 1;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && group[end] === 0) end++;
    if (end - i > length) [from, length] = [i, end - i];
    i = Math.max(i, end - 1);
  }
  const show = (part: number[]) => part.map((n) => n.toString(16)).join(':');
  return from < 0 ? show(group) : `${show(group.slice(0, from))}::${show(group.slice(from + length))}`;
}
