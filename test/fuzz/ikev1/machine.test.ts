/** Mutated datagrams against a live iked in every state of Main Mode and Quick Mode: before authentication they ask the datapath for nothing and bring nothing up; after it they never escape as an exception. */

import { describe, expect, test } from 'vitest';
import { EXCHANGE, readMessage } from '../../../iked/ikev1/message.ts';
import { equal, u16be, u32be } from '../../../src/bytes/bytes.ts';
import { writeChain } from '../../../src/isakmp/chain.ts';
import { PROTOCOL } from '../../../src/isakmp/doi.ts';
import { majorVersion } from '../../../src/isakmp/header.ts';
import type { Payload } from '../../../src/isakmp/payloads.ts';
import { COUNT, LIMIT, MemoryBound } from '../../support/fuzz.ts';
import { type IkeNode, LAN_A, LAN_B, type PairOptions, pair } from '../../support/ike-pair.ts';
import { mutate, type Numbers, numbers } from '../../support/mutate.ts';
import { BUNDLE_SAS, bundleOffer, deletionOf, networkId, notifyOf, Stranger } from './stranger.ts';

/** Mutants of each state: all of them in the long run, an eighth in `npm test`, which there are eight states of. */
const EACH = COUNT >= 100_000 ? COUNT : COUNT / 4;
/** Of the last test, which has many states in one: enough that strangers authenticate, and make children. */
const MANY = Math.max(1000, Math.floor(COUNT / 3));
/** Half-open SAs that the tests' configuration allows, and the two that are established. */
const MOST_SAS = 102;

/** What a and b want of each other, with one SA or with all that can be bound together. */
const BUNDLES = {
  a: [{ local: LAN_A, peer: LAN_B, sas: BUNDLE_SAS }],
  b: [{ local: LAN_B, peer: LAN_A, sas: BUNDLE_SAS }],
};

function v1Pair(more: PairOptions = {}) {
  const ikev1 = { dpdDelay: 20_000, negotiationLimit: 30_000 };
  return pair({ ...more, a: { kmp: ['ikev1'], ikev1, ...more.a }, b: { kmp: ['ikev1'], ikev1, ...more.b } });
}

/** Everything about a node's SAs that does not change by itself. */
function snapshot(node: IkeNode): unknown {
  const established = node.status().ikeSas.filter(({ state }) => state === 'established');
  const still = established.map(({ ageMs, rekeyInMs, children, ...rest }) => ({
    ...rest,
    children: children.map(({ ageMs: age, rekeyInMs: rekey, expiresInMs, ...child }) => child),
  }));
  const { larval, sas, outbound, everInstalled } = node.datapath;
  return { still, larval: [...larval.keys()], sas: [...sas.keys()], outbound: [...outbound.keys()], everInstalled };
}

/** Bounds that hold whatever strangers send. */
function expectBounded(node: IkeNode): void {
  const { ikeSas, failures, counters } = node.status();
  expect(ikeSas.length).toBeLessThanOrEqual(MOST_SAS);
  expect(failures.length).toBeLessThanOrEqual(64);
  expect(Object.keys(counters).length).toBeLessThanOrEqual(64);
}

/** No fault, nothing asked of the datapath, and no event that a terminal would obey. */
function expectHarmless(outputs: Stranger['outputs']): void {
  for (const output of outputs) {
    expect(output.kind).not.toBe('pfkey');
    if (output.kind !== 'event') continue;
    expect(['fault', 'ike-sa-up', 'child-sa-up']).not.toContain(output.event.name);
    expect(output.event.message).not.toMatch(/[\x00-\x1f\x7f-\x9f]/);
  }
}

function forget(node: IkeNode, stranger?: Stranger): void {
  node.events.length = 0;
  node.net.flights.length = 0;
  if (stranger !== undefined) stranger.outputs.length = 0;
}

/** A node in some state, who stands in front of it, and what it awaits. */
interface Scene {
  readonly node: IkeNode;
  readonly stranger: Stranger;
  readonly next: Uint8Array;
}

const SCENES: Readonly<Record<string, (n: number, before: Scene | undefined) => Scene | undefined>> = {
  'awaiting-message-3': (n, before) => {
    const { node, stranger } = faced(n, before);
    return stranger.hello() ? { node, stranger, next: stranger.keyMessage() } : undefined;
  },
  'awaiting-message-5': (n, before) => {
    const { node, stranger } = faced(n, before);
    return stranger.hello() && stranger.agree() ? { node, stranger, next: stranger.sealedPhase1() } : undefined;
  },
  'awaiting-message-2': (n) => {
    const { node, stranger, message1 } = called(n);
    return { node, stranger, next: stranger.message2(message1) };
  },
  'awaiting-message-4': (n) => {
    const { node, stranger, message1 } = called(n);
    stranger.derive(stranger.send(stranger.message2(message1))[0]!);
    return { node, stranger, next: stranger.keyMessage() };
  },
  'awaiting-message-6': (n) => {
    const { node, stranger, message1 } = called(n);
    stranger.derive(stranger.send(stranger.message2(message1))[0]!);
    const [message5] = stranger.send(stranger.keyMessage());
    stranger.lastBlock = message5!.slice(-16);
    return { node, stranger, next: stranger.sealedPhase1() };
  },
};

/** Somebody new in front of a node that listens. */
function faced(n: number, before: Scene | undefined): { node: IkeNode; stranger: Stranger } {
  const node = before?.node ?? v1Pair().b;
  node.net.lose(() => true);
  if (node.machine.table.halfOpen > 90) node.net.run(31_000);
  return { node, stranger: new Stranger(node, n) };
}

/** Somebody in the place of the node that another one calls. */
function called(n: number, a: PairOptions['a'] = {}): { node: IkeNode; stranger: Stranger; message1: Uint8Array } {
  const { a: node, net } = v1Pair({ seed: n, a });
  net.lose(() => true);
  node.initiate();
  net.run(100);
  return { node, stranger: new Stranger(node, n, 'responder'), message1: net.flights[0]!.bytes };
}

describe.each(Object.entries(SCENES))('%s', (state, build) => {
  test(`mutants of what is awaited (${EACH})`, LIMIT, () => {
    const random = numbers(21);
    let scene: Scene | undefined;
    let scenes = 0;
    let stayed = 0;
    const memory = new MemoryBound(EACH);
    for (let i = 0; i < EACH; i++) {
      memory.mutant();
      if (scene?.stranger.sa?.state.name !== state) {
        scene = build(i, scene);
        scenes++;
      }
      const { node, stranger, next } = scene!;
      stranger.outputs.length = 0;
      const mutant = mutate(next, random);
      if (saysTheSame(mutant, next)) continue;
      const answers = stranger.send(mutant);
      expectHarmless(stranger.outputs);
      expect(answers.length).toBeLessThanOrEqual(1);
      expect(node.datapath.everInstalled).toBe(0);
      if (stranger.sa?.state.name === state) stayed++;
      forget(node, stranger);
      if (i % 200 === 199) {
        expectBounded(node);
        node.net.run(100);
      }
    }
    memory.end();
    expect(scenes).toBeGreaterThan(0);
    expect(stayed).toBeGreaterThan(EACH / 5);
  });

  test(`what a peer that has the key seals wrongly, and what belongs elsewhere (${EACH / 5})`, LIMIT, () => {
    const random = numbers(22);
    let scene: Scene | undefined;
    for (let i = 0; i < EACH / 5; i++) {
      if (scene?.stranger.sa?.state.name !== state) scene = build(50_000 + i, scene);
      const { node, stranger } = scene!;
      stranger.outputs.length = 0;
      stranger.send(elsewhere(stranger, random));
      expect(stranger.faults).toEqual([]);
      const up = stranger.sa?.established === true;
      // Only the whole proof brings it up: the text was changed where no HASH covers it, or not at all.
      if (up) expect(Buffer.from(stranger.sa!.peerId!.data).toString()).toBe(node.setting.peersId);
      else expect(node.datapath.everInstalled).toBe(0);
      if (up) scene = undefined;
      forget(node, stranger);
    }
  });
});

/** No HASH of IKEv1 covers flags and such of the header (RFC 2409 §5): with the octets behind it whole, the message proves what it did before. */
function saysTheSame(mutant: Uint8Array, original: Uint8Array): boolean {
  return equal(mutant.subarray(28), original.subarray(28));
}

/** A message of another state or exchange; once there are keys, sealed by them with a mutated text. */
function elsewhere(stranger: Stranger, random: Numbers): Uint8Array {
  const clear = [
    () => stranger.clear([notifyOf('INITIAL-CONTACT', stranger.cookies)], EXCHANGE.Informational, 7),
    () => stranger.clear([deletionOf(PROTOCOL.ISAKMP, stranger.cookies)], EXCHANGE.Informational, 8),
    () => stranger.clear([notifyOf('NO-PROPOSAL-CHOSEN')], EXCHANGE.Informational, 9),
    () => stranger.clear(stranger.quickMode1(), EXCHANGE['Quick Mode'], 10),
    () => stranger.clear(stranger.quickMode1(), EXCHANGE['Aggressive Mode']),
    () => stranger.keyMessage(),
  ];
  const sealed = [
    () => {
      const { first, octets } = writeChain([...stranger.proof(), notifyOf('INITIAL-CONTACT', stranger.cookies)]);
      return stranger.seal(EXCHANGE['Main Mode'], 0, first, mutate(octets, random), stranger.lastBlock);
    },
    () => stranger.hashed(EXCHANGE['Quick Mode'], stranger.quickMode1()),
    () => stranger.hashed(EXCHANGE.Informational, [deletionOf(PROTOCOL.ISAKMP, stranger.cookies)]),
  ];
  const kinds = stranger.keys === undefined ? clear : [...clear, ...sealed, ...sealed, ...sealed];
  const message = kinds[random(kinds.length)]!();
  return random(3) === 0 ? mutate(message, random) : message;
}

/** Both sides of everything that two nodes say: Main Mode twice, Quick Mode twice, DPD, DELETE. */
function conversation(bundle: boolean) {
  const made = v1Pair(bundle ? { a: { children: BUNDLES.a }, b: { children: BUNDLES.b } } : {});
  const { a, b, net } = made.established();
  net.run(60_000);
  for (const what of ['child', 'ike'] as const) {
    a.command({ verb: 'rekey', name: what === 'child' ? 'lan' : 'peer', what });
    net.run(20_000);
  }
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  return made;
}

describe.each([
  ['a', false],
  ['b', true],
] as const)('node %s of two that are established (a bundle: %s)', (which, bundle) => {
  test(`mutants of every message of a conversation (${EACH})`, LIMIT, () => {
    const { a, b, net } = conversation(bundle);
    const [node, other] = which === 'a' ? [a, b] : [b, a];
    const recorded = net.flights.filter(({ from }) => from === other).map(({ path, bytes }) => ({ path, bytes }));
    expect(recorded.length).toBeGreaterThan(8);
    const random = numbers(23);
    const before = snapshot(node);
    const memory = new MemoryBound(EACH);
    for (let i = 0; i < EACH; i++) {
      memory.mutant();
      const { path, bytes } = recorded[random(recorded.length)]!;
      const mutant = mutate(bytes, random);
      const arriving = { local: path.remote, remote: path.local, encapsulated: path.encapsulated };
      expectHarmless([...node.machine.handle({ kind: 'datagram', path: arriving, bytes: mutant }, net.now)]);
      if (i % 200 === 199) {
        expect(snapshot(node)).toEqual(before);
        expectBounded(node);
        net.run(500);
        forget(node);
        forget(other);
      }
    }
    memory.end();
    expect(snapshot(node)).toEqual(before);
    net.run(60_000);
    expect([...a.named('fault'), ...b.named('fault')]).toEqual([]);
    const { received } = b;
    a.packet(b);
    net.run(1_000);
    expect(b.received).toBe(received + 1);
    b.command({ verb: 'rekey', name: 'lan', what: 'child' });
    net.run(10_000);
    expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  });
});

test(`awaiting message 2 of Quick Mode: answers with a right HASH and a mutated inside (${EACH})`, LIMIT, () => {
  const random = numbers(24);
  let node: IkeNode | undefined;
  let stranger!: Stranger;
  let asked: Uint8Array | undefined;
  let installed = 0;
  for (let i = 0; i < EACH; i++) {
    if (node === undefined || asked === undefined || stranger.sa?.state.name !== 'established') {
      const met = called(i, random(2) === 0 ? {} : { children: BUNDLES.a });
      node = met.node;
      stranger = met.stranger;
      asked = stranger.admit(met.message1).at(-1)!;
    }
    const exact = random(10) > 0;
    const message2 = stranger.message2Of(asked, (payloads) => {
      const { first, octets } = writeChain(payloads);
      return { first, octets: mutate(octets, random) };
    });
    stranger.send(exact ? message2 : mutate(message2, random));
    expect(stranger.faults).toEqual([]);
    expect(node.datapath.larval.size).toBeLessThanOrEqual(6);
    const { quickModes } = stranger.sa!;
    if (![...quickModes.values()].some(({ step }) => step.name === 'awaiting-message-2')) {
      if (stranger.sa!.children.length > 0) installed++;
      asked = undefined;
    }
    forget(node, stranger);
  }
  expect(installed).toBeGreaterThan(0);
});

test(`${MANY} mutants of everything that an authenticated peer may say`, LIMIT, () => {
  const random = numbers(25);
  let authenticated = 0;
  let children = 0;
  let node: IkeNode | undefined;
  let stranger: Stranger | undefined;
  const memory = new MemoryBound(MANY);
  for (let i = 0; i < MANY; i++) {
    memory.mutant();
    if (node === undefined || i % 500 === 0) {
      const children = [
        { local: LAN_B, peer: LAN_A },
        { name: 'bundle', local: '10.4.0.0/24', peer: '10.3.0.0/24', sas: BUNDLE_SAS },
      ];
      const ikev1 = { groups: ['ecp256', 'modp2048'] as const, proposalCheck: 'obey' as const };
      node = v1Pair({ seed: 1 + i, b: { children, ikev1 } }).b;
      node.net.lose(() => true);
      stranger = undefined;
    }
    if (stranger?.sa?.established !== true) {
      stranger = new Stranger(node, i);
      if (!stranger.open()) {
        stranger = undefined;
        node.net.run(60_000);
        continue;
      }
      authenticated++;
      if (stranger.createChild()) children++;
    }
    say(stranger, random, i);
    expect(stranger.faults).toEqual([]);
    expect(node.machine.table.size).toBeLessThanOrEqual(MOST_SAS);
    expect(node.datapath.larval.size).toBeLessThanOrEqual(16);
    // Twice the limit of children: a rekey finds room for the new beside each old one; three times, since they may be bundles.
    expect(node.datapath.sas.size).toBeLessThanOrEqual(603);
    const { sa } = stranger;
    if (sa !== undefined) expect(sa.quickModes.size).toBeLessThanOrEqual(256);
    forget(node, stranger);
    if (i % 50 === 49) node.net.run(1_000);
  }
  memory.end();
  expect(Math.min(authenticated, children)).toBeGreaterThan(1);
});

/** A sealed message whose text is mutated under a right HASH, mostly; now and then the sealed octets are, or a repetition comes. */
function say(stranger: Stranger, random: Numbers, i: number): void {
  const all = sayings(stranger, i);
  const [exchange, payloads] = all[random(all.length)]!;
  const { first, octets } = writeChain(payloads);
  const type = random(20) === 0 ? random(256) : first;
  const message = stranger.hashedOctets(exchange, type, random(4) === 0 ? octets : mutate(octets, random));
  const answers = stranger.send(random(10) === 0 ? mutate(message, random) : message);
  if (random(8) === 0) stranger.send(message);
  const { messageId } = readMessage(message).header;
  const answer = answers.find((bytes) => majorVersion(bytes) === 1 && readMessage(bytes).header.messageId === messageId);
  if (answer === undefined || exchange !== EXCHANGE['Quick Mode']) return;
  const chain = stranger.message3(message, answer);
  stranger.send(random(2) === 0 ? mutate(chain, random) : chain);
}

/** What an established peer may say. */
function sayings(stranger: Stranger, i: number): [number, Payload[]][] {
  const { cookies } = stranger;
  const quick = stranger.quickMode1(0x6000_0000 + i);
  const withKe = stranger.quickMode1(0x6100_0000 + i, [{ type: 'KE', data: stranger.share.publicValue }]);
  const nonce = quick.find(({ type }) => type === 'Nonce')!;
  const bundle = [bundleOffer(0x6200_0000 + 2 * i), nonce, networkId('10.3.0.0'), networkId('10.4.0.0')];
  return [
    [EXCHANGE['Quick Mode'], quick],
    [EXCHANGE['Quick Mode'], withKe],
    [EXCHANGE['Quick Mode'], bundle],
    [EXCHANGE['Quick Mode'], [bundleOffer(0x6300_0000 + 2 * i), ...quick.slice(1)]],
    [EXCHANGE['Quick Mode'], [...quick, notifyOf('RESPONDER-LIFETIME', cookies, u32be(0x80018001))]],
    [EXCHANGE['Quick Mode'], [...quick.filter(({ type }) => type !== 'ID'), networkId('10.9.0.0'), networkId('10.2.0.0')]],
    [EXCHANGE.Informational, [notifyOf('R-U-THERE', cookies, u32be(i))]],
    [EXCHANGE.Informational, [notifyOf('R-U-THERE-ACK', cookies, u32be(i)), notifyOf('NO-PROPOSAL-CHOSEN', u32be(7))]],
    [EXCHANGE.Informational, [deletionOf(PROTOCOL.ESP, u32be(0x5151_0001), u32be(7))]],
    [EXCHANGE.Informational, i % 16 === 0 ? [deletionOf(PROTOCOL.ISAKMP, cookies)] : [deletionOf(PROTOCOL.AH, u32be(9))]],
    [
      EXCHANGE.Informational,
      [deletionOf(PROTOCOL.AH, u32be(0x6200_0001 + 2 * (i - 1))), deletionOf(PROTOCOL.IPCOMP, u16be(0x100))],
    ],
    [EXCHANGE.Informational, [notifyOf('INITIAL-CONTACT', cookies)]],
  ].map(([exchange, payloads]) => [exchange, payloads] as [number, Payload[]]);
}
