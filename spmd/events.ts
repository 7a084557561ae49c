/** What spmd reports: a closed union by name. */

import type { Event } from '../src/event.ts';

export type SpmdEventName =
  /** A generation is in force. */
  | 'configuration-committed'
  /** A generation was refused by a daemon, or nobody answered; nothing has changed. */
  | 'configuration-rejected'
  /** A reload was not confirmed in time. */
  | 'configuration-taken-back'
  | 'daemon-subscribed'
  | 'daemon-lost'
  /** The datapath is there, and its policies are known. */
  | 'pfkey-synchronised'
  | 'pfkey-lost'
  | 'pfkey-failed'
  | 'policy-refused'
  | 'policy-not-removed'
  /** Nothing can be installed for a selector. */
  | 'policy-not-installed'
  | 'policies-removed-by-others'
  | 'policy-generated'
  /** A mobility daemon moved a tunnel's ends (X_MIGRATE). */
  | 'policy-moved'
  | 'spmif-client-refused';

export interface SpmdEvent extends Event {
  readonly name: SpmdEventName;
}
