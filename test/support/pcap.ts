/** Reads capture files (libpcap, Ethernet) as far as the tests need: IPv4 with UDP or ESP inside. */

import { readFileSync } from 'node:fs';

/** One IPv4 packet of a capture. `number` is the frame's, from 1, as packet analysers count. */
export interface CapturedPacket {
  readonly number: number;
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  /** What follows the IP header, cut to the IP packet's length. */
  readonly payload: Uint8Array;
}

/** All IPv4 packets of a file, in order. Throws RangeError where it is no such file. */
export function readPcap(path: string): CapturedPacket[] {
  const file = new Uint8Array(readFileSync(path));
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const little = view.getUint32(0, true) === 0xa1b2c3d4;
  if (!little && view.getUint32(0) !== 0xa1b2c3d4) throw new RangeError(`${path} is no pcap file with microseconds`);
  if (view.getUint32(20, little) !== 1) throw new RangeError(`${path} was not captured on Ethernet`);
  const packets: CapturedPacket[] = [];
  let number = 0;
  for (let at = 24; at < file.length; ) {
    const length = view.getUint32(at + 8, little);
    const frame = file.subarray(at + 16, at + 16 + length);
    at += 16 + length;
    number += 1;
    if (frame[12] !== 0x08 || frame[13] !== 0x00) continue;
    const ip = frame.subarray(14);
    const headerBytes = (ip[0]! & 15) * 4;
    packets.push({
      number,
      source: ip.subarray(12, 16).join('.'),
      destination: ip.subarray(16, 20).join('.'),
      protocol: ip[9]!,
      payload: ip.slice(headerBytes, (ip[2]! << 8) | ip[3]!),
    });
  }
  return packets;
}

/** A captured packet as IPsec sees it. IKE begins with its header: the non-ESP marker of port 4500 is taken off (RFC 3948 §2.2). */
export type IpsecPacket = CapturedPacket & {
  readonly kind: 'ike' | 'kink' | 'esp' | 'keepalive' | 'other';
  readonly bytes: Uint8Array;
};

export function classify(packet: CapturedPacket): IpsecPacket {
  const { payload, protocol } = packet;
  if (protocol === 50) return { ...packet, kind: 'esp', bytes: payload };
  if (protocol !== 17) return { ...packet, kind: 'other', bytes: payload };
  const ports = [(payload[0]! << 8) | payload[1]!, (payload[2]! << 8) | payload[3]!];
  const data = payload.subarray(8, (payload[4]! << 8) | payload[5]!);
  if (ports.includes(500)) return { ...packet, kind: 'ike', bytes: data };
  if (ports.includes(910)) return { ...packet, kind: 'kink', bytes: data };
  if (!ports.includes(4500)) return { ...packet, kind: 'other', bytes: data };
  if (data.length === 1) return { ...packet, kind: 'keepalive', bytes: data };
  return data.subarray(0, 4).every((octet) => octet === 0)
    ? { ...packet, kind: 'ike', bytes: data.subarray(4) }
    : { ...packet, kind: 'esp', bytes: data };
}
