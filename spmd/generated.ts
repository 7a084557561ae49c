/** Policies made at negotiation time by POLICY ADD (racoon2's spmif), for peers whose addresses the policy file does not know. */

import type { SelectorConfig } from '../src/config/config.ts';
import type { Policy } from '../src/ipsec/policy.ts';
import type { PolicyArguments } from '../src/spmif/request.ts';
import { keyOf, selectorFor, type TableEntry, templatesOf } from './policy-table.ts';
import { isDynamic } from './priorities.ts';
import { mirrorOf } from './reqids.ts';

/**
 * The pair of entries that a POLICY ADD asks for: the named selector's and its mirror's, which is reversed. Addresses and endpoints are in
 * the named selector's direction. A string says why there is none.
 */
export function generate(
  asked: PolicyArguments,
  seconds: number,
  selectors: readonly SelectorConfig[],
  priorities: ReadonlyMap<string, number>,
): [TableEntry, TableEntry] | string {
  const selector = selectors.find(({ name }) => name === asked.selector);
  if (selector === undefined) return `there is no selector ${asked.selector}`;
  if (selector.policy.action !== 'protect')
    return `the policy of ${asked.selector} is ${selector.policy.action}: nothing is negotiated for it`;
  const mirror = mirrorOf(selector, selectors);
  if (mirror === undefined)
    return `selector ${asked.selector} has no mirror: one of the other direction with the same remote and the addresses swapped`;
  if (asked.source.address.family !== asked.destination.address.family)
    return `${asked.source.address} and ${asked.destination.address} are of different families`;
  if (asked.endpoints !== undefined && asked.endpoints.source.family !== asked.endpoints.destination.family)
    return 'the tunnel ends are of different families';
  const reversed: PolicyArguments = {
    ...asked,
    source: asked.destination,
    destination: asked.source,
    endpoints:
      asked.endpoints === undefined ? undefined : { source: asked.endpoints.destination, destination: asked.endpoints.source },
  };
  return [entry(selector, asked, seconds, priorities), entry(mirror, reversed, seconds, priorities)];
}

function entry(
  selector: SelectorConfig,
  asked: PolicyArguments,
  seconds: number,
  priorities: ReadonlyMap<string, number>,
): TableEntry {
  const { direction } = selector;
  const { source, destination } = asked.endpoints ?? {};
  const ends =
    asked.mode === 'transport' || source === undefined || destination === undefined
      ? undefined
      : direction === 'outbound'
        ? { mine: source, peers: destination }
        : { mine: destination, peers: source };
  const policy: Policy = {
    id: 0,
    selector: selectorFor(selector, asked.source, asked.destination),
    direction,
    action: 'protect',
    priority: priorities.get(selector.name)! | 1,
    templates: templatesOf(selector, ends),
  };
  return { key: keyOf(direction, policy.selector), selector: selector.name, policy, seconds, dynamic: true };
}

/** An entry that a spmd before us generated, under the selector whose reqid it has; undefined where there is none any more. */
export function adopted(policy: Policy, selectors: readonly SelectorConfig[]): TableEntry | undefined {
  const reqid = policy.templates[0]?.reqid ?? 0;
  if (!isDynamic(policy.priority) || reqid === 0) return undefined;
  const selector = selectors.find((one) => one.reqid === reqid && one.direction === policy.direction);
  if (selector === undefined) return undefined;
  return { key: keyOf(policy.direction, policy.selector), selector: selector.name, policy, seconds: 0, dynamic: true };
}
