/** Message authentication: HMAC (RFC 2104), AES-XCBC-MAC (RFC 3566) and AES-CMAC (RFC 4493), and their truncated forms. */

import { cat } from '../bytes/bytes.ts';
import { Fault } from '../errors.ts';
import { defaultEngine, type Engine, type HashName } from './engine.ts';
import { INTEG, type IntegName } from './transforms.ts';

const BLOCK = 16;

/** The hash function under each HMAC row of the tables. */
export const HMAC_HASH = {
  hmac_sha1: 'sha1',
  hmac_sha2_256: 'sha2_256',
  hmac_sha2_384: 'sha2_384',
  hmac_sha2_512: 'sha2_512',
} as const satisfies Record<string, HashName>;

/**
 * The integrity algorithm `integ` with its key: data in, an ICV of the row's `icvBytes` out. Throws Fault where the key has
 * another length than the row's: these keys come from KEYMAT.
 */
export function macOf(
  integ: IntegName,
  key: Uint8Array,
  engine: Engine = defaultEngine,
): (...data: readonly Uint8Array[]) => Uint8Array {
  const { keyBytes, icvBytes } = INTEG[integ];
  if (key.length !== keyBytes) throw new Fault(`${integ} takes a key of ${keyBytes} octets, not ${key.length}`);
  switch (integ) {
    case 'aes_xcbc': {
      const mac = xcbc(key, engine);
      return (...data) => mac(...data).subarray(0, icvBytes);
    }
    case 'aes_cmac': {
      const mac = cmac(key, engine);
      return (...data) => mac(...data).subarray(0, icvBytes);
    }
    default: {
      const hash = HMAC_HASH[integ];
      return (...data) => engine.hmac(hash, key, ...data).subarray(0, icvBytes);
    }
  }
}

/** AES-XCBC-MAC-128 without truncation, RFC 3566 §4; the key has 16 octets. */
export function xcbc(key: Uint8Array, engine: Engine = defaultEngine): (...data: readonly Uint8Array[]) => Uint8Array {
  const derive = engine.aesBlock(key);
  const K1 = derive(new Uint8Array(BLOCK).fill(1));
  const K2 = derive(new Uint8Array(BLOCK).fill(2));
  const K3 = derive(new Uint8Array(BLOCK).fill(3));
  const block = engine.aesBlock(K1);
  return (...data) => chain(block, K2, K3, cat(...data));
}

/** AES-CMAC without truncation, RFC 4493 §2.4; the key has 16, 24 or 32 octets. */
export function cmac(key: Uint8Array, engine: Engine = defaultEngine): (...data: readonly Uint8Array[]) => Uint8Array {
  const block = engine.aesBlock(key);
  const K1 = double(block(new Uint8Array(BLOCK)));
  const K2 = double(K1);
  return (...data) => chain(block, K1, K2, cat(...data));
}

/** CBC-MAC whose last block is masked with `whole` where it is full, else padded with 10* and masked with `padded`. */
function chain(block: (input: Uint8Array) => Uint8Array, whole: Uint8Array, padded: Uint8Array, data: Uint8Array): Uint8Array {
  const last = Math.max(0, Math.ceil(data.length / BLOCK) - 1) * BLOCK;
  let state: Uint8Array = new Uint8Array(BLOCK);
  for (let at = 0; at < last; at += BLOCK) {
    for (let i = 0; i < BLOCK; i++) state[i]! ^= data[at + i]!;
    state = block(state);
  }
  const rest = data.length - last;
  const mask = rest === BLOCK ? whole : padded;
  for (let i = 0; i < BLOCK; i++) state[i]! ^= mask[i]! ^ (i < rest ? data[last + i]! : i === rest ? 0x80 : 0);
  return block(state);
}

/** Multiplication by x in GF(2^128), RFC 4493 §2.3. */
function double(block: Uint8Array): Uint8Array {
  const doubled = new Uint8Array(BLOCK);
  for (let i = 0; i < BLOCK; i++) doubled[i] = (block[i]! << 1) | ((block[i + 1] ?? 0) >>> 7);
  doubled[BLOCK - 1]! ^= 0x87 & -(block[0]! >>> 7);
  return doubled;
}
