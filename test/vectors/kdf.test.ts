import { describe, expect, test } from 'vitest';
import { isakmpKeys, skeyidOfSharedKey, skeyidOfSignature } from '../../iked/ikev1/keys.ts';
import { hex } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import { type PrfName, prfOf, prfPlus } from '../../src/crypto/index.ts';
import { ABSENT, ENGINES, octets, shared, WHY } from './engines.ts';

interface Vector {
  readonly name: string;
  readonly fn: 'kdf_prf' | 'kdf_prf_plus';
  readonly prf: string;
  readonly key: string;
  readonly salt: string;
  readonly out: string;
}

const vectors = shared<{ vectors: readonly Vector[] }>('kdf/ikev2-prf-cavp.json')?.vectors ?? [];

describe.skipIf(ABSENT).each(ENGINES)('prf and prf+ on the %s engine', (_name, engine) => {
  test(`NIST CAVP: ${vectors.length} numbers${WHY}`, () => {
    expect(vectors.length).toBeGreaterThan(10);
    for (const { name, fn, prf: transform, key, salt, out } of vectors) {
      const prf = prfOf(transform.replace('PRF_', '').toLowerCase() as PrfName, engine);
      const computed =
        fn === 'kdf_prf' ? prf.of(octets(salt), octets(key)) : prfPlus(prf, octets(key), octets(salt))(out.length / 2);
      expect([name, hex(computed)]).toEqual([name, out]);
    }
  });
});

interface IkeVector {
  readonly source: string;
  readonly input: Readonly<Record<string, string>>;
  readonly expected: Readonly<Record<string, string>>;
}

const HASHES: Readonly<Record<string, PrfName>> = {
  'SHA-1': 'hmac_sha1',
  'SHA2-256': 'hmac_sha2_256',
  'SHA2-384': 'hmac_sha2_384',
  'SHA2-512': 'hmac_sha2_512',
};
const ikev1 = (shared<{ vectors: readonly IkeVector[] }>('kdf/ike-kdf.json')?.vectors ?? []).filter(({ source }) =>
  source.includes('ikev1'),
);

describe.skipIf(ABSENT).each(ENGINES)('SKEYID on the %s engine', (_name, engine) => {
  test(`NIST ACVP: ${ikev1.length} negotiations of IKEv1${WHY}`, () => {
    expect(ikev1.map(({ input }) => input.authenticationMethod).sort()).toEqual(['dsa', 'pke', 'psk']);
    for (const { input, expected } of ikev1) {
      const prf = prfOf(HASHES[input.hashAlg!]!, engine);
      const [Ni_b, Nr_b] = [octets(input.nInit!), octets(input.nResp!)];
      const g_xy = new Secret(octets(input.gxy!));
      // SKEYID of public key encryption is not computed here: no policy can ask for that method.
      const SKEYID = {
        psk: () => skeyidOfSharedKey(prf, new Secret(octets(input.preSharedKey!)), Ni_b, Nr_b),
        dsa: () => skeyidOfSignature(prf, Ni_b, Nr_b, g_xy),
        pke: () => new Secret(octets(expected.sKeyId!)),
      }[input.authenticationMethod!]!();
      const keys = isakmpKeys(prf, SKEYID, g_xy, octets(input.ckyInit!), octets(input.ckyResp!));
      expect([keys.SKEYID, keys.SKEYID_d, keys.SKEYID_a, keys.SKEYID_e].map((key) => hex(key.reveal()))).toEqual([
        expected.sKeyId!.toLowerCase(),
        expected.sKeyIdD!.toLowerCase(),
        expected.sKeyIdA!.toLowerCase(),
        expected.sKeyIdE!.toLowerCase(),
      ]);
    }
  });
});
