/** Key material that can be used and wiped, and that never prints itself. */

export class Secret {
  readonly #bytes: Uint8Array;

  /** Takes over `bytes`: the caller keeps no copy. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get length(): number {
    return this.#bytes.length;
  }

  /** The octets themselves, for the one computation that needs them. Not a copy: it is zero after `wipe`. */
  reveal(): Uint8Array {
    return this.#bytes;
  }

  /** A secret of its own over a copy of part of this one. */
  slice(from: number, to: number): Secret {
    return new Secret(this.#bytes.slice(from, to));
  }

  wipe(): void {
    this.#bytes.fill(0);
  }

  toString(): string {
    return `Secret(${this.#bytes.length} bytes)`;
  }

  toJSON(): string {
    return this.toString();
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString();
  }
}
