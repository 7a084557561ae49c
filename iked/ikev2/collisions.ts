/** Exchange collisions: what a request meets that both ends make at once, and which of two new SAs stays (RFC 7296 §2.8.1, §2.8.2, §2.25). */

import { compare } from '../../src/bytes/bytes.ts';
import { PeerError } from '../../src/errors.ts';
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
