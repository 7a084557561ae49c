/** What is due when (lifetimes, RFC 4301 §4.4.2.1; larval SAs, RFC 2367 §3.1.1): the next is known at once, however many there are. */

/** A binary heap; of two that are due at once, the one that was set first comes first. */
export class Deadlines<T> {
  readonly #items: T[] = [];
  readonly #at: number[] = [];
  readonly #turn: number[] = [];
  readonly #place = new Map<T, number>();
  #turns = 0;

  get size(): number {
    return this.#items.length;
  }

  /** When the next is due, in `mono` milliseconds; Infinity where nothing ever is. */
  get next(): number {
    return this.#at[0] ?? Number.POSITIVE_INFINITY;
  }

  /** Sets or moves an item's deadline; Infinity: it has none. */
  set(item: T, at: number): void {
    this.delete(item);
    if (at === Number.POSITIVE_INFINITY) return;
    this.#put(this.#items.length, item, at, this.#turns++);
    this.#rise(this.#items.length - 1);
  }

  delete(item: T): void {
    const place = this.#place.get(item);
    if (place === undefined) return;
    this.#place.delete(item);
    const last = this.#items.pop()!;
    const at = this.#at.pop()!;
    const turn = this.#turn.pop()!;
    if (place === this.#items.length) return;
    this.#put(place, last, at, turn);
    this.#rise(place);
    this.#sink(this.#place.get(last)!);
  }

  /** Takes out the item that is due first, if it is due at `mono`. */
  take(mono: number): T | undefined {
    if (this.next > mono) return undefined;
    const item = this.#items[0]!;
    this.delete(item);
    return item;
  }

  #put(place: number, item: T, at: number, turn: number): void {
    this.#items[place] = item;
    this.#at[place] = at;
    this.#turn[place] = turn;
    this.#place.set(item, place);
  }

  #isBefore(a: number, b: number): boolean {
    const difference = this.#at[a]! - this.#at[b]!;
    return difference < 0 || (difference === 0 && this.#turn[a]! < this.#turn[b]!);
  }

  #swap(a: number, b: number): void {
    const [item, at, turn] = [this.#items[a]!, this.#at[a]!, this.#turn[a]!];
    this.#put(a, this.#items[b]!, this.#at[b]!, this.#turn[b]!);
    this.#put(b, item, at, turn);
  }

  #rise(from: number): void {
    for (let place = from; place > 0; ) {
      const parent = (place - 1) >> 1;
      if (!this.#isBefore(place, parent)) return;
      this.#swap(place, parent);
      place = parent;
    }
  }

  #sink(from: number): void {
    for (let place = from; ; ) {
      let first = place;
      for (const child of [2 * place + 1, 2 * place + 2]) {
        if (child < this.#items.length && this.#isBefore(child, first)) first = child;
      }
      if (first === place) return;
      this.#swap(place, first);
      place = first;
    }
  }
}
