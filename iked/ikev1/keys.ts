/** Keys, IVs and hashes of an ISAKMP SA, RFC 2409 §5, §5.4, §5.5, §5.7 and appendix B, in the RFC's own symbols. */

import { cat, NONE, u32be } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import { defaultEngine } from '../../src/crypto/engine.ts';
import { digest } from '../../src/crypto/hash.ts';
import { HMAC_HASH } from '../../src/crypto/mac.ts';
import { type Prf, prfOf } from '../../src/crypto/prf.ts';
import { isUnauthenticated } from '../../src/crypto/primitives.ts';
import { ENCR, type EncrName, type EncrRow, encrKeyBytes, type KeName } from '../../src/crypto/transforms.ts';
import { Fault } from '../../src/errors.ts';
import type { KeyedPrf } from '../../src/isakmp/keymat.ts';
import type { MessageCipher } from './message.ts';

/** A hash function that IKEv1 has a number for; its HMAC is the prf (§4). */
export type HashName = keyof typeof HMAC_HASH;

/** The algorithms of one ISAKMP SA. */
export interface IsakmpSuite {
  readonly encr: EncrName;
  /** 0 where the cipher has one key length only. */
  readonly keyBits: number;
  readonly hash: HashName;
  readonly group: KeName;
}

/** What phase 1 leaves behind, §5. */
export interface IsakmpKeys {
  readonly SKEYID: Secret;
  readonly SKEYID_d: Secret;
  readonly SKEYID_a: Secret;
  readonly SKEYID_e: Secret;
}

/** What both ends know once messages 3 and 4 have passed. */
export interface Exchanged {
  readonly CKY_I: Uint8Array;
  readonly CKY_R: Uint8Array;
  readonly Ni_b: Uint8Array;
  readonly Nr_b: Uint8Array;
  /** Public values as they lay in the KE payloads. */
  readonly g_xi: Uint8Array;
  readonly g_xr: Uint8Array;
}

/** The prf of an ISAKMP SA. */
export function prfOfSuite({ hash }: IsakmpSuite): Prf {
  return prfOf(hash);
}

/** For pre-shared keys: SKEYID = prf(pre-shared-key, Ni_b | Nr_b), §5. */
export function skeyidOfSharedKey(prf: Prf, preSharedKey: Secret, Ni_b: Uint8Array, Nr_b: Uint8Array): Secret {
  return new Secret(prf.of(preSharedKey.reveal(), Ni_b, Nr_b));
}

/** For signatures: SKEYID = prf(Ni_b | Nr_b, g^xy), §5. */
export function skeyidOfSignature(prf: Prf, Ni_b: Uint8Array, Nr_b: Uint8Array, g_xy: Secret): Secret {
  return new Secret(prf.of(cat(Ni_b, Nr_b), g_xy.reveal()));
}

/** SKEYID_d, SKEYID_a and SKEYID_e, each of which the next is made of, §5. */
export function isakmpKeys(prf: Prf, SKEYID: Secret, g_xy: Secret, CKY_I: Uint8Array, CKY_R: Uint8Array): IsakmpKeys {
  const derived = (before: Uint8Array, n: number) =>
    new Secret(prf.of(SKEYID.reveal(), before, g_xy.reveal(), CKY_I, CKY_R, Uint8Array.of(n)));
  const SKEYID_d = derived(NONE, 0);
  const SKEYID_a = derived(SKEYID_d.reveal(), 1);
  const SKEYID_e = derived(SKEYID_a.reveal(), 2);
  return { SKEYID, SKEYID_d, SKEYID_a, SKEYID_e };
}

export function wipeKeys({ SKEYID, SKEYID_d, SKEYID_a, SKEYID_e }: IsakmpKeys): void {
  for (const key of [SKEYID, SKEYID_d, SKEYID_a, SKEYID_e]) key.wipe();
}

/**
 * The key that encrypts messages, appendix B: the first octets of SKEYID_e, which is expanded where it is too short: K1 = prf(SKEYID_e, 0),
 * K2 = prf(SKEYID_e, K1), …
 */
export function encryptionKey(prf: Prf, SKEYID_e: Secret, octets: number): Secret {
  if (octets <= SKEYID_e.length) return SKEYID_e.slice(0, octets);
  const Ka = new Uint8Array(octets);
  let K: Uint8Array = Uint8Array.of(0);
  for (let at = 0; at < octets; at += K.length) {
    K = prf.of(SKEYID_e.reveal(), K);
    Ka.set(K.subarray(0, octets - at), at);
  }
  return new Secret(Ka);
}

/** The cipher of an ISAKMP SA's messages under its suite. Throws Fault for a cipher that IKEv1 has not, or a key length that it has not. */
export function messageCipher(suite: IsakmpSuite, SKEYID_e: Secret): { readonly cipher: MessageCipher; readonly key: Secret } {
  const octets = encrKeyBytes(suite.encr, suite.keyBits);
  if (octets === undefined || !('isakmp' in ENCR[suite.encr]))
    throw new Fault(`${suite.encr} with ${suite.keyBits} bits in phase 1`);
  const key = encryptionKey(prfOfSuite(suite), SKEYID_e, octets);
  const { primitive }: EncrRow = ENCR[suite.encr];
  const blockCipher = isUnauthenticated(primitive) ? defaultEngine.cipher(primitive, key.reveal()) : undefined;
  if (blockCipher === undefined) throw new Fault(`the crypto engine ${defaultEngine.name} has no ${suite.encr}`);
  return { cipher: { blockBytes: ENCR[suite.encr].iv, encrypt: blockCipher.encrypt, decrypt: blockCipher.decrypt }, key };
}

/** The IV of the first encrypted message of phase 1: hash(g^xi | g^xr), appendix B. */
export function phase1Iv({ hash, encr }: IsakmpSuite, g_xi: Uint8Array, g_xr: Uint8Array): Uint8Array {
  return digest(HMAC_HASH[hash], [g_xi, g_xr]).slice(0, ENCR[encr].iv);
}

/** The IV of the first message of a phase 2 exchange: hash(last ciphertext block of phase 1 | M-ID), appendix B. */
export function phase2Iv({ hash, encr }: IsakmpSuite, lastBlock: Uint8Array, messageId: number): Uint8Array {
  return digest(HMAC_HASH[hash], [lastBlock, u32be(messageId)]).slice(0, ENCR[encr].iv);
}

/** HASH_I = prf(SKEYID, g^xi | g^xr | CKY-I | CKY-R | SAi_b | IDii_b), §5. */
export function HASH_I(
  prf: Prf,
  SKEYID: Secret,
  { g_xi, g_xr, CKY_I, CKY_R }: Exchanged,
  SAi_b: Uint8Array,
  IDii_b: Uint8Array,
): Uint8Array {
  return prf.of(SKEYID.reveal(), g_xi, g_xr, CKY_I, CKY_R, SAi_b, IDii_b);
}

/** HASH_R = prf(SKEYID, g^xr | g^xi | CKY-R | CKY-I | SAi_b | IDir_b), §5. */
export function HASH_R(
  prf: Prf,
  SKEYID: Secret,
  { g_xi, g_xr, CKY_I, CKY_R }: Exchanged,
  SAi_b: Uint8Array,
  IDir_b: Uint8Array,
): Uint8Array {
  return prf.of(SKEYID.reveal(), g_xr, g_xi, CKY_R, CKY_I, SAi_b, IDir_b);
}

/** HASH(1) = prf(SKEYID_a, M-ID | what follows the hash), §5.5 and §5.7: of Quick Mode's first message and of Informational. */
export function HASH_1(prf: Prf, SKEYID_a: Secret, messageId: number, rest: Uint8Array): Uint8Array {
  return prf.of(SKEYID_a.reveal(), u32be(messageId), rest);
}

/** HASH(2) = prf(SKEYID_a, M-ID | Ni_b | what follows the hash), §5.5. */
export function HASH_2(prf: Prf, SKEYID_a: Secret, messageId: number, Ni_b: Uint8Array, rest: Uint8Array): Uint8Array {
  return prf.of(SKEYID_a.reveal(), u32be(messageId), Ni_b, rest);
}

/** HASH(3) = prf(SKEYID_a, 0 | M-ID | Ni_b | Nr_b), §5.5. */
export function HASH_3(prf: Prf, SKEYID_a: Secret, messageId: number, Ni_b: Uint8Array, Nr_b: Uint8Array): Uint8Array {
  return prf.of(SKEYID_a.reveal(), Uint8Array.of(0), u32be(messageId), Ni_b, Nr_b);
}

/** The prf of KEYMAT: keyed with SKEYID_d, §5.5. */
export function keymatPrf(prf: Prf, SKEYID_d: Secret): KeyedPrf {
  return (...data) => prf.of(SKEYID_d.reveal(), ...data);
}

/** HASH(CKY-I | CKY-R | IP | Port) of a NAT-D payload, by the negotiated hash (RFC 3947 §3.2). */
export function natDetectionHash(
  hash: HashName,
  CKY_I: Uint8Array,
  CKY_R: Uint8Array,
  address: Uint8Array,
  port: number,
): Uint8Array {
  return digest(HMAC_HASH[hash], [CKY_I, CKY_R, address, Uint8Array.of(port >>> 8, port & 0xff)]);
}
