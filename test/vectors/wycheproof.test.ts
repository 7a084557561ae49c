import { describe, expect, test } from 'vitest';
import { cat, equal, hex } from '../../src/bytes/bytes.ts';
import { cmac, type Engine, gmac, type HashName, KE, type KeName, type KeyShare, keyShare } from '../../src/crypto/index.ts';
import { PeerError } from '../../src/errors.ts';
import { ABSENT, ENGINES, octets, shared, WHY } from './engines.ts';

interface Group<Case> {
  readonly ivSize?: number;
  readonly keySize?: number;
  readonly tagSize?: number;
  readonly tests: readonly Case[];
}

interface Common {
  readonly tcId: number;
  readonly comment: string;
  readonly result: 'valid' | 'invalid' | 'acceptable';
}

type AeadCase = Common & {
  readonly key: string;
  readonly iv: string;
  readonly aad: string;
  readonly msg: string;
  readonly ct: string;
  readonly tag: string;
};
type CbcCase = Common & { readonly key: string; readonly iv: string; readonly msg: string; readonly ct: string };
type MacCase = Common & { readonly key: string; readonly msg: string; readonly tag: string };
type KeCase = Common & { readonly public: string; readonly private: string; readonly shared: string };

/** The cases of a file that our faces can express: fixed nonce and tag lengths, keys that have a row. */
function cases<Case extends Common>(
  file: string,
  wanted: (group: Group<Case>) => boolean = () => true,
): { chosen: Case[]; of: number } {
  const groups = shared<{ testGroups: readonly Group<Case>[] }>(`wycheproof/${file}_test.json`)?.testGroups ?? [];
  return {
    chosen: groups.filter(wanted).flatMap((group) => [...group.tests]),
    of: groups.reduce((sum, group) => sum + group.tests.length, 0),
  };
}

function count({ chosen, of }: { chosen: readonly unknown[]; of: number }): string {
  return ABSENT ? WHY : `: ${chosen.length} of ${of}`;
}

const gcm = cases<AeadCase>('aes_gcm', ({ ivSize, tagSize }) => ivSize === 96 && tagSize === 128);
const chacha = cases<AeadCase>('chacha20_poly1305', ({ ivSize, tagSize }) => ivSize === 96 && tagSize === 128);
const ccms = cases<AeadCase>(
  'aes_ccm',
  ({ ivSize, tagSize }) => [88, 96, 104].includes(ivSize ?? 0) && [64, 96, 128].includes(tagSize ?? 0),
);
const ccm = { chosen: ccms.chosen.filter(({ ct }) => ct !== ''), of: ccms.of };
const gmacs = cases<MacCase & { iv: string }>('aes_gmac', ({ ivSize, tagSize }) => ivSize === 96 && tagSize === 128);
const cbc = cases<CbcCase>('aes_cbc_pkcs5');
const camellia = cases<CbcCase>('camellia_cbc_pkcs5');
const validCamellia = { chosen: camellia.chosen.filter((vector) => vector.result === 'valid'), of: camellia.of };
const valid = { chosen: cbc.chosen.filter((vector) => vector.result === 'valid'), of: cbc.of };
const cmacs = cases<MacCase>('aes_cmac', ({ keySize }) => [128, 192, 256].includes(keySize ?? 0));
const HMACS: readonly (readonly [HashName, string])[] = [
  ['sha1', 'hmac_sha1'],
  ['sha2_256', 'hmac_sha256'],
  ['sha2_384', 'hmac_sha384'],
  ['sha2_512', 'hmac_sha512'],
];

describe.skipIf(ABSENT).each(ENGINES)('wycheproof on the %s engine', (_name, engine) => {
  test.each([
    ['aes_gcm', gcm],
    ['chacha20_poly1305', chacha],
  ] as const)(`%s; the others have IVs we never use (gcm${count(gcm)}, chacha${count(chacha)})`, (name, { chosen }) => {
    expect(chosen.length).toBeGreaterThan(100);
    for (const { tcId, key, iv, aad, msg, ct, tag, result } of chosen) {
      const aead = engine.aead(name, octets(key), 16);
      const opened = aead.open(octets(iv), octets(aad), octets(ct + tag));
      expect([tcId, opened === undefined ? 'refused' : hex(opened)]).toEqual([tcId, result === 'valid' ? msg : 'refused']);
      if (result === 'valid') expect([tcId, hex(aead.seal(octets(iv), octets(aad), octets(msg)))]).toEqual([tcId, ct + tag]);
    }
  });

  test(`aes_ccm; the others have no text, or nonces or ICVs far from IPsec's${count(ccm)}`, () => {
    expect(ccm.chosen.length).toBeGreaterThan(200);
    for (const { tcId, key, iv, aad, msg, ct, tag, result } of ccm.chosen) {
      const aead = engine.aead('aes_ccm', octets(key), tag.length / 2);
      const opened = aead.open(octets(iv), octets(aad), octets(ct + tag));
      expect([tcId, opened === undefined ? 'refused' : hex(opened)]).toEqual([tcId, result === 'valid' ? msg : 'refused']);
      if (result === 'valid') expect([tcId, hex(aead.seal(octets(iv), octets(aad), octets(msg)))]).toEqual([tcId, ct + tag]);
    }
  });

  test(`aes_gmac; the others have nonces of other lengths${count(gmacs)}`, () => {
    expect(gmacs.chosen.length).toBeGreaterThan(100);
    for (const { tcId, key, iv, msg, tag, result } of gmacs.chosen) {
      const computed = gmac(cat(octets(key), octets(iv.slice(0, 8))), engine)(octets(iv.slice(8)), octets(msg));
      expect([tcId, hex(computed) === tag]).toEqual([tcId, result === 'valid']);
    }
  });

  test.each([
    ['aes_cbc', valid],
    ['camellia_cbc', validCamellia],
  ] as const)(
    `%s, with the padding put on here; the others have bad padding, which is not this layer's (aes${count(valid)}, camellia${count(validCamellia)})`,
    (primitive, { chosen }) => {
      expect(chosen.length).toBeGreaterThan(30);
      for (const { tcId, key, iv, msg, ct } of chosen) {
        const text = octets(msg);
        const padding = 16 - (text.length % 16);
        const padded = cat(text, new Uint8Array(padding).fill(padding));
        const cipher = engine.cipher(primitive, octets(key));
        if (cipher === undefined) {
          expect([engine.name, primitive]).toEqual(['noble', 'camellia_cbc']);
          return;
        }
        expect([tcId, hex(cipher.encrypt(octets(iv), padded))]).toEqual([tcId, ct]);
        expect([tcId, hex(cipher.decrypt(octets(iv), octets(ct)))]).toEqual([tcId, hex(padded)]);
      }
    },
  );

  test(`aes_cmac; the others have keys that are no AES key${count(cmacs)}`, () => {
    expect(cmacs.chosen.length).toBeGreaterThan(100);
    for (const { tcId, key, msg, tag, result } of cmacs.chosen) {
      const computed = cmac(octets(key), engine)(octets(msg)).subarray(0, tag.length / 2);
      expect([tcId, equal(computed, octets(tag))]).toEqual([tcId, result === 'valid']);
    }
  });

  test.each(
    HMACS.map(([hash, file]) => [hash, file, cases<MacCase>(file)] as const).map(
      ([hash, file, found]) => [hash, `${file}${count(found)}`, found.chosen] as const,
    ),
  )('hmac with %s, %s', (hash, _title, chosen) => {
    expect(chosen.length).toBeGreaterThan(100);
    for (const { tcId, key, msg, tag, result } of chosen) {
      const computed = engine.hmac(hash, octets(key), octets(msg)).subarray(0, tag.length / 2);
      expect([tcId, equal(computed, octets(tag))]).toEqual([tcId, result === 'valid']);
    }
  });
});

/** File, group, and how many good cases noble skips for each it runs: it is slow on the large curves. */
const KES: readonly (readonly [string, KeName, number])[] = [
  ['x25519', 'x25519', 4],
  ['x448', 'x448', 12],
  ['ecdh_secp256r1_ecpoint', 'ecp256', 4],
  ['ecdh_secp384r1_ecpoint', 'ecp384', 12],
  ['ecdh_secp521r1_ecpoint', 'ecp521', 24],
];

describe.skipIf(ABSENT).each(KES)('wycheproof %s', (file, group, step) => {
  const all = cases<KeCase>(file).chosen;
  const sampled = all.filter((vector, index) => !good(group, vector) || index % step === 0);

  test(`on the native engine: ${all.length} of ${all.length}${WHY}`, () => {
    run(group, all, (engine) => engine[1].name === 'native');
  }, 30_000);

  test(`on the noble engine, a sample of the good cases and every other: ${sampled.length} of ${all.length}${WHY}`, () => {
    run(group, sampled, (engine) => engine[1].name === 'noble');
  }, 30_000);
});

function run(group: KeName, chosen: readonly KeCase[], which: (engine: readonly [string, Engine]) => boolean): void {
  const engine = ENGINES.find(which)![1];
  const shares = new Map<string, KeyShare>();
  expect(chosen.length).toBeGreaterThan(50);
  let agreed = 0;
  for (const vector of chosen) {
    const { tcId, comment, public: encoded, private: secret, shared: g_ir } = vector;
    const own = shares.get(secret) ?? keyShare(group, scalar(group, secret), engine);
    shares.set(secret, own);
    const point = KE[group].kind === 'ecp' && encoded.startsWith('04') ? octets(encoded.slice(2)) : octets(encoded);
    expect([tcId, comment, outcome(own, point)]).toEqual([tcId, comment, good(group, vector) ? g_ir : 'refused']);
    if (good(group, vector)) agreed++;
  }
  expect(agreed).toBeGreaterThan(10);
}

/** RFC 8031 §3.2 takes every value, RFC 7748 §6 lets us refuse a zero result; RFC 5903 knows neither compressed points nor any other curve. */
function good(group: KeName, { result, shared: g_ir }: KeCase): boolean {
  return KE[group].kind === 'ecp' ? result === 'valid' : !/^0*$/.test(g_ir);
}

function outcome(own: KeyShare, peer: Uint8Array): string {
  try {
    return hex(own.agree(peer).reveal());
  } catch (error) {
    if (error instanceof PeerError && error.notify === 'INVALID_SYNTAX') return 'refused';
    throw error;
  }
}

/** The file's private value as its row has it: numbers there may have a zero in front or lack some. */
function scalar(group: KeName, digits: string): Uint8Array {
  return KE[group].kind === 'ecp' ? octets(digits.replace(/^0+/, '').padStart(2 * KE[group].sharedBytes, '0')) : octets(digits);
}
