/** Packets that ask for a child SA, in tests of iked. */

import { IpAddress } from '../../src/net/address.ts';

/** The beginning of a packet, as ACQUIRE shows it: `length` octets by its own header. */
export function packetFrom(
  source: string,
  destination: string,
  protocol: number,
  ports: readonly [number, number],
  length = 60,
): Uint8Array {
  const [from, to] = [IpAddress.parse(source)!, IpAddress.parse(destination)!];
  const four = from.family === 4;
  const packet = new Uint8Array(Math.min(length, 512));
  const view = new DataView(packet.buffer);
  packet[0] = four ? 0x45 : 0x60;
  view.setUint16(four ? 2 : 4, four ? length : length - 40);
  packet[four ? 9 : 6] = protocol;
  packet.set(from.bytes, four ? 12 : 8);
  packet.set(to.bytes, four ? 16 : 24);
  view.setUint16(four ? 20 : 40, ports[0]);
  view.setUint16(four ? 22 : 42, ports[1]);
  return packet;
}
