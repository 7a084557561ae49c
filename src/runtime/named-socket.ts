/** A further socket that the policy file names, beside the one of the run directory: opened, moved and closed as the configuration says. */

import { SystemError } from '../errors.ts';
import type { Accept } from './door.ts';

type Listen = (path: string, accept: Accept) => Promise<{ close(): Promise<void> }>;

export class NamedSocket {
  readonly #listen: Listen;
  readonly #accept: Accept;
  /** The one that is there already. */
  readonly #usual: string;
  #path: string | undefined;
  #listening: { close(): Promise<void> } | undefined;
  #problem: string | undefined;
  #changing: Promise<void> = Promise.resolve();

  constructor(usual: string, listen: Listen, accept: Accept) {
    this.#usual = usual;
    this.#listen = listen;
    this.#accept = accept;
  }

  /** Why it cannot be served; undefined where it is, or none is wanted. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Serves `path` and nothing else; undefined: none. One that could not be opened is tried again. Returns `problem` where it is a new one. */
  async follow(path: string | undefined): Promise<string | undefined> {
    this.#changing = this.#changing.then(() => this.#change(path === this.#usual ? undefined : path));
    const before = this.#problem;
    await this.#changing;
    return this.#problem === before ? undefined : this.#problem;
  }

  async #change(path: string | undefined): Promise<void> {
    if (path === this.#path && this.#problem === undefined) return;
    await this.#listening?.close();
    this.#listening = undefined;
    this.#problem = undefined;
    this.#path = path;
    if (path === undefined) return;
    try {
      this.#listening = await this.#listen(path, this.#accept);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.#problem = error.message;
    }
  }
}
