/** Traffic selector narrowing, RFC 7296 §2.9: what the responder grants of what was asked, and what the initiator may accept. */

import { PeerError } from '../../src/errors.ts';
import { isSubset, narrow, showSelector, type TrafficSelector } from '../../src/ipsec/selector.ts';

/** Both ends of a child SA's traffic: TSi is the initiator's of this exchange. */
export interface SelectorPair {
  readonly TSi: readonly TrafficSelector[];
  readonly TSr: readonly TrafficSelector[];
}

/** What was granted, and by which of the policies. */
export interface Narrowed<P extends SelectorPair> extends SelectorPair {
  readonly policy: P;
  /** More of the proposal would be possible in another child SA: N(ADDITIONAL_TS_POSSIBLE). */
  readonly additional: boolean;
}

/** A payload counts its selectors in one octet. */
const MOST = 255;

/**
 * The responder's choice: the policy that covers the first selectors of both payloads (the packet that made the initiator ask, where it
 * says so), else the first with anything in common; narrowed to what it allows, the initiator's first choices included.
 * Undefined: TS_UNACCEPTABLE. `policies` are in order of precedence, each seen from the initiator.
 */
export function narrowTo<P extends SelectorPair>(offer: SelectorPair, policies: readonly P[]): Narrowed<P> | undefined {
  const first: SelectorPair = { TSi: offer.TSi.slice(0, 1), TSr: offer.TSr.slice(0, 1) };
  const fitting = policies.filter((policy) => common(offer, policy) !== undefined);
  const policy =
    fitting.find((candidate) => covers(first, candidate)) ?? fitting.find((candidate) => common(first, candidate)) ?? fitting[0];
  const granted = policy === undefined ? undefined : common(offer, policy);
  if (policy === undefined || granted === undefined) return undefined;
  return { policy, ...granted, additional: fitting.some((other) => other !== policy && !covers(common(offer, other), granted)) };
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

/** What both have in common, on both sides, or undefined where one side is empty. */
function common(a: SelectorPair, b: SelectorPair): SelectorPair | undefined {
  const TSi = tidy(narrow(a.TSi, b.TSi));
  const TSr = tidy(narrow(a.TSr, b.TSr));
  return TSi.length === 0 || TSr.length === 0 ? undefined : { TSi, TSr };
}

/** Without selectors that another contains: the specific first one is there once the wider one that follows it is. */
function tidy(selectors: readonly TrafficSelector[]): TrafficSelector[] {
  const kept = selectors.filter(
    (ts, i) => !selectors.some((other, j) => i !== j && isSubset(ts, other) && (!isSubset(other, ts) || j < i)),
  );
  return kept.slice(0, MOST);
}

/** Whether everything of `inner` is within single selectors of `outer`. */
function covers(inner: SelectorPair | undefined, outer: SelectorPair): boolean {
  const within = (some: readonly TrafficSelector[], all: readonly TrafficSelector[]) =>
    some.every((ts) => all.some((wide) => isSubset(ts, wide)));
  return inner === undefined || (within(inner.TSi, outer.TSi) && within(inner.TSr, outer.TSr));
}
