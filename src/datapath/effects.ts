/** What the packet path wants said to the rest of the world: rare, bounded, drained by the host (RFC 4301 §4.4.2.1, RFC 2367 §3.1.6, §3.1.8). */

import type { KmAddress, Policy, Template } from '../ipsec/policy.ts';
import type { Endpoint, IpAddress } from '../net/address.ts';
import type { Larval, Sa } from './sa.ts';

/** The packet that wants an SA: what ACQUIRE tells (RFC 2367 §3.1.6). Ports as PF_KEY has them: ICMP type and code are the two ports. */
export interface AcquireTrigger {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

export type Effect =
  /** An SA is wanted for `policy`. `packet` is (the beginning of) the packet that wants it. */
  | {
      readonly kind: 'acquire';
      readonly seq: number;
      readonly policy: Policy;
      readonly kmAddress: KmAddress | undefined;
      readonly template: Template;
      readonly trigger: AcquireTrigger;
      readonly packet: Uint8Array;
    }
  /** Nobody answered an ACQUIRE (SPI 0) or completed a GETSPI in time. */
  | { readonly kind: 'larval-expired'; readonly larval: Larval }
  /** A soft limit was reached, once in an SA's life; or a hard one: the SA is gone. */
  | { readonly kind: 'expire'; readonly hard: boolean; readonly sa: Sa }
  /** An authenticated packet came from another address or port than the SA's (RFC 3948, RFC 7296 §2.23). */
  | { readonly kind: 'new-mapping'; readonly sa: Sa; readonly before: Endpoint; readonly now: Endpoint };

/** A bounded queue of effects. When it is full the newest are lost and counted: the daemons resynchronise by DUMP. */
export class EffectRing {
  lost = 0;
  readonly #limit: number;
  #queue: Effect[] = [];

  constructor(limit = 1024) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#queue.length;
  }

  get isFull(): boolean {
    return this.#queue.length >= this.#limit;
  }

  push(effect: Effect): void {
    if (this.#queue.length < this.#limit) this.#queue.push(effect);
    else this.lost++;
  }

  drain(): readonly Effect[] {
    if (this.#queue.length === 0) return NOTHING;
    const drained = this.#queue;
    this.#queue = [];
    return drained;
  }
}

const NOTHING: readonly Effect[] = [];
