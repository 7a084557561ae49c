/** What goes into the kinkd machine and what comes out of it: the closed unions its shell, the simulator and the tests are written against. */

import type { Config } from '../src/config/config.ts';
import type { KeyInput, KeyOutput } from '../src/keying/ports.ts';
import type { ChildSaStatus, KeyStatus } from '../src/keying/status.ts';
import type { KinkdEvent } from './events.ts';
import type { Credential } from './krb5/credential.ts';
import type { Keytab } from './krb5/keytab.ts';
import type { Principal } from './krb5/principal.ts';

/** Everything one configuration generation consists of. The shell reads the keytab; the machine opens no file. */
export interface KinkdSettings {
  readonly config: Config;
  readonly keytab: Keytab;
}

export type KinkdInput = KeyInput<KinkdSettings> | TicketAnswer;

export type KinkdOutput =
  | KeyOutput<KinkdEvent>
  | TicketQuestion
  /**
   * The replay cache, to be on disk before what follows is carried out: `record` is appended to its file, `whole` takes the file's place.
   */
  | { readonly kind: 'replays'; readonly record: Uint8Array }
  | { readonly kind: 'replays'; readonly whole: Uint8Array };

/** A ticket of `client` for `server`; `fresh`: one that is not in any cache. The KDC may take its time: nothing else waits for it. */
export interface TicketQuestion {
  readonly kind: 'ask';
  readonly id: number;
  readonly question: {
    readonly about: 'ticket';
    readonly client: Principal;
    readonly server: Principal;
    readonly fresh: boolean;
  };
}

/** The answer to the `ticket` ask with this id: a ticket, or why there is none. */
export type TicketAnswer =
  | { readonly kind: 'answer'; readonly id: number; readonly ticket: Credential }
  | { readonly kind: 'answer'; readonly id: number; readonly ticket: undefined; readonly why: string };

/** The result of `status`. */
export interface KinkdStatus extends KeyStatus {
  readonly peers: readonly AssociationStatus[];
  /** Whether the replay cache vouches for its whole window. */
  readonly replayCache: { readonly size: number; readonly complete: boolean };
}

export interface AssociationStatus {
  /** As in events. */
  readonly name: string;
  readonly remote: string;
  readonly myPrincipal: string;
  readonly peersPrincipal: string;
  readonly local: string;
  readonly peer: string;
  /** Seconds since 1970, low 32 bits; undefined: the peer was not heard yet. */
  readonly epoch: number | undefined;
  /** How far the peer's clock is ahead of ours, as it said authentically. */
  readonly clockOffsetMs: number;
  /** Commands of ours that are not answered yet. */
  readonly outstanding: number;
  readonly children: readonly ChildSaStatus[];
}
