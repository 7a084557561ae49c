/** What selectors want of a transport header: ports, ICMP type and code, Mobility Header type (RFC 4301 §4.4.1.1). */

export const PROTOCOL = {
  hopByHop: 0,
  icmp: 1,
  ipv4: 4,
  tcp: 6,
  udp: 17,
  ipv6: 41,
  routing: 43,
  fragment: 44,
  esp: 50,
  ah: 51,
  icmpv6: 58,
  ipcomp: 108,
  beet: 94,
  none: 59,
  destinationOptions: 60,
  dccp: 33,
  mobility: 135,
  sctp: 132,
  udpLite: 136,
} as const;

/** The value of a port that a packet does not have (a fragment, another protocol): only "any" and OPAQUE select it. */
export const NO_PORT = -1;

/** Whether the protocol has a source and a destination port in its first four octets. */
export function hasPorts(protocol: number): boolean {
  return (
    protocol === PROTOCOL.tcp ||
    protocol === PROTOCOL.udp ||
    protocol === PROTOCOL.sctp ||
    protocol === PROTOCOL.dccp ||
    protocol === PROTOCOL.udpLite
  );
}

/** A header that may stand between a fragment header of IPv6 and the transport header (RFC 8200 §4.1). */
export function isExtension(protocol: number): boolean {
  return protocol === PROTOCOL.destinationOptions || protocol === PROTOCOL.routing || protocol === PROTOCOL.hopByHop;
}

export function isIcmp(protocol: number): boolean {
  return protocol === PROTOCOL.icmp || protocol === PROTOCOL.icmpv6;
}

/** The source port of `length` octets of transport at `at`, as PF_KEY means it: for ICMP the type, for the Mobility Header its type. */
export function sourcePortOf(bytes: Uint8Array, protocol: number, at: number, length: number): number {
  if (hasPorts(protocol)) return length >= 4 ? (bytes[at]! << 8) | bytes[at + 1]! : NO_PORT;
  if (isIcmp(protocol)) return length >= 2 ? bytes[at]! : NO_PORT;
  if (protocol === PROTOCOL.mobility) return length >= 3 ? bytes[at + 2]! : NO_PORT;
  return NO_PORT;
}

/** The destination port; for ICMP the code. The Mobility Header has none. */
export function destinationPortOf(bytes: Uint8Array, protocol: number, at: number, length: number): number {
  if (hasPorts(protocol)) return length >= 4 ? (bytes[at + 2]! << 8) | bytes[at + 3]! : NO_PORT;
  if (isIcmp(protocol)) return length >= 2 ? bytes[at + 1]! : NO_PORT;
  return NO_PORT;
}

/** Offset of the checksum within the transport header, or -1 where there is none that depends on the addresses. */
export function checksumOffsetOf(protocol: number): number {
  if (protocol === PROTOCOL.tcp) return 16;
  if (protocol === PROTOCOL.udp) return 6;
  if (protocol === PROTOCOL.icmpv6) return 2;
  return -1;
}
