/** An entry of the SPD (RFC 4301 §4.4.1), as spmd installs it and the datapath obeys it. */

import type { IpAddress } from '../net/address.ts';
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

/** One SA that a packet must go through. Tunnel mode has both endpoints. */
export interface Template {
  readonly protocol: SaProtocol;
  readonly mode: Mode;
  readonly level: PolicyLevel;
  readonly reqid: number;
  readonly endpoints: { readonly source: IpAddress; readonly destination: IpAddress } | undefined;
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
