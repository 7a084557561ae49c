/** Several IKE SAs with one peer: which of them is the past, and which of two that both ends began is closed (RFC 7296 §2.4, §2.8.1). */

import { sameIdentity } from './auth/identity.ts';
import type { Owner } from './host.ts';
import { meet } from './ikev1/endings.ts';
import { redundantIkeSa } from './ikev2/collisions.ts';
import type { IkeSa } from './ikev2/ike-sa.ts';
import { createChild, end, type KeySa, retire, saOf } from './versions.ts';

/** A redundant IKE SA is deleted this long after it was found to be one, when the children of the other are in. Milliseconds. */
const YIELD_MS = 2_000;

/** First authentication of this peer since we began: INITIAL_CONTACT is due. */
export function isFirstContact({ table }: Owner, remote: string): boolean {
  return !table.ofRemote(remote).some((sa) => sa.state.name === 'established');
}

/**
 * With INITIAL_CONTACT the peer says that it has forgotten what it had with us before. What was authenticated only after this IKE SA began
 * was made at the same time by both ends: that is no past, and one of the two is closed in good order.
 */
export function contacted(owner: Owner, sa: KeySa, initialContact: boolean): void {
  const remote = sa.peer!.name;
  owner.failures.mended(remote);
  owner.failures.mended(`${sa.path.remote.address}`);
  for (const other of owner.table.ofRemote(remote)) {
    if (other === sa || !other.authenticated || other.peerId === undefined || other.myId === undefined) continue;
    if (!sameIdentity(other.peerId, sa.peerId!) || !sameIdentity(other.myId, sa.myId!)) continue;
    if (initialContact && other.authenticatedAt < sa.born) retire(other, `the peer begins anew (INITIAL_CONTACT in ${sa.name})`);
    else if (other.state.name === 'established' || other.state.name === 'rekeyed') join(owner, sa, other);
  }
}

/** One of each version go on side by side: which of them began is the policy's choice at either end. */
function join(owner: Owner, sa: KeySa, other: KeySa): void {
  if (sa.version === 1 && other.version === 1) meet(sa, other);
  if (sa.version === 2 && other.version === 2 && other.state.name === 'established') markRedundant(owner, sa, other);
}

/** Both ends began one: the redundant IKE SA goes, when the children of the other are in. */
function markRedundant({ now }: Owner, sa: IkeSa, other: IkeSa): void {
  const loser = redundantIkeSa(sa, other);
  if (loser === undefined || loser.redundant) return;
  loser.redundant = true;
  loser.timers.set('yield', now.mono + YIELD_MS);
}

/** What only the redundant IKE SA carries is asked for in the other, then it is deleted. */
export function yieldTo({ table, wanted, now }: Owner, loser: IkeSa): void {
  const { name } = loser.peer!;
  const { address } = loser.path.remote;
  const winner = table.carrierOf(name, address); // one remote may stand for many peers (IP_RW)
  if (winner?.state.name !== 'established') {
    // Where the other is being rekeyed by both ends at once, what replaces it takes over; else this one is needed.
    loser.redundant = table
      .ofRemote(name)
      .some(
        (sa) =>
          sa !== loser &&
          sa.version === 2 &&
          sa.path.remote.address.equals(address) &&
          sa.state.name === 'established' &&
          sa.successor !== undefined,
      );
    if (loser.redundant) loser.timers.set('yield', now.mono + YIELD_MS);
    return;
  }
  const others = table.children().filter((child) => saOf(child) !== loser && child.usable);
  const carried = new Set(others.map((child) => child.policy.name));
  const missing = loser.children.filter((child) => child.usable && !carried.has(child.policy.name));
  for (const { policy } of missing) if (wanted.claim(policy)) createChild(winner, { policy });
  const after = now.mono + (missing.length > 0 ? YIELD_MS : 0);
  if (loser.state.name === 'established') end(loser, `both ends began one, and ${winner.name} stays`, { after });
}
