/** The directives of `remote { kink { } }` (RFC 4430) and of `kerberos { }`, which KINK stands on. */

import { IpAddress } from '../net/address.ts';
import { path, SERVICES } from './addresses.ts';
import { anyAlgorithm, groupV1 } from './algorithms.ts';
import { type Directive, directive } from './blocks.ts';
import { quoted } from './diagnostics.ts';
import { boolean, choice, duration, type Kind, kind, listOf, octets, parseNumber, pattern } from './kinds.ts';
import { GROUPS_V1, PROPOSAL_CHECK } from './schema-ikev1.ts';
import { SHARED, without } from './schema-shared.ts';

/** A principal as written (RFC 1964 §2.1.3): components between `/`, and a realm behind `@`; a backslash takes either's meaning away. */
export interface PrincipalConfig {
  readonly name: string;
  readonly realm: string | undefined;
}

const PRINCIPAL = /^((?:[^@/\\]|\\.)+(?:\/(?:[^@/\\]|\\.)+)*)(?:@((?:[^@/\\]|\\.)+))?$/;

/** Name and realm; undefined where the text is no principal. */
export function splitPrincipal(text: string): PrincipalConfig | undefined {
  const [, name, realm] = PRINCIPAL.exec(text) ?? [];
  return name === undefined ? undefined : { name, realm };
}

const principal: Kind<PrincipalConfig> = kind('NAME[/INSTANCE][@REALM]', (cursor) => {
  const word = cursor.text('a principal');
  if (word === undefined) return undefined;
  const split = splitPrincipal(word.text);
  if (split !== undefined) return split;
  cursor.reader.report.error(
    word.atom.span,
    `${quoted(word.text)} is no principal`,
    'for example "kink/gw.example.net@EXAMPLE.NET"',
  );
  return undefined;
});

/** `HOST [port PORT]`. */
const kdc: Kind<{ readonly host: string; readonly port: number }> = kind('HOST [port PORT]', (cursor) => {
  const { report } = cursor.reader;
  const word = cursor.text('the address or name of a KDC');
  if (word === undefined) return undefined;
  const literal = IpAddress.parse(word.text);
  if (literal === undefined && !/^(?=.*[A-Za-z])[A-Za-z0-9]([A-Za-z0-9.-]{0,252})$/.test(word.text)) {
    report.error(word.atom.span, `${quoted(word.text)} is neither an address nor a name`, 'for example kdc.example.net');
    return undefined;
  }
  const host = literal?.toString() ?? word.text;
  if (!cursor.take({ word: 'port' })) return { host, port: SERVICES.kerberos! };
  const number = cursor.text('a port');
  const known = number !== undefined && Object.hasOwn(SERVICES, number.text);
  const port = number === undefined ? undefined : known ? SERVICES[number.text] : parseNumber(number.text);
  if (port !== undefined && port >= 1 && port <= 65535) return { host, port };
  if (number !== undefined) report.error(number.atom.span, `${quoted(number.text)} is no port`, 'a number from 1 to 65535');
  return undefined;
});

const KERBEROS_PROVES = 'Kerberos proves who is who: write my_principal and peers_principal';
const SESSION_KEY = "KINK's own messages are protected by the key of the ticket";
const NO_PHASE_1 = 'KINK has no SA of its own';
const NO_PROBES = 'a peer that restarted is known by its epoch';
const PADDING = 'messages of KINK are padded as their enctype wants';
const ALGORITHMS = directive({ is: listOf(anyAlgorithm), by: ['kinkd'], ignored: SESSION_KEY, doc: 'As in `ikev2 { }`.' });

function none<T>(row: Directive<T>, ignored: string): Directive<T> {
  return { ...without(row, ignored), by: ['kinkd'] };
}

export const KINK = {
  title: 'kink { }',
  doc: 'How KINK (RFC 4430) is spoken with the peer.',
  aliases: { padlen_random: 'random_padlen' },
  words: {
    my_principal: directive({
      is: principal,
      by: ['kinkd'],
      doc: 'Our Kerberos principal, whose key is in the keytab. Its realm is that of `kerberos { realm }` unless one is written.',
    }),
    peers_principal: directive({
      is: principal,
      by: ['kinkd'],
      doc: "The peer's Kerberos principal: the service that a ticket is for, and the only client that is served. Without it, `kink/NAME` of the name in `peers_ipaddr`.",
    }),
    responder_nonce: directive({
      is: choice(['auto', 'always', 'never']),
      default: 'auto',
      by: ['kinkd'],
      doc: 'Whether a responder adds a nonce, which costs a third message. `auto` does where a replayed request could make it use a key twice: for counter-mode ciphers, and soon after a restart.',
    }),
    prf: directive({
      is: choice(['mit', 'rfc3962_literal'], { 'rfc3962-literal': 'rfc3962_literal' }),
      default: 'mit',
      by: ['kinkd'],
      doc: "Pseudorandom function of the enctypes of RFC 3962: as MIT's library has it, or as the letter says, for a racoon2 peer.",
    }),
    clear_payloads: directive({
      is: boolean,
      default: 'off',
      by: ['kinkd'],
      doc: 'Whether payloads outside KINK_ENCRYPT, which are authentic but readable, are accepted.',
    }),
    ...SHARED,
    passive: { ...SHARED.passive, by: ['kinkd'] },
    peers_ipaddr: { ...SHARED.peers_ipaddr, by: ['kinkd'] },
    need_pfs: directive({
      is: boolean,
      default: 'off',
      by: ['kinkd'],
      doc: 'Whether every pair of SAs has a Diffie-Hellman exchange of its own.',
    }),
    kmp_dh_group: directive({
      is: listOf(groupV1),
      default: GROUPS_V1,
      once: true,
      by: ['kinkd'],
      doc: 'Diffie-Hellman groups, by name or number, best first; the first is offered with `need_pfs`.',
    }),
    nonce_size: directive({ is: octets(8, 256), default: '32', by: ['kinkd'], doc: 'Octets of a nonce.' }),
    proposal_check: directive({
      is: PROPOSAL_CHECK,
      default: 'claim',
      by: ['kinkd'],
      doc: 'How a responder takes lifetimes and groups that differ from its own, as in `ikev1 { }`.',
    }),
    max_retry_to_send: { ...SHARED.max_retry_to_send, by: ['kinkd'] },
    interval_to_send: { ...SHARED.interval_to_send, by: ['kinkd'] },
    kmp_sa_nego_time_limit: { ...SHARED.kmp_sa_nego_time_limit, by: ['kinkd'] },
    script: { ...SHARED.script, by: ['kinkd'] },
    my_id: none(SHARED.my_id, KERBEROS_PROVES),
    peers_id: none(SHARED.peers_id, KERBEROS_PROVES),
    verify_id: none(SHARED.verify_id, KERBEROS_PROVES),
    kmp_auth_method: none(SHARED.kmp_auth_method, KERBEROS_PROVES),
    pre_shared_key: none(SHARED.pre_shared_key, KERBEROS_PROVES),
    psk_format: none(SHARED.psk_format, KERBEROS_PROVES),
    my_public_key: none(SHARED.my_public_key, KERBEROS_PROVES),
    peers_public_key: none(SHARED.peers_public_key, KERBEROS_PROVES),
    verify_pubkey: none(SHARED.verify_pubkey, KERBEROS_PROVES),
    send_cert_req: none(SHARED.send_cert_req, KERBEROS_PROVES),
    initial_contact: none(SHARED.initial_contact, NO_PROBES),
    kmp_enc_alg: ALGORITHMS,
    kmp_hash_alg: ALGORITHMS,
    kmp_prf_alg: ALGORITHMS,
    kmp_sa_lifetime_time: none(SHARED.kmp_sa_lifetime_time, NO_PHASE_1),
    kmp_sa_lifetime_byte: none(SHARED.kmp_sa_lifetime_byte, NO_PHASE_1),
    kmp_sa_grace_period: none(SHARED.kmp_sa_grace_period, NO_PHASE_1),
    dpd_delay: none(SHARED.dpd_delay, NO_PROBES),
    nat_traversal: none(SHARED.nat_traversal, 'KINK knows of no NAT'),
    force_encapsulation: none(
      SHARED.force_encapsulation,
      'KINK knows of no ESP in UDP; write interface { datapath { encapsulation } }',
    ),
    selector_check: none(SHARED.selector_check, 'a proposal names its mode, and only that of the policy is accepted'),
    random_pad_content: none(SHARED.random_pad_content, PADDING),
    random_padlen: none(SHARED.random_padlen, PADDING),
    max_padlen: none(SHARED.max_padlen, PADDING),
  },
} as const;

export const KERBEROS = {
  title: 'kerberos { }',
  doc: 'The Kerberos that KINK stands on. Once in a configuration.',
  words: {
    backend: directive({
      is: choice(['auto', 'builtin', 'node_krb5'], { 'node-krb5': 'node_krb5' }),
      default: 'auto',
      by: ['kinkd'],
      doc: "Where tickets come from: our own client (`builtin`), the site's libkrb5 by the package node-krb5, or the latter where it loads (`auto`).",
    }),
    realm: directive({
      is: pattern('REALM', /^[^\s/@\\]+$/),
      by: ['kinkd'],
      doc: 'The realm of principals that name none, and of the KDCs.',
    }),
    kdc: directive({
      is: listOf(kdc),
      by: ['kinkd'],
      doc: 'Key distribution centres of the realm, asked in this order; port 88 unless one is written.',
    }),
    keytab: directive({
      is: path,
      default: '"/etc/krb5.keytab"',
      by: ['kinkd'],
      doc: 'The file with the keys of `my_principal`. It must belong to the user and be closed to others.',
    }),
    clock_skew: directive({
      is: duration(1000),
      default: '5 min',
      by: ['kinkd'],
      doc: "How far a peer's clock may be from ours.",
    }),
  },
} as const;
