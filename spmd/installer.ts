/** Keeps the datapath's SPD equal to the entries that should be there: installs, replaces and removes over PF_KEY, and puts back what was lost. */

import { never } from '../src/errors.ts';
import type { Ends, Policy } from '../src/ipsec/policy.ts';
import type { Instant } from '../src/machine.ts';
import { PfkeyClient, type PfkeyClientOutput } from '../src/pfkey/client.ts';
import { type Migrate, type Movement, migrateToSadb, readMigrate } from '../src/pfkey/convert-migrate.ts';
import { policyIdTo, policyToSpdUpdate, spdToPolicy } from '../src/pfkey/convert-policy.ts';
import { SadbError, type SadbMessage } from '../src/pfkey/message.ts';
import { ERRNO, errnoName, OPT_IN_KMADDRESS } from '../src/pfkey/registry.ts';
import type { SpmdEvent } from './events.ts';
import { Moved } from './moved.ts';
import { keyOf, samePolicy, type TableEntry } from './policy-table.ts';
import { isOwn } from './priorities.ts';

export type InstallerOutput =
  | { readonly kind: 'pfkey'; readonly message: SadbMessage }
  | { readonly kind: 'event'; readonly event: SpmdEvent }
  /** The datapath's entries are known: `installed` has been filled from them. Which entries should be there is to be said now. */
  | { readonly kind: 'synchronised' }
  /** Another client installed a policy. */
  | { readonly kind: 'foreign'; readonly policy: Policy }
  /** Another client removed a policy, or all (no `id`). */
  | { readonly kind: 'removed'; readonly id: number | undefined }
  /** The answer to `migrate`; 0: the tunnel has moved. */
  | { readonly kind: 'migrated'; readonly request: number; readonly key: string; readonly errno: number };

type Tag =
  | { readonly op: 'put' | 'remove'; readonly key: string; readonly policy: Policy }
  | { readonly op: 'migrate'; readonly key: string; readonly request: number };

/** What the datapath has, or was asked to have, under one key. */
interface Installed {
  readonly policy: Policy;
  readonly state: 'asked' | 'installed' | 'refused';
  readonly reason?: string;
}

const OTHERS_ADD: readonly SadbMessage['type'][] = ['X_SPDADD', 'X_SPDUPDATE', 'X_SPDSETIDX'];
const OTHERS_REMOVE: readonly SadbMessage['type'][] = ['X_SPDDELETE', 'X_SPDDELETE2', 'X_SPDFLUSH', 'X_SPDEXPIRE'];

export class Installer {
  readonly #client: PfkeyClient<Tag>;
  readonly #installed = new Map<string, Installed>();
  readonly #moved = new Moved();
  /** As the policy file says, and as it is to be installed. */
  #said = new Map<string, TableEntry>();
  #wanted = new Map<string, TableEntry>();
  #synchronised = false;
  #awaited = 0;

  constructor(pid: number) {
    this.#client = new PfkeyClient<Tag>({ pid, dumps: ['policies'], optIn: OPT_IN_KMADDRESS });
  }

  /** Whether the connection stands and its first dump has been read. */
  get synchronised(): boolean {
    return this.#synchronised;
  }

  /** Requests whose answers are still to come. */
  get awaited(): number {
    return this.#awaited;
  }

  get installed(): ReadonlyMap<string, Installed> {
    return this.#installed;
  }

  wakeAt(): number | undefined {
    return this.#client.wakeAt();
  }

  link(up: boolean, now: Instant): InstallerOutput[] {
    if (!up) this.#synchronised = false;
    return this.#translate(this.#client.handle({ kind: up ? 'connected' : 'disconnected' }, now), now);
  }

  received(message: SadbMessage, now: Instant): InstallerOutput[] {
    return this.#translate(this.#client.handle({ kind: 'message', message }, now), now);
  }

  tick(now: Instant): InstallerOutput[] {
    return this.#translate(this.#client.handle({ kind: 'tick' }, now), now);
  }

  /** From now on exactly these (and what other clients have) are to be there. Additions and changes come before removals. */
  want(entries: readonly TableEntry[], now: Instant): InstallerOutput[] {
    this.#said = new Map(entries.map((entry) => [entry.key, entry]));
    this.#moved.keep(new Set(this.#said.keys()));
    this.#wanted = new Map(entries.map((entry) => [entry.key, this.#moved.follow(entry)]));
    return this.#reconcile(now);
  }

  /** Moves the SAs of an installed entry between other ends (X_MIGRATE); answered by `migrated` with the number of the request. */
  migrate(key: string, old: Ends, to: Ends, request: number, now: Instant): InstallerOutput[] {
    const { selector, direction, templates } = this.#installed.get(key)!.policy;
    const { protocol, mode, reqid } = templates[0]!;
    const movement: Movement = { protocol, mode, reqid, old, new: to };
    return this.#ask({ op: 'migrate', key, request }, migrateToSadb({ selector, direction, movements: [movement] }), now);
  }

  #reconcile(now: Instant): InstallerOutput[] {
    if (!this.#synchronised) return [];
    const outputs: InstallerOutput[] = [];
    for (const { key, policy, seconds, kmAddress } of this.#wanted.values()) {
      const there = this.#installed.get(key);
      if (there !== undefined && there.state !== 'refused' && samePolicy(there.policy, policy)) continue;
      this.#installed.set(key, { policy: { ...policy, id: there?.policy.id ?? 0 }, state: 'asked' });
      outputs.push(...this.#ask({ op: 'put', key, policy }, { ...policyToSpdUpdate(policy, seconds), kmAddress }, now));
    }
    for (const [key, { policy, state }] of [...this.#installed]) {
      // Without a number yet: its answer is on the way, and `#answered` comes back here.
      if (this.#wanted.has(key) || (policy.id === 0 && state === 'asked')) continue;
      this.#installed.delete(key);
      if (policy.id !== 0) outputs.push(...this.#ask({ op: 'remove', key, policy }, policyIdTo('X_SPDDELETE2', policy.id), now));
    }
    return outputs;
  }

  #ask(tag: Tag, message: SadbMessage, now: Instant): InstallerOutput[] {
    this.#awaited++;
    return this.#translate(this.#client.handle({ kind: 'request', tag, message }, now), now);
  }

  #translate(outputs: readonly PfkeyClientOutput<Tag>[], now: Instant): InstallerOutput[] {
    return outputs.flatMap((output): InstallerOutput[] => {
      switch (output.kind) {
        case 'send':
          return [{ kind: 'pfkey', message: output.message }];
        case 'answer':
          return this.#answered(output.tag, output.errno, output.reply[0], now);
        case 'notification':
          return this.#noticed(output.message, now);
        case 'synchronised':
          return this.#adopt(output.policies);
        case 'failed':
          return [
            warning(
              'pfkey-failed',
              `the datapath's policies are not known: ${output.reason}; nothing is installed until it is connected anew`,
            ),
          ];
        default:
          return never(output);
      }
    });
  }

  #answered(tag: Tag, errno: number, reply: SadbMessage | undefined, now: Instant): InstallerOutput[] {
    this.#awaited--;
    if (tag.op === 'migrate') return [{ kind: 'migrated', request: tag.request, key: tag.key, errno }];
    const { op, key, policy } = tag;
    if (op === 'remove') {
      if (errno === 0 || errno === ERRNO.ENOENT || errno === ERRNO.ECONNREFUSED) return [];
      return [warning('policy-not-removed', `the datapath did not remove policy ${policy.id} (${key}): ${errnoName(errno)}`)];
    }
    const there = this.#installed.get(key);
    // A later request for the same entry is on its way: its answer counts.
    if (there === undefined || !samePolicy(there.policy, policy)) return [];
    if (errno === ERRNO.ECONNREFUSED) {
      this.#installed.delete(key);
      return [];
    }
    if (errno !== 0) {
      const reason = errnoName(errno);
      this.#installed.set(key, { policy: { ...policy, id: 0 }, state: 'refused', reason });
      return [
        warning(
          'policy-refused',
          `the datapath refused the policy ${key}: ${reason}; its traffic is not treated as the policy file says`,
        ),
      ];
    }
    this.#installed.set(key, { policy: { ...policy, id: reply?.policy?.id ?? there.policy.id }, state: 'installed' });
    const wanted = this.#wanted.get(key);
    // Not wanted any more, or moved meanwhile.
    return wanted !== undefined && samePolicy(wanted.policy, policy) ? [] : this.#reconcile(now);
  }

  /** Entries in our range of priorities are ours, also when a spmd before us made them. */
  #adopt(policies: readonly SadbMessage[]): InstallerOutput[] {
    this.#installed.clear();
    const outputs: InstallerOutput[] = [];
    for (const message of policies) {
      const policy = policyOf(message);
      if (policy === undefined) continue;
      const key = keyOf(policy.direction, policy.selector);
      if (isOwn(policy.priority)) {
        this.#installed.set(key, { policy, state: 'installed' });
        if (message.kmAddress !== undefined && !this.#said.has(key))
          this.#moved.note(key, undefined, policy.templates[0]?.endpoints, message.kmAddress);
      } else outputs.push({ kind: 'foreign', policy });
    }
    this.#synchronised = true;
    return [{ kind: 'synchronised' }, ...outputs];
  }

  /** What another client did to the SPD: new entries are told, removed ones of ours put back. */
  #noticed(message: SadbMessage, now: Instant): InstallerOutput[] {
    if (message.type === 'X_MIGRATE' && message.errno === 0) return this.#follow(message);
    const policy = policyOf(message);
    if (OTHERS_ADD.includes(message.type) && policy !== undefined) return [{ kind: 'foreign', policy }];
    if (!OTHERS_REMOVE.includes(message.type) || !this.#synchronised) return [];
    const removed: InstallerOutput = { kind: 'removed', id: message.type === 'X_SPDFLUSH' ? undefined : message.policy?.id };
    const lost = [...this.#installed].filter(
      ([
        ,
        {
          policy: { id },
        },
      ]) => message.type === 'X_SPDFLUSH' || id === message.policy?.id,
    );
    if (lost.length === 0) return [removed];
    for (const [key] of lost) this.#installed.delete(key);
    const expired = lost.every(([key]) => (this.#wanted.get(key)?.seconds ?? 0) > 0);
    if (message.type === 'X_SPDEXPIRE' || expired) {
      for (const [key] of lost) this.#wanted.delete(key);
      return [removed];
    }
    const text = `another PF_KEY client removed ${lost.length} of our policies (${message.type}); they are put back`;
    return [removed, warning('policies-removed-by-others', text), ...this.#reconcile(now)];
  }

  /** A mobility daemon moved a tunnel of ours: that is where it is to be, until the policy file says something else. */
  #follow(message: SadbMessage): InstallerOutput[] {
    const migrate = migrateOf(message);
    if (migrate === undefined) return [];
    const key = keyOf(migrate.direction, migrate.selector);
    const there = this.#installed.get(key);
    const template = there?.policy.templates[0];
    const movement = migrate.movements.find(({ reqid, mode }) => mode === template?.mode && [0, template.reqid].includes(reqid));
    if (there === undefined || template === undefined || movement === undefined) return [];
    const ends = template.endpoints === undefined ? undefined : presentEnds(template.endpoints, movement);
    const said = this.#said.get(key);
    this.#moved.note(key, said?.policy.templates[0]?.endpoints, ends, migrate.kmAddress);
    if (said !== undefined) this.#wanted.set(key, this.#moved.follow(said));
    // Where an answer is still to come, it came before the movement or will be put right when it comes.
    if (there.state === 'installed') {
      const templates = [{ ...template, endpoints: ends }, ...there.policy.templates.slice(1)];
      this.#installed.set(key, { ...there, policy: { ...there.policy, templates } });
    }
    const where = ends === undefined ? 'its addresses' : `${ends.source} and ${ends.destination}`;
    const text = `the policy ${key} has moved: its SAs are between ${where} now`;
    return [{ kind: 'event', event: { name: 'policy-moved', severity: 'info', message: text } }];
  }
}

/** An end that the policy leaves open stays open. */
function presentEnds(ends: Ends, movement: Movement): Ends {
  const to = (end: keyof Ends) => (ends[end].isUnspecified ? ends[end] : movement.new[end]);
  return { source: to('source'), destination: to('destination') };
}

function migrateOf(message: SadbMessage): Migrate | undefined {
  try {
    return readMigrate(message);
  } catch (error) {
    if (error instanceof SadbError) return undefined;
    throw error;
  }
}

/** The policy in a message, or undefined where it is none that we could have made (a per-socket policy, route optimization). */
function policyOf(message: SadbMessage): Policy | undefined {
  try {
    return spdToPolicy(message);
  } catch (error) {
    if (error instanceof SadbError) return undefined;
    throw error;
  }
}

function warning(name: SpmdEvent['name'], message: string): InstallerOutput {
  return { kind: 'event', event: { name, severity: 'warning', message } };
}
