/**
 * Outbound SAs on hold (`HOLD_MS`, pfkey/rules.ts): the kernel has no such state, so they are taken out of it and put back as they were. Meanwhile it asks for
 * an SA, and its packets wait or are dropped as before any first SA (`net.core.xfrm_larval_drop`).
 */

import type { Instant } from '../machine.ts';
import { HOLD_MS } from '../pfkey/rules.ts';
import type { Kernel } from './kernel.ts';
import type { KernelSa } from './sa-table.ts';

interface Held {
  /** What puts it back, its keys among it. */
  readonly taken: Uint8Array;
  until: number;
}

export class Holding {
  readonly #kernel: Pick<Kernel, 'takeSa' | 'putSa'>;
  readonly #held = new Map<KernelSa, Held>();

  constructor(kernel: Pick<Kernel, 'takeSa' | 'putSa'>) {
    this.#kernel = kernel;
  }

  has(sa: KernelSa): boolean {
    return this.#held.has(sa);
  }

  /** Throws SystemError where the kernel has it no more. */
  hold(sa: KernelSa, { mono }: Instant): void {
    const until = mono + HOLD_MS;
    const held = this.#held.get(sa);
    if (held !== undefined) held.until = until;
    else this.#held.set(sa, { taken: this.#kernel.takeSa(sa.parameters, sa.parameters, sa.parameters.encapsulation), until });
  }

  /** Puts it back where it is on hold. Throws SystemError where the kernel does not take it: then it is gone. */
  letGo(sa: KernelSa): void {
    const held = this.#held.get(sa);
    this.#held.delete(sa);
    if (held !== undefined) this.#kernel.putSa(held.taken);
  }

  /** It has come to its end. */
  forget(sa: KernelSa): void {
    this.#held.get(sa)?.taken.fill(0);
    this.#held.delete(sa);
  }

  /** Those whose time on hold is over. */
  due(mono: number): KernelSa[] {
    return [...this.#held].filter(([, { until }]) => until <= mono).map(([sa]) => sa);
  }

  get next(): number | undefined {
    return this.#held.size === 0 ? undefined : Math.min(...[...this.#held.values()].map(({ until }) => until));
  }
}
