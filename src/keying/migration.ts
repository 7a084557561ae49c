/**
 * Ends that moved: what an X_MIGRATE means for the policies, pairs of SAs and peer relations of a key daemon (draft-sugimoto-mip6-pfkey-migrate,
 * draft-ebalard-mext-pfkey-enhanced-migrate; RFC 4877 §5.2). The datapath has moved the SAs by then; the daemon follows, so that what it
 * negotiates and says from now on comes from where the node is.
 */

import type { AddressSpec } from '../config/config.ts';
import type { Mode, SaParameters } from '../ipsec/sa.ts';
import { onlyHost } from '../ipsec/selector.ts';
import type { IpAddress, Path } from '../net/address.ts';
import { type Migrate, type Movement, readMigrate } from '../pfkey/convert-migrate.ts';
import { directionOf } from '../pfkey/convert-policy.ts';
import { IPSEC_POLICY } from '../pfkey/registry.ts';
import { SadbError, type SadbMessage } from '../pfkey/sadb.ts';
import type { Adoption } from './adoption.ts';
import type { ChildPolicy } from './child-policy.ts';
import { between, endsOf, literals, type PairEnds, sameEnds } from './ends.ts';
import { hookFor, type Scripts } from './hooks.ts';
import type { KeyHost } from './host.ts';
import type { SaPair } from './sa-pair.ts';

/** Peer relations follow as their protocol has it. */
export interface MovingHost extends KeyHost {
  /** Of the remote's block for the protocol that we speak with it. */
  scriptsOf(policy: ChildPolicy): Scripts | undefined;
  readonly adoption: Pick<Adoption, 'holds' | 'relocate'>;
  /** Key management for this policy's pairs talks between `to` from now on, and not between `from` any more. */
  moveKeyManagement(policy: ChildPolicy, from: PairEnds, to: PairEnds): void;
  /** The pairs moved and key management did not move with them (no KMADDRESS): what was agreed at the old ends is to be agreed on anew. */
  dropKeyManagement(policy: ChildPolicy, from: PairEnds): void;
}

interface Moved {
  /** Of the policy when it moved: a policy that was changed since is where its file says. */
  readonly fingerprint: string;
  readonly tunnel: PairEnds | undefined;
  readonly km: PairEnds | undefined;
  /** Where key management was until a moment ago (`at`, `mono`), the last first: what came from there may still be under way. */
  readonly left: readonly { readonly ends: PairEnds; readonly at: number }[];
}

/** How long an exchange may be under way. Who is at a former place later has come back to it. Milliseconds. */
const UNDER_WAY_MS = 10_000;

const MOST_LEFT = 8;

/** X_MIGRATEs that may come before there is a configuration to say what they are about. */
const MOST_UNREAD = 256;

export class Migrations {
  readonly #host: MovingHost;
  /** The SPD, and the X_MIGRATEs after it, until there is a configuration. */
  #unread: { readonly policies: readonly SadbMessage[]; readonly migrates: SadbMessage[] } | undefined = {
    policies: [],
    migrates: [],
  };
  /** By the selector's name. */
  readonly #moved = new Map<string, Moved>();

  constructor(host: MovingHost) {
    this.#host = host;
  }

  /** Somebody moved a policy. */
  heard(message: SadbMessage): void {
    if (this.#unread !== undefined) {
      if (this.#unread.migrates.push(message) > MOST_UNREAD) this.#unread.migrates.shift();
      return;
    }
    let migrate: Migrate;
    try {
      migrate = readMigrate(message);
    } catch (error) {
      if (!(error instanceof SadbError)) throw error;
      return this.#host.report('message-dropped', `an X_MIGRATE was ignored: ${error.message}`);
    }
    for (const movement of migrate.movements) this.#follow(migrate, movement);
  }

  /** One movement comes as two or three messages (in, forward, out): the first moves the policy, each the SAs of its direction, and that for out key management. */
  #follow({ direction, kmAddress }: Migrate, movement: Movement): void {
    const outbound = direction === 'outbound';
    const seen = (ends: Movement['old']): PairEnds =>
      outbound ? { local: ends.source, remote: ends.destination } : { local: ends.destination, remote: ends.source };
    const [from, to] = [seen(movement.old), seen(movement.new)];
    const km = outbound && kmAddress !== undefined ? endsOf(kmAddress.local, kmAddress.remote) : undefined;
    for (const policy of this.#policiesOf(movement, from)) {
      if (!sameEnds(from, to)) {
        this.#movePolicy(policy, from, to);
        this.#moveSas(policy, outbound, from, to);
      }
      if (!outbound) continue;
      const before = this.#of(policy)?.km ?? from;
      if (km !== undefined) {
        this.#note(policy, { km });
        this.#host.moveKeyManagement(policy, before, km);
      } else if (!sameEnds(from, to)) {
        this.#note(policy, { km: undefined });
        this.#host.dropKeyManagement(policy, before);
      }
    }
  }

  /** By reqid, which survives every movement; without one by where the pairs or the policy's ends are. */
  #policiesOf({ reqid, mode }: Movement, from: PairEnds): ChildPolicy[] {
    const { policies } = this.#host;
    const pairs = this.#host.pairs();
    return policies.all.filter((policy) => {
      if (policy.policy.mode !== mode) return false;
      if (reqid !== 0) return policy.reqid === reqid;
      const ends = this.#moved.get(policy.name)?.tunnel;
      return (
        (ends !== undefined && sameEnds(ends, from)) ||
        pairs.some((pair) => pair.policy.name === policy.name && sameEnds(endsOf(pair.path.local, pair.path.remote), from))
      );
    });
  }

  #movePolicy(policy: ChildPolicy, from: PairEnds, to: PairEnds): void {
    if (!this.#note(policy, { tunnel: to })) return;
    this.#host.report('tunnel-moved', `${policy.name} moved from ${show(from)} to ${show(to)}`, {
      child: policy.name,
      policy: policy.policy.name,
      remote: policy.remote,
      oldLocal: `${from.local}`,
      oldPeer: `${from.remote}`,
      newLocal: `${to.local}`,
      newPeer: `${to.remote}`,
    });
    const environment = {
      OLD_SRC: `${from.local}`,
      OLD_DST: `${from.remote}`,
      NEW_SRC: `${to.local}`,
      NEW_DST: `${to.remote}`,
    };
    for (const output of hookFor(this.#host.scriptsOf(policy), 'migration', policy.name, environment)) this.#host.emit(output);
  }

  /** The datapath knows an SA by where it ends (RFC 4301 §4.1) and still finds it by where it ended: so none gets its new name before it has moved. */
  #moveSas(policy: ChildPolicy, outbound: boolean, from: PairEnds, to: PairEnds): void {
    const { asks, adoption } = this.#host;
    const seen = ({ local, remote }: PairEnds) =>
      outbound ? { source: local, destination: remote } : { source: remote, destination: local };
    asks.relocate(seen(from), seen(to));
    adoption.relocate(policy, seen(from), seen(to));
    const is = (address: IpAddress, end: 'local' | 'remote') => address.equals(from[end]) || address.equals(to[end]);
    for (const pair of this.#host.pairs()) {
      const { local, remote } = endsOf(pair.path.local, pair.path.remote);
      if (pair.policy.name !== policy.name || !is(local, 'local') || !is(remote, 'remote')) continue;
      pair.path = between(pair.path, outbound ? { local, remote: to.remote } : { local: to.local, remote });
    }
  }

  /** True where that is news. */
  #note(policy: ChildPolicy, news: Partial<Pick<Moved, 'tunnel' | 'km'>>): boolean {
    const known = this.#of(policy);
    const { tunnel } = news;
    const km = 'km' in news ? news.km : known?.km;
    const next = { fingerprint: policy.fingerprint, tunnel: tunnel ?? known?.tunnel, km };
    const there = km ?? next.tunnel;
    const before = known?.km ?? known?.tunnel ?? saidEnds(policy);
    const at = this.#host.now.mono;
    const left = [...(before === undefined ? [] : [{ ends: before, at }]), ...(known?.left ?? [])];
    this.#moved.set(policy.name, {
      ...next,
      left: left.filter(({ ends }) => !there || !sameEnds(ends, there)).slice(0, MOST_LEFT),
    });
    return tunnel !== undefined && (known?.tunnel === undefined || !sameEnds(known.tunnel, tunnel));
  }

  #of(policy: ChildPolicy): Moved | undefined {
    const moved = this.#moved.get(policy.name);
    return moved?.fingerprint === policy.fingerprint ? moved : undefined;
  }

  /**
   * What the datapath has after we did not listen for a while: a pair whose inbound SA ends elsewhere than we think was moved meanwhile, and
   * the policies tell where key management went with it.
   */
  synchronise(sas: readonly SaParameters[], policies: readonly SadbMessage[]): void {
    for (const pair of this.#host.pairs()) {
      const inbound = sas.find((sa) => pair.has('inbound', sa) && sa.reqid === pair.policy.reqid);
      if (inbound === undefined) continue;
      const [from, to] = [endsOf(pair.path.local, pair.path.remote), { local: inbound.destination, remote: inbound.source }];
      if (sameEnds(from, to)) continue;
      this.#movePolicy(pair.policy, from, to);
      for (const outbound of [false, true]) this.#moveSas(pair.policy, outbound, from, to);
      if (!policies.some((message) => keyManagementFor(message, pair))) this.#host.dropKeyManagement(pair.policy, from);
    }
    this.#unread = { policies, migrates: [] };
    this.configured();
  }

  /** A configuration is in force: what the datapath told before there was one is read now. */
  configured(): void {
    const unread = this.#unread;
    if (unread === undefined || this.#host.policies.all.length === 0) return;
    this.#unread = undefined;
    for (const message of unread.policies) this.#readPolicy(message);
    for (const message of unread.migrates) this.heard(message);
  }

  /** A policy as the datapath has it, perhaps moved while nobody of ours listened. */
  #readPolicy({ kmAddress, policy }: SadbMessage): void {
    if (policy?.type !== IPSEC_POLICY.IPSEC || directionOf(policy.direction) !== 'outbound') return;
    for (const { reqid, addresses } of policy.requests) {
      const tunnel = addresses && { local: addresses.source.address, remote: addresses.destination.address };
      const km = kmAddress && endsOf(kmAddress.local, kmAddress.remote);
      for (const child of this.#host.policies.all) {
        if (reqid === 0 || child.reqid !== reqid) continue;
        const known = this.#of(child)?.km;
        if (tunnel !== undefined && child.policy.mode !== 'transport' && isElsewhere(child, tunnel))
          this.#note(child, { tunnel });
        if (km === undefined || (known !== undefined && sameEnds(known, km))) continue;
        this.#note(child, { km });
        this.#host.moveKeyManagement(child, known ?? saidEnds(child) ?? km, km);
      }
    }
  }

  /** Where key management of this policy's peer talks, where it was told of a movement. */
  keyManagementOf(policy: ChildPolicy): PairEnds | undefined {
    const moved = this.#of(policy);
    return moved?.km ?? moved?.tunnel;
  }

  /** Where key management is now that was at `ends` under one of these policies, for what came from there and was under way meanwhile. */
  presentOf(policies: readonly ChildPolicy[], ends: PairEnds): PairEnds | undefined {
    const { mono } = this.#host.now;
    const left = (policy: ChildPolicy) =>
      this.#of(policy)?.left.some((one) => mono - one.at < UNDER_WAY_MS && sameEnds(one.ends, ends)) === true;
    const moved = policies.find(left);
    return moved && this.keyManagementOf(moved);
  }

  /** The remotes that mobility daemons say are at this address. */
  remotesAt(address: IpAddress): ReadonlySet<string> {
    const there = this.#host.policies.all.filter((policy) => this.keyManagementOf(policy)?.remote.equals(address));
    return new Set(there.map(({ remote }) => remote));
  }

  /**
   * Where a new pair of this policy ends: where its tunnel moved to; in transport mode the two hosts that the policy names, which a node that is
   * away from home does not talk from; else where key management talks. A NAT between (`nat`) leaves only the last.
   */
  pathOf(policy: ChildPolicy, mode: Mode, path: Path, nat: boolean): Path {
    if (nat) return path;
    if (mode === 'transport') {
      const [local, remote] = [onlyHost(policy.local), onlyHost(policy.peer)];
      return local === undefined || remote === undefined ? path : between(path, { local, remote });
    }
    const tunnel = this.#of(policy)?.tunnel;
    return tunnel === undefined ? path : between(path, tunnel);
  }
}

/** Where the policy file puts a tunnel, as far as it names addresses. */
function saidEnds({ policy }: ChildPolicy): PairEnds | undefined {
  const [[local], [remote]] = [literals([policy.mySaAddress]), literals([policy.peersSaAddress])];
  return local === undefined || remote === undefined ? undefined : { local, remote };
}

/** Whether a tunnel is not there. An address that either leaves open says nothing. */
function isElsewhere({ policy }: ChildPolicy, { local, remote }: PairEnds): boolean {
  const differs = (said: AddressSpec | undefined, address: IpAddress) =>
    !address.isUnspecified && literals([said]).some((one) => !one.isUnspecified && !one.equals(address));
  return differs(policy.mySaAddress, local) || differs(policy.peersSaAddress, remote);
}

function keyManagementFor({ kmAddress, policy }: SadbMessage, pair: SaPair): boolean {
  return kmAddress !== undefined && policy?.requests.some(({ reqid }) => reqid !== 0 && reqid === pair.policy.reqid) === true;
}

function show({ local, remote }: PairEnds): string {
  return `${local}…${remote}`;
}
