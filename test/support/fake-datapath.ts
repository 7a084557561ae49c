/** A datapath for tests of iked: an SAD that answers PF_KEY, carries numbered packets to another such, and fires ACQUIRE and EXPIRE. */

import { hex } from '../../src/bytes/bytes.ts';
import type { SaProtocol } from '../../src/ipsec/sa.ts';
import { addToSa } from '../../src/pfkey/convert.ts';
import { type SadbMessage, sadb, sadbError } from '../../src/pfkey/message.ts';
import { ERRNO, SADB_SASTATE, SADB_SATYPE } from '../../src/pfkey/registry.ts';

/** One SA, keys as text: a copy, so that a wiped secret is no loss. */
export interface FakeSa {
  readonly spi: number;
  readonly protocol: SaProtocol;
  readonly source: string;
  readonly destination: string;
  readonly mode: string;
  readonly reqid: number;
  readonly suite: string;
  readonly keys: string;
  readonly extendedSequence: boolean;
  readonly encapsulation: string;
  readonly selectors: string;
  readonly message: SadbMessage;
  /** Order of installation: the datapath sends on the newest. */
  readonly serial: number;
  packets: number;
}

export class FakeDatapath {
  /** Where its inbound SAs end; a test that moves a node says so here. */
  address: string;
  readonly larval = new Map<number, SadbMessage>();
  readonly sas = new Map<number, FakeSa>();
  /** Outbound SAs live under the peer's SPIs: a map of their own. */
  readonly outbound = new Map<number, FakeSa>();
  /** What an X_SPDDUMP shows. */
  policies: readonly SadbMessage[] = [];
  /** Every SA that there ever was, larval ones included. */
  everInstalled = 0;
  registered = false;
  /** Answers the next request of this verb with an error. */
  refuseNext: { type: SadbMessage['type']; errno: number } | undefined;
  readonly refusedAcquires: { seq: number; errno: number }[] = [];
  #nextSpi: number;
  #serial = 0;
  #acquire = 1000;

  constructor(address: string, firstSpi: number) {
    this.address = address;
    this.#nextSpi = firstSpi;
  }

  /** Forgets everything, as a restart does. */
  restart(): void {
    this.larval.clear();
    this.sas.clear();
    this.outbound.clear();
    this.registered = false;
  }

  /** What it answers. */
  handle(message: SadbMessage): SadbMessage[] {
    if (this.refuseNext?.type === message.type) {
      const { errno } = this.refuseNext;
      this.refuseNext = undefined;
      return [sadbError(message, errno)];
    }
    switch (message.type) {
      case 'REGISTER':
        this.registered = true;
        return [sadb('REGISTER', { seq: message.seq, pid: message.pid, satype: message.satype })];
      case 'GETSPI':
        return [this.#getspi(message)];
      case 'UPDATE':
        return [this.#update(message)];
      case 'ADD':
        return [this.#add(message)];
      case 'DELETE':
        return [this.#delete(message)];
      case 'GET':
        return [this.#get(message)];
      case 'DUMP':
        return this.#dump(message);
      case 'X_SPDDUMP':
        return this.policies.length === 0
          ? [sadbError(message, ERRNO.ENOENT)]
          : this.policies.map((policy, i) => ({ ...policy, pid: message.pid, seq: this.policies.length - 1 - i }));
      case 'ACQUIRE':
        this.refusedAcquires.push({ seq: message.seq, errno: message.errno });
        return [];
      default:
        return [sadbError(message, ERRNO.EOPNOTSUPP)];
    }
  }

  #getspi(message: SadbMessage): SadbMessage {
    const { min = 0, max = 0xffff_ffff } = message.spirange ?? {};
    const spi = max > 0xffff ? this.#nextSpi++ : min + (this.#nextSpi++ % (max - min + 1));
    this.larval.set(spi, message);
    this.everInstalled += 1;
    const sa = { spi, replay: 0, state: SADB_SASTATE.LARVAL, auth: 0, encrypt: 0, flags: 0 };
    return { ...message, sa, spirange: undefined };
  }

  #update(message: SadbMessage): SadbMessage {
    const spi = message.sa!.spi;
    const running = this.sas.get(spi);
    if (running !== undefined) {
      // A running SA gets other lifetimes, never other keys.
      const { keys, serial, packets } = running;
      const changed = { ...this.#enter(message), serial, packets };
      if (changed.keys !== keys) return sadbError(message, ERRNO.EINVAL);
      this.sas.set(spi, changed);
      return { ...message, keyAuth: undefined, keyEncrypt: undefined };
    }
    if (!this.larval.delete(spi)) return sadbError(message, ERRNO.ESRCH);
    this.sas.set(spi, this.#enter(message));
    return { ...message, keyAuth: undefined, keyEncrypt: undefined };
  }

  #add(message: SadbMessage): SadbMessage {
    const inbound = `${message.destination!.address}` === this.address;
    const sas = inbound ? this.sas : this.outbound;
    if (sas.has(message.sa!.spi) || (inbound && this.larval.has(message.sa!.spi))) return sadbError(message, ERRNO.EEXIST);
    sas.set(message.sa!.spi, this.#enter(message));
    return { ...message, keyAuth: undefined, keyEncrypt: undefined };
  }

  #enter(message: SadbMessage): FakeSa {
    const sa = addToSa(message);
    this.#serial += 1;
    const { encapsulation: encap } = sa;
    const show = (some: typeof sa.selectors.source) =>
      some.map((ts) => `${ts.start}-${ts.end}/${ts.protocol}/${ts.startPort}-${ts.endPort}`).join(',');
    return {
      spi: sa.spi,
      protocol: sa.protocol,
      source: `${sa.source}`,
      destination: `${sa.destination}`,
      mode: sa.mode,
      reqid: sa.reqid,
      suite: `${sa.suite.encr} ${sa.suite.keyBits} ${sa.suite.integ}`,
      keys: `${hex(sa.encrKey.reveal())} ${sa.integKey === undefined ? '' : hex(sa.integKey.reveal())}`,
      extendedSequence: sa.extendedSequence,
      encapsulation: encap === undefined ? '' : `${encap.source.port}>${encap.destination.port}`,
      selectors: `${show(sa.selectors.source)} > ${show(sa.selectors.destination)}`,
      message: { ...message, keyAuth: undefined, keyEncrypt: undefined },
      serial: this.#serial,
      packets: 0,
    };
  }

  #delete(message: SadbMessage): SadbMessage {
    const spi = message.sa!.spi;
    const inbound = `${message.destination!.address}` === this.address;
    const found = inbound ? this.larval.delete(spi) || this.sas.delete(spi) : this.outbound.delete(spi);
    return found ? { ...message } : sadbError(message, ERRNO.ESRCH);
  }

  #get(message: SadbMessage): SadbMessage {
    const sa = (`${message.destination!.address}` === this.address ? this.sas : this.outbound).get(message.sa!.spi);
    if (sa === undefined) return sadbError(message, ERRNO.ESRCH);
    const current = { allocations: sa.packets, bytes: sa.packets * 100, addtime: 1, usetime: sa.packets > 0 ? 1 : 0 };
    return { ...sa.message, type: 'GET', seq: message.seq, pid: message.pid, lifetimeCurrent: current };
  }

  #dump(message: SadbMessage): SadbMessage[] {
    const all = [...this.sas.values(), ...this.outbound.values()];
    if (all.length === 0) return [sadbError(message, ERRNO.ENOENT)];
    return all.map((sa, i) => ({ ...sa.message, type: 'DUMP', pid: message.pid, seq: all.length - 1 - i }));
  }

  /** The SA that a packet of this reqid leaves through: the newest. */
  outboundFor(reqid: number): FakeSa | undefined {
    return [...this.outbound.values()].filter((sa) => sa.reqid === reqid).sort((a, b) => b.serial - a.serial)[0];
  }

  /** What a packet of this reqid goes through: the newest of each protocol. */
  bundleFor(reqid: number): FakeSa[] {
    const newest = new Map<SaProtocol, FakeSa>();
    for (const sa of [...this.outbound.values()].sort((a, b) => a.serial - b.serial))
      if (sa.reqid === reqid) newest.set(sa.protocol, sa);
    return [...newest.values()];
  }

  acquire(
    policyId: number,
    source: FakeSa['source'] | undefined,
    addresses: Pick<SadbMessage, 'source' | 'destination'>,
    packet?: Uint8Array,
  ): SadbMessage {
    void source;
    this.#acquire += 1;
    return sadb('ACQUIRE', {
      seq: this.#acquire,
      satype: SADB_SATYPE.ESP,
      policy: { type: 2, direction: 2, id: policyId, priority: 0, requests: [] },
      ...addresses,
      packet,
    });
  }

  expire(sa: FakeSa, kind: 'soft' | 'hard'): SadbMessage {
    const lifetime = { allocations: 0, bytes: 0, addtime: 1, usetime: 0 };
    if (kind === 'hard') {
      this.sas.delete(sa.spi);
      this.outbound.delete(sa.spi);
    }
    return {
      ...sa.message,
      type: 'EXPIRE',
      seq: 0,
      pid: 0,
      lifetimeSoft: kind === 'soft' ? lifetime : undefined,
      lifetimeHard: kind === 'hard' ? lifetime : undefined,
      lifetimeCurrent: { allocations: sa.packets, bytes: sa.packets * 100, addtime: 1, usetime: sa.packets > 0 ? 1 : 0 },
    };
  }
}
