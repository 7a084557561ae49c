/** What one configuration generation means to iked: which `remote` fits an address and an identity, and which child SAs a remote may have. */

import type { Secret } from '../src/bytes/secret.ts';
import type { AddressSpec, Config, Ikev2Config, RemoteConfig } from '../src/config/config.ts';
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
import type { Beginner } from '../src/keying/host.ts';
import { type Endpoint, IpAddress } from '../src/net/address.ts';
import { type Identity, identityOf, identityOfAddress, sameIdentity, showIdentity } from './auth/identity.ts';
import type { IkedSettings } from './ports.ts';

/** RFC 7296 §2. */
const IKE_PORT = 500;

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

/** One generation, looked up by address, identity, name and policy. */
export class Peers {
  static readonly none = new Peers({ config: NOTHING, psks: new Map() }, []);
  readonly config: Config;
  readonly #peers: readonly Peer[];
  readonly #byName: ReadonlyMap<string, Peer>;
  readonly policies: ChildPolicies;

  /** `local` are the host's addresses, which the `MY_` macros stand for. */
  constructor(settings: IkedSettings, local: readonly LocalAddress[]) {
    this.config = settings.config;
    this.policies = new ChildPolicies(settings.config, local);
    this.#peers = settings.config.remotes.flatMap((remote) => peerOf(remote, this.policies.all, settings) ?? []);
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
    return this.policies.child(selector);
  }

  /** Children by the name of a selector, a policy or a remote. */
  childrenNamed(name: string): readonly ChildPolicy[] {
    return this.policies.named(name);
  }

  /** Children of the remotes that speak IKE. */
  get served(): readonly ChildPolicy[] {
    return this.#peers.flatMap((peer) => peer.children);
  }

  /** Who begins to negotiate for a policy. */
  beginner({ remote }: ChildPolicy): Beginner {
    const first = this.config.remotes.find(({ name }) => name === remote)?.acceptableKmp[0];
    const peer = this.byName(remote);
    if (peer === undefined || !peer.initiates) return first === undefined ? 'peer' : 'other';
    return peer.ikev2.passive ? 'peer' : 'us';
  }

  /** The remotes that serve a peer at this address, those that name it before those for anybody; file order otherwise. */
  at(address: IpAddress): Peer[] {
    const named = this.#peers.filter((peer) => addressesOf(peer).some((spec) => namesAddress(spec, address)));
    const anybody = this.#peers.filter((peer) => !named.includes(peer) && addressesOf(peer).some(isAnybody));
    return [...named, ...anybody];
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
    peer: Peer,
    child: ChildPolicy | undefined,
    asked: IpAddress | undefined,
    local: readonly LocalAddress[],
  ): Endpoint | undefined {
    const address = remoteAddress(peer.ikev2.peersIpaddr, child, asked);
    if (address === undefined) return undefined;
    const port = peer.ikev2.peersIpaddr.find((spec) => spec.port !== 0)?.port;
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
export function refuseIdentity(peer: Peer, id: Identity, from: IpAddress): string | undefined {
  if (!peer.ikev2.verifyId) return undefined;
  const expected = peer.peersId.length > 0 ? peer.peersId : [from, ...literals(peer.ikev2.peersIpaddr)].map(identityOfAddress);
  if (expected.some((known) => sameIdentity(known, id))) return undefined;
  const list = expected.map(showIdentity).join(' or ');
  return `the peer says it is ${showIdentity(id)}; remote ${peer.name} expects ${list}: correct peers_id there, or my_id at the peer`;
}

function addressesOf({ ikev2, children }: Peer): readonly AddressSpec[] {
  return peerAddresses(ikev2.peersIpaddr, children);
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
