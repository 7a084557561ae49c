/** Outbound processing (RFC 4301 §5.1): policy, SA, segmentation, encapsulation, ESP. */

import type { Instant } from '../machine.ts';
import { IPV6, IpPacket } from '../net/ip-packet.ts';
import { PROTOCOL } from '../net/transport.ts';
import type { Core, OutboundDecision } from './core.ts';
import { DROP } from './drops.ts';
import type { Sa } from './sad.ts';
import { completeChecksum, Segmenter } from './segment.ts';
import { FRAME_FLAG, GSO, OUTPUT, type Slots } from './slots.ts';
import type { SpdEntry } from './spd.ts';

/** Most that ESP adds to a packet: header, IV, padding, trailer, ICV, and what the next packet's place is rounded up by. */
const MAX_OVERHEAD = 96;
/** What the kernel takes in one message to be cut up: UDP_MAX_SEGMENTS, and the length of an IP packet less its headers. */
const MAX_SEGMENTS = 64;
const MAX_TRAIN_BYTES = 65_400;
const NONE = -1;

export class Outbound {
  readonly #core: Core;
  readonly #packet: IpPacket;
  readonly #segmenter: Segmenter;
  /** The output that the next ESP packet may be joined to. */
  #train = NONE;

  constructor(core: Core) {
    this.#core = core;
    this.#packet = new IpPacket(core.arena);
    this.#segmenter = new Segmenter(core.arena, core.checksum);
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
    let octets = packet.bytes + MAX_OVERHEAD;
    if (gsoType !== GSO.none) {
      if (!this.#segmenter.begin(packet, gsoType, slots.segmentBytes[slot]!)) return this.#drop(slots, slot, DROP.badFrame);
      segments = this.#segmenter.segments;
      octets = segments * (this.#segmenter.bytesOf(0) + MAX_OVERHEAD);
    }
    if (!core.outputs.hasRoom(segments, octets)) {
      return core.outputs.count === 0 && this.#drop(slots, slot, DROP.noRoom);
    }
    const decision = core.outboundFlows.find(packet, 0) ?? this.#decide();
    const reason = this.#obey(decision, slots, slot, segments, now);
    return reason === DROP.none || this.#drop(slots, slot, reason);
  }

  #drop(slots: Slots, slot: number, reason: number): boolean {
    slots.drop[slot] = reason;
    this.#core.drops.count(reason);
    return true;
  }

  /** RFC 4301 §5.1 steps 2 and 3, for all packets of this flow. */
  #decide(): OutboundDecision {
    const core = this.#core;
    const entry = core.spd.match('outbound', this.#packet);
    const sa = entry?.template === undefined || !entry.supported ? undefined : core.sad.outbound(entry.template, this.#packet);
    const decision = { entry, sa };
    core.outboundFlows.remember(this.#packet, 0, decision);
    return decision;
  }

  #obey({ entry, sa }: OutboundDecision, slots: Slots, slot: number, segments: number, now: Instant): number {
    if (entry === undefined) return this.#core.unmatched === 'discard' ? DROP.unmatched : this.#passClear(slots, slot);
    entry.hits += segments;
    entry.lastHit = now.wall;
    if (entry.policy.action === 'discard') return DROP.discard;
    if (entry.policy.action === 'bypass') return this.#passClear(slots, slot);
    if (!entry.supported) return DROP.unsupported;
    if (sa === undefined) return this.#wait(entry, slots, slot, now);
    if (!this.#core.usable(sa, segments)) return this.#obey(this.#decide(), slots, slot, segments, now);
    sa.direction = 'outbound';
    return sa.tunnel ? this.#tunnel(sa, slots, slot, now) : this.#transport(sa, slots, slot, now);
  }

  /** No SA: ask for one. A policy of level `use` lets the packet go meanwhile. */
  #wait(entry: SpdEntry, slots: Slots, slot: number, now: Instant): number {
    const core = this.#core;
    const template = entry.template!;
    const optional = template.level === 'use';
    const reason = core.acquires.want(
      entry,
      template,
      core.arena,
      this.#packet,
      slots,
      slot,
      core.sad.hasOutbound(template),
      !optional,
      now,
    );
    return optional ? this.#passClear(slots, slot) : reason;
  }

  #tunnel(sa: Sa, slots: Slots, slot: number, now: Instant): number {
    const core = this.#core;
    const packet = this.#packet;
    const nextHeader = packet.family === 4 ? PROTOCOL.ipv4 : PROTOCOL.ipv6;
    if (slots.gsoType[slot] !== GSO.none) return this.#sealSegments(sa, nextHeader, slot, now);
    if (!this.#finishChecksum(slots, slot)) return DROP.badFrame;
    core.arena.copyWithin(core.esp.payloadAt(sa, core.outputs.at), packet.at, packet.at + packet.bytes);
    return this.#seal(sa, packet.bytes, nextHeader, packet.bytes, slot, now);
  }

  /** RFC 4303 §3.1.1. Only what the kernel's own IP header can stand in for; destination options travel inside ESP. */
  #transport(sa: Sa, slots: Slots, slot: number, now: Instant): number {
    const core = this.#core;
    const packet = this.#packet;
    if (packet.fragment || (packet.family === 4 && packet.extended)) return DROP.notForTransport;
    const headerBytes = packet.family === 4 ? packet.headerBytes : IPV6.bytes;
    const nextHeader = packet.family === 4 ? packet.protocol : core.arena[packet.at + IPV6.nextHeader]!;
    if (packet.extended && nextHeader !== PROTOCOL.destinationOptions) return DROP.notForTransport;
    if (slots.gsoType[slot] !== GSO.none) return packet.extended ? DROP.badFrame : this.#sealSegments(sa, nextHeader, slot, now);
    if (!this.#finishChecksum(slots, slot)) return DROP.badFrame;
    core.arena.copyWithin(core.esp.payloadAt(sa, core.outputs.at), packet.at + headerBytes, packet.at + packet.bytes);
    return this.#seal(sa, packet.bytes - headerBytes, nextHeader, packet.bytes, slot, now);
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
    const trafficClass = this.#packet.trafficClass;
    const train = this.#train;
    if (
      train !== NONE &&
      outputs.path[train] === sa.path &&
      outputs.trafficClass[train] === trafficClass &&
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
    outputs.trafficClass[output] = trafficClass;
    this.#train = output;
    return DROP.none;
  }

  #passClear(slots: Slots, slot: number): number {
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

  #finishChecksum(slots: Slots, slot: number): boolean {
    if ((slots.flags[slot]! & FRAME_FLAG.needsChecksum) === 0) return true;
    const { arena, checksum } = this.#core;
    return completeChecksum(checksum, arena, this.#packet, slots.checksumStart[slot]!, slots.checksumOffset[slot]!);
  }
}
