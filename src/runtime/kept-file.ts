/** A small private file that a daemon keeps from run to run in its run directory: read whole, appended to, and replaced by an atomic rename. */

import { appendFileSync, lstatSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { uptime } from 'node:os';
import { SystemError } from '../errors.ts';

const MODE = 0o600;

export class KeptFile {
  readonly path: string;
  readonly #longest: number;

  /** A file of more than `longest` octets is none of ours. */
  constructor(path: string, longest: number) {
    this.path = path;
    this.#longest = longest;
  }

  /**
   * What an earlier run left; undefined where there is nothing. Throws SystemError where there is something else, or where the host was started since:
   * what was written last may never have come to the disk then.
   */
  read(): Uint8Array | undefined {
    try {
      const stat = lstatSync(this.path);
      if (!stat.isFile() || stat.uid !== process.getuid?.())
        throw new SystemError(`${this.path} is no file of this user`, 'EPERM');
      if (stat.size > this.#longest)
        throw new SystemError(`${this.path} has ${stat.size} octets, at most ${this.#longest} are its own`, 'EFBIG');
      if (stat.mtimeMs < Date.now() - uptime() * 1000)
        throw new SystemError(`${this.path} is older than the last start of this host`, 'ESTALE');
      return Uint8Array.from(readFileSync(this.path));
    } catch (error) {
      if (error instanceof SystemError) throw error;
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return undefined;
      throw new SystemError(`cannot read ${this.path}: ${message}`, code);
    }
  }

  /** Throws SystemError. */
  append(octets: Uint8Array): void {
    this.#write(() => appendFileSync(this.path, octets, { mode: MODE }));
  }

  /** All of it at once: whoever reads finds the old or the new. Throws SystemError. */
  replace(octets: Uint8Array): void {
    this.#write(() => {
      const next = `${this.path}.new`;
      writeFileSync(next, octets, { mode: MODE });
      renameSync(next, this.path);
    });
  }

  /** What cannot be kept whole is better not kept: the next run then knows that it knows nothing. */
  #write(work: () => void): void {
    try {
      work();
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      rmSync(this.path, { force: true });
      throw new SystemError(`cannot write ${this.path}: ${message}; what was in it is given up`, code);
    }
  }
}
