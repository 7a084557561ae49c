/** IPComp in the arena (RFC 3173): payloads made shorter where that gains something, and made whole again within bounds. It is off the fast path. */

import type { Compressor } from '../bytes/compressor.ts';
import type { Sa } from './sa.ts';

/** Next header, flags (zero) and CPI, §3.3. */
export const IPCOMP_HEADER = 4;
const CPI = 2;
/** §2.2: shorter payloads rarely gain anything. */
const LEAST_PAYLOAD = 90;
/** Packets that go as they are after `n` in a row could not be compressed: 2^n, and at most this many (§2.2, adaptive). */
const MOST_SKIPPED = 64;

interface Progress {
  failures: number;
  skip: number;
}

export class Ipcomp {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #compressor: Compressor | undefined;
  readonly #progress = new WeakMap<Sa, Progress>();

  constructor(arena: Uint8Array, compressor: Compressor | undefined) {
    this.#bytes = arena;
    this.#view = new DataView(arena.buffer, arena.byteOffset, arena.length);
    this.#compressor = compressor;
  }

  /** Whether this host can compress at all. */
  get isBuilt(): boolean {
    return this.#compressor !== undefined;
  }

  /**
   * Puts the header and the compressed payload in the place of the payload at `at`: octets of both, or 0 where that would not be shorter and nothing
   * was changed.
   */
  compress(sa: Sa, at: number, payloadBytes: number, nextHeader: number): number {
    const progress = this.#progressOf(sa);
    if (payloadBytes < LEAST_PAYLOAD || this.#compressor === undefined) return 0;
    if (progress.skip > 0) {
      progress.skip--;
      return 0;
    }
    const deflated = this.#compressor.deflate(this.#bytes.subarray(at, at + payloadBytes));
    const length = IPCOMP_HEADER + deflated.length;
    if (length >= payloadBytes) {
      progress.failures++;
      progress.skip = Math.min(MOST_SKIPPED, 2 ** progress.failures);
      return 0;
    }
    progress.failures = 0;
    this.#bytes[at] = nextHeader;
    this.#bytes[at + 1] = 0;
    this.#view.setUint16(at + CPI, sa.spi);
    this.#bytes.set(deflated, at + IPCOMP_HEADER);
    return length;
  }

  /** The CPI of the header at `at`. */
  cpiAt(at: number): number {
    return this.#view.getUint16(at + CPI);
  }

  /** Writes what the payload behind the header at `at` was to `to`: its octets, or -1 where that is not to be had in `most` octets. */
  decompress(at: number, length: number, to: number, most: number): number {
    const inflated = this.#compressor?.inflate(this.#bytes.subarray(at + IPCOMP_HEADER, at + length), most);
    if (inflated === undefined) return -1;
    this.#bytes.set(inflated, to);
    return inflated.length;
  }

  #progressOf(sa: Sa): Progress {
    let progress = this.#progress.get(sa);
    if (progress === undefined) {
      progress = { failures: 0, skip: 0 };
      this.#progress.set(sa, progress);
    }
    return progress;
  }
}
