import { describe, expect, test } from 'vitest';
import {
  ENCR,
  ENCR_NAMES,
  ESN_NAMES,
  encrByEspV1,
  encrByIkev2,
  encrByIsakmp,
  encrBySadb,
  encrKeyBytes,
  encrKeymatBytes,
  encrText,
  esnByIkev2,
  INTEG,
  INTEG_NAMES,
  integByAhV1,
  integByAuthV1,
  integByIkev2,
  integBySadb,
  integText,
  isEncrName,
  isIntegName,
  isKeName,
  isPrfName,
  KE,
  KE_NAMES,
  keByGroupV1,
  keByIkev2,
  keText,
  PRF,
  PRF_NAMES,
  prfByHashV1,
  prfByIkev2,
  prfText,
  suiteText,
} from '../../../src/crypto/index.ts';

describe('the table of transforms', () => {
  test('has the IANA numbers of IKEv2 (RFC 7296 §3.3.2 and its registry)', () => {
    const numbers = (table: object) => Object.fromEntries(Object.entries(table).map(([name, row]) => [name, row.ikev2]));
    expect(numbers(ENCR)).toEqual({
      ...{ aes_gcm_8: 18, aes_gcm_12: 19, aes_gcm_16: 20, aes_ccm_8: 14, aes_ccm_12: 15, aes_ccm_16: 16 },
      ...{
        aes_ccm_8_iiv: 29,
        aes_gcm_16_iiv: 30,
        chacha20_poly1305_iiv: 31,
        null_auth_aes_gmac: 21,
        camellia_cbc: 23,
        des_cbc: 2,
      },
      chacha20_poly1305: 28,
      aes_cbc: 12,
      aes_ctr: 13,
      null_enc: 11,
      '3des_cbc': 3,
    });
    expect(numbers(INTEG)).toEqual({
      hmac_sha2_256: 12,
      hmac_sha2_384: 13,
      hmac_sha2_512: 14,
      hmac_sha1: 2,
      aes_xcbc: 5,
      aes_cmac: 8,
      ...{ aes_128_gmac: 9, aes_192_gmac: 10, aes_256_gmac: 11, hmac_md5: 1 },
    });
    expect(numbers(PRF)).toEqual({
      hmac_sha2_256: 5,
      hmac_sha2_384: 6,
      hmac_sha2_512: 7,
      hmac_sha1: 2,
      aes_xcbc: 4,
      aes_cmac: 8,
    });
    expect(numbers(KE)).toEqual({
      ...{ modp1024: 2, modp1536: 5, modp2048: 14, modp3072: 15, modp4096: 16, modp6144: 17, modp8192: 18 },
      ...{ ecp256: 19, ecp384: 20, ecp521: 21, x25519: 31, x448: 32 },
    });
  });

  test('every number finds its row again', () => {
    for (const name of ENCR_NAMES) {
      const row = ENCR[name];
      expect([encrByIkev2(row.ikev2), encrBySadb(row.sadb)]).toEqual([name, name]);
      if ('espV1' in row) expect(encrByEspV1(row.espV1)).toBe(name);
      if ('isakmp' in row) expect(encrByIsakmp(row.isakmp)).toBe(name);
    }
    for (const name of INTEG_NAMES) {
      const row = INTEG[name];
      expect([integByIkev2(row.ikev2), integBySadb(row.sadb)]).toEqual([name, name]);
      if ('authV1' in row) expect([integByAuthV1(row.authV1), integByAhV1(row.ahV1)]).toEqual([name, name]);
    }
    for (const name of PRF_NAMES) {
      const row = PRF[name];
      expect(prfByIkev2(row.ikev2)).toBe(name);
      if ('hashV1' in row) expect(prfByHashV1(row.hashV1)).toBe(name);
    }
    for (const name of KE_NAMES) {
      const row = KE[name];
      expect(keByIkev2(row.ikev2)).toBe(name);
      if ('groupV1' in row) expect(keByGroupV1(row.groupV1)).toBe(name);
    }
    expect(ESN_NAMES.map((_, id) => esnByIkev2(id))).toEqual(['no_esn', 'esn']);
  });

  test('a number without a row, or of another column, finds nothing', () => {
    expect([encrByIkev2(0), encrByIkev2(24), encrByIsakmp(12), encrByEspV1(28), integByIkev2(4), integBySadb(251)]).toEqual(
      new Array(6).fill(undefined),
    );
    expect([prfByIkev2(1), keByIkev2(22), keByIkev2(1), keByGroupV1(31), esnByIkev2(2)]).toEqual(new Array(5).fill(undefined));
  });

  test('a word is a name of its own table only, and no word of Object', () => {
    expect([isEncrName('aes_cbc'), isIntegName('aes_xcbc'), isPrfName('aes_cmac'), isKeName('x25519')]).toEqual([
      true,
      true,
      true,
      true,
    ]);
    expect([isEncrName('hmac_sha1'), isIntegName('none'), isPrfName('toString'), isKeName('constructor')]).toEqual(
      new Array(4).fill(false),
    );
  });

  test('key lengths: a listed one where there are several, 0 or the only one where there is one', () => {
    expect([encrKeyBytes('aes_cbc', 128), encrKeyBytes('aes_cbc', 0), encrKeyBytes('aes_cbc', 512)]).toEqual([
      16,
      undefined,
      undefined,
    ]);
    expect([encrKeyBytes('chacha20_poly1305', 0), encrKeyBytes('chacha20_poly1305', 256)]).toEqual([32, 32]);
    expect([encrKeyBytes('null_enc', 0), encrKeyBytes('null_enc', 128)]).toEqual([0, undefined]);
    expect([encrKeymatBytes('aes_gcm_16', 256), encrKeymatBytes('aes_ctr', 192), encrKeymatBytes('3des_cbc', 0)]).toEqual([
      36, 28, 24,
    ]);
    for (const name of ENCR_NAMES) expect(encrKeyBytes(name, ENCR[name].defaultBits)).toBe(ENCR[name].defaultBits / 8);
  });

  test('weak rows are those that a policy must name', () => {
    const weak = [ENCR, INTEG, PRF, KE].flatMap((table) =>
      Object.entries(table).flatMap(([name, row]) => (row.weak ? [name] : [])),
    );
    expect(weak).toEqual(['3des_cbc', 'des_cbc', 'hmac_md5', 'modp1536', 'modp1024']);
  });

  test('names as people write them', () => {
    expect([encrText('aes_gcm_16', 256), encrText('chacha20_poly1305', 0), encrText('null_enc', 0)]).toEqual([
      'AES_GCM_16_256',
      'CHACHA20_POLY1305',
      'NULL',
    ]);
    expect([integText('hmac_sha2_256'), integText('hmac_sha1'), integText('none')]).toEqual([
      'HMAC_SHA2_256_128',
      'HMAC_SHA1_96',
      'NONE',
    ]);
    expect([encrText('null_auth_aes_gmac', 128), integText('aes_256_gmac')]).toEqual(['NULL_AUTH_AES_GMAC_128', 'AES_256_GMAC']);
    expect([prfText('aes_xcbc'), keText('modp2048')]).toEqual(['PRF_AES_XCBC', 'MODP2048']);
    expect([suiteText('aes_gcm_16', 128, 'none'), suiteText('aes_cbc', 192, 'hmac_sha2_384')]).toEqual([
      'AES_GCM_16_128',
      'AES_CBC_192/HMAC_SHA2_384_192',
    ]);
  });
});
