/** A view of one IPv4 or IPv6 packet in an arena: one length check, the headers walked once, then plain numbers (RFC 791, RFC 8200 §4). */

import { IpAddress } from './address.ts';
import { destinationPortOf, NO_PORT, PROTOCOL, sourcePortOf } from './transport.ts';

export const IPV4 = {
  tos: 1,
  totalLength: 2,
  id: 4,
  fragment: 6,
  ttl: 8,
  protocol: 9,
  checksum: 10,
  source: 12,
  destination: 16,
  bytes: 20,
} as const;
export const IPV6 = { payloadLength: 4, nextHeader: 6, hopLimit: 7, source: 8, destination: 24, bytes: 40 } as const;

const MORE_FRAGMENTS_OR_OFFSET = 0x3fff;

/**
 * One view, moved over many packets by `read`; its members hold until the next. Addresses are four signed words, most significant first, each
 * with its top bit inverted, so that `<` orders them as unsigned numbers; an IPv4 address is the first word and the others are 0.
 */
export class IpPacket {
  family = 4;
  /** Offset in the arena, and octets by the IP header's own length. */
  at = 0;
  bytes = 0;
  /** Octets from `at` to the transport header: the IP header, its options, IPv6 extension headers. */
  headerBytes = 0;
  /** Upper-layer protocol. */
  protocol = 0;
  /** Where the protocol's number is written, as an offset in the arena. */
  protocolAt = 0;
  trafficClass = 0;
  /** Part of a fragmented packet. */
  fragment = false;
  /** Has IPv4 options or IPv6 extension headers. */
  extended = false;
  /** IPv4: don't fragment; IPv6: always. */
  dontFragment = false;
  source0 = 0;
  source1 = 0;
  source2 = 0;
  source3 = 0;
  destination0 = 0;
  destination1 = 0;
  destination2 = 0;
  destination3 = 0;
  /** As PF_KEY means ports (`transport.ts`); NO_PORT in fragments and where the protocol has none. */
  sourcePort = NO_PORT;
  destinationPort = NO_PORT;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(arena: Uint8Array) {
    this.#bytes = arena;
    this.#view = new DataView(arena.buffer, arena.byteOffset, arena.length);
  }

  /** Looks at the packet at `at`, of which `available` octets are there (more than its own length is fine). False where it is none. */
  read(at: number, available: number): boolean {
    this.at = at;
    this.fragment = false;
    this.sourcePort = NO_PORT;
    this.destinationPort = NO_PORT;
    if (available < IPV4.bytes) return false;
    const version = this.#bytes[at]! >> 4;
    if (version === 4 ? !this.#readIpv4(at, available) : version !== 6 || !this.#readIpv6(at, available)) return false;
    if (!this.fragment) {
      const transportAt = at + this.headerBytes;
      const transportBytes = this.bytes - this.headerBytes;
      this.sourcePort = sourcePortOf(this.#bytes, this.protocol, transportAt, transportBytes);
      this.destinationPort = destinationPortOf(this.#bytes, this.protocol, transportAt, transportBytes);
    }
    return true;
  }

  /** As objects, for what is rare. */
  sourceAddress(): IpAddress {
    return this.#addressAt(this.family === 4 ? IPV4.source : IPV6.source);
  }

  destinationAddress(): IpAddress {
    return this.#addressAt(this.family === 4 ? IPV4.destination : IPV6.destination);
  }

  #addressAt(offset: number): IpAddress {
    return IpAddress.at(this.#bytes, this.at + offset, this.family === 4 ? 4 : 6);
  }

  #readIpv4(at: number, available: number): boolean {
    const bytes = this.#bytes;
    const view = this.#view;
    this.family = 4;
    this.headerBytes = (bytes[at]! & 0x0f) * 4;
    this.bytes = view.getUint16(at + IPV4.totalLength);
    if (this.headerBytes < IPV4.bytes || this.bytes < this.headerBytes || this.bytes > available) return false;
    const fragment = view.getUint16(at + IPV4.fragment);
    this.extended = this.headerBytes > IPV4.bytes;
    this.fragment = (fragment & MORE_FRAGMENTS_OR_OFFSET) !== 0;
    this.dontFragment = (fragment & 0x4000) !== 0;
    this.trafficClass = bytes[at + IPV4.tos]!;
    this.protocolAt = at + IPV4.protocol;
    this.protocol = bytes[this.protocolAt]!;
    this.source0 = view.getInt32(at + IPV4.source) ^ 0x80000000;
    this.destination0 = view.getInt32(at + IPV4.destination) ^ 0x80000000;
    this.source1 = this.source2 = this.source3 = 0;
    this.destination1 = this.destination2 = this.destination3 = 0;
    return true;
  }

  #readIpv6(at: number, available: number): boolean {
    const bytes = this.#bytes;
    const view = this.#view;
    if (available < IPV6.bytes) return false;
    this.family = 6;
    this.headerBytes = IPV6.bytes;
    this.bytes = IPV6.bytes + view.getUint16(at + IPV6.payloadLength);
    if (this.bytes > available) return false;
    this.dontFragment = true;
    this.trafficClass = ((bytes[at]! & 0x0f) << 4) | (bytes[at + 1]! >> 4);
    this.source0 = view.getInt32(at + 8) ^ 0x80000000;
    this.source1 = view.getInt32(at + 12) ^ 0x80000000;
    this.source2 = view.getInt32(at + 16) ^ 0x80000000;
    this.source3 = view.getInt32(at + 20) ^ 0x80000000;
    this.destination0 = view.getInt32(at + 24) ^ 0x80000000;
    this.destination1 = view.getInt32(at + 28) ^ 0x80000000;
    this.destination2 = view.getInt32(at + 32) ^ 0x80000000;
    this.destination3 = view.getInt32(at + 36) ^ 0x80000000;
    this.protocolAt = at + IPV6.nextHeader;
    this.protocol = bytes[this.protocolAt]!;
    const walked = this.#walk();
    this.extended = this.headerBytes > IPV6.bytes;
    return walked;
  }

  /** Extension headers, RFC 8200 §4.1, up to the transport header or to a fragment that does not begin one. */
  #walk(): boolean {
    const bytes = this.#bytes;
    for (;;) {
      const header = this.protocol;
      const isFragment = header === PROTOCOL.fragment;
      if (!isFragment && header !== PROTOCOL.hopByHop && header !== PROTOCOL.routing && header !== PROTOCOL.destinationOptions)
        return true;
      if (this.headerBytes + 8 > this.bytes) return false;
      const here = this.at + this.headerBytes;
      const length = isFragment ? 8 : 8 + 8 * bytes[here + 1]!;
      if (this.headerBytes + length > this.bytes) return false;
      // An "atomic" fragment is whole (RFC 6946).
      if (isFragment && (bytes[here + 2]! !== 0 || (bytes[here + 3]! & 0xf9) !== 0)) this.fragment = true;
      this.protocolAt = here;
      this.protocol = bytes[here]!;
      this.headerBytes += length;
      if (this.fragment) return true;
    }
  }
}
