/** ICMP echo (RFC 792, RFC 4443 §4): the requests that `tanuki ping` sends, and the answers that a memory device gives. */

import { IpAddress } from '../net/address.ts';

const PROTOCOL = { 4: 1, 6: 58 } as const;
const REQUEST = { 4: 8, 6: 128 } as const;
const REPLY = { 4: 0, 6: 129 } as const;
const HOP_LIMIT = 64;
/** Octets of an echo message before its data. */
const ECHO_HEADER = 8;
const IPV4_HEADER = 20;
const IPV6_HEADER = 40;

/** What tells an echo exchange apart. */
export interface Echo {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly identifier: number;
  readonly sequence: number;
}

/** A whole IP packet with an echo request; `data` is its payload. Both addresses are of one family. */
export function echoRequest({ source, destination, identifier, sequence }: Echo, data: Uint8Array): Uint8Array {
  const { family } = source;
  const message = new Uint8Array(ECHO_HEADER + data.length);
  const view = new DataView(message.buffer);
  view.setUint8(0, REQUEST[family]);
  view.setUint16(4, identifier);
  view.setUint16(6, sequence);
  message.set(data, ECHO_HEADER);
  return ipPacket(source, destination, message);
}

/** The answer to a packet that is an echo request to one of `addresses`, or undefined where it is none. */
export function echoReplyTo(packet: Uint8Array, addresses: readonly IpAddress[]): Uint8Array | undefined {
  const echo = readEcho(packet, REQUEST);
  if (echo === undefined || !addresses.some((address) => address.equals(echo.destination))) return undefined;
  const message = packet.slice(echo.at, echo.end);
  message[0] = REPLY[echo.destination.family];
  return ipPacket(echo.destination, echo.source, message);
}

/** What a packet answers where it is an echo reply with a right checksum. */
export function readEchoReply(packet: Uint8Array): Echo | undefined {
  const echo = readEcho(packet, REPLY);
  if (echo === undefined || checksum(packet, echo) !== 0) return undefined;
  return echo;
}

function readEcho(packet: Uint8Array, type: { 4: number; 6: number }): (Echo & { at: number; end: number }) | undefined {
  const family = (packet[0] ?? 0) >> 4;
  if (family !== 4 && family !== 6) return undefined;
  const at = family === 4 ? (packet[0]! & 0x0f) * 4 : IPV6_HEADER;
  if (at < IPV4_HEADER || packet.length < at + ECHO_HEADER) return undefined;
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  const end = family === 4 ? view.getUint16(2) : IPV6_HEADER + view.getUint16(4);
  if (
    end > packet.length ||
    end < at + ECHO_HEADER ||
    packet[family === 4 ? 9 : 6] !== PROTOCOL[family] ||
    packet[at] !== type[family]
  )
    return undefined;
  if (family === 4 && (view.getUint16(6) & 0x3fff) !== 0) return undefined; // a fragment
  const addressAt = family === 4 ? 12 : 8;
  const size = family === 4 ? 4 : 16;
  return {
    source: IpAddress.of(packet.subarray(addressAt, addressAt + size)),
    destination: IpAddress.of(packet.subarray(addressAt + size, addressAt + 2 * size)),
    identifier: view.getUint16(at + 4),
    sequence: view.getUint16(at + 6),
    at,
    end,
  };
}

/** The message gets its checksum, and a header around it. */
function ipPacket(source: IpAddress, destination: IpAddress, message: Uint8Array): Uint8Array {
  const { family } = source;
  const at = family === 4 ? IPV4_HEADER : IPV6_HEADER;
  const packet = new Uint8Array(at + message.length);
  const view = new DataView(packet.buffer);
  packet.set(message, at);
  if (family === 4) {
    view.setUint8(0, 0x45);
    view.setUint16(2, packet.length);
    view.setUint8(8, HOP_LIMIT);
    view.setUint8(9, PROTOCOL[4]);
    packet.set(source.bytes, 12);
    packet.set(destination.bytes, 16);
    view.setUint16(10, sum(packet, 0, IPV4_HEADER, 0));
  } else {
    view.setUint8(0, 0x60);
    view.setUint16(4, message.length);
    view.setUint8(6, PROTOCOL[6]);
    view.setUint8(7, HOP_LIMIT);
    packet.set(source.bytes, 8);
    packet.set(destination.bytes, 24);
  }
  view.setUint16(at + 2, 0);
  view.setUint16(at + 2, checksum(packet, { source, destination, at, end: packet.length }));
  return packet;
}

/** Over the message, and for ICMPv6 over the pseudo-header too (RFC 4443 §2.3). 0 over a message with a right checksum. */
function checksum(
  packet: Uint8Array,
  { source, destination, at, end }: { source: IpAddress; destination: IpAddress; at: number; end: number },
): number {
  if (source.family === 4) return sum(packet, at, end, 0);
  const pseudo = new Uint8Array(40);
  pseudo.set(source.bytes, 0);
  pseudo.set(destination.bytes, 16);
  new DataView(pseudo.buffer).setUint32(32, end - at);
  pseudo[39] = PROTOCOL[6];
  return sum(packet, at, end, ~sum(pseudo, 0, 40, 0) & 0xffff);
}

/** The Internet checksum (RFC 1071) of some octets, begun with a partial sum. */
function sum(bytes: Uint8Array, from: number, to: number, begun: number): number {
  let total = begun;
  for (let i = from; i < to; i++) total += (i - from) % 2 === 0 ? bytes[i]! << 8 : bytes[i]!;
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return ~total & 0xffff;
}
