/** Whatever can be said in IKEv2 payloads survives being written and read, and every reading of octets can be written back. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { openMessage, readMessage, sealMessage, writeMessage } from '../../../iked/ikev2/message.ts';
import { PAYLOAD, type Payload, payloadBody, payloadNumber, readPayload } from '../../../iked/ikev2/payloads.ts';
import { hex } from '../../../src/bytes/bytes.ts';
import { WireError } from '../../../src/errors.ts';
import { Reader } from '../../../src/wire/reader.ts';
import { header, PAYLOADS, payloads, SEAL_KEYS } from '../../support/ikev2-samples.ts';

const read = (payload: Payload, body: Uint8Array) =>
  readPayload(payloadNumber(payload), payload.critical ?? false, new Reader(body));

describe.each(Object.entries(PAYLOADS))('%s', (_name, arbitrary) => {
  test('is read as it was written', () => {
    fc.assert(
      fc.property(arbitrary, (payload) => {
        expect(read(payload, payloadBody(payload))).toEqual(payload);
      }),
    );
  });

  test('of which any octet was changed is refused, or can be written again to the very octets', () => {
    let accepted = 0;
    fc.assert(
      fc.property(arbitrary, fc.nat(), fc.integer({ min: 1, max: 255 }), (payload, where, change) => {
        const body = payloadBody(payload).slice();
        if (body.length > 0) body[where % body.length]! ^= change;
        try {
          expect(hex(payloadBody(read(payload, body)))).toBe(hex(body));
          accepted += 1;
        } catch (error) {
          if (!(error instanceof WireError)) throw error;
        }
      }),
    );
    expect(accepted).toBeGreaterThan(0);
  });
});

test('a message in the clear is read as it was written', () => {
  fc.assert(
    fc.property(header, payloads, (head, held) => {
      const again = readMessage(writeMessage({ ...head, payloads: held }));
      expect(again).toEqual({ header: head, payloads: held });
    }),
  );
});

test('a sealed message is opened as it was sealed, and seals again to the same octets', () => {
  fc.assert(
    fc.property(
      header,
      payloads,
      fc.array(PAYLOADS.VendorId, { maxLength: 2 }),
      fc.constantFrom(...SEAL_KEYS),
      fc.nat(8),
      (head, held, outer, keys, blocks) => {
        const message = { ...head, payloads: held, ...(outer.length === 0 ? {} : { outer }) };
        const iv = new Uint8Array(keys.cipher.ivBytes).fill(3);
        const shortest = openMessage(readMessage(sealMessage(message, keys, iv)).sealed!, keys).padding;
        expect(shortest.length).toBeLessThan(keys.cipher.blockBytes);
        const padding = new Uint8Array(shortest.length + blocks * keys.cipher.blockBytes).fill(0xaa);
        const sealed = sealMessage(message, keys, () => iv, padding);
        const opened = openMessage(readMessage(sealed).sealed!, keys);
        expect(opened).toEqual({ ...message, iv, padding });
        expect(hex(sealMessage(opened, keys, opened.iv, opened.padding))).toBe(hex(sealed));
      },
    ),
  );
});

test('the number of every payload type leads back to the type', () => {
  for (const [name, arbitrary] of Object.entries(PAYLOADS)) {
    if (name === 'unknown') continue;
    const [payload] = fc.sample(arbitrary, 1);
    expect(PAYLOAD[name as keyof typeof PAYLOAD]).toBe(payloadNumber(payload!));
  }
});
