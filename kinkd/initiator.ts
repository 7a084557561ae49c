/** The life of our commands: from the wish to the REPLY and the ACK, RFC 4430 §3.2 to §3.6, §9. Each step is one function; none of them waits. */

import { PeerError, WireError } from '../src/errors.ts';
import type { NamedSa } from '../src/ipsec/sa.ts';
import { deletions } from '../src/isakmp/deletion.ts';
import { find as findQuick, type Payload as QuickPayload } from '../src/isakmp/payloads.ts';
import type { Demand } from '../src/keying/demands.ts';
import { DRAIN_MS } from '../src/keying/sa-pair.ts';
import type { Path } from '../src/net/address.ts';
import { knownName } from '../src/wire/registry.ts';
import type { Association } from './association.ts';
import { type Concluded, concludeCreate, offerCreate, optimisticPair } from './create.ts';
import { dropPair, failTransaction, giveBack, settle } from './endings.ts';
import { readKrbError } from './krb5/ap-exchange.ts';
import type { Credential } from './krb5/credential.ts';
import { krbErrorCode } from './krb5/errors.ts';
import type { KinkPair } from './pair.ts';
import { all, find, KINK_ERROR, type Payload } from './payloads.ts';
import { readQuick } from './rules.ts';
import { type CreateOffer, type CreateWork, Transaction, type Work } from './transaction.ts';

/** A pair that another took the place of is deleted after this, when the peer's ACK and packets have settled. Milliseconds. */
const RETIRE_MS = 3_000;
/** A REPLY that asks for an ACK may come again for as long as its sender repeats it (RFC 4430 §9). Milliseconds. */
const LINGER_MS = 60_000;

export function startCreate(association: Association, path: Path, demand: Demand, replaces?: KinkPair): void {
  if (replaces !== undefined) {
    replaces.rekeying = true;
    replaces.rekeyAt = undefined;
  }
  start(association, path, { kind: 'create', demand, replaces });
}

/** Pairs are deleted in agreement with the peer. Those that were asked for already are left alone. */
export function startDelete(association: Association, pairs: readonly KinkPair[], why: string): void {
  const fresh = pairs.filter((pair) => pair.state !== 'deleting' && pair.state !== 'gone');
  for (const pair of fresh) {
    pair.state = 'deleting';
    pair.retireAt = undefined;
  }
  const [first] = fresh;
  if (first === undefined) return settle(association);
  start(association, first.talk, { kind: 'delete', pairs: fresh, sas: fresh.flatMap((pair) => pair.names('inbound')), why });
}

/** A peer that did not answer, or did not acknowledge, and is heard again may still have the SAs: as its own only, until their lifetime ends. */
export function deleteUntold(association: Association): void {
  const { untold, heard } = association;
  if (untold === undefined || association.closed || heard <= untold.since) return;
  association.untold = undefined;
  start(association, association.path, { kind: 'delete', pairs: [], sas: untold.sas, why: untold.why });
}

/** A STATUS asks nothing: its answer shows the peer's epoch (RFC 4430 §3.7). */
export function startStatus(association: Association): void {
  start(association, association.path, { kind: 'status' });
}

/** The pair is replaced by a new one, unless that is under way, or another carries its traffic already and it may go. True where it was begun. */
export function rekey(pair: KinkPair): boolean {
  const { association, policy } = pair;
  if (!pair.usable || pair.rekeying || pair.superseded) return false;
  const younger = association.pairs.some(
    (other) => other !== pair && other.carriesWhat(pair) && other.state === 'installed' && other.since > pair.since,
  );
  if (younger) {
    pair.superseded = true;
    startDelete(association, [pair], 'another pair carries its traffic');
    return true;
  }
  startCreate(association, pair.talk, { policy }, pair);
  return true;
}

function start(association: Association, path: Path, work: Work, renewed = false): void {
  const transaction = new Transaction(association, path, work, renewed);
  const { host, peer } = association;
  transaction.deadline = host.now.mono + peer.kink.negotiationLimit;
  host.askTicket(transaction, renewed || association.ticketSuspect);
}

/** The answer to `askTicket`. */
export function ticketArrived(transaction: Transaction, credential: Credential | undefined, why: string, fresh: boolean): void {
  const { association, work } = transaction;
  const { host, peer } = association;
  if (transaction.closed || transaction.stage !== 'ticket') return;
  if (credential === undefined) {
    host.report('ticket-failed', `no ticket for ${peer.kink.peersPrincipal}: ${why}`, {
      sa: association.name,
      remote: peer.name,
    });
    return failTransaction(transaction, `no ticket for ${peer.kink.peersPrincipal}: ${why}`);
  }
  if (credential.endtime * 1000 < host.now.wall + longest(association) && !fresh) return host.askTicket(transaction, true);
  transaction.credential = credential;
  if (work.kind !== 'create') return sendFirst(transaction);
  const policy = host.peers.child(work.demand.policy.name);
  if (policy === undefined) return failTransaction(transaction, 'its selector is no longer configured');
  transaction.stage = 'spi';
  // Our epoch is new to the peer, which forgets all SAs of an earlier one (RFC 4430 §3.7).
  if (association.EPOCH === undefined) host.holdOldSas(transaction);
  host.askSpi(transaction, 'request', policy, policy.policy.mode);
}

/** All transmissions of a command take at most this: its ticket must live as long (RFC 4430 §9). */
function longest({ peer }: Association): number {
  return Math.min(peer.kink.negotiationLimit, peer.kink.retryInterval * 2 ** (peer.kink.maxRetries + 1));
}

/** The datapath's answer to `askSpi`. */
export function spiForCreate(transaction: Transaction, spi: number | undefined): void {
  const { association, path, work } = transaction;
  const { host } = association;
  if (work.kind !== 'create' || transaction.stage !== 'spi') {
    if (spi !== undefined) host.releaseSpi(spi);
    return;
  }
  if (spi === undefined)
    return failTransaction(
      transaction,
      'the datapath gave no SPI: is it running, and is its PF_KEY socket the one of this policy file?',
    );
  const offer = offerCreate(association, work, path, spi);
  if (typeof offer === 'string') {
    host.releaseSpi(spi);
    return failTransaction(transaction, offer);
  }
  work.offer = offer;
  if (offer.share !== undefined) return sendFirst(transaction); // with KE nothing is known of the keys before the REPLY
  work.optimistic = optimisticPair(transaction, offer);
  transaction.stage = 'installing';
  association.pairs.push(work.optimistic);
  host.install(work.optimistic, false);
}

function sendFirst(transaction: Transaction): void {
  const { association, work } = transaction;
  if (work.kind === 'delete') for (const pair of work.pairs) association.host.uninstallOutbound(pair);
  transaction.transmit(quickOf(transaction));
}

/** What the command's KINK_ISAKMP holds; nothing: there is none. */
function quickOf({ work }: Transaction): readonly QuickPayload[] {
  switch (work.kind) {
    case 'create':
      return work.offer!.payloads;
    case 'delete':
      return deletions(work.sas);
    default:
      return [];
  }
}

/** A pair of ours is in the datapath: the optimistic SA, so that CREATE may go; or both, so that ACK may. */
export function createInstalled(transaction: Transaction, pair: KinkPair): void {
  const work = transaction.work as CreateWork;
  if (transaction.stage === 'installing' && work.optimistic === pair) return sendFirst(transaction);
  if (transaction.stage !== 'concluding' || work.pair !== pair) return;
  const { association } = transaction;
  const { host } = association;
  pair.state = 'installed';
  pair.announce(work.replaces);
  if (transaction.acknowledge) {
    transaction.sendAck();
    transaction.stage = 'lingering';
    transaction.deadline = host.now.mono + LINGER_MS;
  } else transaction.close();
  host.carried(pair);
  if (work.replaces !== undefined) retire(work.replaces);
  else host.satisfied(work.demand, pair);
  settle(association);
}

/** The old pair goes when the new one is in use on both sides (RFC 4430 §3.6). */
function retire(old: KinkPair): void {
  old.rekeying = false;
  old.superseded = true;
  if (!old.usable) return;
  old.state = 'replaced';
  old.retireAt = old.association.host.now.mono + RETIRE_MS;
}

// The REPLY.

/** An authentic REPLY to a command that waits for one; `payloads` is all it held. */
export function conclude(transaction: Transaction, payloads: readonly Payload[], ACKREQ: boolean): void {
  const { association, work } = transaction;
  association.ticketSuspect = false;
  const kerberos = find(payloads, 'KRB_ERROR');
  if (kerberos !== undefined) return kerberosRefused(transaction, kerberos.krbError);
  const error = find(payloads, 'ERROR');
  if (error !== undefined && error.code !== KINK_ERROR.KINK_OK) {
    const name = knownName(KINK_ERROR, error.code) ?? `error ${error.code}`;
    association.report('notify-received', `the peer answered ${name}`, { notify: name });
    if (all(payloads, 'ISAKMP').length === 0) return failTransaction(transaction, `the peer answered ${name}; its log says why`);
  }
  switch (work.kind) {
    case 'create':
      return createAnswered(transaction, payloads, ACKREQ);
    case 'delete':
      transaction.close();
      for (const pair of work.pairs) dropPair(pair, DRAIN_MS, work.why, false);
      return settle(association);
    default:
      transaction.close();
      return settle(association);
  }
}

function createAnswered(transaction: Transaction, payloads: readonly Payload[], ACKREQ: boolean): void {
  const { association, path } = transaction;
  const { host } = association;
  const work = transaction.work as CreateWork;
  const offer = work.offer!;
  let quick: readonly QuickPayload[] = [];
  let concluded: Concluded;
  try {
    const operations = all(payloads, 'ISAKMP');
    if (operations.length !== 1)
      throw new PeerError('PAYLOAD-MALFORMED', `${operations.length} KINK_ISAKMP payloads came back for the one that we sent`);
    quick = readQuick(operations[0]!, 'CREATE', 'reply');
    concluded = concludeCreate(transaction, offer, quick);
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    failTransaction(transaction, error.message);
    // The peer believes that it has SAs with us: it is told otherwise.
    if (findQuick(quick, 'SA') !== undefined)
      start(association, path, { kind: 'delete', pairs: [], sas: namesOf(offer), why: error.message });
    return;
  }
  const { pair, asOffered } = concluded;
  const { optimistic } = work;
  work.pair = pair;
  delete work.optimistic;
  transaction.acknowledge = ACKREQ || !asOffered;
  transaction.stage = 'concluding';
  transaction.deadline = undefined;
  association.pairs = [...association.pairs.filter((other) => other !== optimistic), pair];
  if (optimistic === undefined) return host.install(pair, true);
  optimistic.state = 'gone';
  if (!asOffered) host.replaceOptimistic(optimistic, pair);
  else if (sameLimits(optimistic, pair)) host.installOutbound(pair);
  else host.install(pair, true);
}

function sameLimits(a: KinkPair, b: KinkPair): boolean {
  const [mine, agreed] = [a.lifetime.hard, b.lifetime.hard];
  return mine.seconds === agreed.seconds && mine.bytes === agreed.bytes && mine.packets === agreed.packets;
}

/** RFC 4430 §3.5, §9: only a protected KRB_ERROR comes here. */
function kerberosRefused(transaction: Transaction, octets: Uint8Array): void {
  const { association, work } = transaction;
  const { host } = association;
  let refusal: ReturnType<typeof readKrbError>;
  try {
    refusal = readKrbError(octets);
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return failTransaction(transaction, `the peer answered a KRB-ERROR that cannot be read: ${error.message}`);
  }
  const { errorCode, explanation, serverWall } = refusal;
  if (errorCode === krbErrorCode('KRB_AP_ERR_SKEW') && !transaction.adjusted) {
    transaction.adjusted = true;
    association.offsetMs = serverWall - host.now.wall;
    const seconds = Math.round(association.offsetMs / 1000);
    association.report(
      'clock-adjusted',
      `the peer's clock is ${Math.abs(seconds)} s ${seconds < 0 ? 'behind' : 'ahead of'} ours: we go by it in messages to this peer; set the clocks`,
      { seconds },
    );
    return transaction.transmit(quickOf(transaction));
  }
  if (errorCode === krbErrorCode('KRB_AP_ERR_TKT_EXPIRED') && !transaction.renewed) {
    giveBack(transaction);
    transaction.close();
    const again: Work = work.kind === 'create' ? { kind: 'create', demand: work.demand, replaces: work.replaces } : work;
    return start(association, transaction.path, again, true);
  }
  failTransaction(transaction, `the peer answered ${explanation}`);
}

/** RFC 4430 §4.2.3, §4.2.8: anyone can send such an answer. It ends nothing; it only says what may be wrong should no other answer come. */
export function hint(transaction: Transaction, payloads: readonly Payload[]): void {
  const { association } = transaction;
  const kerberos = find(payloads, 'KRB_ERROR');
  const error = find(payloads, 'ERROR');
  const text =
    kerberos === undefined
      ? error === undefined
        ? 'something else than an answer'
        : (knownName(KINK_ERROR, error.code) ?? `error ${error.code}`)
      : readKrbError(kerberos.krbError).explanation;
  if (transaction.hint === text) return;
  transaction.hint = text;
  if (kerberos !== undefined) association.ticketSuspect = true;
  association.report('notify-received', `an unprotected answer to our command says ${text}; we go on asking`);
}

/** A REPLY that came again, since our ACK was lost. */
export function replyAgain(transaction: Transaction, ACKREQ: boolean): void {
  if (transaction.stage !== 'lingering' || !ACKREQ) return;
  transaction.association.host.count('acks-repeated');
  transaction.sendAck();
}

// Time.

/** The deadline of a transaction has come. */
export function transactionDue(transaction: Transaction): void {
  const { association, stage, work } = transaction;
  const { host, peer } = association;
  const { negotiationLimit, maxRetries } = peer.kink;
  if (stage === 'lingering') {
    transaction.close();
    return settle(association);
  }
  if (stage !== 'sent')
    return failTransaction(transaction, `${WAITED_FOR[stage]} did not come within ${Math.round(negotiationLimit / 1000)} s`);
  const late = work.kind === 'create' && host.now.mono - transaction.since >= negotiationLimit;
  if (transaction.tries > maxRetries || late) {
    const hinted = transaction.hint === undefined ? '' : `; an unprotected answer said ${transaction.hint}`;
    const why = `${peer.kink.peersPrincipal} did not answer ${transaction.tries} times${hinted}`;
    association.report('peer-silent', `${why} (${work.kind.toUpperCase()})`);
    return failTransaction(transaction, why);
  }
  repeatCommand(transaction);
}

/** The command leaves again, with a new authenticator. */
export function repeatCommand(transaction: Transaction): void {
  const { association, work, XID } = transaction;
  association.host.count('commands-repeated');
  transaction.transmit(quickOf(transaction));
  association.report('retransmitted', `${work.kind.toUpperCase()} ${XID} sent again (transmission ${transaction.tries})`);
}

const WAITED_FOR = {
  ticket: 'a ticket',
  spi: 'an SPI',
  installing: 'the inbound SA',
  concluding: 'the SAs',
} as const;

/** The datapath refused an SA of ours. */
export function createRefused(transaction: Transaction, why: string): void {
  const { association, path, work } = transaction;
  const agreed = work.kind === 'create' && work.pair !== undefined;
  failTransaction(transaction, why);
  if (agreed && work.kind === 'create') start(association, path, { kind: 'delete', pairs: [], sas: namesOf(work.offer!), why });
}

function namesOf({ spis }: CreateOffer): NamedSa[] {
  return [...spis].map(([protocol, spi]) => ({ protocol, spi }));
}
