/** Compiled configurations and keytabs for tests of kinkd: two hosts, their principals, and what a test wants otherwise. */

import type { Etype } from '../../kinkd/krb5/enctypes.ts';
import { enctype } from '../../kinkd/krb5/enctypes.ts';
import { Keytab, type KeytabEntry } from '../../kinkd/krb5/keytab.ts';
import { parsePrincipal } from '../../kinkd/krb5/principal.ts';
import type { KinkdSettings } from '../../kinkd/ports.ts';
import { Secret } from '../../src/bytes/secret.ts';
import type { KinkConfig, RemoteConfig } from '../../src/config/config.ts';
import { type ChildSetting, settingsOf as ikeSettingsOf, literal } from './ike-config.ts';
import { seededRandom } from './random.ts';

export const REALM = 'EXAMPLE.ORG';

/** What a remote says unless a test says otherwise. */
export const KINK: Omit<KinkConfig, 'myPrincipal' | 'peersPrincipal'> = {
  passive: false,
  peersIpaddr: [],
  needPfs: false,
  groups: ['ecp256', 'modp2048'],
  nonceBytes: 16,
  responderNonce: 'auto',
  prf: 'mit',
  clearPayloads: false,
  proposalCheck: 'strict',
  maxRetries: 5,
  retryInterval: 1000,
  negotiationLimit: 60_000,
  scripts: {},
};

export interface KinkSetting {
  readonly address: string;
  readonly peer: string;
  /** `a` is kink/a.example.org@EXAMPLE.ORG. */
  readonly name: string;
  readonly peersName: string;
  readonly kink?: Partial<KinkConfig>;
  readonly children?: readonly ChildSetting[];
  readonly clockSkew?: number;
  readonly remote?: string;
  /** Further peers, each a remote of its own under its name. */
  readonly others?: readonly { readonly name: string; readonly address: string; readonly children: readonly ChildSetting[] }[];
}

export function principalText(name: string): string {
  return `kink/${name}.example.org@${REALM}`;
}

/** The long-term key of a principal, the same wherever it is asked for. */
export function serviceKey(name: string, etype: Etype = 18): KeytabEntry {
  const seed = [...name].reduce((sum: number, letter) => (sum * 31 + letter.charCodeAt(0)) >>> 0, etype);
  const key = new Secret(seededRandom(seed)(enctype(etype).keyBytes));
  return { principal: parsePrincipal(principalText(name)), kvno: 2, etype, key };
}

export function kinkSettingsOf(node: KinkSetting): KinkdSettings {
  const remote = node.remote ?? 'peer';
  const { config } = ikeSettingsOf({ ...node, id: node.name, peersId: node.peersName, remote });
  const others = (node.others ?? []).map(({ name, address, children }) => {
    const setting = { ...node, peer: address, peersName: name, children };
    return {
      remote: remoteOf(setting, name),
      selectors: ikeSettingsOf({ ...setting, id: '', peersId: '', remote: name }).config.selectors,
    };
  });
  return {
    config: {
      ...config,
      interface: { ...config.interface, ike: [], kink: [literal(node.address)] },
      kerberos: { ...config.kerberos, clockSkew: node.clockSkew ?? 300_000 },
      remotes: [remoteOf(node, remote), ...others.map((other) => other.remote)],
      selectors: [...config.selectors, ...others.flatMap((other) => other.selectors)],
    },
    keytab: new Keytab([serviceKey(node.name)]),
  };
}

function remoteOf(node: KinkSetting, name: string): RemoteConfig {
  return {
    name,
    acceptableKmp: ['kink'],
    ikev2: undefined,
    ikev1: undefined,
    kink: {
      ...KINK,
      peersIpaddr: [literal(node.peer)],
      myPrincipal: principalText(node.name),
      peersPrincipal: principalText(node.peersName),
      ...node.kink,
    },
  };
}
