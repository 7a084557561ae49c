/** The `ikev2`, `ikev1` and `kink` blocks of a remote to their compiled form; undefined where a block can have no effect yet. */

import { isAead, type Known, LEFT_OUT } from './algorithms.ts';
import type { Layers } from './blocks.ts';
import type { AddressSpec, IdentityConfig, Ikev1Config, Ikev2Config, KerberosConfig, KinkConfig, Kmp } from './config.ts';
import { type Diagnostics, quoted, type Span } from './diagnostics.ts';
import type { Placed } from './kinds.ts';
import type { IKEV1, IKEV2, KINK, REMOTE } from './schema.ts';
import { type PrincipalConfig, splitPrincipal } from './schema-kink.ts';
import type { SHARED } from './schema-shared.ts';
import type { Named } from './sections.ts';

type Remote = Named<typeof REMOTE.words>;

/** Protocols as messages name them. */
export const KMP_NAMES = { ikev1: 'IKEv1', ikev2: 'IKEv2', kink: 'KINK' } as const satisfies Record<Kmp, string>;

export function compileIkev2(
  { values, at, written, own }: Layers<typeof IKEV2.words>,
  remote: Remote,
  report: Diagnostics,
): Ikev2Config | undefined {
  const identities = compileIdentities({ values, at, written }, 'ikev2', remote, report);
  if (identities === undefined) return undefined;
  const encr = offered(values.kmp_enc_alg, 'kmp_enc_alg', at('kmp_enc_alg'), report);
  if (own('kmp_hash_alg') && encr.length > 0 && encr.every((cipher) => isAead(cipher.name))) {
    report.warning(
      at('kmp_hash_alg'),
      '`kmp_hash_alg` has no effect: every cipher of the remote authenticates by itself',
      'leave it out',
    );
  }
  if (values.kmp_sa_lifetime_time === 'infinite') noteEndless('IKE', at('kmp_sa_lifetime_time'), report);
  warnNames(values.peers_ipaddr, report);
  if (values.send_peers_id && identities.peersId.length === 0)
    report.error(at('send_peers_id'), 'there is no identity to send', 'write peers_id');
  return {
    passive: values.passive,
    peersIpaddr: valuesOf(values.peers_ipaddr),
    ...identities,
    sendPeersId: values.send_peers_id,
    encr,
    integ: offered(values.kmp_hash_alg, 'kmp_hash_alg', at('kmp_hash_alg'), report),
    prf: offered(values.kmp_prf_alg, 'kmp_prf_alg', at('kmp_prf_alg'), report),
    ke: offered(values.kmp_dh_group, 'kmp_dh_group', at('kmp_dh_group'), report),
    needPfs: values.need_pfs,
    nonceBytes: values.nonce_size,
    cookieRequired: values.cookie_required,
    natTraversal: values.nat_traversal,
    forceEncapsulation: values.force_encapsulation,
    dpdDelay: values.dpd_delay,
    maxRetries: values.max_retry_to_send,
    retryInterval: values.interval_to_send,
    saLifetime: values.kmp_sa_lifetime_time,
    negotiationLimit: values.kmp_sa_nego_time_limit,
    gracePeriod: values.kmp_sa_grace_period,
    selectorCheck: values.selector_check,
    randomPadContent: values.random_pad_content,
    randomPadLength: values.random_padlen,
    maxPadLength: values.max_padlen,
    scripts: scriptsOf(values.script),
  };
}

export function compileIkev1(
  { values, at, written }: Layers<typeof IKEV1.words>,
  remote: Remote,
  report: Diagnostics,
): Ikev1Config | undefined {
  const identities = compileIdentities({ values, at, written }, 'ikev1', remote, report);
  if (identities === undefined) return undefined;
  checkMode(values.exchange_mode, report);
  if (values.kmp_sa_lifetime_time === 'infinite') noteEndless('ISAKMP', at('kmp_sa_lifetime_time'), report);
  warnNames(values.peers_ipaddr, report);
  return {
    passive: values.passive,
    peersIpaddr: valuesOf(values.peers_ipaddr),
    ...identities,
    encr: offered(values.kmp_enc_alg, 'kmp_enc_alg', at('kmp_enc_alg'), report),
    hash: offered(values.kmp_hash_alg, 'kmp_hash_alg', at('kmp_hash_alg'), report),
    groups: offered(values.kmp_dh_group, 'kmp_dh_group', at('kmp_dh_group'), report),
    needPfs: values.need_pfs,
    nonceBytes: values.nonce_size,
    natTraversal: values.nat_traversal,
    forceEncapsulation: values.force_encapsulation,
    proposalCheck: values.proposal_check,
    dpd: values.dpd,
    dpdDelay: values.dpd_delay,
    dpdRetry: values.dpd_retry,
    dpdMaxFail: values.dpd_maxfail,
    maxRetries: values.max_retry_to_send,
    retryInterval: values.interval_to_send,
    saLifetime: values.kmp_sa_lifetime_time,
    negotiationLimit: values.kmp_sa_nego_time_limit,
    gracePeriod: values.kmp_sa_grace_period,
    scripts: scriptsOf(values.script),
  };
}

/** Main mode is the only one: without it nothing can be negotiated, with it the others are left out. */
function checkMode(modes: readonly Placed<'main' | 'aggressive' | 'base' | 'all'>[], report: Diagnostics): void {
  const main = modes.some(({ value }) => value === 'main' || value === 'all');
  for (const { value, at } of modes) {
    if (value === 'main') continue;
    const why = value === 'aggressive' ? 'it shows a hash of the pre-shared key to whoever asks' : 'no peer of today needs it';
    if (value === 'all') report.warning(at, '`all` means main mode here: no other is spoken', 'write exchange_mode main;');
    else if (main) report.warning(at, `${quoted(value)} mode has no effect: only main mode is spoken`, why);
    else
      report.error(at, `${quoted(value)} mode is not spoken: ${why}`, 'write exchange_mode main; and set the peer to main mode');
  }
}

export function compileKink(
  { values, at, written }: Layers<typeof KINK.words>,
  remote: Remote,
  { backend, realm, kdcs }: KerberosConfig,
  report: Diagnostics,
): KinkConfig | undefined {
  const complete = (word: 'my_principal' | 'peers_principal', principal: PrincipalConfig): string | undefined => {
    const found = principal.realm ?? realm;
    if (found !== undefined) return `${principal.name}@${found}`;
    report.error(
      at(word),
      `the principal ${quoted(principal.name)} has no realm`,
      `write "${principal.name}@REALM", or kerberos { realm REALM; };`,
    );
    return undefined;
  };
  const named = values.peers_ipaddr?.find(({ value }) => value.kind === 'fqdn')?.value;
  const built = named?.kind === 'fqdn' ? { name: `kink/${named.name.toLowerCase()}`, realm: undefined } : undefined;
  const mine = values.my_principal;
  const peers = values.peers_principal ?? built;
  for (const [word, value, whose] of [
    ['my_principal', mine, 'ours'],
    ['peers_principal', peers, "the peer's"],
  ] as const) {
    if (value === undefined && !written(word))
      report.error(
        remote.at,
        `the remote ${quoted(remote.name)} speaks KINK and names no principal of ${whose}`,
        `write ${word} "kink/HOST@REALM"; in its kink block`,
      );
  }
  if (values.responder_nonce === 'never')
    report.warning(
      at('responder_nonce'),
      '`never` lets a replayed request make us use a key twice, which reveals the traffic of counter-mode ciphers',
      'write responder_nonce auto;',
    );
  if (values.clear_payloads)
    report.warning(
      at('clear_payloads'),
      'what is negotiated may be read on the way',
      'leave it out unless the peer cannot encrypt',
    );
  warnNames(values.peers_ipaddr, report);
  const myPrincipal = mine === undefined ? undefined : complete('my_principal', mine);
  const peersPrincipal = peers === undefined ? undefined : complete('peers_principal', peers);
  if (myPrincipal === undefined || peersPrincipal === undefined) return undefined;
  if (backend === 'builtin' && !values.passive) {
    if (kdcs.length === 0)
      report.warning(
        remote.at,
        `the remote ${quoted(remote.name)} can be answered only: \`backend builtin\` has no KDC to get a ticket from`,
        'write kerberos { kdc ADDRESS; };',
      );
    const ours = splitPrincipal(myPrincipal)?.realm ?? '';
    if (splitPrincipal(peersPrincipal)?.realm !== ours)
      report.warning(
        at('peers_principal'),
        `${quoted(peersPrincipal)} can be answered only: \`backend builtin\` gets tickets of the realm ${quoted(ours)} alone`,
        'write kerberos { backend node_krb5; };',
      );
  }
  return {
    passive: values.passive,
    peersIpaddr: valuesOf(values.peers_ipaddr),
    myPrincipal,
    peersPrincipal,
    needPfs: values.need_pfs,
    groups: offered(values.kmp_dh_group, 'kmp_dh_group', at('kmp_dh_group'), report),
    nonceBytes: values.nonce_size,
    responderNonce: values.responder_nonce,
    prf: values.prf,
    clearPayloads: values.clear_payloads,
    proposalCheck: values.proposal_check,
    maxRetries: values.max_retry_to_send,
    retryInterval: values.interval_to_send,
    negotiationLimit: values.kmp_sa_nego_time_limit,
    scripts: scriptsOf(values.script),
  };
}

/** The words of `ikev2` and `ikev1` that say who is who and how that is proven. */
type IdentityWords = Pick<
  typeof SHARED,
  'my_id' | 'peers_id' | 'verify_id' | 'kmp_auth_method' | 'pre_shared_key' | 'psk_format'
>;

type Identities = Pick<Ikev1Config, 'myId' | 'peersId' | 'verifyId' | 'authMethods' | 'preSharedKey' | 'pskFormat'>;

function compileIdentities(
  { values, at, written }: Pick<Layers<IdentityWords>, 'values' | 'at' | 'written'>,
  kmp: Kmp,
  remote: Remote,
  report: Diagnostics,
): Identities | undefined {
  const authMethods = methods(values.kmp_auth_method, report);
  if (authMethods.length === 0) {
    report.warning(
      at('kmp_auth_method'),
      `the remote ${quoted(remote.name)} does not speak ${KMP_NAMES[kmp]} yet: none of its authentication methods is built`,
      'write kmp_auth_method psk;',
    );
    return undefined;
  }
  if (!written('pre_shared_key')) {
    report.error(
      remote.at,
      `the remote ${quoted(remote.name)} authenticates with a pre-shared key and names none`,
      `write pre_shared_key "FILE"; in its ${kmp} block`,
    );
  }
  const [myId, another] = values.my_id ?? [];
  if (another !== undefined)
    report.warning(another.at, 'only the first identity of `my_id` is shown to the peer', 'take the others out');
  if (!values.verify_id)
    report.warning(
      at('verify_id'),
      "the peer's identity is not checked: whoever has the key is served",
      'write verify_id on; and peers_id',
    );
  for (const { value, at: place } of [...(values.my_id ?? []), ...(values.peers_id ?? [])]) {
    if (value.type === 'x509_subject')
      report.warning(place, 'the identity has no effect yet: certificates are not built', 'use fqdn, email, keyid or ipaddr');
  }
  const usable = (id: IdentityConfig) => id.type !== 'x509_subject';
  const peersId = valuesOf(values.peers_id).filter(usable);
  if (values.verify_id && values.peers_id !== undefined && peersId.length === 0) {
    report.warning(
      at('peers_id'),
      `the remote ${quoted(remote.name)} does not speak ${KMP_NAMES[kmp]} yet: it knows the peer by a certificate only`,
      'write another identity',
    );
    return undefined;
  }
  return {
    myId: myId !== undefined && usable(myId.value) ? myId.value : undefined,
    peersId,
    verifyId: values.verify_id,
    authMethods,
    preSharedKey: values.pre_shared_key,
    pskFormat: values.psk_format,
  };
}

function noteEndless(what: 'IKE' | 'ISAKMP', at: Span, report: Diagnostics): void {
  report.note(
    at,
    `the ${what} SA is never rekeyed; racoon2 took \`infinite\` as "not set"`,
    'write a time, or leave it if that is meant',
  );
}

function scriptsOf(
  list: readonly Placed<{ readonly event: string; readonly file: string }>[] | undefined,
): Readonly<Record<string, string>> {
  return Object.fromEntries(valuesOf(list).map(({ event, file }) => [event, file]));
}

/** The values of a list without their places. */
export function valuesOf<T>(list: readonly Placed<T>[] | undefined): readonly T[] {
  return (list ?? []).map((item) => item.value);
}

/** What is left of a list of algorithms: known ones, each once. Reports repetitions, and a list of which nothing is left. */
export function offered<T>(list: readonly Placed<Known<T>>[], word: string, at: Span, report: Diagnostics): readonly T[] {
  const found = new Map<string, T>();
  for (const { value, at: place } of list) {
    if (value === LEFT_OUT) continue;
    const key = JSON.stringify(value);
    if (found.has(key)) report.warning(place, 'the algorithm is in the list already', 'take one of them out');
    else found.set(key, value as T);
  }
  if (found.size === 0)
    report.error(
      at,
      `none of the algorithms of ${quoted(word)} is available`,
      'name one that Tanuki has, or leave the directive out',
    );
  return [...found.values()];
}

/** Names are kept for the day when they are resolved. */
export function warnNames(list: readonly Placed<AddressSpec>[] | undefined, report: Diagnostics): void {
  for (const { value, at } of list ?? []) {
    if (value.kind === 'fqdn')
      report.warning(at, `the name ${quoted(value.name)} has no effect yet: names are not resolved`, 'write a numeric address');
  }
}

/** Only `psk` is built; the other words of racoon2 are left out, each with its warning. */
function methods(list: readonly Placed<string>[], report: Diagnostics): readonly 'psk'[] {
  let psk = false;
  for (const { value, at } of list) {
    if (value === 'psk') psk = true;
    else report.warning(at, `the authentication method ${quoted(value)} has no effect yet`, 'psk is built');
  }
  return psk ? ['psk'] : [];
}
