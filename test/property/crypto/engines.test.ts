import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hex } from '../../../src/bytes/bytes.ts';
import { Secret } from '../../../src/bytes/secret.ts';
import {
  cmac,
  ENCR,
  ENCR_NAMES,
  encrKeyBytes,
  encrKeymatBytes,
  generate,
  gmac,
  type HashName,
  INTEG,
  INTEG_NAMES,
  ikeCipher,
  KE,
  type KeName,
  macOf,
  nativeEngine,
  nobleEngine,
  noblePacketCipher,
  nodePacketCipher,
  PRF_NAMES,
  prfOf,
  prfPlus,
  xcbc,
} from '../../../src/crypto/index.ts';
import { nobleHas } from '../../support/suites.ts';

const HASHES: readonly HashName[] = ['md5', 'sha1', 'sha2_256', 'sha2_384', 'sha2_512'];

function octets(min: number, max = min): fc.Arbitrary<Uint8Array> {
  return fc.uint8Array({ minLength: min, maxLength: max });
}

const parts = fc.array(octets(0, 200), { maxLength: 4 });
const seed = { seed: 20, numRuns: 150 };

describe('noble and native are twins', () => {
  test.each(HASHES)('%s and its HMAC', (hash) => {
    fc.assert(
      fc.property(parts, octets(0, 200), (data, key) => {
        expect(hex(nativeEngine.hash(hash, ...data))).toBe(hex(nobleEngine.hash(hash, ...data)));
        expect(hex(nativeEngine.hmac(hash, key, ...data))).toBe(hex(nobleEngine.hmac(hash, key, ...data)));
      }),
      seed,
    );
  });

  test('AES-CBC-MAC, XCBC and CMAC, however the data is cut', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(16, 24, 32).chain((length) => octets(length)),
        octets(16),
        parts,
        (key, block, data) => {
          expect(hex(nativeEngine.cbcMac(key)(block))).toBe(hex(nobleEngine.cbcMac(key)(block)));
          const joined = Uint8Array.from(data.flatMap((part) => [...part]));
          expect(hex(cmac(key, nativeEngine)(...data))).toBe(hex(cmac(key, nobleEngine)(joined)));
          expect(hex(xcbc(key.subarray(0, 16), nativeEngine)(...data))).toBe(hex(xcbc(key.subarray(0, 16), nobleEngine)(joined)));
        },
      ),
      seed,
    );
  });

  test.each(PRF_NAMES)('prf %s with keys of any length, and prf+', (name) => {
    fc.assert(
      fc.property(octets(0, 150), octets(0, 100), fc.integer({ min: 0, max: 300 }), (key, data, length) => {
        const [a, b] = [prfOf(name, nativeEngine), prfOf(name, nobleEngine)];
        expect(hex(a.of(key, data))).toBe(hex(b.of(key, data)));
        expect(hex(prfPlus(a, key, data)(length))).toBe(hex(prfPlus(b, key, data)(length)));
      }),
      { ...seed, numRuns: 60 },
    );
  });

  test.each(INTEG_NAMES.filter((name) => INTEG[name].iv === 0))('integrity %s', (name) => {
    fc.assert(
      fc.property(octets(INTEG[name].keyBytes), parts, (key, data) => {
        expect(hex(macOf(name, key, nativeEngine)(...data))).toBe(hex(macOf(name, key, nobleEngine)(...data)));
      }),
      seed,
    );
  });

  test('GMAC of 128, 192 and 256 bits, however the data is cut', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(20, 28, 36).chain((length) => octets(length)),
        octets(8),
        parts,
        (keymat, iv, data) => {
          const joined = Uint8Array.from(data.flatMap((part) => [...part]));
          expect(hex(gmac(keymat, nativeEngine)(iv, ...data))).toBe(hex(gmac(keymat, nobleEngine)(iv, joined)));
        },
      ),
      seed,
    );
  });

  const suites = ENCR_NAMES.filter((encr) => ENCR[encr].ike && nobleHas(encr)).flatMap((encr) =>
    ENCR[encr].bits.map((bits) => [encr, bits] as const),
  );
  test.each(suites)('the SK payload under %s with %d bits: one seals, the other opens', (encr, bits) => {
    const integ = ENCR[encr].icv > 0 ? 'none' : 'hmac_sha2_256';
    const [a, b] = [ikeCipher(encr, bits, integ, nativeEngine), ikeCipher(encr, bits, integ, nobleEngine)];
    const input = fc.tuple(
      octets(a.encrKeyBytes),
      octets(a.integKeyBytes),
      octets(a.ivBytes),
      octets(0, 64),
      octets(1, 20 * a.blockBytes),
    );
    fc.assert(
      fc.property(input, ([encrKey, integKey, iv, aad, some]) => {
        const text = some.subarray(0, some.length - (some.length % a.blockBytes));
        const sealed = a.seal(encrKey, integKey, iv, aad, text);
        expect(hex(b.seal(encrKey, integKey, iv, aad, text))).toBe(hex(sealed));
        expect(hex(b.open(encrKey, integKey, aad, sealed)!)).toBe(hex(text));
        expect(hex(a.open(encrKey, integKey, aad, sealed)!)).toBe(hex(text));
      }),
      { ...seed, numRuns: 60 },
    );
  });

  test('opening arbitrary octets gives undefined and never an exception', () => {
    for (const [encr, bits] of suites) {
      const integ = ENCR[encr].icv > 0 ? 'none' : 'hmac_sha1';
      for (const engine of [nativeEngine, nobleEngine]) {
        const cipher = ikeCipher(encr, bits, integ, engine);
        const [encrKey, integKey] = [new Uint8Array(cipher.encrKeyBytes), new Uint8Array(cipher.integKeyBytes)];
        fc.assert(
          fc.property(octets(0, 100), octets(0, 40), (sealed, aad) => {
            expect(cipher.open(encrKey, integKey, aad, sealed)).toBeUndefined();
          }),
          { ...seed, numRuns: 40 },
        );
      }
    }
  });

  test('ESP packets: what one seals the other opens, at any offset, of any length, with and without ESN', () => {
    const arena = new Uint8Array(2048);
    const ciphers = [noblePacketCipher(arena), nodePacketCipher(arena)] as const;
    const pairs = ENCR_NAMES.filter(nobleHas).flatMap((encr) =>
      (encr === 'null_enc' ? [0] : ENCR[encr].bits).map((keyBits) => ({ encr, keyBits })),
    );
    const input = fc.record({
      pair: fc.constantFrom(...pairs),
      integ: fc.constantFrom(...INTEG_NAMES.filter((name) => INTEG[name].esp)),
      key: octets(36),
      integKey: octets(64),
      packet: octets(24, 1500),
      at: fc.integer({ min: 0, max: 300 }),
      sequenceHigh: fc.oneof(fc.constant(-1), fc.integer({ min: 0, max: 0xffffffff })),
      first: fc.constantFrom(0, 1),
    });
    fc.assert(
      fc.property(input, ({ pair: { encr, keyBits }, integ, key, integKey, packet, at, sequenceHigh, first }) => {
        const suite = { encr, keyBits, integ: ENCR[encr].icv > 0 ? ('none' as const) : integ };
        const secrets = (): [Secret, Secret | undefined] => [
          new Secret(key.slice(0, encrKeymatBytes(encr, keyBits))),
          suite.integ === 'none' ? undefined : new Secret(integKey.slice(0, INTEG[suite.integ].keyBytes)),
        ];
        const granule = ENCR[encr].block;
        const textBytes = Math.floor((packet.length - 8 - ENCR[encr].iv) / granule) * granule;
        const end = at + 8 + ENCR[encr].iv + textBytes;
        arena.fill(0);
        arena.set(packet, at);
        const before = hex(arena.subarray(at, end));
        const [a, b] = [ciphers[first]!, ciphers[1 - first]!];
        const [sealing, opening] = [a.create(suite, 'seal', ...secrets()), b.create(suite, 'open', ...secrets())];
        expect(a.seal(sealing, at, textBytes, sequenceHigh)).toBe(true);
        expect(b.open(opening, at, textBytes, sequenceHigh)).toBe(true);
        expect(hex(arena.subarray(at, end))).toBe(before);
        a.destroy(sealing);
        b.destroy(opening);
      }),
      { seed: 4303, numRuns: 300 },
    );
  });

  test.each<[KeName, number]>([
    ['x25519', 12],
    ['x448', 4],
    ['ecp256', 12],
    ['ecp384', 4],
    ['ecp521', 3],
    ['modp1536', 8],
    ['modp2048', 6],
    ['modp4096', 2],
    ['modp6144', 1],
    ['modp8192', 1],
  ])('%s: the same randomness gives the same share and the same secret (%d runs: noble is slow here)', (group, numRuns) => {
    fc.assert(
      fc.property(octets(KE[group].privateBytes), octets(KE[group].privateBytes), (i, r) => {
        const native = generate(group, () => i.slice(), nativeEngine);
        const noble = generate(group, () => r.slice(), nobleEngine);
        expect(hex(generate(group, () => r.slice(), nativeEngine).publicValue)).toBe(hex(noble.publicValue));
        expect(hex(native.agree(noble.publicValue).reveal())).toBe(hex(noble.agree(native.publicValue).reveal()));
      }),
      { seed: 7, numRuns },
    );
  });

  test('key lengths of the table are those the engines take', () => {
    for (const [encr, bits] of suites)
      expect(ikeCipher(encr, bits, ENCR[encr].icv > 0 ? 'none' : 'aes_cmac').encrKeyBytes).toBe(
        encrKeyBytes(encr, bits)! + ENCR[encr].salt,
      );
  });
});
