/** ESP packets in the arena (RFC 4303 §2): laid out, sealed and opened in place. */

import type { PacketCipher } from '../crypto/packet-cipher.ts';
import type { RandomBytes } from '../machine.ts';
import { DROP } from './drops.ts';
import type { Sa } from './sa.ts';
import type { Sad } from './sad.ts';

/** Octets of SPI and sequence number, and of pad length and next header. */
export const ESP_HEADER = 8;
const TRAILER = 2;
const SEQUENCE = 4;

const TWO_32 = 0x1_0000_0000;
const RANDOM_POOL = 4096;

/** Where `open` leaves what it found: one packet at a time. */
export interface Opened {
  /** Offset and length of the payload, without padding and trailer; TFC padding is still in it. */
  at: number;
  bytes: number;
  nextHeader: number;
  /** Whether its sequence number was the highest so far. */
  newest: boolean;
}

export class Esp {
  readonly opened: Opened = { at: 0, bytes: 0, nextHeader: 0, newest: false };
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #cipher: PacketCipher;
  readonly #sad: Sad;
  readonly #random: RandomBytes;
  #pool: Uint8Array = new Uint8Array(0);
  #poolAt = 0;

  constructor(arena: Uint8Array, cipher: PacketCipher, sad: Sad, random: RandomBytes) {
    this.#bytes = arena;
    this.#view = new DataView(arena.buffer, arena.byteOffset, arena.length);
    this.#cipher = cipher;
    this.#sad = sad;
    this.#random = random;
  }

  /** Where the payload of a packet at `espAt` begins. */
  payloadAt(sa: Sa, espAt: number): number {
    return espAt + ESP_HEADER + sa.ivBytes;
  }

  /** The SPI of the packet at `espAt`, of which there is that much. */
  spiAt(espAt: number): number {
    return this.#view.getUint32(espAt);
  }

  /** Octets that a payload becomes: header, IV, padding (RFC 4303 §2.4, §2.7), trailer, ICV. */
  sealedBytes(sa: Sa, payloadBytes: number): number {
    return ESP_HEADER + sa.ivBytes + textBytes(sa, paddedBytes(sa, payloadBytes)) + sa.icvBytes;
  }

  /**
   * Seals the payload that lies at `payloadAt(sa, espAt)` under the SA's next sequence number: octets of the ESP packet, or 0 where the
   * cipher failed. The caller has checked that there is a next number.
   */
  seal(sa: Sa, espAt: number, payloadBytes: number, nextHeader: number): number {
    if (sa.sealHandle < 0 && !this.#sad.prepare(sa, 'outbound')) return 0;
    const sequence = sa.sequence + 1;
    sa.sequence = sequence;
    const low = sequence | 0;
    const high = (sequence / TWO_32) | 0;
    const view = this.#view;
    view.setInt32(espAt, sa.spi | 0);
    view.setInt32(espAt + SEQUENCE, low);
    this.#writeIv(sa, espAt + ESP_HEADER, high, low);
    const payloadAt = espAt + ESP_HEADER + sa.ivBytes;
    if (payloadBytes < sa.padTo) {
      const padded = paddedBytes(sa, payloadBytes);
      this.#bytes.fill(0, payloadAt + payloadBytes, payloadAt + padded);
      payloadBytes = padded;
    }
    const text = textBytes(sa, payloadBytes);
    this.#writeTrailer(payloadAt + payloadBytes, text - payloadBytes, nextHeader);
    if (!this.#cipher.seal(sa.sealHandle, espAt, text, sa.extended ? high >>> 0 : -1)) return 0;
    return ESP_HEADER + sa.ivBytes + text + sa.icvBytes;
  }

  /**
   * RFC 4303 §3.4.3, §3.4.4: check the window, authenticate, and only then move the window and look inside. `DROP.none`, with `opened` filled,
   * or the reason to drop the packet.
   */
  open(sa: Sa, espAt: number, length: number): number {
    const text = length - ESP_HEADER - sa.ivBytes - sa.icvBytes;
    if (text < TRAILER || (text & (sa.align - 1)) !== 0) return DROP.truncated;
    const low = this.#view.getUint32(espAt + SEQUENCE);
    const sequence = sa.extended ? sa.window.extend(low) : low;
    if (!sa.window.fresh(sequence)) return DROP.replayed;
    if (sa.openHandle < 0 && !this.#sad.prepare(sa, 'inbound')) return DROP.cipherFailed;
    const high = sa.extended ? Math.floor(sequence / TWO_32) : -1;
    if (!this.#cipher.open(sa.openHandle, espAt, text, high)) return DROP.badIcv;
    const opened = this.opened;
    opened.newest = sequence > sa.window.top;
    sa.window.accept(sequence);
    opened.at = espAt + ESP_HEADER + sa.ivBytes;
    const trailer = opened.at + text - TRAILER;
    const padding = this.#bytes[trailer]!;
    opened.nextHeader = this.#bytes[trailer + 1]!;
    opened.bytes = text - TRAILER - padding;
    return opened.bytes < 0 ? DROP.badPadding : DROP.none;
  }

  /** Padding 1, 2, 3, … then its length and the next header. */
  #writeTrailer(at: number, octets: number, nextHeader: number): void {
    const bytes = this.#bytes;
    const padding = octets - TRAILER;
    for (let i = 0; i < padding; i++) bytes[at + i] = i + 1;
    bytes[at + padding] = padding;
    bytes[at + padding + 1] = nextHeader;
  }

  /**
   * Counter modes need IVs that never repeat under a key: the sequence number, mixed with a number of the SA's own (RFC 4106 §3.1, RFC 3686
   * §2.1, RFC 7634 §2). CBC needs unpredictable ones (RFC 3602 §3): random octets.
   */
  #writeIv(sa: Sa, at: number, high: number, low: number): void {
    if (sa.randomIv) {
      if (this.#poolAt + sa.ivBytes > this.#pool.length) {
        this.#pool = this.#random(RANDOM_POOL);
        this.#poolAt = 0;
      }
      for (let i = 0; i < sa.ivBytes; i++) this.#bytes[at + i] = this.#pool[this.#poolAt + i]!;
      this.#poolAt += sa.ivBytes;
    } else if (sa.ivBytes === 8) {
      this.#view.setInt32(at, high ^ sa.ivHigh);
      this.#view.setInt32(at + 4, low ^ sa.ivLow);
    }
  }
}

/** RFC 4303 §2.7: TFC padding, no further than the path carries in one piece. */
function paddedBytes({ padTo, longest }: Sa, payloadBytes: number): number {
  return Math.max(payloadBytes, Math.min(padTo, longest));
}

/** Payload, padding and trailer, up to the SA's alignment. */
function textBytes(sa: Sa, payloadBytes: number): number {
  return (payloadBytes + TRAILER + sa.align - 1) & -sa.align;
}
