/** Selectors made ready for the packet path (RFC 4301 §4.4.1.1): ranges of addresses and ports as plain numbers. */

import { type PolicySelector, type PortRanges, portRangesOf } from '../ipsec/policy.ts';
import type { TrafficSelector } from '../ipsec/selector.ts';
import type { IpAddress } from '../net/address.ts';
import type { IpPacket } from '../net/ip-packet.ts';
import { hasTypes } from '../net/message-types.ts';
import { firstAddress, lastAddress } from '../net/prefix.ts';
import { isIcmp, PROTOCOL } from '../net/transport.ts';

const ANY_HIGH = 65_535;

/** An inclusive range of addresses in the words of `IpPacket`. */
class AddressRange {
  readonly family: number;
  readonly low: Int32Array;
  readonly high: Int32Array;

  constructor(start: IpAddress, end: IpAddress) {
    this.family = start.family;
    this.low = addressWords(start);
    this.high = addressWords(end);
  }

  holds(w0: number, w1: number, w2: number, w3: number): boolean {
    const low = this.low;
    const high = this.high;
    if (this.family === 4) return low[0]! <= w0 && w0 <= high[0]!;
    return !isBefore(w0, w1, w2, w3, low) && !isAfter(w0, w1, w2, w3, high);
  }
}

function isBefore(w0: number, w1: number, w2: number, w3: number, than: Int32Array): boolean {
  if (w0 !== than[0]!) return w0 < than[0]!;
  if (w1 !== than[1]!) return w1 < than[1]!;
  if (w2 !== than[2]!) return w2 < than[2]!;
  return w3 < than[3]!;
}

function isAfter(w0: number, w1: number, w2: number, w3: number, than: Int32Array): boolean {
  if (w0 !== than[0]!) return w0 > than[0]!;
  if (w1 !== than[1]!) return w1 > than[1]!;
  if (w2 !== than[2]!) return w2 > than[2]!;
  return w3 > than[3]!;
}

/** Four words, most significant first, top bits inverted, as `IpPacket` has them. */
export function addressWords(address: IpAddress): Int32Array {
  const words = new Int32Array(4);
  const view = new DataView(address.bytes.buffer, address.bytes.byteOffset, address.bytes.length);
  for (let i = 0; i < address.bytes.length / 4; i++) words[i] = view.getInt32(4 * i) ^ 0x80000000;
  return words;
}

/** 0 to 65535 selects packets without ports too, and low > high (OPAQUE) only those. */
function portFits(low: number, high: number, port: number): boolean {
  if (low > high) return port < 0;
  return port < 0 ? low === 0 && high === ANY_HIGH : low <= port && port <= high;
}

/** The selector of a policy. */
export class PolicyMatcher {
  readonly #protocol: number;
  readonly #source: AddressRange;
  readonly #destination: AddressRange;
  readonly #ports: PortRanges;

  constructor(selector: PolicySelector) {
    this.#protocol = selector.protocol;
    this.#source = new AddressRange(firstAddress(selector.source), lastAddress(selector.source));
    this.#destination = new AddressRange(firstAddress(selector.destination), lastAddress(selector.destination));
    this.#ports = portRangesOf(selector);
  }

  matches(packet: IpPacket): boolean {
    return (
      packet.family === this.#source.family &&
      (this.#protocol === 0 || this.#protocol === packet.protocol) &&
      this.#source.holds(packet.source0, packet.source1, packet.source2, packet.source3) &&
      this.#destination.holds(packet.destination0, packet.destination1, packet.destination2, packet.destination3) &&
      portFits(this.#ports.sourceLow, this.#ports.sourceHigh, packet.sourcePort) &&
      portFits(this.#ports.destinationLow, this.#ports.destinationHigh, packet.destinationPort)
    );
  }
}

/** One traffic selector, for the source or the destination of a packet. */
class SideMatcher {
  readonly #protocol: number;
  readonly #range: AddressRange;
  readonly #low: number;
  readonly #high: number;

  constructor(selector: TrafficSelector) {
    this.#protocol = selector.protocol;
    this.#range = new AddressRange(selector.start, selector.end);
    this.#low = selector.startPort;
    this.#high = selector.endPort;
  }

  /** Address and protocol. */
  holds(family: number, protocol: number, w0: number, w1: number, w2: number, w3: number): boolean {
    return (
      family === this.#range.family && (this.#protocol === 0 || this.#protocol === protocol) && this.#range.holds(w0, w1, w2, w3)
    );
  }

  fits(port: number): boolean {
    return portFits(this.#low, this.#high, port);
  }
}

/** What may go through an SA: any of the source selectors with any of the destination's. Empty lists select everything. */
export class SaMatcher {
  readonly #source: readonly SideMatcher[];
  readonly #destination: readonly SideMatcher[];

  constructor(selectors: { readonly source: readonly TrafficSelector[]; readonly destination: readonly TrafficSelector[] }) {
    this.#source = selectors.source.map((selector) => new SideMatcher(selector));
    this.#destination = selectors.destination.map((selector) => new SideMatcher(selector));
  }

  get isEmpty(): boolean {
    return this.#source.length === 0 && this.#destination.length === 0;
  }

  matches(packet: IpPacket): boolean {
    return this.#sourceFits(packet) && this.#destinationFits(packet);
  }

  #sourceFits(p: IpPacket): boolean {
    const sides = this.#source;
    if (sides.length === 0) return true;
    const port = sentPort(p);
    for (let i = 0; i < sides.length; i++) {
      const side = sides[i]!;
      if (side.holds(p.family, p.protocol, p.source0, p.source1, p.source2, p.source3) && side.fits(port)) return true;
    }
    return false;
  }

  #destinationFits(p: IpPacket): boolean {
    const sides = this.#destination;
    if (sides.length === 0) return true;
    const typed = hasTypes(p.protocol);
    for (let i = 0; i < sides.length; i++) {
      const side = sides[i]!;
      if (!side.holds(p.family, p.protocol, p.destination0, p.destination1, p.destination2, p.destination3)) continue;
      if (typed || side.fits(p.destinationPort)) return true;
    }
    return false;
  }
}

/**
 * RFC 7296 §3.13.1: ICMP is one number of type and code, the Mobility Header's type is the high octet. RFC 4301 §4.4.1.1: a message has
 * one type only, and it is for its sender's selector to say whether it may be sent; the receiver's says what it sends itself.
 */
function sentPort({ protocol, sourcePort, destinationPort }: IpPacket): number {
  if (sourcePort < 0) return sourcePort;
  if (isIcmp(protocol)) return sourcePort * 256 + destinationPort;
  return protocol === PROTOCOL.mobility ? sourcePort * 256 : sourcePort;
}
