/** An entry of the SPD (RFC 4301 §4.4.1), as spmd installs it and the datapath obeys it. */

import { type Endpoint, type IpAddress, sameEndpoint } from '../net/address.ts';
import { type Prefix, samePrefix, showPrefix } from '../net/prefix.ts';
import type { Mode, SaParameters, SaProtocol } from './sa.ts';
import { onlyHost } from './selector.ts';

/**
 * Which packets an entry is about, as PF_KEY can say it. Protocol 0 is any, port 0 is any; for ICMP the source port is the type and
 * the destination port the code, for the Mobility Header the source port is the type.
 */
export interface PolicySelector {
  readonly source: Prefix;
  readonly destination: Prefix;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Where one value is not enough: these ranges decide, and the two members above are 0. Here 0 is a value, and 0 to 65535 is any. */
  readonly portRanges?: PortRanges | undefined;
}

/** Ports, or types and codes, from the lowest to the highest. */
export interface PortRanges {
  readonly sourceLow: number;
  readonly sourceHigh: number;
  readonly destinationLow: number;
  readonly destinationHigh: number;
}

const HIGHEST_PORT = 65_535;

/** What a selector says of ports, types and codes, in one form. */
export function portRangesOf({ sourcePort, destinationPort, portRanges }: PolicySelector): PortRanges {
  if (portRanges !== undefined) return portRanges;
  return {
    sourceLow: sourcePort,
    sourceHigh: sourcePort === 0 ? HIGHEST_PORT : sourcePort,
    destinationLow: destinationPort,
    destinationHigh: destinationPort === 0 ? HIGHEST_PORT : destinationPort,
  };
}

/** Whether a range is every port. */
export function isAnyPort(low: number, high: number): boolean {
  return low === 0 && high === HIGHEST_PORT;
}

export type PolicyAction = 'protect' | 'bypass' | 'discard';
export type PolicyDirection = 'inbound' | 'outbound' | 'forward';
export type PolicyLevel = 'default' | 'use' | 'require' | 'unique';

/** The two ends of an SA, or of the tunnel that it makes. */
export interface Ends {
  readonly source: IpAddress;
  readonly destination: IpAddress;
}

/** One SA that a packet must go through. All modes but transport have both endpoints. */
export interface Template {
  readonly protocol: SaProtocol;
  readonly mode: Mode;
  readonly level: PolicyLevel;
  readonly reqid: number;
  readonly endpoints: Ends | undefined;
}

/**
 * Whether a tunnel template has these endpoints; an unspecified one is any. Transport mode has none. A unique template is bound to its SAs by its
 * reqid alone: they stay with it when a peer has moved, or a NAT has (RFC 7296 §2.23, RFC 4555).
 */
export function hasEnds(template: Template, source: IpAddress, destination: IpAddress): boolean {
  const endpoints = endsOf(template);
  if (endpoints === undefined) return true;
  const is = (wanted: IpAddress, address: IpAddress) => wanted.isUnspecified || wanted.equals(address);
  return is(endpoints.source, source) && is(endpoints.destination, destination);
}

/** The ends that its SAs must have: any in transport mode, where they are the packet's, and where a reqid tells them. */
export function endsOf({ mode, endpoints, level, reqid }: Template): Ends | undefined {
  return mode === 'transport' || (level === 'unique' && reqid !== 0) ? undefined : endpoints;
}

/** The inner addresses of an SA in BEET mode: one at each end, of one family; undefined where its selectors have others. */
export function innerEnds({ source, destination }: SaParameters['selectors']): Ends | undefined {
  const [from, to] = [onlyHost(source), onlyHost(destination)];
  return from !== undefined && to !== undefined && from.family === to.family ? { source: from, destination: to } : undefined;
}

/**
 * Where key management talks about SAs whose own addresses are no good for it: a node that moved has its SAs on its home address and IKE on the
 * care-of address (SADB_X_EXT_KMADDRESS).
 */
export interface KmAddress {
  readonly local: Endpoint;
  readonly remote: Endpoint;
}

export function sameEnds(a: Ends, b: Ends): boolean {
  return a.source.equals(b.source) && a.destination.equals(b.destination);
}

export function sameKmAddress(a: KmAddress | undefined, b: KmAddress | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return sameEndpoint(a.local, b.local) && sameEndpoint(a.remote, b.remote);
}

export interface Policy {
  /** The number the datapath gave it; 0 before that. */
  readonly id: number;
  readonly selector: PolicySelector;
  readonly direction: PolicyDirection;
  readonly action: PolicyAction;
  /** Lower numbers come first; entries of the same priority keep the order in which they were added. */
  readonly priority: number;
  readonly templates: readonly Template[];
}

/** Whether two policies ask for SAs between the same ends. */
export function sameTunnel(a: Policy, b: Policy): boolean {
  const [before, after] = [a.templates[0]?.endpoints, b.templates[0]?.endpoints];
  return before === undefined || after === undefined ? before === after : sameEnds(before, after);
}

export function samePolicySelector(a: PolicySelector, b: PolicySelector): boolean {
  const [x, y] = [portRangesOf(a), portRangesOf(b)];
  return (
    samePrefix(a.source, b.source) &&
    samePrefix(a.destination, b.destination) &&
    a.protocol === b.protocol &&
    x.sourceLow === y.sourceLow &&
    x.sourceHigh === y.sourceHigh &&
    x.destinationLow === y.destinationLow &&
    x.destinationHigh === y.destinationHigh
  );
}

export function showPolicySelector(selector: PolicySelector): string {
  const { sourceLow, sourceHigh, destinationLow, destinationHigh } = portRangesOf(selector);
  const ports = (low: number, high: number) => (isAnyPort(low, high) ? '' : low === high ? `[${low}]` : `[${low}-${high}]`);
  const protocol = selector.protocol === 0 ? '' : ` proto ${selector.protocol}`;
  const [source, destination] = [showPrefix(selector.source), showPrefix(selector.destination)];
  return `${source}${ports(sourceLow, sourceHigh)} -> ${destination}${ports(destinationLow, destinationHigh)}${protocol}`;
}

/** `esp/tunnel/192.0.2.1-192.0.2.2/unique:1`, as setkey(8) writes a request. */
export function showTemplate({ protocol, mode, endpoints, level, reqid }: Template): string {
  const ends = endpoints === undefined ? '' : `${endpoints.source}-${endpoints.destination}`;
  return `${protocol}/${mode}/${ends}/${level}${reqid === 0 ? '' : `:${reqid}`}`;
}
