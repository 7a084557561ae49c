/**
 * The policies that the kernel obeys for us (RFC 4301 §4.4.1). PF_KEY's and the kernel's differ in two things, which are made up for here: an inbound
 * policy of ours is about what is forwarded too, where the kernel wants one more; and a unique policy is bound to its SAs by reqid, where the kernel
 * wants the very ends of their tunnel.
 */

import {
  type Ends,
  type KmAddress,
  type Policy,
  type PolicyDirection,
  type PolicySelector,
  sameEnds,
  samePolicySelector,
  showPolicySelector,
  type Template,
} from '../ipsec/policy.ts';
import type { Instant } from '../machine.ts';
import { policyToSadb } from '../pfkey/convert-policy.ts';
import type { SadbMessage } from '../pfkey/message.ts';
import type { SadbType } from '../pfkey/registry.ts';
import { asked, type Kernel, unlessGone } from './kernel.ts';
import type { KernelSa } from './sa-table.ts';

export interface KernelPolicy {
  /** As it was asked for, with the number that the kernel gave it. */
  policy: Policy;
  readonly seconds: number;
  readonly added: Instant;
  kmAddress: KmAddress | undefined;
  /** As the kernel has it: with the ends of the present SAs. */
  templates: readonly Template[];
}

export class PolicyTable {
  readonly #kernel: Kernel;
  readonly #sas: () => readonly KernelSa[];
  readonly #policies = new Map<number, KernelPolicy>();
  /** What a predecessor that crashed has left: it holds protected traffic back until its policies are there again. */
  #leftovers: readonly Policy[] = [];
  readonly #own = new Set<string>();
  /** Changes with the policies. */
  generation = 0;

  constructor(kernel: Kernel, sas: () => readonly KernelSa[]) {
    this.#kernel = kernel;
    this.#sas = sas;
  }

  /** Leaves the policies of a predecessor in force until `sweep`. */
  adopt(leftovers: readonly Policy[]): void {
    this.#leftovers = leftovers;
  }

  /** One of the host's own, which PF_KEY does not show. Throws SystemError. */
  putOwn(policy: Policy): void {
    this.#kernel.addPolicy(policy, { replace: this.#isLeft(policy.direction, policy.selector) });
    this.#own.add(keyOf(policy.direction, policy.selector));
  }

  /** The predecessor's policies that nobody has put again go. */
  sweep(): void {
    const mine = new Set(
      this.all.flatMap(({ policy: { direction, selector } }) => [keyOf(direction, selector), ...forwardOf(direction, selector)]),
    );
    for (const left of this.#leftovers) {
      const key = keyOf(left.direction, left.selector);
      if (!mine.has(key) && !this.#own.has(key)) unlessGone(() => this.#kernel.deletePolicy(left));
    }
    this.#leftovers = [];
  }

  #isLeft(direction: PolicyDirection, selector: PolicySelector): boolean {
    return this.#leftovers.some((left) => left.direction === direction && samePolicySelector(left.selector, selector));
  }

  get all(): readonly KernelPolicy[] {
    return [...this.#policies.values()];
  }

  byId(id: number): KernelPolicy | undefined {
    return this.#policies.get(id);
  }

  bySelector(direction: PolicyDirection, selector: PolicySelector): KernelPolicy | undefined {
    return this.all.find(({ policy }) => policy.direction === direction && samePolicySelector(policy.selector, selector));
  }

  /** Adds it, or replaces the one of the same selector. Throws SadbError. */
  put(policy: Policy, seconds: number, kmAddress: KmAddress | undefined, now: Instant): KernelPolicy {
    const there = this.bySelector(policy.direction, policy.selector);
    const templates = policy.templates.map((template) => this.#present(template, policy.direction));
    // Another program's policy of the same selector is not ours to replace; a companion is.
    const companion = policy.direction === 'forward' && this.bySelector('inbound', policy.selector) !== undefined;
    const replace = there !== undefined || companion || this.#isLeft(policy.direction, policy.selector);
    const id = asked(() => this.#kernel.addPolicy({ ...policy, templates }, { seconds, replace }));
    const put: KernelPolicy = {
      policy: { ...policy, id },
      seconds,
      added: { mono: now.mono, wall: now.wall },
      kmAddress: kmAddress ?? there?.kmAddress,
      templates,
    };
    try {
      this.#putCompanion(put, there !== undefined);
    } catch (error) {
      if (there === undefined) unlessGone(() => this.#kernel.deletePolicy(policy));
      throw error;
    }
    if (there !== undefined) this.#policies.delete(there.policy.id);
    this.#policies.set(id, put);
    this.generation++;
    return put;
  }

  remove(entry: KernelPolicy): void {
    const { policy } = entry;
    asked(() => unlessGone(() => this.#kernel.deletePolicy(policy)));
    this.forget(entry);
    const inbound = policy.direction === 'forward' ? this.bySelector('inbound', policy.selector) : undefined;
    if (inbound !== undefined) this.#putCompanion(inbound, false);
  }

  /** The kernel has dropped it at the end of its time. */
  forget(entry: KernelPolicy): void {
    this.#policies.delete(entry.policy.id);
    this.generation++;
    const { direction, selector } = entry.policy;
    if (direction === 'inbound' && this.bySelector('forward', selector) === undefined)
      unlessGone(() => this.#kernel.deletePolicy({ selector, direction: 'forward' }));
  }

  /** Its tunnels end elsewhere, or key management talks elsewhere. */
  retarget(entry: KernelPolicy, templates: readonly Template[], kmAddress: KmAddress | undefined): void {
    entry.policy = { ...entry.policy, templates };
    if (kmAddress !== undefined) entry.kmAddress = kmAddress;
    this.#follow(entry);
  }

  /** SAs of this reqid have come, gone or moved: their policies have their ends. */
  follow(reqid: number): void {
    if (reqid === 0) return;
    for (const entry of this.all) if (entry.policy.templates.some((template) => template.reqid === reqid)) this.#follow(entry);
  }

  #follow(entry: KernelPolicy): void {
    const { policy } = entry;
    const templates = policy.templates.map((template) => this.#present(template, policy.direction));
    if (templates.every((template, i) => sameTemplate(template, entry.templates[i]))) return;
    const { seconds } = entry;
    asked(() => this.#kernel.addPolicy({ ...policy, templates }, { seconds, replace: true }));
    entry.templates = templates;
    this.generation++;
    this.#putCompanion(entry, true);
  }

  /** A unique template of a tunnel between the ends of the newest SA that it is bound to. */
  #present(template: Template, direction: PolicyDirection): Template {
    const { mode, level, reqid, endpoints, protocol } = template;
    if (mode === 'transport' || endpoints === undefined || level !== 'unique' || reqid === 0) return template;
    const wantsInbound = direction !== 'outbound';
    const own = this.#sas().filter(({ parameters }) => {
      return parameters.reqid === reqid && parameters.mode === mode && parameters.protocol === protocol;
    });
    const as = own.filter((sa) => (sa.direction === 'inbound') === wantsInbound);
    if (as.length === 0 || own.some(({ parameters }) => sameEnds(endpoints, parameters))) return template;
    const { source, destination } = as.reduce((a, b) => (b.serial > a.serial ? b : a)).parameters;
    return { ...template, endpoints: { source, destination } };
  }

  /** What an inbound policy says of packets that are forwarded, unless a policy of its own says that. */
  #putCompanion({ policy, templates, seconds }: KernelPolicy, replace: boolean): void {
    if (policy.direction !== 'inbound' || this.bySelector('forward', policy.selector) !== undefined) return;
    const there = replace || this.#isLeft('forward', policy.selector);
    asked(() => this.#kernel.addPolicy({ ...policy, templates, direction: 'forward' }, { seconds, replace: there }));
  }
}

/** X_SPDADD and its kin about an entry. */
export function policyMessage(type: SadbType, { policy, seconds, added, kmAddress }: KernelPolicy): SadbMessage {
  const current = { allocations: 0, bytes: 0, addtime: Math.floor(added.wall / 1000), usetime: 0 };
  return { ...policyToSadb(type, policy, seconds, current), kmAddress };
}

function keyOf(direction: PolicyDirection, selector: PolicySelector): string {
  return `${direction} ${showPolicySelector(selector)}`;
}

/** The companion's key. */
function forwardOf(direction: PolicyDirection, selector: PolicySelector): string[] {
  return direction === 'inbound' ? [keyOf('forward', selector)] : [];
}

function sameTemplate({ endpoints }: Template, other: Template | undefined): boolean {
  const [a, b]: (Ends | undefined)[] = [endpoints, other?.endpoints];
  return a === undefined || b === undefined ? a === b : sameEnds(a, b);
}
