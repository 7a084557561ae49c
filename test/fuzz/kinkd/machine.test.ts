/** Mutated messages into a running kinkd in every state: no fault, and no effect before they prove their sender. */

import { describe, expect, test } from 'vitest';
import { buildApReq } from '../../../kinkd/krb5/ap-exchange.ts';
import { decrypt, encrypt, KEY_USAGE } from '../../../kinkd/krb5/enctypes.ts';
import { readMessage, sealMessage, TYPE } from '../../../kinkd/message.ts';
import { find, type Payload } from '../../../kinkd/payloads.ts';
import { hex, utf8 } from '../../../src/bytes/bytes.ts';
import type { Path } from '../../../src/net/address.ts';
import { COUNT, LIMIT, MemoryBound } from '../../support/fuzz.ts';
import type { ChildSetting } from '../../support/ike-config.ts';
import { CBC, type KinkNode, kinkPair } from '../../support/kink-pair.ts';
import { mutate, type Numbers, numbers } from '../../support/mutate.ts';
import { seededRandom } from '../../support/random.ts';

/** Mutants of each state and kind: half of them in the long run, a twentieth in `npm test`, since there are many states. */
const EACH = COUNT >= 100_000 ? COUNT / 2 : COUNT / 20;

/** States of the node that is fuzzed, and the messages that belong in them. */
const STATES = [
  'idle',
  'awaiting REPLY',
  'awaiting REPLY after SKEW',
  'awaiting ACK',
  'established',
  'awaiting REPLY to DELETE',
  'awaiting REPLY to STATUS',
] as const;

/** SAs of a pair: one, or all that Quick Mode can bind together (RFC 2408 §4.2). */
const KINDS = {
  'one SA': CBC,
  'a bundle': [...CBC, { protocol: 'ah', encr: [], auth: ['hmac_sha2_256'] }, { protocol: 'ipcomp', encr: [], auth: [] }],
} as const satisfies Record<string, ChildSetting['sas']>;

function nodeIn(
  state: (typeof STATES)[number],
  kind: keyof typeof KINDS,
): {
  node: KinkNode;
  other: KinkNode;
  corpus: { path: Path; bytes: Uint8Array }[];
} {
  const child = (local: string, peer: string) => [{ local, peer, policy: { mode: 'transport' as const }, sas: KINDS[kind] }];
  const { a, b, net } = kinkPair({
    a: { children: child('192.0.2.1', '192.0.2.2') },
    b: { children: child('192.0.2.2', '192.0.2.1'), kink: { responderNonce: 'always' } },
  });
  const seen = () => net.flights.filter(({ from }) => from !== node);
  let node = b;
  if (state === 'idle') {
    net.lose(() => true);
    a.initiate();
    net.run(100);
  } else if (state === 'awaiting REPLY') {
    node = a;
    net.lose(({ bytes }) => bytes[0] === TYPE.REPLY);
    a.initiate();
    net.run(100);
  } else if (state === 'awaiting REPLY after SKEW') {
    node = a;
    b.wallOffsetMs = 3_600_000;
    let replies = 0;
    net.lose(({ bytes }) => bytes[0] === TYPE.REPLY && ++replies > 1);
    a.initiate();
    net.run(200);
    expect(a.named('clock-adjusted').length).toBe(1);
  } else if (state === 'awaiting REPLY to DELETE' || state === 'awaiting REPLY to STATUS') {
    node = a;
    a.initiate();
    net.run(1_000);
    net.lose(({ bytes }) => bytes[0] === TYPE.REPLY);
    if (state === 'awaiting REPLY to DELETE') a.command({ verb: 'terminate', name: 'peer' });
    const asks = state === 'awaiting REPLY to DELETE' ? TYPE.DELETE : TYPE.STATUS;
    const asked = () => net.flights.some(({ from, bytes }) => from === a && bytes[0] === asks);
    expect(net.until(asked, 200_000)).toBe(true);
    net.run(100);
  } else if (state === 'awaiting ACK') {
    net.lose(({ bytes }) => bytes[0] === TYPE.ACK);
    a.initiate();
    net.run(100);
  } else {
    a.initiate();
    net.run(1_000);
    net.lose(() => true);
    a.command({ verb: 'terminate', name: 'peer' });
    net.run(100);
  }
  return { node, other: node === a ? b : a, corpus: seen().map(({ path, bytes }) => ({ path, bytes })) };
}

/** What a message that proves nothing may cause: events without a fault and without an octet that a terminal obeys, and a few replies. */
function expectHarmless(node: KinkNode, path: Path, bytes: Uint8Array): number {
  const arriving = { local: path.remote, remote: path.local, encapsulated: false };
  let replies = 0;
  for (const output of node.machine.handle({ kind: 'datagram', path: arriving, bytes }, node.now)) {
    if (output.kind === 'send') replies++;
    else if (output.kind === 'event') {
      expect(output.event.name).not.toBe('fault');
      expect(output.event.message).not.toMatch(/[\x00-\x1f\x7f-\x9f]/);
    } else expect(output.kind).toBe('nothing of the datapath, of tickets, of the disk');
  }
  return replies;
}

/** All that an unauthenticated message must leave alone. */
function fingerprint(node: KinkNode): string {
  const { peers, replayCache } = node.status();
  const { everInstalled, sas, outbound, larval } = node.datapath;
  const known = peers.map(({ epoch, outstanding, children }) => [
    epoch,
    outstanding,
    children.map(({ spiIn, state }) => [spiIn, state]),
  ]);
  return JSON.stringify([
    known,
    replayCache.size,
    everInstalled,
    [...sas.keys()],
    [...outbound.keys()],
    larval.size,
    hex(node.disk!),
  ]);
}

const SCENES = STATES.flatMap((state) => (['one SA', 'a bundle'] as const).map((kind) => [state, kind] as const));

describe.each(SCENES)('a node that is %s, with %s', (state, kind) => {
  test(`mutants that prove nothing (${EACH})`, LIMIT, () => {
    const random = numbers(11);
    const { node, corpus } = nodeIn(state, kind);
    const before = fingerprint(node);
    let replies = 0;
    const memory = new MemoryBound(EACH);
    for (let i = 0; i < EACH; i++) {
      memory.mutant();
      const { path, bytes } = corpus[i % corpus.length]!;
      const mutant = mutate(bytes, random);
      if (provesSomething(mutant, bytes)) continue;
      replies += expectHarmless(node, path, mutant);
    }
    memory.end();
    // The clock stands still: one second's complaints at most.
    expect(replies).toBeLessThanOrEqual(20);
    expect(fingerprint(node)).toBe(before);
  });

  test(`authentic messages with a mutated inside (${EACH / 5})`, LIMIT, () => {
    const random = numbers(12);
    const { node, other, corpus } = nodeIn(state, kind);
    for (let i = 0; i < EACH / 5; i++) {
      const { path, bytes } = corpus[i % corpus.length]!;
      node.hear(path, insane(bytes, other, node, random, i));
      node.net.run(20);
      expect(node.named('fault')).toEqual([]);
      node.events.length = Math.min(node.events.length, 64);
      node.net.flights.length = Math.min(node.net.flights.length, 64);
    }
    node.net.heal();
    node.net.run(200_000);
    expect(node.named('fault')).toEqual([]);
    expect(node.datapath.larval.size).toBe(0);
  });
});

/** The mutation touched nothing that Cksum covers: what follows the message. */
function provesSomething(mutant: Uint8Array, original: Uint8Array): boolean {
  const [start, length] = [mutant.slice(0, original.length), original.length];
  return mutant.length >= length && hex(start) === hex(original);
}

/** The message again with a fresh authenticator and another XID, and whatever its KINK_ENCRYPT becomes by chance. */
function insane(bytes: Uint8Array, from: KinkNode, to: KinkNode, random: Numbers, n: number): Uint8Array {
  const read = readMessage(bytes);
  const credential =
    [...from.tickets.values(), ...to.tickets.values()].find((ticket) => opens(read.payloads, ticket.key)) ??
    [...from.tickets.values()][0]!;
  const { key } = credential;
  const noise = seededRandom(n);
  const payloads = read.payloads.map((payload): Payload => {
    if (payload.type === 'AP_REQ') {
      const wall = from.now.wall;
      const time = { ctime: Math.floor(wall / 1000), cusec: n % 1_000_000 };
      return {
        ...payload,
        EPOCH: random(20) === 0 ? random(2 ** 31) : payload.EPOCH,
        apReq: buildApReq(credential, time, noise),
      };
    }
    if (payload.type !== 'ENCRYPT') return payload;
    const plaintext = decrypt(key, KEY_USAGE.KINK_ENCRYPT, payload.ciphertext) ?? utf8('nothing');
    return { type: 'ENCRYPT', ciphertext: encrypt(key, KEY_USAGE.KINK_ENCRYPT, mutate(plaintext, random), noise) };
  });
  const XID = read.messageType === TYPE.REPLY || read.messageType === TYPE.ACK ? read.XID : random(4) === 0 ? read.XID : n;
  const messageType = random(10) === 0 ? random(8) : read.messageType;
  return sealMessage({ ...read, messageType, XID, payloads }, key);
}

function opens(payloads: readonly Payload[], key: Parameters<typeof decrypt>[0]): boolean {
  const sealed = find(payloads, 'ENCRYPT');
  return sealed !== undefined && decrypt(key, KEY_USAGE.KINK_ENCRYPT, sealed.ciphertext) !== undefined;
}
