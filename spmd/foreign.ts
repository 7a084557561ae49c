/** Policies that other programs install, for selectors with `install off`: known by their reqid. */

import type { SelectorConfig } from '../src/config/config.ts';
import type { Policy } from '../src/ipsec/policy.ts';

/** Policies of others that are remembered; what comes beyond it is not adopted. */
const MOST = 65_536;

export class Foreign {
  readonly #policies = new Map<number, Policy>();

  add(policy: Policy): void {
    if (this.#policies.size < MOST && (policy.templates[0]?.reqid ?? 0) !== 0) this.#policies.set(policy.id, policy);
  }

  /** One policy by its number, or all. */
  remove(id: number | undefined): void {
    if (id === undefined) this.#policies.clear();
    else this.#policies.delete(id);
  }

  /** The selector that a policy stands for: not installed by us, with its reqid and direction. */
  selectorOf(id: number, selectors: readonly SelectorConfig[]): string | undefined {
    const policy = this.#policies.get(id);
    const reqid = policy?.templates[0]?.reqid;
    return selectors.find((one) => !one.policy.install && one.reqid === reqid && one.direction === policy?.direction)?.name;
  }
}
