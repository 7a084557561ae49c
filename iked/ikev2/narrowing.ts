/** Traffic selector narrowing, RFC 7296 §2.9: what the responder grants of what was asked, and what the initiator may accept. */

import { PeerError } from '../../src/errors.ts';
import { ANY_PORT, isSubset, sameSelector, showSelector, type TrafficSelector } from '../../src/ipsec/selector.ts';
import { common, covers, type SelectorPair } from '../../src/ipsec/selector-pair.ts';

/** What was granted, and by which of the policies. */
export interface Narrowed<P extends SelectorPair> extends SelectorPair {
  readonly policy: P;
  /** More of the proposal would be possible in another child SA: N(ADDITIONAL_TS_POSSIBLE). */
  readonly additional: boolean;
}

/**
 * The responder's choice: the policy that covers the first selectors of both payloads (the packet that made the initiator ask, where it
 * says so), else the first with anything in common; narrowed to what it allows, the initiator's first choices included.
 * Undefined: TS_UNACCEPTABLE. `policies` are in order of precedence, each seen from the initiator.
 */
export function narrowTo<P extends SelectorPair>(offer: SelectorPair, policies: readonly P[]): Narrowed<P> | undefined {
  const first: SelectorPair = { TSi: offer.TSi.slice(0, 1), TSr: offer.TSr.slice(0, 1) };
  const fitting = policies.flatMap((policy) => {
    const granted = common(offer, policy);
    return granted === undefined ? [] : [{ policy, granted }];
  });
  const best =
    fitting.find(({ policy }) => covers(first, policy)) ??
    fitting.find(({ policy }) => common(first, policy) !== undefined) ??
    fitting[0];
  if (best === undefined) return undefined;
  const additional = fitting.some((other) => other !== best && !covers(other.granted, best.granted));
  return { policy: best.policy, ...best.granted, additional };
}

/**
 * What the initiator makes of the response: the selectors, which must be within those that it asked for. Throws PeerError TS_UNACCEPTABLE
 * where one is not or where either list is empty.
 */
export function checkNarrowed(offer: SelectorPair, answer: SelectorPair): SelectorPair {
  for (const side of ['TSi', 'TSr'] as const) {
    if (answer[side].length === 0)
      throw new PeerError('TS_UNACCEPTABLE', `${side} of the response holds no selector that is understood here`);
    for (const ts of answer[side]) {
      if (offer[side].some((asked) => isSubset(ts, asked))) continue;
      const asked = offer[side].map(showSelector).join(', ');
      throw new PeerError('TS_UNACCEPTABLE', `${side} of the response holds ${showSelector(ts)}, which is not within ${asked}`);
    }
  }
  return answer;
}

/** The packet that wants a child, where there is one, and whether a peer asked for single pairs of addresses. */
export interface Wish {
  readonly packet?: SelectorPair | undefined;
  readonly singlePair?: boolean;
}

/** What an initiator proposes under a policy: the selectors of the packet first, so that the responder knows which part is needed (§2.9). */
export function proposedSelectors(policy: SelectorPair, wish: Wish): SelectorPair {
  if (wish.singlePair) return singlePair(policy, wish) ?? policy;
  const { packet } = wish;
  if (packet === undefined || !covers(packet, policy)) return policy;
  const before = (first: readonly TrafficSelector[], all: readonly TrafficSelector[]) => [
    ...first.filter((ts) => !all.some((own) => sameSelector(ts, own))),
    ...all,
  ];
  return { TSi: before(packet.TSi, policy.TSi), TSr: before(packet.TSr, policy.TSr) };
}

/** The part of a policy that is for one pair of addresses: the packet's, or the policy's own where it names no more. */
export function singlePair(policy: SelectorPair, { packet }: Wish): SelectorPair | undefined {
  const hosts = packet === undefined ? policy : { TSi: packet.TSi.map(hostOnly), TSr: packet.TSr.map(hostOnly) };
  const pair = common(hosts, policy);
  if (pair === undefined) return undefined;
  const single = (some: readonly TrafficSelector[]) =>
    some.every((ts) => ts.start.equals(ts.end) && ts.start.equals(some[0]!.start));
  return single(pair.TSi) && single(pair.TSr) ? pair : undefined;
}

/** All traffic of the addresses. */
function hostOnly({ start, end }: TrafficSelector): TrafficSelector {
  return { protocol: 0, ...ANY_PORT, start, end };
}
