/**
 * What makes policies true on the host, as values: which packets are diverted into the TUN, which pass by, and what may not come in clear
 * (RFC 4301 §5.1, §5.2). Pure: from policies and addresses to rules and routes; `host.ts` makes the host agree.
 */

import { isAnyPort, type Policy, type PolicySelector, portRangesOf } from '../ipsec/policy.ts';
import { type Family, IpAddress } from '../net/address.ts';
import { everything, firstAddress, host, type Prefix, parsePrefix, prefixHolds, showPrefix } from '../net/prefix.ts';
import type { Route, Rule } from '../runtime/netlink/route.ts';

/** On every packet that the suite itself sends: such a packet is never diverted. */
export const MARK = 0x7461;
/** The routing table that leads into the TUN. */
export const TABLE = 7461;
/** RTPROT_* of our rules and routes: what a predecessor that crashed has left is found by it. */
export const PROTOCOL = 122;

/** Priorities of the rules. Inbound ones must come before the host's own addresses are looked up, outbound ones before the main table. */
export const PRIORITY = {
  inboundPass: 1,
  inbound: 10,
  inboundLast: 97,
  /** The look-up of the host's own addresses moves from 0 to here while inbound rules are set. */
  local: 98,
  outboundPass: 20_000,
  outbound: 20_010,
  outboundLast: 29_997,
  /** Into the TUN goes all that no policy matches, where the engine discards it. */
  everythingElse: 29_998,
  /** Where packets go that are left alone. */
  end: 29_999,
} as const;

const TABLE_LOCAL = 255;
const METRIC = 1024;
/** Of the route that holds packets back where the TUN is gone: nothing leaves in clear because a process died. */
const LAST_METRIC = 0x7fff_ffff;
const TCP = 6;
const UDP = 17;
const ESP = 50;
const AH = 51;
const ICMPV6 = 58;
/** TCP, UDP, DCCP, SCTP, UDP-Lite: what the kernel's rules know ports of. */
export const WITH_PORTS = [TCP, UDP, 33, 132, 136];
/**
 * ICMP, IGMP, IPIP, TCP, UDP, DCCP, 6in4, GRE, OSPF, VRRP, L2TP, SCTP, UDP-Lite. The kernel asks the same rules before it answers ARP, which has
 * no protocol: among neighbours in clear these are refused one by one.
 */
const AMONG_NEIGHBOURS = [1, 2, 4, TCP, UDP, 33, 41, 47, 89, 112, 115, 132, 136];
export const FAMILIES: readonly Family[] = [4, 6];
export const LINK_LOCAL = parsePrefix('fe80::/10')!;
/** What a host needs to be a host on its link: router and neighbour discovery, link-local multicast, broadcast. */
export const ON_LINK: Readonly<Record<Family, readonly Prefix[]>> = {
  4: [parsePrefix('224.0.0.0/24')!, parsePrefix('255.255.255.255')!],
  6: [LINK_LOCAL, parsePrefix('ff02::/16')!],
};
/** DHCP's ports, client and server (RFC 2131 §4.1, RFC 8415 §7.2). */
export const DHCP: Readonly<Record<Family, readonly [number, number]>> = { 4: [68, 67], 6: [546, 547] };

export interface PlanInput {
  /** Each direction in the order in which entries are tried. */
  readonly outbound: readonly Policy[];
  readonly inbound: readonly Policy[];
  /** This host's own addresses, without the TUN's. */
  readonly addresses: readonly IpAddress[];
  /** The prefixes of its links: who is in them is asked for by ARP. */
  readonly onLink: readonly Prefix[];
  readonly keyPorts: readonly number[];
  readonly device: { readonly name: string; readonly index: number };
  /** What happens to traffic that no policy matches. */
  readonly unmatched: 'bypass' | 'discard';
  /** Whether the kernel's packet filter keeps clear text out (`clear-text.ts`); rules do, less exactly, where it has none. */
  readonly filtered: boolean;
}

export interface Plan {
  readonly rules: readonly Rule[];
  readonly routes: readonly Route[];
  /** Whether the host's own addresses are to be looked up at `PRIORITY.local` instead of first. */
  readonly localMoved: Readonly<Record<Family, boolean>>;
}

export function planOf(input: PlanInput): Plan {
  const inbound = FAMILIES.map((family) => inboundRules(family, input));
  return {
    rules: unique([...FAMILIES.flatMap((family) => outboundRules(family, input)), ...inbound.flat()], ruleKey),
    routes: FAMILIES.flatMap((family) => routesOf(family, input)),
    localMoved: { 4: inbound[0]!.length > 0, 6: inbound[1]!.length > 0 },
  };
}

/** The local address that a packet to `destination` has as its source where a policy is to protect it. */
export function sourceFor(
  policies: readonly Policy[],
  addresses: readonly IpAddress[],
  destination: IpAddress,
): IpAddress | undefined {
  const about = policies.find(({ action, selector }) => action === 'protect' && prefixHolds(selector.destination, destination));
  return about === undefined ? undefined : addressIn(about.selector.source, addresses);
}

/** RFC 4301 §5.1: each entry in its turn diverts or passes. Entries that follow each other and do the same share a priority. */
function outboundRules(family: Family, { outbound, addresses, keyPorts, unmatched, device }: PlanInput): Rule[] {
  const { before, rest } = untilAllIsDiscarded(outbound.filter(of(family)), unmatched);
  const entries = rest === 'bypass' ? relevant(family, before, diverts) : before;
  if (entries.length === 0 && rest === 'bypass') return [];
  const pass = {
    family,
    priority: PRIORITY.outboundPass,
    table: 0,
    action: 'goto',
    target: PRIORITY.end,
    protocol: PROTOCOL,
  } as const;
  const [client, server] = DHCP[family];
  const rules: Rule[] = [
    { ...pass, mark: MARK, mask: 0xffff_ffff },
    { ...pass, inputInterface: 'lo', ipProtocol: ESP },
    { ...pass, inputInterface: 'lo', ipProtocol: AH },
    ...keyPorts.map((port): Rule => ({ ...pass, inputInterface: 'lo', ipProtocol: UDP, sourcePorts: [port, port] })),
    { ...pass, inputInterface: 'lo', ipProtocol: UDP, sourcePorts: [client, client], destinationPorts: [server, server] },
    ...ON_LINK[family].map((to): Rule => ({ ...pass, to })),
    { family, priority: PRIORITY.end, table: 0, action: 'nop', protocol: PROTOCOL },
  ];
  for (const { policy, group } of grouped(entries, diverts)) {
    const { selector } = policy;
    const priority = Math.min(PRIORITY.outbound + group, PRIORITY.outboundLast);
    if (!diverts(policy)) {
      const fit = isExact(selector) ? fitting(selector, true) : undefined;
      if (fit !== undefined) rules.push({ ...pass, priority, ...fit });
      continue;
    }
    // Ports are the engine's business: a rule with ports would let fragments pass by.
    const divert = { family, priority, table: TABLE, protocol: PROTOCOL };
    const { from, ...fit } = fitting(selector, false);
    rules.push({ ...divert, ...fit, ...(from === undefined ? {} : { from }) });
    // A socket without an address asks for the route first; it is then given the source of the route.
    if (from !== undefined && addressIn(selector.source, addresses) !== undefined) {
      rules.push({ ...divert, ...fit, inputInterface: 'lo', ...(family === 4 ? { from: host(IpAddress.unspecified(4)) } : {}) });
    }
  }
  // What came out of the device has met a policy already.
  if (rest !== 'bypass') {
    rules.push({ ...pass, priority: PRIORITY.outboundLast, inputInterface: device.name });
    rules.push({ family, priority: PRIORITY.everythingElse, table: TABLE, protocol: PROTOCOL });
  }
  return rules;
}

/** RFC 4301 §5.2 step 3b: what came from outside in clear and should have been protected goes nowhere. */
function inboundRules(family: Family, { inbound, keyPorts, device, onLink, filtered }: PlanInput): Rule[] {
  const entries = filtered ? [] : relevant(family, inbound, forbids);
  if (entries.length === 0) return [];
  const pass = {
    family,
    priority: PRIORITY.inboundPass,
    table: 0,
    action: 'goto',
    target: PRIORITY.local,
    protocol: PROTOCOL,
  } as const;
  const [client, server] = DHCP[family];
  const rules: Rule[] = [
    { ...pass, inputInterface: 'lo' },
    { ...pass, inputInterface: device.name },
    { ...pass, ipProtocol: ESP },
    { ...pass, ipProtocol: AH },
    ...keyPorts.map((port): Rule => ({ ...pass, ipProtocol: UDP, destinationPorts: [port, port] })),
    { ...pass, ipProtocol: UDP, sourcePorts: [server, server], destinationPorts: [client, client] },
    ...ON_LINK[family].flatMap((prefix): Rule[] => [
      { ...pass, to: prefix },
      ...(family === 6 ? [{ ...pass, from: prefix }] : []),
    ]),
    // Neighbours ask from global addresses too, and rules do not know ICMP types.
    ...(family === 6 ? [{ ...pass, ipProtocol: ICMPV6 }] : []),
    { family, priority: PRIORITY.local, table: TABLE_LOCAL, protocol: PROTOCOL },
  ];
  for (const { policy, group } of grouped(entries, forbids)) {
    if (!isExact(policy.selector)) continue;
    const priority = Math.min(PRIORITY.inbound + group, PRIORITY.inboundLast);
    const fit = fitting(policy.selector, true);
    const refuse: Rule = { family, priority, table: 0, action: 'blackhole', protocol: PROTOCOL, ...fit };
    if (!forbids(policy)) rules.push({ ...pass, priority, ...fit });
    else if (policy.selector.protocol !== 0 || !onLink.some((prefix) => overlap(prefix, policy.selector.source)))
      rules.push(refuse);
    else rules.push(...AMONG_NEIGHBOURS.map((ipProtocol): Rule => ({ ...refuse, ipProtocol })));
  }
  return rules;
}

function routesOf(family: Family, { outbound, addresses, device, unmatched }: PlanInput): Route[] {
  const { before, rest } = untilAllIsDiscarded(outbound.filter(of(family)), unmatched);
  const entries = before.filter(diverts);
  if (entries.length === 0 && rest === 'bypass') return [];
  const common = { table: TABLE, protocol: PROTOCOL };
  const routes = entries.map(({ selector }): Route => {
    const preferredSource = addressIn(selector.source, addresses);
    return {
      ...common,
      destination: network(selector.destination),
      type: 'unicast',
      index: device.index,
      metric: METRIC,
      ...(preferredSource === undefined ? {} : { preferredSource }),
    };
  });
  if (rest !== 'bypass')
    routes.push({ ...common, destination: everything(family), type: 'unicast', index: device.index, metric: METRIC });
  const last: Route = { ...common, destination: everything(family), type: 'unreachable', metric: LAST_METRIC };
  return [...unique(routes, ({ destination }) => showPrefix(destination)), last];
}

/**
 * The entries before one that discards everything, if there is one, and what happens to the rest: `policy` where that entry discards it, `default` where
 * it is the host's default.
 */
export function untilAllIsDiscarded(
  policies: readonly Policy[],
  unmatched: 'bypass' | 'discard',
): { readonly before: readonly Policy[]; readonly rest: 'bypass' | 'policy' | 'default' } {
  const at = policies.findIndex(
    ({ action, selector }) =>
      action === 'discard' && selector.protocol === 0 && selector.source.length === 0 && selector.destination.length === 0,
  );
  if (at >= 0) return { before: policies.slice(0, at), rest: 'policy' };
  return { before: policies, rest: unmatched === 'discard' ? 'default' : 'bypass' };
}

function diverts({ action }: Policy): boolean {
  return action !== 'bypass';
}

/** Whether what matches may not come in clear. A policy of level `use` protects where it can. */
export function forbids({ action, templates }: Policy): boolean {
  return action === 'discard' || (action === 'protect' && templates[0]?.level !== 'use');
}

/** Those of the family, up to the last that does something: what passes after it passes anyway. */
function relevant(family: Family, policies: readonly Policy[], acts: (policy: Policy) => boolean): Policy[] {
  const own = policies.filter(of(family));
  return own.slice(0, own.findLastIndex(acts) + 1);
}

export function of(family: Family): (policy: Policy) => boolean {
  return ({ selector }) => selector.destination.address.family === family;
}

function grouped(policies: readonly Policy[], acts: (policy: Policy) => boolean): { policy: Policy; group: number }[] {
  let group = 0;
  return policies.map((policy, i) => {
    if (i > 0 && acts(policy) !== acts(policies[i - 1]!)) group++;
    return { policy, group };
  });
}

/** Whether rules can say the selector wholly: they know no ICMP types and no Mobility Header types. */
function isExact(selector: PolicySelector): boolean {
  const { sourceLow, sourceHigh, destinationLow, destinationHigh } = portRangesOf(selector);
  const any = isAnyPort(sourceLow, sourceHigh) && isAnyPort(destinationLow, destinationHigh);
  return any || WITH_PORTS.includes(selector.protocol);
}

function fitting(
  selector: PolicySelector,
  ports: boolean,
): Pick<Rule, 'from' | 'to' | 'ipProtocol' | 'sourcePorts' | 'destinationPorts'> {
  const { source, destination, protocol } = selector;
  const { sourceLow, sourceHigh, destinationLow, destinationHigh } = portRangesOf(selector);
  return {
    ...(source.length === 0 ? {} : { from: network(source) }),
    ...(destination.length === 0 ? {} : { to: network(destination) }),
    ...(protocol === 0 ? {} : { ipProtocol: protocol }),
    ...(ports && !isAnyPort(sourceLow, sourceHigh) ? { sourcePorts: [sourceLow, sourceHigh] as const } : {}),
    ...(ports && !isAnyPort(destinationLow, destinationHigh)
      ? { destinationPorts: [destinationLow, destinationHigh] as const }
      : {}),
  };
}

function addressIn(prefix: Prefix, addresses: readonly IpAddress[]): IpAddress | undefined {
  return prefix.length === 0 ? undefined : addresses.find((address) => prefixHolds(prefix, address));
}

function overlap(a: Prefix, b: Prefix): boolean {
  return a.length <= b.length ? prefixHolds(a, b.address) : prefixHolds(b, a.address);
}

function network(prefix: Prefix): Prefix {
  return { address: firstAddress(prefix), length: prefix.length };
}

function unique<T>(values: readonly T[], keyOf: (value: T) => string): T[] {
  const seen = new Map<string, T>();
  for (const value of values) if (!seen.has(keyOf(value))) seen.set(keyOf(value), value);
  return [...seen.values()];
}

/** What makes two rules one. */
export function ruleKey(rule: Rule): string {
  const { family, priority, table, action, target, mark, from, to, inputInterface, ipProtocol, sourcePorts, destinationPorts } =
    rule;
  const prefix = (of: Prefix | undefined) => (of === undefined ? '' : showPrefix(of));
  return [
    family,
    priority,
    action ?? table,
    target,
    mark,
    prefix(from),
    prefix(to),
    inputInterface,
    ipProtocol,
    sourcePorts?.join('-'),
    destinationPorts?.join('-'),
  ].join(' ');
}

/** What makes two routes one. */
export function routeKey({ destination, type, index, metric, preferredSource }: Route): string {
  return [
    destination.address.family,
    showPrefix(destination),
    type,
    type === 'unicast' ? index : '',
    metric,
    preferredSource,
  ].join(' ');
}
