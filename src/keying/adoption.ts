/** SAs of an earlier run that a DUMP shows: kept until new ones carry their traffic, then deleted; and those of ours that it does not show. */

import { type Ends, sameEnds } from '../ipsec/policy.ts';
import type { SaParameters } from '../ipsec/sa.ts';
import type { Instant } from '../machine.ts';
import type { SadbMessage } from '../pfkey/message.ts';
import { SADB_SASTATE } from '../pfkey/registry.ts';
import { dumpedSa } from './asks.ts';
import type { ChildPolicy } from './child-policy.ts';
import { DRAIN_MS, type SaPair } from './sa-pair.ts';

export class Adoption {
  readonly #remove: (sa: SaParameters, drainMs: number, now: Instant) => void;
  #old: SaParameters[] = [];
  /** Reqids whose SAs were told of since the last DUMP. */
  readonly #told = new Set<number>();

  /** `remove` takes an SA out of the datapath. */
  constructor(remove: (sa: SaParameters, drainMs: number, now: Instant) => void) {
    this.#remove = remove;
  }

  /** Takes note of the SAs that are not ours, and returns the children that the datapath does not have any more. */
  compare<P extends SaPair>(messages: readonly SadbMessage[], children: readonly P[]): P[] {
    const mature = messages.filter(
      ({ sa }) => sa !== undefined && sa.state !== SADB_SASTATE.LARVAL && sa.state !== SADB_SASTATE.DEAD,
    );
    const sas = mature.flatMap((message) => dumpedSa(message) ?? []);
    const ours = (sa: SaParameters) =>
      children.some(
        (child) => child.spiIn === sa.spi || (child.spiOut === sa.spi && child.path.remote.address.equals(sa.destination)),
      );
    this.#old = sas.filter((sa) => !ours(sa));
    this.#told.clear();
    return children.filter((child) => child.pending === 0 && child.state !== 'gone' && !sas.some((sa) => sa.spi === child.spiIn));
  }

  /** The selectors that the adopted SAs serve, by their reqid, each told once. */
  news(policies: readonly ChildPolicy[]): string[] {
    const reqids = new Set(this.#old.map(({ reqid }) => reqid).filter((reqid) => !this.#told.has(reqid)));
    const served = policies.filter((child) => reqids.has(child.reqid));
    for (const { reqid } of served) this.#told.add(reqid);
    return served.map(({ name }) => name);
  }

  /** A new child is in: the old SAs of the same policy go, the inbound ones after what is on its way has come. */
  carried(child: SaPair, now: Instant): void {
    const { reqid } = child.policy;
    const { remote } = child.path;
    // One selector may serve many peers (`IP_RW`): those of others stay.
    const replaced = (sa: SaParameters) =>
      sa.reqid === reqid && (sa.source.equals(remote.address) || sa.destination.equals(remote.address));
    if (child.outboundState !== 'installed') return;
    for (const sa of this.#old.filter(replaced)) this.#remove(sa, DRAIN_MS, now);
    this.#old = this.#old.filter((sa) => !replaced(sa));
  }

  /** Those of a policy that were between some ends are between others now. */
  relocate({ reqid }: ChildPolicy, from: Ends, to: Ends): void {
    this.#old = this.#old.map((sa) => (sa.reqid === reqid && sameEnds(sa, from) ? { ...sa, ...to } : sa));
  }

  /** One of them reached its lifetime. */
  expired(spi: number): void {
    this.#old = this.#old.filter((sa) => sa.spi !== spi);
  }
}
