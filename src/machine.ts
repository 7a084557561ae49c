/** The core pattern of the house: protocol logic as a value, with time and chance as arguments. */

/** One reading of both clocks, in milliseconds. `mono` never jumps and is for durations; `wall` is for certificates, tickets and logs. */
export interface Instant {
  readonly mono: number;
  readonly wall: number;
}

/**
 * Protocol logic without I/O. `handle` returns everything one input caused, in order; `wakeAt` says when (in `mono`
 * milliseconds) time alone would cause something, so that its owner hands in a tick then.
 */
export interface Machine<In, Out> {
  handle(input: In, now: Instant): readonly Out[];
  wakeAt(): number | undefined;
}

/** A source of randomness: `length` bytes, fresh at every call. Seeded in tests, so that every packet can be reproduced. */
export type RandomBytes = (length: number) => Uint8Array;

/** The named reasons one object has to wake up, each with a deadline in `mono` milliseconds or none. */
export class Timers<Name extends string> {
  readonly #deadlines = new Map<Name, number>();

  set(name: Name, at: number): void {
    this.#deadlines.set(name, at);
  }

  clear(name: Name): void {
    this.#deadlines.delete(name);
  }

  at(name: Name): number | undefined {
    return this.#deadlines.get(name);
  }

  /** The earliest deadline, or undefined where nothing is due. */
  next(): number | undefined {
    let earliest: number | undefined;
    for (const at of this.#deadlines.values()) if (earliest === undefined || at < earliest) earliest = at;
    return earliest;
  }

  /** Removes and returns the names whose deadline has come, earliest first. */
  takeDue(mono: number): Name[] {
    const due = [...this.#deadlines].filter(([, at]) => at <= mono).sort((a, b) => a[1] - b[1]);
    for (const [name] of due) this.#deadlines.delete(name);
    return due.map(([name]) => name);
  }
}

/** The earliest of several deadlines, none of which need exist. */
export function earliest(...deadlines: readonly (number | undefined)[]): number | undefined {
  let first: number | undefined;
  for (const at of deadlines) if (at !== undefined && (first === undefined || at < first)) first = at;
  return first;
}
