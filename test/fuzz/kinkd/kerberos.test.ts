/** Mutated Kerberos messages: only ApError and WireError escape, and nothing changed inside of what is authenticated is ever accepted. */

import { describe, expect, test } from 'vitest';
import { acceptApReq, buildApReq, checkApRep, makeApRep, makeKrbError, readKrbError } from '../../../kinkd/krb5/ap-exchange.ts';
import { PREFERRED_ETYPES } from '../../../kinkd/krb5/enctypes.ts';
import { ApError } from '../../../kinkd/krb5/errors.ts';
import { equal, hex } from '../../../src/bytes/bytes.ts';
import { WireError } from '../../../src/errors.ts';
import { COUNT, LIMIT, MemoryBound } from '../../support/fuzz.ts';
import { HOSTB, NOON, testRealm } from '../../support/kerberos.ts';
import { mutate, numbers } from '../../support/mutate.ts';

const at = { ctime: NOON / 1000, cusec: 1 };
const OURS = [ApError, WireError];

/** The errors of the house, or undefined where there was none. */
function refusal(attempt: () => unknown): Error | undefined {
  try {
    attempt();
    return undefined;
  } catch (error) {
    if (OURS.some((kind) => error instanceof kind)) return error as Error;
    throw error;
  }
}

describe('mutations', () => {
  test(`of AP-REQs (${COUNT})`, LIMIT, () => {
    const random = numbers(21);
    const realms = PREFERRED_ETYPES.map((etype) => testRealm(etype));
    const corpus = realms.map(({ credential, random }) => buildApReq(credential, at, random));
    const memory = new MemoryBound();
    const seen = { ApError: 0, WireError: 0, accepted: 0 };
    for (let i = 0; i < COUNT; i++) {
      memory.mutant();
      const { acceptor, credential } = realms[i % realms.length]!;
      const original = corpus[i % corpus.length]!;
      const mutant = mutate(original, random);
      let client: string | undefined;
      const error = refusal(() => {
        const accepted = acceptApReq(mutant, acceptor, NOON);
        client = hex(accepted.key.key.reveal());
      });
      if (error !== undefined) seen[error.name as 'ApError' | 'WireError'] += 1;
      else {
        seen.accepted += 1;
        expect(client).toBe(hex(credential.key.key.reveal()));
      }
    }
    memory.end();
    expect(Math.min(seen.ApError, seen.WireError)).toBeGreaterThan(COUNT / 10);
    expect(seen.accepted).toBeLessThan(COUNT / 10);
  });

  test('of every single octet of an AP-REQ, four ways: only ap-options and the name type of the service are not protected', () => {
    const { acceptor, credential, random } = testRealm(19);
    const original = buildApReq(credential, at, random);
    const accepted: number[] = [];
    for (let octet = 0; octet < original.length; octet++) {
      for (const flip of [0x01, 0x80, 0xff, 0x10]) {
        const mutant = original.slice();
        mutant[octet]! ^= flip;
        if (refusal(() => acceptApReq(mutant, acceptor, NOON)) === undefined) accepted.push(octet);
      }
    }
    // Four octets of options, the count of their unused bits before them, and the name type.
    expect(new Set(accepted).size).toBe(6);
  });

  test(`of AP-REPs and KRB-ERRORs (${COUNT})`, LIMIT, () => {
    const random = numbers(22);
    const { acceptor, credential, random: octets } = testRealm(20);
    const apRep = makeApRep(acceptApReq(buildApReq(credential, at, octets), acceptor, NOON), octets);
    const krbError = makeKrbError(
      new ApError('KRB_AP_ERR_SKEW', 'x', { key: credential.key, client: HOSTB, ...at }),
      HOSTB,
      NOON,
    );
    let refused = 0;
    for (let i = 0; i < COUNT; i++) {
      const original = i % 2 === 0 ? apRep : krbError;
      const mutant = mutate(original, random);
      const error = refusal(() => (i % 2 === 0 ? checkApRep(mutant, credential.key, [at]) : readKrbError(mutant)));
      if (error !== undefined) refused += 1;
      else if (i % 2 === 0) expect(equal(mutant, original)).toBe(true);
    }
    expect(refused).toBeGreaterThan(COUNT / 2);
  });
});
