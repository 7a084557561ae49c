/** The device's MTU: whatever suite protects a packet of it, what leaves fits the link (RFC 4301 §8, RFC 4303 §2). */

import { ENCR, type EncrRow, INTEG } from '../crypto/transforms.ts';

/** RFC 8200 §5: less is no link for IPv6. */
export const LEAST_MTU = 1280;

/** An outer IPv6 header, UDP (RFC 3948 §2.1), SPI and sequence number. */
const AROUND = 40 + 8 + 8;
/** Pad length and next header. */
const TRAILER = 2;

/** The longest packet, in octets, that leaves in one piece on a link of `linkMtu` octets: in tunnel mode, in UDP over IPv6, under any suite. */
export function deviceMtu(linkMtu: number): number {
  const longest = Object.values(ENCR).map((row: EncrRow) => {
    const icv = row.icv > 0 ? row.icv : Math.max(...Object.values(INTEG).map(({ icvBytes }) => icvBytes));
    const align = Math.max(4, row.block);
    const text = linkMtu - AROUND - row.iv - icv;
    return text - (text % align) - TRAILER;
  });
  return Math.max(LEAST_MTU, Math.min(...longest));
}
