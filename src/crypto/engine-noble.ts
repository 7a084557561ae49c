/** The portable engine, over @noble/hashes, @noble/ciphers and @noble/curves: the reference that the native one is compared with. */

import { cbc, ctr, gcm } from '@noble/ciphers/aes.js';
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { x448 } from '@noble/curves/ed448.js';
import { x25519 } from '@noble/curves/ed25519.js';
import { p256, p384, p521 } from '@noble/curves/nist.js';
import { hmac } from '@noble/hashes/hmac.js';
import { md5, sha1 } from '@noble/hashes/legacy.js';
import { sha256, sha384, sha512 } from '@noble/hashes/sha2.js';
import { cat, equal, u32be } from '../bytes/bytes.ts';
import { ccm } from './ccm.ts';
import {
  type EcpName,
  isEcp,
  isModp,
  MODP_GENERATOR,
  type ModpName,
  type MontgomeryName,
  modpPrime,
  toNumber,
  toOctets,
} from './groups.ts';
import type { Aead, AeadName, Engine, HashName, PrivateValue, Unauthenticated, UnauthenticatedName } from './primitives.ts';
import { KE, type KeName } from './transforms.ts';

const HASH = { md5, sha1, sha2_256: sha256, sha2_384: sha384, sha2_512: sha512 } as const;
const CURVE = { ecp256: p256, ecp384: p384, ecp521: p521 } as const;
const MONTGOMERY = { x25519, x448 } as const;
const ZERO_IV = new Uint8Array(16);

export const nobleEngine: Engine = {
  name: 'noble',
  hash(name: HashName, ...data) {
    const state = HASH[name].create();
    for (const part of data) state.update(part);
    return state.digest();
  },
  hmac(name: HashName, key, ...data) {
    const state = hmac.create(HASH[name], key);
    for (const part of data) state.update(part);
    return state.digest();
  },
  cbcMac(key) {
    return (blocks) => cbc(key, ZERO_IV, { disablePadding: true }).encrypt(blocks).slice(-ZERO_IV.length);
  },
  aead(name: AeadName, key, icvBytes): Aead {
    switch (name) {
      case 'aes_ccm':
        return ccm(nobleEngine.cbcMac(key), aesCtr(key), icvBytes);
      case 'aes_gcm':
        return icvBytes < WHOLE_ICV ? truncatedGcm(key, icvBytes) : whole((nonce, aad) => gcm(key, nonce, aad));
      case 'chacha20_poly1305':
        return whole((nonce, aad) => chacha20poly1305(key, nonce, aad));
    }
  },
  /** The library has neither Camellia nor DES. */
  cipher(name: UnauthenticatedName, key): Unauthenticated | undefined {
    switch (name) {
      case 'aes_cbc': {
        const of = (iv: Uint8Array) => cbc(key, iv, { disablePadding: true });
        return { encrypt: (iv, text) => of(iv).encrypt(text), decrypt: (iv, text) => of(iv).decrypt(text) };
      }
      case 'aes_ctr':
        return { encrypt: aesCtr(key), decrypt: aesCtr(key) };
      default:
        return undefined;
    }
  },
  privateValue(group: KeName, secret): PrivateValue {
    if (isModp(group)) return modp(group, secret);
    return isEcp(group) ? ecp(group, secret) : montgomery(group, secret);
  },
};

const WHOLE_ICV = 16;

interface Cipher {
  encrypt(text: Uint8Array): Uint8Array;
  decrypt(sealed: Uint8Array): Uint8Array;
}

function whole(of: (nonce: Uint8Array, aad: Uint8Array) => Cipher): Aead {
  return {
    seal: (nonce, aad, text) => of(nonce, aad).encrypt(text),
    open: (nonce, aad, sealed) => refusing(() => of(nonce, aad).decrypt(sealed)),
  };
}

/** The library checks ICVs of 16 octets only, so a shorter one is computed anew from the text (GCM encrypts with the counter from 2 on). */
function truncatedGcm(key: Uint8Array, icvBytes: number): Aead {
  const seal: Aead['seal'] = (nonce, aad, text) =>
    gcm(key, nonce, aad)
      .encrypt(text)
      .subarray(0, text.length + icvBytes);
  return {
    seal,
    open(nonce, aad, sealed) {
      const end = sealed.length - icvBytes;
      const text = aesCtr(key)(cat(nonce, u32be(2)), sealed.subarray(0, end));
      if (equal(seal(nonce, aad, text).subarray(end), sealed.subarray(end))) return text;
      text.fill(0);
      return undefined;
    },
  };
}

function aesCtr(key: Uint8Array): (block: Uint8Array, text: Uint8Array) => Uint8Array {
  return (block, text) => ctr(key, block).encrypt(text);
}

/** The library throws where an ICV is wrong or a shared value is zero; lengths were checked before. */
function refusing(compute: () => Uint8Array): Uint8Array | undefined {
  try {
    return compute();
  } catch {
    return undefined;
  }
}

function montgomery(group: MontgomeryName, secret: Uint8Array): PrivateValue {
  const curve = MONTGOMERY[group];
  return {
    publicValue: curve.getPublicKey(secret),
    agree: (peer) => refusing(() => curve.getSharedSecret(secret, peer)),
    wipe: () => secret.fill(0),
  };
}

function ecp(group: EcpName, secret: Uint8Array): PrivateValue {
  const curve = CURVE[group];
  return {
    publicValue: curve.getPublicKey(secret, false).slice(1),
    agree: (peer) =>
      refusing(() => curve.getSharedSecret(secret, cat(Uint8Array.of(4), peer), false).slice(1, 1 + KE[group].sharedBytes)),
    wipe: () => secret.fill(0),
  };
}

function modp(group: ModpName, secret: Uint8Array): PrivateValue {
  const p = modpPrime(group);
  const { publicBytes } = KE[group];
  return {
    publicValue: toOctets(power(MODP_GENERATOR, secret, p), publicBytes),
    agree: (peer) => toOctets(power(toNumber(peer), secret, p), publicBytes),
    wipe: () => secret.fill(0),
  };
}

/** base^exponent mod p, four bits of the exponent at a time. BigInt arithmetic is not of constant time; the native engine's is. */
function power(base: bigint, exponent: Uint8Array, p: bigint): bigint {
  const powers = [1n, base];
  for (let i = 2; i < 16; i++) powers.push((powers[i - 1]! * base) % p);
  let result = 1n;
  for (const octet of exponent) {
    for (const digit of [octet >> 4, octet & 15]) {
      for (let i = 0; i < 4; i++) result = (result * result) % p;
      if (digit !== 0) result = (result * powers[digit]!) % p;
    }
  }
  return result;
}
