/** A growing big-endian writer whose lengths are patched in once they are known. */

import { Fault } from '../errors.ts';

export class Writer {
  #bytes: Uint8Array;
  #length = 0;

  /** `capacity` octets are set aside at first; the writer grows as needed. */
  constructor(capacity = 256) {
    this.#bytes = new Uint8Array(capacity);
  }

  /** Octets written so far, which is where the next one goes. */
  get length(): number {
    return this.#length;
  }

  u8(value: number): void {
    this.#put(value, 1);
  }

  u16(value: number): void {
    this.#put(value, 2);
  }

  u24(value: number): void {
    this.#put(value, 3);
  }

  u32(value: number): void {
    this.#put(value, 4);
  }

  u64(value: bigint): void {
    if (value < 0n || value >> 64n !== 0n) throw new Fault(`${value} does not fit in 64 bits`);
    this.#put(Number(value >> 32n), 4);
    this.#put(Number(value & 0xffffffffn), 4);
  }

  bytes(value: Uint8Array): void {
    this.#reserve(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
  }

  zeros(length: number): void {
    this.#reserve(length);
    this.#bytes.fill(0, this.#length, this.#length + length);
    this.#length += length;
  }

  /** Overwrites the `size` octets at `at` with `value`: a length, a count or a next-payload octet that was not known before. */
  patch(at: number, size: 1 | 2 | 4, value: number): void {
    if (at + size > this.#length) throw new Fault(`octet ${at} has not been written yet`);
    this.#set(at, value, size);
  }

  /** A copy of what was written. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  #put(value: number, size: number): void {
    this.#reserve(size);
    this.#set(this.#length, value, size);
    this.#length += size;
  }

  #set(at: number, value: number, size: number): void {
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** (8 * size))
      throw new Fault(`${value} does not fit in ${8 * size} bits`);
    for (let i = 0; i < size; i++) this.#bytes[at + i] = (value >>> (8 * (size - 1 - i))) & 0xff;
  }

  #reserve(length: number): void {
    const needed = this.#length + length;
    if (needed <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, 2 * this.#bytes.length));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
  }
}
