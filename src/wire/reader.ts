/** A bounds-checked big-endian reader over one octet string: every failure is a WireError that says what was missing, and where. */

import { Fault, WireError } from '../errors.ts';

/** Reads forward. Offsets in errors count from the start of the octet string that the outermost reader was given. */
export class Reader {
  readonly #bytes: Uint8Array;
  readonly #path: string;
  readonly #end: number;
  #at: number;

  /** Over `bytes` from octet `at` to before `end`; `path` names the part that these are, in errors. */
  constructor(bytes: Uint8Array, path = '', at = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#path = path;
    this.#at = at;
    this.#end = end;
  }

  /** Offset of the next octet. */
  get at(): number {
    return this.#at;
  }

  /** Octets not yet read. */
  get left(): number {
    return this.#end - this.#at;
  }

  u8(): number {
    return this.#bytes[this.#take(1)]!;
  }

  u16(): number {
    const at = this.#take(2);
    return (this.#bytes[at]! << 8) | this.#bytes[at + 1]!;
  }

  u24(): number {
    const at = this.#take(3);
    return (this.#bytes[at]! << 16) | (this.#bytes[at + 1]! << 8) | this.#bytes[at + 2]!;
  }

  u32(): number {
    const at = this.#take(4);
    const bytes = this.#bytes;
    return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
  }

  u64(): bigint {
    const high = this.u32();
    return (BigInt(high) << 32n) | BigInt(this.u32());
  }

  /** A copy of the next `length` octets. */
  bytes(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#bytes.slice(at, at + length);
  }

  /** A copy of all that is left. */
  rest(): Uint8Array {
    return this.bytes(this.left);
  }

  /** A copy of all that is left, without reading it. */
  peek(): Uint8Array {
    return this.#bytes.slice(this.#at, this.#end);
  }

  skip(length: number): void {
    this.#take(length);
  }

  /** A reader over the next `length` octets, which this one skips. `label` becomes a part of the path in errors. */
  part(length: number, label = ''): Reader {
    const at = this.#take(length);
    return new Reader(this.#bytes, joined(this.#path, label), at, at + length);
  }

  /** Checks that nothing is left over. */
  finish(): void {
    if (this.left > 0) this.fail(`ends with ${this.left} octets more than its contents account for`);
  }

  /** Throws a WireError about this place (or the octet `at`). */
  fail(problem: string, at = this.#at): never {
    throw new WireError(problem, at, this.#path);
  }

  #take(length: number): number {
    if (length < 0) throw new Fault(`cannot read ${length} octets`);
    if (length > this.left) this.fail(`wanted ${length} octets, but ${this.left} are left`);
    const at = this.#at;
    this.#at += length;
    return at;
  }
}

function joined(path: string, label: string): string {
  if (path === '' || label === '') return path + label;
  return `${path}/${label}`;
}
