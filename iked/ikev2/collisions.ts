/** Exchange collisions: what a request meets that both ends make at once, and which of two new SAs stays (RFC 7296 §2.8.1, §2.8.2, §2.25). */

import { compare } from '../../src/bytes/bytes.ts';
import { PeerError } from '../../src/errors.ts';
import { sameSelector, type TrafficSelector } from '../../src/ipsec/selector.ts';
import type { ChildSa } from './child-sa.ts';
import type { IkeSa } from './ike-sa.ts';

/** The nonces of one exchange. */
export interface Nonces {
  readonly Ni: Uint8Array;
  readonly Nr: Uint8Array;
}

/** Whether the lowest of the four nonces is in `ours`: then the SA that we created is redundant and ours to close (§2.8.1). */
export function oursIsRedundant(ours: Nonces, theirs: Nonces): boolean {
  return compare(lower(ours), lower(theirs)) < 0;
}

function lower({ Ni, Nr }: Nonces): Uint8Array {
  return compare(Ni, Nr) < 0 ? Ni : Nr;
}

/**
 * Both ends asked for the same child at once, which is no rekey: the two serve the same traffic. As in §2.8.1 the one with the lowest nonce
 * goes, closed by whom created it; nothing is closed that the peer created, since it may want both.
 */
export function redundantChild(child: ChildSa): ChildSa | undefined {
  const twin = twinsOf(child).find((other) => other.state === 'installed' && free(other));
  if (twin === undefined || child.state !== 'installed' || !free(child)) return undefined;
  const loser = oursIsRedundant(child.agreed.nonces, twin.agreed.nonces) ? child : twin;
  return loser.agreed.initiator ? loser : undefined;
}

/** Other children of the IKE SA that are for the same traffic. */
export function twinsOf(child: ChildSa): ChildSa[] {
  return child.ike.children.filter((other) => other !== child && sameTraffic(child, other));
}

/** Not on its way to be replaced, nor here to replace another that is still there. */
function free(child: ChildSa): boolean {
  return (
    !child.superseded &&
    !child.rekeying &&
    child.successor === undefined &&
    (child.replaces === undefined || child.replaces.state === 'gone')
  );
}

function sameTraffic(a: ChildSa, b: ChildSa): boolean {
  const same = (one: readonly TrafficSelector[], other: readonly TrafficSelector[]) =>
    one.length === other.length && one.every((ts) => other.some((known) => sameSelector(ts, known)));
  return (
    a.policy.name === b.policy.name &&
    a.agreed.mode === b.agreed.mode &&
    same(a.agreed.local, b.agreed.local) &&
    same(a.agreed.peer, b.agreed.peer)
  );
}

/** The same for IKE SAs that both ends began: which of the two is ours to close. */
export function redundantIkeSa(a: IkeSa, b: IkeSa): IkeSa | undefined {
  if (a.nonces === undefined || b.nonces === undefined || a.begunByUs === b.begunByUs) return undefined;
  const loser = oursIsRedundant(a.nonces, b.nonces) ? a : b;
  return loser.begunByUs ? loser : undefined;
}

/** §2.25.2: a request to create or rekey a child while the IKE SA is being rekeyed, or is no longer the one in use. */
export function checkIkeSaFree(sa: IkeSa): void {
  if (sa.busy('rekey-ike') || sa.successor !== undefined) throw busy('we are rekeying the IKE SA');
  if (sa.state.name !== 'established' || sa.has('delete-ike')) throw busy('we are closing the IKE SA');
}

/** §2.25.1: a request to rekey a child that we are trying to close. One that we are rekeying ourselves is served as usual. */
export function checkChildFree(child: ChildSa): void {
  if (child.state === 'deleting' || child.state === 'replaced') throw busy(`we are closing child SA ${child.label}`);
}

/** §2.25.1, last paragraph, and §2.25.2: a request to rekey the IKE SA. One that we are rekeying ourselves is served as usual. */
export function checkIkeSaRekeyable(sa: IkeSa): void {
  if (sa.busy('create-child', 'rekey-child', 'delete-child')) throw busy('we are creating, rekeying or closing a child SA');
  if (sa.state.name !== 'established' || sa.has('delete-ike')) throw busy('we are closing the IKE SA');
  if (sa.successor !== undefined) throw busy('the IKE SA is being rekeyed already');
}

function busy(why: string): PeerError {
  return new PeerError('TEMPORARY_FAILURE', why);
}
