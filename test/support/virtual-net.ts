/** A network with a virtual clock: datagrams with whatever faults a test wants, and everything that waits for a deadline. */

import type { Path } from '../../src/net/address.ts';

/** Milliseconds from one node to another, and between a machine and its datapath or spmd. */
export const FLIGHT_MS = 10;
export const LOCAL_MS = 1;

/** What stands at an address. */
export interface NetNode {
  readonly name: string;
  readonly addresses: readonly string[];
  put(input: { readonly kind: 'datagram'; readonly path: Path; readonly bytes: Uint8Array } | { readonly kind: 'tick' }): void;
  wakeAt(): number | undefined;
}

/** A datagram on its way. */
export interface Flight<N extends NetNode = NetNode> {
  readonly from: N;
  readonly path: Path;
  readonly bytes: Uint8Array;
  readonly number: number;
}

/** What becomes of a datagram: how long each copy takes; none: it is lost. */
export type Fate = readonly number[];

interface Due {
  readonly at: number;
  readonly serial: number;
  readonly run: () => void;
}

/** The network, its faults and the clock of everything on it. */
export class VirtualNet<N extends NetNode> {
  readonly nodes: N[] = [];
  mono = 1_000;
  /** Decides about every datagram. */
  fate: (flight: Flight<N>) => Fate = () => [FLIGHT_MS];
  /** Rewrites addresses on the way, or loses the datagram. */
  translate: (path: Path) => Path | undefined = (path) => path;
  readonly flights: Flight<N>[] = [];
  #due: Due[] = [];
  #serial = 0;

  get now() {
    return { mono: this.mono, wall: 1_700_000_000_000 + this.mono };
  }

  after(ms: number, run: () => void): void {
    this.#serial += 1;
    this.#due.push({ at: this.mono + ms, serial: this.#serial, run });
  }

  send(from: N, path: Path, bytes: Uint8Array): void {
    const flight: Flight<N> = { from, path, bytes: bytes.slice(), number: this.flights.length };
    this.flights.push(flight);
    for (const delay of this.fate(flight)) this.after(delay, () => this.#arrive(flight));
  }

  #arrive({ path, bytes }: Flight<N>): void {
    const seen = this.translate(path);
    if (seen === undefined) return;
    const to = this.nodes.find((node) => node.addresses.includes(`${seen.remote.address}`));
    to?.put({ kind: 'datagram', path: { local: seen.remote, remote: seen.local, encapsulated: seen.encapsulated }, bytes });
  }

  /** Lets `ms` pass, from deadline to deadline. */
  run(ms = 3_000): void {
    const end = this.mono + ms;
    for (let steps = 0; ; steps++) {
      if (steps > 200_000) throw new Error('the network does not come to rest');
      const at = this.#next();
      if (at === undefined || at > end) break;
      this.mono = Math.max(this.mono, at);
      this.#step();
    }
    this.mono = end;
  }

  /** Runs until `done`, and says whether it came to that within `ms`. */
  until(done: () => boolean, ms = 60_000): boolean {
    const end = this.mono + ms;
    while (!done()) {
      const at = this.#next();
      if (at === undefined || at > end) return false;
      this.mono = Math.max(this.mono, at);
      this.#step();
    }
    return true;
  }

  #next(): number | undefined {
    const times = [...this.#due.map(({ at }) => at), ...this.nodes.flatMap((node) => node.wakeAt() ?? [])];
    return times.length === 0 ? undefined : Math.min(...times);
  }

  #step(): void {
    const due = this.#due.filter(({ at }) => at <= this.mono).sort((a, b) => a.at - b.at || a.serial - b.serial);
    if (due.length > 0) {
      this.#due = this.#due.filter((one) => one !== due[0]);
      due[0]!.run();
      return;
    }
    for (const node of this.nodes) if ((node.wakeAt() ?? Number.POSITIVE_INFINITY) <= this.mono) node.put({ kind: 'tick' });
  }

  // Faults.

  /** Loses the datagrams for which `which` holds, the first `times` of them. */
  lose(which: (flight: Flight<N>) => boolean, times = Number.POSITIVE_INFINITY): void {
    const before = this.fate;
    let left = times;
    this.fate = (flight) => {
      if (left > 0 && which(flight)) {
        left -= 1;
        return [];
      }
      return before(flight);
    };
  }

  /** Everything arrives without faults again. */
  heal(): void {
    this.fate = () => [FLIGHT_MS];
  }
}
