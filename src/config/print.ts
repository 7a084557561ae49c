/** A `Config` as policy text with every value written out, for `tanuki lint --print`. Compiling the text gives the same `Config`. */

import { IpAddress } from '../net/address.ts';
import { hasTypes } from '../net/message-types.ts';
import { bitsOf } from '../net/prefix.ts';
import { hashWord, writeCipher } from './algorithms.ts';
import type {
  AddressSpec,
  Config,
  IdentityConfig,
  Ikev1Config,
  Ikev2Config,
  InterfaceConfig,
  IpsecConfig,
  KerberosConfig,
  KinkConfig,
  Limit,
  PolicyConfig,
  RemoteConfig,
  SaConfig,
  SelectorConfig,
} from './config.ts';

/** A directive's line, a block of lines, or nothing where there is no value to write. */
type Line = string | { readonly open: string; readonly lines: readonly Line[] } | undefined;

export function print(config: Config): string {
  const policies = new Map(config.selectors.map(({ policy }) => [policy.name, policy]));
  const ipsecs = new Map([...policies.values()].flatMap((policy) => policy.ipsec).map((ipsec) => [ipsec.name, ipsec]));
  const sas = new Map([...ipsecs.values()].flatMap((ipsec) => ipsec.sas).map((sa) => [sa.name, sa]));
  const sections: Line[] = [
    ...hostSections(config),
    config.unmatched === 'discard' ? block('default', [block('policy', ['action discard;'])]) : undefined,
    kerberosSection(config.kerberos),
    ...config.remotes.map(remoteSection),
    ...config.selectors.map(selectorSection),
    ...[...policies.values()].map(policySection),
    ...[...ipsecs.values()].map(ipsecSection),
    ...[...sas.values()].map(saSection),
    ...config.addressPools.map(({ name, ranges }) =>
      named(
        'addresspool',
        name,
        ranges.map(({ start, end }) => `${start} - ${end};`),
      ),
    ),
  ];
  return `${sections.flatMap((section) => lay(section, '')).join('\n')}\n`;
}

function lay(line: Line, indent: string): string[] {
  if (line === undefined) return [];
  if (typeof line === 'string') return [indent + line];
  return [`${indent}${line.open} {`, ...line.lines.flatMap((inner) => lay(inner, `${indent}  `)), `${indent}};`];
}

function block(open: string, lines: readonly Line[]): Line {
  return { open, lines };
}

function named(word: string, name: string, lines: readonly Line[]): Line {
  return block(`${word} ${quote(name)}`, lines);
}

/** Strings of the language have no escapes; a compiled one never holds a quote. */
function quote(text: string): string {
  return `"${text}"`;
}

function onOff(value: boolean): string {
  return value ? 'on' : 'off';
}

function list<T>(word: string, values: readonly T[], write: (value: T) => string): Line {
  return values.length === 0 ? undefined : `${word} { ${values.map((value) => `${write(value)};`).join(' ')} };`;
}

function optional(word: string, value: string | undefined): Line {
  return value === undefined ? undefined : `${word} ${value};`;
}

function time(value: Limit): string {
  return value === 'infinite' ? value : `${value / 1000} sec`;
}

function writeAddress(spec: AddressSpec): string {
  const port = spec.port === 0 ? '' : ` port ${spec.port}`;
  if (spec.kind === 'fqdn') return quote(spec.name) + port;
  if (spec.kind === 'macro') {
    const device = spec.interface === undefined ? '' : `%${spec.interface}`;
    return quote(spec.macro + device + (spec.prefixLength === 0 ? '' : `/${spec.prefixLength}`)) + port;
  }
  const full = bitsOf(IpAddress.parse(spec.address)?.family ?? 6) === spec.prefixLength;
  return quote(full ? spec.address : `${spec.address}/${spec.prefixLength}`) + port;
}

function writeIdentity({ type, value, file }: IdentityConfig): string {
  return type === 'keyid' ? `keyid ${file ? 'file' : 'tag'} ${quote(value)}` : `${type} ${quote(value)}`;
}

function hostSections({ interface: host, logging, resolver }: Config): Line[] {
  const { limits } = host;
  return [
    block('interface', interfaceLines(host)),
    block('limits', [
      `half_open_sas ${limits.halfOpenSas};`,
      `cookie_threshold ${limits.cookieThreshold};`,
      `ike_sas ${limits.ikeSas};`,
      `child_sas_per_ike_sa ${limits.childSasPerIkeSa};`,
      `held_packets_per_policy ${limits.heldPacketsPerPolicy};`,
    ]),
    block('logging', [`level ${logging.level};`, `destination ${quote(logging.destination)};`, `format ${logging.format};`]),
    block('resolver', [
      `resolver ${onOff(resolver.on)};`,
      list('nameserver', resolver.nameservers, writeAddress),
      list('dns_query', resolver.dnsQuery, writeAddress),
    ]),
  ];
}

function interfaceLines(host: InterfaceConfig): Line[] {
  const { datapath } = host;
  return [
    list('ike', host.ike, writeAddress),
    list('kink', host.kink, writeAddress),
    optional('spmd', host.spmd === undefined ? undefined : `unix ${quote(host.spmd)}`),
    optional('spmd_password', host.spmdPassword === undefined ? undefined : quote(host.spmdPassword)),
    optional('pfkey', host.pfkey === undefined ? undefined : quote(host.pfkey)),
    optional('metrics', host.metrics && `${host.metrics.address} port ${host.metrics.port}`),
    `application_bypass ${onOff(host.applicationBypass)};`,
    block('datapath', [
      `backend ${datapath.backend};`,
      `device ${datapath.device};`,
      `name ${quote(datapath.name)};`,
      `mtu ${datapath.mtu};`,
      `encap_port ${datapath.encapPort};`,
      `encapsulation ${datapath.encapsulation};`,
      list('addresses', datapath.addresses, quote),
      `cipher ${datapath.cipher};`,
      `df ${datapath.df};`,
      `pmtu_floor ${datapath.pmtuFloor};`,
      `mss_clamp ${onOff(datapath.mssClamp)};`,
      `icmp_errors ${onOff(datapath.icmpErrors)};`,
      `dscp ${datapath.dscp};`,
      `decap_dscp ${onOff(datapath.decapDscp)};`,
      `spin ${datapath.spin};`,
      `dialect ${datapath.dialect};`,
      `ah_padding ${datapath.ahPadding};`,
    ]),
  ];
}

function kerberosSection({ backend, realm, kdcs, keytab, clockSkew }: KerberosConfig): Line {
  return block('kerberos', [
    `backend ${backend};`,
    optional('realm', realm === undefined ? undefined : quote(realm)),
    list('kdc', kdcs, ({ host, port }) => `${quote(host)} port ${port}`),
    `keytab ${quote(keytab)};`,
    `clock_skew ${time(clockSkew)};`,
  ]);
}

function remoteSection({ name, acceptableKmp, ikev2, ikev1, kink }: RemoteConfig): Line {
  // Spoken with by nothing that is built: a block of which the same is true.
  if (acceptableKmp.length === 0) return named('remote', name, [block('ikev2', ['kmp_auth_method rsasig;'])]);
  return named('remote', name, [
    list('acceptable_kmp', acceptableKmp, String),
    ikev2 === undefined ? undefined : block('ikev2', ikev2Lines(ikev2)),
    ikev1 === undefined ? undefined : block('ikev1', ikev1Lines(ikev1)),
    kink === undefined ? undefined : block('kink', kinkLines(kink)),
  ]);
}

/** What `ikev2` and `ikev1` have in common. */
function ikeLines(ike: Ikev2Config | Ikev1Config): Line[] {
  return [
    `passive ${onOff(ike.passive)};`,
    list('peers_ipaddr', ike.peersIpaddr, writeAddress),
    optional('my_id', ike.myId === undefined ? undefined : writeIdentity(ike.myId)),
    list('peers_id', ike.peersId, writeIdentity),
    `verify_id ${onOff(ike.verifyId)};`,
    list('kmp_auth_method', ike.authMethods, String),
    optional('pre_shared_key', ike.preSharedKey === undefined ? undefined : quote(ike.preSharedKey)),
    `psk_format ${ike.pskFormat};`,
    `nat_traversal ${onOff(ike.natTraversal)};`,
    `force_encapsulation ${onOff(ike.forceEncapsulation)};`,
    `dpd_delay ${time(ike.dpdDelay)};`,
    `kmp_sa_lifetime_time ${time(ike.saLifetime)};`,
    `kmp_sa_grace_period ${time(ike.gracePeriod)};`,
    ...commonLines(ike),
  ];
}

/** What all three have in common. */
function commonLines(block: Ikev2Config | Ikev1Config | KinkConfig): Line[] {
  return [
    `need_pfs ${onOff(block.needPfs)};`,
    `nonce_size ${block.nonceBytes};`,
    `max_retry_to_send ${block.maxRetries};`,
    `interval_to_send ${time(block.retryInterval)};`,
    `kmp_sa_nego_time_limit ${time(block.negotiationLimit)};`,
    list('script', Object.entries(block.scripts), ([event, file]) => `${event} ${quote(file)}`),
  ];
}

function ikev2Lines(ikev2: Ikev2Config): Line[] {
  return [
    ...ikeLines(ikev2),
    `send_peers_id ${onOff(ikev2.sendPeersId)};`,
    list('kmp_enc_alg', ikev2.encr, writeCipher),
    list('kmp_hash_alg', ikev2.integ, String),
    list('kmp_prf_alg', ikev2.prf, String),
    list('kmp_dh_group', ikev2.ke, String),
    `cookie_required ${onOff(ikev2.cookieRequired)};`,
    `selector_check ${ikev2.selectorCheck};`,
    `random_pad_content ${onOff(ikev2.randomPadContent)};`,
    `random_padlen ${onOff(ikev2.randomPadLength)};`,
    `max_padlen ${ikev2.maxPadLength};`,
  ];
}

function ikev1Lines(ikev1: Ikev1Config): Line[] {
  return [
    ...ikeLines(ikev1),
    list('kmp_enc_alg', ikev1.encr, writeCipher),
    list('kmp_hash_alg', ikev1.hash, hashWord),
    list('kmp_dh_group', ikev1.groups, String),
    `proposal_check ${ikev1.proposalCheck};`,
    `dpd ${onOff(ikev1.dpd)};`,
    `dpd_retry ${time(ikev1.dpdRetry)};`,
    `dpd_maxfail ${ikev1.dpdMaxFail};`,
  ];
}

function kinkLines(kink: KinkConfig): Line[] {
  return [
    `passive ${onOff(kink.passive)};`,
    list('peers_ipaddr', kink.peersIpaddr, writeAddress),
    `my_principal ${quote(kink.myPrincipal)};`,
    `peers_principal ${quote(kink.peersPrincipal)};`,
    list('kmp_dh_group', kink.groups, String),
    `responder_nonce ${kink.responderNonce};`,
    `prf ${kink.prf};`,
    `clear_payloads ${onOff(kink.clearPayloads)};`,
    `proposal_check ${kink.proposalCheck};`,
    ...commonLines(kink),
  ];
}

function selectorSection(selector: SelectorConfig): Line {
  const numbers = hasTypes(selector.protocol);
  const code = selector.destinationPort === 0 ? '' : ` ${selector.destinationPort}`;
  const type = selector.sourcePort === 0 && code === '' ? '' : ` ${selector.sourcePort}${code}`;
  const withPort = (spec: AddressSpec, port: number): AddressSpec => ({ ...spec, port: numbers ? 0 : port });
  return named('selector', selector.name, [
    `order ${selector.order};`,
    `direction ${selector.direction};`,
    `src ${writeAddress(withPort(selector.source, selector.sourcePort))};`,
    `dst ${writeAddress(withPort(selector.destination, selector.destinationPort))};`,
    `upper_layer_protocol ${selector.protocol}${numbers ? type : ''};`,
    `reqid ${selector.reqid};`,
    `policy_index ${quote(selector.policy.name)};`,
  ]);
}

const ACTION = { protect: 'auto_ipsec', discard: 'discard', bypass: 'none' } as const;

function policySection(policy: PolicyConfig): Line {
  return named('policy', policy.name, [
    `action ${ACTION[policy.action]};`,
    `install ${onOff(policy.install)};`,
    optional('remote_index', policy.remote === undefined ? undefined : quote(policy.remote)),
    `ipsec_mode ${policy.mode};`,
    optional('my_sa_ipaddr', policy.mySaAddress === undefined ? undefined : writeAddress(policy.mySaAddress)),
    optional('peers_sa_ipaddr', policy.peersSaAddress === undefined ? undefined : writeAddress(policy.peersSaAddress)),
    `ipsec_level ${policy.level};`,
    `initiate ${policy.initiate};`,
    list('ipsec_index', policy.ipsec, ({ name }) => quote(name)),
  ]);
}

function ipsecSection(ipsec: IpsecConfig): Line {
  return named('ipsec', ipsec.name, [
    `ipsec_sa_lifetime_time ${time(ipsec.lifetimeTime)};`,
    `ipsec_sa_lifetime_byte ${ipsec.lifetimeBytes};`,
    `ipsec_sa_lifetime_packets ${ipsec.lifetimePackets};`,
    `ipsec_sa_lifetime_idle ${time(ipsec.lifetimeIdle)};`,
    `ext_sequence ${onOff(ipsec.extendedSequence)};`,
    `replay_window ${ipsec.replayWindow};`,
    `tfc_padding ${ipsec.tfcPadding};`,
    list('sa_index', ipsec.sas, ({ name }) => quote(name)),
  ]);
}

function saSection(sa: SaConfig): Line {
  return named('sa', sa.name, [
    `sa_protocol ${sa.protocol};`,
    list('esp_enc_alg', sa.encr, writeCipher),
    list(sa.protocol === 'ah' ? 'ah_auth_alg' : 'esp_auth_alg', sa.auth, (name) => (name === 'none' ? 'non_auth' : name)),
  ]);
}
