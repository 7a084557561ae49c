/** A cache in front of the ordered SPD (RFC 4301 §4.4.1, "SPD cache"): what was decided for a flow, until a policy or an SA changes. */

import type { IpPacket } from '../net/ip-packet.ts';

const KEY_WORDS = 12;
const WAYS = 2;
/** Sets that a cache grows to at most: 65,536 flows, 3.5 MB. */
const MOST_SETS = 32_768;

/**
 * Two places for each flow, the younger first; where flows keep taking each other's places the cache grows. `Decision` is whatever the owner decides;
 * the cache keeps a reference to it.
 */
export class FlowCache<Decision> {
  #mask: number;
  #keys: Int32Array;
  #decisions: (Decision | undefined)[];
  #isEmpty = true;
  #place = 0;
  /** Flows that lost their place since the last change of size. */
  #displaced = 0;

  /** `sets` is a power of two. */
  constructor(sets = 2048) {
    this.#mask = sets - 1;
    this.#keys = new Int32Array(sets * WAYS * KEY_WORDS);
    this.#decisions = new Array<Decision | undefined>(sets * WAYS).fill(undefined);
  }

  invalidate(): void {
    if (!this.#isEmpty) this.#decisions.fill(undefined);
    this.#isEmpty = true;
  }

  /** The decision for the packet's flow, under `salt` (what else it depends on), or undefined; then `remember` may be called for the same packet. */
  find(packet: IpPacket, salt: number): Decision | undefined {
    const first = (hash(packet, salt) & this.#mask) * WAYS;
    this.#place = first;
    if (this.#holds(first, packet, salt)) return this.#decisions[first];
    if (this.#holds(first + 1, packet, salt)) return this.#decisions[first + 1];
    return undefined;
  }

  /** How many flows it has places for. */
  get capacity(): number {
    return this.#decisions.length;
  }

  /** Keeps the decision for the packet that `find` was last asked about. */
  remember(packet: IpPacket, salt: number, decision: Decision): void {
    if (this.#decisions[this.#place + 1] !== undefined && ++this.#displaced > Math.max(WAYS, this.capacity >> 4))
      this.#grow(packet, salt);
    const first = this.#place;
    const keys = this.#keys;
    const at = first * KEY_WORDS;
    keys.copyWithin(at + KEY_WORDS, at, at + KEY_WORDS);
    this.#decisions[first + 1] = this.#decisions[first];
    keys[at] = packet.source0;
    keys[at + 1] = packet.source1;
    keys[at + 2] = packet.source2;
    keys[at + 3] = packet.source3;
    keys[at + 4] = packet.destination0;
    keys[at + 5] = packet.destination1;
    keys[at + 6] = packet.destination2;
    keys[at + 7] = packet.destination3;
    keys[at + 8] = packet.sourcePort;
    keys[at + 9] = packet.destinationPort;
    keys[at + 10] = (packet.family << 8) | packet.protocol;
    keys[at + 11] = salt;
    this.#decisions[first] = decision;
    this.#isEmpty = false;
  }

  /** Twice the places, all empty: what is still in use is decided once more. */
  #grow(packet: IpPacket, salt: number): void {
    this.#displaced = 0;
    if (this.#mask + 1 >= MOST_SETS) return;
    const sets = 2 * (this.#mask + 1);
    this.#mask = sets - 1;
    this.#keys = new Int32Array(sets * WAYS * KEY_WORDS);
    this.#decisions = new Array<Decision | undefined>(sets * WAYS).fill(undefined);
    this.#place = (hash(packet, salt) & this.#mask) * WAYS;
  }

  #holds(place: number, packet: IpPacket, salt: number): boolean {
    const keys = this.#keys;
    const at = place * KEY_WORDS;
    return (
      keys[at] === packet.source0 &&
      keys[at + 4] === packet.destination0 &&
      keys[at + 8] === packet.sourcePort &&
      keys[at + 9] === packet.destinationPort &&
      keys[at + 10] === ((packet.family << 8) | packet.protocol) &&
      keys[at + 11] === salt &&
      keys[at + 1] === packet.source1 &&
      keys[at + 2] === packet.source2 &&
      keys[at + 3] === packet.source3 &&
      keys[at + 5] === packet.destination1 &&
      keys[at + 6] === packet.destination2 &&
      keys[at + 7] === packet.destination3
    );
  }
}

function hash(packet: IpPacket, salt: number): number {
  let h = Math.imul(packet.source0 ^ Math.imul(packet.source3 ^ (packet.source1 + packet.source2), 0x85ebca6b), 0x9e3779b1);
  h = Math.imul(
    h ^ packet.destination0 ^ Math.imul(packet.destination3 ^ (packet.destination1 + packet.destination2), 0xc2b2ae35),
    0x27d4eb2f,
  );
  h = Math.imul(h ^ (packet.sourcePort << 16) ^ packet.destinationPort ^ (packet.protocol << 8) ^ (h >>> 15), 0x165667b1);
  h = Math.imul(h ^ salt ^ (h >>> 13), 0x9e3779b1);
  return h ^ (h >>> 16);
}
