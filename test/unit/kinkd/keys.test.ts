/** KEYMAT of RFC 4430 §7 against a computation that shares nothing with ours: AES-ECB, HMAC and SHA of Node alone. */

import { createCipheriv, createHash, createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { keyedPrf, kinkKeys } from '../../../kinkd/keys.ts';
import type { EncryptionKey, PrfReading } from '../../../kinkd/krb5/enctypes.ts';
import { cat, hex, NONE, u32be } from '../../../src/bytes/bytes.ts';
import { Secret } from '../../../src/bytes/secret.ts';
import type { EspSuite } from '../../../src/crypto/packet-cipher.ts';

const KEYS = { 17: 16, 18: 32, 19: 16, 20: 32 } as const;
type Etype = keyof typeof KEYS;

function keyOf(etype: Etype): Uint8Array {
  return Uint8Array.from({ length: KEYS[etype] }, (_, i) => (17 * i + etype) & 0xff);
}

function secret(etype: Etype): EncryptionKey {
  return { etype, key: new Secret(keyOf(etype)) };
}

/** RFC 3961 §5.1: "prf" folded to 16 octets, bit by bit. */
function foldedPrf(): Uint8Array {
  const bits = [...'prf'].flatMap((letter) => [...letter.charCodeAt(0).toString(2).padStart(8, '0')].map(Number));
  const laid = Array.from({ length: 16 }, (_, copy) => bits.map((_, i) => bits[(((i - 13 * copy) % 24) + 24) % 24]!)).flat();
  const pieces = Array.from({ length: 3 }, (_, i) => BigInt(`0b${laid.slice(128 * i, 128 * i + 128).join('')}`));
  const most = (1n << 128n) - 1n;
  let sum = pieces.reduce((a, b) => a + b);
  while (sum > most) sum = (sum & most) + (sum >> 128n);
  return Uint8Array.from({ length: 16 }, (_, i) => Number((sum >> BigInt(8 * (15 - i))) & 255n));
}

/** RFC 3961 §5.3 with RFC 3962 §6. CTS of 20 octets is two steps of ECB whose blocks change places, the first cut to four octets. */
function prfSha1(key: Uint8Array, reading: PrfReading, data: Uint8Array): Uint8Array {
  const ecb = (k: Uint8Array, block: Uint8Array) =>
    new Uint8Array(
      createCipheriv(`aes-${k.length * 8}-ecb`, k, null)
        .setAutoPadding(false)
        .update(block),
    );
  const first = ecb(key, foldedPrf());
  const Kp = key.length === 16 ? first : cat(first, ecb(key, first));
  const H = new Uint8Array(createHash('sha1').update(data).digest());
  const C1 = ecb(Kp, H.subarray(0, 16));
  if (reading === 'mit') return C1;
  return cat(
    ecb(
      Kp,
      C1.map((octet, i) => octet ^ (i < 4 ? H[16 + i]! : 0)),
    ),
    C1.subarray(0, 4),
  );
}

/** RFC 8009 §3 and §5: KDF-HMAC-SHA2(key, "prf", octet-string, k). */
function prfSha2(etype: 19 | 20, key: Uint8Array, data: Uint8Array): Uint8Array {
  const [hash, octets] = etype === 19 ? (['sha256', 32] as const) : (['sha384', 48] as const);
  const hmac = createHmac(hash, key).update(u32be(1)).update('prf').update(Uint8Array.of(0)).update(data);
  return new Uint8Array(hmac.update(u32be(octets * 8)).digest()).subarray(0, octets);
}

function keymat(etype: Etype, reading: PrfReading, seed: Uint8Array, octets: number): Uint8Array {
  const prf = (data: Uint8Array) =>
    etype === 19 || etype === 20 ? prfSha2(etype, keyOf(etype), data) : prfSha1(keyOf(etype), reading, data);
  let K = prf(seed);
  let all = K;
  while (all.length < octets) {
    K = prf(cat(K, seed));
    all = cat(all, K);
  }
  return all.subarray(0, octets);
}

const SUITES: readonly EspSuite[] = [
  { encr: 'aes_cbc', keyBits: 256, integ: 'hmac_sha2_512' },
  { encr: 'aes_cbc', keyBits: 128, integ: 'hmac_sha1' },
  { encr: 'aes_gcm_16', keyBits: 256, integ: 'none' },
];
const Ni_b = Uint8Array.from({ length: 16 }, (_, i) => i);
const Nr_b = Uint8Array.from({ length: 40 }, (_, i) => 255 - i);
const g_qm_xy = Uint8Array.from({ length: 32 }, (_, i) => 3 * i);

describe.each(['mit', 'rfc3962_literal'] as const)('KEYMAT with the prf read as %s', (reading) => {
  test.each([17, 18, 19, 20] as const)('and a session key of enctype %i', (etype) => {
    for (const suite of SUITES) {
      for (const input of [{ Ni_b }, { Ni_b, Nr_b }, { Ni_b, Nr_b, g_qm_xy }]) {
        const keys = kinkKeys(secret(etype), reading, input)('esp', 0x0f9c58f0, suite);
        const ours = cat(keys.encr.reveal(), keys.integ?.reveal() ?? NONE);
        const { Nr_b: Nr = NONE, g_qm_xy: g = NONE } = input as { Nr_b?: Uint8Array; g_qm_xy?: Uint8Array };
        const seed = cat(g, Uint8Array.of(3), u32be(0x0f9c58f0), Ni_b, Nr);
        expect(hex(ours)).toBe(hex(keymat(etype, reading, seed, ours.length)));
      }
    }
  });
});

test('the two readings of the prf of RFC 3962 differ in all octets; those of RFC 8009 have one', () => {
  const ones: EncryptionKey = { etype: 18, key: new Secret(new Uint8Array(32).fill(0x11)) };
  const input = cat(Uint8Array.of(3, 1, 2, 3, 4), new Uint8Array(16));
  expect(hex(keyedPrf(ones, 'mit')(input))).toBe('521b15d208137308604355a238516be1');
  expect(hex(keyedPrf(ones, 'rfc3962_literal')(input))).toBe('821613896527a244fff17ab2e5f1de1f521b15d2');
  expect(hex(keyedPrf(secret(20), 'mit')(input))).toBe(hex(keyedPrf(secret(20), 'rfc3962_literal')(input)));
});
