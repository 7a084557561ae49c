/** Mutated Kerberos messages: only ApError and WireError escape, and nothing changed inside of what is authenticated is ever accepted. */

import { describe, expect, test } from 'vitest';
import { acceptApReq, buildApReq, checkApRep, makeApRep, makeKrbError, readKrbError } from '../../../kinkd/krb5/ap-exchange.ts';
import { PREFERRED_ETYPES } from '../../../kinkd/krb5/enctypes.ts';
import { ApError, KdcError } from '../../../kinkd/krb5/errors.ts';
import { AsExchange, asksForTcp, TgsExchange } from '../../../kinkd/krb5/kdc-exchange.ts';
import { Keytab } from '../../../kinkd/krb5/keytab.ts';
import { ticketGranter } from '../../../kinkd/krb5/principal.ts';
import { StandInKdc } from '../../../kinkd/krb5/stand-in-kdc.ts';
import { equal, hex } from '../../../src/bytes/bytes.ts';
import { WireError } from '../../../src/errors.ts';
import { COUNT, LIMIT, MemoryBound } from '../../support/fuzz.ts';
import { HOSTA, HOSTB, NOON, REALM, testRealm } from '../../support/kerberos.ts';
import { mutate, numbers } from '../../support/mutate.ts';
import { seededRandom } from '../../support/random.ts';

const at = { ctime: NOON / 1000, cusec: 1 };
const OURS = [ApError, KdcError, WireError];

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

  test(`of what a KDC answers and is asked (${COUNT})`, LIMIT, () => {
    const random = numbers(23);
    const octets = seededRandom(23);
    const keytab = new Keytab(
      [HOSTA, HOSTB, ticketGranter(REALM)].flatMap((name) => StandInKdc.principalKeys(name, [20, 17], octets)),
    );
    const kdc = new StandInKdc(REALM, keytab, octets);
    const initial = new AsExchange(HOSTA, keytab, octets);
    const first = initial.request(NOON);
    const required = kdc.answer(first, NOON);
    expect(new AsExchange(HOSTA, keytab, octets).conclude(required, NOON)).toBe('again');
    initial.conclude(required, NOON);
    const second = initial.request(NOON);
    const asRep = kdc.answer(second, NOON);
    const tgt = initial.conclude(asRep, NOON);
    if (tgt === 'again') throw new Error('no ticket-granting ticket');
    const granting = new TgsExchange(tgt, HOSTB, octets);
    const third = granting.request(NOON);
    const tgsRep = kdc.answer(third, NOON);
    expect(granting.conclude(tgsRep, NOON)).toMatchObject({ server: HOSTB });

    const answers: readonly (readonly [Uint8Array, (mutant: Uint8Array) => unknown])[] = [
      [required, (mutant) => new AsExchange(HOSTA, keytab, octets).conclude(mutant, NOON)],
      [asRep, (mutant) => initial.conclude(mutant, NOON)],
      [tgsRep, (mutant) => granting.conclude(mutant, NOON)],
      [required, asksForTcp],
      [first, (mutant) => kdc.answer(mutant, NOON)],
      [second, (mutant) => kdc.answer(mutant, NOON)],
      [third, (mutant) => kdc.answer(mutant, NOON)],
    ];
    let refused = 0;
    for (let i = 0; i < COUNT; i++) {
      const [original, attempt] = answers[i % answers.length]!;
      if (refusal(() => attempt(mutate(original, random))) !== undefined) refused += 1;
    }
    expect(refused).toBeGreaterThan(COUNT / 3);
  });
});
