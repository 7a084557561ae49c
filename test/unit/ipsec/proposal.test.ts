import { describe, expect, test } from 'vitest';
import { NONE } from '../../../src/bytes/bytes.ts';
import { choose, type Proposal, type Transform, transformOf } from '../../../src/ipsec/proposal.ts';

const GCM: Transform = { type: 'ENCR', id: 20, keyBits: 128 };
const GCM256: Transform = { type: 'ENCR', id: 20, keyBits: 256 };
const CBC: Transform = { type: 'ENCR', id: 12, keyBits: 128 };
const SHA256: Transform = { type: 'INTEG', id: 12 };
const X25519: Transform = { type: 'KE', id: 31 };
const MODP2048: Transform = { type: 'KE', id: 14 };
const NO_KE: Transform = { type: 'KE', id: 0 };
const NO_INTEG: Transform = { type: 'INTEG', id: 0 };
const NO_ESN: Transform = { type: 'ESN', id: 0 };
const ESN: Transform = { type: 'ESN', id: 1 };

const esp = (number: number, ...transforms: Transform[]): Proposal => ({ number, protocol: 'esp', spi: NONE, transforms });

describe('choosing a proposal (RFC 7296 §2.7, §3.3)', () => {
  test('our preference decides, under their number', () => {
    const chosen = choose(
      [esp(1, GCM256, GCM, NO_ESN), esp(2, CBC, SHA256, NO_ESN)],
      [esp(3, CBC, SHA256, NO_ESN), esp(4, GCM, NO_ESN, GCM256)],
    );
    expect(chosen).toEqual(esp(4, GCM256, NO_ESN));
  });

  test('key lengths are part of a transform', () => {
    expect(choose([esp(1, GCM, NO_ESN)], [esp(1, GCM256, NO_ESN)])).toBeUndefined();
  });

  test('an absent KE, INTEG or ESN is NONE (§3.3.3)', () => {
    expect(choose([esp(1, GCM, NO_ESN, NO_KE, X25519)], [esp(1, GCM, NO_ESN)])).toEqual(esp(1, GCM, NO_ESN));
    expect(choose([esp(1, GCM, NO_ESN)], [esp(1, GCM, NO_INTEG, NO_ESN)])).toEqual(esp(1, GCM, NO_ESN));
    expect(choose([esp(1, GCM, NO_ESN)], [esp(1, GCM)])).toEqual(esp(1, GCM));
    expect(choose([esp(1, GCM, ESN)], [esp(1, GCM)])).toBeUndefined();
    expect(choose([esp(1, GCM, NO_ESN, X25519)], [esp(1, GCM, NO_ESN)])).toBeUndefined();
    expect(choose([esp(1, CBC, SHA256, NO_ESN)], [esp(1, CBC, NO_ESN)])).toBeUndefined();
  });

  test('both must name a common group where both name groups', () => {
    expect(choose([esp(1, GCM, NO_ESN, X25519, NO_KE)], [esp(1, GCM, NO_ESN, MODP2048, NO_KE)])).toEqual(
      esp(1, GCM, NO_ESN, NO_KE),
    );
    expect(choose([esp(1, GCM, NO_ESN, X25519)], [esp(1, GCM, NO_ESN, MODP2048)])).toBeUndefined();
  });

  test('a type that we do not know spoils their proposal (§3.3.6), not the next one', () => {
    const strange: Transform = { type: 241, id: 1 };
    expect(choose([esp(1, GCM, NO_ESN)], [esp(1, GCM, NO_ESN, strange), esp(2, GCM, NO_ESN)])?.number).toBe(2);
  });

  test('another protocol is no common ground', () => {
    expect(choose([esp(1, SHA256, NO_ESN)], [{ ...esp(1, SHA256, NO_ESN), protocol: 'ah' }])).toBeUndefined();
  });

  test('the chosen transform of a type', () => {
    expect(transformOf(esp(1, GCM, NO_ESN), 'ENCR')).toEqual(GCM);
    expect(transformOf(esp(1, GCM, NO_ESN), 'KE')).toBeUndefined();
  });
});
