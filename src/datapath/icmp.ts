/**
 * ICMP and the engine (RFC 4301 §6, §8.2): errors about our own ESP packets, believed only where they quote one that was sent a moment ago, and errors
 * that the engine answers packets with that it cannot carry (RFC 792, RFC 1191 §4, RFC 4443 §3).
 */

import type { Instant } from '../machine.ts';
import { IpAddress } from '../net/address.ts';
import { IPV4, IPV6, IpPacket } from '../net/ip-packet.ts';
import { PROTOCOL } from '../net/transport.ts';
import type { Core } from './core.ts';
import { DROP } from './drops.ts';
import type { Sa } from './sa.ts';
import { INPUT, type Slots, VNET_HDR_BYTES } from './slots.ts';

/** Octets before the packet that an error quotes. */
const ICMP_HEADER = 8;
const UDP_HEADER = 8;
/** SPI and sequence number. */
const ESP_HEADER = 8;
/** How far behind the last packet sent the quoted one may be: what is under way at a million packets a second in 65 ms. */
const IN_FLIGHT = 0x10000;
/** RFC 1812 §4.3.2.3, RFC 4443 §2.4 (c): as much of the packet as fits in so many octets, and no more. */
const QUOTED_WITHIN = { 4: 576, 6: 1280 } as const;
/** RFC 4443 §2.4 (f): errors a second, and at once. Each is about a packet of a host of ours, so this is ample. */
const ERRORS_PER_SECOND = 100;
const BURST = 50;

/** Type and code of the errors, by family. */
const ERROR = {
  tooBig: { 4: { type: 3, code: 4 }, 6: { type: 2, code: 0 } },
  /** RFC 4301 §5.1.1: a policy forbids it (a), and no SA could be made for it (b2). */
  prohibited: { 4: { type: 3, code: 13 }, 6: { type: 1, code: 1 } },
  unreachable: { 4: { type: 3, code: 1 }, 6: { type: 1, code: 3 } },
} as const;
type ErrorName = keyof typeof ERROR;

const IPV4_MULTICAST = 224;

export class Icmp {
  readonly #core: Core;
  readonly #view: DataView;
  readonly #outer: IpPacket;
  #tokens = BURST;
  #refilledAt = Number.NEGATIVE_INFINITY;

  constructor(core: Core) {
    this.#core = core;
    this.#view = new DataView(core.arena.buffer, core.arena.byteOffset, core.arena.length);
    this.#outer = new IpPacket(core.arena);
  }

  /**
   * An ICMP message from outside (`INPUT.icmp` with its IPv4 header, `INPUT.icmpv6` without). RFC 4301 §8.2.1: where it says that a packet was too big and
   * quotes one of ours, the path's MTU is what it says. An outsider would have to guess the SPI and a sequence number of the moment, so he changes
   * nothing; who sees our packets can shrink the path to the floor and no further.
   */
  take(slots: Slots, slot: number, now: Instant): void {
    slots.drop[slot] = DROP.none;
    const core = this.#core;
    const mtu = this.#readTooBig(slots, slot);
    if (mtu === NOT_TOO_BIG) return;
    const sa = this.#quotedSa();
    if (sa === undefined || mtu >= this.#quotedBytes) {
      slots.drop[slot] = DROP.forgedIcmp;
      core.drops.count(DROP.forgedIcmp);
      return;
    }
    core.learnPathMtu(sa.parameters, mtu, now);
  }

  /** Where the quoted packet lies and ends, what it is, and how long it was. */
  #quotedAt = 0;
  #end = 0;
  #quotedBytes = 0;

  /** The MTU that the message reports, or NOT_TOO_BIG where it is about something else. Sets where the quoted packet lies. */
  #readTooBig(slots: Slots, slot: number): number {
    let at = slots.offset[slot]!;
    let bytes = slots.length[slot]!;
    const family = slots.kind[slot] === INPUT.icmpv6 ? 6 : 4;
    if (family === 4) {
      const outer = this.#outer;
      if (!outer.read(at, bytes) || outer.protocol !== PROTOCOL.icmp || outer.fragment) return NOT_TOO_BIG;
      at += outer.headerBytes;
      bytes = outer.bytes - outer.headerBytes;
    }
    const { type, code } = ERROR.tooBig[family];
    const { arena, checksum } = this.#core;
    if (bytes < ICMP_HEADER || arena[at] !== type || arena[at + 1] !== code) return NOT_TOO_BIG;
    // The kernel has checked ICMPv6, and hands ICMP over unchecked.
    if (family === 4 && checksum.of(at, bytes) !== 0) return NOT_TOO_BIG;
    this.#quotedAt = at + ICMP_HEADER;
    this.#end = at + bytes;
    return family === 4 ? this.#view.getUint16(at + 6) : this.#view.getUint32(at + 4);
  }

  /** The outbound SA of the quoted packet, if it is one that we sent lately: destination, ports, SPI and sequence number are its. */
  #quotedSa(): Sa | undefined {
    const { arena, sad } = this.#core;
    const at = this.#quotedAt;
    if (this.#end - at < IPV4.bytes) return undefined;
    const family = arena[at]! >> 4;
    const headerBytes = family === 4 ? (arena[at]! & 0x0f) * 4 : IPV6.bytes;
    if ((family !== 4 && family !== 6) || headerBytes < IPV4.bytes || this.#end - at < headerBytes) return undefined;
    const isFragment = family === 4 && (this.#view.getUint16(at + IPV4.fragment) & 0x1fff) !== 0;
    if (isFragment) return undefined;
    this.#quotedBytes =
      family === 4 ? this.#view.getUint16(at + IPV4.totalLength) : IPV6.bytes + this.#view.getUint16(at + IPV6.payloadLength);
    const protocol = arena[at + (family === 4 ? IPV4.protocol : IPV6.nextHeader)]!;
    const udpBytes = protocol === PROTOCOL.udp ? UDP_HEADER : 0;
    const espAt = at + headerBytes + udpBytes;
    if ((protocol !== PROTOCOL.esp && protocol !== PROTOCOL.udp) || this.#end - espAt < ESP_HEADER) return undefined;
    const to = at + (family === 4 ? IPV4.destination : IPV6.destination);
    const destination = IpAddress.at(arena, to, family);
    const sa = sad.find(this.#view.getUint32(espAt), 'esp', destination);
    if (sa === undefined || sa.direction !== 'outbound' || sa.encapsulated !== (protocol === PROTOCOL.udp)) return undefined;
    const { encapsulation } = sa.parameters;
    if (encapsulation !== undefined && this.#view.getUint16(espAt - UDP_HEADER + 2) !== encapsulation.destination.port)
      return undefined;
    const behind = ((sa.sequence | 0) - this.#view.getInt32(espAt + 4)) >>> 0;
    return behind < IN_FLIGHT && behind < sa.sequence ? sa : undefined;
  }

  /** Tells the sender of a packet that came from the device why it goes no further, and with `tooBig` what would. */
  answer(error: ErrorName, packet: IpPacket, mtu: number, slot: number, now: Instant): void {
    const { outputs, ipHeaders, arena, checksum } = this.#core;
    const family = packet.family === 4 ? 4 : 6;
    if (!this.#mayAnswer(packet) || !outputs.hasRoom(1, QUOTED_WITHIN[family] + 32) || !this.#hasToken(now)) return;
    const { type, code } = ERROR[error][family];
    const headerBytes = family === 4 ? IPV4.bytes : IPV6.bytes;
    const quoted = Math.min(packet.bytes, QUOTED_WITHIN[family] - headerBytes - ICMP_HEADER);
    const at = (outputs.at + VNET_HDR_BYTES + 7) & ~7;
    const icmpAt = at + headerBytes;
    const icmpBytes = ICMP_HEADER + quoted;
    const protocol = family === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6;
    // The engine has no address of its own: it speaks for the other end, which the host believes to be behind the device.
    ipHeaders.write(at, packet.destinationAddress(), packet.sourceAddress(), protocol, icmpBytes, 0, 0, 0);
    arena.fill(0, at - VNET_HDR_BYTES, at);
    arena.fill(0, icmpAt, icmpAt + ICMP_HEADER);
    arena[icmpAt] = type;
    arena[icmpAt + 1] = code;
    if (error === 'tooBig') this.#view.setUint32(icmpAt + 4, mtu);
    arena.copyWithin(icmpAt + ICMP_HEADER, packet.at, packet.at + quoted);
    const pseudo = family === 4 ? 0 : checksum.pseudo(at, protocol, icmpBytes);
    this.#view.setUint16(icmpAt + 2, checksum.of(icmpAt, icmpBytes, pseudo));
    outputs.pushDevice(at, headerBytes + icmpBytes, slot);
    outputs.at = icmpAt + icmpBytes;
  }

  /** RFC 1122 §3.2.2, RFC 4443 §2.4 (e): never about an error, a later fragment, or what was for many or from nobody. */
  #mayAnswer(packet: IpPacket): boolean {
    const { arena } = this.#core;
    const type = arena[packet.at + packet.headerBytes]!;
    if (packet.fragment && this.#isLater(packet)) return false;
    if (packet.bytes === packet.headerBytes) return true;
    if (packet.protocol === PROTOCOL.icmpv6 && type < 128) return false;
    if (packet.protocol === PROTOCOL.icmp && type !== 0 && type !== 8 && type !== 13 && type !== 14) return false;
    if (packet.family === 6) {
      const source = packet.at + IPV6.source;
      return arena[packet.at + IPV6.destination] !== 0xff && arena[source] !== 0xff && this.#view.getUint32(source) !== 0;
    }
    const source = arena[packet.at + IPV4.source]!;
    return arena[packet.at + IPV4.destination]! < IPV4_MULTICAST && source !== 0 && source < IPV4_MULTICAST;
  }

  /** Whether a fragment is another than the first. */
  #isLater({ at, family, headerBytes }: IpPacket): boolean {
    const field =
      family === 4 ? this.#view.getUint16(at + IPV4.fragment) & 0x1fff : this.#view.getUint16(at + headerBytes - 6) >> 3;
    return field !== 0;
  }

  #hasToken(now: Instant): boolean {
    const earned = Math.max(0, now.mono - this.#refilledAt) * (ERRORS_PER_SECOND / 1000);
    this.#tokens = Math.min(BURST, this.#tokens + earned);
    this.#refilledAt = now.mono;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}

const NOT_TOO_BIG = -1;
