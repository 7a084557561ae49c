/** The shell of iked: sockets, links to spmd and the datapath, key files and the control socket around the machine. */

import type { Secret } from '../src/bytes/secret.ts';
import type { Config, Ikev2Config } from '../src/config/config.ts';
import { expandEndpoints, type LocalAddress } from '../src/config/expand.ts';
import { SystemError, WireError } from '../src/errors.ts';
import { type KeyCommand, readKeyCommand } from '../src/keying/ports.ts';
import { type Endpoint, type Path, sameEndpoint } from '../src/net/address.ts';
import { clock } from '../src/runtime/clock.ts';
import { Commands } from '../src/runtime/commands.ts';
import type { ControlRequest } from '../src/runtime/control.ts';
import { type Driven, drive } from '../src/runtime/drive.ts';
import { EncapFramer, writeEncapFrame } from '../src/runtime/encap-frame.ts';
import { Hooks } from '../src/runtime/hooks.ts';
import { LocalSockets } from '../src/runtime/local-sockets.ts';
import { type PfkeyLink, pfkeyLink } from '../src/runtime/pfkey-link.ts';
import { systemRandom } from '../src/runtime/random.ts';
import { readSecretFile } from '../src/runtime/secret-files.ts';
import { type Daemon, type DaemonOptions, type Shell, shell } from '../src/runtime/shell.ts';
import { SpmifLink } from '../src/runtime/spmif-link.ts';
import type { Channel } from '../src/runtime/unix-socket.ts';
import { Iked } from './iked.ts';
import { readPsk } from './key-files.ts';
import type { IkedInput, IkedOutput, IkedSettings, IkedStatus } from './ports.ts';

/** RFC 7296 §2. */
const IKE_PORT = 500;
/** How long SIGTERM waits for the peers to answer our DELETEs. */
const SHUTDOWN_MS = 2_500;

/** Starts iked: it waits for spmd and the datapath as long as it takes. Throws ConfigError where the run directory is of no use. */
export async function startIked(options: DaemonOptions): Promise<Daemon> {
  const daemon = new IkedDaemon(options);
  await daemon.start();
  return daemon;
}

class IkedDaemon implements Daemon {
  readonly #shell: Shell;
  readonly #driven: Driven<IkedInput>;
  readonly #hooks: Hooks;
  readonly #links: { close(): void }[] = [];
  readonly #commands = new Commands<KeyCommand>((id, command) => this.#driven.put({ kind: 'command', id, command }));
  #pfkey: PfkeyLink | undefined;
  #encap: Channel | undefined;
  #spmif: SpmifLink | undefined;
  #sockets: LocalSockets | undefined;
  #config: Config | undefined;

  constructor(options: DaemonOptions) {
    this.#shell = shell('iked', options);
    this.#hooks = new Hooks({ report: (event) => this.#shell.report(event) });
    this.#driven = drive<IkedInput, IkedOutput>({
      machine: new Iked({ random: systemRandom, pid: process.pid }),
      now: clock(),
      tick: { kind: 'tick' },
      perform: (output) => this.#perform(output),
      report: (event) => this.#shell.report(event),
    });
  }

  async start(): Promise<void> {
    const { doors } = this.#shell;
    this.#sockets = new LocalSockets({
      wanted: (local) => this.#wantedEndpoints(local),
      onDatagram: (path, bytes) => this.#driven.put({ kind: 'datagram', path, bytes }),
      onAddresses: (addresses) => this.#driven.put({ kind: 'addresses', addresses }),
      report: (event) => this.#shell.report(event),
      directive: 'interface { ike … }',
    });
    this.#pfkey = pfkeyLink(this.#shell, (input) => {
      // Who tells of a movement has seen the new address.
      if (input.kind === 'pfkey' && input.message.type === 'X_MIGRATE') this.#sockets?.lookNow();
      this.#driven.put(input);
    });
    this.#spmif = new SpmifLink({
      daemon: 'iked',
      shell: this.#shell,
      put: (input) => this.#driven.put(input),
      prepare: (generation, config) =>
        this.#driven.put({ kind: 'prepare', generation, settings: { config, ...this.#keysOf(config) } }),
      apply: (config) => {
        this.#config = config;
        return this.#sockets?.follow() ?? Promise.resolve();
      },
    });
    this.#links.push(
      this.#pfkey,
      this.#spmif,
      doors.encap.dial((channel) => this.#encapUp(channel)),
    );
    await this.#shell.serveControl((request) => this.#control(request));
  }

  async stop(): Promise<void> {
    const limit = new Promise<void>((resolve) => setTimeout(resolve, SHUTDOWN_MS).unref());
    await Promise.race([this.#commands.run({ verb: 'shutdown' }).catch(() => undefined), limit]);
    this.#driven.stop();
    this.#hooks.stop();
    for (const link of this.#links) link.close();
    await this.#sockets?.close();
    await this.#shell.close();
  }

  #perform(output: IkedOutput): void {
    switch (output.kind) {
      case 'send':
        return this.#send(output.path, output.bytes);
      case 'keepalive':
        return this.#encap?.send(writeEncapFrame({ kind: 'keepalive', path: output.path }));
      case 'pfkey':
        return this.#pfkey?.send(output.message);
      case 'configuration':
        return this.#spmif?.answer(output);
      case 'ask':
        return this.#spmif?.ask(output.id, output.question.policyId);
      case 'spmd':
        return this.#spmif?.order(output.command);
      case 'event':
        return this.#shell.report(output.event);
      case 'hook':
        return this.#hooks.run(output);
      default:
        return this.#commands.answered(output);
    }
  }

  /** IKE on the encapsulation port leaves through the datapath, which owns that port; the rest from the socket of its local address. */
  #send(path: Path, bytes: Uint8Array): void {
    if (path.encapsulated) return this.#encap?.send(writeEncapFrame({ kind: 'ike', path, bytes }));
    this.#sockets?.send(path, bytes);
  }

  // IKE on the encapsulation port

  #encapUp(channel: Channel) {
    const framer = new EncapFramer();
    this.#encap = channel;
    this.#driven.put({ kind: 'encap-link' });
    return {
      onData: (bytes: Uint8Array) => {
        try {
          for (const frame of framer.put(bytes)) {
            if (frame.kind === 'ike') this.#driven.put({ kind: 'datagram', path: frame.path, bytes: frame.bytes });
          }
        } catch (error) {
          if (!(error instanceof WireError)) throw error;
          this.#shell.report({ name: 'encap-broken', severity: 'error', message: `encap.sock: ${error.message}` });
          channel.close();
        }
      },
      onClose: () => {
        this.#encap = undefined;
      },
    };
  }

  // Key files

  #keysOf(config: Config): Omit<IkedSettings, 'config'> {
    const psks = new Map<string, Secret>();
    const psksV1 = new Map<string, Secret>();
    const identityFiles = new Map<string, Uint8Array>();
    for (const { name, ikev2, ikev1 } of config.remotes) {
      for (const [block, keys] of [[ikev2, psks] as const, [ikev1, psksV1] as const]) {
        if (block?.preSharedKey !== undefined) {
          const { key, as } = pskOf(name, block.preSharedKey, block.pskFormat);
          const message = `remote ${name}: the key of ${block.preSharedKey} was read as ${as}`;
          this.#shell.report({ name: 'key-read', severity: 'debug', message });
          keys.set(name, key);
        }
        for (const id of [...(block?.myId === undefined ? [] : [block.myId]), ...(block?.peersId ?? [])]) {
          if (id.file) identityFiles.set(id.value, readSecretFile(id.value));
        }
      }
    }
    return { psks, psksV1, identityFiles };
  }

  // Sockets

  /** The encapsulation port is not among them: it belongs to the datapath. */
  #wantedEndpoints(local: readonly LocalAddress[]): Endpoint[] {
    if (this.#config === undefined) return [];
    const { ike, datapath } = this.#config.interface;
    const wanted: Endpoint[] = [];
    for (const { address, port } of ike.flatMap((spec) => expandEndpoints(spec, local))) {
      const endpoint = { address, port: port === 0 ? IKE_PORT : port };
      if (endpoint.port !== datapath.encapPort && !wanted.some((known) => sameEndpoint(known, endpoint))) wanted.push(endpoint);
    }
    return wanted;
  }

  // control.sock

  async #control(request: ControlRequest): Promise<unknown> {
    const result = await this.#commands.run(readKeyCommand(request));
    if (request.verb !== 'status') return result;
    const status = result as IkedStatus;
    const problems = [...(this.#sockets?.problems ?? [])].map(([subject, why]) => ({ subject, at: Date.now(), why }));
    return { ...status, failures: [...problems, ...status.failures] };
  }
}

/** Throws SystemError that names the remote whose key it is, and what to do. */
function pskOf(remote: string, path: string, format: Ikev2Config['pskFormat']) {
  try {
    return readPsk(readSecretFile(path), format, path);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const how = error.code === 'ENOENT' ? `; make one (tanuki keygen ${path}) or correct the name` : '';
    throw new SystemError(`pre_shared_key of remote ${remote}: ${error.message}${how}; then: tanuki reload`, error.code);
  }
}
