/** What broke other IKEv1 daemons, and what the protocol itself invites to, against a live iked: one test a weakness. Each fails when its guard is taken away. */

import { describe, expect, test, vi } from 'vitest';
import { EXCHANGE, readMessage } from '../../../iked/ikev1/message.ts';
import { NONE, u16be, u32be, utf8 } from '../../../src/bytes/bytes.ts';
import { defaultEngine } from '../../../src/crypto/engine.ts';
import { CURVE, modpPrime, toOctets } from '../../../src/crypto/groups.ts';
import type { KeName } from '../../../src/crypto/transforms.ts';
import { ID_TYPE, notifyName, PROTOCOL } from '../../../src/isakmp/doi.ts';
import type { Payload, PayloadOf } from '../../../src/isakmp/payloads.ts';
import type { Proposal, Transform } from '../../../src/isakmp/sa-payload.ts';
import type { ChildSetting } from '../../support/ike-config.ts';
import { type IkeNode, LAN_A, LAN_B, pair } from '../../support/ike-pair.ts';
import { BUNDLE_SAS, bundleOffer, deletionOf, espOffer, networkId, notifyOf, phase1Offer, Stranger } from './stranger.ts';

let seed = 0;

/** A node that listens, and a stranger in front of it. `sas`: what the node wants, where that is not one SA of ESP. */
function meeting(group: KeName = 'ecp256', sas?: ChildSetting['sas']) {
  const ikev1 = { groups: [group], negotiationLimit: 600_000, proposalCheck: 'obey' } as const;
  const kmp = ['ikev1'] as const;
  const children = [{ local: LAN_B, peer: LAN_A, ...(sas !== undefined && { sas }) }];
  const { b: node, net } = pair({ a: { kmp, ikev1 }, b: { kmp, ikev1, children } });
  net.lose(() => true);
  return { node, net, stranger: new Stranger(node, ++seed, 'initiator', group) };
}

/** After messages 1 and 2. */
function greeted(group?: KeName) {
  const met = meeting(group);
  expect(met.stranger.hello()).toBe(true);
  return met;
}

/** After messages 1 to 4: nobody has proved anything. */
function agreed() {
  const met = greeted();
  expect(met.stranger.agree()).toBe(true);
  return met;
}

/** After Main Mode. */
function proven(group?: KeName, sas?: ChildSetting['sas']) {
  const met = meeting(group, sas);
  expect(met.stranger.open()).toBe(true);
  met.stranger.outputs.length = 0;
  return met;
}

/** After Quick Mode: one pair. */
function paired() {
  const met = proven();
  expect(met.stranger.createChild()).toBe(true);
  expect(met.node.children()).toEqual(['installed']);
  met.stranger.outputs.length = 0;
  return met;
}

/** Nothing came of it: no SA, no SPI, no fault. */
function expectNothing(node: IkeNode, stranger: Stranger): void {
  expect(stranger.faults).toEqual([]);
  expect(stranger.asked).toEqual([]);
  expect(node.ikeSas()).not.toContain('established');
  expect(node.datapath.everInstalled).toBe(0);
}

/** Nothing of Quick Mode came of it, in an ISAKMP SA that is there. */
function expectNoPair(node: IkeNode, stranger: Stranger): void {
  expect(stranger.faults).toEqual([]);
  expect(node.datapath.larval.size).toBe(0);
  expect(node.datapath.everInstalled).toBe(0);
  expect(node.children()).toEqual([]);
}

/** Names of the notifications in answers in the clear. */
function told(answers: readonly Uint8Array[]): string[] {
  return answers.flatMap((bytes) =>
    readMessage(bytes).payloads.flatMap((payload) => (payload.type === 'Notify' ? [notifyName(payload.notify)] : [])),
  );
}

/** The same of answers in Informational exchanges. */
function informed(stranger: Stranger, answers: readonly Uint8Array[]): string[] {
  return answers.flatMap((bytes) =>
    stranger.opened(bytes).payloads.flatMap((one) => (one.type === 'Notify' ? [notifyName(one.notify)] : [])),
  );
}

const quick = (stranger: Stranger, payloads: readonly Payload[]) =>
  stranger.send(stranger.hashed(EXCHANGE['Quick Mode'], payloads));

describe('CVE-2013-4564 and CVE-2015-3204: lengths, versions, reserved bits and payload types of a first message', () => {
  test('every length below the whole, and lengths that lie', () => {
    const { node, stranger } = meeting();
    const whole = stranger.message1();
    for (let length = 0; length < whole.length; length++) expect(stranger.send(whole.slice(0, length))).toEqual([]);
    for (const length of [0, 27, 28, whole.length - 1, whole.length + 1, 0x7fffffff, 0xffffffff]) {
      const lying = whole.slice();
      lying.set(u32be(length), 24);
      expect(stranger.send(lying)).toEqual([]);
    }
    expectNothing(node, stranger);
    expect(node.ikeSas()).toEqual([]);
  });

  test('every length of every part of the SA payload', () => {
    const { node, stranger } = meeting();
    const whole = stranger.message1();
    // The SA payload at 28, its proposal at 40, its transform at 48; its first attribute at 56 is basic.
    for (const at of [30, 42, 50]) {
      const right = (whole[at]! << 8) | whole[at + 1]!;
      for (let length = 0; length <= 0xffff; length += length < 2 * right ? 1 : 251) {
        if (length === right) continue;
        const lying = whole.slice();
        lying.set(u16be(length), at);
        stranger.send(lying);
      }
    }
    for (let octet = 0; octet < 256; octet++) {
      for (const at of [46, 47]) {
        // Octets of the SPI, and how many transforms there are.
        if (octet === whole[at]) continue;
        const lying = whole.slice();
        lying[at] = octet;
        stranger.send(lying);
      }
    }
    expectNothing(node, stranger);
    expect(node.ikeSas()).toEqual([]);
  });

  test('every exchange type, flag and first payload, with cookies of states that are not there', () => {
    const { node, stranger } = meeting();
    const whole = stranger.message1();
    for (let octet = 0; octet < 256; octet++) {
      for (const at of [16, 17, 18, 19]) {
        for (const cookie of [0, octet]) {
          const message = whole.slice();
          message[at] = octet;
          message[0] = at + 4;
          message.fill(cookie, 8, 16);
          for (const answer of stranger.send(message)) expect(answer.length).toBeLessThanOrEqual(message.length);
        }
      }
      node.net.run(31_000);
    }
    expectNothing(node, stranger);
  });

  test('100 unknown payloads are passed over; more than 256 are no message', () => {
    const { node, stranger } = meeting();
    const unknown = (count: number): Payload[] =>
      Array.from({ length: count }, () => ({ type: 'unknown', number: 200, body: NONE }));
    expect(stranger.send(stranger.message1([phase1Offer(), ...unknown(256)]))).toEqual([]);
    expect(node.ikeSas()).toEqual([]);
    expect(stranger.hello([phase1Offer(), ...unknown(100)])).toBe(true);
  });
});

describe('CVE-2013-6467: each payload of each message left out or doubled in turn', () => {
  test.each([0, 1])('message 3 without payload %i, or with two of it', (which) => {
    const { node, stranger } = greeted();
    const payloads: Payload[] = [
      { type: 'KE', data: stranger.share.publicValue },
      { type: 'Nonce', data: stranger.nonce },
    ];
    stranger.send(stranger.clear(payloads.filter((_, i) => i !== which)));
    stranger.send(stranger.clear([...payloads, payloads[which]!]));
    expectNothing(node, stranger);
    expect(node.ikeSas()).toEqual(['awaiting-message-3']);
    expect(stranger.agree()).toBe(true);
  });

  test.each([0, 1])('message 5 without payload %i, or with two of it', (which) => {
    const { node, stranger } = agreed();
    const payloads = stranger.proof();
    stranger.send(stranger.sealedPhase1(payloads.filter((_, i) => i !== which)));
    stranger.send(stranger.sealedPhase1([...payloads, payloads[which]!]));
    stranger.send(stranger.clear(payloads));
    expectNothing(node, stranger);
    expect(stranger.prove()).toBe(true);
  });

  test.each([0, 1, 2, 3])("Quick Mode's message 1 without payload %i", (which) => {
    const { node, stranger } = proven();
    quick(
      stranger,
      stranger.quickMode1().filter((_, i) => i !== which),
    );
    expectNoPair(node, stranger);
  });

  test('a message 1 without SA, or with two', () => {
    const { node, stranger } = meeting();
    stranger.send(stranger.clear([]));
    stranger.send(stranger.clear([{ type: 'VendorId', data: utf8('x') }]));
    stranger.send(stranger.clear([phase1Offer(), phase1Offer()]));
    expectNothing(node, stranger);
    expect(node.ikeSas()).toEqual([]);
  });
});

describe('CVE-2015-3240, CVE-2023-41913: public values that are none (RFC 6989)', () => {
  const p = modpPrime('modp2048');
  const modp = (value: bigint) => toOctets(value, 256);
  const { p: field, b } = CURVE.ecp256;
  const point = (x: bigint, y: bigint) => Uint8Array.from([...toOctets(x, 32), ...toOctets(y, 32)]);
  const VALUES: [string, KeName, Uint8Array][] = [
    ['modp2048: 0', 'modp2048', modp(0n)],
    ['modp2048: 1', 'modp2048', modp(1n)],
    ['modp2048: p - 1', 'modp2048', modp(p - 1n)],
    ['modp2048: p', 'modp2048', modp(p)],
    ['modp2048: no octet', 'modp2048', NONE],
    ['modp2048: an octet short', 'modp2048', new Uint8Array(255).fill(2)],
    ['modp2048: an octet long', 'modp2048', new Uint8Array(257).fill(2)],
    ['modp2048: 60,000 octets', 'modp2048', new Uint8Array(60_000).fill(2)],
    ['ecp256: the point at infinity as zeros', 'ecp256', point(0n, 0n)],
    ['ecp256: off the curve', 'ecp256', point(5n, b)],
    ['ecp256: a coordinate of p', 'ecp256', point(field, 1n)],
    ['ecp256: a point with its format octet', 'ecp256', new Uint8Array(65).fill(4)],
  ];
  test.each(VALUES)(
    '%s in Main Mode: refused without computing anything, and the right one is still welcome',
    (_name, group, data) => {
      const { node, stranger } = greeted(group);
      const computed = vi.spyOn(defaultEngine, 'privateValue');
      const answers = stranger.send(stranger.keyMessage(data));
      for (let i = 0; i < 30; i++) stranger.send(stranger.keyMessage(data, new Uint8Array(16).fill(i)));
      expect(computed).not.toHaveBeenCalled();
      computed.mockRestore();
      expect(told(answers)).toEqual(['INVALID-KEY-INFORMATION']);
      expectNothing(node, stranger);
      expect(stranger.agree() && stranger.prove()).toBe(true);
    },
  );

  test.each(VALUES)('%s in Quick Mode', (_name, group, data) => {
    const { node, stranger } = proven(group);
    const SA = espOffer(0x5151_0001, group);
    const answers = quick(stranger, [SA, ...stranger.quickMode1(1, [{ type: 'KE', data }]).slice(1)]);
    expect(informed(stranger, answers)).toEqual(['INVALID-KEY-INFORMATION']);
    expectNoPair(node, stranger);
    expect(stranger.asked).toEqual([]);
  });

  test('a KE payload that no transform names a group for, and a group without one', () => {
    const { node, stranger } = proven();
    const { publicValue: data } = stranger.share;
    expect(informed(stranger, quick(stranger, stranger.quickMode1(0x5151_0001, [{ type: 'KE', data }])))).toEqual([
      'INVALID-KEY-INFORMATION',
    ]);
    const withGroup = [espOffer(0x5151_0001, 'ecp256'), ...stranger.quickMode1().slice(1)];
    expect(informed(stranger, quick(stranger, withGroup))).toEqual(['INVALID-KEY-INFORMATION']);
    expectNoPair(node, stranger);
  });
});

describe('nonces have 8 to 256 octets (RFC 2409 §5)', () => {
  test.each([0, 1, 7, 257, 60_000])('%i octets are refused', (length) => {
    const { node, stranger } = greeted();
    stranger.send(stranger.keyMessage(undefined, new Uint8Array(length).fill(1)));
    expectNothing(node, stranger);
    expect(node.ikeSas()).toEqual(['awaiting-message-3']);
    const met = proven();
    const nonce: Payload = { type: 'Nonce', data: new Uint8Array(length).fill(1) };
    quick(
      met.stranger,
      met.stranger.quickMode1().map((payload) => (payload.type === 'Nonce' ? nonce : payload)),
    );
    expectNoPair(met.node, met.stranger);
  });
});

describe('CVE-2025-9242, CVE-2023-38711: identities of every type and length', () => {
  test.each([0, 1, 4, 255, 4096, 60_000])('%i octets in Main Mode, from one who has the key', (length) => {
    const { node } = meeting();
    for (const idType of [...Object.values(ID_TYPE), 0, 255]) {
      const attempt = new Stranger(node, ++seed);
      attempt.hello();
      attempt.agree();
      // Line feeds and escape sequences are for logs and hooks.
      const ID: Payload = {
        type: 'ID',
        idType,
        protocol: 0,
        port: 0,
        data: new Uint8Array(length).fill(length % 2 === 0 ? 0x0a : 0x1b),
      };
      attempt.send(attempt.sealedPhase1([ID, { type: 'HASH', data: attempt.proofHash(ID) }]));
      expectNothing(node, attempt);
    }
    for (const { message } of node.events) expect(message).not.toMatch(/[\x00-\x1f\x7f]/);
  });

  test.each([0, 1, 3, 5, 7, 9, 15, 17, 31, 33, 60_000])('%i octets in Quick Mode', (length) => {
    const { node, stranger } = proven();
    for (const idType of [...Object.values(ID_TYPE), 0, 255]) {
      const ID: Payload = { type: 'ID', idType, protocol: 0, port: 0, data: new Uint8Array(length).fill(10) };
      const [SA, nonce] = stranger.quickMode1();
      expect(informed(stranger, quick(stranger, [SA!, nonce!, ID, networkId('10.2.0.0')]))).toEqual(['INVALID-ID-INFORMATION']);
    }
    expectNoPair(node, stranger);
  });
});

/** The same offer with other transforms. */
function withTransforms(SA: PayloadOf<'SA'>, change: (transform: Transform) => Transform[]): PayloadOf<'SA'> {
  return { ...SA, proposals: SA.proposals.map((one) => ({ ...one, transforms: one.transforms.flatMap(change) })) };
}

const basic = (type: number, value: number) => ({ type, basic: true, value: u16be(value) });

describe('SA payloads that play games', () => {
  const changed = (types: number, value: number) =>
    withTransforms(phase1Offer(), (transform) => [{ ...transform, attributes: [...transform.attributes, basic(types, value)] }]);
  const without = (type: number) =>
    withTransforms(phase1Offer(), (one) => [
      { ...one, attributes: one.attributes.filter((attribute) => attribute.type !== type) },
    ]);
  const [proposal] = phase1Offer().proposals;
  const PHASE_1: [string, PayloadOf<'SA'>][] = [
    ['two ciphers in one transform', changed(1, 5)],
    ['two groups in one transform', changed(4, 2)],
    ['two key lengths', changed(14, 256)],
    ['a field size of 65535', changed(15, 65_535)],
    ['a custom group by its prime (CVE-2014-9221)', changed(6, 7)],
    ['a PRF that is nowhere defined (CVE-2018-10811)', changed(13, 1)],
    ['a lifetime without its type', changed(12, 60)],
    ['no cipher (CVE-2016-5391)', without(1)],
    ['no hash', without(2)],
    ['no method', without(3)],
    ['no group', without(4)],
    ['no key length', without(14)],
    [
      'a variable attribute without octets',
      withTransforms(phase1Offer(), (one) => [
        { ...one, attributes: [{ type: 1, basic: false, value: NONE }, ...one.attributes.slice(1)] },
      ]),
    ],
    ['a transform that is not KEY_IKE', withTransforms(phase1Offer(), (one) => [{ ...one, id: 0 }])],
    ['no transform', withTransforms(phase1Offer(), () => [])],
    ['two proposals (RFC 2409 §5)', { ...phase1Offer(), proposals: [proposal!, { ...proposal!, number: 2 }] }],
    ['the same proposal number twice', { ...phase1Offer(), proposals: [proposal!, proposal!] }],
    ['a proposal for ESP', { ...phase1Offer(), proposals: [{ ...proposal!, protocol: PROTOCOL.ESP }] }],
    ['DOI 0', { ...phase1Offer(), doi: 0, proposals: [], unread: new Uint8Array(44) }],
    ['DOI 2 (CVE-2015-3204)', { ...phase1Offer(), doi: 2, proposals: [], unread: new Uint8Array(44) }],
    ['a situation with secrecy', { ...phase1Offer(), situation: 3, proposals: [], unread: new Uint8Array(44) }],
    ['no situation', { ...phase1Offer(), situation: 0, proposals: [], unread: new Uint8Array(44) }],
  ];
  test.each(PHASE_1)('phase 1: %s', (_name, SA) => {
    const { node, stranger } = meeting();
    expect(stranger.hello([SA])).toBe(false);
    expectNothing(node, stranger);
    expect(node.ikeSas()).toEqual([]);
  });

  const esp = espOffer(0x5151_0001);
  const [one] = esp.proposals;
  const spi = (octets: number) => ({ ...esp, proposals: [{ ...one!, spi: new Uint8Array(octets).fill(9) }] });
  const PHASE_2: [string, PayloadOf<'SA'>][] = [
    ...[0, 1, 3, 5, 16, 255].map((octets): [string, PayloadOf<'SA'>] => [`an SPI of ${octets} octets`, spi(octets)]),
    ['SPI 0', { ...esp, proposals: [{ ...one!, spi: u32be(0) }] }],
    ['SPI 255, which is reserved', { ...esp, proposals: [{ ...one!, spi: u32be(255) }] }],
    ['the same proposal number twice: AND', { ...esp, proposals: [one!, one!] }],
    ['AH and ESP together', { ...esp, proposals: [{ ...one!, protocol: PROTOCOL.AH }, one!] }],
    ['protocol 0', { ...esp, proposals: [{ ...one!, protocol: 0 }] }],
    [
      'a key of 0 bits (CVE-2024-3652)',
      withTransforms(esp, (t) => [{ ...t, attributes: t.attributes.map((a) => (a.type === 6 ? basic(6, 0) : a)) }]),
    ],
    ['two encapsulation modes', withTransforms(esp, (t) => [{ ...t, attributes: [...t.attributes, basic(4, 2)] }])],
    ['AES-GCM with HMAC beside it', withTransforms(esp, (t) => [{ ...t, attributes: [...t.attributes, basic(5, 5)] }])],
    ['no transform', withTransforms(esp, () => [])],
    ['DOI 0', { ...esp, doi: 0, proposals: [], unread: new Uint8Array(44) }],
    ['a situation with integrity', { ...esp, situation: 5, proposals: [], unread: new Uint8Array(44) }],
  ];
  test.each(PHASE_2)('phase 2: %s', (_name, SA) => {
    const { node, stranger } = proven();
    quick(stranger, [SA, ...stranger.quickMode1().slice(1)]);
    expectNoPair(node, stranger);
    expect(stranger.asked).toEqual([]);
    expect(stranger.createChild()).toBe(true);
  });
});

describe('several protocols under one number (RFC 2408 §4.2), which are taken together or not at all', () => {
  const SA = bundleOffer(0x5151_0001);
  const [ofAh, ofEsp, ofIpcomp] = SA.proposals as [Proposal, Proposal, Proposal];
  const replaced = (proposal: Proposal, attribute: number, value: number): Proposal => ({
    ...proposal,
    transforms: proposal.transforms.map((one) => ({
      ...one,
      attributes: one.attributes.map((a) => (a.type === attribute ? basic(attribute, value) : a)),
    })),
  });
  const CROWD = Array.from({ length: 200 }, (_, i) => ({ ...ofEsp, spi: u32be(0x6000 + i) }));
  test.each<[string, readonly Proposal[]]>([
    ['one of them is missing', [ofAh, ofEsp]],
    ['one of them is alone', [ofAh]],
    ['ESP twice', [ofAh, ofEsp, ofIpcomp, { ...ofEsp, spi: u32be(0x5151_0009) }]],
    ['ESP two hundred times', CROWD],
    ['three numbers', [ofAh, { ...ofEsp, number: 2 }, { ...ofIpcomp, number: 3 }]],
    ['numbers that cross', [ofAh, { ...ofIpcomp, number: 2 }, ofEsp, { ...ofAh, number: 2 }]],
    ['no SPI of AH', [{ ...ofAh, spi: NONE }, ofEsp, ofIpcomp]],
    ['no CPI', [ofAh, ofEsp, { ...ofIpcomp, spi: NONE }]],
    ['a CPI of 255 octets', [ofAh, ofEsp, { ...ofIpcomp, spi: new Uint8Array(255) }]],
    ['the CPI that stands for DEFLATE by itself', [ofAh, ofEsp, { ...ofIpcomp, spi: Uint8Array.of(0, 2) }]],
    ['a protocol that nobody knows', [ofAh, ofEsp, ofIpcomp, { ...ofIpcomp, protocol: 9 }]],
    ['phase 1 among them', [ofAh, ofEsp, { ...ofIpcomp, protocol: PROTOCOL.ISAKMP }]],
    ['AH whose transform and authentication algorithm differ', [replaced(ofAh, 5, 1), ofEsp, ofIpcomp]],
    ['AH in UDP', [replaced(ofAh, 4, 4), ofEsp, ofIpcomp]],
    ['LZS', [ofAh, ofEsp, { ...ofIpcomp, transforms: ofIpcomp.transforms.map((one) => ({ ...one, id: 3 })) }]],
  ])('%s', (_name, proposals) => {
    const { node, stranger } = proven('ecp256', BUNDLE_SAS);
    quick(stranger, [{ ...SA, proposals }, ...stranger.quickMode1().slice(1)]);
    expectNoPair(node, stranger);
    expect(stranger.asked).toEqual([]);
    const honest = stranger.hashed(EXCHANGE['Quick Mode'], [SA, ...stranger.quickMode1().slice(1)]);
    const [answer] = stranger.send(honest);
    stranger.send(stranger.message3(honest, answer!));
    expect(node.children()).toEqual(['installed']);
    expect([...node.datapath.sas.values()].map(({ protocol }) => protocol)).toEqual(['ipcomp', 'esp', 'ah']);
    // A DELETE of any of them is one of all, once.
    stranger.inform(
      deletionOf(PROTOCOL.IPCOMP, ofIpcomp.spi),
      deletionOf(PROTOCOL.AH, ofAh.spi),
      deletionOf(PROTOCOL.ESP, u32be(1)),
    );
    expect(node.children()).toEqual([]);
    expect([node.datapath.sas.size, node.datapath.outbound.size, stranger.faults]).toEqual([0, 0, []]);
  });
});

describe('forged messages do not move the chain of IVs (appendix B)', () => {
  /** Forgeries of a message: any one block, the flags, the length. */
  function forgeries(genuine: Uint8Array): Uint8Array[] {
    const flipped = [28, 44, genuine.length - 1].map((at) => {
      const forged = genuine.slice();
      forged[at]! ^= 0x40;
      return forged;
    });
    return [...flipped, genuine.slice(0, 28), genuine.subarray(0, 20)];
  }

  test('in Main Mode, before message 5 and before message 6', () => {
    const { node, stranger } = agreed();
    for (const forged of forgeries(stranger.sealedPhase1())) stranger.send(forged);
    expect(stranger.prove()).toBe(true);
    expect(stranger.createChild()).toBe(true);
    expect(node.children()).toEqual(['installed']);
  });

  test('in Quick Mode, before each of its messages; another exchange goes on beside it', () => {
    const { node, stranger } = proven();
    const message1 = stranger.hashed(EXCHANGE['Quick Mode'], stranger.quickMode1());
    for (const forged of forgeries(message1)) expect(stranger.send(forged)).toEqual([]);
    const [answer] = stranger.send(message1);
    const message3 = stranger.message3(message1, answer!);
    for (const forged of forgeries(message3)) stranger.send(forged);
    expect(node.status().ikeSas[0]!.children[0]!.state).not.toBe('gone');
    expect(node.datapath.outbound.size).toBe(0);
    expect(stranger.inform(notifyOf('R-U-THERE', stranger.cookies, u32be(1))).length).toBe(1);
    stranger.send(message3);
    expect(node.datapath.outbound.size).toBe(1);
    expect(node.children()).toEqual(['installed']);
  });

  test('the exchange type is under no HASH: what it was changed to takes nothing from what it was', () => {
    const { node, stranger } = proven();
    const message1 = stranger.hashed(EXCHANGE['Quick Mode'], stranger.quickMode1());
    const disguised = message1.slice();
    disguised[18] = EXCHANGE.Informational;
    expect(stranger.send(disguised)).toEqual([]);
    const [answer] = stranger.send(message1);
    stranger.send(stranger.message3(message1, answer!));
    expect(node.children()).toEqual(['installed']);
    const farewell = stranger.hashed(EXCHANGE.Informational, [deletionOf(PROTOCOL.ESP, u32be(0x5151_0001))]);
    const other = farewell.slice();
    other[18] = EXCHANGE['Quick Mode'];
    expect(stranger.send(other)).toEqual([]);
    stranger.send(farewell);
    expect(node.children()).toEqual([]);
  });
});

describe('replays', () => {
  test("Quick Mode's message 1 again: the same answer while it is remembered, then none; never another SPI", () => {
    const { node, net, stranger } = paired();
    const { everInstalled } = node.datapath;
    const message1 = stranger.hashed(EXCHANGE['Quick Mode'], stranger.quickMode1(0x5151_0002));
    const answers = stranger.send(message1);
    expect(stranger.send(message1)).toEqual(answers);
    stranger.send(stranger.message3(message1, answers[0]!));
    expect(node.datapath.everInstalled - everInstalled).toBe(1);
    stranger.outputs.length = 0;
    net.run(600_000);
    stranger.createChild(0x5151_0003);
    stranger.outputs.length = 0;
    expect(stranger.send(message1)).toEqual([]);
    expect(stranger.asked).toEqual([]);
    expect(stranger.faults).toEqual([]);
  });

  test('the same message ID for another Quick Mode', () => {
    const { node, stranger } = proven();
    const id = stranger.nextMessageId();
    expect(stranger.send(stranger.hashed(EXCHANGE['Quick Mode'], stranger.quickMode1(0x5151_0001), id)).length).toBe(1);
    const { everInstalled } = node.datapath;
    expect(stranger.send(stranger.hashed(EXCHANGE['Quick Mode'], stranger.quickMode1(0x5151_0002), id))).toEqual([]);
    expect(node.datapath.everInstalled).toBe(everInstalled);
    expect(stranger.send(stranger.hashed(EXCHANGE.Informational, [deletionOf(PROTOCOL.ISAKMP, stranger.cookies)], id))).toEqual(
      [],
    );
    expect(stranger.sa?.established).toBe(true);
  });

  test('a DELETE again does not reach the pair that has the SPI since', () => {
    const { node, stranger } = paired();
    const farewell = stranger.hashed(EXCHANGE.Informational, [deletionOf(PROTOCOL.ESP, u32be(0x5151_0001))]);
    stranger.send(farewell);
    expect(node.children()).toEqual([]);
    expect(stranger.createChild()).toBe(true);
    expect(stranger.send(farewell)).toEqual([]);
    expect(node.children()).toEqual(['installed']);
  });

  test("our own messages, sent back to us, are not the peer's: HASH(1) is the same for both sides", () => {
    const ikev1 = { dpdDelay: 10_000, dpdRetry: 5_000, dpdMaxFail: 4, negotiationLimit: 30_000 };
    const { a, b, net } = pair({
      a: { kmp: ['ikev1'], ikev1 },
      b: { kmp: ['ikev1'], ikev1: { ...ikev1, dpd: true } },
    }).established();
    net.run(1_000);
    const { path, bytes: message1 } = net.flights.find(({ from, bytes }) => from === a && bytes[18] === EXCHANGE['Quick Mode'])!;
    const back = (bytes: Uint8Array) => a.put({ kind: 'datagram', path, bytes });
    // b is gone, and what a says comes back.
    net.lose(() => true);
    let echoed = 0;
    for (let i = 0; i < 600 && a.ikeSas().includes('established'); i++) {
      const from = net.flights.length;
      net.run(100);
      for (const flight of net.flights.slice(from)) {
        if (flight.from !== a || flight.bytes[18] !== EXCHANGE.Informational) continue;
        back(flight.bytes);
        echoed++;
      }
      if (i % 100 === 0) back(message1);
    }
    expect(echoed).toBeGreaterThan(0);
    expect(a.ikeSas()).not.toContain('established');
    expect(a.named('peer-silent').length).toBe(1);
    expect([...a.named('fault'), ...b.named('fault')]).toEqual([]);
  });

  test('our own Quick Mode, sent back to us when it is forgotten, begins none', () => {
    const everything = { children: [{ local: '0.0.0.0/0', peer: '0.0.0.0/0' }] };
    const { a, net } = pair({ a: { kmp: ['ikev1'], ...everything }, b: { kmp: ['ikev1'], ...everything } }).established();
    net.run(1_000);
    const { path, bytes } = net.flights.find((flight) => flight.from === a && flight.bytes[18] === EXCHANGE['Quick Mode'])!;
    net.run(300_000);
    a.command({ verb: 'rekey', name: 'lan', what: 'child' });
    net.run(300_000);
    const { everInstalled } = a.datapath;
    a.put({ kind: 'datagram', path, bytes });
    net.run(1_000);
    expect(a.datapath.everInstalled).toBe(everInstalled);
  });
});

describe('CVE-2019-10155: what no HASH proves is not believed', () => {
  test.each([
    ['a DELETE of the ISAKMP SA', (s: Stranger): Payload => deletionOf(PROTOCOL.ISAKMP, s.cookies)],
    ['a DELETE of the pair', (): Payload => deletionOf(PROTOCOL.ESP, u32be(0x5151_0001))],
    ['INITIAL-CONTACT', (s: Stranger): Payload => notifyOf('INITIAL-CONTACT', s.cookies)],
    ['R-U-THERE', (s: Stranger): Payload => notifyOf('R-U-THERE', s.cookies, u32be(1))],
    ['NO-PROPOSAL-CHOSEN', (): Payload => notifyOf('NO-PROPOSAL-CHOSEN')],
    ['AUTHENTICATION-FAILED', (): Payload => notifyOf('AUTHENTICATION-FAILED')],
  ])('%s: in the clear, without its HASH, under a wrong one', (_name, payload) => {
    const { node, stranger } = paired();
    const payloads = [payload(stranger)];
    expect(stranger.send(stranger.clear(payloads, EXCHANGE.Informational, 77))).toEqual([]);
    expect(
      stranger.send(stranger.clear([{ type: 'HASH', data: new Uint8Array(32) }, ...payloads], EXCHANGE.Informational, 78)),
    ).toEqual([]);
    const genuine = stranger.hashed(EXCHANGE.Informational, payloads);
    for (const at of [20, 28, 36, 44, genuine.length - 17]) {
      const forged = genuine.slice();
      forged[at]! ^= 1;
      expect(stranger.send(forged)).toEqual([]);
    }
    expectQuiet(node, stranger);
  });

  function expectQuiet(node: IkeNode, stranger: Stranger): void {
    expect(stranger.faults).toEqual([]);
    expect(stranger.asked).toEqual([]);
    expect(node.ikeSas()).toEqual(['established']);
    expect(node.children()).toEqual(['installed']);
  }

  test('before authentication, every exchange in the clear or under keys without the secret', () => {
    const { node, stranger } = agreed();
    stranger.psk = 'guessed';
    const guesses = [deletionOf(PROTOCOL.ISAKMP, stranger.cookies), notifyOf('INITIAL-CONTACT', stranger.cookies)];
    for (const exchange of [
      EXCHANGE['Quick Mode'],
      EXCHANGE.Informational,
      EXCHANGE['New Group Mode'],
      EXCHANGE['Aggressive Mode'],
      EXCHANGE.Base,
    ]) {
      stranger.send(stranger.clear(stranger.quickMode1(), exchange, 5));
      stranger.send(stranger.hashed(exchange, stranger.quickMode1()));
      for (const one of guesses) stranger.send(stranger.hashed(exchange, [one]));
    }
    expectNothing(node, stranger);
    expect(node.ikeSas()).toEqual(['awaiting-message-5']);
    expect(stranger.prove()).toBe(true);
  });

  test('a proof with another key, with INITIAL-CONTACT in it, while another SA is up', () => {
    const { node } = paired();
    const liar = new Stranger(node, ++seed);
    liar.psk = 'guessed';
    liar.hello();
    liar.agree();
    expect(liar.prove([...liar.proof(), notifyOf('INITIAL-CONTACT', liar.cookies)])).toBe(false);
    expect(liar.asked).toEqual([]);
    expect(node.children()).toEqual(['installed']);
    expect(node.ikeSas()).toEqual(['established', 'awaiting-message-5']);
  });
});

describe('CVE-2009-0790: R-U-THERE (RFC 3706 §6)', () => {
  test('for an ISAKMP SA that is not here, or with cookies of another: no answer', () => {
    const { stranger } = paired();
    const genuine = stranger.hashed(EXCHANGE.Informational, [notifyOf('R-U-THERE', stranger.cookies, u32be(1))]);
    for (const at of [0, 8]) {
      const elsewhere = genuine.slice();
      elsewhere[at]! ^= 1;
      expect(stranger.send(elsewhere)).toEqual([]);
    }
    for (const spi of [NONE, stranger.cookies.slice(0, 8), new Uint8Array(16), new Uint8Array(17)])
      expect(stranger.inform(notifyOf('R-U-THERE', spi, u32be(2)))).toEqual([]);
    expect(stranger.send(genuine).length).toBe(1);
  });

  test('an old sequence number is a replay; the same datagram gets the same answer', () => {
    const { stranger } = paired();
    const probe = (sequence: number) =>
      stranger.hashed(EXCHANGE.Informational, [notifyOf('R-U-THERE', stranger.cookies, u32be(sequence))]);
    const [first, second] = [probe(100), probe(101)];
    const answers = stranger.send(first);
    expect(informed(stranger, answers)).toEqual(['R-U-THERE-ACK']);
    expect(stranger.send(first)).toEqual(answers);
    expect(stranger.send(second).length).toBe(1);
    expect(stranger.send(first)).toEqual([]);
    expect(stranger.send(probe(99))).toEqual([]);
    expect(stranger.send(probe(0x8000_0000 + 102))).toEqual([]);
  });

  test.each([0, 3, 5, 1000])('a sequence number of %i octets', (length) => {
    const { stranger } = paired();
    expect(stranger.inform(notifyOf('R-U-THERE', stranger.cookies, new Uint8Array(length)))).toEqual([]);
    expect(stranger.faults).toEqual([]);
  });
});

describe('CVE-2023-38712: DELETE payloads twice, of everything at once, of nothing', () => {
  test.each([
    ['the pair twice in one payload', [deletionOf(PROTOCOL.ESP, u32be(0x5151_0001), u32be(0x5151_0001))]],
    ['the pair in two payloads', [deletionOf(PROTOCOL.ESP, u32be(0x5151_0001)), deletionOf(PROTOCOL.ESP, u32be(0x5151_0001))]],
    ['SPIs of 2 octets', [deletionOf(PROTOCOL.ESP, u16be(1))]],
    ['no SPI', [deletionOf(PROTOCOL.ESP)]],
    ['AH, IPCOMP, protocol 255', [PROTOCOL.AH, PROTOCOL.IPCOMP, 255].map((protocol) => deletionOf(protocol, u32be(0x5151_0001)))],
    ['10,000 SPIs', [deletionOf(PROTOCOL.ESP, ...Array.from({ length: 10_000 }, (_, i) => u32be(0x7000_0000 + i)))]],
  ] as [string, Payload[]][])('%s', (_name, payloads) => {
    const { node, stranger } = paired();
    const answers = stranger.inform(...payloads);
    expect(answers.length).toBeLessThanOrEqual(1);
    expect(stranger.faults).toEqual([]);
    expect(node.ikeSas()).toEqual(['established']);
    expect(stranger.createChild(0x5151_0009)).toBe(true);
  });

  test('the pair and the ISAKMP SA, each twice', () => {
    const { node, stranger } = paired();
    const esp = deletionOf(PROTOCOL.ESP, u32be(0x5151_0001));
    const isakmp = deletionOf(PROTOCOL.ISAKMP, stranger.cookies, stranger.cookies);
    stranger.inform(esp, isakmp, esp, isakmp);
    expect(stranger.faults).toEqual([]);
    expect(node.ikeSas()).toEqual([]);
    expect(node.datapath.outbound.size).toBe(0);
  });
});

describe('CVE-2023-30570: Aggressive Mode, and what follows on what was refused', () => {
  test('is refused by name and keeps nothing; a later message with its cookies finds nobody', () => {
    const { node, stranger } = meeting();
    const aggressive = stranger.clear([phase1Offer(), ...stranger.quickMode1().slice(1)], EXCHANGE['Aggressive Mode']);
    expect(told(stranger.send(aggressive))).toEqual(['UNSUPPORTED-EXCHANGE-TYPE']);
    expect(node.ikeSas()).toEqual([]);
    stranger.other = new Uint8Array(8).fill(7);
    for (const exchange of [EXCHANGE['Aggressive Mode'], EXCHANGE['Main Mode'], EXCHANGE.Informational])
      expect(stranger.send(stranger.clear([{ type: 'HASH', data: new Uint8Array(32) }], exchange))).toEqual([]);
    expectNothing(node, stranger);
  });
});

describe('bounds', () => {
  test('half-open SAs are bounded and forgotten in time, and so is the arithmetic that they may cost', () => {
    const { node, net } = meeting();
    const computed = vi.spyOn(defaultEngine, 'privateValue');
    const strangers = Array.from({ length: 300 }, (_, i) => new Stranger(node, 20_000 + i));
    computed.mockClear();
    for (const stranger of strangers) stranger.hello();
    expect(node.machine.table.size).toBeLessThanOrEqual(100);
    expect(computed).not.toHaveBeenCalled();
    for (const stranger of strangers)
      for (let i = 0; i < 3; i++) stranger.send(stranger.keyMessage(undefined, new Uint8Array(16).fill(i)));
    expect(computed.mock.calls.length).toBeLessThanOrEqual(100);
    computed.mockRestore();
    net.run(60_000);
    expect(node.machine.table.size).toBe(0);
    expect(new Stranger(node, 1_000_000).open()).toBe(true);
  });

  test("a peer's Quick Modes that come to nothing are remembered up to a bound", () => {
    const { node, stranger } = proven();
    for (let i = 0; i < 600; i++)
      quick(stranger, [
        espOffer(0x5151_0000 + i),
        ...stranger.quickMode1().slice(1, 2),
        networkId('10.9.0.0'),
        networkId('10.9.0.0'),
      ]);
    expect(stranger.sa!.quickModes.size).toBeLessThanOrEqual(256);
    expect(node.datapath.everInstalled).toBe(0);
    expect(stranger.createChild()).toBe(true);
  });

  test('CVE-2024-2357: a remote without a key refuses, and does not fall over', () => {
    const { node, stranger } = agreed();
    Object.assign(node.machine.peers.byNameV1('peer')!, { psk: undefined });
    expect(stranger.prove()).toBe(false);
    expectNothing(node, stranger);
  });
});
