/**
 * Every directive of the policy language once: its kind of value, its default, one sentence, who acts on it and whether it has an
 * effect yet. Here are the sections of traffic; `schema-host.ts` has those of the host, `schema-remote.ts` those of peers.
 */

import { address, protocol, ranges, TRAFFIC, TUNNEL_END, upperLayer } from './addresses.ts';
import { cipher, integrity } from './algorithms.ts';
import { block, directive } from './blocks.ts';
import { boolean, choice, integer, listOf, nameOf, octetLimit, packetLimit, placed, text, timeLimit } from './kinds.ts';
import { DATAPATH, INTERFACE, LIMITS, LOGGING, RESOLVER } from './schema-host.ts';
import { IKEV1 } from './schema-ikev1.ts';
import { KERBEROS, KINK } from './schema-kink.ts';
import { IKEV2, PROVIDE, REMOTE } from './schema-remote.ts';

const INT = 0x7fffffff;

export const SELECTOR = {
  title: 'selector NAME { }',
  doc: 'Which traffic a policy is for.',
  words: {
    order: directive({
      is: integer(-INT, INT),
      default: '0',
      by: ['spmd'],
      doc: 'Selectors with a lower number come first; those with the same, in the order of the file.',
    }),
    direction: directive({
      is: choice(['inbound', 'outbound', 'both']),
      by: ['spmd', 'iked'],
      doc: '`both` writes the selector for outbound traffic and stands for its mirror image too, named NAME.in.',
    }),
    src: directive({
      is: listOf(address(TRAFFIC)),
      by: ['spmd', 'iked'],
      doc: 'Source addresses, and for TCP, UDP and the like the source port.',
    }),
    dst: directive({ is: listOf(address(TRAFFIC)), by: ['spmd', 'iked'], doc: 'Destination addresses and port.' }),
    upper_layer_protocol: directive({
      is: upperLayer,
      default: 'any',
      by: ['spmd', 'iked'],
      doc: 'Protocol by name or number; for ICMP with a type and a code, for the Mobility Header with a type.',
    }),
    next_header_including: directive({
      is: listOf(protocol),
      by: ['spmd'],
      ignored: 'racoon2 never acted on it either',
      doc: 'Was meant for extension headers.',
    }),
    tagged: directive({
      is: text,
      by: ['spmd'],
      unbuilt: 'packets carry no tags here',
      doc: 'Match packets by a tag of the packet filter.',
    }),
    policy_index: directive({ is: placed(nameOf('policy')), by: ['spmd', 'iked'], doc: 'The policy for this traffic.' }),
    reqid: directive({
      is: integer(0, INT),
      default: '0',
      by: ['spmd', 'iked'],
      doc: 'Request id of the SPD entry and its SAs; 0 lets spmd choose.',
    }),
  },
} as const;

export const POLICY = {
  title: 'policy NAME { }',
  doc: 'What happens to the traffic, and with whom keys are negotiated.',
  words: {
    action: directive({
      is: choice(['auto_ipsec', 'static_ipsec', 'discard', 'none'], { bypass: 'none' }),
      default: 'auto_ipsec',
      by: ['spmd', 'iked'],
      doc: 'Protect with negotiated keys, drop, or let pass (`none` or `bypass`). In `default { policy { } }`, `discard` also drops what no selector matches.',
    }),
    install: directive({
      is: boolean,
      default: 'on',
      by: ['spmd'],
      doc: 'Whether spmd installs the SPD entry; `off` is for entries that another program installs (adopting them is not built yet).',
    }),
    remote_index: directive({ is: placed(nameOf('remote')), by: ['spmd', 'iked'], doc: 'The remote to negotiate with.' }),
    ipsec_index: directive({
      is: listOf(nameOf('ipsec')),
      by: ['spmd', 'iked'],
      doc: 'Alternatives, best first; without it, ESP with the defaults of `ipsec` and `sa`.',
    }),
    ipsec_mode: directive({
      is: choice(['transport', 'tunnel', 'beet']),
      default: 'tunnel',
      by: ['spmd', 'iked'],
      doc: 'Mode of the SAs. `beet` (IKEv2 and ESP only) is a tunnel between one address at each end that leaves the inner header out.',
    }),
    my_sa_ipaddr: directive({
      is: address(TUNNEL_END),
      by: ['spmd', 'iked'],
      doc: 'Our end of a tunnel; without it, the address of `interface { ike }`.',
    }),
    peers_sa_ipaddr: directive({
      is: address(TUNNEL_END),
      by: ['spmd', 'iked'],
      doc: "The peer's end of a tunnel; without it, the first `peers_ipaddr` of the remote.",
    }),
    ipsec_level: directive({
      is: choice(['unique', 'require', 'use']),
      default: 'require',
      by: ['spmd'],
      doc: 'An SA for this policy alone, an SA in any case, or an SA if there is one and clear text otherwise.',
    }),
    initiate: directive({
      is: choice(['demand', 'start']),
      default: 'demand',
      by: ['iked'],
      doc: 'Negotiate when a packet asks for it, or as soon as the daemon runs and again whenever the SA is lost.',
    }),
  },
} as const;

export const IPSEC = {
  title: 'ipsec NAME { }',
  doc: 'One way to protect traffic: the SAs that together do it, and how long they live.',
  words: {
    ipsec_sa_lifetime_time: directive({
      is: timeLimit('infinite'),
      default: '1 hour',
      by: ['iked', 'datapath'],
      doc: 'Time before a child SA dies; it is rekeyed before.',
    }),
    ipsec_sa_lifetime_byte: directive({
      is: octetLimit('infinite'),
      default: 'infinite',
      by: ['iked', 'datapath'],
      doc: 'Octets before a child SA dies.',
    }),
    ipsec_sa_lifetime_packets: directive({
      is: packetLimit('infinite'),
      default: 'infinite',
      by: ['iked', 'datapath'],
      doc: 'Packets before a child SA dies.',
    }),
    ipsec_sa_lifetime_idle: directive({
      is: timeLimit('infinite'),
      default: 'infinite',
      by: ['iked'],
      doc: 'Time without a packet either way after which a child SA ends (an eighth more at most, or a second); the next packet asks for another. A rekey begins to count anew.',
    }),
    ext_sequence: directive({
      is: boolean,
      default: 'off',
      by: ['iked', 'datapath'],
      doc: 'Extended (64 bit) sequence numbers.',
    }),
    replay_window: directive({
      is: integer(0, 65536),
      default: '1024',
      by: ['datapath'],
      doc: 'Packets that may arrive out of order; 0 turns the replay check off.',
    }),
    tfc_padding: directive({
      is: integer(0, 9000),
      default: '0',
      by: ['iked', 'datapath'],
      doc: "Octets that shorter packets of a tunnel are padded up to, so that their length tells nothing (RFC 4303 2.7): at most the device's MTU. Only in IKEv2, and not where the peer says that it does not take it.",
    }),
    sa_index: directive({
      is: listOf(nameOf('sa')),
      by: ['spmd', 'iked'],
      doc: 'The SAs, at most one a protocol, all of which each packet goes through; without it, ESP with the defaults of `sa`.',
    }),
  },
} as const;

export const SA = {
  title: 'sa NAME { }',
  doc: 'The algorithms of one SA.',
  words: {
    sa_protocol: directive({
      is: choice(['esp', 'ah', 'ipcomp']),
      default: 'esp',
      by: ['spmd', 'iked'],
      doc: 'Protocol. `ah` together with `esp`, and `ipcomp` with either, are negotiated by IKEv1 and KINK only.',
    }),
    esp_enc_alg: directive({
      is: listOf(cipher('esp')),
      default: '{ aes256_gcm_16; aes128_gcm_16; chacha20_poly1305; }',
      once: true,
      by: ['iked'],
      doc: 'Ciphers of ESP, best first.',
    }),
    esp_auth_alg: directive({
      is: listOf(integrity('esp')),
      default: 'hmac_sha2_256',
      once: true,
      by: ['iked'],
      doc: 'Integrity algorithms of ESP, for ciphers that are no AEAD; `non_auth` is none.',
    }),
    ah_auth_alg: directive({
      is: listOf(integrity('ah')),
      once: true,
      by: ['iked'],
      doc: 'Integrity algorithms of AH.',
    }),
    ipcomp_alg: directive({
      is: listOf(choice(['oui', 'deflate', 'lzs'])),
      once: true,
      by: ['iked'],
      doc: 'Compression algorithms of IPComp; only `deflate` is built.',
    }),
    spi: directive({
      is: integer(0, 0xffffffff),
      by: ['iked'],
      ignored: 'SPIs are negotiated',
      doc: 'Was meant for SAs with keys by hand.',
    }),
  },
} as const;

/** `default { }`: values for every section that does not say its own. */
export const DEFAULT = {
  title: 'default { }',
  doc: 'Values that every section of the kind inherits where it does not say its own; lists replace. Once in a configuration.',
  words: {
    remote: directive({
      is: block(REMOTE),
      once: true,
      by: ['all'],
      doc: 'For every `remote`. Peers that no remote fits get no service.',
    }),
    policy: directive({
      is: block(POLICY),
      once: true,
      by: ['all'],
      doc: 'For every `policy`; `action discard` also drops what no selector matches.',
    }),
    ipsec: directive({ is: block(IPSEC), once: true, by: ['all'], doc: 'For every `ipsec`.' }),
    sa: directive({ is: block(SA), once: true, by: ['all'], doc: 'For every `sa`.' }),
  },
} as const;

export const ADDRESSPOOL = {
  title: 'addresspool NAME { }',
  doc: 'Ranges of addresses to lease; the body holds `START - END;` statements with spaces around the dash.',
  unbuilt: 'configuration payloads, which lease addresses, are not built yet',
  syntax: ranges.syntax,
} as const;

/** The words that may open a top-level statement, and the table behind each. */
export const SECTIONS = {
  setval: undefined,
  include: undefined,
  interface: INTERFACE,
  limits: LIMITS,
  logging: LOGGING,
  resolver: RESOLVER,
  kerberos: KERBEROS,
  default: DEFAULT,
  remote: REMOTE,
  selector: SELECTOR,
  policy: POLICY,
  ipsec: IPSEC,
  sa: SA,
  addresspool: undefined,
} as const;

/** All tables in the order of the documentation. */
export const TABLES = [
  INTERFACE,
  DATAPATH,
  LIMITS,
  LOGGING,
  RESOLVER,
  KERBEROS,
  DEFAULT,
  REMOTE,
  IKEV2,
  PROVIDE,
  IKEV1,
  KINK,
  SELECTOR,
  POLICY,
  IPSEC,
  SA,
] as const;

export { DATAPATH, IKEV1, IKEV2, INTERFACE, KERBEROS, KINK, LIMITS, LOGGING, PROVIDE, REMOTE, RESOLVER };
