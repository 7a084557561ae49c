/** What one configuration generation means to kinkd: which `remote` a principal is, and which child SAs it may have. */

import type { Config, KinkConfig, RemoteConfig } from '../src/config/config.ts';
import type { LocalAddress } from '../src/config/expand.ts';
import { NOTHING } from '../src/config/nothing.ts';
import { ConfigError } from '../src/errors.ts';
import { ChildPolicies, type ChildPolicy } from '../src/keying/child-policy.ts';
import { listeningPort, localAddress, remoteAddress } from '../src/keying/ends.ts';
import type { Beginner } from '../src/keying/host.ts';
import type { Endpoint, IpAddress } from '../src/net/address.ts';
import { Keytab } from './krb5/keytab.ts';
import { type Principal, parsePrincipal, samePrincipal, showPrincipal } from './krb5/principal.ts';
import { KINK_PORT } from './message.ts';
import type { KinkdSettings } from './ports.ts';

/** A remote that speaks KINK, with everything a negotiation needs of it. */
export interface Peer {
  readonly name: string;
  readonly kink: KinkConfig;
  /** It is listed first in `acceptable_kmp`, so we may begin. */
  readonly initiates: boolean;
  readonly myPrincipal: Principal;
  readonly peersPrincipal: Principal;
  readonly children: readonly ChildPolicy[];
  /** Changes whenever anything changes that its SAs were negotiated under. */
  readonly fingerprint: string;
}

/** One generation, looked up by principal, name and policy. */
export class Peers {
  static readonly none = new Peers({ config: NOTHING, keytab: new Keytab([]) }, []);
  readonly config: Config;
  readonly keytab: Keytab;
  readonly policies: ChildPolicies;
  readonly all: readonly Peer[];

  /** `local` are the host's addresses, which the `MY_` macros stand for. Throws ConfigError where a principal is none. */
  constructor({ config, keytab }: KinkdSettings, local: readonly LocalAddress[]) {
    this.config = config;
    this.keytab = keytab;
    this.policies = new ChildPolicies(config, local);
    this.all = config.remotes.flatMap((remote) => peerOf(remote, this.policies.all) ?? []);
  }

  byName(name: string): Peer | undefined {
    return this.all.find((peer) => peer.name === name);
  }

  /** The remote that an authenticated client is, given the name of ours that its ticket is for. */
  byPrincipals(client: Principal, server: Principal): Peer | undefined {
    return this.all.find((peer) => samePrincipal(peer.peersPrincipal, client) && samePrincipal(peer.myPrincipal, server));
  }

  /** The names that we answer to. */
  get servers(): readonly Principal[] {
    return this.all.map(({ myPrincipal }) => myPrincipal);
  }

  child(selector: string): ChildPolicy | undefined {
    return this.policies.child(selector);
  }

  /** Children of the remotes that speak KINK. */
  get served(): readonly ChildPolicy[] {
    return this.all.flatMap(({ children }) => children);
  }

  /** Children by the name of a selector, a policy or a remote, as far as KINK serves them. */
  named(name: string): readonly ChildPolicy[] {
    return this.policies.named(name).filter(({ remote }) => this.byName(remote) !== undefined);
  }

  /** Who begins to negotiate for a policy. */
  beginner({ remote }: ChildPolicy): Beginner {
    const peer = this.byName(remote);
    if (peer === undefined || !peer.initiates) return 'other';
    return peer.kink.passive ? 'peer' : 'us';
  }

  /** Where a child's peer is reached, or undefined where the policy does not say and no packet (`asked`) does. */
  remoteEndpoint({ kink }: Peer, child: ChildPolicy, asked: IpAddress | undefined): Endpoint | undefined {
    const address = remoteAddress(kink.peersIpaddr, child, asked);
    const port = kink.peersIpaddr.find((spec) => spec.port !== 0)?.port ?? KINK_PORT;
    return address === undefined ? undefined : { address, port };
  }

  /** The end of ours that a child is negotiated from, or undefined where no address of the family is known. */
  localEndpoint(
    remote: IpAddress,
    child: ChildPolicy,
    asked: IpAddress | undefined,
    local: readonly LocalAddress[],
  ): Endpoint | undefined {
    const { kink } = this.config.interface;
    const address = localAddress(remote, child, asked, local, kink);
    return address === undefined ? undefined : this.endpointAt(address);
  }

  /** Where we listen at an address of ours. */
  endpointAt(address: IpAddress): Endpoint {
    return { address, port: listeningPort(address, this.config.interface.kink, KINK_PORT) };
  }
}

/** Whether any remote has something for us to do: without, no keytab is read and no port is opened. */
export function speaksKink({ remotes }: Config): boolean {
  return remotes.some(({ kink, acceptableKmp }) => kink !== undefined && acceptableKmp.includes('kink'));
}

/** Why a generation cannot be worked with, or undefined where it can: what would fail for every peer is said before it is in force. */
export function refuseSettings({ all, keytab }: Peers): string | undefined {
  for (const [i, { name, myPrincipal, peersPrincipal }] of all.entries()) {
    const twin = all.slice(0, i).find((peer) => samePrincipal(peer.peersPrincipal, peersPrincipal));
    if (twin !== undefined)
      return `remotes ${twin.name} and ${name} both have peers_principal ${showPrincipal(peersPrincipal)}: let the policies of one name the other`;
    if (keytab.of(myPrincipal).length === 0)
      return `remote ${name}: the keytab has no key for my_principal ${showPrincipal(myPrincipal)}: add it there (kadmin ktadd)`;
  }
  return undefined;
}

function peerOf(remote: RemoteConfig, children: readonly ChildPolicy[]): Peer | undefined {
  const { name, kink, acceptableKmp } = remote;
  if (kink === undefined || !acceptableKmp.includes('kink')) return undefined;
  return {
    name,
    kink,
    initiates: acceptableKmp[0] === 'kink',
    myPrincipal: principalOf(name, kink.myPrincipal),
    peersPrincipal: principalOf(name, kink.peersPrincipal),
    children: children.filter((child) => child.remote === name),
    fingerprint: JSON.stringify(remote),
  };
}

function principalOf(remote: string, text: string): Principal {
  try {
    return parsePrincipal(text);
  } catch (error) {
    throw error instanceof ConfigError ? new ConfigError(`remote ${remote}: ${error.message}`) : error;
  }
}
