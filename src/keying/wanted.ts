/** The child SAs that are wanted: how a negotiation for one begins, who hears what came of it, and what is tried again by itself. */

import { ERRNO } from '../pfkey/registry.ts';
import type { ChildPolicy } from './child-policy.ts';
import { type Demand, Demands, type Waiter } from './demands.ts';
import type { AskedEnds, KeyHost } from './host.ts';
import type { SaPair } from './sa-pair.ts';

const NO_ADDRESSES =
  'its src and dst have no address family in common on this host: a MY_ macro found no address, or a name is not resolved';

export class Wanted {
  readonly #host: KeyHost;
  readonly #demands = new Demands();
  /** Selectors that an operator terminated: `initiate start` does not bring them back. */
  readonly #stopped = new Set<string>();

  constructor(host: KeyHost) {
    this.#host = host;
  }

  wakeAt(): number | undefined {
    return this.#demands.wakeAt();
  }

  /** Those whose pause is over. */
  passTime(): void {
    for (const policy of this.#demands.due(this.#host.now.mono)) this.demand(policy, {}, false);
  }

  /** Someone wants a child: it is negotiated unless that is under way or a pause is to be waited out. */
  demand(policy: ChildPolicy, waiter: Waiter, standing: boolean, asked?: AskedEnds): void {
    if (!this.#demands.want(policy, waiter, standing, this.#host.now.mono)) return;
    const demand = { policy, packet: this.#demands.packetFor(policy.name) };
    if (policy.local.length === 0 || policy.peer.length === 0) return this.failed(demand, NO_ADDRESSES);
    this.#host.negotiate(demand, asked);
  }

  /** Takes it on as an attempt; false where one is under way or a pause is to be waited out. */
  claim(policy: ChildPolicy): boolean {
    return this.#demands.want(policy, {}, false, this.#host.now.mono);
  }

  satisfied({ policy }: Demand, child: SaPair): void {
    this.#host.failures.mended(policy.name);
    this.#host.failures.mended(policy.remote);
    this.#tell(this.#demands.met(policy.name), child);
  }

  /** A child of the peer's making is in the datapath. */
  arrived(child: SaPair): void {
    this.#tell(this.#demands.arrived(child.policy.name), child);
  }

  #tell(waiters: readonly Waiter[], child: SaPair): void {
    for (const { command } of waiters)
      if (command !== undefined) this.#host.replies.settle(command, child.policy.name, undefined, child.label);
  }

  failed({ policy }: Demand, why: string): void {
    const { now } = this.#host;
    this.#host.remember(policy.name, why);
    const { waiters, again } = this.#demands.failed(policy, now.mono);
    this.#refuse(waiters, policy.name, why, ERRNO.ETIMEDOUT);
    if (again === undefined) return;
    const text = `${policy.name} is tried again in ${again / 1000} s`;
    this.#host.report('retry-scheduled', text, { child: policy.name, afterMs: again });
  }

  #refuse(waiters: readonly Waiter[], name: string, why: string, errno: number): void {
    for (const { command, acquire } of waiters) {
      if (command !== undefined) this.#host.replies.settle(command, name, why);
      if (acquire !== undefined) this.#host.asks.refuseAcquire(acquire.seq, acquire.satype, errno, this.#host.now);
    }
  }

  mayInitiate(child: ChildPolicy): boolean {
    return this.#host.beginner(child) === 'us';
  }

  /** `initiate start`: as soon as configuration and datapath are there, and again whenever it is lost. */
  startStanding(): void {
    for (const child of this.#host.policies.all) {
      if (child.policy.initiate !== 'start' || this.#stopped.has(child.name) || !this.mayInitiate(child)) continue;
      if (!this.#carried(child.name)) this.demand(child, {}, true);
    }
  }

  #carried(name: string, except?: SaPair): boolean {
    return this.#host.pairs().some((child) => child !== except && child.policy.name === name && child.usable);
  }

  /** A child is gone and no other took its place. */
  childGone(child: SaPair, why: string, wanted: boolean): void {
    const policy = this.#host.policies.child(child.policy.name);
    if (policy === undefined || this.#stopped.has(policy.name) || !this.mayInitiate(policy)) return;
    if (policy.policy.initiate !== 'start' || this.#carried(policy.name, child)) return;
    if (wanted) this.#host.remember(policy.name, why);
    this.#demands.again(policy, this.#host.now.mono);
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
