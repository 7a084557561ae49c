/** Between X_MIGRATE messages and movements of SAs: pairs of an old and a new request inside POLICY, as Linux lays them out (draft-sugimoto-mip6-pfkey-migrate). */

import { type Ends, type KmAddress, type Policy, type PolicyDirection, type PolicySelector, sameEnds } from '../ipsec/policy.ts';
import type { Mode, SaProtocol } from '../ipsec/sa.ts';
import type { IpAddress } from '../net/address.ts';
import { modeNumber, refusal, satypeOf } from './convert.ts';
import { DIRECTION, directionOf, PROTOCOL_NUMBER, policyAddresses, protocolOfRequest, selectorOf } from './convert-policy.ts';
import { type SadbIpsecRequest, type SadbMessage, sadb } from './message.ts';
import { IPSEC_LEVEL, IPSEC_POLICY } from './registry.ts';

/** SAs that end elsewhere from now on: those of this protocol, mode and reqid (0: any) between the old ends. */
export interface Movement {
  readonly protocol: SaProtocol;
  readonly mode: Mode;
  readonly reqid: number;
  readonly old: Ends;
  readonly new: Ends;
}

/** What an X_MIGRATE says, as request and as notification. */
export interface Migrate {
  /** The policy's, with its Mobility Header or ICMP type as ports. */
  readonly selector: PolicySelector;
  readonly direction: PolicyDirection;
  /** At least one. */
  readonly movements: readonly Movement[];
  /** Where key management talks from now on; absent: it stays where it is. */
  readonly kmAddress?: KmAddress | undefined;
  /** In notifications: the policy's number and priority. A kernel does not tell them (0). */
  readonly policyId?: number;
  readonly priority?: number;
}

/** X_MIGRATE, the request and the notification. */
export function migrateToSadb(migrate: Migrate): SadbMessage {
  const { selector, direction, movements, kmAddress, policyId = 0, priority = 0 } = migrate;
  return sadb('X_MIGRATE', {
    satype: satypeOf(movements[0]!.protocol),
    ...policyAddresses(selector),
    kmAddress,
    policy: {
      type: IPSEC_POLICY.IPSEC,
      direction: DIRECTION[direction],
      id: policyId,
      priority,
      requests: movements.flatMap((movement) => [requestOf(movement, movement.old), requestOf(movement, movement.new)]),
    },
  });
}

/**
 * What a mobility daemon sends when an address changed, of this host or of a peer: one X_MIGRATE for each policy whose tunnel ends at `from`. Key
 * management goes along: its address on that side is the new one too. Policies in transport mode name no ends: nothing is sent for them.
 */
export function movesOf(policies: readonly Policy[], from: IpAddress, to: IpAddress): readonly Migrate[] {
  return policies.flatMap(({ selector, direction, templates }) => {
    const movements = templates.flatMap(({ protocol, mode, reqid, endpoints }): Movement[] => {
      if (endpoints === undefined) return [];
      const end = (address: IpAddress) => (address.equals(from) ? to : address);
      const next = { source: end(endpoints.source), destination: end(endpoints.destination) };
      return sameEnds(endpoints, next) ? [] : [{ protocol, mode, reqid, old: endpoints, new: next }];
    });
    if (movements.length === 0) return [];
    const { source, destination } = movements[0]!.new;
    const [local, remote] = direction === 'outbound' ? [source, destination] : [destination, source];
    const kmAddress = { local: { address: local, port: 0 }, remote: { address: remote, port: 0 } };
    return [{ selector, direction, movements, kmAddress }];
  });
}

/** Throws SadbError (EINVAL) where the message is no complete X_MIGRATE. */
export function readMigrate(message: SadbMessage): Migrate {
  const { policy, kmAddress } = message;
  if (policy === undefined || policy.requests.length === 0 || policy.requests.length % 2 !== 0) {
    throw refusal('a MIGRATE has a policy with pairs of an old and a new request');
  }
  const movements: Movement[] = [];
  for (let i = 0; i < policy.requests.length; i += 2) movements.push(movementOf(policy.requests[i]!, policy.requests[i + 1]!));
  return {
    selector: selectorOf(message),
    direction: directionOf(policy.direction),
    movements,
    kmAddress,
    policyId: policy.id,
    priority: policy.priority,
  };
}

function requestOf({ protocol, mode, reqid }: Movement, { source, destination }: Ends): SadbIpsecRequest {
  return {
    protocol: PROTOCOL_NUMBER[protocol],
    mode: modeNumber(mode),
    level: reqid === 0 ? IPSEC_LEVEL.REQUIRE : IPSEC_LEVEL.UNIQUE,
    reqid,
    addresses: { source: { address: source, port: 0 }, destination: { address: destination, port: 0 } },
  };
}

function movementOf(from: SadbIpsecRequest, to: SadbIpsecRequest): Movement {
  if (from.protocol !== to.protocol || from.mode !== to.mode || from.reqid !== to.reqid) {
    throw refusal('the old and the new request of a pair differ in protocol, mode or reqid');
  }
  const { protocol, mode } = protocolOfRequest(from);
  return { protocol, mode, reqid: from.reqid, old: endsOf(from), new: endsOf(to) };
}

function endsOf({ addresses }: SadbIpsecRequest): Ends {
  if (addresses === undefined) throw refusal('a request of a MIGRATE has both addresses');
  return { source: addresses.source.address, destination: addresses.destination.address };
}
