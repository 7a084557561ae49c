import { describe, expect, test } from 'vitest';
import {
  type Acceptor,
  AuthenticatorClock,
  acceptApReq,
  buildApReq,
  checkApRep,
  makeApRep,
  makeKrbError,
  readKrbError,
} from '../../../../kinkd/krb5/ap-exchange.ts';
import { encrypt, enctype, KEY_USAGE, PREFERRED_ETYPES } from '../../../../kinkd/krb5/enctypes.ts';
import { ApError, type KrbErrorName } from '../../../../kinkd/krb5/errors.ts';
import { Keytab } from '../../../../kinkd/krb5/keytab.ts';
import { AP_OPTION, ApReq, Authenticator, principalName, TICKET_FLAG } from '../../../../kinkd/krb5/messages.ts';
import { parsePrincipal, samePrincipal } from '../../../../kinkd/krb5/principal.ts';
import { ReplayCache, replayLimits } from '../../../../kinkd/krb5/replay-cache.ts';
import type { TicketTerms } from '../../../../kinkd/krb5/stand-in-kdc.ts';
import { decode } from '../../../../src/asn1/schema.ts';
import { cat } from '../../../../src/bytes/bytes.ts';
import { Secret } from '../../../../src/bytes/secret.ts';
import { WireError } from '../../../../src/errors.ts';
import { HOSTA, HOSTB, NOON, SKEW, testRealm } from '../../../support/kerberos.ts';

function refusalOf(accept: () => unknown): ApError {
  try {
    accept();
  } catch (error) {
    if (error instanceof ApError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe.each(PREFERRED_ETYPES)('enctype %i', (etype) => {
  const { random, credential, acceptor } = testRealm(etype);

  test('AP_REQ -->, <-- AP_REP: both ends know each other and the session key', () => {
    const clock = new AuthenticatorClock();
    const sent = [clock.next(NOON), clock.next(NOON)];
    const [first, second] = sent.map((at) => buildApReq(credential, at, random));
    const accepted = acceptApReq(second!, acceptor, NOON + 1500);
    expect(accepted).toMatchObject({
      client: HOSTA,
      server: HOSTB,
      ...sent[1]!,
      endtime: credential.endtime,
      mutualRequired: true,
    });
    expect(accepted.key.etype).toBe(etype);
    expect(accepted.key.key.reveal()).toEqual(credential.key.key.reveal());
    expect(acceptApReq(first!, acceptor, NOON).authenticatorId).not.toEqual(accepted.authenticatorId);
    const apRep = makeApRep(accepted, random);
    expect(checkApRep(apRep, credential.key, sent)).toBe(sent[1]);
    expect(refusalOf(() => checkApRep(apRep, credential.key, [sent[0]!])).error).toBe('KRB_AP_ERR_MUT_FAIL');
    const other = { etype, key: new Secret(random(enctype(etype).keyBytes)) };
    expect(refusalOf(() => checkApRep(apRep, other, sent)).error).toBe('KRB_AP_ERR_BAD_INTEGRITY');
    expect(() => checkApRep(cat(apRep, Uint8Array.of(0)), credential.key, sent)).toThrow(WireError);
  });
});

describe('the acceptor refuses (RFC 4120 §3.2.3)', () => {
  const at = { ctime: NOON / 1000, cusec: 5 };
  interface Case {
    readonly terms?: Partial<TicketTerms>;
    readonly acceptor?: Partial<Acceptor>;
    readonly wall?: number;
    readonly sender?: Uint8Array;
  }
  const attempt = ({ terms, acceptor, wall = NOON, sender }: Case) => {
    const realm = testRealm(20, terms);
    return acceptApReq(buildApReq(realm.credential, at, realm.random), { ...realm.acceptor, ...acceptor }, wall, sender);
  };
  const { keytab } = testRealm(20);
  const ended = { starttime: NOON / 1000 - 7200, endtime: NOON / 1000 - 301 };
  const other = parsePrincipal('kink/hostc@KINK.TEST');
  const foreign = parsePrincipal('kink/far@OTHER.TEST');

  test.each<[KrbErrorName, string, Case, 'key' | 'no key']>([
    ['KRB_AP_ERR_TKT_EXPIRED', 'the ticket ended 301 s ago', { terms: ended }, 'key'],
    ['KRB_AP_ERR_TKT_NYV', 'begins 301 s from now', { terms: { starttime: NOON / 1000 + 301 } }, 'key'],
    ['KRB_AP_ERR_TKT_NYV', 'marked invalid', { terms: { flags: TICKET_FLAG.INVALID } }, 'key'],
    ['KRB_AP_ERR_REPEAT', 'accepted before', { acceptor: { replays: { has: () => true } } }, 'key'],
    ['KRB_AP_ERR_SKEW', '-301 s off ours, 300 s are allowed', { wall: NOON + 301_000 }, 'key'],
    ['KRB_AP_ERR_SKEW', '301 s off ours', { wall: NOON - 301_000 }, 'key'],
    [
      'KRB_AP_ERR_BADADDR',
      'other addresses',
      { terms: { addresses: [Uint8Array.of(192, 0, 2, 1)] }, sender: Uint8Array.of(192, 0, 2, 2) },
      'key',
    ],
    ['KRB_AP_PATH_NOT_ACCEPTED', 'no KDC vouches', { terms: { client: foreign, transited: Uint8Array.of(65) } }, 'key'],
    [
      'KRB_AP_ERR_NOT_US',
      'the ticket is for kink/hostc@KINK.TEST, we are kink/hostb@KINK.TEST',
      { terms: { server: other } },
      'no key',
    ],
    ['KRB_AP_ERR_BADKEYVER', 'no key version 4', { terms: { serverKey: { ...keytab.entries[3]!, kvno: 4 } } }, 'no key'],
    ['KRB_AP_ERR_NOKEY', 'lacks kink/hostb', { acceptor: { keytab: new Keytab([]) } }, 'no key'],
    [
      'KRB_AP_ERR_NOKEY',
      'lacks aes256_cts_hmac_sha384_192',
      { acceptor: { keytab: new Keytab(keytab.entries.slice(0, 3)) } },
      'no key',
    ],
    [
      'KRB_AP_ERR_BAD_INTEGRITY',
      'the ticket does not decrypt',
      { acceptor: { keytab: new Keytab([{ ...keytab.entries[3]!, key: new Secret(new Uint8Array(32)) }]) } },
      'no key',
    ],
  ])('with %s: %s', (name, found, given, key) => {
    const error = refusalOf(() => attempt(given));
    expect(error.error).toBe(name);
    expect(error.message).toContain(found);
    if (key === 'no key') expect(error.refused).toBeUndefined();
    else expect(error.refused).toMatchObject({ ...at, client: given.terms?.client ?? HOSTA });
  });

  test('but not within the skew, from the address of the ticket, or with a path that the KDC checked', () => {
    const accepted: readonly Case[] = [
      { terms: { starttime: NOON / 1000 - 7200, endtime: NOON / 1000 - 300 } },
      { terms: { starttime: NOON / 1000 + 300 } },
      { wall: NOON + SKEW },
      { terms: { addresses: [Uint8Array.of(192, 0, 2, 1)] }, sender: Uint8Array.of(192, 0, 2, 1) },
      { terms: { client: foreign, transited: Uint8Array.of(65), flags: TICKET_FLAG.TRANSITED_POLICY_CHECKED } },
      { terms: { client: foreign } },
      { terms: { serverKey: testRealm(20).keytab.entries[3]! } },
    ];
    for (const given of accepted) expect(samePrincipal(attempt(given).server, HOSTB)).toBe(true);
  });

  test('another client in the authenticator, user-to-user, another version, type or enctype', () => {
    const { random, credential, acceptor } = testRealm(20);
    const change = (members: object) => {
      const apReq = decode(ApReq, buildApReq(credential, at, random), 'AP-REQ');
      return refusalOf(() => acceptApReq(ApReq.write({ ...apReq, ...members }), acceptor, NOON)).error;
    };
    const text = Authenticator.write({ crealm: 'KINK.TEST', cname: principalName(HOSTB), ...at });
    const sealed = encrypt(credential.key, KEY_USAGE.AP_REQ_AUTHENTICATOR, text, random);
    expect(change({ authenticator: { etype: 20, cipher: sealed } })).toBe('KRB_AP_ERR_BADMATCH');
    expect(change({ apOptions: AP_OPTION.USE_SESSION_KEY })).toBe('KRB_AP_ERR_NO_TGT');
    expect(change({ pvno: 4 })).toBe('KRB_AP_ERR_BADVERSION');
    expect(change({ msgType: 15 })).toBe('KRB_AP_ERR_MSG_TYPE');
    const { authenticator } = decode(ApReq, buildApReq(credential, at, random), 'AP-REQ');
    expect(change({ authenticator: { ...authenticator, etype: 18 } })).toBe('KRB_AP_ERR_BAD_INTEGRITY');
    expect(() => acceptApReq(cat(buildApReq(credential, at, random), Uint8Array.of(0)), acceptor, NOON)).toThrow(
      'more than belong here',
    );
  });

  test('a replay, as the cache remembers it', () => {
    const { random, credential, acceptor } = testRealm(17);
    const replays = new ReplayCache(replayLimits(SKEW), NOON);
    const apReq = buildApReq(credential, at, random);
    const { authenticatorId } = acceptApReq(apReq, { ...acceptor, replays }, NOON);
    acceptApReq(apReq, { ...acceptor, replays }, NOON);
    replays.add(authenticatorId, NOON);
    expect(refusalOf(() => acceptApReq(apReq, { ...acceptor, replays }, NOON + 1)).error).toBe('KRB_AP_ERR_REPEAT');
    acceptApReq(buildApReq(credential, at, random), { ...acceptor, replays }, NOON + 1);
  });

  test('and says so in a KRB-ERROR, with the time of the client where it was authentic (§5.9.1)', () => {
    const skewed = refusalOf(() => attempt({ wall: NOON + 301_250 }));
    expect(readKrbError(makeKrbError(skewed, HOSTB, NOON + 301_250))).toMatchObject({
      errorCode: 37,
      ...at,
      crealm: 'KINK.TEST',
      serverWall: NOON + 301_250,
      explanation: expect.stringContaining('KRB_AP_ERR_SKEW'),
    });
    const unknown = readKrbError(
      makeKrbError(
        refusalOf(() => attempt({ terms: { server: other } })),
        HOSTB,
        NOON,
      ),
    );
    expect([unknown.errorCode, unknown.ctime, unknown.cname]).toEqual([35, undefined, undefined]);
    expect(() => readKrbError(Uint8Array.of(0x7e, 0))).toThrow(WireError);
  });
});

test('authenticators of one clock never have the same time, even when it stands still', () => {
  const clock = new AuthenticatorClock();
  const times = [NOON, NOON, NOON + 0.9, NOON + 1, NOON + 999, NOON + 999].map((wall) => {
    const { ctime, cusec } = clock.next(wall);
    return ctime * 1_000_000 + cusec;
  });
  expect(new Set(times).size).toBe(times.length);
  expect(times[5]! - NOON * 1000).toBe(999_001);
});
