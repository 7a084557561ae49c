/** ESP that comes before its SA: the peer may send as soon as it has answered, while UPDATE of the larval SA is still on its way (RFC 2367 §3.1.2, RFC 7296 §2.8). */

import type { Spi } from '../ipsec/sa.ts';
import { DROP, type Drops } from './drops.ts';
import type { Slots } from './slots.ts';

/** Packets and octets that one larval SA may keep, and octets that all may: who knows an SPI that is not in use yet can fill no more. */
const MOST_PACKETS = 256;
const MOST_BYTES = 256 * 1024;
const MOST_BYTES_OF_ALL = 1024 * 1024;

/** One ESP packet as it came, from its SPI on, with what its slot said of it (`INPUT.udp` or `INPUT.raw`). */
export interface EarlyPacket {
  readonly bytes: Uint8Array;
  readonly kind: number;
  readonly trafficClass: number;
  /** A family of 0: the address is not known. */
  readonly localFamily: number;
  readonly local: Int32Array;
  readonly remoteFamily: number;
  readonly remote: Int32Array;
  readonly remotePort: number;
}

interface Waiting {
  readonly packets: EarlyPacket[];
  bytes: number;
}

export class Early {
  readonly #drops: Drops;
  readonly #waiting = new Map<Spi, Waiting>();
  #ready: EarlyPacket[] = [];
  /** Octets of all that wait or may go. */
  #bytes = 0;

  constructor(drops: Drops) {
    this.#drops = drops;
  }

  /** How many packets wait, and how many may go. */
  get held(): number {
    let sum = 0;
    for (const { packets } of this.#waiting.values()) sum += packets.length;
    return sum;
  }

  get ready(): number {
    return this.#ready.length;
  }

  /** Why no packet of `bytes` octets may wait for this larval SA, or `DROP.none`. */
  refusal(spi: Spi, bytes: number): number {
    const waiting = this.#waiting.get(spi);
    const isFull = waiting !== undefined && (waiting.packets.length >= MOST_PACKETS || waiting.bytes + bytes > MOST_BYTES);
    return isFull || this.#bytes + bytes > MOST_BYTES_OF_ALL ? DROP.holdFull : DROP.none;
  }

  /** Keeps a packet that `refusal` does not refuse. */
  keep(spi: Spi, packet: EarlyPacket): void {
    let waiting = this.#waiting.get(spi);
    if (waiting === undefined) {
      waiting = { packets: [], bytes: 0 };
      this.#waiting.set(spi, waiting);
    }
    waiting.packets.push(packet);
    waiting.bytes += packet.bytes.length;
    this.#bytes += packet.bytes.length;
  }

  /** The SA is there: what came for it may go. */
  complete(spi: Spi): void {
    const waiting = this.#waiting.get(spi);
    if (waiting === undefined) return;
    this.#waiting.delete(spi);
    this.#ready.push(...waiting.packets);
  }

  /** There will be no such SA. */
  discard(spi: Spi): void {
    const waiting = this.#waiting.get(spi);
    if (waiting === undefined) return;
    this.#waiting.delete(spi);
    this.#bytes -= waiting.bytes;
    for (const _ of waiting.packets) this.#drops.count(DROP.noSa);
  }

  /** The next packet that may go, written into `slot` of `slots`; false where there is none. */
  take(arena: Uint8Array, slots: Slots, slot: number): boolean {
    const packet = this.#ready.shift();
    if (packet === undefined) return false;
    const { bytes, kind, local, remote } = packet;
    this.#bytes -= bytes.length;
    arena.set(bytes, slots.buffer[slot]!);
    slots.takePacket(slot, kind, bytes.length);
    slots.trafficClass[slot] = packet.trafficClass;
    slots.localFamily[slot] = packet.localFamily;
    slots.remoteFamily[slot] = packet.remoteFamily;
    slots.remotePort[slot] = packet.remotePort;
    slots.local.set(local, 4 * slot);
    slots.remote.set(remote, 4 * slot);
    return true;
  }
}
