/** Policies made at negotiation time by POLICY ADD (racoon2's spmif), for peers whose addresses the policy file does not know. */

import type { Config, SelectorConfig } from '../src/config/config.ts';
import type { Policy } from '../src/ipsec/policy.ts';
import { earliest, type Instant } from '../src/machine.ts';
import type { PolicyArguments, Request } from '../src/spmif/request.ts';
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

/** Entries that may be generated at the same time. */
export const MOST_GENERATED = 65_536;

/** The generated entries that there are. */
export class Generated {
  readonly #entries = new Map<string, { readonly entry: TableEntry; readonly until: number | undefined }>();

  get size(): number {
    return this.#entries.size;
  }

  get entries(): TableEntry[] {
    return [...this.#entries.values()].map(({ entry }) => entry);
  }

  get(key: string): TableEntry | undefined {
    return this.#entries.get(key)?.entry;
  }

  add(entries: readonly TableEntry[], now: Instant): void {
    for (const one of entries) {
      this.#entries.set(one.key, { entry: one, until: one.seconds === 0 ? undefined : now.mono + one.seconds * 1000 });
    }
  }

  remove(keys: readonly string[]): void {
    for (const key of keys) this.#entries.delete(key);
  }

  /** The keys of what was generated for a selector and its mirror; only those asked for where addresses are given. A string says why not. */
  matching(
    asked: Extract<Request, { verb: 'policy-delete' }>,
    selectors: readonly SelectorConfig[],
    priorities: ReadonlyMap<string, number>,
  ): string[] | string {
    const selector = selectors.find(({ name }) => name === asked.selector);
    if (selector === undefined) return `there is no selector ${asked.selector}`;
    const names = [selector.name, mirrorOf(selector, selectors)?.name];
    const keys = this.entries.filter((one) => names.includes(one.selector)).map(({ key }) => key);
    if (asked.mode === undefined) return keys;
    const pair = generate(asked, 0, selectors, priorities);
    return typeof pair === 'string' ? pair : keys.filter((key) => pair.some((one) => one.key === key));
  }

  /** Takes over what a spmd before us generated, under the selectors whose reqids it has. */
  adopt(policies: Iterable<Policy>, selectors: readonly SelectorConfig[]): void {
    for (const policy of policies) {
      const reqid = policy.templates[0]?.reqid ?? 0;
      const selector = selectors.find((one) => one.reqid === reqid && one.direction === policy.direction);
      if (!isDynamic(policy.priority) || reqid === 0 || selector === undefined) continue;
      const key = keyOf(policy.direction, policy.selector);
      this.#entries.set(key, { entry: { key, selector: selector.name, policy, seconds: 0, dynamic: true }, until: undefined });
    }
  }

  /** Under another configuration: entries stay while their selector protects with the same reqid, and follow its priority. */
  follow({ selectors }: Config, priorities: ReadonlyMap<string, number>): void {
    for (const [key, { entry: one, until }] of [...this.#entries]) {
      const selector = selectors.find(({ name }) => name === one.selector);
      if (selector?.policy.action === 'protect' && selector.reqid === one.policy.templates[0]?.reqid) {
        const policy = { ...one.policy, priority: priorities.get(selector.name)! | 1 };
        this.#entries.set(key, { entry: { ...one, policy }, until });
      } else this.#entries.delete(key);
    }
  }

  wakeAt(): number | undefined {
    return earliest(...[...this.#entries.values()].map(({ until }) => until));
  }

  /** Forgets what has outlived its time; the datapath has removed it by itself, or is to remove it. True where there was any. */
  expire(now: Instant): boolean {
    const due = [...this.#entries].filter(([, { until }]) => until !== undefined && until <= now.mono);
    this.remove(due.map(([key]) => key));
    return due.length > 0;
  }
}
