/** Shell: tells the datapath's process its settings over control.sock, and again whenever that process has been started anew. */

import type { DatapathSettings } from '../src/config/datapath-settings.ts';
import { type ControlClient, controlClient } from '../src/runtime/control.ts';

const RETRY_FIRST_MS = 20;
const RETRY_LAST_MS = 50;

export class DatapathLink {
  readonly #path: string;
  readonly #onOutcome: (problem: string | undefined) => void;
  #settings: DatapathSettings | undefined;
  #client: ControlClient | undefined;
  #connecting = false;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #delay = RETRY_FIRST_MS;

  /** `onOutcome` comes after each attempt to hand the settings over: undefined, or why the datapath did not take them. */
  constructor(path: string, onOutcome: (problem: string | undefined) => void) {
    this.#path = path;
    this.#onOutcome = onOutcome;
  }

  configure(settings: DatapathSettings): void {
    this.#settings = settings;
    if (this.#client !== undefined) void this.#tell(this.#client, settings);
    else void this.#connect();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#client?.close();
  }

  async #connect(): Promise<void> {
    if (this.#connecting || this.#closed || this.#settings === undefined) return;
    this.#connecting = true;
    clearTimeout(this.#timer);
    try {
      this.#client = await controlClient(
        this.#path,
        () => {},
        () => this.#lost(),
      );
      this.#delay = RETRY_FIRST_MS;
      this.#connecting = false;
      if (this.#closed) this.#client.close();
      else await this.#tell(this.#client, this.#settings);
    } catch (error) {
      this.#connecting = false;
      this.#onOutcome(error instanceof Error ? error.message : String(error));
      this.#again();
    }
  }

  async #tell(client: ControlClient, settings: DatapathSettings): Promise<void> {
    let problem: string | undefined;
    try {
      await client.ask('configure', { settings });
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
    }
    if (!this.#closed && this.#client === client) this.#onOutcome(problem);
  }

  #lost(): void {
    this.#client = undefined;
    this.#again();
  }

  #again(): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#connect(), this.#delay);
    this.#delay = Math.min(RETRY_LAST_MS, this.#delay * 2);
  }
}
