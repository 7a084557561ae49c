/** What one configuration generation means to iked: which `remote` fits an address and an identity, and which child SAs a remote may have. */

import type { Secret } from '../src/bytes/secret.ts';
import type { AddressSpec, Config, Ikev2Config, PolicyConfig, RemoteConfig, SelectorConfig } from '../src/config/config.ts';
import { expandEndpoints, expandPrefixes, type LocalAddress } from '../src/config/expand.ts';
import { ANY_PORT, selectorOf, showSelector, type TrafficSelector } from '../src/ipsec/selector.ts';
import { type Endpoint, IpAddress } from '../src/net/address.ts';
import { bitsOf, host, prefixHolds } from '../src/net/prefix.ts';
import { type Identity, identityOf, identityOfAddress, sameIdentity, showIdentity } from './auth/identity.ts';
import type { IkedSettings } from './ports.ts';

/** IP protocol numbers whose selectors have types where others have ports. */
const ICMP = 1;
const ICMPV6 = 58;
const MOBILITY = 135;

/** A remote that speaks IKEv2, with everything a negotiation needs of it. */
export interface Peer {
  readonly name: string;
  readonly ikev2: Ikev2Config;
  /** It is listed first in `acceptable_kmp`, so we may begin. */
  readonly initiates: boolean;
  readonly psk: Secret | undefined;
  /** The first `my_id`; undefined: the local address. */
  readonly myId: Identity | undefined;
  readonly peersId: readonly Identity[];
  readonly children: readonly ChildPolicy[];
  /** Changes whenever anything changes that its IKE SAs were negotiated under. */
  readonly fingerprint: string;
}

/** One child SA that a remote may have: an outbound selector and its policy. */
export interface ChildPolicy {
  /** The outbound selector's name. */
  readonly name: string;
  readonly remote: string;
  readonly policy: PolicyConfig;
  readonly reqid: number;
  /** Traffic of this end and of the peer's, by RFC 7296 §2.9: what we offer, and the most we grant. */
  readonly local: readonly TrafficSelector[];
  readonly peer: readonly TrafficSelector[];
  readonly fingerprint: string;
}

/** What is in force before the first generation: nobody is served. */
const NOBODY: Config = {
  interface: {
    ike: [],
    kink: [],
    spmd: undefined,
    spmdPassword: undefined,
    pfkey: undefined,
    applicationBypass: true,
    datapath: {
      device: 'memory',
      name: '',
      mtu: 0,
      encapPort: 4500,
      encapsulation: 'auto',
      addresses: [],
      cipher: 'auto',
      dialect: 'tanuki',
    },
    limits: { halfOpenSas: 0, cookieThreshold: 0, ikeSas: 0, childSasPerIkeSa: 0, heldPacketsPerPolicy: 0 },
  },
  logging: { level: 'info', destination: 'stderr', format: 'text' },
  remotes: [],
  selectors: [],
  unmatched: 'bypass',
  resolver: { on: false, nameservers: [], dnsQuery: [] },
  addressPools: [],
};

/** One generation, looked up by address, identity, name and policy. */
export class Peers {
  static readonly none = new Peers({ config: NOBODY, psks: new Map() }, []);
  readonly config: Config;
  readonly #peers: readonly Peer[];
  readonly #byName: ReadonlyMap<string, Peer>;
  readonly #children: ReadonlyMap<string, ChildPolicy>;

  /** `local` are the host's addresses, which the `MY_` macros stand for. */
  constructor(settings: IkedSettings, local: readonly LocalAddress[]) {
    this.config = settings.config;
    const children = settings.config.selectors.flatMap((selector) => childPolicy(selector, local) ?? []);
    this.#children = new Map(children.map((child) => [child.name, child]));
    this.#peers = settings.config.remotes.flatMap((remote) => peerOf(remote, children, settings) ?? []);
    this.#byName = new Map(this.#peers.map((peer) => [peer.name, peer]));
  }

  get all(): readonly Peer[] {
    return this.#peers;
  }

  byName(name: string): Peer | undefined {
    return this.#byName.get(name);
  }

  /** By the name of an outbound selector, or of the inbound half of one written for both directions. */
  child(selector: string): ChildPolicy | undefined {
    return this.#children.get(selector) ?? (selector.endsWith('.in') ? this.#children.get(selector.slice(0, -3)) : undefined);
  }

  /** Children by the name of a selector, a policy or a remote. */
  childrenNamed(name: string): ChildPolicy[] {
    const one = this.child(name);
    if (one !== undefined) return [one];
    return [...this.#children.values()].filter((child) => child.policy.name === name || child.remote === name);
  }

  /** The remotes that serve a peer at this address, those that name it before those for anybody; file order otherwise. */
  at(address: IpAddress): Peer[] {
    const named = this.#peers.filter((peer) => peerAddresses(peer).some((spec) => names(spec, address)));
    const anybody = this.#peers.filter((peer) => !named.includes(peer) && peerAddresses(peer).some(isAnybody));
    return [...named, ...anybody];
  }

  /** Where our IKE messages come from, given an address of ours. */
  ikePort(address: IpAddress): number {
    const { ike, datapath } = this.config.interface;
    const own = ike.filter((spec) => spec.port !== 0 && spec.port !== datapath.encapPort);
    const exact = own.find((spec) => spec.kind === 'literal' && IpAddress.parse(spec.address)?.equals(address));
    return (exact ?? own[0])?.port ?? 500;
  }

  get encapPort(): number {
    return this.config.interface.datapath.encapPort;
  }

  /** Where a child's peer is reached, or undefined where the policy does not say and no packet (`asked`) does. */
  remoteEndpoint(
    peer: Peer,
    child: ChildPolicy | undefined,
    asked: IpAddress | undefined,
    local: readonly LocalAddress[],
  ): Endpoint | undefined {
    const port = peer.ikev2.peersIpaddr.find((spec) => spec.port !== 0)?.port;
    const literal = literals(peer.ikev2.peersIpaddr)[0] ?? literals([child?.policy.peersSaAddress])[0];
    const only = child?.peer.length === 1 && child.peer[0]!.start.equals(child.peer[0]!.end) ? child.peer[0]!.start : undefined;
    const address = literal ?? asked ?? (child?.policy.mode === 'transport' ? only : undefined);
    if (address === undefined || address.isUnspecified || address.isMulticast) return undefined;
    const own = local[0]?.address ?? IpAddress.unspecified(address.family);
    return { address, port: port ?? this.ikePort(own) };
  }

  /** The address of ours that a child's IKE SA comes from, or undefined where none of the family is known. */
  localAddress(
    remote: IpAddress,
    child: ChildPolicy | undefined,
    asked: IpAddress | undefined,
    local: readonly LocalAddress[],
  ): IpAddress | undefined {
    const usable = (address: IpAddress | undefined) =>
      address !== undefined && address.family === remote.family && !address.isUnspecified;
    const [mine, ...ike] = [child?.policy.mySaAddress, ...this.config.interface.ike];
    const said = [...literals([mine]), ...(mine === undefined ? literals(ike) : [])].find(usable);
    if (said !== undefined) return said;
    const addresses = local.map(({ address }) => address);
    const meant = (mine === undefined ? addresses : expandEndpoints(mine, local).map(({ address }) => address)).filter(usable);
    const listening = ike.flatMap((spec) => expandEndpoints(spec, local)).map(({ address }) => address);
    const own = meant.filter((address) => listening.some((one) => one.isUnspecified || one.equals(address)));
    if (asked !== undefined && usable(asked) && (own.length === 0 || own.some((one) => one.equals(asked)))) return asked;
    const only = child?.policy.mode === 'transport' && child.local.length === 1 ? child.local[0]! : undefined;
    if (only?.start.equals(only.end) && usable(only.start)) return only.start;
    const candidates = own.length > 0 ? own : meant;
    // As spmd chooses the tunnel's end.
    const alike = (address: IpAddress) => address.isLoopback === remote.isLoopback && address.isLinkLocal === remote.isLinkLocal;
    return candidates.find(alike) ?? candidates[0] ?? literals(ike).find(usable);
  }
}

/** Why `id` is not the peer's, or undefined where it is. `verify_id off` takes any; without `peers_id` it must be the peer's address. */
export function refuseIdentity(peer: Peer, id: Identity, from: IpAddress): string | undefined {
  if (!peer.ikev2.verifyId) return undefined;
  const expected = peer.peersId.length > 0 ? peer.peersId : [from, ...literals(peer.ikev2.peersIpaddr)].map(identityOfAddress);
  if (expected.some((known) => sameIdentity(known, id))) return undefined;
  const list = expected.map(showIdentity).join(' or ');
  return `the peer says it is ${showIdentity(id)}; remote ${peer.name} expects ${list}: correct peers_id there, or my_id at the peer`;
}

/** What a peer may be reached at or come from: `peers_ipaddr`, else the tunnel ends and hosts that its policies name. */
function peerAddresses(peer: Peer): readonly AddressSpec[] {
  if (peer.ikev2.peersIpaddr.length > 0) return peer.ikev2.peersIpaddr;
  return peer.children.flatMap(({ policy, peer: [first] }): AddressSpec[] => {
    if (policy.peersSaAddress !== undefined) return [policy.peersSaAddress];
    if (first === undefined || !first.start.equals(first.end)) return [];
    return [{ kind: 'literal', address: first.start.toString(), prefixLength: bitsOf(first.start.family), port: 0 }];
  });
}

function isAnybody(spec: AddressSpec): boolean {
  return spec.kind === 'macro' && (spec.macro === 'IP_ANY' || spec.macro === 'IP_RW');
}

function names(spec: AddressSpec, address: IpAddress): boolean {
  if (spec.kind !== 'literal') return false;
  const known = IpAddress.parse(spec.address);
  return known !== undefined && (known.equals(address) || prefixHolds({ address: known, length: spec.prefixLength }, address));
}

function literals(specs: readonly (AddressSpec | undefined)[]): IpAddress[] {
  return specs.flatMap((spec) => (spec?.kind === 'literal' ? (IpAddress.parse(spec.address) ?? []) : []));
}

function peerOf(remote: RemoteConfig, children: readonly ChildPolicy[], { psks, identityFiles }: IkedSettings): Peer | undefined {
  const { name, ikev2, acceptableKmp } = remote;
  if (ikev2 === undefined || !acceptableKmp.includes('ikev2')) return undefined;
  const files = identityFiles ?? new Map<string, Uint8Array>();
  return {
    name,
    ikev2,
    initiates: acceptableKmp[0] === 'ikev2',
    psk: psks.get(name),
    myId: ikev2.myId === undefined ? undefined : identityOf(ikev2.myId, files),
    peersId: ikev2.peersId.flatMap((id) => identityOf(id, files) ?? []),
    children: children.filter((child) => child.remote === name),
    fingerprint: JSON.stringify(remote),
  };
}

function childPolicy(selector: SelectorConfig, ours: readonly LocalAddress[]): ChildPolicy | undefined {
  const { policy, source, destination, protocol } = selector;
  if (selector.direction !== 'outbound' || policy.action !== 'protect' || policy.remote === undefined) return undefined;
  const local = trafficSelectors(source, destination, protocol, localPorts(selector), ours);
  const peer = trafficSelectors(destination, source, protocol, peerPorts(selector), ours);
  return {
    name: selector.name,
    remote: policy.remote,
    policy,
    reqid: selector.reqid,
    local,
    peer,
    fingerprint: `${JSON.stringify(selector)} ${[...local, ...peer].map(showSelector).join(' ')}`,
  };
}

interface Ports {
  readonly startPort: number;
  readonly endPort: number;
}

/** RFC 7296 §3.13.1 and RFC 4301 §4.4.1.1: ICMP type and code, and the MH type, are packed into the local port. */
function localPorts({ protocol, sourcePort, destinationPort }: SelectorConfig): Ports {
  if (sourcePort === 0) return ANY_PORT;
  if (protocol === MOBILITY) return { startPort: sourcePort << 8, endPort: sourcePort << 8 };
  if (protocol !== ICMP && protocol !== ICMPV6) return { startPort: sourcePort, endPort: sourcePort };
  const type = sourcePort << 8;
  return destinationPort === 0
    ? { startPort: type, endPort: type | 255 }
    : { startPort: type | destinationPort, endPort: type | destinationPort };
}

function peerPorts({ protocol, destinationPort }: SelectorConfig): Ports {
  if (destinationPort === 0 || protocol === ICMP || protocol === ICMPV6 || protocol === MOBILITY) return ANY_PORT;
  return { startPort: destinationPort, endPort: destinationPort };
}

/** What a specification selects, in the families that the other side has too: a `MY_` macro each address of ours, `IP_ANY` and `IP_RW` everything. */
function trafficSelectors(
  spec: AddressSpec,
  other: AddressSpec,
  protocol: number,
  ports: Ports,
  ours: readonly LocalAddress[],
): TrafficSelector[] {
  const families = new Set(expandPrefixes(other, ours).map(({ address }) => address.family));
  return expandPrefixes(spec, ours)
    .filter(({ address }) => families.has(address.family))
    .map((prefix) => selectorOf(prefix, protocol, ports));
}

/** The prefix that holds one address only, as a selector. */
export function hostSelector(address: IpAddress, like: TrafficSelector): TrafficSelector {
  return selectorOf(host(address), like.protocol, { startPort: like.startPort, endPort: like.endPort });
}
