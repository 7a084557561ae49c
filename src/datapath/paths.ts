/** Where outbound ESP goes: each distinct pair of endpoints has a number, under which the host keeps its socket address. */

import { type Path, showEndpoint } from '../net/address.ts';

/** Numbers are those that an Int32Array holds; after the last they begin anew. */
const LAST = 0x7fff_ffff;

interface Shared {
  readonly path: Path;
  readonly name: string;
  users: number;
}

/** Paths shared by the SAs that use them. The number of one that is gone is not given to another until all numbers are used up. */
export class Paths {
  readonly #byId = new Map<number, Shared>();
  readonly #byName = new Map<string, number>();
  #nextId = 0;

  get size(): number {
    return this.#byId.size;
  }

  get(id: number): Path | undefined {
    return this.#byId.get(id)?.path;
  }

  /** The id of a path, for one more user. */
  acquire(path: Path): number {
    const name = nameOf(path);
    const known = this.#byName.get(name);
    if (known !== undefined) {
      this.#byId.get(known)!.users++;
      return known;
    }
    while (this.#byId.has(this.#nextId)) this.#nextId = following(this.#nextId);
    const id = this.#nextId;
    this.#nextId = following(id);
    this.#byId.set(id, { path, name, users: 1 });
    this.#byName.set(name, id);
    return id;
  }

  /** One user less; the last one frees the path. */
  release(id: number): void {
    const shared = this.#byId.get(id);
    if (shared === undefined || --shared.users > 0) return;
    this.#byId.delete(id);
    this.#byName.delete(shared.name);
  }
}

function following(id: number): number {
  return id === LAST ? 0 : id + 1;
}

function nameOf({ local, remote, encapsulated }: Path): string {
  return `${encapsulated ? 'udp' : 'raw'} ${showEndpoint(local)} ${showEndpoint(remote)}`;
}
