/** Door of the wire folder: readers, writers, codecs, registries and the printer. */

export {
  bytes,
  type Codec,
  counted,
  decode,
  encode,
  exactly,
  lengthPrefixed,
  list,
  mapped,
  type Reserved,
  reserved,
  rest,
  struct,
  tagged,
  u8,
  u16,
  u24,
  u32,
  u64,
  type Value,
} from './codec.ts';
export { type DumpOptions, dump, printable } from './dump.ts';
export { Reader } from './reader.ts';
export { knownName, nameOf, registry } from './registry.ts';
export { Writer } from './writer.ts';
