/** PF_KEY's verbs on the engine's SAD and SPD (RFC 2367 §3.1 and the SPD extensions), one function a verb. The server has checked each request's form. */

import { equal } from '../bytes/bytes.ts';
import type { Secret } from '../bytes/secret.ts';
import { ENCR, ENCR_NAMES, type EncrRow, INTEG, INTEG_NAMES } from '../crypto/transforms.ts';
import { type Ends, type Policy, sameEnds, type Template } from '../ipsec/policy.ts';
import type { SaParameters, SaProtocol } from '../ipsec/sa.ts';
import type { Instant, RandomBytes } from '../machine.ts';
import { addToSa, modeOf, protocolOf, refusal } from '../pfkey/convert.ts';
import { directionOf, policySeconds, selectorOf, spdToPolicy } from '../pfkey/convert-policy.ts';
import { type Dialect, type SadbAlgorithm, type SadbMessage, sadb } from '../pfkey/message.ts';
import { ERRNO, IPSEC_MANUAL_REQID_MAX, IPSEC_MODE, SADB_SASTATE, SADB_SATYPE, type SadbType } from '../pfkey/registry.ts';
import { isStateOnly } from '../pfkey/rules.ts';
import type { VerbResult, Verbs } from '../pfkey/server.ts';
import { larvalOf } from './acquire.ts';
import { larvalMessage, policyMessage, saMessage } from './announce.ts';
import type { Datapath } from './datapath.ts';
import { migrate } from './migrate.ts';
import { movedTo } from './recent-movements.ts';
import type { Larval, Sa } from './sa.ts';
import type { SpdEntry } from './spd.ts';

/** 1 to 255 are reserved (RFC 4303 §2.1); the default range is that of Linux. */
export const SPI_MIN = 0x100;
export const SPI_MAX = 0x0fff_ffff;
/** The last CPI that is negotiated, RFC 3173 §3.3. */
export const CPI_MAX = 0xefff;
const SPI_TRIES = 64;
/** SAs that one policy may ask for (Linux: XFRM_MAX_DEPTH, 6). */
export const MOST_TEMPLATES = 4;
const NOTHING: VerbResult = {};

type Verb = (message: SadbMessage, now: Instant) => VerbResult;

export interface VerbsOptions {
  readonly random: RandomBytes;
  readonly dialect?: Dialect;
}

/** What the PF_KEY server calls. Requests are refused by SadbError, before anything has changed. */
export class EngineVerbs implements Verbs {
  readonly #engine: Datapath;
  readonly #random: RandomBytes;
  readonly #strict: boolean;
  #nextReqid = IPSEC_MANUAL_REQID_MAX + 1;

  constructor(engine: Datapath, { random, dialect = 'tanuki' }: VerbsOptions) {
    this.#engine = engine;
    this.#random = random;
    this.#strict = dialect === 'linux-strict';
  }

  readonly #verbs: { readonly [Type in SadbType]?: Verb } = {
    GETSPI: (message, now) => this.#getspi(message, now),
    UPDATE: (message, now) => this.#update(message, now),
    ADD: (message, now) => this.#add(message, now),
    DELETE: (message) => this.#delete(message),
    GET: (message) => this.#get(message),
    ACQUIRE: (message, now) => this.#acquire(message, now),
    FLUSH: (message) => this.#flush(message),
    DUMP: (message) => this.#dump(message),
    X_SPDADD: (message, now) => this.#spdAdd(message, now, false),
    X_SPDSETIDX: (message, now) => this.#spdAdd(message, now, false),
    X_SPDUPDATE: (message, now) => this.#spdAdd(message, now, true),
    X_SPDDELETE: (message) => this.#spdDelete(message, this.#bySelector(message)),
    X_SPDDELETE2: (message) => this.#spdDelete(message, this.#byId(message)),
    X_SPDGET: (message) => ({ reply: [answer(message, policyMessage(message.type, this.#byId(message)))] }),
    X_SPDDUMP: (message) => this.#spdDump(message),
    X_SPDFLUSH: (message) => this.#spdFlush(message),
    X_MIGRATE: (message, now) => migrate(this.#engine, message, now, this.#strict),
  };

  handle(message: SadbMessage, now: Instant): VerbResult {
    const verb = this.#verbs[message.type];
    return verb === undefined ? { error: ERRNO.EOPNOTSUPP } : verb(message, now);
  }

  /** What REGISTER lists. Key lengths are those of KEY extensions: the salt counts. */
  supported(): { readonly auth: readonly SadbAlgorithm[]; readonly encrypt: readonly SadbAlgorithm[] } {
    const encrypt = ENCR_NAMES.filter((name) => this.#hasEncr(name)).map((name) => {
      const { sadb: id, iv: ivBytes, bits, salt }: EncrRow = ENCR[name];
      const lengths = bits.length === 0 ? [0] : bits.map((n) => n + 8 * salt);
      return { id, ivBytes, minBits: Math.min(...lengths), maxBits: Math.max(...lengths) };
    });
    const auth = INTEG_NAMES.filter((name) => this.#engine.supports({ encr: 'null_enc', keyBits: 0, integ: name })).map(
      (name) => {
        const { sadb: id, keyBytes } = INTEG[name];
        return { id, ivBytes: 0, minBits: 8 * keyBytes, maxBits: 8 * keyBytes };
      },
    );
    return { auth, encrypt };
  }

  /** Those that are asked already take a second ACQUIRE of the same seq for what it is. */
  registered(): void {
    this.#engine.repeatAcquires();
  }

  #hasEncr(encr: keyof typeof ENCR): boolean {
    const row: EncrRow = ENCR[encr];
    return this.#engine.supports({
      encr,
      keyBits: row.keyLength ? row.defaultBits : 0,
      integ: row.icv > 0 ? 'none' : 'hmac_sha2_256',
    });
  }

  /** §3.1.1. An SPI that no SA here has, whatever its destination: what arrives is then found by its SPI alone. */
  #getspi(message: SadbMessage, now: Instant): VerbResult {
    const protocol = this.#strict ? protocolOf(message.satype)! : this.#builtProtocol(message);
    const { min = SPI_MIN, max = protocol === 'ipcomp' ? CPI_MAX : SPI_MAX } = message.spirange ?? {};
    const spi = this.#freeSpi(this.#strict ? min : Math.max(SPI_MIN, min), max);
    if (spi === undefined) throw refusal(`no SPI from ${min} to ${max} is free`, ERRNO.ENOENT);
    const { sa2, source, destination, seq } = message;
    const lifetime = this.#engine.core.larvalLifetime;
    const larval: Larval = {
      spi,
      protocol,
      mode: modeOf(sa2?.mode ?? IPSEC_MODE.ANY),
      source: source!.address,
      destination: destination!.address,
      reqid: sa2?.reqid ?? 0,
      seq,
      born: { mono: now.mono, wall: now.wall },
      expiresAt: now.mono + lifetime,
    };
    this.#engine.addLarval(larval);
    return { reply: [answer(message, larvalMessage('GETSPI', larval))] };
  }

  #freeSpi(min: number, max: number): number | undefined {
    if (min > max) return undefined;
    const size = max - min + 1;
    const { sad } = this.#engine.core;
    for (let i = 0; i < SPI_TRIES; i++) {
      const random = new DataView(this.#random(4).slice().buffer).getUint32(0);
      const spi = min + (random % size);
      if (!sad.hasSpi(spi)) return spi;
    }
    // A crowded or narrow range: look through it from the front, as far as there can be SAs in it.
    const last = Math.min(max, min + sad.size + [...sad.larvals].length);
    for (let spi = min; spi <= last; spi++) if (!sad.hasSpi(spi)) return spi;
    return undefined;
  }

  /**
   * §3.1.2: completes what GETSPI began; or gives a running SA other lifetimes, ports, selectors and (extensions 0x8005, 0x8006) addresses. Without
   * keys it says nothing of all that and only holds an SA or lets it go (`saStateTo`).
   */
  #update(message: SadbMessage, now: Instant): VerbResult {
    if (isStateOnly(message)) return this.#hold(message, now);
    const parameters = this.#parameters(message);
    const { sad } = this.#engine.core;
    const larval = this.#larval(message);
    if (larval !== undefined) {
      const present = this.#presentOf(parameters, larval, now);
      const sa = this.#engine.completeLarval(larval, present, now);
      nameAsAsked(sa, parameters);
      return { broadcast: [answer(message, saMessage('UPDATE', sa))] };
    }
    const sa = sad.find(parameters.spi, parameters.protocol, parameters.destination) ?? this.#sa(message);
    const present = this.#presentOf(parameters, sa.parameters, now);
    return { broadcast: [answer(message, saMessage('UPDATE', this.#change(sa, present, message, now)))] };
  }

  #hold(message: SadbMessage, now: Instant): VerbResult {
    const sa = this.#sa(message);
    if (sa.direction === 'inbound') throw refusal('only what goes out can be put on hold, and this SA is inbound');
    const { state } = message.sa!;
    if (state === SADB_SASTATE.LARVAL) this.#engine.core.hold(sa, now);
    else this.#engine.core.letGo(sa);
    const told = saMessage('UPDATE', sa, false);
    return { broadcast: [answer(message, { ...told, sa: { ...told.sa!, state } })] };
  }

  /** Between the present ends, where the client has not heard of a movement: those of what it names by a former destination, or those that all of the pair have. */
  #presentOf(parameters: SaParameters, named: Ends, now: Instant): SaParameters {
    if (!named.destination.equals(parameters.destination)) return movedTo(parameters, named);
    return this.#strict ? parameters : this.#engine.core.movements.follow(parameters, now);
  }

  #change(sa: Sa, parameters: SaParameters, { newSource, newDestination }: SadbMessage, now: Instant): Sa {
    if (!sameKey(parameters.encrKey, sa.parameters.encrKey) || !sameKey(parameters.integKey, sa.parameters.integKey)) {
      throw refusal('the keys of a running SA cannot be changed: make another SA');
    }
    const source = newSource?.address ?? parameters.source;
    const destination = newDestination?.address ?? parameters.destination;
    const moved = !destination.equals(sa.parameters.destination);
    if (moved && this.#engine.core.sad.find(sa.spi, parameters.protocol, destination) !== undefined) {
      throw refusal(`there is an SA of this SPI to ${destination} already`, ERRNO.EEXIST);
    }
    const ports = parameters.encapsulation;
    const encapsulation = ports && {
      source: { address: source, port: ports.source.port },
      destination: { address: destination, port: ports.destination.port },
    };
    const changed = this.#engine.replaceSa(sa, { ...parameters, source, destination, encapsulation }, now);
    parameters.encrKey.wipe();
    parameters.integKey?.wipe();
    return changed;
  }

  /** §3.1.3. Its first packet tells its direction. */
  #add(message: SadbMessage, now: Instant): VerbResult {
    const asked = this.#parameters(message);
    const parameters = this.#presentOf(asked, asked, now);
    const { spi, protocol, destination } = parameters;
    const { sad } = this.#engine.core;
    if ((sad.find(spi, protocol, destination) ?? sad.larval(spi, protocol, destination)) !== undefined) {
      throw refusal('there is such an SA already', ERRNO.EEXIST);
    }
    const sa = this.#engine.addSa(parameters, now);
    nameAsAsked(sa, asked);
    const { sequenceState } = message;
    if (sequenceState !== undefined) {
      sa.sequence = Math.max(0, sequenceState.outbound - 1);
      sa.window.accept(sequenceState.inbound);
    }
    return { broadcast: [answer(message, saMessage('ADD', sa))] };
  }

  #builtProtocol({ satype }: SadbMessage): SaProtocol {
    const protocol = protocolOf(satype);
    if (protocol === 'ipcomp' && !this.#engine.core.ipcomp.isBuilt) throw refusal('this host has no DEFLATE', ERRNO.ENOSYS);
    if (protocol !== undefined) return protocol;
    throw refusal(`this datapath has ESP (3), AH (2) and IPComp (9), not SAs of type ${satype}`, ERRNO.ENOSYS);
  }

  #parameters(message: SadbMessage): SaParameters {
    const protocol = this.#builtProtocol(message);
    const parameters = addToSa(message);
    if (protocol === 'ipcomp') {
      if (parameters.spi > 0xffff) throw refusal(`a CPI has 16 bits (RFC 3173 §3.3), and ${parameters.spi} has more`);
      return parameters;
    }
    if (protocol === 'ah' && parameters.encapsulation !== undefined)
      throw refusal('AH covers the addresses that a NAT changes: it cannot be in UDP (RFC 3948 §1); use ESP');
    if (!this.#engine.supports(parameters.suite)) throw refusal('the cipher in use does not have these algorithms', ERRNO.ENOSYS);
    return parameters;
  }

  /** §3.1.4. */
  #delete(message: SadbMessage): VerbResult {
    const larval = this.#larval(message);
    if (larval !== undefined) {
      this.#engine.removeLarval(larval);
      return { broadcast: [answer(message, larvalMessage('DELETE', larval))] };
    }
    const sa = this.#sa(message);
    this.#engine.removeSa(sa);
    return { broadcast: [answer(message, saMessage('DELETE', sa, false))] };
  }

  /** §3.1.5. */
  #get(message: SadbMessage): VerbResult {
    const larval = this.#larval(message);
    return {
      reply: [answer(message, larval === undefined ? saMessage('GET', this.#sa(message)) : larvalMessage('GET', larval))],
    };
  }

  #larval({ sa, satype, destination }: SadbMessage): Larval | undefined {
    const protocol = protocolOf(satype);
    if (protocol === undefined) return undefined;
    const { sad } = this.#engine.core;
    const larval = sad.larval(sa!.spi, protocol, destination!.address);
    return larval === undefined && !this.#strict ? sad.larvalFormerly(sa!.spi, protocol, destination!.address) : larval;
  }

  #sa({ sa, satype, destination }: SadbMessage): Sa {
    const protocol = protocolOf(satype);
    const { sad } = this.#engine.core;
    const found =
      protocol &&
      (sad.find(sa!.spi, protocol, destination!.address) ??
        (this.#strict ? undefined : sad.formerly(sa!.spi, protocol, destination!.address)));
    if (found === undefined) throw refusal('there is no such SA', ERRNO.ESRCH);
    return found;
  }

  /**
   * §3.1.6, downwards: the key daemon will not make the SA. There is no answer. Linux keeps silent for the rest of the larval's life. What waits because
   * its SA is on hold goes through that again.
   */
  #acquire({ seq, errno }: SadbMessage, now: Instant): VerbResult {
    const { acquires } = this.#engine.core;
    const pending = errno === 0 ? undefined : acquires.bySeq(seq);
    if (pending === undefined) return NOTHING;
    const { sad } = this.#engine.core;
    const held = sad.heldOutbound(pending.template);
    if (held === undefined) acquires.fail(pending, now, this.#strict ? Number.POSITIVE_INFINITY : undefined);
    for (let sa = held; sa !== undefined; sa = sad.heldOutbound(pending.template)) this.#engine.core.letGo(sa);
    return NOTHING;
  }

  /** §3.1.9: the sender gets an echo, and everybody word of it where something was deleted. */
  #flush(message: SadbMessage): VerbResult {
    const { core } = this.#engine;
    const sas = [...core.sad.all].filter((sa) => isOf(message, sa.parameters.protocol));
    const larvals = [...core.sad.larvals].filter((larval) => isOf(message, larval.protocol));
    this.#engine.removeAll(sas, larvals);
    return echo(message, sas.length + larvals.length > 0);
  }

  /** §3.1.10. */
  #dump(message: SadbMessage): VerbResult {
    const { core } = this.#engine;
    const larvals = [...core.sad.larvals, ...core.acquires.pending.map(larvalOf)];
    return series(message, [
      ...larvals.filter((larval) => isOf(message, larval.protocol)).map((larval) => larvalMessage('DUMP', larval)),
      ...[...core.sad.all].filter((sa) => isOf(message, sa.parameters.protocol)).map((sa) => saMessage('DUMP', sa)),
    ]);
  }

  #spdAdd(message: SadbMessage, now: Instant, replace: boolean): VerbResult {
    const policy = spdToPolicy(message);
    if (policy.templates.length > MOST_TEMPLATES)
      throw refusal(`a policy asks for ${MOST_TEMPLATES} SAs at most, not ${policy.templates.length}`);
    if (policy.templates.length > 1 && policy.templates.some(({ mode }) => mode === 'beet'))
      throw refusal('BEET mode is for one SA of ESP alone: no other goes inside of it or around it');
    if (!this.#strict && isAroundAh(policy))
      throw refusal(
        'ESP in transport mode cannot go around AH, which covers the header before it: name ESP first (RFC 2401 §4.3)',
      );
    if (!this.#strict && policy.templates.at(-1)?.protocol === 'ipcomp')
      throw refusal('IPComp protects nothing: name ESP or AH behind it (RFC 3173 §2.1: it is applied first)');
    const existing = this.#engine.core.spd.bySelector(policy.direction, policy.selector);
    if (existing !== undefined && !replace) throw refusal('there is such a policy already', ERRNO.EEXIST);
    const kmAddress = this.#strict ? undefined : message.kmAddress;
    const entry = this.#engine.addPolicy(this.#withReqids(policy), now, policySeconds(message), existing, kmAddress);
    const type = message.type === 'X_SPDSETIDX' && this.#strict ? 'X_SPDADD' : message.type;
    return { broadcast: [answer(message, policyMessage(type, entry))] };
  }

  /** A unique template without a reqid gets one; level "default" is "require"; a reqid makes "require" unique. */
  #withReqids(policy: Policy): Policy {
    const templates = policy.templates.map((template): Template => {
      const level = template.level === 'default' ? 'require' : template.level;
      const missing = template.reqid === 0 || (this.#strict && template.reqid > IPSEC_MANUAL_REQID_MAX);
      if (level === 'unique' && missing) return { ...template, level, reqid: this.#nextReqid++ };
      return { ...template, level: level === 'require' && template.reqid !== 0 ? 'unique' : level };
    });
    return { ...policy, templates };
  }

  #bySelector(message: SadbMessage): SpdEntry {
    const entry = this.#engine.core.spd.bySelector(directionOf(message.policy!.direction), selectorOf(message));
    if (entry === undefined) throw refusal('there is no such policy', ERRNO.ENOENT);
    return entry;
  }

  #byId({ policy }: SadbMessage): SpdEntry {
    const entry = this.#engine.core.spd.byId(policy!.id);
    if (entry === undefined) throw refusal(`there is no policy ${policy!.id}`, ERRNO.ENOENT);
    return entry;
  }

  #spdDelete(message: SadbMessage, entry: SpdEntry): VerbResult {
    this.#engine.removePolicy(entry);
    return { broadcast: [answer(message, policyMessage(message.type, entry))] };
  }

  #spdDump(message: SadbMessage): VerbResult {
    return series(
      message,
      this.#engine.core.spd.entries().map((entry) => policyMessage('X_SPDDUMP', entry)),
    );
  }

  #spdFlush(message: SadbMessage): VerbResult {
    const entries = this.#engine.core.spd.entries();
    this.#engine.removePolicies(entries);
    return echo(message, entries.length > 0);
  }
}

/** With the request's seq and pid, by which clients know their answer. */
export function answer({ seq, pid }: SadbMessage, message: SadbMessage): SadbMessage {
  return { ...message, seq, pid };
}

export function echo({ type, satype, seq, pid }: SadbMessage, changed: boolean): VerbResult {
  const header = sadb(type, { satype, seq, pid });
  return changed ? { reply: [header], broadcast: [header] } : { reply: [header] };
}

/** A dump, as Linux numbers it: 1, 2, 3, …, and 0 for the last. An empty one is ENOENT. */
export function series({ pid }: SadbMessage, messages: readonly SadbMessage[]): VerbResult {
  if (messages.length === 0) return { error: ERRNO.ENOENT };
  return { reply: messages.map((message, i) => ({ ...message, seq: i === messages.length - 1 ? 0 : i + 1, pid })) };
}

/** Who made it between former ends finds it under that name. */
function nameAsAsked(sa: Sa, asked: Ends): void {
  if (sameEnds(sa.parameters, asked)) return;
  sa.rememberEnds({ source: asked.source, destination: asked.destination }, 0);
}

export function isOf({ satype }: SadbMessage, protocol: SaProtocol): boolean {
  return satype === SADB_SATYPE.UNSPEC || protocolOf(satype) === protocol;
}

/** Whether a packet would meet ESP in transport mode right after AH. */
function isAroundAh({ templates }: Policy): boolean {
  return templates.some(
    ({ mode, protocol }, i) => i > 0 && mode !== 'tunnel' && protocol !== 'ah' && templates[i - 1]!.protocol === 'ah',
  );
}

function sameKey(a: Secret | undefined, b: Secret | undefined): boolean {
  return a === undefined || b === undefined ? a === b : equal(a.reveal(), b.reveal());
}
