/** The numbers and shared structs of NETLINK_XFRM as octets (linux/xfrm.h): selectors, SA names, lifetimes. */

import { SystemError, WireError } from '../../errors.ts';
import { type Lifetime, UNLIMITED } from '../../ipsec/lifetime.ts';
import type { PolicyDirection, PolicySelector } from '../../ipsec/policy.ts';
import type { Mode, SaProtocol } from '../../ipsec/sa.ts';
import { type Family, IpAddress } from '../../net/address.ts';

export const NETLINK_XFRM = 6;

/** XFRM_MSG_*. */
// biome-ignore format: a table
export const XFRM_MSG = {
  NEWSA: 16, DELSA: 17, GETSA: 18, NEWPOLICY: 19, DELPOLICY: 20, GETPOLICY: 21, ALLOCSPI: 22, ACQUIRE: 23, EXPIRE: 24, UPDPOLICY: 25,
  UPDSA: 26, POLEXPIRE: 27, FLUSHSA: 28, FLUSHPOLICY: 29, NEWAE: 30, GETAE: 31, REPORT: 32, MIGRATE: 33, MAPPING: 38,
} as const;

/** XFRMA_*: the attributes that are used here. */
// biome-ignore format: a table
export const XFRMA = {
  ALG_AUTH: 1, ALG_CRYPT: 2, ALG_COMP: 3, ENCAP: 4, TMPL: 5, LTIME_VAL: 9, REPLAY_VAL: 10, REPLAY_THRESH: 11, ETIMER_THRESH: 12, COADDR: 14, POLICY_TYPE: 16,
  MIGRATE: 17, ALG_AEAD: 18, KMADDRESS: 19, ALG_AUTH_TRUNC: 20, MARK: 21, TFCPAD: 22, REPLAY_ESN_VAL: 23, SET_MARK: 29, SET_MARK_MASK: 30,
} as const;

/** XFRMNLGRP_*: what the kernel tells unasked. */
export const XFRMNLGRP = { ACQUIRE: 1, EXPIRE: 2, SA: 3, POLICY: 4, AEVENTS: 5, MIGRATE: 7, MAPPING: 8 } as const;

/** Octets of the structs, on machines of 64 bits. */
// biome-ignore format: a table
export const SIZE = {
  selector: 56, id: 24, lifetime: 64, current: 32, sa: 224, saId: 24, spiRange: 232, policy: 168, policyId: 64, template: 64, acquire: 280,
  expire: 232, polexpire: 176, encap: 24, migrate: 76, kmAddress: 40, mapping: 64, aevent: 48, replay: 12, replayEsn: 24, algorithm: 68,
  sizedAlgorithm: 72,
} as const;

export const AF: Record<Family, number> = { 4: 2, 6: 10 };
export const PROTOCOL: Record<SaProtocol, number> = { esp: 50, ah: 51, ipcomp: 108 };
export const MODE: Record<Mode, number> = { transport: 0, tunnel: 1, beet: 4 };
export const DIRECTION: Record<PolicyDirection, number> = { inbound: 0, outbound: 1, forward: 2 };
/** XFRM_INF: no limit. */
const INFINITE = 0xffff_ffff_ffff_ffffn;
/**
 * What marks our SAs and policies among those of others, and outlasts a crash: a soft limit on seconds of use that no clock reaches. The kernel
 * keeps and lists it, and acts on it never.
 */
const OURS = 0x54_414e_554b_49n;
/** The same of an SA that brings the peer's packets to us: the kernel of our time keeps no direction of an SA. */
const OURS_INBOUND = OURS + 1n;
const OURS_AT = 48;

/** Whose it is. */
export type Mark = 'others' | 'ours' | 'ours-inbound';
const MARKS: Record<Mark, bigint> = { others: 0n, ours: OURS, 'ours-inbound': OURS_INBOUND };

export interface Current {
  readonly bytes: number;
  readonly packets: number;
  /** Seconds since 1970; 0: never. */
  readonly added: number;
  readonly used: number;
}

/** Octets of one struct, written and read at the offsets of the header. */
export class Struct {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  static of(size: number): Struct {
    return new Struct(new Uint8Array(size));
  }

  /** Throws WireError where there are fewer octets than the struct has. */
  static read(bytes: Uint8Array | undefined, size: number, what: string): Struct {
    if (bytes === undefined || bytes.length < size)
      throw new WireError(`${what} has ${size} octets, not ${bytes?.length ?? 0}`, 0, 'xfrm');
    return new Struct(bytes);
  }

  u8(at: number): number {
    return this.view.getUint8(at);
  }
  u16(at: number): number {
    return this.view.getUint16(at, true);
  }
  u32(at: number): number {
    return this.view.getUint32(at, true);
  }
  be16(at: number): number {
    return this.view.getUint16(at);
  }
  be32(at: number): number {
    return this.view.getUint32(at);
  }
  /** What does not fit is told as the largest number that does. */
  u64(at: number): number {
    const value = this.view.getBigUint64(at, true);
    return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(value);
  }
  setU8(at: number, value: number): this {
    this.view.setUint8(at, value);
    return this;
  }
  setU16(at: number, value: number): this {
    this.view.setUint16(at, value, true);
    return this;
  }
  setU32(at: number, value: number): this {
    this.view.setUint32(at, value, true);
    return this;
  }
  setBe16(at: number, value: number): this {
    this.view.setUint16(at, value);
    return this;
  }
  setBe32(at: number, value: number): this {
    this.view.setUint32(at, value);
    return this;
  }

  /** xfrm_address_t: 16 octets, IPv4 in the first four. */
  setAddress(at: number, address: IpAddress | undefined): this {
    if (address !== undefined) this.bytes.set(address.bytes, at);
    return this;
  }

  address(at: number, family: Family): IpAddress {
    return IpAddress.of(this.bytes.slice(at, at + (family === 4 ? 4 : 16)));
  }

  /** Throws WireError where it is neither IPv4 nor IPv6. */
  family(at: number): Family {
    const af = this.u16(at);
    if (af === AF[4]) return 4;
    if (af === AF[6]) return 6;
    throw new WireError(`the address family is ${af}, not 2 or 10`, at, 'xfrm');
  }

  protocol(at: number): SaProtocol {
    const number = this.u8(at);
    const found = (Object.keys(PROTOCOL) as SaProtocol[]).find((name) => PROTOCOL[name] === number);
    if (found === undefined) throw new WireError(`the protocol is ${number}, not 50, 51 or 108`, at, 'xfrm');
    return found;
  }

  /** Modes that we do not ask for are none of ours. */
  mode(at: number): Mode {
    const number = this.u8(at);
    const found = (Object.keys(MODE) as Mode[]).find((name) => MODE[name] === number);
    if (found === undefined) throw new WireError(`the mode is ${number}, not 0, 1 or 4`, at, 'xfrm');
    return found;
  }

  /**
   * struct xfrm_selector: `destination (16) | source (16) | destination port, mask | source port, mask | family (2) | prefix lengths |
   * protocol | … | interface (4) | user (4)`. Throws SystemError (EOPNOTSUPP) for ranges of ports.
   */
  setSelector(at: number, { source, destination, protocol, sourcePort, destinationPort, portRanges }: PolicySelector): this {
    if (portRanges !== undefined)
      throw new SystemError(
        'the kernel takes one port, type or code, or any: it has no ranges; use the embedded engine',
        'EOPNOTSUPP',
      );
    this.setAddress(at, destination.address).setAddress(at + 16, source.address);
    this.setBe16(at + 32, destinationPort).setBe16(at + 34, destinationPort === 0 ? 0 : 0xffff);
    this.setBe16(at + 36, sourcePort).setBe16(at + 38, sourcePort === 0 ? 0 : 0xffff);
    this.setU16(at + 40, AF[source.address.family]);
    return this.setU8(at + 42, destination.length)
      .setU8(at + 43, source.length)
      .setU8(at + 44, protocol);
  }

  /** Undefined where it has no family: it is any. */
  selector(at: number): PolicySelector | undefined {
    if (this.u16(at + 40) === 0) return undefined;
    const family = this.family(at + 40);
    const most = family === 4 ? 32 : 128;
    const prefix = (address: number, length: number) => {
      const bits = this.u8(length);
      if (bits > most) throw new WireError(`a prefix has ${bits} bits, at most ${most}`, length, 'xfrm');
      return { address: this.address(address, family), length: bits };
    };
    return {
      source: prefix(at + 16, at + 43),
      destination: prefix(at, at + 42),
      protocol: this.u8(at + 44),
      sourcePort: this.be16(at + 36),
      destinationPort: this.be16(at + 32),
    };
  }

  /** struct xfrm_lifetime_cfg: octets, packets, seconds of life and of use, each soft and hard. `mark` is for what we made. */
  setLifetime(at: number, { soft, hard }: { readonly soft: Lifetime; readonly hard: Lifetime }, mark: Mark): this {
    const limits = [soft.bytes, hard.bytes, soft.packets, hard.packets].map((n) =>
      n === 0 ? INFINITE : BigInt(Math.max(1, Math.floor(n))),
    );
    const seconds = [soft.seconds, hard.seconds].map((n) => BigInt(n === 0 ? 0 : Math.max(1, Math.floor(n))));
    for (const [i, value] of [...limits, ...seconds, MARKS[mark], 0n].entries()) this.view.setBigUint64(at + 8 * i, value, true);
    return this;
  }

  lifetime(at: number): { readonly soft: Lifetime; readonly hard: Lifetime } {
    const limit = (i: number) => (this.view.getBigUint64(at + 8 * i, true) === INFINITE ? 0 : this.u64(at + 8 * i));
    const of = (i: number): Lifetime => ({
      ...UNLIMITED,
      bytes: limit(i),
      packets: limit(2 + i),
      seconds: this.u64(at + 8 * (4 + i)),
    });
    return { soft: of(0), hard: of(1) };
  }

  mark(lifetimeAt: number): Mark {
    const mark = this.view.getBigUint64(lifetimeAt + OURS_AT, true);
    if (mark === OURS_INBOUND) return 'ours-inbound';
    return mark === OURS ? 'ours' : 'others';
  }

  /** struct xfrm_lifetime_cur. */
  current(at: number): Current {
    return { bytes: this.u64(at), packets: this.u64(at + 8), added: this.u64(at + 16), used: this.u64(at + 24) };
  }
}
