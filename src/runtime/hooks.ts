/**
 * Runs hook scripts (`script { EVENT "PATH"; }`): never blocks, each within a bounded time, those about the same thing in order. racoon2 waited for them
 * inside the daemon.
 */

import { spawn } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import type { Event } from '../event.ts';

export interface Hook {
  /** `phase1_up`, `migration`, …: the script's only argument. */
  readonly event: string;
  readonly file: string;
  /** What the event is about; hooks about the same are run one after the other. */
  readonly about: string;
  /** All that the script finds in its environment, but for PATH. */
  readonly environment: Readonly<Record<string, string>>;
}

export interface HooksOptions {
  readonly report: (event: Event) => void;
  /** How long a script may run before it is killed with all its children, in milliseconds; 10 s unless said otherwise. */
  readonly limitMs?: number;
}

/** Scripts that run at the same time, and hooks that wait for their turn. */
const MOST_RUNNING = 8;
const MOST_WAITING = 256;
const LIMIT_MS = 10_000;
/** Octets of what a failing script says on its standard error. */
const SHOWN = 400;
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export class Hooks {
  readonly #report: HooksOptions['report'];
  readonly #limitMs: number;
  readonly #running = new Map<string, { kill(): void }>();
  #waiting: Hook[] = [];
  #stopped = false;

  constructor({ report, limitMs = LIMIT_MS }: HooksOptions) {
    this.#report = report;
    this.#limitMs = limitMs;
  }

  /** How many run or wait. */
  get size(): number {
    return this.#running.size + this.#waiting.length;
  }

  run(hook: Hook): void {
    if (this.#stopped) return;
    if (this.#waiting.length >= MOST_WAITING) {
      this.#tell(hook, 'warning', 'hook-dropped', `is not run: ${MOST_WAITING} hooks wait already; scripts take too long`);
      return;
    }
    this.#waiting.push(hook);
    this.#next();
  }

  /** Kills what runs. */
  stop(): void {
    this.#stopped = true;
    this.#waiting = [];
    for (const { kill } of this.#running.values()) kill();
  }

  #next(): void {
    while (this.#running.size < MOST_RUNNING) {
      const index = this.#waiting.findIndex(({ about }) => !this.#running.has(about));
      if (index < 0) return;
      this.#start(this.#waiting.splice(index, 1)[0]!);
    }
  }

  #start(hook: Hook): void {
    const { event, file, about, environment } = hook;
    const unsafe = whyUnsafe(file);
    if (unsafe !== undefined) {
      this.#tell(hook, 'error', 'hook-failed', `is not run: ${unsafe}`);
      return;
    }
    // A group of its own, so that its children can be killed with it.
    const child = spawn(file, [event], {
      cwd: '/',
      env: { PATH, ...environment },
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true,
    });
    let said = '';
    let late = false;
    const kill = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    };
    const timer = setTimeout(() => {
      late = true;
      kill();
    }, this.#limitMs);
    const ended = (how: string | undefined) => {
      clearTimeout(timer);
      if (!this.#running.delete(about)) return;
      if (this.#stopped) return;
      const words = said.trim() === '' ? '' : `: ${said.trim()}`;
      if (late) this.#tell(hook, 'warning', 'hook-failed', `was killed: it ran longer than ${this.#limitMs / 1000} s${words}`);
      else if (how !== undefined) this.#tell(hook, 'warning', 'hook-failed', `${how}${words}`);
      else this.#tell(hook, 'debug', 'hook-done', 'has run');
      this.#next();
    };
    this.#running.set(about, { kill });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (said.length < SHOWN) said = (said + text).slice(0, SHOWN);
    });
    child.once('error', (error) => ended(`could not be started: ${error.message}`));
    child.once('exit', (code, signal) => {
      // Its standard error may be held open by a child that it left behind.
      child.stderr.destroy();
      ended(code === 0 ? undefined : `ended with ${signal ?? `exit code ${code}`}`);
    });
  }

  #tell({ event, file }: Hook, severity: Event['severity'], name: string, what: string): void {
    this.#report({ name, severity, message: `the hook ${file} for ${event} ${what}`, hook: event });
  }
}

/** It runs with our privilege: only its owner, who is us or root, may be able to change it. */
function whyUnsafe(file: string): string | undefined {
  try {
    const { mode, uid } = statSync(file);
    if (uid !== 0 && uid !== process.getuid?.()) return `it belongs to user ${uid}; it must be this user's or root's`;
    if ((mode & 0o022) !== 0) return `others may write to it; run: chmod go-w ${file}`;
    accessSync(file, constants.X_OK);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
