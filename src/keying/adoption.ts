/** SAs of an earlier run that a DUMP shows: kept until new ones carry their traffic, on hold while the peer forgets them, then deleted; and those of ours that it does not show. */

import { type Ends, sameEnds } from '../ipsec/policy.ts';
import type { NamedSa, SaParameters } from '../ipsec/sa.ts';
import type { Instant } from '../machine.ts';
import type { IpAddress } from '../net/address.ts';
import type { SadbMessage } from '../pfkey/message.ts';
import { SADB_SASTATE } from '../pfkey/registry.ts';
import { HOLD_MS } from '../pfkey/rules.ts';
import { dumpedSa } from './asks.ts';
import type { ChildPolicy } from './child-policy.ts';
import { DRAIN_MS, type SaPair } from './sa-pair.ts';

/** What is done to an SA in the datapath. */
export interface AdoptionDoors {
  readonly remove: (sa: SaParameters, drainMs: number, now: Instant) => void;
  readonly setState: (sa: SaParameters, state: 'on-hold' | 'mature', now: Instant) => void;
}

export class Adoption {
  readonly #doors: AdoptionDoors;
  #old: SaParameters[] = [];
  /** Those that are on hold, with when that is over (`mono`). */
  readonly #held = new Map<string, number>();
  /** Reqids whose SAs were told of since the last DUMP. */
  readonly #told = new Set<number>();

  constructor(doors: AdoptionDoors) {
    this.#doors = doors;
  }

  /** Takes note of the SAs that are not ours, and returns the children that the datapath does not have any more. */
  compare<P extends SaPair>(messages: readonly SadbMessage[], children: readonly P[]): P[] {
    const mature = messages.filter(
      ({ sa }) => sa !== undefined && sa.state !== SADB_SASTATE.LARVAL && sa.state !== SADB_SASTATE.DEAD,
    );
    const sas = mature.flatMap((message) => dumpedSa(message) ?? []);
    const ours = (sa: SaParameters) =>
      children.some(
        (child) => child.has('inbound', sa) || (child.has('outbound', sa) && child.path.remote.address.equals(sa.destination)),
      );
    const isThere = (child: P) =>
      child.sas.every(({ protocol, spiIn }) => sas.some((sa) => sa.spi === spiIn && sa.protocol === protocol));
    this.#old = sas.filter((sa) => !ours(sa));
    this.#held.clear();
    this.#told.clear();
    return children.filter((child) => child.pending === 0 && child.state !== 'gone' && !isThere(child));
  }

  /** The selectors that the adopted SAs serve, by their reqid, each told once. */
  news(policies: readonly ChildPolicy[]): string[] {
    const reqids = new Set(this.#old.map(({ reqid }) => reqid).filter((reqid) => !this.#told.has(reqid)));
    const served = policies.filter((child) => reqids.has(child.reqid));
    for (const { reqid } of served) this.#told.add(reqid);
    return served.map(({ name }) => name);
  }

  /**
   * The peer is about to hear that we forgot what we had, and forgets it too: until a new child is in, what we send on the old SAs of the policy would be
   * lost, so it waits in the datapath (which lets it go by itself, should nothing come of this).
   */
  hold({ reqid }: ChildPolicy, remote: IpAddress, now: Instant): void {
    for (const sa of this.#old) {
      if (sa.reqid !== reqid || !sa.destination.equals(remote) || this.#held.has(nameOf(sa))) continue;
      this.#held.set(nameOf(sa), now.mono + HOLD_MS);
      this.#doors.setState(sa, 'on-hold', now);
    }
  }

  /** Whether what goes out by the policy waits now, for a new child that is under way. */
  holds({ reqid }: ChildPolicy, { mono }: Instant): boolean {
    return this.#old.some((sa) => sa.reqid === reqid && mono < (this.#held.get(nameOf(sa)) ?? 0));
  }

  /** No new child comes for the policy now: the old SAs are all there is. */
  letGo({ reqid }: ChildPolicy, now: Instant): void {
    for (const sa of this.#old) if (sa.reqid === reqid && this.#held.delete(nameOf(sa))) this.#doors.setState(sa, 'mature', now);
  }

  /** A new child is in: the old SAs of the same policy go, the inbound ones after what is on its way has come. */
  carried(child: SaPair, now: Instant): void {
    const { reqid } = child.policy;
    const { remote } = child.path;
    // One selector may serve many peers (`IP_RW`): those of others stay.
    const replaced = (sa: SaParameters) =>
      sa.reqid === reqid && (sa.source.equals(remote.address) || sa.destination.equals(remote.address));
    if (child.outboundState !== 'installed') return;
    for (const sa of this.#old.filter(replaced)) this.#doors.remove(sa, DRAIN_MS, now);
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

function nameOf({ protocol, spi }: NamedSa): string {
  return `${protocol} ${spi}`;
}
