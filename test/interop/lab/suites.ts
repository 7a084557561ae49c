/** The suites of acceptance in both peers' words, and the two sides' configurations for a pair of hosts made from one description. */
import type { Mode } from '../../../src/ipsec/sa.ts';
import type { CharonConnection } from './charon.ts';
import { ADDRESSES, type Family } from './namespaces.ts';
import type { TanukiPolicy, TanukiRemote, TanukiScenario } from './tanuki.ts';

/** One suite: the version of IKE, IKE and ESP, as Tanuki's policy files and swanctl.conf name it, and what charon's lists then show. */
export type Suite = {
  readonly name: string;
  readonly remote: Pick<TanukiRemote, 'kmp' | 'encryption' | 'integrity' | 'prf' | 'group' | 'pfs'>;
  readonly policy: Pick<TanukiPolicy, 'encryption' | 'integrity'>;
  readonly ike: string;
  readonly esp: string;
};

export const SUITES: readonly Suite[] = [
  {
    name: 'AES-GCM + X25519',
    remote: { encryption: 'aes256_gcm_16', prf: 'hmac_sha2_256', group: 'x25519' },
    policy: { encryption: 'aes256_gcm_16' },
    ike: 'aes256gcm16-prfsha256-x25519',
    esp: 'aes256gcm16',
  },
  {
    name: 'AES-CBC + SHA2-256 + MODP-2048',
    remote: { encryption: 'aes128_cbc', integrity: 'hmac_sha2_256', prf: 'hmac_sha2_256', group: 'modp2048' },
    policy: { encryption: 'aes128_cbc', integrity: 'hmac_sha2_256' },
    ike: 'aes128-sha256-modp2048',
    esp: 'aes128-sha256',
  },
  {
    name: 'ChaCha20 + P-256',
    remote: { encryption: 'chacha20_poly1305', prf: 'hmac_sha2_256', group: 'ecp256' },
    policy: { encryption: 'chacha20_poly1305' },
    ike: 'chacha20poly1305-prfsha256-ecp256',
    esp: 'chacha20poly1305',
  },
];

/** Those of IKEv1, where PFS is a matter of the proposal: the group of quick mode is the first of phase 1. */
export const SUITES_V1: readonly Suite[] = [
  {
    name: 'AES-CBC-256 + SHA2-256 + MODP-2048, ESP AES-CBC + SHA2-256',
    remote: { kmp: 'ikev1', encryption: 'aes256_cbc', integrity: 'sha2_256', group: 'modp2048' },
    policy: { encryption: 'aes256_cbc', integrity: 'hmac_sha2_256' },
    ike: 'aes256-sha256-modp2048',
    esp: 'aes256-sha256',
  },
  {
    name: 'AES-CBC-128 + SHA2-256 + ECP-256, PFS, ESP AES-GCM-16',
    remote: { kmp: 'ikev1', encryption: 'aes128_cbc', integrity: 'sha2_256', group: 'ecp256', pfs: true },
    policy: { encryption: 'aes128_gcm_16' },
    ike: 'aes128-sha256-ecp256',
    esp: 'aes128gcm16-ecp256',
  },
  {
    name: 'AES-CBC-128 + SHA2-256 + MODP-2048, PFS, ESP AES-CBC + SHA2-256',
    remote: { kmp: 'ikev1', encryption: 'aes128_cbc', integrity: 'sha2_256', group: 'modp2048', pfs: true },
    policy: { encryption: 'aes128_cbc', integrity: 'hmac_sha2_256' },
    ike: 'aes128-sha256-modp2048',
    esp: 'aes128-sha256-modp2048',
  },
  {
    name: 'AES-CBC-256 + SHA2-256 + ECP-256, ESP AES-GCM-16',
    remote: { kmp: 'ikev1', encryption: 'aes256_cbc', integrity: 'sha2_256', group: 'ecp256' },
    policy: { encryption: 'aes256_gcm_16' },
    ike: 'aes256-sha256-ecp256',
    esp: 'aes256gcm16',
  },
];

const PSK = 'a key of the tests, known to everyone';

/** What both sides agree on: addresses outside, one child for each family inside (`net4`, `net6`), or one in transport mode (`host`); in BEET mode between two hosts inside (`beet4`, `beet6`). */
export type Pair = {
  readonly suite: Suite;
  readonly outer: Family;
  readonly mode?: 'tunnel' | 'transport' | 'both' | 'beet';
  /** Tanuki's dead peer detection and its limit of retransmissions, also given to charon where it has the word. */
  readonly dpdSeconds?: number;
  readonly retries?: number;
};

type ChildName = 'net4' | 'net6' | 'host' | 'beet4' | 'beet6';

/** The children of a pair. */
export function childrenOf({ mode = 'tunnel' }: Pair): readonly ChildName[] {
  if (mode === 'beet') return ['beet4', 'beet6'];
  return mode === 'tunnel' ? ['net4', 'net6'] : mode === 'transport' ? ['host'] : ['net4', 'net6', 'host'];
}

function modeOf(name: ChildName): Mode {
  return name === 'host' ? 'transport' : name.startsWith('beet') ? 'beet' : 'tunnel';
}

/** Tanuki's side, standing at `at`. */
export function tanukiSide(
  pair: Pair,
  at: 'a' | 'b',
  more: Partial<Pick<TanukiRemote, 'passive'>> & Partial<Pick<TanukiPolicy, 'initiate'>> = {},
): TanukiScenario {
  const { local, remote } = ends(pair, at);
  const policy = (name: ChildName): TanukiPolicy => ({
    name,
    remote: 'peer',
    mode: modeOf(name),
    ...selectors(pair, at, name),
    mySaAddress: local,
    peersSaAddress: remote,
    ...pair.suite.policy,
    ...(more.initiate !== undefined && { initiate: more.initiate }),
  });
  return {
    ike: [local],
    remotes: [
      {
        name: 'peer',
        peer: remote,
        myId: `ipaddr ${local}`,
        peersId: `ipaddr ${remote}`,
        psk: PSK,
        ...pair.suite.remote,
        ...(pair.dpdSeconds !== undefined && { dpdSeconds: pair.dpdSeconds }),
        ...(pair.retries !== undefined && { retries: pair.retries }),
        ...(more.passive !== undefined && { passive: more.passive }),
      },
    ],
    policies: childrenOf(pair).map(policy),
  };
}

/** charon's side, standing at `at`. */
export function charonSide(pair: Pair, at: 'a' | 'b'): CharonConnection {
  const { local, remote } = ends(pair, at);
  return {
    name: 'peer',
    local,
    remote,
    localId: local,
    remoteId: remote,
    psk: PSK,
    ike: pair.suite.ike,
    version: pair.suite.remote.kmp === 'ikev1' ? 1 : 2,
    ...(pair.dpdSeconds !== undefined &&
      pair.suite.remote.kmp === 'ikev1' && { dpdSeconds: pair.dpdSeconds, dpdTimeoutSeconds: 3 * pair.dpdSeconds }),
    children: childrenOf(pair).map((name) => {
      const { local: ours, peer } = selectors(pair, at, name);
      return { name, esp: pair.suite.esp, mode: modeOf(name), localTs: [ours], remoteTs: [peer] };
    }),
  };
}

function ends({ outer }: Pair, at: 'a' | 'b'): { local: string; remote: string } {
  const [here, there] = at === 'a' ? [ADDRESSES.a, ADDRESSES.b] : [ADDRESSES.b, ADDRESSES.a];
  return { local: here.outer[outer], remote: there.outer[outer] };
}

function selectors(pair: Pair, at: 'a' | 'b', name: ChildName): { local: string; peer: string } {
  const [here, there] = at === 'a' ? [ADDRESSES.a, ADDRESSES.b] : [ADDRESSES.b, ADDRESSES.a];
  if (name === 'host') return { local: here.outer[pair.outer], peer: there.outer[pair.outer] };
  const family = name.endsWith('4') ? 'v4' : 'v6';
  if (name.startsWith('beet')) return { local: here.inner[family], peer: there.inner[family] };
  return { local: here.net[family], peer: there.net[family] };
}
