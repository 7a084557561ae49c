import { describe, expect, test } from 'vitest';
import { equal } from '../../../src/bytes/bytes.ts';
import { Secret } from '../../../src/bytes/secret.ts';
import {
  ENCR,
  ENCR_NAMES,
  type EspSuite,
  encrKeymatBytes,
  INTEG,
  INTEG_NAMES,
  KNOWN_ANSWER_BYTES,
  KNOWN_SUITES,
  knownAnswerTest,
  noblePacketCipher,
  nodePacketCipher,
  type PacketCipher,
  suiteText,
} from '../../../src/crypto/index.ts';
import { Fault } from '../../../src/errors.ts';
import { CIPHER_SUITES, nobleHas } from '../../support/suites.ts';

const CIPHERS = [
  ['noble', noblePacketCipher],
  ['node', nodePacketCipher],
] as const;

const AT = 5;
const TEXT_BYTES = 48;

function pattern(length: number, start: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + start) & 0xff);
}

function keys({ encr, keyBits, integ }: EspSuite, start = 1): [Secret, Secret | undefined] {
  const encrKey = new Secret(pattern(encrKeymatBytes(encr, keyBits)!, start));
  return [encrKey, integ === 'none' ? undefined : new Secret(pattern(INTEG[integ].keyBytes, start + 1))];
}

/** An arena with one packet ready to be sealed, and where its parts end. */
function packet(suite: EspSuite): { arena: Uint8Array; textAt: number; end: number } {
  const textAt = AT + 8 + ENCR[suite.encr].iv;
  const end = textAt + TEXT_BYTES + (suite.integ === 'none' ? ENCR[suite.encr].icv : INTEG[suite.integ].icvBytes);
  const arena = pattern(end + 9, 3);
  return { arena, textAt, end };
}

describe.each(CIPHERS)('the packet cipher over %s', (name, cipherOn) => {
  test('passes the known-answer test at aligned and odd offsets', () => {
    const arena = new Uint8Array(KNOWN_ANSWER_BYTES + 64);
    for (const offset of [0, 1, 7, 33]) expect(knownAnswerTest(cipherOn(arena), arena, offset)).toEqual([]);
    expect(arena.every((octet) => octet === 0)).toBe(true);
  });

  test('supports all of the table, noble all but Camellia and DES; no pair without integrity, with two or with those of AH', () => {
    const cipher = cipherOn(new Uint8Array(0));
    for (const suite of CIPHER_SUITES)
      expect([suite, cipher.supports(suite)]).toEqual([suite, name === 'node' || nobleHas(suite.encr)]);
    for (const suite of [
      { encr: 'aes_cbc', keyBits: 128, integ: 'none' },
      { encr: 'null_enc', keyBits: 0, integ: 'none' },
      { encr: 'aes_gcm_16', keyBits: 128, integ: 'hmac_sha1' },
      { encr: 'aes_cbc', keyBits: 100, integ: 'hmac_sha1' },
      { encr: 'aes_cbc', keyBits: 128, integ: 'aes_128_gmac' },
    ] as const) {
      expect([suite, cipher.supports(suite)]).toEqual([suite, false]);
      expect(() => cipher.create(suite, 'seal', new Secret(new Uint8Array(16)), undefined)).toThrow(
        `${name} cannot protect ESP with`,
      );
    }
  });

  test.each(
    CIPHER_SUITES.filter((suite) => name === 'node' || nobleHas(suite.encr)).map(
      (suite) => [suiteText(suite.encr, suite.keyBits, suite.integ), suite] as const,
    ),
  )('%s: opens what it sealed, in place, and refuses a flipped bit anywhere, with and without ESN', (_title, suite) => {
    for (const sequenceHigh of [-1, 0, 0xfffffffe]) {
      const { arena, textAt, end } = packet(suite);
      const before = arena.slice();
      const cipher = cipherOn(arena);
      const sealing = cipher.create(suite, 'seal', ...keys(suite));
      const opening = cipher.create(suite, 'open', ...keys(suite));
      expect(cipher.seal(sealing, AT, TEXT_BYTES, sequenceHigh)).toBe(true);
      const sealed = arena.slice();
      expect(sealed.subarray(0, textAt)).toEqual(before.subarray(0, textAt));
      expect(sealed.subarray(end)).toEqual(before.subarray(end));
      if (ENCR[suite.encr].primitive !== 'aes_gmac' && suite.encr !== 'null_enc')
        expect(sealed.subarray(textAt, end)).not.toEqual(before.subarray(textAt, end));
      const accepted: number[] = [];
      for (let at = AT; at < end; at++) {
        arena[at]! ^= 1 << (at & 7);
        const changed = arena.slice();
        if (cipher.open(opening, AT, TEXT_BYTES, sequenceHigh) || !equal(arena, changed)) accepted.push(at);
        arena.set(sealed);
      }
      expect(accepted).toEqual([]);
      for (const wrong of [sequenceHigh + 1, sequenceHigh === -1 ? 0 : -1])
        expect(cipher.open(opening, AT, TEXT_BYTES, wrong)).toBe(false);
      expect(cipher.open(opening, AT, TEXT_BYTES - 16, sequenceHigh)).toBe(false);
      const other = cipher.create(suite, 'open', ...keys(suite, 2));
      expect(cipher.open(other, AT, TEXT_BYTES, sequenceHigh)).toBe(false);
      expect(cipher.open(opening, AT, TEXT_BYTES, sequenceHigh)).toBe(true);
      expect(arena.subarray(0, textAt + TEXT_BYTES)).toEqual(before.subarray(0, textAt + TEXT_BYTES));
    }
  });

  test('refuses what does not fit the arena or the block, and changes nothing', () => {
    const suite = { encr: 'aes_cbc', keyBits: 128, integ: 'hmac_sha2_256' } as const;
    const arena = pattern(120, 1);
    const before = arena.slice();
    const cipher = cipherOn(arena);
    const handle = cipher.create(suite, 'seal', ...keys(suite));
    // 120 octets hold SPI and sequence number (8), IV (16), text (80) and ICV (16), to the last octet.
    for (const [at, textBytes] of [
      [0, 96],
      [1, 80],
      [0, 17],
      [0, -16],
    ] as const) {
      expect([at, textBytes, cipher.seal(handle, at, textBytes, -1), cipher.open(handle, at, textBytes, -1)]).toEqual([
        at,
        textBytes,
        false,
        false,
      ]);
    }
    expect(arena).toEqual(before);
    expect(cipher.seal(handle, 0, 80, -1)).toBe(true);
  });

  test('keys are copied at create; a handle that is gone serves no more and is given out again', () => {
    const suite = { encr: 'aes_gcm_16', keyBits: 128, integ: 'none' } as const;
    const arena = pattern(200, 1);
    const cipher: PacketCipher = cipherOn(arena);
    const [key] = keys(suite);
    const handle = cipher.create(suite, 'seal', key, undefined);
    const twin = cipher.create(suite, 'open', ...keys(suite));
    key.wipe();
    expect(cipher.seal(handle, 0, 32, -1)).toBe(true);
    expect(cipher.open(twin, 0, 32, -1)).toBe(true);
    cipher.destroy(handle);
    cipher.destroy(handle);
    expect([cipher.seal(handle, 0, 32, -1), cipher.open(handle, 0, 32, -1), cipher.seal(999, 0, 32, -1)]).toEqual([
      false,
      false,
      false,
    ]);
    expect(cipher.create(suite, 'open', ...keys(suite))).toBe(handle);
    expect(cipher.create(suite, 'open', ...keys(suite))).toBe(2);
  });

  test('a key of a wrong length is a fault that names both lengths', () => {
    const cipher = cipherOn(new Uint8Array(100));
    const gcm = { encr: 'aes_gcm_16', keyBits: 256, integ: 'none' } as const;
    const cbc = { encr: 'aes_cbc', keyBits: 128, integ: 'hmac_sha1' } as const;
    const secret = (length: number) => new Secret(new Uint8Array(length));
    expect(() => cipher.create(gcm, 'open', secret(32), undefined)).toThrow(
      'encryption key of AES_GCM_16_256: expected 36 octets, found 32',
    );
    expect(() => cipher.create(gcm, 'open', secret(36), secret(20))).toThrow('takes no integrity key');
    expect(() => cipher.create(cbc, 'open', secret(16), undefined)).toThrow(
      'integrity key of AES_CBC_128/HMAC_SHA1_96: expected 20 octets, found 0',
    );
    expect(() => cipher.create(cbc, 'open', secret(17), secret(20))).toThrow(Fault);
  });
});

describe('the known-answer test', () => {
  test('knows every encryption and every integrity algorithm of the table', () => {
    expect(new Set(KNOWN_SUITES.map(({ encr }) => encr))).toEqual(new Set(ENCR_NAMES));
    expect(new Set(KNOWN_SUITES.flatMap(({ integ }) => (integ === 'none' ? [] : [integ])))).toEqual(new Set(INTEG_NAMES));
  });

  const arena = new Uint8Array(KNOWN_ANSWER_BYTES);
  const good = nodePacketCipher(arena);
  test.each<[string, Partial<PacketCipher>, RegExp]>([
    ['seals nothing', { seal: () => true }, /sealed to wrong octets the first time/],
    ['refuses to seal', { seal: () => false }, /refused to seal/],
    ['refuses to open', { open: () => false }, /refused to open the right packet/],
    [
      'opens everything',
      { open: (handle, at, length, high) => good.open(handle, at, length, high) || true },
      /with a flipped bit in octet 0/,
    ],
    [
      'does not look at the extended sequence number',
      { open: (handle, at, length, high) => good.open(handle, at, length, high) || good.open(handle, at, length, high - 1) },
      /wrong high half/,
    ],
    [
      'throws',
      {
        create: () => {
          throw new Error('no such cipher');
        },
      },
      /threw Error: no such cipher/,
    ],
  ])('catches a cipher that %s', (_title, broken, message) => {
    const failures = knownAnswerTest({ ...good, ...broken }, arena, 0);
    expect(failures.length).toBe(KNOWN_SUITES.length);
    for (const failure of failures) expect(failure).toMatch(message);
  });

  test('tries only what is supported', () => {
    expect(knownAnswerTest({ ...good, supports: () => false, seal: () => false }, arena, 0)).toEqual([]);
  });
});
