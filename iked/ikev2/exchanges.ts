/** Which exchange gets a message, and the three steps of handling one: verify, plan, commit; with the queue of exchanges to begin (RFC 7296 §1.1, §2.1, §2.21). */

import { AuthError, PeerError, WireError } from '../../src/errors.ts';
import type { Mode } from '../../src/ipsec/sa.ts';
import type { ChildPolicy } from '../../src/keying/child-policy.ts';
import { type Path, samePath, showEndpoint } from '../../src/net/address.ts';
import { nameOf } from '../../src/wire/registry.ts';
import type { ChildSa } from './child-sa.ts';
import { type ChildPlan, type ChildSent, commitChild, concludeChild, planCreateChild, requestChild } from './create-child-sa.ts';
import { abandonChild, closeIkeSa, failIkeSa } from './endings.ts';
import { type AuthPlan, type AuthSent, commitIkeAuth, concludeIkeAuth, planIkeAuth, requestIkeAuth } from './ike-auth.ts';
import type { IkeSa, Task } from './ike-sa.ts';
import { concludeIkeSaInit } from './ike-sa-init.ts';
import {
  commitInformational,
  concludeInformational,
  type InformationalPlan,
  type InformationalSent,
  planInformational,
  requestInformational,
} from './informational.ts';
import { ladder } from './ladder.ts';
import { EXCHANGE, find, type Message, type OpenedMessage, type ReadMessage } from './message.ts';
import { explainNotify, findNotify, isNotifyName, type NotifyName, notify, notifyNumber } from './notify.ts';
import type { Payload, PayloadOf } from './payloads.ts';
import { announce } from './rekey-child.ts';
import {
  commitRekeyIke,
  concludeRekeyIke,
  planRekeyIke,
  type RekeyIkePlan,
  type RekeyIkeSent,
  requestRekeyIke,
} from './rekey-ike-sa.ts';
import { checkCritical, checkRules } from './rules.ts';

/** What the initiator of an exchange remembers until the response is there. */
export type Sent = AuthSent | ChildSent | RekeyIkeSent | InformationalSent;

/** An unauthenticated hint is followed only where nothing authentic was heard for this long. Milliseconds. */
const HINT_PAUSE_MS = 10_000;

/** A request, ready to be sealed. */
export interface Requested {
  readonly exchange: number;
  readonly payloads: readonly Payload[];
  readonly sent: Sent;
}

/** What a responder decided to do, before anything has changed. `spi` names what it must still ask the datapath for. */
export type Plan = { readonly spi?: SpiAsk | undefined } & (AuthPlan | ChildPlan | RekeyIkePlan | InformationalPlan);

export interface SpiAsk {
  readonly policy: ChildPolicy;
  readonly mode: Mode;
}

/** What a responder did: the response, the child whose installation it waits for, and how the SA ends with it. */
export interface Committed {
  readonly payloads: readonly Payload[];
  readonly child?: ChildSa | undefined;
  readonly ending?: { readonly close: string; readonly failed: boolean } | undefined;
}

/** A datagram that belongs to this IKE SA. Nothing changes before its ICV was found right (IKE_SA_INIT apart). */
export function receive(sa: IkeSa, read: ReadMessage, bytes: Uint8Array, path: Path): void {
  const { header, sealed } = read;
  if (header.initiator === sa.originalInitiator) return drop(sa, 'its I flag says that we sent it');
  if (header.exchange === EXCHANGE.IKE_SA_INIT && header.response) return concludeIkeSaInit(sa, read, bytes, path);
  if (sealed === undefined && header.response && findNotify(read.payloads, 'INVALID_IKE_SPI') !== undefined) return hint(sa);
  if (sealed === undefined)
    return drop(sa, read.fragment === undefined ? 'it is not protected' : 'fragments (RFC 7383) were not agreed on');
  if (!sa.keyed) return drop(sa, 'there are no keys for it yet');
  let message: OpenedMessage;
  try {
    message = sa.open(sealed);
  } catch (error) {
    if (error instanceof AuthError) return drop(sa, error.message);
    if (error instanceof WireError) return malformed(sa, read, path, error);
    throw error;
  }
  sa.report('ladder', ladder(message), { direction: 'in', id: message.messageId });
  if (message.response) hearResponse(sa, message, path);
  else hearRequest(sa, message, bytes, path);
}

/** §2.21.4: whoever sent it, it changes nothing but the time of the next liveness check, and that only now and then. */
function hint(sa: IkeSa): void {
  drop(sa, 'it is an unprotected INVALID_IKE_SPI: a hint that the peer has lost the SA');
  if (sa.state.name === 'established' && sa.heard + HINT_PAUSE_MS <= sa.host.now.mono && !sa.has('liveness'))
    sa.add({ kind: 'liveness' });
}

/** RFC 7296 §2.21.2, §2.21.3: an authentic message that is no chain of payloads ends the IKE SA. */
function malformed(sa: IkeSa, { header }: ReadMessage, path: Path, error: WireError): void {
  if (header.response) {
    if (sa.window.awaits(header.messageId)) failIkeSa(sa, `the peer's response is malformed: ${error.message}`);
    return;
  }
  const admission = sa.window.admit(header.messageId);
  if (admission.is === 'new') refuse(sa, { ...header, payloads: [] }, path, new PeerError('INVALID_SYNTAX', error.message));
}

/** §2.3: how many requests the peer can keep. We never have more than one, so it is only noted. */
function noteWindow(sa: IkeSa, { payloads }: Message): void {
  const size = findNotify(payloads, 'SET_WINDOW_SIZE');
  if (size?.data.length === 4) sa.window.peerSize = Math.max(1, notifyNumber(size));
}

function hearRequest(sa: IkeSa, message: OpenedMessage, bytes: Uint8Array, path: Path): void {
  const admission = sa.window.admit(message.messageId);
  if (admission.is === 'ignored') return drop(sa, admission.why);
  if (admission.is === 'answered') {
    // An old copy may come from where the peer was: it moves nothing.
    alive(sa);
    sa.host.count('responses-repeated');
    return sa.transmit(admission.response, path);
  }
  heard(sa, path);
  sa.lastRequest = bytes;
  noteWindow(sa, message);
  plan(sa, message, path);
}

/** The second step: choose, and name what is still to be known. */
function plan(sa: IkeSa, message: OpenedMessage, path: Path): void {
  let chosen: Plan;
  try {
    checkCritical(message.outer ?? []);
    checkRules(message.exchange, 'request', message.payloads);
    chosen = planOf(sa, message);
  } catch (error) {
    return refuse(sa, message, path, error);
  }
  if (chosen.spi === undefined) return commit(sa, message, path, chosen, undefined);
  sa.window.handle();
  sa.parked = { message, path, plan: chosen, generation: sa.host.generation };
  sa.host.askSpi(sa, 'response', chosen.spi.policy, chosen.spi.mode);
}

function planOf(sa: IkeSa, message: OpenedMessage): Plan {
  const name = nameOf(EXCHANGE, message.exchange);
  if (!sa.authenticated) {
    if (message.exchange === EXCHANGE.IKE_AUTH && sa.state.name === 'awaiting-ike-auth' && !sa.originalInitiator)
      return planIkeAuth(sa, message);
    throw new PeerError('INVALID_SYNTAX', `${name} before the IKE SA is authenticated`);
  }
  switch (message.exchange) {
    case EXCHANGE.CREATE_CHILD_SA:
      return find(message.payloads, 'SA')?.proposals[0]?.protocol === 'ike'
        ? planRekeyIke(sa, message)
        : planCreateChild(sa, message);
    case EXCHANGE.INFORMATIONAL:
      return planInformational(sa, message);
    default:
      throw new PeerError('INVALID_SYNTAX', `${name} in an established IKE SA`);
  }
}

/** The third step, which runs once and cannot fail for a reason of the peer's. */
function commit(sa: IkeSa, message: OpenedMessage, path: Path, chosen: Plan, spi: number | undefined): void {
  const { payloads, child, ending } = commitOf(sa, message, chosen, spi);
  answer(sa, message, path, payloads, child);
  if (ending !== undefined) closeIkeSa(sa, ending.close, ending.failed);
}

function commitOf(sa: IkeSa, message: OpenedMessage, chosen: Plan, spi: number | undefined): Committed {
  switch (chosen.for) {
    case 'ike-auth':
      return commitIkeAuth(sa, message, chosen, spi);
    case 'child':
      return commitChild(sa, message, chosen, spi);
    case 'ike':
      return commitRekeyIke(sa, message, chosen);
    default:
      return commitInformational(sa, message, chosen);
  }
}

/** Seals and keeps the response, and sends it once the child's SAs are in the datapath: then the peer may use them (§2.8). */
function answer(sa: IkeSa, message: Message, path: Path, payloads: readonly Payload[], child?: ChildSa): void {
  const bytes = sa.response(message, payloads);
  if (child !== undefined && child.pending > 0) {
    sa.window.handle();
    sa.held = { bytes, path, child };
    child.heldBy = sa;
    return;
  }
  sa.window.answer(bytes);
  sa.transmit(bytes, path);
}

/** The one place where a refusal becomes a notification (RFC 7296 §2.21). AuthError says nothing but that. */
function refuse(sa: IkeSa, message: Message, path: Path, error: unknown): void {
  const name = nameOf(EXCHANGE, message.exchange);
  const auth = message.exchange === EXCHANGE.IKE_AUTH;
  let type: NotifyName;
  let data: Uint8Array | undefined;
  let about: { protocol: number; spi: Uint8Array } | undefined;
  if (error instanceof AuthError) type = 'AUTHENTICATION_FAILED';
  else if (error instanceof WireError) type = 'INVALID_SYNTAX';
  else if (error instanceof PeerError && isNotifyName(error.notify)) {
    type = error.notify;
    data = error.data;
    if (error instanceof ChildNotFound) about = { protocol: error.protocol, spi: error.spi };
  } else throw error;
  const fatal =
    type === 'INVALID_SYNTAX' || (auth && (type === 'AUTHENTICATION_FAILED' || type === 'UNSUPPORTED_CRITICAL_PAYLOAD'));
  // The end of an IKE SA that never was is reported with its reason.
  if (sa.authenticated || !fatal) {
    const text = `${name} answered with ${type}: ${error.message}`;
    sa.report('message-refused', text, { notify: type });
    if (type === 'NO_PROPOSAL_CHOSEN' || type === 'TS_UNACCEPTABLE') sa.host.remember(sa.peer!.name, text);
  }
  answer(sa, message, path, [notify(type, data, about)]);
  if (fatal && sa.authenticated) closeIkeSa(sa, error.message, true);
  else if (fatal) failIkeSa(sa, `${error.message} (${name} answered with ${type})`);
}

/** A rekey of a child that we do not have: CHILD_SA_NOT_FOUND names it as REKEY_SA did (RFC 7296 §2.25). */
export class ChildNotFound extends PeerError {
  readonly protocol: number;
  readonly spi: Uint8Array;
  constructor(protocol: number, spi: Uint8Array, message: string) {
    super('CHILD_SA_NOT_FOUND', message);
    this.protocol = protocol;
    this.spi = spi;
  }
}

function hearResponse(sa: IkeSa, message: OpenedMessage, path: Path): void {
  const { current, window } = sa;
  if (current === undefined || !window.awaits(message.messageId))
    return drop(sa, `no request ${message.messageId} of ours waits for a response`);
  heard(sa, path);
  window.settle();
  sa.current = undefined;
  noteWindow(sa, message);
  try {
    checkCritical(message.outer ?? []);
    checkRules(message.exchange, 'response', message.payloads);
    const fatal = sa.authenticated ? findNotify(message.payloads, 'INVALID_SYNTAX') : undefined;
    if (fatal !== undefined) return forgotten(sa, current, fatal);
    conclude(sa, current.sent, message);
  } catch (error) {
    if (!(error instanceof PeerError || error instanceof WireError || error instanceof AuthError)) throw error;
    sa.giveBack(current.sent);
    badResponse(sa, current.task, error);
  }
}

function conclude(sa: IkeSa, sent: Sent, message: OpenedMessage): void {
  switch (sent.for) {
    case 'ike-auth':
      return concludeIkeAuth(sa, sent, message);
    case 'child':
      return concludeChild(sa, sent, message);
    case 'ike':
      return concludeRekeyIke(sa, sent, message);
    default:
      return concludeInformational(sa, sent);
  }
}

/** §2.21: a response that we cannot use. The peer believes that the exchange succeeded, so the IKE SA is closed. */
function badResponse(sa: IkeSa, task: Task, error: Error): void {
  const why =
    error instanceof AuthError
      ? error.message
      : `the peer's response to our ${task.kind} request is not usable: ${error.message}`;
  if (task.kind === 'ike-auth' || task.kind === 'create-child') sa.host.failed(task.demand, why);
  if (sa.authenticated) {
    sa.report('child-sa-failed', why);
    sa.dropTasks(why);
    sa.add({ kind: 'delete-ike', why });
    return;
  }
  sa.report('ike-sa-failed', why);
  sa.state = { name: 'closing' };
  sa.add({ kind: 'delete-ike', why, notify: error instanceof AuthError ? 'AUTHENTICATION_FAILED' : 'INVALID_SYNTAX' });
}

/** §2.21.3: the peer found our request malformed, and has deleted the IKE SA without a Delete payload. */
function forgotten(sa: IkeSa, { task, sent }: { readonly task: Task; readonly sent: Sent }, error: PayloadOf<'Notify'>): void {
  const why = explainNotify(error, `a ${task.kind} request`);
  sa.giveBack(sent);
  if (task.kind === 'create-child') sa.host.failed(task.demand, why);
  sa.report('ike-sa-failed', `the IKE SA with ${sa.peerName} is given up: ${why}`);
  closeIkeSa(sa, why, true);
}

/** An authentic message was heard: the peer lives, and a peer behind a NAT is where it sends from (RFC 7296 §2.23). */
function heard(sa: IkeSa, path: Path): void {
  alive(sa);
  if (!sa.authenticated && !sa.originalInitiator) sa.path = path;
  follow(sa, path);
}

function alive(sa: IkeSa): void {
  sa.heard = sa.host.now.mono;
  sa.vouched = 0;
}

/** A peer behind a NAT is where its authentic messages, or its ESP, come from. */
export function follow(sa: IkeSa, path: Path): void {
  if (samePath(path, sa.path) || (sa.nat !== 'there' && sa.nat !== 'both')) return;
  if (sa.authenticated)
    sa.report('peer-moved', `the peer is now at ${showEndpoint(path.remote)}, before at ${showEndpoint(sa.path.remote)}`);
  sa.path = path;
  // The SAs in the datapath send to where the peer was: new ones send to where it is.
  for (const child of sa.children) if (rekeyable(child) && !child.rekeying) sa.add({ kind: 'rekey-child', child });
}

function drop(sa: IkeSa, why: string): void {
  sa.host.count('messages-dropped');
  sa.report('message-dropped', `a message was ignored: ${why}`);
}

/** Begins the next exchange where the window and the queue allow it. */
export function advance(sa: IkeSa): void {
  while (sa.window.open && sa.preparing === undefined && !sa.closed) {
    const at = sa.tasks.findIndex((task) => (task.after ?? 0) <= sa.host.now.mono && sa.mayBegin(task));
    if (at < 0) return;
    const [task] = sa.tasks.splice(at, 1);
    begin(sa, task!);
  }
}

function begin(sa: IkeSa, task: Task): void {
  const ask = spiAsk(task);
  if (ask === 'moot') return;
  if (ask === undefined) return launch(sa, task, 0);
  sa.preparing = task;
  // Before the SPI is asked for: when it is there and IKE_AUTH leaves, they are on hold for certain.
  if (task.kind === 'ike-auth') sa.host.holdOldSas(sa);
  sa.host.askSpi(sa, 'request', ask.policy, ask.mode);
}

function spiAsk(task: Task): SpiAsk | 'moot' | undefined {
  switch (task.kind) {
    case 'ike-auth':
    case 'create-child':
      return { mode: task.demand.policy.policy.mode, policy: task.demand.policy };
    case 'rekey-child':
      return rekeyable(task.child) ? { mode: task.child.agreed.mode, policy: task.child.policy } : 'moot';
    default:
      return undefined;
  }
}

/** Whether a child is still to be rekeyed by us: it is there, and the peer has not replaced it meanwhile. */
function rekeyable(child: ChildSa): boolean {
  return child.usable && child.successor === undefined;
}

function launch(sa: IkeSa, task: Task, spi: number): void {
  const requested = requestOf(sa, task, spi);
  if (requested === undefined) return;
  sa.current = { task, sent: requested.sent };
  sa.send(requested.exchange, requested.payloads);
}

function requestOf(sa: IkeSa, task: Task, spi: number): Requested | undefined {
  switch (task.kind) {
    case 'ike-auth':
      return requestIkeAuth(sa, task.demand, spi);
    case 'create-child':
    case 'rekey-child':
      return requestChild(sa, task, spi);
    case 'rekey-ike':
      return sa.state.name === 'established' && sa.successor === undefined ? requestRekeyIke(sa, task) : undefined;
    default:
      return requestInformational(sa, task);
  }
}

/** The datapath's answer to `askSpi`; undefined: it has none for us. */
export function spiArrived(sa: IkeSa, role: 'request' | 'response', spi: number | undefined): void {
  if (role === 'request') return spiForRequest(sa, spi);
  const { parked } = sa;
  sa.parked = undefined;
  if (parked === undefined || sa.closed) {
    if (spi !== undefined) sa.host.releaseSpi(spi);
    return;
  }
  if (parked.generation !== sa.host.generation && spi !== undefined) {
    sa.host.releaseSpi(spi);
    return plan(sa, parked.message, parked.path);
  }
  if (spi === undefined && parked.plan.for === 'child') {
    return refuse(
      sa,
      parked.message,
      parked.path,
      new PeerError('TEMPORARY_FAILURE', 'the datapath gave no SPI: is it running?'),
    );
  }
  try {
    commit(sa, parked.message, parked.path, replanned(sa, parked.message, parked.plan), spi);
  } catch (error) {
    if (spi !== undefined) sa.host.releaseSpi(spi);
    refuse(sa, parked.message, parked.path, error);
  }
}

/** What changed on our side while the plan was parked may forbid it now: the checks of §2.25 are made again. */
function replanned(sa: IkeSa, message: OpenedMessage, parked: Plan): Plan {
  return parked.for === 'child' ? planCreateChild(sa, message) : parked;
}

function spiForRequest(sa: IkeSa, spi: number | undefined): void {
  const task = sa.preparing;
  sa.preparing = undefined;
  const moot = task === undefined || sa.closed || (task.kind === 'rekey-child' && !rekeyable(task.child));
  if (spi !== undefined) {
    if (moot) sa.host.releaseSpi(spi);
    else launch(sa, task, spi);
    return;
  }
  if (moot) return;
  if (task.kind === 'rekey-child' && !sa.host.linked) sa.tasks.unshift(task);
  else abandonChild(sa, task, 'the datapath gave no SPI: is it running, and is its PF_KEY socket the one of this policy file?');
}

/** The child's SAs are in the datapath: a response that waited for that leaves. */
export function childInstalled(child: ChildSa): void {
  if (child.state !== 'gone') announce(child);
  releaseHeld(child);
}

/** The datapath refused one of a child's SAs: the peer is told by a DELETE. */
export function childRefused(child: ChildSa, why: string): void {
  const { ike } = child;
  releaseHeld(child);
  if (child.state === 'gone' || child.state === 'deleting') return;
  ike.report('child-sa-failed', `child SA ${child.label}: ${why}`, { child: child.policy.name });
  ike.add({ kind: 'delete-child', children: [child] });
}

/** The response that waited for a child leaves, whether the child came to be or not. */
export function releaseHeld(child: ChildSa): void {
  const { heldBy } = child;
  child.heldBy = undefined;
  if (heldBy?.held?.child !== child) return;
  const { bytes, path } = heldBy.held;
  heldBy.held = undefined;
  heldBy.window.answer(bytes);
  heldBy.transmit(bytes, path);
}
