/** The replay cache of a host and its file: what was accepted is on disk before it has an effect, so that a restart forgets nothing (RFC 4120 §3.2.3). */

import { WireError } from '../src/errors.ts';
import type { Host } from './host.ts';
import type { Accepted } from './krb5/ap-exchange.ts';
import { ReplayCache, replayLimits } from './krb5/replay-cache.ts';

/** Records that are appended before the file is written anew without those that are of no use any more. */
const MOST_APPENDED = 4096;

export class Replays {
  readonly #host: Host;
  readonly #file: Uint8Array | undefined;
  #cache: ReplayCache | undefined;
  #clockSkewMs = 0;
  #appended = 0;

  /** `file`: what the last run left; undefined: nothing. It is read as soon as the clock skew is known. */
  constructor(host: Host, file: Uint8Array | undefined) {
    this.#host = host;
    this.#file = file;
  }

  get size(): number {
    return this.#cache?.size ?? 0;
  }

  /** Whether it vouches for its whole window. */
  get complete(): boolean {
    return this.#cache?.complete(this.#host.now.wall) ?? false;
  }

  /** Whether an authenticator was accepted before. */
  has(id: Uint8Array): boolean {
    return this.#cache?.has(id) ?? false;
  }

  /** Remembers an authenticator that was accepted, on disk too. */
  add({ authenticatorId }: Accepted): void {
    if (this.#cache === undefined) return;
    const record = this.#cache.add(authenticatorId, this.#host.now.wall);
    this.#appended += 1;
    if (this.#appended <= MOST_APPENDED) return this.#host.emit({ kind: 'replays', record });
    this.#appended = 0;
    this.#host.emit({ kind: 'replays', whole: this.#cache.write() });
  }

  /** A configuration took effect: its clock skew says how long an authenticator can be replayed. */
  configure(clockSkewMs: number): void {
    if (this.#cache !== undefined && clockSkewMs === this.#clockSkewMs) return;
    this.#clockSkewMs = clockSkewMs;
    const octets = this.#cache?.write() ?? this.#file;
    this.#cache = this.#read(octets, clockSkewMs);
    this.#host.emit({ kind: 'replays', whole: this.#cache.write() });
    if (this.complete) return;
    const seconds = Math.ceil((this.#cache.completeAt() - this.#host.now.wall) / 1000);
    this.#host.report(
      'replay-cache-young',
      `the replay cache does not know the last ${(2 * clockSkewMs) / 1000} s yet: for ${seconds} s every CREATE is answered with a nonce and needs an ACK`,
      { seconds },
    );
  }

  #read(octets: Uint8Array | undefined, clockSkewMs: number): ReplayCache {
    const { wall } = this.#host.now;
    const limits = replayLimits(clockSkewMs);
    if (octets === undefined) return new ReplayCache(limits, wall);
    try {
      return ReplayCache.read(octets, limits, wall);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#host.report(
        'replay-cache-lost',
        `the file of the replay cache is damaged (${error.message}): an empty one takes its place`,
      );
      return new ReplayCache(limits, wall);
    }
  }
}
