/** The traffic of the simulator: UDP packets between inner addresses, each with a number of its own; and raw IPv4 around ESP. */

import { cat, readU32be, u16be, u32be } from '../../src/bytes/bytes.ts';
import { IpAddress } from '../../src/net/address.ts';

const UDP = 17;
export const ESP = 50;
const MAGIC = 0x51b0_0001;
const PORT = 7777;
const IPV4_HEADER = 20;
const IPV6_HEADER = 40;

/** A packet with the number `id` and `filling` more octets. */
export function numberedPacket(source: IpAddress, destination: IpAddress, id: number, filling: number): Uint8Array {
  const udp = cat(u16be(PORT), u16be(PORT), u16be(16 + filling), u16be(0), u32be(MAGIC), u32be(id), new Uint8Array(filling));
  return ipPacket(source, destination, UDP, udp);
}

/** An IP header in front of `payload`. */
export function ipPacket(source: IpAddress, destination: IpAddress, protocol: number, payload: Uint8Array): Uint8Array {
  if (source.family === 6) {
    const start = cat(Uint8Array.of(0x60, 0, 0, 0), u16be(payload.length), Uint8Array.of(protocol, 64));
    return cat(start, source.bytes, destination.bytes, payload);
  }
  const header = cat(
    Uint8Array.of(0x45, 0),
    u16be(IPV4_HEADER + payload.length),
    Uint8Array.of(0, 0, 0x40, 0, 64, protocol, 0, 0),
    source.bytes,
    destination.bytes,
  );
  let sum = 0;
  for (let i = 0; i < IPV4_HEADER; i += 2) sum += (header[i]! << 8) | header[i + 1]!;
  sum = (sum & 0xffff) + (sum >>> 16);
  sum = (sum & 0xffff) + (sum >>> 16);
  header.set(u16be(~sum & 0xffff), 10);
  return cat(header, payload);
}

export interface Numbered {
  readonly source: string;
  readonly destination: string;
  /** Undefined for a packet that is none of ours. */
  readonly id: number | undefined;
}

export function readNumbered(packet: Uint8Array): Numbered {
  const v4 = packet[0]! >> 4 === 4;
  const address = (at: number) => IpAddress.of(packet.subarray(at, at + (v4 ? 4 : 16))).toString();
  const at = (v4 ? IPV4_HEADER : IPV6_HEADER) + 8;
  const ours = packet.length >= at + 8 && readU32be(packet.subarray(at, at + 4)) === MAGIC;
  return {
    source: address(v4 ? 12 : 8),
    destination: address(v4 ? 16 : 24),
    id: ours ? readU32be(packet.subarray(at + 4, at + 8)) : undefined,
  };
}
