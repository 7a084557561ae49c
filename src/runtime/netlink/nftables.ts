/** nf_tables' objects as octets: one table, its chains, rules and counters, in the kernel's netlink (nf_tables.h; nft(8) describes what they do). */

import { cat } from '../../bytes/bytes.ts';
import { WireError } from '../../errors.ts';
import { attribute, attributes, text } from './codec.ts';

/** NFNL_SUBSYS_NFTABLES in the high octet. */
export const NFT_MSG = {
  NEWTABLE: 0x0a00,
  GETTABLE: 0x0a01,
  DELTABLE: 0x0a02,
  NEWCHAIN: 0x0a03,
  GETCHAIN: 0x0a04,
  DELCHAIN: 0x0a05,
  NEWRULE: 0x0a06,
  DELRULE: 0x0a08,
  NEWOBJ: 0x0a12,
  GETOBJ: 0x0a13,
} as const;
/** What is between these happens at once, or not at all. */
export const NFNL_MSG_BATCH = { BEGIN: 0x10, END: 0x11 } as const;

/** Both IPv4 and IPv6 pass through tables of this family (NFPROTO_INET). */
const INET = 1;
/** What `nfproto` of a packet is. */
export const NFPROTO = { 4: 2, 6: 10 } as const;

const NESTED = 0x8000;
const LIST_ELEMENT = 1;
const REGISTER = 1;
const VERDICT_REGISTER = 0;
const OBJECT_COUNTER = 1;
const EXTENSION_PRESENT = 1;
const RESULT_ADDRESS_TYPE = 3;
const OF_DESTINATION = 2;
const META = { inputInterface: 6, family: 15, protocol: 16 } as const;
const BASE = { network: 1, transport: 2 } as const;
const COMPARE = { is: 0, isNot: 1, atMost: 3, atLeast: 5 } as const;
const VERDICT = { drop: 0, accept: 1 } as const;
/** Before connection tracking and address translation: addresses are those on the wire. */
const RAW = -300;
const PRE_ROUTING = 0;

/** What of a packet is looked at. A packet that has no such octets (a fragment has no ports) does not fit. */
export type Field =
  | { readonly meta: keyof typeof META }
  | { readonly header: keyof typeof BASE; readonly at: number; readonly octets: number }
  /** Of an IPv6 extension header. */
  | { readonly extension: number; readonly at: number; readonly octets: number }
  | { readonly hasExtension: number }
  /** RTN_* of its destination on this host, four octets in the host's order. */
  | { readonly destinationType: true };

/** `isNot` and `is` compare what is left under `mask`; `from` and `to` enclose. */
export interface Match {
  readonly field: Field;
  readonly is?: Uint8Array;
  readonly isNot?: Uint8Array;
  readonly mask?: Uint8Array;
  readonly from?: Uint8Array;
  readonly to?: Uint8Array;
}

/** The first rule that a packet fits decides. `counter` names one of the table. */
export interface FilterRule {
  readonly matches: readonly Match[];
  readonly counter?: string;
  readonly verdict: keyof typeof VERDICT;
}

/** struct nfgenmsg: `family, version | resource (2, network order)`. */
function header(family: number, resource = 0): Uint8Array {
  return Uint8Array.of(family, 0, resource >>> 8, resource & 0xff);
}

export function encodeBatch(): Uint8Array {
  return header(0, NFT_MSG.NEWTABLE >>> 8);
}

export function encodeTable(table: string): Uint8Array {
  return cat(header(INET), attribute(1, string(table)));
}

/** Without a name: every chain of the table. */
export function encodeChain(table: string, chain?: string): Uint8Array {
  return cat(header(INET), attribute(1, string(table)), chain === undefined ? EMPTY : attribute(3, string(chain)));
}

/** A chain that sees all that arrives, before the host decides where it goes; what no rule of it drops goes on. */
export function encodeArrivals(table: string, chain: string): Uint8Array {
  const hook = cat(attribute(1, u32be(PRE_ROUTING)), attribute(2, u32be(RAW)));
  return cat(encodeChain(table, chain), nested(4, hook), attribute(5, u32be(VERDICT.accept)), attribute(7, string('filter')));
}

/** All rules of a chain, for a deletion. */
export function encodeRulesOf(table: string, chain: string): Uint8Array {
  return cat(header(INET), attribute(1, string(table)), attribute(2, string(chain)));
}

/** Each rule also counts for itself, for those who list the table. */
export function encodeFilterRule(table: string, chain: string, { matches, counter, verdict }: FilterRule): Uint8Array {
  const expressions = [
    ...matches.flatMap(expressionsOf),
    expression('counter', EMPTY),
    ...(counter === undefined ? [] : [expression('objref', attribute(1, u32be(OBJECT_COUNTER)), attribute(2, string(counter)))]),
    expression('immediate', attribute(1, u32be(VERDICT_REGISTER)), nested(2, nested(2, attribute(1, u32be(VERDICT[verdict]))))),
  ];
  return cat(encodeRulesOf(table, chain), nested(4, cat(...expressions)));
}

export function encodeCounter(table: string, name: string): Uint8Array {
  return cat(
    header(INET),
    attribute(1, string(table)),
    attribute(2, string(name)),
    attribute(3, u32be(OBJECT_COUNTER)),
    nested(4, EMPTY),
  );
}

/** All counters of a table, for a listing. */
export function encodeCountersOf(table: string): Uint8Array {
  return cat(header(INET), attribute(1, string(table)), attribute(3, u32be(OBJECT_COUNTER)));
}

export function decodeTable(body: Uint8Array): string | undefined {
  return text(read(body, 'table').get(1));
}

export function decodeChain(body: Uint8Array): { readonly table: string | undefined; readonly name: string | undefined } {
  const found = read(body, 'chain');
  return { table: text(found.get(1)), name: text(found.get(3)) };
}

/** A counter's name and packets; undefined for another object. */
export function decodeCounter(body: Uint8Array): { readonly name: string; readonly packets: number } | undefined {
  const found = read(body, 'counter');
  const name = text(found.get(2));
  const data = found.get(4);
  if (name === undefined || data === undefined) return undefined;
  const packets = attributes(data, 0).get(2);
  if (packets?.length !== 8) return undefined;
  return { name, packets: Number(new DataView(packets.buffer, packets.byteOffset, 8).getBigUint64(0)) };
}

function expressionsOf({ field, is, isNot, mask, from, to }: Match): Uint8Array[] {
  const octets = (is ?? isNot ?? from)?.length ?? 0;
  return [
    load(field),
    ...(mask === undefined ? [] : [masked(mask, octets)]),
    ...(is === undefined ? [] : [compare(COMPARE.is, is)]),
    ...(isNot === undefined ? [] : [compare(COMPARE.isNot, isNot)]),
    ...(from === undefined ? [] : [compare(COMPARE.atLeast, from)]),
    ...(to === undefined ? [] : [compare(COMPARE.atMost, to)]),
  ];
}

function load(field: Field): Uint8Array {
  if ('meta' in field) return expression('meta', attribute(1, u32be(REGISTER)), attribute(2, u32be(META[field.meta])));
  if ('destinationType' in field) {
    return expression(
      'fib',
      attribute(1, u32be(REGISTER)),
      attribute(2, u32be(RESULT_ADDRESS_TYPE)),
      attribute(3, u32be(OF_DESTINATION)),
    );
  }
  if ('header' in field) {
    return expression(
      'payload',
      attribute(1, u32be(REGISTER)),
      attribute(2, u32be(BASE[field.header])),
      attribute(3, u32be(field.at)),
      attribute(4, u32be(field.octets)),
    );
  }
  const [type, at, octets, flags] =
    'extension' in field ? [field.extension, field.at, field.octets, 0] : [field.hasExtension, 0, 1, EXTENSION_PRESENT];
  return expression(
    'exthdr',
    attribute(1, u32be(REGISTER)),
    attribute(2, Uint8Array.of(type)),
    attribute(3, u32be(at)),
    attribute(4, u32be(octets)),
    attribute(5, u32be(flags)),
  );
}

function masked(mask: Uint8Array, octets: number): Uint8Array {
  return expression(
    'bitwise',
    attribute(1, u32be(REGISTER)),
    attribute(2, u32be(REGISTER)),
    attribute(3, u32be(octets)),
    nested(4, attribute(1, mask)),
    nested(5, attribute(1, new Uint8Array(octets))),
  );
}

function compare(how: number, value: Uint8Array): Uint8Array {
  return expression('cmp', attribute(1, u32be(REGISTER)), attribute(2, u32be(how)), nested(3, attribute(1, value)));
}

function expression(name: string, ...data: readonly Uint8Array[]): Uint8Array {
  return nested(LIST_ELEMENT, cat(attribute(1, string(name)), nested(2, cat(...data))));
}

function nested(type: number, value: Uint8Array): Uint8Array {
  return attribute(type | NESTED, value);
}

function string(value: string): Uint8Array {
  return new TextEncoder().encode(`${value}\0`);
}

function u32be(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value);
  return bytes;
}

function read(body: Uint8Array, what: string): Map<number, Uint8Array> {
  if (body.length < 4) throw new WireError(`a ${what} of nf_tables has at least 4 octets, not ${body.length}`, 0, 'netlink');
  return attributes(body, 4);
}

const EMPTY = new Uint8Array(0);
