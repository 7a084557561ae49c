/** Which child SAs are wanted and by whom: ACQUIREs, commands, `initiate start`; and the pause between attempts while a peer is away. */

import type { SelectorPair } from '../ipsec/selector-pair.ts';
import type { ChildPolicy } from './child-policy.ts';

/** A child SA that is wanted. Who waits for it is known to `Demands`. */
export interface Demand {
  readonly policy: ChildPolicy;
  /** The packet that asks for it, as selectors. */
  readonly packet?: SelectorPair | undefined;
}

/** Who is to be told how an attempt ended. */
export interface Waiter {
  readonly command?: number;
  readonly acquire?: { readonly seq: number; readonly satype: number; readonly packet: SelectorPair | undefined };
}

/** The first pause after a failure, doubled with each further one up to the last. Milliseconds. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 8_000;
/** Waiters of one child; a datapath that asks more often than we answer gets no more said. */
const MOST_WAITERS = 64;

interface Entry {
  policy: ChildPolicy;
  waiters: Waiter[];
  /** A negotiation is under way. */
  trying: boolean;
  failures: number;
  /** No attempt before this, `mono`; undefined: no pause. */
  notBefore: number | undefined;
  /** Tried again without a new reason: `initiate start`, and children that were in use when their peer fell silent. */
  standing: boolean;
}

/** One entry a selector, for those that are wanted or failed lately. */
export class Demands {
  readonly #entries = new Map<string, Entry>();

  #of(policy: ChildPolicy): Entry {
    const known = this.#entries.get(policy.name);
    if (known !== undefined) {
      known.policy = policy;
      return known;
    }
    const entry: Entry = { policy, waiters: [], trying: false, failures: 0, notBefore: undefined, standing: false };
    this.#entries.set(policy.name, entry);
    return entry;
  }

  /** Someone wants it. True where an attempt is to begin now; else one is under way, or a pause is to be waited out. A command waits for no pause. */
  want(policy: ChildPolicy, waiter: Waiter, standing: boolean, mono: number): boolean {
    const entry = this.#of(policy);
    const repeated = entry.waiters.some(({ acquire }) => acquire !== undefined && acquire.seq === waiter.acquire?.seq);
    if ((waiter.command !== undefined || waiter.acquire !== undefined) && !repeated && entry.waiters.length < MOST_WAITERS)
      entry.waiters.push(waiter);
    entry.standing ||= standing;
    if (entry.trying) return false;
    if (waiter.command === undefined && entry.notBefore !== undefined && mono < entry.notBefore) return false;
    entry.trying = true;
    entry.notBefore = undefined;
    return true;
  }

  /** A packet that waits for it, as selectors. */
  packetFor(name: string): SelectorPair | undefined {
    return this.#entries.get(name)?.waiters.find(({ acquire }) => acquire?.packet !== undefined)?.acquire?.packet;
  }

  /** It is there. Returns who waited. */
  met(name: string): readonly Waiter[] {
    const entry = this.#entries.get(name);
    this.#entries.delete(name);
    return entry?.waiters ?? [];
  }

  /** The peer made one while we paused. Returns who waited; an attempt that is under way goes on. */
  arrived(name: string): readonly Waiter[] {
    return this.#entries.get(name)?.trying === false ? this.met(name) : [];
  }

  /** An attempt failed. Returns who waited, and when a standing demand is tried again. */
  failed(policy: ChildPolicy, mono: number): { readonly waiters: readonly Waiter[]; readonly again: number | undefined } {
    const entry = this.#of(policy);
    const { waiters } = entry;
    entry.waiters = [];
    entry.trying = false;
    entry.failures += 1;
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (entry.failures - 1));
    entry.notBefore = mono + pause;
    return { waiters, again: entry.standing ? pause : undefined };
  }

  /** It was lost and is wanted without being asked for: the next attempt follows a pause. */
  again(policy: ChildPolicy, mono: number): void {
    const entry = this.#of(policy);
    entry.standing = true;
    if (!entry.trying) entry.notBefore ??= mono + FIRST_PAUSE_MS;
  }

  /** Nobody wants it any more. Returns who waited. */
  drop(name: string): readonly Waiter[] {
    return this.met(name);
  }

  /** Those whose pause is over and that are wanted still; the rest is forgotten. */
  due(mono: number): ChildPolicy[] {
    const due: ChildPolicy[] = [];
    for (const [name, entry] of this.#entries) {
      if (entry.trying || entry.notBefore === undefined || entry.notBefore > mono) continue;
      if (entry.standing || entry.waiters.length > 0) due.push(entry.policy);
      else if (entry.notBefore + LONGEST_PAUSE_MS <= mono) this.#entries.delete(name);
    }
    return due;
  }

  wakeAt(): number | undefined {
    let first: number | undefined;
    for (const { trying, notBefore, standing, waiters } of this.#entries.values()) {
      if (trying || notBefore === undefined) continue;
      const at = standing || waiters.length > 0 ? notBefore : notBefore + LONGEST_PAUSE_MS;
      if (first === undefined || at < first) first = at;
    }
    return first;
  }
}
