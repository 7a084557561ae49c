import { getDiffieHellman } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { p256, p384, p521 } from '@noble/curves/nist.js';
import { describe, expect, test } from 'vitest';
import { hex } from '../../../src/bytes/bytes.ts';
import { CURVE, type ModpName, modpPrime, toNumber, toOctets } from '../../../src/crypto/groups.ts';
import { checkPublicValue, generate, KE, KE_NAMES, type KeName, nativeEngine, nobleEngine } from '../../../src/crypto/index.ts';
import { Fault, PeerError } from '../../../src/errors.ts';
import { ENGINES } from '../../vectors/engines.ts';

const MODP: readonly (readonly [ModpName, string])[] = [
  ['modp1024', 'modp2'],
  ['modp1536', 'modp5'],
  ['modp2048', 'modp14'],
  ['modp3072', 'modp15'],
  ['modp4096', 'modp16'],
  ['modp6144', 'modp17'],
  ['modp8192', 'modp18'],
];

/** A fixed stream of octets: the value of each depends on the seed and on nothing else. */
function seeded(seed: number): (length: number) => Uint8Array {
  let state = seed;
  return (length) =>
    Uint8Array.from({ length }, () => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return state >>> 16;
    });
}

/** What `agree` says of a public value. */
function refusal(group: KeName, peer: Uint8Array): string {
  try {
    generate(group, seeded(1)).agree(peer);
  } catch (error) {
    if (error instanceof PeerError) return `${error.notify}: ${error.message}`;
    throw error;
  }
  return 'taken';
}

describe('MODP primes', () => {
  test.each(MODP)('%s is the prime OpenSSL knows as %s', (group, known) => {
    expect(toOctets(modpPrime(group), KE[group].publicBytes)).toEqual(new Uint8Array(getDiffieHellman(known).getPrime()));
  });

  const rfc = new URL('../../../../shared/rfc/rfc3526.txt', import.meta.url);
  test.skipIf(!existsSync(rfc))('are those RFC 3526 prints (needs ../shared/rfc, skipped where it is absent)', () => {
    const printed = readFileSync(rfc, 'utf8')
      .split('\n')
      .filter((line) => /^\s+([0-9A-F]{8}\s*)+$/.test(line))
      .join('')
      .replace(/\s/g, '');
    for (const [group] of MODP.slice(1))
      expect([group, printed.includes(modpPrime(group).toString(16).toUpperCase())]).toEqual([group, true]);
  });
});

describe('curves', () => {
  test.each([
    ['ecp256', p256],
    ['ecp384', p384],
    ['ecp521', p521],
  ] as const)('%s has the numbers that noble has', (group, { Point }) => {
    const { p, b, n } = Point.CURVE();
    expect(CURVE[group]).toEqual({ p, b, n });
  });
});

describe('key shares', () => {
  test.each(KE_NAMES)(
    "%s: both sides agree, lengths are the row's, and the same randomness gives the same share (native engine)",
    (group) => {
      const i = generate(group, seeded(1), nativeEngine);
      const r = generate(group, seeded(2), nativeEngine);
      const g_ir = i.agree(r.publicValue);
      expect(hex(r.agree(i.publicValue).reveal())).toBe(hex(g_ir.reveal()));
      expect([i.publicValue.length, g_ir.length]).toEqual([KE[group].publicBytes, KE[group].sharedBytes]);
      expect(generate(group, seeded(1), nativeEngine).publicValue).toEqual(i.publicValue);
      expect(r.publicValue).not.toEqual(i.publicValue);
      expect(`${g_ir}`).toBe(`Secret(${KE[group].sharedBytes} bytes)`);
    },
  );

  test.each(KE_NAMES)('%s: noble and native compute the same values', (group) => {
    const [a, b] = ENGINES.map(([, engine]) => generate(group, seeded(3), engine));
    expect(hex(b!.publicValue)).toBe(hex(a!.publicValue));
    const peer = generate(group, seeded(4), nativeEngine).publicValue;
    expect(hex(b!.agree(peer).reveal())).toBe(hex(a!.agree(peer).reveal()));
  });

  test.each(ENGINES)('a share that was wiped agrees no more (%s)', (_name, engine) => {
    for (const group of ['modp2048', 'ecp256', 'x25519'] as const) {
      const share = generate(group, seeded(1), engine);
      share.wipe();
      expect(() => share.agree(generate(group, seeded(2), engine).publicValue)).toThrow(Fault);
    }
  });

  test('a random source that gives too few octets is a fault of ours', () => {
    expect(() => generate('x25519', () => new Uint8Array(31))).toThrow('expected 32 octets, found 31');
  });

  test('leading zeros of public values and of g^ir are kept (RFC 7296 §2.14)', () => {
    // One value in 256 begins with a zero octet; the seeds are fixed, so that these are always found.
    const peer = generate('modp1024', seeded(99), nativeEngine);
    const zeros = { publicValue: 0, g_ir: 0 };
    for (let seed = 0; seed < 1500; seed++) {
      const share = generate('modp1024', seeded(seed * 7919), nativeEngine);
      const g_ir = share.agree(peer.publicValue).reveal();
      if (share.publicValue[0] === 0) zeros.publicValue++;
      if (g_ir[0] === 0) zeros.g_ir++;
      if (share.publicValue[0] !== 0 && g_ir[0] !== 0) continue;
      expect([share.publicValue.length, g_ir.length]).toEqual([128, 128]);
      const noble = generate('modp1024', seeded(seed * 7919), nobleEngine);
      expect(noble.publicValue).toEqual(share.publicValue);
      expect(noble.agree(peer.publicValue).reveal()).toEqual(g_ir);
      if (zeros.publicValue > 0 && zeros.g_ir > 0) break;
    }
    expect([zeros.publicValue > 0, zeros.g_ir > 0]).toEqual([true, true]);
  });
});

describe('what a peer may not send (RFC 6989)', () => {
  test('a wrong length, in words that name both', () => {
    expect(refusal('modp2048', new Uint8Array(255))).toBe(
      'INVALID_SYNTAX: KE payload: expected 256 octets of MODP2048 public value, found 255',
    );
    for (const group of KE_NAMES) {
      expect(refusal(group, new Uint8Array(0))).toContain('found 0');
      expect(refusal(group, new Uint8Array(KE[group].publicBytes + 1))).toContain('INVALID_SYNTAX');
    }
  });

  test('MODP: 0, 1, p - 1, p and anything above, §2.1; 2 and p - 2 are taken', () => {
    for (const group of ['modp1024', 'modp2048'] as const) {
      const p = modpPrime(group);
      const max = (1n << BigInt(KE[group].bits)) - 1n;
      for (const bad of [0n, 1n, p - 1n, p, p + 1n, max]) {
        expect(refusal(group, toOctets(bad, KE[group].publicBytes))).toMatch(/not between 2 and p - 2/);
      }
      for (const good of [2n, p - 2n]) expect(refusal(group, toOctets(good, KE[group].publicBytes))).toBe('taken');
    }
  });

  test('ECP: a point off the curve, coordinates that are not reduced, the origin, §2.3', () => {
    for (const group of ['ecp256', 'ecp384', 'ecp521'] as const) {
      const good = generate(group, seeded(5)).publicValue;
      const half = good.length / 2;
      expect(refusal(group, good)).toBe('taken');
      for (const at of [half - 1, good.length - 1]) {
        const off = good.slice();
        off[at]! ^= 1;
        expect(refusal(group, off)).toMatch(/not on the curve/);
      }
      const large = good.slice();
      large.set(toOctets(CURVE[group].p, half));
      expect(refusal(group, large)).toMatch(/not below p/);
      expect(refusal(group, new Uint8Array(good.length))).toMatch(/not on the curve/);
    }
  });

  test('ECP: x + p for a small x fits the octets of P-521 and is refused all the same', () => {
    const good = generate('ecp521', seeded(6)).publicValue;
    const x = toNumber(good.subarray(0, 66));
    expect(checkPublicValue('ecp521', Uint8Array.from([...toOctets(x + CURVE.ecp521.p, 66), ...good.subarray(66)]))).toMatch(
      /not below p/,
    );
  });

  test.each(ENGINES)('X25519 and X448: values of low order, whose result is zero (RFC 7748 §6), on %s', (_name, engine) => {
    for (const group of ['x25519', 'x448'] as const) {
      for (const first of [0, 1]) {
        const low = new Uint8Array(KE[group].publicBytes);
        low[0] = first;
        expect(() => generate(group, seeded(7), engine).agree(low)).toThrow(/all zero \(RFC 7748 §6\)/);
      }
    }
  });
});
