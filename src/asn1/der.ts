/** Strict DER (X.690 §10): definite minimal lengths, minimal integers, nothing left over. One element at a time; `schema.ts` builds messages of it. */

import { cat, fromUtf8, utf8 } from '../bytes/bytes.ts';
import { Fault, WireError } from '../errors.ts';

/** The identifier octets that Kerberos uses; tag numbers above 30 do not occur in it. */
export const TAG = {
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  generalizedTime: 0x18,
  generalString: 0x1b,
  sequence: 0x30,
} as const;

/** The identifier of `[number]` with explicit tagging. */
export function contextTag(number: number): number {
  return 0xa0 | lowTag(number);
}

/** The identifier of `[APPLICATION number]`. */
export function applicationTag(number: number): number {
  return 0x60 | lowTag(number);
}

/** Identifier, length and contents. */
export function element(tag: number, ...contents: readonly Uint8Array[]): Uint8Array {
  const length = contents.reduce((sum, part) => sum + part.length, 0);
  return cat(Uint8Array.of(tag), lengthOctets(length), ...contents);
}

/** An integer of at most 53 bits, in as few octets as two's complement needs. */
export function integer(value: number): Uint8Array {
  if (!Number.isSafeInteger(value)) throw new Fault(`${value} is no integer that DER is written for here`);
  const octets: number[] = [];
  let rest = value;
  do {
    octets.unshift(((rest % 256) + 256) % 256);
    rest = Math.floor(rest / 256);
  } while (rest !== 0 && rest !== -1);
  if (rest === 0 && octets[0]! >= 0x80) octets.unshift(0);
  if (rest === -1 && octets[0]! < 0x80) octets.unshift(0xff);
  return element(TAG.integer, Uint8Array.from(octets));
}

export function octetString(value: Uint8Array): Uint8Array {
  return element(TAG.octetString, value);
}

/** Whole octets of bits. */
export function bitString(value: Uint8Array): Uint8Array {
  return element(TAG.bitString, Uint8Array.of(0), value);
}

export function generalString(value: string): Uint8Array {
  return element(TAG.generalString, utf8(value));
}

/** `seconds` since 1970 as YYYYMMDDhhmmssZ: no fraction, always Z (X.690 §11.7). */
export function generalizedTime(seconds: number): Uint8Array {
  return element(TAG.generalizedTime, utf8(timeText(seconds)));
}

/** Reads elements forward. Offsets in errors count from the start of the octet string that the outermost reader was given. */
export class DerReader {
  readonly #bytes: Uint8Array;
  readonly #path: string;
  readonly #end: number;
  #at: number;

  constructor(bytes: Uint8Array, path = '', at = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#path = path;
    this.#at = at;
    this.#end = end;
  }

  get left(): number {
    return this.#end - this.#at;
  }

  /** The identifier of the next element, or undefined at the end. */
  get tag(): number | undefined {
    return this.left > 0 ? this.#bytes[this.#at] : undefined;
  }

  /** A reader over the contents of the next element, which must have this identifier. `label` becomes a part of the path in errors. */
  enter(tag: number, label = ''): DerReader {
    const path = label === '' || this.#path === '' ? this.#path + label : `${this.#path}/${label}`;
    if (this.tag !== tag)
      throw new WireError(`wanted ${shown(tag)}, found ${this.tag === undefined ? 'the end' : shown(this.tag)}`, this.#at, path);
    const start = this.#contents();
    const end = start + this.#length(start);
    this.#at = end;
    return new DerReader(this.#bytes, path, start, end);
  }

  /** The next element as it stands, identifier and length included. */
  whole(tag: number): Uint8Array {
    const start = this.#at;
    this.enter(tag);
    return this.#bytes.slice(start, this.#at);
  }

  integer(): number {
    const octets = this.enter(TAG.integer);
    const { left } = octets;
    const first = octets.#bytes[octets.#at]!;
    if (left === 0) octets.fail('an integer has at least one octet');
    if (left > 6) octets.fail(`an integer of ${left} octets is too large`);
    const second = octets.#bytes[octets.#at + 1]!;
    if (left > 1 && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80)))
      octets.fail('an integer is written in as few octets as possible');
    let value = first >= 0x80 ? -1 : 0;
    for (const octet of octets.contents()) value = value * 256 + octet;
    return value;
  }

  octetString(): Uint8Array {
    return this.enter(TAG.octetString).contents();
  }

  /** The bits, first bit first, in whole octets; those of the last octet that are unused are zero. */
  bitString(): Uint8Array {
    const octets = this.enter(TAG.bitString);
    if (octets.left === 0) octets.fail('a bit string tells how many bits are unused');
    const contents = octets.contents();
    const unused = contents[0]!;
    const last = contents.length === 1 ? 0 : contents.at(-1)!;
    if (unused > (contents.length === 1 ? 0 : 7) || (last & ((1 << unused) - 1)) !== 0)
      octets.fail(`a bit string cannot end like this with ${unused} unused bits`);
    return contents.slice(1);
  }

  generalString(): string {
    const octets = this.enter(TAG.generalString);
    const contents = octets.contents();
    const text = fromUtf8(contents);
    if (text.includes('\ufffd') || utf8(text).length !== contents.length) octets.fail('a string that is no UTF-8');
    return text;
  }

  /** Seconds since 1970. */
  generalizedTime(): number {
    const octets = this.enter(TAG.generalizedTime);
    const text = fromUtf8(octets.contents());
    const part = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text)?.slice(1).map(Number);
    const seconds =
      part === undefined ? Number.NaN : Date.UTC(part[0]!, part[1]! - 1, part[2]!, part[3]!, part[4]!, part[5]!) / 1000;
    if (Number.isNaN(seconds) || timeText(seconds) !== text) octets.fail('wanted a time like 20261231235959Z');
    return seconds;
  }

  /** A copy of what is left. */
  contents(): Uint8Array {
    return this.#bytes.slice(this.#at, this.#end);
  }

  /** Checks that nothing is left over. */
  finish(): void {
    if (this.left > 0) this.fail(`${this.left} octets more than belong here`);
  }

  /** Throws a WireError about this place. */
  fail(problem: string): never {
    throw new WireError(problem, this.#at, this.#path);
  }

  /** Where the contents of the next element begin. */
  #contents(): number {
    const form = this.#at + 1;
    if (form >= this.#end) this.fail('an element without a length');
    const first = this.#bytes[form]!;
    return form + 1 + (first < 0x80 ? 0 : first & 0x7f);
  }

  /** How long they are, minimally encoded; X.690 §10.1 allows no other form. */
  #length(start: number): number {
    const form = this.#at + 1;
    const first = this.#bytes[form]!;
    let length = first;
    if (first >= 0x80) {
      if (first === 0x80 || start - form - 1 > 4) this.fail('a length of no definite form, or of more than 4 octets');
      if (start > this.#end) this.fail('the length is cut off');
      length = 0;
      for (let i = form + 1; i < start; i++) length = length * 256 + this.#bytes[i]!;
      if (length < 0x80 || length < 256 ** (start - form - 2)) this.fail('a length is written in as few octets as possible');
    }
    if (length > this.#end - start) this.fail(`an element of ${length} octets where ${this.#end - start} are left`);
    return length;
  }
}

function lowTag(number: number): number {
  if (number < 0 || number > 30) throw new Fault(`tag number ${number} needs the long form, which is not written here`);
  return number;
}

function lengthOctets(length: number): Uint8Array {
  if (length < 0x80) return Uint8Array.of(length);
  const octets: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256);
  return Uint8Array.of(0x80 | octets.length, ...octets);
}

function timeText(seconds: number): string {
  return new Date(seconds * 1000)
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replace(/[-:T]/g, '');
}

function shown(tag: number): string {
  const name = Object.entries(TAG).find(([, value]) => value === tag)?.[0];
  if (name !== undefined) return name;
  if ((tag & 0xe0) === 0xa0) return `[${tag & 0x1f}]`;
  return (tag & 0xe0) === 0x60 ? `[APPLICATION ${tag & 0x1f}]` : `identifier ${tag}`;
}
