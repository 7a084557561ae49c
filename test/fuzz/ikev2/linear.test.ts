/** Reading takes time in proportion to the octets, whatever they are: no chain of payloads is worth more to an attacker than its length. */

import { describe, expect, test } from 'vitest';
import { sealedLadder } from '../../../iked/ikev2/ladder.ts';
import { EXCHANGE, readMessage, writeMessage } from '../../../iked/ikev2/message.ts';
import { PAYLOAD, type Payload } from '../../../iked/ikev2/payloads.ts';
import { checkRules } from '../../../iked/ikev2/rules.ts';
import { PeerError, WireError } from '../../../src/errors.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { SAMPLES } from '../../support/ikev2-samples.ts';
import { processorTime } from '../../support/processor-time.ts';

const head = { ...SAMPLES[0], exchange: EXCHANGE.IKE_SA_INIT };
const empty = new Uint8Array(0);
const address = IpAddress.parse('192.0.2.1')!;
const selector = { protocol: 0, startPort: 0, endPort: 65535, start: address, end: address };
const transforms = Array.from({ length: 255 }, () => ({ type: 'ENCR', id: 20, keyBits: 256 }) as const);

/** Milliseconds of processor time of the fastest of several runs of everything that is done before a sender is known. */
function cost(datagram: Uint8Array): number {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 7; i++) {
    const from = processorTime();
    try {
      const read = readMessage(datagram);
      sealedLadder(read);
      checkRules(EXCHANGE.IKE_SA_INIT, 'request', read.payloads);
    } catch (error) {
      if (!(error instanceof PeerError || error instanceof WireError)) throw error;
    }
    best = Math.min(best, processorTime() - from);
  }
  return best;
}

/** Messages of about `share` of 64 KiB, each of which repeats one thing. */
const CROWDS: Readonly<Record<string, (share: number) => Payload[]>> = {
  'unknown payloads': (share) =>
    Array.from({ length: 250 }, () => ({ type: 'unknown', number: 200, critical: false, body: new Uint8Array(240 * share) })),
  'proposals without transforms': (share) => [
    {
      type: 'SA',
      proposals: Array.from({ length: 8000 * share }, () => ({ number: 1, protocol: 'esp', spi: empty, transforms: [] })),
    },
  ],
  transforms: (share) => [
    {
      type: 'SA',
      proposals: Array.from({ length: 21 * share }, (_, i) => ({ number: i + 1, protocol: 'esp', spi: empty, transforms })),
    },
  ],
  SPIs: (share) => [{ type: 'Delete', protocol: 3, spis: Array.from({ length: 16_000 * share }, () => new Uint8Array(4)) }],
  'configuration attributes': (share) => [
    { type: 'CP', cfgType: 1, attributes: Array.from({ length: 16_000 * share }, () => ({ type: 1, value: empty })) },
  ],
  'traffic selectors': (share) =>
    Array.from({ length: 15 * share }, () => ({ type: 'TSi', selectors: Array.from({ length: 255 }, () => selector) })),
};

describe.each(Object.entries(CROWDS))('a datagram full of %s', (_name, payloads) => {
  test('costs in proportion to its length, and less than 100 ms', () => {
    const whole = cost(writeMessage({ ...head, payloads: payloads(1) }));
    const eighth = cost(writeMessage({ ...head, payloads: payloads(1 / 8) }));
    expect(whole).toBeLessThan(100);
    // Four times the proportion: the collector works where it likes. A quadratic reader needs 64 times as long, not 32.
    expect(whole).toBeLessThan(32 * Math.max(eighth, 0.5));
  });
});

test('a chain of 16,000 payloads is given up after 256', () => {
  const chain = new Uint8Array(65_504);
  chain.set(writeMessage({ ...head, payloads: [] }));
  chain[16] = PAYLOAD.VendorId;
  new DataView(chain.buffer).setUint32(24, chain.length);
  for (let at = 28; at < chain.length; at += 4) chain.set([PAYLOAD.VendorId, 0, 0, 4], at);
  expect(() => readMessage(chain)).toThrow(/more than 256 payloads/);
  expect(cost(chain)).toBeLessThan(50);
});

test('100 unknown payloads around SKF (CVE-2026-12413): kept, counted, and nothing is allocated for the fragment but its octets', () => {
  const payloads = Array.from({ length: 100 }, () => ({ type: 'unknown', number: 200, critical: false, body: empty }) as const);
  const clear = writeMessage({
    ...head,
    payloads: [...payloads, { type: 'unknown', number: PAYLOAD.SKF, critical: false, body: new Uint8Array(8) }],
  });
  const read = readMessage(clear);
  expect(read.payloads.length).toBe(100);
  expect(read.fragment).toEqual({ first: 0, body: new Uint8Array(8) });
  expect(sealedLadder(read)).toContain('SKF(8 octets)');
});
