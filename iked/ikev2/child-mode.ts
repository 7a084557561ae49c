/** How a child's mode is said: N(USE_TRANSPORT_MODE) (RFC 7296 §1.3.1), and strongSwan's private notify for BEET mode. Without either it is a tunnel. */

import type { Mode } from '../../src/ipsec/sa.ts';
import type { ChildPolicy } from '../../src/keying/child-policy.ts';
import { findNotify, type NotifyName, notify } from './notify.ts';
import type { Payload } from './payloads.ts';

const SAID: Readonly<Record<Exclude<Mode, 'tunnel'>, NotifyName>> = {
  transport: 'USE_TRANSPORT_MODE',
  beet: 'USE_BEET_MODE',
};

/** MD5 of "strongSwan": who sends it knows what private notifies of that program mean (RFC 7296 §3.10.1, §3.12). */
// biome-ignore format: two rows of eight octets
export const STRONGSWAN = Uint8Array.of(
  0x88, 0x2f, 0xe5, 0x6d, 0x6f, 0xd2, 0x0d, 0xbc,
  0x22, 0x51, 0x61, 0x3b, 0x2e, 0xbe, 0x5b, 0xeb,
);

export function modePayloads(mode: Mode): Payload[] {
  return mode === 'tunnel' ? [] : [notify(SAID[mode])];
}

export function saysTransport(payloads: readonly Payload[]): boolean {
  return findNotify(payloads, SAID.transport) !== undefined;
}

/** The private number means BEET mode only where the policy agreed with the peer says so; to others it may be anything, and is ignored. */
export function modeSaid(payloads: readonly Payload[], policy: ChildPolicy): Mode {
  if (saysTransport(payloads)) return 'transport';
  return policy.policy.mode === 'beet' && findNotify(payloads, SAID.beet) !== undefined ? 'beet' : 'tunnel';
}

/** In IKE_SA_INIT, where a policy with the peer is in BEET mode: a strongSwan takes the notify from nobody else. */
export function vendorIds(policies: readonly ChildPolicy[]): Payload[] {
  return policies.some(({ policy }) => policy.mode === 'beet') ? [{ type: 'VendorId', data: STRONGSWAN }] : [];
}
