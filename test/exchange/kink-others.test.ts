/** What other implementations of RFC 4430 may send and we do not: CREATE without IDs (racoon2), several SA operations in one, unknown payloads. */

import { describe, expect, test } from 'vitest';
import { encrypted, openEncrypt, readMessage, sealMessage, TYPE } from '../../kinkd/message.ts';
import { find, type Payload } from '../../kinkd/payloads.ts';
import { u32be } from '../../src/bytes/bytes.ts';
import { readPayloads, writeChain } from '../../src/isakmp/chain.ts';
import type { Payload as QuickPayload } from '../../src/isakmp/payloads.ts';
import type { ChildSetting } from '../support/ike-config.ts';
import type { KinkSetting } from '../support/kink-config.ts';
import { CBC, type KinkNode, kinkPair } from '../support/kink-pair.ts';
import { seededRandom } from '../support/random.ts';

/** A CREATE of a's, changed on its way to b as its own sender could have made it. */
function altered(
  change: (quick: readonly QuickPayload[]) => readonly (readonly QuickPayload[])[],
  { more = [], b = {} }: { more?: readonly Payload[]; b?: Partial<KinkSetting> } = {},
): { a: KinkNode; b: KinkNode; net: ReturnType<typeof kinkPair>['net'] } {
  const made = kinkPair({ b });
  made.net.lose(() => true);
  made.a.initiate();
  made.net.run(100);
  const { path, bytes } = made.net.flights.find((flight) => flight.bytes[0] === TYPE.CREATE)!;
  const key = [...made.a.tickets.values()][0]!.key;
  const read = readMessage(bytes);
  const isakmp = find(openEncrypt(find(read.payloads, 'ENCRYPT')!, key), 'ISAKMP')!;
  const inner = change(readPayloads(isakmp.chain, isakmp.first)).map((payloads): Payload => {
    const { first, octets } = writeChain(payloads);
    return { type: 'ISAKMP', first, version: 0x10, chain: octets };
  });
  const sealed = encrypted([...inner, ...more], key, seededRandom(1));
  made.b.hear(path, sealMessage({ ...read, payloads: [read.payloads[0]!, sealed] }, key));
  made.net.run(100);
  return made;
}

const withoutIds = (quick: readonly QuickPayload[]) => [quick.filter(({ type }) => type !== 'ID')];
const selectorsOf = (node: KinkNode) => [...node.datapath.sas.values()].map(({ mode, selectors }) => `${mode} ${selectors}`);

describe('CREATE without IDs: the policies between the two hosts are meant (racoon2)', () => {
  test('in transport mode, with the policy that the two hosts have', () => {
    const children: readonly ChildSetting[] = [
      { name: 'elsewhere', local: '192.0.2.2', peer: '192.0.2.99', policy: { mode: 'transport' }, sas: CBC, reqid: 5 },
      { name: 'icmp', local: '192.0.2.2', peer: '192.0.2.1', protocol: 1, policy: { mode: 'transport' }, sas: CBC, reqid: 6 },
    ];
    const { b } = altered(withoutIds, { b: { children } });
    expect(b.ladder().at(-1)).toMatch(
      /<-- REPLY \{ AP_REP, ENCRYPT\{ ISAKMP\{ SA\(ESP \w+: AES_CBC_128\/HMAC_SHA2_256_128 transport\) \} \} \}/,
    );
    expect(selectorsOf(b)).toEqual(['transport 192.0.2.1-192.0.2.1/1/0-65535 > 192.0.2.2-192.0.2.2/1/0-65535']);
    expect([...b.datapath.outbound.values()].map(({ reqid }) => reqid)).toEqual([6]);
  });

  test('a policy between other hosts is not', () => {
    const children = [{ local: '192.0.2.2', peer: '192.0.2.99', policy: { mode: 'transport' as const }, sas: CBC }];
    const { b } = altered(withoutIds, { b: { children } });
    expect(b.ladder().at(-1)).toContain('N(PAYLOAD-MALFORMED)');
    expect(b.named('message-refused')[0]).toContain('(it sent no IDs)');
    expect(b.datapath.everInstalled).toBe(0);
  });
});

test('several SA operations in one CREATE get one KINK_ISAKMP each in the REPLY; all or nothing', () => {
  const twice = (second: number) => (quick: readonly QuickPayload[]) => [
    quick,
    quick.map((payload) =>
      payload.type === 'SA'
        ? { ...payload, received: undefined, proposals: payload.proposals.map((one) => ({ ...one, spi: u32be(second) })) }
        : payload,
    ) as readonly QuickPayload[],
  ];
  const { b } = altered(twice(0x7777));
  expect(
    b
      .ladder()
      .at(-1)!
      .match(/ISAKMP\{ SA\(ESP/g)?.length,
  ).toBe(2);
  expect([b.datapath.sas.size, [...b.datapath.outbound.keys()]]).toEqual([2, [0x3000, 0x7777]]);
  const same = altered(twice(0x3000));
  expect(same.b.ladder().at(-1)).toContain('N(INVALID-SPI)');
  expect([same.b.datapath.everInstalled, same.b.datapath.larval.size]).toEqual([0, 0]);
  const many = altered((quick) => Array.from({ length: 9 }, () => quick));
  expect(many.b.ladder().at(-1)).toContain('N(PAYLOAD-MALFORMED)');
});

test('a payload that KINK does not know is passed over; one that Quick Mode does not is told by its type (§5.5)', () => {
  const strange: Payload = { type: 'unknown', number: 200, body: Uint8Array.of(1, 2, 3) };
  expect(altered((quick) => [quick], { more: [strange] }).b.children()).toEqual(['installed']);
  const { b } = altered((quick) => [[...quick, { type: 'HASH', data: new Uint8Array(20) }]]);
  expect(b.ladder().at(-1)).toContain('N(INVALID-PAYLOAD-TYPE)');
});

test('a proposal with an SPI of no four octets, or a reserved one, is no proposal', () => {
  for (const spi of [Uint8Array.of(0, 0, 0, 200), Uint8Array.of(1, 2, 3)]) {
    const { b } = altered((quick) => [
      quick.map((payload) =>
        payload.type === 'SA'
          ? { ...payload, received: undefined, proposals: payload.proposals.map((one) => ({ ...one, spi })) }
          : payload,
      ) as readonly QuickPayload[],
    ]);
    expect(b.ladder().at(-1)).toContain('N(NO-PROPOSAL-CHOSEN)');
    expect(b.datapath.everInstalled).toBe(0);
  }
});
