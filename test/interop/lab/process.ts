/** Programs of the lab: started with an argument list, watched through their output, ended by their process id. */
import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

const OUTPUT_LIMIT = 4 << 20;

/** What a finished program left. */
export type Finished = {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
};

/** How to start a program. `env` is added to ours; what it prints also goes to `logFile`. */
export type SpawnOptions = { readonly env?: Record<string, string>; readonly cwd?: string; readonly logFile?: string };

/** A running program. Output is kept up to 4 MiB a stream; what is older is dropped. */
export class Program {
  readonly argv: readonly string[];
  readonly exited: Promise<Finished>;
  readonly #child: ChildProcess;
  #stdout = '';
  #stderr = '';
  #finished: Finished | undefined;

  constructor(argv: readonly string[], options: SpawnOptions = {}) {
    this.argv = argv;
    const [file, ...rest] = argv;
    const env = { ...process.env, ...options.env };
    this.#child = spawn(file!, rest, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env,
      ...(options.cwd !== undefined && { cwd: options.cwd }),
    });
    this.#child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout = (this.#stdout + text).slice(-OUTPUT_LIMIT);
      if (options.logFile !== undefined) appendFileSync(options.logFile, text);
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-OUTPUT_LIMIT);
      if (options.logFile !== undefined) appendFileSync(options.logFile, text);
    });
    this.exited = new Promise((resolve) => {
      const end = (code: number | null, signal: string | null) => {
        this.#finished ??= { code, signal, stdout: this.#stdout, stderr: this.#stderr };
        resolve(this.#finished);
      };
      this.#child.on('error', (error) => {
        this.#stderr += `${argv.join(' ')}: ${error.message}\n`;
        end(127, null);
      });
      this.#child.on('close', end);
    });
  }

  get pid(): number {
    const { pid } = this.#child;
    if (pid === undefined) throw new Error(`${this.argv.join(' ')} did not start: ${this.#stderr}`);
    return pid;
  }
  get stdout(): string {
    return this.#stdout;
  }
  get stderr(): string {
    return this.#stderr;
  }
  /** What it left, once it has ended. */
  get finished(): Finished | undefined {
    return this.#finished;
  }

  /** Waits until `condition` holds; fails when the program ends first or `seconds` pass. */
  async waitFor(condition: (program: Program) => boolean, seconds: number, what: string): Promise<void> {
    await waitUntil(
      () => {
        if (condition(this)) return true;
        if (this.#finished) throw new Error(`waiting for ${what}: ${describe(this.argv, this.#finished)}`);
        return false;
      },
      seconds,
      () => `${what} of ${this.argv.join(' ')}; its last output:\n${(this.#stdout + this.#stderr).slice(-2000)}`,
    );
  }

  /** Sends one signal to this process and no other. */
  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    if (!this.#finished) this.#child.kill(signal);
  }

  /** SIGTERM, and SIGKILL when it has not ended `seconds` later. */
  async stop(seconds = 5): Promise<Finished> {
    this.kill('SIGTERM');
    const ended = await Promise.race([this.exited, delay(seconds * 1000, undefined, { ref: false })]);
    if (!ended) this.kill('SIGKILL');
    return this.exited;
  }
}

/** Runs a program to its end, at most `timeout` seconds (default 20). */
export async function run(
  argv: readonly string[],
  options: SpawnOptions & { readonly timeout?: number } = {},
): Promise<Finished> {
  const program = new Program(argv, options);
  const seconds = options.timeout ?? 20;
  const timer = setTimeout(() => program.kill('SIGKILL'), seconds * 1000);
  try {
    const finished = await program.exited;
    return finished.signal === 'SIGKILL' ? { ...finished, stderr: `${finished.stderr}(killed, limit ${seconds} s)` } : finished;
  } finally {
    clearTimeout(timer);
  }
}

/** Like `run`, and fails unless the program ends with 0. Gives its standard output. */
export async function must(argv: readonly string[], options: SpawnOptions & { readonly timeout?: number } = {}): Promise<string> {
  const finished = await run(argv, options);
  if (finished.code !== 0) throw new Error(describe(argv, finished));
  return finished.stdout;
}

/** Polls `condition` until it gives something truthy, and gives that; fails with `what` once `seconds` have passed. */
export async function waitUntil<T>(
  condition: () => T | Promise<T>,
  seconds: number,
  what: string | (() => string),
  everyMs = 50,
): Promise<NonNullable<T>> {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > deadline) throw new Error(`not within ${seconds} s: ${typeof what === 'string' ? what : what()}`);
    await delay(everyMs);
  }
}

function describe(argv: readonly string[], { code, signal, stdout, stderr }: Finished): string {
  return `${argv.join(' ')}: ended with ${signal ?? code}\n${stdout.slice(-1500)}${stderr.slice(-1500)}`;
}
