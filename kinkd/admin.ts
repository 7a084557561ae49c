/** What an operator asks for over control.sock: status, initiate, terminate, rekey, shutdown. */

import { never } from '../src/errors.ts';
import type { Asks } from '../src/keying/asks.ts';
import type { ChildPolicy } from '../src/keying/child-policy.ts';
import type { Failures } from '../src/keying/failures.ts';
import type { KeyHost } from '../src/keying/host.ts';
import type { KeyCommand } from '../src/keying/ports.ts';
import type { Replies } from '../src/keying/replies.ts';
import { childSaStatus, knowledge } from '../src/keying/status.ts';
import type { Wanted } from '../src/keying/wanted.ts';
import { showEndpoint } from '../src/net/address.ts';
import type { Answer } from './answer.ts';
import type { Association } from './association.ts';
import { failTransaction } from './endings.ts';
import type { Host } from './host.ts';
import { rekey, startDelete } from './initiator.ts';
import { showPrincipal } from './krb5/principal.ts';
import type { KinkPair } from './pair.ts';
import type { AssociationStatus, KinkdStatus } from './ports.ts';
import type { Transaction } from './transaction.ts';

/** What commands need of the machine. */
export interface Admin extends Host, Pick<KeyHost, 'policies' | 'pairs' | 'beginner'> {
  readonly asks: Asks<Transaction | Answer | Association, KinkPair>;
  readonly associations: readonly Association[];
  readonly counters: ReadonlyMap<string, number>;
  readonly failures: Failures;
  readonly replies: Replies;
  readonly wanted: Wanted;
}

export function perform(kinkd: Admin, id: number, command: KeyCommand): void {
  switch (command.verb) {
    case 'status':
      return reply(kinkd, id, status(kinkd));
    case 'knows':
      return reply(kinkd, id, knowledge(kinkd, command.name));
    case 'initiate':
      return initiate(kinkd, id, command.name);
    case 'terminate':
      return terminate(kinkd, id, command.name);
    case 'rekey':
      return rekeyNamed(kinkd, id, command.name);
    case 'shutdown':
      return shutdown(kinkd, id);
    default:
      return never(command);
  }
}

function reply(kinkd: Admin, id: number, result: unknown): void {
  kinkd.emit({ kind: 'reply', id, ok: true, result });
}

function refuse(kinkd: Admin, id: number, error: string): void {
  kinkd.emit({ kind: 'reply', id, ok: false, error });
}

function unknown({ peers }: Admin, name: string): string {
  const known = peers.served.map((child) => child.name);
  return known.length === 0
    ? `there is no selector, policy or remote ${name}: no policy with KINK is configured`
    : `there is no selector, policy or remote ${name} that KINK serves; selectors: ${known.join(', ')}`;
}

function initiate(kinkd: Admin, id: number, name: string): void {
  const policies = kinkd.peers.named(name);
  if (policies.length === 0) return refuse(kinkd, id, unknown(kinkd, name));
  if (!kinkd.asks.up) return refuse(kinkd, id, 'the datapath is not connected: no SA can be installed');
  const up = (policy: ChildPolicy) =>
    kinkd.associations
      .flatMap(({ pairs }) => pairs)
      .find((pair) => pair.policy.name === policy.name && pair.state === 'installed' && pair.announced);
  const there = policies.flatMap((policy) => up(policy)?.label ?? []);
  const missing = policies.filter((policy) => up(policy) === undefined);
  if (missing.length === 0) return reply(kinkd, id, { up: there });
  kinkd.replies.awaitChildren(id, missing.length, there);
  for (const policy of missing) {
    kinkd.wanted.resume(policy.name);
    kinkd.wanted.demand(policy, { command: id }, false);
  }
}

function terminate(kinkd: Admin, id: number, name: string): void {
  const policies = kinkd.peers.named(name);
  const associations = kinkd.associations.filter((association) => association.name === name || association.peer.name === name);
  const named = (pair: KinkPair) =>
    associations.includes(pair.association) || pair.policy.name === name || pair.policy.policy.name === name;
  const pairs = kinkd.associations.flatMap((association) => association.pairs.filter(named));
  if (associations.length === 0 && pairs.length === 0 && policies.length === 0) return refuse(kinkd, id, unknown(kinkd, name));
  for (const policy of policies) kinkd.wanted.stop(policy.name);
  for (const { policy } of pairs) kinkd.wanted.stop(policy.name);
  for (const association of kinkd.associations) end(association, pairs, policies, 'terminated by command');
  reply(kinkd, id, { ikeSas: 0, childSas: pairs.length });
}

function end(association: Association, pairs: readonly KinkPair[], policies: readonly ChildPolicy[], why: string): void {
  for (const transaction of [...association.transactions.values()]) {
    const { work, stage } = transaction;
    if (work.kind === 'create' && stage !== 'lingering' && policies.some(({ name }) => name === work.demand.policy.name))
      failTransaction(transaction, why);
  }
  startDelete(
    association,
    association.pairs.filter((pair) => pairs.includes(pair)),
    why,
  );
}

function rekeyNamed(kinkd: Admin, id: number, name: string): void {
  const pairs = kinkd.associations
    .flatMap(({ pairs }) => pairs)
    .filter(
      ({ policy, association, state }) =>
        state === 'installed' && (policy.name === name || policy.policy.name === name || association.peer.name === name),
    );
  if (pairs.length === 0) return refuse(kinkd, id, `nothing of ${name} is up that could be rekeyed`);
  const ours = pairs.filter((pair) => pair.agreed.initiator);
  if (ours.length === 0) return refuse(kinkd, id, `the peer began what is up of ${name}, so the peer rekeys it (RFC 4430 §3.6)`);
  reply(kinkd, id, { childSas: ours.filter(rekey).length });
}

function shutdown(kinkd: Admin, id: number): void {
  const busy = kinkd.associations.filter(({ pairs }) => pairs.length > 0);
  if (busy.length === 0) return reply(kinkd, id, {});
  kinkd.replies.awaitEnd(id, busy);
  for (const association of busy) {
    for (const { policy } of association.pairs) kinkd.wanted.stop(policy.name);
    end(association, association.pairs, [...kinkd.peers.served], 'this daemon ends');
  }
}

export function status(kinkd: Admin): KinkdStatus {
  const { failures, counters, generation, asks, associations } = kinkd;
  return {
    generation,
    datapath: asks.up ? 'up' : 'down',
    peers: associations.map((association) => associationStatus(association)),
    failures: [...failures.all].map(([subject, { at, why }]) => ({ subject, at, why })).reverse(),
    counters: Object.fromEntries(counters),
    replayCache: { size: kinkd.replays.size, complete: kinkd.replays.complete },
  };
}

function associationStatus(association: Association): AssociationStatus {
  const { peer, path, host, EPOCH, offsetMs, transactions, pairs } = association;
  return {
    name: association.name,
    remote: peer.name,
    myPrincipal: showPrincipal(peer.myPrincipal),
    peersPrincipal: showPrincipal(peer.peersPrincipal),
    local: showEndpoint(path.local),
    peer: showEndpoint(path.remote),
    epoch: EPOCH?.value,
    clockOffsetMs: offsetMs,
    outstanding: [...transactions.values()].filter(({ stage }) => stage !== 'lingering').length,
    children: pairs.filter(({ spiOut }) => spiOut !== 0).map((pair) => childSaStatus(pair, host.now.mono)),
  };
}
