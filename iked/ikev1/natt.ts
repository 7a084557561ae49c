/** NAT traversal in Main Mode: NAT-D payloads and what they say, RFC 3947 §3.2. The move to the encapsulation port is in `main-mode.ts`. */

import type { Ikev1Config } from '../../src/config/config.ts';
import { all, type Payload } from '../../src/isakmp/payloads.ts';
import type { Path } from '../../src/net/address.ts';
import { detectNat, type EndpointHash, NAT_TEXT, type Nat, natDetectionPair } from '../natt.ts';
import type { IsakmpSa } from './isakmp-sa.ts';
import { natDetectionHash } from './keys.ts';
import type { Phase1Choice } from './phase-1-proposals.ts';

function hashOf(sa: IsakmpSa, { suite }: Phase1Choice): EndpointHash {
  return ({ address, port }) => natDetectionHash(suite.hash, sa.CKY_I, sa.CKY_R, address.bytes, port);
}

/** The other end first, then ours. */
export function natPayloads(sa: IsakmpSa, choice: Phase1Choice, { forceEncapsulation }: Ikev1Config, path: Path): Payload[] {
  if (!sa.natTraversal) return [];
  const { source, destination } = natDetectionPair(hashOf(sa, choice), path, forceEncapsulation);
  return [
    { type: 'NAT-D', data: destination },
    { type: 'NAT-D', data: source },
  ];
}

/** What the peer's NAT-D payloads say of the path that they came over. */
export function noteNat(
  sa: IsakmpSa,
  choice: Phase1Choice,
  { forceEncapsulation }: Ikev1Config,
  payloads: readonly Payload[],
  path: Path,
): void {
  const [destination, ...sources] = all(payloads, 'NAT-D').map(({ data }) => data);
  const found =
    sa.natTraversal && destination !== undefined ? detectNat(hashOf(sa, choice), path, sources, [destination]) : undefined;
  sa.natTraversal = found !== undefined;
  sa.nat = found === undefined ? 'none' : found === 'none' && forceEncapsulation ? 'forced' : found;
  if (sa.nat !== 'none') sa.report('nat-found', NAT_TEXT[sa.nat], { nat: sa.nat });
}

/**
 * The two ends must be of one mind, and NAT-D is under no HASH: an octet changed on the way makes them differ. The initiator decides by the port of
 * its message 5 (RFC 3947 §4), which the peer's proof came over.
 */
export function natByPort(nat: Nat, encapsulated: boolean): Nat {
  if (!encapsulated) return 'none';
  return nat === 'none' ? 'forced' : nat;
}
