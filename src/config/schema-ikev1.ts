/** The directives of `remote { ikev1 { } }` (RFC 2407, 2408, 2409): those of IKEv2 with what is different, and with what has no effect. */

import { cipher, groupV1, hash } from './algorithms.ts';
import { directive } from './blocks.ts';
import { boolean, choice, duration, integer, listOf, octets, text } from './kinds.ts';
import { SHARED, without } from './schema-shared.ts';

const PADDING = 'messages of IKEv1 are padded to a block and no further';

/** Group Descriptions that IKEv1 and KINK offer and take unless a list is written. */
export const GROUPS_V1 = '{ ecp256; modp2048; modp3072; ecp384; }';

export const PROPOSAL_CHECK = choice(['obey', 'strict', 'claim', 'exact']);

export const IKEV1 = {
  title: 'ikev1 { }',
  doc: 'How IKEv1 (RFC 2409) is spoken with the peer, in main mode and quick mode.',
  aliases: { padlen_random: 'random_padlen' },
  words: {
    exchange_mode: directive({
      is: listOf(choice(['main', 'aggressive', 'base', 'all'])),
      default: 'main',
      by: ['iked'],
      doc: 'Mode of phase 1. Only `main` is spoken: `aggressive` shows a hash of the pre-shared key to anyone who asks.',
    }),
    dpd: directive({ is: boolean, default: 'on', by: ['iked'], doc: 'Whether dead peer detection (RFC 3706) is announced.' }),
    dpd_retry: directive({ is: duration(1000), default: '5 sec', by: ['iked'], doc: 'Time between two R-U-THERE.' }),
    dpd_maxfail: directive({
      is: integer(1, 100),
      default: '5',
      by: ['iked'],
      doc: 'R-U-THERE without an answer before the peer counts as dead.',
    }),
    my_gssapi_id: directive({
      is: text,
      by: ['iked'],
      ignored: 'GSS-API authentication is not spoken',
      doc: 'Name for GSS-API.',
    }),
    ...SHARED,
    dpd_delay: directive({
      is: SHARED.dpd_delay.is,
      default: '2 min',
      by: ['iked'],
      doc: 'R-U-THERE is sent after this long without a protected packet from the peer.',
    }),
    kmp_enc_alg: directive({
      is: listOf(cipher('ikev1')),
      default: '{ aes256_cbc; aes128_cbc; }',
      once: true,
      by: ['iked'],
      doc: 'Ciphers of the ISAKMP SA, best first. Every cipher is offered with every hash and group, in one datagram: keep the lists short.',
    }),
    kmp_hash_alg: directive({
      is: listOf(hash),
      default: '{ sha2_256; sha2_384; sha2_512; }',
      once: true,
      by: ['iked'],
      doc: 'Hashes of the ISAKMP SA; the HMAC of the hash is the pseudorandom function.',
    }),
    kmp_prf_alg: without(SHARED.kmp_prf_alg, "IKEv1's pseudorandom function is the HMAC of kmp_hash_alg"),
    kmp_dh_group: directive({
      is: listOf(groupV1),
      default: GROUPS_V1,
      once: true,
      by: ['iked'],
      doc: 'Diffie-Hellman groups, by name or number, best first; quick mode with `need_pfs` takes the first.',
    }),
    nonce_size: directive({ is: octets(8, 256), default: '32', by: ['iked'], doc: 'Octets of a nonce.' }),
    need_pfs: directive({
      is: boolean,
      default: 'off',
      by: ['iked'],
      doc: 'Whether every quick mode has a Diffie-Hellman exchange of its own.',
    }),
    proposal_check: directive({
      is: PROPOSAL_CHECK,
      default: 'claim',
      by: ['iked'],
      doc: "How a responder takes lifetimes and groups that differ from its own: the peer's (`obey`), only what is no longer and of our group (`strict`), the shorter and of our group (`claim`), or only the same (`exact`).",
    }),
    selector_check: without(SHARED.selector_check, 'quick mode names its mode, and only that of the policy is accepted'),
    random_pad_content: without(SHARED.random_pad_content, PADDING),
    random_padlen: without(SHARED.random_padlen, PADDING),
    max_padlen: without(SHARED.max_padlen, PADDING),
  },
} as const;
