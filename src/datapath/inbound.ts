/** Inbound processing (RFC 4301 §5.2, RFC 4303 §3.4): SA, window, ICV, decapsulation, and the check that the SA may carry what it carried. */

import type { Ends } from '../ipsec/policy.ts';
import type { Instant } from '../machine.ts';
import { IpAddress } from '../net/address.ts';
import { IPV4, IPV6, IpPacket } from '../net/ip-packet.ts';
import { checksumOffsetOf, PROTOCOL } from '../net/transport.ts';
import { Coalescer } from './coalesce.ts';
import type { Core } from './core.ts';
import { aboutClear, admits, clearVerdict, couldAdmit, type InboundDecision, isSpent } from './decisions.ts';
import { DROP } from './drops.ts';
import { ESP_HEADER } from './esp.ts';
import { WAITS, WHOLE } from './fragments.ts';
import { InboundBundles, mayBeIpcomp } from './inbound-bundles.ts';
import { DONT_FRAGMENT, MAX_PACKET } from './ip-header.ts';
import { hasWords, NO_LIMIT, type Sa } from './sa.ts';
import { INPUT, OUTPUT, type Slots, VNET_HDR_BYTES } from './slots.ts';
import { innerClass, writeTrafficClass } from './tunnel.ts';

/** A NAT keepalive is one octet (RFC 3948 §2.3); an IKE message follows four octets of zero (§2.2). */
const KEEPALIVE = 0xff;
const MARKER_BYTES = 4;
/** Between two messages about a new mapping of an SA, in milliseconds. */
const MAPPING_INTERVAL = 1000;
const ICV_MINIMUM = 4;

export class Inbound {
  readonly #core: Core;
  readonly #view: DataView;
  readonly #outer: IpPacket;
  readonly #inner: IpPacket;
  readonly #coalescer: Coalescer;
  readonly #bundles: InboundBundles;
  /** Where fragments become a whole packet, to be looked at. */
  readonly #kept: Slots;
  /** Of the packets at hand: outer addresses and ports, whether they are known, and the outer traffic class. */
  readonly #local = new Int32Array(4);
  readonly #remote = new Int32Array(4);
  #knowsLocal = false;
  #remoteFamily = 0;
  #remotePort = 0;
  #trafficClass = 0;

  /** `kept`: one slot of the engine's own. */
  constructor(core: Core, coalesce: boolean, kept: Slots) {
    this.#core = core;
    this.#kept = kept;
    this.#view = new DataView(core.arena.buffer, core.arena.byteOffset, core.arena.length);
    this.#outer = new IpPacket(core.arena);
    this.#inner = new IpPacket(core.arena);
    this.#coalescer = new Coalescer(core.arena, core.checksum, core.outputs, coalesce);
    this.#bundles = new InboundBundles(core, this.#coalescer);
  }

  begin(): void {
    this.#core.outputs.clear();
    this.#coalescer.begin();
  }

  finish(): void {
    this.#coalescer.finish();
  }

  /** Takes what one slot received. False where the outputs must be written first; nothing has happened then. */
  take(slots: Slots, slot: number, now: Instant): boolean {
    slots.drop[slot] = DROP.none;
    const kind = slots.kind[slot]!;
    const at = slots.offset[slot]!;
    const length = slots.length[slot]!;
    const each = kind === INPUT.udp && slots.segmentBytes[slot]! > 0 ? slots.segmentBytes[slot]! : Math.max(1, length);
    const { outputs } = this.#core;
    const packets = Math.ceil(length / each);
    const room = kind === INPUT.ah ? InboundBundles.roomFor(length) : length + 64 * packets;
    if (outputs.count > 0 && !outputs.hasRoom(packets, room)) return false;
    if (kind === INPUT.rawWithHeader) this.#takeRaw(slots, slot, at, length, now);
    else if (kind === INPUT.ah) {
      const reason = this.#bundles.take(at, length, slot, now);
      if (reason !== DROP.none) this.#drop(slots, slot, reason);
    } else {
      this.#readSlot(slots, slot);
      if (kind === INPUT.raw) this.#takeEsp(slots, slot, at, length, now);
      else {
        // An empty datagram is a packet, too.
        for (let offset = 0; offset === 0 || offset < length; offset += each)
          this.#takeUdp(slots, slot, at + offset, Math.min(each, length - offset), now);
      }
    }
    return true;
  }

  #readSlot(slots: Slots, slot: number): void {
    for (let i = 0; i < 4; i++) {
      this.#local[i] = slots.local[4 * slot + i]!;
      this.#remote[i] = slots.remote[4 * slot + i]!;
    }
    this.#knowsLocal = slots.localFamily[slot] !== 0;
    this.#remoteFamily = slots.remoteFamily[slot]!;
    this.#remotePort = slots.remotePort[slot]!;
    this.#trafficClass = slots.trafficClass[slot]!;
  }

  #takeRaw(slots: Slots, slot: number, at: number, length: number, now: Instant): void {
    const outer = this.#outer;
    if (!outer.read(at, length) || (outer.protocol !== PROTOCOL.esp && !outer.fragment))
      return this.#drop(slots, slot, DROP.malformed);
    if (outer.fragment) return this.#drop(slots, slot, DROP.outerFragment);
    this.#local[0] = outer.destination0;
    this.#local[1] = outer.destination1;
    this.#local[2] = outer.destination2;
    this.#local[3] = outer.destination3;
    this.#knowsLocal = true;
    this.#remoteFamily = 0;
    this.#trafficClass = outer.trafficClass;
    this.#takeEsp(slots, slot, at + outer.headerBytes, outer.bytes - outer.headerBytes, now);
  }

  /** RFC 3948 §2: what shares the port with ESP is told by its first octets. */
  #takeUdp(slots: Slots, slot: number, at: number, length: number, now: Instant): void {
    if (length === 1 && this.#core.arena[at] === KEEPALIVE) return;
    if (length < MARKER_BYTES) return this.#drop(slots, slot, DROP.truncated);
    if (this.#view.getInt32(at) !== 0) return this.#takeEsp(slots, slot, at, length, now);
    if (!this.#coalescer.hasRoom) return this.#drop(slots, slot, DROP.noRoom);
    this.#core.outputs.push(OUTPUT.ike, at + MARKER_BYTES, length - MARKER_BYTES, slot);
  }

  #takeEsp(slots: Slots, slot: number, at: number, length: number, now: Instant): void {
    if (length < ESP_HEADER + ICV_MINIMUM) return this.#drop(slots, slot, DROP.truncated);
    const core = this.#core;
    const sa = core.sad.inbound(this.#view.getInt32(at), this.#local, !this.#knowsLocal, now.mono);
    if (sa === undefined) return this.#awaitSa(slots, slot, at, length);
    if (isSpent(sa)) {
      core.expire(sa);
      return this.#drop(slots, slot, DROP.noSa);
    }
    const reason = core.esp.open(sa, at, length);
    if (reason !== DROP.none) return this.#drop(slots, slot, reason);
    sa.direction = 'inbound';
    if (sa.encapsulated && core.esp.opened.newest && slots.kind[slot] === INPUT.udp) this.#noteMapping(sa, now);
    const refusal = this.#deliver(sa, slot, now);
    if (refusal !== DROP.none) this.#drop(slots, slot, refusal);
  }

  /** No SA has this SPI. One that is larval may be what the peer sends on already: the packet waits for it (`early.ts`). */
  #awaitSa(slots: Slots, slot: number, at: number, length: number): void {
    const { sad, early, arena } = this.#core;
    const spi = this.#view.getUint32(at);
    const larval = sad.larvalInbound(spi, this.#knowsLocal ? this.#local : undefined);
    const refusal = larval === undefined ? DROP.noSa : early.refusal(spi, length);
    if (refusal !== DROP.none) return this.#drop(slots, slot, refusal);
    early.keep(spi, {
      bytes: arena.slice(at, at + length),
      kind: slots.kind[slot] === INPUT.udp ? INPUT.udp : INPUT.raw,
      trafficClass: this.#trafficClass,
      localFamily: this.#knowsLocal ? larval!.destination.family : 0,
      local: this.#local.slice(),
      remoteFamily: this.#remoteFamily,
      remote: this.#remote.slice(),
      remotePort: this.#remotePort,
    });
  }

  /** What an authenticated packet held, on its way to the device. */
  #deliver(sa: Sa, slot: number, now: Instant): number {
    const core = this.#core;
    const { nextHeader } = core.esp.opened;
    if (nextHeader === PROTOCOL.none) return DROP.dummy;
    if (!this.#coalescer.hasRoom) return DROP.noRoom;
    const reason = sa.tunnel ? this.#unwrap(nextHeader) : this.#rebuild(sa, nextHeader);
    if (reason !== DROP.none) return reason;
    const inner = this.#inner;
    core.account(sa, 1, inner.bytes, now);
    if (sa.longestSegment !== NO_LIMIT) core.mss.clamp(inner, sa.longestSegment);
    const decision = core.inboundFlows.find(inner, sa.serial) ?? this.#decide(sa);
    if (decision.entry === undefined) return this.#admitLater(sa, slot, now);
    decision.entry.hits++;
    decision.entry.lastHit = now.wall;
    this.#coalescer.add(inner, slot);
    return DROP.none;
  }

  /** What its SA and policy do not admit as it is: a fragment, whose ports they ask for; or a packet for another SA. */
  #admitLater(sa: Sa, slot: number, now: Instant): number {
    const inner = this.#inner;
    if (inner.fragment && sa.parameters.mode !== 'transport' && couldAdmit(this.#core.spd, sa, inner))
      return this.#gather(sa, slot, now);
    return this.#bundles.goOn(sa, inner, slot, now);
  }

  /** RFC 4301 §7.3: fragments are delivered with the first of them, whose ports the SA and a policy admit, and not before. */
  #gather(sa: Sa, slot: number, now: Instant): number {
    const { arena, outputs, spd, drops, fragments } = this.#core;
    const { inbound } = fragments;
    const outcome = inbound.add(this.#inner, sa.serial, now.mono);
    if (outcome === WAITS) return DROP.none;
    if (outcome !== WHOLE) return outcome;
    const { parts } = inbound;
    const at = this.#kept.buffer[0]!;
    const whole = this.#outer;
    const entry = whole.read(at, inbound.compose(at)) ? admits(spd, [sa], whole) : undefined;
    const octets = parts.reduce((sum, part) => sum + part.length + 32, 0);
    // Pieces of frames count twice at most.
    const hasRoom = outputs.hasRoom(2 * parts.length, octets);
    const reason = entry === undefined ? DROP.policyMismatch : hasRoom ? DROP.none : DROP.noRoom;
    if (entry === undefined || reason !== DROP.none || !this.#coalescer.hasRoom) {
      // The one that has just arrived is counted with its slot.
      for (let i = 1; i < parts.length; i++) drops.count(reason || DROP.noRoom);
      inbound.discarded += parts.length - 1;
      return reason || DROP.noRoom;
    }
    for (const part of parts) {
      const to = (outputs.at + VNET_HDR_BYTES + 7) & ~7;
      arena.set(part, to);
      this.#inner.read(to, part.length);
      outputs.at = to + part.length;
      entry.hits++;
      this.#coalescer.add(this.#inner, slot);
    }
    entry.lastHit = now.wall;
    return DROP.none;
  }

  /** RFC 4301 §5.1.2, RFC 6040: the inner packet lies in the text as it is; TFC padding behind it is cut off by its own length. */
  #unwrap(nextHeader: number): number {
    const { opened } = this.#core.esp;
    const inner = this.#inner;
    if (nextHeader !== PROTOCOL.ipv4 && nextHeader !== PROTOCOL.ipv6) return DROP.badNextHeader;
    if (!inner.read(opened.at, opened.bytes) || inner.family !== (nextHeader === PROTOCOL.ipv4 ? 4 : 6)) return DROP.badInner;
    const { checksum, arena, keptClass } = this.#core;
    const trafficClass = innerClass(inner.trafficClass, this.#trafficClass, keptClass);
    if (trafficClass < 0) return DROP.ecn;
    if (trafficClass !== inner.trafficClass) writeTrafficClass(checksum, arena, inner.at, trafficClass);
    return DROP.none;
  }

  /** Transport mode, RFC 4303 §3.4.4: an IP header in front of the payload again, in fresh memory. */
  #rebuild(sa: Sa, nextHeader: number): number {
    if (sa.inner !== undefined) return this.#restore(sa.inner, nextHeader);
    const { arena, outputs, esp, ipHeaders } = this.#core;
    const { source, destination } = sa.parameters;
    const headerBytes = source.family === 4 ? IPV4.bytes : IPV6.bytes;
    const { bytes } = esp.opened;
    const length = headerBytes + bytes;
    const at = (outputs.at + VNET_HDR_BYTES + 7) & ~7;
    if (at + length > outputs.end) return DROP.noRoom;
    if (length > MAX_PACKET) return DROP.badInner;
    ipHeaders.write(at, source, destination, nextHeader, bytes, this.#trafficClass, 0, DONT_FRAGMENT);
    arena.copyWithin(at + headerBytes, esp.opened.at, esp.opened.at + bytes);
    if (!this.#inner.read(at, length)) return DROP.badInner;
    outputs.at = at + length;
    if (sa.encapsulated) this.#repairChecksum();
    return DROP.none;
  }

  /** BEET mode: the same with the SA's inner addresses, and options that came behind a pseudo header. */
  #restore(ends: Ends, nextHeader: number): number {
    const { outputs, esp, beet } = this.#core;
    const at = (outputs.at + VNET_HDR_BYTES + 7) & ~7;
    const length = beet.restore(esp.opened, ends, nextHeader, this.#trafficClass, at, outputs.end);
    if (length < 0) return -length;
    if (!this.#inner.read(at, length)) return DROP.badInner;
    outputs.at = at + length;
    return DROP.none;
  }

  /** RFC 3948 §3.1.2: a NAT on the way changed the addresses that the checksum counts; it is computed anew over what was authenticated. */
  #repairChecksum(): void {
    const inner = this.#inner;
    const offset = checksumOffsetOf(inner.protocol);
    const bytes = inner.bytes - inner.headerBytes;
    if (inner.fragment || offset < 0 || offset + 2 > bytes) return;
    const { checksum } = this.#core;
    const field = inner.at + inner.headerBytes + offset;
    if (inner.protocol === PROTOCOL.udp && this.#view.getUint16(field) === 0) return;
    this.#view.setUint16(field, 0);
    const value = checksum.of(inner.at + inner.headerBytes, bytes, checksum.pseudo(inner.at, inner.protocol, bytes));
    this.#view.setUint16(field, value === 0 && inner.protocol === PROTOCOL.udp ? 0xffff : value);
  }

  /** What may be compressed is for no policy before it was looked at (`InboundBundles.goOn`). */
  #decide(sa: Sa): InboundDecision {
    const { spd, sad, inboundFlows } = this.#core;
    const decision = { entry: mayBeIpcomp(this.#inner, sad) ? undefined : admits(spd, [sa], this.#inner) };
    inboundFlows.remember(this.#inner, sa.serial, decision);
    return decision;
  }

  #noteMapping(sa: Sa, now: Instant): void {
    const { encapsulation, source } = sa.parameters;
    if (this.#remoteFamily === 0 || encapsulation === undefined) return;
    const moved = this.#remoteFamily !== source.family || !hasWords(sa.source, this.#remote);
    if ((!moved && this.#remotePort === encapsulation.source.port) || now.mono - sa.mappingToldAt < MAPPING_INTERVAL) return;
    if (sa.beganAt(this.#remote, now.mono)) return; // sent before it moved
    sa.mappingToldAt = now.mono;
    const bytes = new Uint8Array(this.#remoteFamily === 4 ? 4 : 16);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < bytes.length / 4; i++) view.setInt32(4 * i, this.#remote[i]! ^ 0x80000000);
    this.#core.effects.push({
      kind: 'new-mapping',
      sa,
      before: encapsulation.source,
      now: { address: IpAddress.of(bytes), port: this.#remotePort },
    });
  }

  #drop(slots: Slots, slot: number, reason: number): void {
    slots.drop[slot] = reason;
    this.#core.drops.count(reason);
  }

  /** What arrived in clear (RFC 4301 §5.2 step 3b): `DROP.none`, or why it may not pass. */
  checkClear(slots: Slots, slot: number): number {
    const core = this.#core;
    const packet = this.#outer;
    if (!packet.read(slots.offset[slot]!, slots.length[slot]!)) return DROP.malformed;
    const decision = core.inboundFlows.find(packet, 0) ?? this.#decideClear();
    if (decision.entry !== undefined) decision.entry.hits++;
    return clearVerdict(decision.entry, core.unmatched);
  }

  #decideClear(): InboundDecision {
    const { spd, inboundFlows } = this.#core;
    const packet = this.#outer;
    const decision = { entry: aboutClear(spd, packet) };
    inboundFlows.remember(packet, 0, decision);
    return decision;
  }
}
