/**
 * Movements that a key daemon may not have heard of yet: an SA that it makes between former ends is made between the present ones, else it
 * would be stranded (an exchange that was under way while X_MIGRATE came).
 */

import { type Ends, sameEnds } from '../ipsec/policy.ts';
import type { SaParameters } from '../ipsec/sa.ts';
import type { Instant } from '../machine.ts';
import type { Movement } from '../pfkey/convert-migrate.ts';

/** More are forgotten, the oldest first. */
const MOST = 256;

interface Recent extends Movement {
  readonly until: number;
}

export class RecentMovements {
  readonly #lifetime: number;
  #recent: readonly Recent[] = [];

  /** `lifetime`: milliseconds for which an exchange may have been under way. */
  constructor(lifetime: number) {
    this.#lifetime = lifetime;
  }

  /** SAs without a reqid are bound to their ends: an SA between former ones is then no mistake. */
  note(movement: Movement, now: Instant): void {
    if (movement.reqid === 0 || sameEnds(movement.old, movement.new)) return;
    const until = now.mono + this.#lifetime;
    const others = this.#recent
      .filter((one) => one.until > now.mono)
      .filter((one) => !(sameKind(one, movement) && (sameEnds(one.old, movement.new) || sameEnds(one.old, movement.old))))
      .map((one) => (sameKind(one, movement) && sameEnds(one.new, movement.old) ? { ...one, new: movement.new } : one));
    this.#recent = [...others, { ...movement, until }].slice(-MOST);
  }

  /** A policy was put that asks for SAs of this reqid between `ends`: they are right again. */
  settled(reqid: number, ends: Ends): void {
    if (this.#recent.length === 0) return;
    this.#recent = this.#recent.filter((one) => one.reqid !== reqid || !sameEnds(one.old, ends));
  }

  /** The parameters with the present ends, ports of UDP encapsulation kept. */
  follow(parameters: SaParameters, now: Instant): SaParameters {
    const movement = this.#recent.find(
      (one) => one.until > now.mono && sameKind(one, parameters) && sameEnds(one.old, parameters),
    );
    return movement === undefined ? parameters : movedTo(parameters, movement.new);
  }
}

/** An SA's parameters between other ends; UDP encapsulation keeps its ports. */
export function movedTo(parameters: SaParameters, to: Ends): SaParameters {
  const { encapsulation } = parameters;
  return {
    ...parameters,
    ...to,
    encapsulation: encapsulation && {
      source: { address: to.source, port: encapsulation.source.port },
      destination: { address: to.destination, port: encapsulation.destination.port },
    },
  };
}

function sameKind(a: Movement, b: Pick<Movement, 'protocol' | 'mode' | 'reqid'>): boolean {
  return a.protocol === b.protocol && a.mode === b.mode && a.reqid === b.reqid;
}
