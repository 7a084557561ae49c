/**
 * Packets that go through AH, or through several SAs one after the other (RFC 4302 §3.3, RFC 4301 §4.4.2): each SA takes a whole IP packet and
 * makes another of it. Correct rather than fast; what goes through one SA of ESP never comes here.
 */

import type { Instant } from '../machine.ts';
import { IPV4, IPV6, IpPacket } from '../net/ip-packet.ts';
import { PROTOCOL } from '../net/transport.ts';
import { ICV_ROOM } from './ah.ts';
import type { Core } from './core.ts';
import { DROP } from './drops.ts';
import { MAX_PACKET } from './ip-header.ts';
import { ipv6HeadersBeforeAh, nextHeaderAt, toIcvInput } from './mutable-fields.ts';
import type { Sa } from './sa.ts';
import { OUTPUT } from './slots.ts';

/** Most that one SA puts before a packet (an IPv6 header and AH, or ESP with its IV) and behind it (ESP's padding, trailer and ICV). */
const FRONT = 160;
const TAIL = 96;

/**
 * Whether the headers of the packet in `bytes` allow what the SAs do to it, innermost first: AH and ESP in transport mode go behind them, and AH
 * authenticates them as they will arrive (RFC 4302 §3.1, §3.3.3). Once it is in a tunnel they are of no matter.
 */
export function headersRefusal(bundle: readonly Sa[], bytes: Uint8Array, packet: IpPacket): number {
  for (const { tunnel, parameters } of bundle) {
    if (tunnel) return DROP.none;
    if (packet.fragment) return DROP.notForTransport;
    const { at } = packet;
    const headerBytes = packet.family === 4 ? packet.headerBytes : ipv6HeadersBeforeAh(bytes, at, at + packet.headerBytes);
    if (headerBytes < 0) return DROP.notForTransport;
    if (parameters.protocol !== 'ah') continue;
    const headers = bytes.slice(at, at + headerBytes);
    headers[nextHeaderAt(headers, 0, headerBytes)] = PROTOCOL.ah;
    if (!toIcvInput(headers, 0, headerBytes, true)) return DROP.notForTransport;
  }
  return DROP.none;
}

export class OutboundBundles {
  readonly #core: Core;
  /** What the packet at hand has become. */
  readonly #packet: IpPacket;

  constructor(core: Core) {
    this.#core = core;
    this.#packet = new IpPacket(core.arena);
  }

  /** Octets of room that a packet of `bytes` needs among the outputs: it grows at both ends, and AH works on a copy. */
  roomFor(bundle: readonly Sa[], bytes: number): number {
    return 2 * (Math.max(bytes, this.#core.sad.padTo) + bundle.length * (FRONT + TAIL)) + ICV_ROOM + 16;
  }

  /** Where the packet is to be laid before `send`. */
  placeFor(bundle: readonly Sa[]): number {
    return (this.#core.outputs.at + bundle.length * FRONT + 15) & ~15;
  }

  /** Sends the packet of `bytes` octets that lies at `placeFor(bundle)`: `DROP.none`, or why it cannot go. */
  send(bundle: readonly Sa[], bytes: number, slot: number, now: Instant): number {
    const { outputs } = this.#core;
    const packet = this.#packet;
    if (!packet.read(this.placeFor(bundle), bytes)) return DROP.malformed;
    for (const [index, sa] of bundle.entries()) {
      const inner = packet.bytes;
      const isEsp = sa.parameters.protocol === 'esp';
      const isLast = index === bundle.length - 1;
      sa.direction = 'outbound';
      const reason = isEsp ? this.#esp(sa, isLast, slot) : sa.parameters.protocol === 'ah' ? this.#ah(sa) : this.#ipcomp(sa);
      if (reason !== DROP.none) return reason;
      this.#core.account(sa, 1, inner, now);
      if (isEsp && isLast) return DROP.none;
    }
    outputs.push(OUTPUT.clear, packet.at, packet.bytes, slot);
    outputs.at = packet.at + packet.bytes;
    return DROP.none;
  }

  /** RFC 4302 §3.1: AH behind the packet's own headers, or behind new ones around it. */
  #ah(sa: Sa): number {
    const { ah } = this.#core;
    const packet = this.#packet;
    const family = sa.tunnel ? sa.parameters.source.family : packet.family;
    const ahBytes = ah.headerBytes(sa, family);
    if (packet.bytes + ahBytes + IPV6.bytes > MAX_PACKET) return DROP.noRoom;
    const nextHeader = sa.tunnel ? this.#wrap(sa, PROTOCOL.ah, ahBytes) : this.#open(PROTOCOL.ah, ahBytes);
    if (nextHeader < 0) return DROP.notForTransport;
    const { at, bytes, headerBytes } = packet;
    const scratchAt = (at + bytes + 15) & ~15;
    return ah.seal(sa, at, bytes, at + headerBytes, nextHeader, scratchAt);
  }

  /** RFC 3173 §2.2: a payload that would not become shorter goes as it is, in tunnel mode in a plain tunnel; a fragment does too. */
  #ipcomp(sa: Sa): number {
    const { ipcomp, arena, ipHeaders } = this.#core;
    const packet = this.#packet;
    if (sa.tunnel) {
      const nextHeader = packet.family === 4 ? PROTOCOL.ipv4 : PROTOCOL.ipv6;
      const length = ipcomp.compress(sa, packet.at, packet.bytes, nextHeader);
      return this.#encapsulate(sa, length > 0 ? PROTOCOL.ipcomp : nextHeader, length > 0 ? length : packet.bytes);
    }
    const headerBytes = this.#ownHeaders();
    if (packet.fragment || headerBytes < 0) return DROP.none;
    const { at } = packet;
    const field = nextHeaderAt(arena, at, headerBytes);
    const length = ipcomp.compress(sa, at + headerBytes, packet.bytes - headerBytes, arena[field]!);
    if (length === 0) return DROP.none;
    arena[field] = PROTOCOL.ipcomp;
    ipHeaders.resize(at, headerBytes, headerBytes + length);
    return packet.read(at, headerBytes + length) ? DROP.none : DROP.malformed;
  }

  /** Octets of the packet's own headers, behind which others go; -1 where it has one that forbids it. */
  #ownHeaders(): number {
    const { family, at, headerBytes } = this.#packet;
    return family === 4 ? headerBytes : ipv6HeadersBeforeAh(this.#core.arena, at, at + headerBytes);
  }

  /** ESP inside of other SAs; where it is the last, the host writes the outer header, and what the packet has of one is left out. */
  #esp(sa: Sa, isLast: boolean, slot: number): number {
    const { esp, outputs, ipHeaders } = this.#core;
    const packet = this.#packet;
    const { trafficClass } = packet;
    const payloadBytes = sa.tunnel ? packet.bytes : 0;
    if (packet.bytes + FRONT > MAX_PACKET) return DROP.noRoom;
    const front = esp.payloadAt(sa, 0);
    const nextHeader = sa.tunnel ? this.#wrap(sa, PROTOCOL.esp, front) : this.#open(PROTOCOL.esp, front);
    if (nextHeader < 0) return DROP.notForTransport;
    const espAt = packet.at + packet.headerBytes;
    const text = sa.tunnel ? payloadBytes : packet.bytes - packet.headerBytes - front;
    const length = esp.seal(sa, espAt, text, nextHeader);
    if (length === 0) return DROP.cipherFailed;
    if (isLast) {
      const output = outputs.push(OUTPUT.esp, espAt, length, slot);
      outputs.segmentBytes[output] = length;
      outputs.path[output] = sa.path;
      outputs.trafficClass[output] = trafficClass;
      outputs.at = espAt + length;
      return DROP.none;
    }
    ipHeaders.resize(packet.at, packet.headerBytes, packet.headerBytes + length);
    return packet.read(packet.at, packet.headerBytes + length) ? DROP.none : DROP.malformed;
  }

  /** A new IP header, and `room` octets between it and the packet: what the next header is to say. */
  #wrap(sa: Sa, protocol: number, room: number): number {
    const packet = this.#packet;
    const nextHeader = packet.family === 4 ? PROTOCOL.ipv4 : PROTOCOL.ipv6;
    return this.#encapsulate(sa, protocol, packet.bytes, room) === DROP.none ? nextHeader : -1;
  }

  /** A new IP header in front of `bytes` octets where the packet is, with `room` octets between. */
  #encapsulate(sa: Sa, protocol: number, bytes: number, room = 0): number {
    const { ipHeaders } = this.#core;
    const packet = this.#packet;
    const { source, destination } = sa.parameters;
    const v4 = source.family === 4;
    const headerBytes = v4 ? IPV4.bytes : IPV6.bytes;
    const at = packet.at - room - headerBytes;
    const payloadBytes = room + bytes;
    const id = v4 ? ipHeaders.nextId() : 0;
    ipHeaders.write(at, source, destination, protocol, payloadBytes, packet.trafficClass, id, 0);
    return packet.read(at, headerBytes + payloadBytes) ? DROP.none : DROP.malformed;
  }

  /** `room` octets between the headers of a packet and its payload: what the next header is to say, or -1 where it has headers that forbid it. */
  #open(protocol: number, room: number): number {
    const { arena, ipHeaders } = this.#core;
    const packet = this.#packet;
    if (packet.fragment) return -1;
    const headerBytes = this.#ownHeaders();
    if (headerBytes < 0) return -1;
    const at = packet.at - room;
    arena.copyWithin(at, packet.at, packet.at + headerBytes);
    const field = nextHeaderAt(arena, at, headerBytes);
    const nextHeader = arena[field]!;
    arena[field] = protocol;
    // A raw socket would choose an identification where there is none, and AH covers it.
    if (packet.family === 4 && arena[at + IPV4.id] === 0 && arena[at + IPV4.id + 1] === 0) {
      const id = ipHeaders.nextId();
      arena[at + IPV4.id] = id >>> 8;
      arena[at + IPV4.id + 1] = id & 0xff;
    }
    const length = packet.bytes + room;
    ipHeaders.resize(at, headerBytes, length);
    return packet.read(at, length) ? nextHeader : -1;
  }
}
