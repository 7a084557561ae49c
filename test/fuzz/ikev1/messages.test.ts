/** Mutated IKEv1 messages: only the errors of the house, whether they are read, decrypted, checked, negotiated about or drawn. */

import { describe, expect, test } from 'vitest';
import { ladder, sealedLadder } from '../../../iked/ikev1/ladder.ts';
import { openMessage, readMessage, sealMessage, writeMessage } from '../../../iked/ikev1/message.ts';
import { choosePhase1, concludePhase1 } from '../../../iked/ikev1/phase-1-proposals.ts';
import { checkRules, type MessageName, RULES } from '../../../iked/ikev1/rules.ts';
import { equal, hex } from '../../../src/bytes/bytes.ts';
import { PeerError, WireError } from '../../../src/errors.ts';
import { clientSelectors } from '../../../src/isakmp/client-ids.ts';
import { all, type Payload } from '../../../src/isakmp/payloads.ts';
import { chooseOffer, concludeOffer, withResponderLifetime } from '../../../src/isakmp/quick-mode.ts';
import type { Terms } from '../../../src/isakmp/terms.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { COUNT, LIMIT, MemoryBound } from '../../support/fuzz.ts';
import { CIPHER, IV, SAMPLES, sampleDatagrams } from '../../support/ikev1-samples.ts';
import { mutate, numbers } from '../../support/mutate.ts';

const PHASE_1 = {
  encr: [{ name: 'aes_cbc', keyBits: 256 }],
  hash: ['hmac_sha1'],
  groups: ['modp2048'],
  seconds: 3600,
  check: 'obey',
} as const;
const TERMS: Terms = {
  alternatives: [
    {
      sas: [{ protocol: 'esp', encr: [{ name: 'aes_cbc', keyBits: 256 }], auth: ['hmac_sha1'] }],
      lifetime: { seconds: 3600, bytes: 0, packets: 0 },
    },
    {
      sas: [
        { protocol: 'ipcomp', encr: [], auth: [] },
        { protocol: 'esp', encr: [{ name: 'aes_cbc', keyBits: 128 }], auth: ['hmac_sha1'] },
        { protocol: 'ah', encr: [], auth: ['hmac_sha2_256'] },
      ],
      lifetime: { seconds: 3600, bytes: 0, packets: 0 },
    },
  ],
  mode: 'tunnel',
  encapsulated: true,
  group: 'modp2048',
  check: 'obey',
};
const HOST = IpAddress.parse('192.0.2.1')!;

/** Runs `step`; an error of the house is a refusal, any other escapes. */
function within(step: () => unknown): boolean {
  try {
    step();
    return true;
  } catch (error) {
    if (error instanceof WireError || error instanceof PeerError) return false;
    throw error;
  }
}

/** Everything that is done with payloads. */
function judge(payloads: readonly Payload[], encrypted: boolean): void {
  for (const name of Object.keys(RULES)) within(() => checkRules(name as MessageName, encrypted, payloads));
  for (const offer of all(payloads, 'SA')) {
    within(() => choosePhase1(PHASE_1, offer));
    within(() => concludePhase1(PHASE_1, offer));
    within(() => withResponderLifetime(chooseOffer(TERMS, offer), payloads));
    within(() => concludeOffer(TERMS, offer));
  }
  within(() => clientSelectors(payloads, HOST, HOST));
}

describe('mutations', () => {
  test(`of our own messages as they lie on the wire (${COUNT})`, LIMIT, () => {
    const random = numbers(11);
    const corpus = sampleDatagrams();
    const seen = { refused: 0, read: 0, opened: 0 };
    const memory = new MemoryBound();
    for (let i = 0; i < COUNT; i++) {
      memory.mutant();
      const mutant = mutate(corpus[i % corpus.length]!, random);
      let how: keyof typeof seen = 'refused';
      within(() => {
        const read = readMessage(mutant);
        sealedLadder(read, true);
        how = 'read';
        if (!read.header.encrypted) {
          const message = { ...read.header, payloads: read.payloads };
          if (!equal(writeMessage(message), mutant)) throw new Error(`not written again as it came: ${hex(mutant)}`);
          judge(read.payloads, false);
          return;
        }
        const opened = openMessage(read, CIPHER, IV);
        how = 'opened';
        ladder(opened, true);
        judge(opened.payloads, true);
        const again = sealMessage(opened, CIPHER, IV, opened.padding).bytes;
        if (!equal(again, mutant)) throw new Error(`not sealed again as it came: ${hex(mutant)}`);
      });
      seen[how] += 1;
    }
    memory.end();
    expect(Math.min(seen.refused, seen.read, seen.opened)).toBeGreaterThan(COUNT / 100);
  });

  test(`of what is inside the encryption (${COUNT})`, LIMIT, () => {
    const random = numbers(12);
    const sealed = SAMPLES.filter(({ encrypted }) => encrypted).map((message) => ({
      message,
      text: writeMessage({ ...message, encrypted: false }).slice(28),
    }));
    let opened = 0;
    for (let i = 0; i < COUNT; i++) {
      const { message, text } = sealed[i % sealed.length]!;
      const mutant = mutate(text, random);
      const padded = new Uint8Array(Math.max(16, Math.ceil(mutant.length / 16) * 16));
      padded.set(mutant);
      const datagram = sealMessage({ ...message, payloads: [] }, CIPHER, IV, padded).bytes;
      datagram[16] = writeMessage({ ...message, encrypted: false })[16]!;
      if (
        within(() => {
          const read = openMessage(readMessage(datagram), CIPHER, IV);
          ladder(read, false);
          judge(read.payloads, true);
        })
      )
        opened += 1;
    }
    expect(opened).toBeGreaterThan(COUNT / 10);
  });
});
