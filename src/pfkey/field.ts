/** Reading and writing inside one PF_KEY extension: numbers in host order (little endian) or network order, and sockaddrs as Linux has them. */

import { type Endpoint, type Family, IpAddress } from '../net/address.ts';
import { ERRNO } from './registry.ts';
import { SadbError } from './sadb.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const TWO_32 = 0x1_0000_0000;

/** One extension's octets in their message, header included; reads are inside of it because each layout states its minimum. */
export class Field {
  readonly name: string;
  /** Where it begins in its message, and its octets. */
  readonly at: number;
  readonly length: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  /** `bytes` and `view` are the whole message's. */
  constructor(name: string, bytes: Uint8Array, view: DataView, at: number, length: number) {
    this.name = name;
    this.at = at;
    this.length = length;
    this.#bytes = bytes;
    this.#view = view;
  }

  /** A copy. */
  slice(from: number, to = this.length): Uint8Array {
    return this.#bytes.slice(this.at + from, this.at + to);
  }

  address(at: number, family: Family, zone = ''): IpAddress {
    return IpAddress.at(this.#bytes, this.at + at, family, zone);
  }

  u8(at: number): number {
    return this.#view.getUint8(this.at + at);
  }
  u16(at: number): number {
    return this.#view.getUint16(this.at + at, true);
  }
  u32(at: number): number {
    return this.#view.getUint32(this.at + at, true);
  }
  be16(at: number): number {
    return this.#view.getUint16(this.at + at, false);
  }
  be32(at: number): number {
    return this.#view.getUint32(this.at + at, false);
  }
  u64(at: number): number {
    return Math.min(Number.MAX_SAFE_INTEGER, this.u32(at + 4) * TWO_32 + this.u32(at));
  }

  refuse(message: string, at = 0): never {
    throw new SadbError(ERRNO.EINVAL, `${this.name}: ${message}`, this.at + at);
  }
}

/** Octets under construction, of a length known beforehand. */
export function build(length: number, fill: (view: DataView, bytes: Uint8Array) => void): Uint8Array {
  const bytes = fresh(Math.ceil(length / 8) * 8);
  fill(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), bytes);
  return bytes;
}

const POOL = 16_384;
let pool = new ArrayBuffer(POOL);
let used = 0;

/** Octets of zero that nobody else has, out of a common block: a block of its own for each extension costs more than all the rest of a message. */
export function fresh(length: number): Uint8Array {
  if (length > POOL / 4) return new Uint8Array(length);
  if (used + length > POOL) {
    pool = new ArrayBuffer(POOL);
    used = 0;
  }
  const bytes = new Uint8Array(pool, used, length);
  used += Math.ceil(length / 8) * 8;
  return bytes;
}

export interface Layout<T> {
  /** Octets that there must be. */
  readonly minimum: number;
  read(field: Field): T;
  /** The whole extension; length and type are filled in by the caller. */
  write(value: T): Uint8Array;
}

export function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.trunc(value) % TWO_32, true);
  view.setUint32(at + 4, Math.trunc(value / TWO_32), true);
}

/** A sockaddr of Linux and the octets that it takes: 16 or 28. */
export function readSockaddr(field: Field, at: number): { endpoint: Endpoint; length: number } {
  if (at + 16 > field.length) field.refuse('no room for an address', at);
  const family = field.u16(at);
  const port = field.be16(at + 2);
  if (family === AF_INET) return { endpoint: { address: field.address(at + 4, 4), port }, length: 16 };
  if (family !== AF_INET6) return field.refuse(`address family is ${family}, not 2 (IPv4) or 10 (IPv6)`, at);
  if (at + 28 > field.length) field.refuse('no room for an IPv6 address', at);
  const scope = field.u32(at + 24);
  const address = field.address(at + 8, 6, scope === 0 ? '' : String(scope));
  return { endpoint: { address, port }, length: 28 };
}

export function writeSockaddr({ address, port }: Endpoint): Uint8Array {
  const bytes = fresh(address.family === 4 ? 16 : 28);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  view.setUint16(0, address.family === 4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port, false);
  address.writeTo(bytes, address.family === 4 ? 4 : 8);
  if (/^\d{1,10}$/.test(address.zone)) view.setUint32(24, Number(address.zone), true);
  return bytes;
}
