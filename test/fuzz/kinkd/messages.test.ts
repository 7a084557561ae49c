/** Mutated KINK messages: only the errors of the house, and nothing that was not authenticated is ever opened. */

import { describe, expect, test } from 'vitest';
import { decrypt, encrypt, KEY_USAGE } from '../../../kinkd/krb5/enctypes.ts';
import { ladder } from '../../../kinkd/ladder.ts';
import { openEncrypt, readMessage, sealMessage, verifyCksum, writeMessage } from '../../../kinkd/message.ts';
import { all, find, type Payload, payloadBody, readPayload } from '../../../kinkd/payloads.ts';
import { checkRules, QUICK_RULES, readQuick, refuseOuter } from '../../../kinkd/rules.ts';
import { equal } from '../../../src/bytes/bytes.ts';
import { AuthError, PeerError, WireError } from '../../../src/errors.ts';
import { dump } from '../../../src/wire/dump.ts';
import { Reader } from '../../../src/wire/reader.ts';
import { CAPTURES_REASON, haveCaptures, loadKinkCapture } from '../../support/captures.ts';
import { COUNT, LIMIT, MemoryBound } from '../../support/fuzz.ts';
import { isakmpSample, QUICK_SAMPLES, sampleDatagrams, sessionKey } from '../../support/kink-samples.ts';
import { mutate, numbers } from '../../support/mutate.ts';
import { seededRandom } from '../../support/random.ts';

const OURS = [WireError, PeerError, AuthError];
const key = sessionKey();

/** Everything that is done with a datagram before its sender is known, and then. Tells how far it came. */
function attempt(datagram: Uint8Array): 'refused' | 'read' | 'opened' {
  try {
    const read = readMessage(datagram);
    ladder(read);
    dump(read);
    if (refuseOuter(read.messageType, read.payloads, read.sealed !== undefined) !== undefined) return 'refused';
    if (read.sealed === undefined) {
      checkRules(read.messageType, read.payloads, []);
      return 'read';
    }
    verifyCksum(read, key);
    const sealed = find(read.payloads, 'ENCRYPT');
    const inner = sealed === undefined ? [] : openEncrypt(sealed, key);
    ladder(read, inner);
    checkRules(read.messageType, read.payloads, inner);
    return 'opened';
  } catch (error) {
    if (!OURS.some((kind) => error instanceof kind)) throw error;
    return 'refused';
  }
}

/** What follows the message is no part of it, and RESERVED octets that nobody covers mean nothing. */
function sameMessage(a: Uint8Array, b: Uint8Array): boolean {
  const [x, y] = [readMessage(a), readMessage(b)];
  return equal(x.sealed!.covered, y.sealed!.covered);
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
      const how = attempt(mutant);
      seen[how] += 1;
      if (how === 'opened') expect(sameMessage(mutant, original)).toBe(true);
    }
    memory.end();
    expect(seen.refused).toBeGreaterThan(COUNT / 4);
    expect(seen.read).toBeGreaterThan(0);
  });

  test.skipIf(!haveCaptures)(`of captured messages (${COUNT})${CAPTURES_REASON}`, LIMIT, () => {
    const random = numbers(2);
    const corpus = loadKinkCapture().packets.filter(({ kind }) => kind === 'kink');
    const seen = { refused: 0, read: 0, opened: 0 };
    for (let i = 0; i < COUNT; i++) seen[attempt(mutate(corpus[i % corpus.length]!.bytes, random))] += 1;
    expect(seen.opened).toBe(0);
    expect(seen.refused).toBeGreaterThan(COUNT / 2);
  });

  test(`of what is inside of KINK_ENCRYPT and KINK_ISAKMP (${COUNT})`, LIMIT, () => {
    const random = numbers(3);
    const confounder = seededRandom(6);
    const corpus = sampleDatagrams().flatMap((datagram) => {
      const sealed = find(readMessage(datagram).payloads, 'ENCRYPT');
      return sealed === undefined ? [] : [decrypt(key, KEY_USAGE.KINK_ENCRYPT, sealed.ciphertext)!];
    });
    const seen = { refused: 0, opened: 0 };
    const memory = new MemoryBound();
    for (let i = 0; i < COUNT; i++) {
      memory.mutant();
      const plaintext = mutate(corpus[i % corpus.length]!, random);
      const ciphertext = encrypt(key, KEY_USAGE.KINK_ENCRYPT, plaintext, confounder);
      try {
        const inner = openEncrypt({ type: 'ENCRYPT', ciphertext }, key);
        for (const command of Object.keys(QUICK_RULES) as (keyof typeof QUICK_RULES)[])
          for (const payload of all(inner, 'ISAKMP')) attemptQuick(payload, command);
        seen.opened += 1;
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        seen.refused += 1;
      }
    }
    memory.end();
    expect(Math.min(seen.opened, seen.refused)).toBeGreaterThan(COUNT / 50);
  });

  test(`of Quick Mode's payloads (${COUNT})`, LIMIT, () => {
    const random = numbers(4);
    const corpus = QUICK_SAMPLES.map(isakmpSample) as Extract<Payload, { type: 'ISAKMP' }>[];
    let taken = 0;
    for (let i = 0; i < COUNT; i++) {
      const { first, chain } = corpus[i % corpus.length]!;
      const payload = {
        type: 'ISAKMP',
        version: 0x10,
        first: random(8) === 0 ? random(256) : first,
        chain: mutate(chain, random),
      } as const;
      if (attemptQuick(payload, i % 2 === 0 ? 'CREATE' : 'DELETE')) taken += 1;
    }
    expect(taken).toBeGreaterThan(COUNT / 100);
  });

  test(`random octets as the body of every payload type (${COUNT})`, LIMIT, () => {
    const random = numbers(5);
    const seen = { refused: 0, read: 0 };
    for (let i = 0; i < COUNT; i++) {
      const body = Uint8Array.from({ length: random(40) }, () => (random(3) === 0 ? random(256) : random(5)));
      try {
        const payload = readPayload(i % 10, new Reader(body));
        if (payload.type !== 'ISAKMP' && payload.type !== 'TGT_REQ' && !equal(payloadBody(payload), body))
          throw new Error(`type ${i % 10}: not written again as it came`);
        seen.read += 1;
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        seen.refused += 1;
      }
    }
    expect(Math.min(seen.read, seen.refused)).toBeGreaterThan(COUNT / 200);
  });
});

function attemptQuick(payload: Extract<Payload, { type: 'ISAKMP' }>, command: keyof typeof QUICK_RULES): boolean {
  try {
    readQuick(payload, command, 'command');
    return true;
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    return false;
  }
}

test('messages are written again as they came, whatever their payloads', () => {
  for (const datagram of sampleDatagrams()) {
    const read = readMessage(datagram);
    expect(read.sealed === undefined ? writeMessage(read) : sealMessage(read, key)).toEqual(datagram);
  }
});
