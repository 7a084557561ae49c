/** What a peer hears from us before it is proven, by each of the three protocols: what its request called for, little, and never unasked (RFC 7296 §2.6, §2.21; RFC 2409 §5; RFC 4430 §4.2.8). */

import { describe, expect, test, vi } from 'vitest';
import * as v1 from '../../iked/ikev1/message.ts';
import { vendorId } from '../../iked/ikev1/vendor-id.ts';
import * as v2 from '../../iked/ikev2/message.ts';
import { notify, notifyName } from '../../iked/ikev2/notify.ts';
import type { Payload as PayloadV2 } from '../../iked/ikev2/payloads.ts';
import { readMessage as readKink, TYPE, writeMessage as writeKink } from '../../kinkd/message.ts';
import { utf8 } from '../../src/bytes/bytes.ts';
import { defaultEngine } from '../../src/crypto/engine.ts';
import type { Payload } from '../../src/isakmp/payloads.ts';
import { phase1Offer, Stranger as StrangerV1 } from '../fuzz/ikev1/stranger.ts';
import { Stranger as StrangerV2 } from '../fuzz/ikev2/stranger.ts';
import { type PairOptions, pair } from '../support/ike-pair.ts';
import { kinkPair } from '../support/kink-pair.ts';

const HOUR = 3_600_000;
const UNKNOWN = utf8('something that nobody knows');

function silentPair(options: PairOptions = {}) {
  const { b: node, net } = pair(options);
  net.lose(() => true);
  return { node, net };
}

const v1Only: PairOptions = { a: { kmp: ['ikev1'] }, b: { kmp: ['ikev1'] } };

describe('a reply holds no optional payload that the request did not call for', () => {
  const names = (bytes: Uint8Array) =>
    v2.readMessage(bytes).payloads.map((payload) => (payload.type === 'Notify' ? notifyName(payload.notify) : payload.type));
  const hash = new Uint8Array(20);
  test.each([
    ['nothing', [], []],
    ['vendor IDs', [{ type: 'VendorId', data: UNKNOWN }], []],
    [
      'abilities of IKE_AUTH and later',
      [
        notify('IKEV2_FRAGMENTATION_SUPPORTED'),
        notify('REDIRECT_SUPPORTED'),
        notify('SIGNATURE_HASH_ALGORITHMS', Uint8Array.of(0, 2)),
      ],
      [],
    ],
    [
      'NAT detection',
      [notify('NAT_DETECTION_SOURCE_IP', hash), notify('NAT_DETECTION_DESTINATION_IP', hash)],
      ['NAT_DETECTION_SOURCE_IP', 'NAT_DETECTION_DESTINATION_IP'],
    ],
  ] as [string, PayloadV2[], string[]][])('IKEv2, IKE_SA_INIT with %s besides what it must have', (_name, more, called) => {
    const { node } = silentPair();
    const stranger = new StrangerV2(node, 1);
    const request = stranger.init([...stranger.initPayloads(), ...more]);
    const answers = stranger.send(request);
    expect(answers.map(names)).toEqual([['SA', 'KE', 'Nonce', ...called]]);
    expect(answers[0]!.length).toBeLessThanOrEqual(request.length);
  });

  const types = (bytes: Uint8Array) => v1.readMessage(bytes).payloads.map(({ type }) => type);
  test.each([
    ['nothing', [], []],
    ['vendor IDs that are not ours', [{ type: 'VendorId', data: UNKNOWN }, vendorId('XAUTH'), vendorId('FRAGMENTATION')], []],
    ['DPD', [vendorId('DPD')], ['VendorId']],
    ['NAT traversal and DPD', [vendorId('RFC 3947'), vendorId('DPD')], ['VendorId', 'VendorId']],
  ] as [string, Payload[], string[]][])('IKEv1, message 1 with %s besides SA', (_name, more, called) => {
    const { node } = silentPair(v1Only);
    const stranger = new StrangerV1(node, 1);
    const request = stranger.message1([phase1Offer(), ...more]);
    const answers = stranger.send(request);
    expect(answers.map(types)).toEqual([['SA', ...called]]);
    expect(answers[0]!.length).toBeLessThanOrEqual(request.length);
    stranger.other = v1.readMessage(answers[0]!).header.CKY_R;
    const message3 = stranger.keyMessage();
    const message4 = stranger.send(message3);
    expect(message4.map(types)).toEqual([['KE', 'Nonce']]);
    expect(message4[0]!.length).toBeLessThanOrEqual(message3.length);
  });

  test('IKEv1, message 2 to an offer of 255 transforms has the one that was chosen', () => {
    const { node } = silentPair(v1Only);
    const stranger = new StrangerV1(node, 1);
    const offer = phase1Offer();
    const [proposal] = offer.proposals;
    const transforms = Array.from({ length: 255 }, (_, i) => ({ ...proposal!.transforms[0]!, number: i }));
    const request = stranger.message1([{ ...offer, proposals: [{ ...proposal!, transforms }] }]);
    expect(stranger.send(request)[0]!.length).toBeLessThan(request.length / 50);
  });

  test('KINK, a command that proves nothing: an error alone or nothing, never longer than the command', () => {
    const { a, b, net } = kinkPair();
    net.lose(() => true);
    a.initiate();
    net.run(100);
    const { path, bytes } = net.flights.find((flight) => flight.bytes[0] === TYPE.CREATE)!;
    const requests: [string, Uint8Array, string[]][] = [
      ['with another version', changed(bytes, 1, 0x20), ['ERROR']],
      ['of another DOI', changed(bytes, 7, 9), ['ERROR']],
      [
        'GETTGT',
        writeKink({
          messageType: TYPE.GETTGT,
          DOI: 0,
          XID: 7,
          ACKREQ: false,
          payloads: [{ type: 'TGT_REQ', principal: 'b@EXAMPLE' }],
        }),
        ['ERROR'],
      ],
      ['STATUS without AP_REQ', writeKink({ messageType: TYPE.STATUS, DOI: 1, XID: 8, ACKREQ: false, payloads: [] }), []],
      ['CREATE with a broken Cksum', changed(bytes, bytes.length - 1, bytes.at(-1)! ^ 1), []],
    ];
    for (const [what, request, expected] of requests) {
      net.run(2_000);
      const from = net.flights.length;
      b.hear(path, request);
      const answers = net.flights.slice(from).filter((flight) => flight.from === b);
      const found = answers.flatMap((answer) => readKink(answer.bytes).payloads.map(({ type }) => type));
      expect([what, found.filter((type) => type !== 'KRB_ERROR')]).toEqual([what, expected]);
      for (const answer of answers) expect(answer.bytes.length).toBeLessThanOrEqual(Math.max(request.length, 24));
    }
  });

  function changed(bytes: Uint8Array, at: number, to: number): Uint8Array {
    const copy = bytes.slice();
    copy[at] = to;
    return copy;
  }
});

describe('a responder under load', () => {
  test('IKEv2: from cookie_threshold half-open IKE SAs on it asks for a COOKIE first, keeps nothing and computes nothing (§2.6)', () => {
    const { node } = silentPair({ b: { limits: { cookieThreshold: 5 } } });
    for (let i = 0; i < 5; i++) expect(new StrangerV2(node, i).open()).toBe(true);
    const computed = vi.spyOn(defaultEngine, 'privateValue');
    const strangers = Array.from({ length: 50 }, (_, i) => new StrangerV2(node, 100 + i));
    computed.mockClear();
    for (const stranger of strangers) {
      const request = stranger.init();
      const [answer, ...more] = stranger.send(request);
      const { header, payloads } = v2.readMessage(answer!);
      expect(more).toEqual([]);
      expect(payloads).toEqual([expect.objectContaining({ type: 'Notify', notify: notify('COOKIE').notify })]);
      expect(header.SPIr).toEqual(new Uint8Array(8));
      expect(answer!.length).toBeLessThan(request.length);
    }
    expect(computed).not.toHaveBeenCalled();
    computed.mockRestore();
    expect(node.machine.table.size).toBe(5);
    const [honest] = strangers;
    const [demand] = honest!.send(honest!.init());
    honest!.send(honest!.init([v2.readMessage(demand!).payloads[0]!, ...honest!.initPayloads()]));
    expect(node.machine.table.size).toBe(6);
  });

  // The responder's cookie of IKEv1 is kept, so it proves an address only when message 3 comes; until then an ISAKMP SA has cost no arithmetic.
  test('IKEv1, which has no stateless cookie: beyond half_open_sas whoever has not shown its address makes room', () => {
    const limits = { halfOpenSas: 5 };
    const { node, net } = silentPair({ ...v1Only, b: { kmp: ['ikev1'], limits } });
    const shown = Array.from({ length: 4 }, (_, i) => new StrangerV1(node, i));
    for (const stranger of shown) expect(stranger.hello() && stranger.agree()).toBe(true);
    const computed = vi.spyOn(defaultEngine, 'privateValue');
    const strangers = Array.from({ length: 50 }, (_, i) => new StrangerV1(node, 100 + i));
    computed.mockClear();
    for (const stranger of strangers) {
      expect(stranger.hello()).toBe(true);
      expect(node.machine.table.size).toBeLessThanOrEqual(5);
    }
    expect(computed).not.toHaveBeenCalled();
    computed.mockRestore();
    // The newest is still there, and so is everybody who has shown an address.
    expect(strangers.at(-1)!.agree()).toBe(true);
    expect(shown[0]!.prove()).toBe(true);
    // Now all that are half open have shown theirs: there is no room before one of them is through or forgotten.
    expect(new StrangerV1(node, 200).hello()).toBe(true);
    const late = new StrangerV1(node, 201);
    expect(late.hello() && late.agree()).toBe(true);
    expect(new StrangerV1(node, 202).hello()).toBe(false);
    net.run(31_000);
    expect(new StrangerV1(node, 203).open()).toBe(true);
  });
});

test('first messages of IKEv1 from everywhere do not keep IKEv2 out', () => {
  const kmp = ['ikev2', 'ikev1'] as const;
  const { node } = silentPair({ a: { kmp }, b: { kmp, limits: { halfOpenSas: 10, cookieThreshold: 100 } } });
  for (let i = 0; i < 50; i++) new StrangerV1(node, i).hello();
  expect(node.machine.table.size).toBeLessThanOrEqual(5);
  expect(new StrangerV2(node, 1).open()).toBe(true);
});

describe('a responder does not transmit again unasked', () => {
  test.each([
    ['message 1', 1],
    ['message 3', 2],
  ])('IKEv1: %s is answered once, and then there is silence for an hour', (_name, messages) => {
    const { node, net } = silentPair(v1Only);
    const stranger = new StrangerV1(node, 1);
    expect(stranger.hello()).toBe(true);
    if (messages === 2) expect(stranger.agree()).toBe(true);
    const sent = () => stranger.outputs.filter(({ kind }) => kind === 'send').length;
    expect(sent()).toBe(messages);
    const { length } = net.flights;
    net.run(HOUR);
    expect(net.flights.length).toBe(length);
    expect(sent()).toBe(messages);
    expect(node.ikeSas()).toEqual([]);
  });

  test('IKEv1: message 1 that comes ten times is answered ten times, by the same octets', () => {
    const { node } = silentPair(v1Only);
    const stranger = new StrangerV1(node, 1);
    const request = stranger.message1();
    const answers = Array.from({ length: 10 }, () => stranger.send(request));
    expect(answers).toEqual(Array.from({ length: 10 }, () => answers[0]));
    expect(answers[0]!.length).toBe(1);
  });

  test('IKEv2: IKE_SA_INIT is answered once, and then there is silence for an hour', () => {
    const { node, net } = silentPair();
    expect(new StrangerV2(node, 1).open()).toBe(true);
    const { length } = net.flights;
    net.run(HOUR);
    expect(net.flights.length).toBe(length);
    expect(node.ikeSas()).toEqual([]);
  });
});
