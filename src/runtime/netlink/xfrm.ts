/** The kernel's SAD and SPD: list, set, delete, and hear of what happens to them (NETLINK_XFRM, linux/xfrm.h). Every request is acknowledged. */

import { SystemError, WireError } from '../../errors.ts';
import { type Ends, type KmAddress, type Policy, showPolicySelector } from '../../ipsec/policy.ts';
import type { SaId, SaParameters } from '../../ipsec/sa.ts';
import type { Libc } from '../native/libc.ts';
import { NetlinkSocket } from '../native/netlink.ts';
import { type NetlinkMessage, NLM_F_CREATE, NLM_F_EXCL } from './codec.ts';
import {
  decodeAcquire,
  decodePolicy,
  decodePolicyExpire,
  encodeMigrate,
  encodePolicy,
  encodePolicyId,
  type XfrmAcquire,
  type XfrmMovement,
  type XfrmPolicyInfo,
} from './xfrm-policy.ts';
import {
  decodeExpire,
  decodeMapping,
  decodeSa,
  encodeAllocSpi,
  encodeMoved,
  encodeSa,
  encodeSaId,
  hasAlgorithmsOf,
  type XfrmMapping,
  type XfrmSa,
  type XfrmSaInfo,
} from './xfrm-sa.ts';
import { NETLINK_XFRM, XFRM_MSG, XFRMNLGRP } from './xfrm-structs.ts';

const NONE = new Uint8Array(0);
/** What a kernel answers that was built without ESP, AH, the address family, or the algorithm. */
const NOT_BUILT = ['EPROTONOSUPPORT', 'EAFNOSUPPORT', 'ENOPROTOOPT', 'ENOSYS'];
/** Of what is gone already. */
const GONE = ['ESRCH', 'ENOENT'];

/**
 * All methods throw SystemError whose `code` is the errno's name: EEXIST (adding), ESRCH and ENOENT (what is not there), EPROTONOSUPPORT and ENOSYS
 * where the kernel lacks ESP, AH or the algorithm, EPERM without CAP_NET_ADMIN.
 */
export class Xfrm {
  readonly #socket: NetlinkSocket;

  constructor(libc: Libc) {
    this.#socket = new NetlinkSocket(libc, NETLINK_XFRM);
  }

  addSa(sa: XfrmSa): void {
    this.#put(XFRM_MSG.NEWSA, encodeSa(sa), `add SA ${showSa(sa)}`);
  }

  /** Completes an SPI of `allocateSpi`, or gives a running SA other limits and ports. Its keys and addresses stay. */
  updateSa(sa: XfrmSa): void {
    this.#put(XFRM_MSG.UPDSA, encodeSa(sa), `update SA ${showSa(sa)}`);
  }

  deleteSa(id: SaId): void {
    this.#socket.request(XFRM_MSG.DELSA, 0, encodeSaId(id), `delete SA ${showSa(id)}`);
  }

  sa(id: SaId): XfrmSaInfo | undefined {
    const body = this.#saBody(id);
    return body && decodeSa(body);
  }

  /** Whether the SA there has these algorithms and keys; false where there is none. */
  hasKeys(sa: SaParameters): boolean {
    const body = this.#saBody(sa);
    if (body === undefined) return false;
    const same = hasAlgorithmsOf(body, sa);
    body.fill(0);
    return same;
  }

  /** Sets an SPI aside. It is the kernel's for `net.core.xfrm_acq_expires` seconds. */
  allocateSpi(sa: Parameters<typeof encodeAllocSpi>[0], range: { readonly min: number; readonly max: number }): number {
    const what = `find an SPI for ${sa.protocol} to ${sa.destination}`;
    const [answer] = this.#put(XFRM_MSG.ALLOCSPI, encodeAllocSpi(sa, range), what);
    if (answer === undefined) throw new SystemError(`${what}: the kernel told none`);
    return decodeSa(answer.body).spi;
  }

  /** Gives an SA other ends; keys, limits and sequence numbers go on. Between the two requests it is not there. */
  moveSa(id: SaId, to: Ends, encapsulation: SaParameters['encapsulation']): void {
    this.putSa(this.takeSa(id, to, encapsulation));
  }

  /** Takes an SA out; returns what makes it go on between the ends of `to`, keys included, by `putSa`. */
  takeSa(id: SaId, to: Ends, encapsulation: SaParameters['encapsulation']): Uint8Array {
    const body = this.#saBody(id);
    if (body === undefined) throw new SystemError(`take out SA ${showSa(id)}: there is no such SA`, 'ESRCH');
    const taken = encodeMoved(body, to, encapsulation);
    body.fill(0);
    this.deleteSa(id);
    return taken;
  }

  /** What `taken` holds is wiped. */
  putSa(taken: Uint8Array): void {
    try {
      this.#put(XFRM_MSG.NEWSA, taken, 'put an SA back that was taken out');
    } finally {
      taken.fill(0);
    }
  }

  /** All SAs of ours, by the mark in their lifetimes; those of modes and protocols that we never make are passed over. */
  sas(): XfrmSaInfo[] {
    return this.#socket
      .dump(XFRM_MSG.GETSA, NONE, 'list SAs')
      .flatMap(({ body }) => readable(() => decodeSa(body)))
      .filter(({ ours }) => ours);
  }

  /** Returns the number that the kernel gave it. */
  addPolicy(
    policy: Policy,
    { seconds = 0, replace = false }: { readonly seconds?: number; readonly replace?: boolean } = {},
  ): number {
    const what = `add ${policy.direction} policy ${showPolicySelector(policy.selector)}`;
    const body = encodePolicy(policy, seconds, true);
    if (replace) this.#put(XFRM_MSG.UPDPOLICY, body, what);
    else this.#put(XFRM_MSG.NEWPOLICY, body, what);
    const found = this.policy(policy);
    if (found === undefined) throw new SystemError(`${what}: it is gone again`, 'ENOENT');
    return found.id;
  }

  policy(policy: Pick<Policy, 'selector' | 'direction'>): XfrmPolicyInfo | undefined {
    const body = unlessGone(() => this.#socket.request(XFRM_MSG.GETPOLICY, 0, encodePolicyId(policy), 'look up a policy'))?.[0]
      ?.body;
    return body && decodePolicy(body);
  }

  deletePolicy(policy: Pick<Policy, 'selector' | 'direction'>): void {
    const what = `delete ${policy.direction} policy ${showPolicySelector(policy.selector)}`;
    this.#socket.request(XFRM_MSG.DELPOLICY, 0, encodePolicyId(policy), what);
  }

  /** All policies of ours. */
  policies(): XfrmPolicyInfo[] {
    return this.#socket
      .dump(XFRM_MSG.GETPOLICY, NONE, 'list policies')
      .flatMap(({ body }) => readable(() => decodePolicy(body)))
      .filter(({ ours }) => ours);
  }

  migrate(policy: Pick<Policy, 'selector' | 'direction'>, movements: readonly XfrmMovement[], kmAddress?: KmAddress): void {
    const what = `migrate ${policy.direction} policy ${showPolicySelector(policy.selector)}`;
    this.#socket.request(XFRM_MSG.MIGRATE, 0, encodeMigrate(policy, movements, kmAddress), what);
  }

  /** Deletes what we have made, in this run or one that crashed, and nothing of others. */
  removeOurs(): void {
    for (const policy of this.policies()) unlessGone(() => this.deletePolicy(policy));
    for (const sa of this.sas()) unlessGone(() => this.deleteSa(sa));
  }

  close(): void {
    this.#socket.close();
  }

  #saBody(id: SaId): Uint8Array | undefined {
    return unlessGone(() => this.#socket.request(XFRM_MSG.GETSA, 0, encodeSaId(id), `look up SA ${showSa(id)}`))?.[0]?.body;
  }

  #put(type: number, body: Uint8Array, what: string): NetlinkMessage[] {
    try {
      return this.#socket.request(type, NLM_F_CREATE | NLM_F_EXCL, body, what);
    } catch (error) {
      if (!(error instanceof SystemError) || !NOT_BUILT.includes(error.code ?? '')) throw error;
      throw new SystemError(
        `${error.message}; this kernel has not what it takes (CONFIG_INET_ESP, CONFIG_INET_AH, …): use the embedded engine`,
        error.code,
      );
    }
  }
}

/** What the kernel tells unasked. */
export type XfrmNews =
  | { readonly kind: 'acquire'; readonly acquire: XfrmAcquire }
  | { readonly kind: 'expire'; readonly sa: XfrmSaInfo; readonly hard: boolean }
  | { readonly kind: 'policy-expire'; readonly policy: XfrmPolicyInfo; readonly hard: boolean }
  | { readonly kind: 'mapping'; readonly mapping: XfrmMapping };

/** A socket that listens: readable when there is news. */
export class XfrmMonitor {
  readonly #socket: NetlinkSocket;

  constructor(libc: Libc) {
    this.#socket = new NetlinkSocket(libc, NETLINK_XFRM, [XFRMNLGRP.ACQUIRE, XFRMNLGRP.EXPIRE, XFRMNLGRP.MAPPING]);
  }

  get fd(): number {
    return this.#socket.fd;
  }

  /** What came since the last call, of ours and of others; never waits. `lost` where the kernel dropped some: list SAs anew. */
  news(): { readonly news: readonly XfrmNews[]; readonly lost: boolean } {
    const { messages, lost } = this.#socket.notifications();
    return { news: messages.flatMap((message) => readable(() => newsOf(message)) ?? []), lost };
  }

  close(): void {
    this.#socket.close();
  }
}

function newsOf({ type, body }: NetlinkMessage): XfrmNews | undefined {
  if (type === XFRM_MSG.ACQUIRE) return { kind: 'acquire', acquire: decodeAcquire(body) };
  if (type === XFRM_MSG.EXPIRE) return { kind: 'expire', ...decodeExpire(body) };
  if (type === XFRM_MSG.POLEXPIRE) return { kind: 'policy-expire', ...decodePolicyExpire(body) };
  return type === XFRM_MSG.MAPPING ? { kind: 'mapping', mapping: decodeMapping(body) } : undefined;
}

/** What cannot be read is of a kind that we never make: another program's. */
function readable<T>(read: () => T | undefined): T[] {
  try {
    const value = read();
    return value === undefined ? [] : [value];
  } catch (error) {
    if (error instanceof WireError) return [];
    throw error;
  }
}

function unlessGone<T>(request: () => T): T | undefined {
  try {
    return request();
  } catch (error) {
    if (error instanceof SystemError && GONE.includes(error.code ?? '')) return undefined;
    throw error;
  }
}

function showSa({ protocol, spi, destination }: SaId): string {
  return `${protocol} ${spi.toString(16).padStart(8, '0')} to ${destination}`;
}
