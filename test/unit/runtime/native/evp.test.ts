/**
 * OpenSSL on the packet path against noble (Camellia and DES, which noble lacks, against node:crypto): every algorithm, many lengths, with and
 * without extended sequence numbers.
 */

import { beforeAll, describe, expect, test } from 'vitest';
import { Secret } from '../../../../src/bytes/secret.ts';
import {
  ENCR,
  type EspSuite,
  encrKeymatBytes,
  INTEG,
  KNOWN_ANSWER_BYTES,
  knownAnswerTest,
  noblePacketCipher,
  nodePacketCipher,
  type PacketCipher,
  suiteText,
} from '../../../../src/crypto/index.ts';
import { evp } from '../../../../src/runtime/native/evp-library.ts';
import { Arena, EvpCipher, libcDoor, packetCipher } from '../../../../src/runtime/native/index.ts';
import { CIPHER_SUITES } from '../../../support/suites.ts';

const { open: libc, why } = libcDoor();

/** What the datapath uses, and EVP by itself, which does AES-GCM as well where the processor's routines are out of reach. */
const DOORS = {
  'OpenSSL over FFI': { open: (arena: Arena) => packetCipher(libc!, arena), suites: CIPHER_SUITES },
  'EVP by itself': {
    open: (arena: Arena) => ({ open: new EvpCipher(evp(libc!).open!, arena), why: undefined }),
    suites: CIPHER_SUITES.filter(({ encr }) => ENCR[encr].primitive === 'aes_gcm'),
  },
};

describe.skipIf(libc === undefined).each(Object.entries(DOORS))(
  `%s${why === undefined ? '' : ` (skipped: ${why})`}`,
  (_, door) => {
    let arena: Arena;
    let openssl: PacketCipher | undefined;
    let noOpenssl: string | undefined;
    let noble: PacketCipher;
    let node: PacketCipher;
    let at: number;
    beforeAll(() => {
      arena = new Arena(libc!, 1 << 20);
      ({ open: openssl, why: noOpenssl } = door.open(arena));
      at = arena.reserve(8192);
      noble = noblePacketCipher(arena.bytes);
      node = nodePacketCipher(arena.bytes);
    });
    let seed = 1;
    const random = (length: number) =>
      Uint8Array.from({ length }, () => {
        seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
        return seed >>> 16;
      });

    test('is there and passes the known-answer test', () => {
      expect(noOpenssl).toBeUndefined();
      expect(knownAnswerTest(openssl!, arena.bytes, arena.reserve(KNOWN_ANSWER_BYTES))).toEqual([]);
    });

    test.each(door.suites.map((suite) => [suiteText(suite.encr, suite.keyBits, suite.integ), suite] as const))(
      '%s as the oracle has it',
      (_, suite) => {
        expect(openssl!.supports(suite)).toBe(true);
        const encrKey = random(encrKeymatBytes(suite.encr, suite.keyBits)!);
        const integKey = suite.integ === 'none' ? undefined : random(INTEG[suite.integ].keyBytes);
        const keys = () => [new Secret(encrKey.slice()), integKey && new Secret(integKey.slice())] as const;
        const row = ENCR[suite.encr];
        const icvBytes = suite.integ === 'none' ? row.icv : INTEG[suite.integ].icvBytes;
        const ours = { seal: openssl!.create(suite, 'seal', ...keys()), open: openssl!.create(suite, 'open', ...keys()) };
        const oracle = noble.supports(suite) ? noble : node;
        const theirs = oracle.create(suite, 'seal', ...keys());
        for (const [textBytes, shift] of [16, 48, 112, 1408].map((n, i) => [n, i] as const)) {
          for (const high of [-1, 0, 0xfedcba98]) {
            const espAt = at + shift;
            const plain = random(8 + row.iv + textBytes);
            const end = espAt + plain.length + icvBytes;
            arena.bytes.set(plain, espAt);
            arena.bytes.fill(0x33, end - icvBytes, end);
            expect(oracle.seal(theirs, espAt, textBytes, high)).toBe(true);
            const wanted = arena.bytes.slice(espAt, end);
            arena.bytes.set(plain, espAt);
            arena.bytes.fill(0x33, end - icvBytes, end);
            arena.bytes.fill(0x55, end, end + 16);
            expect(openssl!.seal(ours.seal, espAt, textBytes, high)).toBe(true);
            expect(arena.bytes.slice(espAt, end)).toEqual(wanted);
            expect(arena.bytes.subarray(end, end + 16).every((octet) => octet === 0x55)).toBe(true);
            expect(openssl!.open(ours.open, espAt, textBytes, high)).toBe(true);
            expect(arena.bytes.slice(espAt, espAt + plain.length)).toEqual(plain);
            arena.bytes.set(wanted, espAt);
            arena.bytes[end - 1]! ^= 1;
            expect(openssl!.open(ours.open, espAt, textBytes, high)).toBe(false);
            arena.bytes.set(wanted, espAt);
            expect(openssl!.open(ours.open, espAt, textBytes, high === -1 ? 0 : -1)).toBe(false);
          }
        }
        for (const handle of [ours.seal, ours.open]) openssl!.destroy(handle);
      },
    );

    test('what does not authenticate leaves no plaintext behind', () => {
      const suite: EspSuite = { encr: 'aes_gcm_16', keyBits: 128, integ: 'none' };
      const key = () => new Secret(new Uint8Array(20).fill(7));
      const sealing = openssl!.create(suite, 'seal', key(), undefined);
      const opening = openssl!.create(suite, 'open', key(), undefined);
      arena.bytes.fill(0xaa, at, at + 16 + 64);
      openssl!.seal(sealing, at, 64, -1);
      arena.bytes[at + 16 + 64]! ^= 0x80;
      expect(openssl!.open(opening, at, 64, -1)).toBe(false);
      expect(arena.bytes.subarray(at + 16, at + 80).every((octet) => octet === 0)).toBe(true);
    });

    test('refuses a handle of the other direction, a destroyed handle, a packet outside the arena and half a block', () => {
      const suite: EspSuite = { encr: 'aes_cbc', keyBits: 128, integ: 'hmac_sha2_256' };
      const handle = openssl!.create(suite, 'seal', new Secret(random(16)), new Secret(random(32)));
      expect(openssl!.open(handle, at, 64, -1)).toBe(false);
      expect(openssl!.seal(handle, at, 60, -1)).toBe(false);
      expect(openssl!.seal(handle, arena.bytes.length - 64, 64, -1)).toBe(false);
      expect(openssl!.seal(handle, -8, 64, -1)).toBe(false);
      expect(openssl!.seal(handle, at, 64, -1)).toBe(true);
      openssl!.destroy(handle);
      expect(openssl!.seal(handle, at, 64, -1)).toBe(false);
      expect(openssl!.create(suite, 'seal', new Secret(random(16)), new Secret(random(32)))).toBe(handle);
    });

    test('says what is wrong with a key or a suite', () => {
      const suite: EspSuite = { encr: 'aes_gcm_16', keyBits: 256, integ: 'none' };
      expect(() => openssl!.create(suite, 'seal', new Secret(random(32)), undefined)).toThrow(
        'AES_GCM_16_256 takes 36 octets of encryption key, not 32',
      );
      expect(openssl!.supports({ ...suite, integ: 'hmac_sha1' })).toBe(false);
      expect(openssl!.supports({ encr: 'null_enc', keyBits: 0, integ: 'none' })).toBe(false);
      expect(openssl!.supports({ encr: 'aes_cbc', keyBits: 100, integ: 'hmac_sha1' })).toBe(false);
    });
  },
);
