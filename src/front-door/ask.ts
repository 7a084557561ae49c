/** Questions of the front door to the daemons, with the exit codes of their failures. */

import { SystemError } from '../errors.ts';
import type { Event } from '../event.ts';
import { type ControlClient, controlClient } from '../runtime/control.ts';
import { type DaemonName, runDir } from '../runtime/run-dir.ts';
import { EXIT, Exit } from './exit-codes.ts';

/** Connects to one daemon of a run directory. Throws Exit with `notRunning` and what to do. */
export async function connectTo(
  daemon: DaemonName,
  directory: string,
  onEvent?: (event: Event) => void,
  onClose?: () => void,
): Promise<ControlClient> {
  try {
    return await controlClient(runDir(directory).control(daemon), onEvent, onClose);
  } catch (error) {
    const reason =
      error instanceof SystemError && (error.code === 'ENOENT' || error.code === 'ECONNREFUSED')
        ? 'nothing listens there'
        : (error as Error).message;
    throw new Exit(
      EXIT.notRunning,
      `${daemon} does not answer in ${directory} (${reason}); start it with: tanuki up --run-dir ${directory}`,
    );
  }
}

/** One question to one daemon. Throws Exit: `refused` with the daemon's sentence, `timeout`, or `notRunning`. */
export async function ask(
  daemon: DaemonName,
  directory: string,
  verb: string,
  args: Readonly<Record<string, unknown>> = {},
  timeoutMs?: number,
): Promise<unknown> {
  const client = await connectTo(daemon, directory);
  try {
    return await client.ask(verb, args, timeoutMs);
  } catch (error) {
    if (error instanceof SystemError) throw new Exit(error.code === 'ETIMEDOUT' ? EXIT.timeout : EXIT.notRunning, error.message);
    throw new Exit(EXIT.refused, (error as Error).message);
  } finally {
    client.close();
  }
}
