/** The child SAs that are wanted: how a negotiation for one begins, who hears what came of it, and what is tried again by itself. */

import type { IpAddress, Path } from '../src/net/address.ts';
import { ERRNO } from '../src/pfkey/registry.ts';
import { Demands, type Waiter } from './demands.ts';
import { isGenerated } from './generated.ts';
import type { Demand, Owner } from './host.ts';
import type { ChildSa } from './ikev2/child-sa.ts';
import { startIkeSa } from './ikev2/ike-sa-init.ts';
import type { ChildPolicy } from './peers.ts';

/** The ends that an ACQUIRE says its SA is to have. */
export interface AskedEnds {
  readonly local: IpAddress | undefined;
  readonly remote: IpAddress | undefined;
}

const NO_ADDRESSES =
  'its src and dst have no address family in common on this host: a MY_ macro found no address, or a name is not resolved';

export class Wanted {
  readonly #owner: Owner;
  readonly #demands = new Demands();
  /** Selectors that an operator terminated: `initiate start` does not bring them back. */
  readonly #stopped = new Set<string>();

  constructor(owner: Owner) {
    this.#owner = owner;
  }

  wakeAt(): number | undefined {
    return this.#demands.wakeAt();
  }

  /** Those whose pause is over. */
  passTime(): void {
    for (const policy of this.#demands.due(this.#owner.now.mono)) this.demand(policy, {}, false);
  }

  /** Someone wants a child: it is negotiated in the IKE SA at hand, or in a new one. */
  demand(policy: ChildPolicy, waiter: Waiter, standing: boolean, asked?: AskedEnds): void {
    const { table, now } = this.#owner;
    if (!this.#demands.want(policy, waiter, standing, now.mono)) return;
    const anywhere = isGenerated(policy.policy);
    const carrier =
      anywhere && asked?.remote === undefined ? undefined : table.carrierOf(policy.remote, anywhere ? asked?.remote : undefined);
    const demand = { policy, packet: this.#demands.packetFor(policy.name) };
    if (policy.local.length === 0 || policy.peer.length === 0) return this.failed(demand, NO_ADDRESSES);
    if (carrier !== undefined) return carrier.add({ kind: 'create-child', demand });
    this.begin(demand, asked);
  }

  /** Takes it on as an attempt; false where one is under way or a pause is to be waited out. */
  claim(policy: ChildPolicy): boolean {
    return this.#demands.want(policy, {}, false, this.#owner.now.mono);
  }

  /** A new IKE SA for it. */
  begin(demand: Demand, asked?: AskedEnds): void {
    const { policy } = demand;
    const { peers, local: own, table } = this.#owner;
    const refuse = (why: string) => this.failed(demand, why);
    const peer = peers.byName(policy.remote);
    if (peer === undefined) return refuse(`remote ${policy.remote} has no ikev2 block that acceptable_kmp names`);
    const remote = peers.remoteEndpoint(peer, policy, asked?.remote, own);
    if (remote === undefined) return refuse(`remote ${peer.name} has no address to begin with: write one in peers_ipaddr`);
    const local = peers.localAddress(remote.address, policy, asked?.local, own);
    if (local === undefined)
      return refuse(`no address of ours to reach ${remote.address} from: write one in interface { ike } or my_sa_ipaddr`);
    if (table.size >= peers.config.interface.limits.ikeSas) {
      const why = `there are ${table.size} IKE SAs, the limit of ike_sas`;
      this.#owner.report('limit-reached', `no IKE SA for ${policy.name}: ${why}`, { child: policy.name, limit: 'ike_sas' });
      return refuse(why);
    }
    const path: Path = { local: { address: local, port: peers.ikePort(local) }, remote, encapsulated: false };
    startIkeSa(this.#owner, peer, path, demand);
  }

  satisfied({ policy }: Demand, child: ChildSa): void {
    this.#owner.failures.mended(policy.name);
    this.#owner.failures.mended(policy.remote);
    this.#tell(this.#demands.met(policy.name), child);
  }

  /** A child of the peer's making is in the datapath. */
  arrived(child: ChildSa): void {
    this.#tell(this.#demands.arrived(child.policy.name), child);
  }

  #tell(waiters: readonly Waiter[], child: ChildSa): void {
    for (const { command } of waiters)
      if (command !== undefined) this.#owner.replies.settle(command, child.policy.name, undefined, child.label);
  }

  failed({ policy }: Demand, why: string): void {
    const { now } = this.#owner;
    this.#owner.remember(policy.name, why);
    const { waiters, again } = this.#demands.failed(policy, now.mono);
    this.#refuse(waiters, policy.name, why, ERRNO.ETIMEDOUT);
    if (again === undefined) return;
    const text = `${policy.name} is tried again in ${again / 1000} s`;
    this.#owner.report('retry-scheduled', text, { child: policy.name, afterMs: again });
  }

  #refuse(waiters: readonly Waiter[], name: string, why: string, errno: number): void {
    for (const { command, acquire } of waiters) {
      if (command !== undefined) this.#owner.replies.settle(command, name, why);
      if (acquire !== undefined) this.#owner.asks.refuseAcquire(acquire.seq, acquire.satype, errno, this.#owner.now);
    }
  }

  mayInitiate(child: ChildPolicy): boolean {
    const peer = this.#owner.peers.byName(child.remote);
    return peer?.initiates === true && !peer.ikev2.passive;
  }

  /** `initiate start`: as soon as configuration and datapath are there, and again whenever it is lost. */
  startStanding(): void {
    const children = this.#owner.peers.all.flatMap((peer) => peer.children);
    for (const child of children) {
      if (child.policy.initiate !== 'start' || this.#stopped.has(child.name) || !this.mayInitiate(child)) continue;
      if (!this.#carried(child.name)) this.demand(child, {}, true);
    }
  }

  #carried(name: string, except?: ChildSa): boolean {
    return this.#owner.table.children().some((child) => child !== except && child.policy.name === name && child.usable);
  }

  /** A child is gone and no other took its place. */
  childGone(child: ChildSa, why: string, wanted: boolean): void {
    const policy = this.#owner.peers.child(child.policy.name);
    if (policy === undefined || this.#stopped.has(policy.name) || !this.mayInitiate(policy)) return;
    if (policy.policy.initiate !== 'start' || this.#carried(policy.name, child)) return;
    if (wanted) this.#owner.remember(policy.name, why);
    this.#demands.again(policy, this.#owner.now.mono);
  }

  /** An operator wants it gone. */
  stop(name: string): void {
    this.#stopped.add(name);
    this.#refuse(this.#demands.drop(name), name, 'terminated by command', ERRNO.EACCES);
  }

  resume(name: string): void {
    this.#stopped.delete(name);
  }

  /** A configuration took effect: what was terminated before may begin again. */
  resumeAll(): void {
    this.#stopped.clear();
  }
}
