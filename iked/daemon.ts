/** The shell of iked: sockets, links to spmd and the datapath, key files and the control socket around the machine. */

import type { Secret } from '../src/bytes/secret.ts';
import type { Config, Ikev2Config } from '../src/config/config.ts';
import { expandEndpoints, type LocalAddress } from '../src/config/expand.ts';
import { SystemError, WireError } from '../src/errors.ts';
import type { KeyCommand } from '../src/keying/ports.ts';
import { type Endpoint, type Path, sameEndpoint } from '../src/net/address.ts';
import { clock } from '../src/runtime/clock.ts';
import type { ControlRequest } from '../src/runtime/control.ts';
import { type Driven, drive } from '../src/runtime/drive.ts';
import { EncapFramer, writeEncapFrame } from '../src/runtime/encap-frame.ts';
import { LocalSockets } from '../src/runtime/local-sockets.ts';
import { type PfkeyLink, pfkeyLink } from '../src/runtime/pfkey-link.ts';
import { systemRandom } from '../src/runtime/random.ts';
import { readSecretFile } from '../src/runtime/secret-files.ts';
import { type Daemon, type DaemonOptions, type Shell, shell } from '../src/runtime/shell.ts';
import type { Channel } from '../src/runtime/unix-socket.ts';
import { SpmifClient, type ClientOutput as SpmifOutput } from '../src/spmif/client.ts';
import { CODE, type Reply } from '../src/spmif/protocol.ts';
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
  readonly #links: { close(): void }[] = [];
  readonly #commands = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();
  #nextCommand = 1;
  #pfkey: PfkeyLink | undefined;
  #encap: Channel | undefined;
  #spmif: { channel: Channel; client: SpmifClient } | undefined;
  #sockets: LocalSockets | undefined;
  /** The configurations that were prepared, until they are committed or dropped. */
  readonly #prepared = new Map<number, Config>();
  #config: Config | undefined;

  constructor(options: DaemonOptions) {
    this.#shell = shell('iked', options);
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
    this.#links.push(
      this.#pfkey,
      doors.encap.dial((channel) => this.#encapUp(channel)),
      doors.spmif.dial((channel) => this.#spmifUp(channel)),
    );
    await this.#shell.serveControl((request) => this.#control(request));
  }

  async stop(): Promise<void> {
    const limit = new Promise<void>((resolve) => setTimeout(resolve, SHUTDOWN_MS).unref());
    await Promise.race([this.#command({ verb: 'shutdown' }).catch(() => undefined), limit]);
    this.#driven.stop();
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
        return this.#configurationAnswered(output);
      case 'ask':
        return this.#askSpmd(output.id, output.question.policyId);
      case 'spmd':
        return this.#tell(output.command, this.#orderTag(output.command));
      case 'event':
        return this.#shell.report(output.event);
      default:
        return this.#commandAnswered(output);
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

  // spmif

  #spmifUp(channel: Channel) {
    const client = new SpmifClient();
    this.#spmif = { channel, client };
    return {
      onData: (bytes: Uint8Array) => {
        for (const output of client.put(bytes)) this.#spmifOutput(channel, output);
      },
      onClose: () => {
        this.#spmif = undefined;
        for (const id of this.#asked) this.#driven.put({ kind: 'answer', id, selector: undefined });
        this.#asked.clear();
        this.#orders.clear();
      },
    };
  }

  /** Questions to spmd that are not answered yet. */
  readonly #asked = new Set<number>();
  /** The tag of commands whose reply is of no interest. */
  static readonly #NO_TAG = 0;

  #spmifOutput(channel: Channel, output: SpmifOutput): void {
    switch (output.kind) {
      case 'send':
        return channel.send(output.bytes);
      case 'ready':
        return this.#tell('CONFIG SUBSCRIBE iked');
      case 'reply':
        return this.#spmdReplied(output.tag, output.reply);
      case 'broken':
        this.#shell.report({ name: 'spmif-broken', severity: 'error', message: output.why });
        return channel.close();
      default:
        return this.#spmdSays(output.notification);
    }
  }

  #tell(command: string, tag = IkedDaemon.#NO_TAG): void {
    if (this.#spmif === undefined) {
      this.#orders.delete(tag);
      return;
    }
    const { channel, client } = this.#spmif;
    const output = client.command(tag, command);
    if (output.kind === 'send') channel.send(output.bytes);
  }

  #askSpmd(id: number, policyId: number): void {
    if (this.#spmif === undefined) return this.#driven.put({ kind: 'answer', id, selector: undefined });
    this.#asked.add(id);
    this.#tell(`SLID ${policyId}`, id);
  }

  /** Commands of the machine whose success is taken for granted, by their tags, which are none of its questions'. */
  readonly #orders = new Map<number, string>();
  #nextOrder = 2 ** 40;

  #orderTag(command: string): number {
    this.#orders.set(++this.#nextOrder, command);
    return this.#nextOrder;
  }

  #orderReplied(command: string, { code, lines }: Reply): void {
    if (code === CODE.done || code === CODE.noSuch) return;
    this.#shell.report({ name: 'policy-refused', severity: 'error', message: `spmd refused ${command}: ${lines.join('; ')}` });
  }

  #spmdReplied(tag: number, reply: Reply): void {
    const order = this.#orders.get(tag);
    if (order !== undefined) {
      this.#orders.delete(tag);
      return this.#orderReplied(order, reply);
    }
    if (!this.#asked.delete(tag)) return;
    this.#driven.put({ kind: 'answer', id: tag, selector: reply.code === CODE.done ? reply.lines[0] : undefined });
  }

  #spmdSays(notification: Extract<SpmifOutput, { kind: 'notification' }>['notification']): void {
    const { generation } = notification;
    if (notification.kind === 'prepare') return this.#prepare(generation, notification.config);
    if (notification.kind === 'commit') {
      void this.#commit(generation);
      return;
    }
    this.#prepared.delete(generation);
    this.#driven.put({ kind: 'abort', generation });
  }

  /** The sockets come first: what the machine sends at once under the new configuration must not be lost. */
  async #commit(generation: number): Promise<void> {
    const config = this.#prepared.get(generation);
    if (config !== undefined) {
      this.#config = config;
      this.#shell.configureLog(config.logging);
      await this.#sockets?.follow();
    }
    this.#driven.put({ kind: 'commit', generation });
  }

  /** Reads the key files of a generation; one that cannot be read rejects it with its reason. */
  #prepare(generation: number, config: Config): void {
    let settings: IkedSettings;
    try {
      settings = { config, ...this.#keysOf(config) };
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.#shell.report({ name: 'configuration-rejected', severity: 'error', message: error.message, generation });
      return this.#tell(`CONFIG REJECTED ${generation} ${error.message}`);
    }
    this.#prepared.set(generation, config);
    this.#driven.put({ kind: 'prepare', generation, settings });
  }

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

  #configurationAnswered(output: Extract<IkedOutput, { kind: 'configuration' }>): void {
    const { generation, state } = output;
    if (state === 'prepared') return this.#tell(`CONFIG PREPARED ${generation}`);
    this.#prepared.delete(generation);
    this.#tell(state === 'rejected' ? `CONFIG REJECTED ${generation} ${output.reason}` : `CONFIG COMMITTED ${generation}`);
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
    const result = await this.#command(commandOf(request));
    if (request.verb !== 'status') return result;
    const status = result as IkedStatus;
    const problems = [...(this.#sockets?.problems ?? [])].map(([subject, why]) => ({ subject, at: Date.now(), why }));
    return { ...status, failures: [...problems, ...status.failures] };
  }

  #command(command: KeyCommand): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = this.#nextCommand++;
      this.#commands.set(id, { resolve, reject });
      this.#driven.put({ kind: 'command', id, command });
    });
  }

  #commandAnswered(output: Extract<IkedOutput, { kind: 'reply' }>): void {
    const waiting = this.#commands.get(output.id);
    this.#commands.delete(output.id);
    if (output.ok) waiting?.resolve(output.result);
    else waiting?.reject(new Error(output.error));
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

/** Throws Error with what was expected. */
function commandOf({ verb, name, what }: ControlRequest): KeyCommand {
  if (verb === 'status') return { verb };
  if (verb !== 'initiate' && verb !== 'terminate' && verb !== 'rekey')
    throw new Error(`unknown verb "${verb}"; expected status, initiate, terminate, rekey or events`);
  if (typeof name !== 'string') throw new Error(`${verb}: expected "name": a selector, a policy, a remote or an IKE SA`);
  if (verb !== 'rekey') return { verb, name };
  if (what !== 'ike' && what !== 'child') throw new Error('rekey: expected "what": "ike" or "child"');
  return { verb, name, what };
}
