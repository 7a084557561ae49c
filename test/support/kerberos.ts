/** A realm for tests: keytabs, tickets and the files that MIT's library reads, all from a seed. */

import type { Acceptor } from '../../kinkd/krb5/ap-exchange.ts';
import type { Credential } from '../../kinkd/krb5/credential.ts';
import { type Etype, enctype } from '../../kinkd/krb5/enctypes.ts';
import { Keytab } from '../../kinkd/krb5/keytab.ts';
import { type Principal, parsePrincipal } from '../../kinkd/krb5/principal.ts';
import { issueTicket, StandInKdc, type TicketTerms } from '../../kinkd/krb5/stand-in-kdc.ts';
import { cat, u16be, u32be, utf8 } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import { seededRandom } from './random.ts';

export const REALM = 'KINK.TEST';
export const HOSTA = parsePrincipal('kink/hosta', REALM);
export const HOSTB = parsePrincipal('kink/hostb', REALM);
/** 2026-11-28 03:00:00 UTC in milliseconds. */
export const NOON = Date.UTC(2026, 10, 28, 3);
export const SKEW = 300_000;

/** A ticket of hosta for hostb, and hostb who accepts it. */
export function testRealm(etype: Etype, terms: Partial<TicketTerms> = {}) {
  const random = seededRandom(etype);
  const keys = StandInKdc.principalKeys(HOSTB, [17, 18, 19, 20], random, 3);
  const keytab = new Keytab(keys);
  const credential = issueTicket(
    {
      client: HOSTA,
      server: HOSTB,
      serverKey: keys.find((key) => key.etype === etype)!,
      sessionKey: { etype, key: new Secret(random(enctype(etype).keyBytes)) },
      starttime: NOON / 1000,
      endtime: NOON / 1000 + 3600,
      ...terms,
    },
    random,
  );
  const acceptor: Acceptor = { keytab, servers: [HOSTB], clockSkewMs: SKEW, replays: { has: () => false } };
  return { random, keytab, credential, acceptor };
}

/** A credential cache file, format 0x0504. */
export function writeCcache(client: Principal, credentials: readonly Credential[]): Uint8Array {
  return cat(
    u16be(0x0504),
    u16be(12),
    u16be(1),
    u16be(8),
    new Uint8Array(8),
    ccachePrincipal(client),
    ...credentials.map(({ client, server, key, ticket, starttime, endtime }) =>
      cat(
        ccachePrincipal(client),
        ccachePrincipal(server),
        u16be(key.etype),
        long(key.key.reveal()),
        ...[starttime, starttime, endtime, 0].map(u32be),
        Uint8Array.of(0),
        u32be(0),
        u32be(0),
        u32be(0),
        long(ticket),
        u32be(0),
      ),
    ),
  );
}

function ccachePrincipal({ components, realm, nameType }: Principal): Uint8Array {
  return cat(u32be(nameType), u32be(components.length), ...[realm, ...components].map((part) => long(utf8(part))));
}

function long(bytes: Uint8Array): Uint8Array {
  return cat(u32be(bytes.length), bytes);
}
