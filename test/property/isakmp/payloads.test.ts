/** Whatever can be said in ISAKMP payloads survives being written and read, and every reading of octets can be written back. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hex } from '../../../src/bytes/bytes.ts';
import { WireError } from '../../../src/errors.ts';
import { selectorOf } from '../../../src/ipsec/selector.ts';
import { readPayloads, writeChain } from '../../../src/isakmp/chain.ts';
import { idOf, selectorOfId } from '../../../src/isakmp/client-ids.ts';
import { type Payload, payloadBody, payloadNumber, readPayload } from '../../../src/isakmp/payloads.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { Reader } from '../../../src/wire/reader.ts';
import { PAYLOADS } from '../../support/ikev1-samples.ts';

const arbitraries = Object.entries(PAYLOADS) as [string, fc.Arbitrary<Payload>][];
const read = (payload: Payload, body: Uint8Array) => readPayload(payloadNumber(payload), new Reader(body));

describe.each(arbitraries)('%s', (_name, arbitrary) => {
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

test('a chain without a header is read as it was written', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(...arbitraries.map(([, arbitrary]) => arbitrary)), { maxLength: 8 }), (payloads) => {
      const { first, octets } = writeChain(payloads);
      expect(readPayloads(octets, first)).toEqual(payloads);
    }),
  );
});

test('every selector with one port or any survives as an ID payload', () => {
  const address = fc.oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }));
  fc.assert(
    fc.property(address, fc.nat(128), fc.nat(), fc.nat(255), fc.nat(65_535), (octets, length, more, protocol, port) => {
      const prefix = { address: IpAddress.of(octets), length: length % (octets.length * 8 + 1) };
      const base = selectorOf(prefix, protocol, port === 0 ? undefined : { startPort: port, endPort: port });
      const last = base.end.bytes.slice();
      last[last.length - 1]! = Math.max(base.start.bytes.at(-1)!, more & 0xff);
      const range = { ...base, end: IpAddress.of(last) };
      for (const selector of [base, range.end.compare(range.start) < 0 ? base : range])
        expect(selectorOfId(idOf(selector))).toEqual(selector);
    }),
  );
});
