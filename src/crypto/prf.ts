/** The negotiated pseudorandom function and prf+, RFC 7296 §2.13 and §2.14. */

import { cat, NONE } from '../bytes/bytes.ts';
import { Fault } from '../errors.ts';
import { defaultEngine, type Engine } from './engine.ts';
import { cmac, HMAC_HASH, xcbc } from './mac.ts';
import { PRF, type PrfName } from './transforms.ts';

/** A pseudorandom function. Keys of any length are taken. */
export interface Prf {
  readonly name: PrfName;
  /** Octets of output: the length of SKEYSEED, SK_d, SK_pi, SK_pr. */
  readonly size: number;
  /** Preferred key length in octets. */
  readonly keyBytes: number;
  /**
   * Octets that Ni and Nr each give where both together are the key (RFC 7296 §2.14): half of the fixed key of AES-XCBC and
   * AES-CMAC. Undefined for HMAC, where the whole nonces are the key.
   */
  readonly nonceBytes: number | undefined;
  /** prf(key, data), where `data` is concatenated. */
  of(key: Uint8Array, ...data: readonly Uint8Array[]): Uint8Array;
}

export function prfOf(name: PrfName, engine: Engine = defaultEngine): Prf {
  const { size, keyBytes } = PRF[name];
  switch (name) {
    case 'aes_xcbc':
      return { name, size, keyBytes, nonceBytes: 8, of: (key, ...data) => xcbc(xcbcKey(key, engine), engine)(...data) };
    case 'aes_cmac':
      return { name, size, keyBytes, nonceBytes: 8, of: (key, ...data) => cmac(cmacKey(key, engine), engine)(...data) };
    default: {
      const hash = HMAC_HASH[name];
      return { name, size, keyBytes, nonceBytes: undefined, of: (key, ...data) => engine.hmac(hash, key, ...data) };
    }
  }
}

/** The key made of both nonces, RFC 7296 §2.14: all of Ni | Nr, or the first 64 bits of each where the prf's key has 128 bits. */
export function nonceKey(prf: Prf, Ni: Uint8Array, Nr: Uint8Array): Uint8Array {
  return cat(Ni.subarray(0, prf.nonceBytes), Nr.subarray(0, prf.nonceBytes));
}

/**
 * prf+(key, seed): a reader that hands out the next `length` octets at each call, T1 | T2 | … of RFC 7296 §2.13. Throws Fault
 * past the 255th block.
 */
export function prfPlus(prf: Prf, key: Uint8Array, seed: Uint8Array): (length: number) => Uint8Array {
  let T: Uint8Array = NONE;
  let count = 0;
  let used = 0;
  return (length) => {
    const out = new Uint8Array(length);
    for (let at = 0; at < length; ) {
      if (used === T.length) {
        if (count === 255) throw new Fault(`prf+ gives at most 255 blocks of ${prf.size} octets (RFC 7296 §2.13)`);
        count += 1;
        T = prf.of(key, T, seed, Uint8Array.of(count));
        used = 0;
      }
      const take = Math.min(T.length - used, length - at);
      out.set(T.subarray(used, used + take), at);
      used += take;
      at += take;
    }
    return out;
  };
}

/** RFC 4434 §2: a short key is padded with zeros, a long one is replaced by its own AES-XCBC-PRF-128 under a zero key. */
function xcbcKey(key: Uint8Array, engine: Engine): Uint8Array {
  if (key.length <= 16) return cat(key, new Uint8Array(16 - key.length));
  return xcbc(new Uint8Array(16), engine)(key);
}

/** RFC 4615 §3: a key of any other length than 16 octets is replaced by its own AES-CMAC under a zero key. */
function cmacKey(key: Uint8Array, engine: Engine): Uint8Array {
  return key.length === 16 ? key : cmac(new Uint8Array(16), engine)(key);
}
