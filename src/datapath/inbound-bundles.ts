/**
 * Packets that came through AH, or through several SAs one around the other (RFC 4302 §3.4, RFC 4301 §5.2): opened from the outside in, until
 * one is left that is not for an SA of ours. Correct rather than fast; what comes through one SA of ESP never comes here.
 */

import type { Instant } from '../machine.ts';
import { IpPacket } from '../net/ip-packet.ts';
import { PROTOCOL } from '../net/transport.ts';
import { ICV_ROOM } from './ah.ts';
import type { Coalescer } from './coalesce.ts';
import type { Core } from './core.ts';
import { admits, isSpent } from './decisions.ts';
import { DROP } from './drops.ts';
import { ESP_HEADER } from './esp.ts';
import { MAX_PACKET } from './ip-header.ts';
import { IPCOMP_HEADER } from './ipcomp.ts';
import { nextHeaderAt } from './mutable-fields.ts';
import type { Sa } from './sa.ts';
import type { Sad } from './sad.ts';
import { VNET_HDR_BYTES } from './slots.ts';
import { innerClass, writeTrafficClass } from './tunnel.ts';

/** SAs around one packet: AH, ESP and IPComp, and the same once more in a tunnel of theirs. */
const MOST_SAS = 6;
/** Octets of AH without its ICV. */
const AH_FIXED = 12;

export class InboundBundles {
  readonly #core: Core;
  readonly #coalescer: Coalescer;
  /** What is left of the packet at hand, the destination of it, and the SAs that it came through, outermost first. */
  readonly #packet: IpPacket;
  readonly #destination = new Int32Array(4);
  #sas: Sa[] = [];

  constructor(core: Core, coalescer: Coalescer) {
    this.#core = core;
    this.#coalescer = coalescer;
    this.#packet = new IpPacket(core.arena);
  }

  /** Octets of room among the outputs that a packet of `bytes` may need: AH works on a copy, and transport mode makes another. */
  static roomFor(bytes: number): number {
    return 3 * bytes + ICV_ROOM + 64;
  }

  /** A whole packet of AH as it was received: `DROP.none`, or why it is dropped. */
  take(at: number, length: number, slot: number, now: Instant): number {
    const packet = this.#packet;
    if (!packet.read(at, length) || (packet.protocol !== PROTOCOL.ah && !packet.fragment)) return DROP.malformed;
    if (packet.fragment) return DROP.outerFragment;
    this.#sas = [];
    return this.#openAll(slot, now);
  }

  /** What came out of an SA of ESP and no policy admits as it is: it may be for another SA. */
  goOn(sa: Sa, inner: IpPacket, slot: number, now: Instant): number {
    if ((!isProtected(inner) && !isTunnel(inner)) || !this.#packet.read(inner.at, inner.bytes)) return DROP.policyMismatch;
    this.#sas = [sa];
    return this.#openAll(slot, now);
  }

  #openAll(slot: number, now: Instant): number {
    const core = this.#core;
    const packet = this.#packet;
    while (this.#sas.length < MOST_SAS) {
      if (this.#sas.length > 0 && isTunnel(packet) && core.sad.hasIpcompTunnel(packet)) {
        const reason = this.#openPlainTunnel();
        if (reason !== DROP.none) return reason;
      }
      if (!isProtected(packet)) break;
      const sa = this.#saOf(now);
      // RFC 3173 §2.1: without the association it cannot be made whole; in a tunnel it may be for another host.
      if (sa === undefined && packet.protocol === PROTOCOL.ipcomp && !this.#sas.at(-1)?.tunnel) return DROP.noSa;
      if (sa === undefined) break;
      if (isSpent(sa)) {
        core.expire(sa);
        return DROP.noSa;
      }
      const reason = this.#openOne(sa);
      if (reason !== DROP.none) return reason;
      sa.direction = 'inbound';
      this.#sas.push(sa);
      core.account(sa, 1, packet.bytes, now);
    }
    return this.#sas.length === 0 ? DROP.noSa : this.#deliver(slot, now);
  }

  /** The SA of ours that the packet names, if it has the octets to name one. */
  #saOf(now: Instant): Sa | undefined {
    const { sad, esp, ah, ipcomp } = this.#core;
    const packet = this.#packet;
    const at = packet.at + packet.headerBytes;
    const left = packet.bytes - packet.headerBytes;
    const words = this.#destination;
    words[0] = packet.destination0;
    words[1] = packet.destination1;
    words[2] = packet.destination2;
    words[3] = packet.destination3;
    if (packet.protocol === PROTOCOL.ah) return left < AH_FIXED ? undefined : sad.inboundOf('ah', ah.spiAt(at), words, now.mono);
    if (packet.protocol === PROTOCOL.ipcomp)
      return left < IPCOMP_HEADER ? undefined : sad.inboundOf('ipcomp', ipcomp.cpiAt(at), words, now.mono);
    return left < ESP_HEADER ? undefined : sad.inbound(esp.spiAt(at), words, false, now.mono);
  }

  #openOne(sa: Sa): number {
    const { esp, ah, outputs } = this.#core;
    const { at, bytes, headerBytes, protocol, trafficClass } = this.#packet;
    const scratchAt = (outputs.at + 15) & ~15;
    if (scratchAt + bytes + ICV_ROOM > outputs.end) return DROP.noRoom;
    const reason =
      protocol === PROTOCOL.ah
        ? ah.open(sa, at, bytes, at + headerBytes, true, scratchAt)
        : protocol === PROTOCOL.esp
          ? esp.open(sa, at + headerBytes, bytes - headerBytes)
          : this.#decompress();
    if (reason !== DROP.none) return reason;
    if (esp.opened.nextHeader === PROTOCOL.none) return DROP.dummy;
    return sa.tunnel ? this.#unwrap(trafficClass) : this.#join();
  }

  /** RFC 3173 §2.1: what the payload was, within the length of a packet, in fresh memory. */
  #decompress(): number {
    const { arena, esp, ipcomp, outputs } = this.#core;
    const packet = this.#packet;
    const from = packet.at + packet.headerBytes;
    const to = (outputs.at + VNET_HDR_BYTES + 7) & ~7;
    const most = Math.min(MAX_PACKET - packet.headerBytes, outputs.end - to);
    if (most <= 0) return DROP.noRoom;
    const bytes = ipcomp.decompress(from, packet.bytes - packet.headerBytes, to, most);
    if (bytes < 0) return DROP.badCompression;
    outputs.at = to + bytes;
    esp.opened.at = to;
    esp.opened.bytes = bytes;
    esp.opened.nextHeader = arena[from]!;
    return DROP.none;
  }

  /** A tunnel of IPComp that carries what would not have become shorter (RFC 3173 §2.2). */
  #openPlainTunnel(): number {
    const { opened } = this.#core.esp;
    const { at, headerBytes, bytes, protocol, trafficClass } = this.#packet;
    opened.at = at + headerBytes;
    opened.bytes = bytes - headerBytes;
    opened.nextHeader = protocol;
    return this.#unwrap(trafficClass);
  }

  /** Tunnel mode, RFC 4301 §5.1.2: what is inside is a packet. */
  #unwrap(outerClass: number): number {
    const { opened } = this.#core.esp;
    const packet = this.#packet;
    const { nextHeader } = opened;
    if (nextHeader !== PROTOCOL.ipv4 && nextHeader !== PROTOCOL.ipv6) return DROP.badNextHeader;
    if (!packet.read(opened.at, opened.bytes) || packet.family !== (nextHeader === PROTOCOL.ipv4 ? 4 : 6)) return DROP.badInner;
    const { checksum, arena, keptClass } = this.#core;
    const trafficClass = innerClass(packet.trafficClass, outerClass, keptClass);
    if (trafficClass < 0) return DROP.ecn;
    if (trafficClass !== packet.trafficClass) writeTrafficClass(checksum, arena, packet.at, trafficClass);
    return DROP.none;
  }

  /** Transport mode, RFC 4302 §3.1.1: the packet's own headers and what was behind AH or in ESP, in fresh memory. */
  #join(): number {
    const { arena, outputs, esp, ipHeaders } = this.#core;
    const { opened } = esp;
    const packet = this.#packet;
    const { headerBytes } = packet;
    const length = headerBytes + opened.bytes;
    const at = (outputs.at + VNET_HDR_BYTES + 7) & ~7;
    if (at + length > outputs.end) return DROP.noRoom;
    arena.copyWithin(at, packet.at, packet.at + headerBytes);
    arena.copyWithin(at + headerBytes, opened.at, opened.at + opened.bytes);
    arena[nextHeaderAt(arena, at, headerBytes)] = opened.nextHeader;
    ipHeaders.resize(at, headerBytes, length);
    outputs.at = at + length;
    return packet.read(at, length) ? DROP.none : DROP.badInner;
  }

  #deliver(slot: number, now: Instant): number {
    const { spd } = this.#core;
    const packet = this.#packet;
    const sas = this.#sas;
    if (!this.#coalescer.hasRoom) return DROP.noRoom;
    const entry = admits(spd, sas, packet);
    if (entry === undefined) return DROP.policyMismatch;
    entry.hits++;
    entry.lastHit = now.wall;
    this.#coalescer.add(packet, slot);
    return DROP.none;
  }
}

/** Whether it is a whole packet that might be for an SA. */
function isProtected({ protocol, fragment }: IpPacket): boolean {
  return !fragment && (protocol === PROTOCOL.ah || protocol === PROTOCOL.esp || protocol === PROTOCOL.ipcomp);
}

function isTunnel({ protocol, fragment }: IpPacket): boolean {
  return !fragment && (protocol === PROTOCOL.ipv4 || protocol === PROTOCOL.ipv6);
}

/** Whether a packet out of ESP is IPComp's, or in a tunnel of it that was not worth compressing. */
export function mayBeIpcomp(packet: IpPacket, sad: Sad): boolean {
  if (packet.fragment) return false;
  return packet.protocol === PROTOCOL.ipcomp || (isTunnel(packet) && sad.hasIpcompTunnel(packet));
}
