/** The one source of chance of a simulated run: everything random in it follows from the seed. */

import type { RandomBytes } from '../../src/machine.ts';

/** A reproducible generator (splitmix32). */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 to 2^32 - 1. */
  word(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    let t = this.#state ^ (this.#state >>> 16);
    t = Math.imul(t, 0x21f0aaad);
    t ^= t >>> 15;
    t = Math.imul(t, 0x735a2d97);
    return (t ^ (t >>> 15)) >>> 0;
  }

  /** 0 to below `bound`. */
  below(bound: number): number {
    return Math.floor((this.word() / 2 ** 32) * bound);
  }

  /** A whole number from `from` to `to`, both included. */
  between(from: number, to: number): number {
    return from + this.below(to - from + 1);
  }

  /** True with this probability. */
  happens(probability: number): boolean {
    return this.word() / 2 ** 32 < probability;
  }

  /** Milliseconds until the next of events that come `perMinute` times a minute on average. */
  pause(perMinute: number): number {
    return Math.ceil((-Math.log(1 - this.word() / 2 ** 32) * 60_000) / perMinute);
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  bytes: RandomBytes = (length) => {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at += 4) {
      const word = this.word();
      for (let i = 0; i < 4 && at + i < length; i++) bytes[at + i] = word >>> (8 * i);
    }
    return bytes;
  };

  /** Another generator whose numbers do not depend on how many this one gives from now on. */
  fork(): Chance {
    return new Chance(this.word());
  }
}
