/** SAs over NETLINK_XFRM as octets: NEWSA, UPDSA, DELSA, GETSA, ALLOCSPI, FLUSHSA, EXPIRE, MAPPING and NEWAE (linux/xfrm.h). */

import { cat, equal } from '../../bytes/bytes.ts';
import type { EspSuite } from '../../crypto/packet-cipher.ts';
import type { Lifetime } from '../../ipsec/lifetime.ts';
import type { PolicySelector } from '../../ipsec/policy.ts';
import type { Mode, SaId, SaParameters, SaProtocol, Spi } from '../../ipsec/sa.ts';
import type { Endpoint, IpAddress } from '../../net/address.ts';
import { attribute, attributes } from './codec.ts';
import { algorithmAttributes, suiteOfAttributes } from './xfrm-algorithms.ts';
import { AF, type Current, MODE, PROTOCOL, SIZE, Struct, XFRMA } from './xfrm-structs.ts';

const UDP_ENCAP_ESPINUDP = 2;
const XFRM_STATE_AF_UNSPEC = 32;
const XFRM_STATE_ALIGN4 = 64;
const XFRM_STATE_ESN = 128;
/** Windows that the old replay state holds; longer ones, and ESN, are in XFRMA_REPLAY_ESN_VAL. */
const SHORT_WINDOW = 32;
/** Packets; the kernel refuses a longer one. */
const MOST_WINDOW = 4096;

/** Offsets in struct xfrm_usersa_info. */
// biome-ignore format: a table
const SA = { selector: 0, destination: 56, spi: 72, protocol: 76, source: 80, lifetime: 96, current: 160, stats: 192, seq: 204, reqid: 208, family: 212, mode: 214, window: 215, flags: 216 } as const;
/** In struct xfrm_usersa_id, and where a struct begins with one. */
const ID = { destination: 0, spi: 16, family: 20, protocol: 22 } as const;

/** One SA for the kernel. */
export interface XfrmSa extends SaParameters {
  /** Of the ACQUIRE or ALLOCSPI that asked for it; 0: none. */
  readonly seq: number;
  /** What may go through it, where that is not everything. */
  readonly selector: PolicySelector | undefined;
  /** Whether it has our mark in its lifetimes. */
  readonly ours: boolean;
  /** Inbound where GETSPI began it: the mark keeps that too. */
  readonly direction?: 'inbound' | undefined;
}

/** What the kernel tells of one SA. */
export interface XfrmSaInfo extends SaId {
  readonly source: IpAddress;
  readonly seq: number;
  readonly reqid: number;
  readonly mode: Mode;
  readonly lifetime: { readonly soft: Lifetime; readonly hard: Lifetime };
  readonly current: Current;
  readonly ours: boolean;
  readonly direction: XfrmSa['direction'];
  readonly selector: PolicySelector | undefined;
  readonly encapsulation: { readonly sourcePort: number; readonly destinationPort: number } | undefined;
  /** The last sequence numbers sent and accepted; undefined where it was not told. */
  readonly sequence: { readonly outbound: number; readonly inbound: number } | undefined;
  /** Undefined: none of our table. */
  readonly suite: EspSuite | undefined;
  readonly extendedSequence: boolean;
  readonly replayWindow: number;
  readonly tfcPadding: number;
}

/** NEWSA and UPDSA. Throws SystemError (ENOSYS) for an algorithm that the kernel has not. */
export function encodeSa(sa: XfrmSa): Uint8Array {
  return cat(
    saInfo(sa).bytes,
    ...algorithmAttributes(sa),
    ...replayAttribute(sa),
    ...encapsulationAttribute(sa.encapsulation),
    ...paddingAttribute(sa),
  );
}

/** Whether the SA that the kernel told in `body` has the algorithms and keys of `sa`. */
export function hasAlgorithmsOf(body: Uint8Array, sa: Parameters<typeof algorithmAttributes>[0]): boolean {
  const told = attributes(body, SIZE.sa);
  return algorithmAttributes(sa).every((wanted) =>
    [...attributes(wanted, 0)].every(([type, value]) => {
      const there = told.get(type);
      return there !== undefined && equal(there, value);
    }),
  );
}

/** ALLOCSPI. */
export function encodeAllocSpi(
  sa: Pick<XfrmSa, 'protocol' | 'mode' | 'reqid' | 'source' | 'destination' | 'seq'>,
  { min, max }: { readonly min: number; readonly max: number },
): Uint8Array {
  const struct = Struct.of(SIZE.spiRange);
  setNames(struct, { ...sa, spi: 0 });
  return struct.setU32(SIZE.sa, min).setU32(SIZE.sa + 4, max).bytes;
}

/** DELSA and GETSA: an SA by its name. */
export function encodeSaId({ destination, protocol, spi }: SaId): Uint8Array {
  return Struct.of(SIZE.saId)
    .setAddress(ID.destination, destination)
    .setBe32(ID.spi, spi)
    .setU16(ID.family, AF[destination.family])
    .setU8(ID.protocol, PROTOCOL[protocol]).bytes;
}

/** FLUSHSA, of one protocol or (0) of all. */
export function encodeFlush(protocol: SaProtocol | undefined): Uint8Array {
  return Uint8Array.of(protocol === undefined ? 0 : PROTOCOL[protocol]);
}

/** NEWSA, UPDSA and the SA in an EXPIRE. Throws WireError. */
export function decodeSa(body: Uint8Array, attributesAt: number = SIZE.sa): XfrmSaInfo {
  const struct = Struct.read(body, SIZE.sa, 'an SA');
  const family = struct.family(SA.family);
  const found = attributes(body, attributesAt);
  const mark = struct.mark(SA.lifetime);
  const protocol = struct.protocol(SA.protocol);
  return {
    destination: struct.address(SA.destination, family),
    spi: struct.be32(SA.spi),
    protocol,
    source: struct.address(SA.source, family),
    seq: struct.u32(SA.seq),
    reqid: struct.u32(SA.reqid),
    mode: struct.mode(SA.mode),
    lifetime: struct.lifetime(SA.lifetime),
    current: struct.current(SA.current),
    ours: mark !== 'others',
    direction: mark === 'ours-inbound' ? 'inbound' : undefined,
    selector: struct.selector(SA.selector),
    encapsulation: decodeEncapsulation(found.get(XFRMA.ENCAP)),
    sequence: decodeSequence(found.get(XFRMA.REPLAY_ESN_VAL), found.get(XFRMA.REPLAY_VAL)),
    suite: suiteOfAttributes(protocol, found),
    extendedSequence: (struct.u8(SA.flags) & XFRM_STATE_ESN) !== 0,
    replayWindow: decodeWindow(found.get(XFRMA.REPLAY_ESN_VAL)) ?? struct.u8(SA.window),
    tfcPadding: decodePadding(found.get(XFRMA.TFCPAD)),
  };
}

/** EXPIRE: the SA and whether it is gone. */
export function decodeExpire(body: Uint8Array): { readonly sa: XfrmSaInfo; readonly hard: boolean } {
  const struct = Struct.read(body, SIZE.expire, 'an EXPIRE');
  return { sa: decodeSa(body, SIZE.expire), hard: struct.u8(SIZE.sa) !== 0 };
}

/** MAPPING: packets of an inbound SA in UDP come from elsewhere (RFC 3948 §4). */
export interface XfrmMapping extends SaId {
  readonly reqid: number;
  readonly before: Endpoint;
  readonly now: Endpoint;
}

export function decodeMapping(body: Uint8Array): XfrmMapping {
  const struct = Struct.read(body, SIZE.mapping, 'a MAPPING');
  const family = struct.family(ID.family);
  return {
    destination: struct.address(ID.destination, family),
    spi: struct.be32(ID.spi),
    protocol: struct.protocol(ID.protocol),
    reqid: struct.u32(24),
    before: { address: struct.address(28, family), port: struct.be16(60) },
    now: { address: struct.address(44, family), port: struct.be16(62) },
  };
}

/** NEWAE: the sequence numbers and counters that an SA has reached. */
export function decodeAevent(body: Uint8Array): SaId & Pick<XfrmSaInfo, 'sequence'> {
  const struct = Struct.read(body, SIZE.aevent, 'a NEWAE');
  const found = attributes(body, SIZE.aevent);
  return {
    destination: struct.address(ID.destination, struct.family(ID.family)),
    spi: struct.be32(ID.spi),
    protocol: struct.protocol(ID.protocol),
    sequence: decodeSequence(found.get(XFRMA.REPLAY_ESN_VAL), found.get(XFRMA.REPLAY_VAL)),
  };
}

/**
 * The same SA as `body` has it, keys and sequence numbers included, between other ends: what NEWSA installs after the old one was deleted. The
 * kernel changes no address of an SA in place.
 */
export function encodeMoved(
  body: Uint8Array,
  { source, destination }: { readonly source: IpAddress; readonly destination: IpAddress },
  encapsulation: SaParameters['encapsulation'],
): Uint8Array {
  const info = new Struct(Struct.read(body, SIZE.sa, 'an SA').bytes.slice(0, SIZE.sa));
  info.bytes.fill(0, SA.destination, SA.destination + 16).fill(0, SA.source, SA.source + 16);
  info.setAddress(SA.destination, destination).setAddress(SA.source, source).setU16(SA.family, AF[destination.family]);
  // What was told twice, in the form of older kernels, is not sent twice; times and offloads are the kernel's own.
  const KEPT: readonly number[] = [
    XFRMA.ALG_AEAD,
    XFRMA.ALG_CRYPT,
    XFRMA.ALG_AUTH_TRUNC,
    XFRMA.ALG_COMP,
    XFRMA.REPLAY_ESN_VAL,
    XFRMA.REPLAY_VAL,
    XFRMA.TFCPAD,
  ];
  const kept = [...attributes(body, SIZE.sa)]
    .filter(([type]) => KEPT.includes(type))
    .map(([type, value]) => attribute(type, value));
  // Its limits go on from what it has lived and carried.
  const lived = info.bytes.slice(SA.current, SA.current + SIZE.current);
  const current = lived.some((octet) => octet !== 0) ? [attribute(XFRMA.LTIME_VAL, lived)] : [];
  return cat(info.bytes, ...kept, ...current, ...encapsulationAttribute(encapsulation));
}

function saInfo(sa: XfrmSa): Struct {
  const struct = Struct.of(SIZE.sa);
  if (sa.selector !== undefined) struct.setSelector(SA.selector, sa.selector);
  setNames(struct, sa);
  const flags =
    (sa.mode === 'tunnel' && sa.selector === undefined ? XFRM_STATE_AF_UNSPEC : 0) |
    (sa.extendedSequence ? XFRM_STATE_ESN : 0) |
    (sa.protocol === 'ah' && sa.source.family === 4 ? XFRM_STATE_ALIGN4 : 0);
  return struct
    .setLifetime(SA.lifetime, sa.lifetime, sa.ours ? (sa.direction === 'inbound' ? 'ours-inbound' : 'ours') : 'others')
    .setU8(SA.window, isLong(sa) ? 0 : sa.replayWindow)
    .setU8(SA.flags, flags);
}

function setNames(
  struct: Struct,
  sa: Pick<XfrmSa, 'protocol' | 'mode' | 'reqid' | 'source' | 'destination' | 'seq'> & { readonly spi: Spi },
): void {
  struct
    .setAddress(SA.destination, sa.destination)
    .setBe32(SA.spi, sa.spi)
    .setU8(SA.protocol, PROTOCOL[sa.protocol])
    .setAddress(SA.source, sa.source)
    .setU32(SA.seq, sa.seq)
    .setU32(SA.reqid, sa.reqid)
    .setU16(SA.family, AF[sa.destination.family])
    .setU8(SA.mode, MODE[sa.mode]);
}

function isLong({ extendedSequence, replayWindow }: XfrmSa): boolean {
  return extendedSequence || replayWindow > SHORT_WINDOW;
}

/** struct xfrm_replay_state_esn: `words of bitmap | sent | accepted | high halves of both | window | bitmap`, 4 octets each. */
function replayAttribute(sa: XfrmSa): Uint8Array[] {
  if (!isLong(sa)) return [];
  const window = Math.min(sa.replayWindow, MOST_WINDOW);
  const words = Math.ceil(window / 32);
  return [
    attribute(
      XFRMA.REPLAY_ESN_VAL,
      Struct.of(SIZE.replayEsn + 4 * words)
        .setU32(0, words)
        .setU32(20, window).bytes,
    ),
  ];
}

/** struct xfrm_encap_tmpl: `type (2) | source port | destination port | … | original address (16)`. */
function encapsulationAttribute(encapsulation: SaParameters['encapsulation']): Uint8Array[] {
  if (encapsulation === undefined) return [];
  const struct = Struct.of(SIZE.encap)
    .setU16(0, UDP_ENCAP_ESPINUDP)
    .setBe16(2, encapsulation.source.port)
    .setBe16(4, encapsulation.destination.port);
  return [attribute(XFRMA.ENCAP, struct.bytes)];
}

/** XFRMA_TFCPAD: octets that an inner packet is padded up to (RFC 4303 §2.7). */
function paddingAttribute({ mode, tfcPadding = 0 }: XfrmSa): Uint8Array[] {
  return mode === 'tunnel' && tfcPadding > 0 ? [attribute(XFRMA.TFCPAD, Struct.of(4).setU32(0, tfcPadding).bytes)] : [];
}

function decodeWindow(long: Uint8Array | undefined): number | undefined {
  return long && Struct.read(long, SIZE.replayEsn, 'XFRMA_REPLAY_ESN_VAL').u32(20);
}

function decodePadding(value: Uint8Array | undefined): number {
  return value === undefined ? 0 : Struct.read(value, 4, 'XFRMA_TFCPAD').u32(0);
}

function decodeEncapsulation(value: Uint8Array | undefined): XfrmSaInfo['encapsulation'] {
  if (value === undefined) return undefined;
  const struct = Struct.read(value, SIZE.encap, 'XFRMA_ENCAP');
  return { sourcePort: struct.be16(2), destinationPort: struct.be16(4) };
}

function decodeSequence(long: Uint8Array | undefined, short: Uint8Array | undefined): XfrmSaInfo['sequence'] {
  if (long !== undefined) {
    const struct = Struct.read(long, SIZE.replayEsn, 'XFRMA_REPLAY_ESN_VAL');
    const whole = (low: number, high: number) => Math.min(Number.MAX_SAFE_INTEGER, struct.u32(high) * 2 ** 32 + struct.u32(low));
    return { outbound: whole(4, 12), inbound: whole(8, 16) };
  }
  if (short === undefined) return undefined;
  const struct = Struct.read(short, SIZE.replay, 'XFRMA_REPLAY_VAL');
  return { outbound: struct.u32(0), inbound: struct.u32(4) };
}
