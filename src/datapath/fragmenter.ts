/** IPv4 fragmentation (RFC 791 §3.2) of packets that are too long for a tunnel's path and may be cut: before ESP, as RFC 4301 §7 allows. */

import { type Checksum, writeIpv4Checksum } from '../net/checksum.ts';
import { IPV4, type IpPacket } from '../net/ip-packet.ts';

const MORE_FRAGMENTS = 0x2000;
const OFFSET = 0x1fff;
/** Fragments are cut at multiples of this. */
const UNIT = 8;
const OPTION = { end: 0, nop: 1, copied: 0x80 } as const;

/** Cuts one packet at a time: `begin`, then `cut` for each fragment. */
export class Fragmenter {
  /** How many fragments the packet makes. */
  count = 0;
  #at = 0;
  #headerBytes = 0;
  #payloadBytes = 0;
  #each = 0;
  /** Offset and flags of the packet, which may be a fragment itself. */
  #field = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #checksum: Checksum;

  constructor(arena: Uint8Array, checksum: Checksum) {
    this.#bytes = arena;
    this.#view = new DataView(arena.buffer, arena.byteOffset, arena.length);
    this.#checksum = checksum;
  }

  /** Looks at a packet that is to be cut into fragments of at most `longest` octets; false where that cannot be done. */
  begin(packet: IpPacket, longest: number): boolean {
    const header = (this.#bytes[packet.at]! & 0x0f) * 4;
    this.#each = (longest - header) & -UNIT;
    if (packet.family !== 4 || packet.dontFragment || this.#each < UNIT) return false;
    this.#at = packet.at;
    this.#headerBytes = header;
    this.#payloadBytes = packet.bytes - header;
    this.#field = this.#view.getUint16(packet.at + IPV4.fragment);
    this.count = Math.ceil(this.#payloadBytes / this.#each);
    return (this.#field & OFFSET) + this.#payloadBytes / UNIT <= OFFSET + 1;
  }

  /** Octets of fragment `index`. */
  bytesOf(index: number): number {
    return this.#headerBytes + Math.min(this.#each, this.#payloadBytes - index * this.#each);
  }

  /** Writes fragment `index` to `to`: octets written. */
  cut(index: number, to: number): number {
    const bytes = this.#bytes;
    const header = this.#headerBytes;
    const from = this.#at + header + index * this.#each;
    const length = this.bytesOf(index);
    bytes.copyWithin(to, this.#at, this.#at + header);
    bytes.copyWithin(to + header, from, from + length - header);
    const more = index < this.count - 1 ? MORE_FRAGMENTS : 0;
    this.#view.setUint16(to + IPV4.totalLength, length);
    this.#view.setUint16(to + IPV4.fragment, (this.#field + index * (this.#each / UNIT)) | more);
    if (index > 0) this.#blankOptions(to + IPV4.bytes, to + header);
    writeIpv4Checksum(this.#checksum, bytes, to, header);
    return length;
  }

  /** Options without the copied flag are the first fragment's alone (RFC 791 §3.1); NOPs take their places. */
  #blankOptions(start: number, end: number): void {
    const bytes = this.#bytes;
    for (let at = start; at < end && bytes[at] !== OPTION.end; ) {
      const length = bytes[at] === OPTION.nop || at + 1 >= end ? 1 : Math.max(2, bytes[at + 1]!);
      if ((bytes[at]! & OPTION.copied) === 0) bytes.fill(OPTION.nop, at, Math.min(end, at + length));
      at += length;
    }
  }
}
