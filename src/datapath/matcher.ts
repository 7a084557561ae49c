/** Selectors made ready for the packet path (RFC 4301 §4.4.1.1): ranges of addresses and ports as plain numbers. */

import { type PolicySelector, type PortRanges, portRangesOf } from '../ipsec/policy.ts';
import type { SaParameters } from '../ipsec/sa.ts';
import type { TrafficSelector } from '../ipsec/selector.ts';
import type { IpAddress } from '../net/address.ts';
import type { IpPacket } from '../net/ip-packet.ts';
import { hasTypes } from '../net/message-types.ts';
import { firstAddress, lastAddress } from '../net/prefix.ts';
import { isExtension, isIcmp, PROTOCOL } from '../net/transport.ts';

const ANY_HIGH = 65_535;

/** Whether an address of the family, in the words of `IpPacket`, is in an inclusive range. */
function isWithin(start: IpAddress, end: IpAddress, w0: number, w1: number, w2: number, w3: number): boolean {
  if (start.family === 4) return start.word0 <= w0 && w0 <= end.word0;
  return !isBefore(w0, w1, w2, w3, start) && !isAfter(w0, w1, w2, w3, end);
}

function isBefore(w0: number, w1: number, w2: number, w3: number, { word0, word1, word2, word3 }: IpAddress): boolean {
  if (w0 !== word0) return w0 < word0;
  if (w1 !== word1) return w1 < word1;
  if (w2 !== word2) return w2 < word2;
  return w3 < word3;
}

function isAfter(w0: number, w1: number, w2: number, w3: number, { word0, word1, word2, word3 }: IpAddress): boolean {
  if (w0 !== word0) return w0 > word0;
  if (w1 !== word1) return w1 > word1;
  if (w2 !== word2) return w2 > word2;
  return w3 > word3;
}

/** 0 to 65535 selects packets without ports too, and low > high (OPAQUE) only those. */
function portFits(low: number, high: number, port: number): boolean {
  if (low > high) return port < 0;
  return port < 0 ? low === 0 && high === ANY_HIGH : low <= port && port <= high;
}

/** The selector of a policy. */
export class PolicyMatcher {
  readonly #family: number;
  readonly #protocol: number;
  readonly #firstSource: IpAddress;
  readonly #lastSource: IpAddress;
  readonly #firstDestination: IpAddress;
  readonly #lastDestination: IpAddress;
  readonly #ports: PortRanges;

  constructor(selector: PolicySelector) {
    const { protocol, source, destination } = selector;
    this.#family = source.address.family;
    this.#protocol = protocol;
    this.#firstSource = firstAddress(source);
    this.#lastSource = lastAddress(source);
    this.#firstDestination = firstAddress(destination);
    this.#lastDestination = lastAddress(destination);
    this.#ports = portRangesOf(selector);
  }

  matches(p: IpPacket): boolean {
    return (
      this.couldMatch(p) &&
      (this.#protocol === 0 || this.#protocol === p.protocol) &&
      portFits(this.#ports.sourceLow, this.#ports.sourceHigh, p.sourcePort) &&
      portFits(this.#ports.destinationLow, this.#ports.destinationHigh, p.destinationPort)
    );
  }

  /** Whether it may match the whole packet that a fragment is part of, whose ports (RFC 4301 §7), and maybe protocol, are not known. */
  couldMatch(p: IpPacket): boolean {
    return (
      p.family === this.#family &&
      (this.#protocol === 0 || this.#protocol === p.protocol || isHidden(p)) &&
      isWithin(this.#firstSource, this.#lastSource, p.source0, p.source1, p.source2, p.source3) &&
      isWithin(this.#firstDestination, this.#lastDestination, p.destination0, p.destination1, p.destination2, p.destination3)
    );
  }
}

/** Whether a fragment's protocol says nothing yet: the transport header's number is behind extension headers that only the first has (RFC 8200 §4.5). */
function isHidden({ family, fragment, protocol }: IpPacket): boolean {
  return family === 6 && fragment && isExtension(protocol);
}

/** Whether a packet may go through an SA: any of the source selectors with any of the destination's. Empty lists select everything. */
export function holds({ source, destination }: SaParameters['selectors'], packet: IpPacket): boolean {
  return sourceFits(source, packet) && destinationFits(destination, packet);
}

function sourceFits(selectors: readonly TrafficSelector[], p: IpPacket): boolean {
  if (selectors.length === 0) return true;
  const port = sentPort(p);
  for (let i = 0; i < selectors.length; i++) {
    const ts = selectors[i]!;
    if (!isOf(ts, p) || !isWithin(ts.start, ts.end, p.source0, p.source1, p.source2, p.source3)) continue;
    if (portFits(ts.startPort, ts.endPort, port)) return true;
  }
  return false;
}

function destinationFits(selectors: readonly TrafficSelector[], p: IpPacket): boolean {
  if (selectors.length === 0) return true;
  const typed = hasTypes(p.protocol);
  for (let i = 0; i < selectors.length; i++) {
    const ts = selectors[i]!;
    if (!isOf(ts, p) || !isWithin(ts.start, ts.end, p.destination0, p.destination1, p.destination2, p.destination3)) continue;
    if (typed || portFits(ts.startPort, ts.endPort, p.destinationPort)) return true;
  }
  return false;
}

/** The same without ports, for fragments. */
export function couldHold({ source, destination }: SaParameters['selectors'], p: IpPacket): boolean {
  const hold = (selectors: readonly TrafficSelector[], w0: number, w1: number, w2: number, w3: number) =>
    selectors.length === 0 ||
    selectors.some(
      (ts) =>
        ts.start.family === p.family &&
        (ts.protocol === 0 || ts.protocol === p.protocol || isHidden(p)) &&
        isWithin(ts.start, ts.end, w0, w1, w2, w3),
    );
  return (
    hold(source, p.source0, p.source1, p.source2, p.source3) &&
    hold(destination, p.destination0, p.destination1, p.destination2, p.destination3)
  );
}

/** Family and protocol. */
function isOf({ start, protocol }: TrafficSelector, packet: IpPacket): boolean {
  return start.family === packet.family && (protocol === 0 || protocol === packet.protocol);
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
