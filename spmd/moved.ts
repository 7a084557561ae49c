/**
 * Tunnels that a mobility daemon has moved (X_MIGRATE). The policy file still says where they were: until it says something else they stay where
 * they are, through reloads and restarts of the datapath.
 */

import { type Ends, type KmAddress, sameEnds } from '../src/ipsec/policy.ts';
import type { TableEntry } from './policy-table.ts';

interface Movement {
  /** What the file (with this host's addresses) says; undefined: not known yet, since a spmd before us saw it move. */
  readonly said: Ends | undefined;
  /** Where the tunnel is; undefined in transport mode. */
  readonly ends: Ends | undefined;
  readonly kmAddress: KmAddress | undefined;
}

export class Moved {
  readonly #byKey = new Map<string, Movement>();

  /** A tunnel is at `ends` now. */
  note(key: string, said: Ends | undefined, ends: Ends | undefined, kmAddress: KmAddress | undefined): void {
    this.#byKey.set(key, { said, ends, kmAddress: kmAddress ?? this.#byKey.get(key)?.kmAddress });
  }

  /** The entry as it is to be installed: with the ends that its tunnel has now, unless the file says others than when it moved. */
  follow(entry: TableEntry): TableEntry {
    const movement = this.#byKey.get(entry.key);
    const [template, ...inner] = entry.policy.templates;
    if (movement === undefined) return entry;
    if (template === undefined || (template.endpoints === undefined) !== (movement.ends === undefined)) {
      this.#byKey.delete(entry.key);
      return entry;
    }
    const { endpoints } = template;
    const { said, ends, kmAddress } = movement;
    if (endpoints === undefined || ends === undefined) return { ...entry, kmAddress };
    if (said === undefined || sameEnds(ends, endpoints)) this.#byKey.set(entry.key, { said: endpoints, ends, kmAddress });
    else if (!sameEnds(said, endpoints)) {
      this.#byKey.delete(entry.key);
      return entry;
    }
    return { ...entry, kmAddress, policy: { ...entry.policy, templates: [{ ...template, endpoints: ends }, ...inner] } };
  }

  /** What is not wanted any more is forgotten. */
  keep(keys: ReadonlySet<string>): void {
    for (const key of [...this.#byKey.keys()]) if (!keys.has(key)) this.#byKey.delete(key);
  }
}
