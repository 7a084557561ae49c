/** Policies for peers whose addresses the policy file does not know (`IP_RW`): spmd makes them while their child SA is there (racoon2's POLICY ADD). */

import type { PolicyConfig } from '../config/config.ts';
import type { TrafficSelector } from '../ipsec/selector.ts';
import { rangeToPrefixes, showPrefix } from '../net/prefix.ts';
import type { SaPair } from './sa-pair.ts';

/** Pairs of prefixes of one child that policies are made for; a peer could ask for ranges that fall into very many. */
const MOST_PAIRS = 64;
/** A policy outlives its child's hard lifetime by this, so that a rekey always finds it. Seconds. */
const GRACE_SECONDS = 60;

/** Whether spmd waits for us with the policies of this selector: a tunnel whose far end may be anywhere. */
export function isGenerated({ mode, peersSaAddress }: PolicyConfig): boolean {
  return mode === 'tunnel' && peersSaAddress?.kind === 'macro' && peersSaAddress.macro.startsWith('IP_');
}

/** spmif's commands that put the policies of a child in force. They end by themselves where we cannot take them back. */
export function addPolicies(child: SaPair): string[] {
  const { seconds } = child.lifetime.hard;
  const life = seconds === 0 ? 0 : Math.ceil(seconds) + GRACE_SECONDS;
  return pairsOf(child).map((pair) => `POLICY ADD ${child.policy.name} ${life} ${pair}`);
}

/** The commands that take them back, unless another child needs the same. */
export function deletePolicies(child: SaPair, others: readonly SaPair[]): string[] {
  const kept = new Set(
    others.flatMap((other) => (other.usable && other.policy.name === child.policy.name ? pairsOf(other) : [])),
  );
  return pairsOf(child)
    .filter((pair) => !kept.has(pair))
    .map((pair) => `POLICY DELETE ${child.policy.name} ${pair}`);
}

/** `TUNNEL 10.1.0.0/16 10.200.0.7 192.0.2.1 203.0.113.9`, in the direction of the outbound selector. */
function pairsOf({ agreed, path }: SaPair): string[] {
  const prefixes = (some: readonly TrafficSelector[]) =>
    some.flatMap(({ start, end }) =>
      rangeToPrefixes(start, end).map((prefix) => ({ family: start.family, text: showPrefix(prefix) })),
    );
  const ends = `${path.local.address} ${path.remote.address}`;
  const pairs = prefixes(agreed.local).flatMap((mine) =>
    prefixes(agreed.peer).flatMap((theirs) =>
      mine.family === theirs.family ? [`TUNNEL ${mine.text} ${theirs.text} ${ends}`] : [],
    ),
  );
  return [...new Set(pairs)].slice(0, MOST_PAIRS);
}
