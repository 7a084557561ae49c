/** The replay cache (RFC 4120 §3.2.3): which authenticators were accepted, and since when it has seen them all. Pure; a shell persists its octets. */

import { cat, fromHex, hex } from '../../src/bytes/bytes.ts';
import { Fault } from '../../src/errors.ts';
import { Reader } from '../../src/wire/reader.ts';
import { Writer } from '../../src/wire/writer.ts';

const MAGIC = 0x544b5243; // TKRC
const VERSION = 1;
const ID_BYTES = 32;

export interface ReplayCacheLimits {
  /** How long an authenticator can be replayed after it was accepted: it may be a skew ahead of us, and is good for a skew after its own time. */
  readonly windowMs: number;
  readonly most: number;
}

/** Twice the skew. The bound is 2 MB of identifiers; only authenticated clients fill it. */
export function replayLimits(clockSkewMs: number, most = 65_536): ReplayCacheLimits {
  return { windowMs: 2 * clockSkewMs, most };
}

/**
 * Identifiers are of 32 octets, times are wall clock milliseconds. Where the cache cannot vouch for the whole window (it is new, its file was lost, it
 * overflowed, the clock was set back) `complete` says so, and the caller must not rely on it alone: KINK then adds a nonce of its own.
 */
export class ReplayCache {
  readonly #limits: ReplayCacheLimits;
  /** Identifier to acceptance, oldest first. */
  readonly #accepted = new Map<string, number>();
  /** All that was accepted later is known. */
  #knownAfter: number;

  constructor(limits: ReplayCacheLimits, now: number) {
    this.#limits = limits;
    this.#knownAfter = now;
  }

  get size(): number {
    return this.#accepted.size;
  }

  has(id: Uint8Array): boolean {
    return this.#accepted.has(hex(id));
  }

  /** Remembers an authenticator that was accepted. The octets returned, appended to those of `write`, make the file say so too. */
  add(id: Uint8Array, now: number): Uint8Array {
    if (id.length !== ID_BYTES) throw new Fault(`an identifier has ${ID_BYTES} octets, not ${id.length}`);
    this.expire(now);
    this.#accepted.set(hex(id), now);
    while (this.#accepted.size > this.#limits.most) this.#forgetOldest();
    return record(id, now);
  }

  /** Forgets what can be replayed no more. */
  expire(now: number): void {
    for (const at of this.#accepted.values()) {
      if (now - at <= this.#limits.windowMs) return;
      this.#forgetOldest();
    }
  }

  /** Whether any authenticator that would still be accepted and was accepted before is known. Also false after the clock was set back. */
  complete(now: number): boolean {
    return now - this.#limits.windowMs > this.#knownAfter;
  }

  /** After which time `complete` is true if nothing more is forgotten. */
  completeAt(): number {
    return this.#knownAfter + this.#limits.windowMs;
  }

  /** The whole cache as octets, for a new file. */
  write(): Uint8Array {
    const writer = new Writer(16);
    writer.u32(MAGIC);
    writer.u32(VERSION);
    writer.u64(BigInt(Math.ceil(this.#knownAfter)));
    return cat(writer.finish(), ...[...this.#accepted].map(([id, at]) => record(fromHex(id)!, at)));
  }

  /**
   * A cache out of the octets of its file. A record that was cut off at the end belongs to an authenticator that nobody was answered for: whoever
   * appends does so before the answer. Throws WireError where it is no such file; begin with a new cache then.
   */
  static read(bytes: Uint8Array, limits: ReplayCacheLimits, now: number): ReplayCache {
    const reader = new Reader(bytes, 'replay cache');
    if (reader.u32() !== MAGIC || reader.u32() !== VERSION) reader.fail('this is no replay cache of ours', 0);
    const cache = new ReplayCache(limits, Number(reader.u64()));
    while (reader.left >= 8 + ID_BYTES) {
      const at = Number(reader.u64());
      cache.#accepted.set(hex(reader.bytes(ID_BYTES)), at);
      while (cache.#accepted.size > limits.most) cache.#forgetOldest();
    }
    cache.expire(now);
    return cache;
  }

  #forgetOldest(): void {
    for (const [id, at] of this.#accepted) {
      this.#accepted.delete(id);
      this.#knownAfter = Math.max(this.#knownAfter, at);
      return;
    }
  }
}

function record(id: Uint8Array, at: number): Uint8Array {
  const writer = new Writer(8 + ID_BYTES);
  writer.u64(BigInt(Math.floor(at)));
  writer.bytes(id);
  return writer.finish();
}
