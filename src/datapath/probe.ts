/** A packet to ask `explain` about: headers that nobody sent (RFC 791 §3.1, RFC 8200 §3), with the ports or types that selectors look at (RFC 4301 §4.4.1.1). */

import type { IpAddress } from '../net/address.ts';
import { Checksum } from '../net/checksum.ts';
import { IPV4, IPV6 } from '../net/ip-packet.ts';
import { hasPorts, isIcmp, PROTOCOL } from '../net/transport.ts';
import { IpHeaders } from './ip-header.ts';

export interface Probe {
  /** Of one family. */
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly protocol: number;
  /** As PF_KEY means ports: for ICMP type and code, for the Mobility Header its type. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Octets of the IP packet; what its headers need at least. */
  readonly octets: number;
}

/** Octets of a transport header that is longest among those with ports (TCP). */
const TRANSPORT = 20;

export function probePacket({ source, destination, protocol, sourcePort, destinationPort, octets }: Probe): Uint8Array {
  const headerBytes = source.family === 4 ? IPV4.bytes : IPV6.bytes;
  const bytes = new Uint8Array(Math.max(octets, headerBytes + TRANSPORT));
  const view = new DataView(bytes.buffer);
  const payload = bytes.length - headerBytes;
  new IpHeaders(bytes, new Checksum(bytes)).write(0, source, destination, protocol, payload, 0, 1, 0);
  if (hasPorts(protocol)) {
    view.setUint16(headerBytes, sourcePort);
    view.setUint16(headerBytes + 2, destinationPort);
  } else if (isIcmp(protocol)) {
    bytes[headerBytes] = sourcePort;
    bytes[headerBytes + 1] = destinationPort;
  } else if (protocol === PROTOCOL.mobility) bytes[headerBytes + 2] = sourcePort;
  return bytes;
}
