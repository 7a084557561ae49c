/** IP headers that the engine writes itself: around what it sends whole, and before what it delivers (RFC 791 §3.1, RFC 8200 §3). */

import type { IpAddress } from '../net/address.ts';
import { type Checksum, writeIpv4Checksum } from '../net/checksum.ts';
import { IPV4, IPV6 } from '../net/ip-packet.ts';

/** For packets whose sender's is not known. */
export const HOP_LIMIT = 64;
/** Don't fragment, in an IPv4 header's flags. */
export const DONT_FRAGMENT = 0x4000;
/** What a total or payload length can say. */
export const MAX_PACKET = 0xffff;

/** Writes headers into one arena. */
export class IpHeaders {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #checksum: Checksum;
  /** Of IPv4 packets that are made here: never 0, which a raw socket would fill in. */
  #id = 0;

  constructor(arena: Uint8Array, checksum: Checksum) {
    this.#bytes = arena;
    this.#view = new DataView(arena.buffer, arena.byteOffset, arena.length);
    this.#checksum = checksum;
  }

  /** The next identification for a packet that leaves. */
  nextId(): number {
    this.#id = (this.#id % 0xffff) + 1;
    return this.#id;
  }

  /** A header without options or extension headers at `at`, for `payloadBytes` behind it. `id` and `flags` are for IPv4. */
  write(
    at: number,
    source: IpAddress,
    destination: IpAddress,
    protocol: number,
    payloadBytes: number,
    trafficClass: number,
    id: number,
    flags: number,
  ): void {
    const bytes = this.#bytes;
    const view = this.#view;
    if (source.family === 4) {
      view.setUint16(at, 0x4500 | trafficClass);
      view.setUint16(at + IPV4.totalLength, IPV4.bytes + payloadBytes);
      view.setUint16(at + IPV4.id, id);
      view.setUint16(at + IPV4.fragment, flags);
      bytes[at + IPV4.ttl] = HOP_LIMIT;
      bytes[at + IPV4.protocol] = protocol;
      source.writeTo(bytes, at + IPV4.source);
      destination.writeTo(bytes, at + IPV4.destination);
      writeIpv4Checksum(this.#checksum, bytes, at, IPV4.bytes);
    } else {
      view.setUint32(at, 0x60000000 + trafficClass * 0x100000);
      view.setUint16(at + IPV6.payloadLength, payloadBytes);
      bytes[at + IPV6.nextHeader] = protocol;
      bytes[at + IPV6.hopLimit] = HOP_LIMIT;
      source.writeTo(bytes, at + IPV6.source);
      destination.writeTo(bytes, at + IPV6.destination);
    }
  }

  /** Puts the lengths of the packet at `at`, and IPv4's checksum, right after its headers (`headerBytes`) or payload have changed. */
  resize(at: number, headerBytes: number, length: number): void {
    if (this.#bytes[at]! >> 4 === 4) {
      this.#view.setUint16(at + IPV4.totalLength, length);
      writeIpv4Checksum(this.#checksum, this.#bytes, at, headerBytes);
    } else this.#view.setUint16(at + IPV6.payloadLength, length - IPV6.bytes);
  }
}
