/** `explain` says beforehand what the engine then does with a packet, and a brute-force reading of RFC 4301 says the same. */

import { inspect } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { cat, hex, u16be } from '../../../src/bytes/bytes.ts';
import { type Explanation, explainInbound, explainOutbound } from '../../../src/datapath/explain.ts';
import type { Sa } from '../../../src/datapath/sa.ts';
import { INPUT } from '../../../src/datapath/slots.ts';
import type { Policy } from '../../../src/ipsec/policy.ts';
import type { SaParameters } from '../../../src/ipsec/sa.ts';
import { numbers } from '../../support/mutate.ts';
import { sadRule, spdRule, World } from '../../support/random-policies.ts';
import { type Reading, Rfc4301, readPacket, type SadRule } from '../../support/rfc4301.ts';
import { at, copyOf, ipPacket, NOW, Node } from '../../unit/datapath/pair.ts';

const SETS = 200;
const PACKETS = 50;
const LATER = at(60_000);
const REQIDS = 3;

/** What was seen of one packet, in the words of both predictions. */
interface Seen {
  readonly fate: string;
  readonly drop: string | undefined;
  readonly policy: number | undefined;
  readonly spis: readonly number[];
}

let policies: Policy[];
let tally: Map<string, number>;
/** Packets that an SA in BEET mode carried. */
let throughBeet = 0;
beforeAll(() => {
  tally = new Map();
});

/** One engine with random policies and SAs, and another that seals what the first is to receive. */
class Scene {
  readonly node = new Node({ unmatched: 'bypass', heldPackets: 2 }, 1);
  readonly peer = new Node({}, 1);
  rfc: Rfc4301;
  readonly sadRules: SadRule[] = [];
  readonly inbound: { readonly sa: Sa; readonly policy: Policy }[] = [];
  readonly outbound: { readonly sa: Sa; readonly policy: Policy }[] = [];
  readonly #world: World;
  readonly #sealers = new Map<number, Sa>();

  constructor(world: World, unmatched: 'bypass' | 'discard') {
    this.#world = world;
    this.node = new Node({ unmatched, heldPackets: 2 }, 1);
    const { engine } = this.node;
    policies = Array.from({ length: world.number(8) + 3 }, () => world.policy(REQIDS));
    const entries = policies.map((policy) => engine.addPolicy(policy, NOW));
    let spi = 0x1000;
    for (const policy of policies)
      for (const template of policy.templates) {
        for (let copies = world.number(4); copies > 0; copies--)
          this.#addSa(world.sa(++spi, policy, template, REQIDS), policy, spi);
      }
    engine.tick(LATER);
    const rules = entries.map(({ policy }) => spdRule(policy.id, policy));
    this.rfc = new Rfc4301(rules, this.sadRules, unmatched);
  }

  /** Some have reached a limit of time by `LATER`, some have few packets left. */
  #addSa(plain: SaParameters, policy: Policy, age: number): void {
    const { engine } = this.node;
    const isOut = policy.direction === 'outbound';
    const fate = this.#world.number(8);
    const limit = (seconds: number, packets: number) => ({ seconds, packets, bytes: 0 });
    const soft = limit(fate === 0 ? 30 : 0, 0);
    const hard = limit(fate === 1 ? 30 : 0, fate === 2 ? 1 + this.#world.number(3) : 0);
    const parameters = { ...plain, lifetime: { soft, hard } };
    const sa = engine.addSa(copyOf(parameters), NOW, isOut ? 'outbound' : 'inbound');
    if (fate !== 1)
      this.sadRules.push(sadRule(parameters, isOut ? 'out' : 'in', age, fate === 0, hard.packets || Number.POSITIVE_INFINITY));
    (isOut ? this.outbound : this.inbound).push({ sa, policy });
    if (isOut) return;
    this.#sealers.set(sa.spi, this.peer.engine.addSa(copyOf(plain), NOW, 'outbound'));
  }

  /** `inner` sealed by the peer's SA of that SPI: what arrives, and how. In transport mode the inner packet is the one that will be rebuilt. */
  seal(sa: Sa, inner: Uint8Array): { bytes: Uint8Array; kind: number } {
    const { engine, arena } = this.peer;
    const { esp, ah, outputs } = engine.core;
    const sealer = this.#sealers.get(sa.spi)!;
    const { source, destination, protocol, mode } = sa.parameters;
    const ends = { source: `${source}`, destination: `${destination}` };
    const headerBytes = source.family === 4 ? 20 : 40;
    const is4 = inner[0]! >> 4 === 4;
    const nextHeader = mode === 'tunnel' ? (is4 ? 4 : 41) : inner[is4 ? 9 : 6]!;
    const payload = mode === 'tunnel' ? inner : inner.slice(is4 ? 20 : 40);
    outputs.clear();
    if (protocol === 'esp') {
      arena.set(payload, esp.payloadAt(sealer, outputs.at));
      const length = esp.seal(sealer, outputs.at, payload.length, nextHeader);
      const sealed = arena.slice(outputs.at, outputs.at + length);
      return source.family === 4
        ? { bytes: ipPacket(50, sealed, ends), kind: INPUT.rawWithHeader }
        : { bytes: sealed, kind: INPUT.raw };
    }
    const ahBytes = ah.headerBytes(sealer, source.family);
    const packet = ipPacket(51, cat(new Uint8Array(ahBytes), payload), ends);
    const begin = (outputs.at + 15) & ~15;
    arena.set(packet, begin);
    expect(ah.seal(sealer, begin, packet.length, begin + headerBytes, nextHeader, begin + 8192)).toBe(0);
    return { bytes: arena.slice(begin, begin + packet.length), kind: INPUT.ah };
  }

  /** Runs `what`, and reads off the counters of the engine what came of it. */
  watch(what: () => string | undefined): Seen {
    const { core } = this.node.engine;
    const sas = [...core.sad.all].map((sa) => ({ sa, packets: sa.packets }));
    const entries = core.spd.entries().map((entry) => ({ entry, hits: entry.hits }));
    const { inbound, outbound } = core.fragments;
    const kept = () => core.acquires.held + core.acquires.ready + inbound.held + outbound.held;
    const before = kept();
    const came = what();
    const drop = this.node.drop(0);
    const fate = drop !== 'none' ? 'dropped' : kept() > before ? 'waits' : came;
    return {
      fate: fate ?? 'vanished',
      drop: drop === 'none' ? undefined : drop,
      policy: entries.find(({ entry, hits }) => entry.hits > hits)?.entry.policy.id,
      spis: sas.filter(({ sa, packets }) => sa.packets > packets).map(({ sa }) => sa.spi),
    };
  }
}

function outbound(scene: Scene, packet: Uint8Array): void {
  const { node } = scene;
  const told = explainOutbound(node.engine.core, packet);
  const read = scene.rfc.outbound(packet);
  const seen = scene.watch(() => {
    const wires = node.protect([packet], LATER);
    const [clear] = node.clears();
    if (wires.length === 1) return 'protected';
    if (clear !== undefined) return clear.length === packet.length ? 'clear' : 'protected';
    return undefined;
  });
  compare(packet, told, read, seen);
}

function inbound(scene: Scene, world: World): void {
  const { node } = scene;
  const { sa, policy } = scene.inbound.length === 0 ? { sa: undefined, policy: world.one(policies) } : world.one(scene.inbound);
  const packet = world.packet(policy);
  if (sa === undefined || world.chance(3)) {
    const told = explainInbound(node.engine.core, packet, []);
    const read = scene.rfc.inboundClear(packet);
    const seen = scene.watch(() => {
      node.arena.set(packet, node.engine.inputs.buffer[0]!);
      node.engine.inputs.takePacket(0, INPUT.clear, packet.length);
      return node.engine.checkClear(0, 1) === 1 ? 'delivered' : undefined;
    });
    return compare(packet, told, read, seen);
  }
  const inner = sa.tunnel ? packet : rebuilt(sa, packet);
  const { bytes, kind } = scene.seal(sa, inner);
  const isThere = sa.state !== 'dead';
  const told = isThere ? explainInbound(node.engine.core, inner, [sa]) : undefined;
  const read = scene.rfc.inboundThrough([sa.spi], inner);
  const seen = scene.watch(() =>
    node.unprotect([{ bytes, path: 0, trafficClass: 0 }], kind, undefined, LATER).length === 1 ? 'delivered' : undefined,
  );
  if (told === undefined) expect([read.fate, seen.fate, seen.drop]).toEqual(['dropped', 'dropped', 'noSa']);
  else compare(inner, told, read, seen);
}

/** The policy of one of the SAs; in transport and BEET mode only what it says of the ends that its packets have. */
function aimAt(world: World, among: Scene['outbound']): Policy {
  if (among.length === 0) return world.one(policies);
  const { sa, policy } = world.one(among);
  if (sa.tunnel) return policy;
  const { source, destination } = sa.inner ?? sa.parameters;
  const length = source.family === 4 ? 32 : 128;
  const selector = { ...policy.selector, source: { address: source, length }, destination: { address: destination, length } };
  return { ...policy, selector };
}

/** What an SA in transport or BEET mode delivers: its own ends, whatever the packet's payload. */
function rebuilt(sa: Sa, packet: Uint8Array): Uint8Array {
  const { source, destination } = sa.inner ?? sa.parameters;
  const read = readPacket(packet);
  const whole = read !== undefined && !read.isFragment && !read.hasOptions && read.headers.length === 0;
  const payload = whole ? packet.slice(packet[0]! >> 4 === 4 ? 20 : 40) : u16be(7);
  return ipPacket(whole ? read.protocol : 47, payload, { source: `${source}`, destination: `${destination}` });
}

/** The engine keeps what needs an SA; how many packets, and how long, is not for the RFC to say. */
const SAME: Readonly<Record<string, Reading['fate']>> = {
  clear: 'clear',
  delivered: 'delivered',
  protected: 'protected',
  dropped: 'dropped',
  waits: 'needs SA',
};

function compare(packet: Uint8Array, told: Explanation, read: Reading, seen: Seen): void {
  const isThrough = seen.fate !== 'dropped';
  const sorted = (list: readonly number[]) => (isThrough ? [...list].sort() : []); // what is dropped was not counted by its SAs
  const spis = sorted(seen.spis);
  const isBounded = read.fate === 'needs SA' && (seen.drop === 'holdFull' || seen.drop === 'acquireFailed');
  const engine = [
    [seen.fate, seen.drop, seen.policy, spis],
    [isBounded ? 'needs SA' : SAME[seen.fate], isBounded ? undefined : seen.drop, seen.policy, spis],
  ];
  const foretold = [
    [told.fate, told.drop, told.policy?.id, sorted(told.sas.map(({ spi }) => Number.parseInt(spi, 16)))],
    [read.fate, read.fate === 'dropped' ? read.why : undefined, read.rule, sorted(read.spis)],
  ];
  if (JSON.stringify(foretold) !== JSON.stringify(engine)) {
    process.stdout.write(`${inspect({ packet: hex(packet), told, read, seen, policies }, { depth: 6 })}\n`);
    expect(foretold).toEqual(engine);
  }
  if (isThrough && told.sas.some(({ mode }) => mode === 'beet')) throughBeet++;
  const name = `${told.direction} ${seen.drop ?? seen.fate}`;
  tally.set(name, (tally.get(name) ?? 0) + 1);
}

test(`${SETS * PACKETS} random packets against ${SETS} random policy sets fare as trace and RFC 4301 say`, {
  timeout: 120_000,
}, () => {
  const random = numbers(4301);
  const world = new World(random);
  for (let set = 0; set < SETS; set++) {
    const scene = new Scene(world, set % 4 === 0 ? 'discard' : 'bypass');
    for (let i = 0; i < PACKETS; i++) {
      const { acquires } = scene.node.engine.core;
      const open = acquires.pending.find(({ failed }) => !failed);
      if (open !== undefined && world.chance(20)) acquires.fail(open, LATER);
      if (i % 2 === 0) outbound(scene, world.packet(world.chance(2) ? aimAt(world, scene.outbound) : world.one(policies)));
      else inbound(scene, world);
    }
  }
  process.stdout.write(`${[...tally].map(([name, count]) => `${name}: ${count}`).join('; ')}\n`);
  expect(throughBeet).toBeGreaterThanOrEqual(20);
  // Each fate was there often enough to mean something.
  for (const name of [
    'outbound protected',
    'outbound clear',
    'outbound waits',
    'outbound holdFull',
    'outbound acquireFailed',
    'outbound notForTransport',
    'outbound badFragment',
  ])
    expect([name, (tally.get(name) ?? 0) >= 20]).toEqual([name, true]);
  for (const name of ['outbound tinyFragment', 'inbound waits', 'inbound badFragment'])
    expect([name, (tally.get(name) ?? 0) >= 3]).toEqual([name, true]);
});
