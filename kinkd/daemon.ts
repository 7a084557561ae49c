/** The shell of kinkd: sockets, links to spmd and the datapath, keytab, ticket sources, the replay cache's file and the control socket around the machine. */

import { join } from 'node:path';
import type { Config } from '../src/config/config.ts';
import { expandEndpoints, type LocalAddress } from '../src/config/expand.ts';
import { SystemError, WireError } from '../src/errors.ts';
import { type KeyCommand, readKeyCommand } from '../src/keying/ports.ts';
import { type Endpoint, sameEndpoint } from '../src/net/address.ts';
import { clock } from '../src/runtime/clock.ts';
import { Commands } from '../src/runtime/commands.ts';
import type { ControlRequest } from '../src/runtime/control.ts';
import { type Driven, drive } from '../src/runtime/drive.ts';
import { Hooks } from '../src/runtime/hooks.ts';
import { KeptFile } from '../src/runtime/kept-file.ts';
import { LocalSockets } from '../src/runtime/local-sockets.ts';
import { type PfkeyLink, pfkeyLink } from '../src/runtime/pfkey-link.ts';
import { systemRandom } from '../src/runtime/random.ts';
import { readSecretFile } from '../src/runtime/secret-files.ts';
import { type Daemon, type DaemonOptions, type Shell, shell } from '../src/runtime/shell.ts';
import { SpmifLink } from '../src/runtime/spmif-link.ts';
import { Kinkd } from './kinkd.ts';
import { Keytab, readKeytab } from './krb5/keytab.ts';
import { KINK_PORT } from './message.ts';
import { speaksKink } from './peers.ts';
import type { KinkdInput, KinkdOutput, KinkdSettings, KinkdStatus } from './ports.ts';
import { TicketSources } from './ticket-sources.ts';

/** How long SIGTERM waits for the peers to answer our DELETEs. */
const SHUTDOWN_MS = 2_500;
/** The replay cache's file: more than its bound of records and what is appended between two rewrites. */
const LONGEST_REPLAYS = 4 * 1024 * 1024;

/** Starts kinkd: it waits for spmd and the datapath as long as it takes. Throws ConfigError where the run directory is of no use. */
export async function startKinkd(options: DaemonOptions): Promise<Daemon> {
  const daemon = new KinkdDaemon(options);
  await daemon.start();
  return daemon;
}

class KinkdDaemon implements Daemon {
  readonly #shell: Shell;
  readonly #driven: Driven<KinkdInput>;
  readonly #commands = new Commands<KeyCommand>((id, command) => this.#driven.put({ kind: 'command', id, command }));
  readonly #replays: KeptFile;
  readonly #tickets: TicketSources;
  readonly #hooks: Hooks;
  #pfkey: PfkeyLink | undefined;
  #spmif: SpmifLink | undefined;
  #sockets: LocalSockets | undefined;
  #config: Config | undefined;

  constructor(options: DaemonOptions) {
    this.#shell = shell('kinkd', options);
    const { dir, report } = this.#shell;
    this.#replays = new KeptFile(join(dir.path, 'kinkd.replays'), LONGEST_REPLAYS);
    this.#hooks = new Hooks({ report });
    this.#tickets = new TicketSources({ directory: dir.path, random: systemRandom, report });
    this.#driven = drive<KinkdInput, KinkdOutput>({
      machine: new Kinkd({ random: systemRandom, pid: process.pid, since: Date.now(), replays: this.#readReplays() }),
      now: clock(),
      tick: { kind: 'tick' },
      perform: (output) => this.#perform(output),
      report,
    });
  }

  async start(): Promise<void> {
    this.#sockets = new LocalSockets({
      wanted: (local) => this.#wantedEndpoints(local),
      onDatagram: (path, bytes) => this.#driven.put({ kind: 'datagram', path, bytes }),
      onAddresses: (addresses) => this.#driven.put({ kind: 'addresses', addresses }),
      report: (event) => this.#shell.report(event),
      directive: 'interface { kink … }',
    });
    this.#pfkey = pfkeyLink(this.#shell, (input) => {
      // Who tells of a movement has seen the new address.
      if (input.kind === 'pfkey' && input.message.type === 'X_MIGRATE') this.#sockets?.lookNow();
      this.#driven.put(input);
    });
    this.#spmif = new SpmifLink({
      daemon: 'kinkd',
      shell: this.#shell,
      put: (input) => this.#driven.put(input),
      prepare: (generation, config) => this.#driven.put({ kind: 'prepare', generation, settings: settingsOf(config) }),
      apply: (config) => this.#apply(config),
    });
    await this.#shell.serveControl((request) => this.#control(request));
  }

  async stop(): Promise<void> {
    const limit = new Promise<void>((resolve) => setTimeout(resolve, SHUTDOWN_MS).unref());
    await Promise.race([this.#commands.run({ verb: 'shutdown' }).catch(() => undefined), limit]);
    this.#driven.stop();
    this.#hooks.stop();
    this.#pfkey?.close();
    this.#spmif?.close();
    await this.#sockets?.close();
    this.#tickets.close();
    await this.#shell.close();
  }

  #perform(output: KinkdOutput): void {
    switch (output.kind) {
      case 'send':
        return this.#sockets?.send(output.path, output.bytes);
      case 'pfkey':
        return this.#pfkey?.send(output.message);
      case 'configuration':
        return this.#spmif?.answer(output);
      case 'ask':
        if (output.question.about === 'selector-of') return this.#spmif?.ask(output.id, output.question.policyId);
        return this.#tickets.ask(output.question, (ticket) => this.#driven.put({ kind: 'answer', id: output.id, ...ticket }));
      case 'spmd':
        return this.#spmif?.order(output.command);
      case 'replays':
        return 'whole' in output ? this.#replays.replace(output.whole) : this.#replays.append(output.record);
      case 'event':
        return this.#shell.report(output.event);
      case 'hook':
        return this.#hooks.run(output);
      default:
        return this.#commands.answered(output);
    }
  }

  /** One that cannot be read is none: the machine begins with a young cache, and says what that means. */
  #readReplays(): Uint8Array | undefined {
    try {
      return this.#replays.read();
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      const message = `the replay cache of the last run is of no use: ${error.message}; an empty one takes its place`;
      this.#shell.report({ name: 'replay-cache-lost', severity: 'warning', message });
      return undefined;
    }
  }

  /** The sockets come first: what the machine sends at once under the new configuration must not be lost. */
  async #apply(config: Config): Promise<void> {
    this.#config = config;
    this.#tickets.configure(config);
    await this.#sockets?.follow();
  }

  #wantedEndpoints(local: readonly LocalAddress[]): Endpoint[] {
    if (this.#config === undefined || !speaksKink(this.#config)) return [];
    const wanted: Endpoint[] = [];
    for (const { address, port } of this.#config.interface.kink.flatMap((spec) => expandEndpoints(spec, local))) {
      const endpoint = { address, port: port === 0 ? KINK_PORT : port };
      if (!wanted.some((known) => sameEndpoint(known, endpoint))) wanted.push(endpoint);
    }
    return wanted;
  }

  async #control(request: ControlRequest): Promise<unknown> {
    const result = await this.#commands.run(readKeyCommand(request));
    if (request.verb !== 'status') return result;
    const status = result as KinkdStatus;
    const problems = [...(this.#sockets?.problems ?? [])].map(([subject, why]) => ({ subject, at: Date.now(), why }));
    return { ...status, failures: [...problems, ...status.failures] };
  }
}

/** Throws SystemError that says whose file is of no use, and what to do. */
function settingsOf(config: Config): KinkdSettings {
  if (!speaksKink(config)) return { config, keytab: new Keytab([]) };
  const path = config.kerberos.keytab;
  try {
    return { config, keytab: readKeytab(readSecretFile(path)) };
  } catch (error) {
    if (error instanceof WireError)
      throw new SystemError(`${path} is no keytab: ${error.message}; export it anew (kadmin: ktadd -k ${path} …)`);
    if (!(error instanceof SystemError)) throw error;
    const how = error.code === 'ENOENT' ? `; export it (kadmin: ktadd -k ${path} …) or correct kerberos { keytab }` : '';
    throw new SystemError(`keytab: ${error.message}${how}; then: tanuki reload`, error.code);
  }
}
