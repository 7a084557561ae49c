/** Traffic selectors (RFC 7296 §3.13.1) and the algebra on sets of them (RFC 4301 §4.4.1): subset, intersection, narrowing. */

import { type Family, IpAddress } from '../net/address.ts';
import { hasTypes } from '../net/message-types.ts';
import { firstAddress, lastAddress, type Prefix } from '../net/prefix.ts';
import { PROTOCOL } from '../net/transport.ts';

/**
 * One range of addresses, of ports and one protocol. Protocol 0 is any. Ports 0 to 65535 are any; 65535 to 0 is OPAQUE. For ICMP the
 * port is type * 256 + code, for the Mobility Header type * 256, as RFC 7296 §3.13.1 packs them.
 */
export interface TrafficSelector {
  readonly protocol: number;
  readonly startPort: number;
  readonly endPort: number;
  readonly start: IpAddress;
  readonly end: IpAddress;
}

export const ANY_PORT = { startPort: 0, endPort: 65535 } as const;

/** Everything within a prefix. */
export function selectorOf(
  prefix: Prefix,
  protocol = 0,
  ports: { startPort: number; endPort: number } = ANY_PORT,
): TrafficSelector {
  return { protocol, ...ports, start: firstAddress(prefix), end: lastAddress(prefix) };
}

export function everythingOf(family: Family): TrafficSelector {
  return selectorOf({ address: IpAddress.unspecified(family), length: 0 });
}

export function sameSelector(a: TrafficSelector, b: TrafficSelector): boolean {
  return (
    a.protocol === b.protocol &&
    a.startPort === b.startPort &&
    a.endPort === b.endPort &&
    a.start.equals(b.start) &&
    a.end.equals(b.end)
  );
}

/** The only address in all of them, where there is one. */
export function onlyHost(selectors: readonly TrafficSelector[]): IpAddress | undefined {
  const [first] = selectors;
  return first !== undefined && selectors.every(({ start, end }) => start.equals(first.start) && end.equals(first.start))
    ? first.start
    : undefined;
}

/** Whether all that `inner` selects is selected by `outer`. */
export function isSubset(inner: TrafficSelector, outer: TrafficSelector): boolean {
  return (
    inner.start.family === outer.start.family &&
    (outer.protocol === 0 || outer.protocol === inner.protocol) &&
    outer.startPort <= inner.startPort &&
    inner.endPort <= outer.endPort &&
    outer.start.compare(inner.start) <= 0 &&
    inner.end.compare(outer.end) <= 0
  );
}

/** What both select, or undefined where that is nothing. */
export function intersect(a: TrafficSelector, b: TrafficSelector): TrafficSelector | undefined {
  if (a.start.family !== b.start.family) return undefined;
  if (a.protocol !== 0 && b.protocol !== 0 && a.protocol !== b.protocol) return undefined;
  const start = a.start.compare(b.start) >= 0 ? a.start : b.start;
  const end = a.end.compare(b.end) <= 0 ? a.end : b.end;
  const startPort = Math.max(a.startPort, b.startPort);
  const endPort = Math.min(a.endPort, b.endPort);
  if (start.compare(end) > 0 || startPort > endPort) return undefined;
  return { protocol: a.protocol === 0 ? b.protocol : a.protocol, startPort, endPort, start, end };
}

/** What `offered` and `allowed` have in common, in the order offered, without repetitions (RFC 7296 §2.9). */
export function narrow(offered: readonly TrafficSelector[], allowed: readonly TrafficSelector[]): TrafficSelector[] {
  const common: TrafficSelector[] = [];
  for (const offer of offered) {
    for (const allow of allowed) {
      const both = intersect(offer, allow);
      if (both !== undefined && !common.some((known) => isSubset(both, known))) common.push(both);
    }
  }
  return common;
}

/** Whether the selectors cover one packet's addresses (this end's), protocol and port. */
export function selects(selectors: readonly TrafficSelector[], address: IpAddress, protocol: number, port: number): boolean {
  return selectors.some(
    (ts) =>
      ts.start.family === address.family &&
      (ts.protocol === 0 || ts.protocol === protocol) &&
      ts.startPort <= port &&
      port <= ts.endPort &&
      ts.start.compare(address) <= 0 &&
      address.compare(ts.end) <= 0,
  );
}

/** `10.1.0.0-10.1.0.255`, `192.0.2.1 proto 6 port 80`, `2001:db8::1 proto 135 type 5`: for logs and `status`. */
export function showSelector(ts: TrafficSelector): string {
  const addresses = ts.start.equals(ts.end) ? `${ts.start}` : `${ts.start}-${ts.end}`;
  const protocol = ts.protocol === 0 ? '' : ` proto ${ts.protocol}`;
  return addresses + protocol + showPorts(ts);
}

function showPorts({ protocol, startPort, endPort }: TrafficSelector): string {
  if (startPort === 0 && endPort === 65535) return '';
  const range = (low: number, high: number) => (low === high ? `${low}` : `${low}-${high}`);
  if (!hasTypes(protocol)) return ` port ${range(startPort, endPort)}`;
  const [type, code] = [startPort >> 8, startPort & 255];
  if (protocol === PROTOCOL.mobility) return ` type ${range(type, endPort >> 8)}`;
  if (startPort === endPort) return ` type ${type} code ${code}`;
  return code === 0 && (endPort & 255) === 255
    ? ` type ${range(type, endPort >> 8)}`
    : ` types and codes ${range(startPort, endPort)}`;
}
