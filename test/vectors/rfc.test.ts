import { describe, expect, test } from 'vitest';
import { cat, hex } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import {
  cmac,
  digest,
  generate,
  ikeCipher,
  KE,
  type KeName,
  keyShare,
  macOf,
  noblePacketCipher,
  nodePacketCipher,
  nonceKey,
  prfOf,
  prfPlus,
  sha1,
  xcbc,
} from '../../src/crypto/index.ts';
import vectors from './crypto-rfc.json' with { type: 'json' };
import { ENGINES, octets } from './engines.ts';

describe.each(ENGINES)('the numbers of the RFCs on the %s engine', (name, engine) => {
  test('digests of "abc" (FIPS 180-4)', () => {
    const abc = octets('616263');
    expect(hex(digest('sha1', abc, engine))).toBe('a9993e364706816aba3e25717850c26c9cd0d89d');
    expect(hex(digest('sha2_256', abc, engine))).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
    expect(digest('sha2_384', [octets('61'), octets('6263')], engine)).toEqual(digest('sha2_384', abc, engine));
    expect(hex(digest('sha2_512', abc, engine)).slice(0, 32)).toBe('ddaf35a193617abacc417349ae204131');
    expect(sha1(octets('6162'), octets('63'))).toEqual(digest('sha1', abc, engine));
  });

  test.each(vectors['RFC 2202 §3, HMAC-SHA-1'])('HMAC-SHA-1, RFC 2202: key $key', ({ key, data, mac }) => {
    expect(hex(prfOf('hmac_sha1', engine).of(octets(key), octets(data)))).toBe(mac);
  });

  test.each(vectors['RFC 4231, HMAC-SHA-2'])('HMAC-SHA-2, RFC 4231: key $key', (vector) => {
    for (const prf of ['hmac_sha2_256', 'hmac_sha2_384', 'hmac_sha2_512'] as const) {
      expect(hex(prfOf(prf, engine).of(octets(vector.key), octets(vector.data)))).toBe(vector[prf]);
    }
  });

  test.each(vectors['RFC 3566 §4.6, AES-XCBC-MAC'])('AES-XCBC-MAC-96, RFC 3566: data $data', ({ key, data, mac, mac96 }) => {
    expect(hex(xcbc(octets(key), engine)(octets(data)))).toBe(mac);
    const whole = octets(data);
    const parts = [whole.subarray(0, 5), whole.subarray(5)];
    expect(hex(macOf('aes_xcbc', octets(key), engine)(...parts))).toBe(mac96);
  });

  test.each(vectors['RFC 4493 §4, AES-CMAC'])('AES-CMAC, RFC 4493: data $data', ({ key, data, mac }) => {
    expect(hex(cmac(octets(key), engine)(octets(data)))).toBe(mac);
    expect(hex(macOf('aes_cmac', octets(key), engine)(octets(data)))).toBe(mac.slice(0, 24));
  });

  test.each(vectors['RFC 4434 §3, AES-XCBC-PRF-128'])('AES-XCBC-PRF-128, RFC 4434: key $key', ({ key, data, out }) => {
    expect(hex(prfOf('aes_xcbc', engine).of(octets(key), octets(data)))).toBe(out);
  });

  test.each(vectors['RFC 4615 §4, AES-CMAC-PRF-128'])('AES-CMAC-PRF-128, RFC 4615: key $key', ({ key, data, out }) => {
    expect(hex(prfOf('aes_cmac', engine).of(octets(key), octets(data)))).toBe(out);
  });

  test.each(vectors['RFC 3602 §4, AES-CBC'])('AES-CBC, RFC 3602: key $key', ({ key, iv, text, ciphertext }) => {
    const cipher = engine.cipher('aes_cbc', octets(key))!;
    expect(hex(cipher.encrypt(octets(iv), octets(text)))).toBe(ciphertext);
    expect(hex(cipher.decrypt(octets(iv), octets(ciphertext)))).toBe(text);
  });

  test.each(vectors['RFC 3686 §6, AES-CTR'])('AES-CTR, RFC 3686: key $key', ({ key, nonce, iv, text, ciphertext }) => {
    const cipher = engine.cipher('aes_ctr', octets(key))!;
    const block = cat(octets(nonce), octets(iv), octets('00000001'));
    expect(hex(cipher.encrypt(block, octets(text)))).toBe(ciphertext);
    expect(hex(cipher.decrypt(block, octets(ciphertext)))).toBe(text);
    const ike = ikeCipher('aes_ctr', key.length * 4, 'hmac_sha2_256', engine);
    const integKey = new Uint8Array(32).fill(9);
    const sealed = ike.seal(cat(octets(key), octets(nonce)), integKey, octets(iv), octets('aa'), octets(text));
    expect(hex(sealed).startsWith(iv + ciphertext)).toBe(true);
    expect(hex(ike.open(cat(octets(key), octets(nonce)), integKey, octets('aa'), sealed)!)).toBe(text);
  });

  test.each(vectors['GCM specification (McGrew, Viega), test cases 4, 10 and 16'])('AES-GCM: key $key', (vector) => {
    const aead = engine.aead('aes_gcm', octets(vector.key), 16);
    const [nonce, aad] = [octets(vector.nonce), octets(vector.aad)];
    expect(hex(aead.seal(nonce, aad, octets(vector.text)))).toBe(vector.sealed);
    expect(hex(aead.open(nonce, aad, octets(vector.sealed))!)).toBe(vector.text);
  });

  test('an ESP packet and an IKE message under ChaCha20-Poly1305, RFC 7634 appendices', () => {
    const vector = vectors['RFC 7634 appendices A and B, ChaCha20-Poly1305'];
    const packet = octets(vector.espPacket);
    const arena = packet.slice();
    const text = octets(vector.espText);
    arena.fill(0, 16);
    arena.set(text, 16);
    const cipher = (name === 'noble' ? noblePacketCipher : nodePacketCipher)(arena);
    const suite = { encr: 'chacha20_poly1305', keyBits: 0, integ: 'none' } as const;
    const handle = cipher.create(suite, 'seal', new Secret(octets(vector.keymat)), undefined);
    expect(cipher.seal(handle, 0, text.length, -1)).toBe(true);
    expect(hex(arena)).toBe(vector.espPacket);
    expect(cipher.open(handle, 0, text.length, -1)).toBe(true);
    expect(hex(arena.subarray(16, 16 + text.length))).toBe(vector.espText);

    const message = octets(vector.ikeMessage);
    const ike = ikeCipher('chacha20_poly1305', 256, 'none', engine);
    const [aad, sealed] = [message.subarray(0, 32), message.subarray(32)];
    const none = new Uint8Array(0);
    expect(hex(ike.open(octets(vector.keymat), none, aad, sealed)!)).toBe(vector.ikeText);
    expect(ike.seal(octets(vector.keymat), none, sealed.subarray(0, 8), aad, octets(vector.ikeText))).toEqual(sealed);
  });

  test.each([...vectors['RFC 5903 §8, ECP groups'], ...vectors['RFC 7748 §6, X25519 and X448']])(
    '$group, RFC 5903 and RFC 7748',
    (vector) => {
      const group = vector.group as KeName;
      const i = keyShare(group, octets(vector.i), engine);
      const r = keyShare(group, octets(vector.r), engine);
      expect(hex(i.publicValue)).toBe(vector.g_i);
      expect(hex(r.publicValue)).toBe(vector.g_r);
      expect(hex(i.agree(r.publicValue).reveal())).toBe(vector.g_ir);
      expect(hex(r.agree(i.publicValue).reveal())).toBe(vector.g_ir);
      expect(i.publicValue.length).toBe(KE[group].publicBytes);
    },
  );

  test('X25519 from random octets, RFC 8031 appendix A', () => {
    const random_i = '751fb4308655b476b6789b7325f9ea8cddd16a58533ff6d9e60009464a5f9d94';
    const random_r = '0a54645253290d60ddadd0e030bacd9e5501efdc220755a1e978f1b839a05688';
    const i = generate('x25519', () => octets(random_i), engine);
    const r = generate('x25519', () => octets(random_r), engine);
    expect(hex(i.publicValue)).toBe('48d5ddd4061257ba166fa3f9bbdb74f1a4e81c089384fa77f790709f0dfbc766');
    expect(hex(r.publicValue)).toBe('0be7c1f5aad87d7e448662673298a443478b859745179eaf564c79c0ef6eee25');
    expect(hex(i.agree(r.publicValue).reveal())).toBe('c74950607a12327f3204d94b6825bfb068b7f8319a9e3708ed3d43ce8130c950');
  });

  test('SKEYSEED, the IKE SA keys and those of children, RFC 7296 §2.14, §2.17 and §2.18 (NIST ACVP)', () => {
    const vector = vectors['NIST ACVP, IKEv2 key derivation with HMAC-SHA-1'];
    const prf = prfOf('hmac_sha1', engine);
    const [Ni, Nr] = [octets(vector.nInit), octets(vector.nResp)];
    const bytes = vector.derivedKeyingMaterialLength / 8;
    const SKEYSEED = prf.of(nonceKey(prf, Ni, Nr), octets(vector.gir));
    expect(hex(SKEYSEED)).toBe(vector.sKeySeed);
    const keys = prfPlus(prf, SKEYSEED, cat(Ni, Nr, octets(vector.spiInit), octets(vector.spiResp)))(bytes);
    expect(hex(keys)).toBe(vector.derivedKeyingMaterial);
    const SK_d = keys.subarray(0, prf.size);
    expect(hex(prfPlus(prf, SK_d, cat(Ni, Nr))(bytes))).toBe(vector.derivedKeyingMaterialChild);
    expect(hex(prfPlus(prf, SK_d, cat(octets(vector.girNew), Ni, Nr))(bytes))).toBe(vector.derivedKeyingMaterialDh);
    expect(hex(prf.of(SK_d, octets(vector.girNew), Ni, Nr))).toBe(vector.sKeySeedReKey);
  });
});
