/**
 * What crosses between the outer and the inner header of a tunnel: DSCP and DF outwards, ECN both ways (RFC 4301 §5.1.2.1, §8.1, RFC 6040).
 * The kernel writes the rest of the outer header.
 */

import type { SaParameters } from '../ipsec/sa.ts';
import { type Checksum, writeIpv4Checksum } from '../net/checksum.ts';
import { IPV4 } from '../net/ip-packet.ts';

const ECN = 0x03;
const DSCP = 0xfc;
const CE = 0x03;
const ECT_1 = 0x01;
const ECT_0 = 0x02;
const NOT_ECT = 0x00;

/** What an outer header takes from somewhere, as one word: its traffic class, and above it the wish not to be fragmented. */
export const OUTER = { trafficClass: 0xff, dontFragment: 0x100 } as const;

/** Where outer headers get theirs from. */
export interface OuterHeaderPolicy {
  /** Don't-fragment of an IPv4 header, RFC 4301 §8.1. */
  readonly df: 'copy' | 'set' | 'clear';
  /** A tunnel's DSCP: the inner header's, or a number that says nothing about it (RFC 4301 §5.1.2.1, RFC 2983 §4.1). ECN is copied always (RFC 6040 §4.1). */
  readonly dscp: 'copy' | number;
}

/** The outer word of an SA's packet is `inner & mask | bits`. Transport and BEET mode keep the packet's own class; IPv6 has no other than DF. */
export function outerHeaderOf(
  { df, dscp }: OuterHeaderPolicy,
  { mode, source }: Pick<SaParameters, 'mode' | 'source'>,
): { mask: number; bits: number } {
  const ownClass = mode !== 'tunnel' || dscp === 'copy';
  const mask = (ownClass ? OUTER.trafficClass : ECN) | (df === 'copy' ? OUTER.dontFragment : 0);
  const bits = (ownClass ? 0 : dscp << 2) | (df === 'set' || source.family === 6 ? OUTER.dontFragment : 0);
  return { mask, bits };
}

/** Which bits of a packet's traffic class it keeps when it leaves a tunnel: its DSCP, or those of the outer header are taken. */
export function keptClass(decapDscp: boolean): number {
  return decapDscp ? 0 : DSCP;
}

/** The traffic class of a packet that leaves a tunnel, or -1 where it must be dropped. `kept`: `keptClass`. */
export function innerClass(inner: number, outer: number, kept: number): number {
  const ecn = innerEcn(inner, outer);
  return ecn < 0 ? -1 : (inner & kept) | (outer & (DSCP ^ kept)) | ecn;
}

/** RFC 6040 §4.2, figure 4: the inner ECN field that follows from both, or -1 where the packet must be dropped. */
export function innerEcn(inner: number, outer: number): number {
  const field = inner & ECN;
  const arrived = outer & ECN;
  if (arrived === CE) return field === NOT_ECT ? -1 : CE;
  if (arrived === ECT_1 && field === ECT_0) return ECT_1;
  return field;
}

/** Puts a traffic class into the IP header at `ipAt`, and its checksum right. */
export function writeTrafficClass(checksum: Checksum, bytes: Uint8Array, ipAt: number, trafficClass: number): void {
  if (bytes[ipAt]! >> 4 === 4) {
    bytes[ipAt + IPV4.tos] = trafficClass;
    writeIpv4Checksum(checksum, bytes, ipAt, (bytes[ipAt]! & 0x0f) * 4);
  } else {
    bytes[ipAt] = 0x60 | (trafficClass >> 4);
    bytes[ipAt + 1] = (bytes[ipAt + 1]! & 0x0f) | ((trafficClass & 0x0f) << 4);
  }
}
