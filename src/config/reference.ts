/** `docs/config.md`, written from the schema: it is never edited by hand, and a test fails when it is out of date. */

import { ENCR, ENCR_NAMES, INTEG, INTEG_NAMES, KE, PRF } from '../crypto/transforms.ts';
import { MESSAGE_TYPES } from '../net/message-types.ts';
import { PROTOCOL } from '../net/transport.ts';
import { MACROS } from './addresses.ts';
import { hashWord, IN_IKEV1 } from './algorithms.ts';
import type { BlockSpec, Directive, Words } from './blocks.ts';
import { ADDRESSPOOL, IKEV1, IKEV2, KINK, TABLES } from './schema.ts';

const HEAD = `# The policy language

<!-- Written from src/config/schema.ts by test/unit/config/reference.test.ts (UPDATE_DOCS=1). Do not edit. -->

A policy file says who the peers are, which traffic is protected, and how. The language is racoon2's; what is new or different is said
at its place. \`tanuki lint FILE\` reports every mistake of a file with line and column, \`tanuki lint --print FILE\` writes it out with all
defaults. \`policies/\` has examples.

## A short one

\`\`\`
remote office {
  ikev2 {
    peers_ipaddr 192.0.2.1;
    pre_shared_key "/etc/tanuki/office.psk";
  };
};

selector to_office {
  direction both;
  src 10.2.0.0/16;
  dst 10.1.0.0/16;
  policy_index to_office;
};

policy to_office { remote_index office; };
\`\`\`

## Form

- A directive is \`word value;\`, a block \`word [name] { … };\`. Every one ends with \`;\`. White space and line ends have no meaning; \`#\` starts a comment.
- A word is made of letters, digits and \`% * - . / : ? @ _\`. Anything else, and any variable, goes into a \`"quoted string"\`, which has no escapes.
- A list is one bare element or \`{ a; b; }\`, with a \`;\` behind every element.
- Booleans: \`on\`, \`enable\`, \`yes\` and \`off\`, \`disable\`, \`no\`. Numbers are decimal or hexadecimal after \`0x\`.
- Times: \`N\` and \`sec\`, \`min\`, \`hour\` or \`day\` (or their longer forms); octets: \`N\` and \`B\`, \`KB\`, \`MB\`, \`GB\` or \`TB\`, in powers of 1024. A space
  stands between number and unit. \`infinite\` is a value of its own: it overrides a finite default.
- The order of sections is free. A directive that is written twice in a block counts the last time, with a warning.
- Relative paths start at the folder of the file that says them.

## Variables and includes

\`setval { NAME "value"; };\` defines \`\${NAME}\`, and \`$[NAME]\` is the environment's; both are replaced inside words and strings, where they can stand for
names, addresses, paths and values, and never for a \`;\` or a list. None is predefined. \`include "PATTERN";\` at the top level reads files; its pattern knows \`*\`, \`?\` and \`$[NAME]\`, and a
leading \`~/\`. Includes nest up to ten deep. Files must belong to the user or to root and must not be writable by others.

## Addresses

\`ADDRESS[/PREFIX] [port PORT]\`, where the address is numeric, a host name where names are allowed, or a macro:
${MACROS.map((macro) => `\`${macro}\``).join(', ')}. The \`MY_\` macros are this host's addresses, of one interface with \`%NAME\` behind them. \`IP_ANY\` is any address; \`IP_RW\` too,
and marks a road warrior, whose policies come to be when it negotiates. A port is a number, a service name or \`any\`.

Behind a protocol that has message types, \`upper_layer_protocol\` takes one, by number or name, and for ICMP a code: \`icmpv6 128\`, \`mh bu\`. Names of the Mobility Header
(\`mh\`): ${typeNames(PROTOCOL.mobility)}; of \`icmpv6\`: ${typeNames(PROTOCOL.icmpv6)}; of \`icmp\`: ${typeNames(PROTOCOL.icmp)}.
\`direction both\` takes the type as it is for the way back, except where one side only asks and the other only answers: \`bu\` and \`ba\`, \`hoti\` and \`hot\`, \`coti\` and \`cot\`,
home agent discovery and mobile prefix messages become each other, which makes one pair of SAs of both (RFC 4877). Type 0 cannot be told from any type.

An identity is \`TYPE VALUE\`: \`ipaddr\` with an address, \`fqdn\` and \`email\` with a name, \`keyid tag\` with the identity itself, \`keyid file\` with a file that holds it,
\`x509_subject\` with a certificate.

## Inheritance

A value comes from the section itself, else from \`default { }\`, else from the tables below. That holds for every directive of \`remote\`, \`policy\`, \`ipsec\` and \`sa\` and
for every daemon alike. Lists replace, they never merge.

## What differs from racoon2

- \`infinite\`, \`0\` and "not set" are three values; a \`0\` where only "not set" or "no limit" can be meant says so in a warning.
- Names need quotes only when they hold other characters. Quoted keywords are fine too.
- \`default { remote { } }\` only passes values on; unknown peers are served where a remote says \`peers_ipaddr IP_ANY\` or \`IP_RW\`.
- Both roles compare the peer's identity with \`peers_id\`. Weak algorithms are offered only where they are named.
- A remote speaks what its \`acceptable_kmp\` lists, the first initiates; without a list, the protocols that it has a block for.
- IKEv1 speaks main mode only, and \`verify_id\` is on. \`proposal_check\` is \`claim\` unless written: the shorter lifetime counts, and it is said to the peer.
- A Kerberos principal names its realm, or \`kerberos { realm }\` does. What a KINK peer may ask for follows from the policies that name its remote.
- What no selector matches passes, unless \`default { policy { action discard; }; };\` says otherwise.
- UDP port 4500 is the datapath's: an entry for it in \`ike\` is not needed and left out.
- What is not built yet is accepted with a warning and has no effect; an \`ipsec\` of AH and ESP together is not offered to a remote that speaks IKEv2, which cannot say so, and \`ipcomp\` beside them has no effect for it; a policy that offers nothing else drops its traffic.

## Algorithms
`;

function typeNames(protocol: number): string {
  return Object.entries(MESSAGE_TYPES[protocol] ?? {})
    .map(([name, type]) => `\`${name}\` ${type}`)
    .join(', ');
}

export function renderReference(): string {
  const words = (table: object) => Object.keys(table).map((word) => `\`${word}\``);
  const weak = (table: Readonly<Record<string, { readonly weak: boolean }>>) =>
    Object.entries(table)
      .map(([word, row]) => `\`${word}\`${row.weak ? ' (weak)' : ''}`)
      .join(', ');
  const named = (names: readonly string[]) => names.map((word) => `\`${word}\``).join(', ');
  return [
    HEAD,
    `- Ciphers: ${weak(ENCR)}. A length in bits goes behind a comma (\`aes_cbc, 128\`) or into the word (\`aes128_cbc\`, \`aes256_gcm_16\`); racoon2's \`rijndael_cbc\` is \`aes_cbc\`. Not for an IKE SA: ${named(ENCR_NAMES.filter((name) => !ENCR[name].ike))}. \`…_iiv\` spares the IV in each packet (RFC 8750): offer the same cipher without it too, for peers that lack it.`,
    `- Integrity: ${weak(INTEG)}, and \`non_auth\` for none. For AH only: ${named(INTEG_NAMES.filter((name) => !INTEG[name].esp))}; not for an IKE SA: \`hmac_md5\`.`,
    `- Pseudorandom functions: ${weak(PRF)}.`,
    `- Key exchange: ${weak(KE)}; or their IKEv2 numbers, ${words(KE).length} in all.`,
    `- IKEv1 has numbers for the ciphers ${named(IN_IKEV1.encr)}, the hashes ${named(IN_IKEV1.hash.map(hashWord))} and the groups ${named(IN_IKEV1.groups)} only.`,
    `- ESP that IKEv1 or KINK negotiates: the ciphers ${named(IN_IKEV1.espEncr)}, and for those that are no AEAD ${named(IN_IKEV1.espAuth)} or \`non_auth\`; AH that they negotiate: ${named(IN_IKEV1.ahAuth)}. What else a policy offers is left out, with a warning.`,
    '',
    '## Directives',
    '',
    '"Not yet" in front of a sentence: the directive is accepted with a warning and has no effect.',
    ...TABLES.map(section),
    '',
    `### \`${ADDRESSPOOL.title}\``,
    '',
    `${ADDRESSPOOL.doc} Not yet: ${ADDRESSPOOL.unbuilt}.`,
    '',
  ].join('\n');
}

function section(spec: BlockSpec<Words>): string {
  // The other protocols share most words with ikev2 { }: only what differs is worth reading again.
  const shares = spec === (IKEV1 as BlockSpec<Words>) || spec === (KINK as BlockSpec<Words>);
  const rows = Object.entries(spec.words).filter(([word, row]) => !shares || (IKEV2.words as Words)[word] !== row);
  const idle = shares ? rows.filter(([, row]) => row.ignored !== undefined) : [];
  const lines = rows
    .filter((row) => !idle.includes(row))
    .map(
      ([word, row]) =>
        `| \`${word}\` | ${cell(row.is.syntax)} | ${row.default === undefined ? '' : cell(row.default)} | ${row.by.join(', ')} | ${sentence(row)} |`,
    );
  return [
    '',
    `### \`${spec.title}\``,
    '',
    spec.doc + (shares ? ' Words that it shares with `ikev2 { }` and that are not listed here are as they are there.' : ''),
    '',
    '| directive | value | default | daemon | |',
    '| --- | --- | --- | --- | --- |',
    ...lines,
    ...(idle.length === 0 ? [] : ['', `Without an effect in \`${spec.title}\`, each with a warning:`, '', ...byReason(idle)]),
  ].join('\n');
}

/** A line a reason, with the words that have no effect because of it. */
function byReason(rows: readonly (readonly [string, Directive<unknown>])[]): readonly string[] {
  const reasons = new Map<string, string[]>();
  for (const [word, { ignored = '' }] of rows) reasons.set(ignored, [...(reasons.get(ignored) ?? []), `\`${word}\``]);
  return [...reasons].map(([reason, words]) => `- ${words.join(', ')}: ${reason}.`);
}

function cell(text: string): string {
  return `\`${text.replaceAll('|', '\\|')}\``;
}

function sentence({ doc, unbuilt, ignored }: Directive<unknown>): string {
  const text = doc.replaceAll('|', '\\|');
  if (unbuilt !== undefined) return `Not yet (${unbuilt}): ${text}`;
  return ignored === undefined ? text : `No effect (${ignored}): ${text}`;
}
