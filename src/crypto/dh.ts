/** Key exchange: MODP (RFC 3526), ECP (RFC 5903), X25519 and X448 (RFC 8031), with the checks of RFC 6989 on what a peer sends. */

import { Secret } from '../bytes/secret.ts';
import { Fault, PeerError } from '../errors.ts';
import type { RandomBytes } from '../machine.ts';
import { defaultEngine, type Engine } from './engine.ts';
import { CURVE, type EcpName, isEcp, isModp, type ModpName, modpPrime, toNumber, toOctets } from './groups.ts';
import { KE, type KeName, keText } from './transforms.ts';

/** Our half of one key exchange. */
export interface KeyShare {
  readonly group: KeName;
  /** The Key Exchange Data of our KE payload (RFC 7296 §3.4). */
  readonly publicValue: Uint8Array;
  /** g^ir. Throws PeerError INVALID_SYNTAX where `peer` is no public value of the group (RFC 6989 §2). */
  agree(peer: Uint8Array): Secret;
  /** Forgets the private value; a later `agree` is a Fault. */
  wipe(): void;
}

/** A fresh key share; the same octets from `random` give the same share on every engine. */
export function generate(group: KeName, random: RandomBytes, engine: Engine = defaultEngine): KeyShare {
  return keyShare(group, privateSecret(group, random(KE[group].privateBytes)), engine);
}

/** The key share of a given private value, which it takes over: exponent, scalar in 1..n-1, or the octets of RFC 7748 §5. */
export function keyShare(group: KeName, secret: Uint8Array, engine: Engine = defaultEngine): KeyShare {
  const own = engine.privateValue(group, secret);
  let wiped = false;
  return {
    group,
    publicValue: own.publicValue,
    agree(peer) {
      if (wiped) throw new Fault(`the private ${keText(group)} value was wiped`);
      const refusal = checkPublicValue(group, peer);
      if (refusal !== undefined) throw new PeerError('INVALID_SYNTAX', `KE payload: ${refusal}`);
      const g_ir = own.agree(peer);
      if (g_ir === undefined) {
        throw new PeerError('INVALID_SYNTAX', `KE payload: the shared ${keText(group)} value is all zero (RFC 7748 §6)`);
      }
      return new Secret(g_ir);
    },
    wipe() {
      wiped = true;
      own.wipe();
    },
  };
}

/** Why `peer` is not a public value of the group, in a sentence, or undefined. RFC 6989 §2.1 (MODP), §2.3 (ECP); RFC 8031 §3.2 takes all. */
export function checkPublicValue(group: KeName, peer: Uint8Array): string | undefined {
  const { publicBytes } = KE[group];
  if (peer.length !== publicBytes) {
    return `expected ${publicBytes} octets of ${keText(group)} public value, found ${peer.length}`;
  }
  if (isModp(group)) return checkModp(group, toNumber(peer));
  if (isEcp(group)) return checkEcp(group, toNumber(peer.subarray(0, publicBytes / 2)), toNumber(peer.subarray(publicBytes / 2)));
  return undefined;
}

/** RFC 6989 §2.1: 1 < y < p - 1. Exponents are never used twice, so membership of the subgroup need not be tested. */
function checkModp(group: ModpName, y: bigint): string | undefined {
  if (y > 1n && y < modpPrime(group) - 1n) return undefined;
  return `the ${keText(group)} public value is not between 2 and p - 2 (RFC 6989 §2.1)`;
}

/** RFC 6989 §2.3: both coordinates are of the field and the point is on the curve. */
function checkEcp(group: EcpName, x: bigint, y: bigint): string | undefined {
  const { p, b } = CURVE[group];
  if (x >= p || y >= p) return `a coordinate of the ${keText(group)} public value is not below p (RFC 6989 §2.3)`;
  if ((y * y - (x * x * x - 3n * x + b)) % p !== 0n)
    return `the ${keText(group)} public value is not on the curve (RFC 6989 §2.3)`;
  return undefined;
}

function privateSecret(group: KeName, octets: Uint8Array): Uint8Array {
  const { privateBytes, sharedBytes } = KE[group];
  if (octets.length !== privateBytes) throw new Fault(`random source: expected ${privateBytes} octets, found ${octets.length}`);
  if (isModp(group)) {
    octets[0]! |= 0x80; // an exponent as long as the row says
    return octets;
  }
  if (!isEcp(group)) return octets;
  const scalar = toOctets((toNumber(octets) % (CURVE[group].n - 1n)) + 1n, sharedBytes);
  octets.fill(0);
  return scalar;
}
