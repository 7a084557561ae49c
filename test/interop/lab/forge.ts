/** "Too big" messages that a host sends which has no business to: raw ICMP from python's standard library. */
import { cat, u16be, u32be } from '../../../src/bytes/bytes.ts';
import { IpAddress } from '../../../src/net/address.ts';
import type { Namespace } from './namespaces.ts';

const SEND = `
import socket, sys
family, to, message = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3])
if family == '4':
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
else:
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
for _ in range(int(sys.argv[4])): s.sendto(message, (to, 0))
`;

/** What the forger says that it could not forward. */
export interface Quoted {
  readonly from: string;
  readonly to: string;
  readonly encapsulated: boolean;
  readonly spi: number;
  readonly sequence: number;
  readonly bytes: number;
}

/** Sends `count` messages to `quoted.from` which say that its packet was too big for a link of `mtu`. */
export async function forgeTooBig(forger: Namespace, quoted: Quoted, mtu: number, count = 1): Promise<void> {
  const family = IpAddress.parse(quoted.from)!.family;
  const rest = quotedPacket(quoted);
  const message =
    family === 4 ? cat(Uint8Array.of(3, 4, 0, 0), u16be(0), u16be(mtu), rest) : cat(Uint8Array.of(2, 0, 0, 0), u32be(mtu), rest);
  // The kernel fills in the checksum of ICMPv6 alone.
  if (family === 4) message.set(u16be(~sum(message) & 0xffff), 2);
  const hex = Buffer.from(message).toString('hex');
  await forger.must(['python3', '-c', SEND, String(family), quoted.from, hex, String(count)]);
}

function quotedPacket({ from, to, encapsulated, spi, sequence, bytes }: Quoted): Uint8Array {
  const source = IpAddress.parse(from)!;
  const destination = IpAddress.parse(to)!;
  const protocol = encapsulated ? 17 : 50;
  const udp = encapsulated
    ? cat(u16be(4500), u16be(4500), u16be(bytes - (source.family === 4 ? 20 : 40)), u16be(0))
    : new Uint8Array();
  const body = cat(udp, u32be(spi), u32be(sequence), new Uint8Array(16));
  return source.family === 4
    ? cat(
        Uint8Array.of(0x45, 0),
        u16be(bytes),
        u16be(1),
        u16be(0x4000),
        Uint8Array.of(60, protocol, 0, 0),
        source.bytes,
        destination.bytes,
        body,
      )
    : cat(u32be(0x60000000), u16be(bytes - 40), Uint8Array.of(protocol, 60), source.bytes, destination.bytes, body);
}

function sum(bytes: Uint8Array): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i++) total += i % 2 === 0 ? bytes[i]! * 256 : bytes[i]!;
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}
