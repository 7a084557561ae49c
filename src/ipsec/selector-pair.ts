/** Both ends of a child SA's traffic, and the algebra on them (RFC 7296 §2.9, RFC 4301 §4.4.1). */

import type { IpAddress } from '../net/address.ts';
import { ANY_PORT, intersect, isSubset, sameSelector, type TrafficSelector } from './selector.ts';

/** TSi is the initiator's of the exchange. */
export interface SelectorPair {
  readonly TSi: readonly TrafficSelector[];
  readonly TSr: readonly TrafficSelector[];
}

/** A payload counts its selectors in one octet. */
const MOST = 255;

/** What both have in common, on both sides, or undefined where one side is empty. */
export function common(a: SelectorPair, b: SelectorPair): SelectorPair | undefined {
  const TSi = shared(a.TSi, b.TSi);
  const TSr = TSi.length === 0 ? [] : shared(a.TSr, b.TSr);
  return TSr.length === 0 ? undefined : { TSi, TSr };
}

/**
 * The intersections, in the order offered, without those that another contains: the packet's own selector is not needed once the wider
 * one behind it is there. Ends at what one payload can hold, which also bounds the time.
 */
function shared(offered: readonly TrafficSelector[], allowed: readonly TrafficSelector[]): TrafficSelector[] {
  let kept: TrafficSelector[] = [];
  for (const offer of offered) {
    for (const allow of allowed) {
      const both = intersect(offer, allow);
      if (both === undefined || kept.some((known) => isSubset(both, known))) continue;
      kept = kept.filter((known) => !isSubset(known, both));
      kept.push(both);
      if (kept.length === MOST) return kept;
    }
  }
  return kept;
}

/** Whether everything of `inner` is within single selectors of `outer`. */
export function covers(inner: SelectorPair, outer: SelectorPair): boolean {
  const within = (some: readonly TrafficSelector[], all: readonly TrafficSelector[]) =>
    some.every((ts) => all.some((wide) => isSubset(ts, wide)));
  return within(inner.TSi, outer.TSi) && within(inner.TSr, outer.TSr);
}

/** The part of a policy that is for two hosts, or undefined where there is none. */
export function betweenHosts(policy: SelectorPair, mine: IpAddress, peers: IpAddress): SelectorPair | undefined {
  const all = (address: IpAddress): TrafficSelector[] => [{ protocol: 0, ...ANY_PORT, start: address, end: address }];
  return common({ TSi: all(mine), TSr: all(peers) }, policy);
}

/** Whether both select the same, in whatever order. */
export function samePair(a: SelectorPair, b: SelectorPair): boolean {
  const same = (one: readonly TrafficSelector[], other: readonly TrafficSelector[]) =>
    one.length === other.length && one.every((ts) => other.some((known) => sameSelector(ts, known)));
  return same(a.TSi, b.TSi) && same(a.TSr, b.TSr);
}
