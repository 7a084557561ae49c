/** THE MACHINE of iked: it owns every IKE SA of a host and gives each datagram, PF_KEY message and command to the right one. It only routes. */

import { hex } from '../src/bytes/bytes.ts';
import type { LocalAddress } from '../src/config/expand.ts';
import { defaultEngine, type Engine } from '../src/crypto/engine.ts';
import { Fault, never, PeerError, WireError } from '../src/errors.ts';
import type { Mode } from '../src/ipsec/sa.ts';
import { earliest, type Instant, type Machine, type RandomBytes } from '../src/machine.ts';
import { type IpAddress, type Path, showEndpoint } from '../src/net/address.ts';
import type { SadbMessage } from '../src/pfkey/message.ts';
import { ERRNO, SADB_SASTATE } from '../src/pfkey/registry.ts';
import { type Admin, perform } from './admin.ts';
import { Adoption } from './adoption.ts';
import { Asks, type Heard } from './asks.ts';
import { sameIdentity } from './auth/identity.ts';
import { Demands, type Waiter } from './demands.ts';
import { event, type IkedEventName } from './events.ts';
import type { Demand, Host } from './host.ts';
import type { ChildSa } from './ikev2/child-sa.ts';
import { redundantIkeSa } from './ikev2/collisions.ts';
import { Cookies } from './ikev2/cookie.ts';
import { closeIkeSa, failIkeSa, retire } from './ikev2/endings.ts';
import { advance, childInstalled, childRefused, passTime, receive, spiArrived, wayRestored } from './ikev2/exchanges.ts';
import type { IkeSa } from './ikev2/ike-sa.ts';
import { respondIkeSaInit, startIkeSa } from './ikev2/ike-sa-init.ts';
import { EXCHANGE, type ReadMessage, readMessage, writeMessage } from './ikev2/message.ts';
import { type NotifyName, notify } from './ikev2/notify.ts';
import { type ChildPolicy, Peers } from './peers.ts';
import type { IkedInput, IkedOutput, IkedSettings } from './ports.ts';
import { SaTable } from './sa-table.ts';
import { refuseSettings } from './settings.ts';

export type { IkedEvent, IkedEventName } from './events.ts';
export { IKED_EVENTS } from './events.ts';
export type { ChildSaStatus, IkedCommand, IkedInput, IkedOutput, IkedSettings, IkedStatus, IkeSaStatus } from './ports.ts';

export interface IkedOptions {
  readonly random: RandomBytes;
  /** Goes into `sadb_msg_pid` of every PF_KEY request; replies are matched by it and the sequence number. */
  readonly pid: number;
  /** The crypto engine; the default one unless a test needs another. */
  readonly engine?: Engine;
}

/** Unprotected errors a second, to all the world together (RFC 7296 §2.21.4). */
const COMPLAINTS_PER_SECOND = 20;
/** spmd answers within this, or an ACQUIRE is refused. Milliseconds. */
const SLID_MS = 5_000;
/** An ACQUIRE that meets a child younger than this was overtaken by it. Milliseconds. */
const JUST_MADE_MS = 2_000;
/** Failures that `status` shows. */
const MOST_FAILURES = 64;
/** A redundant IKE SA is deleted this long after it was found to be one, when the children of the other are in. Milliseconds. */
const YIELD_MS = 2_000;
/** ACQUIREs that wait for spmd. */
const MOST_SLIDS = 256;

interface Slid {
  readonly message: SadbMessage;
  readonly deadline: number;
}

export class Iked implements Machine<IkedInput, IkedOutput>, Host, Admin {
  readonly random: RandomBytes;
  readonly engine: Engine;
  readonly cookies: Cookies;
  readonly table = new SaTable();
  readonly asks: Asks;
  readonly demands = new Demands();
  readonly counters = new Map<string, number>();
  readonly failures = new Map<string, { readonly at: number; readonly why: string }>();
  now: Instant = { mono: 0, wall: 0 };
  generation = 0;
  peers: Peers;
  local: readonly LocalAddress[] = [];
  /** The last line of the log about what fails, by subject. */
  readonly #said = new Map<string, string>();
  readonly #adoption: Adoption;
  /** Selectors that an operator terminated: `initiate start` does not bring them back. */
  readonly #stopped = new Set<string>();
  readonly #slids = new Map<number, Slid>();
  #prepared: { readonly generation: number; readonly peers: Peers } | undefined;
  #outputs: IkedOutput[] = [];
  #nextId = 1;
  #complaints = { second: 0, count: 0 };

  constructor({ random, pid, engine = defaultEngine }: IkedOptions) {
    this.random = random;
    this.engine = engine;
    this.cookies = new Cookies(random, engine);
    this.asks = new Asks(pid, (output) => this.emit(output));
    this.#adoption = new Adoption(this.asks);
    this.peers = Peers.none;
  }

  handle(input: IkedInput, now: Instant): readonly IkedOutput[] {
    this.now = now;
    this.#outputs = [];
    try {
      this.#take(input);
      for (const sa of this.table.all()) this.#drive(sa);
    } catch (error) {
      this.#fault(error, undefined);
    }
    const outputs = this.#outputs;
    this.#outputs = [];
    return outputs;
  }

  wakeAt(): number | undefined {
    const slids = [...this.#slids.values()].map(({ deadline }) => deadline);
    return earliest(...this.table.all().map((sa) => sa.wakeAt()), this.asks.wakeAt(), this.demands.wakeAt(), ...slids);
  }

  #take(input: IkedInput): void {
    switch (input.kind) {
      case 'tick':
        return this.#tick();
      case 'datagram':
        return this.#datagram(input.path, input.bytes);
      case 'pfkey':
        return this.heard(this.asks.hear({ kind: 'message', message: input.message }, this.now));
      case 'pfkey-link':
        return this.#link(input.up);
      case 'encap-link':
        return this.#wayRestored((sa) => sa.path.encapsulated);
      case 'prepare':
        return this.#prepare(input.generation, input.settings);
      case 'commit':
        return this.#commit(input.generation);
      case 'abort':
        if (this.#prepared?.generation === input.generation) this.#prepared = undefined;
        return;
      case 'addresses':
        this.local = input.addresses;
        return;
      case 'answer':
        return this.#selectorFound(input.id, input.selector);
      case 'command':
        return perform(this, input.id, input.command);
      default:
        return never(input);
    }
  }

  // Time.

  #tick(): void {
    const { mono } = this.now;
    this.heard(this.asks.passTime(this.now));
    for (const [id, { deadline }] of [...this.#slids]) if (deadline <= mono) this.#selectorFound(id, undefined);
    for (const sa of this.table.all()) this.#guard(sa, () => passTime(sa));
    for (const policy of this.demands.due(mono)) this.demand(policy, {}, false);
  }

  #drive(sa: IkeSa): void {
    this.#guard(sa, () => advance(sa));
  }

  /** A fault of ours in one IKE SA closes that one and leaves the rest alone. */
  #guard(sa: IkeSa, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#fault(error, sa);
      closeIkeSa(sa, 'a fault of this program', true);
    }
  }

  #fault(error: unknown, sa: IkeSa | undefined): void {
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    const where = error instanceof Error ? (error.stack ?? '').split('\n').slice(1, 4).join(' ').replace(/\s+/g, ' ') : undefined;
    this.report('fault', text, { sa: sa?.name, where });
  }

  // The network.

  #datagram(path: Path, bytes: Uint8Array): void {
    this.count('messages-in');
    let read: ReadMessage;
    try {
      read = readMessage(bytes);
    } catch (error) {
      return this.#unreadable(path, bytes, error);
    }
    const { header } = read;
    if (header.exchange === EXCHANGE.IKE_SA_INIT && !header.response) {
      if (header.initiator && header.SPIr.every((octet) => octet === 0)) return respondIkeSaInit(this, read, bytes, path);
      return this.#ignore(path, 'an IKE_SA_INIT request with a responder SPI or without the I flag');
    }
    const own = header.initiator ? header.SPIr : header.SPIi;
    const sa = this.table.bySpi(own);
    if (sa !== undefined) return this.#guard(sa, () => receive(sa, read, bytes, path));
    const echo = this.table.echo(own, bytes, this.now.mono);
    if (echo !== undefined) return this.emit({ kind: 'send', path, bytes: echo });
    if (header.response || !this.mayComplain())
      return this.#ignore(path, `there is no IKE SA ${hex(header.SPIi)}/${hex(header.SPIr)}`);
    this.#complain(path, read, 'INVALID_IKE_SPI');
  }

  /** RFC 7296 §2.5: a higher major version is answered; anything else that is no message is dropped. */
  #unreadable(path: Path, bytes: Uint8Array, error: unknown): void {
    if (error instanceof WireError) return this.#ignore(path, error.message);
    if (!(error instanceof PeerError)) throw error;
    const response = (bytes[19]! & 0x20) !== 0;
    if (response || !this.mayComplain()) return this.#ignore(path, error.message);
    const header = {
      SPIi: bytes.slice(0, 8),
      SPIr: bytes.slice(8, 16),
      exchange: bytes[18]!,
      initiator: (bytes[19]! & 8) !== 0,
      response,
      messageId: 0,
    };
    this.#complain(path, { header, payloads: [] }, 'INVALID_MAJOR_VERSION');
  }

  #complain(path: Path, { header }: ReadMessage, name: NotifyName): void {
    const { SPIi, SPIr, exchange, messageId } = header;
    this.report('message-refused', `a message of no IKE SA from ${showEndpoint(path.remote)} answered with ${name}`, {
      notify: name,
    });
    this.emit({
      kind: 'send',
      path,
      bytes: writeMessage({
        SPIi,
        SPIr,
        exchange,
        initiator: !header.initiator,
        response: true,
        messageId,
        payloads: [notify(name)],
      }),
    });
  }

  #ignore(path: Path, why: string): void {
    this.count('messages-dropped');
    this.report('message-dropped', `a datagram was ignored: ${why}`, { peer: showEndpoint(path.remote) });
  }

  mayComplain(): boolean {
    const second = Math.floor(this.now.mono / 1000);
    if (second !== this.#complaints.second) this.#complaints = { second, count: 0 };
    this.#complaints.count += 1;
    return this.#complaints.count <= COMPLAINTS_PER_SECOND;
  }

  // The datapath.

  heard(news: readonly Heard[]): void {
    for (const one of news) {
      switch (one.kind) {
        case 'spi':
          this.#guard(one.sa, () => spiArrived(one.sa, one.role, one.spi));
          break;
        case 'installed':
          this.#guard(one.child.ike, () => childInstalled(one.child));
          this.#adoption.carried(one.child, this.now);
          if (one.child.state === 'installed') this.#tell(this.demands.arrived(one.child.policy.name), one.child);
          break;
        case 'refused':
          this.#guard(one.child.ike, () => childRefused(one.child, one.why));
          break;
        case 'acquire':
          this.#acquire(one.message);
          break;
        case 'expire':
          this.#expire(one.message);
          break;
        case 'synchronised':
          this.#synchronised(one.sas);
          break;
        default:
          this.report('datapath-lost', `the datapath did not let us register: ${one.why}`);
      }
    }
  }

  #link(up: boolean): void {
    this.report(up ? 'datapath-up' : 'datapath-lost', up ? 'connected to the datapath' : 'the connection to the datapath broke');
    this.heard(this.asks.hear({ kind: up ? 'connected' : 'disconnected' }, this.now));
    if (up) this.#wayRestored(() => true);
  }

  #wayRestored(of: (sa: IkeSa) => boolean): void {
    for (const sa of this.table.all()) if (of(sa)) this.#guard(sa, () => wayRestored(sa));
  }

  get linked(): boolean {
    return this.asks.up;
  }

  /** What the datapath has and what we think it has: strangers are adopted, what is missing is negotiated anew with new keys. */
  #synchronised(sas: readonly SadbMessage[]): void {
    const lost = this.#adoption.compare(sas, this.table.children());
    if (lost.length > 0)
      this.report('datapath-restarted', `the datapath has lost ${lost.length} child SAs: they are negotiated anew`, {
        children: lost.length,
      });
    for (const child of lost) this.#renegotiate(child);
    for (const { sa, destination, lifetimeCurrent } of sas) {
      const child = sa?.state === SADB_SASTATE.DYING ? this.#childOf(sa.spi, destination?.address) : undefined;
      if (child !== undefined) this.#softExpired(child, lifetimeCurrent);
    }
    this.#startAdopted();
    this.#startStanding();
  }

  /** SAs of an earlier run are replaced by new ones: as soon as both the DUMP and the configuration are there, whichever came last. */
  #startAdopted(): void {
    for (const name of this.#adoption.news(this.peers)) {
      this.report('sa-adopted', `SAs of an earlier run serve ${name}; they are kept until new ones carry its traffic`, {
        child: name,
      });
      const policy = this.peers.child(name);
      if (policy !== undefined && this.#mayInitiate(policy)) this.demand(policy, {}, true);
    }
  }

  #renegotiate(child: ChildSa): void {
    const { ike, policy } = child;
    const inUse = child.usable && !child.superseded;
    child.superseded = true;
    ike.add({ kind: 'delete-child', children: [child] });
    // An ACQUIRE of its traffic may have come before, or come while this is under way: one new child serves both.
    if (inUse && ike.state.name === 'established' && this.demands.want(policy, {}, false, this.now.mono))
      ike.tasks.unshift({ kind: 'create-child', demand: { policy } });
  }

  /** SADB_ACQUIRE names a policy by number; spmd knows which selector that is. */
  #acquire(message: SadbMessage): void {
    const policyId = message.policy?.id;
    this.count('acquires');
    if (policyId === undefined || this.#slids.size >= MOST_SLIDS) return this.#refuseAcquire(message, ERRNO.EINVAL);
    const id = this.#nextId++;
    this.#slids.set(id, { message, deadline: this.now.mono + SLID_MS });
    this.emit({ kind: 'ask', id, question: { about: 'selector-of', policyId } });
  }

  #selectorFound(id: number, selector: string | undefined): void {
    const slid = this.#slids.get(id);
    if (slid === undefined) return;
    this.#slids.delete(id);
    const { message } = slid;
    const policy = selector === undefined ? undefined : this.peers.child(selector);
    if (policy === undefined) {
      const what =
        selector === undefined
          ? 'spmd does not know the policy'
          : `selector ${selector} has no remote to negotiate with by IKEv2`;
      this.report('acquire-refused', `traffic of policy ${message.policy?.id} waits for an SA: ${what}`, {
        policyId: message.policy?.id,
      });
      return this.#refuseAcquire(message, ERRNO.ENOENT);
    }
    this.#stopped.delete(policy.name);
    const acquire = { seq: message.seq, satype: message.satype };
    if (!this.#mayInitiate(policy)) {
      this.report(
        'acquire-refused',
        `traffic of ${policy.name} waits for an SA, but remote ${policy.remote} is passive: the peer has to begin`,
        { child: policy.name },
      );
      return this.#refuseAcquire(message, ERRNO.EACCES);
    }
    // It asked before it had what is there by now: the packet goes through that.
    if (
      this.table
        .children()
        .some(
          (child) =>
            child.policy.name === policy.name && child.usable && !child.superseded && this.now.mono - child.since < JUST_MADE_MS,
        )
    )
      return;
    this.demand(policy, { acquire }, false, { local: message.source?.address, remote: message.destination?.address });
  }

  #refuseAcquire({ seq, satype }: SadbMessage, errno: number): void {
    this.asks.refuseAcquire(seq, satype, errno, this.now);
  }

  #expire(message: SadbMessage): void {
    const { sa, destination, lifetimeHard, lifetimeCurrent } = message;
    if (sa === undefined || destination === undefined) return;
    const child = this.#childOf(sa.spi, destination.address);
    if (child === undefined) return this.#adoption.expired(sa.spi);
    if (lifetimeHard === undefined) return this.#softExpired(child, lifetimeCurrent);
    if (child.state !== 'gone') this.#hardExpired(child);
  }

  #childOf(spi: number, destination: IpAddress | undefined): ChildSa | undefined {
    const inbound = this.table.childByInboundSpi(spi);
    return inbound ?? (destination === undefined ? undefined : this.table.childByOutboundSpi(spi, destination));
  }

  /** An EXPIRE that came while we did not listen is seen in the DUMP: the SA is dying. */
  #softExpired(child: ChildSa, lifetimeCurrent: SadbMessage['lifetimeCurrent']): void {
    const used =
      (lifetimeCurrent?.allocations ?? 0) > 0 || (lifetimeCurrent?.bytes ?? 0) > 0 || (lifetimeCurrent?.usetime ?? 0) > 0;
    const wanted = used || child.policy.policy.initiate === 'start';
    if (!wanted || !child.usable || child.rekeying || child.successor !== undefined || child.superseded) return;
    child.ike.add({ kind: 'rekey-child', child });
  }

  #hardExpired(child: ChildSa): void {
    const { ike } = child;
    if (child.state === 'deleting') return;
    ike.report('child-sa-down', `child SA ${child.label} reached the end of its lifetime`, { child: child.policy.name });
    child.announced = false;
    ike.add({ kind: 'delete-child', children: [child] });
    if (!child.superseded) this.childGone(child, 'its lifetime ended', true);
  }

  askSpi(sa: IkeSa, role: 'request' | 'response', mode: Mode, reqid: number): void {
    this.heard(this.asks.spi(sa, role, mode, reqid, this.now));
  }

  releaseSpi(spi: number, { local, remote }: Path): void {
    if (spi !== 0)
      this.heard(this.asks.remove({ spi, protocol: 'esp', source: remote.address, destination: local.address }, 0, this.now));
  }

  install(child: ChildSa, outbound: boolean): void {
    this.heard(this.asks.install(child, outbound, this.now));
  }

  installOutbound(child: ChildSa): void {
    this.heard(this.asks.installOutbound(child, this.now));
  }

  uninstall(child: ChildSa, drainMs: number): void {
    this.heard(this.asks.uninstall(child, drainMs, this.now));
  }

  // Configuration.

  #prepare(generation: number, settings: IkedSettings): void {
    const peers = new Peers(settings);
    const reason = refuseSettings(peers, settings);
    if (reason !== undefined) {
      this.report('configuration-rejected', `generation ${generation} is refused: ${reason}`, { generation });
      return this.emit({ kind: 'configuration', generation, state: 'rejected', reason });
    }
    this.#prepared = { generation, peers };
    this.emit({ kind: 'configuration', generation, state: 'prepared' });
  }

  #commit(generation: number): void {
    if (this.#prepared?.generation !== generation) {
      return this.emit({
        kind: 'configuration',
        generation,
        state: 'rejected',
        reason: `generation ${generation} was not prepared`,
      });
    }
    this.peers = this.#prepared.peers;
    this.generation = generation;
    this.#prepared = undefined;
    for (const sa of this.table.all()) this.#guard(sa, () => this.#reconcile(sa));
    this.report('configured', `generation ${generation} is in force: ${this.peers.all.length} remotes`, { generation });
    this.emit({ kind: 'configuration', generation, state: 'committed' });
    this.#stopped.clear();
    if (!this.asks.up) return;
    this.#startAdopted();
    this.#startStanding();
  }

  /** What did not change keeps its SAs; what did is torn down with a DELETE. */
  #reconcile(sa: IkeSa): void {
    const before = sa.peer;
    if (before === undefined) return;
    const after = this.peers.byName(before.name);
    if (after === undefined || after.fingerprint !== before.fingerprint) {
      const why = after === undefined ? `remote ${before.name} is no longer configured` : `remote ${before.name} was changed`;
      if (!sa.authenticated) return failIkeSa(sa, why);
      if (sa.state.name === 'established') sa.add({ kind: 'delete-ike', why });
      return;
    }
    sa.peer = after;
    const stale = sa.children.filter(
      (child) => child.state !== 'deleting' && this.peers.child(child.policy.name)?.fingerprint !== child.policy.fingerprint,
    );
    if (stale.length > 0) sa.add({ kind: 'delete-child', children: stale });
    sa.tasks = sa.tasks.filter((task) => {
      if (task.kind !== 'create-child' || this.peers.child(task.demand.policy.name) !== undefined) return true;
      this.failed(task.demand, 'its selector is no longer configured');
      return false;
    });
  }

  /** `initiate start`: as soon as configuration and datapath are there, and again whenever it is lost. */
  #startStanding(): void {
    for (const peer of this.peers.all) {
      for (const child of peer.children) {
        if (child.policy.initiate !== 'start' || this.#stopped.has(child.name) || !this.#mayInitiate(child)) continue;
        if (!this.table.children().some((known) => known.policy.name === child.name && known.usable))
          this.demand(child, {}, true);
      }
    }
  }

  #mayInitiate(child: ChildPolicy): boolean {
    const peer = this.peers.byName(child.remote);
    return peer?.initiates === true && !peer.ikev2.passive;
  }

  // Wanted children.

  demand(
    policy: ChildPolicy,
    waiter: Waiter,
    standing: boolean,
    asked?: { readonly local: IpAddress | undefined; readonly remote: IpAddress | undefined },
  ): void {
    if (!this.demands.want(policy, waiter, standing, this.now.mono)) return;
    const carrier = this.table.carrierOf(policy.remote);
    if (carrier !== undefined) return carrier.add({ kind: 'create-child', demand: { policy } });
    this.#begin(policy, asked);
  }

  #begin(policy: ChildPolicy, asked?: { readonly local: IpAddress | undefined; readonly remote: IpAddress | undefined }): void {
    const peer = this.peers.byName(policy.remote);
    if (peer === undefined)
      return this.failed({ policy }, `remote ${policy.remote} has no ikev2 block that acceptable_kmp names`);
    const own = this.local.map(({ address }) => address);
    const remote = this.peers.remoteEndpoint(peer, policy, asked?.remote, own);
    if (remote === undefined)
      return this.failed({ policy }, `remote ${peer.name} has no address to begin with: write one in peers_ipaddr`);
    const local = this.peers.localAddress(remote.address, policy, asked?.local, own);
    if (local === undefined)
      return this.failed(
        { policy },
        `no address of ours to reach ${remote.address} from: write one in interface { ike } or my_sa_ipaddr`,
      );
    if (this.table.size >= this.peers.config.interface.limits.ikeSas)
      return this.failed({ policy }, `there are ${this.table.size} IKE SAs, the limit of ike_sas`);
    const path: Path = { local: { address: local, port: this.peers.ikePort(local) }, remote, encapsulated: false };
    startIkeSa(this, peer, path, { policy });
  }

  demandElsewhere({ policy }: Demand): void {
    this.#begin(policy);
  }

  satisfied({ policy }: Demand, child: ChildSa): void {
    this.#mended(policy.name);
    this.#mended(policy.remote);
    this.#tell(this.demands.met(policy.name), child);
  }

  #tell(waiters: readonly Waiter[], child: ChildSa): void {
    for (const { command } of waiters) if (command !== undefined) this.settle(command, child.policy.name, undefined, child.label);
  }

  failed({ policy }: Demand, why: string): void {
    this.#remember(policy.name, why);
    const { waiters, again } = this.demands.failed(policy, this.now.mono);
    for (const { command, acquire } of waiters) {
      if (command !== undefined) this.settle(command, policy.name, why);
      if (acquire !== undefined) this.asks.refuseAcquire(acquire.seq, acquire.satype, ERRNO.ETIMEDOUT, this.now);
    }
    if (again !== undefined)
      this.report('retry-scheduled', `${policy.name} is tried again in ${again / 1000} s`, {
        child: policy.name,
        afterMs: again,
      });
  }

  /** What `status` shows of a failure until the same thing succeeds. Strangers, whose subject is an address, never push out what is configured. */
  #remember(subject: string, why: string): void {
    this.failures.delete(subject);
    this.failures.set(subject, { at: this.now.wall, why });
    if (this.failures.size <= MOST_FAILURES) return;
    const oldest = [...this.failures.keys()];
    const stranger = oldest.find((name) => this.peers.byName(name) === undefined && this.peers.child(name) === undefined);
    this.failures.delete(stranger ?? oldest[0]!);
  }

  remember(subject: string, why: string): void {
    this.#remember(subject, why);
  }

  #saying(subject: string, message: string): void {
    this.#said.delete(subject);
    this.#said.set(subject, message);
    if (this.#said.size > MOST_FAILURES) this.#said.delete([...this.#said.keys()][0]!);
  }

  #mended(subject: string): void {
    this.failures.delete(subject);
    this.#said.delete(subject);
  }

  // What IKE SAs tell.

  isFirstContact(remote: string): boolean {
    return !this.table.ofRemote(remote).some((sa) => sa.state.name === 'established');
  }

  /**
   * RFC 7296 §2.4: with INITIAL_CONTACT the peer says that it has forgotten what it had with us before. What was authenticated only after
   * this IKE SA began was made at the same time by both ends: that is no past, and one of the two is closed in good order.
   */
  established(sa: IkeSa, initialContact: boolean): void {
    const remote = sa.peer!.name;
    this.#mended(remote);
    this.#mended(`${sa.path.remote.address}`);
    for (const other of this.table.ofRemote(remote)) {
      if (other === sa || !other.authenticated || other.peerId === undefined || other.myId === undefined) continue;
      if (!sameIdentity(other.peerId, sa.peerId!) || !sameIdentity(other.myId, sa.myId!)) continue;
      if (initialContact && other.authenticatedAt < sa.born)
        retire(other, `the peer begins anew (INITIAL_CONTACT in ${sa.name})`);
      else if (other.state.name === 'established') this.#yield(sa, other);
    }
  }

  /** Both ends began one: the redundant IKE SA goes, when the children of the other are in. */
  #yield(sa: IkeSa, other: IkeSa): void {
    const loser = redundantIkeSa(sa, other);
    if (loser === undefined || loser.full) return;
    loser.full = true;
    loser.timers.set('yield', this.now.mono + YIELD_MS);
  }

  /** What only the redundant IKE SA carries is asked for in the other, then it is deleted. */
  yields(loser: IkeSa): void {
    const winner = this.table.carrierOf(loser.peer!.name);
    if (winner === undefined || winner === loser || winner.state.name !== 'established') return;
    const carried = new Set(
      this.table
        .children()
        .filter((child) => child.ike !== loser && child.usable)
        .map((child) => child.policy.name),
    );
    const missing = loser.children.filter((child) => child.usable && !carried.has(child.policy.name));
    for (const { policy } of missing)
      if (this.demands.want(policy, {}, false, this.now.mono)) winner.add({ kind: 'create-child', demand: { policy } });
    const after = this.now.mono + (missing.length > 0 ? YIELD_MS : 0);
    if (loser.state.name === 'established' && !loser.has('delete-ike'))
      loser.add({ kind: 'delete-ike', why: `both ends began one, and ${winner.name} stays`, after });
  }

  closed(sa: IkeSa, why: string, failed: boolean): void {
    const known = sa.path.remote;
    if (failed) this.#remember(sa.peer?.name ?? `${known.address}`, why);
    this.afterClose(sa);
  }

  /** Commands that wait until IKE SAs are gone (`shutdown`). */
  readonly waitingForEnd = new Map<number, { readonly sas: Set<IkeSa> }>();

  afterClose(sa: IkeSa): void {
    for (const [id, { sas }] of this.waitingForEnd) {
      sas.delete(sa);
      if (sas.size > 0) continue;
      this.waitingForEnd.delete(id);
      this.emit({ kind: 'reply', id, ok: true, result: {} });
    }
  }

  childGone(child: ChildSa, why: string, wanted: boolean): void {
    const policy = this.peers.child(child.policy.name);
    if (policy === undefined || this.#stopped.has(policy.name) || !this.#mayInitiate(policy)) return;
    if (policy.policy.initiate !== 'start') return;
    if (this.table.children().some((other) => other !== child && other.policy.name === policy.name && other.usable)) return;
    if (wanted) this.#remember(policy.name, why);
    this.demands.again(policy, this.now.mono);
  }

  stop(name: string): void {
    this.#stopped.add(name);
    for (const { command, acquire } of this.demands.drop(name)) {
      if (command !== undefined) this.settle(command, name, 'terminated by command');
      if (acquire !== undefined) this.asks.refuseAcquire(acquire.seq, acquire.satype, ERRNO.EACCES, this.now);
    }
  }

  resume(name: string): void {
    this.#stopped.delete(name);
  }

  // Commands that wait for several children.

  readonly pendingCommands = new Map<number, { left: number; readonly up: string[]; readonly errors: string[] }>();

  settle(id: number, name: string, why: string | undefined, label?: string): void {
    const command = this.pendingCommands.get(id);
    if (command === undefined) return;
    command.left -= 1;
    if (why === undefined) command.up.push(label ?? name);
    else command.errors.push(`${name}: ${why}`);
    if (command.left > 0) return;
    this.pendingCommands.delete(id);
    if (command.errors.length === 0) this.emit({ kind: 'reply', id, ok: true, result: { up: command.up } });
    else this.emit({ kind: 'reply', id, ok: false, error: command.errors.join('\n') });
  }

  // Small services.

  emit(output: IkedOutput): void {
    this.#outputs.push(output);
  }

  report(
    name: IkedEventName,
    message: string,
    details: Readonly<Record<string, string | number | boolean | undefined>> = {},
  ): void {
    const told = event(name, message, details);
    const subject = [details.child, details.remote, details.peer].find((one) => typeof one === 'string');
    const failure = (name === 'ike-sa-failed' || name === 'child-sa-failed') && typeof subject === 'string';
    // A peer that sends its request again gets the same answer, and we try again too; the line is written once.
    const again = (failure || name === 'message-refused') && this.#said.get(`${subject}`) === message;
    if (failure || name === 'message-refused') this.#saying(`${subject}`, message);
    if (failure) this.#remember(subject, message);
    if (name === 'child-sa-up') for (const one of [details.child, details.remote]) this.#mended(`${one}`);
    this.emit({ kind: 'event', event: again ? { ...told, severity: 'debug' } : told });
  }

  count(name: string): void {
    this.counters.set(name, (this.counters.get(name) ?? 0) + 1);
  }

  newSpi(): Uint8Array {
    for (let tries = 0; tries < 100; tries++) {
      const spi = this.random(8);
      if (spi.some((octet) => octet !== 0) && this.table.bySpi(spi) === undefined) return spi;
    }
    throw new Fault('the source of randomness repeats itself: no unused IKE SPI in 100 draws');
  }
}
