/** One simulated host: spmd, iked and the datapath as processes of their own, joined by spmif and PF_KEY, each of which can be killed and started anew. */

import { Iked, type IkedInput, type IkedOutput } from '../../iked/iked.ts';
import type { IkedStatus } from '../../iked/ports.ts';
import type { SpmdInput, SpmdOutput } from '../../spmd/ports.ts';
import { Spmd } from '../../spmd/spmd.ts';
import { Secret } from '../../src/bytes/secret.ts';
import { nobleEngine } from '../../src/crypto/engine-noble.ts';
import type { Event } from '../../src/event.ts';
import type { KeyCommand } from '../../src/keying/ports.ts';
import type { Machine } from '../../src/machine.ts';
import type { IpAddress } from '../../src/net/address.ts';
import { readSadb, SadbFramer, writeSadb } from '../../src/pfkey/message.ts';
import { type ClientOutput, SpmifClient } from '../../src/spmif/client.ts';
import { Chance } from './chance.ts';
import type { Clock } from './clock.ts';
import { type DatapathDoors, DatapathNode } from './datapath-node.ts';
import { Driven } from './driven.ts';
import type { Datagram, Network } from './network.ts';
import type { NodeSpec } from './scenario.ts';

export type IkedMachine = Machine<IkedInput, IkedOutput>;

/** What a test changes about a node to see whether the invariants notice. */
export interface Alterations {
  readonly iked?: (machine: IkedMachine) => IkedMachine;
  readonly datapath?: DatapathDoors['alter'];
}

export interface NodeDoors {
  readonly clock: Clock;
  readonly chance: Chance;
  readonly network: Network;
  /** Noble for everything, instead of what the platform has. */
  readonly realCrypto: boolean;
  readonly alterations: Alterations;
  readonly onDevice: (node: SimNode, packet: Uint8Array) => void;
  readonly onClear: (node: SimNode, packet: Uint8Array) => void;
  /** Everything that leaves a machine except PF_KEY. */
  readonly onOutput: (node: SimNode, what: 'event' | 'reply' | 'wire', value: unknown) => void;
  readonly breach: (node: SimNode, what: string) => void;
}

/** Octets between two processes arrive in order, after a moment. Milliseconds. */
const LINK_DELAY: readonly [number, number] = [0, 2];
const IKE_PORT = 500;

/** One direction of a stream between two processes; what is under way is lost with it. */
class Link {
  readonly #clock: Clock;
  readonly #chance: Chance;
  #last = 0;
  open = true;

  constructor(clock: Clock, chance: Chance) {
    this.#clock = clock;
    this.#chance = chance;
  }

  carry(act: () => void): void {
    this.#last = Math.max(this.#last, this.#clock.mono + this.#chance.between(...LINK_DELAY));
    this.#clock.at(this.#last, () => {
      if (this.open) act();
    });
  }
}

/** A client's connection to the datapath. */
interface Connection {
  readonly client: number;
  readonly link: Link;
  readonly back: Link;
  readonly framer: SadbFramer;
}

type User = 'spmd' | 'iked';

export class SimNode {
  readonly spec: NodeSpec;
  readonly #doors: NodeDoors;
  #spmd: Driven<SpmdInput, SpmdOutput> | undefined;
  #iked: Driven<IkedInput, IkedOutput> | undefined;
  #datapath: DatapathNode | undefined;
  readonly #pfkey = new Map<User, Connection>();
  #spmif: { readonly client: number; readonly link: Link; readonly back: Link; readonly machine: SpmifClient } | undefined;
  #clients = 0;
  #starts = 0;
  readonly #asked = new Set<number>();
  #command = 0;
  readonly #replies = new Map<number, { readonly at: number; readonly verb: string }>();
  #status: IkedStatus | undefined;
  /** Inputs that the machines of this node have handled, and those of machines that are gone. */
  #steps = 0;

  constructor(spec: NodeSpec, doors: NodeDoors) {
    this.spec = spec;
    this.#doors = doors;
    doors.network.attach(spec.address, (datagram) => this.#received(datagram));
  }

  get name(): string {
    return this.spec.name;
  }

  get engine(): DatapathNode['engine'] | undefined {
    return this.#datapath?.engine;
  }

  /** Whether spmd has told the datapath what to protect. */
  get hasPolicies(): boolean {
    const entries = this.#datapath?.engine.core.spd.entries() ?? [];
    return entries.filter(({ policy }) => policy.selector.protocol === 0).length >= this.spec.config.selectors.length;
  }

  get running(): boolean {
    return this.#spmd !== undefined && this.#iked !== undefined && this.#datapath !== undefined;
  }

  get steps(): number {
    return this.#steps + (this.#spmd?.steps ?? 0) + (this.#iked?.steps ?? 0);
  }

  /** Commands that are not answered, with when they were given. */
  get unanswered(): readonly { readonly at: number; readonly verb: string }[] {
    return [...this.#replies.values()];
  }

  start(): void {
    this.startDatapath();
    this.startSpmd();
    this.startIked();
  }

  // spmd

  startSpmd(): void {
    const { clock, chance } = this.#doors;
    const pid = 100 + ++this.#starts;
    this.#spmd = new Driven<SpmdInput, SpmdOutput>({
      name: `spmd of ${this.name}`,
      machine: new Spmd({ pid, random: chance.fork().bytes, firstGeneration: this.#starts * 1000 }),
      clock,
      tick: { kind: 'tick' },
      perform: (output) => this.#spmdSays(output),
      breach: (what) => this.#doors.breach(this, what),
    });
    this.#spmd.put({ kind: 'addresses', addresses: [{ address: this.spec.address, interface: 'eth0' }] });
    this.#spmd.put({ kind: 'configure', id: 1, config: this.spec.config, password: undefined, confirmSeconds: 0 });
    this.#connectPfkey('spmd');
    this.#connectSpmif();
  }

  killSpmd(): void {
    if (this.#spmd === undefined) return;
    this.#steps += this.#spmd.steps;
    this.#spmd.stop();
    this.#spmd = undefined;
    this.#dropPfkey('spmd');
    this.#dropSpmif();
  }

  #spmdSays(output: SpmdOutput): void {
    switch (output.kind) {
      case 'pfkey':
        return this.#toDatapath('spmd', writeSadb(output.message));
      case 'spmif': {
        const spmif = this.#spmif;
        if (spmif?.client === output.client) spmif.back.carry(() => this.#spmifSays(spmif.machine.put(output.bytes)));
        return;
      }
      case 'datapath':
        return this.#spmd?.put({ kind: 'datapath', problem: undefined });
      case 'event':
        return this.#doors.onOutput(this, 'event', output.event);
      case 'reply':
        this.#doors.onOutput(this, 'reply', output);
        if (!output.ok) this.#doors.breach(this, `spmd answered ${output.error}`);
        return;
      case 'spmif-close':
        return this.#doors.breach(this, `spmd closed spmif: ${output.why}`);
      default:
    }
  }

  // iked

  startIked(): void {
    const { clock, chance, realCrypto, alterations } = this.#doors;
    const pid = 100 + ++this.#starts;
    const machine = new Iked({ random: chance.fork().bytes, pid, ...(realCrypto ? { engine: nobleEngine } : {}) });
    this.#iked = new Driven<IkedInput, IkedOutput>({
      name: `iked of ${this.name}`,
      machine: alterations.iked?.(machine) ?? machine,
      clock,
      tick: { kind: 'tick' },
      perform: (output) => this.#ikedSays(output),
      breach: (what) => this.#doors.breach(this, what),
    });
    this.#iked.put({ kind: 'addresses', addresses: [{ address: this.spec.address, interface: 'eth0' }] });
    this.#connectPfkey('iked');
    this.#connectSpmif();
  }

  killIked(): void {
    if (this.#iked === undefined) return;
    this.#steps += this.#iked.steps;
    this.#iked.stop();
    this.#iked = undefined;
    this.#replies.clear();
    this.#dropPfkey('iked');
    this.#dropSpmif();
  }

  command(command: KeyCommand): void {
    if (this.#iked === undefined) return;
    const id = ++this.#command;
    if (command.verb !== 'status') this.#replies.set(id, { at: this.#doors.clock.mono, verb: command.verb });
    this.#iked.put({ kind: 'command', id, command });
  }

  /** What `status` says, or undefined while iked does not run. */
  status(): IkedStatus | undefined {
    this.#status = undefined;
    this.command({ verb: 'status' });
    return this.#status;
  }

  #ikedSays(output: IkedOutput): void {
    switch (output.kind) {
      case 'send':
        this.#doors.onOutput(this, 'wire', output.bytes);
        if (output.path.encapsulated) this.#datapath?.sendIke(output.path, output.bytes);
        else this.#doors.network.send({ kind: 'udp', from: output.path.local, to: output.path.remote, bytes: output.bytes });
        return;
      case 'keepalive':
        return this.#datapath?.sendIke(output.path, undefined);
      case 'pfkey':
        return this.#toDatapath('iked', writeSadb(output.message));
      case 'configuration':
        if (output.state === 'rejected') this.#doors.breach(this, `iked rejected the configuration: ${output.reason}`);
        return this.#tell(`CONFIG ${output.state.toUpperCase()} ${output.generation}`, 0);
      case 'spmd':
        return this.#tell(output.command, 0);
      case 'ask':
        return this.#ask(output.id, output.question.policyId);
      case 'event':
        return this.#doors.onOutput(this, 'event', output.event);
      default:
        this.#doors.onOutput(this, 'reply', output);
        if (output.ok && typeof output.result === 'object' && output.result !== null && 'ikeSas' in output.result) {
          this.#status = output.result as IkedStatus;
        }
        if (!this.#replies.delete(output.id) && this.#status === undefined) {
          this.#doors.breach(this, `a reply to command ${output.id}, which waits for none`);
        }
    }
  }

  // spmif

  #connectSpmif(): void {
    if (this.#spmd === undefined || this.#iked === undefined || this.#spmif !== undefined) return;
    const { clock, chance } = this.#doors;
    const spmif = {
      client: ++this.#clients,
      link: new Link(clock, chance),
      back: new Link(clock, chance),
      machine: new SpmifClient(),
    };
    this.#spmif = spmif;
    spmif.link.carry(() => this.#spmd?.put({ kind: 'spmif-connected', client: spmif.client }));
  }

  #dropSpmif(): void {
    const spmif = this.#spmif;
    if (spmif === undefined) return;
    this.#spmif = undefined;
    spmif.link.open = false;
    spmif.back.open = false;
    this.#spmd?.put({ kind: 'spmif-closed', client: spmif.client });
    const asked = [...this.#asked];
    this.#asked.clear();
    for (const id of asked) this.#iked?.put({ kind: 'answer', id, selector: undefined });
  }

  #tell(command: string, tag: number): void {
    if (this.#spmif !== undefined) this.#spmifSays([this.#spmif.machine.command(tag, command)]);
  }

  #ask(id: number, policyId: number): void {
    if (this.#spmif === undefined) return this.#iked?.put({ kind: 'answer', id, selector: undefined });
    this.#asked.add(id);
    this.#tell(`SLID ${policyId}`, id);
  }

  #spmifSays(outputs: readonly ClientOutput[]): void {
    for (const output of outputs) {
      const spmif = this.#spmif;
      if (spmif === undefined) return;
      switch (output.kind) {
        case 'send':
          spmif.link.carry(() => this.#spmd?.put({ kind: 'spmif', client: spmif.client, bytes: output.bytes }));
          break;
        case 'ready':
          this.#tell('CONFIG SUBSCRIBE iked', 0);
          break;
        case 'reply':
          if (this.#asked.delete(output.tag)) {
            const selector = output.reply.code === 250 ? output.reply.lines[0] : undefined;
            this.#iked?.put({ kind: 'answer', id: output.tag, selector });
          }
          break;
        case 'notification':
          this.#configured(output.notification);
          break;
        default:
          this.#doors.breach(this, `spmif broke: ${output.why}`);
      }
    }
  }

  #configured(notification: Extract<ClientOutput, { kind: 'notification' }>['notification']): void {
    const { generation } = notification;
    if (notification.kind !== 'prepare') return this.#iked?.put({ kind: notification.kind, generation });
    const { config } = notification;
    const psks = new Map(config.remotes.map(({ name }) => [name, new Secret(pskOf(this.spec.name, name))]));
    this.#iked?.put({ kind: 'prepare', generation, settings: { config, psks } });
  }

  // The datapath

  startDatapath(): void {
    const { clock, chance, network, realCrypto, alterations, onDevice, onClear, onOutput, breach } = this.#doors;
    this.#datapath = new DatapathNode({
      clock,
      chance: chance.fork(),
      cipher: realCrypto ? 'noble' : 'node',
      send: (datagram) => network.send(datagram),
      onIke: (path, bytes) => this.#iked?.put({ kind: 'datagram', path, bytes }),
      onDevice: (packet) => onDevice(this, packet),
      onClear: (packet) => onClear(this, packet),
      onPfkey: (client, bytes) => this.#fromDatapath(client, bytes),
      onPfkeyClose: (client) => this.#pfkeyClosed(client),
      onEvent: (event: Event) => onOutput(this, 'event', event),
      breach: (what) => breach(this, what),
      alter: alterations.datapath,
    });
    this.#connectPfkey('spmd');
    this.#connectPfkey('iked');
  }

  killDatapath(): void {
    if (this.#datapath === undefined) return;
    this.#datapath.stop();
    this.#datapath = undefined;
    this.#dropPfkey('spmd');
    this.#dropPfkey('iked');
  }

  /** A packet from an application of this host. */
  send(packet: Uint8Array): void {
    this.#datapath?.fromDevice(packet);
  }

  #machineOf(user: User): Driven<IkedInput, IkedOutput> | Driven<SpmdInput, SpmdOutput> | undefined {
    return user === 'spmd' ? this.#spmd : this.#iked;
  }

  #connectPfkey(user: User): void {
    const machine = this.#machineOf(user);
    if (this.#datapath === undefined || machine === undefined || this.#pfkey.has(user)) return;
    const { clock, chance } = this.#doors;
    const connection = {
      client: ++this.#clients,
      link: new Link(clock, chance),
      back: new Link(clock, chance),
      framer: new SadbFramer(),
    };
    this.#pfkey.set(user, connection);
    connection.link.carry(() => this.#datapath?.pfkey({ kind: 'connect', client: connection.client }));
    connection.back.carry(() => this.#machineOf(user)?.put({ kind: 'pfkey-link', up: true }));
  }

  #dropPfkey(user: User): void {
    const connection = this.#pfkey.get(user);
    if (connection === undefined) return;
    this.#pfkey.delete(user);
    connection.link.open = false;
    connection.back.open = false;
    this.#datapath?.pfkey({ kind: 'disconnect', client: connection.client });
    this.#machineOf(user)?.put({ kind: 'pfkey-link', up: false });
  }

  #pfkeyClosed(client: number): void {
    for (const [user, connection] of this.#pfkey) {
      if (connection.client !== client) continue;
      this.#dropPfkey(user);
      this.#connectPfkey(user);
    }
  }

  #toDatapath(user: User, bytes: Uint8Array): void {
    const connection = this.#pfkey.get(user);
    if (connection === undefined) return;
    connection.link.carry(() => this.#datapath?.pfkey({ kind: 'bytes', client: connection.client, bytes }));
  }

  #fromDatapath(client: number, bytes: Uint8Array): void {
    for (const [user, connection] of this.#pfkey) {
      if (connection.client !== client) continue;
      connection.back.carry(() => {
        for (const message of connection.framer.push(bytes))
          this.#machineOf(user)?.put({ kind: 'pfkey', message: readSadb(message) });
      });
    }
  }

  // The network

  #received(datagram: Datagram): void {
    if (datagram.kind === 'udp' && datagram.to.port === IKE_PORT) {
      const path = { local: datagram.to, remote: datagram.from, encapsulated: false };
      return this.#iked?.put({ kind: 'datagram', path, bytes: datagram.bytes });
    }
    this.#datapath?.received(datagram);
  }
}

/** Cuts and addresses know a node by this. */
export function addressOf(node: SimNode): IpAddress {
  return node.spec.address;
}

/** One key for each pair of nodes, whichever of them asks. */
function pskOf(own: string, remote: string): Uint8Array {
  const [first, second] = [own, remote].sort().map((name) => Number(name.slice(1)));
  return new Chance(0x95c * (first! + 1) + second!).bytes(32);
}
