/** Between PF_KEY messages and SPD entries (RFC 4301 §4.4.1); and readers of what a server sends unasked: ACQUIRE, EXPIRE, new mappings. */

import type {
  KmAddress,
  Policy,
  PolicyAction,
  PolicyDirection,
  PolicyLevel,
  PolicySelector,
  PortRanges,
  Template,
} from '../ipsec/policy.ts';
import type { Mode, SaProtocol } from '../ipsec/sa.ts';
import type { Endpoint, IpAddress } from '../net/address.ts';
import { fromSadbLifetime, modeNumber, modeOf, protocolOf, refusal, toSadbLifetime } from './convert.ts';
import { type SadbAddress, type SadbIpsecRequest, type SadbLifetime, type SadbMessage, sadb } from './message.ts';
import {
  IPPROTO,
  IPSEC_DIR,
  IPSEC_LEVEL,
  IPSEC_MODE,
  IPSEC_POLICY,
  IPSEC_ULPROTO_ANY,
  SADB_SASTATE,
  type SadbType,
} from './registry.ts';

export const DIRECTION: Readonly<Record<PolicyDirection, number>> = {
  inbound: IPSEC_DIR.INBOUND,
  outbound: IPSEC_DIR.OUTBOUND,
  forward: IPSEC_DIR.FWD,
};
const LEVEL: Readonly<Record<PolicyLevel, number>> = {
  default: IPSEC_LEVEL.DEFAULT,
  use: IPSEC_LEVEL.USE,
  require: IPSEC_LEVEL.REQUIRE,
  unique: IPSEC_LEVEL.UNIQUE,
};
const ACTION: Readonly<Record<PolicyAction, number>> = {
  discard: IPSEC_POLICY.DISCARD,
  bypass: IPSEC_POLICY.NONE,
  protect: IPSEC_POLICY.IPSEC,
};
export const PROTOCOL_NUMBER: Readonly<Record<SaProtocol, number>> = { esp: IPPROTO.ESP, ah: IPPROTO.AH, ipcomp: IPPROTO.IPCOMP };

/** X_SPDADD: refused where an entry has the same selector and direction. */
export function policyToSpdAdd(policy: Policy, seconds = 0): SadbMessage {
  return policyToSadb('X_SPDADD', policy, seconds);
}

/** X_SPDUPDATE: creates or replaces. `seconds`: after which the entry goes by itself; 0: never. */
export function policyToSpdUpdate(policy: Policy, seconds = 0): SadbMessage {
  return policyToSadb('X_SPDUPDATE', policy, seconds);
}

/** X_SPDDELETE2 or X_SPDGET: an entry by its number. */
export function policyIdTo(type: 'X_SPDDELETE2' | 'X_SPDGET', id: number): SadbMessage {
  return sadb(type, { policy: { type: 0, direction: 0, id, priority: 0, requests: [] } });
}

/** X_SPDDELETE: an entry by its selector and direction. */
export function policyToSpdDelete(policy: Pick<Policy, 'selector' | 'direction'>): SadbMessage {
  const { source, destination } = policyAddresses(policy.selector);
  return sadb('X_SPDDELETE', {
    source,
    destination,
    policy: { type: 0, direction: DIRECTION[policy.direction], id: 0, priority: 0, requests: [] },
  });
}

/** An SPD entry as any verb that carries a whole one: requests and the answers to them. */
export function policyToSadb(type: SadbType, policy: Policy, seconds = 0, current?: SadbLifetime): SadbMessage {
  return sadb(type, {
    ...policyAddresses(policy.selector),
    portRanges: policy.selector.portRanges,
    lifetimeHard: seconds === 0 ? undefined : toSadbLifetime({ seconds, bytes: 0, packets: 0 }),
    lifetimeCurrent: current,
    policy: {
      type: ACTION[policy.action],
      direction: DIRECTION[policy.direction],
      id: policy.id,
      priority: policy.priority,
      requests: policy.action === 'protect' ? policy.templates.map(requestOf) : [],
    },
  });
}

/** The SPD entry that a message describes. Throws SadbError (EINVAL). */
export function spdToPolicy(message: SadbMessage): Policy {
  const { policy } = message;
  if (policy === undefined) throw refusal('a message about a policy has a policy extension');
  const action: PolicyAction | undefined =
    policy.type === IPSEC_POLICY.DISCARD
      ? 'discard'
      : policy.type === IPSEC_POLICY.NONE
        ? 'bypass'
        : policy.type === IPSEC_POLICY.IPSEC
          ? 'protect'
          : undefined;
  if (action === undefined) throw refusal(`the policy type is ${policy.type}, not 0 (discard), 1 (none) or 2 (ipsec)`);
  if (action === 'protect' && policy.requests.length === 0) throw refusal('an ipsec policy needs at least one request');
  return {
    id: policy.id,
    selector: selectorOf(message),
    direction: directionOf(policy.direction),
    action,
    priority: policy.priority,
    templates: action === 'protect' ? policy.requests.map(templateOf) : [],
  };
}

/** After how many seconds an entry goes by itself; 0: never. */
export function policySeconds(message: SadbMessage): number {
  return fromSadbLifetime(message.lifetimeHard).seconds;
}

/** The selector in a message about a policy. Throws SadbError (EINVAL). */
export function selectorOf({ source, destination, portRanges }: SadbMessage): PolicySelector {
  if (portRanges !== undefined) checkRanges(portRanges);
  if (source === undefined || destination === undefined) throw refusal('a policy has a source and a destination');
  const protocol = source.protocol === 0 || source.protocol === IPSEC_ULPROTO_ANY ? destination.protocol : source.protocol;
  return {
    source: { address: source.address, length: source.prefixLength },
    destination: { address: destination.address, length: destination.prefixLength },
    protocol: protocol === IPSEC_ULPROTO_ANY ? 0 : protocol,
    ...(portRanges === undefined
      ? { sourcePort: source.port, destinationPort: destination.port }
      : { sourcePort: 0, destinationPort: 0, portRanges }),
  };
}

function checkRanges({ sourceLow, sourceHigh, destinationLow, destinationHigh }: PortRanges): void {
  if (sourceLow > sourceHigh || destinationLow > destinationHigh)
    throw refusal(`port ranges go up: found ${sourceLow} to ${sourceHigh} and ${destinationLow} to ${destinationHigh}`);
}

export function directionOf(direction: number): PolicyDirection {
  if (direction === IPSEC_DIR.INBOUND) return 'inbound';
  if (direction === IPSEC_DIR.OUTBOUND) return 'outbound';
  if (direction === IPSEC_DIR.FWD) return 'forward';
  throw refusal(`the direction is ${direction}, not 1 (in), 2 (out) or 3 (forward)`);
}

export function policyAddresses(selector: PolicySelector): { source: SadbAddress; destination: SadbAddress } {
  const protocol = selector.protocol === 0 ? IPSEC_ULPROTO_ANY : selector.protocol;
  return {
    source: { protocol, prefixLength: selector.source.length, address: selector.source.address, port: selector.sourcePort },
    destination: {
      protocol,
      prefixLength: selector.destination.length,
      address: selector.destination.address,
      port: selector.destinationPort,
    },
  };
}

function requestOf({ protocol, mode, level, reqid, endpoints }: Template): SadbIpsecRequest {
  return {
    protocol: PROTOCOL_NUMBER[protocol],
    mode: modeNumber(mode),
    level: LEVEL[level],
    reqid,
    addresses:
      endpoints === undefined
        ? undefined
        : { source: { address: endpoints.source, port: 0 }, destination: { address: endpoints.destination, port: 0 } },
  };
}

/** The SA protocol and mode of a request. Throws SadbError (EINVAL). */
export function protocolOfRequest({ protocol, mode }: SadbIpsecRequest): { readonly protocol: SaProtocol; readonly mode: Mode } {
  const saProtocol =
    protocol === IPPROTO.ESP ? 'esp' : protocol === IPPROTO.AH ? 'ah' : protocol === IPPROTO.IPCOMP ? 'ipcomp' : undefined;
  if (saProtocol === undefined) throw refusal(`the protocol of a request is ${protocol}, not 50, 51 or 108`);
  if (mode === IPSEC_MODE.ANY) throw refusal('the mode of a request is 1 (transport), 2 (tunnel) or 3 (BEET), not 0');
  return { protocol: saProtocol, mode: modeOf(mode) };
}

function templateOf(request: SadbIpsecRequest): Template {
  const { level, reqid, addresses } = request;
  const { protocol, mode } = protocolOfRequest(request);
  const levels: readonly PolicyLevel[] = ['default', 'use', 'require', 'unique'];
  const templateLevel = levels[level];
  if (templateLevel === undefined) throw refusal(`the level of a request is ${level}, not 0 to 3`);
  if (mode !== 'transport' && addresses === undefined) throw refusal(`a ${mode} mode request needs both endpoints`);
  return {
    protocol,
    mode,
    level: templateLevel,
    reqid,
    endpoints:
      mode !== 'transport' && addresses !== undefined
        ? { source: addresses.source.address, destination: addresses.destination.address }
        : undefined,
  };
}

/** What an ACQUIRE from the server says, RFC 2367 §3.1.6. `packet` is (the beginning of) the packet that wants the SA. */
export interface Acquire {
  readonly seq: number;
  readonly protocol: SaProtocol;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly policyId: number;
  readonly direction: PolicyDirection;
  readonly packet: Uint8Array | undefined;
  /** Where to negotiate, where that is not between the SA's own addresses. */
  readonly kmAddress: KmAddress | undefined;
}

/** Throws SadbError where the message is no complete ACQUIRE. */
export function readAcquire(message: SadbMessage): Acquire {
  const { seq, source, destination, policy, packet, kmAddress } = message;
  const protocol = protocolOf(message.satype);
  if (source === undefined || destination === undefined || policy === undefined || protocol === undefined) {
    throw refusal('an ACQUIRE has its protocol, source, destination and policy');
  }
  return {
    seq,
    protocol,
    source: source.address,
    destination: destination.address,
    policyId: policy.id,
    direction: directionOf(policy.direction),
    packet,
    kmAddress,
  };
}

/** The ACQUIRE that says "no SA will come" (§3.1.6); there is no answer to it. */
export function acquireFailed(acquire: Pick<Acquire, 'seq' | 'protocol'>, errno: number): SadbMessage {
  return sadb('ACQUIRE', { errno, seq: acquire.seq, satype: acquire.protocol === 'esp' ? 3 : acquire.protocol === 'ah' ? 2 : 9 });
}

/** What an EXPIRE says, §3.1.8. */
export interface Expire {
  readonly hard: boolean;
  readonly protocol: SaProtocol;
  /** 0: a larval SA that nobody completed. */
  readonly spi: number;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly reqid: number;
  readonly current: SadbLifetime;
}

/** Throws SadbError where the message is no complete EXPIRE. */
export function readExpire(message: SadbMessage): Expire {
  const { sa, source, destination, sa2, lifetimeCurrent, lifetimeHard } = message;
  const protocol = protocolOf(message.satype);
  if (sa === undefined || source === undefined || destination === undefined || protocol === undefined) {
    throw refusal('an EXPIRE has its protocol, SA, source and destination');
  }
  return {
    hard: sa.state === SADB_SASTATE.DEAD || (sa.state !== SADB_SASTATE.DYING && lifetimeHard !== undefined),
    protocol,
    spi: sa.spi,
    source: source.address,
    destination: destination.address,
    reqid: sa2?.reqid ?? 0,
    current: lifetimeCurrent ?? { allocations: 0, bytes: 0, addtime: 0, usetime: 0 },
  };
}

/** What X_NAT_T_NEW_MAPPING says: packets of an inbound SA now come from `now`. */
export interface NewMapping {
  readonly spi: number;
  readonly protocol: SaProtocol;
  readonly before: Endpoint;
  readonly now: Endpoint;
}

/** Throws SadbError where the message is no complete X_NAT_T_NEW_MAPPING. */
export function readNewMapping(message: SadbMessage): NewMapping {
  const { sa, source, destination, nattSourcePort, nattDestinationPort } = message;
  const protocol = protocolOf(message.satype);
  if (
    sa === undefined ||
    source === undefined ||
    destination === undefined ||
    protocol === undefined ||
    !nattSourcePort ||
    !nattDestinationPort
  ) {
    throw refusal('a new mapping has its protocol, SA, addresses and ports');
  }
  return {
    spi: sa.spi,
    protocol,
    before: { address: source.address, port: nattSourcePort },
    now: { address: destination.address, port: nattDestinationPort },
  };
}
