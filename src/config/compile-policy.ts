/** `policy`, `ipsec` and `sa` sections to their compiled form; what cannot be negotiated yet never makes a policy weaker than it was written. */

import { IpAddress } from '../net/address.ts';
import { isAead } from './algorithms.ts';
import type { Words } from './blocks.ts';
import { settle } from './blocks.ts';
import { offered } from './compile-kmp.ts';
import { peersAddresses } from './compile-remote.ts';
import type { AddressSpec, IpsecConfig, PolicyConfig, RemoteConfig, SaConfig } from './config.ts';
import { type Diagnostics, quoted, type Span } from './diagnostics.ts';
import { checkQuickModeOffers } from './quick-mode-offers.ts';
import { IPSEC, POLICY, SA } from './schema.ts';
import type { Named, Sections, Table } from './sections.ts';

/** The `ipsec` and `sa` that a policy uses which names none. A section of that name in the file takes its place. */
export const BUILT_IN = '(default)';

const ACTIONS = { auto_ipsec: 'protect', static_ipsec: 'protect', discard: 'discard', none: 'bypass' } as const;

/** Finds the section that a reference names; reports where there is none. */
export function resolve<W extends Words>(
  name: string,
  table: Table<W>,
  kind: string,
  at: Span,
  report: Diagnostics,
): Named<W> | undefined {
  const found = table.get(name);
  if (found !== undefined) return found;
  const near = report.near(name, table.keys());
  report.error(
    at,
    `there is no ${kind} ${quoted(name)}`,
    near === undefined ? `define it: ${kind} ${name} { … };` : `did you mean ${quoted(near)}?`,
  );
  return undefined;
}

/** Compiles each section once, however many refer to it, and remembers which were referred to. */
export class PolicyCompiler {
  readonly used = { remotes: new Set<string>(), policies: new Set<string>(), ipsecs: new Set<string>(), sas: new Set<string>() };
  private readonly sections: Sections;
  private readonly remotes: ReadonlyMap<string, RemoteConfig>;
  private readonly report: Diagnostics;
  private readonly policies = new Map<string, PolicyConfig>();
  private readonly ipsecs = new Map<string, IpsecConfig | undefined>();
  private readonly sas = new Map<string, SaConfig>();
  /** Where the `ext_sequence` of an alternative is written, and which lists of an SA are. */
  private readonly extSequences = new Map<IpsecConfig, Span>();
  /** Where each is written, and which of them a remote was said not to get as it is. */
  private readonly places = new Map<IpsecConfig, Span>();
  private readonly told = new Set<string>();
  private readonly lists = new Map<SaConfig, { readonly encr: boolean; readonly auth: boolean }>();
  private readonly tunnelEnd: AddressSpec;

  /** `ike` are the local addresses of IKE: where there is a single one, tunnels end there too. */
  constructor(sections: Sections, remotes: readonly RemoteConfig[], ike: readonly AddressSpec[], report: Diagnostics) {
    this.remotes = new Map(remotes.map((remote) => [remote.name, remote]));
    this.sections = sections;
    this.report = report;
    const [only] = ike;
    const single = ike.length === 1 && only?.kind === 'literal' ? only : undefined;
    this.tunnelEnd =
      single === undefined
        ? { kind: 'macro', macro: 'MY_IP', interface: undefined, prefixLength: 0, port: 0 }
        : { ...single, port: 0 };
  }

  policy(section: Named<typeof POLICY.words>): PolicyConfig {
    const known = this.policies.get(section.name);
    if (known !== undefined) return known;
    const compiled = this.compilePolicy(section);
    this.policies.set(section.name, compiled);
    return compiled;
  }

  /** Undefined where it cannot be negotiated yet. */
  ipsec(name: string, section: Named<typeof IPSEC.words> | undefined, at: Span): IpsecConfig | undefined {
    if (!this.ipsecs.has(name)) this.ipsecs.set(name, this.compileIpsec(name, section, at));
    return this.ipsecs.get(name);
  }

  sa(name: string, section: Named<typeof SA.words> | undefined, at: Span): SaConfig {
    const known = this.sas.get(name);
    if (known !== undefined) return known;
    const compiled = this.compileSa(name, section, at);
    this.sas.set(name, compiled);
    return compiled;
  }

  private compilePolicy(section: Named<typeof POLICY.words>): PolicyConfig {
    const { report, sections } = this;
    const { values, at, own } = settle(POLICY, section.at, section.block, sections.default?.entries.policy?.value);
    const { name } = section;
    const base = { name, install: values.install, level: values.ipsec_level, initiate: values.initiate };
    const action = ACTIONS[values.action];
    if (values.action === 'static_ipsec')
      report.error(at('action'), 'keys by hand (`static_ipsec`) do not exist in Tanuki', 'write action auto_ipsec;');
    if (!values.install)
      report.warning(at('install'), '`install off` has no effect yet: spmd installs the policy', 'leave it out');
    if (action !== 'protect') {
      for (const word of [
        'remote_index',
        'ipsec_index',
        'ipsec_mode',
        'my_sa_ipaddr',
        'peers_sa_ipaddr',
        'ipsec_level',
        'initiate',
      ] as const) {
        if (own(word))
          report.warning(
            at(word),
            `${quoted(word)} has no effect in a policy whose action is ${quoted(values.action)}`,
            'leave it out, or write action auto_ipsec;',
          );
      }
      return {
        ...base,
        action,
        remote: undefined,
        mode: values.ipsec_mode,
        mySaAddress: undefined,
        peersSaAddress: undefined,
        ipsec: [],
      };
    }
    const remote =
      values.remote_index === undefined
        ? undefined
        : resolve(values.remote_index.value, sections.remotes, 'remote', values.remote_index.at, report);
    if (values.remote_index === undefined)
      report.error(
        section.at,
        `the policy ${quoted(name)} does not say with whom keys are negotiated`,
        'write remote_index NAME;',
      );
    if (remote !== undefined) this.used.remotes.add(remote.name);
    if (values.ipsec_level === 'use') {
      report.warning(
        at('ipsec_level'),
        '`use` lets traffic pass in the clear while there is no SA',
        'write ipsec_level require;',
      );
    }
    const tunnel = values.ipsec_mode !== 'transport';
    if (!tunnel) {
      for (const word of ['my_sa_ipaddr', 'peers_sa_ipaddr'] as const) {
        if (own(word))
          report.warning(
            at(word),
            `${quoted(word)} has no effect in transport mode`,
            'leave it out, or write ipsec_mode tunnel;',
          );
      }
    }
    const mySaAddress = tunnel ? (values.my_sa_ipaddr ?? this.tunnelEnd) : undefined;
    const peersSaAddress = tunnel ? (values.peers_sa_ipaddr ?? tunnelEndOf(peersAddresses(remote, sections))) : undefined;
    if (tunnel && remote !== undefined && peersSaAddress === undefined) {
      report.error(section.at, `the policy ${quoted(name)} does not say where its tunnel ends`, 'write peers_sa_ipaddr ADDRESS;');
    }
    if (mySaAddress !== undefined && peersSaAddress !== undefined && differ(mySaAddress, peersSaAddress)) {
      report.error(
        at(own('peers_sa_ipaddr') ? 'peers_sa_ipaddr' : 'my_sa_ipaddr'),
        'the ends of the tunnel are of different families',
        'IPv4 and IPv6 do not reach each other',
      );
    }
    const peer = remote === undefined ? undefined : this.remotes.get(remote.name);
    const ipsec = this.alternatives(values.ipsec_index, section.at).flatMap((one) =>
      peer?.acceptableKmp.includes('ikev2') ? (this.inIkev2(one, peer) ?? []) : one,
    );
    if (ipsec.length === 0) {
      report.warning(
        at('ipsec_index'),
        `nothing that the policy ${quoted(name)} offers can be negotiated yet: its traffic is dropped`,
        'offer ESP',
      );
      return {
        ...base,
        action: 'discard',
        remote: undefined,
        mode: values.ipsec_mode,
        mySaAddress: undefined,
        peersSaAddress: undefined,
        ipsec,
      };
    }
    const fleeting = ipsec.find(({ lifetimeIdle }) => lifetimeIdle !== 'infinite');
    if (values.initiate === 'start' && fleeting !== undefined)
      report.warning(
        at('initiate'),
        `\`ipsec_sa_lifetime_idle\` of ${quoted(fleeting.name)} has no effect where an SA is to be there always`,
        'write initiate demand;',
      );
    if (values.ipsec_mode === 'beet') this.checkBeet(name, at('ipsec_mode'), peer, ipsec, peersSaAddress);
    if (peer !== undefined) {
      const alternatives = ipsec.flatMap((one) => {
        const extSequenceAt = this.extSequences.get(one);
        return extSequenceAt === undefined ? [] : [{ ipsec: one, extSequenceAt, written: this.writtenLists }];
      });
      if (alternatives.length === ipsec.length)
        checkQuickModeOffers(name, peer, alternatives, own('ipsec_index') ? at('ipsec_index') : section.at, report);
    }
    return {
      ...base,
      action,
      remote: values.remote_index?.value,
      mode: values.ipsec_mode,
      mySaAddress,
      peersSaAddress,
      ipsec,
    };
  }

  /** What there is of BEET mode: one SA of ESP, between ends that are known, negotiated by a notify of IKEv2. */
  private checkBeet(
    name: string,
    at: Span,
    peer: RemoteConfig | undefined,
    ipsec: readonly IpsecConfig[],
    end: AddressSpec | undefined,
  ): void {
    const { report } = this;
    const other = peer?.acceptableKmp.find((kmp) => kmp !== 'ikev2');
    if (other !== undefined)
      report.error(
        at,
        `${other} has no BEET mode, and the remote ${quoted(peer!.name)} accepts it`,
        'write acceptable_kmp ikev2;',
      );
    const mixed = ipsec.find(({ sas }) => sas.length !== 1 || sas[0]!.protocol !== 'esp');
    if (mixed !== undefined)
      report.error(
        at,
        `BEET mode is for ESP alone, and the policy ${quoted(name)} offers ${quoted(mixed.name)}`,
        'offer one SA of ESP',
      );
    if (end?.kind === 'macro' && end.macro.startsWith('IP_'))
      report.error(at, 'a tunnel in BEET mode has two ends that are known', 'write peers_sa_ipaddr ADDRESS;');
  }

  private readonly writtenLists = (sa: SaConfig) => this.lists.get(sa) ?? { encr: false, auth: false };

  private alternatives(
    list: readonly { readonly value: string; readonly at: Span }[] | undefined,
    at: Span,
  ): readonly IpsecConfig[] {
    const found = new Map<string, IpsecConfig>();
    for (const { value: name, at: place } of list ?? [{ value: BUILT_IN, at }]) {
      const section =
        list === undefined ? this.sections.ipsecs.get(name) : resolve(name, this.sections.ipsecs, 'ipsec', place, this.report);
      this.used.ipsecs.add(name);
      if (found.has(name))
        this.report.warning(place, `the alternative ${quoted(name)} is in the list already`, 'take one of them out');
      else if (section !== undefined || list === undefined) {
        const ipsec = this.ipsec(name, section, place);
        if (ipsec !== undefined) found.set(name, ipsec);
      } else found.set(name, unresolved(name));
    }
    return [...found.values()];
  }

  private compileIpsec(name: string, section: Named<typeof IPSEC.words> | undefined, place: Span): IpsecConfig | undefined {
    const { report } = this;
    const { values, at } = settle(IPSEC, section?.at ?? place, section?.block, this.sections.default?.entries.ipsec?.value);
    if (values.replay_window === 0)
      report.warning(at('replay_window'), 'without a window, packets that an attacker repeats are accepted', 'leave it out');
    const { ipsec_sa_lifetime_idle: idle, ipsec_sa_lifetime_time: life } = values;
    if (idle !== 'infinite' && life !== 'infinite' && idle >= life)
      report.warning(
        at('ipsec_sa_lifetime_idle'),
        'it has no effect: the SA is rekeyed before, and a rekey begins to count anew',
        'make it shorter than ipsec_sa_lifetime_time',
      );
    const sas: SaConfig[] = [];
    const protocols = new Set<string>();
    for (const { value: saName, at: where } of values.sa_index ?? [{ value: BUILT_IN, at: place }]) {
      const found =
        values.sa_index === undefined ? this.sections.sas.get(saName) : resolve(saName, this.sections.sas, 'sa', where, report);
      this.used.sas.add(saName);
      if (found === undefined && values.sa_index !== undefined) {
        protocols.add('esp');
        continue;
      }
      const sa = this.sa(saName, found, where);
      if (protocols.has(sa.protocol))
        report.error(
          where,
          `there is more than one SA of ${sa.protocol} in the list`,
          'alternatives are separate `ipsec` sections',
        );
      protocols.add(sa.protocol);
      sas.push(sa);
    }
    if (!protocols.has('esp') && !protocols.has('ah')) {
      report.warning(section?.at ?? place, `${quoted(name)} is not offered: nothing in it protects`, 'offer ESP');
      return undefined;
    }
    const compiled: IpsecConfig = {
      name,
      lifetimeTime: values.ipsec_sa_lifetime_time,
      lifetimeBytes: values.ipsec_sa_lifetime_byte,
      lifetimePackets: values.ipsec_sa_lifetime_packets,
      lifetimeIdle: values.ipsec_sa_lifetime_idle,
      extendedSequence: values.ext_sequence,
      replayWindow: values.replay_window,
      tfcPadding: values.tfc_padding,
      sas,
    };
    this.extSequences.set(compiled, at('ext_sequence'));
    this.places.set(compiled, section?.at ?? place);
    return compiled;
  }

  /**
   * What IKEv2 can negotiate of an alternative. A proposal of it is of one protocol (RFC 7296 §3.3), so that AH and ESP together would be two
   * children, which nothing binds; and the SPD asks for the same SAs whichever protocol makes them. Undefined where nothing is left.
   */
  private inIkev2(ipsec: IpsecConfig, { name: remote }: RemoteConfig): IpsecConfig | undefined {
    const { name, sas } = ipsec;
    const place = this.places.get(ipsec);
    const keyed = sas.filter(({ protocol }) => protocol !== 'ipcomp');
    if (place === undefined || (keyed.length === 1 && sas.length === 1)) return ipsec;
    const told = `${name} ${remote}`;
    const isNews = !this.told.has(told);
    this.told.add(told);
    if (keyed.length > 1) {
      if (isNews)
        this.report.warning(
          place,
          `${quoted(name)} is not offered to the remote ${quoted(remote)}: IKEv2 does not negotiate AH and ESP for one packet (RFC 7296 §3.3 has one protocol a proposal)`,
          'offer ESP alone, which authenticates too, or write acceptable_kmp ikev1;',
        );
      return undefined;
    }
    if (isNews)
      this.report.warning(
        place,
        `\`ipcomp\` in ${quoted(name)} has no effect for the remote ${quoted(remote)}: IKEv2 does not negotiate it yet`,
        'leave it out, or write acceptable_kmp ikev1;',
      );
    const without = { ...ipsec, sas: keyed };
    const extSequence = this.extSequences.get(ipsec);
    if (extSequence !== undefined) this.extSequences.set(without, extSequence);
    return without;
  }

  private compileSa(name: string, section: Named<typeof SA.words> | undefined, place: Span): SaConfig {
    const { report } = this;
    const { values, at, own, written } = settle(
      SA,
      section?.at ?? place,
      section?.block,
      this.sections.default?.entries.sa?.value,
    );
    const protocol = values.sa_protocol;
    if (own('esp_auth_alg') && own('ah_auth_alg'))
      report.error(
        at('ah_auth_alg'),
        'an SA has `esp_auth_alg` or `ah_auth_alg`, not both',
        'leave out the one of the other protocol',
      );
    const mine = { esp: ['esp_enc_alg', 'esp_auth_alg'], ah: ['ah_auth_alg'], ipcomp: ['ipcomp_alg'] } as const;
    for (const other of ['esp', 'ah', 'ipcomp'] as const) {
      for (const word of other === protocol ? [] : mine[other]) {
        if (own(word)) report.warning(at(word), `${quoted(word)} has no effect in an SA of ${protocol}`, 'leave it out');
      }
    }
    if (protocol === 'ipcomp') {
      const others = (values.ipcomp_alg ?? []).filter(({ value }) => value !== 'deflate');
      if (others.length > 0)
        report.warning(
          at('ipcomp_alg'),
          `${others.map(({ value }) => quoted(value)).join(', ')} of IPComp is not built: \`deflate\` alone is negotiated`,
          'write ipcomp_alg deflate;',
        );
      return { name, protocol, encr: [], auth: [] };
    }
    if (protocol === 'ah') {
      if (values.ah_auth_alg === undefined)
        report.error(at('sa_protocol'), 'an SA of AH needs `ah_auth_alg`', 'write ah_auth_alg { hmac_sha2_256; };');
      const auth = values.ah_auth_alg === undefined ? [] : offered(values.ah_auth_alg, 'ah_auth_alg', at('ah_auth_alg'), report);
      return { name, protocol, encr: [], auth };
    }
    const encr = offered(values.esp_enc_alg, 'esp_enc_alg', at('esp_enc_alg'), report);
    const auth = offered(values.esp_auth_alg, 'esp_auth_alg', at('esp_auth_alg'), report);
    const alone = encr.length > 0 && encr.every((cipher) => isAead(cipher.name));
    if (alone && own('esp_auth_alg')) {
      report.warning(
        at('esp_auth_alg'),
        '`esp_auth_alg` has no effect: every cipher of the SA authenticates by itself',
        'leave it out',
      );
    } else if (!alone && written('esp_auth_alg') && auth.includes('none')) {
      if (encr.some((cipher) => cipher.name === 'null_enc'))
        report.error(
          at('esp_auth_alg'),
          '`null_enc` with `non_auth` protects nothing at all',
          'write action none; for traffic that needs no protection',
        );
      else
        report.warning(
          at('esp_auth_alg'),
          '`non_auth` lets an attacker change packets unseen',
          'use an AEAD such as aes_gcm_16, or a MAC',
        );
    }
    const compiled: SaConfig = { name, protocol, encr, auth };
    this.lists.set(compiled, { encr: written('esp_enc_alg'), auth: written('esp_auth_alg') });
    return compiled;
  }
}

/** Stands for a section that is not there, so that its absence is reported once and nothing follows from it. */
function unresolved(name: string): IpsecConfig {
  return {
    name,
    lifetimeTime: 'infinite',
    lifetimeBytes: 'infinite',
    lifetimePackets: 'infinite',
    lifetimeIdle: 'infinite',
    extendedSequence: false,
    replayWindow: 0,
    tfcPadding: 0,
    sas: [],
  };
}

/** Where no `peers_sa_ipaddr` is written, the tunnel ends where the peer is. */
function tunnelEndOf(addresses: readonly AddressSpec[]): AddressSpec | undefined {
  const [first] = addresses;
  if (first === undefined || first.kind === 'fqdn') return undefined;
  if (first.kind === 'literal') return { ...first, port: 0 };
  return { ...first, macro: first.macro === 'IP_ANY' ? 'IP_RW' : first.macro, port: 0 };
}

/** Whether both are literals, and of different families. */
export function differ(a: AddressSpec, b: AddressSpec): boolean {
  const family = (spec: AddressSpec) => (spec.kind === 'literal' ? IpAddress.parse(spec.address)?.family : undefined);
  const [mine, other] = [family(a), family(b)];
  return mine !== undefined && other !== undefined && mine !== other;
}
