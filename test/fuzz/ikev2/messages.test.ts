/** Mutated IKEv2 messages: only the errors of the house, linear time, and nothing that was not authenticated is ever opened. */

import { describe, expect, test } from 'vitest';
import { ladder, sealedLadder } from '../../../iked/ikev2/ladder.ts';
import { openMessage, readMessage, type SealKeys, sealMessage, writeMessage } from '../../../iked/ikev2/message.ts';
import { explainNotify, findError } from '../../../iked/ikev2/notify.ts';
import { payloadBody, readPayload } from '../../../iked/ikev2/payloads.ts';
import { checkRules } from '../../../iked/ikev2/rules.ts';
import { equal, hex } from '../../../src/bytes/bytes.ts';
import { AuthError, PeerError, WireError } from '../../../src/errors.ts';
import { dump } from '../../../src/wire/dump.ts';
import { Reader } from '../../../src/wire/reader.ts';
import { CAPTURES_REASON, haveCaptures, IKEV2_CAPTURES, loadCapture } from '../../support/captures.ts';
import { COUNT, LIMIT, MemoryBound } from '../../support/fuzz.ts';
import { SAMPLES, SEAL_KEYS, sampleDatagrams } from '../../support/ikev2-samples.ts';
import { mutate, numbers } from '../../support/mutate.ts';

const OURS = [WireError, PeerError, AuthError];

/** Everything that is done with a datagram before its sender is known. Tells how far it came. */
function attempt(datagram: Uint8Array, keys: SealKeys): 'refused' | 'read' | 'opened' {
  try {
    const read = readMessage(datagram);
    sealedLadder(read);
    dump(read);
    if (read.sealed === undefined) {
      const message = { ...read.header, payloads: read.payloads };
      if (read.fragment === undefined && !equal(writeMessage(message), datagram))
        throw new Error(`not written again as it came: ${hex(datagram)}`);
      ladder(message);
      const refusal = findError(read.payloads);
      if (refusal !== undefined) explainNotify(refusal, 'something');
      checkRules(read.header.exchange, read.header.response ? 'response' : 'request', read.payloads);
      return 'read';
    }
    const message = openMessage(read.sealed, keys);
    checkRules(message.exchange, message.response ? 'response' : 'request', message.payloads);
    return 'opened';
  } catch (error) {
    if (!OURS.some((kind) => error instanceof kind)) throw error;
    return 'refused';
  }
}

describe('mutations', () => {
  test(`of our own messages (${COUNT})`, LIMIT, () => {
    const random = numbers(1);
    const corpus = sampleDatagrams();
    const seen = { refused: 0, read: 0, opened: 0 };
    const memory = new MemoryBound();
    for (let i = 0; i < COUNT; i++) {
      memory.mutant();
      const original = corpus[i % corpus.length]!;
      const mutant = mutate(original, random);
      const how = attempt(mutant, SEAL_KEYS[0]!);
      seen[how] += 1;
      if (how === 'opened') expect(equal(mutant, original)).toBe(true);
    }
    memory.end();
    expect(seen.refused).toBeGreaterThan(COUNT / 4);
    expect(seen.read).toBeGreaterThan(0);
  });

  test.skipIf(!haveCaptures)(`of captured messages (${COUNT})${CAPTURES_REASON}`, LIMIT, () => {
    const random = numbers(2);
    const corpus = IKEV2_CAPTURES.flatMap((name) => loadCapture(name).packets.filter((packet) => packet.kind === 'ike')).map(
      ({ bytes }) => bytes,
    );
    const seen = { refused: 0, read: 0, opened: 0 };
    const memory = new MemoryBound();
    for (let i = 0; i < COUNT; i++) {
      memory.mutant();
      seen[attempt(mutate(corpus[i % corpus.length]!, random), SEAL_KEYS[0]!)] += 1;
    }
    memory.end();
    expect(seen.opened).toBe(0);
    expect(seen.read).toBeGreaterThan(0);
  });

  test(`of what is inside of an authentic message (${COUNT})`, LIMIT, () => {
    const random = numbers(3);
    const keys = SEAL_KEYS[2]!;
    const [encr, integ, iv] = [keys.encr.reveal(), keys.integ.reveal(), new Uint8Array(keys.cipher.ivBytes)];
    const corpus = SAMPLES.slice(1).map((message) => {
      const sealed = readMessage(sealMessage(message, keys, iv, new Uint8Array(3))).sealed!;
      return { sealed, text: keys.cipher.open(encr, integ, sealed.aad, sealed.body)! };
    });
    const seen = { refused: 0, opened: 0 };
    const memory = new MemoryBound();
    for (let i = 0; i < COUNT; i++) {
      memory.mutant();
      const { sealed, text } = corpus[i % corpus.length]!;
      const body = keys.cipher.seal(encr, integ, iv, sealed.aad, mutate(text, random));
      try {
        const opened = openMessage({ ...sealed, body }, keys);
        ladder(opened);
        checkRules(opened.exchange, 'request', opened.payloads);
        seen.opened += 1;
      } catch (error) {
        if (!(error instanceof WireError || error instanceof PeerError)) throw error;
        seen.refused += 1;
      }
    }
    memory.end();
    expect(seen.opened).toBeGreaterThan(COUNT / 50);
    expect(seen.refused).toBeGreaterThan(COUNT / 10);
  });

  test(`random octets as the body of every payload type (${COUNT})`, LIMIT, () => {
    const random = numbers(4);
    const seen = { refused: 0, read: 0 };
    const memory = new MemoryBound();
    for (let i = 0; i < COUNT; i++) {
      memory.mutant();
      const body = Uint8Array.from({ length: random(40) }, () => (random(3) === 0 ? random(256) : random(5)));
      try {
        expect(payloadBody(readPayload(i % 256, random(2) === 0, new Reader(body)))).toEqual(body);
        seen.read += 1;
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        seen.refused += 1;
      }
    }
    memory.end();
    expect(Math.min(seen.read, seen.refused)).toBeGreaterThan(COUNT / 100);
  });
});
