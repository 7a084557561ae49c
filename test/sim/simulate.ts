/** One run: everything follows from the seed. First the faults, then rest, then a while in which all must be well; and what was found. */

import type { Event } from '../../src/event.ts';
import { Chance } from './chance.ts';
import { Clock } from './clock.ts';
import { boundsBroken, HAND_OVER_MS, unrest } from './invariants.ts';
import { SimKdc } from './kerberos.ts';
import { Ledger } from './ledger.ts';
import { Network, NO_FAULTS } from './network.ts';
import { type Alterations, type NodeDoors, SimNode } from './node.ts';
import { numberedPacket, readNumbered } from './packets.ts';
import { type Scenario, scenarioOf, type Wanted } from './scenario.ts';
import { disturb, faultsOf, relocate, talk, type World } from './schedule.ts';
import { SecretHunt } from './secrets.ts';

export interface RunOptions {
  /** Simulated time of the whole run; 30 unless said otherwise. */
  readonly minutes?: number;
  /** Noble for everything, and key exchange groups of every kind: ten times slower. */
  readonly realCrypto?: boolean;
  readonly alterations?: Alterations;
  /** Keeps events and faults, for reading what happened. */
  readonly trace?: boolean;
}

export interface Verdict {
  readonly seed: number;
  readonly minutes: number;
  readonly realCrypto: boolean;
  readonly scenario: string;
  /** What was broken, at most a dozen; none: the run is good. */
  readonly breaches: readonly string[];
  readonly trace: readonly string[];
  /** Of the clock. */
  readonly steps: number;
  readonly packets: number;
  readonly delivered: number;
  readonly datagrams: number;
  readonly events: Readonly<Record<string, number>>;
}

const MINUTE = 60_000;
/** All must be well for this long at the end. */
const WATCH_MS = 30_000;
const SAMPLE_MS = 1_000;
/** When a node moves while all is well, counted from then on; and how long nothing may be negotiated because of it. */
const LAST_MOVE_MS = 5_000;
const AFTER_MOVE_MS = 10_000;
const MOST_STEPS = 3_000_000;
const MOST_BREACHES = 12;
/** A packet at rest arrives within this. */
const ARRIVAL_MS = 3_000;
/** An output is searched for secrets this much later: a key may be used only after it leaked. */
const SEARCH_DELAY_MS = 5_000;

export function simulate(seed: number, options: RunOptions = {}): Verdict {
  const hunt = new SecretHunt();
  return hunt.listening(() => new Run(seed, options, hunt).verdict());
}

class Run {
  readonly #seed: number;
  readonly #options: RunOptions;
  readonly #chance: Chance;
  readonly #clock = new Clock();
  readonly #ledger = new Ledger();
  readonly #network: Network;
  readonly #kdc: SimKdc;
  readonly #scenario: Scenario;
  readonly #nodes: readonly SimNode[];
  readonly #hunt: SecretHunt;
  readonly #breaches: string[] = [];
  readonly #trace: string[] = [];
  readonly #events: Record<string, number> = {};
  /** Outputs that are still to be searched for secrets. */
  #unsearched: { readonly at: number; readonly from: string; readonly value: unknown }[] = [];
  /** While a movement at rest must not cause any: what came up anew. */
  #newcomers: { readonly node: SimNode; readonly sa: string; readonly message: string }[] | undefined;
  /** Since when each breach of rest lasts. */
  readonly #since = new Map<string, number>();

  constructor(seed: number, options: RunOptions, hunt: SecretHunt) {
    this.#seed = seed;
    this.#options = options;
    this.#hunt = hunt;
    this.#chance = new Chance(seed);
    this.#network = new Network(this.#clock, this.#chance.fork());
    this.#scenario = scenarioOf(this.#chance.fork(), options.realCrypto === true);
    this.#kdc = new SimKdc(this.#clock, this.#chance.fork(), this.#scenario.ticketSeconds);
    this.#nodes = this.#scenario.nodes.map((spec) => new SimNode(spec, this.#doors()));
  }

  #doors(): NodeDoors {
    const { realCrypto, alterations = {} } = this.#options;
    return {
      clock: this.#clock,
      chance: this.#chance.fork(),
      network: this.#network,
      kdc: this.#kdc,
      realCrypto: realCrypto === true,
      alterations,
      onDevice: (node, packet) => {
        const { id, destination } = readNumbered(packet);
        const breach = this.#ledger.accept(id, destination);
        if (breach !== undefined) this.#breach(`${node.name}: ${breach}`);
      },
      onClear: (node, packet) => {
        const { id, source, destination } = readNumbered(packet);
        if (id !== undefined) this.#breach(`${node.name}: packet ${id} from ${source} to ${destination} left in clear`);
      },
      onOutput: (node, what, value) => this.#output(node, what, value),
      breach: (node, what) => this.#breach(`${node.name}: ${what}`),
    };
  }

  verdict(): Verdict {
    const world: World = {
      scenario: this.#scenario,
      nodes: this.#nodes,
      clock: this.#clock,
      network: this.#network,
      kdc: this.#kdc,
      chance: this.#chance.fork(),
      send: (wanted, forward) => this.#send(wanted, forward),
      note: (text) => this.#note(text),
    };
    const { minutes = 30, realCrypto = false } = this.#options;
    const end = minutes * MINUTE;
    const watchFrom = end - WATCH_MS;
    const restFrom = watchFrom - 3 * this.#scenario.livenessLimit;
    for (const node of this.#nodes) this.#clock.after(this.#chance.between(0, 3_000), () => node.start());
    this.#network.faults = faultsOf(this.#chance);
    talk(world, this.#chance.pick([6, 12, 30]), restFrom);
    disturb(world, restFrom);
    this.#sampleBounds(end);
    this.#run(restFrom);
    this.#note('rest');
    this.#network.faults = NO_FAULTS;
    talk(world, 20, watchFrom);
    this.#run(watchFrom);
    this.#watch(watchFrom, end);
    this.#moveAtRest(world, watchFrom + LAST_MOVE_MS);
    this.#run(end + ARRIVAL_MS);
    this.#conclude(watchFrom, end);
    this.#search(Number.POSITIVE_INFINITY);
    return {
      seed: this.#seed,
      minutes,
      realCrypto,
      scenario: this.#scenario.summary,
      breaches: this.#breaches,
      trace: this.#trace,
      steps: this.#clock.steps,
      packets: this.#ledger.size,
      delivered: this.#ledger.delivered,
      datagrams: this.#network.counts.sent,
      events: this.#events,
    };
  }

  #run(until: number): void {
    this.#clock.run(until, () => this.#breaches.length >= MOST_BREACHES || this.#clock.steps > MOST_STEPS);
    if (this.#clock.steps > MOST_STEPS) this.#breach(`more than ${MOST_STEPS} steps`);
  }

  /** Only where the host is as it should be: without policies the datapath knows nothing of what it is to protect. */
  #send(wanted: Wanted, forward: boolean): void {
    const node = this.#nodes[forward ? wanted.a : wanted.b]!;
    if (node.engine === undefined || !node.hasPolicies) return;
    const { id } = this.#ledger.send(wanted, forward, this.#clock.mono);
    const [from, to] = forward ? [wanted.innerA, wanted.innerB] : [wanted.innerB, wanted.innerA];
    node.sendPacket(numberedPacket(from, to, id, this.#chance.below(64)));
  }

  #sampleBounds(end: number): void {
    for (let at = 7_000; at < end; at += 7_000) {
      this.#clock.at(at, () => {
        for (const breach of boundsBroken(this.#scenario, this.#nodes, this.#clock.mono)) this.#breach(breach);
        this.#search(this.#clock.mono - SEARCH_DELAY_MS);
      });
    }
  }

  /** A packet a second each way for every wanted child, and a look at everything. */
  #watch(from: number, end: number): void {
    for (let at = from; at <= end; at += SAMPLE_MS) {
      this.#clock.at(at, () => {
        for (const wanted of this.#scenario.wanted) for (const forward of [true, false]) this.#send(wanted, forward);
        this.#sampleRest();
      });
    }
  }

  /**
   * A node that has both addresses for a moment loses no packet, and its SAs go on: nobody is authenticated anew and no child is made where there was
   * one (RFC 4877 §5.2). Not so where key management is told nothing.
   */
  #moveAtRest(world: World, at: number): void {
    const mover = this.#nodes.find(({ spec }) => spec.away.length > 0 && spec.tellsKeyManagement);
    if (mover === undefined) return;
    this.#clock.at(at, () => {
      this.#newcomers = [];
      const to = mover.address.equals(mover.spec.away[0]!) ? mover.spec.address : mover.spec.away[0]!;
      relocate(world, mover, to, { linger: 3_000, own: 300, others: 500 });
    });
    this.#clock.at(at + AFTER_MOVE_MS, () => {
      for (const { node, message } of this.#newcomers ?? [])
        this.#breach(`${node.name}: a movement at rest brought up: ${message}`);
      this.#newcomers = undefined;
    });
  }

  #sampleRest(): void {
    const now = unrest(this.#scenario, this.#nodes);
    for (const known of [...this.#since.keys()]) if (!now.includes(known)) this.#since.delete(known);
    for (const breach of now) {
      const since = this.#since.get(breach);
      if (since === undefined) this.#since.set(breach, this.#clock.mono);
      else if (this.#clock.mono - since >= HAND_OVER_MS) {
        this.#breach(`at rest: ${breach}`);
        this.#since.set(breach, Number.POSITIVE_INFINITY);
      }
    }
  }

  #conclude(from: number, end: number): void {
    for (const { id, wanted, forward, at } of this.#ledger.missing(from, end)) {
      const [a, b] = forward ? [wanted.a, wanted.b] : [wanted.b, wanted.a];
      this.#breach(`at rest: packet ${id} of ${wanted.selector} from n${a} to n${b}, sent at ${at} ms, did not arrive`);
    }
    if (this.#ledger.delivered === 0) this.#breach('no packet was delivered in the whole run');
  }

  #output(node: SimNode, what: 'event' | 'reply' | 'wire', value: unknown): void {
    this.#unsearched.push({ at: this.#clock.mono, from: `${node.name}: ${what}`, value });
    if (what !== 'event') return;
    const { name, message, severity, sa } = value as Event;
    this.#events[name] = (this.#events[name] ?? 0) + 1;
    if (name === 'ike-sa-up' || name === 'child-sa-up') this.#newcomers?.push({ node, sa: `${sa}`, message });
    // IKEv1 rekeys phase 1 by another phase 1: what takes over from another was not brought up by the movement.
    if (name === 'ike-sa-rekeyed')
      this.#newcomers = this.#newcomers?.filter((one) => one.node !== node || !message.includes(one.sa));
    if (name === 'fault') this.#breach(`${node.name}: ${message}`);
    if (severity !== 'debug' || process.env.SIM_DEBUG === '1') this.#note(`${node.name}: ${name}: ${message}`);
  }

  /** Looks through what left the machines before `until`. */
  #search(until: number): void {
    const due = this.#unsearched.filter(({ at }) => at <= until);
    this.#unsearched = this.#unsearched.filter(({ at }) => at > until);
    for (const { from, value } of due) {
      const found =
        value instanceof Uint8Array ? (this.#hunt.inBytes(value) ? 'holds key material' : undefined) : this.#hunt.inValue(value);
      if (found !== undefined) this.#breach(`secret: ${from} ${found}`);
    }
  }

  #note(text: string): void {
    if (this.#options.trace === true) this.#trace.push(`${(this.#clock.mono / 1000).toFixed(3)} ${text}`);
  }

  #breach(what: string): void {
    this.#note(`BREACH ${what}`);
    if (this.#breaches.length < MOST_BREACHES && !this.#breaches.includes(what)) this.#breaches.push(what);
  }
}
