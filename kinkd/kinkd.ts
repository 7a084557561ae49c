/** THE MACHINE of kinkd: it owns what there is with every principal and gives each datagram, PF_KEY message, ticket and command to the right one. It only routes. */

import type { LocalAddress } from '../src/config/expand.ts';
import { defaultEngine, type Engine } from '../src/crypto/engine.ts';
import { never } from '../src/errors.ts';
import type { Mode, Spis } from '../src/ipsec/sa.ts';
import { Acquires } from '../src/keying/acquires.ts';
import { Adoption } from '../src/keying/adoption.ts';
import { Asks, type Heard, wishOf } from '../src/keying/asks.ts';
import type { ChildPolicy } from '../src/keying/child-policy.ts';
import { Complaints } from '../src/keying/complaints.ts';
import type { Demand } from '../src/keying/demands.ts';
import { between, endsOf, type PairEnds } from '../src/keying/ends.ts';
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
import type { Path } from '../src/net/address.ts';
import { type Admin, perform } from './admin.ts';
import { Answer } from './answer.ts';
import { Association } from './association.ts';
import { AssociationTable } from './association-table.ts';
import { dropPair, failTransaction } from './endings.ts';
import { event, type KinkdEventName } from './events.ts';
import { receive } from './exchanges.ts';
import { Generations } from './generations.ts';
import {
  createInstalled,
  createRefused,
  deleteUntold,
  rekey,
  spiForCreate,
  startCreate,
  startDelete,
  transactionDue,
} from './initiator.ts';
import { AuthenticatorClock } from './krb5/ap-exchange.ts';
import { KINK_PORT } from './message.ts';
import { dropMoved, move } from './moving.ts';
import type { KinkPair } from './pair.ts';
import type { Peer, Peers } from './peers.ts';
import type { KinkdInput, KinkdOutput } from './ports.ts';
import { Replays } from './replays.ts';
import { answerDue, answerInstalled, answerRefused, spiForAnswer, trafficAcknowledges } from './responder.ts';
import { probe, trafficSeen, watch } from './status.ts';
import { Tickets } from './tickets.ts';
import { Transaction } from './transaction.ts';

export type { KinkdEvent, KinkdEventName } from './events.ts';
export { KINKD_EVENTS } from './events.ts';
export type { AssociationStatus, KinkdInput, KinkdOutput, KinkdSettings, KinkdStatus } from './ports.ts';

export interface KinkdOptions {
  readonly random: RandomBytes;
  /** Goes into `sadb_msg_pid` of every PF_KEY request; replies are matched by it and the sequence number. */
  readonly pid: number;
  /** When this daemon started, `wall`: nothing that it had before is known to it (RFC 4430 §4.2.1). */
  readonly since: number;
  /** The file of the replay cache as the last run left it. */
  readonly replays?: Uint8Array | undefined;
  /** The crypto engine; the default one unless a test needs another. */
  readonly engine?: Engine;
}

export class Kinkd implements Machine<KinkdInput, KinkdOutput>, Admin, LifeHost<KinkPair> {
  readonly random: RandomBytes;
  readonly engine: Engine;
  readonly EPOCH: number;
  readonly clock = new AuthenticatorClock();
  readonly asks: Asks<Transaction | Answer | Association, KinkPair>;
  readonly failures = new Failures((name) => this.peers.byName(name) !== undefined || this.peers.child(name) !== undefined);
  readonly replies: Replies;
  readonly wanted: Wanted;
  readonly counters = new Map<string, number>();
  now: Instant = { mono: 0, wall: 0 };
  local: readonly LocalAddress[] = [];
  readonly table = new AssociationTable(this);
  readonly complaints = new Complaints(this);
  readonly #generations: Generations;
  readonly #acquires: Acquires;
  readonly adoption: Adoption;
  readonly #life = new PairLife<KinkPair>(this);
  readonly migrations: Migrations;
  readonly #tickets: Tickets;
  readonly replays: Replays;
  #outputs: KinkdOutput[] = [];

  constructor({ random, pid, since, replays, engine = defaultEngine }: KinkdOptions) {
    this.random = random;
    this.engine = engine;
    this.EPOCH = Math.floor(since / 1000) % 2 ** 32;
    this.asks = new Asks(pid, (output) => this.emit(output));
    this.replies = new Replies((output) => this.emit(output));
    this.wanted = new Wanted(this);
    this.migrations = new Migrations(this);
    this.#generations = new Generations(this, () => this.associations);
    this.#acquires = new Acquires(this, this.wanted);
    this.adoption = new Adoption({
      remove: (sa, drainMs, now) => this.#heard(this.asks.remove(sa, drainMs, now)),
      setState: (sa, state, now) => this.#heard(this.asks.setState(sa, state, now)),
    });
    this.#tickets = new Tickets(this);
    this.replays = new Replays(this, replays);
  }

  get peers(): Peers {
    return this.#generations.peers;
  }

  get policies() {
    return this.peers.policies;
  }

  get served(): readonly ChildPolicy[] {
    return this.peers.served;
  }

  get generation(): number {
    return this.#generations.generation;
  }

  get associations(): readonly Association[] {
    return this.table.all();
  }

  handle(input: KinkdInput, now: Instant): readonly KinkdOutput[] {
    this.now = now;
    this.#outputs = [];
    try {
      this.#take(input);
      for (const association of this.associations) this.#tidy(association);
    } catch (error) {
      this.#fault(error, undefined);
    }
    const outputs = this.#outputs;
    this.#outputs = [];
    return outputs;
  }

  wakeAt(): number | undefined {
    const associations = this.associations.map((association) => association.wakeAt());
    return earliest(
      ...associations,
      this.asks.wakeAt(),
      this.wanted.wakeAt(),
      this.#acquires.wakeAt(),
      this.#life.idleness.wakeAt(),
    );
  }

  #take(input: KinkdInput): void {
    switch (input.kind) {
      case 'tick':
        return this.#tick();
      case 'datagram':
        return receive(this, input.path, input.bytes);
      case 'pfkey':
        return this.#heard(this.asks.hear({ kind: 'message', message: input.message }, this.now));
      case 'pfkey-link':
        return this.#link(input.up);
      case 'prepare':
        return this.#generations.prepare(input.generation, input.settings);
      case 'commit':
        return this.#commit(input.generation);
      case 'abort':
        return this.#generations.abort(input.generation);
      case 'addresses':
        this.local = input.addresses;
        return this.#generations.relocate();
      case 'answer':
        return this.#answered(input);
      case 'command':
        return perform(this, input.id, input.command);
      default:
        return never(input);
    }
  }

  #answered(input: Extract<KinkdInput, { kind: 'answer' }>): void {
    if ('selector' in input) return this.#acquires.answered(input.id, input.selector);
    const association = this.#tickets.transactionOf(input.id)?.association;
    if (association === undefined) return;
    this.guard(association, () => this.#tickets.answered(input.id, input.ticket, input.ticket === undefined ? input.why : ''));
  }

  // Time.

  #tick(): void {
    const { mono } = this.now;
    this.#heard(this.asks.passTime(this.now));
    this.#acquires.passTime(this.now);
    for (const association of this.associations) this.guard(association, () => this.#passTime(association, mono));
    this.#tickets.passTime();
    this.wanted.passTime();
    this.#life.idleness.passTime();
  }

  #passTime(association: Association, mono: number): void {
    const due = <T extends { readonly deadline: number | undefined }>(all: Iterable<T>) =>
      [...all].filter(({ deadline }) => deadline !== undefined && deadline <= mono);
    for (const transaction of due(association.transactions.values())) transactionDue(transaction);
    for (const answer of due(association.answers.values())) answerDue(answer);
    const retired = association.pairs.filter(({ retireAt }) => retireAt !== undefined && retireAt <= mono);
    if (retired.length > 0) startDelete(association, retired, 'another pair took its place');
    for (const pair of association.pairs) {
      if (pair.rekeyAt === undefined || pair.rekeyAt > mono) continue;
      pair.rekeyAt = undefined;
      rekey(pair);
    }
    if (association.timers.takeDue(mono).length > 0) probe(association);
  }

  /** Work on behalf of one association: a fault of ours in it ends that one and leaves the rest alone. */
  guard(association: Association, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#fault(error, association);
      this.#abandon(association);
    }
  }

  #fault(error: unknown, association: Association | undefined): void {
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    const where = error instanceof Error ? (error.stack ?? '').split('\n').slice(1, 4).join(' ').replace(/\s+/g, ' ') : undefined;
    this.report('fault', text, { sa: association?.name, where });
  }

  #abandon(association: Association): void {
    for (const transaction of [...association.transactions.values()]) failTransaction(transaction, 'a fault of this program');
    for (const pair of [...association.pairs]) dropPair(pair, 0, 'a fault of this program', false);
    for (const answer of [...association.answers.values()]) answer.forget();
  }

  /** Keeps the watch over a peer while there are SAs with it; forgets one that is not configured any more when nothing is left of it. */
  #tidy(association: Association): void {
    watch(association);
    this.guard(association, () => deleteUntold(association));
    if (!association.idle || this.peers.byName(association.peer.name) !== undefined) return;
    this.table.forget(association);
  }

  // The datapath.

  #heard(news: readonly Heard<Transaction | Answer | Association, KinkPair>[]): void {
    for (const one of news) {
      switch (one.kind) {
        case 'spi':
          this.#spiArrived(one.sa, one.spi);
          break;
        case 'installed':
          this.guard(one.child.association, () => this.#installed(one.child));
          break;
        case 'refused':
          this.guard(one.child.association, () => this.#refused(one.child, one.why));
          break;
        case 'counted':
          this.#counted(one.sa, one.child, one.packets);
          break;
        case 'carried':
          this.guard(one.child.association, () => this.#life.idleness.counted(one.child, one.packets));
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
        case 'migrate':
          this.migrations.heard(one.message);
          break;
        case 'moved': // KINK finds no NATs (RFC 4430 has no way to)
          break;
        default:
          this.report('datapath-lost', `the datapath did not let us register: ${one.why}`);
      }
    }
  }

  #spiArrived(asker: Transaction | Answer | Association, spi: number | undefined): void {
    if (asker instanceof Transaction) this.guard(asker.association, () => spiForCreate(asker, spi));
    else if (asker instanceof Answer) this.guard(asker.association, () => spiForAnswer(asker, spi));
  }

  #installed(pair: KinkPair): void {
    const asker = this.#askerOf(pair);
    if (asker instanceof Transaction) createInstalled(asker, pair);
    else if (asker instanceof Answer) answerInstalled(asker, pair);
  }

  #refused(pair: KinkPair, why: string): void {
    const asker = this.#askerOf(pair);
    if (asker instanceof Transaction) createRefused(asker, why);
    else if (asker instanceof Answer) answerRefused(asker, why);
  }

  /** The command or the answer that a pair is installed for. */
  #askerOf(pair: KinkPair): Transaction | Answer | undefined {
    const { transactions, answers } = pair.association;
    const ours = [...transactions.values()].find(
      ({ work }) => work.kind === 'create' && (work.optimistic === pair || work.pair === pair),
    );
    return ours ?? [...answers.values()].find(({ pairs }) => pairs.includes(pair));
  }

  #counted(asker: Transaction | Answer | Association, pair: KinkPair, packets: number | undefined): void {
    if (asker instanceof Association) this.guard(asker, () => trafficSeen(asker, pair, packets));
    else if (asker instanceof Answer) this.guard(asker.association, () => trafficAcknowledges(asker, packets));
  }

  #link(up: boolean): void {
    this.report(up ? 'datapath-up' : 'datapath-lost', up ? 'connected to the datapath' : 'the connection to the datapath broke');
    this.#heard(this.asks.hear({ kind: up ? 'connected' : 'disconnected' }, this.now));
  }

  renegotiate(pair: KinkPair): void {
    this.guard(pair.association, () => this.#renegotiate(pair));
  }

  #renegotiate(pair: KinkPair): void {
    const { association, policy } = pair;
    const asker = this.#askerOf(pair);
    if (asker instanceof Transaction && asker.stage !== 'lingering')
      return failTransaction(asker, 'the datapath was started anew');
    const inUse = pair.usable && !pair.superseded;
    pair.superseded = true;
    startDelete(association, [pair], 'the datapath has lost it');
    if (inUse && this.wanted.mayInitiate(policy)) this.wanted.demand(policy, {}, false);
  }

  /** RFC 4430 §3.6: the original initiator rekeys. */
  softExpired(pair: KinkPair): void {
    if (pair.agreed.initiator) this.guard(pair.association, () => void rekey(pair));
  }

  hardExpired(pair: KinkPair, why: string): void {
    if (pair.state === 'deleting') return;
    this.guard(pair.association, () => startDelete(pair.association, [pair], why));
  }

  askCarried(pair: KinkPair): void {
    this.#heard(this.asks.countCarried(pair, this.now));
  }

  askTicket(transaction: Transaction, fresh: boolean): void {
    this.#tickets.ask(transaction, fresh);
  }

  pathOfPair(policy: ChildPolicy, mode: Mode, talk: Path): Path {
    return this.migrations.pathOf(policy, mode, talk, false);
  }

  presentPath(peer: Peer, path: Path): Path {
    const present = this.migrations.presentOf(peer.children, endsOf(path.local, path.remote));
    return present === undefined ? path : between(path, present);
  }

  askSpi(asker: Transaction | Answer, role: 'request' | 'response', policy: ChildPolicy, mode: Mode): void {
    const path = this.pathOfPair(policy, mode, asker.path);
    this.#heard(this.asks.spi(asker, role, wishOf(policy, mode, path), this.now));
  }

  holdOldSas({ association: { peer }, path }: Transaction): void {
    for (const policy of peer.children)
      this.adoption.hold(policy, this.pathOfPair(policy, policy.policy.mode, path).remote.address, this.now);
  }

  spisWith(spi: number): Spis {
    return this.asks.spisWith(spi);
  }

  releaseSpi(spi: number): void {
    this.#heard(this.asks.release(spi, this.now));
  }

  install(pair: KinkPair, outbound: boolean): void {
    if (isGenerated(pair.policy.policy)) for (const command of addPolicies(pair)) this.emit({ kind: 'spmd', command });
    this.#heard(this.asks.install(pair, outbound, this.now));
  }

  installOutbound(pair: KinkPair): void {
    this.#heard(this.asks.installOutbound(pair, this.now));
  }

  replaceOptimistic(optimistic: KinkPair, pair: KinkPair): void {
    this.#heard(this.asks.uninstall(optimistic, 0, this.now));
    this.#heard(this.asks.add(pair, this.now));
  }

  uninstallOutbound(pair: KinkPair): void {
    this.#heard(this.asks.uninstallOutbound(pair, this.now));
  }

  uninstall(pair: KinkPair, drainMs: number): void {
    const others = this.pairs().filter((other) => other !== pair);
    if (isGenerated(pair.policy.policy)) for (const command of deletePolicies(pair, others)) this.emit({ kind: 'spmd', command });
    this.#heard(this.asks.uninstall(pair, drainMs, this.now));
  }

  countInbound(asker: Transaction | Answer | Association, pair: KinkPair): void {
    this.#heard(this.asks.countInbound(asker, pair, this.now));
  }

  #commit(generation: number): void {
    if (!this.#generations.commit(generation)) return;
    this.replays.configure(this.peers.config.kerberos.clockSkew);
    this.migrations.configured();
    this.wanted.resumeAll();
    if (!this.asks.synchronised) return;
    this.#life.startAdopted();
    this.wanted.startStanding();
  }

  // What is wanted.

  pairs(): readonly KinkPair[] {
    return this.associations.flatMap(({ pairs }) => pairs);
  }

  beginner(policy: ChildPolicy): Beginner {
    return this.peers.beginner(policy);
  }

  negotiate(demand: Demand, asked: AskedEnds | undefined): void {
    const { policy } = demand;
    const refuse = (why: string) => this.failed(demand, why);
    const peer = this.peers.byName(policy.remote);
    if (peer === undefined) return refuse(`remote ${policy.remote} has no kink block that acceptable_kmp names`);
    const moved = asked?.km ?? this.migrations.keyManagementOf(policy);
    const configured = this.peers.remoteEndpoint(peer, policy, asked?.remote);
    const remote = moved === undefined ? configured : { address: moved.remote, port: configured?.port ?? KINK_PORT };
    if (remote === undefined) return refuse(`remote ${peer.name} has no address to begin with: write one in peers_ipaddr`);
    const local =
      moved === undefined
        ? this.peers.localEndpoint(remote.address, policy, asked?.local, this.local)
        : this.peers.endpointAt(moved.local);
    if (local === undefined)
      return refuse(`no address of ours to reach ${remote.address} from: write one in interface { kink } or my_sa_ipaddr`);
    const path: Path = { local, remote, encapsulated: false };
    const association = this.table.of(peer, path);
    this.guard(association, () => startCreate(association, path, demand));
  }

  scriptsOf({ remote }: ChildPolicy): Scripts | undefined {
    return this.peers.byName(remote)?.kink.scripts;
  }

  moveKeyManagement({ remote }: ChildPolicy, from: PairEnds, to: PairEnds): void {
    const association = this.table.ofRemote(remote);
    if (association !== undefined) this.guard(association, () => move(association, from, to));
  }

  dropKeyManagement(policy: ChildPolicy, from: PairEnds): void {
    const association = this.table.ofRemote(policy.remote);
    const to = this.migrations.keyManagementOf(policy) ?? from;
    if (association !== undefined) this.guard(association, () => dropMoved(association, from, to));
  }

  satisfied(demand: Demand, pair: KinkPair): void {
    this.wanted.satisfied(demand, pair);
  }

  failed(demand: Demand, why: string): void {
    // First, since it refuses the ACQUIREs of packets that wait for it.
    this.adoption.letGo(demand.policy, this.now);
    this.wanted.failed(demand, why);
  }

  arrived(pair: KinkPair): void {
    this.wanted.arrived(pair);
  }

  carried(pair: KinkPair): void {
    this.adoption.carried(pair, this.now);
  }

  pairGone(pair: KinkPair, why: string, wanted: boolean): void {
    this.wanted.childGone(pair, why, wanted);
  }

  ended(association: Association): void {
    this.replies.gone(association);
  }

  // Small services.

  emit(output: KinkdOutput): void {
    this.#outputs.push(output);
  }

  remember(subject: string, why: string): void {
    this.failures.remember(subject, why, this.now.wall);
  }

  readonly report = (name: KinkdEventName, message: string, details: Details = {}): void => {
    const told = event(name, message, details);
    const again = this.failures.note(told, this.now.wall);
    this.emit({ kind: 'event', event: again ? { ...told, severity: 'debug' } : told });
  };

  count(name: string): void {
    this.counters.set(name, (this.counters.get(name) ?? 0) + 1);
  }
}
