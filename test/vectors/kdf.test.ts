import { describe, expect, test } from 'vitest';
import { hex } from '../../src/bytes/bytes.ts';
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
