/** The directives of `remote` and of its `ikev2` block; `schema-ikev1.ts` and `schema-kink.ts` have those of the other protocols. */

import { address, LITERAL } from './addresses.ts';
import { block, directive } from './blocks.ts';
import type { Kmp } from './config.ts';
import { boolean, choice, integer, listOf, nameOf, text } from './kinds.ts';
import { IKEV1 } from './schema-ikev1.ts';
import { KINK } from './schema-kink.ts';
import { SHARED } from './schema-shared.ts';

/** All key management protocols, in the order in which a remote that does not say initiates. */
export const KMPS = ['ikev2', 'ikev1', 'kink'] as const satisfies readonly Kmp[];

const INT = 0x7fffffff;

const NO_CONFIGURATION_PAYLOAD = 'configuration payloads are not built yet';

export const PROVIDE = {
  title: 'provide { }',
  doc: 'What a responder gives away in configuration payloads.',
  words: {
    addresspool: directive({ is: nameOf('addresspool'), by: ['iked'], doc: 'The pool that addresses are leased from.' }),
    dns: directive({ is: listOf(address(LITERAL)), by: ['iked'], doc: 'Name servers.' }),
    dhcp: directive({ is: listOf(address(LITERAL)), by: ['iked'], doc: 'DHCP servers.' }),
    application_version: directive({ is: text, by: ['iked'], doc: 'Text of APPLICATION_VERSION.' }),
    mip6_home_prefix: directive({
      is: address({ ...LITERAL, prefixes: true }),
      by: ['iked'],
      doc: 'Home prefix of Mobile IPv6.',
    }),
  },
} as const;

const REQUESTS = [
  ...(['ip4', 'ip6', 'ip', 'ip4_dns', 'ip6_dns', 'dns', 'ip4_dhcp', 'ip6_dhcp', 'dhcp'] as const),
  ...(['application_version', 'mip6_home_prefix'] as const),
];
const requests = listOf(choice(REQUESTS), true);

export const IKEV2 = {
  title: 'ikev2 { }',
  doc: 'How IKEv2 (RFC 7296) is spoken with the peer.',
  aliases: { padlen_random: 'random_padlen' },
  words: {
    ...SHARED,
    send_peers_id: directive({
      is: boolean,
      default: 'off',
      by: ['iked'],
      doc: 'Whether the initiator names the peer it wants (IDr, the first of `peers_id`).',
    }),
    cookie_required: directive({
      is: boolean,
      default: 'off',
      by: ['iked'],
      doc: 'Whether a COOKIE is always demanded, not only under load.',
    }),
    provide: directive({ is: block(PROVIDE, true), by: ['iked'], unbuilt: NO_CONFIGURATION_PAYLOAD, doc: PROVIDE.doc }),
    request: directive({
      is: requests,
      by: ['iked'],
      unbuilt: NO_CONFIGURATION_PAYLOAD,
      doc: 'What an initiator asks for in configuration payloads.',
    }),
    require_config_payload: directive({
      is: boolean,
      by: ['iked'],
      unbuilt: NO_CONFIGURATION_PAYLOAD,
      doc: 'Whether the peer must ask for an address.',
    }),
    max_ip4_alloc: directive({
      is: integer(0, INT),
      by: ['iked'],
      unbuilt: NO_CONFIGURATION_PAYLOAD,
      doc: 'IPv4 addresses that a peer may lease.',
    }),
    max_ip6_alloc: directive({
      is: integer(0, INT),
      by: ['iked'],
      unbuilt: NO_CONFIGURATION_PAYLOAD,
      doc: 'IPv6 addresses that a peer may lease.',
    }),
  },
} as const;

export const REMOTE = {
  title: 'remote NAME { }',
  doc: 'A peer: where it is, who it is, how it proves that, what is offered to it.',
  words: {
    acceptable_kmp: directive({
      is: listOf(choice(KMPS)),
      by: ['iked', 'kinkd'],
      doc: 'Protocols that are answered; the first initiates. Without it, those that have a block, or `ikev2`.',
    }),
    ikev2: directive({ is: block(IKEV2), by: ['iked'], doc: 'Parameters of IKEv2.' }),
    ikev1: directive({ is: block(IKEV1), by: ['iked'], doc: 'Parameters of IKEv1.' }),
    kink: directive({ is: block(KINK), by: ['kinkd'], doc: 'Parameters of KINK.' }),
    selector_index: directive({
      is: nameOf('selector'),
      by: ['kinkd'],
      ignored: 'kinkd finds what a peer may ask for by the policies that name the remote',
      doc: "Was racoon2's inbound selector of a KINK peer.",
    }),
  },
} as const;
