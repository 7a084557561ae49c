/** Runs the daemons as children: starts them, restarts what dies, stops them in order. */

import { type ChildProcess, spawn } from 'node:child_process';
import type { Event } from '../event.ts';
import { DAEMON_EXIT } from '../runtime/shell.ts';

export interface ChildSpec {
  readonly name: string;
  /** Arguments of node: the script and its own. */
  readonly argv: readonly string[];
}

export interface ChildStatus {
  readonly name: string;
  readonly pid: number | undefined;
  readonly running: boolean;
  readonly restarts: number;
  /** Wall clock, milliseconds. */
  readonly since: number;
  /** Why it last ended, or undefined where it never did. */
  readonly lastExit: string | undefined;
}

export interface Supervisor {
  status(): readonly ChildStatus[];
  /** Starts one more, unless there is one of that name. */
  add(spec: ChildSpec): void;
  /** Ends the children, last started first, each with SIGTERM and after a while with SIGKILL. */
  stop(): Promise<void>;
}

export interface SupervisorOptions {
  readonly children: readonly ChildSpec[];
  readonly onEvent: (event: Event) => void;
  /** A child ended with this code before it had run for long: it will not run, so the rest is pointless. */
  readonly onHopeless: (name: string, code: number) => void;
}

/**
 * How V8 keeps the heaps of the daemons. When a process has become idle, the memory reducer has all its threads mark and compact for tens of
 * milliseconds: they take the processor from the packets. At full speed the young generation of the packet worker is collected once in thirteen seconds instead
 * of three times in two; one thread collects the little that lives there, where several would wait for each other.
 */
const V8_FLAGS = ['--no-memory-reducer', '--min-semi-space-size=4', '--no-parallel-scavenge'];
const RESTART_FIRST_MS = 50;
const RESTART_LAST_MS = 5_000;
/** A child that ran this long starts again at once when it dies. */
const STEADY_MS = 10_000;
const STOP_LIMIT_MS = 6_000;

class Child {
  readonly spec: ChildSpec;
  readonly #options: SupervisorOptions;
  #process: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #delay = RESTART_FIRST_MS;
  #stopping = false;
  #restarts = 0;
  #since = Date.now();
  #lastExit: string | undefined;

  constructor(spec: ChildSpec, options: SupervisorOptions) {
    this.spec = spec;
    this.#options = options;
  }

  start(): void {
    // The channel carries nothing: its end tells a child that the supervisor is gone, however it went.
    const child = spawn(process.execPath, [...V8_FLAGS, ...this.spec.argv], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#process = child;
    this.#since = Date.now();
    child.once('error', (error) => this.#ended(`could not be started: ${error.message}`, null));
    child.once('exit', (code, signal) => this.#ended(signal === null ? `exit code ${code}` : `signal ${signal}`, code));
  }

  #ended(how: string, code: number | null): void {
    const ran = Date.now() - this.#since;
    this.#process = undefined;
    this.#lastExit = how;
    if (this.#stopping) return;
    const { name } = this.spec;
    if (code === DAEMON_EXIT.hopeless && ran < STEADY_MS && this.#restarts === 0) {
      this.#options.onHopeless(name, code);
      return;
    }
    if (ran >= STEADY_MS) this.#delay = RESTART_FIRST_MS;
    this.#options.onEvent({
      name: 'daemon-died',
      severity: 'error',
      message: `${name} ended (${how}) and is started again`,
      daemon: name,
      how,
    });
    this.#timer = setTimeout(() => {
      this.#restarts++;
      this.start();
    }, this.#delay);
    this.#delay = Math.min(RESTART_LAST_MS, this.#delay * 2);
  }

  status(): ChildStatus {
    const running = this.#process !== undefined;
    return {
      name: this.spec.name,
      pid: this.#process?.pid,
      running,
      restarts: this.#restarts,
      since: this.#since,
      lastExit: this.#lastExit,
    };
  }

  stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#timer);
    const child = this.#process;
    if (child === undefined) return Promise.resolve();
    return new Promise((resolve) => {
      const limit = setTimeout(() => child.kill('SIGKILL'), STOP_LIMIT_MS);
      child.once('exit', () => {
        clearTimeout(limit);
        resolve();
      });
      child.kill('SIGTERM');
    });
  }
}

export function supervise(options: SupervisorOptions): Supervisor {
  const children = options.children.map((spec) => new Child(spec, options));
  for (const child of children) child.start();
  return {
    status: () => children.map((child) => child.status()),
    add(spec) {
      if (children.some((child) => child.spec.name === spec.name)) return;
      const child = new Child(spec, options);
      children.push(child);
      child.start();
    },
    async stop() {
      for (const child of [...children].reverse()) await child.stop();
    },
  };
}
