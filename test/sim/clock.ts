/** Virtual time: a queue of what is to happen and when. The clock jumps from one entry to the next. Hosts read it off clocks of their own. */

import type { Instant } from '../../src/machine.ts';

const WALL = 1_900_000_000_000;

interface Entry {
  readonly at: number;
  readonly order: number;
  readonly act: () => void;
}

/** What a machine is run by: a reading, and deadlines in terms of it. */
export interface Timeline {
  readonly mono: number;
  now(): Instant;
  /** `act` is carried out when `mono` is `at`, or later by less than a millisecond. */
  at(at: number, act: () => void): void;
}

/** A binary heap by time, and by order of entry where the time is the same. */
export class Clock implements Timeline {
  readonly #heap: Entry[] = [];
  #order = 0;
  /** Milliseconds since the world began. */
  mono = 0;
  /** Entries carried out. */
  steps = 0;

  now(): Instant {
    return { mono: this.mono, wall: WALL + this.mono };
  }

  get waiting(): number {
    return this.#heap.length;
  }

  /** `act` is carried out `delay` milliseconds from now. */
  after(delay: number, act: () => void): void {
    this.at(this.mono + delay, act);
  }

  at(at: number, act: () => void): void {
    const heap = this.#heap;
    const entry = { at: Math.max(at, this.mono), order: this.#order++, act };
    let child = heap.push(entry) - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (!before(entry, heap[parent]!)) break;
      heap[child] = heap[parent]!;
      child = parent;
    }
    heap[child] = entry;
  }

  /** Carries out everything up to `until`, or to where `stop` says so. */
  run(until: number, stop: () => boolean): void {
    while (this.#heap.length > 0 && this.#heap[0]!.at <= until && !stop()) {
      const { at, act } = this.#pop();
      this.mono = at;
      this.steps++;
      act();
    }
    if (!stop()) this.mono = Math.max(this.mono, until);
  }

  #pop(): Entry {
    const heap = this.#heap;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let parent = 0;
    for (;;) {
      let child = 2 * parent + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[parent] = heap[child]!;
      parent = child;
    }
    heap[parent] = last;
    return first;
  }
}

/** How a host's clocks differ from the world's. */
export interface Drift {
  /** Milliseconds of the host's in one of the world's. */
  readonly rate: number;
  /** What `mono` was when the world began, in milliseconds. */
  readonly uptime: number;
  /** How far the wall clock was ahead then. */
  readonly ahead: number;
}

/** A host's own idea of the time: it began elsewhere, and runs a little faster or slower than the world's. */
export class HostClock implements Timeline {
  readonly #world: Clock;
  readonly #drift: Drift;
  #ahead: number;

  constructor(world: Clock, drift: Drift) {
    this.#world = world;
    this.#drift = drift;
    this.#ahead = drift.ahead;
  }

  get mono(): number {
    return this.#monoAt(this.#world.mono);
  }

  now(): Instant {
    const { mono } = this;
    return { mono, wall: Math.round(WALL + this.#ahead + mono - this.#drift.uptime) };
  }

  at(at: number, act: () => void): void {
    let due = Math.ceil((at - this.#drift.uptime) / this.#drift.rate);
    while (this.#monoAt(due) < at) due++;
    this.#world.at(due, act);
  }

  /** Somebody, or NTP, sets the wall clock. */
  step(milliseconds: number): void {
    this.#ahead += milliseconds;
  }

  #monoAt(world: number): number {
    return this.#drift.uptime + world * this.#drift.rate;
  }
}

function before(a: Entry, b: Entry): boolean {
  return a.at === b.at ? a.order < b.order : a.at < b.at;
}
