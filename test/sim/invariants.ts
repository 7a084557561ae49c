/**
 * What must hold in every run. Some of it holds at every moment (no exception, no packet twice, no clear text, no key outside PF_KEY, bounded
 * tables); the rest at rest: with the faults off for three times the liveness limit. Two daemons never change over in one instant, so a
 * breach of the second kind counts where it lasts longer than any hand-over may.
 */

import { equal } from '../../src/bytes/bytes.ts';
import type { Secret } from '../../src/bytes/secret.ts';
import type { Kmp } from '../../src/config/config.ts';
import type { Sa } from '../../src/datapath/sa.ts';
import type { SaParameters } from '../../src/ipsec/sa.ts';
import { showSelector } from '../../src/ipsec/selector.ts';
import { showEndpoint } from '../../src/net/address.ts';
import { type HostStatus, isRunningOut, type Relation, type SimNode } from './node.ts';
import type { Scenario, Wanted } from './scenario.ts';

/** How long a hand-over may take: draining an old SA, the retransmissions of its DELETE, an answer of the datapath. Milliseconds. */
export const HAND_OVER_MS = 15_000;
/** A command to iked is answered within this. */
const ANSWER_MS = 120_000;
/** Bounds for one wanted child or pair; generous, since a bound that matters is exceeded by far. */
const MOST_SAS_PER_CHILD = 24;
const MOST_LARVALS_PER_CHILD = 24;
const MOST_IKE_SAS_PER_PEER = 12;
/**
 * Children of one selector. Where both ends made one at once, IKE has a rule (RFC 7296 §2.8.1; ours for IKEv1) and KINK has none: each end
 * rekeys its own or lets it go when its lifetime ends (RFC 4430 §3.6).
 */
const MOST_AT_REST: Readonly<Record<Kmp, number>> = { ikev2: 1, ikev1: 1, kink: 2 };
const MOST_FAILURES = 64;
const MOST_HELD = 64;

/** The breaches of bounds, which hold at every moment. */
export function boundsBroken(scenario: Scenario, nodes: readonly SimNode[], mono: number): string[] {
  return nodes.flatMap((node) => {
    const broken: string[] = [];
    const bound = (what: string, found: number, most: number) => {
      if (found > most) broken.push(`${node.name} has ${found} ${what}; ${most} is the bound`);
    };
    const children = childrenOf(scenario, nodes, node).length;
    const { engine } = node;
    if (engine !== undefined) {
      bound('SAs in its datapath', engine.core.sad.size, MOST_SAS_PER_CHILD * children);
      bound('larval SAs', [...engine.core.sad.larvals].length, MOST_LARVALS_PER_CHILD * children);
      bound('open ACQUIREs', engine.core.acquires.pending.length, 4 * children);
      bound('packets that wait for SAs', engine.core.acquires.held, MOST_HELD * children);
    }
    const status = node.status();
    if (status !== undefined) {
      bound('IKE SAs', status.relations.length, MOST_IKE_SAS_PER_PEER * node.spec.peers.length);
      bound('failures or counters in a status', Math.max(...status.sizes), MOST_FAILURES);
    }
    for (const { at, verb } of node.unanswered) {
      if (mono - at > ANSWER_MS) broken.push(`${node.name} has not answered the command ${verb} of ${at} ms`);
    }
    return broken;
  });
}

/** What is not as it must be at rest, each as a sentence that stays the same while the breach lasts. */
export function unrest(scenario: Scenario, nodes: readonly SimNode[]): string[] {
  const statuses = new Map(nodes.map((node) => [node, node.status()]));
  const broken = nodes.flatMap((node) => {
    const status = statuses.get(node);
    if (!node.running || status === undefined) return [`${node.name} does not run`];
    return [
      ...(status.datapath === 'up' ? [] : [`${node.name}: a key daemon has no datapath`]),
      ...strandedSas(node, nodes, status),
      ...strandedRelations(node, nodes, statuses),
      ...larvals(node),
    ];
  });
  return [...broken, ...scenario.wanted.flatMap((wanted) => wrongChildren(wanted, nodes, statuses))];
}

function larvals(node: SimNode): string[] {
  const { sad, acquires } = node.engine!.core;
  return [
    ...[...sad.larvals].map(({ spi }) => `${node.name}: the larval SA ${spiText(spi)} is not completed`),
    ...acquires.pending.map(({ seq }) => `${node.name}: ACQUIRE ${seq} is not met`),
  ];
}

/** Each SA of the datapath has its twin with the same keys at the peer, and is known to iked; and the reverse. */
function strandedSas(node: SimNode, nodes: readonly SimNode[], status: HostStatus): string[] {
  const broken: string[] = [];
  const children = status.relations.flatMap((sa) => sa.children);
  for (const sa of node.engine!.core.sad.all) {
    const { source, destination } = sa.parameters;
    const outbound = node.hasBeenAt(source);
    const what = `${node.name}: the ${outbound ? 'outbound' : 'inbound'} SA ${spiText(sa.spi)}`;
    if (!children.some((child) => (outbound ? child.spiOut : child.spiIn) === spiText(sa.spi))) {
      broken.push(`${what} belongs to no child SA of a key daemon's`);
    }
    const [own, other] = outbound ? [source, destination] : [destination, source];
    const peer = nodes.find((one) => one.hasBeenAt(other));
    if (!own.equals(node.address) || peer?.address.equals(other) !== true)
      broken.push(`${what} is between ${own} and ${other}: the nodes are at ${node.address} and ${peer?.address}`);
    const twin = peer?.engine?.core.sad.find(sa.spi, 'esp', destination);
    if (twin === undefined) broken.push(`${what} has no twin at ${peer?.name ?? other}`);
    else {
      const difference = differenceOf(sa, twin);
      if (difference !== undefined) broken.push(`${what} and its twin at ${peer!.name} differ in ${difference}`);
    }
  }
  const { sad } = node.engine!.core;
  const known = new Set([...sad.all].map((sa) => spiText(sa.spi)));
  for (const child of children) {
    const label = `${node.name}: child SA ${child.selector} (in ${child.spiIn}, out ${child.spiOut})`;
    if (child.state !== 'installed') broken.push(`${label} is ${child.state}`);
    if (!known.has(child.spiIn)) broken.push(`${label} has no inbound SA in the datapath`);
    if (!known.has(child.spiOut)) broken.push(`${label} has no outbound SA in the datapath`);
  }
  return broken;
}

/** What two ends of one SA do not agree about. */
function differenceOf(a: Sa, b: Sa): string | undefined {
  const facts = ({ mode, suite, extendedSequence, encapsulation, selectors }: SaParameters) => ({
    mode,
    suite: `${suite.encr} ${suite.keyBits} ${suite.integ}`,
    'sequence numbers': String(extendedSequence),
    encapsulation:
      encapsulation === undefined ? '' : `${showEndpoint(encapsulation.source)} ${showEndpoint(encapsulation.destination)}`,
    selectors: `${selectors.source.map(showSelector)} ${selectors.destination.map(showSelector)}`,
  });
  const [mine, theirs] = [facts(a.parameters), facts(b.parameters)];
  for (const name of Object.keys(mine) as (keyof typeof mine)[]) if (mine[name] !== theirs[name]) return name;
  const same = (x: Secret | undefined, y: Secret | undefined) =>
    x === undefined || y === undefined ? x === y : equal(x.reveal(), y.reveal());
  if (!same(a.parameters.encrKey, b.parameters.encrKey)) return 'encryption keys';
  return same(a.parameters.integKey, b.parameters.integKey) ? undefined : 'integrity keys';
}

/** Each is between the present addresses, and both ends have it. A KINK association is nothing that two ends agree on. */
function strandedRelations(
  node: SimNode,
  nodes: readonly SimNode[],
  statuses: ReadonlyMap<SimNode, HostStatus | undefined>,
): string[] {
  const broken: string[] = [];
  for (const sa of statuses.get(node)!.relations) {
    if (isRunningOut(sa)) continue;
    const what = `${node.name}: ${sa.name}`;
    const peer = nodes.find(({ name }) => name === sa.remote);
    if (!isAt(sa.local, node) || peer === undefined || !isAt(sa.peer, peer))
      broken.push(`${what} is between ${sa.local} and ${sa.peer}: the nodes are at ${node.address} and ${peer?.address}`);
    if (sa.state !== 'established') broken.push(`${what} is ${sa.state}`);
    const others = [...statuses].filter(
      ([other, status]) => other !== node && status?.relations.some(({ name }) => name === sa.name),
    );
    if (sa.kmp !== 'kink' && others.length !== 1) broken.push(`${what} is at ${others.length} other ends`);
  }
  return broken;
}

function isAt(endpoint: string, node: SimNode): boolean {
  return endpoint.startsWith(`${node.address}[`);
}

/** The same children for each selector at both ends, no more of them than there may be, under one relation for each two nodes. */
function wrongChildren(
  wanted: Wanted,
  nodes: readonly SimNode[],
  statuses: ReadonlyMap<SimNode, HostStatus | undefined>,
): string[] {
  const broken: string[] = [];
  const [a, b] = [nodes[wanted.a]!, nodes[wanted.b]!];
  const of = (node: SimNode) => childrenFor(wanted.selector, statuses.get(node)?.relations ?? []);
  const most = Math.max(...wanted.kmps.map((kmp) => MOST_AT_REST[kmp]));
  for (const node of [a, b]) {
    const count = of(node).length;
    if (count < 1 || count > most)
      broken.push(`${node.name} has ${count} child SAs for ${wanted.selector} instead of ${most === 1 ? 1 : `1 to ${most}`}`);
  }
  const [mine, theirs] = [
    of(a).map(({ spiIn, spiOut }) => `${spiIn} ${spiOut}`),
    of(b).map(({ spiIn, spiOut }) => `${spiOut} ${spiIn}`),
  ];
  if (mine.length > 0 && theirs.length > 0 && mine.sort().join() !== theirs.sort().join()) {
    broken.push(`the child SAs of ${a.name} and ${b.name} for ${wanted.selector} are not the same`);
  }
  for (const [node, peer] of [
    [a, b],
    [b, a],
  ] as const) {
    const between = (statuses.get(node)?.relations ?? []).filter((sa) => sa.remote === peer.name && !isRunningOut(sa));
    if (between.length !== 1) broken.push(`${node.name} has ${between.length} relations with ${peer.name} instead of 1`);
  }
  return broken;
}

function childrenFor(selector: string, relations: readonly Relation[]) {
  return relations.flatMap(({ children }) => children).filter((child) => child.selector === selector);
}

function childrenOf(scenario: Scenario, nodes: readonly SimNode[], node: SimNode): readonly Wanted[] {
  return scenario.wanted.filter(({ a, b }) => nodes[a] === node || nodes[b] === node);
}

function spiText(spi: number): string {
  return spi.toString(16).padStart(8, '0');
}
