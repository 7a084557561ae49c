/** THE MACHINE of iked: it owns every IKE SA of a host and gives each datagram, PF_KEY message and command to the right one. It only routes. */

import type { LocalAddress } from '../src/config/expand.ts';
import { defaultEngine, type Engine } from '../src/crypto/engine.ts';
import { Fault, never } from '../src/errors.ts';
import type { Mode, Spis } from '../src/ipsec/sa.ts';
import { Acquires } from '../src/keying/acquires.ts';
import { Adoption } from '../src/keying/adoption.ts';
import { Asks, type Heard, wishOf } from '../src/keying/asks.ts';
import type { ChildPolicy } from '../src/keying/child-policy.ts';
import { Complaints } from '../src/keying/complaints.ts';
import { endsOf, type PairEnds, sameEnds } from '../src/keying/ends.ts';
import type { Details } from '../src/keying/events.ts';
import { Failures } from '../src/keying/failures.ts';
import { addPolicies, deletePolicies, isGenerated } from '../src/keying/generated.ts';
import type { Scripts } from '../src/keying/hooks.ts';
import type { AskedEnds, Beginner } from '../src/keying/host.ts';
import { Migrations } from '../src/keying/migration.ts';
import { type LifeHost, PairLife } from '../src/keying/pair-life.ts';
import { Replies } from '../src/keying/replies.ts';
import { Wanted } from '../src/keying/wanted.ts';
import { earliest, type Instant, type Machine, type RandomBytes } from '../src/machine.ts';
import type { Endpoint, IpAddress, Path } from '../src/net/address.ts';
import { type Admin, perform } from './admin.ts';
import { contacted, isFirstContact, yieldTo } from './contacts.ts';
import { receiveDatagram } from './datagrams.ts';
import { event, type IkedEventName } from './events.ts';
import { Generations } from './generations.ts';
import type { Demand } from './host.ts';
import { Cookies } from './ikev2/cookie.ts';
import type { IkeSa } from './ikev2/ike-sa.ts';
import { begin, negotiate } from './initiation.ts';
import { trafficCounted } from './liveness.ts';
import type { Peer, Peers, PeerV1 } from './peers.ts';
import type { IkedInput, IkedOutput } from './ports.ts';
import { SaTable } from './sa-table.ts';
import { Strangers } from './strangers.ts';
import {
  abandon,
  advance,
  childInstalled,
  childRefused,
  createChild,
  deleteChildren,
  follow,
  type KeyChild,
  type KeySa,
  leaveBehind,
  move,
  passTime,
  rekeyChild,
  saOf,
  spiArrived,
  wayRestored,
} from './versions.ts';

export type { IkedEvent, IkedEventName } from './events.ts';
export { IKED_EVENTS } from './events.ts';
export type { IkedInput, IkedOutput, IkedSettings, IkedStatus, IkeSaStatus } from './ports.ts';

export interface IkedOptions {
  readonly random: RandomBytes;
  /** Goes into `sadb_msg_pid` of every PF_KEY request; replies are matched by it and the sequence number. */
  readonly pid: number;
  /** The crypto engine; the default one unless a test needs another. */
  readonly engine?: Engine;
}

export class Iked implements Machine<IkedInput, IkedOutput>, Admin, LifeHost<KeyChild> {
  readonly random: RandomBytes;
  readonly engine: Engine;
  readonly cookies: Cookies;
  readonly table = new SaTable();
  readonly complaints = new Complaints(this);
  readonly asks: Asks<KeySa, KeyChild>;
  readonly failures = new Failures((name) => this.peers.names.includes(name) || this.peers.child(name) !== undefined);
  readonly replies: Replies;
  readonly wanted: Wanted;
  readonly migrations: Migrations;
  readonly counters = new Map<string, number>();
  now: Instant = { mono: 0, wall: 0 };
  local: readonly LocalAddress[] = [];
  readonly #generations: Generations;
  readonly #acquires: Acquires;
  readonly #strangers: Strangers;
  readonly adoption: Adoption;
  readonly #life = new PairLife<KeyChild>(this);
  #outputs: IkedOutput[] = [];

  constructor({ random, pid, engine = defaultEngine }: IkedOptions) {
    this.random = random;
    this.engine = engine;
    this.cookies = new Cookies(random, engine);
    this.asks = new Asks(pid, (output) => this.emit(output));
    this.replies = new Replies((output) => this.emit(output));
    this.wanted = new Wanted(this);
    this.migrations = new Migrations(this);
    this.#generations = new Generations(this);
    this.#acquires = new Acquires(this, this.wanted);
    this.#strangers = new Strangers(this);
    this.adoption = new Adoption({
      remove: (sa, drainMs, now) => this.heard(this.asks.remove(sa, drainMs, now)),
      setState: (sa, state, now) => this.heard(this.asks.setState(sa, state, now)),
    });
  }

  get peers(): Peers {
    return this.#generations.peers;
  }

  get policies() {
    return this.peers.policies;
  }

  peersAt(address: IpAddress): Peer[] {
    return this.peers.at(address, this.migrations.remotesAt(address));
  }

  peersAtV1(address: IpAddress): PeerV1[] {
    return this.peers.atV1(address, this.migrations.remotesAt(address));
  }

  get served(): readonly ChildPolicy[] {
    return this.peers.served;
  }

  get generation(): number {
    return this.#generations.generation;
  }

  get linked(): boolean {
    return this.asks.up;
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
    const sas = this.table.all().map((sa) => sa.wakeAt());
    return earliest(...sas, this.asks.wakeAt(), this.wanted.wakeAt(), this.#acquires.wakeAt(), this.#life.idleness.wakeAt());
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
        return this.#generations.prepare(input.generation, input.settings);
      case 'commit':
        return this.#commit(input.generation);
      case 'abort':
        return this.#generations.abort(input.generation);
      case 'addresses':
        this.local = input.addresses;
        return this.#generations.relocate(input.addresses);
      case 'answer':
        return this.#acquires.answered(input.id, input.selector);
      case 'command':
        return perform(this, input.id, input.command);
      default:
        return never(input);
    }
  }

  // Time.

  #tick(): void {
    this.heard(this.asks.passTime(this.now));
    this.#acquires.passTime(this.now);
    for (const sa of this.table.all()) this.guard(sa, () => passTime(sa));
    this.wanted.passTime();
    this.#life.idleness.passTime();
  }

  #drive(sa: KeySa): void {
    this.guard(sa, () => advance(sa));
  }

  guard(sa: KeySa, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#fault(error, sa);
      abandon(sa);
    }
  }

  #fault(error: unknown, sa: KeySa | undefined): void {
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    const where = error instanceof Error ? (error.stack ?? '').split('\n').slice(1, 4).join(' ').replace(/\s+/g, ' ') : undefined;
    this.report('fault', text, { sa: sa?.name, where });
  }

  // The network.

  #datagram(path: Path, bytes: Uint8Array): void {
    this.count('messages-in');
    receiveDatagram(this, this.#strangers, path, bytes);
  }

  // The datapath.

  heard(news: readonly Heard<KeySa, KeyChild>[]): void {
    for (const one of news) {
      switch (one.kind) {
        case 'spi':
          this.guard(one.sa, () => spiArrived(one.sa, one.role, one.spi));
          break;
        case 'installed':
          this.guard(saOf(one.child), () => childInstalled(one.child));
          this.adoption.carried(one.child, this.now);
          if (one.child.state === 'installed' && !one.child.agreed.initiator) this.wanted.arrived(one.child);
          break;
        case 'refused':
          this.guard(saOf(one.child), () => childRefused(one.child, one.why));
          break;
        case 'moved':
          this.#moved(one.spi, one.remote);
          break;
        case 'migrate':
          this.migrations.heard(one.message);
          break;
        case 'counted':
          this.guard(one.sa, () => trafficCounted(one.sa, one.child, one.packets));
          break;
        case 'carried':
          this.guard(saOf(one.child), () => this.#life.idleness.counted(one.child, one.packets));
          break;
        case 'acquire':
          this.#acquires.asked(one.message);
          break;
        case 'expire':
          this.#life.expired(one.message);
          break;
        case 'synchronised':
          this.#life.synchronised(one.sas, one.policies);
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

  #wayRestored(of: (sa: KeySa) => boolean): void {
    for (const sa of this.table.all()) if (of(sa)) this.guard(sa, () => wayRestored(sa));
  }

  renegotiate(child: KeyChild): void {
    const { policy } = child;
    const sa = saOf(child);
    const inUse = child.usable && !child.superseded;
    child.superseded = true;
    deleteChildren(sa, [child]);
    // An ACQUIRE of its traffic may have come before, or come while this is under way: one new child serves both.
    if (inUse && sa.state.name === 'established' && this.wanted.claim(policy)) createChild(sa, { policy }, true);
  }

  #moved(spi: number, remote: Endpoint): void {
    const child = this.table.childByInboundSpi(spi);
    const sa = child === undefined ? undefined : saOf(child);
    if (sa !== undefined) this.guard(sa, () => follow(sa, { ...sa.path, remote }));
  }

  softExpired(child: KeyChild): void {
    rekeyChild(child);
  }

  hardExpired(child: KeyChild, why: string): void {
    if (child.state === 'deleting') return;
    child.renounce(why);
    child.announced = false;
    deleteChildren(saOf(child), [child]);
    if (!child.superseded) this.childGone(child, why, true);
  }

  askCarried(child: KeyChild): void {
    this.heard(this.asks.countCarried(child, this.now));
  }

  pathOfPair(sa: KeySa, policy: ChildPolicy, mode: Mode): Path {
    return this.migrations.pathOf(policy, mode, sa.path, sa.nat !== 'none');
  }

  askSpi(sa: KeySa, role: 'request' | 'response', policy: ChildPolicy, mode: Mode): void {
    const path = this.pathOfPair(sa, policy, mode);
    this.heard(this.asks.spi(sa, role, wishOf(policy, mode, path), this.now));
  }

  spisWith(spi: number): Spis {
    return this.asks.spisWith(spi);
  }

  releaseSpi(spi: number): void {
    this.heard(this.asks.release(spi, this.now));
  }

  install(child: KeyChild, outbound: boolean): void {
    if (isGenerated(child.policy.policy)) for (const command of addPolicies(child)) this.emit({ kind: 'spmd', command });
    this.heard(this.asks.install(child, outbound, this.now));
  }

  installOutbound(child: KeyChild): void {
    this.heard(this.asks.installOutbound(child, this.now));
  }

  uninstall(child: KeyChild, drainMs: number): void {
    const others = this.table.children().filter((other) => other !== child);
    if (isGenerated(child.policy.policy))
      for (const command of deletePolicies(child, others)) this.emit({ kind: 'spmd', command });
    this.heard(this.asks.uninstall(child, drainMs, this.now));
  }

  countInbound(sa: KeySa, child: KeyChild): void {
    this.heard(this.asks.countInbound(sa, child, this.now));
  }

  #commit(generation: number): void {
    if (!this.#generations.commit(generation)) return;
    this.migrations.configured();
    this.wanted.resumeAll();
    if (!this.asks.synchronised) return;
    this.#life.startAdopted();
    this.wanted.startStanding();
  }

  // What is wanted.

  pairs(): readonly KeyChild[] {
    return this.table.children();
  }

  beginner(policy: ChildPolicy): Beginner {
    return this.peers.beginner(policy);
  }

  scriptsOf(policy: ChildPolicy): Scripts | undefined {
    return this.peers.scriptsOf(policy);
  }

  negotiate(demand: Demand, asked: AskedEnds | undefined): void {
    negotiate(this, demand, asked);
  }

  moveKeyManagement(policy: ChildPolicy, from: PairEnds, to: PairEnds): void {
    for (const sa of this.#talkingAt(policy, from)) this.guard(sa, () => move(sa, to));
  }

  dropKeyManagement(policy: ChildPolicy, from: PairEnds): void {
    const ends = this.migrations.keyManagementOf(policy);
    // What was begun after an earlier telling of the same movement is there already.
    const there = ({ path }: KeySa) => ends !== undefined && sameEnds(endsOf(path.local, path.remote), ends);
    for (const sa of this.#talkingAt(policy, from)) if (!there(sa)) this.guard(sa, () => leaveBehind(sa));
  }

  /** The IKE SAs that have a policy's children, or that its remote is being spoken to in at these ends. */
  #talkingAt({ name, remote }: ChildPolicy, ends: PairEnds): KeySa[] {
    return this.table
      .ofRemote(remote)
      .filter(
        (sa) => sa.children.some((child) => child.policy.name === name) || sameEnds(endsOf(sa.path.local, sa.path.remote), ends),
      );
  }

  // What IKE SAs tell.

  demandElsewhere(demand: Demand): void {
    begin(this, demand);
  }

  satisfied(demand: Demand, child: KeyChild): void {
    this.wanted.satisfied(demand, child);
  }

  failed(demand: Demand, why: string): void {
    // First, since it refuses the ACQUIREs of packets that wait for it.
    this.adoption.letGo(demand.policy, this.now);
    this.wanted.failed(demand, why);
  }

  remember(subject: string, why: string): void {
    this.failures.remember(subject, why, this.now.wall);
  }

  isFirstContact(remote: string): boolean {
    return isFirstContact(this, remote);
  }

  isOnHold(policy: ChildPolicy): boolean {
    return this.adoption.holds(policy, this.now);
  }

  holdOldSas(sa: KeySa): void {
    const { name, children } = sa.peer!;
    if (!isFirstContact(this, name)) return;
    for (const policy of children)
      this.adoption.hold(policy, this.pathOfPair(sa, policy, policy.policy.mode).remote.address, this.now);
  }

  established(sa: KeySa, initialContact: boolean): void {
    contacted(this, sa, initialContact);
    if (sa.nat !== 'none') return;
    // The last message came from where the peer has moved away from meanwhile, as we were told.
    const present = this.migrations.presentOf(sa.peer?.children ?? [], endsOf(sa.path.local, sa.path.remote));
    if (present !== undefined) move(sa, present);
  }

  yields(loser: IkeSa): void {
    yieldTo(this, loser);
  }

  closed(sa: KeySa, why: string, failed: boolean): void {
    if (failed) this.remember(sa.peer?.name ?? `${sa.path.remote.address}`, why);
    this.replies.gone(sa);
  }

  childGone(child: KeyChild, why: string, wanted: boolean): void {
    this.wanted.childGone(child, why, wanted);
  }

  // Small services.

  emit(output: IkedOutput): void {
    this.#outputs.push(output);
  }

  report(name: IkedEventName, message: string, details: Details = {}): void {
    const told = event(name, message, details);
    const again = this.failures.note(told, this.now.wall);
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
