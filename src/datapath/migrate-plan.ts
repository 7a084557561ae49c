/** What one X_MIGRATE changes, found and checked before anything moves. */

import type { Ends, Template } from '../ipsec/policy.ts';
import type { Movement } from '../pfkey/convert-migrate.ts';
import type { Larval, Sa } from './sa.ts';
import type { SpdEntry } from './spd.ts';

export interface MigratePlan {
  readonly entry: SpdEntry;
  readonly movements: readonly Movement[];
  readonly templates: readonly Template[];
  readonly sas: readonly { readonly sa: Sa; readonly to: Ends }[];
  readonly larvals: readonly { readonly larval: Larval; readonly to: Ends }[];
}
