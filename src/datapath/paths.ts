/** Where outbound ESP goes: each distinct pair of endpoints has a small number, under which the host keeps its socket address. */

import { type Path, samePath } from '../net/address.ts';

/** Paths shared by the SAs that use them. */
export class Paths {
  /** Counts how often an id was given to another path. */
  generation = 0;
  readonly #paths: (Path | undefined)[] = [];
  readonly #users: number[] = [];

  get(id: number): Path | undefined {
    return this.#paths[id];
  }

  /** The id of a path, for one more user. */
  acquire(path: Path): number {
    let id = this.#paths.findIndex((known) => known !== undefined && samePath(known, path));
    if (id < 0) {
      const free = this.#paths.indexOf(undefined);
      id = free < 0 ? this.#paths.length : free;
      if (free >= 0) this.generation++;
      this.#paths[id] = path;
      this.#users[id] = 0;
    }
    this.#users[id]!++;
    return id;
  }

  /** One user less; the last one frees the id. */
  release(id: number): void {
    const users = this.#users[id];
    if (users === undefined || users === 0) return;
    this.#users[id] = users - 1;
    if (users === 1) this.#paths[id] = undefined;
  }
}
