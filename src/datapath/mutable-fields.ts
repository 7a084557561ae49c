/** What AH's ICV covers of the IP header, its options and extension headers: the packet as it is at its destination (RFC 4302 §3.3.3.1, appendix A). */

import { IPV4, IPV6 } from '../net/ip-packet.ts';
import { PROTOCOL } from '../net/transport.ts';

/** IPv4 options that no router changes, appendix A1: security (RFC 1108), commercial security, router alert, sender directed delivery. */
const IMMUTABLE: readonly number[] = [130, 133, 134, 148, 149];
const END_OF_OPTIONS = 0;
const NO_OPERATION = 1;
const LOOSE_SOURCE_ROUTE = 131;
const STRICT_SOURCE_ROUTE = 137;

const PAD_1 = 0;
/** RFC 8200 §4.2: the option's data may change on the way. */
const MAY_CHANGE = 0x20;
/** RFC 6275 §6.3. */
const HOME_ADDRESS = 0xc9;
const ADDRESS_BYTES = 16;
/** RFC 2460 §4.4, and RFC 6275 §6.4: one home address. */
const ROUTE_TYPE_0 = 0;
const ROUTE_TYPE_2 = 2;
const ROUTE_FIXED_BYTES = 8;

/**
 * Turns the copy of a packet whose AH begins `headerBytes` behind `at` into what the ICV is computed over; AH itself is the caller's. With
 * `homeAddress` the source and the home address option's address change places first (RFC 6275 §6.3), unless the host has done that. False
 * where the headers are out of order, or could not be predicted.
 */
export function toIcvInput(bytes: Uint8Array, at: number, headerBytes: number, homeAddress: boolean): boolean {
  return bytes[at]! >> 4 === 4 ? ipv4(bytes, at, at + headerBytes) : ipv6(bytes, at, at + headerBytes, homeAddress);
}

/** §3.3.3.1.1. An option that may change counts as zero, with its type and length. */
function ipv4(bytes: Uint8Array, at: number, end: number): boolean {
  bytes[at + IPV4.tos] = 0;
  bytes.fill(0, at + IPV4.fragment, at + IPV4.fragment + 2);
  bytes[at + IPV4.ttl] = 0;
  bytes.fill(0, at + IPV4.checksum, at + IPV4.checksum + 2);
  for (let option = at + IPV4.bytes; option < end; ) {
    const type = bytes[option]!;
    if (type === END_OF_OPTIONS) return true;
    if (type === NO_OPERATION) {
      option++;
      continue;
    }
    const length = option + 1 < end ? bytes[option + 1]! : 0;
    if (length < 2 || option + length > end) return false;
    if (type === LOOSE_SOURCE_ROUTE || type === STRICT_SOURCE_ROUTE) {
      // RFC 791 §3.1: while the pointer is within the route, the last address of it is where the packet will arrive.
      if (length < 3 || (length - 3) % 4 !== 0) return false;
      if (bytes[option + 2]! < length) bytes.copyWithin(at + IPV4.destination, option + length - 4, option + length);
    }
    if (!IMMUTABLE.includes(type)) bytes.fill(0, option, option + length);
    option += length;
  }
  return true;
}

/** §3.3.3.1.2. */
function ipv6(bytes: Uint8Array, at: number, end: number, homeAddress: boolean): boolean {
  bytes[at] = 0x60;
  bytes.fill(0, at + 1, at + 4);
  bytes[at + IPV6.hopLimit] = 0;
  let nextHeader = bytes[at + IPV6.nextHeader]!;
  for (let header = at + IPV6.bytes; header < end; ) {
    const length = 8 + 8 * bytes[header + 1]!;
    if (header + length > end) return false;
    if (nextHeader === PROTOCOL.hopByHop || nextHeader === PROTOCOL.destinationOptions) {
      if (!options(bytes, at, header + 2, header + length, homeAddress)) return false;
    } else if (nextHeader !== PROTOCOL.routing || !route(bytes, at, header, length)) return false;
    nextHeader = bytes[header]!;
    header += length;
  }
  return nextHeader === PROTOCOL.ah;
}

function options(bytes: Uint8Array, at: number, from: number, end: number, homeAddress: boolean): boolean {
  for (let option = from; option < end; ) {
    const type = bytes[option]!;
    if (type === PAD_1) {
      option++;
      continue;
    }
    const data = option + 2;
    if (data > end || data + bytes[option + 1]! > end) return false;
    const length = bytes[option + 1]!;
    if ((type & MAY_CHANGE) !== 0) bytes.fill(0, data, data + length);
    else if (type === HOME_ADDRESS && homeAddress) {
      if (length !== ADDRESS_BYTES) return false;
      swap(bytes, at + IPV6.source, data);
    }
    option = data + length;
  }
  return true;
}

/** Appendix A2: the addresses as they are when none is left, each swapped with the destination in turn (RFC 2460 §4.4). */
function route(bytes: Uint8Array, at: number, header: number, length: number): boolean {
  const type = bytes[header + 2]!;
  const left = bytes[header + 3]!;
  if (left === 0) return true;
  const addresses = (length - ROUTE_FIXED_BYTES) / ADDRESS_BYTES;
  if ((type !== ROUTE_TYPE_0 && type !== ROUTE_TYPE_2) || !Number.isInteger(addresses) || left > addresses) return false;
  if (type === ROUTE_TYPE_2 && addresses !== 1) return false;
  for (let i = addresses - left; i < addresses; i++)
    swap(bytes, at + IPV6.destination, header + ROUTE_FIXED_BYTES + i * ADDRESS_BYTES);
  bytes[header + 3] = 0;
  return true;
}

function swap(bytes: Uint8Array, a: number, b: number): void {
  for (let i = 0; i < ADDRESS_BYTES; i++) {
    const octet = bytes[a + i]!;
    bytes[a + i] = bytes[b + i]!;
    bytes[b + i] = octet;
  }
}

/**
 * Octets of an IPv6 packet before AH in transport mode: hop-by-hop options, destination options for each hop of a route, the route, and
 * options with a home address (RFC 4302 §3.1.1, RFC 6275 §6.3); other options behind a route are the destination's alone. -1 where a fragment
 * header or a broken one stands among them. `bytes` hold the packet at `at`, `end` is behind its headers.
 */
export function ipv6HeadersBeforeAh(bytes: Uint8Array, at: number, end: number): number {
  let nextHeader = bytes[at + IPV6.nextHeader]!;
  let header = at + IPV6.bytes;
  let routed = false;
  while (header < end) {
    const isOptions = nextHeader === PROTOCOL.destinationOptions;
    if (!isOptions && nextHeader !== PROTOCOL.hopByHop && nextHeader !== PROTOCOL.routing) return -1;
    const length = 8 + 8 * bytes[header + 1]!;
    if (header + length > end) return -1;
    if (isOptions && routed && homeAddressAt(bytes, header + 2, header + length) < 0) break;
    routed ||= nextHeader === PROTOCOL.routing;
    nextHeader = bytes[header]!;
    header += length;
  }
  return header - at;
}

/** Where the home address lies among the options of a header from `from` to `end`; -1: there is none. */
function homeAddressAt(bytes: Uint8Array, from: number, end: number): number {
  for (let option = from; option + 2 <= end; option += bytes[option] === PAD_1 ? 1 : 2 + bytes[option + 1]!) {
    if (bytes[option] !== HOME_ADDRESS || bytes[option + 1] !== ADDRESS_BYTES) continue;
    return option + 2 + ADDRESS_BYTES <= end ? option + 2 : -1;
  }
  return -1;
}

/** Undoes what a kernel does to a packet with a home address before it hands it on: the source of the packet at `at` and that address change places. */
export function swapHomeAddress(bytes: Uint8Array, at: number, header: number): void {
  const address = homeAddressAt(bytes, header + 2, header + 8 + 8 * bytes[header + 1]!);
  if (address >= 0) swap(bytes, at + IPV6.source, address);
}

/** Where the number of the header behind those of `headerBytes` octets is written. The headers have been walked before. */
export function nextHeaderAt(bytes: Uint8Array, at: number, headerBytes: number): number {
  if (bytes[at]! >> 4 === 4) return at + IPV4.protocol;
  let field = at + IPV6.nextHeader;
  for (let header = at + IPV6.bytes; header < at + headerBytes; header += 8 + 8 * bytes[header + 1]!) field = header;
  return field;
}
