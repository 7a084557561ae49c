/** The run directory: where the daemons' sockets lie, and their names. */

import { chmodSync, lstatSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from '../errors.ts';

export type DaemonName = 'tanuki' | 'datapath' | 'spmd' | 'iked' | 'kinkd';

export interface RunDir {
  readonly path: string;
  /** PF_KEY, served by the datapath. */
  readonly pfkey: string;
  /** IKE datagrams that arrive on the UDP encapsulation port, from the datapath to iked and back. */
  readonly encap: string;
  /** spmd's interface for the key daemons. */
  readonly spmif: string;
  control(daemon: DaemonName): string;
}

/** `/run/tanuki` for root, `$XDG_RUNTIME_DIR/tanuki` (or `/tmp/tanuki-UID`) for others. */
export function defaultRunDir(): string {
  if (process.getuid?.() === 0) return '/run/tanuki';
  return join(process.env.XDG_RUNTIME_DIR ?? `/tmp/tanuki-${process.getuid?.() ?? 0}`, 'tanuki');
}

export function runDir(path: string): RunDir {
  return {
    path,
    pfkey: join(path, 'pfkey.sock'),
    encap: join(path, 'encap.sock'),
    spmif: join(path, 'spmif.sock'),
    control: (daemon) => join(path, daemon === 'tanuki' ? 'control.sock' : `${daemon}.control.sock`),
  };
}

/** Longest path of a UNIX socket that the kernel takes, less the longest name that we put behind the directory. */
const LONGEST_DIRECTORY = 107 - '/datapath.control.sock'.length;

/** Makes the directory, mode 0700, or checks that it is a private one of this user's. Throws ConfigError that says what to do. */
export function prepareRunDir(path: string): RunDir {
  if (Buffer.byteLength(path) > LONGEST_DIRECTORY) {
    throw new ConfigError(
      `run directory ${path} is too long for UNIX sockets: at most ${LONGEST_DIRECTORY} octets; choose a shorter --run-dir`,
    );
  }
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    const { uid, mode } = lstatSync(path);
    if (uid !== process.getuid?.())
      throw new ConfigError(`run directory ${path} belongs to user ${uid}; choose another with --run-dir`);
    if ((mode & 0o077) !== 0) chmodSync(path, 0o700);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(`cannot use run directory ${path}: ${(error as Error).message}; choose another with --run-dir`);
  }
  return runDir(path);
}
