import { describe, expect, test } from 'vitest';
import {
  type EncrName,
  type IntegName,
  ikeCipher,
  macOf,
  nobleEngine,
  nonceKey,
  PRF_NAMES,
  prfOf,
  prfPlus,
} from '../../../src/crypto/index.ts';
import { Fault } from '../../../src/errors.ts';
import { ENGINES, octets } from '../../vectors/engines.ts';

const SUITES: readonly (readonly [EncrName, number, IntegName | 'none'])[] = [
  ['aes_gcm_16', 128, 'none'],
  ['aes_gcm_16', 256, 'none'],
  ['aes_gcm_12', 192, 'none'],
  ['aes_gcm_8', 128, 'none'],
  ['aes_ccm_16', 256, 'none'],
  ['aes_ccm_12', 192, 'none'],
  ['aes_ccm_8', 128, 'none'],
  ['chacha20_poly1305', 0, 'none'],
  ['aes_cbc', 128, 'hmac_sha1'],
  ['aes_cbc', 256, 'hmac_sha2_256'],
  ['aes_cbc', 192, 'aes_xcbc'],
  ['aes_ctr', 256, 'hmac_sha2_512'],
  ['aes_ctr', 128, 'aes_cmac'],
];

function pattern(length: number, start: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 3 + start) & 0xff);
}

describe.each(ENGINES)("the SK payload's cipher on %s", (_name, engine) => {
  test.each(SUITES)('%s %d %s: opens what it sealed, and nothing with a flipped bit anywhere', (encr, bits, integ) => {
    const cipher = ikeCipher(encr, bits, integ, engine);
    const encrKey = pattern(cipher.encrKeyBytes, 1);
    const integKey = pattern(cipher.integKeyBytes, 2);
    const iv = pattern(cipher.ivBytes, 3);
    const aad = pattern(32, 4);
    const text = pattern(cipher.blockBytes === 1 ? 37 : 3 * cipher.blockBytes, 5);
    const sealed = cipher.seal(encrKey, integKey, iv, aad, text);
    expect(sealed.length).toBe(cipher.ivBytes + text.length + cipher.icvBytes);
    expect(sealed.subarray(0, cipher.ivBytes)).toEqual(iv);
    expect(sealed.subarray(cipher.ivBytes, cipher.ivBytes + text.length)).not.toEqual(text);
    expect(cipher.open(encrKey, integKey, aad, sealed)).toEqual(text);
    for (let at = 0; at < sealed.length; at++) {
      const bad = sealed.slice();
      bad[at]! ^= 0x80 >>> (at & 7);
      expect(cipher.open(encrKey, integKey, aad, bad)).toBeUndefined();
    }
    for (let at = 0; at < aad.length; at++) {
      const bad = aad.slice();
      bad[at]! ^= 1;
      expect(cipher.open(encrKey, integKey, bad, sealed)).toBeUndefined();
    }
    for (let length = 0; length < sealed.length; length++) {
      expect(cipher.open(encrKey, integKey, aad, sealed.subarray(0, length))).toBeUndefined();
    }
    expect(cipher.open(pattern(cipher.encrKeyBytes, 9), pattern(cipher.integKeyBytes, 9), aad, sealed)).toBeUndefined();
  });

  test('a key, an IV or a text of a wrong length is a fault of ours', () => {
    const gcm = ikeCipher('aes_gcm_16', 128, 'none', engine);
    const none = new Uint8Array(0);
    expect(() => gcm.seal(pattern(16, 0), none, pattern(8, 0), none, none)).toThrow(
      'encryption key: expected 20 octets, found 16',
    );
    expect(() => gcm.seal(pattern(20, 0), pattern(4, 0), pattern(8, 0), none, none)).toThrow(
      'integrity key: expected 0 octets, found 4',
    );
    expect(() => gcm.seal(pattern(20, 0), none, pattern(12, 0), none, none)).toThrow('IV: expected 8 octets, found 12');
    const cbc = ikeCipher('aes_cbc', 128, 'hmac_sha1', engine);
    expect(() => cbc.seal(pattern(16, 0), pattern(20, 0), pattern(16, 0), none, pattern(15, 0))).toThrow('not a multiple');
    expect(() => cbc.seal(pattern(16, 0), pattern(19, 0), pattern(16, 0), none, pattern(16, 0))).toThrow(
      'takes a key of 20 octets',
    );
  });
});

describe('pairs that no checked proposal holds', () => {
  test.each([
    ['aes_gcm_16', 128, 'hmac_sha1', 'integrity is separate'],
    ['aes_cbc', 128, 'none', 'integrity is separate'],
    ['aes_cbc', 0, 'hmac_sha1', 'no key of 0 bits'],
    ['aes_gcm_16', 512, 'none', 'no key of 512 bits'],
    ['null_enc', 0, 'hmac_sha1', 'not for IKE SAs (RFC 2410'],
    ['null_auth_aes_gmac', 128, 'none', 'not for IKE SAs (RFC 4543'],
    ['aes_gcm_16_iiv', 256, 'none', 'not for IKE SAs (RFC 8750'],
    ['des_cbc', 0, 'hmac_sha1', 'not for IKE SAs (RFC 2405'],
    ['aes_cbc', 128, 'hmac_md5', 'not for IKE SAs (RFC 2403'],
  ] as const)('%s %d %s: %s', (encr, bits, integ, reason) => {
    expect(() => ikeCipher(encr, bits, integ)).toThrow(Fault);
    expect(() => ikeCipher(encr, bits, integ)).toThrow(reason);
  });

  test('Camellia and 3DES on the engine that lacks them', () => {
    expect(() => ikeCipher('3des_cbc', 0, 'hmac_sha1', nobleEngine)).toThrow('has no 3des_cbc');
    expect(() => ikeCipher('camellia_cbc', 256, 'hmac_sha1', nobleEngine)).toThrow('has no camellia_cbc');
  });
});

describe('prf and prf+', () => {
  test.each(PRF_NAMES)('%s: prf+ read in pieces is prf+ read at once, up to 255 blocks and not an octet further', (name) => {
    const prf = prfOf(name);
    const whole = prfPlus(prf, octets('01'), octets('02'))(255 * prf.size);
    const pieces = prfPlus(prf, octets('01'), octets('02'));
    let at = 0;
    for (const length of [1, 0, prf.size - 1, prf.size, 3 * prf.size + 5]) {
      expect(pieces(length)).toEqual(whole.subarray(at, at + length));
      at += length;
    }
    expect(pieces(whole.length - at)).toEqual(whole.subarray(at));
    expect(() => pieces(1)).toThrow(/at most 255 blocks/);
    expect(whole.subarray(0, prf.size)).toEqual(prf.of(octets('01'), octets('02'), octets('01')));
  });

  test('the key of both nonces is all of them, or half the fixed key from each (RFC 7296 §2.14)', () => {
    const [Ni, Nr] = [pattern(32, 1), pattern(16, 200)];
    expect(nonceKey(prfOf('hmac_sha2_256'), Ni, Nr)).toEqual(Uint8Array.from([...Ni, ...Nr]));
    expect(nonceKey(prfOf('aes_xcbc'), Ni, Nr)).toEqual(Uint8Array.from([...Ni.subarray(0, 8), ...Nr.subarray(0, 8)]));
    expect(nonceKey(prfOf('aes_cmac'), Ni, Nr).length).toBe(16);
  });

  test('an integrity key has the length of its row', () => {
    expect(() => macOf('aes_xcbc', pattern(15, 0))).toThrow('aes_xcbc takes a key of 16 octets, not 15');
    expect(() => macOf('hmac_sha2_256', pattern(20, 0))).toThrow(Fault);
  });
});
