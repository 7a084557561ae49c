/** Reading and writing inside one PF_KEY extension: numbers in host order (little endian) or network order, and sockaddrs as Linux has them. */

import { Fault } from '../errors.ts';
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

/** The longest message: its length is counted in 16 bits, by eights. */
const MOST_BYTES = 0xffff * 8;

/**
 * A message under construction, an extension behind the other. There is one for all messages: arrays and views of their own for each extension cost
 * more than all the rest. What was in it, keys too, is wiped when the message is taken.
 */
export class MessageWriter {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  /** Where the extension begins, and where everything ends. */
  #at = 0;
  #end = 0;

  /** Begins a message: `octets` of header. */
  start(octets: number): void {
    this.#bytes.fill(0, 0, this.#end);
    this.#end = 0;
    this.begin(octets);
  }

  /** Begins an extension of so many octets, all zero, and what it is padded to. */
  begin(octets: number): void {
    this.#at = this.#end;
    this.#end += Math.ceil(octets / 8) * 8;
    if (this.#end > MOST_BYTES) {
      this.#end = this.#at;
      throw new Fault(`a PF_KEY message has at most ${MOST_BYTES} octets, not ${this.#at + octets}`);
    }
    if (this.#end <= this.#bytes.length) return;
    const former = this.#bytes;
    this.#bytes = new Uint8Array(Math.max(this.#end, 2 * former.length));
    this.#view = new DataView(this.#bytes.buffer);
    this.#bytes.set(former);
    former.fill(0);
  }

  /** Completes an extension by its length and number. */
  end(number: number): void {
    this.u16(0, (this.#end - this.#at) / 8);
    this.u16(2, number);
  }

  /** The message with its length, in octets that nobody else has. */
  take(): Uint8Array {
    this.#at = 0;
    this.u16(4, this.#end / 8);
    const message = this.#bytes.slice(0, this.#end);
    this.#bytes.fill(0, 0, this.#end);
    this.#end = 0;
    return message;
  }

  u8(at: number, value: number): void {
    this.#bytes[this.#at + at] = value;
  }
  u16(at: number, value: number): void {
    this.#view.setUint16(this.#at + at, value, true);
  }
  u32(at: number, value: number): void {
    this.#view.setUint32(this.#at + at, value, true);
  }
  be16(at: number, value: number): void {
    this.#view.setUint16(this.#at + at, value, false);
  }
  be32(at: number, value: number): void {
    this.#view.setUint32(this.#at + at, value, false);
  }
  u64(at: number, value: number): void {
    this.u32(at, Math.trunc(value) % TWO_32);
    this.u32(at + 4, Math.trunc(value / TWO_32));
  }
  octets(at: number, value: Uint8Array): void {
    this.#bytes.set(value, this.#at + at);
  }
  address(at: number, address: IpAddress): void {
    address.writeTo(this.#bytes, this.#at + at);
  }
}

export interface Layout<T> {
  /** Octets that there must be. */
  readonly minimum: number;
  read(field: Field): T;
  /** Begins the extension and fills in all but its length and number. */
  write(value: T, out: MessageWriter): void;
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

export function sockaddrBytes({ address }: Endpoint): number {
  return address.family === 4 ? 16 : 28;
}

export function writeSockaddr(out: MessageWriter, at: number, { address, port }: Endpoint): void {
  out.u16(at, address.family === 4 ? AF_INET : AF_INET6);
  out.be16(at + 2, port);
  out.address(at + (address.family === 4 ? 4 : 8), address);
  if (address.zone !== '' && /^\d{1,10}$/.test(address.zone)) out.u32(at + 24, Number(address.zone));
}
