/** What there is with every principal, by remote; and every command of ours, by XID. */

import { readU32be } from '../src/bytes/bytes.ts';
import { Fault } from '../src/errors.ts';
import type { Path } from '../src/net/address.ts';
import { Association } from './association.ts';
import type { Host } from './host.ts';
import type { Peer } from './peers.ts';
import type { Transaction } from './transaction.ts';

export class AssociationTable {
  readonly #host: Host;
  readonly #byRemote = new Map<string, Association>();

  constructor(host: Host) {
    this.#host = host;
  }

  all(): readonly Association[] {
    return [...this.#byRemote.values()];
  }

  ofRemote(name: string): Association | undefined {
    return this.#byRemote.get(name);
  }

  /** What there is with a peer, or a new association. */
  of(peer: Peer, path: Path): Association {
    const known = this.#byRemote.get(peer.name);
    if (known !== undefined) return known;
    const association = new Association(this.#host, peer, path);
    this.#byRemote.set(peer.name, association);
    return association;
  }

  forget(association: Association): void {
    association.closed = true;
    this.#byRemote.delete(association.peer.name);
  }

  /** The command of ours with this XID. */
  transaction(XID: number): Transaction | undefined {
    for (const { transactions } of this.#byRemote.values()) {
      const found = transactions.get(XID);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** An XID that none of our transactions has, RFC 4430 §4. */
  newXid(): number {
    for (let tries = 0; tries < 100; tries++) {
      const XID = readU32be(this.#host.random(4));
      if (this.transaction(XID) === undefined) return XID;
    }
    throw new Fault('the source of randomness repeats itself: no unused XID in 100 draws');
  }
}
