/** The frame of a proposal or transform inside an SA payload, which ISAKMP (RFC 2408 §3.5, §3.6) and IKEv2 (RFC 7296 §3.3.1, §3.3.2) share. */

import type { Reader } from '../wire/reader.ts';
import type { Writer } from '../wire/writer.ts';

/** The first octet ("Next Payload", later "Last Substruc") where another of its kind follows; 0 is the last. */
const MORE = { proposal: 2, transform: 3 } as const;
type Kind = keyof typeof MORE;
/** Octets in front of a proposal's SPI, and in front of a transform's attributes. */
const HEADER = 8;
/** Octets of the part that both begin with: last or more, RESERVED, length of the whole. */
const FRAME = 4;

/** Reads one frame: `body` holds what follows it. `n` counts from 1, for errors. */
export function readSubstructure(from: Reader, kind: Kind, n: number): { readonly more: boolean; readonly body: Reader } {
  const at = from.at;
  const last = from.u8();
  from.skip(1);
  const length = from.u16();
  if (last !== 0 && last !== MORE[kind]) from.fail(`what follows ${kind} ${n} is 0 or ${MORE[kind]}, not ${last}`, at);
  if (length < HEADER) from.fail(`${kind} ${n} has a length of ${length} octets, less than its header of ${HEADER}`, at + 2);
  return { more: last !== 0, body: from.part(length - FRAME, `${kind} ${n}`) };
}

/** Writes items one after another, each in its frame. */
export function writeSubstructures<T>(to: Writer, kind: Kind, items: readonly T[], body: (item: T) => void): void {
  items.forEach((item, i) => {
    const at = to.length;
    to.u8(i + 1 < items.length ? MORE[kind] : 0);
    to.u8(0);
    to.u16(0);
    body(item);
    to.patch(at + 2, 2, to.length - at);
  });
}

/**
 * The transforms of a proposal, whose number of them is announced in front: what the frames and the count say must agree. `read` reads
 * what follows a frame.
 */
export function readTransforms<T>(from: Reader, count: number, read: (body: Reader) => T): T[] {
  const transforms: T[] = [];
  let more = count > 0;
  for (let n = 1; more; n++) {
    const entry = readSubstructure(from, 'transform', n);
    more = entry.more;
    transforms.push(read(entry.body));
    if (more !== n < count) from.fail(`announces ${count} transforms, but number ${n} is ${more ? 'not ' : ''}the last`);
  }
  from.finish();
  return transforms;
}
