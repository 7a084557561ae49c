/** Reading and writing inside one PF_KEY extension: numbers in host order (little endian) or network order, and sockaddrs as Linux has them. */

import { type Endpoint, IpAddress } from '../net/address.ts';
import { ERRNO } from './registry.ts';
import { SadbError } from './sadb.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const TWO_32 = 0x1_0000_0000;

/** One extension's octets, header included; reads are inside of it because each layout states its minimum. */
export class Field {
  readonly bytes: Uint8Array;
  readonly at: number;
  readonly view: DataView;
  readonly name: string;

  constructor(name: string, bytes: Uint8Array, at: number) {
    this.name = name;
    this.bytes = bytes;
    this.at = at;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u8(at: number): number {
    return this.view.getUint8(at);
  }
  u16(at: number): number {
    return this.view.getUint16(at, true);
  }
  u32(at: number): number {
    return this.view.getUint32(at, true);
  }
  be16(at: number): number {
    return this.view.getUint16(at, false);
  }
  be32(at: number): number {
    return this.view.getUint32(at, false);
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
  const bytes = new Uint8Array(Math.ceil(length / 8) * 8);
  fill(new DataView(bytes.buffer), bytes);
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
  if (at + 16 > field.bytes.length) field.refuse('no room for an address', at);
  const family = field.u16(at);
  const port = field.be16(at + 2);
  if (family === AF_INET) return { endpoint: { address: IpAddress.of(field.bytes.subarray(at + 4, at + 8)), port }, length: 16 };
  if (family !== AF_INET6) return field.refuse(`address family is ${family}, not 2 (IPv4) or 10 (IPv6)`, at);
  if (at + 28 > field.bytes.length) field.refuse('no room for an IPv6 address', at);
  const scope = field.u32(at + 24);
  const address = IpAddress.of(field.bytes.subarray(at + 8, at + 24), scope === 0 ? '' : String(scope));
  return { endpoint: { address, port }, length: 28 };
}

export function writeSockaddr({ address, port }: Endpoint): Uint8Array {
  const bytes = new Uint8Array(address.family === 4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, address.family === 4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port, false);
  bytes.set(address.bytes, address.family === 4 ? 4 : 8);
  if (/^\d{1,10}$/.test(address.zone)) view.setUint32(24, Number(address.zone), true);
  return bytes;
}
