/** Packets that wait for an SA: one ACQUIRE for each policy and, where that matters, pair of hosts (RFC 2367 §3.1.6, RFC 4301 §5.1). */

import type { Template } from '../ipsec/policy.ts';
import type { Instant } from '../machine.ts';
import { IpPacket } from '../net/ip-packet.ts';
import { DROP, type Drops } from './drops.ts';
import type { AcquireTrigger, EffectRing } from './effects.ts';
import type { Larval } from './sa.ts';
import type { Sad } from './sad.ts';
import type { Slots } from './slots.ts';
import type { SpdEntry } from './spd.ts';

/** ACQUIREs that may be open at once, and octets that all held packets may take. */
const MAX_PENDING = 1024;
const MAX_HELD_BYTES = 8 * 1024 * 1024;
/** Packets that wait because their SA is on hold: a stream that was under way, for a round trip or two. */
const MOST_ON_HOLD = 4096;
/** Octets of the packet that an ACQUIRE shows. */
const SHOWN_BYTES = 512;
/** How long after a refusal the next packet may ask again, in milliseconds. */
const BACK_OFF = 1000;

/** A packet kept with what the device said about it. */
interface Held {
  readonly bytes: Uint8Array;
  readonly gsoType: number;
  readonly segmentBytes: number;
  readonly flags: number;
  readonly checksumStart: number;
  readonly checksumOffset: number;
}

/** Why a packet has no SA: there is none; those that are there do not cover it; or the one that served it is on hold (`Sad.hold`). */
export type Lack = 'missing' | 'narrowed' | 'on-hold';

export function lackOf(sad: Sad, template: Template): Lack {
  if (sad.heldOutbound(template) !== undefined) return 'on-hold';
  return sad.hasOutbound(template) ? 'narrowed' : 'missing';
}

/** One open ACQUIRE. */
export interface Pending {
  seq: number;
  readonly entry: SpdEntry;
  template: Template;
  readonly trigger: AcquireTrigger;
  /** The packet that asked, on its own. */
  readonly packet: IpPacket;
  readonly shown: Uint8Array;
  /** Whether it is for the packet's pair of hosts only. */
  readonly hostsOnly: boolean;
  readonly born: Instant;
  expiresAt: number;
  failed: boolean;
  held: Held[];
}

export class Acquires {
  readonly #effects: EffectRing;
  readonly #drops: Drops;
  readonly #lifetime: number;
  readonly #heldPackets: number;
  #pending: Pending[] = [];
  readonly #byEntry = new Map<SpdEntry, Pending[]>();
  #nextExpiry = Number.POSITIVE_INFINITY;
  #ready: Held[] = [];
  #heldBytes = 0;
  #seq = 0;

  constructor(effects: EffectRing, drops: Drops, lifetime: number, heldPackets: number) {
    this.#effects = effects;
    this.#drops = drops;
    this.#lifetime = lifetime;
    this.#heldPackets = heldPackets;
  }

  get pending(): readonly Pending[] {
    return this.#pending;
  }

  /** How many packets wait, and how many may go. */
  get held(): number {
    return this.#pending.reduce((sum, { held }) => sum + held.length, 0);
  }

  get ready(): number {
    return this.#ready.length;
  }

  bySeq(seq: number): Pending | undefined {
    return this.#pending.find((pending) => pending.seq === seq);
  }

  /**
   * An SA is missing for the packet in `slot`: asks for it unless that was done, and keeps the packet. Returns why the packet is lost, or
   * `DROP.none` where it is kept. `lack`: why there is none. `keep` false only asks.
   */
  want(
    entry: SpdEntry,
    template: Template,
    arena: Uint8Array,
    packet: IpPacket,
    slots: Slots,
    slot: number,
    lack: Lack,
    keep: boolean,
    now: Instant,
  ): number {
    const hostsOnly = lack === 'narrowed' || template.mode === 'transport';
    const found = this.#find(entry, template, packet);
    if (found === undefined && this.#pending.length >= MAX_PENDING) return DROP.holdFull;
    const pending = found ?? this.#open(entry, template, arena, packet, hostsOnly, now);
    if (!keep) return DROP.none;
    const refusal = this.#refusal(pending, packet, lack);
    if (refusal !== DROP.none) return refusal;
    pending.held.push({
      bytes: arena.slice(packet.at, packet.at + packet.bytes),
      gsoType: slots.gsoType[slot]!,
      segmentBytes: slots.segmentBytes[slot]!,
      flags: slots.flags[slot]!,
      checksumStart: slots.checksumStart[slot]!,
      checksumOffset: slots.checksumOffset[slot]!,
    });
    this.#heldBytes += packet.bytes;
    return DROP.none;
  }

  /** What `want` would say of a packet to be kept, and whether the SA was asked for already. */
  prospect(
    entry: SpdEntry,
    template: Template,
    packet: IpPacket,
    lack: Lack,
  ): { readonly asked: boolean; readonly refusal: number } {
    const pending = this.#find(entry, template, packet);
    if (pending === undefined && this.#pending.length >= MAX_PENDING) return { asked: false, refusal: DROP.holdFull };
    return { asked: pending !== undefined, refusal: this.#refusal(pending, packet, lack) };
  }

  #refusal(pending: Pending | undefined, packet: IpPacket, lack: Lack): number {
    if (pending?.failed) return DROP.acquireFailed;
    const most = lack === 'on-hold' ? MOST_ON_HOLD : this.#heldPackets;
    const isFull = (pending?.held.length ?? 0) >= most || this.#heldBytes + packet.bytes > MAX_HELD_BYTES;
    return isFull ? DROP.holdFull : DROP.none;
  }

  /** After the SPD has changed: packets whose SA is there now may go; those whose policy is gone are lost. */
  reviewAll(sad: Sad, isInstalled: (entry: SpdEntry) => boolean): void {
    this.#keepOnly((pending) => {
      if (isInstalled(pending.entry)) return !this.#released(pending, sad);
      this.#discard(pending, DROP.discard);
      return false;
    });
  }

  /** After SAs of this reqid have changed. */
  review(sad: Sad, reqid: number): void {
    const mayUse = ({ template }: Pending) => template.reqid === 0 || template.reqid === reqid;
    if (this.#pending.some(mayUse)) this.#keepOnly((pending) => !mayUse(pending) || !this.#released(pending, sad));
  }

  #released(pending: Pending, sad: Sad): boolean {
    if (!isServed(pending, sad)) return false;
    for (const held of pending.held) this.#ready.push(held);
    return true;
  }

  /** The next packet that may go, written into `slot` of `slots`; false where there is none. */
  take(arena: Uint8Array, slots: Slots, slot: number): boolean {
    const held = this.#ready.shift();
    if (held === undefined) return false;
    this.#heldBytes -= held.bytes.length;
    arena.set(held.bytes, slots.buffer[slot]!);
    slots.takePacket(slot, 0, held.bytes.length, held.segmentBytes);
    slots.gsoType[slot] = held.gsoType;
    slots.flags[slot] = held.flags;
    slots.checksumStart[slot] = held.checksumStart;
    slots.checksumOffset[slot] = held.checksumOffset;
    return true;
  }

  /** The key daemon will not make this SA: what waits is lost, and the next packet asks again after `backOff` milliseconds (or at the end of its time). */
  fail(pending: Pending, now: Instant, backOff: number = BACK_OFF): void {
    this.#discard(pending, DROP.acquireFailed);
    pending.failed = true;
    pending.expiresAt = Math.min(pending.expiresAt, now.mono + backOff);
    this.#nextExpiry = Math.min(this.#nextExpiry, pending.expiresAt);
  }

  /** Asks again for all that is open: a key daemon has registered that has not heard of it. */
  repeat(): void {
    for (const pending of this.#pending) if (!pending.failed) this.#announce(pending);
  }

  /** The policy's tunnel ends elsewhere, or its key management talks elsewhere: asks again for what is open under it, by a new seq. */
  retarget(entry: SpdEntry): void {
    for (const pending of this.#pending) {
      const template = entry.policy.templates.find((one) => sameSas(one, pending.template));
      if (pending.entry !== entry || template === undefined) continue;
      pending.template = template;
      pending.seq = ++this.#seq;
      if (!pending.failed) this.#announce(pending);
    }
  }

  /** They are open no more: what waits is lost. */
  forget(pending: readonly Pending[]): void {
    for (const one of pending) this.#discard(one, DROP.acquireFailed);
    this.#keepOnly((one) => !pending.includes(one));
  }

  expire(now: Instant): void {
    if (this.#nextExpiry > now.mono) return;
    this.#keepOnly((pending) => {
      if (pending.expiresAt > now.mono || this.#effects.isFull) return true;
      this.#discard(pending, DROP.acquireTimeout);
      if (!pending.failed) this.#effects.push({ kind: 'larval-expired', larval: larvalOf(pending) });
      return false;
    });
  }

  /** When the next ends unanswered, in `mono` milliseconds; Infinity where none is open. */
  get nextExpiry(): number {
    return this.#nextExpiry;
  }

  #keepOnly(stays: (pending: Pending) => boolean): void {
    this.#pending = this.#pending.filter(stays);
    this.#byEntry.clear();
    this.#nextExpiry = Number.POSITIVE_INFINITY;
    for (const pending of this.#pending) this.#note(pending);
  }

  #note(pending: Pending): void {
    const ofEntry = this.#byEntry.get(pending.entry);
    if (ofEntry === undefined) this.#byEntry.set(pending.entry, [pending]);
    else ofEntry.push(pending);
    this.#nextExpiry = Math.min(this.#nextExpiry, pending.expiresAt);
  }

  #find(entry: SpdEntry, template: Template, packet: IpPacket): Pending | undefined {
    return this.#byEntry.get(entry)?.find((pending) => {
      if (entry.isBundle && !sameSas(pending.template, template)) return false;
      return !pending.hostsOnly || sameHosts(pending.packet, packet);
    });
  }

  #open(entry: SpdEntry, template: Template, arena: Uint8Array, packet: IpPacket, hostsOnly: boolean, now: Instant): Pending {
    const bytes = arena.slice(packet.at, packet.at + packet.bytes);
    const alone = new IpPacket(bytes);
    alone.read(0, bytes.length);
    const pending: Pending = {
      seq: ++this.#seq,
      entry,
      template,
      trigger: {
        source: alone.sourceAddress(),
        destination: alone.destinationAddress(),
        protocol: packet.protocol,
        sourcePort: Math.max(0, packet.sourcePort),
        destinationPort: Math.max(0, packet.destinationPort),
      },
      packet: alone,
      shown: bytes.subarray(0, SHOWN_BYTES),
      hostsOnly,
      born: { mono: now.mono, wall: now.wall },
      expiresAt: now.mono + this.#lifetime,
      failed: false,
      held: [],
    };
    this.#pending.push(pending);
    this.#note(pending);
    this.#announce(pending);
    return pending;
  }

  #announce({ seq, entry, template, trigger, shown }: Pending): void {
    const { policy, kmAddress } = entry;
    this.#effects.push({ kind: 'acquire', seq, policy, kmAddress, template, trigger, packet: shown });
  }

  #discard(pending: Pending, reason: number): void {
    for (const { bytes } of pending.held) {
      this.#heldBytes -= bytes.length;
      this.#drops.count(reason);
    }
    pending.held = [];
  }
}

/** How PF_KEY shows an open ACQUIRE: a larval SA with SPI 0. */
export function larvalOf({ seq, template, trigger, born, expiresAt }: Pending): Larval {
  return {
    spi: 0,
    protocol: template.protocol,
    mode: template.mode,
    source: template.endpoints?.source ?? trigger.source,
    destination: template.endpoints?.destination ?? trigger.destination,
    reqid: template.reqid,
    seq,
    born,
    expiresAt,
  };
}

/** Whether two templates of one entry ask for the same SAs. */
function sameSas(a: Template, b: Template): boolean {
  return a.protocol === b.protocol && a.mode === b.mode && a.reqid === b.reqid;
}

/** In a bundle the packet may be in a tunnel by then, and what is in the tunnel's header is not here: those that wait are looked at again. */
function isServed({ entry, template, packet }: Pending, sad: Sad): boolean {
  return entry.isBundle ? sad.hasOutbound(template) : sad.outbound(template, packet) !== undefined;
}

function sameHosts(a: IpPacket, b: IpPacket): boolean {
  return (
    a.family === b.family &&
    a.source0 === b.source0 &&
    a.source1 === b.source1 &&
    a.source2 === b.source2 &&
    a.source3 === b.source3 &&
    a.destination0 === b.destination0 &&
    a.destination1 === b.destination1 &&
    a.destination2 === b.destination2 &&
    a.destination3 === b.destination3
  );
}
