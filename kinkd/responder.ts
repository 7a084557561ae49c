/** The life of our answers to a peer's commands, RFC 4430 §3.2 to §3.5, §6: plan, what the datapath must give for it, commit, REPLY, ACK. */

import { equal, NONE } from '../src/bytes/bytes.ts';
import { PeerError, WireError } from '../src/errors.ts';
import { NOTIFY } from '../src/isakmp/doi.ts';
import type { Payload as QuickPayload } from '../src/isakmp/payloads.ts';
import type { Path } from '../src/net/address.ts';
import { nameOf } from '../src/wire/registry.ts';
import { Answer } from './answer.ts';
import type { Association } from './association.ts';
import { makeCreate, planCreate } from './create.ts';
import { commitDelete, planDelete } from './delete.ts';
import { dropPair, tellOnceHeard } from './endings.ts';
import type { Accepted } from './krb5/ap-exchange.ts';
import { IPSEC_DOI, TYPE } from './message.ts';
import type { KinkPair } from './pair.ts';
import { all, KINK_ERROR, type KinkErrorName, type Payload } from './payloads.ts';
import { readQuick } from './rules.ts';
import { hearNotifies } from './status.ts';
import { isakmp } from './transaction.ts';

/** A command whose sender is known and that was opened; or what made it impossible to. */
export interface Command {
  readonly messageType: number;
  readonly XID: number;
  readonly path: Path;
  readonly accepted: Accepted;
  readonly payloads: readonly Payload[] | PeerError | WireError;
}

/** A command that comes again gets the same answer, and causes nothing (RFC 4430 §9). */
export function hearCommand(association: Association, command: Command): void {
  const { host, answers } = association;
  const { messageType, XID, path, accepted, payloads } = command;
  const name = nameOf(TYPE, messageType);
  const known = answers.get(XID);
  if (known !== undefined) {
    if (known.messageType !== messageType || !sameKey(known.accepted, accepted))
      return drop(association, `${name} with the XID of another command, or with another ticket than before (RFC 4430 §9)`);
    known.accepted = accepted;
    known.path = path;
    host.count('commands-heard-again');
    if (known.stage === 'answered' || known.stage === 'awaiting-ack') known.transmit(true);
    return;
  }
  const answer = new Answer(association, XID, messageType, path, accepted);
  if (!association.keep(answer)) {
    association.report('limit-reached', `${name} ignored: too many commands of this peer are not finished`, { limit: 'answers' });
    return;
  }
  try {
    if (payloads instanceof Error) throw payloads;
    handle(answer, payloads);
  } catch (error) {
    refuse(answer, error);
  }
}

function handle(answer: Answer, payloads: readonly Payload[]): void {
  const { association, messageType } = answer;
  const operations = (command: 'CREATE' | 'DELETE' | 'STATUS') =>
    all(payloads, 'ISAKMP').map((payload) => readQuick(payload, command, 'command'));
  switch (messageType) {
    case TYPE.CREATE:
      answer.operations = operations('CREATE');
      return plan(answer);
    case TYPE.DELETE: {
      const deletion = planDelete(association, operations('DELETE'));
      commitDelete(deletion);
      return answer.reply([isakmp(deletion.payloads)]);
    }
    default:
      hearNotifies(association, operations('STATUS'));
      return answer.reply([]);
  }
}

/** Chooses, and asks the datapath for an SPI for each choice. */
function plan(answer: Answer): void {
  const { host } = answer.association;
  answer.grants = planCreate(answer, answer.operations);
  answer.generation = host.generation;
  answer.spis = [];
  answer.stage = 'planned';
  askNext(answer);
}

function askNext(answer: Answer): void {
  const { choice, policy } = answer.grants[answer.spis.length]!;
  answer.association.host.askSpi(answer, 'response', policy, choice.mode);
}

/** The datapath's answer to `askSpi`. */
export function spiForAnswer(answer: Answer, spi: number | undefined): void {
  const { association, stage } = answer;
  const { host } = association;
  if (stage !== 'planned' || answer.closed) {
    if (spi !== undefined) host.releaseSpi(spi);
    return;
  }
  if (spi === undefined) {
    giveBack(answer);
    return refuse(answer, new PeerError('KINK_INTERR', 'the datapath gave no SPI: is it running?'));
  }
  answer.spis.push(spi);
  try {
    if (answer.generation !== host.generation) {
      giveBack(answer);
      return plan(answer);
    }
    if (answer.spis.length < answer.grants.length) return askNext(answer);
    commit(answer);
  } catch (error) {
    giveBack(answer);
    refuse(answer, error);
  }
}

function giveBack(answer: Answer): void {
  for (const spi of answer.spis) answer.association.host.releaseSpi(spi);
  answer.spis = [];
}

/** Makes the SAs. The REPLY leaves when the datapath has them, since the peer may use them then. */
function commit(answer: Answer): void {
  const { association, grants, accepted } = answer;
  const { host } = association;
  const { pairs, operations, threeWay } = makeCreate(answer, grants, answer.spis, accepted.key);
  answer.spis = [];
  answer.pairs = [...pairs];
  answer.stage = 'installing';
  answer.pending = { inner: operations.map(isakmp), ACKREQ: threeWay };
  association.pairs.push(...pairs);
  for (const pair of pairs) {
    if (threeWay) pair.outboundState = 'held';
    host.install(pair, !threeWay);
  }
}

/** The datapath has what it was told of a pair: the inbound SA, the outbound one after ACK, or both. */
export function answerInstalled(answer: Answer, pair: KinkPair): void {
  pair.state = 'installed';
  if (pair.outboundState === 'installed') complete(pair);
  if (answer.stage !== 'installing' || answer.pairs.some(({ pending }) => pending > 0)) return;
  const { inner, ACKREQ } = answer.pending!;
  answer.reply(inner, ACKREQ);
}

/** The pair carries traffic both ways. Older ones of the peer's making are the peer's to delete. */
function complete(pair: KinkPair): void {
  const { association } = pair;
  const { host } = association;
  const old = association.pairs.find(
    (other) =>
      other !== pair && other.carriesWhat(pair) && other.state === 'installed' && !other.agreed.initiator && !other.superseded,
  );
  if (old !== undefined) old.superseded = true;
  pair.announce(old);
  host.carried(pair);
  host.arrived(pair);
}

/** RFC 4430 §6.2: the initiator has its SAs, so that we may send. */
export function hearAck(association: Association, XID: number): void {
  const answer = association.answers.get(XID);
  if (answer === undefined) return drop(association, 'ACK to nothing that we answered');
  if (answer.stage === 'awaiting-ack') acknowledged(answer);
}

function acknowledged(answer: Answer): void {
  answer.stage = 'answered';
  answer.linger();
  for (const pair of answer.pairs) {
    if (pair.state === 'installed' && pair.outboundState === 'held') answer.association.host.installOutbound(pair);
  }
}

/** Packets came in through the SA that the peer acknowledges: it has it, so its ACK was lost (RFC 4430 §9). */
export function trafficAcknowledges(answer: Answer, packets: number | undefined): void {
  if (answer.stage === 'awaiting-ack' && packets !== undefined && packets > 0) acknowledged(answer);
}

/** The datapath refused an SA of a pair. */
export function answerRefused(answer: Answer, why: string): void {
  const told = answer.stage !== 'installing';
  for (const pair of answer.pairs) dropPair(pair, 0, why, false);
  answer.association.report('child-sa-failed', `the peer's child SA is not installed: ${why}`);
  if (!told) return refuse(answer, new PeerError('KINK_INTERR', why));
  const sas = answer.pairs.flatMap((pair) => pair.names('inbound'));
  tellOnceHeard(answer.association, sas, 'it could not be installed');
}

/** The deadline of an answer has come. */
export function answerDue(answer: Answer): void {
  const { association, stage } = answer;
  const { host, peer } = association;
  if (stage !== 'awaiting-ack') return answer.forget();
  if (answer.tries > peer.kink.maxRetries) {
    const why = `no ACK came to a REPLY that was sent ${answer.tries} times, and no packet either`;
    answer.retract([{ type: 'ERROR', code: KINK_ERROR.KINK_INTERR }]);
    association.report('child-sa-failed', `the peer's child SA is given up: ${why}`, { child: answer.pairs[0]?.policy.name });
    for (const pair of answer.pairs) dropPair(pair, 0, why, false);
    // It may be the ACK that was lost: then the peer has them, and KINK knows no half-open SAs (RFC 4430 §3.3).
    const sas = answer.pairs.flatMap((pair) => pair.names('inbound'));
    return tellOnceHeard(association, sas, 'no ACK came');
  }
  host.count('replies-repeated');
  association.report('retransmitted', `REPLY ${answer.XID} sent again, since no ACK came (transmission ${answer.tries + 1})`);
  answer.transmit();
  for (const pair of answer.pairs) if (pair.outboundState === 'held') host.countInbound(answer, pair);
}

/** The one place where a refusal becomes a payload (RFC 4430 §4.2.8, §5.5). */
function refuse(answer: Answer, error: unknown): void {
  const { association, messageType } = answer;
  const { payload, name } = refusalPayload(error);
  const text = `${nameOf(TYPE, messageType)} answered with ${name}: ${(error as Error).message}`;
  association.report('message-refused', text, { notify: name });
  if (messageType === TYPE.CREATE) association.host.remember(association.peer.name, text);
  answer.reply([payload]);
}

/** What to answer an authentic command with that is refused. Throws what is no refusal. */
export function refusalPayload(error: unknown): { readonly payload: Payload; readonly name: string } {
  if (error instanceof WireError) return { payload: { type: 'ERROR', code: KINK_ERROR.KINK_PROTOERR }, name: 'KINK_PROTOERR' };
  if (!(error instanceof PeerError)) throw error;
  if (isKinkError(error.notify)) return { payload: { type: 'ERROR', code: KINK_ERROR[error.notify] }, name: error.notify };
  const name = (KINK_NOTIFIES as readonly string[]).includes(error.notify)
    ? (error.notify as keyof typeof NOTIFY)
    : 'PAYLOAD-MALFORMED';
  const notify: QuickPayload = { type: 'Notify', doi: IPSEC_DOI, protocol: 0, spi: NONE, notify: NOTIFY[name], data: error.data };
  return { payload: isakmp([notify]), name };
}

/** RFC 4430 §5.5 knows these; every other reason is told as PAYLOAD-MALFORMED. */
const KINK_NOTIFIES = ['INVALID-PAYLOAD-TYPE', 'INVALID-SPI', 'NO-PROPOSAL-CHOSEN', 'PAYLOAD-MALFORMED'] as const;

function isKinkError(name: string): name is KinkErrorName {
  return Object.hasOwn(KINK_ERROR, name);
}

function sameKey(a: Accepted, b: Accepted): boolean {
  return a.key.etype === b.key.etype && equal(a.key.key.reveal(), b.key.key.reveal());
}

function drop(association: Association, why: string): void {
  association.host.count('messages-dropped');
  association.report('message-dropped', `a message was ignored: ${why}`);
}
