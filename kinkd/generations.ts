/** Configuration by generation: checked at prepare, in force at commit; what did not change keeps its SAs (decisions §3). */

import { ConfigError } from '../src/errors.ts';
import type { Association } from './association.ts';
import { failTransaction } from './endings.ts';
import type { Host } from './host.ts';
import { startDelete } from './initiator.ts';
import { Peers, refuseSettings } from './peers.ts';
import type { KinkdSettings } from './ports.ts';

interface Prepared {
  readonly generation: number;
  readonly peers: Peers;
  readonly settings: KinkdSettings;
}

export class Generations {
  readonly #host: Host;
  readonly #associations: () => readonly Association[];
  #prepared: Prepared | undefined;
  #settings: KinkdSettings | undefined;
  /** What is in force, and its number; 0: nothing yet. */
  peers: Peers = Peers.none;
  generation = 0;

  constructor(host: Host, associations: () => readonly Association[]) {
    this.#host = host;
    this.#associations = associations;
  }

  prepare(generation: number, settings: KinkdSettings): void {
    const peers = this.#read(settings);
    const reason = typeof peers === 'string' ? peers : refuseSettings(peers);
    if (reason !== undefined || typeof peers === 'string') {
      this.#host.report('configuration-rejected', `generation ${generation} is refused: ${reason}`, { generation });
      return this.#host.emit({ kind: 'configuration', generation, state: 'rejected', reason: `${reason}` });
    }
    this.#prepared = { generation, peers, settings };
    this.#host.emit({ kind: 'configuration', generation, state: 'prepared' });
  }

  #read(settings: KinkdSettings): Peers | string {
    try {
      return new Peers(settings, this.#host.local);
    } catch (error) {
      if (error instanceof ConfigError) return error.message;
      throw error;
    }
  }

  abort(generation: number): void {
    if (this.#prepared?.generation === generation) this.#prepared = undefined;
  }

  /** True where it is in force now. */
  commit(generation: number): boolean {
    if (this.#prepared?.generation !== generation) {
      const reason = `generation ${generation} was not prepared`;
      this.#host.emit({ kind: 'configuration', generation, state: 'rejected', reason });
      return false;
    }
    const { settings, peers } = this.#prepared;
    if (this.#settings !== undefined && this.#settings.keytab !== settings.keytab) this.#settings.keytab.wipe();
    this.peers = peers;
    this.#settings = settings;
    this.generation = generation;
    this.#prepared = undefined;
    for (const association of this.#associations()) this.#reconcile(association);
    this.#host.report('configured', `generation ${generation} is in force: ${peers.all.length} remotes`, { generation });
    this.#host.emit({ kind: 'configuration', generation, state: 'committed' });
    return true;
  }

  /** The host's addresses changed: what the `MY_` macros mean may be something else now. */
  relocate(): void {
    if (this.#settings === undefined) return;
    const peers = new Peers(this.#settings, this.#host.local);
    const same = peers.served.every(({ name, fingerprint }) => this.peers.child(name)?.fingerprint === fingerprint);
    if (same) return;
    this.peers = peers;
    for (const association of this.#associations()) this.#reconcile(association);
  }

  /** What did not change keeps its SAs; what did is deleted in agreement with the peer. */
  #reconcile(association: Association): void {
    const before = association.peer;
    const after = this.peers.byName(before.name);
    const changed = after?.fingerprint !== before.fingerprint;
    const gone = after === undefined ? 'is no longer configured' : 'was changed';
    const current = (name: string) => this.peers.child(name);
    for (const transaction of [...association.transactions.values()]) {
      const { work, stage } = transaction;
      if (work.kind !== 'create' || stage === 'lingering') continue; // what is up is a pair, see below
      const { policy } = work.demand;
      if (changed) failTransaction(transaction, `remote ${before.name} ${gone}`);
      else if (current(policy.name)?.fingerprint !== policy.fingerprint)
        failTransaction(transaction, `selector ${policy.name} was changed or is no longer configured`);
    }
    const stale = association.pairs.filter(({ policy }) => changed || current(policy.name)?.fingerprint !== policy.fingerprint);
    if (stale.length > 0) startDelete(association, stale, changed ? `remote ${before.name} ${gone}` : 'its selector was changed');
    // The DELETE goes under what was in force when the SAs were made; what begins later goes by the new words.
    if (after !== undefined) association.peer = after;
  }
}
