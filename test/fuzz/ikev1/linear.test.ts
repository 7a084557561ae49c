/** What a stranger's first message costs grows with its octets and no faster, whatever it repeats: reading, drawing, choosing, answering. */

import { describe, expect, test } from 'vitest';
import { NONE, u16be, u32be } from '../../../src/bytes/bytes.ts';
import type { Payload } from '../../../src/isakmp/payloads.ts';
import { pair } from '../../support/ike-pair.ts';
import { processorTime } from '../../support/processor-time.ts';
import { deletionOf, phase1Offer, Stranger } from './stranger.ts';

/** A policy of every algorithm, which each transform is held against. */
const RICH = {
  encr: [128, 192, 256].map((keyBits) => ({ name: 'aes_cbc' as const, keyBits })),
  hash: ['hmac_sha1', 'hmac_sha2_256', 'hmac_sha2_384', 'hmac_sha2_512'],
  groups: ['modp2048', 'modp3072', 'modp4096', 'modp6144', 'modp8192', 'ecp256', 'ecp384', 'ecp521'],
} as const;

const { b: node, net } = pair({ a: { kmp: ['ikev1'] }, b: { kmp: ['ikev1'], ikev1: RICH } });
net.lose(() => true);
let seed = 0;

/** Milliseconds of processor time of the fastest of several times that the node hears a message 1 that it refuses. */
function cost(payloads: readonly Payload[]): number {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 7; i++) {
    const stranger = new Stranger(node, ++seed);
    const bytes = stranger.message1(payloads);
    expect(bytes.length).toBeLessThan(65_536);
    const from = processorTime();
    stranger.send(bytes);
    best = Math.min(best, processorTime() - from);
    expect(stranger.faults).toEqual([]);
    expect(node.machine.table.size).toBe(0);
    node.events.length = 0;
    net.run(1_000);
  }
  return best;
}

const offer = phase1Offer();
const [proposal] = offer.proposals;
/** Nearly right: it is refused by its method, after all else was looked at. */
const signatures = {
  ...proposal!.transforms[0]!,
  attributes: proposal!.transforms[0]!.attributes.map((one) => (one.type === 3 ? { ...one, value: u16be(3) } : one)),
};

/** Messages of about `share` of the most that a datagram holds, each of which repeats one thing. */
const CROWDS: Readonly<Record<string, (share: number) => Payload[]>> = {
  transforms: (share) => [
    { ...offer, proposals: [{ ...proposal!, transforms: Array.from({ length: Math.round(248 * share) }, () => signatures) }] },
  ],
  proposals: (share) => [
    { ...offer, proposals: Array.from({ length: 1_600 * share }, () => ({ ...proposal!, transforms: [signatures] })) },
  ],
  attributes: (share) => [
    {
      ...offer,
      proposals: [
        {
          ...proposal!,
          transforms: [
            {
              ...signatures,
              attributes: Array.from({ length: 16_000 * share }, (_, i) => ({ type: 100 + i, basic: true, value: u16be(1) })),
            },
          ],
        },
      ],
    },
  ],
  'unknown payloads': (share) => [
    { ...offer, proposals: [{ ...proposal!, transforms: [signatures] }] },
    ...Array.from({ length: 240 }, () => ({ type: 'unknown', number: 200, body: new Uint8Array(240 * share) }) as const),
  ],
  SPIs: (share) => [offer, deletionOf(3, ...Array.from({ length: 15_000 * share }, (_, i) => u32be(i)))],
  'octets of a long attribute': (share) => [
    {
      ...offer,
      proposals: [
        {
          ...proposal!,
          transforms: [
            { ...signatures, attributes: [{ type: 12, basic: false, value: new Uint8Array(64_000 * share).fill(0xff) }] },
          ],
        },
      ],
    },
  ],
  'vendor IDs': (share) => [
    { ...offer, proposals: [{ ...proposal!, transforms: [signatures] }] },
    ...Array.from({ length: 240 * share }, () => ({ type: 'VendorId', data: NONE }) as const),
  ],
};

describe.each(Object.entries(CROWDS))('a message 1 full of %s', (_name, payloads) => {
  test('costs in proportion to its length, and less than 100 ms', () => {
    const whole = cost(payloads(1));
    const eighth = cost(payloads(1 / 8));
    expect(whole).toBeLessThan(100);
    // Four times the proportion: the collector works where it likes. A quadratic reader needs 64 times as long, not 32.
    expect(whole).toBeLessThan(32 * Math.max(eighth, 0.5));
  });
});
