/** Configuration by generation: every subscribed daemon prepares it, then all commit; one that cannot rejects it for all. */

import type { Config } from '../src/config/config.ts';
import type { Instant } from '../src/machine.ts';

/** How long the daemons may take to prepare, in milliseconds. */
export const PREPARE_TIMEOUT = 30_000;

export type Step =
  | { readonly kind: 'prepare'; readonly client: number; readonly generation: number; readonly config: Config }
  | { readonly kind: 'commit' | 'abort'; readonly client: number; readonly generation: number }
  /** All are prepared: it is in force from here on. `commit` steps for the daemons follow. */
  | { readonly kind: 'committed'; readonly generation: number; readonly config: Config }
  | { readonly kind: 'rejected'; readonly generation: number; readonly reason: string }
  /** A daemon that came later cannot work with the generation in force. */
  | { readonly kind: 'unfit'; readonly daemon: string; readonly generation: number; readonly reason: string };

interface Subscriber {
  readonly daemon: string;
  state: 'waiting' | 'preparing' | 'committed' | 'rejected';
  generation: number | undefined;
  reason?: string;
}

export class Generations {
  #last: number;
  #active: { readonly generation: number; readonly config: Config } | undefined;
  #pending:
    | { readonly generation: number; readonly config: Config; readonly awaited: Set<number>; readonly deadline: number }
    | undefined;
  readonly #subscribers = new Map<number, Subscriber>();

  /** Generations count from behind `first`, so that a restarted spmd does not use a number again. */
  constructor(first: number) {
    this.#last = first;
  }

  get active(): { readonly generation: number; readonly config: Config } | undefined {
    return this.#active;
  }

  get busy(): boolean {
    return this.#pending !== undefined;
  }

  get subscribers(): ReadonlyMap<number, Readonly<Subscriber>> {
    return this.#subscribers;
  }

  wakeAt(): number | undefined {
    return this.#pending?.deadline;
  }

  /** The first configuration is in force at once: without it policies would be missing, and traffic would go unprotected. */
  propose(config: Config, now: Instant): Step[] {
    const generation = ++this.#last;
    if (this.#active === undefined) {
      this.#active = { generation, config };
      const steps = [...this.#subscribers.keys()].map((client): Step => this.#prepare(client, generation, config));
      return [{ kind: 'committed', generation, config }, ...steps];
    }
    this.#pending = { generation, config, awaited: new Set(this.#subscribers.keys()), deadline: now.mono + PREPARE_TIMEOUT };
    const steps = [...this.#subscribers.keys()].map((client): Step => this.#prepare(client, generation, config));
    return [...steps, ...this.#conclude()];
  }

  subscribe(client: number, daemon: string): Step[] {
    this.#subscribers.set(client, { daemon, state: 'waiting', generation: undefined });
    const target = this.#pending ?? this.#active;
    if (target === undefined) return [];
    this.#pending?.awaited.add(client);
    return [this.#prepare(client, target.generation, target.config)];
  }

  prepared(client: number, generation: number): Step[] {
    if (this.#pending?.generation === generation) {
      this.#pending.awaited.delete(client);
      return this.#conclude();
    }
    const subscriber = this.#subscribers.get(client);
    if (subscriber === undefined || this.#active?.generation !== generation) return [];
    subscriber.state = 'committed';
    subscriber.generation = generation;
    return [{ kind: 'commit', client, generation }];
  }

  rejected(client: number, generation: number, reason: string): Step[] {
    const subscriber = this.#subscribers.get(client);
    if (subscriber === undefined) return [];
    if (this.#pending?.generation === generation) return this.#reject(`${subscriber.daemon}: ${reason}`);
    if (this.#active?.generation !== generation) return [];
    subscriber.state = 'rejected';
    subscriber.reason = reason;
    return [{ kind: 'unfit', daemon: subscriber.daemon, generation, reason }];
  }

  /** A daemon that goes while it prepares holds nobody up: it will ask again. */
  gone(client: number): Step[] {
    this.#subscribers.delete(client);
    if (this.#pending?.awaited.delete(client) !== true) return [];
    return this.#conclude();
  }

  tick(now: Instant): Step[] {
    if (this.#pending === undefined || now.mono < this.#pending.deadline) return [];
    const silent = [...this.#pending.awaited].map((client) => this.#subscribers.get(client)?.daemon ?? 'a daemon');
    return this.#reject(`no answer from ${silent.join(' and ')} within ${PREPARE_TIMEOUT / 1000} s`);
  }

  #prepare(client: number, generation: number, config: Config): Step {
    this.#subscribers.get(client)!.state = 'preparing';
    return { kind: 'prepare', client, generation, config };
  }

  #conclude(): Step[] {
    if (this.#pending === undefined || this.#pending.awaited.size > 0) return [];
    const { generation, config } = this.#pending;
    this.#pending = undefined;
    this.#active = { generation, config };
    for (const subscriber of this.#subscribers.values()) {
      subscriber.state = 'committed';
      subscriber.generation = generation;
    }
    const commits = [...this.#subscribers.keys()].map((client): Step => ({ kind: 'commit', client, generation }));
    return [{ kind: 'committed', generation, config }, ...commits];
  }

  #reject(reason: string): Step[] {
    const { generation } = this.#pending!;
    this.#pending = undefined;
    const steps: Step[] = [{ kind: 'rejected', generation, reason }];
    for (const [client, subscriber] of this.#subscribers) {
      steps.push({ kind: 'abort', client, generation });
      subscriber.state = subscriber.generation === undefined ? 'waiting' : 'committed';
      // Whoever came in between has nothing yet.
      if (subscriber.generation === undefined && this.#active !== undefined) {
        steps.push(this.#prepare(client, this.#active.generation, this.#active.config));
      }
    }
    return steps;
  }
}
