/** What the datapath says of the life of pairs: which it has lost, which are dying or at their end, and which of an earlier run it still has (RFC 2367 §3.1.8, §3.1.10). */

import type { IpAddress } from '../net/address.ts';
import type { SadbMessage } from '../pfkey/message.ts';
import { SADB_SASTATE } from '../pfkey/registry.ts';
import type { Adoption } from './adoption.ts';
import { dumpedSa } from './asks.ts';
import type { ChildPolicy } from './child-policy.ts';
import { Idleness, type IdlenessHost } from './idleness.ts';
import type { Migrations, MovingHost } from './migration.ts';
import type { SaPair } from './sa-pair.ts';
import type { Wanted } from './wanted.ts';

/** What a protocol makes of it. */
export interface LifeHost<P extends SaPair> extends MovingHost, Pick<IdlenessHost<P>, 'askCarried'> {
  readonly adoption: Adoption;
  readonly migrations: Migrations;
  readonly wanted: Wanted;
  /** Policies of the remotes that this daemon speaks to. */
  readonly served: readonly ChildPolicy[];
  pairs(): readonly P[];
  /** The datapath has lost it: what it carried is negotiated anew, with new keys. */
  renegotiate(pair: P): void;
  /** It nears its end and is in use. */
  softExpired(pair: P): void;
  /** It is over, though the peer may not know. */
  hardExpired(pair: P, why: string): void;
}

export class PairLife<P extends SaPair> {
  readonly idleness: Idleness<P>;
  readonly #host: LifeHost<P>;

  constructor(host: LifeHost<P>) {
    this.#host = host;
    this.idleness = new Idleness(host);
  }

  /** What the datapath has and what we think it has: strangers are adopted, what is missing is negotiated anew. */
  synchronised(sas: readonly SadbMessage[], policies: readonly SadbMessage[]): void {
    const host = this.#host;
    host.migrations.synchronise(
      sas.flatMap((message) => dumpedSa(message) ?? []),
      policies,
    );
    const lost = host.adoption.compare(sas, host.pairs());
    if (lost.length > 0)
      host.report('datapath-restarted', `the datapath has lost ${lost.length} child SAs: they are negotiated anew`, {
        children: lost.length,
      });
    for (const pair of lost) host.renegotiate(pair);
    // An EXPIRE that came while we did not listen is seen here.
    for (const { sa, destination, lifetimeCurrent } of sas) {
      const pair = sa?.state === SADB_SASTATE.DYING ? this.pairOf(sa.spi, destination?.address) : undefined;
      if (pair !== undefined) this.#softExpired(pair, lifetimeCurrent);
    }
    this.startAdopted();
    host.wanted.startStanding();
  }

  /** SAs of an earlier run are replaced by new ones: as soon as both the DUMP and the configuration are there, whichever came last. */
  startAdopted(): void {
    const host = this.#host;
    for (const name of host.adoption.news(host.served)) {
      host.report('sa-adopted', `SAs of an earlier run serve ${name}; they are kept until new ones carry its traffic`, {
        child: name,
      });
      const policy = host.policies.child(name);
      if (policy !== undefined && host.wanted.mayInitiate(policy)) host.wanted.demand(policy, {}, true);
    }
  }

  /** SADB_EXPIRE. */
  expired({ sa, destination, lifetimeHard, lifetimeCurrent }: SadbMessage): void {
    if (sa === undefined || destination === undefined) return;
    const pair = this.pairOf(sa.spi, destination.address);
    if (pair === undefined) {
      // At its soft lifetime an adopted SA is still there, and still to be deleted.
      if (lifetimeHard !== undefined) this.#host.adoption.expired(sa.spi);
      return;
    }
    if (lifetimeHard === undefined) return this.#softExpired(pair, lifetimeCurrent);
    if (pair.state !== 'gone') this.#host.hardExpired(pair, 'it reached the end of its lifetime');
  }

  /** By the name of either SA. */
  pairOf(spi: number, destination: IpAddress | undefined): P | undefined {
    const pairs = this.#host.pairs();
    const ends = (end: IpAddress) => destination === undefined || end.equals(destination);
    return (
      pairs.find(({ sas, path }) => sas.some(({ spiIn }) => spiIn === spi) && ends(path.local.address)) ??
      pairs.find(
        ({ sas, path }) => sas.some(({ spiOut }) => spiOut === spi) && destination !== undefined && ends(path.remote.address),
      )
    );
  }

  /** One that nobody uses may end. */
  #softExpired(pair: P, current: SadbMessage['lifetimeCurrent']): void {
    const used = (current?.allocations ?? 0) > 0 || (current?.bytes ?? 0) > 0 || (current?.usetime ?? 0) > 0;
    if (used || pair.policy.policy.initiate === 'start') this.#host.softExpired(pair);
  }
}
