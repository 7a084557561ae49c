/** The Security Association Database (RFC 4301 §4.4.2): SAs by SPI for what comes in, by policy template for what goes out. */

import type { SaParameters } from '../ipsec/sa.ts';
import type { Instant } from '../machine.ts';

export type SaState = 'larval' | 'mature' | 'dying' | 'dead';

/** One unidirectional SA as the engine runs it. */
export class Sa {
  readonly parameters: SaParameters;
  readonly born: Instant;
  state: SaState = 'mature';

  constructor(parameters: SaParameters, born: Instant) {
    this.parameters = parameters;
    this.born = born;
  }
}
