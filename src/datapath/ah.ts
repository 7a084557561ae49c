/** AH in the arena (RFC 4302): laid out, its ICV computed over the packet around it, and checked. It is off the fast path. */

import type { PacketCipher } from '../crypto/packet-cipher.ts';
import { DROP } from './drops.ts';
import type { Opened } from './esp.ts';
import { toIcvInput } from './mutable-fields.ts';
import type { Sa } from './sa.ts';
import type { Sad } from './sad.ts';

/** Offsets in AH, §2. */
const PAYLOAD_LENGTH = 1;
const SPI = 4;
const SEQUENCE = 8;
const ICV = 12;
/** Octets of IV that an ICV may begin with. */
const IV = 8;

const TWO_32 = 0x1_0000_0000;
/** `PacketCipher` counts its text from behind SPI and sequence number, which for a bare MAC are its first octets like any others. */
const NOT_TEXT = 8;
/** Room for the largest ICV behind the copy that it is computed over. */
export const ICV_ROOM = 64;

/** How long AH is in IPv4: as RFC 4302 §2.6 wants it, or a multiple of eight octets as Linux has it by default. */
export type AhAlignment = 4 | 8;

export class Ah {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #cipher: PacketCipher;
  readonly #sad: Sad;
  readonly #opened: Opened;
  readonly #alignment: AhAlignment;

  /** What `open` finds it leaves in `opened`, as ESP does. */
  constructor(arena: Uint8Array, cipher: PacketCipher, sad: Sad, opened: Opened, alignment: AhAlignment) {
    this.#bytes = arena;
    this.#view = new DataView(arena.buffer, arena.byteOffset, arena.length);
    this.#cipher = cipher;
    this.#sad = sad;
    this.#opened = opened;
    this.#alignment = alignment;
  }

  /** Octets of the header: a multiple of 4 in IPv4 and of 8 in IPv6 (§2.6). */
  headerBytes(sa: Sa, family: number): number {
    return alignedTo(ICV + sa.icvBytes, family === 6 ? 8 : this.#alignment);
  }

  /**
   * Writes AH at `ahAt` into the packet at `at`, which is otherwise complete and calls AH its next protocol, under the SA's next sequence number
   * (§3.3.2, §3.3.3). `scratchAt` is where `length` octets and ICV_ROOM more are free. `DROP.none`, or the reason: the packet's
   * headers cannot be authenticated, or the cipher failed.
   */
  seal(sa: Sa, at: number, length: number, ahAt: number, nextHeader: number, scratchAt: number): number {
    const view = this.#view;
    const family = this.#bytes[at]! >> 4;
    const headerBytes = this.headerBytes(sa, family);
    const sequence = sa.sequence + 1;
    sa.sequence = sequence;
    view.setUint32(ahAt, nextHeader * 0x1000000 + (headerBytes / 4 - 2) * 0x10000);
    view.setInt32(ahAt + SPI, sa.spi | 0);
    view.setInt32(ahAt + SEQUENCE, sequence | 0);
    this.#bytes.fill(0, ahAt + ICV, ahAt + headerBytes);
    if (sa.icvIvBytes > 0) this.#writeIv(sa, ahAt + ICV, sequence);
    const high = (sequence / TWO_32) | 0;
    // An algorithm with an IV finds it in front of its ICV (RFC 4543 §4); another writes over it.
    view.setInt32(scratchAt + length, high ^ sa.ivHigh);
    view.setInt32(scratchAt + length + 4, sequence ^ sa.ivLow);
    const icvAt = this.#icv(sa, at, length, ahAt, sa.extended ? high >>> 0 : -1, scratchAt, true);
    if (icvAt < 0) return icvAt === UNREADABLE ? DROP.notForTransport : DROP.cipherFailed;
    this.#bytes.copyWithin(ahAt + ICV, icvAt, icvAt + sa.icvBytes);
    return DROP.none;
  }

  /** The SPI of the AH at `ahAt`, of which ICV octets are there. */
  spiAt(ahAt: number): number {
    return this.#view.getUint32(ahAt + SPI);
  }

  /**
   * §3.4: checks the window and the ICV of the packet at `at` whose AH is at `ahAt`, and only then moves the window. `homeAddress`: whether a
   * home address option is still as it was sent.
   */
  open(sa: Sa, at: number, length: number, ahAt: number, homeAddress: boolean, scratchAt: number): number {
    const bytes = this.#bytes;
    const headerBytes = 4 * (bytes[ahAt + PAYLOAD_LENGTH]! + 2);
    // Padding beyond eight octets' alignment is prohibited (§3.3.3.2.1); Linux pads to that in IPv4 too.
    const least = ICV + sa.icvBytes;
    if (headerBytes !== alignedTo(least, 8) && (bytes[at]! >> 4 === 6 || headerBytes !== alignedTo(least, 4)))
      return DROP.truncated;
    if (ahAt + headerBytes > at + length) return DROP.truncated;
    const low = this.#view.getUint32(ahAt + SEQUENCE);
    const sequence = sa.extended ? sa.window.extend(low) : low;
    if (!sa.window.fresh(sequence)) return DROP.replayed;
    bytes.copyWithin(scratchAt + length, ahAt + ICV, ahAt + ICV + IV);
    const icvAt = this.#icv(sa, at, length, ahAt, sa.extended ? Math.floor(sequence / TWO_32) : -1, scratchAt, homeAddress);
    if (icvAt < 0) return icvAt === UNREADABLE ? DROP.malformed : DROP.cipherFailed;
    let difference = 0;
    for (let i = 0; i < sa.icvBytes; i++) difference |= bytes[icvAt + i]! ^ bytes[ahAt + ICV + i]!;
    if (difference !== 0) return DROP.badIcv;
    const opened = this.#opened;
    opened.newest = sequence > sa.window.top;
    sa.window.accept(sequence);
    opened.at = ahAt + headerBytes;
    opened.bytes = at + length - opened.at;
    opened.nextHeader = bytes[ahAt]!;
    return DROP.none;
  }

  /** §3.3.3: where the ICV lies, computed over a copy with what is mutable zeroed, or why there is none. */
  #icv(sa: Sa, at: number, length: number, ahAt: number, high: number, scratchAt: number, homeAddress: boolean): number {
    if (sa.sealHandle < 0 && !this.#sad.prepare(sa, 'outbound')) return FAILED;
    const bytes = this.#bytes;
    bytes.copyWithin(scratchAt, at, at + length);
    const icvAt = scratchAt + (ahAt - at) + ICV;
    // GMAC finds its IV where its ICV is to be.
    bytes.copyWithin(scratchAt + length, icvAt, icvAt + sa.icvIvBytes);
    bytes.fill(0, icvAt, icvAt + sa.icvBytes);
    if (!toIcvInput(bytes, scratchAt, ahAt - at, homeAddress)) return UNREADABLE;
    if (!this.#cipher.seal(sa.sealHandle, scratchAt, length - NOT_TEXT, high)) return FAILED;
    return scratchAt + length;
  }

  /** RFC 4543 §3.1: never the same twice under a key; the sequence number, mixed with a number of the SA's own. */
  #writeIv(sa: Sa, at: number, sequence: number): void {
    this.#view.setInt32(at, ((sequence / TWO_32) | 0) ^ sa.ivHigh);
    this.#view.setInt32(at + 4, (sequence | 0) ^ sa.ivLow);
  }
}

const FAILED = -1;
const UNREADABLE = -2;

function alignedTo(octets: number, align: number): number {
  return (octets + align - 1) & -align;
}
