/** RFC 7296 §2.9, its example among them. */

import { describe, expect, test } from 'vitest';
import { checkNarrowed, narrowTo } from '../../../../iked/ikev2/narrowing.ts';
import { PeerError } from '../../../../src/errors.ts';
import type { TrafficSelector } from '../../../../src/ipsec/selector.ts';
import type { SelectorPair } from '../../../../src/ipsec/selector-pair.ts';
import { IpAddress } from '../../../../src/net/address.ts';

/** `10.1.0.0-10.1.0.255`, with protocol and ports behind it where they are not any. */
function ts(range: string, protocol = 0, startPort = 0, endPort = 65535): TrafficSelector {
  const [start, end = start] = range.split('-');
  return { protocol, startPort, endPort, start: IpAddress.parse(start!)!, end: IpAddress.parse(end!)! };
}

const pair = (TSi: TrafficSelector | TrafficSelector[], TSr: TrafficSelector | TrafficSelector[]): SelectorPair => ({
  TSi: [TSi].flat(),
  TSr: [TSr].flat(),
});

const A = ts('10.1.0.0-10.1.0.255');
const B = ts('10.2.0.0-10.2.0.255');
const everything = ts('0.0.0.0-255.255.255.255');

describe('the responder', () => {
  test('grants all of a proposal that its policy covers', () => {
    expect(narrowTo(pair(A, B), [pair(A, B)])).toEqual({ ...pair(A, B), policy: pair(A, B), additional: false });
    expect(narrowTo(pair(A, B), [pair(everything, everything)])).toMatchObject(pair(A, B));
  });

  test('narrows a wider proposal to its policy', () => {
    expect(narrowTo(pair(everything, everything), [pair(A, B)])).toMatchObject(pair(A, B));
    expect(narrowTo(pair(A, everything), [pair(ts('10.1.0.64-10.2.0.0', 6, 80, 80), B)])).toMatchObject(
      pair(ts('10.1.0.64-10.1.0.255', 6, 80, 80), B),
    );
  });

  test('refuses what no policy covers: another network, protocol, port or family', () => {
    const policies = [pair(ts('10.1.0.0-10.1.0.255', 6, 80, 80), B)];
    for (const TSi of [ts('10.9.0.0-10.9.0.255'), ts('10.1.0.1', 17), ts('10.1.0.1', 6, 81, 90), ts('2001:db8::1')]) {
      expect(narrowTo(pair(TSi, B), policies)).toBeUndefined();
    }
    expect(narrowTo(pair(A, B), [])).toBeUndefined();
    expect(narrowTo({ TSi: [], TSr: [B] }, [pair(A, B)])).toBeUndefined();
  });

  test("the RFC's example: the packet's own selector in front of the net's does not stand twice in the answer", () => {
    const offer = pair(
      [ts('198.51.100.43', 17, 0x3039, 0x3039), ts('198.51.100.0-198.51.100.255', 17)],
      [ts('192.0.2.6', 17, 80, 80), ts('192.0.2.0-192.0.2.255', 17)],
    );
    const policy = pair(ts('198.51.100.0-198.51.100.255'), ts('192.0.2.0-192.0.2.255'));
    expect(narrowTo(offer, [policy])).toMatchObject(pair(ts('198.51.100.0-198.51.100.255', 17), ts('192.0.2.0-192.0.2.255', 17)));
  });

  test('chooses the policy that covers the packet, though another comes first; and says that more is possible', () => {
    const low = pair(ts('10.1.0.0-10.1.0.127'), B);
    const high = pair(ts('10.1.0.128-10.1.0.255'), B);
    const offer = pair([ts('10.1.0.200', 6, 1234, 1234), A], [ts('10.2.0.7', 6, 80, 80), B]);
    expect(narrowTo(offer, [low, high])).toMatchObject({ policy: high, ...high, additional: true });
    expect(narrowTo(pair(A, B), [low, high])).toMatchObject({ policy: low, ...low, additional: true });
  });

  test('nothing is additional that the choice covers already', () => {
    expect(narrowTo(pair(A, B), [pair(everything, everything), pair(A, B)])?.additional).toBe(false);
  });

  test('a policy that covers the packet in part is better than one that has other traffic only', () => {
    const other = pair(ts('10.1.0.0-10.1.0.127'), B);
    const part = pair(ts('10.1.0.128-10.1.0.255', 6, 80, 80), B);
    expect(narrowTo(pair([ts('10.1.0.200', 6), A], B), [other, part])?.policy).toBe(part);
  });

  test('answers at most the 255 selectors that a payload can count', () => {
    const singles = Array.from({ length: 16 }, (_, i) => ts('10.1.0.0-10.1.0.255', 0, i * 100, i * 100));
    const slices = Array.from({ length: 255 }, (_, i) => ts(`10.1.0.${i}`));
    expect(narrowTo(pair(slices, B), [pair(singles, B)])?.TSi.length).toBe(255);
  });
});

describe('the initiator', () => {
  test('takes what is within its proposal', () => {
    const answer = pair(ts('10.1.0.7', 6, 80, 80), B);
    expect(checkNarrowed(pair(A, B), answer)).toBe(answer);
  });

  test('refuses what is not, naming both, and an empty answer', () => {
    const attempt = (answer: SelectorPair) => () => checkNarrowed(pair(A, B), answer);
    expect(attempt(pair(everything, B))).toThrow(PeerError);
    expect(attempt(pair(everything, B))).toThrow(
      'TSi of the response holds 0.0.0.0-255.255.255.255, which is not within 10.1.0.0-10.1.0.255',
    );
    expect(attempt(pair(A, ts('10.2.0.0-10.2.1.0')))).toThrow('TSr of the response holds 10.2.0.0-10.2.1.0');
    expect(attempt({ TSi: [], TSr: [B] })).toThrow('TSi of the response holds no selector');
  });
});
