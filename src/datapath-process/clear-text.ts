/**
 * What may not come in clear (RFC 4301 §5.2 step 3b), as rules of the kernel's packet filter that count what they drop. Pure: from policies to rules;
 * `host.ts` puts them where packets arrive, before the host looks at their addresses.
 */

import { isAnyPort, type Policy, type PolicySelector, portRangesOf } from '../ipsec/policy.ts';
import type { Family } from '../net/address.ts';
import { firstAddress, lastAddress, type Prefix } from '../net/prefix.ts';
import { isIcmp, PROTOCOL } from '../net/transport.ts';
import { type FilterRule, type Match, NFPROTO } from '../runtime/netlink/nftables.ts';
import { DHCP, FAMILIES, forbids, LINK_LOCAL, ON_LINK, of, untilAllIsDiscarded, WITH_PORTS } from './plan.ts';

/** The table, one a network namespace. */
export const FILTER_TABLE = 'tanuki';

/** Why clear text was dropped, as `status` names it. */
export const CLEAR_DROPS = {
  /** A policy demands protection. */
  protect: 'clearText',
  /** A policy says discard. */
  discard: 'clearDiscard',
  /** No policy matches, and what none matches is discarded. */
  unmatched: 'clearUnmatched',
} as const;
export const CLEAR_COUNTERS: readonly string[] = Object.values(CLEAR_DROPS);

export interface ArrivalsInput {
  /** In the order in which entries are tried. */
  readonly inbound: readonly Policy[];
  readonly outbound: readonly Policy[];
  readonly keyPorts: readonly number[];
  /** Name of the TUN device: its successor after a crash has another index. */
  readonly device: string;
  readonly unmatched: 'bypass' | 'discard';
}

const LOOPBACK = 'lo';
const NAME_OCTETS = 16;
/** RTN_UNICAST: what goes on to another host. */
const ELSEWHERE = 1;
/** Neighbour and router discovery, RFC 4861 §4; its hop limit proves that it is from the link (§7.1). */
const DISCOVERY = [133, 137] as const;
const LINK_HOP_LIMIT = 255;
/** Where ICMP's copy of the packet begins that it is about. */
const QUOTED = 8;
const PACKET_TOO_BIG = 2;
const FRAGMENTATION_NEEDED = Uint8Array.of(3, 4);

/** Empty where no policy forbids anything. */
export function arrivalRules({ inbound, outbound, keyPorts, device, unmatched }: ArrivalsInput): readonly FilterRule[] {
  const rules = FAMILIES.flatMap((each) => policyRules(each, inbound.filter(of(each)), outbound.filter(of(each)), unmatched));
  return rules.length === 0 ? [] : [...exemptions(keyPorts, device), ...rules];
}

/**
 * The inbound entries of a family in their order. Where the rest is discarded, what is on its way through this host to another, and an outbound policy is about,
 * is not of the rest: it came from the protected side, and is protected or bypassed here.
 */
function policyRules(
  each: Family,
  inbound: readonly Policy[],
  outbound: readonly Policy[],
  unmatched: 'bypass' | 'discard',
): FilterRule[] {
  const { before, rest } = untilAllIsDiscarded(inbound, unmatched);
  if (rest === 'bypass') return before.slice(0, before.findLastIndex(forbids) + 1).flatMap((policy) => rulesOf(policy));
  const through = untilAllIsDiscarded(outbound, 'discard').before;
  const counter = rest === 'policy' ? CLEAR_DROPS.discard : CLEAR_DROPS.unmatched;
  return [
    ...before.flatMap((policy) => rulesOf(policy)),
    ...through.flatMap((policy) => rulesOf(policy, [forOthers()])),
    { matches: [family(each)], counter, verdict: 'drop' },
  ];
}

/** What a host needs to be a host and this suite to be one, in the order of how often it comes. */
function exemptions(keyPorts: readonly number[], device: string): FilterRule[] {
  const accept = (...matches: readonly Match[]): FilterRule => ({ matches, verdict: 'accept' });
  return [
    accept(arrivesOn(device)),
    accept(arrivesOn(LOOPBACK)),
    accept(protocol(PROTOCOL.esp)),
    ...keyPorts.map((port) => accept(protocol(PROTOCOL.udp), destinationPort(port, port))),
    accept(protocol(PROTOCOL.ah)),
    accept(family(6), { field: { hasExtension: PROTOCOL.ah }, is: octet(1) }),
    // A fragment without ports may be one of ours; without the first one, which has them, the host cannot put it together.
    accept(family(4), protocol(PROTOCOL.udp), { field: network(6, 2), isNot: u16(0), mask: u16(0x1fff) }, notForOthers()),
    ...[PROTOCOL.udp, PROTOCOL.ah].map((inner) =>
      accept(
        family(6),
        { field: { extension: PROTOCOL.fragment, at: 0, octets: 1 }, is: octet(inner) },
        { field: { extension: PROTOCOL.fragment, at: 2, octets: 2 }, isNot: u16(0), mask: u16(0xfff8) },
        notForOthers(),
      ),
    ),
    accept(
      family(6),
      protocol(PROTOCOL.icmpv6),
      { field: transport(0, 1), from: octet(DISCOVERY[0]), to: octet(DISCOVERY[1]) },
      { field: network(7, 1), is: octet(LINK_HOP_LIMIT) },
    ),
    ...FAMILIES.flatMap((each) => {
      const [client, server] = DHCP[each];
      return [
        accept(family(each), protocol(PROTOCOL.udp), sourcePort(server, server), destinationPort(client, client)),
        ...ON_LINK[each].map((prefix) => accept(family(each), ...within(prefix, 'destination'))),
      ];
    }),
    accept(family(6), ...within(LINK_LOCAL, 'source')),
    ...tooBig(keyPorts).map((matches) => accept(...matches)),
  ];
}

/** RFC 4301 §8.2.1: the path's word about packets of ours, which the engine judges by what they quote. */
function tooBig(keyPorts: readonly number[]): Match[][] {
  const v4: Match[] = [
    family(4),
    protocol(PROTOCOL.icmp),
    { field: transport(0, 2), is: FRAGMENTATION_NEEDED },
    { field: transport(QUOTED, 1), is: octet(0x45) },
  ];
  const v6: Match[] = [family(6), protocol(PROTOCOL.icmpv6), { field: transport(0, 1), is: octet(PACKET_TOO_BIG) }];
  const quotes = (about: Match[], protocolAt: number, headerBytes: number) => [
    ...[PROTOCOL.esp, PROTOCOL.ah].map((inner) => [...about, { field: transport(QUOTED + protocolAt, 1), is: octet(inner) }]),
    ...keyPorts.map((port) => [
      ...about,
      { field: transport(QUOTED + protocolAt, 1), is: octet(PROTOCOL.udp) },
      { field: transport(QUOTED + headerBytes, 2), is: u16(port) },
    ]),
  ];
  return [...quotes(v4, 9, 20), ...quotes(v6, 6, 40)];
}

/** With `also`, for an outbound entry: what is to be protected passes then. */
function rulesOf(policy: Policy, also: readonly Match[] = []): FilterRule[] {
  const { selector, action, direction } = policy;
  const passes = direction === 'outbound' ? action !== 'discard' : !forbids(policy);
  // Ports without a protocol are those of every protocol that has some.
  const { sourceLow, sourceHigh, destinationLow, destinationHigh } = portRangesOf(selector);
  const anyPort = isAnyPort(sourceLow, sourceHigh) && isAnyPort(destinationLow, destinationHigh);
  const protocols = selector.protocol === 0 && !anyPort ? WITH_PORTS : [selector.protocol];
  return protocols.map((number): FilterRule => {
    const matches = [...matchesOf(selector, number), ...also];
    if (passes) return { matches, verdict: 'accept' };
    return { matches, counter: action === 'discard' ? CLEAR_DROPS.discard : CLEAR_DROPS.protect, verdict: 'drop' };
  });
}

/** RFC 4301 §4.4.1.1: all that a selector can say. */
function matchesOf(selector: PolicySelector, number: number): Match[] {
  const { source, destination } = selector;
  const { sourceLow, sourceHigh, destinationLow, destinationHigh } = portRangesOf(selector);
  const matches = [family(source.address.family), ...within(source, 'source'), ...within(destination, 'destination')];
  if (number !== 0) matches.push(protocol(number));
  const [first, second] = isIcmp(number)
    ? [type(0, sourceLow, sourceHigh), type(1, destinationLow, destinationHigh)]
    : number === PROTOCOL.mobility
      ? [type(2, sourceLow, sourceHigh), undefined]
      : [sourcePort(sourceLow, sourceHigh), destinationPort(destinationLow, destinationHigh)];
  if (!isAnyPort(sourceLow, sourceHigh)) matches.push(first);
  if (!isAnyPort(destinationLow, destinationHigh) && second !== undefined) matches.push(second);
  return matches;
}

/** One octet of a message: its type or its code. */
function type(at: number, low: number, high: number): Match {
  const field = transport(at, 1);
  const last = Math.min(high, 0xff);
  return low === last ? { field, is: octet(low) } : { field, from: octet(low), to: octet(last) };
}

function arrivesOn(name: string): Match {
  const padded = new Uint8Array(NAME_OCTETS);
  padded.set(new TextEncoder().encode(name).subarray(0, NAME_OCTETS - 1));
  return { field: { meta: 'inputInterface' }, is: padded };
}

function forOthers(): Match {
  return { field: { destinationType: true }, is: Uint8Array.of(ELSEWHERE, 0, 0, 0) };
}

function notForOthers(): Match {
  return { field: { destinationType: true }, isNot: Uint8Array.of(ELSEWHERE, 0, 0, 0) };
}

function family(of: Family): Match {
  return { field: { meta: 'family' }, is: octet(NFPROTO[of]) };
}

/** Behind all extension headers. */
function protocol(number: number): Match {
  return { field: { meta: 'protocol' }, is: octet(number) };
}

function within(prefix: Prefix, side: 'source' | 'destination'): Match[] {
  const { length, address } = prefix;
  if (length === 0) return [];
  const all = address.bytes.length;
  const at = (address.family === 4 ? 12 : 8) + (side === 'source' ? 0 : all);
  const { bytes } = firstAddress(prefix);
  if (length % 8 === 0) return [{ field: network(at, length / 8), is: bytes.subarray(0, length / 8) }];
  return [{ field: network(at, all), is: bytes, mask: lastAddress(prefix).bytes.map((last, i) => 0xff ^ last ^ bytes[i]!) }];
}

function sourcePort(low: number, high: number): Match {
  return ports(0, low, high);
}

function destinationPort(low: number, high: number): Match {
  return ports(2, low, high);
}

function ports(at: number, low: number, high: number): Match {
  const field = transport(at, 2);
  return low === high ? { field, is: u16(low) } : { field, from: u16(low), to: u16(high) };
}

function network(at: number, octets: number) {
  return { header: 'network', at, octets } as const;
}

function transport(at: number, octets: number) {
  return { header: 'transport', at, octets } as const;
}

function octet(value: number): Uint8Array {
  return Uint8Array.of(value);
}

function u16(value: number): Uint8Array {
  return Uint8Array.of(value >>> 8, value & 0xff);
}
