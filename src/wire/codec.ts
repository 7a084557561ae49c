/** Codecs: one declaration gives the reader, the writer and the type of a part of a message. */

import { Fault } from '../errors.ts';
import { Reader } from './reader.ts';
import { Writer } from './writer.ts';

/** Reads and writes one kind of value. `read` throws WireError, `write` throws Fault where a value does not fit its field. */
export interface Codec<T> {
  read(from: Reader): T;
  write(to: Writer, value: T): void;
}

/** Octets that are written as zero, ignored when read, and no part of the value. */
export interface Reserved {
  readonly reservedBytes: number;
}

/** The type that a codec reads: `type KeyExchange = Value<typeof KeyExchange>`. */
export type Value<C> = C extends Codec<infer T> ? T : never;

export const u8: Codec<number> = { read: (from) => from.u8(), write: (to, value) => to.u8(value) };
export const u16: Codec<number> = { read: (from) => from.u16(), write: (to, value) => to.u16(value) };
export const u24: Codec<number> = { read: (from) => from.u24(), write: (to, value) => to.u24(value) };
export const u32: Codec<number> = { read: (from) => from.u32(), write: (to, value) => to.u32(value) };
export const u64: Codec<bigint> = { read: (from) => from.u64(), write: (to, value) => to.u64(value) };

/** All octets up to the end of the enclosing part. */
export const rest: Codec<Uint8Array> = { read: (from) => from.rest(), write: (to, value) => to.bytes(value) };

/** Exactly `length` octets. */
export function bytes(length: number): Codec<Uint8Array> {
  return {
    read: (from) => from.bytes(length),
    write: (to, value) => {
      if (value.length !== length) throw new Fault(`expected ${length} octets to write, found ${value.length}`);
      to.bytes(value);
    },
  };
}

/** `length` RESERVED octets inside a struct. */
export function reserved(length: number): Reserved {
  return { reservedBytes: length };
}

type Fields = Readonly<Record<string, Codec<unknown> | Reserved>>;
type StructOf<F extends Fields> = { readonly [K in keyof F as F[K] extends Reserved ? never : K]: Value<F[K]> };

/** The fields one after another, as the RFC's picture has them. */
export function struct<F extends Fields>(fields: F): Codec<StructOf<F>> {
  const parts = Object.entries(fields as Readonly<Record<string, Codec<unknown> | Reserved>>);
  return {
    read: (from) => {
      const value: Record<string, unknown> = {};
      for (const [name, part] of parts) {
        if ('reservedBytes' in part) from.skip(part.reservedBytes);
        else value[name] = part.read(from);
      }
      return value as StructOf<F>;
    },
    write: (to, value) => {
      for (const [name, part] of parts) {
        if ('reservedBytes' in part) to.zeros(part.reservedBytes);
        else part.write(to, (value as Readonly<Record<string, unknown>>)[name]);
      }
    },
  };
}

/** Items up to the end of the enclosing part. Each must take at least one octet. */
export function list<T>(item: Codec<T>): Codec<readonly T[]> {
  return {
    read: (from) => {
      const items: T[] = [];
      while (from.left > 0) items.push(progress(item, from));
      return items;
    },
    write: (to, items) => {
      for (const value of items) item.write(to, value);
    },
  };
}

/** As many items as a count in front of them says. */
export function counted<T>(count: Codec<number>, item: Codec<T>): Codec<readonly T[]> {
  return {
    read: (from) => Array.from({ length: count.read(from) }, () => progress(item, from)),
    write: (to, items) => {
      count.write(to, items.length);
      for (const value of items) item.write(to, value);
    },
  };
}

/** A part behind its length in octets (without the length field itself); all of it must be used. */
export function lengthPrefixed<T>(length: Codec<number>, part: Codec<T>, label = ''): Codec<T> {
  return {
    read: (from) => exactly(part, from.part(length.read(from), label)),
    write: (to, value) => {
      const inner = encode(part, value);
      length.write(to, inner.length);
      to.bytes(inner);
    },
  };
}

/** One of several parts, chosen by the number in front of it: `{ tag: 7, value: … }`. An unknown tag is an error. */
export function tagged<P extends Readonly<Record<number, Codec<unknown>>>>(
  tag: Codec<number>,
  parts: P,
): Codec<{ readonly [N in keyof P]: { readonly tag: N; readonly value: Value<P[N]> } }[keyof P]> {
  const known = new Map(
    Object.entries(parts as Readonly<Record<string, Codec<unknown>>>).map(([number, part]) => [Number(number), part]),
  );
  type Tagged = { readonly [N in keyof P]: { readonly tag: N; readonly value: Value<P[N]> } }[keyof P];
  return {
    read: (from) => {
      const at = from.at;
      const found = tag.read(from);
      const part = known.get(found);
      if (part === undefined) return from.fail(`expected one of the types ${[...known.keys()].join(', ')}, found ${found}`, at);
      return { tag: found, value: part.read(from) } as unknown as Tagged;
    },
    write: (to, value) => {
      const part = known.get(Number(value.tag));
      if (part === undefined) throw new Fault(`no part has the tag ${String(value.tag)}`);
      tag.write(to, Number(value.tag));
      part.write(to, value.value);
    },
  };
}

/** A codec of another type over the same octets. `there` may throw by `from.fail`. */
export function mapped<A, B>(codec: Codec<A>, there: (value: A, from: Reader) => B, back: (value: B) => A): Codec<B> {
  return { read: (from) => there(codec.read(from), from), write: (to, value) => codec.write(to, back(value)) };
}

/** The value that all of `octets` are; WireError where some are left over. `path` names the whole in errors. */
export function decode<T>(codec: Codec<T>, octets: Uint8Array, path = ''): T {
  return exactly(codec, new Reader(octets, path));
}

/** The octets of a value. */
export function encode<T>(codec: Codec<T>, value: T): Uint8Array {
  const to = new Writer();
  codec.write(to, value);
  return to.finish();
}

/** Reads a value that must be all that the reader holds. */
export function exactly<T>(codec: Codec<T>, from: Reader): T {
  const value = codec.read(from);
  from.finish();
  return value;
}

/** An item that takes no octet would repeat for ever. */
function progress<T>(item: Codec<T>, from: Reader): T {
  const at = from.at;
  const value = item.read(from);
  if (from.at === at) from.fail('an item of a list has no octets');
  return value;
}
