/** What is simulated under a seed: how many nodes, their policy files, which child SAs are wanted, and how long things live. */

import { compile } from '../../src/config/compile.ts';
import type { Config } from '../../src/config/config.ts';
import { show } from '../../src/config/diagnostics.ts';
import { memoryFiles } from '../../src/config/memory-files.ts';
import { IpAddress } from '../../src/net/address.ts';
import type { Chance } from './chance.ts';
import type { Drift } from './clock.ts';

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
}

export interface NodeSpec {
  readonly name: string;
  readonly address: IpAddress;
  readonly policies: string;
  readonly config: Config;
  /** The other nodes that it has a remote for. */
  readonly peers: readonly number[];
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
  /** One line for people. */
  readonly summary: string;
}

interface Choices {
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
  readonly esn: boolean;
  readonly window: number;
  readonly initiators: 'both-demand' | 'one-start' | 'both-start' | 'one-passive';
  /** Who changes its address. */
  readonly movers: 'none' | 'one' | 'all';
  /** Whether the policy files of their peers name their home address in `peers_ipaddr`, or let them come from anywhere. */
  readonly atHomeOnly: boolean;
  readonly tellsKeyManagement: boolean;
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
    esn: chance.happens(0.3),
    window: chance.pick([64, 1024]),
    initiators: chance.pick(['both-demand', 'both-demand', 'one-start', 'both-start', 'one-passive']),
    movers: transport || encapsulated ? 'none' : chance.pick(['none', 'one', 'all']),
    atHomeOnly: chance.happens(0.5),
    tellsKeyManagement: chance.happens(0.85),
  };
  const pairs = pairsOf(size);
  const nodes = Array.from({ length: size }, (_, index) => nodeOf(index, pairs, choices, driftOf(chance)));
  const retransmissions = Array.from({ length: choices.retries + 1 }, (_, i) => 1125 * 2 ** i).reduce(
    (sum, each) => sum + each,
    0,
  );
  return {
    nodes,
    wanted: wantedOf(pairs, choices),
    livenessLimit: choices.dpdSeconds * 1000 + retransmissions,
    childLifetime: choices.childSeconds * 1000,
    summary: `${size} nodes, ${Object.entries(choices)
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
function pairsOf(size: number): readonly (readonly [number, number])[] {
  const pairs: (readonly [number, number])[] = [];
  for (let a = 0; a < size; a++) for (let b = a + 1; b < size; b++) if (size <= 3 || a === 0) pairs.push([a, b]);
  return pairs;
}

function outer(index: number, { family }: Choices): string {
  return family === 4 ? `192.0.2.${index + 1}` : `2001:db8::${index + 1}`;
}

/** Where a node may move to. Its addresses are nobody else's. */
function awayOf(index: number, { family, movers }: Choices): IpAddress[] {
  if (movers === 'none' || (movers === 'one' && index !== 0)) return [];
  return [1, 2, 3].map(
    (n) => IpAddress.parse(family === 4 ? `198.51.100.${16 * (index + 1) + n}` : `2001:db8:${index + 1}::${n}`)!,
  );
}

/** Network of a node for its `nth` selector, and a host in it. */
function network(index: number, nth: number, { inner }: Choices): string {
  return inner === 4 ? `10.${index + 1}.${nth}.0/24` : `fd00:${index + 1}:${nth}::/64`;
}

function host(index: number, nth: number, choices: Choices): string {
  if (choices.transport) return outer(index, choices);
  return choices.inner === 4 ? `10.${index + 1}.${nth}.7` : `fd00:${index + 1}:${nth}::7`;
}

function selectorName(a: number, b: number, nth: number): string {
  return `net-${a}-${b}-${nth}`;
}

function wantedOf(pairs: readonly (readonly [number, number])[], choices: Choices): Wanted[] {
  return pairs.flatMap(([a, b]) =>
    Array.from({ length: choices.selectors }, (_, nth) => ({
      selector: selectorName(a, b, nth),
      a,
      b,
      innerA: IpAddress.parse(host(a, nth, choices))!,
      innerB: IpAddress.parse(host(b, nth, choices))!,
      aInitiates: true,
      bInitiates: choices.initiators !== 'one-passive',
    })),
  );
}

function nodeOf(index: number, pairs: readonly (readonly [number, number])[], choices: Choices, drift: Drift): NodeSpec {
  const own = pairs.filter((pair) => pair.includes(index));
  const policies = [
    interfaceText(index, choices),
    defaultsText(choices),
    ...own.map(([a, b]) => pairText(index, a, b, choices)),
    `ipsec esp { sa_index esp; ${choices.esn ? 'ext_sequence on; ' : ''}replay_window ${choices.window}; };`,
    `sa esp { sa_protocol esp; esp_enc_alg { ${choices.esp}; }; esp_auth_alg { hmac_sha2_256; }; };`,
  ].join('\n');
  const { config, diagnostics } = compile('/sim.conf', memoryFiles({ '/sim.conf': policies }));
  if (config === undefined)
    throw new Error(`the simulator's policies are wrong:\n${diagnostics.map(show).join('\n')}\n${policies}`);
  const peers = own.map(([a, b]) => (a === index ? b : a));
  return {
    name: `n${index}`,
    address: IpAddress.parse(outer(index, choices))!,
    policies,
    config,
    peers,
    drift,
    away: awayOf(index, choices),
    tellsKeyManagement: choices.tellsKeyManagement,
    repeatedMigrates: 0.1,
  };
}

function interfaceText(index: number, choices: Choices): string {
  const ike = choices.movers === 'none' ? `"${outer(index, choices)}"` : 'MY_IP';
  return `interface { ike ${ike}; datapath { device memory; encapsulation ${choices.encapsulated ? 'force' : 'auto'}; }; };`;
}

function defaultsText(choices: Choices): string {
  const packets = choices.childPackets === 0 ? '' : `ipsec_sa_lifetime_packets ${choices.childPackets};`;
  return `default {
    remote { ikev2 {
      dpd_delay ${choices.dpdSeconds} sec;
      max_retry_to_send ${choices.retries};
      interval_to_send 1 sec;
      kmp_sa_lifetime_time ${choices.ikeSeconds} sec;
      kmp_sa_nego_time_limit 40 sec;
      kmp_enc_alg { ${choices.ike}; };
      kmp_hash_alg { hmac_sha2_256; };
      kmp_prf_alg { hmac_sha2_256; };
      kmp_dh_group { ${choices.group}; };
      need_pfs ${choices.pfs ? 'on' : 'off'};
      force_encapsulation ${choices.encapsulated ? 'on' : 'off'};
      pre_shared_key "sim.psk";
    }; };
    ipsec { ipsec_sa_lifetime_time ${choices.childSeconds} sec; ${packets} };
  };`;
}

/** One node's half of a pair: the remote, its selectors and their policy. */
function pairText(index: number, a: number, b: number, choices: Choices): string {
  const peer = index === a ? b : a;
  const starts = choices.initiators === 'both-start' || (choices.initiators === 'one-start' && index === a);
  const passive = choices.initiators === 'one-passive' && index === b;
  const where = (node: number, nth: number) => (choices.transport ? outer(node, choices) : network(node, nth, choices));
  const selectors = Array.from(
    { length: choices.selectors },
    (_, nth) =>
      `selector ${selectorName(a, b, nth)} { direction both; src "${where(index, nth)}"; dst "${where(peer, nth)}"; policy_index p${peer}; };`,
  );
  const ends = choices.transport ? '' : `my_sa_ipaddr "${outer(index, choices)}"; peers_sa_ipaddr "${outer(peer, choices)}";`;
  return `remote n${peer} { ikev2 {
      ${passive ? 'passive on;' : ''}
      peers_ipaddr ${choices.movers === 'none' || choices.atHomeOnly ? `"${outer(peer, choices)}"` : 'IP_RW'};
      my_id fqdn n${index}.example;
      peers_id fqdn n${peer}.example;
    }; };
    ${selectors.join('\n')}
    policy p${peer} {
      remote_index n${peer};
      ipsec_index esp;
      ipsec_mode ${choices.transport ? 'transport' : 'tunnel'};
      ipsec_level unique;
      ${ends}
      initiate ${starts ? 'start' : 'demand'};
    };`;
}
