/** Encryption types of Kerberos (RFC 3961 §3): AES with CTS and HMAC-SHA1 (RFC 3962) or HMAC-SHA2 (RFC 8009). */

import { cat, equal, NONE, u32be, utf8 } from '../../src/bytes/bytes.ts';
import type { Secret } from '../../src/bytes/secret.ts';
import { defaultEngine, type Engine, type HashName } from '../../src/crypto/engine.ts';
import { Fault } from '../../src/errors.ts';
import type { RandomBytes } from '../../src/machine.ts';
import { BLOCK, cbcCts, nfold } from './aes-cts.ts';

type Family = 'sha1' | 'sha2';
interface Row {
  readonly etype: number;
  readonly family: Family;
  readonly hash: HashName;
  readonly keyBytes: number;
  /** Of Kc and Ki. */
  readonly macKeyBytes: number;
  readonly checksumType: number;
  readonly checksumBytes: number;
  readonly prfBytes: number;
  readonly rfc: string;
}

/** The enctypes that are spoken, by their IANA names. */
// biome-ignore format: a table
export const ENCTYPE = {
  //                                          number     derivation      and hash          octets of key, of MAC key  checksum type    and octets         octets of prf
  aes128_cts_hmac_sha1_96:    { etype: 17, family: 'sha1', hash: 'sha1',     keyBytes: 16, macKeyBytes: 16, checksumType: 15, checksumBytes: 12, prfBytes: 16, rfc: 'RFC 3962' },
  aes256_cts_hmac_sha1_96:    { etype: 18, family: 'sha1', hash: 'sha1',     keyBytes: 32, macKeyBytes: 32, checksumType: 16, checksumBytes: 12, prfBytes: 16, rfc: 'RFC 3962' },
  aes128_cts_hmac_sha256_128: { etype: 19, family: 'sha2', hash: 'sha2_256', keyBytes: 16, macKeyBytes: 16, checksumType: 19, checksumBytes: 16, prfBytes: 32, rfc: 'RFC 8009' },
  aes256_cts_hmac_sha384_192: { etype: 20, family: 'sha2', hash: 'sha2_384', keyBytes: 32, macKeyBytes: 24, checksumType: 20, checksumBytes: 24, prfBytes: 48, rfc: 'RFC 8009' },
} as const satisfies Record<string, Row>;

export type EnctypeName = keyof typeof ENCTYPE;
export type Etype = (typeof ENCTYPE)[EnctypeName]['etype'];

/** Best first: what we ask a KDC for. */
export const PREFERRED_ETYPES: readonly Etype[] = [20, 19, 18, 17];

/** What keys are used for, RFC 4120 §7.5.1 and, for KINK, RFC 4430 §8. */
export const KEY_USAGE = {
  PA_ENC_TIMESTAMP: 1,
  TICKET: 2,
  AS_REP: 3,
  TGS_REQ_CHECKSUM: 6,
  TGS_REQ_AUTHENTICATOR: 7,
  TGS_REP: 8,
  TGS_REP_SUBKEY: 9,
  AP_REQ_AUTHENTICATOR: 11,
  AP_REP: 12,
  KINK_ENCRYPT: 39,
  KINK_CKSUM: 40,
} as const;

/** EncryptionKey, RFC 4120 §5.2.9. */
export interface EncryptionKey {
  readonly etype: Etype;
  readonly key: Secret;
}

/**
 * How many octets the prf of the AES-SHA1 types has. RFC 3961 §5.3 cuts its hash to a multiple of m, and RFC 3962 §6 says m = 1, which leaves all 20;
 * MIT's library, and what follows it, cuts to whole AES blocks, which leaves 16. All octets differ, so both ends must read alike.
 */
export type PrfReading = 'mit' | 'rfc3962_literal';

export function isEtype(etype: number): etype is Etype {
  return ROWS.has(etype);
}

/** The row of the table. */
export function enctype(etype: Etype): Row {
  return ROWS.get(etype)!;
}

/** `aes256_cts_hmac_sha384_192`, or the number of a type that is not spoken. */
export function enctypeName(etype: number): string {
  return Object.entries(ENCTYPE).find(([, row]) => row.etype === etype)?.[0] ?? `enctype ${etype}`;
}

/** encrypt of RFC 3961 §3: confounder, ciphertext and HMAC. */
export function encrypt(
  key: EncryptionKey,
  usage: number,
  plaintext: Uint8Array,
  random: RandomBytes,
  engine: Engine = defaultEngine,
): Uint8Array {
  const profile = profileOf(key, engine);
  const Ke = profile.derive(usage, 0xaa);
  const Ki = profile.derive(usage, 0x55);
  const text = cat(random(BLOCK), plaintext);
  const C = cbcCts(Ke, engine).encrypt(text);
  const H = profile.mac(Ki, C, text);
  wipe(Ke, Ki, text);
  return cat(C, H);
}

/** decrypt of RFC 3961 §3: the plaintext, or undefined where the HMAC (compared in constant time) is wrong or the text is too short. */
export function decrypt(
  key: EncryptionKey,
  usage: number,
  ciphertext: Uint8Array,
  engine: Engine = defaultEngine,
): Uint8Array | undefined {
  const { checksumBytes } = enctype(key.etype);
  if (ciphertext.length < BLOCK + checksumBytes) return undefined;
  const profile = profileOf(key, engine);
  const Ke = profile.derive(usage, 0xaa);
  const Ki = profile.derive(usage, 0x55);
  const C = ciphertext.subarray(0, -checksumBytes);
  const text = cbcCts(Ke, engine).decrypt(C);
  const authentic = equal(profile.mac(Ki, C, text), ciphertext.subarray(-checksumBytes));
  const plaintext = authentic ? text.slice(BLOCK) : undefined;
  wipe(Ke, Ki, text);
  return plaintext;
}

/** Octets that `encrypt` adds. */
export function encryptionOverhead(etype: Etype): number {
  return BLOCK + enctype(etype).checksumBytes;
}

/** get_mic of RFC 3961 §4 with the mandatory checksum type of the key's enctype. */
export function checksum(key: EncryptionKey, usage: number, data: Uint8Array, engine: Engine = defaultEngine): Uint8Array {
  const { hash, checksumBytes } = enctype(key.etype);
  const Kc = profileOf(key, engine).derive(usage, 0x99);
  const mic = engine.hmac(hash, Kc, data).slice(0, checksumBytes);
  wipe(Kc);
  return mic;
}

/** verify_mic of RFC 3961 §4, in constant time. */
export function verifyChecksum(
  key: EncryptionKey,
  usage: number,
  data: Uint8Array,
  mic: Uint8Array,
  engine: Engine = defaultEngine,
): boolean {
  return equal(checksum(key, usage, data, engine), mic);
}

/** pseudo-random of RFC 3961 §3: `prfBytes` of the row, or 20 with the other reading of RFC 3962. */
export function prf(
  key: EncryptionKey,
  data: Uint8Array,
  reading: PrfReading = 'mit',
  engine: Engine = defaultEngine,
): Uint8Array {
  return profileOf(key, engine).prf(data, reading);
}

const ROWS: ReadonlyMap<number, Row> = new Map(Object.values(ENCTYPE).map((row) => [row.etype, row]));

/** What differs between the two RFCs. `constant` is 0x99 for Kc, 0xaa for Ke, 0x55 for Ki, RFC 3961 §5.3. */
interface Profile {
  derive(usage: number, constant: 0x99 | 0xaa | 0x55): Uint8Array;
  mac(Ki: Uint8Array, C: Uint8Array, text: Uint8Array): Uint8Array;
  prf(data: Uint8Array, reading: PrfReading): Uint8Array;
}

function profileOf({ etype, key }: EncryptionKey, engine: Engine): Profile {
  const row = enctype(etype);
  if (key.length !== row.keyBytes)
    throw new Fault(`${enctypeName(etype)} takes a key of ${row.keyBytes} octets, not ${key.length}`);
  return row.family === 'sha1' ? simplified(row, key, engine) : hmacSha2(row, key, engine);
}

/** The simplified profile of RFC 3961 §5.3 with the parameters of RFC 3962 §6: the HMAC is over the plaintext. */
function simplified({ hash, keyBytes, checksumBytes }: Row, base: Secret, engine: Engine): Profile {
  /** DK(base, constant): the blocks of E(constant), E(E(constant)), … §5.1. */
  const DK = (constant: Uint8Array) => {
    const { encrypt } = cbcCts(base.reveal(), engine);
    const K = new Uint8Array(keyBytes);
    let block = nfold(constant, BLOCK);
    for (let at = 0; at < keyBytes; at += BLOCK) {
      block = encrypt(block);
      K.set(block, at);
    }
    return K;
  };
  return {
    derive: (usage, constant) => DK(cat(u32be(usage), Uint8Array.of(constant))),
    mac: (Ki, _C, text) => engine.hmac(hash, Ki, text).slice(0, checksumBytes),
    prf(data, reading) {
      const H = engine.hash(hash, data);
      const Kp = DK(utf8('prf'));
      const output = cbcCts(Kp, engine).encrypt(reading === 'mit' ? H.subarray(0, BLOCK) : H);
      wipe(Kp);
      return output;
    },
  };
}

/** RFC 8009 §5: encrypt, then an HMAC over the cipher state (zero) and the ciphertext. */
function hmacSha2({ hash, keyBytes, macKeyBytes, checksumBytes, prfBytes }: Row, base: Secret, engine: Engine): Profile {
  /** KDF-HMAC-SHA2(key, label, [context,] k), §3; k is at most the hash's length, so that one block is all. */
  const KDF = (label: Uint8Array, context: Uint8Array, length: number) =>
    engine.hmac(hash, base.reveal(), u32be(1), label, Uint8Array.of(0), context, u32be(length * 8)).slice(0, length);
  return {
    derive: (usage, constant) =>
      KDF(cat(u32be(usage), Uint8Array.of(constant)), NONE, constant === 0xaa ? keyBytes : macKeyBytes),
    mac: (Ki, C) => engine.hmac(hash, Ki, new Uint8Array(BLOCK), C).slice(0, checksumBytes),
    prf: (data) => KDF(utf8('prf'), data, prfBytes),
  };
}

function wipe(...keys: readonly Uint8Array[]): void {
  for (const key of keys) key.fill(0);
}
