/** All daemons of one host in one process: small hosts, the quick start, tests and embedders. The only file that knows them all. */

import { startIked } from '../iked/daemon.ts';
import { startKinkd } from '../kinkd/daemon.ts';
import { startSpmd } from '../spmd/daemon.ts';
import { startDatapath } from './datapath-process/daemon.ts';
import type { Event, Severity } from './event.ts';
import { type Daemon, linkDoors } from './runtime/shell.ts';

export interface SuiteOptions {
  /** Policy file. */
  readonly file: string;
  /** Directory of the control sockets. */
  readonly runDir: string;
  readonly logLevel?: Severity | undefined;
  /** No log lines; `onEvent` sees everything. */
  readonly quiet?: boolean | undefined;
  readonly onEvent?: ((daemon: string, event: Event) => void) | undefined;
}

/** Starts a datapath, spmd, iked and kinkd joined by links that carry the very bytes their sockets would. Throws ConfigError where the file or the run directory is of no use. */
export async function startSuite({ file, runDir, logLevel, quiet, onEvent }: SuiteOptions): Promise<Daemon> {
  const doors = linkDoors();
  const common = (daemon: string) => ({ runDir, doors, logLevel, quiet, onEvent: (event: Event) => onEvent?.(daemon, event) });
  const running: Daemon[] = [];
  const stop = async () => {
    for (const daemon of running.splice(0).reverse()) await daemon.stop();
  };
  try {
    running.push(await startDatapath(common('datapath')));
    running.push(await startSpmd({ ...common('spmd'), file }));
    running.push(await startIked(common('iked')));
    running.push(await startKinkd(common('kinkd')));
  } catch (error) {
    await stop();
    throw error;
  }
  return { stop };
}
