/** PF_KEY's verbs on the kernel's SAD (RFC 2367 §3.1), one function a verb, and what it tells unasked. The kernel decides; what it refuses is refused with its reason. */

import { ENCR, ENCR_NAMES, type EncrRow, INTEG, INTEG_NAMES } from '../crypto/transforms.ts';
import { larvalMessage } from '../datapath/announce.ts';
import { movedTo, RecentMovements } from '../datapath/recent-movements.ts';
import type { Larval } from '../datapath/sa.ts';
import { answer, CPI_MAX, echo, isOf, SPI_MAX, SPI_MIN, series } from '../datapath/verbs.ts';
import { SystemError } from '../errors.ts';
import { type Ends, type Policy, sameEnds } from '../ipsec/policy.ts';
import type { SaId, SaParameters, SaProtocol } from '../ipsec/sa.ts';
import { earliest, type Instant } from '../machine.ts';
import { addToSa, modeOf, protocolOf, refusal } from '../pfkey/convert.ts';
import type { SadbAlgorithm, SadbMessage } from '../pfkey/message.ts';
import { ERRNO, IPSEC_MODE, SADB_SASTATE } from '../pfkey/registry.ts';
import { isStateOnly } from '../pfkey/rules.ts';
import type { VerbResult, Verbs } from '../pfkey/server.ts';
import type { XfrmNews } from '../runtime/netlink/xfrm.ts';
import { hasKernelName } from '../runtime/netlink/xfrm-algorithms.ts';
import type { XfrmAcquire } from '../runtime/netlink/xfrm-policy.ts';
import type { XfrmMapping, XfrmSaInfo } from '../runtime/netlink/xfrm-sa.ts';
import { Acquires } from './acquires.ts';
import { Holding } from './holding.ts';
import { asked, type Kernel, unlessGone } from './kernel.ts';
import { migrate } from './migrate.ts';
import { PolicyTable } from './policy-table.ts';
import {
  expireMessage,
  type KernelSa,
  kernelForm,
  larvalExpired,
  mappingMessage,
  nameOf,
  SaTable,
  saMessage,
} from './sa-table.ts';
import { spdVerbs, type VerbTable } from './spd-verbs.ts';

const LARVAL_MS = 30_000;
const MAPPING_INTERVAL_MS = 1000;
const NOTHING: VerbResult = {};

/** Of a run that crashed, in the kernel. */
export interface Leftovers {
  readonly sas: readonly XfrmSaInfo[];
  readonly policies: readonly Policy[];
}

/** What the PF_KEY server calls. Requests are refused by SadbError. What the kernel tells unasked comes in by `heard` and goes out by `drain`. */
export class XfrmVerbs implements Verbs {
  readonly kernel: Kernel;
  readonly sas = new SaTable();
  readonly policies: PolicyTable;
  readonly movements = new RecentMovements(LARVAL_MS);
  /** What SAs have carried that are gone. */
  readonly gone = { inbound: { packets: 0, bytes: 0 }, outbound: { packets: 0, bytes: 0 } };
  readonly acquires = new Acquires();
  readonly #holding: Holding;
  readonly #spdVerbs: VerbTable;
  #told: SadbMessage[] = [];

  constructor(kernel: Kernel) {
    this.kernel = kernel;
    this.#holding = new Holding(kernel);
    this.policies = new PolicyTable(kernel, () => this.sas.all);
    this.#spdVerbs = spdVerbs(this.policies, this.movements);
  }

  readonly #verbs: VerbTable = {
    GETSPI: (message, now) => this.#getspi(message, now),
    UPDATE: (message, now) => this.#update(message, now),
    ADD: (message, now) => this.#add(message, now),
    DELETE: (message) => this.#delete(message),
    GET: (message) => this.#get(message),
    ACQUIRE: (message) => this.#acquire(message),
    FLUSH: (message) => this.#flush(message),
    DUMP: (message) => this.#dump(message),
    X_MIGRATE: (message, now) => migrate(this, message, now),
  };

  handle(message: SadbMessage, now: Instant): VerbResult {
    const verb = this.#verbs[message.type] ?? this.#spdVerbs[message.type];
    return verb === undefined ? { error: ERRNO.EOPNOTSUPP } : verb(message, now);
  }

  /** What REGISTER lists: those of our table that the kernel has names for. Whether it was built with them shows when an SA is added. */
  supported(): { readonly auth: readonly SadbAlgorithm[]; readonly encrypt: readonly SadbAlgorithm[] } {
    const encrypt = ENCR_NAMES.filter((encr) => hasKernelName({ encr, keyBits: 0, integ: 'none' })).map((name) => {
      const { sadb: id, iv: ivBytes, bits, salt }: EncrRow = ENCR[name];
      const lengths = bits.length === 0 ? [0] : bits.map((n) => n + 8 * salt);
      return { id, ivBytes, minBits: Math.min(...lengths), maxBits: Math.max(...lengths) };
    });
    const auth = INTEG_NAMES.filter((integ) => hasKernelName({ encr: 'null_enc', keyBits: 0, integ })).map((name) => {
      const { sadb: id, keyBytes } = INTEG[name];
      return { id, ivBytes: 0, minBits: 8 * keyBytes, maxBits: 8 * keyBytes };
    });
    return { auth, encrypt };
  }

  /** The kernel asks once: what is open is told again. */
  registered(): void {
    this.#told.push(...this.acquires.messages);
  }

  /** What the clients are to hear. */
  drain(): readonly SadbMessage[] {
    const told = this.#told;
    this.#told = [];
    return told;
  }

  /** What the kernel told. */
  heard(news: readonly XfrmNews[], now: Instant): void {
    for (const one of news) {
      if (one.kind === 'acquire') this.#acquired(one.acquire);
      else if (one.kind === 'expire') this.#expired(one.sa, one.hard);
      else if (one.kind === 'mapping') this.#mapped(one.mapping, now);
      else if (one.hard) this.#policyExpired(one.policy.id);
    }
  }

  /** The kernel had more to tell than there was room for: what is gone by now has expired. */
  resynchronise(): void {
    const there = new Set(this.kernel.sas().map(nameOf));
    for (const sa of this.sas.all) if (!there.has(nameOf(sa.parameters)) && !this.#holding.has(sa)) this.#gone(sa, undefined);
  }

  /** Takes over the SAs and policies of a run that crashed: they go on carrying traffic, and a key daemon finds its own by DUMP. */
  adopt(leftovers: Leftovers, now: Instant): void {
    this.policies.adopt(leftovers.policies);
    for (const info of [...leftovers.sas].sort((a, b) => a.current.added - b.current.added))
      if (!this.sas.adopt(info, now)) unlessGone(() => this.kernel.deleteSa(info));
  }

  /** What of the predecessor's nobody wants goes: policies that were not put again, and SAs that no policy asks for. */
  sweep(): void {
    this.policies.sweep();
    const wanted = new Set(this.policies.all.flatMap(({ policy }) => policy.templates.map(({ reqid }) => reqid)));
    for (const sa of this.sas.all) if (sa.adopted && !wanted.has(sa.parameters.reqid)) this.#removeSa(sa);
  }

  /** SPIs that nobody completed. */
  tick(now: Instant): void {
    for (const larval of this.sas.takeDueLarvals(now.mono)) {
      unlessGone(() => this.kernel.deleteSa(larval));
      this.#told.push(larvalExpired(larval));
    }
    for (const sa of this.#holding.due(now.mono)) this.#letGo(sa);
  }

  wakeAt(): number | undefined {
    return earliest(this.sas.nextLarval, this.#holding.next);
  }

  /** Gives an SA the ends and ports of `next`. What the kernel lost on the way has expired. */
  moveSa(sa: KernelSa, next: SaParameters): void {
    this.#letGo(sa);
    try {
      asked(() => this.kernel.moveSa(sa.parameters, next, next.encapsulation));
      this.sas.change(sa, next);
    } catch (error) {
      if (this.kernel.sa(sa.parameters) === undefined) this.#gone(sa, undefined);
      throw error;
    }
  }

  #acquired(acquire: XfrmAcquire): void {
    const entry = this.policies.byId(acquire.policy.id);
    if (acquire.policy.ours && entry !== undefined) this.#told.push(this.acquires.add(acquire, entry));
  }

  #expired(info: XfrmSaInfo, hard: boolean): void {
    // An SPI of ours is kept by our own clock; one of 0 is an ACQUIRE that nobody answered.
    if (info.spi === 0) return this.acquires.expired(info);
    const sa = info.ours ? this.sas.find(info) : undefined;
    if (sa === undefined) return;
    if (hard) return this.#gone(sa, info);
    sa.state = 'dying';
    this.#told.push(expireMessage(sa, info, false));
  }

  #gone(sa: KernelSa, info: XfrmSaInfo | undefined): void {
    this.#count(sa, info);
    this.sas.remove(sa);
    this.#told.push(expireMessage(sa, info, true));
    this.policies.follow(sa.parameters.reqid);
  }

  #mapped(mapping: XfrmMapping, now: Instant): void {
    const sa = this.sas.find(mapping);
    if (sa === undefined || now.mono - sa.mappingToldAt < MAPPING_INTERVAL_MS) return;
    sa.mappingToldAt = now.mono;
    this.#told.push(mappingMessage(mapping));
  }

  #policyExpired(id: number): void {
    const entry = this.policies.byId(id);
    if (entry !== undefined) this.policies.forget(entry);
  }

  /** §3.1.1. */
  #getspi(message: SadbMessage, now: Instant): VerbResult {
    const protocol = builtProtocol(message);
    const { min = SPI_MIN, max = protocol === 'ipcomp' ? CPI_MAX : SPI_MAX } = message.spirange ?? {};
    const { sa2, seq } = message;
    const sa = {
      protocol,
      mode: modeOf(sa2?.mode ?? IPSEC_MODE.ANY),
      reqid: sa2?.reqid ?? 0,
      source: message.source!.address,
      destination: message.destination!.address,
    };
    const spi = asked(() => this.kernel.allocateSpi({ ...sa, seq: 0 }, { min: Math.max(SPI_MIN, min), max }));
    const larval: Larval = { ...sa, spi, seq, born: { mono: now.mono, wall: now.wall }, expiresAt: now.mono + LARVAL_MS };
    this.sas.addLarval(larval);
    return { reply: [answer(message, larvalMessage('GETSPI', larval))] };
  }

  /** §3.1.2: completes what GETSPI began; or gives a running SA other lifetimes, ports and addresses. */
  #update(message: SadbMessage, now: Instant): VerbResult {
    if (isStateOnly(message)) return this.#hold(message, now);
    const parameters = this.#parameters(message);
    const larval = this.#larval(message);
    if (larval === undefined) return this.#change(message, parameters, now);
    const present = sameEnds(parameters, larval) ? this.movements.follow(parameters, now) : movedTo(parameters, endsOf(larval));
    const form = kernelForm(present, 'inbound');
    try {
      asked(() => this.#complete(larval, form));
    } finally {
      wipe(parameters);
    }
    this.sas.removeLarval(larval);
    return { broadcast: [answer(message, this.#added('UPDATE', present, 'inbound', parameters, now))] };
  }

  /** An UPDATE of the state alone (pfkey/rules.ts). */
  #hold(message: SadbMessage, now: Instant): VerbResult {
    const sa = this.#sa(message);
    if (sa.direction === 'inbound') throw refusal('only what goes out can be put on hold, and this SA is inbound');
    const { state } = message.sa!;
    if (state === SADB_SASTATE.LARVAL) asked(() => this.#holding.hold(sa, now));
    else this.#letGo(sa);
    return { broadcast: [answer(message, saMessage('UPDATE', sa, undefined, state))] };
  }

  /** What the kernel does not take back has expired. */
  #letGo(sa: KernelSa): void {
    try {
      asked(() => this.#holding.letGo(sa));
    } catch (error) {
      this.#gone(sa, undefined);
      throw error;
    }
  }

  /** The kernel's patience with an SPI may be shorter than ours (`net.core.xfrm_acq_expires`), and than its search for an algorithm; and the SPI may have moved. */
  #complete(larval: Larval, form: ReturnType<typeof kernelForm>): void {
    try {
      if (larval.destination.equals(form.destination)) return this.kernel.updateSa(form);
    } catch (error) {
      if (!(error instanceof SystemError) || error.code !== 'ESRCH') throw error;
    }
    this.kernel.addSa(form);
  }

  #change(message: SadbMessage, parameters: SaParameters, now: Instant): VerbResult {
    const sa = this.#sa(message);
    this.#letGo(sa);
    const { newSource, newDestination } = message;
    const present = this.movements.follow(movedTo(parameters, endsOf(sa.parameters)), now);
    const to: Ends = {
      source: newSource?.address ?? present.source,
      destination: newDestination?.address ?? present.destination,
    };
    const next = movedTo(present, to);
    const { kernel } = this;
    try {
      asked(() => {
        if (!kernel.hasKeys({ ...next, destination: sa.parameters.destination }))
          throw refusal('the keys of a running SA cannot be changed: make another SA');
        // The kernel changes ports in place, and neither addresses nor whether there is UDP.
        const inPlace =
          sameEnds(to, sa.parameters) && (next.encapsulation === undefined) === (sa.parameters.encapsulation === undefined);
        if (!inPlace) this.moveSa(sa, next);
        kernel.updateSa(kernelForm(next, sa.direction));
      });
    } finally {
      wipe(parameters);
    }
    this.sas.change(sa, next);
    sa.state = 'mature';
    this.policies.follow(next.reqid);
    return { broadcast: [answer(message, saMessage('UPDATE', sa, kernel.sa(next)))] };
  }

  /** §3.1.3. */
  #add(message: SadbMessage, now: Instant): VerbResult {
    const parameters = this.#parameters(message);
    const present = this.movements.follow(parameters, now);
    try {
      asked(() => this.kernel.addSa(kernelForm(present)));
    } finally {
      wipe(parameters);
    }
    return { broadcast: [answer(message, this.#added('ADD', present, undefined, parameters, now))] };
  }

  #added(
    type: 'ADD' | 'UPDATE',
    present: SaParameters,
    direction: KernelSa['direction'],
    wanted: Ends,
    now: Instant,
  ): SadbMessage {
    const sa = this.sas.add(present, direction, now);
    if (!wanted.destination.equals(present.destination)) sa.former = wanted.destination;
    if (direction === undefined) this.acquires.answered(present);
    this.policies.follow(present.reqid);
    return saMessage(type, sa, undefined);
  }

  #parameters(message: SadbMessage): SaParameters {
    const protocol = builtProtocol(message);
    const parameters = addToSa(message);
    if (protocol === 'ipcomp' && parameters.spi > 0xffff)
      throw refusal(`a CPI has 16 bits (RFC 3173 §3.3), and ${parameters.spi} has more`);
    if (protocol === 'ah' && parameters.encapsulation !== undefined)
      throw refusal('AH covers the addresses that a NAT changes: it cannot be in UDP (RFC 3948 §1); use ESP');
    return parameters;
  }

  /** §3.1.4. */
  #delete(message: SadbMessage): VerbResult {
    const larval = this.#larval(message);
    if (larval !== undefined) {
      asked(() => unlessGone(() => this.kernel.deleteSa(larval)));
      this.sas.removeLarval(larval);
      return { broadcast: [answer(message, larvalMessage('DELETE', larval))] };
    }
    const sa = this.#sa(message);
    const info = this.#removeSa(sa);
    return { broadcast: [answer(message, saMessage('DELETE', sa, info))] };
  }

  /** Returns what the kernel said of it at its end. */
  #removeSa(sa: KernelSa): XfrmSaInfo | undefined {
    const info = asked(() => this.kernel.sa(sa.parameters));
    this.#holding.forget(sa);
    asked(() => unlessGone(() => this.kernel.deleteSa(sa.parameters)));
    this.#count(sa, info);
    this.sas.remove(sa);
    this.policies.follow(sa.parameters.reqid);
    return info;
  }

  #count({ direction }: KernelSa, info: XfrmSaInfo | undefined): void {
    const total = this.gone[direction ?? 'outbound'];
    total.packets += info?.current.packets ?? 0;
    total.bytes += info?.current.bytes ?? 0;
  }

  /** §3.1.5. */
  #get(message: SadbMessage): VerbResult {
    const larval = this.#larval(message);
    if (larval !== undefined) return { reply: [answer(message, larvalMessage('GET', larval))] };
    const sa = this.#sa(message);
    const info = asked(() => this.kernel.sa(sa.parameters));
    if (info === undefined && !this.#holding.has(sa)) throw refusal('the kernel has no such SA any more', ERRNO.ESRCH);
    return { reply: [answer(message, saMessage('GET', sa, info))] };
  }

  #idOf({ sa, satype, destination }: SadbMessage): SaId | undefined {
    const protocol = protocolOf(satype);
    return protocol && { spi: sa!.spi, protocol, destination: destination!.address };
  }

  #larval(message: SadbMessage): Larval | undefined {
    const id = this.#idOf(message);
    if (id === undefined) return undefined;
    const formerly = ({ spi, protocol, former }: Larval) =>
      spi === id.spi && protocol === id.protocol && former?.equals(id.destination);
    return this.sas.larval(id) ?? this.sas.larvals.find(formerly);
  }

  #sa(message: SadbMessage): KernelSa {
    const id = this.#idOf(message);
    const found = id && this.sas.find(id);
    if (found === undefined) throw refusal('there is no such SA', ERRNO.ESRCH);
    return found;
  }

  /** §3.1.6, downwards: the key daemon will not make the SA. The kernel keeps silent for the rest of its own time. */
  #acquire({ seq, errno }: SadbMessage): VerbResult {
    if (errno !== 0) this.acquires.refused(seq);
    return NOTHING;
  }

  /** §3.1.9. */
  #flush(message: SadbMessage): VerbResult {
    const larvals = this.sas.larvals.filter(({ protocol }) => isOf(message, protocol));
    const sas = this.sas.all.filter(({ parameters }) => isOf(message, parameters.protocol));
    for (const larval of larvals) {
      asked(() => unlessGone(() => this.kernel.deleteSa(larval)));
      this.sas.removeLarval(larval);
    }
    for (const sa of sas) this.#removeSa(sa);
    return echo(message, sas.length + larvals.length > 0);
  }

  /** §3.1.10. What somebody else took out of the kernel is not shown. */
  #dump(message: SadbMessage): VerbResult {
    const infos = new Map(asked(() => this.kernel.sas()).map((info) => [nameOf(info), info]));
    const larvals = this.sas.larvals.filter(({ protocol }) => isOf(message, protocol));
    const sas = this.sas.all.filter(({ parameters }) => isOf(message, parameters.protocol));
    return series(message, [
      ...larvals.map((larval) => larvalMessage('DUMP', larval)),
      ...sas.flatMap((sa) => {
        const info = infos.get(nameOf(sa.parameters));
        return info === undefined && !this.#holding.has(sa) ? [] : [saMessage('DUMP', sa, info)];
      }),
    ]);
  }
}

function builtProtocol({ satype }: SadbMessage): SaProtocol {
  const protocol = protocolOf(satype);
  if (protocol !== undefined) return protocol;
  throw refusal(`the kernel is driven for ESP (3), AH (2) and IPComp (9), not for SAs of type ${satype}`, ERRNO.ENOSYS);
}

/** The ends and nothing else. */
function endsOf({ source, destination }: Ends): Ends {
  return { source, destination };
}

function wipe({ encrKey, integKey }: SaParameters): void {
  encrKey.wipe();
  integKey?.wipe();
}
