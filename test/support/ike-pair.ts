/** Two iked machines on a virtual network, with a virtual clock and fake datapaths: what the exchange ladders and the simulator run on. */

import { Iked, type IkedEvent, type IkedInput, type IkedOutput, type IkedStatus } from '../../iked/iked.ts';
import type { IsakmpSa } from '../../iked/ikev1/isakmp-sa.ts';
import type { ChildSa } from '../../iked/ikev2/child-sa.ts';
import type { IkeSa } from '../../iked/ikev2/ike-sa.ts';
import type { HookOutput } from '../../src/keying/hooks.ts';
import type { KeyCommand } from '../../src/keying/ports.ts';
import { IpAddress } from '../../src/net/address.ts';
import { hostAddress } from '../../src/pfkey/convert.ts';
import type { SadbMessage } from '../../src/pfkey/message.ts';
import { FakeDatapath, type FakeSa } from './fake-datapath.ts';
import { type NodeSetting, settingsOf } from './ike-config.ts';
import { seededRandom } from './random.ts';
import { FLIGHT_MS, LOCAL_MS, VirtualNet } from './virtual-net.ts';

export type { Fate, Flight } from './virtual-net.ts';

/** The network of IKE nodes. */
export class Net extends VirtualNet<IkeNode> {}

/** One node: a machine, its datapath, its spmd. */
export class IkeNode {
  readonly net: Net;
  readonly name: string;
  setting: NodeSetting;
  readonly addresses: string[];
  readonly datapath: FakeDatapath;
  readonly seed: number;
  machine: Iked;
  readonly hooks: HookOutput[] = [];
  readonly events: IkedEvent[] = [];
  readonly replies = new Map<number, Extract<IkedOutput, { kind: 'reply' }>>();
  readonly configurations: Extract<IkedOutput, { kind: 'configuration' }>[] = [];
  /** What was asked of spmd. */
  readonly orders: string[] = [];
  keepalives = 0;
  /** Packets given up by this node for want of an SA, and packets that arrived. */
  lost = 0;
  received = 0;
  #generation = 0;
  #command = 0;
  #life = 0;

  constructor(net: Net, name: string, setting: NodeSetting, seed: number) {
    this.net = net;
    this.name = name;
    this.setting = setting;
    this.seed = seed;
    this.addresses = [setting.address];
    this.datapath = new FakeDatapath(setting.address, 0x1000 * seed);
    this.machine = this.#born();
    net.nodes.push(this);
  }

  #born(): Iked {
    this.#life += 1;
    return new Iked({ random: seededRandom(this.seed * 7919 + this.#life), pid: 100 + this.#life });
  }

  start(configuredAfterMs = 0): this {
    this.put({ kind: 'addresses', addresses: [{ address: IpAddress.parse(this.setting.address)!, interface: 'eth0' }] });
    if (configuredAfterMs === 0) this.configure(this.setting);
    else this.net.after(configuredAfterMs, () => this.configure(this.setting));
    this.put({ kind: 'pfkey-link', up: true });
    return this;
  }

  configure(setting: NodeSetting): void {
    this.setting = setting;
    this.#generation += 1;
    const generation = this.#generation;
    this.put({ kind: 'prepare', generation, settings: settingsOf(setting) });
    if (this.configurations.at(-1)?.state === 'prepared') this.put({ kind: 'commit', generation });
  }

  /** The daemon dies without a word and is started again; the datapath keeps its SAs. */
  restart(configuredAfterMs = 0): void {
    this.machine = this.#born();
    this.start(configuredAfterMs);
  }

  put(input: IkedInput): void {
    for (const output of this.machine.handle(input, this.net.now)) this.#perform(output);
  }

  #perform(output: IkedOutput): void {
    const { machine } = this;
    const later = (input: IkedInput) => this.net.after(LOCAL_MS, () => this.machine === machine && this.put(input));
    switch (output.kind) {
      case 'send':
        return this.net.send(this, output.path, output.bytes);
      case 'keepalive':
        this.keepalives += 1;
        return;
      case 'pfkey':
        for (const message of this.datapath.handle(output.message)) later({ kind: 'pfkey', message });
        return;
      case 'configuration':
        this.configurations.push(output);
        return;
      case 'ask':
        return later({ kind: 'answer', id: output.id, selector: this.selectors[output.question.policyId - 1] });
      case 'spmd':
        this.orders.push(output.command);
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

  status(): IkedStatus {
    const reply = this.replies.get(this.command({ verb: 'status' }));
    if (reply?.ok !== true) throw new Error('status failed');
    return reply.result as IkedStatus;
  }

  /** The IKE SAs of IKEv2, from the inside. */
  get v2Sas(): IkeSa[] {
    return this.machine.table.all().filter((sa) => sa.version === 2);
  }

  /** The children of IKEv2, oldest first, from the inside. */
  get v2Children(): ChildSa[] {
    return this.v2Sas.flatMap((sa) => sa.children);
  }

  /** The ISAKMP SAs of IKEv1, from the inside. */
  get v1Sas(): IsakmpSa[] {
    return this.machine.table.all().filter((sa) => sa.version === 1);
  }

  /** States of the IKE SAs. */
  ikeSas(): string[] {
    return this.status().ikeSas.map(({ state }) => state);
  }

  /** States of all children, oldest first. */
  children(): string[] {
    return this.status().ikeSas.flatMap(({ children }) => children.map(({ state }) => state));
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
  packet(to: IkeNode, reqid = 1): void {
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
          inbound !== undefined &&
          inbound.protocol === sa.protocol &&
          inbound.keys === sa.keys &&
          inbound.suite === sa.suite &&
          inbound.extendedSequence === sa.extendedSequence;
        return same ? [inbound] : [];
      });
      if (through.length < sas.length) to.lost += 1;
      else {
        for (const inbound of through) inbound.packets += 1;
        to.received += 1;
      }
    });
  }

  /** The ladder as this node saw it: `IKE_SA_INIT { … } -->`. */
  ladder(): string[] {
    return this.events.filter(({ name }) => name === 'ladder').map(({ message }) => message);
  }

  named(name: IkedEvent['name']): string[] {
    return this.events.filter((event) => event.name === name).map(({ message }) => message);
  }
}

export interface PairOptions {
  readonly a?: Partial<NodeSetting>;
  readonly b?: Partial<NodeSetting>;
  readonly seed?: number;
}

export const LAN_A = '10.1.0.0/24';
export const LAN_B = '10.2.0.0/24';

/** Two gateways with one child between their networks, configured and connected, nothing negotiated. */
export function pair({ a = {}, b = {}, seed = 1 }: PairOptions = {}) {
  const net = new Net();
  const nodeA = new IkeNode(
    net,
    'a',
    {
      address: '192.0.2.1',
      peer: '192.0.2.2',
      id: 'a.example',
      peersId: 'b.example',
      children: [{ local: LAN_A, peer: LAN_B }],
      ...a,
    },
    2 * seed + 1,
  );
  const nodeB = new IkeNode(
    net,
    'b',
    {
      address: '192.0.2.2',
      peer: '192.0.2.1',
      id: 'b.example',
      peersId: 'a.example',
      children: [{ local: LAN_B, peer: LAN_A }],
      ...b,
    },
    2 * seed + 2,
  );
  nodeA.start();
  nodeB.start();
  net.run(100);
  const made = {
    a: nodeA,
    b: nodeB,
    net,
    /** Brings the child up, begun by `by`. */
    established(by: IkeNode = nodeA) {
      by.initiate((by.setting.children ?? [])[0]?.name ?? 'lan');
      net.run();
      return made;
    },
  };
  return made;
}

/** What two nodes at rest do not agree on: SAs that only one end has, other keys, larval SAs that nobody completes. Empty where all is well. */
export function disagreements(a: IkeNode, b: IkeNode): string[] {
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
        found.push(`${sa.spi.toString(16)} has other selectors at each end`);
      else if (other.extendedSequence !== sa.extendedSequence)
        found.push(`${sa.spi.toString(16)} has other sequence numbers at each end`);
    }
    for (const sa of to.datapath.sas.values()) {
      if (!from.datapath.outbound.has(sa.spi))
        found.push(`${to.name} receives on ${sa.spi.toString(16)}, which ${from.name} does not send on`);
    }
    for (const spi of from.datapath.larval.keys()) found.push(`${from.name} has a larval SA ${spi.toString(16)}`);
    for (const fault of from.named('fault')) found.push(`${from.name}: ${fault}`);
    const { ikeSas } = from.status();
    const peers = to.status().ikeSas.map((sa) => sa.name);
    for (const sa of ikeSas)
      if (!peers.includes(sa.name))
        found.push(`${from.name} has IKE SA ${sa.name} (${sa.state}), which ${to.name} does not have`);
    const installed = ikeSas.flatMap((sa) => sa.children).reduce((sum, { suite }) => sum + suite.split(' + ').length, 0);
    if (installed !== from.datapath.sas.size)
      found.push(`${from.name} has ${installed} children and ${from.datapath.sas.size} inbound SAs`);
  }
  return found;
}
