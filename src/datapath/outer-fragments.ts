/**
 * ESP that is longer than an IPv6 path carries, where what is inside may not be cut (RFC 2473 §7.1, RFC 8200 §4.5): routers do not fragment, and the
 * kernel would ask its own path MTU, which anybody can lower. So the outer packet is made, and cut, here. IPv4's routers need none of this.
 */

import { IPV6 } from '../net/ip-packet.ts';
import { PROTOCOL } from '../net/transport.ts';
import type { Core } from './core.ts';
import { DROP } from './drops.ts';
import type { Sa } from './sa.ts';
import { OUTPUT } from './slots.ts';

const UDP_HEADER = 8;
const FRAGMENT_HEADER = 8;
const MORE_FRAGMENTS = 1;
/** No path of IPv6 is so narrow that a packet makes more. */
export const MOST_FRAGMENTS = Math.ceil(0xffff / 1232) + 1;

export class OuterFragments {
  readonly #core: Core;
  readonly #view: DataView;
  #id = 0;

  constructor(core: Core) {
    this.#core = core;
    this.#view = new DataView(core.arena.buffer, core.arena.byteOffset, core.arena.length);
  }

  /** Octets of room among the outputs for an inner packet of `bytes`: the ESP packet, a copy of it in its fragments, and headers. */
  static roomFor(bytes: number): number {
    return 2 * (bytes + 128) + MOST_FRAGMENTS * (IPV6.bytes + FRAGMENT_HEADER + 8) + 256;
  }

  /** Sends the ESP packet of `length` octets at `espAt`, which is the last thing among the outputs, in fragments of at most `mtu`: `DROP.none`. */
  send(sa: Sa, espAt: number, length: number, mtu: number, trafficClass: number, slot: number): number {
    const { arena, outputs, ipHeaders, checksum } = this.#core;
    const { source, destination, encapsulation } = sa.parameters;
    const udpBytes = encapsulation === undefined ? 0 : UDP_HEADER;
    const payloadBytes = udpBytes + length;
    const protocol = encapsulation === undefined ? PROTOCOL.esp : PROTOCOL.udp;
    const payloadAt = (espAt + IPV6.bytes + 7) & ~7;
    arena.copyWithin(payloadAt + udpBytes, espAt, espAt + length);
    if (encapsulation !== undefined) {
      // RFC 3948 §2.1 wants no checksum, RFC 8200 §8.1 does. The addresses that it counts are read from the header.
      ipHeaders.write(payloadAt - IPV6.bytes, source, destination, protocol, payloadBytes, 0, 0, 0);
      this.#view.setUint16(payloadAt, encapsulation.source.port);
      this.#view.setUint16(payloadAt + 2, encapsulation.destination.port);
      this.#view.setUint16(payloadAt + 4, payloadBytes);
      this.#view.setUint16(payloadAt + 6, 0);
      const pseudo = checksum.pseudo(payloadAt - IPV6.bytes, protocol, payloadBytes);
      this.#view.setUint16(payloadAt + 6, checksum.of(payloadAt, payloadBytes, pseudo) || 0xffff);
    }
    const each = (mtu - IPV6.bytes - FRAGMENT_HEADER) & -8;
    this.#id = (this.#id + 1) >>> 0;
    let at = (payloadAt + payloadBytes + 7) & ~7;
    for (let from = 0; from < payloadBytes; from += each) {
      const octets = Math.min(each, payloadBytes - from);
      const more = from + octets < payloadBytes ? MORE_FRAGMENTS : 0;
      ipHeaders.write(at, source, destination, PROTOCOL.fragment, FRAGMENT_HEADER + octets, trafficClass, 0, 0);
      const header = at + IPV6.bytes;
      this.#view.setUint16(header, protocol << 8);
      this.#view.setUint16(header + 2, from | more);
      this.#view.setUint32(header + 4, this.#id);
      arena.copyWithin(header + FRAGMENT_HEADER, payloadAt + from, payloadAt + from + octets);
      const whole = IPV6.bytes + FRAGMENT_HEADER + octets;
      outputs.push(OUTPUT.clear, at, whole, slot);
      at = (at + whole + 7) & ~7;
    }
    outputs.at = at;
    return DROP.none;
  }
}
