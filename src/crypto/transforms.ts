/** THE TABLE of algorithms: one row each, with its number in every protocol, its sizes and its RFC (IKEv2: RFC 7296 §3.3.2 and IANA). */

/** What computes an encryption algorithm: the engines know these, and the table makes IPsec's algorithms of them. */
export type EncrPrimitive =
  | 'aes_gcm'
  | 'aes_ccm'
  | 'chacha20_poly1305'
  | 'aes_gmac'
  | 'aes_cbc'
  | 'aes_ctr'
  | 'camellia_cbc'
  | 'des_cbc'
  | '3des_cbc'
  | 'null';

/** One encryption algorithm. Numbers are absent where a protocol has none. */
export interface EncrRow {
  readonly primitive: EncrPrimitive;
  /** IKEv2 Transform Type 1. */
  readonly ikev2: number;
  /** IKEv1 phase 1 Encryption Algorithm (RFC 2409 appendix A). */
  readonly isakmp?: number;
  /** IKEv1 phase 2 ESP transform (RFC 2407 §4.4.4). */
  readonly espV1?: number;
  /** PF_KEY `SADB_EALG_*` / `SADB_X_EALG_*`. */
  readonly sadb: number;
  /** Key lengths without salt, in bits; the first is the only one where `keyLength` is false; none for NULL. */
  readonly bits: readonly number[];
  /** What a policy that names no length gets, in bits; 0 for NULL. */
  readonly defaultBits: number;
  /** Whether a proposal carries the Key Length attribute (RFC 7296 §3.3.5): mandatory or forbidden, never optional. */
  readonly keyLength: boolean;
  /** Octets behind the key in KEYMAT (salt of GCM, CCM, GMAC and ChaCha20, nonce of CTR). */
  readonly salt: number;
  /** Octets of explicit IV in a packet; none where a combined-mode cipher takes the sequence number for it (RFC 8750). */
  readonly iv: number;
  /** Octets that ESP's text is aligned to (RFC 4303 §2.4). */
  readonly block: number;
  /** Octets of ICV of a combined-mode algorithm; 0 where a separate integrity algorithm is needed. */
  readonly icv: number;
  /**
   * Whether an IKE SA may use it. Not what does not encrypt (RFC 7296 §5), nor what takes its IV from ESP's sequence number (RFC 8750 §7), nor
   * single DES (RFC 8247 §2.1).
   */
  readonly ike: boolean;
  readonly rfc: string;
  /** Refused unless a policy names it. */
  readonly weak: boolean;
}

/** Transform Type 1, encryption. PF_KEY 28 to 31 are ours: no dialect has numbers. */
// biome-ignore format: a table
export const ENCR = {
  //                      computed by                       IKEv2      ISAKMP     ESP in v1  PF_KEY    key sizes, bits                          attribute          octets of …
  aes_gcm_16:             { primitive: 'aes_gcm',           ikev2: 20,            espV1: 20, sadb: 20, bits: [128, 192, 256], defaultBits: 256, keyLength: true,   salt: 4, iv: 8,  block: 4,  icv: 16, ike: true,  rfc: 'RFC 4106, RFC 5282',  weak: false },
  chacha20_poly1305:      { primitive: 'chacha20_poly1305', ikev2: 28,                       sadb: 28, bits: [256],           defaultBits: 256, keyLength: false,  salt: 4, iv: 8,  block: 4,  icv: 16, ike: true,  rfc: 'RFC 7634',            weak: false },
  aes_gcm_16_iiv:         { primitive: 'aes_gcm',           ikev2: 30,                       sadb: 30, bits: [128, 192, 256], defaultBits: 256, keyLength: true,   salt: 4, iv: 0,  block: 4,  icv: 16, ike: false, rfc: 'RFC 8750',            weak: false },
  chacha20_poly1305_iiv:  { primitive: 'chacha20_poly1305', ikev2: 31,                       sadb: 31, bits: [256],           defaultBits: 256, keyLength: false,  salt: 4, iv: 0,  block: 4,  icv: 16, ike: false, rfc: 'RFC 8750',            weak: false },
  aes_ccm_16:             { primitive: 'aes_ccm',           ikev2: 16,            espV1: 16, sadb: 16, bits: [128, 192, 256], defaultBits: 256, keyLength: true,   salt: 3, iv: 8,  block: 4,  icv: 16, ike: true,  rfc: 'RFC 4309, RFC 5282',  weak: false },
  aes_gcm_12:             { primitive: 'aes_gcm',           ikev2: 19,            espV1: 19, sadb: 19, bits: [128, 192, 256], defaultBits: 256, keyLength: true,   salt: 4, iv: 8,  block: 4,  icv: 12, ike: true,  rfc: 'RFC 4106, RFC 5282',  weak: false },
  aes_ccm_12:             { primitive: 'aes_ccm',           ikev2: 15,            espV1: 15, sadb: 15, bits: [128, 192, 256], defaultBits: 256, keyLength: true,   salt: 3, iv: 8,  block: 4,  icv: 12, ike: true,  rfc: 'RFC 4309, RFC 5282',  weak: false },
  aes_gcm_8:              { primitive: 'aes_gcm',           ikev2: 18,            espV1: 18, sadb: 18, bits: [128, 192, 256], defaultBits: 256, keyLength: true,   salt: 4, iv: 8,  block: 4,  icv: 8,  ike: true,  rfc: 'RFC 4106, RFC 5282',  weak: false },
  aes_ccm_8:              { primitive: 'aes_ccm',           ikev2: 14,            espV1: 14, sadb: 14, bits: [128, 192, 256], defaultBits: 256, keyLength: true,   salt: 3, iv: 8,  block: 4,  icv: 8,  ike: true,  rfc: 'RFC 4309, RFC 5282',  weak: false },
  aes_ccm_8_iiv:          { primitive: 'aes_ccm',           ikev2: 29,                       sadb: 29, bits: [128, 192, 256], defaultBits: 256, keyLength: true,   salt: 3, iv: 0,  block: 4,  icv: 8,  ike: false, rfc: 'RFC 8750',            weak: false },
  aes_cbc:                { primitive: 'aes_cbc',           ikev2: 12, isakmp: 7, espV1: 12, sadb: 12, bits: [128, 192, 256], defaultBits: 256, keyLength: true,   salt: 0, iv: 16, block: 16, icv: 0,  ike: true,  rfc: 'RFC 3602',            weak: false },
  aes_ctr:                { primitive: 'aes_ctr',           ikev2: 13,            espV1: 13, sadb: 13, bits: [128, 192, 256], defaultBits: 256, keyLength: true,   salt: 4, iv: 8,  block: 4,  icv: 0,  ike: true,  rfc: 'RFC 3686, RFC 5930',  weak: false },
  camellia_cbc:           { primitive: 'camellia_cbc',      ikev2: 23, isakmp: 8, espV1: 22, sadb: 22, bits: [128, 192, 256], defaultBits: 256, keyLength: true,   salt: 0, iv: 16, block: 16, icv: 0,  ike: true,  rfc: 'RFC 4312, RFC 5529',  weak: false },
  null_auth_aes_gmac:     { primitive: 'aes_gmac',          ikev2: 21,            espV1: 23, sadb: 23, bits: [128, 192, 256], defaultBits: 256, keyLength: true,   salt: 4, iv: 8,  block: 4,  icv: 16, ike: false, rfc: 'RFC 4543',            weak: false },
  null_enc:               { primitive: 'null',              ikev2: 11,            espV1: 11, sadb: 11, bits: [],              defaultBits: 0,   keyLength: false,  salt: 0, iv: 0,  block: 4,  icv: 0,  ike: false, rfc: 'RFC 2410',            weak: false },
  '3des_cbc':             { primitive: '3des_cbc',          ikev2: 3,  isakmp: 5, espV1: 3,  sadb: 3,  bits: [192],           defaultBits: 192, keyLength: false,  salt: 0, iv: 8,  block: 8,  icv: 0,  ike: true,  rfc: 'RFC 2451',            weak: true },
  des_cbc:                { primitive: 'des_cbc',           ikev2: 2,             espV1: 2,  sadb: 2,  bits: [64],            defaultBits: 64,  keyLength: false,  salt: 0, iv: 8,  block: 8,  icv: 0,  ike: false, rfc: 'RFC 2405',            weak: true },
} as const satisfies Record<string, EncrRow>;

export type EncrName = keyof typeof ENCR;

/** One integrity algorithm. */
export interface IntegRow {
  /** IKEv2 Transform Type 3. */
  readonly ikev2: number;
  /** IKEv1 phase 2 Authentication Algorithm attribute (RFC 2407 §4.5). */
  readonly authV1?: number;
  /** IKEv1 phase 2 AH transform (RFC 2407 §4.4.3). */
  readonly ahV1?: number;
  /** PF_KEY `SADB_AALG_*` / `SADB_X_AALG_*`. */
  readonly sadb: number;
  /** With the salt of GMAC behind the key. */
  readonly keyBytes: number;
  /** Octets of IV in front of the MAC, both of them in AH's ICV field (RFC 4543 §4). */
  readonly iv: number;
  /** Octets of the (truncated) ICV, IV included. */
  readonly icvBytes: number;
  /** Whether an IKE SA may use it (RFC 8247 §2.3). */
  readonly ike: boolean;
  /** Whether ESP may; GMAC is an encryption algorithm there (RFC 4543 §3). */
  readonly esp: boolean;
  readonly rfc: string;
  /** Refused unless a policy names it. */
  readonly weak: boolean;
}

/** Transform Type 3, integrity. PF_KEY 254 (CMAC) is ours, 11 to 13 are FreeBSD's: Linux has no numbers. */
// biome-ignore format: a table
export const INTEG = {
  //               IKEv2      IKEv1: attribute, AH     PF_KEY     octets of …                       allowed in
  hmac_sha2_256: { ikev2: 12, authV1: 5,  ahV1: 5,  sadb: 5,   keyBytes: 32, iv: 0, icvBytes: 16, ike: true,  esp: true,  rfc: 'RFC 4868', weak: false },
  hmac_sha2_384: { ikev2: 13, authV1: 6,  ahV1: 6,  sadb: 6,   keyBytes: 48, iv: 0, icvBytes: 24, ike: true,  esp: true,  rfc: 'RFC 4868', weak: false },
  hmac_sha2_512: { ikev2: 14, authV1: 7,  ahV1: 7,  sadb: 7,   keyBytes: 64, iv: 0, icvBytes: 32, ike: true,  esp: true,  rfc: 'RFC 4868', weak: false },
  hmac_sha1:     { ikev2: 2,  authV1: 2,  ahV1: 3,  sadb: 3,   keyBytes: 20, iv: 0, icvBytes: 12, ike: true,  esp: true,  rfc: 'RFC 2404', weak: false },
  aes_xcbc:      { ikev2: 5,  authV1: 9,  ahV1: 9,  sadb: 9,   keyBytes: 16, iv: 0, icvBytes: 12, ike: true,  esp: true,  rfc: 'RFC 3566', weak: false },
  aes_cmac:      { ikev2: 8,                        sadb: 254, keyBytes: 16, iv: 0, icvBytes: 12, ike: true,  esp: true,  rfc: 'RFC 4494', weak: false },
  aes_128_gmac:  { ikev2: 9,  authV1: 11, ahV1: 11, sadb: 11,  keyBytes: 20, iv: 8, icvBytes: 24, ike: false, esp: false, rfc: 'RFC 4543', weak: false },
  aes_192_gmac:  { ikev2: 10, authV1: 12, ahV1: 12, sadb: 12,  keyBytes: 28, iv: 8, icvBytes: 24, ike: false, esp: false, rfc: 'RFC 4543', weak: false },
  aes_256_gmac:  { ikev2: 11, authV1: 13, ahV1: 13, sadb: 13,  keyBytes: 36, iv: 8, icvBytes: 24, ike: false, esp: false, rfc: 'RFC 4543', weak: false },
  hmac_md5:      { ikev2: 1,  authV1: 1,  ahV1: 2,  sadb: 2,   keyBytes: 16, iv: 0, icvBytes: 12, ike: false, esp: true,  rfc: 'RFC 2403', weak: true },
} as const satisfies Record<string, IntegRow>;

export type IntegName = keyof typeof INTEG;

/** One pseudorandom function. */
export interface PrfRow {
  /** IKEv2 Transform Type 2. */
  readonly ikev2: number;
  /** IKEv1 Hash Algorithm, whose HMAC is the prf there (RFC 2409 §4). */
  readonly hashV1?: number;
  /** Preferred key length (RFC 7296 §2.14). */
  readonly keyBytes: number;
  /** Octets of output. */
  readonly size: number;
  readonly rfc: string;
  readonly weak: boolean;
}

/** Transform Type 2, pseudorandom functions. */
// biome-ignore format: a table
export const PRF = {
  //               IKEv2     IKEv1      octets of …
  hmac_sha2_256: { ikev2: 5, hashV1: 4, keyBytes: 32, size: 32, rfc: 'RFC 4868', weak: false },
  hmac_sha2_384: { ikev2: 6, hashV1: 5, keyBytes: 48, size: 48, rfc: 'RFC 4868', weak: false },
  hmac_sha2_512: { ikev2: 7, hashV1: 6, keyBytes: 64, size: 64, rfc: 'RFC 4868', weak: false },
  hmac_sha1:     { ikev2: 2, hashV1: 2, keyBytes: 20, size: 20, rfc: 'RFC 2104', weak: false },
  aes_xcbc:      { ikev2: 4,            keyBytes: 16, size: 16, rfc: 'RFC 4434', weak: false },
  aes_cmac:      { ikev2: 8,            keyBytes: 16, size: 16, rfc: 'RFC 4615', weak: false },
} as const satisfies Record<string, PrfRow>;

export type PrfName = keyof typeof PRF;

/** One key exchange method. */
export interface KeRow {
  /** IKEv2 Transform Type 4. */
  readonly ikev2: number;
  /** IKEv1 Group Description. */
  readonly groupV1?: number;
  readonly kind: 'modp' | 'ecp' | 'montgomery';
  /** Size of the modulus or field, in bits. */
  readonly bits: number;
  /** Octets of Key Exchange Data in a KE payload. */
  readonly publicBytes: number;
  /** Octets of g^ir. */
  readonly sharedBytes: number;
  /** Octets of randomness that one private value takes. */
  readonly privateBytes: number;
  readonly rfc: string;
  readonly weak: boolean;
}

/**
 * Transform Type 4, key exchange. MODP exponents are at least twice as long as the higher strength estimate of RFC 3526 §8, as it asks;
 * an ECP scalar takes 64 bits more than the order, so that reducing it leaves no bias (FIPS 186-5 A.2.1).
 */
// biome-ignore format: a table
export const KE = {
  //          IKEv2      IKEv1                                        octets of …
  x25519:   { ikev2: 31,              kind: 'montgomery', bits: 255,  publicBytes: 32,   sharedBytes: 32,   privateBytes: 32, rfc: 'RFC 8031', weak: false },
  x448:     { ikev2: 32,              kind: 'montgomery', bits: 448,  publicBytes: 56,   sharedBytes: 56,   privateBytes: 56, rfc: 'RFC 8031', weak: false },
  ecp256:   { ikev2: 19, groupV1: 19, kind: 'ecp',        bits: 256,  publicBytes: 64,   sharedBytes: 32,   privateBytes: 40, rfc: 'RFC 5903', weak: false },
  ecp384:   { ikev2: 20, groupV1: 20, kind: 'ecp',        bits: 384,  publicBytes: 96,   sharedBytes: 48,   privateBytes: 56, rfc: 'RFC 5903', weak: false },
  ecp521:   { ikev2: 21, groupV1: 21, kind: 'ecp',        bits: 521,  publicBytes: 132,  sharedBytes: 66,   privateBytes: 74, rfc: 'RFC 5903', weak: false },
  modp2048: { ikev2: 14, groupV1: 14, kind: 'modp',       bits: 2048, publicBytes: 256,  sharedBytes: 256,  privateBytes: 64, rfc: 'RFC 3526', weak: false },
  modp3072: { ikev2: 15, groupV1: 15, kind: 'modp',       bits: 3072, publicBytes: 384,  sharedBytes: 384,  privateBytes: 64, rfc: 'RFC 3526', weak: false },
  modp4096: { ikev2: 16, groupV1: 16, kind: 'modp',       bits: 4096, publicBytes: 512,  sharedBytes: 512,  privateBytes: 64, rfc: 'RFC 3526', weak: false },
  modp6144: { ikev2: 17, groupV1: 17, kind: 'modp',       bits: 6144, publicBytes: 768,  sharedBytes: 768,  privateBytes: 72, rfc: 'RFC 3526', weak: false },
  modp8192: { ikev2: 18, groupV1: 18, kind: 'modp',       bits: 8192, publicBytes: 1024, sharedBytes: 1024, privateBytes: 80, rfc: 'RFC 3526', weak: false },
  modp1536: { ikev2: 5,  groupV1: 5,  kind: 'modp',       bits: 1536, publicBytes: 192,  sharedBytes: 192,  privateBytes: 48, rfc: 'RFC 3526', weak: true },
  modp1024: { ikev2: 2,  groupV1: 2,  kind: 'modp',       bits: 1024, publicBytes: 128,  sharedBytes: 128,  privateBytes: 48, rfc: 'RFC 7296', weak: true },
} as const satisfies Record<string, KeRow>;

export type KeName = keyof typeof KE;

/** Transform Type 5, sequence numbers. */
export const ESN = {
  no_esn: { ikev2: 0, rfc: 'RFC 7296 §3.3.2' },
  esn: { ikev2: 1, rfc: 'RFC 4303 §2.2.1' },
} as const;

export type EsnName = keyof typeof ESN;

function names<Name extends string>(table: Readonly<Record<Name, unknown>>): readonly Name[] {
  return Object.keys(table) as Name[];
}

/** The words of each table, in its order, which is that of preference. */
export const ENCR_NAMES: readonly EncrName[] = names(ENCR);
export const INTEG_NAMES: readonly IntegName[] = names(INTEG);
export const PRF_NAMES: readonly PrfName[] = names(PRF);
export const KE_NAMES: readonly KeName[] = names(KE);
export const ESN_NAMES: readonly EsnName[] = names(ESN);

/** Look-up of a row's word by its number in one column; undefined where no row has the number. */
function byNumber<Name extends string, Row extends object>(
  table: Readonly<Record<Name, Row>>,
  column: string,
): (id: number) => Name | undefined {
  const found = new Map<number, Name>();
  for (const name of names(table)) {
    const id = (table[name] as Readonly<Record<string, unknown>>)[column];
    if (typeof id === 'number') found.set(id, name);
  }
  return (id) => found.get(id);
}

export const encrByIkev2 = byNumber<EncrName, EncrRow>(ENCR, 'ikev2');
export const encrByIsakmp = byNumber<EncrName, EncrRow>(ENCR, 'isakmp');
export const encrByEspV1 = byNumber<EncrName, EncrRow>(ENCR, 'espV1');
export const encrBySadb = byNumber<EncrName, EncrRow>(ENCR, 'sadb');
export const integByIkev2 = byNumber<IntegName, IntegRow>(INTEG, 'ikev2');
export const integByAuthV1 = byNumber<IntegName, IntegRow>(INTEG, 'authV1');
export const integByAhV1 = byNumber<IntegName, IntegRow>(INTEG, 'ahV1');
export const integBySadb = byNumber<IntegName, IntegRow>(INTEG, 'sadb');
export const prfByIkev2 = byNumber<PrfName, PrfRow>(PRF, 'ikev2');
export const prfByHashV1 = byNumber<PrfName, PrfRow>(PRF, 'hashV1');
export const keByIkev2 = byNumber<KeName, KeRow>(KE, 'ikev2');
export const keByGroupV1 = byNumber<KeName, KeRow>(KE, 'groupV1');
export const esnByIkev2 = byNumber<EsnName, { readonly ikev2: number }>(ESN, 'ikev2');

export function isEncrName(word: string): word is EncrName {
  return Object.hasOwn(ENCR, word);
}

export function isIntegName(word: string): word is IntegName {
  return Object.hasOwn(INTEG, word);
}

export function isPrfName(word: string): word is PrfName {
  return Object.hasOwn(PRF, word);
}

export function isKeName(word: string): word is KeName {
  return Object.hasOwn(KE, word);
}

/**
 * Octets of cipher key, without the salt. `keyBits` 0 means the only length of an algorithm that has one. Undefined where
 * the algorithm has no key of that length.
 */
export function encrKeyBytes(encr: EncrName, keyBits: number): number | undefined {
  const row: EncrRow = ENCR[encr];
  if (row.bits.length === 0) return keyBits === 0 ? 0 : undefined;
  if (keyBits === 0) return row.keyLength ? undefined : row.bits[0]! / 8;
  return row.bits.includes(keyBits) ? keyBits / 8 : undefined;
}

/**
 * Whether the two together make an SA: separate integrity exactly where the cipher has none of its own, and one that is not for AH only, whose
 * SAs have `null_enc` (RFC 4303 §3.2).
 */
export function isSuite(encr: EncrName, integ: IntegName | 'none'): boolean {
  if (integ === 'none') return ENCR[encr].icv > 0;
  return ENCR[encr].icv === 0 && (INTEG[integ].esp || encr === 'null_enc');
}

/** Octets that KEYMAT gives an encryption algorithm: key and salt. Undefined as `encrKeyBytes`. */
export function encrKeymatBytes(encr: EncrName, keyBits: number): number | undefined {
  const key = encrKeyBytes(encr, keyBits);
  return key === undefined ? undefined : key + ENCR[encr].salt;
}

/** As people write it: `AES_GCM_16_256`, `CHACHA20_POLY1305`, `NULL`. */
export function encrText(encr: EncrName, keyBits: number): string {
  if (encr === 'null_enc') return 'NULL';
  return ENCR[encr].keyLength ? `${encr.toUpperCase()}_${keyBits}` : encr.toUpperCase();
}

/** `HMAC_SHA2_256_128`: the algorithm and the bits of its ICV; `AES_128_GMAC`, which is never cut; `NONE` beside a combined-mode cipher. */
export function integText(integ: IntegName | 'none'): string {
  if (integ === 'none') return 'NONE';
  const { iv, icvBytes } = INTEG[integ];
  return iv > 0 ? integ.toUpperCase() : `${integ.toUpperCase()}_${icvBytes * 8}`;
}

/** `PRF_HMAC_SHA2_256`. */
export function prfText(prf: PrfName): string {
  return `PRF_${prf.toUpperCase()}`;
}

/** `MODP2048`, `ECP256`, `X25519`. */
export function keText(ke: KeName): string {
  return ke.toUpperCase();
}

/** `AES_GCM_16_256`, or `AES_CBC_128/HMAC_SHA2_256_128`. */
export function suiteText(encr: EncrName, keyBits: number, integ: IntegName | 'none'): string {
  return integ === 'none' ? encrText(encr, keyBits) : `${encrText(encr, keyBits)}/${integText(integ)}`;
}
