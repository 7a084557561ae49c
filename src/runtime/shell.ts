/** What the shells of all daemons share: doors, log, control socket, and the way to run until told to stop. */

import { ConfigError, SystemError } from '../errors.ts';
import type { Event, Severity } from '../event.ts';
import { type Answerer, type ControlServer, serveControl } from './control.ts';
import { type Accept, type Door, linkDoor, socketDoor } from './door.ts';
import { type LogOptions, logSink } from './log-sink.ts';
import { type PeerCheck, peerCheck } from './peer-check.ts';
import { type DaemonName, prepareRunDir, type RunDir } from './run-dir.ts';
import { listen } from './unix-socket.ts';

/** Where the daemons of one host meet. */
export interface Doors {
  readonly pfkey: Door;
  readonly spmif: Door;
  readonly encap: Door;
}

export function socketDoors(dir: RunDir, admits?: PeerCheck): Doors {
  return { pfkey: socketDoor(dir.pfkey, admits), spmif: socketDoor(dir.spmif, admits), encap: socketDoor(dir.encap, admits) };
}

/** Doors within one process. */
export function linkDoors(): Doors {
  return { pfkey: linkDoor(), spmif: linkDoor(), encap: linkDoor() };
}

/** What every `start…` takes. */
export interface DaemonOptions {
  /** Directory of the sockets. */
  readonly runDir: string;
  /** Default: the sockets of the run directory. */
  readonly doors?: Doors | undefined;
  /** Wins over the policy file's `logging`. */
  readonly logLevel?: Severity | undefined;
  /** No log lines; `onEvent` sees everything. */
  readonly quiet?: boolean | undefined;
  readonly onEvent?: ((event: Event) => void) | undefined;
}

export interface Daemon {
  stop(): Promise<void>;
}

export interface Shell {
  readonly dir: RunDir;
  readonly doors: Doors;
  /** Logs an event and sends it to everyone who listens. */
  report(event: Event): void;
  /** Follows the policy file's `logging`, unless the command line or an embedder decided. */
  configureLog(options: LogOptions): void;
  serveControl(answer: Answerer): Promise<void>;
  /** Serves a further socket, which the policy file names. Throws SystemError. */
  listenAlso(path: string, accept: Accept): Promise<{ close(): Promise<void> }>;
  close(): Promise<void>;
}

export function shell(daemon: DaemonName, { runDir, doors, logLevel, quiet, onEvent }: DaemonOptions): Shell {
  const dir = prepareRunDir(runDir);
  const log = quiet === true ? undefined : logSink(daemon, { level: logLevel ?? 'info', destination: 'stderr', format: 'text' });
  let control: ControlServer | undefined;
  const report = (event: Event) => {
    log?.write(event);
    control?.publish(event);
    onEvent?.(event);
  };
  const admits = peerCheck(report);
  return {
    dir,
    doors: doors ?? socketDoors(dir, admits),
    report,
    listenAlso: (path, accept) => listen(path, accept, admits),
    configureLog: (options) => log?.configure(logLevel === undefined ? options : { ...options, level: logLevel }),
    async serveControl(answer) {
      control = await serveControl(dir.control(daemon), answer, admits);
    },
    async close() {
      await control?.close();
      log?.close();
    },
  };
}

/** How a daemon's process ends. */
export const DAEMON_EXIT = {
  /** It was told to. */
  stopped: 0,
  /** It could not go on; the next attempt may. */
  failed: 1,
  /** What it was told is of no use (ConfigError): no attempt will do better. */
  hopeless: 2,
} as const;

/** Runs a daemon as a process: until SIGTERM or SIGINT, or until its supervisor is gone. One that cannot start says why on standard error; the exit code is one of `DAEMON_EXIT`. */
export async function runDaemon(daemon: DaemonName, start: () => Promise<Daemon>): Promise<void> {
  const stopping = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve());
    process.on('disconnect', () => resolve());
    process.channel?.unref();
  });
  try {
    const running = await start();
    await stopping;
    await running.stop();
    process.exitCode = DAEMON_EXIT.stopped;
  } catch (error) {
    const said = error instanceof SystemError || error instanceof ConfigError;
    const text = said ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.stderr.write(`${daemon}: cannot run: ${text}\n`);
    process.exitCode = error instanceof ConfigError ? DAEMON_EXIT.hopeless : DAEMON_EXIT.failed;
  }
}
