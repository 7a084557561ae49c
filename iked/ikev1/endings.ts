/** How pairs and ISAKMP SAs end and follow one another: what is taken out of the datapath, who is told, what is tried again (RFC 2409 §5.5, RFC 2408 §3.15). */

import type { NamedSa } from '../../src/ipsec/sa.ts';
import { DRAIN_MS } from '../../src/keying/sa-pair.ts';
import type { IsakmpSa, Task } from './isakmp-sa.ts';
import { madeAtOnce, pairsOfPeer, type QuickModePair, redundantOf, samePeer, twinsOf } from './pair.ts';

/** What a new pair replaces is deleted this long after the new one carries the traffic, so that message 3 need not race the DELETE. Milliseconds. */
const REPLACED_MS = 2_000;
/** The same where the peer is the one to delete, and did not. Milliseconds. */
const LEFT_OVER_MS = 12_000;
/** The same for an ISAKMP SA that a newer one replaces. Milliseconds. */
const YIELD_MS = 2_000;
/** How long an ISAKMP SA that the peer has forgotten keeps its pairs beside the new ones. Milliseconds. */
const RETIRED_MS = 700;

/** Whether a pair is still to be rekeyed by us: it is there, and no other carries its traffic. */
export function isRekeyable(pair: QuickModePair): boolean {
  return pair.usable && !pair.superseded;
}

/** The peer has the pair: the outbound SA that was held back is installed now. */
export function activate(pair: QuickModePair): void {
  pair.outboundAt = undefined;
  if (pair.outboundState !== 'held') return;
  pair.isakmp.host.installOutbound(pair);
}

/** A pair is up on both sides: it is announced, and what it replaces goes. */
export function settle(pair: QuickModePair): void {
  if (!pair.announced && !pair.superseded) {
    const replaced = twinsOf(pair).find((other) => other.announced && other.usable && !other.superseded);
    pair.announce(replaced);
    if (pair.demand !== undefined) pair.isakmp.host.satisfied(pair.demand, pair);
    pair.demand = undefined;
  }
  for (const other of twinsOf(pair)) {
    if (other.superseded || !other.confirmed) continue;
    supersede(madeAtOnce(pair, other) ? redundantOf(pair, other) : other);
    if (pair.superseded) return;
  }
}

/**
 * Another pair carries the traffic of `old`. Nothing in IKEv1 says which pair replaces which, so where several are made at once the two ends may
 * see it differently: one end deletes, and the other only what is left over long after.
 */
function supersede(old: QuickModePair): void {
  const { isakmp } = old;
  old.superseded = true;
  if (old.state !== 'installed' && old.state !== 'installing') return;
  old.state = 'replaced';
  const after = isakmp.host.now.mono + (isakmp.originalInitiator ? REPLACED_MS : LEFT_OVER_MS);
  isakmp.tasks.push({ kind: 'delete-child', children: [old], after });
}

/**
 * Whether a pair whose deletion has waited is still to be deleted. What replaced it may be gone, where the two ends chose differently among
 * several: then it is needed.
 */
export function isToGo(pair: QuickModePair): boolean {
  if (pair.state === 'replaced' && !twinsOf(pair).some((other) => other.confirmed && !other.superseded)) revive(pair);
  return pair.state === 'replaced' || pair.state === 'deleting';
}

function revive(pair: QuickModePair): void {
  pair.state = 'installed';
  pair.superseded = false;
}

/** Takes a pair out of everything. `wanted`: its traffic is likely to go on, so it may be negotiated anew. */
export function dropPair(pair: QuickModePair, why: string, wanted: boolean): void {
  if (pair.state === 'gone') return;
  const { isakmp, announced } = pair;
  const heir = heirOf(pair);
  pair.superseded ||= heir !== undefined;
  isakmp.host.uninstall(pair, pair.superseded ? DRAIN_MS : 0);
  isakmp.remove(pair);
  endExchanges(isakmp, pair);
  if (heir !== undefined) {
    // The peer has done with the old one, so it has the new one: it may have overtaken its message 3.
    activate(heir);
    if (heir.state === 'replaced') revive(heir);
  }
  if (pair.demand !== undefined) isakmp.host.failed(pair.demand, why);
  pair.demand = undefined;
  if (!announced) return;
  pair.renounce(why);
  if (!pair.superseded) isakmp.host.childGone(pair, why, wanted);
}

/** The pair that does the work once this one is gone. */
function heirOf(pair: QuickModePair): QuickModePair | undefined {
  const able = twinsOf(pair).filter((other) => (other.usable || other.state === 'replaced') && !other.isakmp.ending);
  return able.find((other) => other.usable) ?? able[0];
}

function endExchanges(sa: IsakmpSa, pair: QuickModePair): void {
  for (const owner of sa.host.table.all()) {
    if (owner.version !== 1) continue;
    for (const exchange of owner.quickModes.values()) {
      const { step } = exchange;
      if ((step.name !== 'installing' && step.name !== 'awaiting-message-3') || step.pair !== pair) continue;
      exchange.step = { name: 'over' };
      exchange.turn.rest();
    }
  }
}

/** A newer ISAKMP SA with the same peer takes over what an older one looked after; nothing of it is negotiated anew (RFC 2409 §5.5: phase 2 SAs live on). */
export function inherit(sa: IsakmpSa, older: IsakmpSa): void {
  const waiting = older.tasks.filter(({ kind }) => kind !== 'liveness' && kind !== 'rekey-ike' && kind !== 'delete-ike');
  older.tasks = older.tasks.filter(({ kind }) => kind === 'delete-ike');
  sa.tasks.push(...waiting);
  for (const pair of [...older.children]) {
    pair.isakmp = sa;
    sa.children.push(pair);
  }
  older.children.length = 0;
  sa.timers.clear('grace');
}

/**
 * Two established ISAKMP SAs with one peer. The newer takes over and the older is deleted by whoever began the newer; where both ends began one
 * at once the one with the lower cookies goes, deleted by whoever began that.
 */
export function meet(sa: IsakmpSa, other: IsakmpSa): void {
  const { mono } = sa.host.now;
  if (other.state.name === 'rekeyed') {
    // Another has taken over from it already, which the peer may have taken for ours to delete.
    if (sa.originalInitiator && other.timers.at('yield') === undefined && other.timers.at('linger') === undefined)
      other.timers.set('yield', mono + YIELD_MS);
    return;
  }
  const atOnce = other.authenticatedAt >= sa.born && other.originalInitiator !== sa.originalInitiator;
  const [winner, loser] = atOnce && cookies(sa) < cookies(other) ? [other, sa] : [sa, other];
  const ours = atOnce ? loser.originalInitiator : sa.originalInitiator;
  inherit(winner, loser);
  loser.redundant = true;
  loser.state = { name: 'rekeyed' };
  loser.clearTimers('rekey', 'liveness', 'grace');
  if (ours) loser.timers.set('yield', mono + YIELD_MS);
  sa.report('ike-sa-rekeyed', `ISAKMP SA ${winner.name} takes over from ${loser.name}`);
  winner.hook('phase1_rekey');
}

function cookies({ CKY_I, CKY_R }: IsakmpSa): string {
  return [...CKY_I, ...CKY_R].map((octet) => String.fromCharCode(octet)).join('');
}

/** Another ISAKMP SA with the same peer that can look after its pairs. */
export function successorOf(sa: IsakmpSa): IsakmpSa | undefined {
  const able = sa.host.table
    .all()
    .filter((other): other is IsakmpSa => other.version === 1 && other !== sa && samePeer(other, sa));
  return able.findLast(({ state }) => state.name === 'established') ?? able.findLast(({ state }) => state.name === 'rekeyed');
}

/** Closes an ISAKMP SA at once and without a message. Its pairs go to another with the same peer, else with it. */
export function closeIsakmpSa(sa: IsakmpSa, why: string, failed: boolean, pairs: 'with it' | 'to another' = 'to another'): void {
  if (sa.closed) return;
  const { host } = sa;
  const announced = sa.authenticated && sa.state.name !== 'rekeyed';
  const successor = pairs === 'to another' ? successorOf(sa) : undefined;
  if (successor !== undefined) {
    successor.resume();
    inherit(successor, sa);
  }
  sa.ending = true;
  for (const pair of [...sa.children]) dropPair(pair, `its ISAKMP SA is gone: ${why}`, failed);
  host.table.forget(sa);
  dispose(sa, why);
  if (announced && successor === undefined) {
    sa.report('ike-sa-down', `ISAKMP SA with ${sa.peerName} is gone: ${why}`, { failed });
    sa.hook('phase1_down');
  }
  host.closed(sa, why, failed && announced);
}

/** An ISAKMP SA that was never established: one clear line, and those who waited are told. */
export function failIsakmpSa(sa: IsakmpSa, why: string): void {
  if (sa.closed) return;
  sa.report('ike-sa-failed', `no ISAKMP SA with ${sa.peerName}: ${why}`);
  sa.host.table.forget(sa);
  dispose(sa, why);
  sa.host.closed(sa, why, true);
}

/** The peer has begun anew: nothing more is said in this SA, and it goes with its pairs as soon as those of its successor carry the traffic. */
export function retire(sa: IsakmpSa, why: string): void {
  if (sa.closed) return;
  if (sa.state.name !== 'rekeyed') {
    sa.report('ike-sa-down', `ISAKMP SA with ${sa.peerName} is gone: ${why}`, { failed: false });
    sa.hook('phase1_down');
  }
  sa.clearTimers();
  sa.redundant = true;
  sa.state = { name: 'rekeyed' };
  dropTasks(sa, why);
  sa.timers.set('linger', sa.host.now.mono + RETIRED_MS);
}

function dispose(sa: IsakmpSa, why: string): void {
  sa.wipe();
  sa.state = { name: 'closed', why };
  sa.clearTimers();
  dropTasks(sa, why);
}

/** Nothing that waits is begun any more, and what is under way is not concluded. Demands among it are failed with `why`. */
function dropTasks(sa: IsakmpSa, why: string): void {
  const open: Task[] = [...sa.tasks, ...(sa.preparing === undefined ? [] : [sa.preparing])];
  for (const { step } of sa.quickModes.values()) {
    if (step.name !== 'awaiting-message-2') continue;
    step.offered.share?.wipe();
    sa.host.releaseSpi(step.offered.spi);
    open.push(step.offered.task);
  }
  sa.tasks = [];
  sa.preparing = undefined;
  sa.parked = [];
  sa.farewells.length = 0;
  sa.probing = undefined;
  sa.turn.rest();
  sa.quickModes.clear();
  for (const task of open) {
    if (task.kind === 'create-child') sa.host.failed(task.demand, why);
    if (task.kind === 'rekey-child') task.child.rekeying = false;
  }
}

/** A pair cannot be asked for, or the peer refused it. The ISAKMP SA stays. */
export function abandonPair(sa: IsakmpSa, task: Task, why: string): void {
  if (task.kind === 'rekey-child') {
    task.child.rekeying = false;
    sa.report('child-sa-failed', `child SA ${task.child.label} was not rekeyed: ${why}`, { child: task.child.policy.name });
    return;
  }
  if (task.kind !== 'create-child') return;
  const { policy } = task.demand;
  sa.report('child-sa-failed', `no child SA for ${policy.name}: ${why}`, { child: policy.name, policy: policy.policy.name });
  sa.host.failed(task.demand, why);
}

/**
 * The peer does not answer: everything with it is given up. Unless it has spoken since in an older ISAKMP SA: then it never had this one, since
 * message 6 of Main Mode was lost for good, and the older one serves again.
 */
export function peerSilent(sa: IsakmpSa, silence: string): void {
  const older = successorOf(sa);
  if (older !== undefined && older.heard > sa.heard) {
    sa.report('peer-silent', `${silence}, but it speaks in ${older.name}: that serves again`);
    return closeIsakmpSa(sa, silence, false);
  }
  sa.report('peer-silent', `${silence}: its ISAKMP SA and child SAs are given up`);
  closeIsakmpSa(sa, silence, true, 'with it');
}

/** Pairs of the peer that this DELETE is about, by any of the SAs that it receives on. */
export function pairsOf(sa: IsakmpSa, named: readonly NamedSa[]): QuickModePair[] {
  return pairsOfPeer(sa).filter((pair) => named.some((one) => pair.has('outbound', one)));
}
