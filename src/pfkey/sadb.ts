/** What a PF_KEY message holds: RFC 2367 §2.3, the extensions of the Linux dialect and ours, one type each. */

import type { Secret } from '../bytes/secret.ts';
import { WireError } from '../errors.ts';
import type { KmAddress } from '../ipsec/policy.ts';
import type { TrafficSelector } from '../ipsec/selector.ts';
import type { Endpoint, IpAddress } from '../net/address.ts';
import { errnoName, type SadbType } from './registry.ts';

/** SADB_EXT_SA, RFC 2367 §2.3.1. Numbers as in `registry.ts`; `auth` and `encrypt` are PF_KEY's algorithm numbers. */
export interface SadbSa {
  readonly spi: number;
  /** Packets, 255 at most; the private `window` has the true number. */
  readonly replay: number;
  readonly state: number;
  readonly auth: number;
  readonly encrypt: number;
  readonly flags: number;
}

/** SADB_EXT_LIFETIME_*, §2.3.2. HARD and SOFT: durations in seconds; CURRENT: seconds since 1970. 0 in HARD and SOFT: no limit. Values beyond 2^53 are read as 2^53 - 1. */
export interface SadbLifetime {
  /** Packets. */
  readonly allocations: number;
  readonly bytes: number;
  readonly addtime: number;
  readonly usetime: number;
}

/** SADB_EXT_ADDRESS_*, §2.3.3. Protocol 255 is any, port 0 is any. The scope of an IPv6 address is its `zone` in decimal; a zone that is no number is not sent. */
export interface SadbAddress {
  readonly protocol: number;
  readonly prefixLength: number;
  readonly address: IpAddress;
  readonly port: number;
}

/** SADB_EXT_KEY_*, §2.3.4. */
export interface SadbKey {
  readonly bits: number;
  readonly key: Secret;
}

/** SADB_EXT_IDENTITY_*, §2.3.5. `name` is without its terminating NUL. */
export interface SadbIdentity {
  readonly type: number;
  readonly id: number;
  readonly name: Uint8Array;
}

/** One combination of SADB_EXT_PROPOSAL, §2.3.7. */
export interface SadbComb {
  readonly auth: number;
  readonly encrypt: number;
  readonly flags: number;
  readonly authMinBits: number;
  readonly authMaxBits: number;
  readonly encryptMinBits: number;
  readonly encryptMaxBits: number;
  readonly soft: SadbLifetime;
  readonly hard: SadbLifetime;
}

export interface SadbProposal {
  readonly replay: number;
  readonly combs: readonly SadbComb[];
}

/** `struct sadb_alg`, §2.3.8. */
export interface SadbAlgorithm {
  readonly id: number;
  /** Octets. */
  readonly ivBytes: number;
  readonly minBits: number;
  readonly maxBits: number;
}

export interface SadbSpirange {
  readonly min: number;
  readonly max: number;
}

/** SADB_X_EXT_SA2. */
export interface SadbSa2 {
  readonly mode: number;
  readonly sequence: number;
  readonly reqid: number;
}

/** `struct sadb_x_ipsecrequest`; the addresses are there together or not at all. */
export interface SadbIpsecRequest {
  readonly protocol: number;
  readonly mode: number;
  readonly level: number;
  readonly reqid: number;
  readonly addresses: { readonly source: Endpoint; readonly destination: Endpoint } | undefined;
}

/** SADB_X_EXT_POLICY. */
export interface SadbPolicy {
  readonly type: number;
  readonly direction: number;
  readonly id: number;
  readonly priority: number;
  readonly requests: readonly SadbIpsecRequest[];
}

/** SADB_X_EXT_SEC_CTX. */
export interface SadbSecurityContext {
  readonly algorithm: number;
  readonly doi: number;
  readonly context: Uint8Array;
}

/** SADB_X_EXT_FILTER. */
export interface SadbFilter {
  /** 16 octets each; IPv4 in the first four. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** The `AF_` number. */
  readonly family: number;
  readonly sourceBits: number;
  readonly destinationBits: number;
}

/** Private extension 0x8002: next sequence number to send, and the highest one received. */
export interface SadbSequenceState {
  readonly outbound: number;
  readonly inbound: number;
}

/** Private extension 0x800b. Ports as in the selector of the same message: ICMP type and code, MH type. */
export interface SadbPortRanges {
  readonly sourceLow: number;
  readonly sourceHigh: number;
  readonly destinationLow: number;
  readonly destinationHigh: number;
}

/** Private extension 0x800c: what was negotiated for one SA, in the direction of its packets. */
export interface SadbSaSelectors {
  readonly source: readonly TrafficSelector[];
  readonly destination: readonly TrafficSelector[];
}

/** What a message can carry behind its header; each at most once. */
export interface SadbExtensions {
  readonly sa?: SadbSa | undefined;
  readonly lifetimeCurrent?: SadbLifetime | undefined;
  readonly lifetimeHard?: SadbLifetime | undefined;
  readonly lifetimeSoft?: SadbLifetime | undefined;
  readonly source?: SadbAddress | undefined;
  readonly destination?: SadbAddress | undefined;
  readonly proxy?: SadbAddress | undefined;
  readonly keyAuth?: SadbKey | undefined;
  readonly keyEncrypt?: SadbKey | undefined;
  readonly identitySource?: SadbIdentity | undefined;
  readonly identityDestination?: SadbIdentity | undefined;
  /** SADB_EXT_SENSITIVITY, everything behind the extension header. */
  readonly sensitivity?: Uint8Array | undefined;
  readonly proposal?: SadbProposal | undefined;
  readonly supportedAuth?: readonly SadbAlgorithm[] | undefined;
  readonly supportedEncrypt?: readonly SadbAlgorithm[] | undefined;
  readonly spirange?: SadbSpirange | undefined;
  /** SADB_X_EXT_KMPRIVATE, everything behind the extension header. */
  readonly kmPrivate?: Uint8Array | undefined;
  readonly policy?: SadbPolicy | undefined;
  readonly sa2?: SadbSa2 | undefined;
  /** `UDP_ENCAP`. */
  readonly nattType?: number | undefined;
  readonly nattSourcePort?: number | undefined;
  readonly nattDestinationPort?: number | undefined;
  readonly nattOriginalAddress?: SadbAddress | undefined;
  readonly securityContext?: SadbSecurityContext | undefined;
  /** In X_MIGRATE, SPD messages and (to those that asked) ACQUIRE: where key management talks. */
  readonly kmAddress?: KmAddress | undefined;
  readonly filter?: SadbFilter | undefined;
  /** 0x8001: replay window in packets. */
  readonly window?: number | undefined;
  readonly sequenceState?: SadbSequenceState | undefined;
  /** 0x8003: octets that inner packets are padded to. */
  readonly tfcPadding?: number | undefined;
  /** 0x8004: the packet that an ACQUIRE is about. */
  readonly packet?: Uint8Array | undefined;
  /** 0x8005, 0x8006: in UPDATE, the addresses that the SA is to have from now on. */
  readonly newSource?: SadbAddress | undefined;
  readonly newDestination?: SadbAddress | undefined;
  readonly interfaceBinding?: { readonly index: number; readonly name: string } | undefined;
  readonly nattOriginalInitiator?: SadbAddress | undefined;
  readonly nattOriginalResponder?: SadbAddress | undefined;
  /** 0x800a: octets of an ESP fragment. */
  readonly nattFragment?: number | undefined;
  readonly portRanges?: SadbPortRanges | undefined;
  readonly saSelectors?: SadbSaSelectors | undefined;
  /** 0x80ff in REGISTER: `OPT_IN_*`. */
  readonly optIn?: number | undefined;
}

/** An extension that we do not know, or whose bytes we keep as they came. `body` is what follows its header. */
export interface UnknownExtension {
  readonly number: number;
  readonly body: Uint8Array;
}

/** One message. Numbers that are left out of a literal are filled in by `sadb()`. */
export interface SadbMessage extends SadbExtensions {
  readonly type: SadbType;
  readonly errno: number;
  /** `SADB_SATYPE`. */
  readonly satype: number;
  readonly seq: number;
  readonly pid: number;
  /** `sadb_msg_reserved`: 0 in requests; Linux shows a reference count in answers about policies. */
  readonly reserved: number;
  readonly unknown: readonly UnknownExtension[];
  /** Extension numbers in the order in which they were received; empty: in the order of the verb. */
  readonly order: readonly number[];
}

/** A message from its verb and whatever else it has. */
export function sadb(type: SadbType, members: Partial<Omit<SadbMessage, 'type'>> = {}): SadbMessage {
  return { type, errno: 0, satype: 0, seq: 0, pid: 0, reserved: 0, unknown: [], order: [], ...members };
}

/** What a server answers to a request that it refuses: the request's header with the errno, and nothing else. */
export function sadbError(request: SadbMessage, errno: number): SadbMessage {
  const { type, satype, seq, pid } = request;
  return sadb(type, { errno, satype, seq, pid });
}

/** The bytes are no message. `errno` is what Linux answers to them; `fatal`: it is refused at `send`, without any reply. */
export class SadbError extends WireError {
  readonly errno: number;
  readonly fatal: boolean;
  constructor(errno: number, message: string, offset: number, fatal = false) {
    super(`${message} (${errnoName(errno)})`, offset, 'PF_KEY');
    this.errno = errno;
    this.fatal = fatal;
  }
}
