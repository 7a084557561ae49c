/** Message authentication: HMAC (RFC 2104), AES-XCBC-MAC (RFC 3566) and AES-CMAC (RFC 4493), and their truncated forms; AES-GMAC (RFC 4543). */

import { cat, NONE } from '../bytes/bytes.ts';
import { Fault } from '../errors.ts';
import { defaultEngine, type Engine, type HashName } from './engine.ts';
import { INTEG, type IntegName, integText } from './transforms.ts';

const BLOCK = 16;
const GMAC_SALT = 4;

/** The hash function under each HMAC that is a pseudorandom function too. */
export const HMAC_HASH = {
  hmac_sha1: 'sha1',
  hmac_sha2_256: 'sha2_256',
  hmac_sha2_384: 'sha2_384',
  hmac_sha2_512: 'sha2_512',
} as const satisfies Record<string, HashName>;

/**
 * The integrity algorithm `integ` with its key: data in, an ICV of the row's `icvBytes` out. Throws Fault where the key has
 * another length than the row's, since these keys come from KEYMAT, and for GMAC, which needs an IV.
 */
export function macOf(
  integ: IntegName,
  key: Uint8Array,
  engine: Engine = defaultEngine,
): (...data: readonly Uint8Array[]) => Uint8Array {
  const { keyBytes, icvBytes } = INTEG[integ];
  if (key.length !== keyBytes) throw new Fault(`${integ} takes a key of ${keyBytes} octets, not ${key.length}`);
  switch (integ) {
    case 'aes_128_gmac':
    case 'aes_192_gmac':
    case 'aes_256_gmac':
      throw new Fault(`${integText(integ)} is for AH only, which gives it an IV (RFC 4543 §4)`);
    case 'aes_xcbc': {
      const mac = xcbc(key, engine);
      return (...data) => mac(...data).subarray(0, icvBytes);
    }
    case 'aes_cmac': {
      const mac = cmac(key, engine);
      return (...data) => mac(...data).subarray(0, icvBytes);
    }
    default: {
      const hash = integ === 'hmac_md5' ? 'md5' : HMAC_HASH[integ];
      return (...data) => engine.hmac(hash, key, ...data).subarray(0, icvBytes);
    }
  }
}

/** AES-GMAC, RFC 4543 §2: the tag of AES-GCM over authenticated data alone. `keymat` is key and salt; the nonce is salt | IV. */
export function gmac(
  keymat: Uint8Array,
  engine: Engine = defaultEngine,
): (iv: Uint8Array, ...data: readonly Uint8Array[]) => Uint8Array {
  const keyBytes = keymat.length - GMAC_SALT;
  const aead = engine.aead('aes_gcm', keymat.subarray(0, keyBytes), BLOCK);
  const salt = keymat.subarray(keyBytes);
  return (iv, ...data) => aead.seal(cat(salt, iv), cat(...data), NONE);
}

/** AES-XCBC-MAC-128 without truncation, RFC 3566 §4; the key has 16 octets. */
export function xcbc(key: Uint8Array, engine: Engine = defaultEngine): (...data: readonly Uint8Array[]) => Uint8Array {
  const derive = engine.cbcMac(key);
  const [K1, K2, K3] = [1, 2, 3].map((octet) => derive(new Uint8Array(BLOCK).fill(octet))) as [
    Uint8Array,
    Uint8Array,
    Uint8Array,
  ];
  const mac = engine.cbcMac(K1);
  return (...data) => mac(finished(K2, K3, data));
}

/** AES-CMAC without truncation, RFC 4493 §2.4; the key has 16, 24 or 32 octets. */
export function cmac(key: Uint8Array, engine: Engine = defaultEngine): (...data: readonly Uint8Array[]) => Uint8Array {
  const mac = engine.cbcMac(key);
  const K1 = double(mac(new Uint8Array(BLOCK)));
  const K2 = double(K1);
  return (...data) => mac(finished(K1, K2, data));
}

/** The data as whole blocks, one at least: the last is masked with `whole` where it is full, else padded with 10* and masked with `padded`. */
function finished(whole: Uint8Array, padded: Uint8Array, data: readonly Uint8Array[]): Uint8Array {
  const length = data.reduce((sum, part) => sum + part.length, 0);
  const blocks = new Uint8Array(Math.max(1, Math.ceil(length / BLOCK)) * BLOCK);
  let at = 0;
  for (const part of data) {
    blocks.set(part, at);
    at += part.length;
  }
  if (length < blocks.length) blocks[length] = 0x80;
  const mask = length < blocks.length ? padded : whole;
  for (let i = 0; i < BLOCK; i++) blocks[blocks.length - BLOCK + i]! ^= mask[i]!;
  return blocks;
}

/** Multiplication by x in GF(2^128), RFC 4493 §2.3. */
function double(block: Uint8Array): Uint8Array {
  const doubled = new Uint8Array(BLOCK);
  for (let i = 0; i < BLOCK; i++) doubled[i] = (block[i]! << 1) | ((block[i + 1] ?? 0) >>> 7);
  doubled[BLOCK - 1]! ^= 0x87 & -(block[0]! >>> 7);
  return doubled;
}
