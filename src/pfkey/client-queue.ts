/** What waits for one PF_KEY client: bounded, with expiries of the same SA folded into one. */

interface Entry {
  octets: Uint8Array;
  /** A dump answers its own client and does not count towards the limit. */
  readonly dump: boolean;
  /** The SA that it says the expiry of, or empty. */
  readonly expired: string;
}

export class ClientQueue {
  readonly #limit: number;
  readonly #inFlightLimit: number;
  #entries: Entry[] = [];
  #head = 0;
  #waiting = 0;
  #inFlight = 0;
  #dumping = 0;
  readonly #expiries = new Map<string, Entry>();

  /** `inFlight`: octets that are handed out before some must be reported as sent. */
  constructor(limit: number, inFlight: number) {
    this.#limit = limit;
    this.#inFlightLimit = inFlight;
  }

  /** Whether messages of a dump still wait. */
  get dumping(): boolean {
    return this.#dumping > 0;
  }

  /** False: it does not fit, and the client must go. `expired` names the SA whose expiry the message says, or is empty. */
  push(octets: Uint8Array, expired: string, dump: boolean): boolean {
    const earlier = expired === '' ? undefined : this.#expiries.get(expired);
    const change = octets.length - (earlier?.octets.length ?? 0);
    if (!dump && this.#waiting + change > this.#limit) return false;
    if (dump) this.#dumping++;
    else this.#waiting += change;
    // A later expiry says all that an earlier one of the same SA said.
    if (earlier !== undefined) earlier.octets = octets;
    else this.#append({ octets, dump, expired });
    return true;
  }

  #append(entry: Entry): void {
    this.#entries.push(entry);
    if (entry.expired !== '') this.#expiries.set(entry.expired, entry);
  }

  /** Takes back `sent` octets from those in flight, and returns what may go now. */
  drain(sent: number): Uint8Array[] {
    this.#inFlight = Math.max(0, this.#inFlight - sent);
    const ready: Uint8Array[] = [];
    while (this.#head < this.#entries.length && this.#inFlight < this.#inFlightLimit) {
      const { octets, dump, expired } = this.#entries[this.#head++]!;
      if (expired !== '') this.#expiries.delete(expired);
      if (dump) this.#dumping--;
      else this.#waiting -= octets.length;
      this.#inFlight += octets.length;
      ready.push(octets);
    }
    if (this.#head > 1024 || this.#head === this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
    return ready;
  }
}
