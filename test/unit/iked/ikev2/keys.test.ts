/** Key derivation of RFC 7296 §2.13 to §2.18 against numbers of others, and what a chosen proposal becomes. */

import { createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  childKeys,
  childSuiteOf,
  cipherOfSuite,
  type IkeSuite,
  ikeKeys,
  ikeSuiteOf,
  rekeyedSkeyseed,
  sealKeys,
  sharedKeyAuth,
  signedOctets,
  skeyseed,
  wipeKeys,
} from '../../../../iked/ikev2/keys.ts';
import { cat, fromHex, hex, utf8 } from '../../../../src/bytes/bytes.ts';
import { Secret } from '../../../../src/bytes/secret.ts';
import { prfOf } from '../../../../src/crypto/prf.ts';
import { PeerError } from '../../../../src/errors.ts';
import type { Proposal, Transform } from '../../../../src/ipsec/proposal.ts';

const of = (digits: string) => fromHex(digits)!;

/** One answer of NIST's ACVP for IKEv2 with SHA-1 (SP 800-135), as libreswan's test suite has it; AES-128 and HMAC-SHA1 use up exactly its 132 octets. */
const ACVP = {
  Ni: of('32b50d5f4a3763f3'),
  Nr: of('9206a04b26564cb1'),
  SPIi: of('34c9e7c188868785'),
  SPIr: of('3ff77d760d2b2199'),
  g_ir: of('4b2c1f971981a8ad8d0abeafabf38cf75fc8349c148142465ed9c8b516b8be52'),
  g_irNew: of('863f3c9d06efd39d2b907b97f8699e5dd5251ef64a2a176f36ee40c87d4f9330'),
  SKEYSEED: 'a9a7b222b59f8f48645f28a1db5b5f5d7479cba7',
  keymat:
    'a14293677cc80ff8f9cc0eee30d895da9d8f405666e30ef0dfcb63c634a46002a2a63080e514a062768b76606f9fa5e992204fc5a670bde3f10d6b027113936a5c55b648' +
    'a194ae587b0088d52204b702c979fa280870d2ed41efa9c549fd11198af1670b143d384bd275c5f594cf266b05ebadca855e4249520a441a81157435a7a56cc4',
  child:
    '8059e3ee8810e6c3a91bc8bcd2a7a41151b8d0e6ae239c7b38093ad85ef4c5811a8e7b5d1cdabd9560b2d5e092d1f24e2d4b85eccdf0ad0dc9abd94b51ee71814ca6dbc8bb51b630',
  childWithPfs:
    'bb43244c1860ad65ee1e211ffe8bb3661750c8f89cb9f547df7f4fa61d37301628190e38c66232eab4b3ab14c400a5197dd3730ed4820a8a10394d51e1c0400052f63ebd36b0e7ef',
  rekeyed: '63e81194946ebd05df7df5ebf5d8750056bf1f1d',
};
const suite: IkeSuite = { encr: 'aes_cbc', keyBits: 128, integ: 'hmac_sha1', prf: 'hmac_sha1', ke: 'modp2048' };
const prf = prfOf('hmac_sha1');
const { Ni, Nr, SPIi, SPIr, g_ir, g_irNew } = ACVP;

describe('an answer of NIST', () => {
  const SKEYSEED = skeyseed(prf, Ni, Nr, g_ir);
  const keys = ikeKeys(suite, SKEYSEED, Ni, Nr, SPIi, SPIr);
  const order = [keys.SK_d, keys.SK_ai, keys.SK_ar, keys.SK_ei, keys.SK_er, keys.SK_pi, keys.SK_pr];

  test('SKEYSEED and the seven keys in their order (§2.14)', () => {
    expect(hex(SKEYSEED.reveal())).toBe(ACVP.SKEYSEED);
    expect(order.map((key) => hex(key.reveal())).join('')).toBe(ACVP.keymat);
    expect(order.map((key) => key.length)).toEqual([20, 20, 20, 16, 16, 20, 20]);
  });

  test.each([
    ['without', undefined, ACVP.child],
    ['with', g_irNew, ACVP.childWithPfs],
  ])(
    'KEYMAT of a child %s PFS: the initiator sends with the first half, encryption in front of integrity (§2.17)',
    (_, secret, expected) => {
      const { fromInitiator, fromResponder } = childKeys(prf, keys.SK_d, suite, Ni, Nr, secret);
      const parts = [fromInitiator.encr, fromInitiator.integ!, fromResponder.encr, fromResponder.integ!].map((key) =>
        hex(key.reveal()),
      );
      expect(parts.map((part) => part.length / 2)).toEqual([16, 20, 16, 20]);
      expect(parts.join('')).toBe(expected);
    },
  );

  test('SKEYSEED of a rekeyed IKE SA (§2.18)', () => {
    expect(hex(rekeyedSkeyseed(prf, keys.SK_d, Ni, Nr, g_irNew).reveal())).toBe(ACVP.rekeyed);
  });
});

test('AES-XCBC and AES-CMAC take 64 bits of each nonce as the key, and all of both in the seed (§2.14)', () => {
  const long = new Uint8Array(32).fill(1);
  const longer = cat(long.subarray(0, 8), new Uint8Array(24).fill(2));
  for (const name of ['aes_xcbc', 'aes_cmac'] as const) {
    const short = prfOf(name);
    const seed = skeyseed(short, long, long, g_ir);
    expect(hex(skeyseed(short, longer, long, g_ir).reveal())).toBe(hex(seed.reveal()));
    const first = ikeKeys({ ...suite, prf: name }, seed, long, long, SPIi, SPIr);
    const second = ikeKeys({ ...suite, prf: name }, seed, longer, long, SPIi, SPIr);
    expect(first.SK_d.length).toBe(16);
    expect(hex(first.SK_d.reveal())).not.toBe(hex(second.SK_d.reveal()));
  }
});

test('AUTH by shared key is the formula of §2.15, with both directions apart', () => {
  const hmac = (key: Uint8Array, ...data: Uint8Array[]) => {
    const mac = createHmac('sha1', key);
    for (const part of data) mac.update(part);
    return new Uint8Array(mac.digest());
  };
  const [message, id, SK_pi] = [utf8('RealMessage1'), of('02000000612e6c6162'), new Secret(new Uint8Array(20).fill(3))];
  const octets = signedOctets(prf, message, Nr, SK_pi, id);
  expect(hex(octets)).toBe(hex(cat(message, Nr, hmac(SK_pi.reveal(), id))));
  expect(hex(sharedKeyAuth(prf, new Secret(utf8('psk')), octets))).toBe(
    hex(hmac(hmac(utf8('psk'), utf8('Key Pad for IKEv2')), octets)),
  );
});

describe('what a chosen proposal becomes', () => {
  const proposal = (protocol: Proposal['protocol'], ...transforms: Transform[]): Proposal => ({
    number: 1,
    protocol,
    spi: new Uint8Array(0),
    transforms,
  });

  test('an IKE SA', () => {
    const gcm = proposal('ike', { type: 'ENCR', id: 20, keyBits: 256 }, { type: 'PRF', id: 7 }, { type: 'KE', id: 31 });
    expect(ikeSuiteOf(gcm)).toEqual({ encr: 'aes_gcm_16', keyBits: 256, integ: 'none', prf: 'hmac_sha2_512', ke: 'x25519' });
    const chacha = proposal(
      'ike',
      { type: 'ENCR', id: 28 },
      { type: 'PRF', id: 5 },
      { type: 'KE', id: 19 },
      { type: 'INTEG', id: 0 },
    );
    expect(ikeSuiteOf(chacha)).toMatchObject({ encr: 'chacha20_poly1305', keyBits: 0, integ: 'none' });
  });

  test('a child SA, with and without PFS and extended sequence numbers; AH has integrity only', () => {
    const esp = [
      { type: 'ENCR', id: 12, keyBits: 128 },
      { type: 'INTEG', id: 12 },
    ] as const;
    expect(childSuiteOf(proposal('esp', ...esp, { type: 'ESN', id: 1 }, { type: 'KE', id: 14 }))).toEqual({
      encr: 'aes_cbc',
      keyBits: 128,
      integ: 'hmac_sha2_256',
      ke: 'modp2048',
      extendedSequence: true,
    });
    expect(childSuiteOf(proposal('esp', ...esp, { type: 'KE', id: 0 }))).toMatchObject({
      ke: undefined,
      extendedSequence: false,
    });
    expect(childSuiteOf(proposal('ah', esp[1]))).toMatchObject({ encr: 'null_enc', keyBits: 0, integ: 'hmac_sha2_256' });
    expect(() => childSuiteOf(proposal('esp', ...esp, { type: 'KE', id: 999 }))).toThrow(PeerError);
  });

  test('a combined-mode child has keys with salt and no integrity keys', () => {
    const { fromInitiator } = childKeys(
      prf,
      new Secret(new Uint8Array(20)),
      { encr: 'aes_gcm_16', keyBits: 256, integ: 'none' },
      Ni,
      Nr,
    );
    expect([fromInitiator.encr.length, fromInitiator.integ]).toEqual([36, undefined]);
  });
});

test('each side seals with its own keys, and wiping leaves zeros', () => {
  const keys = ikeKeys(suite, skeyseed(prf, Ni, Nr, g_ir), Ni, Nr, SPIi, SPIr);
  const cipher = cipherOfSuite(suite);
  expect(sealKeys(keys, cipher, 'initiator')).toMatchObject({ encr: keys.SK_ei, integ: keys.SK_ai });
  expect(sealKeys(keys, cipher, 'responder')).toMatchObject({ encr: keys.SK_er, integ: keys.SK_ar });
  expect(JSON.stringify(keys)).not.toContain(ACVP.keymat.slice(0, 8));
  wipeKeys(keys);
  for (const key of Object.values(keys)) expect(key.reveal().every((octet: number) => octet === 0)).toBe(true);
});
