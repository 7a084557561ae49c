/** The Internet checksum (RFC 1071) over parts of one arena, and the sum of the pseudo-headers of RFC 9293 §3.1 and RFC 8200 §8.1. */

import type { Sum } from './checksum-simd.ts';

const LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** What is shorter is summed sooner than WebAssembly is called. */
const LEAST_FOR_SIMD = 64;

/** Sums are 16-bit one's complement numbers in network order, not yet complemented; add them and `fold` the result. */
export class Checksum {
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;
  readonly #simd: Sum | undefined;

  /** `arena` starts at a multiple of 4 in its buffer. `simd` sums the same memory. */
  constructor(arena: Uint8Array, simd?: Sum) {
    this.#bytes = arena;
    this.#simd = simd;
    this.#words = new Uint32Array(arena.buffer, arena.byteOffset, arena.length >>> 2);
  }

  /** The folded sum of `length` octets at `at`; an odd last octet is padded with zero. */
  sum(at: number, length: number): number {
    if (this.#simd !== undefined && length >= LEAST_FOR_SIMD) return this.#simd(at, length);
    if ((at & 1) === 1 || !LITTLE_ENDIAN) return this.#sumOctets(at, length);
    const bytes = this.#bytes;
    let start = at;
    let left = length;
    let total = 0;
    if ((start & 2) === 2 && left >= 2) {
      total = bytes[start]! | (bytes[start + 1]! << 8);
      start += 2;
      left -= 2;
    }
    const words = this.#words;
    let word = start >>> 2;
    const end = word + (left >>> 2);
    let a = 0;
    let b = 0;
    let c = 0;
    let d = 0;
    // Floating-point sums of up to 2^14 words are exact, and four of them keep the additions independent.
    for (; word + 16 <= end; word += 16) {
      a += words[word]! + words[word + 1]! + words[word + 2]! + words[word + 3]!;
      b += words[word + 4]! + words[word + 5]! + words[word + 6]! + words[word + 7]!;
      c += words[word + 8]! + words[word + 9]! + words[word + 10]! + words[word + 11]!;
      d += words[word + 12]! + words[word + 13]! + words[word + 14]! + words[word + 15]!;
    }
    for (; word + 4 <= end; word += 4) a += words[word]! + words[word + 1]! + words[word + 2]! + words[word + 3]!;
    for (; word < end; word++) a += words[word]!;
    total += a + b + c + d;
    start += left & ~3;
    if ((left & 2) === 2) {
      total += bytes[start]! | (bytes[start + 1]! << 8);
      start += 2;
    }
    if ((left & 1) === 1) total += bytes[start]!;
    const high = Math.floor(total / 0x1_0000_0000);
    const low = total >>> 0;
    const folded = fold((low & 0xffff) + (low >>> 16) + (high & 0xffff) + (high >>> 16));
    return ((folded & 0xff) << 8) | (folded >>> 8);
  }

  /** The checksum field's value for `length` octets at `at` (which hold zero there), with `partial` sums of what is elsewhere. */
  of(at: number, length: number, partial = 0): number {
    return ~fold(this.sum(at, length) + partial) & 0xffff;
  }

  /** The pseudo-header's sum: the addresses of the IP header at `ipAt`, the protocol and the transport length. */
  pseudo(ipAt: number, protocol: number, transportBytes: number): number {
    const v4 = this.#bytes[ipAt]! >> 4 === 4;
    const addresses = v4 ? this.sum(ipAt + 12, 8) : this.sum(ipAt + 8, 32);
    return fold(addresses + protocol + (transportBytes & 0xffff) + (transportBytes >>> 16));
  }

  #sumOctets(at: number, length: number): number {
    const bytes = this.#bytes;
    let total = 0;
    let i = at;
    for (const end = at + length - 1; i < end; i += 2) total += (bytes[i]! << 8) | bytes[i + 1]!;
    if ((length & 1) === 1) total += bytes[i]! << 8;
    return fold(total);
  }
}

/** Adds the carries back in, until 16 bits are left. */
export function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}

/** Writes `header`'s IPv4 header checksum (RFC 791 §3.1). */
export function writeIpv4Checksum(checksum: Checksum, bytes: Uint8Array, ipAt: number, headerBytes: number): void {
  bytes[ipAt + 10] = 0;
  bytes[ipAt + 11] = 0;
  const value = checksum.of(ipAt, headerBytes);
  bytes[ipAt + 10] = value >>> 8;
  bytes[ipAt + 11] = value & 0xff;
}
