/** What is simulated under a seed: how many nodes, their policy files, which child SAs are wanted, and how long things live. */

import { compile } from '../../src/config/compile.ts';
import type { Config, Kmp } from '../../src/config/config.ts';
import { show } from '../../src/config/diagnostics.ts';
import { memoryFiles } from '../../src/config/memory-files.ts';
import { IpAddress } from '../../src/net/address.ts';
import type { Chance } from './chance.ts';
import type { Drift } from './clock.ts';
import { home, innerHost, policyText, selectorName } from './policy-text.ts';

/** One child SA that two nodes are to have, and the traffic that it carries. */
export interface Wanted {
  /** Name of the selector, at both ends. */
  readonly selector: string;
  readonly a: number;
  readonly b: number;
  /** Inner addresses: the outer ones in transport mode. */
  readonly innerA: IpAddress;
  readonly innerB: IpAddress;
  /** Whether traffic at that end brings the child up. */
  readonly aInitiates: boolean;
  readonly bInitiates: boolean;
  /** The protocols by which either end begins and that the other answers. */
  readonly kmps: readonly Kmp[];
}

export interface NodeSpec {
  readonly name: string;
  readonly address: IpAddress;
  readonly policies: string;
  readonly config: Config;
  /** The other nodes that it has a remote for. */
  readonly peers: readonly number[];
  /** The key daemons that its policies need. */
  readonly daemons: readonly ('iked' | 'kinkd')[];
  readonly drift: Drift;
  /** Where it may move to; none: it stays at `address`. */
  readonly away: readonly IpAddress[];
  /** Its mobility daemon puts KMADDRESS into X_MIGRATE: peer relations move along. Else they are made anew. */
  readonly tellsKeyManagement: boolean;
  /** Part of its X_MIGRATEs that are sent twice. */
  readonly repeatedMigrates: number;
}

export interface Scenario {
  readonly nodes: readonly NodeSpec[];
  readonly wanted: readonly Wanted[];
  /** The time in which a dead peer is noticed: `dpd_delay` and all retransmissions. Milliseconds. */
  readonly livenessLimit: number;
  /** Hard lifetime of child SAs, in milliseconds. */
  readonly childLifetime: number;
  /** Life of Kerberos tickets, in seconds. */
  readonly ticketSeconds: number;
  /** One line for people. */
  readonly summary: string;
}

export interface Choices {
  readonly family: 4 | 6;
  readonly inner: 4 | 6;
  readonly transport: boolean;
  readonly selectors: number;
  readonly encapsulated: boolean;
  readonly dpdSeconds: number;
  readonly retries: number;
  readonly ikeSeconds: number;
  readonly childSeconds: number;
  readonly childPackets: number;
  readonly pfs: boolean;
  readonly group: string;
  readonly ike: string;
  readonly esp: string;
  /** What IKEv1 and KINK have a number for. */
  readonly olderEsp: string;
  readonly esn: boolean;
  readonly window: number;
  readonly initiators: 'both-demand' | 'one-start' | 'both-start' | 'one-passive';
  /** Who changes its address. */
  readonly movers: 'none' | 'one' | 'all';
  /** Whether the policy files of their peers name their home address in `peers_ipaddr`, or let them come from anywhere. */
  readonly atHomeOnly: boolean;
  readonly tellsKeyManagement: boolean;
  readonly clockSkewSeconds: number;
  /** Of Kerberos tickets. */
  readonly ticketSeconds: number;
}

/** Two nodes, and what each of them lists in `acceptable_kmp`. */
export interface Pair {
  readonly a: number;
  readonly b: number;
  readonly kmps: { readonly a: readonly Kmp[]; readonly b: readonly Kmp[] };
  readonly bIsPassive: boolean;
}

/** As often as they stand here. */
const KMPS: readonly Pair['kmps'][] = [
  ...Array.from({ length: 8 }, () => both('ikev2')),
  ...Array.from({ length: 5 }, () => both('ikev1')),
  ...Array.from({ length: 5 }, () => both('kink')),
  both('ikev2', 'ikev1'),
  both('kink', 'ikev2'),
  { a: ['ikev2', 'ikev1'], b: ['ikev1'] },
  { a: ['ikev1'], b: ['ikev2', 'ikev1'] },
];

function both(...kmps: readonly Kmp[]): Pair['kmps'] {
  return { a: kmps, b: kmps };
}

/** Everything that the seed decides about the scenario. `realCrypto`: noble, and groups of every kind. */
export function scenarioOf(chance: Chance, realCrypto: boolean): Scenario {
  const size = chance.happens(0.8) ? 2 : chance.happens(0.75) ? 3 : 5;
  const transport = chance.happens(0.2);
  const family = chance.happens(0.75) ? 4 : 6;
  const encapsulated = chance.happens(0.3);
  const choices: Choices = {
    family,
    inner: transport ? family : chance.happens(0.75) ? 4 : 6,
    transport,
    selectors: transport || size > 2 || chance.happens(0.6) ? 1 : 2,
    encapsulated,
    dpdSeconds: chance.pick([5, 10, 20]),
    retries: chance.pick([3, 4]),
    ikeSeconds: chance.pick([90, 200, 600, 28_800]),
    childSeconds: chance.pick([60, 120, 300, 3600]),
    childPackets: chance.happens(0.2) ? chance.pick([40, 150]) : 0,
    pfs: chance.happens(0.4),
    group: realCrypto ? chance.pick(['x25519', 'ecp256', 'x25519', 'ecp384']) : 'x25519',
    ike: chance.pick(['aes256_gcm_16', 'aes128_cbc', 'chacha20_poly1305']),
    esp: chance.pick(['aes128_gcm_16', 'aes256_cbc', 'chacha20_poly1305']),
    olderEsp: chance.pick(['aes128_gcm_16', 'aes256_cbc']),
    esn: chance.happens(0.3),
    window: chance.pick([64, 1024]),
    initiators: chance.pick(['both-demand', 'both-demand', 'one-start', 'both-start', 'one-passive']),
    movers: transport || encapsulated ? 'none' : chance.pick(['none', 'one', 'all']),
    atHomeOnly: chance.happens(0.5),
    tellsKeyManagement: chance.happens(0.85),
    clockSkewSeconds: chance.pick([120, 300]),
    ticketSeconds: chance.pick([400, 36_000]),
  };
  const pairs = pairsOf(size, choices.initiators, chance);
  return assemble(size, pairs, choices, () => driftOf(chance));
}

/** The nodes and what is wanted between them. */
export function assemble(size: number, pairs: readonly Pair[], choices: Choices, drift: () => Drift): Scenario {
  const nodes = Array.from({ length: size }, (_, index) => nodeOf(index, pairs, choices, drift()));
  const retransmissions = Array.from({ length: choices.retries + 1 }, (_, i) => 1125 * 2 ** i).reduce(
    (sum, each) => sum + each,
    0,
  );
  return {
    nodes,
    wanted: wantedOf(pairs, choices),
    livenessLimit: choices.dpdSeconds * 1000 + retransmissions,
    childLifetime: choices.childSeconds * 1000,
    ticketSeconds: choices.ticketSeconds,
    summary: `${size} nodes, ${pairs.map(({ a, b, kmps }) => `${a}-${b} ${kmps.a.join('+')}/${kmps.b.join('+')}`).join(', ')}, ${Object.entries(
      choices,
    )
      .map(([name, value]) => `${name} ${value}`)
      .join(', ')}`,
  };
}

/** Up to one percent: worse than any crystal, so that what depends on two clocks being alike shows within minutes. */
function driftOf(chance: Chance): Drift {
  return {
    rate: 1 + chance.pick([0, 0.0002, 0.01]) * (chance.between(-100, 100) / 100),
    uptime: chance.below(10_000_000),
    ahead: chance.between(-30_000, 30_000),
  };
}

/** Every two of two or three nodes; a star with more. The first of a pair is the one that initiates where only one does. */
function pairsOf(size: number, initiators: Choices['initiators'], chance: Chance): readonly Pair[] {
  const pairs: Pair[] = [];
  for (let a = 0; a < size; a++) {
    for (let b = a + 1; b < size; b++) {
      if (size > 3 && a !== 0) continue;
      const kmps = chance.pick(KMPS);
      // Where only `b` can begin in what both speak, it has to.
      const onlyB = !kmps.b.includes(kmps.a[0]!);
      pairs.push({ a, b, kmps, bIsPassive: initiators === 'one-passive' && !onlyB });
    }
  }
  return pairs;
}

/** Where a node may move to. Its addresses are nobody else's. */
function awayOf(index: number, { family, movers }: Choices): IpAddress[] {
  if (movers === 'none' || (movers === 'one' && index !== 0)) return [];

  return [1, 2, 3].map(
    (n) => IpAddress.parse(family === 4 ? `198.51.100.${16 * (index + 1) + n}` : `2001:db8:${index + 1}::${n}`)!,
  );
}

function wantedOf(pairs: readonly Pair[], choices: Choices): Wanted[] {
  return pairs.flatMap(({ a, b, kmps, bIsPassive }) =>
    Array.from({ length: choices.selectors }, (_, nth) => ({
      selector: selectorName(a, b, nth),
      a,
      b,
      innerA: IpAddress.parse(innerHost(a, nth, choices))!,
      innerB: IpAddress.parse(innerHost(b, nth, choices))!,
      aInitiates: kmps.b.includes(kmps.a[0]!),
      bInitiates: !bIsPassive && kmps.a.includes(kmps.b[0]!),
      kmps: [...new Set([kmps.a[0]!, kmps.b[0]!])].filter((kmp) => kmps.a.includes(kmp) && kmps.b.includes(kmp)),
    })),
  );
}

function nodeOf(index: number, pairs: readonly Pair[], choices: Choices, drift: Drift): NodeSpec {
  const own = pairs.filter(({ a, b }) => a === index || b === index);
  const policies = policyText(index, own, choices);
  const { config, diagnostics } = compile('/sim.conf', memoryFiles({ '/sim.conf': policies }));
  if (config === undefined)
    throw new Error(`the simulator's policies are wrong:\n${diagnostics.map(show).join('\n')}\n${policies}`);
  const kmps = new Set(own.flatMap(({ a, kmps }) => (a === index ? kmps.a : kmps.b)));
  return {
    name: `n${index}`,
    address: IpAddress.parse(home(index, choices))!,
    policies,
    config,
    peers: own.map(({ a, b }) => (a === index ? b : a)),
    daemons: [
      ...(kmps.has('ikev2') || kmps.has('ikev1') ? ['iked' as const] : []),
      ...(kmps.has('kink') ? ['kinkd' as const] : []),
    ],
    drift,
    away: awayOf(index, choices),
    tellsKeyManagement: choices.tellsKeyManagement,
    repeatedMigrates: 0.1,
  };
}
