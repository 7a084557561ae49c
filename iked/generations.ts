/** Configuration by generation: checked at prepare, in force at commit; what did not change keeps its SAs (decisions §3). */

import type { Secret } from '../src/bytes/secret.ts';
import type { LocalAddress } from '../src/config/expand.ts';
import type { ChildPolicy } from '../src/keying/child-policy.ts';
import type { Owner } from './host.ts';
import { Peers } from './peers.ts';
import type { IkedSettings } from './ports.ts';
import { refuseSettings } from './settings.ts';
import { deleteChildren, end, type KeySa, withdraw } from './versions.ts';

export class Generations {
  readonly #owner: Owner;
  #prepared: { readonly generation: number; readonly peers: Peers; readonly settings: IkedSettings } | undefined;
  #settings: IkedSettings | undefined;
  /** What is in force, and its number; 0: nothing yet. */
  peers: Peers = Peers.none;
  generation = 0;

  constructor(owner: Owner) {
    this.#owner = owner;
  }

  prepare(generation: number, settings: IkedSettings): void {
    const peers = new Peers(settings, this.#owner.local);
    const reason = refuseSettings(peers, settings);
    if (reason !== undefined) {
      this.#owner.report('configuration-rejected', `generation ${generation} is refused: ${reason}`, { generation });
      return this.#owner.emit({ kind: 'configuration', generation, state: 'rejected', reason });
    }
    this.#prepared = { generation, peers, settings };
    this.#owner.emit({ kind: 'configuration', generation, state: 'prepared' });
  }

  abort(generation: number): void {
    if (this.#prepared?.generation === generation) this.#prepared = undefined;
  }

  /** True where it is in force now. */
  commit(generation: number): boolean {
    if (this.#prepared?.generation !== generation) {
      const reason = `generation ${generation} was not prepared`;
      this.#owner.emit({ kind: 'configuration', generation, state: 'rejected', reason });
      return false;
    }
    const { settings } = this.#prepared;
    const kept = new Set(keysOf(settings));
    for (const psk of keysOf(this.#settings)) if (!kept.has(psk)) psk.wipe();
    this.peers = this.#prepared.peers;
    this.#settings = settings;
    this.generation = generation;
    this.#prepared = undefined;
    for (const sa of this.#owner.table.all()) this.#owner.guard(sa, () => this.#reconcile(sa));
    const text = `generation ${generation} is in force: ${this.peers.names.length} remotes`;
    this.#owner.report('configured', text, { generation });
    this.#owner.emit({ kind: 'configuration', generation, state: 'committed' });
    return true;
  }

  /** The host's addresses changed: what the `MY_` macros mean may be something else now. */
  relocate(local: readonly LocalAddress[]): void {
    if (this.#settings === undefined) return;
    const peers = new Peers(this.#settings, local);
    const same = peers.all.every((peer) =>
      peer.children.every(({ name, fingerprint }) => this.peers.child(name)?.fingerprint === fingerprint),
    );
    if (same) return;
    this.peers = peers;
    for (const sa of this.#owner.table.all()) this.#owner.guard(sa, () => this.#reconcile(sa));
  }

  /** What did not change keeps its SAs; what did is torn down with a DELETE. */
  #reconcile(sa: KeySa): void {
    const before = sa.peer;
    if (before === undefined) return;
    const after = this.peers.again(before);
    if (after === undefined || after.fingerprint !== before.fingerprint) {
      const why = after === undefined ? `remote ${before.name} is no longer configured` : `remote ${before.name} was changed`;
      if (!sa.authenticated || sa.state.name === 'established') end(sa, why);
      return;
    }
    sa.peer = after;
    const stale = sa.children.filter(
      (child) => child.state !== 'deleting' && this.peers.child(child.policy.name)?.fingerprint !== child.policy.fingerprint,
    );
    if (stale.length > 0) deleteChildren(sa, stale);
    for (const demand of withdraw(sa, ({ policy }) => usable(this.peers.child(policy.name))))
      this.#owner.failed(demand, 'its selector is no longer configured, or has no address here');
  }
}

function keysOf(settings: IkedSettings | undefined): Secret[] {
  return [...(settings?.psks.values() ?? []), ...(settings?.psksV1?.values() ?? [])];
}

function usable(policy: ChildPolicy | undefined): boolean {
  return policy !== undefined && policy.local.length > 0 && policy.peer.length > 0;
}
