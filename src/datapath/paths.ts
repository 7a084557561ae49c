/** Where outbound ESP goes: each distinct pair of endpoints has a number, under which the host keeps its socket address. */

import { type Path, samePath } from '../net/address.ts';

/** Numbers are those that an Int32Array holds; after the last they begin anew. */
const LAST = 0x7fff_ffff;

interface Shared {
  readonly id: number;
  readonly path: Path;
  users: number;
}

/** Paths shared by the SAs that use them. The number of one that is gone is not given to another until all numbers are used up. */
export class Paths {
  readonly #byId = new Map<number, Shared>();
  /** By a hash of both endpoints. */
  readonly #byHash = new Map<number, Shared[]>();
  #nextId = 0;

  get size(): number {
    return this.#byId.size;
  }

  get(id: number): Path | undefined {
    return this.#byId.get(id)?.path;
  }

  /** The id of a path, for one more user. */
  acquire(path: Path): number {
    const hash = hashOf(path);
    const alike = this.#byHash.get(hash);
    const known = alike?.find((shared) => samePath(shared.path, path));
    if (known !== undefined) {
      known.users++;
      return known.id;
    }
    while (this.#byId.has(this.#nextId)) this.#nextId = following(this.#nextId);
    const shared = { id: this.#nextId, path, users: 1 };
    this.#nextId = following(shared.id);
    this.#byId.set(shared.id, shared);
    if (alike === undefined) this.#byHash.set(hash, [shared]);
    else alike.push(shared);
    return shared.id;
  }

  /** One user less; the last one frees the path. */
  release(id: number): void {
    const shared = this.#byId.get(id);
    if (shared === undefined || --shared.users > 0) return;
    this.#byId.delete(id);
    const hash = hashOf(shared.path);
    const alike = this.#byHash.get(hash)!;
    if (alike.length === 1) this.#byHash.delete(hash);
    else alike.splice(alike.indexOf(shared), 1);
  }
}

function following(id: number): number {
  return id === LAST ? 0 : id + 1;
}

/** Many peers may be behind one NAT, and one behind many. */
function hashOf({ local, remote }: Path): number {
  const ends = (remote.address.word0 ^ local.address.word0) + Math.imul(remote.address.word3 ^ local.address.word3, 0x85ebca6b);
  return Math.imul(ends ^ (remote.port << 16) ^ local.port, 0x9e3779b1) & 0x3fff_ffff;
}
