/**
 * The engine (RFC 4301 §5): SPD and SAD, plain packets into protected ones and back. It does no I/O and has no clock; the host owns descriptors
 * and time, and brings the arena and the cipher. Packets pass in batches over slots (`slots.ts`); control passes by `verbs.ts`.
 */

import type { PacketCipher } from '../crypto/packet-cipher.ts';
import type { Instant, RandomBytes } from '../machine.ts';
import type { Path } from '../net/address.ts';
import type { Drops } from './drops.ts';
import type { Effect } from './effects.ts';
import type { Outputs, Reserve, Slots } from './slots.ts';

export interface DatapathOptions {
  readonly arena: Uint8Array;
  /** Sets parts of the arena aside; `reserveIn(arena)` where nothing else lives in it. */
  readonly reserve: Reserve;
  readonly cipher: PacketCipher;
  readonly random: RandomBytes;
  /** Input slots, 64 KiB each. */
  readonly slots: number;
  /** Room for the outputs of one batch, in descriptors and octets; absent: 2048 and 1 MiB. */
  readonly outputs?: number;
  readonly outputBytes?: number;
  /** What happens to traffic that no policy matches. */
  readonly unmatched: 'bypass' | 'discard';
  /** Whether frames for the device may be coalesced, which needs a device that takes virtio_net_hdr and segmentation. */
  readonly coalesce: boolean;
  /** How long an ACQUIRE may stay unanswered and a GETSPI incomplete, in milliseconds; absent: 30 s. */
  readonly larvalLifetime?: number;
  /** Packets kept for SAs to come, per ACQUIRE; absent: 16. */
  readonly heldPackets?: number;
}

/** What the packet worker uses. */
export interface PacketEngine {
  readonly inputs: Slots;
  readonly outputs: Outputs;
  readonly drops: Drops;

  /**
   * Takes `count` input slots from `first` (`INPUT.frame`) and fills `outputs`: ESP to send, bypassed packets, and answers to the device.
   * Returns how many inputs it consumed: where that is less than `count`, the outputs have no more room; send them and call again for the rest.
   */
  protectBatch(first: number, count: number, now: Instant): number;

  /** The same for what was received (`INPUT.rawWithHeader`, `raw`, `udp`): frames for the device. The input buffers must stay until they are written. */
  unprotectBatch(first: number, count: number, now: Instant): number;

  /**
   * Checks what arrived in clear (`INPUT.clear`) against the inbound policies (RFC 4301 §5.2): a slot that must not pass gets its reason in
   * `inputs.drop`, another `DROP.none`. Returns how many may pass.
   */
  checkClear(first: number, count: number): number;

  /** Whether packets that waited for an SA can go now: then call `releaseHeld` until this is false, sending the outputs each time. */
  readonly hasReleasable: boolean;
  releaseHeld(now: Instant): void;

  /** Where the outputs of a path id go: undefined where the id is none. A path is a value; the id of one that is gone may be given to another. */
  path(id: number): Path | undefined;
  /** Changes whenever an id was given to another path: the host then forgets the socket addresses that it has prepared. */
  readonly pathGeneration: number;

  /** Rare effects since the last call, oldest first: ACQUIRE, EXPIRE, new mappings. */
  drain(): readonly Effect[];
  /** Lets time pass: lifetimes, unanswered ACQUIREs. */
  tick(now: Instant): void;
  /** When `tick` is due next, in `mono` milliseconds. */
  wakeAt(): number | undefined;
}
