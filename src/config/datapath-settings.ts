/** What spmd tells the datapath's process of the configuration: plain JSON, over the control socket of the latter. */

import type { DatapathConfig, LimitsConfig, LoggingConfig } from './config.ts';

/** What it is to know beyond its policies. */
export interface DatapathSettings {
  readonly datapath: DatapathConfig;
  readonly limits: LimitsConfig;
  readonly logging: LoggingConfig;
  /** Local UDP ports of the key daemons. */
  readonly keyPorts: readonly number[];
  /** Local addresses that the encapsulation port is served on. */
  readonly localAddresses: readonly string[];
  readonly unmatched: 'bypass' | 'discard';
  /** A further PF_KEY socket beside the run directory's. */
  readonly pfkey?: string | undefined;
}
