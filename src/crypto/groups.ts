/** The numbers behind each key exchange group: MODP primes (RFC 3526, RFC 7296 appendix B) and NIST curves (RFC 5903 §3). */

import type { KeName } from './transforms.ts';

export type ModpName = Extract<KeName, `modp${string}`>;
export type EcpName = Extract<KeName, `ecp${string}`>;
export type MontgomeryName = Extract<KeName, `x${string}`>;

export function isModp(group: KeName): group is ModpName {
  return group.startsWith('modp');
}

export function isEcp(group: KeName): group is EcpName {
  return group.startsWith('ecp');
}

/** The generator of every MODP group. */
export const MODP_GENERATOR = 2n;

/** The number k of p = 2^n - 2^(n-64) - 1 + 2^64 * (⌊2^(n-130) π⌋ + k), which each section of RFC 3526 states. */
const MODP: Readonly<Record<ModpName, { n: number; k: number }>> = {
  modp1024: { n: 1024, k: 129093 },
  modp1536: { n: 1536, k: 741804 },
  modp2048: { n: 2048, k: 124476 },
  modp3072: { n: 3072, k: 1690314 },
  modp4096: { n: 4096, k: 240904 },
  modp6144: { n: 6144, k: 929484 },
  modp8192: { n: 8192, k: 4743158 },
};

const primes = new Map<ModpName, bigint>();

/** The safe prime of a MODP group, computed at first use (8 ms for the largest). */
export function modpPrime(group: ModpName): bigint {
  const known = primes.get(group);
  if (known !== undefined) return known;
  const { n, k } = MODP[group];
  const p = (1n << BigInt(n)) - (1n << BigInt(n - 64)) - 1n + ((piTimesPowerOfTwo(n - 130) + BigInt(k)) << 64n);
  primes.set(group, p);
  return p;
}

/** ⌊2^bits π⌋ by Machin's formula, π = 16 arctan 1/5 - 4 arctan 1/239, with 64 bits to spare. */
function piTimesPowerOfTwo(bits: number): bigint {
  const one = 1n << BigInt(bits + 64);
  const arctanOfInverse = (x: bigint): bigint => {
    let sum = 0n;
    for (let power = one / x, i = 1n; power !== 0n; power /= x * x, i += 2n) sum += i % 4n === 1n ? power / i : -(power / i);
    return sum;
  };
  return (16n * arctanOfInverse(5n) - 4n * arctanOfInverse(239n)) >> 64n;
}

/** y² = x³ - 3x + b over the field of p elements; n is the order of the base point, the cofactor is 1. */
export interface Curve {
  readonly p: bigint;
  readonly b: bigint;
  readonly n: bigint;
}

export const CURVE: Readonly<Record<EcpName, Curve>> = {
  ecp256: {
    p: (1n << 256n) - (1n << 224n) + (1n << 192n) + (1n << 96n) - 1n,
    b: 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn,
    n: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  },
  ecp384: {
    p: (1n << 384n) - (1n << 128n) - (1n << 96n) + (1n << 32n) - 1n,
    b: 0xb3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aefn,
    n: 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
  },
  ecp521: {
    p: (1n << 521n) - 1n,
    b: 0x0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00n,
    n: 0x01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409n,
  },
};

/** The number that octets are, most significant first. */
export function toNumber(bytes: Uint8Array): bigint {
  let digits = '0x0';
  for (const octet of bytes) digits += octet.toString(16).padStart(2, '0');
  return BigInt(digits);
}

/** A number as `length` octets, most significant first; it must fit. */
export function toOctets(value: bigint, length: number): Uint8Array {
  const digits = value.toString(16).padStart(2 * length, '0');
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}
