/** The suites that tests of ciphers run over: every cipher and key length, and every integrity algorithm beside AES-CBC and NULL. */

import type { EspSuite } from '../../src/crypto/packet-cipher.ts';
import { ENCR, ENCR_NAMES, type EncrName, type EncrRow, INTEG_NAMES, isSuite } from '../../src/crypto/transforms.ts';

/** The key lengths of a cipher, as a suite has them. */
export function keyLengths(encr: EncrName): readonly number[] {
  const row: EncrRow = ENCR[encr];
  return row.keyLength ? row.bits : [0];
}

/** Encryption and integrity are computed apart, so not every pair is needed. GMAC is among them, with the `null_enc` of AH. */
export const CIPHER_SUITES: readonly EspSuite[] = ENCR_NAMES.flatMap((encr) => {
  const integs = encr === 'aes_cbc' || encr === 'null_enc' ? INTEG_NAMES : (['none', 'hmac_sha2_256'] as const);
  return keyLengths(encr).flatMap((keyBits) => {
    const few = keyBits === 256 && encr === 'aes_cbc' ? (['hmac_sha2_256'] as const) : integs;
    return few.filter((integ) => isSuite(encr, integ)).map((integ) => ({ encr, keyBits, integ }));
  });
});

/** Whether the portable engine has a cipher: it has neither Camellia nor DES. */
export function nobleHas(encr: EncrName): boolean {
  return encr !== 'camellia_cbc' && encr !== '3des_cbc' && encr !== 'des_cbc';
}
