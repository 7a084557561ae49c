/** A mobile node and its home agent for ladders about X_MIGRATE: simulated hosts (all daemons and the datapath) on a network without faults, moved step by step. */

import type { Kmp } from '../../src/config/config.ts';
import type { PolicyDirection } from '../../src/ipsec/policy.ts';
import { IpAddress } from '../../src/net/address.ts';
import { migrateToSadb } from '../../src/pfkey/convert-migrate.ts';
import type { SadbMessage } from '../../src/pfkey/message.ts';
import { Chance } from '../sim/chance.ts';
import { Clock } from '../sim/clock.ts';
import { SimKdc } from '../sim/kerberos.ts';
import type { PfkeyPort } from '../sim/link.ts';
import { Network } from '../sim/network.ts';
import { type Alterations, isRunningOut, SimNode } from '../sim/node.ts';
import { numberedPacket, readNumbered } from '../sim/packets.ts';
import { assemble, type Choices, type Scenario } from '../sim/scenario.ts';

const CHOICES: Choices = {
  family: 4,
  inner: 4,
  transport: false,
  selectors: 1,
  encapsulated: false,
  dpdSeconds: 600,
  retries: 4,
  ikeSeconds: 28_800,
  childSeconds: 3600,
  childPackets: 0,
  pfs: false,
  group: 'x25519',
  ike: 'aes128_cbc',
  esp: 'aes128_gcm_16',
  olderEsp: 'aes128_gcm_16',
  esn: false,
  window: 64,
  initiators: 'both-demand',
  movers: 'one',
  atHomeOnly: true,
  tellsKeyManagement: true,
  clockSkewSeconds: 300,
  ticketSeconds: 36_000,
};

export const [HOME, COA, SECOND, AGENT] = ['192.0.2.1', '198.51.100.17', '198.51.100.18', '192.0.2.2'].map(
  (text) => IpAddress.parse(text)!,
) as [IpAddress, IpAddress, IpAddress, IpAddress];

/** Every datagram takes this long. Milliseconds. */
export const FLIGHT_MS = 10;

export interface MovingOptions {
  readonly kmp: Kmp;
  readonly transport?: boolean;
  readonly alterations?: Alterations;
  /** The same for the home agent alone. */
  readonly alterationsOfHa?: Alterations;
}

/** An SA as a test compares it: what a movement leaves alone, and where it is. */
export interface SeenSa {
  readonly spi: number;
  readonly key: string;
  readonly source: string;
  readonly destination: string;
}

export class MovingHosts {
  readonly clock = new Clock();
  readonly network: Network;
  /** The mobile node, at `HOME` first. */
  readonly mn: SimNode;
  /** Its home agent, at `AGENT`. */
  readonly ha: SimNode;
  readonly scenario: Scenario;
  /** Breaches of what must hold at every moment. */
  readonly breaches: string[] = [];
  /** Numbers of the packets that arrived. */
  readonly arrived = new Set<number>();
  readonly events: { readonly node: string; readonly name: string; readonly message: string }[] = [];
  readonly #kmp: Kmp;
  readonly #mobility = new Map<SimNode, { readonly port: PfkeyPort; readonly heard: SadbMessage[] }>();
  #packets = 0;
  #seq = 0;

  constructor({ kmp, transport = false, alterations = {}, alterationsOfHa = alterations }: MovingOptions) {
    const chance = new Chance(7);
    this.#kmp = kmp;
    this.network = new Network(this.clock, chance.fork());
    const pair = { a: 0, b: 1, kmps: { a: [kmp], b: [kmp] }, bIsPassive: false };
    this.scenario = assemble(2, [pair], { ...CHOICES, transport }, () => ({ rate: 1, uptime: 0, ahead: 0 }));
    const kdc = new SimKdc(this.clock, chance.fork(), CHOICES.ticketSeconds);
    [this.mn, this.ha] = this.scenario.nodes.map((spec, index) => {
      const node: SimNode = new SimNode(
        { ...spec, repeatedMigrates: 0 },
        {
          clock: this.clock,
          chance: chance.fork(),
          network: this.network,
          kdc,
          realCrypto: false,
          alterations: index === 0 ? alterations : alterationsOfHa,
          onDevice: (_, packet) => this.arrived.add(readNumbered(packet).id!),
          onClear: (_, packet) => this.breaches.push(`packet ${readNumbered(packet).id} left in clear`),
          onOutput: ({ name: host }, what, value) => {
            if (what !== 'event') return;
            const { name, message } = value as { name: string; message: string };
            this.events.push({ node: host, name, message });
          },
          breach: (host, what) => this.breaches.push(`${host.name}: ${what}`),
        },
      );
      return node;
    }) as [SimNode, SimNode];
    for (const node of [this.mn, this.ha]) {
      node.start();
      const heard: SadbMessage[] = [];
      const port = node.client({ put: (input) => input.kind === 'pfkey' && heard.push(input.message) });
      this.#mobility.set(node, { port, heard });
    }
    this.run(1_000);
  }

  /** With a pair of SAs, and both ends idle. */
  established(): this {
    this.send(this.mn);
    this.until('a pair of SAs at both ends', () => this.pairs(this.mn) === 1 && this.pairs(this.ha) === 1);
    this.run(5_000);
    return this;
  }

  run(milliseconds: number): void {
    this.clock.run(this.clock.mono + milliseconds, () => false);
  }

  until(what: string, holds: () => boolean, within = 60_000): void {
    const end = this.clock.mono + within;
    while (!holds()) {
      if (this.clock.mono >= end) throw new Error(`not within ${within} ms: ${what}`);
      this.run(5);
    }
  }

  /** An application's packet to the other host; its number. */
  send(from: SimNode): number {
    const { innerA, innerB } = this.scenario.wanted[0]!;
    const [source, destination] = from === this.mn ? [innerA, innerB] : [innerB, innerA];
    const id = ++this.#packets;
    from.sendPacket(numberedPacket(source, destination, id, 16));
    return id;
  }

  /** A packet each way arrives. */
  expectTraffic(): void {
    const ids = [this.send(this.mn), this.send(this.ha)];
    this.run(2 * FLIGHT_MS);
    const lost = ids.filter((id) => !this.arrived.has(id));
    if (lost.length > 0)
      throw new Error(
        `${lost.length === 2 ? 'no packet' : lost[0] === ids[0] ? 'no packet of the mobile node' : 'no packet of the home agent'} arrived`,
      );
  }

  /** X_MIGRATE of one policy, as a mobility daemon puts it; `km` where key management talks from now on. */
  ask(
    node: SimNode,
    direction: PolicyDirection,
    from: readonly [local: IpAddress, remote: IpAddress],
    to: readonly [local: IpAddress, remote: IpAddress],
    { km = true, kmTo = to }: { readonly km?: boolean; readonly kmTo?: readonly [IpAddress, IpAddress] } = {},
  ): number {
    const entry = node
      .engine!.core.spd.entries()
      .find(({ policy }) => policy.direction === direction && policy.selector.protocol === 0 && policy.templates.length > 0)!;
    const { protocol, mode, reqid } = entry.policy.templates[0]!;
    const ends = ([local, remote]: readonly [IpAddress, IpAddress]) =>
      direction === 'outbound' ? { source: local, destination: remote } : { source: remote, destination: local };
    const kmAddress = km ? { local: { address: kmTo[0], port: 0 }, remote: { address: kmTo[1], port: 0 } } : undefined;
    const movements = [{ protocol, mode, reqid, old: ends(from), new: ends(to) }];
    const seq = ++this.#seq;
    const message = migrateToSadb({ selector: entry.policy.selector, direction, movements, kmAddress });
    this.#mobility.get(node)!.port.send({ ...message, seq, pid: 999 });
    return seq;
  }

  /** Both directions' policies of a host; the sequence numbers. */
  migrate(
    ...[node, from, to, how]: [
      SimNode,
      readonly [IpAddress, IpAddress],
      readonly [IpAddress, IpAddress],
      { readonly km?: boolean }?,
    ]
  ): number[] {
    return (['outbound', 'inbound'] as const).map((direction) => this.ask(node, direction, from, to, how));
  }

  /** The mobile node goes from one address to another, and both ends' mobility daemons say so at once. */
  moved(from: IpAddress, to: IpAddress, linger = 0): void {
    this.mn.move(to, linger);
    this.migrate(this.mn, [from, AGENT], [to, AGENT]);
    this.migrate(this.ha, [AGENT, from], [AGENT, to]);
  }

  /** What the mobility daemon of a host heard. */
  heard(node: SimNode): readonly SadbMessage[] {
    return this.#mobility.get(node)!.heard;
  }

  /** The errno that an X_MIGRATE was answered with; undefined: not answered. */
  errno(node: SimNode, seq: number): number | undefined {
    return this.heard(node).find((message) => message.type === 'X_MIGRATE' && message.seq === seq && message.pid === 999)?.errno;
  }

  sas(node: SimNode): SeenSa[] {
    return [...node.engine!.core.sad.all]
      .map(({ spi, parameters: { encrKey, source, destination } }) => ({
        spi,
        key: Buffer.from(encrKey.reveal()).toString('hex'),
        source: `${source}`,
        destination: `${destination}`,
      }))
      .sort((a, b) => a.spi - b.spi);
  }

  /** SPIs and keys alone. */
  keys(node: SimNode): string[] {
    return this.sas(node).map(({ spi, key }) => `${spi} ${key}`);
  }

  /** How many pairs its key daemon has installed. */
  pairs(node: SimNode): number {
    const children = node.status()?.relations.flatMap((relation) => relation.children) ?? [];
    return children.filter(({ state }) => state === 'installed').length;
  }

  /** The addresses of everything that a host's key daemon and datapath have, once each: `LOCAL REMOTE`. */
  places(node: SimNode): string[] {
    const standing = node.status()!.relations.filter((relation) => !isRunningOut(relation));
    const relations = standing.map(({ local, peer }) => [local.split('[')[0]!, peer.split('[')[0]!]);
    const sas = this.sas(node).map(({ source, destination }) =>
      node.hasBeenAt(IpAddress.parse(source)!) ? [source, destination] : [destination, source],
    );
    return [...new Set([...relations, ...sas].map((ends) => ends.join(' ')))].sort();
  }

  rekey(node: SimNode): void {
    node.command({ verb: 'rekey', name: this.scenario.wanted[0]!.selector, what: 'child' }, this.#kmp);
  }

  named(name: string, node?: SimNode): string[] {
    return this.events
      .filter((event) => event.name === name && (node === undefined || event.node === node.name))
      .map(({ message }) => message);
  }
}
