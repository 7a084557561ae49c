/** An entry of the SPD (RFC 4301 §4.4.1), as spmd installs it and the datapath obeys it. */

import { type Endpoint, type IpAddress, sameEndpoint } from '../net/address.ts';
import { type Prefix, samePrefix, showPrefix } from '../net/prefix.ts';
import type { Mode, SaProtocol } from './sa.ts';

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
}

export type PolicyAction = 'protect' | 'bypass' | 'discard';
export type PolicyDirection = 'inbound' | 'outbound' | 'forward';
export type PolicyLevel = 'default' | 'use' | 'require' | 'unique';

/** The two ends of an SA, or of the tunnel that it makes. */
export interface Ends {
  readonly source: IpAddress;
  readonly destination: IpAddress;
}

/** One SA that a packet must go through. Tunnel mode has both endpoints. */
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
export function hasEnds({ mode, endpoints, level, reqid }: Template, source: IpAddress, destination: IpAddress): boolean {
  if (mode === 'transport' || endpoints === undefined || (level === 'unique' && reqid !== 0)) return true;
  const is = (wanted: IpAddress, address: IpAddress) => wanted.isUnspecified || wanted.equals(address);
  return is(endpoints.source, source) && is(endpoints.destination, destination);
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
  return (
    samePrefix(a.source, b.source) &&
    samePrefix(a.destination, b.destination) &&
    a.protocol === b.protocol &&
    a.sourcePort === b.sourcePort &&
    a.destinationPort === b.destinationPort
  );
}

export function showPolicySelector(selector: PolicySelector): string {
  const port = (n: number) => (n === 0 ? '' : `[${n}]`);
  const protocol = selector.protocol === 0 ? '' : ` proto ${selector.protocol}`;
  return `${showPrefix(selector.source)}${port(selector.sourcePort)} -> ${showPrefix(selector.destination)}${port(selector.destinationPort)}${protocol}`;
}

/** `esp/tunnel/192.0.2.1-192.0.2.2/unique:1`, as setkey(8) writes a request. */
export function showTemplate({ protocol, mode, endpoints, level, reqid }: Template): string {
  const ends = endpoints === undefined ? '' : `${endpoints.source}-${endpoints.destination}`;
  return `${protocol}/${mode}/${ends}/${level}${reqid === 0 ? '' : `:${reqid}`}`;
}
