/** What the parts that all key daemons share need of the machine that owns them. */

import type { Ends } from '../ipsec/policy.ts';
import type { Instant } from '../machine.ts';
import type { IpAddress } from '../net/address.ts';
import type { Adoption } from './adoption.ts';
import type { ChildPolicy } from './child-policy.ts';
import type { Demand } from './demands.ts';
import type { PairEnds } from './ends.ts';
import type { ReportKeyEvent } from './events.ts';
import type { Failures } from './failures.ts';
import type { KeyOutput } from './ports.ts';
import type { Replies } from './replies.ts';
import type { SaPair } from './sa-pair.ts';

/** The ends that an ACQUIRE says its SA is to have. */
export interface AskedEnds {
  readonly local: IpAddress | undefined;
  readonly remote: IpAddress | undefined;
  /** Where to negotiate, where the ACQUIRE says that this is elsewhere (KMADDRESS). */
  readonly km?: PairEnds | undefined;
}

/**
 * Who begins to negotiate for a policy: this daemon; nobody here, since the peer has to (`passive`); another daemon, whose protocol the
 * remote lists first in `acceptable_kmp`.
 */
export type Beginner = 'us' | 'peer' | 'other';

export interface KeyHost {
  readonly now: Instant;
  /** The children of the configuration in force. */
  readonly policies: { readonly all: readonly ChildPolicy[]; child(selector: string): ChildPolicy | undefined };
  readonly asks: {
    refuseAcquire(seq: number, satype: number, errno: number, now: Instant): void;
    relocate(from: Ends, to: Ends): void;
  };
  readonly adoption: Pick<Adoption, 'holds'>;
  readonly failures: Failures;
  readonly replies: Replies;
  pairs(): readonly SaPair[];
  beginner(policy: ChildPolicy): Beginner;
  /** Begins to negotiate: in what there is with the peer, or anew. Ends in `Wanted.satisfied` or `Wanted.failed`. */
  negotiate(demand: Demand, asked: AskedEnds | undefined): void;
  emit(output: KeyOutput<never>): void;
  readonly report: ReportKeyEvent;
  /** Counts under a name that `status` shows. */
  count(name: string): void;
  /** Something goes wrong and may yet come right: `status` shows it until it does. */
  remember(subject: string, why: string): void;
}
