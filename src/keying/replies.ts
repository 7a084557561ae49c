/** Commands whose reply waits for an outcome: for child SAs to come up, or for peer relations to be gone. */

import type { Reply } from './ports.ts';

interface Initiated {
  left: number;
  readonly up: string[];
  readonly errors: string[];
}

export class Replies {
  readonly #emit: (output: Reply) => void;
  readonly #initiated = new Map<number, Initiated>();
  readonly #ending = new Map<number, Set<object>>();

  constructor(emit: (output: Reply) => void) {
    this.#emit = emit;
  }

  /** The command waits for so many children more; `up` are there already. */
  awaitChildren(id: number, count: number, up: readonly string[]): void {
    this.#initiated.set(id, { left: count, up: [...up], errors: [] });
  }

  /** One of the children that a command waits for is up (`label`), or is not to be had. */
  settle(id: number, name: string, why: string | undefined, label = name): void {
    const command = this.#initiated.get(id);
    if (command === undefined) return;
    command.left -= 1;
    if (why === undefined) command.up.push(label);
    else command.errors.push(`${name}: ${why}`);
    if (command.left > 0) return;
    this.#initiated.delete(id);
    if (command.errors.length === 0) this.#emit({ kind: 'reply', id, ok: true, result: { up: command.up } });
    else this.#emit({ kind: 'reply', id, ok: false, error: command.errors.join('\n') });
  }

  /** The command waits until these are gone. */
  awaitEnd(id: number, sas: Iterable<object>): void {
    this.#ending.set(id, new Set(sas));
  }

  gone(sa: object): void {
    for (const [id, sas] of this.#ending) {
      sas.delete(sa);
      if (sas.size > 0) continue;
      this.#ending.delete(id);
      this.#emit({ kind: 'reply', id, ok: true, result: {} });
    }
  }
}
