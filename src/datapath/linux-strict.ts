/**
 * The dialect `linux-strict`: what PF_KEY of Linux 6.1 does otherwise, for tests against recordings of a kernel. All of its quirks are here and in
 * `migrate.ts`. It keeps SAs of algorithms and protocols that this datapath cannot run, as the kernel would tell of them; only those that the
 * engine has carry packets.
 */

import type { TrafficSelector } from '../ipsec/selector.ts';
import type { Instant, RandomBytes } from '../machine.ts';
import { IpAddress } from '../net/address.ts';
import { type Prefix, prefixHolds } from '../net/prefix.ts';
import { addToSa, fromSadbLifetime, hostAddress, protocolOf, refusal } from '../pfkey/convert.ts';
import {
  type SadbAddress,
  type SadbAlgorithm,
  SadbError,
  type SadbIpsecRequest,
  type SadbLifetime,
  type SadbMessage,
  sadb,
} from '../pfkey/message.ts';
import {
  ERRNO,
  IPSEC_MODE,
  IPSEC_POLICY,
  IPSEC_ULPROTO_ANY,
  SADB_SAFLAGS,
  SADB_SASTATE,
  SADB_SATYPE,
} from '../pfkey/registry.ts';
import type { VerbResult, Verbs } from '../pfkey/server.ts';
import { larvalOf } from './acquire.ts';
import { announce, currentOf, larvalMessage } from './announce.ts';
import type { Datapath } from './datapath.ts';
import type { Effect } from './effects.ts';
import type { Larval, Sa } from './sa.ts';
import { answer, EngineVerbs, echo, isOf, series } from './verbs.ts';

/** What REGISTER lists, and what an SA may have; key lengths in bits. IPCOMP's is deflate. */
// biome-ignore format: a table
const AUTH: readonly SadbAlgorithm[] = [
  row(251, 0, 0, 0), row(2, 0, 128), row(3, 0, 160), row(5, 0, 256), row(6, 0, 384), row(7, 0, 512), row(8, 0, 160), row(9, 0, 128),
];
// biome-ignore format: a table
const ENCRYPT: readonly SadbAlgorithm[] = [
  row(11, 0, 0, 0), row(2, 8, 64), row(3, 8, 192), row(6, 8, 40, 128), row(7, 8, 40, 448), row(12, 8, 128, 256), row(252, 8, 128, 256),
  row(22, 8, 128, 256), row(253, 8, 128, 256), row(13, 8, 160, 288),
];
const DEFLATE = 2;
/** The largest replay window that `sadb_sa_replay` sets. */
const MOST_REPLAY = 32;
const KEPT_FLAGS = SADB_SAFLAGS.X_NOPMTUDISC | SADB_SAFLAGS.X_DECAP_DSCP | SADB_SAFLAGS.X_NOECN;
/** Headers of Mobile IPv6 that a policy may ask for: routing, destination options. */
const MOBILE_IPV6: readonly number[] = [43, 60];
const NO_LIMIT: SadbLifetime = { allocations: 0, bytes: 0, addtime: 0, usetime: 0 };

function row(id: number, ivBytes: number, minBits: number, maxBits = minBits): SadbAlgorithm {
  return { id, ivBytes, minBits, maxBits };
}

/** An SA as the kernel tells of it. */
interface LinuxSa {
  /** Extensions of an answer, without state, CURRENT and addresses. */
  readonly told: SadbMessage;
  hard: SadbLifetime;
  soft: SadbLifetime;
  readonly born: Instant;
  /** Where the engine can run it. */
  running: Sa | undefined;
}

/** What the engine does not keep of a policy. */
interface LinuxPolicy {
  readonly soft: SadbLifetime | undefined;
  readonly type: number;
  readonly requests: readonly SadbIpsecRequest[] | undefined;
}

export class LinuxVerbs implements Verbs {
  readonly #engine: Datapath;
  readonly #inner: EngineVerbs;
  #sas: readonly LinuxSa[] = [];
  readonly #policies = new Map<number, LinuxPolicy>();

  constructor(engine: Datapath, { random }: { readonly random: RandomBytes }) {
    this.#engine = engine;
    this.#inner = new EngineVerbs(engine, { random, dialect: 'linux-strict' });
  }

  handle(message: SadbMessage, now: Instant): VerbResult {
    switch (message.type) {
      case 'ADD':
        return this.#add(message, now);
      case 'UPDATE':
        return this.#update(message, now);
      case 'DELETE':
        return this.#delete(message);
      case 'GET':
        return { reply: [answer(message, this.#named(message, 'GET'))] };
      case 'DUMP':
        return this.#dump(message);
      case 'FLUSH':
        return this.#flush(message);
      case 'X_SPDADD':
      case 'X_SPDUPDATE':
      case 'X_SPDSETIDX':
        return this.#spdAdd(message, now);
      case 'X_SPDDUMP': {
        // The newest first.
        const { reply, error } = this.#inner.handle(message, now);
        const byAge = this.#engine.core.spd.entries().toSorted((a, b) => b.order - a.order);
        const all = byAge.flatMap(({ policy }) => reply?.find((one) => one.policy!.id === policy.id) ?? []);
        return error === undefined
          ? series(
              message,
              all.map((one) => this.#toldOf(one)),
            )
          : { error };
      }
      default:
        return this.#withPolicies(this.#inner.handle(message, now));
    }
  }

  supported() {
    return { auth: AUTH, encrypt: ENCRYPT };
  }

  registered(): void {
    this.#inner.registered();
  }

  /** An effect as the kernel tells it; a hard expiry ends the SA. */
  announce(effect: Effect): SadbMessage {
    const sa = effect.kind === 'expire' ? this.#sas.find(({ running }) => running === effect.sa) : undefined;
    if (effect.kind !== 'expire' || sa === undefined) return announce(effect);
    if (effect.hard) this.#sas = this.#sas.filter((other) => other !== sa);
    const {
      keyAuth: _,
      keyEncrypt: __,
      ...message
    } = this.#tell('EXPIRE', sa, effect.hard ? SADB_SASTATE.DEAD : SADB_SASTATE.DYING);
    const { lifetimeHard, lifetimeSoft, ...rest } = message;
    return effect.hard ? { ...rest, lifetimeHard } : { ...rest, lifetimeSoft };
  }

  #add(message: SadbMessage, now: Instant): VerbResult {
    const sa = this.#read(message, now);
    if ((this.#find(message) ?? this.#larval(message)) !== undefined) throw refusal('there is such an SA already', ERRNO.EEXIST);
    this.#keep(sa, message, now);
    return { broadcast: [answer(message, this.#tell('ADD', sa, SADB_SASTATE.MATURE))] };
  }

  /** The echo about a running SA describes the temporary object that the new values came in: it is dead. */
  #update(message: SadbMessage, now: Instant): VerbResult {
    const sa = this.#read(message, now);
    const there = this.#find(message);
    if (there !== undefined) {
      there.hard = sa.hard;
      there.soft = sa.soft;
      if (there.running !== undefined) {
        const lifetime = { hard: fromSadbLifetime(sa.hard), soft: fromSadbLifetime(sa.soft) };
        there.running = this.#engine.replaceSa(there.running, { ...there.running.parameters, lifetime }, now);
      }
      return { broadcast: [answer(message, this.#tell('UPDATE', sa, SADB_SASTATE.DEAD))] };
    }
    const larval = this.#larval(message);
    if (larval === undefined) throw refusal('there is no such SA', ERRNO.ESRCH);
    this.#engine.removeLarval(larval);
    this.#keep(sa, message, now, 'inbound');
    return { broadcast: [answer(message, this.#tell('UPDATE', sa, SADB_SASTATE.MATURE))] };
  }

  /** With its keys, although it is gone. */
  #delete(message: SadbMessage): VerbResult {
    const told = this.#named(message, 'DELETE');
    const [sa, larval] = [this.#find(message), this.#larval(message)];
    if (sa !== undefined) this.#drop([sa], []);
    else if (larval !== undefined) this.#drop([], [larval]);
    return { broadcast: [answer(message, { ...told, sa: { ...told.sa!, state: SADB_SASTATE.DEAD } })] };
  }

  #named(message: SadbMessage, type: 'GET' | 'DELETE'): SadbMessage {
    const [sa, larval] = [this.#find(message), this.#larval(message)];
    if (sa !== undefined) return withOwnKeys(this.#tell(type, sa));
    if (larval === undefined) throw refusal('there is no such SA', ERRNO.ESRCH);
    return larvalMessage(type, larval);
  }

  /** An ACQUIRE that was refused stays, dead, for the rest of its time. */
  #dump(message: SadbMessage): VerbResult {
    const { sad, acquires } = this.#engine.core;
    const all = [
      ...[...sad.larvals].map((larval) => larvalMessage('DUMP', larval)),
      ...acquires.pending.map((pending) =>
        larvalMessage('DUMP', larvalOf(pending), pending.failed ? SADB_SASTATE.DEAD : SADB_SASTATE.LARVAL),
      ),
      ...this.#sas.map((sa) => this.#tell('DUMP', sa)),
    ];
    const { satype } = message;
    const asked = all.filter((one) => satype === SADB_SATYPE.UNSPEC || one.satype === satype);
    return series(
      message,
      asked.filter((one) => passes(message.filter, one)),
    );
  }

  #flush(message: SadbMessage): VerbResult {
    const sas = this.#sas.filter(({ told }) => message.satype === SADB_SATYPE.UNSPEC || told.satype === message.satype);
    const { sad, acquires } = this.#engine.core;
    const larvals = [...sad.larvals].filter(({ protocol }) => isOf(message, protocol));
    const pending = acquires.pending.filter(({ template }) => isOf(message, template.protocol));
    this.#drop(sas, larvals);
    acquires.forget(pending);
    return echo(message, sas.length + larvals.length + pending.length > 0);
  }

  /** Route optimization is refused to packets: there is no such header here. */
  #spdAdd(message: SadbMessage, now: Instant): VerbResult {
    const policy = message.policy!;
    const foreign = policy.requests.some(({ protocol }) => MOBILE_IPV6.includes(protocol));
    const asked = foreign ? { ...message, policy: { ...policy, type: IPSEC_POLICY.DISCARD, requests: [] } } : message;
    const result = this.#inner.handle({ ...asked, kmAddress: undefined }, now);
    const id = result.broadcast?.[0]?.policy?.id;
    if (id !== undefined)
      this.#policies.set(id, { soft: message.lifetimeSoft, type: policy.type, requests: foreign ? policy.requests : undefined });
    return this.#withPolicies(result);
  }

  #withPolicies({ reply, broadcast, ...rest }: VerbResult): VerbResult {
    const told = (messages: readonly SadbMessage[]) => messages.map((message) => this.#toldOf(message));
    return {
      ...rest,
      ...(reply === undefined ? {} : { reply: told(reply) }),
      ...(broadcast === undefined ? {} : { broadcast: told(broadcast) }),
    };
  }

  /** HARD and SOFT are always there, and packets are not counted. */
  #toldOf(message: SadbMessage): SadbMessage {
    const { type, policy, lifetimeHard = NO_LIMIT, lifetimeCurrent = NO_LIMIT } = message;
    if (!type.startsWith('X_SPD') || policy === undefined) return message;
    const { soft, type: asked, requests } = this.#policies.get(policy.id) ?? {};
    const whole = requests === undefined ? policy : { ...policy, type: asked!, requests };
    const current = { ...lifetimeCurrent, allocations: 0 };
    return {
      ...message,
      policy: whole,
      lifetimeHard,
      lifetimeSoft: soft ?? NO_LIMIT,
      lifetimeCurrent: current,
      kmAddress: undefined,
    };
  }

  #find({ satype, sa, destination }: SadbMessage): LinuxSa | undefined {
    return this.#sas.find((one) => {
      const at = one.running?.parameters.destination ?? one.told.destination!.address;
      return one.told.satype === satype && one.told.sa!.spi === sa!.spi && at.equals(destination!.address);
    });
  }

  #larval({ satype, sa, destination }: SadbMessage): Larval | undefined {
    const protocol = protocolOf(satype);
    return protocol && this.#engine.core.sad.larval(sa!.spi, protocol, destination!.address);
  }

  #keep(sa: LinuxSa, message: SadbMessage, now: Instant, direction?: Sa['direction']): void {
    sa.running = this.#run(message, now, direction);
    this.#sas = [...this.#sas, sa];
  }

  #run(message: SadbMessage, now: Instant, direction: Sa['direction']): Sa | undefined {
    if (message.satype !== SADB_SATYPE.ESP && message.satype !== SADB_SATYPE.AH) return undefined;
    try {
      const selectors = { source: [] as readonly TrafficSelector[], destination: [] as readonly TrafficSelector[] };
      const { keyAuth, keyEncrypt } = withOwnKeys(message);
      const parameters = { ...addToSa({ ...message, keyAuth, keyEncrypt }), selectors };
      return this.#engine.supports(parameters.suite) ? this.#engine.addSa(parameters, now, direction) : undefined;
    } catch (error) {
      if (error instanceof SadbError) return undefined;
      throw error;
    }
  }

  #drop(sas: readonly LinuxSa[], larvals: readonly Larval[]): void {
    this.#sas = this.#sas.filter((sa) => !sas.includes(sa));
    this.#engine.removeAll(
      sas.flatMap(({ running }) => running ?? []),
      larvals,
    );
  }

  /** Throws SadbError: ENOSYS for an algorithm that the kernel does not offer here (all AEADs), EINVAL for a key of a wrong length. */
  #read(message: SadbMessage, now: Instant): LinuxSa {
    const { satype, sa, source, destination, sa2, proxy, keyAuth, keyEncrypt, lifetimeHard, lifetimeSoft } = message;
    const { nattType, nattSourcePort, nattDestinationPort } = message;
    if (satype === SADB_SATYPE.IPCOMP) {
      if (sa!.encrypt !== DEFLATE) throw refusal(`there is no compression algorithm ${sa!.encrypt}`, ERRNO.ENOSYS);
    } else {
      checkKey('authentication', AUTH, sa!.auth, keyAuth?.bits);
      if (satype === SADB_SATYPE.ESP) checkKey('encryption', ENCRYPT, sa!.encrypt, keyEncrypt?.bits);
    }
    const told = sadb('ADD', {
      satype,
      sa: { ...sa!, replay: Math.min(MOST_REPLAY, sa!.replay), flags: (sa!.flags & KEPT_FLAGS) >>> 0 },
      source: hostAddress(source!.address),
      destination: hostAddress(destination!.address),
      proxy: proxyOf(proxy, source!.address),
      keyAuth: keyAuth?.bits === 0 ? undefined : keyAuth,
      keyEncrypt: keyEncrypt?.bits === 0 ? undefined : keyEncrypt,
      sa2: { mode: sa2?.mode || IPSEC_MODE.TRANSPORT, sequence: 0, reqid: sa2?.reqid ?? 0 },
      nattType,
      nattSourcePort,
      nattDestinationPort,
    });
    return { told, hard: lifetimeHard ?? NO_LIMIT, soft: lifetimeSoft ?? NO_LIMIT, born: { ...now }, running: undefined };
  }

  #tell(type: 'ADD' | 'UPDATE' | 'GET' | 'DUMP' | 'DELETE' | 'EXPIRE', sa: LinuxSa, state?: number): SadbMessage {
    const { told, hard, soft, born, running } = sa;
    const dying = running?.state === 'dying' ? SADB_SASTATE.DYING : SADB_SASTATE.MATURE;
    const ends = running?.parameters;
    return {
      ...told,
      type,
      sa: { ...told.sa!, state: state ?? dying },
      source: ends === undefined ? told.source : hostAddress(ends.source),
      destination: ends === undefined ? told.destination : hostAddress(ends.destination),
      lifetimeHard: hard,
      lifetimeSoft: soft,
      lifetimeCurrent: running === undefined ? { ...NO_LIMIT, addtime: Math.floor(born.wall / 1000) } : currentOf(running),
    };
  }
}

/** Copies: those of an SA that is gone are wiped. */
function withOwnKeys(message: SadbMessage): SadbMessage {
  const copy = (key: SadbMessage['keyAuth']) => key && { bits: key.bits, key: key.key.slice(0, key.key.length) };
  return { ...message, keyAuth: copy(message.keyAuth), keyEncrypt: copy(message.keyEncrypt) };
}

function checkKey(what: string, table: readonly SadbAlgorithm[], id: number, bits = 0): void {
  if (id === 0 && what === 'authentication') return;
  const algorithm = table.find((one) => one.id === id);
  if (algorithm === undefined) throw refusal(`there is no ${what} algorithm ${id}`, ERRNO.ENOSYS);
  const { minBits, maxBits } = algorithm;
  if (bits < minBits || bits > maxBits) throw refusal(`${what} algorithm ${id} takes ${minBits} to ${maxBits} bits, not ${bits}`);
}

/** The SA's selector, which differs from its source: everything, where none was given. */
function proxyOf(proxy: SadbAddress | undefined, source: IpAddress): SadbAddress {
  if (proxy === undefined)
    return { protocol: IPSEC_ULPROTO_ANY, prefixLength: 0, address: IpAddress.unspecified(source.family), port: 0 };
  return { ...proxy, protocol: proxy.protocol || IPSEC_ULPROTO_ANY };
}

/** FILTER: the leading bits of source and destination. */
function passes(filter: SadbMessage['filter'], { source, destination }: SadbMessage): boolean {
  if (filter === undefined) return true;
  const holds = (octets: Uint8Array, bits: number, address: IpAddress) => {
    const prefix: Prefix = {
      address: IpAddress.of(octets.slice(0, address.bytes.length)),
      length: Math.min(bits, 8 * address.bytes.length),
    };
    return bits === 0 || prefixHolds(prefix, address);
  };
  return (
    holds(filter.source, filter.sourceBits, source!.address) &&
    holds(filter.destination, filter.destinationBits, destination!.address)
  );
}
