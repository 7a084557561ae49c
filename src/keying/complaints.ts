/** How many errors may be sent to those who have not proven themselves: each could be made to hit a third party (RFC 7296 §2.21.4). */

import type { Instant } from '../machine.ts';

/** A second, to all the world together. */
const PER_SECOND = 20;

export class Complaints {
  readonly #clock: { readonly now: Instant };
  #second = 0;
  #count = 0;

  constructor(clock: { readonly now: Instant }) {
    this.#clock = clock;
  }

  /** Whether one more may be sent now; it is counted. */
  another(): boolean {
    const second = Math.floor(this.#clock.now.mono / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#count = 0;
    }
    this.#count += 1;
    return this.#count <= PER_SECOND;
  }
}
