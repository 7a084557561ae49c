/** Files that hold secrets: read only where they belong to this user and are closed to others. */

import { closeSync, fstatSync, openSync, readFileSync, type Stats } from 'node:fs';
import { SystemError } from '../errors.ts';

/** A key longer than this is a wrong file. */
const LONGEST_BYTES = 64 * 1024;

/** The octets of a private file. Throws SystemError that says what is wrong with it and how to mend it. */
export function readSecretFile(path: string): Uint8Array {
  let descriptor: number;
  try {
    descriptor = openSync(path, 'r');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new SystemError(`cannot read ${path}: ${code === 'ENOENT' ? 'no such file' : message}`, code);
  }
  try {
    const { uid, mode, size } = checked(path, fstatSync(descriptor));
    const me = process.geteuid?.() ?? uid;
    if (uid !== me) throw new SystemError(`${path} belongs to user ${uid}, not to ${me}: chown ${me} ${path}`, 'EPERM');
    if ((mode & 0o077) !== 0)
      throw new SystemError(`${path} is open to others (mode ${(mode & 0o777).toString(8)}): chmod 600 ${path}`, 'EPERM');
    if (size > LONGEST_BYTES)
      throw new SystemError(`${path} has ${size} octets; a key file has at most ${LONGEST_BYTES}`, 'EFBIG');
    return Uint8Array.from(readFileSync(descriptor));
  } finally {
    closeSync(descriptor);
  }
}

function checked(path: string, stat: Stats): Stats {
  if (!stat.isFile()) throw new SystemError(`${path} is no regular file`, 'EINVAL');
  return stat;
}
