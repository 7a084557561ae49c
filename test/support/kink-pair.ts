/** Two kinkd machines on a virtual network, with fake datapaths and a KDC that knows everybody: what the KINK ladders run on. */

import { Kinkd, type KinkdEvent, type KinkdInput, type KinkdOutput, type KinkdStatus } from '../../kinkd/kinkd.ts';
import { type Etype, enctype } from '../../kinkd/krb5/enctypes.ts';
import { showPrincipal } from '../../kinkd/krb5/principal.ts';
import { issueTicket } from '../../kinkd/krb5/stand-in-kdc.ts';
import type { TicketQuestion } from '../../kinkd/ports.ts';
import { cat } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import type { HookOutput } from '../../src/keying/hooks.ts';
import type { KeyCommand } from '../../src/keying/ports.ts';
import { IpAddress, type Path } from '../../src/net/address.ts';
import { hostAddress } from '../../src/pfkey/convert.ts';
import type { SadbMessage } from '../../src/pfkey/message.ts';
import { FakeDatapath, type FakeSa } from './fake-datapath.ts';
import type { ChildSetting } from './ike-config.ts';
import { type KinkSetting, kinkSettingsOf, serviceKey } from './kink-config.ts';
import { seededRandom } from './random.ts';
import { FLIGHT_MS, LOCAL_MS, VirtualNet } from './virtual-net.ts';

export class KinkNet extends VirtualNet<KinkNode> {
  readonly kdc = new TestKdc();
}

/** Gives tickets for anybody to anybody, as the KDC's clock has it, which is the network's. */
export class TestKdc {
  /** How long it takes; undefined: it is away, and its client gives up after 10 s. */
  delayMs: number | undefined = 5;
  lifeSeconds = 36_000;
  etype: Etype = 18;
  /** Tickets given, cached ones not counted. */
  given = 0;
  readonly #random = seededRandom(4711);

  issue({ client, server }: TicketQuestion['question'], wall: number) {
    this.given += 1;
    const seconds = Math.floor(wall / 1000);
    const name = server.components[1]!.split('.')[0]!;
    const sessionKey = { etype: this.etype, key: new Secret(this.#random(enctype(this.etype).keyBytes)) };
    const times = { starttime: seconds, endtime: seconds + this.lifeSeconds };
    return issueTicket({ client, server, serverKey: serviceKey(name), sessionKey, ...times }, this.#random);
  }
}

type Credential = ReturnType<TestKdc['issue']>;

/** One node: a machine, its datapath, its spmd, its ticket cache, its disk. */
export class KinkNode {
  readonly net: KinkNet;
  readonly name: string;
  setting: KinkSetting;
  readonly addresses: string[];
  readonly datapath: FakeDatapath;
  readonly seed: number;
  machine: Kinkd;
  readonly hooks: HookOutput[] = [];
  readonly events: KinkdEvent[] = [];
  readonly replies = new Map<number, Extract<KinkdOutput, { kind: 'reply' }>>();
  readonly configurations: Extract<KinkdOutput, { kind: 'configuration' }>[] = [];
  /** How far this node's clock is ahead of the network's. */
  wallOffsetMs = 0;
  /** The file of the replay cache. */
  disk: Uint8Array | undefined;
  readonly tickets = new Map<string, Credential>();
  /** Packets given up by this node for want of an SA, and packets that arrived. */
  lost = 0;
  received = 0;
  #generation = 0;
  #command = 0;
  #life = 0;

  constructor(net: KinkNet, name: string, setting: KinkSetting, seed: number) {
    this.net = net;
    this.name = name;
    this.setting = setting;
    this.seed = seed;
    this.addresses = [setting.address];
    this.datapath = new FakeDatapath(setting.address, 0x1000 * seed);
    this.machine = this.#born();
    net.nodes.push(this);
  }

  get now() {
    const { mono, wall } = this.net.now;
    return { mono, wall: wall + this.wallOffsetMs };
  }

  #born(): Kinkd {
    this.#life += 1;
    return new Kinkd({
      random: seededRandom(this.seed * 7919 + this.#life),
      pid: 100 + this.#life,
      since: this.now.wall,
      replays: this.disk,
    });
  }

  start(linkFirst = false): this {
    this.put({ kind: 'addresses', addresses: [{ address: IpAddress.parse(this.setting.address)!, interface: 'eth0' }] });
    if (linkFirst) this.put({ kind: 'pfkey-link', up: true });
    this.configure(this.setting);
    if (!linkFirst) this.put({ kind: 'pfkey-link', up: true });
    return this;
  }

  configure(setting: KinkSetting): void {
    this.setting = setting;
    this.#generation += 1;
    const generation = this.#generation;
    this.put({ kind: 'prepare', generation, settings: kinkSettingsOf(setting) });
    if (this.configurations.at(-1)?.state === 'prepared') this.put({ kind: 'commit', generation });
  }

  /** The daemon dies without a word and is started again; the datapath and the disk keep what they have. */
  restart({ forget = false, datapath = false, linkFirst = false } = {}): void {
    if (forget) this.disk = undefined;
    if (datapath) this.datapath.restart();
    this.machine = this.#born();
    this.start(linkFirst);
  }

  put(input: KinkdInput): void {
    for (const output of this.machine.handle(input, this.now)) this.#perform(output);
  }

  #perform(output: KinkdOutput): void {
    const { machine } = this;
    const later = (input: KinkdInput, ms = LOCAL_MS) => this.net.after(ms, () => this.machine === machine && this.put(input));
    switch (output.kind) {
      case 'send':
        return this.net.send(this, output.path, output.bytes);
      case 'pfkey':
        for (const message of this.datapath.handle(output.message)) later({ kind: 'pfkey', message });
        return;
      case 'configuration':
        this.configurations.push(output);
        return;
      case 'ask':
        if (output.question.about === 'ticket') return this.#ticket(output.id, output.question, later);
        return later({ kind: 'answer', id: output.id, selector: this.selectors[output.question.policyId - 1] });
      case 'replays':
        this.disk = 'whole' in output ? output.whole : cat(this.disk!, output.record);
        return;
      case 'event':
        this.events.push(output.event);
        return;
      case 'hook':
        this.hooks.push(output);
        return;
      case 'reply':
        this.replies.set(output.id, output);
    }
  }

  #ticket(id: number, question: TicketQuestion['question'], later: (input: KinkdInput, ms?: number) => void): void {
    const { kdc, now } = this.net;
    const server = showPrincipal(question.server);
    const known = this.tickets.get(server);
    if (known !== undefined && !question.fresh) return later({ kind: 'answer', id, ticket: known });
    if (kdc.delayMs === undefined) return later({ kind: 'answer', id, ticket: undefined, why: 'no KDC answered' }, 10_000);
    const ticket = kdc.issue(question, now.wall);
    this.tickets.set(server, ticket);
    later({ kind: 'answer', id, ticket }, kdc.delayMs);
  }

  wakeAt(): number | undefined {
    return this.machine.wakeAt();
  }

  /** Names of the outbound selectors; a policy's id is its place here, from 1. */
  get selectors(): string[] {
    return (this.setting.children ?? []).map((child) => child.name ?? 'lan');
  }

  command(command: KeyCommand): number {
    this.#command += 1;
    this.put({ kind: 'command', id: this.#command, command });
    return this.#command;
  }

  initiate(name = 'lan'): number {
    return this.command({ verb: 'initiate', name });
  }

  reply(id: number) {
    return this.replies.get(id);
  }

  status(): KinkdStatus {
    const reply = this.replies.get(this.command({ verb: 'status' }));
    if (reply?.ok !== true) throw new Error('status failed');
    return reply.result as KinkdStatus;
  }

  /** States of all pairs, oldest first. */
  children(): string[] {
    return this.status().peers.flatMap(({ children }) => children.map(({ state }) => state));
  }

  /** A packet matches a policy that has no SA. */
  acquire(name = 'lan', packet?: Uint8Array): void {
    const id = this.selectors.indexOf(name) + 1;
    const addresses = {
      source: hostAddress(IpAddress.parse(this.setting.address)!),
      destination: hostAddress(IpAddress.parse(this.setting.peer)!),
    };
    this.pfkey(this.datapath.acquire(id, undefined, addresses, packet));
  }

  pfkey(message: SadbMessage): void {
    this.put({ kind: 'pfkey', message });
  }

  /** Soft or hard lifetime of the newest outbound SA. */
  expire(kind: 'soft' | 'hard', reqid = 1): void {
    const sa = this.datapath.outboundFor(reqid);
    if (sa === undefined) throw new Error(`${this.name} has no outbound SA of reqid ${reqid}`);
    this.pfkey(this.datapath.expire(sa, kind));
  }

  /** Sends one packet to the peer through all SAs that it has for it, as far as the two datapaths can agree. */
  packet(to: KinkNode, reqid = 1): void {
    const sas: readonly FakeSa[] = this.datapath.bundleFor(reqid);
    if (sas.length === 0) {
      this.lost += 1;
      return;
    }
    for (const sa of sas) sa.packets += 1;
    this.net.after(FLIGHT_MS, () => {
      const through = sas.flatMap((sa) => {
        const inbound = to.datapath.sas.get(sa.spi);
        const same =
          inbound !== undefined && inbound.protocol === sa.protocol && inbound.keys === sa.keys && inbound.suite === sa.suite;
        return same ? [inbound] : [];
      });
      if (through.length < sas.length) to.lost += 1;
      else {
        for (const inbound of through) inbound.packets += 1;
        to.received += 1;
      }
    });
  }

  /** Sends a datagram of somebody's as if it had come from there. */
  hear(path: Path, bytes: Uint8Array): void {
    this.put({ kind: 'datagram', path: { local: path.remote, remote: path.local, encapsulated: false }, bytes });
  }

  /** The ladder as this node saw it: `CREATE { … } -->`. */
  ladder(): string[] {
    return this.events.filter(({ name }) => name === 'ladder').map(({ message }) => message);
  }

  named(name: KinkdEvent['name']): string[] {
    return this.events.filter((event) => event.name === name).map(({ message }) => message);
  }
}

/** Everything that the two sides' SAs are made of unless a test says otherwise: what two messages suffice for. */
export const CBC: NonNullable<ChildSetting['sas']> = [{ encr: [{ name: 'aes_cbc', keyBits: 128 }], auth: ['hmac_sha2_256'] }];

export interface KinkPairOptions {
  readonly a?: Partial<KinkSetting>;
  readonly b?: Partial<KinkSetting>;
  readonly seed?: number;
  /** The replay caches have seen their whole window before the test begins. */
  readonly settled?: boolean;
}

/** Two hosts with one transport-mode child between them, configured and connected, nothing negotiated. */
export function kinkPair({ a = {}, b = {}, seed = 1, settled = true }: KinkPairOptions = {}) {
  const net = new KinkNet();
  const node = (name: string, peersName: string, address: string, peer: string, more: Partial<KinkSetting>, n: number) =>
    new KinkNode(
      net,
      name,
      {
        address,
        peer,
        name,
        peersName,
        children: [{ local: address, peer, policy: { mode: 'transport' }, sas: CBC }],
        ...more,
      },
      2 * seed + n,
    );
  const nodeA = node('a', 'b', '192.0.2.1', '192.0.2.2', a, 1);
  const nodeB = node('b', 'a', '192.0.2.2', '192.0.2.1', b, 2);
  nodeA.start();
  nodeB.start();
  net.run(settled ? 700_000 : 100);
  const made = {
    a: nodeA,
    b: nodeB,
    net,
    /** Brings the child up, begun by `by`. */
    established(by: KinkNode = nodeA) {
      by.initiate((by.setting.children ?? [])[0]?.name ?? 'lan');
      net.run(1_000);
      return made;
    },
  };
  return made;
}

/** What two nodes at rest do not agree on: SAs that only one end has, other keys, larval SAs that nobody completes. Empty where all is well. */
export function kinkDisagreements(a: KinkNode, b: KinkNode): string[] {
  const found: string[] = [];
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    for (const sa of from.datapath.outbound.values()) {
      const other = to.datapath.sas.get(sa.spi);
      if (other === undefined) found.push(`${from.name} sends on ${sa.spi.toString(16)}, which ${to.name} does not have`);
      else if (other.keys !== sa.keys || other.suite !== sa.suite || other.protocol !== sa.protocol)
        found.push(`${sa.spi.toString(16)} has other keys at each end`);
      else if (other.mode !== sa.mode || other.selectors !== sa.selectors)
        found.push(`${sa.spi.toString(16)} has other selectors at each end: ${other.selectors}; ${sa.selectors}`);
    }
    for (const sa of to.datapath.sas.values()) {
      if (!from.datapath.outbound.has(sa.spi))
        found.push(`${to.name} receives on ${sa.spi.toString(16)}, which ${from.name} does not send on`);
    }
    for (const spi of from.datapath.larval.keys()) found.push(`${from.name} has a larval SA ${spi.toString(16)}`);
    for (const fault of from.named('fault')) found.push(`${from.name}: ${fault}`);
    const { peers } = from.status();
    const installed = peers.flatMap(({ children }) => children).reduce((sum, { suite }) => sum + suite.split(' + ').length, 0);
    if (installed !== from.datapath.sas.size)
      found.push(`${from.name} has ${installed} children and ${from.datapath.sas.size} inbound SAs`);
    for (const { outstanding } of peers) if (outstanding > 0) found.push(`${from.name} has ${outstanding} commands outstanding`);
  }
  return found;
}
