/** One ISAKMP SA: its state, keys, IVs, exchanges, pairs and timers (RFC 2408 §2.1, RFC 2409 §5 and appendix B). What happens is in `exchanges.ts`. */

import { equal, hex } from '../../src/bytes/bytes.ts';
import type { Secret } from '../../src/bytes/secret.ts';
import type { Limit } from '../../src/config/config.ts';
import type { KeyShare } from '../../src/crypto/dh.ts';
import type { Prf } from '../../src/crypto/prf.ts';
import { Fault } from '../../src/errors.ts';
import type { NamedSa } from '../../src/ipsec/sa.ts';
import type { Payload } from '../../src/isakmp/payloads.ts';
import { type HookEvent, hookFor, pathEnvironment } from '../../src/keying/hooks.ts';
import { earliest, Timers } from '../../src/machine.ts';
import { type Endpoint, type Path, showEndpoint } from '../../src/net/address.ts';
import { type Identity, showIdentity } from '../auth/identity.ts';
import type { Demand, Host } from '../host.ts';
import { KEEPALIVE_MS, type Nat } from '../natt.ts';
import type { PeerV1 } from '../peers.ts';
import type { RetryPolicy } from '../retry.ts';
import type { Probing } from './dpd.ts';
import type { Farewell } from './informational.ts';
import {
  type Exchanged,
  HASH_1,
  type IsakmpKeys,
  type IsakmpSuite,
  messageCipher,
  phase2Iv,
  prfOfSuite,
  wipeKeys,
} from './keys.ts';
import { ladder } from './ladder.ts';
import {
  EXCHANGE,
  type Message,
  type MessageCipher,
  type OpenedMessage,
  octetsAfterHash,
  openMessage,
  type ReadMessage,
  sealMessage,
  writeMessage,
} from './message.ts';
import type { QuickModePair } from './pair.ts';
import { type Phase1Choice, suiteText } from './phase-1-proposals.ts';
import type { ParkedQuickMode, QuickMode } from './quick-mode.ts';
import { Turn } from './turn.ts';

/** Main Mode by the message that is awaited, with what was exchanged so far (RFC 2409 §5.4). */
export type State =
  | { readonly name: 'awaiting-message-2'; readonly SAi_b: Uint8Array }
  | { readonly name: 'awaiting-message-3'; readonly SAi_b: Uint8Array; readonly choice: Phase1Choice }
  | {
      readonly name: 'awaiting-message-4';
      readonly SAi_b: Uint8Array;
      readonly choice: Phase1Choice;
      readonly share: KeyShare;
      readonly Ni_b: Uint8Array;
    }
  | {
      readonly name: 'awaiting-message-5';
      readonly SAi_b: Uint8Array;
      readonly choice: Phase1Choice;
      readonly exchanged: Exchanged;
      readonly g_xy: Secret;
    }
  | {
      readonly name: 'awaiting-message-6';
      readonly SAi_b: Uint8Array;
      readonly choice: Phase1Choice;
      readonly exchanged: Exchanged;
    }
  | { readonly name: 'established' }
  /** A newer one with the same peer has its pairs; its DELETE or its end is still to come. */
  | { readonly name: 'rekeyed' }
  /** Our DELETE for it is under way. */
  | { readonly name: 'closing'; readonly why: string }
  | { readonly name: 'closed'; readonly why: string };

/** What is to be begun, in the order of the queue. */
export type Task = { /** Not before, `mono`. */ readonly after?: number } & (
  | { readonly kind: 'create-child'; readonly demand: Demand }
  | { readonly kind: 'rekey-child'; readonly child: QuickModePair }
  | { readonly kind: 'rekey-ike' }
  | { readonly kind: 'delete-child'; readonly children: readonly QuickModePair[] }
  | { readonly kind: 'delete-ike'; readonly why: string }
  | { readonly kind: 'liveness' }
);

/**
 * `negotiation`: give up an SA that is not established. `rekey`, `expire`: its lifetime. `liveness`: nothing authentic was heard for
 * `dpd_delay`. `keepalive`: nothing was sent through a NAT for 20 s. `grace`: it has had no pairs. `yield`: a newer one has taken over, and
 * this one is ours to delete. `linger`: the peer has forgotten it.
 */
export type TimerName = 'negotiation' | 'rekey' | 'expire' | 'liveness' | 'keepalive' | 'grace' | 'yield' | 'linger';
const TIMERS: readonly TimerName[] = ['negotiation', 'rekey', 'expire', 'liveness', 'keepalive', 'grace', 'yield', 'linger'];

/** Message IDs that were used by either side and must not come again; no honest peers need as many. */
const MOST_USED_IDS = 8192;
/** How long the end of a Quick Mode is remembered: longer than anybody repeats himself. Milliseconds. */
const REMEMBER_MS = 120_000;
/** As many Quick Modes are remembered; then the oldest that is over makes room. */
const MOST_REMEMBERED = 256;
/** One that serves again is replaced soon. Milliseconds. */
const RESUMED_MS = 5_000;
/** Quick Modes of ours under way at once. */
const MOST_AT_ONCE = 8;

export interface IsakmpSaOptions {
  readonly originalInitiator: boolean;
  readonly CKY_I: Uint8Array;
  readonly CKY_R: Uint8Array;
  readonly path: Path;
  readonly state: State;
  readonly peer?: PeerV1;
  /** Remotes that the peer may turn out to be. */
  readonly candidates?: readonly PeerV1[];
  /** The responder's: the message that began it, for answering it again. */
  readonly initRequest?: { readonly bytes: Uint8Array; readonly from: Endpoint };
}

export class IsakmpSa {
  readonly version = 1;
  readonly host: Host;
  readonly originalInitiator: boolean;
  readonly CKY_I: Uint8Array;
  readonly initRequest: IsakmpSaOptions['initRequest'];
  readonly candidates: readonly PeerV1[];
  readonly timers = new Timers<TimerName>();
  readonly children: QuickModePair[] = [];
  /** Main Mode's messages. */
  readonly turn = new Turn();
  /** Quick Modes by their message IDs, those that are over for a while too. */
  readonly quickModes = new Map<number, QuickMode>();
  /** DELETEs of ours that the peer has not been seen to follow. */
  readonly farewells: Farewell[] = [];
  /** Pairs that the peer deleted, by the protocol and SPI of each outbound SA, with our inbound ones: its DELETE may come again. */
  readonly deletedByPeer = new Map<string, readonly NamedSa[]>();
  CKY_R: Uint8Array;
  path: Path;
  peer: PeerV1 | undefined;
  state: State;
  nat: Nat = 'none';
  /** RFC 3947 is spoken by both; DPD likewise. */
  natTraversal = false;
  deadPeerDetection = false;
  suite: IsakmpSuite | undefined;
  /** When it ends, seconds; 0: never. */
  lifeSeconds = 0;
  myId: Identity | undefined;
  peerId: Identity | undefined;
  authenticated = false;
  /** It is being closed, its pairs one after the other. */
  ending = false;
  /** `mono` of its first message, and of its authentication. */
  readonly born: number;
  authenticatedAt = 0;
  since: number;
  /** The last sign of life: an authentic message, or ESP. */
  heard: number;
  /** An error that came unauthenticated, or a message that could not be authenticated: told if nothing better follows. */
  refusal: string | undefined;
  tasks: Task[] = [];
  /** The task whose SPI is being asked for. */
  preparing: Task | undefined;
  /** The peer's Quick Modes that wait for an SPI, the first of which has asked. */
  parked: ParkedQuickMode[] = [];
  probing: Probing | undefined;
  /** Of our next R-U-THERE, once there was one. */
  probeSequence: number | undefined;
  /** Checks of liveness in a row that ESP made needless, and counters that are being asked for. */
  vouched = 0;
  counting: { left: number; moved: boolean } | undefined;
  /** The last R-U-THERE of the peer and our answer. */
  lastProbe: { readonly bytes: Uint8Array; readonly answer: Uint8Array } | undefined;
  peerProbe: number | undefined;
  /** Both ends began one, and another stays: it takes no more children. */
  redundant = false;
  readonly #usedIds = new Set<number>();
  #keys: IsakmpKeys | undefined;
  #cipher: MessageCipher | undefined;
  #cipherKey: Secret | undefined;
  /** The IV of the next message of phase 1, and once that is over the block that phase 2's IVs are made of. */
  #lastBlock: Uint8Array | undefined;

  constructor(host: Host, options: IsakmpSaOptions) {
    this.host = host;
    this.originalInitiator = options.originalInitiator;
    this.CKY_I = options.CKY_I;
    this.CKY_R = options.CKY_R;
    this.path = options.path;
    this.state = options.state;
    this.peer = options.peer;
    this.candidates = options.candidates ?? [];
    this.initRequest = options.initRequest;
    this.born = host.now.mono;
    this.since = host.now.mono;
    this.heard = host.now.mono;
  }

  /** The cookies under the names that the header's fields have in both versions. */
  get SPIi(): Uint8Array {
    return this.CKY_I;
  }

  get SPIr(): Uint8Array {
    return this.CKY_R;
  }

  get ownSpi(): Uint8Array {
    return this.originalInitiator ? this.CKY_I : this.CKY_R;
  }

  /** The short name that every line of its story carries. */
  get name(): string {
    return `v1:${hex(this.CKY_I.subarray(0, 4))}/${hex(this.CKY_R.subarray(0, 4))}`;
  }

  get peerName(): string {
    const remote = this.peer === undefined ? '' : `${this.peer.name} at `;
    return `${remote}${showEndpoint(this.path.remote)}`;
  }

  get retry(): RetryPolicy {
    const ikev1 = (this.peer ?? this.candidates[0])?.ikev1;
    return { intervalMs: ikev1?.retryInterval ?? 1000, maxRetries: ikev1?.maxRetries ?? 5 };
  }

  /** Whether a new pair may be asked for in it. */
  get takesChildren(): boolean {
    if (this.redundant) return false;
    const { name } = this.state;
    return name === 'established' || (this.originalInitiator && name.startsWith('awaiting'));
  }

  get closed(): boolean {
    return this.state.name === 'closed';
  }

  get established(): boolean {
    return this.state.name === 'established' || this.state.name === 'rekeyed';
  }

  get prf(): Prf {
    if (this.suite === undefined) throw new Fault('an ISAKMP SA has no suite yet');
    return prfOfSuite(this.suite);
  }

  get keys(): IsakmpKeys {
    if (this.#keys === undefined) throw new Fault('an ISAKMP SA has no keys yet');
    return this.#keys;
  }

  /** `AES_CBC_256/HMAC_SHA2_256/MODP2048`. */
  get suiteText(): string | undefined {
    return this.suite === undefined ? undefined : suiteText(this.suite);
  }

  /** Nothing is answered again once it is gone: IKEv1 has no exchange in which the answer to the last message matters. */
  get echo(): undefined {
    return undefined;
  }

  setKeys(suite: IsakmpSuite, keys: IsakmpKeys, iv: Uint8Array): void {
    const { cipher, key } = messageCipher(suite, keys.SKEYID_e);
    this.suite = suite;
    this.#keys = keys;
    this.#cipher = cipher;
    this.#cipherKey = key;
    this.#lastBlock = iv;
  }

  // Tasks.

  /** Puts something at the end of the queue. */
  add(task: Task): void {
    if (task.kind === 'rekey-child') task.child.rekeying = true;
    if (task.kind === 'delete-child') for (const child of task.children) child.state = 'deleting';
    this.tasks.push(task);
  }

  /** Before the SA is established nothing may begin. A rekey waits for the datapath, which has the SPIs. */
  mayBegin(task: Task): boolean {
    if (!this.established) return false;
    if (task.kind !== 'create-child' && task.kind !== 'rekey-child') return true;
    if (task.kind === 'rekey-child' && !this.host.linked) return false;
    return this.preparing === undefined && this.#underWay < MOST_AT_ONCE;
  }

  get #underWay(): number {
    return [...this.quickModes.values()].filter(({ step }) => step.name === 'awaiting-message-2').length;
  }

  /** Whether something of this kind waits or is prepared. */
  has(kind: Task['kind']): boolean {
    return this.preparing?.kind === kind || this.tasks.some((task) => task.kind === kind);
  }

  // Messages.

  /** A message of Main Mode, in the clear or under phase 1's chain of IVs. */
  writePhase1(payloads: readonly Payload[], encrypted: boolean): Uint8Array {
    const message = this.#message(EXCHANGE['Main Mode'], 0, payloads, encrypted);
    this.#draw(message);
    if (!encrypted) return writeMessage(message);
    const { bytes, lastBlock } = sealMessage(message, this.#mustCipher(), this.#lastBlock!);
    this.#lastBlock = lastBlock;
    return bytes;
  }

  /** Decrypts a message of Main Mode. The chain goes on only when `acceptPhase1` says that it was authentic. Throws WireError. */
  openPhase1(read: ReadMessage): OpenedMessage {
    return openMessage(read, this.#mustCipher(), this.#lastBlock!);
  }

  acceptPhase1({ lastBlock }: OpenedMessage): void {
    this.#lastBlock = lastBlock;
  }

  /** The first IV of a phase 2 exchange. */
  phase2Iv(messageId: number): Uint8Array {
    return phase2Iv(this.suite!, this.#lastBlock!, messageId);
  }

  openPhase2(read: ReadMessage, iv: Uint8Array): OpenedMessage {
    return openMessage(read, this.#mustCipher(), iv);
  }

  writePhase2(exchange: number, messageId: number, payloads: readonly Payload[], iv: Uint8Array) {
    const message = this.#message(exchange, messageId, payloads, true);
    this.#draw(message);
    return sealMessage(message, this.#mustCipher(), iv);
  }

  /** HDR*, HASH(1), N/D, under a message ID of its own (RFC 2409 §5.7). */
  writeInformational(payloads: readonly Payload[]): Uint8Array {
    const messageId = this.newMessageId();
    const hash: Payload = { type: 'HASH', data: HASH_1(this.prf, this.keys.SKEYID_a, messageId, octetsAfterHash(payloads)) };
    return this.writePhase2(EXCHANGE.Informational, messageId, [hash, ...payloads], this.phase2Iv(messageId)).bytes;
  }

  inform(payloads: readonly Payload[]): void {
    this.transmit(this.writeInformational(payloads), this.path);
  }

  #message(exchange: number, messageId: number, payloads: readonly Payload[], encrypted: boolean): Message {
    return { CKY_I: this.CKY_I, CKY_R: this.CKY_R, exchange, encrypted, commit: false, messageId, payloads };
  }

  #draw(message: Message): void {
    this.report('ladder', ladder(message, this.originalInitiator), { direction: 'out', id: message.messageId });
  }

  #mustCipher(): MessageCipher {
    if (this.#cipher === undefined) throw new Fault('an ISAKMP SA has no cipher yet');
    return this.#cipher;
  }

  /** Unique among the exchanges of this SA, and never 0 (RFC 2408 §3.1). Used at once: HASH(1) does not tell who said it, and an echo of ours is not the peer's. */
  newMessageId(): number {
    for (let tries = 0; tries < 100; tries++) {
      const [a, b, c, d] = this.host.random(4) as Uint8Array & [number, number, number, number];
      const id = ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
      if (id === 0 || this.#usedIds.has(id) || this.quickModes.has(id)) continue;
      this.use(id);
      return id;
    }
    throw new Fault('the source of randomness repeats itself: no unused message ID in 100 draws');
  }

  /** Whether the message ID of an authentic message was used before: then it is a replay. */
  used(messageId: number): boolean {
    return this.#usedIds.has(messageId);
  }

  use(messageId: number): void {
    this.#usedIds.add(messageId);
    if (this.#usedIds.size > MOST_USED_IDS) this.#usedIds.delete([...this.#usedIds][0]!);
  }

  /** Keeps a Quick Mode by its message ID. Those that are over make room, in time or in number. */
  remember(exchange: QuickMode): void {
    let full = this.quickModes.size >= MOST_REMEMBERED;
    for (const [id, { step, begun }] of this.quickModes) {
      if (step.name !== 'over' || (!full && begun + REMEMBER_MS >= this.host.now.mono)) continue;
      this.quickModes.delete(id);
      full = false;
    }
    this.quickModes.set(exchange.messageId, exchange);
  }

  transmit(bytes: Uint8Array, path: Path): void {
    this.host.emit({ kind: 'send', path, bytes });
    if (this.nat === 'here' || this.nat === 'both') this.timers.set('keepalive', this.host.now.mono + KEEPALIVE_MS);
  }

  /** The message that began this SA came again: the same answer while nothing newer was said. */
  repeatInit(bytes: Uint8Array, path: Path): void {
    const again = this.turn.repetition(bytes);
    if (again?.answer === undefined || !equal(bytes, this.initRequest?.bytes ?? bytes))
      return this.host.count('messages-dropped');
    this.host.count('responses-repeated');
    this.transmit(again.answer, path);
  }

  // Life.

  /** The peers know each other: its lifetime begins. */
  establish(): void {
    const { ikev1 } = this.peer!;
    const { mono } = this.host.now;
    this.authenticated = true;
    this.authenticatedAt = mono;
    this.state = { name: 'established' };
    this.since = mono;
    this.heard = mono;
    this.timers.clear('negotiation');
    if (this.lifeSeconds > 0) {
      const share = 0.8 + (0.1 * this.host.random(1)[0]!) / 255;
      this.timers.set('rekey', mono + this.lifeSeconds * 1000 * share);
      this.timers.set('expire', mono + this.lifeSeconds * 1000);
    }
    if (this.deadPeerDetection && ikev1.dpdDelay !== 'infinite') this.timers.set('liveness', mono + ikev1.dpdDelay);
    this.startGrace();
  }

  /** Another had taken over from it, and is gone before it: it serves again. */
  resume(): void {
    this.redundant = false;
    this.timers.clear('yield');
    if (this.state.name !== 'rekeyed') return;
    this.state = { name: 'established' };
    const { mono } = this.host.now;
    const delay = this.peer!.ikev1.dpdDelay;
    if (this.deadPeerDetection && delay !== 'infinite') this.timers.set('liveness', mono + delay);
    if (this.timers.at('expire') !== undefined) this.timers.set('rekey', mono + RESUMED_MS);
  }

  /** When time alone would cause something. */
  wakeAt(): number | undefined {
    const tasks = this.tasks.filter((task) => this.mayBegin(task)).map((task) => task.after ?? 0);
    const quickModes = [...this.quickModes.values()].map(({ turn }) => turn.deadline);
    const farewells = this.farewells.map(({ turn }) => turn.deadline);
    const held = this.children.map((pair) => pair.outboundAt);
    return earliest(
      this.timers.next(),
      this.turn.deadline,
      this.probing?.deadline,
      ...tasks,
      ...quickModes,
      ...farewells,
      ...held,
    );
  }

  // Its life, as `liveness.ts` watches it.

  get dpdDelay(): Limit {
    return this.peer?.ikev1.dpdDelay ?? 'infinite';
  }

  /** An R-U-THERE waits for nothing. */
  readonly idle = true;

  get asking(): boolean {
    return this.probing !== undefined || this.has('liveness');
  }

  probe(): void {
    this.add({ kind: 'liveness' });
  }

  /** Reports with its name and peer. */
  report(...[name, message, details]: Parameters<Host['report']>): void {
    this.host.report(name, message, {
      sa: this.name,
      peer: showEndpoint(this.path.remote),
      remote: this.peer?.name,
      peerId: this.peerId === undefined ? undefined : showIdentity(this.peerId),
      ...details,
    });
  }

  /** Runs the script that the remote names for the event. */
  hook(event: HookEvent, environment: Readonly<Record<string, string>> = pathEnvironment(this.path)): void {
    for (const output of hookFor(this.peer?.ikev1.scripts, event, this.name, environment)) this.host.emit(output);
  }

  remove(child: QuickModePair): void {
    const at = this.children.indexOf(child);
    if (at >= 0) this.children.splice(at, 1);
    child.state = 'gone';
    if (this.children.length === 0) this.startGrace();
  }

  /** An ISAKMP SA without pairs is closed after `kmp_sa_grace_period`. */
  startGrace(): void {
    const grace = this.peer?.ikev1.gracePeriod ?? 'infinite';
    if (grace !== 'infinite' && grace > 0 && this.state.name === 'established')
      this.timers.set('grace', this.host.now.mono + grace);
  }

  clearTimers(...names: readonly TimerName[]): void {
    for (const name of names.length === 0 ? TIMERS : names) this.timers.clear(name);
  }

  /** Forgets its keys. */
  wipe(): void {
    if (this.#keys !== undefined) wipeKeys(this.#keys);
    this.#cipherKey?.wipe();
    this.#cipher = undefined;
    const { state } = this;
    if (state.name === 'awaiting-message-4') state.share.wipe();
    if (state.name === 'awaiting-message-5') state.g_xy.wipe();
  }
}
