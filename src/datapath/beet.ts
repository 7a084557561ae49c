/**
 * BEET mode, the bound end-to-end tunnel (draft-nikander-esp-beet-mode-09, and Linux, which it describes): the SA fixes both inner addresses, so that
 * ESP carries what is behind the inner IP header. What else that says is in the outer one, but for IPv4's options: they go before the payload, behind a
 * pseudo header of their own.
 */

import type { Ends } from '../ipsec/policy.ts';
import { IPV4, IPV6 } from '../net/ip-packet.ts';
import { PROTOCOL } from '../net/transport.ts';
import { DROP } from './drops.ts';
import type { Opened } from './esp.ts';
import { DONT_FRAGMENT, type IpHeaders, MAX_PACKET } from './ip-header.ts';

/** `next header | options, in eights | padding | reserved`, then padding, and the options: all of it a multiple of eight octets. */
const PSEUDO_HEADER = { nextHeader: 0, eights: 1, padding: 2, reserved: 3, bytes: 4 } as const;
/** Octets that it has with its padding, at most. */
export const PSEUDO_HEADER_MOST = 8;
const OPTIONS_MOST = 40;
/** IPv4's option "no operation", which is what the padding is made of. */
const NOP = 1;

export class Beet {
  /** What ESP's trailer says of the payload that `leaveOut` has made. */
  nextHeader = 0;
  readonly #bytes: Uint8Array;
  readonly #ipHeaders: IpHeaders;

  constructor(arena: Uint8Array, ipHeaders: IpHeaders) {
    this.#bytes = arena;
    this.#ipHeaders = ipHeaders;
  }

  /** Makes of the IP packet of `length` octets at `at`, in its place, what ESP carries of it: octets. Its headers have been looked at. */
  leaveOut(at: number, length: number): number {
    const bytes = this.#bytes;
    if (bytes[at]! >> 4 === 6) {
      this.nextHeader = bytes[at + IPV6.nextHeader]!;
      bytes.copyWithin(at, at + IPV6.bytes, at + length);
      return length - IPV6.bytes;
    }
    const options = (bytes[at]! & 0x0f) * 4 - IPV4.bytes;
    const protocol = bytes[at + IPV4.protocol]!;
    const padding = options === 0 ? 0 : PSEUDO_HEADER.bytes - (options & 4);
    const pseudo = options === 0 ? 0 : PSEUDO_HEADER.bytes + padding;
    bytes.copyWithin(at + pseudo, at + IPV4.bytes, at + length);
    this.nextHeader = options === 0 ? protocol : PROTOCOL.beet;
    if (options > 0) {
      bytes[at + PSEUDO_HEADER.nextHeader] = protocol;
      bytes[at + PSEUDO_HEADER.eights] = options >> 3;
      bytes[at + PSEUDO_HEADER.padding] = padding;
      bytes[at + PSEUDO_HEADER.reserved] = 0;
      bytes.fill(NOP, at + PSEUDO_HEADER.bytes, at + pseudo);
    }
    return length - IPV4.bytes + pseudo;
  }

  /**
   * Puts the inner packet together at `at`, where it ends before `end`: its octets, or the reason to drop it as a negative number. The traffic class is the
   * outer header's, and what the host does not tell of that (hop limit, identification) is new.
   */
  restore(opened: Opened, ends: Ends, nextHeader: number, trafficClass: number, at: number, end: number): number {
    const bytes = this.#bytes;
    const v4 = ends.source.family === 4;
    let from = opened.at;
    let left = opened.bytes;
    let protocol = nextHeader;
    let options = 0;
    if (v4 && nextHeader === PROTOCOL.beet) {
      if (left < PSEUDO_HEADER_MOST) return -DROP.badInner;
      const pseudo = PSEUDO_HEADER.bytes + bytes[from + PSEUDO_HEADER.padding]!;
      options = 8 * bytes[from + PSEUDO_HEADER.eights]! + PSEUDO_HEADER_MOST - pseudo;
      if (options < 0 || options > OPTIONS_MOST || (options & 3) !== 0 || pseudo + options > left) return -DROP.badInner;
      protocol = bytes[from + PSEUDO_HEADER.nextHeader]!;
      from += pseudo;
      left -= pseudo;
    }
    const headerBytes = v4 ? IPV4.bytes : IPV6.bytes;
    const length = headerBytes + left;
    if (length > MAX_PACKET) return -DROP.badInner;
    if (at + length > end) return -DROP.noRoom;
    this.#ipHeaders.write(at, ends.source, ends.destination, protocol, left, trafficClass, 0, DONT_FRAGMENT);
    bytes.copyWithin(at + headerBytes, from, from + left);
    if (options > 0) {
      bytes[at] = 0x40 | ((IPV4.bytes + options) >> 2);
      this.#ipHeaders.resize(at, IPV4.bytes + options, length);
    }
    return length;
  }
}
