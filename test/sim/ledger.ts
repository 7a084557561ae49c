/** Every packet that the simulated applications send: where it has to arrive, and how often it did. */

import type { Wanted } from './scenario.ts';

export interface Sent {
  readonly id: number;
  readonly wanted: Wanted;
  /** From the wanted child's `a` to its `b`, or back. */
  readonly forward: boolean;
  readonly at: number;
  accepted: number;
}

export class Ledger {
  readonly #sent: Sent[] = [];
  /** Deliveries in all. */
  delivered = 0;

  get size(): number {
    return this.#sent.length;
  }

  send(wanted: Wanted, forward: boolean, at: number): Sent {
    const sent = { id: this.#sent.length, wanted, forward, at, accepted: 0 };
    this.#sent.push(sent);
    return sent;
  }

  /** A packet came out of a device: what is wrong with that, or undefined. */
  accept(id: number | undefined, destination: string): string | undefined {
    const sent = id === undefined ? undefined : this.#sent[id];
    if (sent === undefined) return `a packet that nobody sent was accepted for ${destination}`;
    sent.accepted++;
    this.delivered++;
    const expected = (sent.forward ? sent.wanted.innerB : sent.wanted.innerA).toString();
    if (destination !== expected) return `packet ${sent.id} for ${expected} was accepted for ${destination}`;
    if (sent.accepted > 1) return `packet ${sent.id} (${sent.wanted.selector}) was accepted ${sent.accepted} times`;
    return undefined;
  }

  /** Packets sent between two times that never arrived. */
  missing(from: number, to: number): readonly Sent[] {
    return this.#sent.filter(({ at, accepted }) => at >= from && at <= to && accepted === 0);
  }
}
