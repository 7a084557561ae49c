/** What a crypto engine offers: the primitives that the rest of the folder is built of. */

import type { EncrPrimitive, KeName } from './transforms.ts';

export type HashName = 'md5' | 'sha1' | 'sha2_256' | 'sha2_384' | 'sha2_512';
export type AeadName = Extract<EncrPrimitive, 'aes_gcm' | 'aes_ccm' | 'chacha20_poly1305'>;
export type UnauthenticatedName = Extract<EncrPrimitive, `${string}_cbc` | 'aes_ctr'>;

export function isAead(primitive: EncrPrimitive): primitive is AeadName {
  return primitive === 'aes_gcm' || primitive === 'aes_ccm' || primitive === 'chacha20_poly1305';
}

export function isUnauthenticated(primitive: EncrPrimitive): primitive is UnauthenticatedName {
  return primitive === 'aes_ctr' || isCbc(primitive);
}

/** Whether its IVs must be unpredictable (RFC 3602 §3) and its text whole blocks. */
export function isCbc(primitive: EncrPrimitive): boolean {
  return primitive.endsWith('_cbc');
}

/** A combined-mode cipher with its key and the length of its ICVs. Nonces have 12 octets, those of CCM 11 (RFC 4309 §4). */
export interface Aead {
  /** Ciphertext and ICV. There is text, if only the length of its padding: node's CCM needs some. */
  seal(nonce: Uint8Array, aad: Uint8Array, text: Uint8Array): Uint8Array;
  /** The text, or undefined where the ICV (compared in constant time) is wrong. `sealed` is at least as long as an ICV. */
  open(nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array | undefined;
}

/** A cipher without integrity, with its key. The IV is a full block: for CTR the counter block. No padding is added or removed. */
export interface Unauthenticated {
  encrypt(iv: Uint8Array, text: Uint8Array): Uint8Array;
  decrypt(iv: Uint8Array, text: Uint8Array): Uint8Array;
}

/** The private half of one key exchange. */
export interface PrivateValue {
  /** As a KE payload carries it: MODP padded to the modulus, ECP as x|y, X25519 and X448 as they are. */
  readonly publicValue: Uint8Array;
  /**
   * g^ir: MODP padded to the modulus, ECP as x only, X25519 and X448 as they are. `peer` has the right length and passed the
   * checks of RFC 6989; undefined where the result is degenerate (the all-zero value of RFC 7748 §6).
   */
  agree(peer: Uint8Array): Uint8Array | undefined;
  /** Forgets the private value, which can agree no more. */
  wipe(): void;
}

/** The primitives that the rest of the folder is built of. Every function is deterministic. */
export interface Engine {
  readonly name: 'noble' | 'native';
  hash(hash: HashName, ...data: readonly Uint8Array[]): Uint8Array;
  hmac(hash: HashName, key: Uint8Array, ...data: readonly Uint8Array[]): Uint8Array;
  /** AES-CBC-MAC, which XCBC and CMAC are made of: the last block of AES-CBC over whole blocks, one at least, from a zero IV. */
  cbcMac(key: Uint8Array): (blocks: Uint8Array) => Uint8Array;
  /** `icvBytes`: 8, 12 or 16; ChaCha20-Poly1305 has 16 only. */
  aead(name: AeadName, key: Uint8Array, icvBytes: number): Aead;
  /** Undefined where this engine lacks the cipher. */
  cipher(name: UnauthenticatedName, key: Uint8Array): Unauthenticated | undefined;
  /** `secret` is the private value of the group: exponent, scalar in 1..n-1 or the octets of RFC 7748, big-endian where it is a number. */
  privateValue(group: KeName, secret: Uint8Array): PrivateValue;
}
