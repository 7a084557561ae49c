/** IPv4 and IPv6 addresses, endpoints and paths: parse, print, compare (RFC 4291 §2.2, RFC 5952). */

export type Family = 4 | 6;

/** Each word has its top bit inverted, so that `<` orders them as unsigned numbers. */
const TOP_BIT = 0x80000000;

/**
 * One address, immutable: four signed words as `IpPacket` has them, of which an IPv4 address is the first and the others are 0. Octets are made where
 * they are asked for: an array of them takes six times the room of all the rest. `zone` is the interface of a link-local IPv6 address
 * (`%eth0`), or empty.
 */
export class IpAddress {
  readonly family: Family;
  readonly word0: number;
  readonly word1: number;
  readonly word2: number;
  readonly word3: number;
  readonly zone: string;

  private constructor(family: Family, word0: number, word1: number, word2: number, word3: number, zone: string) {
    this.family = family;
    this.word0 = word0;
    this.word1 = word1;
    this.word2 = word2;
    this.word3 = word3;
    this.zone = zone;
  }

  /** From 4 or 16 octets. */
  static of(bytes: Uint8Array, zone = ''): IpAddress {
    if (bytes.length !== 4 && bytes.length !== 16) throw new RangeError(`an address has 4 or 16 octets, not ${bytes.length}`);
    return IpAddress.at(bytes, 0, bytes.length === 4 ? 4 : 6, zone);
  }

  /** From the octets of an address that lies among others. */
  static at(bytes: Uint8Array, at: number, family: Family, zone = ''): IpAddress {
    const word0 = wordAt(bytes, at);
    return family === 4
      ? IpAddress.#shared(4, word0, 0, 0, 0, zone)
      : IpAddress.#shared(6, word0, wordAt(bytes, at + 4), wordAt(bytes, at + 8), wordAt(bytes, at + 12), zone);
  }

  /** An address made a while ago is given again, where it is still among the recent ones: thousands of SAs name the same few. */
  static #shared(family: Family, word0: number, word1: number, word2: number, word3: number, zone: string): IpAddress {
    const place = Math.imul(word0 ^ Math.imul(word1 ^ word2 ^ word3, 0x85ebca6b), 0x9e3779b1) >>> RECENT_SHIFT;
    const known = RECENT[place];
    if (
      known !== undefined &&
      known.word0 === word0 &&
      known.word3 === word3 &&
      known.word2 === word2 &&
      known.word1 === word1 &&
      known.family === family &&
      known.zone === zone
    )
      return known;
    const address = new IpAddress(family, word0, word1, word2, word3, zone);
    RECENT[place] = address;
    return address;
  }

  /** From text, or undefined where it is no numeric address. */
  static parse(text: string): IpAddress | undefined {
    const bytes = text.includes(':') ? parseIpv6(text.split('%')[0]!) : parseIpv4(text);
    if (bytes === undefined) return undefined;
    const zone = text.includes(':') ? (text.split('%')[1] ?? '') : '';
    return IpAddress.of(bytes, zone);
  }

  /** `0.0.0.0` or `::`. */
  static unspecified(family: Family): IpAddress {
    return IpAddress.of(new Uint8Array(family === 4 ? 4 : 16));
  }

  /** A copy of its 4 or 16 octets. */
  get bytes(): Uint8Array {
    const bytes = new Uint8Array(this.family === 4 ? 4 : 16);
    this.writeTo(bytes, 0);
    return bytes;
  }

  /** Writes its octets to `at`. */
  writeTo(bytes: Uint8Array, at: number): void {
    putWord(bytes, at, this.word0);
    if (this.family === 4) return;
    putWord(bytes, at + 4, this.word1);
    putWord(bytes, at + 8, this.word2);
    putWord(bytes, at + 12, this.word3);
  }

  get isUnspecified(): boolean {
    return this.#is(0);
  }

  get isLinkLocal(): boolean {
    return this.family === 6 ? this.#top >>> 22 === 0xfe80 >>> 6 : this.#top >>> 16 === 0xa9fe;
  }

  get isMulticast(): boolean {
    return this.family === 6 ? this.#top >>> 24 === 0xff : this.#top >>> 28 === 0xe;
  }

  get isLoopback(): boolean {
    return this.family === 4 ? this.#top >>> 24 === 127 : this.#is(1);
  }

  /** The first four octets. */
  get #top(): number {
    return this.word0 ^ TOP_BIT;
  }

  /** Whether it is this number. */
  #is(value: number): boolean {
    if (this.family === 4) return this.#top === value;
    return this.#top === 0 && (this.word1 ^ TOP_BIT) === 0 && (this.word2 ^ TOP_BIT) === 0 && (this.word3 ^ TOP_BIT) === value;
  }

  equals(other: IpAddress): boolean {
    return this === other || (this.hasWordsOf(other) && this.family === other.family && this.zone === other.zone);
  }

  /** Whether it is the same apart from the zone, among addresses of one family. */
  hasWordsOf({ word0, word1, word2, word3 }: IpAddress): boolean {
    return this.word0 === word0 && this.word3 === word3 && this.word2 === word2 && this.word1 === word1;
  }

  /** Numeric order within a family; IPv4 sorts before IPv6. */
  compare(other: IpAddress): number {
    return (
      this.family - other.family ||
      this.word0 - other.word0 ||
      this.word1 - other.word1 ||
      this.word2 - other.word2 ||
      this.word3 - other.word3
    );
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

/** Recent addresses by a hash of their words, at most so many. */
const RECENT_BITS = 12;
const RECENT_SHIFT = 32 - RECENT_BITS;
const RECENT = new Array<IpAddress | undefined>(1 << RECENT_BITS).fill(undefined);

function wordAt(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) ^ TOP_BIT;
}

function putWord(bytes: Uint8Array, at: number, word: number): void {
  const value = word ^ TOP_BIT;
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
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
