/** The native engine, over node:crypto (OpenSSL): the one file of the pure folders that reaches into Node, and never for randomness. */

import {
  type CipherCCMTypes as CcmName,
  createCipheriv,
  createDecipheriv,
  createDiffieHellman,
  createECDH,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  type DiffieHellman,
  diffieHellman,
  type ECDH,
  type KeyObject,
} from 'node:crypto';
import { cat } from '../bytes/bytes.ts';
import {
  type EcpName,
  isEcp,
  isModp,
  MODP_GENERATOR,
  type ModpName,
  type MontgomeryName,
  modpPrime,
  toOctets,
} from './groups.ts';
import type { Aead, AeadName, Engine, HashName, PrivateValue, Unauthenticated, UnauthenticatedName } from './primitives.ts';
import { KE, type KeName } from './transforms.ts';

const HASH = { md5: 'md5', sha1: 'sha1', sha2_256: 'sha256', sha2_384: 'sha384', sha2_512: 'sha512' } as const;
const CURVE = { ecp256: 'prime256v1', ecp384: 'secp384r1', ecp521: 'secp521r1' } as const;
const MONTGOMERY = { x25519: 'X25519', x448: 'X448' } as const;
const ZERO_IV = new Uint8Array(16);

export const nativeEngine: Engine = {
  name: 'native',
  hash(name: HashName, ...data) {
    const state = createHash(HASH[name]);
    for (const part of data) state.update(part);
    return plain(state.digest());
  },
  hmac(name: HashName, key, ...data) {
    const state = createHmac(HASH[name], key);
    for (const part of data) state.update(part);
    return plain(state.digest());
  },
  cbcMac(key) {
    const algorithm = `aes-${key.length * 8}-cbc`;
    return (blocks) => plain(createCipheriv(algorithm, key, ZERO_IV).setAutoPadding(false).update(blocks)).slice(-ZERO_IV.length);
  },
  aead(name: AeadName, key, icvBytes): Aead {
    switch (name) {
      case 'aes_gcm':
        return gcm(key, icvBytes);
      case 'aes_ccm':
        return withLength(`aes-${bits(key)}-ccm`, key, icvBytes);
      case 'chacha20_poly1305':
        return withLength('chacha20-poly1305', key, icvBytes);
    }
  },
  cipher(name: UnauthenticatedName, octets): Unauthenticated {
    const [algorithm, key] = blockCipher(name, octets);
    return {
      encrypt: (iv, text) => plain(createCipheriv(algorithm, key, iv).setAutoPadding(false).update(text)),
      decrypt: (iv, text) => plain(createDecipheriv(algorithm, key, iv).setAutoPadding(false).update(text)),
    };
  },
  privateValue(group: KeName, secret): PrivateValue {
    if (isModp(group)) return modp(group, secret);
    return isEcp(group) ? ecp(group, secret) : montgomery(group, secret);
  },
};

/** The same octets without Buffer's methods, which read and print differently. */
function plain(bytes: Buffer): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** OpenSSL keeps single DES apart, but triple DES with one key three times is the same (RFC 2451 §2.1). */
function blockCipher(name: UnauthenticatedName, key: Uint8Array): readonly [string, Uint8Array] {
  switch (name) {
    case 'aes_cbc':
      return [`aes-${key.length * 8}-cbc`, key];
    case 'aes_ctr':
      return [`aes-${key.length * 8}-ctr`, key];
    case 'camellia_cbc':
      return [`camellia-${key.length * 8}-cbc`, key];
    case '3des_cbc':
      return ['des-ede3-cbc', key];
    case 'des_cbc':
      return ['des-ede3-cbc', cat(key, key, key)];
  }
}

function bits(key: Uint8Array): 128 | 192 | 256 {
  return key.length === 16 ? 128 : key.length === 24 ? 192 : 256;
}

function gcm(key: Uint8Array, icvBytes: number): Aead {
  const algorithm = `aes-${bits(key)}-gcm` as const;
  const options = { authTagLength: icvBytes };
  return {
    seal(nonce, aad, text) {
      const cipher = createCipheriv(algorithm, key, nonce, options).setAAD(aad);
      const ciphertext = cipher.update(text);
      cipher.final();
      return cat(ciphertext, cipher.getAuthTag());
    },
    open(nonce, aad, sealed) {
      const decipher = createDecipheriv(algorithm, key, nonce, options).setAAD(aad);
      return verified(decipher.setAuthTag(sealed.subarray(-icvBytes)), sealed.subarray(0, -icvBytes));
    },
  };
}

/** CCM, whose first block holds the length of the text, and ChaCha20-Poly1305, which node treats alike. */
function withLength(algorithm: CcmName | 'chacha20-poly1305', key: Uint8Array, icvBytes: number): Aead {
  // Node's types know each of the two alone.
  const name = algorithm as 'chacha20-poly1305';
  const options = { authTagLength: icvBytes };
  return {
    seal(nonce, aad, text) {
      const cipher = createCipheriv(name, key, nonce, options).setAAD(aad, { plaintextLength: text.length });
      const ciphertext = cipher.update(text);
      cipher.final();
      return cat(ciphertext, cipher.getAuthTag());
    },
    open(nonce, aad, sealed) {
      const text = sealed.subarray(0, -icvBytes);
      const decipher = createDecipheriv(name, key, nonce, options);
      decipher.setAuthTag(sealed.subarray(-icvBytes)).setAAD(aad, { plaintextLength: text.length });
      return verified(decipher, text);
    },
  };
}

/** `final` (CCM: `update`) throws where the ICV is wrong; what was decrypted by then is wiped and never seen. */
function verified(
  decipher: { update(data: Uint8Array): Buffer; final(): Buffer },
  ciphertext: Uint8Array,
): Uint8Array | undefined {
  let text: Uint8Array | undefined;
  try {
    text = plain(decipher.update(ciphertext));
    decipher.final();
    return text;
  } catch {
    text?.fill(0);
    return undefined;
  }
}

const moduli = new Map<ModpName, DiffieHellman>();

/**
 * One object serves all exchanges of a group, since its construction checks the prime (48 ms for modp1024, which OpenSSL does
 * not know by heart). It holds a private value only within `use`, and ours is short where OpenSSL's own would be long.
 */
function withExponent<T>(group: ModpName, secret: Uint8Array, use: (dh: DiffieHellman) => T): T {
  let dh = moduli.get(group);
  if (dh === undefined) {
    dh = createDiffieHellman(toOctets(modpPrime(group), KE[group].publicBytes), Number(MODP_GENERATOR));
    moduli.set(group, dh);
  }
  dh.setPrivateKey(secret);
  try {
    return use(dh);
  } finally {
    dh.setPrivateKey(Uint8Array.of(1));
  }
}

function modp(group: ModpName, secret: Uint8Array): PrivateValue {
  const { publicBytes } = KE[group];
  return {
    publicValue: withExponent(group, secret, (dh) => padded(dh.generateKeys(), publicBytes)),
    agree: (peer) => withExponent(group, secret, (dh) => padded(dh.computeSecret(peer), publicBytes)),
    wipe: () => secret.fill(0),
  };
}

/** Zeros in front up to the length of the modulus, RFC 7296 §2.14. */
function padded(value: Uint8Array, length: number): Uint8Array {
  return cat(new Uint8Array(length - value.length), value);
}

function ecp(group: EcpName, secret: Uint8Array): PrivateValue {
  let ecdh: ECDH | undefined = createECDH(CURVE[group]);
  ecdh.setPrivateKey(secret);
  secret.fill(0);
  return {
    publicValue: plain(ecdh.getPublicKey()).slice(1),
    agree: (peer) => (ecdh === undefined ? undefined : plain(ecdh.computeSecret(cat(Uint8Array.of(4), peer)))),
    wipe() {
      ecdh = undefined;
    },
  };
}

function montgomery(group: MontgomeryName, secret: Uint8Array): PrivateValue {
  const crv = MONTGOMERY[group];
  // The import ignores x where there is d (and demands that it be there); the export tells the right one.
  let privateKey: KeyObject | undefined = createPrivateKey({
    key: { kty: 'OKP', crv, d: base64url(secret), x: base64url(secret) },
    format: 'jwk',
  });
  secret.fill(0);
  return {
    publicValue: plain(Buffer.from(createPublicKey(privateKey).export({ format: 'jwk' }).x ?? '', 'base64url')).slice(),
    agree(peer) {
      if (privateKey === undefined) return undefined;
      const publicKey = createPublicKey({ key: { kty: 'OKP', crv, x: base64url(peer) }, format: 'jwk' });
      try {
        return plain(diffieHellman({ privateKey: privateKey, publicKey }));
      } catch {
        return undefined; // OpenSSL refuses an all-zero result
      }
    },
    wipe() {
      privateKey = undefined;
    },
  };
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url');
}
