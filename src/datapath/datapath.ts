/**
 * The engine (RFC 4301 §5): SPD and SAD, plain packets into protected ones and back. It does no I/O and has no clock; the host owns descriptors
 * and time, and brings the arena and the cipher. Packets pass in batches over slots (`slots.ts`); control passes by `verbs.ts`.
 */

import type { Compressor } from '../bytes/compressor.ts';
import type { EspSuite, PacketCipher } from '../crypto/packet-cipher.ts';
import { type KmAddress, type Policy, sameEnds, sameKmAddress, sameTunnel } from '../ipsec/policy.ts';
import type { SaParameters } from '../ipsec/sa.ts';
import type { Instant, RandomBytes } from '../machine.ts';
import type { Path } from '../net/address.ts';
import { Checksum } from '../net/checksum.ts';
import type { AhAlignment } from './ah.ts';
import { Core, FORMER_ENDS_GRACE } from './core.ts';
import { DROP, type Drops } from './drops.ts';
import type { Effect } from './effects.ts';
import { type Explanation, trace } from './explain.ts';
import { Icmp } from './icmp.ts';
import { Inbound } from './inbound.ts';
import type { MigratePlan } from './migrate-plan.ts';
import { Outbound } from './outbound.ts';
import type { Larval, Sa } from './sa.ts';
import { Outputs, type Reserve, Slots } from './slots.ts';
import type { SpdEntry } from './spd.ts';
import { type DatapathStatus, statusOf } from './status.ts';
import type { OuterHeaderPolicy } from './tunnel.ts';

export interface DatapathOptions {
  readonly arena: Uint8Array;
  /** Sets parts of the arena aside; `reserveIn(arena)` where nothing else lives in it. */
  readonly reserve: Reserve;
  /** Over the arena; absent: without SIMD. */
  readonly checksum?: Checksum;
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
  /** What AH's length is a multiple of in IPv4; absent: 4, as RFC 4302 §2.6 wants it. Both are taken from peers. */
  readonly ahAlignment?: AhAlignment;
  /** For IPComp; absent: there is none. */
  readonly compressor?: Compressor;
  /** DF and DSCP of outer headers; absent: the inner header's. */
  readonly outerHeader?: OuterHeaderPolicy;
  /** No ICMP message makes a path's MTU smaller; absent: 1280. */
  readonly pmtuFloor?: number;
  /** Whether the MSS of TCP's SYNs is lowered to what a path carries; absent: yes. */
  readonly mssClamp?: boolean;
  /** Whether senders are told by ICMP what was dropped for a policy or for want of an SA (RFC 4301 §5.1.1); default false. */
  readonly icmpErrors?: boolean;
  /** Whether packets take the DSCP of the tunnel's outer header; absent: no. */
  readonly decapDscp?: boolean;
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

  /** Takes an ICMP error from outside (`INPUT.icmp`, `icmpv6`): what it says of a path is believed where it quotes a packet of ours. */
  icmpError(slot: number, now: Instant): void;

  /** Whether packets that waited for an SA, of either direction, can go now: then call `releaseHeld` until this is false, sending the outputs each time. */
  readonly hasReleasable: boolean;
  releaseHeld(now: Instant): void;

  /** Where the outputs of a path id go: undefined where the id is none. A path is a value, and an id always means the same one. */
  path(id: number): Path | undefined;

  /** Rare effects since the last call, oldest first: ACQUIRE, EXPIRE, new mappings. */
  drain(): readonly Effect[];
  /** Lets time pass: lifetimes, unanswered ACQUIREs. */
  tick(now: Instant): void;
  /** When `tick` is due next, in `mono` milliseconds. */
  wakeAt(): number | undefined;
}

const DEFAULT_OUTPUTS = 2048;
const DEFAULT_OUTPUT_BYTES = 1024 * 1024;
const DEFAULT_LARVAL_LIFETIME = 30_000;
const DEFAULT_PMTU_FLOOR = 1280;
const DEFAULT_HELD_PACKETS = 16;

/** The engine with its two doors: batches of packets (`PacketEngine`), and what `verbs.ts` does to SPD and SAD. */
export class Datapath implements PacketEngine {
  readonly inputs: Slots;
  readonly outputs: Outputs;
  readonly core: Core;
  readonly #random: RandomBytes;
  readonly #cipher: PacketCipher;
  readonly #outbound: Outbound;
  readonly #inbound: Inbound;
  readonly #icmp: Icmp;
  /** One slot of the engine's own, for packets that were kept. */
  readonly #kept: Slots;

  constructor(options: DatapathOptions) {
    const { arena, reserve } = options;
    this.inputs = new Slots(arena, reserve, options.slots);
    this.#kept = new Slots(arena, reserve, 1);
    this.outputs = new Outputs(reserve, options.outputs ?? DEFAULT_OUTPUTS, options.outputBytes ?? DEFAULT_OUTPUT_BYTES);
    this.core = new Core(
      {
        arena,
        checksum: options.checksum ?? new Checksum(arena),
        cipher: options.cipher,
        random: options.random,
        unmatched: options.unmatched,
        larvalLifetime: options.larvalLifetime ?? DEFAULT_LARVAL_LIFETIME,
        heldPackets: options.heldPackets ?? DEFAULT_HELD_PACKETS,
        ahAlignment: options.ahAlignment ?? 4,
        compressor: options.compressor,
        outerHeader: options.outerHeader ?? { df: 'copy', dscp: 'copy' },
        pmtuFloor: options.pmtuFloor ?? DEFAULT_PMTU_FLOOR,
        mssClamp: options.mssClamp ?? true,
        icmpErrors: options.icmpErrors ?? false,
        decapDscp: options.decapDscp ?? false,
      },
      this.outputs,
    );
    this.#random = options.random;
    this.#cipher = options.cipher;
    this.#icmp = new Icmp(this.core);
    this.#outbound = new Outbound(this.core, this.#icmp, this.#kept);
    this.#inbound = new Inbound(this.core, options.coalesce, this.#kept);
  }

  get drops(): Drops {
    return this.core.drops;
  }

  protectBatch(first: number, count: number, now: Instant): number {
    this.#outbound.begin();
    for (let i = 0; i < count; i++) if (!this.#outbound.take(this.inputs, first + i, now)) return i;
    return count;
  }

  unprotectBatch(first: number, count: number, now: Instant): number {
    this.#inbound.begin();
    let taken = 0;
    while (taken < count && this.#inbound.take(this.inputs, first + taken, now)) taken++;
    this.#inbound.finish();
    return taken;
  }

  checkClear(first: number, count: number): number {
    let passed = 0;
    for (let slot = first; slot < first + count; slot++) {
      const reason = this.#inbound.checkClear(this.inputs, slot);
      this.inputs.drop[slot] = reason;
      if (reason === DROP.none) passed++;
      else this.drops.count(reason);
    }
    return passed;
  }

  icmpError(slot: number, now: Instant): void {
    this.#icmp.take(this.inputs, slot, now);
  }

  get hasReleasable(): boolean {
    return this.core.acquires.ready > 0 || this.core.early.ready > 0;
  }

  releaseHeld(now: Instant): void {
    const { acquires, early, arena } = this.core;
    // The slot's memory may be part of an output after each packet, and it is the only one.
    while (early.take(arena, this.#kept, 0)) {
      this.#inbound.begin();
      this.#inbound.take(this.#kept, 0, now);
      this.#inbound.finish();
      if (this.outputs.count > 0) return;
    }
    this.#outbound.begin();
    while (acquires.take(arena, this.#kept, 0)) {
      this.#outbound.take(this.#kept, 0, now);
      if (this.outputs.count > 0) return;
    }
  }

  path(id: number): Path | undefined {
    return this.core.sad.paths.get(id);
  }

  drain(): readonly Effect[] {
    return this.core.effects.drain();
  }

  tick(now: Instant): void {
    this.core.tick(now);
  }

  wakeAt(): number | undefined {
    return this.core.wakeAt();
  }

  /** What would be done with a packet, which is not sent. */
  trace(packet: Uint8Array, direction: Explanation['direction']): readonly Explanation[] {
    return trace(this.core, packet, direction);
  }

  /** Everything that `status` shows, as plain data. */
  status(): DatapathStatus {
    return statusOf(this.core);
  }

  /** Adds an SPD entry, or replaces one in its place. `seconds` is its life; 0: for ever. */
  addPolicy(policy: Policy, now: Instant, seconds = 0, replaced?: SpdEntry, kmAddress?: KmAddress): SpdEntry {
    for (const { reqid, endpoints } of policy.templates)
      if (endpoints !== undefined) this.core.movements.settled(reqid, endpoints);
    const entry = this.core.spd.add(policy, seconds, now, replaced, kmAddress);
    this.core.changed();
    return entry;
  }

  removePolicy(entry: SpdEntry): void {
    this.removePolicies([entry]);
  }

  removePolicies(entries: readonly SpdEntry[]): void {
    for (const entry of entries) this.core.spd.remove(entry);
    this.core.changed();
  }

  /** Whether the cipher has the algorithms. */
  supports(suite: EspSuite): boolean {
    return this.#cipher.supports(suite);
  }

  /** Asks again for every SA that is missing: for a key daemon that has just registered. */
  repeatAcquires(): void {
    this.core.acquires.repeat();
  }

  /** Adds an SA. `direction` is known where GETSPI allotted its SPI (inbound); else its first packet decides. */
  addSa(parameters: SaParameters, now: Instant, direction?: Sa['direction']): Sa {
    const iv = new DataView(this.#random(8).slice().buffer);
    const sa = this.core.sad.add(parameters, direction, { high: iv.getInt32(0), low: iv.getInt32(4) }, now);
    this.core.saChanged(parameters.reqid);
    return sa;
  }

  /** Gives an SA other parameters while it goes on: addresses after a movement, lifetimes, selectors. */
  replaceSa(sa: Sa, parameters: SaParameters, now: Instant): Sa {
    const next = this.core.sad.replace(sa, parameters, sa.born);
    if (!sameEnds(parameters, sa.parameters)) next.rememberEnds(sa, now.mono + FORMER_ENDS_GRACE);
    this.core.saChanged(sa.parameters.reqid);
    if (parameters.reqid !== sa.parameters.reqid) this.core.saChanged(parameters.reqid);
    return next;
  }

  /** Carries out what X_MIGRATE asks for, all at once. ACQUIREs that are open under the policy are asked again. */
  migrate({ entry, movements, templates, sas, larvals }: MigratePlan, kmAddress: KmAddress | undefined, now: Instant): void {
    const { spd, sad, acquires } = this.core;
    for (const movement of movements) this.core.movements.note(movement, now);
    const before = { policy: entry.policy, kmAddress: entry.kmAddress };
    spd.retarget(entry, templates, kmAddress ?? entry.kmAddress);
    sad.move(sas, now.mono + FORMER_ENDS_GRACE);
    for (const { larval } of larvals) sad.removeLarval(larval);
    for (const { larval, to } of larvals) sad.addLarval({ ...larval, ...to, former: larval.destination });
    if (!sameTunnel(before.policy, entry.policy) || !sameKmAddress(before.kmAddress, entry.kmAddress)) acquires.retarget(entry);
    this.core.changed();
  }

  removeSa(sa: Sa): void {
    this.removeAll([sa], []);
  }

  removeAll(sas: readonly Sa[], larvals: readonly Larval[]): void {
    for (const sa of sas) {
      this.core.sad.remove(sa);
      this.core.saChanged(sa.parameters.reqid);
    }
    for (const larval of larvals) {
      this.core.sad.removeLarval(larval);
      this.core.early.discard(larval.spi);
    }
  }

  /** Makes an inbound SA of a larval one, and lets go what came for it already. */
  completeLarval(larval: Larval, parameters: SaParameters, now: Instant): Sa {
    this.core.sad.removeLarval(larval);
    const sa = this.addSa(parameters, now, 'inbound');
    this.core.early.complete(sa.spi);
    return sa;
  }

  addLarval(larval: Larval): void {
    this.core.sad.addLarval(larval);
  }

  removeLarval(larval: Larval): void {
    this.removeAll([], [larval]);
  }
}
