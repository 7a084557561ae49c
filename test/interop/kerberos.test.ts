/** The Kerberos layer against MIT krb5: tickets of its KDC by both sources, and AP exchanges with its library in both directions. */

import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openCredentialSource } from '../../kinkd/credentials.ts';
import { AuthenticatorClock, acceptApReq, buildApReq, checkApRep, makeApRep } from '../../kinkd/krb5/ap-exchange.ts';
import { readCcache } from '../../kinkd/krb5/ccache.ts';
import type { CredentialSource } from '../../kinkd/krb5/credential.ts';
import type { Etype } from '../../kinkd/krb5/enctypes.ts';
import { readKeytab } from '../../kinkd/krb5/keytab.ts';
import { parsePrincipal } from '../../kinkd/krb5/principal.ts';
import { loadNodeKrb5 } from '../../kinkd/node-krb5.ts';
import { hex } from '../../src/bytes/bytes.ts';
import { SystemError } from '../../src/errors.ts';
import { systemRandom } from '../../src/runtime/random.ts';
import { HOSTA, HOSTB, REALM, SKEW, writeCcache } from '../support/kerberos.ts';
import { kinit, MitKdc, missingKdc, missingKinit } from './lab/kdc.ts';
import { MitKerberos } from './lab/mit.ts';
import { skipNote } from './lab/skip.ts';

const noKdc = missingKdc();
const noKdcNote = skipNote('Kerberos with MIT', noKdc);
const nodeKrb5 = loadNodeKrb5();
const noPackage = 'problem' in nodeKrb5 ? nodeKrb5.problem : undefined;
const noPackageNote = skipNote('the node-krb5 source', noPackage);
const mitProblem = problemOf(() => new MitKerberos());
const noMitNote = skipNote("MIT's library as the other end", mitProblem);
const noKinit = missingKinit();
const noKinitNote = skipNote("MIT's kinit", noKinit);
const ETYPES: readonly Etype[] = [17, 18, 19, 20];
const NAME = {
  17: 'aes128-cts-hmac-sha1-96',
  18: 'aes256-cts-hmac-sha1-96',
  19: 'aes128-cts-hmac-sha256-128',
  20: 'aes256-cts-hmac-sha384-192',
} as const;

function problemOf(attempt: () => unknown): string | undefined {
  try {
    attempt();
    return undefined;
  } catch (error) {
    return `libkrb5 does not load (${(error as Error).message.split('\n')[0]}; Debian: libkrb5-3, npm: koffi)`;
  }
}

describe.skipIf(noKdc !== undefined)(`Kerberos with MIT${noKdcNote}`, () => {
  let kdc: MitKdc;
  const sources: CredentialSource[] = [];
  const realm = { realm: REALM, principals: ['kink/hosta', 'kink/hostb', 'kink/hostu,-allow_svr', 'kink/other'] };
  beforeAll(async () => {
    kdc = await MitKdc.open(realm);
    // libkrb5 reads these when a context is made.
    for (const name of ['KRB5_CONFIG', 'KRB5RCACHEDIR'] as const) process.env[name] = kdc.environment[name];
  });
  afterAll(async () => {
    for (const source of sources) source.close();
    await kdc?.close();
  });

  function source(
    options: Partial<Parameters<typeof openCredentialSource>[0]> & { backend?: 'builtin' | 'node_krb5' },
    at = kdc,
  ) {
    const { backend = 'builtin', ...rest } = options;
    const kerberos = { backend, realm: REALM, kdcs: [at.address], keytab: at.file('hosta.keytab'), clockSkew: SKEW };
    const opened = openCredentialSource({ kerberos, client: HOSTA, wall: Date.now, random: systemRandom, ...rest });
    sources.push(opened);
    return opened;
  }

  const acceptor = () => ({
    keytab: readKeytab(Uint8Array.from(readFileSync(kdc.file('hostb.keytab')))),
    servers: [HOSTB],
    clockSkewMs: SKEW,
    replays: { has: () => false },
  });

  describe.each(ETYPES)('session key of enctype %i', (etype) => {
    test('builtin: AS with pre-authentication and TGS, over UDP and over TCP', async () => {
      for (const by of ['udp-first', 'tcp'] as const) {
        const credential = await source({ etypes: [etype], by }).serviceTicket(HOSTB);
        expect(credential).toMatchObject({ client: HOSTA, server: HOSTB, key: { etype } });
        const apReq = buildApReq(credential, new AuthenticatorClock().next(Date.now()), systemRandom);
        expect(hex(acceptApReq(apReq, acceptor(), Date.now()).key.key.reveal())).toBe(hex(credential.key.key.reveal()));
      }
    });

    test.skipIf(mitProblem !== undefined)(
      `our AP-REQ is accepted by MIT's library, and its AP-REP by us${noMitNote}`,
      async () => {
        const mit = new MitKerberos();
        const credential = await source({ etypes: [etype] }).serviceTicket(HOSTB);
        const clock = new AuthenticatorClock();
        const sent = [clock.next(Date.now()), clock.next(Date.now())];
        const apReq = buildApReq(credential, sent[1]!, systemRandom);
        const { apRep, key } = mit.accept(apReq, kdc.file('hostb.keytab'), 'kink/hostb');
        expect(key.etype).toBe(etype);
        expect(hex(key.octets)).toBe(hex(credential.key.key.reveal()));
        expect(checkApRep(apRep, credential.key, sent)).toBe(sent[1]);
        expect(() => mit.accept(apReq, kdc.file('hostb.keytab'), 'kink/hostb')).toThrow('replay');
        const bent = buildApReq(credential, clock.next(Date.now()), systemRandom);
        bent[bent.length - 1]! ^= 1;
        expect(() => mit.accept(bent, kdc.file('hostb.keytab'), 'kink/hostb')).toThrow('integrity');
      },
    );

    test.skipIf(mitProblem !== undefined)(
      `the AP-REQ of MIT's library is accepted by us, and our AP-REP by it${noMitNote}`,
      async () => {
        const credential = await source({ etypes: [etype] }).serviceTicket(HOSTB);
        const cache = kdc.file(`ccache.${etype}`);
        writeFileSync(cache, writeCcache(HOSTA, [credential]));
        const exchange = new MitKerberos().initiate(`FILE:${cache}`, 'kink/hosta', 'kink/hostb');
        const accepted = acceptApReq(exchange.apReq, acceptor(), Date.now());
        expect(accepted).toMatchObject({ client: { components: ['kink', 'hosta'] }, server: HOSTB, mutualRequired: true });
        expect([accepted.key.etype, hex(accepted.key.key.reveal())]).toEqual([etype, hex(exchange.key.octets)]);
        expect(() =>
          exchange.checkReply(makeApRep({ ...accepted, cusec: (accepted.cusec + 1) % 1_000_000 }, systemRandom)),
        ).toThrow('Mutual authentication failed');
        exchange.checkReply(makeApRep(accepted, systemRandom));
      },
    );

    test.skipIf(noPackage !== undefined)(`node-krb5${noPackageNote}`, async () => {
      const site = await MitKdc.open({ ...realm, sessionEtypes: NAME[etype] });
      try {
        // The source writes its own krb5.conf, which leaves libkrb5's choice of enctypes alone; the site's says which.
        process.env.KRB5_CONFIG = site.file('krb5.conf');
        const kerberos = {
          backend: 'node_krb5' as const,
          realm: REALM,
          kdcs: [],
          keytab: site.file('hosta.keytab'),
          clockSkew: SKEW,
        };
        const credential = await source({ kerberos }).serviceTicket(HOSTB);
        expect(credential).toMatchObject({ client: { components: ['kink', 'hosta'] }, key: { etype } });
        const keytab = readKeytab(Uint8Array.from(readFileSync(site.file('hostb.keytab'))));
        const apReq = buildApReq(credential, new AuthenticatorClock().next(Date.now()), systemRandom);
        acceptApReq(apReq, { ...acceptor(), keytab }, Date.now());
      } finally {
        process.env.KRB5_CONFIG = kdc.environment.KRB5_CONFIG;
        await site.close();
      }
    });
  });

  test.skipIf(noPackage !== undefined)(
    `node-krb5 keeps tickets, renews on request, asks one at a time and names what failed${noPackageNote}`,
    async () => {
      const tickets = source({ backend: 'node_krb5' });
      const all = await Promise.all(Array.from({ length: 10 }, () => tickets.serviceTicket(HOSTB)));
      expect(new Set(all.map(({ ticket }) => hex(ticket))).size).toBe(1);
      const fresh = await tickets.serviceTicket(HOSTB, { fresh: true });
      expect(hex(fresh.ticket)).not.toBe(hex(all[0]!.ticket));
      await tickets.serviceTicket(parsePrincipal('kink/other', REALM));
      await expect(tickets.serviceTicket(parsePrincipal('kink/nobody', REALM))).rejects.toThrow(
        'ticket for kink/nobody@KINK.TEST: libkrb5 says',
      );
      await expect(tickets.serviceTicket(parsePrincipal('a/b/c', REALM))).rejects.toThrow('one or two plain parts');
    },
  );

  test('answers of the KDC that refuse are named', async () => {
    const tickets = source({});
    await expect(tickets.serviceTicket(parsePrincipal('kink/nobody', REALM))).rejects.toThrow('KDC_ERR_S_PRINCIPAL_UNKNOWN');
    await expect(tickets.serviceTicket(parsePrincipal('kink/hostu', REALM))).rejects.toThrow('KDC_ERR_MUST_USE_USER2USER');
    await expect(source({ wall: () => Date.now() - 600_000 }).serviceTicket(HOSTB)).rejects.toThrow(
      /KRB_AP_ERR_SKEW.*(599|600|601) s ahead of ours/,
    );
  });

  test('a ticket that ends soon is refreshed', async () => {
    const short = await MitKdc.open({ ...realm, life: '20s' });
    try {
      let wall = 0;
      const tickets = source({ wall: () => Date.now() + wall }, short);
      const first = await tickets.serviceTicket(HOSTB);
      expect(first.endtime - first.starttime).toBe(20);
      wall = 19_000;
      const second = await tickets.serviceTicket(HOSTB);
      expect(hex(second.ticket)).not.toBe(hex(first.ticket));
    } finally {
      await short.close();
    }
  });

  test.skipIf(noKinit !== undefined)(`the cache of MIT's kinit is read${noKinitNote}`, () => {
    const { client, credentials } = readCcache(Uint8Array.from(readFileSync(kinit(kdc, 'hosta.keytab', 'cc', 'kink/hosta'))));
    expect([client.components, credentials[0]!.server.components]).toEqual([
      ['kink', 'hosta'],
      ['krbtgt', REALM],
    ]);
  });

  test.each(noPackage === undefined ? (['builtin', 'node_krb5'] as const) : (['builtin'] as const))(
    'a stopped KDC (%s): an error in a bounded time, nothing else waits, and it may come back',
    async (backend) => {
      const stopped = await MitKdc.open(realm);
      try {
        const tickets = source({ backend }, stopped);
        const kept = await tickets.serviceTicket(HOSTB);
        await stopped.stop();
        const began = performance.now();
        const failing = expect(tickets.serviceTicket(HOSTB, { fresh: true })).rejects.toThrow(SystemError);
        if (backend === 'builtin') expect(await tickets.serviceTicket(HOSTB)).toBe(kept);
        let latest = performance.now();
        let longest = 0;
        const ticking = setInterval(() => {
          longest = Math.max(longest, performance.now() - latest);
          latest = performance.now();
        }, 10);
        await failing;
        clearInterval(ticking);
        expect(longest).toBeLessThan(250);
        expect(performance.now() - began).toBeLessThan(26_000);
        await stopped.start();
        expect(hex((await tickets.serviceTicket(HOSTB, { fresh: true })).ticket)).not.toBe(hex(kept.ticket));
      } finally {
        await stopped.close();
      }
    },
  );
});
