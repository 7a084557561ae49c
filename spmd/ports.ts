/** What goes into the spmd machine and what comes out of it: the closed unions its shell and the tests are written against. */

import type { Config } from '../src/config/config.ts';
import type { DatapathSettings } from '../src/config/datapath-settings.ts';
import type { LocalAddress } from '../src/config/expand.ts';
import type { SadbMessage } from '../src/pfkey/message.ts';
import type { SpmdEvent } from './events.ts';

export type SpmdInput =
  | { readonly kind: 'tick' }
  | { readonly kind: 'pfkey'; readonly message: SadbMessage }
  /** The PF_KEY connection came up, also after an overrun or a restart of the datapath, or was lost. */
  | { readonly kind: 'pfkey-link'; readonly up: boolean }
  /** `trusted`: it came through the run directory's own socket, and needs no LOGIN. */
  | { readonly kind: 'spmif-connected'; readonly client: number; readonly trusted?: boolean }
  | { readonly kind: 'spmif'; readonly client: number; readonly bytes: Uint8Array }
  | { readonly kind: 'spmif-closed'; readonly client: number }
  /** The host's own addresses, before the first `configure` and whenever they change. */
  | { readonly kind: 'addresses'; readonly addresses: readonly LocalAddress[] }
  /**
   * A compiled configuration is to take the place of the present one. `password` is what the file `spmd_password` holds. Answered by
   * `reply` with `Reloaded`, or with why nothing has changed. `confirmSeconds` other than 0: it goes back by itself unless confirmed.
   */
  | {
      readonly kind: 'configure';
      readonly id: number;
      readonly config: Config;
      readonly password: Uint8Array | undefined;
      readonly confirmSeconds: number;
    }
  /** What became of `datapath`: the settings are in force, or why not. */
  | { readonly kind: 'datapath'; readonly problem: string | undefined }
  | { readonly kind: 'command'; readonly id: number; readonly command: SpmdCommand };

export type SpmdOutput =
  | { readonly kind: 'pfkey'; readonly message: SadbMessage }
  | { readonly kind: 'spmif'; readonly client: number; readonly bytes: Uint8Array }
  | { readonly kind: 'spmif-close'; readonly client: number; readonly why: string }
  /** To be given to the datapath (verb `configure`), and answered by the input `datapath`: policies follow only then. */
  | { readonly kind: 'datapath'; readonly settings: DatapathSettings }
  /** A generation is in force: the shell follows its `logging`. */
  | { readonly kind: 'committed'; readonly generation: number; readonly config: Config }
  | { readonly kind: 'event'; readonly event: SpmdEvent }
  | { readonly kind: 'reply'; readonly id: number; readonly ok: true; readonly result: unknown }
  | { readonly kind: 'reply'; readonly id: number; readonly ok: false; readonly error: string };

export type SpmdCommand =
  /** `SpmdStatus` at once. */
  | { readonly verb: 'status' }
  /** Keeps what `confirmSeconds` would take back. */
  | { readonly verb: 'confirm' }
  /** Removes every policy that spmd installed, and replies when the datapath has answered. */
  | { readonly verb: 'shutdown' };

export interface Reloaded {
  readonly generation: number;
  /** One sentence: what was added, changed, removed and left alone. */
  readonly summary: string;
}

export interface PolicyStatus {
  /** 0 while the datapath has not answered. */
  readonly id: number;
  /** Name in the policy file; empty for what spmd adds by itself. */
  readonly name: string;
  readonly direction: string;
  readonly selector: string;
  readonly action: string;
  readonly priority: number;
  readonly reqid: number;
  readonly state: 'asked' | 'installed' | 'refused' | 'waiting';
  /** Made at negotiation time. */
  readonly generated: boolean;
}

export interface SpmdStatus {
  readonly generation: number | undefined;
  /** Whether the datapath is connected and its policies are known. */
  readonly datapath: boolean;
  readonly policies: readonly PolicyStatus[];
  readonly daemons: readonly { readonly name: string; readonly generation: number | undefined; readonly state: string }[];
  /** Seconds until an unconfirmed generation is taken back. */
  readonly unconfirmedSeconds: number | undefined;
  /** What is wrong now, each a sentence. */
  readonly problems: readonly string[];
}
