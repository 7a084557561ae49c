/**
 * A mobility daemon as PF_KEY sees it (draft-sugimoto-mip6-pfkey-migrate): it knows where nodes are now and keeps the tunnels of the host's policies
 * there, by X_MIGRATE with KMADDRESS. What it sends it hears of from the answer, never from the notification (seq 0, pid 0) that it gets as well; what
 * is refused or lost it tries again after another look at the SPD; and policies that are put with the ends of the policy file are moved again.
 */

import { type Ends, type KmAddress, type Policy, sameEnds, sameKmAddress, showPolicySelector } from '../../src/ipsec/policy.ts';
import { earliest, type Instant, type Machine } from '../../src/machine.ts';
import type { IpAddress } from '../../src/net/address.ts';
import { PfkeyClient, type PfkeyClientInput } from '../../src/pfkey/client.ts';
import { migrateToSadb } from '../../src/pfkey/convert-migrate.ts';
import { spdToPolicy } from '../../src/pfkey/convert-policy.ts';
import { type SadbMessage, sadb } from '../../src/pfkey/message.ts';
import { OPT_IN_KMADDRESS, type SadbType } from '../../src/pfkey/registry.ts';

export type MobilityInput =
  | { readonly kind: 'tick' }
  | { readonly kind: 'pfkey'; readonly message: SadbMessage }
  | { readonly kind: 'pfkey-link'; readonly up: boolean }
  /** A node is at `to` now; it was at `former`, of which its policies may still speak. An older binding changes nothing (RFC 6275 §9.5.1). */
  | {
      readonly kind: 'binding';
      readonly node: string;
      readonly sequence: number;
      readonly former: readonly IpAddress[];
      readonly to: IpAddress;
    };

export interface MobilityOutput {
  readonly kind: 'pfkey';
  readonly message: SadbMessage;
}

interface Known {
  readonly policy: Policy;
  readonly kmAddress: KmAddress | undefined;
  /** An X_MIGRATE of ours is not answered yet. */
  readonly moving: boolean;
}

type Tag =
  | { readonly for: 'dump' }
  | { readonly for: 'move'; readonly key: string; readonly to: Ends; readonly kmAddress: KmAddress | undefined };

/** Another look at the SPD after a refusal. Milliseconds. */
const RETRY_MS = 300;
const PUT: readonly SadbType[] = ['X_SPDADD', 'X_SPDUPDATE', 'X_SPDSETIDX'];
const REMOVED: readonly SadbType[] = ['X_SPDDELETE', 'X_SPDDELETE2', 'X_SPDFLUSH', 'X_SPDEXPIRE'];

export class MobilityClient implements Machine<MobilityInput, MobilityOutput> {
  readonly #client: PfkeyClient<Tag>;
  readonly #tellsKeyManagement: boolean;
  readonly #bindings = new Map<
    string,
    { readonly sequence: number; readonly former: readonly IpAddress[]; readonly to: IpAddress }
  >();
  readonly #known = new Map<string, Known>();
  #lookAt: number | undefined;

  /** `tellsKeyManagement`: the K flag (RFC 6275 §6.1.7), which a MIGRATE says by its KMADDRESS. */
  constructor(pid: number, tellsKeyManagement: boolean) {
    this.#client = new PfkeyClient<Tag>({ pid, dumps: ['policies'], optIn: OPT_IN_KMADDRESS });
    this.#tellsKeyManagement = tellsKeyManagement;
  }

  handle(input: MobilityInput, now: Instant): readonly MobilityOutput[] {
    switch (input.kind) {
      case 'tick': {
        const look = this.#lookAt !== undefined && this.#lookAt <= now.mono;
        if (look) this.#lookAt = undefined;
        const outputs = this.#run({ kind: 'tick' }, now);
        return look && this.#client.connected ? [...outputs, ...this.#ask({ for: 'dump' }, sadb('X_SPDDUMP'), now)] : outputs;
      }
      case 'pfkey':
        return this.#run({ kind: 'message', message: input.message }, now);
      case 'pfkey-link':
        this.#known.clear();
        return this.#run({ kind: input.up ? 'connected' : 'disconnected' }, now);
      default: {
        const known = this.#bindings.get(input.node);
        if (known !== undefined && known.sequence > input.sequence) return [];
        this.#bindings.set(input.node, input);
        return this.#keepAll(now);
      }
    }
  }

  wakeAt(): number | undefined {
    return earliest(this.#client.wakeAt(), this.#lookAt);
  }

  #ask(tag: Tag, message: SadbMessage, now: Instant): MobilityOutput[] {
    return this.#run({ kind: 'request', tag, message }, now);
  }

  #run(input: PfkeyClientInput<Tag>, now: Instant): MobilityOutput[] {
    const outputs: MobilityOutput[] = [];
    for (const output of this.#client.handle(input, now)) {
      switch (output.kind) {
        case 'send':
          outputs.push({ kind: 'pfkey', message: output.message });
          break;
        case 'answer':
          outputs.push(...this.#answered(output.tag, output.errno, output.reply, now));
          break;
        case 'notification':
          outputs.push(...this.#noticed(output.message, now));
          break;
        case 'synchronised':
          outputs.push(...this.#seen(output.policies, now));
          break;
        default:
          this.#lookAt = now.mono + RETRY_MS;
      }
    }
    return outputs;
  }

  #answered(tag: Tag, errno: number, reply: readonly SadbMessage[], now: Instant): MobilityOutput[] {
    if (tag.for === 'dump') return errno === 0 ? this.#seen(reply, now) : [];
    const known = this.#known.get(tag.key);
    if (known === undefined) return [];
    if (errno !== 0) {
      this.#lookAt ??= now.mono + RETRY_MS;
      this.#known.set(tag.key, { ...known, moving: false });
      return [];
    }
    const [template, ...others] = known.policy.templates;
    const policy = { ...known.policy, templates: [{ ...template!, endpoints: tag.to }, ...others] };
    this.#known.set(tag.key, { policy, kmAddress: tag.kmAddress ?? known.kmAddress, moving: false });
    return this.#keep(tag.key, now);
  }

  #noticed(message: SadbMessage, now: Instant): MobilityOutput[] {
    if (message.errno !== 0) return [];
    if (PUT.includes(message.type)) {
      const key = this.#learn(message);
      return this.#keep(key, now);
    }
    if (REMOVED.includes(message.type)) {
      for (const [key, { policy }] of this.#known)
        if (message.type === 'X_SPDFLUSH' || policy.id === message.policy?.id) this.#known.delete(key);
    }
    return [];
  }

  #seen(policies: readonly SadbMessage[], now: Instant): MobilityOutput[] {
    const before = new Map(this.#known);
    this.#known.clear();
    for (const message of policies) {
      const key = this.#learn(message);
      if (before.get(key)?.moving === true) this.#known.set(key, before.get(key)!);
    }
    return this.#keepAll(now);
  }

  #learn(message: SadbMessage): string {
    const policy = spdToPolicy(message);
    const key = `${policy.direction} ${showPolicySelector(policy.selector)}`;
    this.#known.set(key, { policy, kmAddress: message.kmAddress, moving: false });
    return key;
  }

  #keepAll(now: Instant): MobilityOutput[] {
    return [...this.#known.keys()].flatMap((key) => this.#keep(key, now));
  }

  /** The tunnel of one policy is where its nodes are; if not, it is moved there. */
  #keep(key: string, now: Instant): MobilityOutput[] {
    const { policy, kmAddress, moving } = this.#known.get(key)!;
    const template = policy.templates[0];
    const old = template?.endpoints;
    if (moving || this.#lookAt !== undefined || template === undefined || old === undefined) return [];
    const to = { source: this.#present(old.source), destination: this.#present(old.destination) };
    const km = this.#kmAddressFor(policy, to);
    if (sameEnds(old, to) && (km === undefined || sameKmAddress(km, kmAddress))) return [];
    this.#known.set(key, { policy, kmAddress, moving: true });
    const { protocol, mode, reqid } = template;
    const { selector, direction } = policy;
    const message = migrateToSadb({ selector, direction, movements: [{ protocol, mode, reqid, old, new: to }], kmAddress: km });
    return this.#ask({ for: 'move', key, to, kmAddress: km }, message, now);
  }

  /** Seen from this host; only where an end has ever moved. */
  #kmAddressFor({ direction }: Policy, { source, destination }: Ends): KmAddress | undefined {
    const [local, remote] = direction === 'outbound' ? [source, destination] : [destination, source];
    if (!this.#tellsKeyManagement || (!this.#hasMoved(local) && !this.#hasMoved(remote))) return undefined;
    return { local: { address: local, port: 0 }, remote: { address: remote, port: 0 } };
  }

  #hasMoved(address: IpAddress): boolean {
    return [...this.#bindings.values()].some(({ to }) => to.equals(address));
  }

  #present(address: IpAddress): IpAddress {
    const binding = [...this.#bindings.values()].find(({ former }) => former.some((one) => one.equals(address)));
    return binding?.to ?? address;
  }
}
