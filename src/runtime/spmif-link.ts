/** A key daemon's connection to spmd: subscribed to its configurations, dialled again whenever it is lost, with questions and orders of the machine. */

import type { Config } from '../config/config.ts';
import { SystemError } from '../errors.ts';
import { SpmifClient, type ClientOutput as SpmifOutput } from '../spmif/client.ts';
import { CODE, type Reply } from '../spmif/protocol.ts';
import type { DaemonName } from './run-dir.ts';
import type { Shell } from './shell.ts';
import type { Channel } from './unix-socket.ts';

/** What a machine takes of it. */
export type SpmdInput =
  | { readonly kind: 'commit' | 'abort'; readonly generation: number }
  | { readonly kind: 'answer'; readonly id: number; readonly selector: string | undefined };

/** What a machine answers to a generation. */
export type SpmdAnswer =
  | { readonly generation: number; readonly state: 'prepared' | 'committed' }
  | { readonly generation: number; readonly state: 'rejected'; readonly reason: string };

export interface SpmifLinkOptions {
  readonly daemon: DaemonName;
  readonly shell: Pick<Shell, 'doors' | 'report' | 'configureLog'>;
  readonly put: (input: SpmdInput) => void;
  /** Hands a generation to the machine with the files it needs. Throws SystemError where one cannot be read: the generation is rejected with that reason. */
  readonly prepare: (generation: number, config: Config) => void;
  /** What must be there before the machine sends anything under a new configuration. */
  readonly apply: (config: Config) => Promise<void>;
}

/** The tag of commands whose reply is of no interest. */
const NO_TAG = 0;

export class SpmifLink {
  readonly #options: SpmifLinkOptions;
  readonly #dialled: { close(): void };
  #connection: { readonly channel: Channel; readonly client: SpmifClient } | undefined;
  /** Questions that are not answered yet. */
  readonly #asked = new Set<number>();
  /** Orders whose success is taken for granted, by their tags, which are none of the questions'. */
  readonly #orders = new Map<number, string>();
  #nextOrder = 2 ** 40;
  /** The configurations that were prepared, until they are committed or dropped. */
  readonly #prepared = new Map<number, Config>();

  constructor(options: SpmifLinkOptions) {
    this.#options = options;
    this.#dialled = options.shell.doors.spmif.dial((channel) => this.#up(channel));
  }

  close(): void {
    this.#dialled.close();
  }

  /** Which selector a policy is, by its number; answered at once with none where spmd is away. */
  ask(id: number, policyId: number): void {
    if (this.#connection === undefined) return this.#options.put({ kind: 'answer', id, selector: undefined });
    this.#asked.add(id);
    this.#tell(`SLID ${policyId}`, id);
  }

  order(command: string): void {
    this.#orders.set(++this.#nextOrder, command);
    this.#tell(command, this.#nextOrder);
  }

  /** The machine's answer to a generation. */
  answer(answer: SpmdAnswer): void {
    const { generation, state } = answer;
    if (state === 'prepared') return this.#tell(`CONFIG PREPARED ${generation}`);
    this.#prepared.delete(generation);
    this.#tell(state === 'rejected' ? `CONFIG REJECTED ${generation} ${answer.reason}` : `CONFIG COMMITTED ${generation}`);
  }

  #up(channel: Channel) {
    const client = new SpmifClient();
    this.#connection = { channel, client };
    return {
      onData: (bytes: Uint8Array) => {
        for (const output of client.put(bytes)) this.#output(channel, output);
      },
      onClose: () => {
        this.#connection = undefined;
        for (const id of this.#asked) this.#options.put({ kind: 'answer', id, selector: undefined });
        this.#asked.clear();
        this.#orders.clear();
      },
    };
  }

  #output(channel: Channel, output: SpmifOutput): void {
    const { daemon, shell } = this.#options;
    switch (output.kind) {
      case 'send':
        return channel.send(output.bytes);
      case 'ready':
        return this.#tell(`CONFIG SUBSCRIBE ${daemon}`);
      case 'reply':
        return this.#replied(output.tag, output.reply);
      case 'broken':
        shell.report({ name: 'spmif-broken', severity: 'error', message: output.why });
        return channel.close();
      default:
        return this.#notified(output.notification);
    }
  }

  #tell(command: string, tag = NO_TAG): void {
    if (this.#connection === undefined) {
      this.#orders.delete(tag);
      return;
    }
    const { channel, client } = this.#connection;
    const output = client.command(tag, command);
    if (output.kind === 'send') channel.send(output.bytes);
  }

  #replied(tag: number, { code, lines }: Reply): void {
    const { shell, put } = this.#options;
    const order = this.#orders.get(tag);
    if (order !== undefined) {
      this.#orders.delete(tag);
      if (code !== CODE.done && code !== CODE.noSuch)
        shell.report({ name: 'policy-refused', severity: 'error', message: `spmd refused ${order}: ${lines.join('; ')}` });
      return;
    }
    if (this.#asked.delete(tag)) put({ kind: 'answer', id: tag, selector: code === CODE.done ? lines[0] : undefined });
  }

  #notified(notification: Extract<SpmifOutput, { kind: 'notification' }>['notification']): void {
    const { generation } = notification;
    if (notification.kind === 'prepare') return this.#prepare(generation, notification.config);
    if (notification.kind === 'commit') {
      void this.#commit(generation);
      return;
    }
    this.#prepared.delete(generation);
    this.#options.put({ kind: 'abort', generation });
  }

  #prepare(generation: number, config: Config): void {
    try {
      this.#prepared.set(generation, config);
      this.#options.prepare(generation, config);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      const { message } = error;
      this.#options.shell.report({ name: 'configuration-rejected', severity: 'error', message, generation });
      this.answer({ generation, state: 'rejected', reason: message });
    }
  }

  async #commit(generation: number): Promise<void> {
    const config = this.#prepared.get(generation);
    if (config !== undefined) {
      this.#options.shell.configureLog(config.logging);
      await this.#options.apply(config);
    }
    this.#options.put({ kind: 'commit', generation });
  }
}
