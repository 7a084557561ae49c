/** The process of one key daemon of a simulated host: its machine, its connections to spmd and the datapath, and what operators ask it. */

import type { Config } from '../../src/config/config.ts';
import type { LocalAddress } from '../../src/config/expand.ts';
import type { Event } from '../../src/event.ts';
import type { KeyCommand, KeyInput, KeyOutput } from '../../src/keying/ports.ts';
import type { KeyStatus } from '../../src/keying/status.ts';
import type { Machine } from '../../src/machine.ts';
import type { Path } from '../../src/net/address.ts';
import { type ClientOutput, SpmifClient } from '../../src/spmif/client.ts';
import type { Timeline } from './clock.ts';
import { Driven } from './driven.ts';
import { Link, type PfkeyHost, PfkeyPort } from './link.ts';
import type { SpmdNode } from './spmd-node.ts';

/** What one daemon is; `Own` is what only its machine is told, and `Extra` what only that says. */
export interface DaemonKind<Settings, Own, Extra extends { readonly kind: string }> {
  readonly name: 'iked' | 'kinkd';
  machine(pid: number): Machine<KeyInput<Settings> | Own, KeyOutput | Extra>;
  /** What its shell reads besides the policy file. */
  settings(config: Config): Settings;
  /** `put` answers, unless the daemon is gone by then. */
  extra(output: Extra, put: (input: Own) => void): void;
}

export interface KeyDaemonHost extends PfkeyHost {
  readonly clock: Timeline;
  readonly spmd: SpmdNode;
  readonly addresses: readonly LocalAddress[];
  nextPid(): number;
  send(path: Path, bytes: Uint8Array): void;
  onOutput(what: 'event' | 'reply' | 'wire', value: unknown): void;
  breach(what: string): void;
}

interface Spmif {
  readonly client: number;
  readonly link: Link;
  readonly back: Link;
  readonly machine: SpmifClient;
}

export class KeyDaemonNode<Settings, Own, Extra extends { readonly kind: string }, Status extends KeyStatus> {
  readonly port: PfkeyPort;
  readonly #kind: DaemonKind<Settings, Own, Extra>;
  readonly #host: KeyDaemonHost;
  #driven: Driven<KeyInput<Settings> | Own, KeyOutput | Extra> | undefined;
  #spmif: Spmif | undefined;
  /** Questions for spmd that are not answered yet. */
  readonly #asked = new Set<number>();
  #command = 0;
  readonly #replies = new Map<number, { readonly at: number; readonly verb: string }>();
  #status: Status | undefined;

  constructor(kind: DaemonKind<Settings, Own, Extra>, host: KeyDaemonHost) {
    this.#kind = kind;
    this.#host = host;
    this.port = new PfkeyPort(host);
  }

  get running(): boolean {
    return this.#driven !== undefined;
  }

  /** Commands that are not answered, with when they were given. */
  get unanswered(): readonly { readonly at: number; readonly verb: string }[] {
    return [...this.#replies.values()];
  }

  start(): void {
    const { clock } = this.#host;
    const driven = new Driven<KeyInput<Settings> | Own, KeyOutput | Extra>({
      name: this.#kind.name,
      machine: this.#kind.machine(this.#host.nextPid()),
      clock,
      tick: { kind: 'tick' },
      perform: (output) => (isExtra(output) ? this.#kind.extra(output, (input) => driven.put(input)) : this.#says(output)),
      breach: (what) => this.#host.breach(what),
    });
    this.#driven = driven;
    this.tellAddresses();
    this.port.open({ put: (input) => this.#driven?.put(input) });
    this.connectSpmif();
  }

  kill(): void {
    if (this.#driven === undefined) return;
    this.#driven.stop();
    this.#driven = undefined;
    this.#replies.clear();
    this.port.close();
    this.dropSpmif();
  }

  put(input: KeyInput<Settings>): void {
    this.#driven?.put(input);
  }

  tellAddresses(): void {
    this.put({ kind: 'addresses', addresses: this.#host.addresses });
  }

  command(command: KeyCommand): void {
    if (this.#driven === undefined) return;
    const id = ++this.#command;
    if (command.verb !== 'status') this.#replies.set(id, { at: this.#host.world.mono, verb: command.verb });
    this.#driven.put({ kind: 'command', id, command });
  }

  /** What `status` says, or undefined while it does not run. */
  status(): Status | undefined {
    this.#status = undefined;
    this.command({ verb: 'status' });
    return this.#status;
  }

  #says(output: KeyOutput): void {
    const host = this.#host;
    switch (output.kind) {
      case 'send':
        host.onOutput('wire', output.bytes);
        return host.send(output.path, output.bytes);
      case 'pfkey':
        return this.port.send(output.message);
      case 'configuration':
        if (output.state === 'rejected') host.breach(`${this.#kind.name} rejected the configuration: ${output.reason}`);
        return this.#tell(`CONFIG ${output.state.toUpperCase()} ${output.generation}`, 0);
      case 'spmd':
        return this.#tell(output.command, 0);
      case 'ask':
        return this.#ask(output.id, output.question.policyId);
      case 'event':
        return host.onOutput('event', output.event);
      case 'hook':
        return host.breach(`a script is to be run, which no policy names: ${output.file}`);
      default:
        host.onOutput('reply', output);
        if (output.ok && typeof output.result === 'object' && output.result !== null && 'datapath' in output.result) {
          this.#status = output.result as Status;
        }
        if (!this.#replies.delete(output.id) && this.#status === undefined) {
          host.breach(`a reply to command ${output.id}, which waits for none`);
        }
    }
  }

  // spmif

  /** Whenever both it and spmd run. */
  connectSpmif(): void {
    const { world, chance, spmd } = this.#host;
    if (!spmd.running || this.#driven === undefined || this.#spmif !== undefined) return;
    const spmif = {
      client: this.#host.nextClient(),
      link: new Link(world, chance),
      back: new Link(world, chance),
      machine: new SpmifClient(),
    };
    this.#spmif = spmif;
    spmif.link.carry(() => spmd.put({ kind: 'spmif-connected', client: spmif.client }));
  }

  dropSpmif(): void {
    const spmif = this.#spmif;
    if (spmif === undefined) return;
    this.#spmif = undefined;
    spmif.link.open = false;
    spmif.back.open = false;
    this.#host.spmd.put({ kind: 'spmif-closed', client: spmif.client });
    const asked = [...this.#asked];
    this.#asked.clear();
    for (const id of asked) this.#driven?.put({ kind: 'answer', id, selector: undefined });
  }

  /** spmd says something to a client, perhaps this one. */
  fromSpmd(client: number, bytes: Uint8Array): void {
    const spmif = this.#spmif;
    if (spmif?.client === client) spmif.back.carry(() => this.#spmifSays(spmif.machine.put(bytes)));
  }

  #tell(command: string, tag: number): void {
    if (this.#spmif !== undefined) this.#spmifSays([this.#spmif.machine.command(tag, command)]);
  }

  #ask(id: number, policyId: number): void {
    if (this.#spmif === undefined) return this.#driven?.put({ kind: 'answer', id, selector: undefined });
    this.#asked.add(id);
    this.#tell(`SLID ${policyId}`, id);
  }

  #spmifSays(outputs: readonly ClientOutput[]): void {
    for (const output of outputs) {
      const spmif = this.#spmif;
      if (spmif === undefined) return;
      switch (output.kind) {
        case 'send':
          spmif.link.carry(() => this.#host.spmd.put({ kind: 'spmif', client: spmif.client, bytes: output.bytes }));
          break;
        case 'ready':
          this.#tell(`CONFIG SUBSCRIBE ${this.#kind.name}`, 0);
          break;
        case 'reply':
          if (this.#asked.delete(output.tag)) {
            const selector = output.reply.code === 250 ? output.reply.lines[0] : undefined;
            this.#driven?.put({ kind: 'answer', id: output.tag, selector });
          }
          break;
        case 'notification':
          this.#configured(output.notification);
          break;
        default:
          this.#host.breach(`spmif broke: ${output.why}`);
      }
    }
  }

  #configured(notification: Extract<ClientOutput, { kind: 'notification' }>['notification']): void {
    const { generation } = notification;
    if (notification.kind !== 'prepare') return this.put({ kind: notification.kind, generation });
    this.put({ kind: 'prepare', generation, settings: this.#kind.settings(notification.config) });
  }
}

const SHARED: readonly string[] = ['send', 'pfkey', 'configuration', 'spmd', 'event', 'reply'] satisfies KeyOutput['kind'][];

/** Questions other than about selectors are a daemon's own too. */
function isExtra<Extra extends { readonly kind: string }>(output: KeyOutput<Event> | Extra): output is Extra {
  if (output.kind !== 'ask') return !SHARED.includes(output.kind);
  return (output as { readonly question: { readonly about: string } }).question.about !== 'selector-of';
}
