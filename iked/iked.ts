/** THE MACHINE of iked: it owns every IKE SA of a host and gives each datagram, PF_KEY message and command to the right one. */

import type { Engine } from '../src/crypto/engine.ts';
import type { Instant, Machine, RandomBytes } from '../src/machine.ts';
import type { IkedInput, IkedOutput } from './ports.ts';

export type { IkedEvent, IkedEventName } from './events.ts';
export { IKED_EVENTS } from './events.ts';
export type { ChildSaStatus, IkedCommand, IkedInput, IkedOutput, IkedSettings, IkedStatus, IkeSaStatus } from './ports.ts';

export interface IkedOptions {
  readonly random: RandomBytes;
  /** Goes into `sadb_msg_pid` of every PF_KEY request; replies are matched by it and the sequence number. */
  readonly pid: number;
  /** The crypto engine; the default one unless a test needs another. */
  readonly engine?: Engine;
}

export class Iked implements Machine<IkedInput, IkedOutput> {
  readonly #options: IkedOptions;

  constructor(options: IkedOptions) {
    this.#options = options;
  }

  handle(input: IkedInput, now: Instant): readonly IkedOutput[] {
    void this.#options;
    void input;
    void now;
    return [];
  }

  wakeAt(): number | undefined {
    return undefined;
  }
}
