/**
 * What crosses from the outer header to the inner: ECN (RFC 6040). The other way the whole traffic class is copied (RFC 4301 §5.1.2.1, RFC 6040 §4.1
 * normal mode); the kernel writes the rest of the outer header.
 */

import { type Checksum, writeIpv4Checksum } from '../net/checksum.ts';
import { IPV4 } from '../net/ip-packet.ts';

const ECN = 0x03;
const CE = 0x03;
const ECT_1 = 0x01;
const ECT_0 = 0x02;
const NOT_ECT = 0x00;

/** RFC 6040 §4.2, figure 4: the inner ECN field that follows from both, or -1 where the packet must be dropped. */
export function innerEcn(inner: number, outer: number): number {
  const field = inner & ECN;
  const arrived = outer & ECN;
  if (arrived === CE) return field === NOT_ECT ? -1 : CE;
  if (arrived === ECT_1 && field === ECT_0) return ECT_1;
  return field;
}

/** Puts `ecn` into the inner IP header at `ipAt`, and its checksum right. */
export function writeEcn(checksum: Checksum, bytes: Uint8Array, ipAt: number, ecn: number): void {
  if (bytes[ipAt]! >> 4 === 4) {
    bytes[ipAt + IPV4.tos] = (bytes[ipAt + IPV4.tos]! & ~ECN) | ecn;
    writeIpv4Checksum(checksum, bytes, ipAt, (bytes[ipAt]! & 0x0f) * 4);
  } else {
    bytes[ipAt + 1] = (bytes[ipAt + 1]! & 0xcf) | (ecn << 4);
  }
}
