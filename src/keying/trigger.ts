/** The packet that an ACQUIRE shows, as the first traffic selectors of the request that follows (RFC 7296 §2.9). */

import { ANY_PORT, type TrafficSelector } from '../ipsec/selector.ts';
import type { SelectorPair } from '../ipsec/selector-pair.ts';
import { IpAddress } from '../net/address.ts';
import { IPV4, IPV6, IpPacket } from '../net/ip-packet.ts';
import { hasPorts } from '../net/transport.ts';

/**
 * Addresses, protocol and ports of an outbound packet, seen from its sender; undefined where it is none. ICMP types are left open: the
 * answer to an echo is of another type than the request.
 */
export function selectorsOfPacket(packet: Uint8Array): SelectorPair | undefined {
  const whole = new Uint8Array(Math.max(packet.length, lengthOf(packet)));
  whole.set(packet);
  const view = new IpPacket(whole);
  if (!view.read(0, whole.length)) return undefined;
  const { family, protocol, sourcePort, destinationPort } = view;
  const at = family === 4 ? IPV4 : IPV6;
  const octets = family === 4 ? 4 : 16;
  const side = (offset: number, port: number): TrafficSelector => {
    const address = IpAddress.of(packet.slice(offset, offset + octets));
    const ports = hasPorts(protocol) && port >= 0 ? { startPort: port, endPort: port } : ANY_PORT;
    return { protocol, ...ports, start: address, end: address };
  };
  return { TSi: [side(at.source, sourcePort)], TSr: [side(at.destination, destinationPort)] };
}

/** Octets of the packet by its own header, of which an ACQUIRE shows the first. */
function lengthOf(packet: Uint8Array): number {
  if (packet.length < IPV4.bytes || (packet[0]! >> 4 === 6 && packet.length < IPV6.bytes)) return packet.length;
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  return packet[0]! >> 4 === 4 ? view.getUint16(IPV4.totalLength) : IPV6.bytes + view.getUint16(IPV6.payloadLength);
}
