/** What a client makes of a KDC's answers, RFC 4120 §3.1.5 and §3.3.4. */

import { describe, expect, test } from 'vitest';
import { type Etype, PREFERRED_ETYPES } from '../../../../kinkd/krb5/enctypes.ts';
import { KdcError } from '../../../../kinkd/krb5/errors.ts';
import { AsExchange, TgsExchange } from '../../../../kinkd/krb5/kdc-exchange.ts';
import { Keytab } from '../../../../kinkd/krb5/keytab.ts';
import { parsePrincipal, ticketGranter } from '../../../../kinkd/krb5/principal.ts';
import { StandInKdc } from '../../../../kinkd/krb5/stand-in-kdc.ts';
import { WireError } from '../../../../src/errors.ts';
import { HOSTA, HOSTB, NOON, REALM } from '../../../support/kerberos.ts';
import { seededRandom } from '../../../support/random.ts';

function realm(etypes: readonly Etype[] = PREFERRED_ETYPES) {
  const random = seededRandom(9);
  const hosta = StandInKdc.principalKeys(HOSTA, etypes, random);
  const others = [ticketGranter(REALM), HOSTB].flatMap((name) => StandInKdc.principalKeys(name, [20, 17], random));
  const kdc = new StandInKdc(REALM, new Keytab([...hosta, ...others]), random);
  /** The AS exchange up to the second answer. */
  const initial = (keytab = new Keytab(hosta), wall = NOON) => {
    const exchange = new AsExchange(HOSTA, keytab, random);
    expect(exchange.conclude(kdc.answer(exchange.request(wall), NOON), wall)).toBe('again');
    return { exchange, answer: kdc.answer(exchange.request(wall), NOON) };
  };
  const tgt = () => {
    const { exchange, answer } = initial();
    const credential = exchange.conclude(answer, NOON);
    if (credential === 'again') throw new Error('no ticket');
    return credential;
  };
  return { random, kdc, hosta, initial, tgt };
}

describe('the AS exchange', () => {
  test.each(PREFERRED_ETYPES)('with a key of enctype %i only', (etype) => {
    const { tgt } = realm([etype]);
    expect(tgt()).toMatchObject({ client: HOSTA, server: { components: ['krbtgt', REALM] }, key: { etype } });
  });

  test('with a key that the KDC does not have, at another time, for somebody unknown: KdcError says which', () => {
    const { initial, random, kdc } = realm();
    const foreign = new Keytab(StandInKdc.principalKeys(HOSTA, [20], seededRandom(77)));
    const wrong = initial(foreign);
    expect(() => wrong.exchange.conclude(wrong.answer, NOON)).toThrow(
      'KDC_ERR_PREAUTH_FAILED: pre-authentication failed; the keytab is older',
    );
    const late = initial(undefined, NOON - 400_000);
    expect(() => late.exchange.conclude(late.answer, NOON - 400_000)).toThrow('400 s ahead of ours');
    const stranger = parsePrincipal('kink/stranger', REALM);
    const exchange = new AsExchange(stranger, new Keytab(StandInKdc.principalKeys(stranger, [20], random)), random);
    const refused = kdc.answer(exchange.request(NOON), NOON);
    expect(() => exchange.conclude(refused, NOON)).toThrow(KdcError);
    expect(() => exchange.conclude(refused, NOON)).toThrow('KDC_ERR_C_PRINCIPAL_UNKNOWN');
  });

  test('when the keytab lacks what the KDC wants', () => {
    const { kdc, random } = realm([18]);
    const exchange = new AsExchange(HOSTA, new Keytab(StandInKdc.principalKeys(HOSTA, [20], random)), random);
    const required = kdc.answer(exchange.request(NOON), NOON);
    expect(() => exchange.conclude(required, NOON)).toThrow('wanted a key of enctype 18, and the keytab has 20');
  });

  test('an answer to another request, one that is too old, one of somebody else', () => {
    const { initial, kdc } = realm();
    const { exchange, answer } = initial();
    expect(() => exchange.conclude(answer, NOON + 36_000_000)).toThrow('the ticket ended before it came');
    exchange.request(NOON);
    expect(() => exchange.conclude(answer, NOON)).toThrow(/the nonce is \d+, sent was \d+/);
    const random = seededRandom(4);
    const other = new AsExchange(HOSTB, new Keytab(StandInKdc.principalKeys(HOSTB, [20], random)), random);
    expect(() => other.conclude(answer, NOON)).toThrow(
      'the KDC answered for kink/hosta@KINK.TEST, asked was kink/hostb@KINK.TEST',
    );
    expect(() => other.conclude(kdc.answer(other.request(NOON), NOON).slice(1), NOON)).toThrow(WireError);
  });
});

describe('the TGS exchange', () => {
  test.each(PREFERRED_ETYPES)('gives a session key of enctype %i where that is asked for', (etype) => {
    const { kdc, random, tgt } = realm();
    const exchange = new TgsExchange(tgt(), HOSTB, random, [etype]);
    expect(exchange.conclude(kdc.answer(exchange.request(NOON), NOON), NOON)).toMatchObject({ server: HOSTB, key: { etype } });
  });

  test('refuses a ticket for another service, under another key, and one that nobody asked for', () => {
    const { kdc, random, tgt } = realm();
    const granting = tgt();
    const forGranter = new TgsExchange(granting, ticketGranter(REALM), random);
    // The same randomness gives both the same nonce: only the name tells them apart.
    const forHostb = new TgsExchange(granting, HOSTB, () => new Uint8Array(16));
    const twin = new TgsExchange(granting, ticketGranter(REALM), () => new Uint8Array(16));
    forHostb.request(NOON);
    expect(() => forHostb.conclude(kdc.answer(twin.request(NOON), NOON), NOON)).toThrow(
      'the ticket is for krbtgt/KINK.TEST@KINK.TEST, asked was kink/hostb',
    );
    const answer = kdc.answer(forGranter.request(NOON), NOON);
    expect(() => new TgsExchange(tgt(), ticketGranter(REALM), random).conclude(answer, NOON)).toThrow(
      'does not decrypt with our key of enctype 20',
    );
    const nobody = new TgsExchange(granting, parsePrincipal('kink/nobody', REALM), random);
    expect(() => nobody.conclude(kdc.answer(nobody.request(NOON), NOON), NOON)).toThrow('KDC_ERR_S_PRINCIPAL_UNKNOWN');
  });

  test('a body that was changed under way is noticed by the KDC: its checksum is in the authenticator', () => {
    const { kdc, random, tgt } = realm();
    const exchange = new TgsExchange(tgt(), HOSTB, random);
    const request = exchange.request(NOON);
    request[request.length - 1]! ^= 1; // the least wanted enctype
    expect(() => exchange.conclude(kdc.answer(request, NOON), NOON)).toThrow('KRB_AP_ERR_MODIFIED');
  });
});
