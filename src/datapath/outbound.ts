/** Outbound processing (RFC 4301 §5.1): policy, SA, segmentation, encapsulation, ESP. */

import type { Template } from '../ipsec/policy.ts';
import type { Instant } from '../machine.ts';
import { IPV6, IpPacket } from '../net/ip-packet.ts';
import { PROTOCOL } from '../net/transport.ts';
import { lackOf } from './acquire.ts';
import type { Core } from './core.ts';
import {
  chooseSas,
  decideOutbound,
  findBundle,
  isForTransport,
  isOptional,
  needsWhole,
  type OutboundDecision,
} from './decisions.ts';
import { DROP } from './drops.ts';
import { Fragmenter } from './fragmenter.ts';
import { MOST_PARTS, WAITS, WHOLE } from './fragments.ts';
import type { Icmp } from './icmp.ts';
import { MAX_PACKET } from './ip-header.ts';
import { headersRefusal, OutboundBundles } from './outbound-bundles.ts';
import { MOST_FRAGMENTS, OuterFragments } from './outer-fragments.ts';
import { IPV6_LEAST_MTU } from './pmtu.ts';
import type { Sa } from './sa.ts';
import { NO_LIMIT } from './sa.ts';
import { completeChecksum, Segmenter } from './segment.ts';
import { FRAME_FLAG, GSO, INPUT, OUTPUT, type Slots } from './slots.ts';
import type { SpdEntry } from './spd.ts';
import { OUTER } from './tunnel.ts';

/** Most that ESP adds to a packet: header, IV, padding, trailer, ICV, and what the next packet's place is rounded up by. */
const MAX_OVERHEAD = 96;
/** What the kernel takes in one message to be cut up: UDP_MAX_SEGMENTS, and the length of an IP packet less its headers. */
const MAX_SEGMENTS = 64;
const MAX_TRAIN_BYTES = 65_400;
const NONE = -1;
/** TCP payload of a segment below which no path makes us go. */
const LEAST_SEGMENT = 256;
/** Room for what comes of a packet that fragments have made whole: ESP of it, maybe in fragments; a bundle's; or the fragments again. */
const WHOLE_OUTPUTS = MOST_PARTS + MOST_FRAGMENTS;
const WHOLE_OCTETS = 4 * MAX_PACKET;
const NO_PARTS: readonly Uint8Array[] = [];
const ANY_OUTER = OUTER.trafficClass | OUTER.dontFragment;

export class Outbound {
  readonly #core: Core;
  readonly #packet: IpPacket;
  readonly #segmenter: Segmenter;
  readonly #bundles: OutboundBundles;
  readonly #fragmenter: Fragmenter;
  readonly #outerFragments: OuterFragments;
  readonly #icmp: Icmp;
  /** Which bits of its outer header the packet at hand may have: none says that routers must not fragment it where they must. */
  #outerAllowed = ANY_OUTER;
  /** Where fragments become a whole packet, and those that it is made of meanwhile. */
  readonly #kept: Slots;
  #parts = NO_PARTS;
  /** The output that the next ESP packet may be joined to. */
  #train = NONE;
  /** The outer header of the packets in it (`OUTER`). */
  #trainOuter = 0;

  /** `kept`: one slot of the engine's own. */
  constructor(core: Core, icmp: Icmp, kept: Slots) {
    this.#core = core;
    this.#kept = kept;
    this.#icmp = icmp;
    this.#outerFragments = new OuterFragments(core);
    this.#fragmenter = new Fragmenter(core.arena, core.checksum);
    this.#packet = new IpPacket(core.arena);
    this.#segmenter = new Segmenter(core.arena, core.checksum);
    this.#bundles = new OutboundBundles(core);
  }

  /** Begins a batch: outputs are empty. */
  begin(): void {
    this.#core.outputs.clear();
    this.#train = NONE;
  }

  /** Takes one packet or frame. False where the outputs must be sent first; nothing has happened then. */
  take(slots: Slots, slot: number, now: Instant): boolean {
    const core = this.#core;
    const packet = this.#packet;
    slots.drop[slot] = DROP.none;
    if (!packet.read(slots.offset[slot]!, slots.length[slot]!)) return this.#drop(slots, slot, DROP.malformed);
    const gsoType = slots.gsoType[slot]!;
    let segments = 1;
    let each = packet.bytes;
    if (gsoType !== GSO.none) {
      if (!this.#segmenter.begin(packet, gsoType, slots.segmentBytes[slot]!)) return this.#drop(slots, slot, DROP.badFrame);
      segments = this.#segmenter.segments;
      each = this.#segmenter.bytesOf(0);
    }
    const octets = segments * (Math.max(each, core.sad.padTo) + MAX_OVERHEAD);
    if (!core.outputs.hasRoom(segments, octets)) {
      return core.outputs.count === 0 && this.#drop(slots, slot, DROP.noRoom);
    }
    const decision = core.outboundFlows.find(packet, 0) ?? this.#decide();
    if (decision.entry !== undefined && decision.entry.stamp !== decision.stamp) chooseSas(decision, core.sad, packet);
    if (packet.fragment && needsWhole(core, packet, decision)) return this.#gather(slots, slot, now);
    if (decision.bundle !== undefined) return this.#takeBundle(decision.entry!, decision.bundle, slots, slot, segments, now);
    if (decision.sa !== undefined && each > decision.sa.longest)
      return this.#takeTooLong(decision, decision.sa, slots, slot, now);
    return this.#settle(this.#obey(decision, slots, slot, segments, now), slots, slot);
  }

  #drop(slots: Slots, slot: number, reason: number): boolean {
    slots.drop[slot] = reason;
    this.#core.drops.count(reason);
    return true;
  }

  /** RFC 4301 §5.1 steps 2 and 3, for all packets of this flow. */
  #decide(): OutboundDecision {
    const decision = decideOutbound(this.#core, this.#packet);
    this.#core.outboundFlows.remember(this.#packet, 0, decision);
    return decision;
  }

  /** RFC 4301 §7: keeps a fragment until its packet is whole, which then goes its way as one; if that is in clear, in the fragments that it came in. */
  #gather(slots: Slots, slot: number, now: Instant): boolean {
    const { outputs, fragments } = this.#core;
    const { outbound } = fragments;
    if (!outputs.hasRoom(WHOLE_OUTPUTS, WHOLE_OCTETS)) return outputs.count === 0 && this.#drop(slots, slot, DROP.noRoom);
    if (slots.gsoType[slot] !== GSO.none || !this.#finishChecksum(slots, slot)) return this.#drop(slots, slot, DROP.badFrame);
    const outcome = outbound.add(this.#packet, 0, now.mono);
    if (outcome === WAITS) return true;
    if (outcome !== WHOLE) return this.#drop(slots, slot, outcome);
    const kept = this.#kept;
    this.#parts = outbound.parts;
    outbound.joined += this.#parts.length - 1;
    kept.takePacket(0, INPUT.frame, outbound.compose(kept.buffer[0]!));
    if (!this.take(kept, 0, now)) this.#drop(kept, 0, DROP.noRoom);
    slots.drop[slot] = kept.drop[0]!;
    this.#parts = NO_PARTS;
    return true;
  }

  /** The slower lane: AH, and several SAs for one packet. */
  #takeBundle(entry: SpdEntry, bundle: readonly Sa[], slots: Slots, slot: number, segments: number, now: Instant): boolean {
    const { outputs } = this.#core;
    const isWhole = slots.gsoType[slot] === GSO.none;
    const bytes = isWhole ? this.#packet.bytes : this.#segmenter.bytesOf(0);
    if (!outputs.hasRoom(segments, segments * this.#bundles.roomFor(bundle, bytes)))
      return outputs.count === 0 && this.#drop(slots, slot, DROP.noRoom);
    if (bundle.some((sa) => !this.#core.usable(sa, segments))) return this.take(slots, slot, now);
    entry.hits += segments;
    entry.lastHit = now.wall;
    const refusal = headersRefusal(bundle, this.#core.arena, this.#packet);
    if (refusal !== DROP.none) return this.#drop(slots, slot, refusal);
    this.#train = NONE;
    if (isWhole && !this.#finishChecksum(slots, slot)) return this.#drop(slots, slot, DROP.badFrame);
    for (let i = 0; i < segments; i++) {
      const at = this.#bundles.placeFor(bundle);
      if (isWhole) this.#core.arena.copyWithin(at, this.#packet.at, this.#packet.at + bytes);
      const reason = this.#bundles.send(bundle, isWhole ? bytes : this.#segmenter.cut(i, at, true), slot, now);
      if (reason !== DROP.none) return this.#drop(slots, slot, reason);
    }
    return true;
  }

  /**
   * RFC 4301 §8.2.1: the packet, or each segment of the frame, is longer than what the path carries in one piece. A TCP frame is cut smaller, which TCP does
   * not mind. Another packet is cut where it may be, and else its sender is told.
   */
  #takeTooLong(decision: OutboundDecision, sa: Sa, slots: Slots, slot: number, now: Instant): boolean {
    const { outputs } = this.#core;
    const packet = this.#packet;
    const gsoType = slots.gsoType[slot]!;
    const isUncuttable = packet.family === 6 ? packet.bytes > IPV6_LEAST_MTU : packet.dontFragment;
    if (gsoType === GSO.tcp4 || gsoType === GSO.tcp6) {
      const payload = sa.longest - packet.headerBytes - this.#segmenter.transportBytes;
      if (!this.#segmenter.begin(packet, gsoType, Math.max(LEAST_SEGMENT, payload)))
        return this.#drop(slots, slot, DROP.badFrame);
      const { segments } = this.#segmenter;
      if (!outputs.hasRoom(segments, segments * (this.#segmenter.bytesOf(0) + MAX_OVERHEAD)))
        return outputs.count === 0 && this.#drop(slots, slot, DROP.noRoom);
      return this.#settle(this.#obey(decision, slots, slot, segments, now), slots, slot);
    }
    if (isUncuttable || gsoType !== GSO.none) {
      const least = packet.family === 6 ? IPV6_LEAST_MTU : 0;
      this.#icmp.answer('tooBig', packet, Math.max(least, sa.longest), slot, now);
      this.#train = NONE;
      return this.#drop(slots, slot, DROP.tooBig);
    }
    if (!sa.tunnel || sa.selectsPorts || decision.entry!.selectsPorts || !this.#fragmenter.begin(packet, sa.longest)) {
      if (!outputs.hasRoom(MOST_FRAGMENTS, OuterFragments.roomFor(packet.bytes)))
        return outputs.count === 0 && this.#drop(slots, slot, DROP.noRoom);
      this.#train = NONE;
      this.#outerAllowed = OUTER.trafficClass;
      const reason = this.#obey(decision, slots, slot, 1, now);
      this.#outerAllowed = ANY_OUTER;
      return this.#settle(reason, slots, slot);
    }
    const { count } = this.#fragmenter;
    if (!outputs.hasRoom(count, count * (sa.longest + MAX_OVERHEAD)))
      return outputs.count === 0 && this.#drop(slots, slot, DROP.noRoom);
    if (!this.#core.usable(sa, count)) return this.take(slots, slot, now);
    if (!this.#finishChecksum(slots, slot)) return this.#drop(slots, slot, DROP.badFrame);
    const entry = decision.entry!;
    entry.hits++;
    entry.lastHit = now.wall;
    sa.direction = 'outbound';
    return this.#settle(this.#sealFragments(sa, count, slot, now), slots, slot);
  }

  /** Before ESP: the other end's host puts them together, and the peer's gateway, which anybody may send fragments to, need not. */
  #sealFragments(sa: Sa, count: number, slot: number, now: Instant): number {
    const { esp, outputs } = this.#core;
    for (let i = 0; i < count; i++) {
      const octets = this.#fragmenter.cut(i, esp.payloadAt(sa, outputs.at));
      const reason = this.#seal(sa, octets, PROTOCOL.ipv4, octets, slot, now);
      if (reason !== DROP.none) return reason;
    }
    return DROP.none;
  }

  #settle(reason: number, slots: Slots, slot: number): boolean {
    return reason === DROP.none || this.#drop(slots, slot, reason);
  }

  #obey({ entry, sa }: OutboundDecision, slots: Slots, slot: number, segments: number, now: Instant): number {
    if (entry === undefined)
      return this.#core.unmatched === 'discard'
        ? this.#refuse(DROP.unmatched, 'prohibited', slot, now)
        : this.#passClear(slots, slot);
    entry.hits += segments;
    entry.lastHit = now.wall;
    if (entry.policy.action === 'discard') return this.#refuse(DROP.discard, 'prohibited', slot, now);
    if (entry.policy.action === 'bypass') return this.#passClear(slots, slot);
    if (sa === undefined)
      return entry.isBundle ? this.#waitForBundle(entry, slots, slot, now) : this.#wait(entry, slots, slot, now);
    if (!this.#core.usable(sa, segments)) return this.#obey(this.#decide(), slots, slot, segments, now);
    sa.direction = 'outbound';
    return sa.tunnel ? this.#tunnel(sa, slots, slot, now) : this.#transport(sa, slots, slot, now);
  }

  /** RFC 4301 §5.1.1: the sender may be told. */
  #refuse(reason: number, error: 'prohibited' | 'unreachable', slot: number, now: Instant): number {
    if (!this.#core.icmpErrors) return reason;
    this.#icmp.answer(error, this.#packet, 0, slot, now);
    this.#train = NONE;
    return reason;
  }

  /** One ACQUIRE for each SA that is missing; the packet waits for the first of those that must be there. */
  #waitForBundle(entry: SpdEntry, slots: Slots, slot: number, now: Instant): number {
    const { missing, optional } = findBundle(this.#core.sad, entry, this.#packet);
    const [first, ...more] = missing;
    for (const template of [...more, ...optional]) this.#want(entry, template, slots, slot, false, now);
    return first === undefined ? this.#passClear(slots, slot) : this.#want(entry, first, slots, slot, true, now);
  }

  /** No SA: ask for one. A policy of level `use` lets the packet go meanwhile. */
  #wait(entry: SpdEntry, slots: Slots, slot: number, now: Instant): number {
    const template = entry.template!;
    const optional = isOptional(this.#core.sad, template);
    const reason = this.#want(entry, template, slots, slot, !optional, now);
    return optional ? this.#passClear(slots, slot) : reason;
  }

  #want(entry: SpdEntry, template: Template, slots: Slots, slot: number, keep: boolean, now: Instant): number {
    const { acquires, arena, sad } = this.#core;
    const reason = acquires.want(entry, template, arena, this.#packet, slots, slot, lackOf(sad, template), keep, now);
    return reason === DROP.acquireFailed ? this.#refuse(reason, 'unreachable', slot, now) : reason;
  }

  #tunnel(sa: Sa, slots: Slots, slot: number, now: Instant): number {
    const core = this.#core;
    const packet = this.#packet;
    const nextHeader = packet.family === 4 ? PROTOCOL.ipv4 : PROTOCOL.ipv6;
    if (slots.gsoType[slot] !== GSO.none) return this.#sealSegments(sa, nextHeader, slot, now);
    if (!this.#finishChecksum(slots, slot)) return DROP.badFrame;
    if (sa.longestSegment !== NO_LIMIT) core.mss.clamp(packet, sa.longestSegment);
    core.arena.copyWithin(core.esp.payloadAt(sa, core.outputs.at), packet.at, packet.at + packet.bytes);
    return this.#seal(sa, packet.bytes, nextHeader, packet.bytes, slot, now);
  }

  /**
   * RFC 4303 §3.1.1. Only what the kernel's own IP header can stand in for; destination options travel inside ESP. BEET mode is the same without options: the
   * addresses of the outer header are no matter to what is inside.
   */
  #transport(sa: Sa, slots: Slots, slot: number, now: Instant): number {
    const core = this.#core;
    const packet = this.#packet;
    if (packet.extended && sa.inner !== undefined) return this.#leaveOut(sa, slots, slot, now);
    const nextHeader = packet.family === 4 ? packet.protocol : core.arena[packet.at + IPV6.nextHeader]!;
    if (!isForTransport(packet, nextHeader)) return DROP.notForTransport;
    const headerBytes = packet.family === 4 ? packet.headerBytes : IPV6.bytes;
    if (slots.gsoType[slot] !== GSO.none) return packet.extended ? DROP.badFrame : this.#sealSegments(sa, nextHeader, slot, now);
    if (!this.#finishChecksum(slots, slot)) return DROP.badFrame;
    if (sa.longestSegment !== NO_LIMIT) core.mss.clamp(packet, sa.longestSegment);
    core.arena.copyWithin(core.esp.payloadAt(sa, core.outputs.at), packet.at + headerBytes, packet.at + packet.bytes);
    return this.#seal(sa, packet.bytes - headerBytes, nextHeader, packet.bytes, slot, now);
  }

  /** BEET mode, where the packet has options or extension headers: they go inside, and only the IP header itself is left out. */
  #leaveOut(sa: Sa, slots: Slots, slot: number, now: Instant): number {
    const { arena, beet, esp, mss, outputs } = this.#core;
    const packet = this.#packet;
    if (packet.fragment) return DROP.notForTransport;
    const isWhole = slots.gsoType[slot] === GSO.none;
    if (isWhole && !this.#finishChecksum(slots, slot)) return DROP.badFrame;
    if (isWhole && sa.longestSegment !== NO_LIMIT) mss.clamp(packet, sa.longestSegment);
    const segments = isWhole ? 1 : this.#segmenter.segments;
    for (let i = 0; i < segments; i++) {
      const at = esp.payloadAt(sa, outputs.at);
      const bytes = isWhole ? packet.bytes : this.#segmenter.cut(i, at, true);
      if (isWhole) arena.copyWithin(at, packet.at, packet.at + bytes);
      const payloadBytes = beet.leaveOut(at, bytes);
      const reason = this.#seal(sa, payloadBytes, beet.nextHeader, bytes, slot, now);
      if (reason !== DROP.none) return reason;
    }
    return DROP.none;
  }

  #sealSegments(sa: Sa, nextHeader: number, slot: number, now: Instant): number {
    const core = this.#core;
    const segmenter = this.#segmenter;
    for (let i = 0; i < segmenter.segments; i++) {
      const octets = segmenter.cut(i, core.esp.payloadAt(sa, core.outputs.at), sa.tunnel);
      const reason = this.#seal(sa, octets, nextHeader, segmenter.bytesOf(i), slot, now);
      if (reason !== DROP.none) return reason;
    }
    return DROP.none;
  }

  /** Seals the payload that lies in its place behind the outputs, and joins the packet to a train of its like. */
  #seal(sa: Sa, payloadBytes: number, nextHeader: number, innerBytes: number, slot: number, now: Instant): number {
    const { esp, outputs } = this.#core;
    const at = outputs.at;
    const length = esp.seal(sa, at, payloadBytes, nextHeader);
    if (length === 0) return DROP.cipherFailed;
    this.#core.account(sa, 1, innerBytes, now);
    outputs.at = at + length;
    const packet = this.#packet;
    const inner = packet.dontFragment ? packet.trafficClass | OUTER.dontFragment : packet.trafficClass;
    const outer = ((inner & sa.outerMask) | sa.outerBits) & this.#outerAllowed;
    if (this.#outerAllowed !== ANY_OUTER && sa.parameters.source.family === 6) {
      const mtu = this.#core.sad.pathMtus.mtuOf(sa.parameters);
      return this.#outerFragments.send(sa, at, length, mtu, outer & OUTER.trafficClass, slot);
    }
    const train = this.#train;
    if (
      train !== NONE &&
      outputs.path[train] === sa.path &&
      this.#trainOuter === outer &&
      length <= outputs.segmentBytes[train]! &&
      outputs.segments[train]! < MAX_SEGMENTS &&
      outputs.length[train]! + length <= MAX_TRAIN_BYTES
    ) {
      outputs.length[train]! += length;
      outputs.segments[train]! += 1;
      if (length < outputs.segmentBytes[train]!) this.#train = NONE;
      return DROP.none;
    }
    const output = outputs.push(OUTPUT.esp, at, length, slot);
    outputs.segmentBytes[output] = length;
    outputs.path[output] = sa.path;
    outputs.trafficClass[output] = outer & OUTER.trafficClass;
    outputs.dontFragment[output] = outer >> 8;
    this.#trainOuter = outer;
    this.#train = output;
    return DROP.none;
  }

  #passClear(slots: Slots, slot: number): number {
    if (this.#parts !== NO_PARTS) return this.#passParts(slot);
    const { outputs } = this.#core;
    const packet = this.#packet;
    if (slots.gsoType[slot] === GSO.none) {
      if (!this.#finishChecksum(slots, slot)) return DROP.badFrame;
      outputs.push(OUTPUT.clear, packet.at, packet.bytes, slot);
      return DROP.none;
    }
    this.#train = NONE;
    for (let i = 0; i < this.#segmenter.segments; i++) {
      const octets = this.#segmenter.cut(i, outputs.at, true);
      outputs.push(OUTPUT.clear, outputs.at, octets, slot);
      outputs.at += (octets + 3) & ~3;
    }
    return DROP.none;
  }

  /** In the fragments that it came in, since a packet of the host's may be longer than its links carry. */
  #passParts(slot: number): number {
    const { arena, outputs, fragments } = this.#core;
    this.#train = NONE;
    for (const part of this.#parts) {
      arena.set(part, outputs.at);
      outputs.push(OUTPUT.clear, outputs.at, part.length, slot);
      outputs.at += (part.length + 3) & ~3;
    }
    fragments.outbound.joined -= this.#parts.length - 1;
    return DROP.none;
  }

  #finishChecksum(slots: Slots, slot: number): boolean {
    if ((slots.flags[slot]! & FRAME_FLAG.needsChecksum) === 0) return true;
    const { arena, checksum } = this.#core;
    return completeChecksum(checksum, arena, this.#packet, slots.checksumStart[slot]!, slots.checksumOffset[slot]!);
  }
}
