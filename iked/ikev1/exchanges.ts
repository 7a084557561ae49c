/** Which exchange gets a message, in the three steps of the house: verify, plan, commit; with the queue of what is to be begun (RFC 2409 §5, §5.5, §5.7). */

import { equal } from '../../src/bytes/bytes.ts';
import { AuthError, PeerError, WireError } from '../../src/errors.ts';
import type { NamedSa } from '../../src/ipsec/sa.ts';
import { DOI, isErrorNotify, type NOTIFY, notifyName, notifyNumber, PROTOCOL } from '../../src/isakmp/doi.ts';
import { find, type Payload, type PayloadOf } from '../../src/isakmp/payloads.ts';
import { type Path, samePath, showEndpoint } from '../../src/net/address.ts';
import { nameOf } from '../../src/wire/registry.ts';
import { beginProbing } from './dpd.ts';
import { abandonPair, activate, dropPair, isRekeyable, isToGo, settle } from './endings.ts';
import { beginDelete, beginLeave, hearInformational } from './informational.ts';
import type { IsakmpSa, Task } from './isakmp-sa.ts';
import { HASH_1, HASH_2 } from './keys.ts';
import { ladder } from './ladder.ts';
import { hearMainMode, startIsakmpSa } from './main-mode.ts';
import { EXCHANGE, type OpenedMessage, type ReadMessage } from './message.ts';
import type { QuickModePair } from './pair.ts';
import {
  type CreateTask,
  commitQuickMode,
  concludeQuickMode,
  type Offered,
  planQuickMode,
  type QuickMode,
  type QuickModePlan,
  requestQuickMode,
  verifyMessage3,
} from './quick-mode.ts';
import { trafficFor } from './quick-mode-choice.ts';
import { checkRules } from './rules.ts';
import { hearClearInformational } from './strangers.ts';
import { Turn } from './turn.ts';

/** Quick Modes of the peer's that wait for an SPI; more are not kept, and come again. */
const MOST_PARKED = 16;
/** How long message 3 of a rekey has for its way before our ESP follows it. Milliseconds. */
const MESSAGE_3_MS = 1_000;
/** The same where traffic waits meanwhile: long enough to be overtaken by nothing. Milliseconds. */
const MESSAGE_3_ON_HOLD_MS = 100;
/** SPIs of a peer's DELETE that are kept until message 2 has come. */
const MOST_UNKNOWN = 16;

/** A datagram that belongs to this ISAKMP SA. Nothing changes before its HASH was found right (Main Mode apart). */
export function receive(sa: IsakmpSa, read: ReadMessage, bytes: Uint8Array, path: Path): void {
  const { header } = read;
  if (header.exchange === EXCHANGE['Main Mode']) return hearMainMode(sa, read, bytes, path);
  if (header.exchange === EXCHANGE.Informational && !header.encrypted) return hearClearInformational(sa, read);
  if (!header.encrypted || header.messageId === 0) return drop(sa, 'it is not encrypted, or has the message ID of phase 1');
  if (!sa.authenticated) return drop(sa, 'the ISAKMP SA is not established');
  try {
    if (header.exchange === EXCHANGE['Quick Mode']) return hearQuickMode(sa, read, bytes, path);
    if (header.exchange === EXCHANGE.Informational) return hearInformation(sa, read, bytes, path);
  } catch (error) {
    if (error instanceof WireError || error instanceof AuthError) return drop(sa, error.message);
    throw error;
  }
  drop(sa, `${nameOf(EXCHANGE, header.exchange)} is not spoken here`);
}

function drop(sa: IsakmpSa, why: string): void {
  sa.host.count('messages-dropped');
  sa.report('message-dropped', `a message was ignored: ${why}`);
}

/** Throws AuthError unless the message begins with this HASH. */
function verify(message: OpenedMessage, hash: (rest: Uint8Array) => Uint8Array): void {
  const [first] = message.payloads;
  if (first?.type === 'HASH' && equal(first.data, hash(message.afterFirst))) return;
  throw new AuthError(`the HASH of ${nameOf(EXCHANGE, message.exchange)} ${message.messageId.toString(16)} is wrong`);
}

/** An authentic message was heard: the peer lives, and a peer behind a NAT is where it sends from (RFC 3947 §7). */
function heard(sa: IsakmpSa, message: OpenedMessage, path: Path): void {
  sa.report('ladder', ladder(message, !sa.originalInitiator), { direction: 'in', id: message.messageId });
  sa.heard = sa.host.now.mono;
  sa.vouched = 0;
  sa.probing = undefined;
  follow(sa, path);
}

/** A peer behind a NAT is where its authentic messages, or its ESP, come from. */
export function follow(sa: IsakmpSa, path: Path): void {
  if (samePath(path, sa.path) || (sa.nat !== 'there' && sa.nat !== 'both')) return;
  sa.report('peer-moved', `the peer is now at ${showEndpoint(path.remote)}, before at ${showEndpoint(sa.path.remote)}`);
  sa.path = path;
  // The SAs in the datapath send to where the peer was: new ones send to where it is.
  for (const pair of sa.children) if (isRekeyable(pair) && !pair.rekeying) sa.add({ kind: 'rekey-child', child: pair });
}

// Informational.

function hearInformation(sa: IsakmpSa, read: ReadMessage, bytes: Uint8Array, path: Path): void {
  const { messageId } = read.header;
  if (sa.lastProbe !== undefined && equal(sa.lastProbe.bytes, bytes)) return sa.transmit(sa.lastProbe.answer, path);
  if (sa.used(messageId)) return drop(sa, `message ID ${messageId.toString(16)} was used before`);
  const message = sa.openPhase2(read, sa.phase2Iv(messageId));
  verify(message, (rest) => HASH_1(sa.prf, sa.keys.SKEYID_a, messageId, rest));
  try {
    // The exchange type is not under the HASH: a Quick Mode that somebody made this of is still to come, and this is no word of the peer's.
    checkRules('Informational', true, message.payloads);
    sa.use(messageId);
    heard(sa, message, path);
    hearInformational(sa, message, bytes, {
      refused: (notify) => refusedByPeer(sa, notify),
      unknown: (one) => noteDeleted(sa, one),
    });
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    drop(sa, error.message);
  }
}

/** An error notify: it is about the Quick Mode whose SPI it names, or about the only one that waits (RFC 2408 §3.14). */
function refusedByPeer(sa: IsakmpSa, { notify, spi }: PayloadOf<'Notify'>): void {
  const waiting = [...sa.quickModes.values()].flatMap((exchange) =>
    exchange.step.name === 'awaiting-message-2' ? [{ exchange, offered: exchange.step.offered }] : [],
  );
  const named = waiting.find(({ offered }) => spi.length === 4 && offered.spi === new DataView(spi.slice().buffer).getUint32(0));
  const meant = named ?? (waiting.length === 1 ? waiting[0] : undefined);
  const name = notifyName(notify);
  if (meant === undefined || !isErrorNotify(notify))
    return sa.report('notify-received', `the peer says ${name}`, { notify: name });
  giveUp(sa, meant.exchange, meant.offered, `the peer refuses Quick Mode: ${name}${HINTS[name] ?? ''}`);
}

const HINTS: Readonly<Record<string, string>> = {
  'NO-PROPOSAL-CHOSEN': ': compare esp_enc_alg, esp_auth_alg, ipsec_mode, need_pfs and kmp_dh_group with what it accepts',
  'INVALID-ID-INFORMATION': ': compare src and dst with what it expects',
} satisfies Partial<Record<keyof typeof NOTIFY, string>>;

function noteDeleted(sa: IsakmpSa, one: NamedSa): void {
  for (const { step, deleted } of sa.quickModes.values())
    if (step.name === 'awaiting-message-2' && deleted.length < MOST_UNKNOWN) deleted.push(one);
}

// Quick Mode.

function hearQuickMode(sa: IsakmpSa, read: ReadMessage, bytes: Uint8Array, path: Path): void {
  const { host } = sa;
  const exchange = sa.quickModes.get(read.header.messageId);
  if (exchange === undefined) return hearMessage1(sa, read, bytes, path);
  const again = exchange.turn.repetition(bytes);
  if (again !== undefined) {
    if (again.answer === undefined) return host.count('messages-dropped');
    host.count('responses-repeated');
    return sa.transmit(again.answer, path);
  }
  const { step } = exchange;
  if (step.name === 'awaiting-message-2') return hearMessage2(sa, exchange, step.offered, read, bytes, path);
  if (step.name === 'awaiting-message-3') return hearMessage3(sa, exchange, step.pair, read, bytes, path);
  drop(sa, 'this Quick Mode awaits nothing');
}

function hearMessage1(sa: IsakmpSa, read: ReadMessage, bytes: Uint8Array, path: Path): void {
  const { messageId } = read.header;
  if (sa.used(messageId)) return drop(sa, `message ID ${messageId.toString(16)} was used before`);
  if (sa.parked.some(({ message }) => message.messageId === messageId)) return sa.host.count('messages-dropped');
  const message = sa.openPhase2(read, sa.phase2Iv(messageId));
  verify(message, (rest) => HASH_1(sa.prf, sa.keys.SKEYID_a, messageId, rest));
  // The exchange type is not under the HASH: this may have been an Informational exchange, which is still to come.
  if (message.payloads[1]?.type !== 'SA') return drop(sa, 'Quick Mode begins with HASH and SA (RFC 2409 §5.5)');
  if (!sa.established) return drop(sa, 'the ISAKMP SA is being closed');
  if (sa.parked.length >= MOST_PARKED) return drop(sa, `${MOST_PARKED} Quick Modes of the peer are being answered`);
  sa.use(messageId);
  heard(sa, message, path);
  sa.parked.push({ message, bytes, path, generation: sa.host.generation });
  if (sa.parked.length === 1) nextParked(sa);
}

/** Plans the Quick Mode that waits in front, and asks for its SPI. Those that are refused make room. */
function nextParked(sa: IsakmpSa): void {
  for (let parked = sa.parked[0]; parked !== undefined; parked = sa.parked[0]) {
    const plan = planOrRefuse(sa, parked.message, parked.bytes);
    if (plan !== undefined) return sa.host.askSpi(sa, 'response', plan.policy, plan.choice.mode);
    sa.parked.shift();
  }
}

function planOrRefuse(sa: IsakmpSa, message: OpenedMessage, bytes: Uint8Array): QuickModePlan | undefined {
  try {
    return planQuickMode(sa, message);
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    refuse(sa, message, bytes, error);
    return undefined;
  }
}

/** The SPI for the Quick Mode in front. */
function spiForResponse(sa: IsakmpSa, spi: number | undefined): void {
  const parked = sa.parked.shift();
  if (parked === undefined || sa.closed) {
    if (spi !== undefined) sa.host.releaseSpi(spi);
    return;
  }
  const { message, bytes } = parked;
  // What changed on our side while it waited may forbid it now, or choose another policy.
  const plan = planOrRefuse(sa, message, bytes);
  if (plan === undefined || spi === undefined) {
    if (spi !== undefined) sa.host.releaseSpi(spi);
    if (plan !== undefined)
      refuse(sa, message, bytes, new PeerError('NO-PROPOSAL-CHOSEN', 'the datapath gave no SPI: is it running?'));
    return nextParked(sa);
  }
  const exchange = remember(sa, message.messageId, false);
  exchange.turn.hear(bytes);
  try {
    commitQuickMode(sa, exchange, plan, message, spi);
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    sa.host.releaseSpi(spi);
    sa.quickModes.delete(message.messageId);
    refuse(sa, message, bytes, error);
  }
  nextParked(sa);
}

function remember(sa: IsakmpSa, messageId: number, initiator: boolean): QuickMode {
  const { mono } = sa.host.now;
  const exchange: QuickMode = {
    messageId,
    initiator,
    turn: new Turn(),
    begun: mono,
    iv: new Uint8Array(0),
    step: { name: 'over' },
    nonces: undefined,
    deleted: [],
  };
  sa.remember(exchange);
  return exchange;
}

/** The one place where a refusal of Quick Mode becomes a notify, in an Informational exchange that is sent again where message 1 is. */
function refuse(sa: IsakmpSa, message: OpenedMessage, bytes: Uint8Array, error: PeerError): void {
  const notify = notifyNumber(error.notify);
  const name = notifyName(notify);
  const text = `Quick Mode answered with ${name}: ${error.message}`;
  sa.report('message-refused', text, { notify: name });
  if (name === 'NO-PROPOSAL-CHOSEN' || name === 'INVALID-ID-INFORMATION') sa.host.remember(sa.peer!.name, text);
  const [proposal] = find(message.payloads, 'SA')?.proposals ?? [];
  const { protocol, spi } = proposal ?? { protocol: PROTOCOL.ISAKMP, spi: new Uint8Array(0) };
  const payload: Payload = { type: 'Notify', doi: DOI.IPSEC, protocol, spi, notify, data: error.data };
  const exchange = remember(sa, message.messageId, false);
  exchange.turn.hear(bytes);
  const answer = sa.writeInformational([payload]);
  exchange.turn.answer(answer);
  sa.transmit(answer, sa.path);
}

function hearMessage2(
  sa: IsakmpSa,
  exchange: QuickMode,
  offered: Offered,
  read: ReadMessage,
  bytes: Uint8Array,
  path: Path,
): void {
  const message = sa.openPhase2(read, exchange.iv);
  verify(message, (rest) => HASH_2(sa.prf, sa.keys.SKEYID_a, exchange.messageId, offered.Ni_b, rest));
  heard(sa, message, path);
  exchange.turn.hear(bytes);
  try {
    concludeQuickMode(sa, exchange, offered, message);
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    const notify = notifyNumber(error.notify);
    const [proposal] = find(message.payloads, 'SA')?.proposals ?? [];
    const { protocol, spi } = proposal ?? { protocol: PROTOCOL.ESP, spi: new Uint8Array(0) };
    sa.inform([{ type: 'Notify', doi: DOI.IPSEC, protocol, spi, notify, data: error.data }]);
    giveUp(sa, exchange, offered, `the peer's answer in Quick Mode is not usable: ${error.message}`);
  }
}

function hearMessage3(
  sa: IsakmpSa,
  exchange: QuickMode,
  pair: QuickModePair,
  read: ReadMessage,
  bytes: Uint8Array,
  path: Path,
): void {
  const message = sa.openPhase2(read, exchange.iv);
  if (!verifyMessage3(sa, exchange, message)) throw new AuthError('HASH(3) of Quick Mode is wrong');
  heard(sa, message, path);
  exchange.turn.hear(bytes);
  exchange.step = { name: 'over' };
  activate(pair);
}

/** A Quick Mode of ours comes to nothing: its SPI goes back, and whoever waits for the pair is told. */
export function giveUp(sa: IsakmpSa, exchange: QuickMode, { task, spi, share }: Offered, why: string): void {
  exchange.step = { name: 'over' };
  exchange.turn.rest();
  share?.wipe();
  sa.host.releaseSpi(spi);
  abandonPair(sa, task, why);
}

// What is begun by us.

/** Begins what waits, where that may begin. */
export function advance(sa: IsakmpSa): void {
  while (!sa.closed) {
    const at = sa.tasks.findIndex((task) => (task.after ?? 0) <= sa.host.now.mono && sa.mayBegin(task));
    if (at < 0) return;
    const [task] = sa.tasks.splice(at, 1);
    begin(sa, task!);
  }
}

function begin(sa: IsakmpSa, task: Task): void {
  switch (task.kind) {
    case 'create-child':
    case 'rekey-child':
      return prepare(sa, task);
    case 'delete-child':
      return beginDelete(sa, task.children.filter(isToGo));
    case 'delete-ike':
      return beginLeave(sa, task.why);
    case 'liveness':
      return beginProbing(sa);
    default:
      if (sa.state.name === 'established') startIsakmpSa(sa.host, sa.peer!, sa.path);
  }
}

function prepare(sa: IsakmpSa, task: CreateTask): void {
  if (task.kind === 'rekey-child' && !isRekeyable(task.child)) {
    task.child.rekeying = false;
    return;
  }
  const policy = task.kind === 'rekey-child' ? task.child.policy : task.demand.policy;
  try {
    if (task.kind === 'create-child') trafficFor(sa, policy, task);
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    return abandonPair(sa, task, error.message);
  }
  sa.preparing = task;
  sa.host.askSpi(sa, 'request', policy, policy.policy.mode);
}

/** The datapath's answer to `askSpi`; undefined: it has none for us. */
export function spiArrived(sa: IsakmpSa, role: 'request' | 'response', spi: number | undefined): void {
  if (role === 'response') return spiForResponse(sa, spi);
  const task = sa.preparing as CreateTask | undefined;
  sa.preparing = undefined;
  const moot = task === undefined || sa.closed || (task.kind === 'rekey-child' && !isRekeyable(task.child));
  if (moot) {
    if (spi !== undefined) sa.host.releaseSpi(spi);
    if (task?.kind === 'rekey-child') task.child.rekeying = false;
    return;
  }
  if (spi === undefined) {
    if (task.kind === 'rekey-child' && !sa.host.linked) sa.tasks.unshift(task);
    else abandonPair(sa, task, 'the datapath gave no SPI: is it running, and is its PF_KEY socket the one of this policy file?');
    return;
  }
  // A newer ISAKMP SA may have taken over meanwhile: this one serves as long as it is there.
  try {
    requestQuickMode(sa, task, spi);
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    sa.host.releaseSpi(spi);
    abandonPair(sa, task, error.message);
  }
}

/** The datapath has what it was told of a pair: the message that waited for that leaves. */
export function childInstalled(pair: QuickModePair): void {
  const found = exchangeOf(pair);
  if (pair.state === 'gone') return;
  if (found !== undefined) {
    const { sa, exchange, next } = found;
    if (exchange.initiator) {
      exchange.step = { name: 'over' };
      exchange.turn.answer(next);
    } else {
      exchange.step = { name: 'awaiting-message-3', pair };
      exchange.turn.ask(next, sa.host.now.mono, sa.retry, sa.host.random);
    }
    sa.transmit(next, sa.path);
    if (exchange.initiator && exchange.deleted.some((one) => pair.has('outbound', one)))
      return dropPair(pair, 'the peer deleted it', false);
    if (exchange.initiator && pair.outboundState === 'held')
      pair.outboundAt = sa.host.now.mono + (sa.host.isOnHold(pair.policy) ? MESSAGE_3_ON_HOLD_MS : MESSAGE_3_MS);
  }
  if (pair.outboundState !== 'installed') return;
  if (pair.state === 'installing') pair.state = 'installed';
  settle(pair);
}

/** The datapath refused one of a pair's SAs: the peer is told by a DELETE. */
export function childRefused(pair: QuickModePair, why: string): void {
  const { isakmp } = pair;
  const found = exchangeOf(pair);
  if (found !== undefined) found.exchange.step = { name: 'over' };
  if (pair.state === 'gone' || pair.state === 'deleting') return;
  isakmp.report('child-sa-failed', `child SA ${pair.label}: ${why}`, { child: pair.policy.name });
  isakmp.add({ kind: 'delete-child', children: [pair] });
}

/** The exchange that waits for the installation of a pair. It may be in an older ISAKMP SA than the one that has the pair now. */
function exchangeOf(pair: QuickModePair): { sa: IsakmpSa; exchange: QuickMode; next: Uint8Array } | undefined {
  for (const sa of pair.isakmp.host.table.all()) {
    if (sa.version !== 1) continue;
    for (const exchange of sa.quickModes.values())
      if (exchange.step.name === 'installing' && exchange.step.pair === pair) return { sa, exchange, next: exchange.step.next };
  }
  return undefined;
}
