/** A packet as long as the device's MTU, protected by the engine under every suite, fits the link with all that is around it. */
import { describe, expect, test } from 'vitest';
import type { EspSuite } from '../../../src/crypto/packet-cipher.ts';
import { ENCR, ENCR_NAMES, type EncrRow, INTEG, INTEG_NAMES } from '../../../src/crypto/transforms.ts';
import { deviceMtu, LEAST_MTU } from '../../../src/datapath-process/mtu.ts';
import { NOW, Node, pair, saOf, udpPacket } from '../datapath/pair.ts';

const LINK = 1500;
const OUTER = { 4: 20, 6: 40 } as const;
const UDP = 8;

const node = new Node();
const suites = ENCR_NAMES.flatMap((encr): EspSuite[] => {
  const { bits, icv }: EncrRow = ENCR[encr];
  const lengths = bits.length === 0 ? [0] : bits;
  const integs = INTEG_NAMES.filter((name) => INTEG[name].esp);
  return lengths.flatMap((keyBits) => (icv > 0 ? ['none' as const] : integs).map((integ) => ({ encr, keyBits, integ })));
}).filter((suite) => node.engine.supports(suite));

/** Octets on the link of one packet of `inner` octets in tunnel mode. */
function onLink(suite: EspSuite, inner: number, family: 4 | 6, encapsulated: boolean): number {
  const { a } = pair(saOf({ suite }));
  const [wire, ...more] = a.protect([udpPacket(new Uint8Array(inner - 28))], NOW);
  expect(more).toEqual([]);
  return OUTER[family] + (encapsulated ? UDP : 0) + wire!.bytes.length;
}

describe(`on a link of ${LINK} octets`, () => {
  test.each(suites)('$encr $keyBits $integ fits, over IPv4 and IPv6, in UDP and raw', (suite) => {
    const inner = deviceMtu(LINK);
    for (const family of [4, 6] as const)
      for (const encapsulated of [false, true]) expect(onLink(suite, inner, family, encapsulated)).toBeLessThanOrEqual(LINK);
  });

  test('and no octet more would do for the longest of them', () => {
    const longest = Math.max(...suites.map((suite) => onLink(suite, deviceMtu(LINK) + 1, 6, true)));
    expect(longest).toBeGreaterThan(LINK);
    expect(suites.length).toBeGreaterThan(20);
  });
});

test.each([
  [1500, 1390],
  [1492, 1374],
  [9000, 8894],
  [1400, 1294],
  [1300, LEAST_MTU],
])('a link of %i octets: %i', (link, mtu) => expect(deviceMtu(link)).toBe(mtu));
