/** One simulated host: spmd, iked, kinkd, the datapath and a mobility daemon as processes of their own, each of which can be killed and started anew; with a clock of its own, and an address that may change. */

import { Iked, type IkedInput, type IkedOutput } from '../../iked/iked.ts';
import type { IkedSettings, IkedStatus } from '../../iked/ports.ts';
import { Kinkd, type KinkdInput, type KinkdOutput, type KinkdSettings, type KinkdStatus } from '../../kinkd/kinkd.ts';
import type { TicketAnswer, TicketQuestion } from '../../kinkd/ports.ts';
import { Secret } from '../../src/bytes/secret.ts';
import type { Config, Kmp } from '../../src/config/config.ts';
import type { LocalAddress } from '../../src/config/expand.ts';
import { nobleEngine } from '../../src/crypto/engine-noble.ts';
import type { Event } from '../../src/event.ts';
import type { KeyCommand } from '../../src/keying/ports.ts';
import type { ChildSaStatus } from '../../src/keying/status.ts';
import type { Machine } from '../../src/machine.ts';
import type { IpAddress, Path } from '../../src/net/address.ts';
import type { PfkeyServerInput } from '../../src/pfkey/server.ts';
import { Chance } from './chance.ts';
import { type Clock, HostClock } from './clock.ts';
import { type DatapathDoors, DatapathNode } from './datapath-node.ts';
import { Driven } from './driven.ts';
import { KerberosFiles, type SimKdc } from './kerberos.ts';
import { type KeyDaemonHost, KeyDaemonNode } from './key-daemon-node.ts';
import { KeyWatch } from './key-watch.ts';
import { PfkeyPort, type PfkeyUser } from './link.ts';
import { MobilityClient, type MobilityInput, type MobilityOutput } from './mobility-client.ts';
import type { Datagram, Network } from './network.ts';
import type { NodeSpec } from './scenario.ts';
import { type SpmdHost, SpmdNode } from './spmd-node.ts';

export type IkedMachine = Machine<IkedInput, IkedOutput>;
export type KinkdMachine = Machine<KinkdInput, KinkdOutput>;
type IkedExtra = Extract<IkedOutput, { readonly kind: 'keepalive' }>;
type KinkdExtra = TicketQuestion | Extract<KinkdOutput, { readonly kind: 'replays' }>;

/** What a key daemon has with a peer: an IKE SA, an ISAKMP SA, a KINK association. */
export interface Relation {
  readonly kmp: Kmp;
  readonly name: string;
  readonly remote: string | undefined;
  readonly state: string;
  /** ADDRESS[PORT]. */
  readonly local: string;
  readonly peer: string;
  readonly children: readonly ChildSaStatus[];
}

/** What `status` of all key daemons of a host says. */
export interface HostStatus {
  readonly datapath: 'up' | 'down';
  readonly relations: readonly Relation[];
  /** Failures and counters that are shown. */
  readonly sizes: readonly number[];
}

/** What a test changes about a node to see whether the invariants notice. */
export interface Alterations {
  readonly iked?: (machine: IkedMachine) => IkedMachine;
  readonly kinkd?: (machine: KinkdMachine) => KinkdMachine;
  readonly datapath?: DatapathDoors['alter'];
}

export interface NodeDoors {
  readonly clock: Clock;
  readonly chance: Chance;
  readonly network: Network;
  readonly kdc: SimKdc;
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
const KINK_PORT = 910;

export class SimNode implements SpmdHost, KeyDaemonHost {
  readonly spec: NodeSpec;
  readonly clock: HostClock;
  readonly world: Clock;
  readonly chance: Chance;
  readonly spmd: SpmdNode;
  readonly iked: KeyDaemonNode<IkedSettings, never, IkedExtra, IkedStatus>;
  readonly kinkd: KeyDaemonNode<KinkdSettings, TicketAnswer, KinkdExtra, KinkdStatus>;
  readonly #kerberos: KerberosFiles;
  /** The mobility daemon's way to the datapath. */
  readonly mobility: PfkeyPort;
  readonly #doors: NodeDoors;
  readonly #watch: KeyWatch;
  readonly #others: PfkeyPort[] = [];
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
    this.kinkd = new KeyDaemonNode(this.#kinkdKind(), this);
    this.#kerberos = new KerberosFiles(doors.kdc, () => this.clock.now().wall);
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
    return this.spmd.running && this.#keyDaemons.every(({ running }) => running) && this.#datapath !== undefined;
  }

  /** Those that its policies need. */
  get #keyDaemons(): readonly (SimNode['iked'] | SimNode['kinkd'])[] {
    return this.spec.daemons.map((name) => this[name]);
  }

  /** Commands that are not answered, with when they were given. */
  get unanswered(): readonly { readonly at: number; readonly verb: string }[] {
    return this.#keyDaemons.flatMap(({ unanswered }) => unanswered);
  }

  start(): void {
    this.startDatapath();
    this.startSpmd();
    for (const daemon of this.#keyDaemons) daemon.start();
    this.#startMobility();
  }

  // spmd

  startSpmd(): void {
    this.spmd.start();
    for (const daemon of this.#keyDaemons) daemon.connectSpmif();
  }

  killSpmd(): void {
    this.spmd.kill();
    for (const daemon of this.#keyDaemons) daemon.dropSpmif();
  }

  toSpmifClient(client: number, bytes: Uint8Array): void {
    for (const daemon of this.#keyDaemons) daemon.fromSpmd(client, bytes);
  }

  // Key daemons

  /** Kinkd's file may be lost meanwhile. */
  loseReplays(): void {
    this.#kerberos.replays = undefined;
  }

  /** The daemon that begins to negotiate a child, or answers it where another's peer begins. */
  command(command: KeyCommand, kmp: Kmp): void {
    this[kmp === 'kink' ? 'kinkd' : 'iked'].command(command);
  }

  /** Undefined while a key daemon does not run. */
  status(): HostStatus | undefined {
    const daemons = this.#keyDaemons;
    const statuses = daemons.map((daemon) => daemon.status());
    const known = statuses.filter((status) => status !== undefined);
    if (known.length < statuses.length) return undefined;
    return {
      datapath: known.every(({ datapath }) => datapath === 'up') ? 'up' : 'down',
      relations: known.flatMap((status) => ('ikeSas' in status ? ikeRelations(status) : kinkRelations(status))),
      sizes: known.flatMap(({ failures, counters }) => [failures.length, Object.keys(counters).length]),
    };
  }

  #ikedKind(): ConstructorParameters<typeof KeyDaemonNode<IkedSettings, never, IkedExtra, IkedStatus>>[0] {
    const { realCrypto, alterations } = this.#doors;
    return {
      name: 'iked',
      machine: (pid) => {
        const machine = new Iked({ random: this.chance.fork().bytes, pid, ...(realCrypto ? { engine: nobleEngine } : {}) });
        return alterations.iked?.(machine) ?? machine;
      },
      settings: (config) => {
        const keys = () => new Map(config.remotes.map(({ name }) => [name, new Secret(pskOf(this.spec.name, name))]));
        return { config, psks: keys(), psksV1: keys() };
      },
      extra: ({ path }) => this.#datapath?.sendIke(path, undefined),
    };
  }

  #kinkdKind(): ConstructorParameters<typeof KeyDaemonNode<KinkdSettings, TicketAnswer, KinkdExtra, KinkdStatus>>[0] {
    const { realCrypto, alterations } = this.#doors;
    return {
      name: 'kinkd',
      machine: (pid) => {
        const { replays } = this.#kerberos;
        const options = { random: this.chance.fork().bytes, pid, since: this.clock.now().wall, replays };
        const machine = new Kinkd({ ...options, ...(realCrypto ? { engine: nobleEngine } : {}) });
        return alterations.kinkd?.(machine) ?? machine;
      },
      settings: (config) => ({ config, keytab: this.#kerberos.keytabOf(this.spec.name) }),
      extra: (output, put) => (output.kind === 'ask' ? this.#kerberos.ticket(output, put) : this.#kerberos.write(output)),
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
    for (const daemon of this.#keyDaemons) daemon.tellAddresses();
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
    return [this.spmd.port, this.iked.port, this.kinkd.port, this.mobility, ...this.#others];
  }

  /** A PF_KEY client of a test's own. */
  client(user: PfkeyUser): PfkeyPort {
    const port = new PfkeyPort(this);
    this.#others.push(port);
    port.open(user);
    return port;
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
    const port = datagram.kind === 'udp' ? datagram.to.port : 0;
    if (datagram.kind === 'udp' && (port === IKE_PORT || port === KINK_PORT)) {
      const path = { local: datagram.to, remote: datagram.from, encapsulated: false };
      return (port === IKE_PORT ? this.iked : this.kinkd).put({ kind: 'datagram', path, bytes: datagram.bytes });
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

function ikeRelations({ ikeSas }: IkedStatus): Relation[] {
  return ikeSas.map((sa) => ({ ...sa, kmp: sa.name.startsWith('v1:') ? 'ikev1' : 'ikev2' }));
}

/**
 * An ISAKMP SA that another took over and that is the peer's to delete. Nothing tells whether the peer has it at all: it may have given up Main Mode
 * before the last message came, or its DELETE, which nobody acknowledges, was lost (RFC 2408 §3.15). It runs out with its lifetime.
 */
export function isRunningOut({ kmp, state, children }: Relation): boolean {
  return kmp === 'ikev1' && state === 'rekeyed' && children.length === 0;
}

/** An association stands as long as the configuration names the peer. */
function kinkRelations({ peers }: KinkdStatus): Relation[] {
  return peers.map((peer) => ({ ...peer, kmp: 'kink', state: 'established' }));
}

/** One key for each pair of nodes, whichever of them asks. */
function pskOf(own: string, remote: string): Uint8Array {
  const [first, second] = [own, remote].sort().map((name) => Number(name.slice(1)));
  return new Chance(0x95c * (first! + 1) + second!).bytes(32);
}
