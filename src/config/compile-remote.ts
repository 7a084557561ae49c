/** `remote` sections to `RemoteConfig`: inheritance, identities, algorithms, and what cannot work. */

import { isAead, type Known, LEFT_OUT } from './algorithms.ts';
import { type Block, type Layers, settle } from './blocks.ts';
import type { AddressSpec, IdentityConfig, Ikev2Config, RemoteConfig } from './config.ts';
import { type Diagnostics, quoted, type Span } from './diagnostics.ts';
import type { Placed } from './kinds.ts';
import { IKEV2, REMOTE } from './schema.ts';
import type { Named, Sections } from './sections.ts';

type Words = typeof IKEV2.words;

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

/** The `peers_ipaddr` of a remote as written or inherited. */
export function peersAddresses(remote: Named<typeof REMOTE.words> | undefined, sections: Sections): readonly AddressSpec[] {
  const own = remote?.block.entries.ikev2?.value?.entries.peers_ipaddr?.value;
  const inherited = sections.default?.entries.remote?.value?.entries.ikev2?.value?.entries.peers_ipaddr?.value;
  return valuesOf(own ?? inherited);
}

export function compileRemote(remote: Named<typeof REMOTE.words>, sections: Sections, report: Diagnostics): RemoteConfig {
  const common = sections.default?.entries.remote?.value;
  const { values, at, own: mine } = settle(REMOTE, remote.at, remote.block, common);
  const wanted = acceptable();
  const acceptableKmp: 'ikev2'[] = [];
  for (const { value, at: place } of wanted) {
    if (value === 'ikev2') acceptableKmp.push(value);
    else if (mine('acceptable_kmp') && wanted.some((other) => other.value === 'ikev2'))
      report.warning(place, `${quoted(value)} is not spoken yet`, 'Tanuki speaks ikev2');
  }
  if (acceptableKmp.length === 0) {
    report.warning(
      mine('acceptable_kmp') ? at('acceptable_kmp') : remote.at,
      `the remote ${quoted(remote.name)} has no effect yet: it is for protocols that are not built`,
      'add ikev2',
    );
    return { name: remote.name, acceptableKmp, ikev2: undefined };
  }
  const own = remote.block.entries.ikev2;
  const ikev2 = compileIkev2(settle(IKEV2, own?.at ?? remote.at, own?.value, common?.entries.ikev2?.value), remote, report);
  return { name: remote.name, acceptableKmp: ikev2 === undefined ? [] : ['ikev2'], ikev2 };

  /** An inherited list is for remotes that have a block for what is in it; without any list, the blocks tell. */
  function acceptable(): readonly Placed<Kmp>[] {
    const list = values.acceptable_kmp ?? [];
    const blocks = withBlock(remote.block);
    const inherited = blocks.length === 0 ? list : list.filter(({ value }) => blocks.includes(value));
    const found = mine('acceptable_kmp') ? list : inherited;
    if (found.length > 0) return found;
    const theirs = blocks.length > 0 ? blocks : withBlock(common);
    return (theirs.length > 0 ? theirs : (['ikev2'] as const)).map((value) => ({ value, at: remote.at }));
  }
}

type Kmp = 'ikev1' | 'ikev2' | 'kink';

/** The protocols that a remote has a block for, IKEv2 first. */
function withBlock(block: Block<typeof REMOTE.words> | undefined): readonly Kmp[] {
  return (['ikev2', 'ikev1', 'kink'] as const).filter((word) => block?.entries[word] !== undefined);
}

function compileIkev2(
  { values, at, written, own }: Layers<Words>,
  remote: Named<typeof REMOTE.words>,
  report: Diagnostics,
): Ikev2Config | undefined {
  const authMethods = methods(values.kmp_auth_method, report);
  if (authMethods.length === 0) {
    report.warning(
      at('kmp_auth_method'),
      `the remote ${quoted(remote.name)} has no effect yet: none of its authentication methods is built`,
      'write kmp_auth_method psk;',
    );
    return undefined;
  }
  if (!written('pre_shared_key')) {
    report.error(
      remote.at,
      `the remote ${quoted(remote.name)} authenticates with a pre-shared key and names none`,
      'write pre_shared_key "FILE"; in its ikev2 block',
    );
  }
  const encr = offered(values.kmp_enc_alg, 'kmp_enc_alg', at('kmp_enc_alg'), report);
  if (own('kmp_hash_alg') && encr.length > 0 && encr.every((cipher) => isAead(cipher.name))) {
    report.warning(
      at('kmp_hash_alg'),
      '`kmp_hash_alg` has no effect: every cipher of the remote authenticates by itself',
      'leave it out',
    );
  }
  if (values.kmp_sa_lifetime_time === 'infinite') {
    report.note(
      at('kmp_sa_lifetime_time'),
      'the IKE SA is never rekeyed; racoon2 took `infinite` as "not set"',
      'write a time, or leave it if that is meant',
    );
  }
  warnNames(values.peers_ipaddr, report);
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
      `the remote ${quoted(remote.name)} has no effect yet: it knows the peer by a certificate only`,
      'write another identity',
    );
    return undefined;
  }
  if (values.send_peers_id && peersId.length === 0)
    report.error(at('send_peers_id'), 'there is no identity to send', 'write peers_id');
  return {
    passive: values.passive,
    peersIpaddr: valuesOf(values.peers_ipaddr),
    myId: myId !== undefined && usable(myId.value) ? myId.value : undefined,
    peersId,
    verifyId: values.verify_id,
    sendPeersId: values.send_peers_id,
    authMethods,
    preSharedKey: values.pre_shared_key,
    pskFormat: values.psk_format,
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
    scripts: Object.fromEntries(valuesOf(values.script).map(({ event, file }) => [event, file])),
  };
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
