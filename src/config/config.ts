/**
 * The compiled configuration: everything the operator said, typed, complete with defaults, read-only. It is plain JSON data, so that
 * spmd can hand it to the key daemons over spmif as it is; addresses are canonical text (`IpAddress.parse` reads each).
 */

import type { EncrName, IntegName, KeName, PrfName } from '../crypto/transforms.ts';
import type { Mode } from '../ipsec/sa.ts';

/** Milliseconds or octets, where `infinite` is a word of its own (decisions: `infinite`, `0` and "not set" differ). */
export type Limit = number | 'infinite';

export interface Config {
  readonly interface: InterfaceConfig;
  readonly logging: LoggingConfig;
  readonly kerberos: KerberosConfig;
  readonly remotes: readonly RemoteConfig[];
  /** In file order, one per direction: `direction both` has been written out as its two. */
  readonly selectors: readonly SelectorConfig[];
  /** What happens to traffic that no selector matches: `default { policy { action … } }`, bypass unless said otherwise. */
  readonly unmatched: 'bypass' | 'discard';
  readonly resolver: {
    readonly on: boolean;
    readonly nameservers: readonly AddressSpec[];
    readonly dnsQuery: readonly AddressSpec[];
  };
  readonly addressPools: readonly AddressPool[];
}

/** `interface { … }`. */
export interface InterfaceConfig {
  readonly ike: readonly AddressSpec[];
  readonly kink: readonly AddressSpec[];
  /** Path of a further socket of spmd beside `spmif.sock` in the run directory. */
  readonly spmd: string | undefined;
  /** File with racoon2's spmif password, asked for at the socket `spmd`; undefined: who connects is checked by peer credentials alone. */
  readonly spmdPassword: string | undefined;
  /** Path of a further PF_KEY socket beside `pfkey.sock` in the run directory. */
  readonly pfkey: string | undefined;
  /** Where `tanuki up` serves `/metrics`; undefined: nowhere. */
  readonly metrics: { readonly address: string; readonly port: number } | undefined;
  readonly applicationBypass: boolean;
  readonly datapath: DatapathConfig;
  readonly limits: LimitsConfig;
}

/** `interface { datapath { … } }`. */
export interface DatapathConfig {
  /** Who protects packets: the engine of this suite, or the Linux kernel. */
  readonly backend: 'embedded' | 'xfrm';
  /** `tun` needs CAP_NET_ADMIN; `memory` none: packets come and go through the control socket and links. */
  readonly device: 'tun' | 'memory';
  readonly name: string;
  /** MTU of the TUN device; 0: derived from the path. */
  readonly mtu: number;
  /** Local UDP encapsulation port, 4500 unless said otherwise. */
  readonly encapPort: number;
  /** `auto`: UDP encapsulation only behind a NAT; `force`: always. */
  readonly encapsulation: 'auto' | 'force';
  /** Addresses that a memory device answers pings for. */
  readonly addresses: readonly string[];
  readonly cipher: 'auto' | 'openssl' | 'noble';
  /** Don't-fragment in the outer IPv4 header (RFC 4301 §8.1): the inner header's, always, never. */
  readonly df: 'copy' | 'set' | 'clear';
  /** No ICMP message makes a path's MTU smaller than this. */
  readonly pmtuFloor: number;
  /** Whether TCP's MSS option is lowered to what the path carries. */
  readonly mssClamp: boolean;
  /** Whether the senders of outbound packets that are dropped are told so by ICMP (RFC 4301 §5.1.1). */
  readonly icmpErrors: boolean;
  /** DSCP of the outer header: the inner header's, or this. */
  readonly dscp: 'copy' | number;
  /** Whether the outer header's DSCP replaces the inner one at the end of a tunnel. */
  readonly decapDscp: boolean;
  /** For how long the packet thread looks for packets before it sleeps. Microseconds. */
  readonly spin: number;
  readonly dialect: 'tanuki' | 'linux-strict';
  /** How AH is padded in IPv4. */
  readonly ahPadding: 'rfc' | 'linux';
}

/** Bounds, each with a default. */
export interface LimitsConfig {
  readonly halfOpenSas: number;
  /** Half-open IKE SAs from which on a COOKIE is demanded (RFC 7296 §2.6). */
  readonly cookieThreshold: number;
  readonly ikeSas: number;
  readonly childSasPerIkeSa: number;
  readonly heldPacketsPerPolicy: number;
}

export interface LoggingConfig {
  readonly level: 'debug' | 'info' | 'notice' | 'warning' | 'error';
  /** `stderr`, or the path of a file. */
  readonly destination: string;
  readonly format: 'text' | 'json';
}

/** An address as the files write it: a literal, a name, or a macro that is expanded against the host's addresses. */
export type AddressSpec =
  | { readonly kind: 'literal'; readonly address: string; readonly prefixLength: number; readonly port: number }
  | { readonly kind: 'fqdn'; readonly name: string; readonly port: number }
  | {
      readonly kind: 'macro';
      readonly macro: AddressMacro;
      readonly interface: string | undefined;
      readonly prefixLength: number;
      readonly port: number;
    };

export type AddressMacro =
  | 'MY_IP'
  | 'MY_IPV4'
  | 'MY_IPV6'
  | 'MY_IPV6_GLOBAL'
  | 'MY_IPV6_LINKLOCAL'
  | 'MY_HOA'
  | 'IP_ANY'
  | 'IP_RW';

/** An identity as `my_id` and `peers_id` write it. */
export interface IdentityConfig {
  readonly type: 'ipaddr' | 'fqdn' | 'email' | 'keyid' | 'x509_subject';
  readonly value: string;
  /** `keyid file` and `x509_subject`: the value is a path that the daemon reads. */
  readonly file: boolean;
}

/** A key management protocol, as `acceptable_kmp` names it. */
export type Kmp = 'ikev1' | 'ikev2' | 'kink';

export interface RemoteConfig {
  readonly name: string;
  /** The first initiates, any listed is answered. Each has its block below, and no other has one. */
  readonly acceptableKmp: readonly Kmp[];
  readonly ikev2: Ikev2Config | undefined;
  readonly ikev1: Ikev1Config | undefined;
  readonly kink: KinkConfig | undefined;
}

/** `remote { ikev2 { … } }` with `default { remote { ikev2 { … } } }` applied. Times in milliseconds. */
export interface Ikev2Config {
  readonly passive: boolean;
  readonly peersIpaddr: readonly AddressSpec[];
  readonly myId: IdentityConfig | undefined;
  readonly peersId: readonly IdentityConfig[];
  readonly verifyId: boolean;
  readonly sendPeersId: boolean;
  readonly authMethods: readonly ('psk' | 'rsasig' | 'dss')[];
  readonly preSharedKey: string | undefined;
  readonly pskFormat: 'auto' | 'text' | 'hex' | 'raw';
  readonly encr: readonly { readonly name: EncrName; readonly keyBits: number }[];
  readonly integ: readonly IntegName[];
  readonly prf: readonly PrfName[];
  readonly ke: readonly KeName[];
  readonly needPfs: boolean;
  readonly nonceBytes: number;
  readonly cookieRequired: boolean;
  readonly natTraversal: boolean;
  /** UDP encapsulation even where no NAT is found. */
  readonly forceEncapsulation: boolean;
  /** Liveness check after this long without authenticated traffic; `infinite`: never. */
  readonly dpdDelay: Limit;
  readonly maxRetries: number;
  readonly retryInterval: number;
  readonly saLifetime: Limit;
  readonly negotiationLimit: number;
  readonly gracePeriod: Limit;
  readonly selectorCheck: 'obey' | 'exact';
  readonly randomPadContent: boolean;
  readonly randomPadLength: boolean;
  readonly maxPadLength: number;
  /** Hook scripts by event name. */
  readonly scripts: Readonly<Record<string, string>>;
}

/** How a responder takes lifetimes and groups that differ from its own: take the peer's, no longer than ours, the shorter, or equal. */
export type ProposalCheck = 'obey' | 'strict' | 'claim' | 'exact';

/** `remote { ikev1 { … } }` with `default { remote { ikev1 { … } } }` applied. Times in milliseconds. */
export interface Ikev1Config {
  readonly passive: boolean;
  readonly peersIpaddr: readonly AddressSpec[];
  readonly myId: IdentityConfig | undefined;
  readonly peersId: readonly IdentityConfig[];
  readonly verifyId: boolean;
  readonly authMethods: readonly 'psk'[];
  readonly preSharedKey: string | undefined;
  readonly pskFormat: 'auto' | 'text' | 'hex' | 'raw';
  /** Rows with an `isakmp` number. */
  readonly encr: readonly { readonly name: EncrName; readonly keyBits: number }[];
  /** Rows with `hashV1`; the prf is the HMAC of the hash (RFC 2409 §4). */
  readonly hash: readonly PrfName[];
  /** Rows with `groupV1`. */
  readonly groups: readonly KeName[];
  readonly needPfs: boolean;
  readonly nonceBytes: number;
  readonly natTraversal: boolean;
  /** UDP encapsulation even where no NAT is found. */
  readonly forceEncapsulation: boolean;
  readonly proposalCheck: ProposalCheck;
  /** Whether dead peer detection (RFC 3706) is announced and, where the peer announces it too, done. */
  readonly dpd: boolean;
  /** R-U-THERE after this long without authenticated traffic; `infinite`: never. */
  readonly dpdDelay: Limit;
  /** Between two R-U-THERE. */
  readonly dpdRetry: number;
  /** R-U-THERE without an answer before the peer counts as dead. */
  readonly dpdMaxFail: number;
  readonly maxRetries: number;
  readonly retryInterval: number;
  readonly saLifetime: Limit;
  /** For phase 1 and for each phase 2. */
  readonly negotiationLimit: number;
  readonly gracePeriod: Limit;
  /** Hook scripts by event name. */
  readonly scripts: Readonly<Record<string, string>>;
}

/** `remote { kink { … } }` with `default { remote { kink { … } } }` applied. Times in milliseconds. */
export interface KinkConfig {
  readonly passive: boolean;
  readonly peersIpaddr: readonly AddressSpec[];
  /** `NAME/INSTANCE@REALM`: always with its realm. */
  readonly myPrincipal: string;
  /** The service to get a ticket for, and the only client that is served. */
  readonly peersPrincipal: string;
  readonly needPfs: boolean;
  /** Rows with `groupV1`. */
  readonly groups: readonly KeName[];
  readonly nonceBytes: number;
  /** Whether the responder sends Nr, which makes the exchange three-way; `auto`: where leaving it out could repeat a key. */
  readonly responderNonce: 'auto' | 'always' | 'never';
  /** PRF of the AES enctypes of RFC 3962: 16 octets as MIT's library has it, or 20 as the letter of RFC 3961 says (racoon2). */
  readonly prf: 'mit' | 'rfc3962_literal';
  /** Whether payloads outside KINK_ENCRYPT are accepted. */
  readonly clearPayloads: boolean;
  readonly proposalCheck: ProposalCheck;
  readonly maxRetries: number;
  readonly retryInterval: number;
  readonly negotiationLimit: number;
  /** Hook scripts by event name. */
  readonly scripts: Readonly<Record<string, string>>;
}

/** `kerberos { … }`: the Kerberos that KINK stands on. */
export interface KerberosConfig {
  /** Where tickets come from: our own client, or libkrb5 by the package node-krb5; `auto`: the latter where it loads. */
  readonly backend: 'auto' | 'builtin' | 'node_krb5';
  /** The realm of principals that name none, and of the KDCs below. */
  readonly realm: string | undefined;
  /** Addresses or names. */
  readonly kdcs: readonly { readonly host: string; readonly port: number }[];
  /** Path. */
  readonly keytab: string;
  /** Milliseconds that the clocks of two hosts may differ. */
  readonly clockSkew: number;
}

/** One direction of traffic and the policy for it. References are resolved. */
export interface SelectorConfig {
  /** Unique; the inbound half of a `direction both` selector is `NAME` with `.in` behind it. */
  readonly name: string;
  readonly order: number;
  readonly direction: 'inbound' | 'outbound';
  readonly source: AddressSpec;
  readonly destination: AddressSpec;
  /** 0: any. */
  readonly protocol: number;
  /** For ICMP the type is the source port and the code the destination port; for Mobility Header the type is the source port. 0: any. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly reqid: number;
  readonly policy: PolicyConfig;
}

export interface PolicyConfig {
  readonly name: string;
  readonly action: 'protect' | 'bypass' | 'discard';
  readonly install: boolean;
  /** Name of a remote; undefined only where the action is not protect. */
  readonly remote: string | undefined;
  readonly mode: Mode;
  readonly mySaAddress: AddressSpec | undefined;
  readonly peersSaAddress: AddressSpec | undefined;
  readonly level: 'unique' | 'require' | 'use';
  /** `demand`: when a packet asks for it; `start`: as soon as the daemon runs, and again whenever it is lost. */
  readonly initiate: 'demand' | 'start';
  /** Alternatives, best first. */
  readonly ipsec: readonly IpsecConfig[];
}

export interface IpsecConfig {
  readonly name: string;
  readonly lifetimeTime: Limit;
  readonly lifetimeBytes: Limit;
  readonly lifetimePackets: Limit;
  /** Milliseconds without traffic. */
  readonly lifetimeIdle: Limit;
  readonly extendedSequence: boolean;
  readonly replayWindow: number;
  /** 0: none. */
  readonly tfcPadding: number;
  readonly sas: readonly SaConfig[];
}

export interface SaConfig {
  readonly name: string;
  readonly protocol: 'esp' | 'ah' | 'ipcomp';
  readonly encr: readonly { readonly name: EncrName; readonly keyBits: number }[];
  /** `none` stands for `non_auth`. Not used with an AEAD. */
  readonly auth: readonly (IntegName | 'none')[];
}

export interface AddressPool {
  readonly name: string;
  readonly ranges: readonly { readonly start: string; readonly end: string }[];
}
