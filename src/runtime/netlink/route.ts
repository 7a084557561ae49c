/** rtnetlink's objects as octets: links, addresses, routes and rules of IPv4 and IPv6 (RFC 3549 §3.1, rtnetlink(7)). */

import { cat } from '../../bytes/bytes.ts';
import { WireError } from '../../errors.ts';
import { type Family, IpAddress } from '../../net/address.ts';
import { bitsOf, type Prefix } from '../../net/prefix.ts';
import { attribute, attributes, number, text, u32 } from './codec.ts';

export const RTM = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  NEWADDR: 20,
  DELADDR: 21,
  GETADDR: 22,
  NEWROUTE: 24,
  DELROUTE: 25,
  GETROUTE: 26,
  NEWRULE: 32,
  DELRULE: 33,
  GETRULE: 34,
} as const;

/** Multicast groups that tell of changes. */
export const RTNLGRP = {
  LINK: 1,
  IPV4_IFADDR: 5,
  IPV4_ROUTE: 7,
  IPV4_RULE: 8,
  IPV6_IFADDR: 9,
  IPV6_ROUTE: 11,
  IPV6_RULE: 19,
} as const;

export const TABLE_MAIN = 254;

/** Where packets of a route go. */
export const ROUTE_TYPE = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
  throw: 9,
} as const;
export type RouteType = keyof typeof ROUTE_TYPE;

const IFF_UP = 0x1;
const IFF_LOOPBACK = 0x8;
const IFF_RUNNING = 0x40;
const RT_SCOPE_LINK = 253;
const RT_SCOPE_HOST = 254;
const RTPROT_STATIC = 4;
/** What a rule does with the packets that fit it. */
export const RULE_ACTION = { table: 1, goto: 2, nop: 3, blackhole: 6, unreachable: 7, prohibit: 8 } as const;
export type RuleAction = keyof typeof RULE_ACTION;

const FIB_RULE_INVERT = 2;
const IFA_F_NODAD = 0x02;
const NONE = new Uint8Array(0);

export interface Link {
  readonly index: number;
  readonly name: string;
  readonly mtu: number;
  /** Set up by the administrator. */
  readonly up: boolean;
  /** Able to carry packets. */
  readonly running: boolean;
  readonly loopback: boolean;
  /** `tun`, `veth`, …; empty for hardware. */
  readonly kind: string;
}

export interface InterfaceAddress {
  /** Of the interface. */
  readonly index: number;
  /** The host's own address and the length of its prefix. */
  readonly prefix: Prefix;
  /** 0 global, 253 link, 254 host. */
  readonly scope: number;
  /** IFA_F_* bits: 0x40 tentative, 0x20 deprecated. */
  readonly flags: number;
}

/** What is absent is not given to the kernel, or was not told by it. */
export interface Route {
  readonly destination: Prefix;
  readonly table: number;
  readonly type: RouteType;
  /** Index of the outgoing interface. */
  readonly index?: number;
  readonly gateway?: IpAddress;
  readonly preferredSource?: IpAddress;
  /** Priority: the lowest counts. */
  readonly metric?: number;
  readonly mtu?: number;
  /** Who made it, RTPROT_*; `static` (4) unless given. A number of one's own finds one's leftovers again. */
  readonly protocol?: number;
}

/** `ip rule`: packets that fit everything given are looked up in `table`, or another `action` is taken. */
export interface Rule {
  readonly family: Family;
  /** The lowest is asked first. */
  readonly priority: number;
  /** 0 where the action is another. */
  readonly table: number;
  /** Absent: `table`. `goto` needs `target`, the priority of a later rule. */
  readonly action?: RuleAction;
  readonly target?: number;
  readonly mark?: number;
  /** Bits of the mark that count; all unless given. */
  readonly mask?: number;
  readonly from?: Prefix;
  readonly to?: Prefix;
  readonly inputInterface?: string;
  readonly outputInterface?: string;
  /** Packets that do not fit, instead. */
  readonly invert?: boolean;
  /** Routes of this length or less found in the table do not count (0: all but default routes). */
  readonly suppressPrefixLength?: number;
  readonly ipProtocol?: number;
  readonly sourcePorts?: readonly [number, number];
  readonly destinationPorts?: readonly [number, number];
  /** Who made it, RTPROT_*. */
  readonly protocol?: number;
}

const AF: Record<Family, number> = { 4: 2, 6: 10 };

function familyOf(af: number): Family | undefined {
  return af === AF[4] ? 4 : af === AF[6] ? 6 : undefined;
}

/** struct ifinfomsg for a request about one link: `family, pad (2) | type (2) | index (4) | flags (4) | change (4)`. */
export function encodeLink(index: number, change: { readonly up?: boolean; readonly mtu?: number } = {}): Uint8Array {
  const header = new Uint8Array(16);
  const view = new DataView(header.buffer);
  view.setInt32(4, index, true);
  view.setUint32(8, change.up === true ? IFF_UP : 0, true);
  view.setUint32(12, change.up === undefined ? 0 : IFF_UP, true);
  return cat(header, change.mtu === undefined ? NONE : attribute(4, u32(change.mtu)));
}

export function decodeLink(body: Uint8Array): Link {
  const view = fixed(body, 16, 'link');
  const found = attributes(body, 16);
  const info = found.get(18);
  const flags = view.getUint32(8, true);
  return {
    index: view.getInt32(4, true),
    name: text(found.get(3)) ?? '',
    mtu: number(found.get(4)) ?? 0,
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    kind: info === undefined ? '' : (text(attributes(info, 0).get(1)) ?? ''),
  };
}

/**
 * struct ifaddrmsg: `family, prefix length, flags, scope | index (4)`. IPv6 addresses skip duplicate address detection: a TUN has
 * no neighbours.
 */
export function encodeAddress(index: number, { address, length }: Prefix): Uint8Array {
  const header = Uint8Array.of(AF[address.family], length, address.family === 6 ? IFA_F_NODAD : 0, 0);
  return cat(header, u32(index), attribute(2, address.bytes), attribute(1, address.bytes));
}

/** Undefined for a family other than IPv4 and IPv6. */
export function decodeAddress(body: Uint8Array): InterfaceAddress | undefined {
  const view = fixed(body, 8, 'address');
  const found = attributes(body, 8);
  const address = toAddress(found.get(2) ?? found.get(1));
  if (familyOf(view.getUint8(0)) === undefined || address === undefined) return undefined;
  return {
    index: view.getUint32(4, true),
    prefix: { address, length: view.getUint8(1) },
    scope: view.getUint8(3),
    flags: number(found.get(8)) ?? view.getUint8(2),
  };
}

/**
 * struct rtmsg: `family, destination length, source length, tos, table, protocol, scope, type | flags (4)`. `mark` is for
 * look-ups alone.
 */
export function encodeRoute(route: Route, mark?: number): Uint8Array {
  const { destination, gateway, preferredSource } = route;
  const header = new Uint8Array(12);
  header[0] = AF[destination.address.family];
  header[1] = destination.length;
  header[4] = route.table < 256 ? route.table : 0;
  header[5] = route.protocol ?? RTPROT_STATIC;
  header[6] = route.type === 'local' ? RT_SCOPE_HOST : route.type === 'unicast' && gateway === undefined ? RT_SCOPE_LINK : 0;
  header[7] = ROUTE_TYPE[route.type];
  const metrics = route.mtu === undefined ? NONE : attribute(8, attribute(2, u32(route.mtu)));
  return cat(
    header,
    destination.length === 0 ? NONE : attribute(1, destination.address.bytes),
    optional(4, route.index),
    gateway === undefined ? NONE : attribute(5, gateway.bytes),
    optional(6, route.metric),
    preferredSource === undefined ? NONE : attribute(7, preferredSource.bytes),
    metrics,
    optional(15, route.table === 0 ? undefined : route.table),
    optional(16, mark),
  );
}

/** Undefined for what is no route of the host's own (another family, a type that is not in ROUTE_TYPE). */
export function decodeRoute(body: Uint8Array): Route | undefined {
  const view = fixed(body, 12, 'route');
  const family = familyOf(view.getUint8(0));
  const type = (Object.keys(ROUTE_TYPE) as RouteType[]).find((name) => ROUTE_TYPE[name] === view.getUint8(7));
  if (family === undefined || type === undefined) return undefined;
  const found = attributes(body, 12);
  const metrics = found.get(8);
  return {
    destination: { address: toAddress(found.get(1)) ?? IpAddress.unspecified(family), length: view.getUint8(1) },
    table: number(found.get(15)) ?? view.getUint8(4),
    type,
    protocol: view.getUint8(5),
    ...given('index', number(found.get(4))),
    ...given('gateway', toAddress(found.get(5))),
    ...given('preferredSource', toAddress(found.get(7))),
    ...given('metric', number(found.get(6))),
    ...given('mtu', metrics === undefined ? undefined : number(attributes(metrics, 0).get(2))),
  };
}

/** struct fib_rule_hdr: `family, destination length, source length, tos, table, 0, 0, action | flags (4)`. */
export function encodeRule(rule: Rule): Uint8Array {
  const header = new Uint8Array(8);
  header[0] = AF[rule.family];
  header[1] = rule.to?.length ?? 0;
  header[2] = rule.from?.length ?? 0;
  header[4] = rule.table < 256 ? rule.table : 0;
  header[7] = RULE_ACTION[rule.action ?? 'table'];
  return cat(
    header,
    u32(rule.invert ? FIB_RULE_INVERT : 0),
    prefixOf(1, rule.to),
    prefixOf(2, rule.from),
    name(3, rule.inputInterface),
    name(17, rule.outputInterface),
    optional(6, rule.priority),
    optional(10, rule.mark),
    optional(16, rule.mask ?? (rule.mark === undefined ? undefined : 0xffffffff)),
    optional(14, rule.suppressPrefixLength),
    optional(15, rule.table === 0 ? undefined : rule.table),
    optional(4, rule.target),
    rule.protocol === undefined ? NONE : attribute(21, Uint8Array.of(rule.protocol)),
    rule.ipProtocol === undefined ? NONE : attribute(22, Uint8Array.of(rule.ipProtocol)),
    ports(23, rule.sourcePorts),
    ports(24, rule.destinationPorts),
  );
}

/** Undefined for a rule of another family, or whose action is not in RULE_ACTION. */
export function decodeRule(body: Uint8Array): Rule | undefined {
  const view = fixed(body, 12, 'rule');
  const family = familyOf(view.getUint8(0));
  const action = (Object.keys(RULE_ACTION) as RuleAction[]).find((name) => RULE_ACTION[name] === view.getUint8(7));
  if (family === undefined || action === undefined) return undefined;
  const found = attributes(body, 12);
  const suppress = number(found.get(14));
  return {
    family,
    priority: number(found.get(6)) ?? 0,
    table: number(found.get(15)) ?? view.getUint8(4),
    ...given('action', action === 'table' ? undefined : action),
    ...given('target', number(found.get(4))),
    ...given('mark', number(found.get(10))),
    ...given('mask', number(found.get(16))),
    ...given('from', toPrefix(found.get(2), view.getUint8(2))),
    ...given('to', toPrefix(found.get(1), view.getUint8(1))),
    ...given('inputInterface', text(found.get(3))),
    ...given('outputInterface', text(found.get(17))),
    ...given('invert', (view.getUint32(8, true) & FIB_RULE_INVERT) !== 0 ? true : undefined),
    ...given('suppressPrefixLength', suppress === 0xffffffff ? undefined : suppress),
    ...given('ipProtocol', number(found.get(22))),
    ...given('sourcePorts', toPorts(found.get(23))),
    ...given('destinationPorts', toPorts(found.get(24))),
    ...given('protocol', number(found.get(21))),
  };
}

/** The header of a listing: all octets zero but the family (0: every family). */
export function encodeListing(headerBytes: 16 | 8 | 12, family: Family | 0): Uint8Array {
  const header = new Uint8Array(headerBytes);
  header[0] = family === 0 ? 0 : AF[family];
  return header;
}

function fixed(body: Uint8Array, headerBytes: number, what: string): DataView {
  if (body.length < headerBytes)
    throw new WireError(`a ${what} has at least ${headerBytes} octets, not ${body.length}`, 0, 'netlink');
  return new DataView(body.buffer, body.byteOffset, body.length);
}

function given<Key extends string, T>(key: Key, value: T | undefined): { [K in Key]?: T } {
  return value === undefined ? {} : ({ [key]: value } as { [K in Key]?: T });
}

function optional(type: number, value: number | undefined): Uint8Array {
  return value === undefined ? NONE : attribute(type, u32(value));
}

function name(type: number, value: string | undefined): Uint8Array {
  return value === undefined ? NONE : attribute(type, new TextEncoder().encode(`${value}\0`));
}

function prefixOf(type: number, prefix: Prefix | undefined): Uint8Array {
  return prefix === undefined || prefix.length === 0 ? NONE : attribute(type, prefix.address.bytes);
}

/** struct fib_rule_port_range: `first (2) | last (2)`, in the host's order. */
function ports(type: number, range: readonly [number, number] | undefined): Uint8Array {
  return range === undefined ? NONE : attribute(type, u32(range[0] + range[1] * 0x10000));
}

function toPorts(value: Uint8Array | undefined): [number, number] | undefined {
  const both = number(value);
  return both === undefined ? undefined : [both & 0xffff, both >>> 16];
}

function toAddress(value: Uint8Array | undefined): IpAddress | undefined {
  return value?.length === 4 || value?.length === 16 ? IpAddress.of(value) : undefined;
}

function toPrefix(value: Uint8Array | undefined, length: number): Prefix | undefined {
  const address = toAddress(value);
  return address === undefined || length > bitsOf(address.family) ? undefined : { address, length };
}
