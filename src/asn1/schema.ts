/** ASN.1 types as values: from one declaration that reads like the RFC's come reader, writer and TypeScript type. Explicit tags throughout (RFC 4120 §5). */

import { WireError } from '../errors.ts';
import * as der from './der.ts';

const { DerReader, TAG, applicationTag, contextTag } = der;

/** One ASN.1 type. */
export interface DerType<T> {
  readonly read: (from: der.DerReader) => T;
  readonly write: (value: T) => Uint8Array;
}

/** What a type reads and writes. */
export type DerValue<Type> = Type extends DerType<infer T> ? T : never;

/** A member of a SEQUENCE. */
export interface Field<T, Presence extends 'required' | 'optional' | 'constant'> {
  readonly tag: number;
  readonly type: DerType<T>;
  readonly presence: Presence;
  readonly constant?: T;
}

/** `name [tag] Type`. */
export function field<T>(tag: number, type: DerType<T>): Field<T, 'required'> {
  return { tag, type, presence: 'required' };
}

/** `name [tag] Type OPTIONAL`. */
export function optional<T>(tag: number, type: DerType<T>): Field<T, 'optional'> {
  return { tag, type, presence: 'optional' };
}

/** `name [tag] INTEGER (value)`: checked, and no member of the value. */
export function constant(tag: number, value: number): Field<number, 'constant'> {
  return { tag, type: int, presence: 'constant', constant: value };
}

// biome-ignore lint/suspicious/noExplicitAny: a bound for inference only, which no value has
type Fields = Readonly<Record<string, Field<any, 'required' | 'optional' | 'constant'>>>;
type Named<F extends Fields, P> = { [K in keyof F]: F[K]['presence'] extends P ? K : never }[keyof F];
type FieldValue<F> = F extends { readonly type: DerType<infer T> } ? T : never;
export type SequenceValue<F extends Fields> = { readonly [K in Named<F, 'required'>]: FieldValue<F[K]> } & {
  readonly [K in Named<F, 'optional'>]?: FieldValue<F[K]> | undefined;
};

/**
 * SEQUENCE of context-tagged members in the order of their tags. With `open`, members with tags beyond the last known are skipped: only for what
 * someone we trust has encrypted, since later RFCs add members there (RFC 6806 §11 to EncKDCRepPart).
 */
export function sequence<F extends Fields>(fields: F, extent: 'closed' | 'open' = 'closed'): DerType<SequenceValue<F>> {
  const members = Object.entries(fields);
  return {
    read(from) {
      const inside = from.enter(TAG.sequence);
      const value: Record<string, unknown> = {};
      for (const [name, { tag, type, presence, constant }] of members) {
        if (presence === 'optional' && inside.tag !== contextTag(tag)) continue;
        const member = inside.enter(contextTag(tag), name);
        const found: unknown = type.read(member);
        member.finish();
        if (presence !== 'constant') value[name] = found;
        else if (found !== constant) member.fail(`wanted ${constant}, found ${found}`);
      }
      if (extent === 'closed') inside.finish();
      else skipLater(inside, members.at(-1)![1].tag);
      return value as SequenceValue<F>;
    },
    write(value) {
      const given = value as Readonly<Record<string, unknown>>;
      const parts: Uint8Array[] = [];
      for (const [name, { tag, type, constant }] of members) {
        const member = constant ?? given[name];
        if (member !== undefined) parts.push(der.element(contextTag(tag), type.write(member)));
      }
      return der.element(TAG.sequence, ...parts);
    },
  };
}

function skipLater(inside: der.DerReader, last: number): void {
  let before = contextTag(last);
  while (inside.tag !== undefined) {
    if (inside.tag <= before || inside.tag > contextTag(30)) inside.fail('members of a sequence follow the order of their tags');
    before = inside.tag;
    inside.enter(before);
  }
}

/** `[APPLICATION number] Type`, or one of several numbers where writers disagree; the first is written. */
export function application<T>(numbers: number | readonly [number, number], type: DerType<T>): DerType<T> {
  const tags = [numbers].flat().map(applicationTag);
  return {
    read(from) {
      const inside = from.enter(tags.find((tag) => tag === from.tag) ?? tags[0]!);
      const value = type.read(inside);
      inside.finish();
      return value;
    },
    write: (value) => der.element(tags[0]!, type.write(value)),
  };
}

/** SEQUENCE OF at most `most` elements. */
export function sequenceOf<T>(type: DerType<T>, most = 256): DerType<readonly T[]> {
  return {
    read(from) {
      const inside = from.enter(TAG.sequence);
      const values: T[] = [];
      while (inside.left > 0) {
        if (values.length === most) inside.fail(`more than ${most} elements`);
        values.push(type.read(inside));
      }
      return values;
    },
    write: (values) => der.element(TAG.sequence, ...values.map((value) => type.write(value))),
  };
}

/** An element kept as it stands, for what must be handed on or authenticated to the octet. */
export function whole(tag: number): DerType<Uint8Array> {
  return { read: (from) => from.whole(tag), write: (value) => value };
}

export const int: DerType<number> = { read: (from) => from.integer(), write: der.integer };
export const octets: DerType<Uint8Array> = { read: (from) => from.octetString(), write: der.octetString };
export const text: DerType<string> = { read: (from) => from.generalString(), write: der.generalString };
export const time: DerType<number> = { read: (from) => from.generalizedTime(), write: der.generalizedTime };

/** INTEGER within bounds. */
export function intBetween(least: number, most: number): DerType<number> {
  return {
    read(from) {
      const value = from.integer();
      if (value < least || value > most) from.fail(`${value} is not within ${least} and ${most}`);
      return value;
    },
    write: der.integer,
  };
}

/** The first 32 bits of a BIT STRING as a number whose top bit is bit 0; missing bits are zero (RFC 4120 §5.2.8). */
export const flags: DerType<number> = {
  read(from) {
    const bits = from.bitString();
    return [0, 1, 2, 3].reduce((word, i) => word * 256 + (bits[i] ?? 0), 0);
  },
  write: (value) => der.bitString(Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value)),
};

/** The value that these octets are, all of them. */
export function decode<T>(type: DerType<T>, bytes: Uint8Array, path: string): T {
  const reader = new DerReader(bytes, path);
  if (bytes.length === 0) throw new WireError('nothing to read', 0, path);
  const value = type.read(reader);
  reader.finish();
  return value;
}
