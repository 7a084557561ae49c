/** IKE messages on their way to iked: bounded, with a share per source network, so that a flood from one starves no other (decisions: encap.sock). */

export interface QueueLimits {
  /** Messages that may wait in all, and of one network. */
  readonly total: number;
  readonly share: number;
  /** Messages handed out that are not yet taken over. */
  readonly inFlight: number;
}

export const QUEUE_LIMITS: QueueLimits = { total: 1024, share: 128, inFlight: 64 };

/** Networks take turns; within one the order is kept. */
export class IkeQueue {
  readonly #limits: QueueLimits;
  readonly #networks = new Map<string, Uint8Array[]>();
  #waiting = 0;
  #inFlight = 0;

  constructor(limits: QueueLimits = QUEUE_LIMITS) {
    this.#limits = limits;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** False where there is no room: the message is lost, and the peer sends it again. */
  put(network: string, frame: Uint8Array): boolean {
    const { total, share } = this.#limits;
    const queue = this.#networks.get(network);
    if (this.#waiting >= total || (queue?.length ?? 0) >= share) return false;
    if (queue === undefined) this.#networks.set(network, [frame]);
    else queue.push(frame);
    this.#waiting++;
    return true;
  }

  /** So many of those handed out have been taken over. */
  taken(count: number): void {
    this.#inFlight = Math.max(0, this.#inFlight - count);
  }

  /** The next one that may leave, or undefined. */
  next(): Uint8Array | undefined {
    if (this.#waiting === 0 || this.#inFlight >= this.#limits.inFlight) return undefined;
    for (const [network, queue] of this.#networks) {
      const frame = queue.shift();
      // To the end of the line, or out of it.
      this.#networks.delete(network);
      if (queue.length > 0) this.#networks.set(network, queue);
      if (frame === undefined) continue;
      this.#waiting--;
      this.#inFlight++;
      return frame;
    }
    return undefined;
  }
}

/** What shares one source's fate: an IPv4 /24, an IPv6 /48. */
export function networkOf(address: Uint8Array): string {
  return address.subarray(0, address.length === 4 ? 3 : 6).join('.');
}
