/** The directives that the `ikev2`, `ikev1` and `kink` blocks of a remote share, with the kinds and defaults of IKEv2. */

import { address, identity, PEER, path } from './addresses.ts';
import { cipher, group, integrity, prf } from './algorithms.ts';
import { type Directive, directive } from './blocks.ts';
import { boolean, choice, duration, integer, type Kind, listOf, octetLimit, octets, text, timeLimit, tuple } from './kinds.ts';

/** Names of the events that a script can hang on; the later ones are other words for the first. */
const EVENTS = choice(['phase1_up', 'phase1_down', 'phase1_rekey', 'phase2_up', 'phase2_down', 'phase2_rekey', 'migration'], {
  ...{ ike_sa_up: 'phase1_up', ike_sa_down: 'phase1_down', ike_sa_rekey: 'phase1_rekey' },
  ...{ child_up: 'phase2_up', child_down: 'phase2_down', child_rekey: 'phase2_rekey' },
});

const EVENT_SCRIPT: Kind<{ readonly event: string; readonly file: string }> = {
  syntax: 'EVENT PATH',
  read(items, at, reader) {
    const event = EVENTS.read(items.slice(0, 1), at, reader);
    const file = path.read(items.slice(1), at, reader);
    return event === undefined || file === undefined ? undefined : { event, file };
  },
};
const script = listOf(EVENT_SCRIPT, true);

export const NO_CERTIFICATES = 'certificates are not built yet; use psk';
const KEY_FILES = ['x509pem', 'pkcs12', 'ascii'];

/** Words that `ikev1`, `ikev2` and `kink` blocks share. Defaults are those of IKEv2. */
export const SHARED = {
  passive: directive({ is: boolean, default: 'off', by: ['iked'], doc: 'Only answer, never start a negotiation.' }),
  peers_ipaddr: directive({
    is: listOf(address(PEER)),
    by: ['iked'],
    doc: 'Where the peer is: destination of the initiator, and what the responder looks a peer up by. `IP_ANY` and `IP_RW` stand for any address. Without it, where the policies that name the remote lead to.',
  }),
  my_id: directive({
    is: listOf(identity),
    by: ['iked'],
    doc: 'The identity to show, the first of a list; without it, our address.',
  }),
  peers_id: directive({
    is: listOf(identity),
    by: ['iked'],
    doc: 'Identities that the peer may have; without it, the address that it comes from.',
  }),
  verify_id: directive({
    is: boolean,
    default: 'on',
    by: ['iked'],
    doc: "Whether the peer's identity must be one of `peers_id`, in both roles.",
  }),
  kmp_auth_method: directive({
    is: listOf(choice(['psk', 'rsasig', 'dss', 'rsaenc', 'rsarev', 'gssapi_krb'])),
    default: 'psk',
    once: true,
    by: ['iked'],
    doc: 'Authentication methods, for both sides. Only `psk` is built yet.',
  }),
  pre_shared_key: directive({
    is: path,
    by: ['iked'],
    doc: 'File of the pre-shared key. It must belong to the user and be closed to others.',
  }),
  psk_format: directive({
    is: choice(['auto', 'text', 'hex', 'raw']),
    default: 'auto',
    by: ['iked'],
    doc: 'What the file holds: text without its last line end, hexadecimal digits, or the octets as they are; `auto` takes printable text for text.',
  }),
  kmp_enc_alg: directive({
    is: listOf(cipher('ike')),
    default: '{ aes256_gcm_16; aes128_gcm_16; chacha20_poly1305; }',
    once: true,
    by: ['iked'],
    doc: 'Ciphers of the IKE SA, best first.',
  }),
  kmp_hash_alg: directive({
    is: listOf(integrity('ike')),
    default: '{ hmac_sha2_256; hmac_sha2_384; hmac_sha2_512; }',
    once: true,
    by: ['iked'],
    doc: 'Integrity algorithms of the IKE SA, for ciphers that are no AEAD.',
  }),
  kmp_prf_alg: directive({
    is: listOf(prf),
    default: '{ hmac_sha2_256; hmac_sha2_384; hmac_sha2_512; }',
    once: true,
    by: ['iked'],
    doc: 'Pseudorandom functions.',
  }),
  kmp_dh_group: directive({
    is: listOf(group),
    default: '{ x25519; ecp256; modp2048; }',
    once: true,
    by: ['iked'],
    doc: 'Key exchange methods, by name or number, best first; the first is sent with the first message.',
  }),
  need_pfs: directive({
    is: boolean,
    default: 'off',
    by: ['iked'],
    doc: 'Whether every child SA has a key exchange of its own.',
  }),
  nonce_size: directive({ is: octets(16, 256), default: '32', by: ['iked'], doc: 'Octets of a nonce.' }),
  nat_traversal: directive({
    is: boolean,
    default: 'on',
    by: ['iked'],
    doc: 'Whether NATs are looked for and ESP goes in UDP behind them.',
  }),
  force_encapsulation: directive({ is: boolean, default: 'off', by: ['iked'], doc: 'ESP in UDP even where there is no NAT.' }),
  dpd_delay: directive({
    is: timeLimit('infinite'),
    default: '2 min',
    by: ['iked'],
    doc: 'The peer is asked whether it lives after this long without a protected packet from it, and after three times as long where only ESP came.',
  }),
  max_retry_to_send: directive({
    is: integer(0, 100),
    default: '5',
    by: ['iked'],
    doc: 'How often an unanswered request is repeated before the peer counts as dead.',
  }),
  interval_to_send: directive({
    is: duration(1000),
    default: '1 sec',
    by: ['iked'],
    doc: 'Time before the first repetition; it doubles with each, up to 64-fold.',
  }),
  kmp_sa_lifetime_time: directive({
    is: timeLimit('default'),
    default: '8 hours',
    by: ['iked'],
    doc: 'Life of the IKE SA before it is rekeyed.',
  }),
  kmp_sa_nego_time_limit: directive({
    is: duration(1000),
    default: '2 min',
    by: ['iked'],
    doc: 'A negotiation that takes longer is given up.',
  }),
  kmp_sa_grace_period: directive({
    is: timeLimit('infinite'),
    default: 'infinite',
    by: ['iked'],
    doc: 'An IKE SA without child SAs is deleted after this long.',
  }),
  selector_check: directive({
    is: choice(['obey', 'exact']),
    default: 'exact',
    by: ['iked'],
    doc: 'When the peer wants the other mode, transport or tunnel: follow it, or refuse.',
  }),
  random_pad_content: directive({
    is: boolean,
    default: 'off',
    by: ['iked'],
    doc: 'Random padding octets in encrypted payloads.',
  }),
  random_padlen: directive({
    is: boolean,
    default: 'off',
    by: ['iked'],
    doc: 'A random amount of padding in encrypted payloads.',
  }),
  max_padlen: directive({
    is: octets(0, 255),
    default: '0',
    by: ['iked'],
    doc: 'Most octets of padding; 0 is the least possible, or 255 with `random_padlen on`.',
  }),
  script: directive({
    is: script,
    by: ['iked'],
    doc: 'Programs to run when something happens, with what it is about in their environment; nothing waits for them.',
  }),
  my_public_key: directive({
    is: listOf(tuple(KEY_FILES, 'CERTIFICATE', '[KEY]')),
    by: ['iked'],
    unbuilt: NO_CERTIFICATES,
    doc: 'Our certificate and private key.',
  }),
  peers_public_key: directive({
    is: listOf(tuple(KEY_FILES, 'CERTIFICATE', '[KEY]')),
    by: ['iked'],
    unbuilt: NO_CERTIFICATES,
    doc: "The peer's certificate.",
  }),
  verify_pubkey: directive({
    is: boolean,
    by: ['iked'],
    unbuilt: NO_CERTIFICATES,
    doc: 'Chains are always verified; racoon2 could leave that out.',
  }),
  send_cert_req: directive({
    is: boolean,
    by: ['iked'],
    unbuilt: NO_CERTIFICATES,
    doc: 'Whether a certificate request is sent.',
  }),
  initial_contact: directive({
    is: boolean,
    by: ['iked'],
    ignored: 'the first IKE SA with a peer always says INITIAL_CONTACT',
    doc: 'Said always.',
  }),
  use_coa: directive({
    is: boolean,
    by: ['iked'],
    ignored: 'IKE moves to the care-of address that a mobility daemon names in KMADDRESS (SADB_X_MIGRATE)',
    doc: 'Use the care-of address of Mobile IPv6 for IKE.',
  }),
  mobility_role: directive({
    is: choice(['agent', 'mobile', 'correspondent']),
    by: ['iked'],
    ignored: 'selectors and policies say what a node protects, whatever its role',
    doc: 'Role in Mobile IPv6.',
  }),
  support_proxy: directive({
    is: boolean,
    by: ['iked'],
    ignored: 'racoon2 never acted on it either',
    doc: 'Was meant for SAs on behalf of others.',
  }),
  proposal_check: directive({
    is: choice(['obey', 'strict', 'claim', 'exact']),
    by: ['iked'],
    ignored: 'IKEv2 does not negotiate lifetimes',
    doc: 'How an IKEv1 or KINK responder takes lifetimes and groups that differ from its own.',
  }),
  times_per_send: directive({
    is: integer(1, 16),
    by: ['iked'],
    ignored: 'each datagram is sent once; repetitions are a matter of max_retry_to_send',
    doc: 'Copies of each datagram.',
  }),
  kmp_sa_lifetime_byte: directive({
    is: octetLimit('infinite'),
    by: ['iked'],
    ignored: 'an IKE SA lives by time',
    doc: 'Octets before an IKE SA is rekeyed.',
  }),
  ipsec_sa_nego_time_limit: directive({
    is: duration(),
    by: ['iked'],
    ignored: 'kmp_sa_nego_time_limit is for all negotiations',
    doc: 'Time for a phase 2 negotiation.',
  }),
  peers_kmp_port: directive({
    is: text,
    by: ['iked'],
    ignored: 'write peers_ipaddr ADDRESS port PORT',
    doc: 'Was meant for the port of the peer.',
  }),
  logmode: directive({
    is: choice(['normal', 'debug']),
    by: ['iked'],
    ignored: 'write logging { level debug; }',
    doc: 'Was meant for a log of its own.',
  }),
  logfile: directive({
    is: text,
    by: ['iked'],
    ignored: 'write logging { destination "FILE"; }',
    doc: 'Was meant for a log of its own.',
  }),
};

/** The same word in a block where it has no effect; the text says why or what to use. */
export function without<T>({ is, by, doc }: Directive<T>, ignored: string): Directive<T> {
  return { is, by, doc, ignored };
}
