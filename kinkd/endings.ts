/** How pairs and transactions end: taken out of the datapath, told to whoever waits, and what a peer's new epoch takes with it (RFC 4430 §3.3, §3.7). */

import type { NamedSa } from '../src/ipsec/sa.ts';
import { DRAIN_MS } from '../src/keying/sa-pair.ts';
import type { Association } from './association.ts';
import type { KinkPair } from './pair.ts';
import type { Transaction } from './transaction.ts';

/** A rekey that failed is tried again after this. Milliseconds. */
const REKEY_AGAIN_MS = 10_000;

/** More are forgotten, the oldest first. */
const MOST_UNTOLD = 64;

/** Takes a pair out: its outbound SA now, its inbound one after `drainMs`, when what is on its way has come (RFC 4430 §3.3). */
export function dropPair(pair: KinkPair, drainMs: number, why: string, wanted: boolean): void {
  const { association } = pair;
  if (pair.state === 'gone') return;
  pair.state = 'gone';
  association.pairs = association.pairs.filter((other) => other !== pair);
  association.host.uninstall(pair, drainMs);
  if (pair.announced) pair.renounce(why);
  for (const answer of association.answers.values()) {
    if (answer.stage !== 'awaiting-ack' || !answer.pairs.includes(pair)) continue;
    // The ACK is still for the others.
    if (answer.pairs.some(({ state }) => state !== 'gone')) continue;
    answer.stage = 'answered';
    answer.linger();
  }
  if (!pair.superseded && !association.carriedBesides(pair)) association.host.pairGone(pair, why, wanted);
  settle(association);
}

/** A command came to nothing. What was obtained for it is given back, and who waits is told. */
export function failTransaction(transaction: Transaction, why: string): void {
  const { association, work } = transaction;
  const { host } = association;
  giveBack(transaction);
  transaction.close();
  switch (work.kind) {
    case 'create': {
      const { demand, replaces } = work;
      association.report('child-sa-failed', `no child SA for ${demand.policy.name}: ${why}`, { child: demand.policy.name });
      if (replaces === undefined) host.failed(demand, why);
      else {
        replaces.rekeying = false;
        if (replaces.usable) replaces.rekeyAt = host.now.mono + REKEY_AGAIN_MS;
      }
      break;
    }
    case 'delete':
      for (const pair of work.pairs) dropPair(pair, DRAIN_MS, `${work.why} (the peer was not told: ${why})`, false);
      tellOnceHeard(association, work.sas, work.why);
      break;
    default:
      host.remember(association.peer.name, why);
  }
  settle(association);
}

/** SAs that the peer may still have, and we have not: it gets a DELETE when it is heard next. */
export function tellOnceHeard(association: Association, sas: readonly NamedSa[], why: string): void {
  const { untold, host } = association;
  association.untold = { sas: [...(untold?.sas ?? []), ...sas].slice(-MOST_UNTOLD), since: host.now.mono, why };
}

/** What a command of ours had from the datapath before it came to anything. */
export function giveBack({ association, work }: Transaction): void {
  if (work.kind !== 'create') return;
  const { host } = association;
  const { offer, optimistic, pair } = work;
  offer?.share?.wipe();
  if (pair !== undefined) {
    pair.superseded = true; // it never carried anything
    dropPair(pair, 0, 'it could not be installed', false);
  } else if (optimistic !== undefined) removeOptimistic(optimistic);
  else if (offer !== undefined) host.releaseSpi(offer.spi);
  delete work.optimistic;
}

export function removeOptimistic(optimistic: KinkPair): void {
  const { association } = optimistic;
  optimistic.state = 'gone';
  association.pairs = association.pairs.filter((other) => other !== optimistic);
  association.host.uninstall(optimistic, 0);
}

/** When an epoch was shown: the peer's clock in an AP-REQ, or ours when we sent the authenticator that an AP-REP answers. */
export type Shown = { readonly ctime: number; readonly cusec: number } | { readonly sentAt: number };

/**
 * Takes note of the EPOCH of an authentic message. Another one than before says that the peer has forgotten all SAs (RFC 4430 §3.7), and so do we.
 * False where the message is from the peer's earlier life: it was made before the epoch at hand was first shown.
 */
export function hearEpoch(association: Association, EPOCH: number, shown: Shown): boolean {
  const { host } = association;
  const { mono } = host.now;
  const known = association.EPOCH;
  if (known === undefined || EPOCH === 0 || known.value === EPOCH) {
    // racoon2 says 0 for "not given".
    if (EPOCH !== 0) association.EPOCH = { value: EPOCH, since: known?.since ?? mono, ...newest(known?.ctime, shown) };
    heardNow(association);
    return true;
  }
  const before = 'sentAt' in shown ? shown.sentAt < known.since : known.ctime !== undefined && micros(shown) < known.ctime;
  if (before) return false;
  association.EPOCH = { value: EPOCH, since: mono, ...newest(undefined, shown) };
  heardNow(association);
  forgetPast(association, EPOCH);
  return true;
}

function heardNow(association: Association): void {
  association.heard = association.host.now.mono;
  association.vouched = 0;
}

function forgetPast(association: Association, EPOCH: number): void {
  const { transactions, answers } = association;
  const underWay = [...transactions.values()];
  const kept = new Set(
    underWay.flatMap(({ work }) => (work.kind === 'create' && work.optimistic !== undefined ? [work.optimistic] : [])),
  );
  const lost = association.pairs.filter((pair) => !kept.has(pair));
  association.report(
    'peer-restarted',
    `the peer has a new epoch, ${EPOCH}: ${lost.length === 0 ? 'no SAs are' : `${lost.length} pairs of SAs are`} forgotten`,
    { pairs: lost.length },
  );
  association.untold = undefined;
  for (const answer of [...answers.values()]) answer.forget();
  for (const transaction of underWay) {
    const { work, stage } = transaction;
    if (work.kind === 'delete' || stage === 'lingering') transaction.close();
    else if (stage === 'concluding') failTransaction(transaction, 'the peer restarted');
  }
  for (const pair of lost) dropPair(pair, DRAIN_MS, 'the peer restarted', pair.usable);
}

function newest(known: number | undefined, shown: Shown): { ctime?: number } {
  const ctime = 'sentAt' in shown ? known : Math.max(known ?? 0, micros(shown));
  return ctime === undefined ? {} : { ctime };
}

function micros({ ctime, cusec }: { readonly ctime: number; readonly cusec: number }): number {
  return ctime * 1_000_000 + cusec;
}

/** Tells who waits for the association's end, where nothing is left of it. */
export function settle(association: Association): void {
  if (association.idle) association.host.ended(association);
}
