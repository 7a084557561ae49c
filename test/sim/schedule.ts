/** What goes wrong in a run, and what operators do meanwhile: all by chance from the seed. */

import type { IpAddress } from '../../src/net/address.ts';
import type { Chance } from './chance.ts';
import type { Clock } from './clock.ts';
import type { SimKdc } from './kerberos.ts';
import type { Faults, Network } from './network.ts';
import type { SimNode } from './node.ts';
import type { Scenario, Wanted } from './scenario.ts';

export interface World {
  readonly scenario: Scenario;
  readonly nodes: readonly SimNode[];
  readonly clock: Clock;
  readonly network: Network;
  readonly kdc: SimKdc;
  readonly chance: Chance;
  /** An application sends a packet for a wanted child, forward from `a` to `b` or back. */
  readonly send: (wanted: Wanted, forward: boolean) => void;
  /** For the trace of a failing run. */
  readonly note: (text: string) => void;
}

/** Faults that are over before the rest begins must be over this long before. Milliseconds. */
const LONGEST_OUTAGE = 30_000;

/** How long a process is gone. Milliseconds. */
const PAUSES = [1, 100, 1_000, 8_000];

/** What the network does to datagrams while faults are on. */
export function faultsOf(chance: Chance): Faults {
  const spread = chance.pick([5, 30, 200]);
  return {
    loss: chance.pick([0, 0.05, 0.05, 0.05, 0.15]),
    duplication: chance.pick([0, 0.03, 0.1]),
    lateReplay: 0.2,
    corruption: chance.pick([0, 0.005]),
    delay: [2, 2 + spread],
  };
}

/** Everything that happens before `until`. */
export function disturb(world: World, until: number): void {
  const { chance } = world;
  const rates: readonly (readonly [number, () => void])[] = [
    [chance.pick([0.1, 0.3]), () => restartKeyDaemon(world)],
    [chance.pick([0, 0.1]), () => restart(world, 'Spmd')],
    [chance.pick([0.05, 0.15]), () => restart(world, 'Datapath')],
    [chance.pick([0, 0.2]), () => stopKdc(world)],
    [chance.pick([0.05, 0.2]), () => cut(world)],
    [chance.pick([0.2, 1, 3]), () => rekey(world)],
    [chance.pick([0.05, 0.3]), () => terminate(world)],
    [chance.pick([0, 0.3]), () => initiate(world)],
    [chance.pick([0, 0.1]), () => setWallClock(world)],
    [chance.pick([0.2, 1]), () => roam(world)],
  ];
  for (const [perMinute, act] of rates) if (perMinute > 0) repeat(world, perMinute, until - LONGEST_OUTAGE, act);
}

/** Traffic of every wanted child in both directions, now and then with a pause or a burst. */
export function talk(world: World, perMinute: number, until: number): void {
  for (const wanted of world.scenario.wanted) {
    for (const forward of [true, false]) {
      let quietUntil = 0;
      repeat(world, perMinute, until, () => {
        const { chance, clock } = world;
        if (clock.mono < quietUntil) return;
        if (chance.happens(0.02)) quietUntil = clock.mono + chance.between(5_000, 90_000);
        const packets = chance.happens(0.05) ? chance.between(2, 20) : 1;
        for (let i = 0; i < packets; i++) world.send(wanted, forward);
      });
    }
  }
}

function repeat({ clock, chance }: World, perMinute: number, until: number, act: () => void): void {
  const own = chance.fork();
  const next = () => {
    const at = clock.mono + own.pause(perMinute);
    if (at < until) {
      clock.at(at, () => {
        act();
        next();
      });
    }
  };
  next();
}

/** Kinkd's file of the replay cache is there again when it comes back, or not. */
function restartKeyDaemon({ nodes, chance, clock, note }: World): void {
  const node = chance.pick(nodes);
  const name = chance.pick(node.spec.daemons);
  const pause = chance.pick(PAUSES);
  const loses = name === 'kinkd' && chance.happens(0.2);
  note(`${node.name}: ${name} is killed, for ${pause} ms${loses ? ', and loses its replay cache' : ''}`);
  node[name].kill();
  if (loses) node.loseReplays();
  clock.after(pause, () => {
    node[name].kill();
    node[name].start();
  });
}

function stopKdc({ kdc, chance, note }: World): void {
  const pause = chance.between(1_000, LONGEST_OUTAGE);
  note(`the KDC is away for ${pause} ms`);
  kdc.stop(pause);
}

function restart({ nodes, chance, clock, note }: World, process: 'Spmd' | 'Datapath'): void {
  const node = chance.pick(nodes);
  const pause = chance.pick(PAUSES);
  note(`${node.name}: ${process} is killed, for ${pause} ms`);
  node[`kill${process}`]();
  clock.after(pause, () => {
    // It may have been killed and started again meanwhile.
    node[`kill${process}`]();
    node[`start${process}`]();
  });
}

function cut({ nodes, chance, network, note }: World): void {
  const a = chance.below(nodes.length);
  const b = (a + 1 + chance.below(nodes.length - 1)) % nodes.length;
  const pause = chance.between(500, LONGEST_OUTAGE);
  note(`${nodes[a]!.name} and ${nodes[b]!.name} do not hear each other for ${pause} ms`);
  network.cut(nodes[a]!.address, nodes[b]!.address, pause);
}

/** By one end, or by both at nearly the same time. */
function rekey({ scenario, nodes, chance, clock, note }: World): void {
  const wanted = chance.pick(scenario.wanted);
  const [a, b] = [nodes[wanted.a]!, nodes[wanted.b]!];
  const both = chance.happens(0.5);
  for (const [node, peer] of both ? [[a, b] as const, [b, a] as const] : [chance.pick([[a, b] as const, [b, a] as const])]) {
    const what = chance.happens(0.3) ? 'ike' : 'child';
    clock.after(chance.between(0, 40), () => {
      note(`${node.name}: rekey ${what} ${wanted.selector}`);
      node.command({ verb: 'rekey', name: what === 'ike' ? peer.name : wanted.selector, what }, chance.pick(wanted.kmps));
    });
  }
}

function terminate({ scenario, nodes, chance, note }: World): void {
  const wanted = chance.pick(scenario.wanted);
  const [node, peer] = chance.pick([
    [nodes[wanted.a]!, nodes[wanted.b]!],
    [nodes[wanted.b]!, nodes[wanted.a]!],
  ] as const);
  const name = chance.pick([wanted.selector, peer.name]);
  note(`${node.name}: terminate ${name}`);
  node.command({ verb: 'terminate', name }, chance.pick(wanted.kmps));
}

function initiate({ scenario, nodes, chance, clock, note }: World): void {
  const wanted = chance.pick(scenario.wanted);
  const ends = [...(wanted.aInitiates ? [nodes[wanted.a]!] : []), ...(wanted.bInitiates ? [nodes[wanted.b]!] : [])];
  for (const node of chance.happens(0.5) ? ends : [chance.pick(ends)]) {
    clock.after(chance.between(0, 40), () => {
      note(`${node.name}: initiate ${wanted.selector}`);
      node.command({ verb: 'initiate', name: wanted.selector }, chance.pick(wanted.kmps));
    });
  }
}

function setWallClock({ nodes, chance, note }: World): void {
  const node = chance.pick(nodes);
  const by = chance.between(-5_000, 5_000);
  note(`${node.name}: the wall clock is set by ${by} ms`);
  node.clock.step(by);
}

/** Somewhere else or back home; now and then twice within a moment. */
function roam(world: World): void {
  const { nodes, chance, clock } = world;
  const movers = nodes.filter(({ spec }) => spec.away.length > 0);
  if (movers.length === 0) return;
  const node = chance.pick(movers);
  const go = () => {
    const elsewhere = [node.spec.address, ...node.spec.away].filter((address) => !address.equals(node.address));
    relocate(world, node, chance.pick(elsewhere), { linger: chance.pick([0, 0, 500, 3_000]), own: 300, others: 3_000 });
  };
  go();
  if (chance.happens(0.3)) clock.after(chance.between(20, 1_500), go);
}

/** Delays of at most `own` and `others` milliseconds pass until the mobility daemons know: each host's hears of it for itself. */
export function relocate(
  { nodes, chance, clock, note }: World,
  node: SimNode,
  to: IpAddress,
  { linger, own, others }: { readonly linger: number; readonly own: number; readonly others: number },
): void {
  note(`${node.name}: moves from ${node.address} to ${to}, and stays at both for ${linger} ms`);
  node.move(to, linger);
  const former = node.formerAddresses;
  const sequence = clock.mono;
  for (const host of nodes) {
    const delay = chance.between(0, host === node ? own : others);
    clock.after(delay, () => host.bind({ kind: 'binding', node: node.name, sequence, former, to }));
  }
}
