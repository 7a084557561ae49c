/** NAT traversal: detection hashes, what they mean, and the move to the encapsulation port (RFC 7296 §2.23, RFC 3948 §4). */

import { equal, u16be } from '../src/bytes/bytes.ts';
import { sha1 } from '../src/crypto/hash.ts';
import type { Endpoint, Path } from '../src/net/address.ts';

/** A keepalive leaves after this long without anything else sent, RFC 3948 §4. Milliseconds. */
export const KEEPALIVE_MS = 20_000;

/** Where NATs are. `forced`: none, but this end says there is one, so that both ends encapsulate. */
export type Nat = 'none' | 'here' | 'there' | 'both' | 'forced';

/** Data of NAT_DETECTION_*_IP: SHA-1(SPIi | SPIr | address | port). */
export function natDetection(SPIi: Uint8Array, SPIr: Uint8Array, { address, port }: Endpoint): Uint8Array {
  return sha1(SPIi, SPIr, address.bytes, u16be(port));
}

/** The data of our two notifications. `force` sends a source hash that fits no address: the peer then sees us behind a NAT. */
export function natDetectionPair(
  SPIi: Uint8Array,
  SPIr: Uint8Array,
  path: Path,
  force: boolean,
): { source: Uint8Array; destination: Uint8Array } {
  const source = natDetection(SPIi, SPIr, path.local);
  if (force) source[0]! ^= 0xff;
  return { source, destination: natDetection(SPIi, SPIr, path.remote) };
}

/** What the peer's hashes say about a message that came over `path`. Without both kinds the peer does no NAT traversal: undefined. */
export function detectNat(
  SPIi: Uint8Array,
  SPIr: Uint8Array,
  path: Path,
  sources: readonly Uint8Array[],
  destinations: readonly Uint8Array[],
): Nat | undefined {
  if (sources.length === 0 || destinations.length === 0) return undefined;
  const there = !sources.some((hash) => equal(hash, natDetection(SPIi, SPIr, path.remote)));
  const here = !destinations.some((hash) => equal(hash, natDetection(SPIi, SPIr, path.local)));
  if (there && here) return 'both';
  return there ? 'there' : here ? 'here' : 'none';
}

/** The same two hosts on their encapsulation ports: both ends of what follows once a NAT was found. */
export function floated(path: Path, encapPort: number): Path {
  if (path.encapsulated) return path;
  return {
    local: { address: path.local.address, port: encapPort },
    remote: { address: path.remote.address, port: encapPort },
    encapsulated: true,
  };
}
