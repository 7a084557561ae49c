/** One simulated host: spmd, iked, the datapath and a mobility daemon as processes of their own, each of which can be killed and started anew; with a clock of its own, and an address that may change. */

import { Iked, type IkedInput, type IkedOutput } from '../../iked/iked.ts';
import type { IkedSettings, IkedStatus } from '../../iked/ports.ts';
import { Secret } from '../../src/bytes/secret.ts';
import type { Config } from '../../src/config/config.ts';
import type { LocalAddress } from '../../src/config/expand.ts';
import { nobleEngine } from '../../src/crypto/engine-noble.ts';
import type { Event } from '../../src/event.ts';
import type { KeyCommand } from '../../src/keying/ports.ts';
import type { Machine } from '../../src/machine.ts';
import type { IpAddress, Path } from '../../src/net/address.ts';
import type { PfkeyServerInput } from '../../src/pfkey/server.ts';
import { Chance } from './chance.ts';
import { type Clock, HostClock } from './clock.ts';
import { type DatapathDoors, DatapathNode } from './datapath-node.ts';
import { Driven } from './driven.ts';
import { type KeyDaemonHost, KeyDaemonNode } from './key-daemon-node.ts';
import { KeyWatch } from './key-watch.ts';
import { PfkeyPort } from './link.ts';
import { MobilityClient, type MobilityInput, type MobilityOutput } from './mobility-client.ts';
import type { Datagram, Network } from './network.ts';
import type { NodeSpec } from './scenario.ts';
import { type SpmdHost, SpmdNode } from './spmd-node.ts';

export type IkedMachine = Machine<IkedInput, IkedOutput>;
type IkedExtra = Extract<IkedOutput, { readonly kind: 'keepalive' }>;

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

const IKE_PORT = 500;

export class SimNode implements SpmdHost, KeyDaemonHost {
  readonly spec: NodeSpec;
  readonly clock: HostClock;
  readonly world: Clock;
  readonly chance: Chance;
  readonly spmd: SpmdNode;
  readonly iked: KeyDaemonNode<IkedSettings, IkedExtra, IkedStatus>;
  /** The mobility daemon's way to the datapath. */
  readonly mobility: PfkeyPort;
  readonly #doors: NodeDoors;
  readonly #watch: KeyWatch;
  #mobility: Driven<MobilityInput, MobilityOutput> | undefined;
  #datapath: DatapathNode | undefined;
  /** Those it has now, the one it uses first; and those it ever had. */
  #addresses: readonly IpAddress[];
  readonly #everHad: IpAddress[];
  #clients = 0;
  #pids = 100;

  constructor(spec: NodeSpec, doors: NodeDoors) {
    this.spec = spec;
    this.#doors = doors;
    this.world = doors.clock;
    this.clock = new HostClock(doors.clock, spec.drift);
    this.chance = doors.chance;
    this.#watch = new KeyWatch((what) => this.breach(what));
    this.#addresses = [spec.address];
    this.#everHad = [spec.address];
    this.spmd = new SpmdNode(this);
    this.iked = new KeyDaemonNode(this.#ikedKind(), this);
    this.mobility = new PfkeyPort(this);
    doors.network.attach(spec.address, (datagram) => this.#received(datagram));
  }

  get name(): string {
    return this.spec.name;
  }

  get config(): Config {
    return this.spec.config;
  }

  /** The address it is reached at now. */
  get address(): IpAddress {
    return this.#addresses[0]!;
  }

  get addresses(): readonly LocalAddress[] {
    return this.#addresses.map((address) => ({ address, interface: 'eth0' }));
  }

  /** Whether it is or was there. */
  hasBeenAt(address: IpAddress): boolean {
    return this.#everHad.some((one) => one.equals(address));
  }

  get formerAddresses(): readonly IpAddress[] {
    return [...this.#everHad];
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
    return this.spmd.running && this.iked.running && this.#datapath !== undefined;
  }

  /** Commands that are not answered, with when they were given. */
  get unanswered(): readonly { readonly at: number; readonly verb: string }[] {
    return this.iked.unanswered;
  }

  start(): void {
    this.startDatapath();
    this.startSpmd();
    this.startIked();
    this.#startMobility();
  }

  // spmd

  startSpmd(): void {
    this.spmd.start();
    this.iked.connectSpmif();
  }

  killSpmd(): void {
    this.spmd.kill();
    this.iked.dropSpmif();
  }

  toSpmifClient(client: number, bytes: Uint8Array): void {
    this.iked.fromSpmd(client, bytes);
  }

  // Key daemons

  startIked(): void {
    this.iked.start();
  }

  killIked(): void {
    this.iked.kill();
  }

  command(command: KeyCommand): void {
    this.iked.command(command);
  }

  /** What `status` says, or undefined while iked does not run. */
  status(): IkedStatus | undefined {
    return this.iked.status();
  }

  #ikedKind(): ConstructorParameters<typeof KeyDaemonNode<IkedSettings, IkedExtra, IkedStatus>>[0] {
    const { realCrypto, alterations } = this.#doors;
    return {
      name: 'iked',
      machine: (pid) => {
        const machine = new Iked({ random: this.chance.fork().bytes, pid, ...(realCrypto ? { engine: nobleEngine } : {}) });
        return alterations.iked?.(machine) ?? machine;
      },
      settings: (config) => {
        const psks = new Map(config.remotes.map(({ name }) => [name, new Secret(pskOf(this.spec.name, name))]));
        return { config, psks };
      },
      extra: ({ path }) => this.#datapath?.sendIke(path, undefined),
    };
  }

  send(path: Path, bytes: Uint8Array): void {
    if (path.encapsulated) this.#datapath?.sendIke(path, bytes);
    else this.#doors.network.send({ kind: 'udp', from: path.local, to: path.remote, bytes });
  }

  // Mobility

  /** It is at another address from now on; the old one stays for `linger` milliseconds. */
  move(to: IpAddress, linger: number): void {
    const { network } = this.#doors;
    const from = this.address;
    if (from.equals(to)) return;
    if (!this.hasBeenAt(to)) this.#everHad.push(to);
    network.attach(to, (datagram) => this.#received(datagram));
    this.#changeAddresses([to, ...this.#addresses.filter((address) => !address.equals(to))]);
    const leave = () => {
      if (this.address.equals(from)) return;
      network.detach(from);
      this.#changeAddresses(this.#addresses.filter((address) => !address.equals(from)));
    };
    if (linger === 0) leave();
    else this.world.after(linger, leave);
  }

  #changeAddresses(addresses: readonly IpAddress[]): void {
    this.#addresses = addresses;
    this.spmd.tellAddresses();
    this.iked.tellAddresses();
  }

  /** Its mobility daemon hears where a node is now, or knows it of itself. */
  bind(binding: Extract<MobilityInput, { kind: 'binding' }>): void {
    this.#mobility?.put(binding);
  }

  /** A mobility daemon is never restarted: what it knows is what the world says anyway. */
  #startMobility(): void {
    this.#mobility = new Driven<MobilityInput, MobilityOutput>({
      name: 'the mobility daemon',
      machine: new MobilityClient(this.nextPid(), this.spec.tellsKeyManagement),
      clock: this.clock,
      tick: { kind: 'tick' },
      perform: ({ message }) => {
        this.mobility.send(message);
        // Another way that the same news came by, such as a bridge from the kernel.
        if (message.type === 'X_MIGRATE' && this.chance.happens(this.spec.repeatedMigrates)) this.mobility.send(message);
      },
      breach: (what) => this.breach(what),
    });
    this.mobility.open({ put: (input) => this.#mobility?.put(input) });
  }

  // The datapath

  startDatapath(): void {
    const { network, realCrypto, alterations, onDevice, onClear } = this.#doors;
    this.#datapath = new DatapathNode({
      clock: this.clock,
      chance: this.chance.fork(),
      cipher: realCrypto ? 'noble' : 'node',
      send: (datagram) => network.send(datagram),
      onIke: (path, bytes) => this.iked.put({ kind: 'datagram', path, bytes }),
      onDevice: (packet) => onDevice(this, packet),
      onClear: (packet) => onClear(this, packet),
      onPfkey: (client, bytes) => {
        for (const port of this.#ports) port.received(client, bytes);
      },
      onPfkeyClose: (client) => {
        for (const port of this.#ports) port.closed(client);
      },
      onEvent: (event: Event) => this.onOutput('event', event),
      breach: (what) => this.breach(what),
      watch: this.#watch,
      alter: alterations.datapath,
    });
    for (const port of this.#ports) port.connect();
  }

  killDatapath(): void {
    if (this.#datapath === undefined) return;
    this.#datapath.stop();
    this.#datapath = undefined;
    for (const port of this.#ports) port.drop();
  }

  get #ports(): readonly PfkeyPort[] {
    return [this.spmd.port, this.iked.port, this.mobility];
  }

  get datapathRuns(): boolean {
    return this.#datapath !== undefined;
  }

  toDatapath(input: PfkeyServerInput): void {
    this.#datapath?.pfkey(input);
  }

  /** A packet from an application of this host. */
  sendPacket(packet: Uint8Array): void {
    this.#datapath?.fromDevice(packet);
  }

  // The network

  #received(datagram: Datagram): void {
    if (datagram.kind === 'udp' && datagram.to.port === IKE_PORT) {
      const path = { local: datagram.to, remote: datagram.from, encapsulated: false };
      return this.iked.put({ kind: 'datagram', path, bytes: datagram.bytes });
    }
    this.#datapath?.received(datagram);
  }

  // What its processes need of it

  nextClient(): number {
    return ++this.#clients;
  }

  nextPid(): number {
    return ++this.#pids;
  }

  onOutput(what: 'event' | 'reply' | 'wire', value: unknown): void {
    this.#doors.onOutput(this, what, value);
  }

  breach(what: string): void {
    this.#doors.breach(this, what);
  }
}

/** One key for each pair of nodes, whichever of them asks. */
function pskOf(own: string, remote: string): Uint8Array {
  const [first, second] = [own, remote].sort().map((name) => Number(name.slice(1)));
  return new Chance(0x95c * (first! + 1) + second!).bytes(32);
}
