/**
 * Finds SPD entries by address in a time that does not grow with their number (RFC 4301 §4.4.1): entries whose prefixes have the same two lengths
 * share a table, and a packet is looked up once in each. What the tables find is then matched as a whole, so the order of the SPD alone decides.
 */

import type { PolicySelector } from '../ipsec/policy.ts';
import type { Family } from '../net/address.ts';
import type { IpPacket } from '../net/ip-packet.ts';

/** What the index knows of an entry. */
export interface Indexed {
  readonly policy: { readonly selector: PolicySelector; readonly priority: number };
  readonly order: number;
  matches(packet: IpPacket): boolean;
  /** Whether it may match the whole of a fragment. */
  couldMatch(packet: IpPacket): boolean;
}

/** Lower priorities come first, then who came first. */
export function compareEntries(a: Indexed, b: Indexed): number {
  return a.policy.priority - b.policy.priority || a.order - b.order;
}

/** Where `entry` is in an ordered list, or belongs. */
export function placeIn<Entry extends Indexed>(list: readonly Entry[], entry: Entry): number {
  let low = 0;
  for (let high = list.length; low < high; ) {
    const middle = (low + high) >> 1;
    if (compareEntries(list[middle]!, entry) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The entries of one direction. */
export class SpdIndex<Entry extends Indexed> {
  readonly #tables: Record<Family, Table<Entry>[]> = { 4: [], 6: [] };
  /** Candidates that have been matched, for tests of what a look-up costs. */
  candidates = 0;

  add(entry: Entry): void {
    const { source, destination } = entry.policy.selector;
    const tables = this.#tables[source.address.family];
    let table = tables.find((one) => one.isFor(source.length, destination.length));
    if (table === undefined) {
      table = new Table(source.length, destination.length);
      tables.push(table);
    }
    table.add(entry);
  }

  remove(entry: Entry): void {
    const { source, destination } = entry.policy.selector;
    const tables = this.#tables[source.address.family];
    const at = tables.findIndex((one) => one.isFor(source.length, destination.length));
    tables[at]!.remove(entry);
    if (tables[at]!.size === 0) tables.splice(at, 1);
  }

  /** The first entry that matches and, where `admits` is given, is admitted; with `whole` the first that may match the whole of a fragment. */
  match(packet: IpPacket, admits?: (entry: Entry) => boolean, whole = false): Entry | undefined {
    const tables = this.#tables[packet.family === 4 ? 4 : 6];
    let best: Entry | undefined;
    for (let i = 0; i < tables.length; i++) {
      const entries = tables[i]!.of(packet);
      for (let k = 0; k < entries.length; k++) {
        const entry = entries[k]!;
        if (best !== undefined && compareEntries(best, entry) < 0) break;
        this.candidates++;
        if (!(whole ? entry.couldMatch(packet) : entry.matches(packet)) || (admits !== undefined && !admits(entry))) continue;
        best = entry;
        break;
      }
    }
    return best;
  }

  /** Those that have these very prefixes, host bits apart, in order. */
  alike({ source, destination }: PolicySelector): readonly Entry[] {
    const tables = this.#tables[source.address.family];
    return tables.find((one) => one.isFor(source.length, destination.length))?.ofSelector({ source, destination }) ?? NO_ENTRIES;
  }
}

const NO_ENTRIES: readonly never[] = [];

class Table<Entry extends Indexed> {
  size = 0;
  readonly #sourceLength: number;
  readonly #destinationLength: number;
  readonly #source: Int32Array;
  readonly #destination: Int32Array;
  readonly #entries = new Map<number, Entry[]>();

  constructor(sourceLength: number, destinationLength: number) {
    this.#sourceLength = sourceLength;
    this.#destinationLength = destinationLength;
    this.#source = masks(sourceLength);
    this.#destination = masks(destinationLength);
  }

  isFor(sourceLength: number, destinationLength: number): boolean {
    return this.#sourceLength === sourceLength && this.#destinationLength === destinationLength;
  }

  add(entry: Entry): void {
    const key = this.#keyOf(entry.policy.selector);
    const entries = this.#entries.get(key);
    if (entries === undefined) this.#entries.set(key, [entry]);
    else entries.splice(placeIn(entries, entry), 0, entry);
    this.size++;
  }

  remove(entry: Entry): void {
    const key = this.#keyOf(entry.policy.selector);
    const entries = this.#entries.get(key)!;
    entries.splice(entries.indexOf(entry), 1);
    if (entries.length === 0) this.#entries.delete(key);
    this.size--;
  }

  of(p: IpPacket): readonly Entry[] {
    const s = this.#source;
    const d = this.#destination;
    let h = mix(0, p.source0 & s[0]!);
    h = mix(h, p.destination0 & d[0]!);
    if (p.family === 6) {
      h = mix(mix(mix(h, p.source1 & s[1]!), p.source2 & s[2]!), p.source3 & s[3]!);
      h = mix(mix(mix(h, p.destination1 & d[1]!), p.destination2 & d[2]!), p.destination3 & d[3]!);
    }
    return this.#entries.get(h) ?? NO_ENTRIES;
  }

  ofSelector(selector: Pick<PolicySelector, 'source' | 'destination'>): readonly Entry[] {
    return this.#entries.get(this.#keyOf(selector)) ?? NO_ENTRIES;
  }

  /** The same number as `of` finds for its packets. */
  #keyOf({ source, destination }: Pick<PolicySelector, 'source' | 'destination'>): number {
    const [sm, dm] = [this.#source, this.#destination];
    const [s, d] = [source.address, destination.address];
    let h = mix(0, s.word0 & sm[0]!);
    h = mix(h, d.word0 & dm[0]!);
    if (s.family === 4) return h;
    h = mix(mix(mix(h, s.word1 & sm[1]!), s.word2 & sm[2]!), s.word3 & sm[3]!);
    return mix(mix(mix(h, d.word1 & dm[1]!), d.word2 & dm[2]!), d.word3 & dm[3]!);
  }
}

/** The leading `length` bits of four words. */
function masks(length: number): Int32Array {
  return Int32Array.from([0, 1, 2, 3], (word) => {
    const bits = Math.min(32, Math.max(0, length - 32 * word));
    return bits === 0 ? 0 : -1 << (32 - bits);
  });
}

/** 30 bits, which V8 keeps without an object. */
function mix(h: number, word: number): number {
  const x = Math.imul(h ^ word ^ (word >>> 15), 0x9e3779b1);
  return (x ^ (x >>> 13)) & 0x3fff_ffff;
}
