/**
 * Idle lifetimes: a pair that carried nothing either way for `ipsec_sa_lifetime_idle` ends, and traffic brings it back (RFC 4301 §4.4.2.1 leaves more kinds of
 * lifetime to the implementation). The datapath counts packets; it is asked now and then, so that the packet path has no clock to look at.
 */

import type { SaPair } from './sa-pair.ts';

/** It is asked this often in the time that is allowed, and once a second at most. */
const LOOKS = 8;
const LEAST_MS = 1_000;

export interface IdlenessHost<P extends SaPair> {
  readonly now: { readonly mono: number };
  pairs(): readonly P[];
  /** GET of its SA in each direction; each ends in `Idleness.counted`. */
  askCarried(pair: P): void;
  hardExpired(pair: P, why: string): void;
}

interface Watch {
  /** When it is looked at next, and since when nothing has moved, `mono`. */
  at: number;
  since: number;
  packets: number;
  /** What the look at hand has found so far. */
  looking: { left: number; packets: number; isThere: boolean } | undefined;
}

export class Idleness<P extends SaPair> {
  readonly #host: IdlenessHost<P>;
  readonly #watches = new WeakMap<P, Watch>();

  constructor(host: IdlenessHost<P>) {
    this.#host = host;
  }

  passTime(): void {
    const { mono } = this.#host.now;
    for (const pair of this.#host.pairs()) {
      if (this.#dueAt(pair) > mono) continue;
      const watch = this.#watches.get(pair) ?? { at: 0, since: pair.since, packets: 0, looking: undefined };
      this.#watches.set(pair, watch);
      watch.at = mono + stepOf(pair);
      watch.looking = { left: 2, packets: 0, isThere: true };
      this.#host.askCarried(pair);
    }
  }

  wakeAt(): number | undefined {
    const at = Math.min(Number.POSITIVE_INFINITY, ...this.#host.pairs().map((pair) => this.#dueAt(pair)));
    return Number.isFinite(at) ? at : undefined;
  }

  /** The datapath's answer about one direction; undefined: it does not say, or does not have the SA. */
  counted(pair: P, packets: number | undefined): void {
    const watch = this.#watches.get(pair);
    if (watch?.looking === undefined) return;
    const { looking } = watch;
    looking.left -= 1;
    looking.packets += packets ?? 0;
    if (packets === undefined) looking.isThere = false;
    if (looking.left > 0) return;
    watch.looking = undefined;
    const { mono } = this.#host.now;
    if (!looking.isThere || looking.packets > watch.packets) {
      watch.packets = looking.packets;
      watch.since = mono;
    } else if (pair.state === 'installed' && mono - watch.since >= pair.idleMs)
      this.#host.hardExpired(pair, `it carried nothing for ${Math.round((mono - watch.since) / 1000)} s`);
  }

  /** A pair that is to be there always, or that another carries on for, is not looked at. */
  #dueAt(pair: P): number {
    if (pair.idleMs === 0 || pair.state !== 'installed' || pair.superseded) return Number.POSITIVE_INFINITY;
    if (pair.policy.policy.initiate === 'start') return Number.POSITIVE_INFINITY;
    return this.#watches.get(pair)?.at ?? pair.since + stepOf(pair);
  }
}

function stepOf({ idleMs }: SaPair): number {
  return Math.max(LEAST_MS, idleMs / LOOKS);
}
