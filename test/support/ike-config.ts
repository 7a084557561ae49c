/** Compiled configurations for tests of iked: two gateways and what lies behind them, with whatever a test wants otherwise. */

import type { IkedSettings } from '../../iked/ports.ts';
import { utf8 } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import type {
  AddressMacro,
  AddressSpec,
  Config,
  Ikev1Config,
  Ikev2Config,
  IpsecConfig,
  Kmp,
  PolicyConfig,
  RemoteConfig,
  SaConfig,
  SelectorConfig,
} from '../../src/config/config.ts';

/** `192.0.2.1`, `10.1.0.0/24`, or a macro by its name. */
export function literal(text: string, port = 0): AddressSpec {
  if (/^(MY|IP)_/.test(text)) return { kind: 'macro', macro: text as AddressMacro, interface: undefined, prefixLength: 0, port };
  const [address = '', length] = text.split('/');
  return {
    kind: 'literal',
    address,
    prefixLength: length === undefined ? (address.includes(':') ? 128 : 32) : Number(length),
    port,
  };
}

/** What a remote says unless a test says otherwise. */
export const IKEV2: Ikev2Config = {
  passive: false,
  peersIpaddr: [],
  myId: undefined,
  peersId: [],
  verifyId: true,
  sendPeersId: false,
  authMethods: ['psk'],
  preSharedKey: 'psk',
  pskFormat: 'text',
  encr: [{ name: 'aes_gcm_16', keyBits: 128 }],
  integ: [],
  prf: ['hmac_sha2_256'],
  ke: ['x25519'],
  needPfs: false,
  nonceBytes: 32,
  cookieRequired: false,
  natTraversal: true,
  forceEncapsulation: false,
  dpdDelay: 'infinite',
  maxRetries: 5,
  retryInterval: 1000,
  saLifetime: 'infinite',
  negotiationLimit: 600_000,
  gracePeriod: 'infinite',
  selectorCheck: 'exact',
  randomPadContent: false,
  randomPadLength: false,
  maxPadLength: 0,
  scripts: {},
};

/** The same for IKEv1. */
export const IKEV1: Ikev1Config = {
  passive: false,
  peersIpaddr: [],
  myId: undefined,
  peersId: [],
  verifyId: true,
  authMethods: ['psk'],
  preSharedKey: 'psk',
  pskFormat: 'text',
  encr: [{ name: 'aes_cbc', keyBits: 128 }],
  hash: ['hmac_sha2_256'],
  groups: ['ecp256'],
  needPfs: false,
  nonceBytes: 32,
  natTraversal: true,
  forceEncapsulation: false,
  proposalCheck: 'claim',
  dpd: true,
  dpdDelay: 'infinite',
  dpdRetry: 1000,
  dpdMaxFail: 3,
  maxRetries: 5,
  retryInterval: 1000,
  saLifetime: 'infinite',
  negotiationLimit: 600_000,
  gracePeriod: 'infinite',
  scripts: {},
};

export const ESP: SaConfig = { name: 'esp', protocol: 'esp', encr: [{ name: 'aes_gcm_16', keyBits: 128 }], auth: [] };

export const IPSEC: IpsecConfig = {
  name: 'ipsec',
  lifetimeTime: 'infinite',
  lifetimeBytes: 'infinite',
  lifetimePackets: 'infinite',
  lifetimeIdle: 'infinite',
  extendedSequence: false,
  replayWindow: 64,
  tfcPadding: 0,
  sas: [ESP],
};

/** One child of a remote: traffic between two prefixes. */
export interface ChildSetting {
  readonly name?: string;
  readonly local: string;
  readonly peer: string;
  readonly protocol?: number;
  readonly localPort?: number;
  readonly peerPort?: number;
  readonly reqid?: number;
  readonly policy?: Partial<PolicyConfig>;
  readonly ipsec?: readonly Partial<IpsecConfig>[];
  readonly sas?: readonly Partial<SaConfig>[];
}

export interface NodeSetting {
  readonly address: string;
  readonly peer: string;
  readonly id: string;
  readonly peersId: string;
  readonly psk?: string;
  readonly ikev2?: Partial<Ikev2Config>;
  readonly ikev1?: Partial<Ikev1Config>;
  /** `acceptable_kmp`; IKEv2 alone unless a test says otherwise. */
  readonly kmp?: readonly Kmp[];
  readonly children?: readonly ChildSetting[];
  readonly limits?: Partial<Config['interface']['limits']>;
  readonly remote?: string;
}

export function settingsOf(node: NodeSetting): IkedSettings {
  const remote = node.remote ?? 'peer';
  const config: Config = {
    interface: {
      ike: [literal(node.address, 500)],
      kink: [],
      spmd: undefined,
      spmdPassword: undefined,
      metrics: undefined,
      pfkey: undefined,
      applicationBypass: true,
      datapath: {
        device: 'memory',
        name: 'tanuki0',
        mtu: 0,
        encapPort: 4500,
        encapsulation: 'auto',
        addresses: [],
        cipher: 'auto',
        df: 'copy',
        pmtuFloor: 1280,
        mssClamp: true,
        icmpErrors: true,
        dscp: 'copy',
        decapDscp: false,
        spin: 0,
        dialect: 'tanuki',
        ahPadding: 'rfc',
        backend: 'embedded',
      },
      limits: {
        halfOpenSas: 100,
        cookieThreshold: 20,
        ikeSas: 1000,
        childSasPerIkeSa: 100,
        heldPacketsPerPolicy: 8,
        ...node.limits,
      },
    },
    logging: { level: 'debug', destination: 'stderr', format: 'text' },
    kerberos: { backend: 'auto', realm: undefined, kdcs: [], keytab: '/etc/krb5.keytab', clockSkew: 300_000 },
    remotes: [remoteOf(node, remote)],
    selectors: (node.children ?? []).flatMap((child, i) => selectorsOf(node, child, remote, i)),
    unmatched: 'bypass',
    resolver: { on: false, nameservers: [], dnsQuery: [] },
    addressPools: [],
  };
  const key = () => new Secret(utf8(node.psk ?? 'a secret between the two'));
  return { config, psks: new Map([[remote, key()]]), psksV1: new Map([[remote, key()]]) };
}

function remoteOf(node: NodeSetting, name: string): RemoteConfig {
  const acceptableKmp = node.kmp ?? ['ikev2'];
  const shared = {
    peersIpaddr: [literal(node.peer)],
    myId: { type: 'fqdn', value: node.id, file: false },
    peersId: [{ type: 'fqdn', value: node.peersId, file: false }],
  } as const;
  return {
    name,
    acceptableKmp,
    ikev2: acceptableKmp.includes('ikev2') ? { ...IKEV2, ...shared, ...node.ikev2 } : undefined,
    ikev1: acceptableKmp.includes('ikev1') ? { ...IKEV1, ...shared, ...node.ikev1 } : undefined,
    kink: undefined,
  };
}

function selectorsOf(node: NodeSetting, child: ChildSetting, remote: string, index: number): SelectorConfig[] {
  const name = child.name ?? 'lan';
  const ipsec = (child.ipsec ?? [{}]).map((one) => ({
    ...IPSEC,
    sas: (child.sas ?? [{}]).map((sa) => ({ ...ESP, ...sa })),
    ...one,
  }));
  const policy: PolicyConfig = {
    name: `${name}-policy`,
    action: 'protect',
    install: true,
    remote,
    mode: 'tunnel',
    mySaAddress: literal(node.address),
    peersSaAddress: literal(node.peer),
    level: 'unique',
    initiate: 'demand',
    ipsec,
    ...child.policy,
  };
  const shared = { order: 0, protocol: child.protocol ?? 0, reqid: child.reqid ?? index + 1, policy };
  const [source, destination] = [literal(child.local), literal(child.peer)];
  const [sourcePort, destinationPort] = [child.localPort ?? 0, child.peerPort ?? 0];
  return [
    { name, direction: 'outbound', source, destination, sourcePort, destinationPort, ...shared },
    {
      name: `${name}.in`,
      direction: 'inbound',
      source: destination,
      destination: source,
      sourcePort: destinationPort,
      destinationPort: sourcePort,
      ...shared,
    },
  ];
}
