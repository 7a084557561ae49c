/** The PF_KEY side of a running engine: clients' bytes in, their messages out, and word of what the packet path wants said. Lives where the engine lives. */

import type { Effect } from '../datapath/effects.ts';
import type { Event } from '../event.ts';
import type { Instant } from '../machine.ts';
import type { SadbMessage } from '../pfkey/message.ts';
import { PfkeyServer, type PfkeyServerInput, type PfkeyServerOptions, type Verbs } from '../pfkey/server.ts';

export interface ControlPlaneOptions extends PfkeyServerOptions {
  readonly verbs: Verbs;
  /** What an effect is as a message, or undefined where it is nobody's business. */
  readonly announce: (effect: Effect) => SadbMessage | undefined;
  readonly send: (client: number, bytes: Uint8Array) => void;
  readonly close: (client: number) => void;
  readonly report: (event: Event) => void;
}

export class ControlPlane {
  readonly #options: ControlPlaneOptions;
  readonly #server: PfkeyServer;

  constructor(options: ControlPlaneOptions) {
    this.#options = options;
    this.#server = new PfkeyServer(options.verbs, options);
  }

  /** ACQUIREs of packets so far. */
  acquires = 0;

  get clients(): number {
    return this.#server.size;
  }

  handle(input: PfkeyServerInput, now: Instant): void {
    const { send, close, report } = this.#options;
    for (const output of this.#server.handle(input, now)) {
      if (output.kind === 'send') send(output.client, output.bytes);
      else if (output.kind === 'close') close(output.client);
      else report(output.event);
    }
  }

  /** Tells the clients what the packet path wants said. */
  tell(effects: readonly Effect[], now: Instant): void {
    for (const effect of effects) {
      if (effect.kind === 'acquire') this.acquires++;
      const message = this.#options.announce(effect);
      if (message !== undefined) this.handle({ kind: 'notify', message }, now);
    }
  }
}
