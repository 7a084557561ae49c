/** A spmd on virtual time with a datapath that keeps an SPD and nothing else, joined by the true PF_KEY bytes, and key daemons that speak spmif. */

import { keyOf } from '../../../spmd/policy-table.ts';
import type { SpmdInput, SpmdOutput, SpmdStatus } from '../../../spmd/ports.ts';
import { Spmd } from '../../../spmd/spmd.ts';
import { compile } from '../../../src/config/compile.ts';
import type { Config } from '../../../src/config/config.ts';
import type { DatapathSettings } from '../../../src/config/datapath-settings.ts';
import { show } from '../../../src/config/diagnostics.ts';
import type { LocalAddress } from '../../../src/config/expand.ts';
import { memoryFiles } from '../../../src/config/memory-files.ts';
import { type KmAddress, type Policy, sameEnds } from '../../../src/ipsec/policy.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { readMigrate } from '../../../src/pfkey/convert-migrate.ts';
import { policyToSadb, spdToPolicy } from '../../../src/pfkey/convert-policy.ts';
import { readSadb, type SadbMessage, sadb, writeSadb } from '../../../src/pfkey/message.ts';
import { ERRNO } from '../../../src/pfkey/registry.ts';
import { PfkeyServer, type VerbResult, type Verbs } from '../../../src/pfkey/server.ts';
import { type ClientOutput, SpmifClient } from '../../../src/spmif/client.ts';
import type { Notification } from '../../../src/spmif/protocol.ts';

export const LOCAL: readonly LocalAddress[] = [
  { address: IpAddress.parse('127.0.0.1')!, interface: 'lo' },
  { address: IpAddress.parse('192.0.2.1')!, interface: 'eth0' },
  { address: IpAddress.parse('2001:db8::1')!, interface: 'eth0' },
];

export function configOf(text: string): Config {
  const { config, diagnostics } = compile('test.conf', memoryFiles({ 'test.conf': text }));
  if (config === undefined) throw new Error(diagnostics.map(show).join('\n'));
  return config;
}

/** The SPD verbs, and a log of those that changed something. */
export class FakeSpd implements Verbs {
  readonly policies = new Map<string, Policy>();
  readonly kmAddresses = new Map<string, KmAddress>();
  readonly log: string[] = [];
  /** Keys that are refused. */
  readonly refused = new Set<string>();
  #index = 1;

  handle(message: SadbMessage): VerbResult {
    if (message.type === 'X_SPDDUMP') return this.#dump();
    const broadcast = (policy: Policy) => ({
      broadcast: [{ ...policyToSadb(message.type, policy), seq: message.seq, pid: message.pid }],
    });
    if (message.type === 'X_SPDUPDATE') {
      const policy = spdToPolicy(message);
      const key = keyOf(policy.direction, policy.selector);
      if (this.refused.has(key)) return { error: ERRNO.ENOSYS };
      const stored = { ...policy, id: this.policies.get(key)?.id ?? this.#index++ * 8 };
      this.policies.set(key, stored);
      if (message.kmAddress !== undefined) this.kmAddresses.set(key, message.kmAddress);
      this.log.push(`put ${key}`);
      return broadcast(stored);
    }
    if (message.type === 'X_MIGRATE') return this.#migrate(message);
    const found = [...this.policies].find(([, { id }]) => id === message.policy?.id);
    if (message.type !== 'X_SPDDELETE2' || found === undefined) return { error: ERRNO.ENOENT };
    this.policies.delete(found[0]);
    this.log.push(`remove ${found[0]}`);
    return broadcast(found[1]);
  }

  /** As the engine does it, without SAs. */
  #migrate(message: SadbMessage): VerbResult {
    const { direction, selector, movements, kmAddress } = readMigrate(message);
    const key = keyOf(direction, selector);
    const policy = this.policies.get(key);
    const [template] = policy?.templates ?? [];
    if (policy === undefined || template === undefined) return { error: ERRNO.ENOENT };
    if (template.endpoints === undefined || !sameEnds(template.endpoints, movements[0]!.old)) return { error: ERRNO.ENODATA };
    this.policies.set(key, { ...policy, templates: [{ ...template, endpoints: movements[0]!.new }] });
    if (kmAddress !== undefined) this.kmAddresses.set(key, kmAddress);
    this.log.push(`migrate ${key}`);
    return { reply: [sadb('X_MIGRATE', { seq: message.seq, pid: message.pid })], broadcast: [{ ...message, seq: 0, pid: 0 }] };
  }

  #dump(): VerbResult {
    const all = [...this.policies.values()];
    if (all.length === 0) return { error: ERRNO.ENOENT };
    return {
      reply: all.map((policy, i) => ({
        ...policyToSadb('X_SPDDUMP', policy),
        kmAddress: this.kmAddresses.get(keyOf(policy.direction, policy.selector)),
        pid: 1,
        seq: i === all.length - 1 ? 0 : i + 1,
      })),
    };
  }

  supported() {
    return { auth: [], encrypt: [] };
  }
}

/** A key daemon's end of spmif. */
export class FakeDaemon {
  readonly notifications: Notification[] = [];
  readonly replies = new Map<number, string>();
  readonly #rig: Rig;
  readonly #id: number;
  readonly #client = new SpmifClient();
  #tag = 0;

  constructor(rig: Rig, id: number) {
    this.#rig = rig;
    this.#id = id;
  }

  take(bytes: Uint8Array): void {
    for (const output of this.#client.put(bytes)) this.#output(output);
  }

  #output(output: ClientOutput): void {
    if (output.kind === 'send') this.#rig.put({ kind: 'spmif', client: this.#id, bytes: output.bytes });
    if (output.kind === 'notification') this.notifications.push(output.notification);
    if (output.kind === 'reply') this.replies.set(output.tag, `${output.reply.code} ${output.reply.lines.join(' | ')}`);
    if (output.kind === 'broken') throw new Error(output.why);
  }

  /** The reply, or undefined while there is none; `replies` has it later under the tag. */
  say(command: string): string | undefined {
    const tag = this.#tag++;
    this.#output(this.#client.command(tag, command));
    return this.replies.get(tag);
  }

  /** `PREPARE 1`, `COMMIT 1`, … as they came. */
  get heard(): string[] {
    return this.notifications.map(({ kind, generation }) => `${kind} ${generation}`);
  }
}

export class Rig {
  spmd: Spmd;
  readonly spd = new FakeSpd();
  readonly events: string[] = [];
  readonly settings: DatapathSettings[] = [];
  readonly daemons = new Map<number, FakeDaemon>();
  readonly replies = new Map<number, { ok: boolean; result?: unknown; error?: string }>();
  /** False: the datapath's answers are kept back until `deliver`. */
  prompt = true;
  /** Sees what spmd says to any client of spmif. */
  overhear: (bytes: Uint8Array) => void = () => {};
  mono = 0;
  #server: PfkeyServer | undefined;
  #kept: SadbMessage[] = [];
  #queue: SpmdInput[] = [];
  #running = false;
  #id = 0;
  #client = 0;

  constructor() {
    this.spmd = this.#fresh();
  }

  #fresh(): Spmd {
    let octet = 0;
    const spmd = new Spmd({ pid: 1, random: (length) => new Uint8Array(length).map(() => octet++), firstGeneration: 0 });
    spmd.handle({ kind: 'addresses', addresses: LOCAL }, this.now());
    return spmd;
  }

  now() {
    return { mono: this.mono, wall: 1_700_000_000_000 + this.mono };
  }

  /** Inputs are taken one after the other, as a shell would. */
  put(input: SpmdInput): void {
    this.#queue.push(input);
    if (this.#running) return;
    this.#running = true;
    while (this.#queue.length > 0) for (const output of this.spmd.handle(this.#queue.shift()!, this.now())) this.#perform(output);
    this.#running = false;
  }

  #perform(output: SpmdOutput): void {
    if (output.kind === 'pfkey') this.toDatapath(output.message);
    else if (output.kind === 'spmif') {
      this.overhear(output.bytes);
      this.daemons.get(output.client)?.take(output.bytes);
    } else if (output.kind === 'event') this.events.push(output.event.name);
    else if (output.kind === 'reply') this.replies.set(output.id, output);
    else if (output.kind === 'datapath') {
      this.settings.push(output.settings);
      this.put({ kind: 'datapath', problem: undefined });
    }
  }

  toDatapath(message: SadbMessage, client = 1): void {
    for (const output of this.#server?.handle({ kind: 'bytes', client, bytes: writeSadb(message) }, this.now()) ?? []) {
      if (output.kind === 'send' && output.client === 1) this.#kept.push(readSadb(output.bytes));
    }
    if (this.prompt) this.deliver();
  }

  deliver(): void {
    for (const message of this.#kept.splice(0)) this.put({ kind: 'pfkey', message });
  }

  /** A datapath that keeps what `spd` has; client 2 is somebody else. */
  connect(): void {
    this.#server = new PfkeyServer(this.spd);
    for (const client of [1, 2]) this.#server.handle({ kind: 'connect', client }, this.now());
    this.put({ kind: 'pfkey-link', up: true });
  }

  disconnect(): void {
    this.#server = undefined;
    this.#kept = [];
    this.put({ kind: 'pfkey-link', up: false });
  }

  /** spmd is killed and a new one started; its daemons have to connect anew. */
  restartSpmd(): void {
    this.spmd = this.#fresh();
    this.daemons.clear();
    this.#kept = [];
  }

  daemon(name?: string): FakeDaemon {
    const client = ++this.#client;
    const daemon = new FakeDaemon(this, client);
    this.daemons.set(client, daemon);
    this.put({ kind: 'spmif-connected', client });
    if (name !== undefined) daemon.say(`CONFIG SUBSCRIBE ${name}`);
    return daemon;
  }

  lose(daemon: FakeDaemon): void {
    const client = [...this.daemons].find(([, one]) => one === daemon)![0];
    this.daemons.delete(client);
    this.put({ kind: 'spmif-closed', client });
  }

  /** The reply to a configuration, or undefined while there is none. */
  configure(text: string, confirmSeconds = 0) {
    const id = ++this.#id;
    this.put({ kind: 'configure', id, config: configOf(text), password: undefined, confirmSeconds });
    return () => this.replies.get(id);
  }

  command(verb: 'status' | 'confirm' | 'shutdown') {
    const id = ++this.#id;
    this.put({ kind: 'command', id, command: { verb } });
    return this.replies.get(id);
  }

  status(): SpmdStatus {
    return this.command('status')!.result as SpmdStatus;
  }

  pass(milliseconds: number): void {
    this.mono += milliseconds;
    this.put({ kind: 'tick' });
  }

  /** A message of somebody else's PF_KEY client. */
  foreign(type: SadbMessage['type'], members: Partial<SadbMessage>): void {
    this.toDatapath(sadb(type, { seq: 1, pid: 99, ...members }), 2);
  }
}
