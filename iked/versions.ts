/** What the machine does to an IKE SA (IKEv2) or an ISAKMP SA (IKEv1), whichever it is. The machine and its tables know no other way to either. */

import type { PairEnds } from '../src/keying/ends.ts';
import type { Path } from '../src/net/address.ts';
import type { Demand } from './host.ts';
import * as v1Endings from './ikev1/endings.ts';
import * as v1 from './ikev1/exchanges.ts';
import type { IsakmpSa } from './ikev1/isakmp-sa.ts';
import * as v1Moving from './ikev1/moving.ts';
import { type QuickModePair, twinsOf } from './ikev1/pair.ts';
import * as v1Time from './ikev1/timing.ts';
import type { ChildSa } from './ikev2/child-sa.ts';
import * as v2Endings from './ikev2/endings.ts';
import * as v2 from './ikev2/exchanges.ts';
import type { IkeSa } from './ikev2/ike-sa.ts';
import * as v2Moving from './ikev2/moving.ts';
import * as v2Time from './ikev2/timing.ts';

/** One relation with a peer, in which children are negotiated. */
export type KeySa = IkeSa | IsakmpSa;
/** A pair of IPsec SAs that was negotiated in one. */
export type KeyChild = ChildSa | QuickModePair;

/** The relation that a child belongs to. */
export function saOf(child: KeyChild): KeySa {
  return child.owner;
}

/** Begins what waits, where that may begin. */
export function advance(sa: KeySa): void {
  if (sa.version === 1) v1.advance(sa);
  else v2.advance(sa);
}

/** Everything whose time has come. */
export function passTime(sa: KeySa): void {
  if (sa.version === 1) v1Time.passTime(sa);
  else v2Time.passTime(sa);
}

/** The datapath is back, and with it the way of our messages. */
export function wayRestored(sa: KeySa): void {
  if (sa.version === 1) v1Time.wayRestored(sa);
  else v2Time.wayRestored(sa);
}

/** The datapath's answer to the question for an SPI. */
export function spiArrived(sa: KeySa, role: 'request' | 'response', spi: number | undefined): void {
  if (sa.version === 1) v1.spiArrived(sa, role, spi);
  else v2.spiArrived(sa, role, spi);
}

/** The datapath has both SAs of a child. */
export function childInstalled(child: KeyChild): void {
  if (child.version === 1) v1.childInstalled(child);
  else v2.childInstalled(child);
}

/** The datapath refused an SA of a child. */
export function childRefused(child: KeyChild, why: string): void {
  if (child.version === 1) v1.childRefused(child, why);
  else v2.childRefused(child, why);
}

/** ESP of the peer's comes from another address or port. */
export function follow(sa: KeySa, path: Path): void {
  if (sa.version === 1) v1.follow(sa, path);
  else v2.follow(sa, path);
}

/** A mobility daemon moved it, with its peer's consent. */
export function move(sa: KeySa, to: PairEnds): void {
  if (sa.version === 1) v1Moving.move(sa, to);
  else v2Moving.move(sa, to);
}

/** A mobility daemon moved its children, and it was not to move with them. */
export function leaveBehind(sa: KeySa): void {
  if (sa.version === 1) v1Moving.dropMoved(sa);
  else v2Moving.dropMoved(sa);
}

/** A new child is asked for, before anything else that waits where it is urgent. */
export function createChild(sa: KeySa, demand: Demand, urgent = false): void {
  if (urgent) sa.tasks.unshift({ kind: 'create-child', demand });
  else sa.add({ kind: 'create-child', demand });
}

/** Demands that wait in it and for which `keep` does not hold are taken out, and returned. */
export function withdraw(sa: KeySa, keep: (demand: Demand) => boolean): Demand[] {
  const gone: Demand[] = [];
  const stays = (task: KeySa['tasks'][number]) => {
    if (task.kind !== 'create-child' || keep(task.demand)) return true;
    gone.push(task.demand);
    return false;
  };
  if (sa.version === 1) sa.tasks = sa.tasks.filter(stays);
  else sa.tasks = sa.tasks.filter(stays);
  return gone;
}

/** A child is replaced by a new one, unless that is under way on either side. True where it was begun. */
export function rekeyChild(child: KeyChild): boolean {
  if (!child.usable || child.rekeying || child.superseded) return false;
  if (child.version === 1) {
    // Several may be there for the same traffic until the peer has shown that it has the newest: one new pair takes over from all.
    if (twinsOf(child).some(({ rekeying, superseded }) => rekeying && !superseded)) return false;
    child.isakmp.add({ kind: 'rekey-child', child });
  } else {
    if (child.successor !== undefined) return false;
    child.ike.add({ kind: 'rekey-child', child });
  }
  return true;
}

/** Children of one relation are deleted in agreement with the peer. */
export function deleteChildren(sa: KeySa, children: readonly KeyChild[]): void {
  if (sa.version === 1) sa.add({ kind: 'delete-child', children: children.filter((child) => child.version === 1) });
  else sa.add({ kind: 'delete-child', children: children.filter((child) => child.version === 2) });
}

/** The relation itself gets new keys. */
export function rekey(sa: KeySa): void {
  if (!sa.has('rekey-ike')) sa.add({ kind: 'rekey-ike' });
}

/** Ends it in good order, as soon as it may; what is not established yet is given up at once. */
export function end(sa: KeySa, why: string, how: { readonly after?: number; readonly urgent?: boolean } = {}): void {
  if (!sa.authenticated) return fail(sa, why);
  if (sa.has('delete-ike') || sa.state.name === 'closing') return;
  const task = { kind: 'delete-ike', why, ...(how.after === undefined ? {} : { after: how.after }) } as const;
  if (how.urgent) sa.tasks.unshift(task);
  else sa.add(task);
}

/** It was never established, and is not to be. */
function fail(sa: KeySa, why: string): void {
  if (sa.version === 1) v1Endings.failIsakmpSa(sa, why);
  else v2Endings.failIkeSa(sa, why);
}

/** The peer has begun anew: nothing more is said in this relation. */
export function retire(sa: KeySa, why: string): void {
  if (sa.version === 1) v1Endings.retire(sa, why);
  else v2Endings.retire(sa, why);
}

/** Ends it at once and without a word, after a fault of ours. */
export function abandon(sa: KeySa): void {
  if (sa.version === 1) v1Endings.closeIsakmpSa(sa, 'a fault of this program', true, 'with it');
  else v2Endings.closeIkeSa(sa, 'a fault of this program', true);
}
