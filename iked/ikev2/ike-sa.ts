/** One IKE SA: its state, keys, window, queue of exchanges to begin, children and timers (RFC 7296 §1.1, §2). What happens is in `exchanges.ts`. */

import { equal, hex } from '../../src/bytes/bytes.ts';
import type { Limit } from '../../src/config/config.ts';
import type { IkeCipher } from '../../src/crypto/aead.ts';
import type { KeyShare } from '../../src/crypto/dh.ts';
import { type Prf, prfOf } from '../../src/crypto/prf.ts';
import { encrText, integText, type KeName, keText, prfText } from '../../src/crypto/transforms.ts';
import { Fault } from '../../src/errors.ts';
import { type HookEvent, hookFor, pathEnvironment } from '../../src/keying/hooks.ts';
import { earliest, Timers } from '../../src/machine.ts';
import { type Endpoint, type Path, showEndpoint } from '../../src/net/address.ts';
import { type Identity, showIdentity } from '../auth/identity.ts';
import type { Demand, Host } from '../host.ts';
import { KEEPALIVE_MS, type Nat } from '../natt.ts';
import type { Peer } from '../peers.ts';
import type { RetryPolicy } from '../retry.ts';
import type { ChildSa } from './child-sa.ts';
import type { Nonces } from './collisions.ts';
import type { Plan, Sent } from './exchanges.ts';
import { cipherOfSuite, type IkeKeys, type IkeSuite, sealKeys, wipeKeys } from './keys.ts';
import { ladder } from './ladder.ts';
import { type Message, type OpenedMessage, openMessage, type Sealed, sealMessage, writeMessage } from './message.ts';
import type { NotifyName } from './notify.ts';
import type { Payload } from './payloads.ts';
import { Window } from './window.ts';

/** What IKE_AUTH signs of IKE_SA_INIT (RFC 7296 §2.15). */
export interface InitFacts {
  readonly Ni: Uint8Array;
  readonly Nr: Uint8Array;
  /** The messages as they went over the wire: RealMessage1 and RealMessage2. */
  readonly request: Uint8Array;
  readonly response: Uint8Array;
}

/** What an initiator remembers of the IKE_SA_INIT that it sent, over all its retries. */
export interface InitSent {
  readonly demand: Demand;
  readonly Ni: Uint8Array;
  readonly share: KeyShare;
  readonly cookie: Uint8Array | undefined;
  /** Requests with a new cookie or group so far. */
  readonly retries: number;
  /** An error that came unauthenticated: told if nothing better follows (§2.21.1). */
  readonly refusal: string | undefined;
}

export type State =
  | { readonly name: 'awaiting-ike-sa-init'; readonly init: InitSent }
  | { readonly name: 'awaiting-ike-auth'; readonly facts: InitFacts }
  | { readonly name: 'established' }
  /** A successor has its children; the DELETE is still to come. */
  | { readonly name: 'rekeyed' }
  /** Our DELETE waits or is under way. */
  | { readonly name: 'closing' }
  | { readonly name: 'closed'; readonly why: string };

/** An exchange to begin, in the order of the queue. */
export type Task = { /** Not before, `mono`. */ readonly after?: number; readonly tries?: number } & (
  | { readonly kind: 'ike-auth'; readonly demand: Demand }
  | { readonly kind: 'create-child'; readonly demand: Demand; readonly group?: KeName }
  | { readonly kind: 'rekey-child'; readonly child: ChildSa; readonly group?: KeName }
  | { readonly kind: 'rekey-ike'; readonly group?: KeName }
  | { readonly kind: 'delete-child'; readonly children: readonly ChildSa[] }
  | { readonly kind: 'delete-ike'; readonly why: string; readonly notify?: NotifyName }
  | { readonly kind: 'liveness' }
);

/**
 * `negotiation`: give up an SA that is not established. `rekey`, `expire`: its lifetime. `liveness`: nothing authentic was heard for
 * `dpd_delay`. `keepalive`: nothing was sent through a NAT for 20 s. `grace`: it has had no children. `yield`: the other of two IKE SAs that both ends began takes over. `linger`: a replaced or refused SA
 * whose peer does not come back.
 */
export type TimerName = 'negotiation' | 'rekey' | 'expire' | 'liveness' | 'keepalive' | 'grace' | 'yield' | 'linger';

/** A request of the peer's that waits for an answer from outside. */
export interface Parked {
  readonly message: OpenedMessage;
  readonly path: Path;
  readonly plan: Plan;
  readonly generation: number;
}

export interface IkeSaOptions {
  readonly originalInitiator: boolean;
  readonly SPIi: Uint8Array;
  readonly SPIr: Uint8Array;
  readonly path: Path;
  readonly state: State;
  readonly peer?: Peer;
  /** Remotes that the peer may turn out to be. */
  readonly candidates?: readonly Peer[];
  /** The responder's: the request that began it, for answering it again. */
  readonly initRequest?: { readonly bytes: Uint8Array; readonly from: Endpoint };
}

export class IkeSa {
  readonly version = 2;
  readonly host: Host;
  readonly originalInitiator: boolean;
  readonly SPIi: Uint8Array;
  readonly initRequest: IkeSaOptions['initRequest'];
  readonly candidates: readonly Peer[];
  readonly timers = new Timers<TimerName>();
  readonly window = new Window();
  readonly children: ChildSa[] = [];
  SPIr: Uint8Array;
  path: Path;
  peer: Peer | undefined;
  state: State;
  nat: Nat = 'none';
  natTraversal = false;
  /** RFC 7296 §2.7, once chosen. */
  suite: IkeSuite | undefined;
  myId: Identity | undefined;
  peerId: Identity | undefined;
  authenticated = false;
  /** It is being closed, its children one after the other. */
  ending = false;
  /** `mono` of its first message, and of the authentication that it or the IKE SA it replaces began with. */
  readonly born: number;
  authenticatedAt = 0;
  /** The nonces of that authentication, and whether we had begun it: what IKE SAs that both ends began at once are told apart by. */
  nonces: Nonces | undefined;
  begunByUs = false;
  /** `mono` of its birth, and of the last sign of life: an authentic message, or ESP. */
  since: number;
  heard: number;
  /** Liveness checks in a row that ESP made needless, without a message of IKE between. */
  vouched = 0;
  tasks: Task[] = [];
  /** The task whose SPI is being asked for. */
  preparing: Task | undefined;
  /** The request of ours that waits for its response. */
  current: { readonly task: Task; readonly sent: Sent } | undefined;
  parked: Parked | undefined;
  /** The octets of the request that was handled last. */
  lastRequest: Uint8Array | undefined;
  /** A response that waits until its child's SAs are in the datapath. */
  held: { readonly bytes: Uint8Array; readonly path: Path; readonly child: ChildSa } | undefined;
  /** What an exchange of the peer's replaces this SA by, and its nonces, while our own rekey is under way (§2.8.2). */
  successor: { readonly sa: IkeSa; readonly Ni: Uint8Array; readonly Nr: Uint8Array } | undefined;
  /** Since when the peer answers TEMPORARY_FAILURE without a success between, `mono`. */
  failingSince: number | undefined;
  /** Children whose counters are being asked for before a liveness check, and whether any has moved. */
  counting: { left: number; moved: boolean } | undefined;
  /** The peer wants no more children in this SA (NO_ADDITIONAL_SAS). */
  full = false;
  /** Both ends began one, and this one is ours to close: it takes no more children, nor does what replaces it. */
  redundant = false;
  #keys: IkeKeys | undefined;
  #cipher: IkeCipher | undefined;
  #ivCount = 0;

  constructor(host: Host, options: IkeSaOptions) {
    this.host = host;
    this.originalInitiator = options.originalInitiator;
    this.SPIi = options.SPIi;
    this.SPIr = options.SPIr;
    this.path = options.path;
    this.state = options.state;
    this.peer = options.peer;
    this.candidates = options.candidates ?? [];
    this.initRequest = options.initRequest;
    this.born = host.now.mono;
    this.since = host.now.mono;
    this.heard = host.now.mono;
  }

  get ownSpi(): Uint8Array {
    return this.originalInitiator ? this.SPIi : this.SPIr;
  }

  /** What it answered last, for a peer that did not hear it. */
  get echo(): { readonly request: Uint8Array; readonly response: Uint8Array } | undefined {
    const response = this.window.lastResponse;
    return this.lastRequest === undefined || response === undefined ? undefined : { request: this.lastRequest, response };
  }

  /** The short name that every line of its story carries. */
  get name(): string {
    return `v2:${hex(this.SPIi.subarray(0, 4))}/${hex(this.SPIr.subarray(0, 4))}`;
  }

  get peerName(): string {
    const remote = this.peer === undefined ? '' : `${this.peer.name} at `;
    return `${remote}${showEndpoint(this.path.remote)}`;
  }

  get retry(): RetryPolicy {
    const ikev2 = (this.peer ?? this.candidates[0])?.ikev2;
    return { intervalMs: ikev2?.retryInterval ?? 1000, maxRetries: ikev2?.maxRetries ?? 5 };
  }

  /** Whether a new child may be asked for in it. */
  get takesChildren(): boolean {
    if (this.full || this.redundant || this.successor !== undefined) return false;
    const { name } = this.state;
    return (
      name === 'established' || (this.originalInitiator && (name === 'awaiting-ike-sa-init' || name === 'awaiting-ike-auth'))
    );
  }

  get closed(): boolean {
    return this.state.name === 'closed';
  }

  get prf(): Prf {
    if (this.suite === undefined) throw new Fault('an IKE SA has no suite yet');
    return prfOf(this.suite.prf, this.host.engine);
  }

  get keys(): IkeKeys {
    if (this.#keys === undefined) throw new Fault('an IKE SA has no keys yet');
    return this.#keys;
  }

  get keyed(): boolean {
    return this.#keys !== undefined;
  }

  /** `AES_GCM_16_256 NONE PRF_HMAC_SHA2_256 X25519`. */
  get suiteText(): string | undefined {
    if (this.suite === undefined) return undefined;
    const { encr, keyBits, integ, prf, ke } = this.suite;
    return [encrText(encr, keyBits), ...(integ === 'none' ? [] : [integText(integ)]), prfText(prf), keText(ke)].join(' ');
  }

  setKeys(suite: IkeSuite, keys: IkeKeys): void {
    this.suite = suite;
    this.#keys = keys;
    this.#cipher = cipherOfSuite(suite);
  }

  /** Puts an exchange at the end of the queue. */
  add(task: Task): void {
    if (task.kind === 'rekey-child') task.child.rekeying = true;
    if (task.kind === 'delete-child') for (const child of task.children) child.state = 'deleting';
    this.tasks.push(task);
  }

  /** Before the SA is established only IKE_AUTH may leave, and the end of one that failed. A rekey waits for the datapath, which has the SPIs. */
  mayBegin(task: Task): boolean {
    const { name } = this.state;
    if (task.kind === 'rekey-child' && !this.host.linked) return false;
    return name !== 'awaiting-ike-sa-init' && (name !== 'awaiting-ike-auth' || task.kind === 'ike-auth');
  }

  /** Whether an exchange of this kind waits, is prepared or is under way. */
  has(kind: Task['kind']): boolean {
    return this.busy(kind) || this.tasks.some((task) => task.kind === kind);
  }

  /** Whether an exchange of one of these kinds is prepared or under way: what §2.25 calls "currently". */
  busy(...kinds: readonly Task['kind'][]): boolean {
    return [this.preparing, this.current?.task].some((task) => task !== undefined && kinds.includes(task.kind));
  }

  /** Authenticates and decrypts what the peer sealed. Throws as `openMessage` does. */
  open(sealed: Sealed): OpenedMessage {
    if (this.#cipher === undefined) throw new Fault('an IKE SA has no cipher yet');
    return openMessage(sealed, sealKeys(this.keys, this.#cipher, this.originalInitiator ? 'responder' : 'initiator'));
  }

  /** Sends a request of ours for the first time, sealed once there are keys. `outer` stands in front of what is sealed. */
  send(exchange: number, payloads: readonly Payload[], outer: readonly Payload[] = []): Uint8Array {
    const { host, window, path } = this;
    const messageId = this.keyed ? window.nextMessageId : 0;
    const bytes = this.#write({ ...this.#header(exchange, false, messageId), payloads, outer });
    window.send(messageId, bytes, host.now.mono, this.retry, host.random);
    this.transmit(bytes, path);
    return bytes;
  }

  /** The octets of the response to a request of the peer's. */
  response(request: Message, payloads: readonly Payload[]): Uint8Array {
    return this.#write({ ...this.#header(request.exchange, true, request.messageId), payloads });
  }

  transmit(bytes: Uint8Array, path: Path): void {
    this.host.emit({ kind: 'send', path, bytes });
    if (this.nat === 'here' || this.nat === 'both') this.timers.set('keepalive', this.host.now.mono + KEEPALIVE_MS);
  }

  /** The request that began this SA came again: the same answer while nothing newer was answered (RFC 7296 §2.1). */
  repeatInit(bytes: Uint8Array, path: Path): void {
    const admission = this.window.admit(0);
    if (this.initRequest === undefined || !equal(bytes, this.initRequest.bytes) || admission.is !== 'answered')
      return this.host.count('messages-dropped');
    this.host.count('responses-repeated');
    this.transmit(admission.response, path);
  }

  /** The peers know each other: its lifetime begins. */
  establish(): void {
    const { ikev2 } = this.peer!;
    const { mono } = this.host.now;
    this.authenticated = true;
    this.authenticatedAt = mono;
    this.begunByUs = this.originalInitiator;
    if (this.state.name === 'awaiting-ike-auth') this.nonces = this.state.facts;
    this.state = { name: 'established' };
    this.since = mono;
    this.timers.clear('negotiation');
    if (ikev2.saLifetime !== 'infinite') {
      const share = 0.8 + (0.1 * this.host.random(1)[0]!) / 255;
      this.timers.set('rekey', mono + ikev2.saLifetime * share);
      this.timers.set('expire', mono + ikev2.saLifetime);
    }
    if (ikev2.dpdDelay !== 'infinite') this.timers.set('liveness', mono + ikev2.dpdDelay);
    this.startGrace();
  }

  /** When time alone would cause something. */
  wakeAt(): number | undefined {
    const idle = this.window.open && this.preparing === undefined;
    const tasks = idle ? this.tasks.filter((task) => this.mayBegin(task)).map((task) => task.after ?? 0) : [];
    const held = this.children.map((child) => child.outboundAt);
    return earliest(this.timers.next(), this.window.outstanding?.deadline, ...tasks, ...held);
  }

  // Its life, as `liveness.ts` watches it.

  get dpdDelay(): Limit {
    return this.peer?.ikev2.dpdDelay ?? 'infinite';
  }

  get idle(): boolean {
    return this.window.open;
  }

  get asking(): boolean {
    return this.has('liveness');
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
    for (const output of hookFor(this.peer?.ikev2.scripts, event, this.name, environment)) this.host.emit(output);
  }

  remove(child: ChildSa): void {
    const at = this.children.indexOf(child);
    if (at >= 0) this.children.splice(at, 1);
    child.state = 'gone';
    if (this.children.length === 0) this.startGrace();
  }

  /** An IKE SA without children is closed after `kmp_sa_grace_period`. */
  startGrace(): void {
    const grace = this.peer?.ikev2.gracePeriod ?? 'infinite';
    if (grace !== 'infinite' && grace > 0 && this.state.name === 'established')
      this.timers.set('grace', this.host.now.mono + grace);
  }

  /** Nothing that waits is begun any more, and what is under way is not concluded. Demands among it are failed with `why`. */
  dropTasks(why: string): void {
    const { preparing, current } = this;
    const open = [
      ...this.tasks,
      ...(preparing === undefined ? [] : [preparing]),
      ...(current === undefined ? [] : [current.task]),
    ];
    this.tasks = [];
    this.preparing = undefined;
    this.current = undefined;
    this.window.settle();
    if (current !== undefined) this.giveBack(current.sent);
    for (const task of open) if (task.kind === 'ike-auth' || task.kind === 'create-child') this.host.failed(task.demand, why);
  }

  /** An exchange of ours comes to nothing: its SPI goes back to the datapath, and its private key is wiped. */
  giveBack(sent: Sent): void {
    if (sent.for === 'ike' || sent.for === 'child') sent.share?.wipe();
    if ((sent.for === 'ike-auth' || sent.for === 'child') && !this.children.some((child) => child.spiIn === sent.spi))
      this.host.releaseSpi(sent.spi);
  }

  /** Forgets keys and everything that waits. Demands that waited are failed with `why`. */
  dispose(why: string): void {
    const init = this.state.name === 'awaiting-ike-sa-init' ? this.state.init : undefined;
    this.state = { name: 'closed', why };
    this.parked = undefined;
    this.held = undefined;
    for (const name of ['negotiation', 'rekey', 'expire', 'liveness', 'keepalive', 'grace', 'yield', 'linger'] as const)
      this.timers.clear(name);
    init?.share.wipe();
    if (this.#keys !== undefined) wipeKeys(this.#keys);
    if (init !== undefined) this.host.failed(init.demand, why);
    this.dropTasks(why);
  }

  #header(exchange: number, response: boolean, messageId: number) {
    return { SPIi: this.SPIi, SPIr: this.SPIr, exchange, initiator: this.originalInitiator, response, messageId };
  }

  #write(message: Message): Uint8Array {
    this.report('ladder', ladder(message), { direction: 'out', id: message.messageId });
    if (this.#cipher === undefined || this.#keys === undefined) return writeMessage(message);
    const side = this.originalInitiator ? 'initiator' : 'responder';
    return sealMessage(
      message,
      sealKeys(this.#keys, this.#cipher, side),
      this.#iv(this.#cipher),
      this.#padding(message, this.#cipher),
    );
  }

  /** Combined-mode ciphers and CTR need an IV that never comes again (RFC 5282 §3.1): a counter. CBC needs one that cannot be foreseen. */
  #iv(cipher: IkeCipher): Uint8Array {
    if (cipher.ivBytes !== 8) return this.host.random(cipher.ivBytes);
    const iv = new Uint8Array(8);
    this.#ivCount += 1;
    new DataView(iv.buffer).setBigUint64(0, BigInt(this.#ivCount));
    return iv;
  }

  /** `random_padlen`, `max_padlen` and `random_pad_content`: shortest unless they say otherwise. */
  #padding(message: Message, { blockBytes }: IkeCipher): Uint8Array | undefined {
    const ikev2 = this.peer?.ikev2;
    if (ikev2 === undefined || (!ikev2.randomPadLength && ikev2.maxPadLength === 0 && !ikev2.randomPadContent)) return undefined;
    const text = writeMessage(message).length - 28 + 1;
    const fewest = (blockBytes - (text % blockBytes)) % blockBytes;
    const most = ikev2.maxPadLength > 0 ? Math.min(255, ikev2.maxPadLength) : ikev2.randomPadLength ? 255 : 0;
    const steps = Math.max(0, Math.floor((most - fewest) / blockBytes));
    const taken = ikev2.randomPadLength ? ((this.host.random(1)[0]! << 8) | this.host.random(1)[0]!) % (steps + 1) : steps;
    const length = fewest + taken * blockBytes;
    return ikev2.randomPadContent ? this.host.random(length) : new Uint8Array(length);
  }
}
