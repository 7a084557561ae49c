/** NAT traversal: what detection hashes mean, and the move to the encapsulation port (RFC 7296 §2.23, RFC 3947 §3.2 and §4, RFC 3948 §4). */

import { equal } from '../src/bytes/bytes.ts';
import type { TrafficSelector } from '../src/ipsec/selector.ts';
import type { Endpoint, Path } from '../src/net/address.ts';

/** A keepalive leaves after this long without anything else sent, RFC 3948 §4. Milliseconds. */
export const KEEPALIVE_MS = 20_000;

/** Where NATs are. `forced`: none, but this end says there is one, so that both ends encapsulate. */
export type Nat = 'none' | 'here' | 'there' | 'both' | 'forced';

/** The hash that tells of one end of a path: each version has its own (RFC 7296 §2.23, RFC 3947 §3.2). */
export type EndpointHash = (endpoint: Endpoint) => Uint8Array;

/** What we send of a path. `force` makes the source fit no address: the peer then sees us behind a NAT. */
export function natDetectionPair(
  hash: EndpointHash,
  path: Path,
  force: boolean,
): { source: Uint8Array; destination: Uint8Array } {
  const source = hash(path.local).slice();
  if (force) source[0]! ^= 0xff;
  return { source, destination: hash(path.remote) };
}

/** What the peer's hashes say about a message that came over `path`. Without both kinds the peer does no NAT traversal: undefined. */
export function detectNat(
  hash: EndpointHash,
  path: Path,
  sources: readonly Uint8Array[],
  destinations: readonly Uint8Array[],
): Nat | undefined {
  if (sources.length === 0 || destinations.length === 0) return undefined;
  const there = !sources.some((sent) => equal(sent, hash(path.remote)));
  const here = !destinations.some((sent) => equal(sent, hash(path.local)));
  if (there && here) return 'both';
  return there ? 'there' : here ? 'here' : 'none';
}

/**
 * What one end's selectors in transport mode are, seen from here. They mean the host itself, and one behind a NAT calls itself by an address that
 * means nothing elsewhere: seen from here it is where its packets come from, and what the peer calls us is our own (RFC 7296 §2.23.1, RFC 3947 §5.2).
 * What is not one host's is left as it is.
 */
export function perceived(
  { nat, path }: { readonly nat: Nat; readonly path: Path },
  end: 'here' | 'there',
  some: readonly TrafficSelector[],
): readonly TrafficSelector[] {
  const { address } = end === 'here' ? path.local : path.remote;
  const isHost = ({ start, end: last }: TrafficSelector) =>
    start.equals(last) && start.equals(some[0]!.start) && start.family === address.family;
  if ((nat !== end && nat !== 'both') || !some.every(isHost)) return some;
  return some.map((ts) => ({ ...ts, start: address, end: address }));
}

/** How a NAT that was found is told of. */
export const NAT_TEXT = {
  here: 'we are behind a NAT: UDP encapsulation',
  there: 'the peer is behind a NAT: UDP encapsulation',
  both: 'both ends are behind a NAT: UDP encapsulation',
  forced: 'UDP encapsulation, as the policy says',
} as const;

/** The same two hosts on their encapsulation ports: both ends of what follows once a NAT was found. */
export function floated(path: Path, encapPort: number): Path {
  if (path.encapsulated) return path;
  return {
    local: { address: path.local.address, port: encapPort },
    remote: { address: path.remote.address, port: encapPort },
    encapsulated: true,
  };
}
