/** The network between the nodes: datagrams with loss, duplication, delay, reordering, corruption and cuts, all by chance from the seed. */

import type { Endpoint, IpAddress } from '../../src/net/address.ts';
import type { Chance } from './chance.ts';
import type { Clock } from './clock.ts';

/** What travels: UDP, or ESP directly over IP. */
export type Datagram =
  | { readonly kind: 'udp'; readonly from: Endpoint; readonly to: Endpoint; readonly bytes: Uint8Array }
  | { readonly kind: 'esp'; readonly from: IpAddress; readonly to: IpAddress; readonly bytes: Uint8Array };

export interface Faults {
  readonly loss: number;
  readonly duplication: number;
  /** Of the duplicates, those that come much later: what a replaying attacker does. */
  readonly lateReplay: number;
  readonly corruption: number;
  /** Milliseconds each way. The spread is what reorders. */
  readonly delay: readonly [number, number];
}

export const NO_FAULTS: Faults = { loss: 0, duplication: 0, lateReplay: 0, corruption: 0, delay: [10, 10] };

export interface NetworkCounts {
  sent: number;
  lost: number;
  duplicated: number;
  corrupted: number;
  unreachable: number;
}

/** Nodes by their outer addresses, and what happens on the way between them. */
export class Network {
  readonly #clock: Clock;
  readonly #chance: Chance;
  readonly #doors = new Map<string, (datagram: Datagram) => void>();
  /** Pairs that do not hear each other now, with how many cuts are in force. */
  readonly #cuts = new Map<string, number>();
  readonly counts: NetworkCounts = { sent: 0, lost: 0, duplicated: 0, corrupted: 0, unreachable: 0 };
  faults: Faults = NO_FAULTS;
  /** Datagrams that a test lets through. */
  passes: (datagram: Datagram) => boolean = () => true;
  /** Datagrams on their way. */
  inFlight = 0;

  constructor(clock: Clock, chance: Chance) {
    this.#clock = clock;
    this.#chance = chance;
  }

  attach(address: IpAddress, door: (datagram: Datagram) => void): void {
    this.#doors.set(address.toString(), door);
  }

  detach(address: IpAddress): void {
    this.#doors.delete(address.toString());
  }

  /** No datagram passes between the two for `milliseconds`. */
  cut(a: IpAddress, b: IpAddress, milliseconds: number): void {
    const pair = pairOf(a.toString(), b.toString());
    this.#cuts.set(pair, (this.#cuts.get(pair) ?? 0) + 1);
    this.#clock.after(milliseconds, () => this.#cuts.set(pair, this.#cuts.get(pair)! - 1));
  }

  send(datagram: Datagram): void {
    const { faults, counts } = this;
    const chance = this.#chance;
    counts.sent++;
    if (!this.#doors.has(sourceOf(datagram))) {
      // It left the host with an address that the host does not have any more.
      counts.unreachable++;
      return;
    }
    if (
      !this.passes(datagram) ||
      (this.#cuts.get(pairOf(sourceOf(datagram), destinationOf(datagram))) ?? 0) > 0 ||
      chance.happens(faults.loss)
    ) {
      counts.lost++;
      return;
    }
    if (chance.happens(faults.duplication)) {
      counts.duplicated++;
      this.#deliver(datagram, chance.happens(faults.lateReplay) ? chance.between(1_000, 120_000) : this.#delay());
    }
    if (chance.happens(faults.corruption)) {
      counts.corrupted++;
      const bytes = datagram.bytes.slice();
      if (bytes.length > 0) bytes[chance.below(bytes.length)]! ^= 1 << chance.below(8);
      return this.#deliver({ ...datagram, bytes }, this.#delay());
    }
    this.#deliver(datagram, this.#delay());
  }

  #delay(): number {
    const [least, most] = this.faults.delay;
    return this.#chance.between(least, most);
  }

  #deliver(datagram: Datagram, delay: number): void {
    this.inFlight++;
    this.#clock.after(delay, () => {
      this.inFlight--;
      const door = this.#doors.get(destinationOf(datagram));
      if (door === undefined) this.counts.unreachable++;
      else door(datagram);
    });
  }
}

function pairOf(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}

function sourceOf(datagram: Datagram): string {
  return (datagram.kind === 'udp' ? datagram.from.address : datagram.from).toString();
}

function destinationOf(datagram: Datagram): string {
  return (datagram.kind === 'udp' ? datagram.to.address : datagram.to).toString();
}
