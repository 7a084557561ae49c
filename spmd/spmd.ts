/** The machine of spmd: owns the policies, feeds the key daemons their configuration by generation, and keeps the datapath's SPD (RFC 4301 §4.4.1). */

import type { Config } from '../src/config/config.ts';
import type { LocalAddress } from '../src/config/expand.ts';
import { never } from '../src/errors.ts';
import { earliest, type Instant, type Machine, type RandomBytes } from '../src/machine.ts';
import { CODE } from '../src/spmif/protocol.ts';
import type { Request } from '../src/spmif/request.ts';
import { type ServerOutput, SpmifServer } from '../src/spmif/server.ts';
import { settingsOf } from './datapath-settings.ts';
import { Foreign } from './foreign.ts';
import { Generated, generate, MOST_GENERATED } from './generated.ts';
import { Generations, type Step } from './generations.ts';
import { Installer, type InstallerOutput } from './installer.ts';
import { type Answer, Migrations } from './migrations.ts';
import { NOT_BUILT } from './not-built.ts';
import { event, NOBODY, refuse } from './outputs.ts';
import { entriesOf, inOrder, type Problem, type TableEntry } from './policy-table.ts';
import type { PolicyStatus, SpmdCommand, SpmdInput, SpmdOutput, SpmdStatus } from './ports.ts';
import { assignPriorities } from './priorities.ts';
import { Reqids } from './reqids.ts';
import { policyStatus, statLines, statusOf, summaryOf } from './status.ts';

export interface SpmdOptions {
  /** Ours in PF_KEY messages. */
  readonly pid: number;
  readonly random: RandomBytes;
  /** Generations count from behind this; later for each start of spmd, such as the seconds since 1970. */
  readonly firstGeneration: number;
}

type Configure = Extract<SpmdInput, { kind: 'configure' }>;
interface Slid {
  readonly client: number;
  readonly ticket: number;
  readonly policyId: number;
}
type SpmifRequest = Extract<ServerOutput, { kind: 'request' }>['request'];

export class Spmd implements Machine<SpmdInput, SpmdOutput> {
  readonly #server: SpmifServer;
  readonly #installer: Installer;
  readonly #generations: Generations;
  readonly #migrations: Migrations;
  readonly #reqids = new Reqids();
  #local: readonly LocalAddress[] = [];
  /** The first configuration waits until the datapath has told what a spmd before us left there. */
  #held: Configure | undefined;
  /** What `#generations` is asking the daemons about. */
  #proposed: Configure | undefined;
  /** What is in force, as it was handed in. */
  #current: Configure | undefined;
  #priorities: ReadonlyMap<string, number> = new Map();
  /** What should be in the SPD, by key. */
  #entries = new Map<string, TableEntry>();
  readonly #generated = new Generated();
  #problems: readonly Problem[] = [];
  #datapathProblem: string | undefined;
  /** The datapath has been given its settings, and has not answered yet. */
  #settingsSent = false;
  /** POLICY ADDs that wait for the datapath. */
  #adds: { readonly client: number; readonly ticket: number; readonly entries: readonly TableEntry[] }[] = [];
  /** SLIDs about a policy whose number may be on its way. */
  #slids: readonly Slid[] = [];
  readonly #foreign = new Foreign();
  /** Why the last configuration that was handed in is not in force. */
  #rejection: string | undefined;
  #unconfirmed: { readonly deadline: number; readonly previous: Configure } | undefined;
  /** The `shutdown` that waits for the datapath; answered: nothing is installed any more. */
  #stopping: { readonly id: number; answered: boolean } | undefined;

  constructor({ pid, random, firstGeneration }: SpmdOptions) {
    this.#server = new SpmifServer(random);
    this.#installer = new Installer(pid);
    this.#migrations = new Migrations(this.#installer);
    this.#generations = new Generations(firstGeneration);
  }

  wakeAt(): number | undefined {
    return earliest(this.#installer.wakeAt(), this.#generations.wakeAt(), this.#generated.wakeAt(), this.#unconfirmed?.deadline);
  }

  handle(input: SpmdInput, now: Instant): readonly SpmdOutput[] {
    return [...this.#handle(input, now), ...this.#settle(now)];
  }

  #handle(input: SpmdInput, now: Instant): SpmdOutput[] {
    switch (input.kind) {
      case 'tick':
        return [
          ...this.#installed(this.#installer.tick(now), now),
          ...this.#steps(this.#generations.tick(now), now),
          ...this.#takeBack(now),
          ...(this.#generated.expire(now) ? this.#install(now) : []),
        ];
      case 'pfkey':
        return this.#installed(this.#installer.received(input.message, now), now);
      case 'pfkey-link':
        return this.#link(input.up, now);
      case 'spmif-connected':
        return this.#served(this.#server.connected(input.client, input.trusted), now);
      case 'spmif':
        return this.#served(this.#server.received(input.client, input.bytes), now);
      case 'spmif-closed':
        return this.#clientGone(input.client, now);
      case 'addresses':
        this.#local = input.addresses;
        return this.#generations.active === undefined ? [] : this.#apply(this.#generations.active.config);
      case 'configure':
        return this.#configure(input, now);
      case 'datapath':
        this.#datapathProblem = input.problem;
        this.#settingsSent = false;
        return this.#install(now);
      case 'command':
        return this.#command(input.id, input.command, now);
      default:
        return never(input);
    }
  }

  // Configuration

  #configure(input: Configure, now: Instant): SpmdOutput[] {
    if (this.#stopping !== undefined) return [refuse(input.id, 'spmd is stopping')];
    if (this.#generations.busy) return [refuse(input.id, 'another reload waits for the daemons; try again when it is done')];
    if (this.#unconfirmed !== undefined)
      return [refuse(input.id, 'the last reload waits for its confirmation: `tanuki confirm` first')];
    if (this.#generations.active === undefined && !this.#installer.synchronised) {
      const superseded = this.#held === undefined ? [] : [refuse(this.#held.id, 'a later configuration took its place')];
      this.#held = input;
      this.#settingsSent = true;
      // It opens PF_KEY only when it knows its device and ports.
      return [...superseded, { kind: 'datapath', settings: settingsOf(input.config, this.#local) }];
    }
    const installed = this.#reqidsInstalled(input.config);
    const config = this.#reqids.allot(input.config, ({ name }) => installed.get(name));
    this.#proposed = { ...input, config };
    return this.#steps(this.#generations.propose(config, now), now);
  }

  /** By selector the reqid that the datapath's entry for it has, from a spmd before us. */
  #reqidsInstalled(config: Config): ReadonlyMap<string, number> {
    const found = new Map<string, number>();
    if (this.#generations.active !== undefined || this.#installer.installed.size === 0) return found;
    for (const { key, selector } of this.#expected(config)) {
      const reqid = this.#installer.installed.get(key)?.policy.templates[0]?.reqid;
      if (selector !== undefined && reqid !== undefined && !found.has(selector)) found.set(selector, reqid);
    }
    return found;
  }

  /** The entries of a configuration, with priorities that mean nothing. */
  #expected(config: Config): TableEntry[] {
    return entriesOf(config, this.#local, new Map(config.selectors.map(({ name }) => [name, 0]))).entries;
  }

  #steps(steps: readonly Step[], now: Instant): SpmdOutput[] {
    return steps.flatMap((step): SpmdOutput[] => {
      switch (step.kind) {
        case 'prepare':
          return this.#served(this.#server.prepare(step.client, step.generation, step.config), now);
        case 'commit':
          return this.#served(this.#server.commit(step.client, step.generation), now);
        case 'abort':
          return this.#served(this.#server.abort(step.client, step.generation), now);
        case 'committed':
          return this.#committed(step.generation, step.config, now);
        case 'rejected':
          return this.#rejected(step.generation, step.reason);
        case 'unfit': {
          const text = `${step.daemon} cannot work with generation ${step.generation}: ${step.reason}`;
          return [event('configuration-rejected', 'error', text)];
        }
        default:
          return never(step);
      }
    });
  }

  #committed(generation: number, config: Config, now: Instant): SpmdOutput[] {
    const proposed = this.#proposed!;
    const previous = this.#current;
    const before = previous === undefined ? new Map(this.#installer.installed) : this.#entries;
    this.#proposed = undefined;
    this.#rejection = undefined;
    this.#reqids.keep(config);
    this.#server.setPassword(proposed.password);
    this.#current = { ...proposed, confirmSeconds: 0 };
    if (proposed.confirmSeconds > 0 && previous !== undefined) {
      this.#unconfirmed = { previous, deadline: now.mono + proposed.confirmSeconds * 1000 };
    }
    const known = this.#priorities.size > 0 ? this.#priorities : this.#prioritiesInstalled(config);
    const names = inOrder(config.selectors).map(({ name }) => name);
    this.#priorities = assignPriorities(names, known);
    if (previous === undefined) {
      this.#generated.adopt(
        [...this.#installer.installed.values()].map(({ policy }) => policy),
        config.selectors,
      );
    }
    this.#generated.follow(config, this.#priorities);
    const outputs = this.#apply(config);
    const summary = summaryOf(before, this.#entries);
    return [
      { kind: 'committed', generation, config },
      event('configuration-committed', 'notice', `generation ${generation} is in force: ${summary}`),
      ...outputs,
      ...this.#problems.map(({ selector, reason }) =>
        event('policy-not-installed', 'warning', `selector ${selector} is not installed: ${reason}`),
      ),
      { kind: 'reply', id: proposed.id, ok: true, result: { generation, summary } },
    ];
  }

  #rejected(generation: number, reason: string): SpmdOutput[] {
    const { id } = this.#proposed!;
    const text = `generation ${generation} is rejected, nothing has changed: ${reason}`;
    this.#proposed = undefined;
    this.#rejection = text;
    return [event('configuration-rejected', 'error', text), refuse(id, text)];
  }

  #takeBack(now: Instant): SpmdOutput[] {
    if (this.#unconfirmed === undefined || now.mono < this.#unconfirmed.deadline || this.#generations.busy) return [];
    const { previous } = this.#unconfirmed;
    this.#unconfirmed = undefined;
    const text = 'the last reload was not confirmed in time: the configuration before it comes back';
    return [event('configuration-taken-back', 'warning', text), ...this.#configure({ ...previous, id: NOBODY }, now)];
  }

  #prioritiesInstalled(config: Config): Map<string, number> {
    const found = new Map<string, number>();
    for (const { key, selector } of this.#expected(config)) {
      const installed = this.#installer.installed.get(key);
      if (selector !== undefined && installed !== undefined) found.set(selector, installed.policy.priority);
    }
    return found;
  }

  // The SPD

  /** What should be there, from the configuration, this host's addresses and what was generated. The datapath is told its settings first. */
  #apply(config: Config): SpmdOutput[] {
    const { entries, problems } = entriesOf(config, this.#local, this.#priorities);
    this.#problems = problems;
    this.#entries = new Map(entries.map((entry) => [entry.key, entry]));
    this.#settingsSent = true;
    return [{ kind: 'datapath', settings: settingsOf(config, this.#local) }];
  }

  #install(now: Instant): SpmdOutput[] {
    if (this.#generations.active === undefined || this.#settingsSent || this.#stopping !== undefined) return [];
    const generated = this.#generated.entries.filter(({ key }) => !this.#entries.has(key));
    return this.#installed(this.#installer.want([...this.#entries.values(), ...generated], now), now);
  }

  #link(up: boolean, now: Instant): SpmdOutput[] {
    const outputs = this.#installed(this.#installer.link(up, now), now);
    return up
      ? outputs
      : [
          event(
            'pfkey-lost',
            'warning',
            'the connection to the datapath is lost; its policies are put back when it is there again',
          ),
          ...outputs,
        ];
  }

  #installed(outputs: readonly InstallerOutput[], now: Instant): SpmdOutput[] {
    return outputs.flatMap((output): SpmdOutput[] => {
      if (output.kind === 'pfkey' || output.kind === 'event') return [output];
      if (output.kind === 'foreign') {
        this.#foreign.add(output.policy);
        return [];
      }
      if (output.kind === 'removed') {
        this.#foreign.remove(output.id);
        return [];
      }
      if (output.kind === 'migrated') {
        const answer = this.#migrations.answered(output);
        return answer === undefined ? [] : this.#answer(answer, now);
      }
      const text = `the datapath is connected and has ${this.#installer.installed.size} of our policies`;
      return [event('pfkey-synchronised', 'info', text), ...this.#synchronised(now)];
    });
  }

  #synchronised(now: Instant): SpmdOutput[] {
    const { active } = this.#generations;
    if (active !== undefined) return this.#apply(active.config);
    const held = this.#held;
    this.#held = undefined;
    return held === undefined ? [] : this.#configure(held, now);
  }

  // spmif

  #served(outputs: readonly ServerOutput[], now: Instant): SpmdOutput[] {
    return outputs.flatMap((output): SpmdOutput[] => {
      if (output.kind === 'send') return [{ kind: 'spmif', client: output.client, bytes: output.bytes }];
      if (output.kind === 'request') return this.#request(output.client, output.ticket, output.request, now);
      const closed = event('spmif-client-refused', 'debug', `spmif client ${output.client} is closed: ${output.why}`);
      return [{ kind: 'spmif-close', client: output.client, why: output.why }, closed];
    });
  }

  #clientGone(client: number, now: Instant): SpmdOutput[] {
    this.#server.disconnected(client);
    const daemon = this.#generations.subscribers.get(client)?.daemon;
    const steps = this.#steps(this.#generations.gone(client), now);
    return daemon === undefined
      ? steps
      : [event('daemon-lost', 'warning', `${daemon} has closed its connection to spmd`), ...steps];
  }

  #request(client: number, ticket: number, request: SpmifRequest, now: Instant): SpmdOutput[] {
    const reply = (code: number, ...lines: string[]) => this.#served(this.#server.reply(client, ticket, code, ...lines), now);
    switch (request.verb) {
      case 'slid':
        this.#slids = [...this.#slids, { client, ticket, policyId: request.policyId }];
        return [];
      case 'policy-add':
        return this.#policyAdd(client, ticket, request, now);
      case 'policy-delete':
        return this.#policyDelete(request, reply, now);
      case 'policy-dump': {
        const lines = this.#statusOfPolicies().flatMap(({ name, id }) => (name === '' || id === 0 ? [] : [`${name} ${id}`]));
        return lines.length === 0 ? reply(CODE.empty, 'no policies') : reply(CODE.done, ...lines);
      }
      case 'config-subscribe': {
        const subscribed = event('daemon-subscribed', 'info', `${request.daemon} asks for its configuration`);
        return [...reply(CODE.done, 'OK'), subscribed, ...this.#steps(this.#generations.subscribe(client, request.daemon), now)];
      }
      case 'config-prepared':
        return [...reply(CODE.done, 'OK'), ...this.#steps(this.#generations.prepared(client, request.generation), now)];
      case 'config-rejected':
        return [
          ...reply(CODE.done, 'OK'),
          ...this.#steps(this.#generations.rejected(client, request.generation, request.reason), now),
        ];
      case 'config-committed':
        return reply(CODE.done, 'OK');
      case 'fqdn-query':
      case 'fqdn-list':
      case 'fqdn-change':
      case 'ns':
        return reply(NOT_BUILT[request.verb].code, NOT_BUILT[request.verb].text);
      case 'migrate': {
        const selectors = this.#generations.active?.config.selectors ?? [];
        const begun = this.#migrations.begin({ client, ticket }, request, selectors, this.#allEntries, now);
        return 'code' in begun ? this.#answer(begun, now) : this.#installed(begun, now);
      }
      case 'stat':
        return reply(CODE.done, ...statLines(this.#generations, this.#installer, this.#generated.size));
      default:
        return never(request);
    }
  }

  #policyAdd(client: number, ticket: number, request: Extract<Request, { verb: 'policy-add' }>, now: Instant): SpmdOutput[] {
    const refused = (why: string) => this.#served(this.#server.reply(client, ticket, CODE.failed, why), now);
    const { active } = this.#generations;
    if (active === undefined) return refused('there is no configuration yet');
    if (!this.#installer.synchronised) return refused('the datapath is not connected');
    if (this.#generated.size >= MOST_GENERATED) return refused(`there are ${MOST_GENERATED} generated policies already`);
    const entries = generate(request, request.lifetime, active.config.selectors, this.#priorities);
    if (typeof entries === 'string') return refused(entries);
    const taken = entries.find(({ key }) => this.#entries.has(key));
    if (taken !== undefined) return refused(`the policy file has ${taken.key} already`);
    this.#generated.add(entries, now);
    this.#adds.push({ client, ticket, entries });
    return this.#install(now);
  }

  #answer({ client, ticket, code, text }: Answer, now: Instant): SpmdOutput[] {
    return this.#served(this.#server.reply(client, ticket, code, text), now);
  }

  #policyDelete(
    request: Extract<Request, { verb: 'policy-delete' }>,
    reply: (code: number, ...lines: string[]) => SpmdOutput[],
    now: Instant,
  ): SpmdOutput[] {
    const selectors = this.#generations.active?.config.selectors ?? [];
    const keys = this.#generated.matching(request, selectors, this.#priorities);
    if (typeof keys === 'string') return reply(CODE.failed, keys);
    if (keys.length === 0) return reply(CODE.noSuch, `no policy was generated for ${request.selector}`);
    this.#generated.remove(keys);
    return [...reply(CODE.done, 'OK'), ...this.#install(now)];
  }

  // What waits for the datapath

  #settle(now: Instant): SpmdOutput[] {
    return [...this.#settleAdds(now), ...this.#settleSlids(now), ...this.#settleStop()];
  }

  #settleAdds(now: Instant): SpmdOutput[] {
    const outputs: SpmdOutput[] = [];
    for (const add of [...this.#adds]) {
      const states = add.entries.map(({ key }) => this.#installer.installed.get(key));
      const lost = !this.#installer.synchronised || states.some((state) => state === undefined && !this.#settingsSent);
      const refused = states.find((state) => state?.state === 'refused');
      if (!lost && refused === undefined && !states.every((state) => state?.state === 'installed')) continue;
      this.#adds = this.#adds.filter((other) => other !== add);
      const names = add.entries.map(({ selector }) => selector).join(' ');
      if (!lost && refused === undefined) {
        outputs.push(...this.#served(this.#server.reply(add.client, add.ticket, CODE.done, names), now));
        outputs.push(
          event(
            'policy-generated',
            'info',
            `policies were generated for ${names}: ${add.entries.map(({ key }) => key).join(', ')}`,
          ),
        );
        continue;
      }
      this.#generated.remove(add.entries.map(({ key }) => key));
      const why =
        refused === undefined ? 'the connection to the datapath was lost' : `the datapath refused it: ${refused.reason}`;
      outputs.push(...this.#served(this.#server.reply(add.client, add.ticket, CODE.failed, why), now), ...this.#install(now));
    }
    return outputs;
  }

  #settleSlids(now: Instant): SpmdOutput[] {
    const outputs: SpmdOutput[] = [];
    const waiting: Slid[] = [];
    for (const slid of this.#slids) {
      const name = this.#nameOf(slid.policyId);
      // The number of a policy that was just put may be on its way to us.
      if (name === undefined && this.#installer.awaited > 0) waiting.push(slid);
      else {
        const { client, ticket, policyId } = slid;
        const known =
          name === undefined
            ? { code: CODE.noSuch, text: `no selector has policy ${policyId}` }
            : { code: CODE.done, text: name };
        outputs.push(...this.#answer({ client, ticket, ...known }, now));
      }
    }
    this.#slids = waiting;
    return outputs;
  }

  #nameOf(policyId: number): string | undefined {
    for (const [key, { policy }] of this.#installer.installed) {
      if (policy.id === policyId) return (this.#entries.get(key) ?? this.#generated.get(key))?.selector;
    }
    return this.#foreign.selectorOf(policyId, this.#generations.active?.config.selectors ?? []);
  }

  #settleStop(): SpmdOutput[] {
    if (this.#stopping === undefined || this.#stopping.answered || this.#installer.awaited > 0) return [];
    this.#stopping.answered = true;
    return [{ kind: 'reply', id: this.#stopping.id, ok: true, result: {} }];
  }

  // Commands

  #command(id: number, command: SpmdCommand, now: Instant): SpmdOutput[] {
    switch (command.verb) {
      case 'status':
        return [{ kind: 'reply', id, ok: true, result: this.#status(now) }];
      case 'confirm':
        if (this.#unconfirmed === undefined) return [refuse(id, 'nothing waits for a confirmation')];
        this.#unconfirmed = undefined;
        return [{ kind: 'reply', id, ok: true, result: {} }];
      case 'shutdown':
        this.#stopping = { id, answered: false };
        return this.#installed(this.#installer.want([], now), now);
      default:
        return never(command);
    }
  }

  #status(now: Instant): SpmdStatus {
    const deadline = this.#unconfirmed?.deadline;
    return statusOf({
      generations: this.#generations,
      installer: this.#installer,
      policies: this.#statusOfPolicies(),
      problems: this.#problems,
      rejection: this.#rejection,
      datapathProblem: this.#datapathProblem,
      unconfirmedSeconds: deadline === undefined ? undefined : Math.ceil((deadline - now.mono) / 1000),
    });
  }

  get #allEntries(): TableEntry[] {
    return [...this.#entries.values(), ...this.#generated.entries];
  }

  #statusOfPolicies(): PolicyStatus[] {
    return this.#allEntries.map((entry) => policyStatus(entry, this.#installer));
  }
}
