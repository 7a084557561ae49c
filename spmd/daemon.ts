/** The shell of spmd: policy files, the doors to the datapath and the key daemons, and the control socket around the machine. */

import { compile } from '../src/config/compile.ts';
import type { Config } from '../src/config/config.ts';
import { show } from '../src/config/diagnostics.ts';
import { ConfigError, SystemError } from '../src/errors.ts';
import { clock } from '../src/runtime/clock.ts';
import type { ControlRequest } from '../src/runtime/control.ts';
import { type Driven, drive } from '../src/runtime/drive.ts';
import { sourceFiles } from '../src/runtime/files.ts';
import { localAddresses, watchLocalAddresses } from '../src/runtime/local-addresses.ts';
import { NamedSocket } from '../src/runtime/named-socket.ts';
import { type PfkeyLink, pfkeyLink } from '../src/runtime/pfkey-link.ts';
import { systemRandom } from '../src/runtime/random.ts';
import { readSecretFile } from '../src/runtime/secret-files.ts';
import { type Daemon, type DaemonOptions, type Shell, shell } from '../src/runtime/shell.ts';
import type { Channel } from '../src/runtime/unix-socket.ts';
import { DatapathLink } from './datapath-link.ts';
import type { Reloaded, SpmdCommand, SpmdInput, SpmdOutput, SpmdStatus } from './ports.ts';
import { Spmd } from './spmd.ts';

/** How long SIGTERM waits for the datapath to remove our policies. */
const SHUTDOWN_MS = 2_500;
/** A day: what is not confirmed stands in the way of every other reload. */
const LONGEST_CONFIRM_SECONDS = 86_400;

export type SpmdDaemonOptions = DaemonOptions & {
  /** The policy file. */
  readonly file: string;
};

export interface SpmdHandle extends Daemon {
  /** Reads the policy files again. Rejects with the reason where nothing has changed. */
  reload(confirmSeconds?: number): Promise<Reloaded>;
}

/** Starts spmd; it waits for the datapath as long as it takes. Throws ConfigError where the policy file or the run directory is of no use. */
export async function startSpmd(options: SpmdDaemonOptions): Promise<SpmdHandle> {
  const daemon = new SpmdDaemon(options);
  await daemon.start();
  return daemon;
}

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

class SpmdDaemon implements SpmdHandle {
  readonly #file: string;
  readonly #shell: Shell;
  readonly #driven: Driven<SpmdInput>;
  readonly #datapath: DatapathLink;
  readonly #links: { close(): void | Promise<void> }[] = [];
  readonly #clients = new Map<number, Channel>();
  readonly #waiting = new Map<number, Waiting>();
  /** `interface { spmd … }`: spmif for others, who need the password where there is one. */
  readonly #named: NamedSocket;
  #nextClient = 1;
  #nextId = 1;
  #pfkey: PfkeyLink | undefined;
  /** Why the policy file that was read last is of no use. */
  #fileProblem: string | undefined;

  constructor(options: SpmdDaemonOptions) {
    this.#file = options.file;
    this.#shell = shell('spmd', options);
    this.#named = new NamedSocket(this.#shell.dir.spmif, this.#shell.listenAlso, (channel) =>
      this.#spmifConnected(channel, false),
    );
    const now = clock();
    this.#datapath = new DatapathLink(this.#shell.dir.control('datapath'), (problem) =>
      this.#driven.put({ kind: 'datapath', problem }),
    );
    this.#driven = drive<SpmdInput, SpmdOutput>({
      machine: new Spmd({ pid: process.pid, random: systemRandom, firstGeneration: Math.floor(now().wall / 1000) }),
      now,
      tick: { kind: 'tick' },
      perform: (output) => this.#perform(output),
      report: (event) => this.#shell.report(event),
    });
  }

  async start(): Promise<void> {
    const { doors } = this.#shell;
    try {
      const first = this.#compile();
      this.#shell.configureLog(first.config.logging);
      this.#driven.put({ kind: 'addresses', addresses: localAddresses() });
      this.#links.push(await doors.spmif.listen((channel) => this.#spmifConnected(channel, true)));
      this.#links.push(watchLocalAddresses((addresses) => this.#driven.put({ kind: 'addresses', addresses })));
      await this.#shell.serveControl((request) => this.#control(request));
      // Its answer comes when datapath and daemons are there; a rejection is an event and shows in `status`.
      void this.#ask((id) => ({ kind: 'configure', id, confirmSeconds: 0, ...first })).catch(() => undefined);
      this.#pfkey = pfkeyLink(this.#shell, (input) => this.#driven.put(input));
      this.#links.push(this.#pfkey);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    const limit = new Promise<void>((resolve) => setTimeout(resolve, SHUTDOWN_MS).unref());
    await Promise.race([this.#command({ verb: 'shutdown' }), limit]);
    this.#driven.stop();
    this.#datapath.close();
    await this.#named.follow(undefined);
    await Promise.all(this.#links.map((link) => link.close()));
    await this.#shell.close();
  }

  async reload(confirmSeconds = 0): Promise<Reloaded> {
    let next: { config: Config; password: Uint8Array | undefined };
    try {
      next = this.#compile();
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      const text = `nothing has changed: ${error.message}`;
      this.#fileProblem = text;
      this.#shell.report({ name: 'configuration-rejected', severity: 'error', message: text });
      throw new Error(text);
    }
    this.#fileProblem = undefined;
    return (await this.#ask((id) => ({ kind: 'configure', id, confirmSeconds, ...next }))) as Reloaded;
  }

  /** Throws ConfigError with every mistake and its place. */
  #compile(): { config: Config; password: Uint8Array | undefined } {
    const { config, diagnostics } = compile(this.#file, sourceFiles);
    if (config === undefined) {
      const errors = diagnostics.filter(({ severity }) => severity === 'error');
      throw new ConfigError(
        `${this.#file} has ${errors.length === 1 ? 'a mistake' : `${errors.length} mistakes`}:\n${errors.map(show).join('\n')}`,
      );
    }
    for (const warning of diagnostics.filter(({ severity }) => severity === 'warning')) {
      const { file, line, column, message } = warning;
      this.#shell.report({ name: 'policy-file-warning', severity: 'warning', message: `${file}:${line}:${column}: ${message}` });
    }
    const { spmdPassword } = config.interface;
    return { config, password: spmdPassword === undefined ? undefined : passwordOf(spmdPassword) };
  }

  #perform(output: SpmdOutput): void {
    switch (output.kind) {
      case 'pfkey':
        return this.#pfkey?.send(output.message);
      case 'spmif':
        return this.#clients.get(output.client)?.send(output.bytes);
      case 'spmif-close':
        return this.#clients.get(output.client)?.close();
      case 'datapath':
        return this.#datapath.configure(output.settings);
      case 'committed':
        this.#shell.configureLog(output.config.logging);
        void this.#serveNamed(output.config.interface.spmd);
        return;
      case 'event':
        return this.#shell.report(output.event);
      default:
        return this.#answered(output);
    }
  }

  async #serveNamed(path: string | undefined): Promise<void> {
    const problem = await this.#named.follow(path);
    if (problem === undefined) return;
    this.#shell.report({ name: 'socket-failed', severity: 'error', message: `interface { spmd … }: ${problem}` });
  }

  #spmifConnected(channel: Channel, trusted: boolean) {
    const client = this.#nextClient++;
    this.#clients.set(client, channel);
    this.#driven.put({ kind: 'spmif-connected', client, trusted });
    return {
      onData: (bytes: Uint8Array) => this.#driven.put({ kind: 'spmif', client, bytes }),
      onClose: () => {
        this.#clients.delete(client);
        this.#driven.put({ kind: 'spmif-closed', client });
      },
    };
  }

  async #control(request: ControlRequest): Promise<unknown> {
    const { verb, confirmSeconds = 0 } = request;
    if (verb === 'confirm') return this.#command({ verb });
    if (verb === 'status') {
      const status = (await this.#command({ verb })) as SpmdStatus;
      const named = this.#named.problem === undefined ? undefined : `interface { spmd … }: ${this.#named.problem}`;
      return { ...status, problems: [...status.problems, this.#fileProblem, named].filter((problem) => problem !== undefined) };
    }
    if (verb !== 'reload') throw new Error(`unknown verb "${verb}"; expected status, reload, confirm or events`);
    if (typeof confirmSeconds !== 'number' || !(confirmSeconds >= 0 && confirmSeconds <= LONGEST_CONFIRM_SECONDS))
      throw new Error(`reload: expected "confirmSeconds": a number of seconds, at most ${LONGEST_CONFIRM_SECONDS}, or 0`);
    return this.reload(confirmSeconds);
  }

  #command(command: SpmdCommand): Promise<unknown> {
    return this.#ask((id) => ({ kind: 'command', id, command }));
  }

  #ask(input: (id: number) => SpmdInput): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#waiting.set(id, { resolve, reject });
      this.#driven.put(input(id));
    });
  }

  #answered(output: Extract<SpmdOutput, { kind: 'reply' }>): void {
    const waiting = this.#waiting.get(output.id);
    this.#waiting.delete(output.id);
    if (output.ok) waiting?.resolve(output.result);
    else waiting?.reject(new Error(output.error));
  }
}

/** Throws ConfigError that names the word. */
function passwordOf(path: string): Uint8Array {
  try {
    return readSecretFile(path);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    throw new ConfigError(`interface { spmd_password … }: ${error.message}`);
  }
}
