/**
 * The ends of a child rekey: which SA takes over, when each half is installed and deleted, and what the errors mean (RFC 7296 §2.8, §2.8.1, §2.25).
 *
 * No packet is lost when old and new overlap the right way round. The initiator of the rekey cannot receive on the new SA before it has the
 * response, so the responder installs only its inbound half at once and goes on sending on the old SA; its new outbound half follows with
 * the DELETE of the old SA, which proves that the initiator is ready, or after HOLD_OUTBOUND_MS. The response itself leaves once the datapath
 * has that inbound half. The initiator installs inbound, then outbound; the datapath sends on the newest outbound SA; the DELETE leaves
 * once both are in. Whoever deletes takes the old outbound SA out at once and leaves the old inbound SA for DRAIN_MS, because packets and
 * the DELETE take different ways through two hosts.
 */

import type { ChildSa } from './child-sa.ts';
import { type Nonces, oursIsRedundant, redundantChild } from './collisions.ts';
import { activate, dropChild } from './endings.ts';
import type { IkeSa, Task } from './ike-sa.ts';

/** A peer that answers TEMPORARY_FAILURE for this long is out of step with us (§2.25). Milliseconds. */
const OUT_OF_STEP_MS = 180_000;
/** Pause before a request that met TEMPORARY_FAILURE is repeated, and the random part added to it. Milliseconds. */
const RETRY_MS = 2_000;
const RETRY_JITTER_MS = 2_000;

/** Our rekey of `old` was granted. `make` enters the new child, with or without an outbound SA. */
export function concludeRekeyed(
  sa: IkeSa,
  old: ChildSa,
  ours: Nonces,
  make: (outbound: 'now' | 'none') => ChildSa | undefined,
): void {
  const { successor } = old;
  old.rekeying = false;
  if (successor !== undefined && oursIsRedundant(ours, successor)) {
    // §2.8.1: the lowest nonce is in our exchange, so we close what we created; the peer closes the old SA.
    const redundant = make('none');
    supersede(old);
    if (redundant === undefined) return;
    redundant.superseded = true;
    sa.add({ kind: 'delete-child', children: [redundant] });
    return;
  }
  const child = make('now');
  if (child === undefined) return;
  child.replaces = old;
  if (successor !== undefined) {
    // The peer closes what it created. We never send on it, unless our response took so long that its outbound half is in already.
    successor.child.outboundAt = undefined;
    if (successor.child.outboundState === 'held') successor.child.outboundState = 'none';
    successor.child.replaces = undefined;
    supersede(successor.child);
  }
  supersede(old);
}

function supersede(child: ChildSa): void {
  child.superseded = true;
  if (child.state !== 'gone' && child.state !== 'deleting') child.state = 'replaced';
}

/** The datapath has all of a child: it is announced, and what we made to replace another now has that one deleted. */
export function announce(child: ChildSa): void {
  const { ike, replaces, agreed } = child;
  if (child.state === 'installing') child.state = 'installed';
  if (child.announced || child.superseded) return;
  child.announce(replaces);
  const redundant = redundantChild(child);
  if (redundant !== undefined) {
    redundant.superseded = true;
    ike.add({ kind: 'delete-child', children: [redundant] });
  }
  if (replaces !== undefined && agreed.initiator && replaces.state === 'replaced')
    ike.add({ kind: 'delete-child', children: [replaces] });
}

/** The peer deletes `old`: what replaces it may be used from now on. */
export function switchOver(old: ChildSa): void {
  const next = old.successor?.child ?? old.ike.children.find((child) => child.replaces === old);
  if (next === undefined || next.state === 'gone') return;
  old.superseded = true;
  activate(next);
}

/** TEMPORARY_FAILURE: wait, then ask again, for minutes at most; unless the peer's own rekey has done the work (§2.8.1, §2.25). */
export function retryLater(sa: IkeSa, task: Task, why: string): void {
  const { host } = sa;
  if (task.kind === 'rekey-child' && settledByPeer(task.child)) return;
  sa.failingSince ??= host.now.mono;
  if (host.now.mono - sa.failingSince > OUT_OF_STEP_MS) {
    sa.add({
      kind: 'delete-ike',
      why: `it has answered TEMPORARY_FAILURE for ${OUT_OF_STEP_MS / 1000} s: the two ends are out of step`,
    });
    return;
  }
  sa.report('notify-received', why, { notify: 'TEMPORARY_FAILURE' });
  const after = host.now.mono + RETRY_MS + (RETRY_JITTER_MS * host.random(1)[0]!) / 255;
  sa.add({ ...task, after, tries: (task.tries ?? 0) + 1 });
}

/** CHILD_SA_NOT_FOUND: the child is deleted here too, without a word, and a new one is asked for (§2.25). */
export function createAnew(sa: IkeSa, child: ChildSa): void {
  if (settledByPeer(child)) return;
  child.superseded = true;
  dropChild(child, 'the peer does not have it any more', true);
  sa.add({ kind: 'create-child', demand: { policy: child.policy } });
}

/** Whether the peer has replaced or deleted the child while our request was under way: then its refusal means nothing. */
function settledByPeer(child: ChildSa): boolean {
  child.rekeying = false;
  if (child.state === 'gone') return true;
  if (child.successor === undefined) return false;
  supersede(child);
  return true;
}
