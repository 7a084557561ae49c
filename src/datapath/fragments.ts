/**
 * Fragments that cannot be decided about, or sent, one by one (RFC 4301 §7, RFC 4303 §3.3.4): kept until their packet is whole, within a budget and a
 * time. No two may overlap (RFC 5722, RFC 8200 §4.5), and the first has the whole transport header (RFC 1858, RFC 3128, RFC 7112): what a
 * policy reads there is what the host will read. Nothing here is on the way of a whole packet.
 */

import { Checksum, writeIpv4Checksum } from '../net/checksum.ts';
import { IPV4, IPV6, type IpPacket } from '../net/ip-packet.ts';
import { isExtension, PROTOCOL } from '../net/transport.ts';
import { DROP, type Drops } from './drops.ts';
import { MAX_PACKET } from './ip-header.ts';
import { writeTrafficClass } from './tunnel.ts';

/** What became of a fragment, beside a drop reason: kept, or the last that its packet wanted. */
export const WAITS = -1;
export const WHOLE = -2;
/** Fragments of one packet: one of 64 KiB on a path of 576. */
export const MOST_PARTS = 128;
/** Octets of all that are kept, each with what its keeping takes, and packets that they belong to. */
const MOST_OCTETS = 1024 * 1024;
const KEEPING_OCTETS = 128;
const MOST_PACKETS = 256;
/** RFC 8200 §4.5, RFC 1122 §3.3.2: from the first that arrived, in milliseconds. */
const LIFETIME = 60_000;
/** Transport headers without their options: policies read ports there, and TCP's flags are in the second eight octets. */
const TRANSPORT_HEADER: Readonly<Record<number, number>> = {
  [PROTOCOL.icmp]: 8,
  [PROTOCOL.tcp]: 20,
  [PROTOCOL.udp]: 8,
  [PROTOCOL.dccp]: 12,
  [PROTOCOL.icmpv6]: 8,
  [PROTOCOL.sctp]: 12,
  [PROTOCOL.mobility]: 8,
  [PROTOCOL.udpLite]: 8,
};
const FRAGMENT_HEADER = 8;
const ECN = { mask: 3, congested: 3, notCapable: 0 } as const;

interface Part {
  /** The fragment with its headers. */
  readonly bytes: Uint8Array;
  /** Octets of headers that a whole packet has, and where the payload begins. */
  readonly head: number;
  readonly from: number;
  /** Where the payload belongs, and its length. */
  readonly offset: number;
  readonly length: number;
  readonly more: boolean;
}

interface Gathering {
  readonly key: string;
  /** `mono` milliseconds. */
  readonly expiresAt: number;
  /** By offset. */
  parts: Part[];
  octets: number;
  /** Octets of the whole payload, once its last fragment is there. */
  end: number | undefined;
  /** Why it is given up: its fragments to come are refused, too (RFC 5722 §4). */
  refused: number;
}

export class Fragments {
  /** Fragments that wait. */
  held = 0;
  /** Fragments that became part of a packet that went on as one, less that packet. */
  joined = 0;
  /** Fragments that had been kept and were dropped. */
  discarded = 0;
  /** Of the packet that became whole last, by offset. */
  parts: readonly Uint8Array[] = [];
  #whole: readonly Part[] = [];
  /** Oldest first. */
  readonly #gatherings = new Map<string, Gathering>();
  #octets = 0;
  readonly #arena: Uint8Array;
  readonly #checksum: Checksum;
  readonly #drops: Drops;

  constructor(arena: Uint8Array, checksum: Checksum, drops: Drops) {
    this.#arena = arena;
    this.#checksum = checksum;
    this.#drops = drops;
  }

  /** Packets of which fragments wait, or were refused a moment ago. */
  get size(): number {
    return this.#gatherings.size;
  }

  /** Takes a fragment that lies in the arena: `WAITS`, `WHOLE`, or why it is dropped. Only fragments of one `scope` (an SA) are put together. */
  add(packet: IpPacket, scope: number, mono: number): number {
    const key = keyOf(this.#arena, packet, scope);
    const part = partOf(this.#arena, packet);
    let gathering = this.#gatherings.get(key);
    const outcome = judge(part, packet, gathering);
    if (outcome > 0) {
      if (gathering !== undefined && !isDuplicate(part, gathering)) this.#refuse(gathering, outcome);
      return outcome;
    }
    if (outcome === WHOLE) {
      const parts = [...(gathering?.parts ?? []), part].sort(byOffset);
      if (gathering !== undefined) this.#remove(gathering);
      this.#whole = parts;
      this.parts = parts.map(({ bytes }) => bytes);
      return WHOLE;
    }
    const octets = part.bytes.length + KEEPING_OCTETS;
    if (!this.#makeRoom(octets, gathering)) return DROP.reassemblyFull;
    if (gathering === undefined) {
      gathering = { key, expiresAt: mono + LIFETIME, parts: [], octets: 0, end: undefined, refused: DROP.none };
      this.#gatherings.set(key, gathering);
    }
    gathering.parts.push(part);
    gathering.parts.sort(byOffset);
    gathering.octets += octets;
    if (!part.more) gathering.end = part.offset + part.length;
    this.#octets += octets;
    this.held++;
    return WAITS;
  }

  /** Writes the packet that became whole last to `at` in the arena: its length. */
  compose(at: number): number {
    return composeTo(this.#arena, this.#checksum, at, this.#whole);
  }

  /** What would become of a fragment, and the packet that it would make whole. Changes nothing. */
  prospect(bytes: Uint8Array, packet: IpPacket, scope: number): { readonly outcome: number; readonly whole: Uint8Array } {
    const part = partOf(bytes, packet);
    const gathering = this.#gatherings.get(keyOf(bytes, packet, scope));
    const outcome = judge(part, packet, gathering);
    if (outcome !== WHOLE) return { outcome, whole: NOTHING };
    const room = new Uint8Array(MAX_PACKET + 1);
    const length = composeTo(room, new Checksum(room), 0, [...(gathering?.parts ?? []), part].sort(byOffset));
    return { outcome, whole: room.slice(0, length) };
  }

  /** What waited as long as it may is dropped. */
  expire(mono: number): void {
    for (const gathering of this.#gatherings.values()) {
      if (gathering.expiresAt > mono) return;
      this.#discard(gathering, DROP.reassemblyTimeout);
    }
  }

  get nextExpiry(): number {
    for (const { expiresAt } of this.#gatherings.values()) return expiresAt;
    return Number.POSITIVE_INFINITY;
  }

  /** The oldest packets make room, but not the one at hand for itself. */
  #makeRoom(octets: number, own: Gathering | undefined): boolean {
    for (const gathering of this.#gatherings.values()) {
      if (this.#octets + octets <= MOST_OCTETS && (own !== undefined || this.#gatherings.size < MOST_PACKETS)) break;
      if (gathering !== own) this.#discard(gathering, DROP.reassemblyFull);
    }
    return this.#octets + octets <= MOST_OCTETS;
  }

  #refuse(gathering: Gathering, reason: number): void {
    this.#empty(gathering, reason);
    gathering.refused = reason;
  }

  #discard(gathering: Gathering, reason: number): void {
    this.#empty(gathering, reason);
    this.#gatherings.delete(gathering.key);
  }

  #empty(gathering: Gathering, reason: number): void {
    const { length } = gathering.parts;
    for (let i = 0; i < length; i++) this.#drops.count(reason);
    this.discarded += length;
    this.#release(gathering);
  }

  #remove(gathering: Gathering): void {
    this.#release(gathering);
    this.#gatherings.delete(gathering.key);
  }

  #release(gathering: Gathering): void {
    this.held -= gathering.parts.length;
    this.#octets -= gathering.octets;
    gathering.parts = [];
    gathering.octets = 0;
  }
}

const NOTHING = new Uint8Array(0);

function byOffset(a: Part, b: Part): number {
  return a.offset - b.offset;
}

/** RFC 791 §3.2: addresses, protocol and identification; RFC 8200 §4.5: addresses and identification. */
function keyOf(bytes: Uint8Array, packet: IpPacket, scope: number): string {
  const { family, at, protocolAt } = packet;
  const [addresses, octets] = family === 4 ? [IPV4.source, 8] : [IPV6.source, 32];
  const id = family === 4 ? at + IPV4.id : protocolAt + 4;
  let key = family === 4 ? `${scope} ${packet.protocol}` : `${scope}`;
  for (let i = 0; i < octets; i++) key += `.${bytes[at + addresses + i]}`;
  for (let i = 0; i < (family === 4 ? 2 : 4); i++) key += `-${bytes[id + i]}`;
  return key;
}

function partOf(bytes: Uint8Array, packet: IpPacket): Part {
  const { family, at, protocolAt, headerBytes } = packet;
  const field = family === 4 ? at + IPV4.fragment : protocolAt + 2;
  const word = (bytes[field]! << 8) | bytes[field + 1]!;
  return {
    bytes: bytes.slice(at, at + packet.bytes),
    head: family === 4 ? headerBytes : headerBytes - FRAGMENT_HEADER,
    from: headerBytes,
    offset: family === 4 ? (word & 0x1fff) * 8 : word & 0xfff8,
    length: packet.bytes - headerBytes,
    more: family === 4 ? (word & 0x2000) !== 0 : (word & 1) !== 0,
  };
}

function judge(part: Part, packet: IpPacket, gathering: Gathering | undefined): number {
  const { offset, length, more } = part;
  const end = offset + length;
  const fixed = packet.family === 4 ? 0 : IPV6.bytes;
  if (length === 0 || (more && length % 8 !== 0) || part.head - fixed + end > MAX_PACKET) return DROP.badFragment;
  if (isTiny(part, packet)) return DROP.tinyFragment;
  if (gathering === undefined) return WAITS;
  if (gathering.refused !== DROP.none) return gathering.refused;
  const { parts } = gathering;
  const last = parts.at(-1);
  const known = more ? gathering.end : end;
  const isBeyond = known !== undefined && ((more && end >= known) || (last !== undefined && last.offset + last.length > known));
  if (isBeyond || (!more && gathering.end !== undefined && gathering.end !== end)) return DROP.fragmentOverlap;
  if (parts.some((one) => offset < one.offset + one.length && one.offset < end)) return DROP.fragmentOverlap;
  if (parts.length >= MOST_PARTS) return DROP.reassemblyFull;
  const octets = parts.reduce((sum, one) => sum + one.length, length);
  return octets === known ? WHOLE : WAITS;
}

/** RFC 8200 §4.5: the network may repeat one, which is no attack. */
function isDuplicate(part: Part, { parts }: Gathering): boolean {
  const same = parts.find(({ offset, length }) => offset === part.offset && length === part.length);
  return (
    same !== undefined && same.more === part.more && same.bytes.every((octet, i) => i < same.from || octet === part.bytes[i])
  );
}

/** RFC 1858 §3, RFC 3128: the transport header is not in the first fragment alone. RFC 7112: nor are the extension headers before it. */
function isTiny({ bytes, from, offset, length }: Part, { family, protocol }: IpPacket): boolean {
  let next = protocol;
  let at = from;
  while (family === 6 && offset === 0 && isExtension(next)) {
    if (at + 8 > bytes.length) return true;
    next = bytes[at]!;
    at += 8 + 8 * bytes[at + 1]!;
  }
  const header = TRANSPORT_HEADER[next] ?? 0;
  return offset === 0 ? at - from + header > length : offset < header;
}

/** The headers of the first fragment, all payloads, and congestion where any says so (RFC 3168 §5.3). */
function composeTo(bytes: Uint8Array, checksum: Checksum, at: number, parts: readonly Part[]): number {
  const [first] = parts;
  const { head } = first!;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  bytes.set(first!.bytes.subarray(0, head), at);
  let length = head;
  let trafficClass = 0;
  let isCongested = false;
  for (const part of parts) {
    bytes.set(part.bytes.subarray(part.from), at + length);
    length += part.length;
    const [high, low] = part.bytes;
    const own = high! >> 4 === 4 ? low! : ((high! & 0x0f) << 4) | (low! >> 4);
    if (part === first) trafficClass = own;
    isCongested ||= (own & ECN.mask) === ECN.congested;
  }
  if (bytes[at]! >> 4 === 4) {
    view.setUint16(at + IPV4.totalLength, length);
    view.setUint16(at + IPV4.fragment, 0);
    writeIpv4Checksum(checksum, bytes, at, head);
  } else {
    view.setUint16(at + IPV6.payloadLength, length - IPV6.bytes);
    bytes[nextHeaderField(bytes, at, head)] = first!.bytes[head]!;
  }
  if (isCongested && (trafficClass & ECN.mask) !== ECN.notCapable)
    writeTrafficClass(checksum, bytes, at, trafficClass | ECN.congested);
  return length;
}

/** Where the last of an IPv6 packet's first `head` octets of headers says what follows. */
function nextHeaderField(bytes: Uint8Array, at: number, head: number): number {
  let field = at + IPV6.nextHeader;
  for (let here = at + IPV6.bytes; here < at + head; ) {
    const isFragment = bytes[field] === PROTOCOL.fragment;
    field = here;
    here += isFragment ? FRAGMENT_HEADER : 8 + 8 * bytes[here + 1]!;
  }
  return field;
}
