/** Kerberos' cryptography against the vectors of its RFCs and of MIT's library, on every engine. */

import { describe, expect, test } from 'vitest';
import { BLOCK, cbcCts, nfold } from '../../kinkd/krb5/aes-cts.ts';
import {
  checksum,
  decrypt,
  type EncryptionKey,
  encrypt,
  encryptionOverhead,
  enctype,
  isEtype,
  KEY_USAGE,
  PREFERRED_ETYPES,
  prf,
  verifyChecksum,
} from '../../kinkd/krb5/enctypes.ts';
import { hex } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import { numbers } from '../support/mutate.ts';
import { seededRandom } from '../support/random.ts';
import { ABSENT, ENGINES, octets, shared, WHY } from './engines.ts';
import vectors from './kerberos-rfc.json' with { type: 'json' };

interface MitVector {
  readonly etype: number;
  readonly key: string;
  readonly message: string;
  readonly checksumType: number;
  readonly checksumUsage40: string;
  readonly ciphertextUsage39: string;
  readonly prf: string;
}
const mit = shared<readonly MitVector[]>('kerberos/libk5crypto.json') ?? [];

function keyOf({ etype, key }: { readonly etype: number; readonly key: string }): EncryptionKey {
  if (!isEtype(etype)) throw new Error(`enctype ${etype}`);
  return { etype, key: new Secret(octets(key)) };
}

test.each(
  vectors.nfold.cases.map(
    ([length, input, folded]) => ({ length, input, folded }) as { length: number; input: string; folded: string },
  ),
)('n-fold of $input to $length octets (RFC 3961 A.1)', ({ length, input, folded }) => {
  expect(hex(nfold(octets(input), length))).toBe(folded);
});

describe.each(ENGINES)('on the %s engine', (_name, engine) => {
  test.each(vectors.cts.cases)('ciphertext stealing of $input (RFC 3962 B)', ({ input, output }) => {
    const cts = cbcCts(octets(vectors.cts.key), engine);
    expect(hex(cts.encrypt(octets(input)))).toBe(output);
    expect(hex(cts.decrypt(octets(output)))).toBe(input);
  });

  test.each(vectors.rfc8009.encryptions)('encryption of "$plaintext" with enctype $etype (RFC 8009 A)', (vector) => {
    const key = keyOf(vector);
    expect(hex(encrypt(key, vector.usage, octets(vector.plaintext), () => octets(vector.confounder), engine))).toBe(
      vector.ciphertext,
    );
    expect(hex(decrypt(key, vector.usage, octets(vector.ciphertext), engine)!)).toBe(vector.plaintext);
  });

  test.each(vectors.rfc8009.checksums)('checksum with enctype $etype (RFC 8009 A)', (vector) => {
    expect(hex(checksum(keyOf(vector), vector.usage, octets(vector.data), engine))).toBe(vector.checksum);
  });

  test.each(vectors.rfc8009.prfs)('prf with enctype $etype (RFC 8009 A)', (vector) => {
    expect(hex(prf(keyOf(vector), octets(vector.data), 'mit', engine))).toBe(vector.prf);
    expect(hex(prf(keyOf(vector), octets(vector.data), 'rfc3962_literal', engine))).toBe(vector.prf);
  });

  test('the prf of RFC 3962 in both readings', () => {
    const { data, mit, rfc3962_literal } = vectors.prfReadings;
    const key = keyOf(vectors.prfReadings);
    expect(hex(prf(key, octets(data), 'mit', engine))).toBe(mit);
    expect(hex(prf(key, octets(data), 'rfc3962_literal', engine))).toBe(rfc3962_literal);
  });

  test.skipIf(ABSENT)(`checksum, ciphertext and prf of MIT's library${WHY}`, () => {
    const ours = mit.filter(({ etype }) => isEtype(etype));
    expect(ours.length).toBe(16);
    for (const vector of ours) {
      const key = keyOf(vector);
      const message = octets(vector.message);
      expect(enctype(key.etype).checksumType).toBe(vector.checksumType);
      expect(hex(checksum(key, KEY_USAGE.KINK_CKSUM, message, engine))).toBe(vector.checksumUsage40);
      expect(verifyChecksum(key, KEY_USAGE.KINK_CKSUM, message, octets(vector.checksumUsage40), engine)).toBe(true);
      expect(hex(decrypt(key, KEY_USAGE.KINK_ENCRYPT, octets(vector.ciphertextUsage39), engine)!)).toBe(vector.message);
      expect(decrypt(key, KEY_USAGE.KINK_CKSUM, octets(vector.ciphertextUsage39), engine)).toBeUndefined();
      expect(hex(prf(key, message, 'mit', engine))).toBe(vector.prf);
    }
  });

  test.each(PREFERRED_ETYPES)('enctype %i: what is encrypted is decrypted, and no changed octet passes', (etype) => {
    const random = seededRandom(etype);
    const key = { etype, key: new Secret(random(enctype(etype).keyBytes)) };
    const at = numbers(etype);
    for (let length = 0; length <= 3 * BLOCK + 1; length++) {
      const text = random(length);
      const sealed = encrypt(key, 7, text, random, engine);
      expect(sealed.length).toBe(length + encryptionOverhead(etype));
      expect(decrypt(key, 7, sealed, engine)).toEqual(text);
      expect(decrypt(key, 8, sealed, engine)).toBeUndefined();
      sealed[at(sealed.length)]! ^= 1 << at(8);
      expect(decrypt(key, 7, sealed, engine)).toBeUndefined();
      expect(decrypt(key, 7, sealed.subarray(0, at(sealed.length)), engine)).toBeUndefined();
    }
  });
});

test('the engines agree octet for octet', () => {
  const random = seededRandom(5);
  for (const etype of PREFERRED_ETYPES) {
    const key = { etype, key: new Secret(random(enctype(etype).keyBytes)) };
    const confounder = random(BLOCK);
    const text = random(77);
    const results = ENGINES.map(([, engine]) => [
      hex(encrypt(key, KEY_USAGE.KINK_ENCRYPT, text, () => confounder, engine)),
      hex(checksum(key, KEY_USAGE.KINK_CKSUM, text, engine)),
      hex(prf(key, text, 'rfc3962_literal', engine)),
    ]);
    expect(results[1]).toEqual(results[0]);
  }
});
