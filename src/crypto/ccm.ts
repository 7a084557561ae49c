/** AES-CCM (RFC 3610) out of CBC-MAC and CTR, for engines that lack it. */

import { cat, equal, NONE, u16be, u32be } from '../bytes/bytes.ts';
import type { Aead } from './primitives.ts';

const BLOCK = 16;

export function ccm(
  cbcMac: (blocks: Uint8Array) => Uint8Array,
  ctr: (block: Uint8Array, text: Uint8Array) => Uint8Array,
  icvBytes: number,
): Aead {
  /** A_i, RFC 3610 §2.3. */
  const counter = (nonce: Uint8Array, i: number) => cat(Uint8Array.of(14 - nonce.length), nonce, lengthField(nonce, i));
  /** U: what the MAC of §2.2 becomes under S_0. */
  const icv = (nonce: Uint8Array, aad: Uint8Array, text: Uint8Array) => {
    const flags = (aad.length > 0 ? 0x40 : 0) | (((icvBytes - 2) / 2) << 3) | (14 - nonce.length);
    const authenticated = aad.length > 0 ? padded(cat(u16be(aad.length), aad)) : NONE;
    const T = cbcMac(cat(Uint8Array.of(flags), nonce, lengthField(nonce, text.length), authenticated, padded(text)));
    return ctr(counter(nonce, 0), T).subarray(0, icvBytes);
  };
  return {
    seal: (nonce, aad, text) => cat(ctr(counter(nonce, 1), text), icv(nonce, aad, text)),
    open(nonce, aad, sealed) {
      const end = sealed.length - icvBytes;
      const text = ctr(counter(nonce, 1), sealed.subarray(0, end));
      if (equal(icv(nonce, aad, text), sealed.subarray(end))) return text;
      text.fill(0);
      return undefined;
    },
  };
}

/** What a block has room for beside flags and nonce: 4 octets with the 11 of IPsec's (RFC 4309 §2), 2 at least. */
function lengthField(nonce: Uint8Array, value: number): Uint8Array {
  return u32be(value).subarray(nonce.length - 11);
}

/** Zeros behind, up to whole blocks. */
function padded(octets: Uint8Array): Uint8Array {
  return cat(octets, new Uint8Array(-octets.length & (BLOCK - 1)));
}
