/** What one configuration generation means to iked: which `remote` fits an address and an identity, and which child SAs a remote may have. */

import type { Secret } from '../src/bytes/secret.ts';
import type { AddressSpec, Config, Ikev1Config, Ikev2Config, RemoteConfig } from '../src/config/config.ts';
import type { LocalAddress } from '../src/config/expand.ts';
import { NOTHING } from '../src/config/nothing.ts';
import { ChildPolicies, type ChildPolicy } from '../src/keying/child-policy.ts';
import {
  isAnybody,
  listeningPort,
  literals,
  localAddress,
  namesAddress,
  peerAddresses,
  remoteAddress,
} from '../src/keying/ends.ts';
import type { Scripts } from '../src/keying/hooks.ts';
import type { Beginner } from '../src/keying/host.ts';
import { type Endpoint, IpAddress } from '../src/net/address.ts';
import { type Identity, identityOf, identityOfAddress, sameIdentity, showIdentity } from './auth/identity.ts';
import type { IkedSettings } from './ports.ts';

/** RFC 7296 §2. */
const IKE_PORT = 500;

/** A remote as one version of IKE serves it, with everything a negotiation needs of it. */
export interface PeerOf<Version extends 1 | 2> {
  readonly name: string;
  readonly version: Version;
  /** The version is listed first in `acceptable_kmp`, so we may begin. */
  readonly initiates: boolean;
  readonly psk: Secret | undefined;
  /** The first `my_id`; undefined: the local address. */
  readonly myId: Identity | undefined;
  readonly peersId: readonly Identity[];
  readonly children: readonly ChildPolicy[];
  /** Changes whenever anything changes that its SAs were negotiated under. */
  readonly fingerprint: string;
}

/** A remote that speaks IKEv2. */
export interface Peer extends PeerOf<2> {
  readonly ikev2: Ikev2Config;
}

/** A remote that speaks IKEv1. A remote that speaks both is one of each. */
export interface PeerV1 extends PeerOf<1> {
  readonly ikev1: Ikev1Config;
}

export type AnyPeer = Peer | PeerV1;

/** The words that both versions have. */
export function ikeOf(peer: AnyPeer): Ikev1Config | Ikev2Config {
  return peer.version === 2 ? peer.ikev2 : peer.ikev1;
}

/** One generation, looked up by address, identity, name and policy. */
export class Peers {
  static readonly none = new Peers({ config: NOTHING, psks: new Map() }, []);
  readonly config: Config;
  readonly #v2: readonly Peer[];
  readonly #v1: readonly PeerV1[];
  readonly policies: ChildPolicies;

  /** `local` are the host's addresses, which the `MY_` macros stand for. */
  constructor(settings: IkedSettings, local: readonly LocalAddress[]) {
    this.config = settings.config;
    this.policies = new ChildPolicies(settings.config, local);
    this.#v2 = settings.config.remotes.flatMap((remote) => peerV2(remote, this.policies.all, settings) ?? []);
    this.#v1 = settings.config.remotes.flatMap((remote) => peerV1(remote, this.policies.all, settings) ?? []);
  }

  /** Every remote that speaks IKE, those of both versions twice. */
  get all(): readonly AnyPeer[] {
    return [...this.#v2, ...this.#v1];
  }

  /** The names of the remotes that speak IKE. */
  get names(): readonly string[] {
    return [...new Set(this.all.map((peer) => peer.name))];
  }

  byName(name: string): Peer | undefined {
    return this.#v2.find((peer) => peer.name === name);
  }

  byNameV1(name: string): PeerV1 | undefined {
    return this.#v1.find((peer) => peer.name === name);
  }

  /** The same remote in this generation, as the same version serves it. */
  again<P extends AnyPeer>(peer: P): P | undefined {
    return (peer.version === 2 ? this.byName(peer.name) : this.byNameV1(peer.name)) as P | undefined;
  }

  /** The remote as the version serves it that `acceptable_kmp` lists first. */
  initiator(name: string): AnyPeer | undefined {
    return this.all.find((peer) => peer.name === name && peer.initiates);
  }

  /** By the name of an outbound selector, or of the inbound half of one written for both directions. */
  child(selector: string): ChildPolicy | undefined {
    return this.policies.child(selector);
  }

  /** Children by the name of a selector, a policy or a remote. */
  childrenNamed(name: string): readonly ChildPolicy[] {
    return this.policies.named(name);
  }

  /** Children of the remotes that speak IKE. */
  get served(): readonly ChildPolicy[] {
    const names = this.names;
    return this.policies.all.filter((child) => names.includes(child.remote));
  }

  /** Who begins to negotiate for a policy. */
  beginner({ remote }: ChildPolicy): Beginner {
    const first = this.config.remotes.find(({ name }) => name === remote)?.acceptableKmp[0];
    const peer = this.initiator(remote);
    if (peer === undefined) return first === undefined ? 'peer' : 'other';
    return ikeOf(peer).passive ? 'peer' : 'us';
  }

  /** Of the block that we would begin with, else of the one that we answer by. */
  scriptsOf({ remote }: ChildPolicy): Scripts | undefined {
    const peer = this.initiator(remote) ?? this.byName(remote) ?? this.byNameV1(remote);
    return peer === undefined ? undefined : ikeOf(peer).scripts;
  }

  /**
   * The remotes that serve a peer at this address by IKEv2: those that name it or have moved there (`moved`, by name) before those for anybody; file
   * order otherwise.
   */
  at(address: IpAddress, moved: ReadonlySet<string>): Peer[] {
    return serving(this.#v2, address, moved);
  }

  /** The same for IKEv1. */
  atV1(address: IpAddress, moved: ReadonlySet<string>): PeerV1[] {
    return serving(this.#v1, address, moved);
  }

  /** Where IKE listens, its encapsulation port left out: that belongs to the datapath. */
  get #listen(): readonly AddressSpec[] {
    return this.config.interface.ike.filter((spec) => spec.port !== this.encapPort);
  }

  /** Where our IKE messages come from, given an address of ours. */
  ikePort(address: IpAddress): number {
    return listeningPort(address, this.#listen, IKE_PORT);
  }

  get encapPort(): number {
    return this.config.interface.datapath.encapPort;
  }

  /** Where a child's peer is reached, or undefined where the policy does not say and no packet (`asked`) does. */
  remoteEndpoint(
    peer: AnyPeer,
    child: ChildPolicy | undefined,
    asked: IpAddress | undefined,
    local: readonly LocalAddress[],
  ): Endpoint | undefined {
    const { peersIpaddr } = ikeOf(peer);
    const address = remoteAddress(peersIpaddr, child, asked);
    if (address === undefined) return undefined;
    const port = peersIpaddr.find((spec) => spec.port !== 0)?.port;
    return { address, port: port ?? this.ikePort(local[0]?.address ?? IpAddress.unspecified(address.family)) };
  }

  /** The address of ours that a child's IKE SA comes from, or undefined where none of the family is known. */
  localAddress(
    remote: IpAddress,
    child: ChildPolicy | undefined,
    asked: IpAddress | undefined,
    local: readonly LocalAddress[],
  ): IpAddress | undefined {
    return localAddress(remote, child, asked, local, this.config.interface.ike);
  }
}

/** Why `id` is not the peer's, or undefined where it is. `verify_id off` takes any; without `peers_id` it must be the peer's address. */
export function refuseIdentity(peer: AnyPeer, id: Identity, from: IpAddress): string | undefined {
  const { verifyId, peersIpaddr } = ikeOf(peer);
  if (!verifyId) return undefined;
  const expected = peer.peersId.length > 0 ? peer.peersId : [from, ...literals(peersIpaddr)].map(identityOfAddress);
  if (expected.some((known) => sameIdentity(known, id))) return undefined;
  const list = expected.map(showIdentity).join(' or ');
  return `the peer says it is ${showIdentity(id)}; remote ${peer.name} expects ${list}: correct peers_id there, or my_id at the peer`;
}

function serving<P extends AnyPeer>(peers: readonly P[], address: IpAddress, moved: ReadonlySet<string>): P[] {
  const named = peers.filter((peer) => moved.has(peer.name) || addressesOf(peer).some((spec) => namesAddress(spec, address)));
  const anybody = peers.filter((peer) => !named.includes(peer) && addressesOf(peer).some(isAnybody));
  return [...named, ...anybody];
}

function addressesOf(peer: AnyPeer): readonly AddressSpec[] {
  return peerAddresses(ikeOf(peer).peersIpaddr, peer.children);
}

function peerV2(remote: RemoteConfig, children: readonly ChildPolicy[], settings: IkedSettings): Peer | undefined {
  const { ikev2 } = remote;
  if (ikev2 === undefined || !remote.acceptableKmp.includes('ikev2')) return undefined;
  return { ...peerOf(2, remote, ikev2, children, settings), psk: settings.psks.get(remote.name), ikev2 };
}

function peerV1(remote: RemoteConfig, children: readonly ChildPolicy[], settings: IkedSettings): PeerV1 | undefined {
  const { ikev1 } = remote;
  if (ikev1 === undefined || !remote.acceptableKmp.includes('ikev1')) return undefined;
  return { ...peerOf(1, remote, ikev1, children, settings), psk: settings.psksV1?.get(remote.name), ikev1 };
}

function peerOf<Version extends 1 | 2>(
  version: Version,
  remote: RemoteConfig,
  { myId, peersId }: Pick<Ikev2Config, 'myId' | 'peersId'>,
  children: readonly ChildPolicy[],
  { identityFiles }: IkedSettings,
): Omit<PeerOf<Version>, 'psk'> {
  const files = identityFiles ?? new Map<string, Uint8Array>();
  return {
    name: remote.name,
    version,
    initiates: remote.acceptableKmp[0] === `ikev${version}`,
    myId: myId === undefined ? undefined : identityOf(myId, files),
    peersId: peersId.flatMap((id) => identityOf(id, files) ?? []),
    children: children.filter((child) => child.remote === remote.name),
    fingerprint: JSON.stringify(remote),
  };
}
