/** Segmentation in software: a TCP or UDP frame of up to 64 KiB from the device, cut into packets as a network card would (virtio 1.2 §5.1.6.2). */

import { type Checksum, fold } from '../net/checksum.ts';
import { IPV4, IPV6, type IpPacket } from '../net/ip-packet.ts';
import { PROTOCOL } from '../net/transport.ts';
import { GSO } from './slots.ts';

const TCP = { sequence: 4, offset: 12, flags: 13, checksum: 16, bytes: 20 } as const;
const UDP = { length: 4, checksum: 6, bytes: 8 } as const;
/** FIN and PSH belong to the last segment only, CWR (RFC 3168 §6.1.2) to the first. */
const LAST_ONLY = 0x09;
const FIRST_ONLY = 0x80;

/** Cuts one frame at a time: `begin`, then `cut` for each segment. */
export class Segmenter {
  /** How many segments the frame has, and the payload octets of each but the last. */
  segments = 0;
  segmentBytes = 0;
  /** Octets of the IP header (with what follows it up to the transport) and of the transport header. */
  ipBytes = 0;
  transportBytes = 0;
  /** Octets of all segments' transport payload. */
  payloadBytes = 0;
  #at = 0;
  #tcp = true;
  #family = 4;
  /** Sum of the pseudo-header without the length, and of an IPv4 header without what differs: length, identification, checksum. */
  #pseudo = 0;
  #ipSum = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #checksum: Checksum;

  constructor(arena: Uint8Array, checksum: Checksum) {
    this.#bytes = arena;
    this.#view = new DataView(arena.buffer, arena.byteOffset, arena.length);
    this.#checksum = checksum;
  }

  /** Looks at the frame that `packet` describes; false where it cannot be cut as asked. */
  begin(packet: IpPacket, gsoType: number, segmentBytes: number): boolean {
    const protocol = gsoType === GSO.udp ? PROTOCOL.udp : PROTOCOL.tcp;
    const isTcp = gsoType === GSO.tcp4 || gsoType === GSO.tcp6;
    if (packet.protocol !== protocol || packet.fragment || segmentBytes === 0 || (!isTcp && gsoType !== GSO.udp)) return false;
    if (isTcp && packet.family !== (gsoType === GSO.tcp4 ? 4 : 6)) return false;
    const left = packet.bytes - packet.headerBytes;
    const transport = isTcp ? TCP.bytes : UDP.bytes;
    if (left < transport) return false;
    this.transportBytes = isTcp ? (this.#bytes[packet.at + packet.headerBytes + TCP.offset]! >> 4) * 4 : UDP.bytes;
    if (this.transportBytes < transport || this.transportBytes >= left) return false;
    this.#at = packet.at;
    this.#tcp = isTcp;
    this.#family = packet.family;
    this.ipBytes = packet.headerBytes;
    this.payloadBytes = left - this.transportBytes;
    this.segmentBytes = segmentBytes;
    this.segments = Math.ceil(this.payloadBytes / segmentBytes);
    this.#pseudo = this.#checksum.pseudo(packet.at, protocol, 0);
    if (packet.family === 4) this.#ipSum = this.#sumWithout(packet.at, packet.headerBytes);
    return true;
  }

  /** Octets of segment `index` with its IP header. */
  bytesOf(index: number): number {
    return this.ipBytes + this.transportBytes + this.#payloadOf(index);
  }

  /** Writes segment `index` to `to`, its checksums right, with or without its IP header: octets written. */
  cut(index: number, to: number, withIp: boolean): number {
    const payload = this.#payloadOf(index);
    const bytes = this.#bytes;
    const transportTo = withIp ? to + this.ipBytes : to;
    const transportAt = this.#at + this.ipBytes;
    const payloadAt = transportAt + this.transportBytes;
    const from = payloadAt + index * this.segmentBytes;
    bytes.copyWithin(to, withIp ? this.#at : transportAt, payloadAt);
    bytes.copyWithin(transportTo + this.transportBytes, from, from + payload);
    const transport = this.transportBytes + payload;
    if (withIp) this.#cutIp(index, to, this.ipBytes + transport);
    if (this.#tcp) this.#cutTcp(index, transportTo);
    else this.#view.setUint16(transportTo + UDP.length, transport);
    const field = transportTo + (this.#tcp ? TCP.checksum : UDP.checksum);
    this.#view.setUint16(field, 0);
    const value = this.#checksum.of(transportTo, transport, this.#pseudo + transport);
    this.#view.setUint16(field, value === 0 && !this.#tcp ? 0xffff : value);
    return transportTo + transport - to;
  }

  #payloadOf(index: number): number {
    return Math.min(this.segmentBytes, this.payloadBytes - index * this.segmentBytes);
  }

  #cutIp(index: number, to: number, length: number): void {
    const view = this.#view;
    if (this.#family === 4) {
      const id = (view.getUint16(this.#at + IPV4.id) + index) & 0xffff;
      view.setUint16(to + IPV4.totalLength, length);
      view.setUint16(to + IPV4.id, id);
      view.setUint16(to + IPV4.checksum, ~fold(this.#ipSum + length + id) & 0xffff);
    } else {
      view.setUint16(to + IPV6.payloadLength, length - IPV6.bytes);
    }
  }

  /** The sum of an IPv4 header less (RFC 1624) what differs from segment to segment. */
  #sumWithout(at: number, headerBytes: number): number {
    const view = this.#view;
    const length = 0xffff ^ view.getUint16(at + IPV4.totalLength);
    const id = 0xffff ^ view.getUint16(at + IPV4.id);
    const checksum = 0xffff ^ view.getUint16(at + IPV4.checksum);
    return fold(this.#checksum.sum(at, headerBytes) + length + id + checksum);
  }

  #cutTcp(index: number, to: number): void {
    const view = this.#view;
    view.setInt32(to + TCP.sequence, (view.getInt32(to + TCP.sequence) + index * this.segmentBytes) | 0);
    let flags = this.#bytes[to + TCP.flags]!;
    if (index < this.segments - 1) flags &= ~LAST_ONLY;
    if (index > 0) flags &= ~FIRST_ONLY;
    this.#bytes[to + TCP.flags] = flags;
  }
}

/**
 * Finishes the transport checksum of a frame whose field holds the pseudo-header's sum: `start` is where the sum begins, `offset` where the
 * field lies behind that. False where that is outside of the packet.
 */
export function completeChecksum(
  checksum: Checksum,
  bytes: Uint8Array,
  packet: IpPacket,
  start: number,
  offset: number,
): boolean {
  const field = start + offset;
  if (start < packet.headerBytes || field + 2 > packet.bytes) return false;
  const value = checksum.of(packet.at + start, packet.bytes - start);
  const whole = value === 0 && packet.protocol === PROTOCOL.udp ? 0xffff : value;
  bytes[packet.at + field] = whole >>> 8;
  bytes[packet.at + field + 1] = whole & 0xff;
  return true;
}
