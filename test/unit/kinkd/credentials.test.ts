/** The built-in source of tickets against the stand-in KDC on real sockets. */

import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openCredentialSource } from '../../../kinkd/credentials.ts';
import type { CredentialSource } from '../../../kinkd/krb5/credential.ts';
import { KdcError } from '../../../kinkd/krb5/errors.ts';
import { writeKeytab } from '../../../kinkd/krb5/keytab.ts';
import { parsePrincipal } from '../../../kinkd/krb5/principal.ts';
import { SystemError, WireError } from '../../../src/errors.ts';
import { systemRandom } from '../../../src/runtime/random.ts';
import { kdcServer } from '../../support/kdc-server.ts';
import { HOSTA, HOSTB, NOON, REALM } from '../../support/kerberos.ts';

let folder: string;
let now: number;
let server: Awaited<ReturnType<typeof kdcServer>>;
const sources: CredentialSource[] = [];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tanuki-credentials-'));
});
afterAll(() => rmSync(folder, { recursive: true }));
beforeEach(async () => {
  now = Date.now();
  server = await kdcServer({ lifeSeconds: 1000, wall: () => now });
  writeFileSync(keytab(), writeKeytab(server.keysOfHosta, NOON), { mode: 0o600 });
  chmodSync(keytab(), 0o600);
});
afterEach(async () => {
  for (const source of sources.splice(0)) source.close();
  await server.close();
});

const keytab = () => join(folder, 'keytab');

function source(options: Partial<Parameters<typeof openCredentialSource>[0]> = {}, kdcs = [server.address]): CredentialSource {
  const kerberos = { backend: 'builtin' as const, realm: REALM, kdcs, keytab: keytab(), clockSkew: 300_000 };
  const opened = openCredentialSource({ kerberos, client: HOSTA, wall: () => now, random: systemRandom, ...options });
  sources.push(opened);
  return opened;
}

/** A port that nobody listens on. */
async function deadPort() {
  const other = await kdcServer();
  await other.close();
  return other.address;
}

describe('builtin', () => {
  test('AS with pre-authentication, then TGS; the ticket is kept until shortly before its end', async () => {
    const tickets = source();
    const first = await tickets.serviceTicket(HOSTB);
    expect(first).toMatchObject({ client: HOSTA, key: { etype: 20 }, endtime: Math.floor(now / 1000) + 1000 });
    expect(server.state.asked).toEqual({ udp: 3, tcp: 0 });
    now += 890_000;
    expect(await tickets.serviceTicket(HOSTB)).toBe(first);
    now += 15_000; // a tenth of its life is left, and of the ticket-granting ticket's
    const second = await tickets.serviceTicket(HOSTB);
    expect(second.endtime).toBeGreaterThan(first.endtime);
    expect(server.state.asked.udp).toBe(6);
    const fresh = await tickets.serviceTicket(HOSTB, { fresh: true });
    expect(fresh.ticket).not.toEqual(second.ticket);
    expect(server.state.asked.udp).toBe(7);
  });

  test('who asks for the same at once shares one exchange', async () => {
    const tickets = source();
    const all = await Promise.all(Array.from({ length: 50 }, () => tickets.serviceTicket(HOSTB)));
    expect(new Set(all).size).toBe(1);
    expect(server.state.asked.udp).toBe(3);
  });

  test('session keys of each enctype that is asked for', async () => {
    for (const etype of [17, 18, 19, 20] as const) {
      expect((await source({ etypes: [etype] }).serviceTicket(HOSTB)).key.etype).toBe(etype);
    }
  });

  test('TCP where the answer does not fit in UDP, and by configuration', async () => {
    server.state.fault = 'too-big';
    await source().serviceTicket(HOSTB);
    expect(server.state.asked).toEqual({ udp: 3, tcp: 3 });
    await source({ by: 'tcp' }).serviceTicket(HOSTB);
    expect(server.state.asked).toEqual({ udp: 3, tcp: 6 });
  });

  test('a datagram that is lost is sent again', async () => {
    server.state.lose = 1;
    await source().serviceTicket(HOSTB);
    expect(server.state.asked).toEqual({ udp: 4, tcp: 0 });
  });

  test('a KDC that forgot its keys: the ticket-granting ticket is replaced', async () => {
    const tickets = source();
    await tickets.serviceTicket(HOSTB);
    server.restartAnew();
    await tickets.serviceTicket(HOSTB, { fresh: true });
    expect(server.state.asked.udp).toBe(3 + 1 + 3);
  });

  test('a closed port costs no wait: the next KDC is asked, and remembered', async () => {
    const tickets = source({}, [await deadPort(), server.address]);
    const began = performance.now();
    await tickets.serviceTicket(HOSTB);
    await tickets.serviceTicket(HOSTB, { fresh: true });
    expect(performance.now() - began).toBeLessThan(900);
  });

  test('a dead KDC is told in a bounded time, and close ends the wait', async () => {
    const began = performance.now();
    await expect(source({}, [await deadPort()]).serviceTicket(HOSTB)).rejects.toThrow(
      /no KDC answers \(127.0.0.1 port \d+: nobody listens there\)/,
    );
    expect(performance.now() - began).toBeGreaterThan(900); // two pauses between three rounds
    server.state.fault = 'silent';
    const tickets = source();
    const waiting = expect(tickets.serviceTicket(HOSTB)).rejects.toThrow(SystemError);
    tickets.close();
    await waiting;
    expect(performance.now() - began).toBeLessThan(5_000);
  });

  test('what goes wrong is named: an unknown service, another realm, a foreign keytab, an answer that is none', async () => {
    const tickets = source();
    const unknown = tickets.serviceTicket(parsePrincipal('kink/nobody', REALM));
    await expect(unknown).rejects.toThrow(KdcError);
    await expect(unknown).rejects.toThrow('ticket for kink/nobody@KINK.TEST: KDC_ERR_S_PRINCIPAL_UNKNOWN');
    await expect(tickets.serviceTicket(parsePrincipal('kink/b@OTHER'))).rejects.toThrow('of another realm');
    await expect(source({ client: HOSTB }).serviceTicket(HOSTA)).rejects.toThrow(
      'has no key of kink/hostb@KINK.TEST, but of kink/hosta@KINK.TEST',
    );
    server.state.fault = 'garbage';
    await expect(source().serviceTicket(HOSTB)).rejects.toThrow(WireError);
    server.state.fault = 'none';
    now += 400_000;
    const late = source({ wall: () => now - 400_000 });
    await expect(late.serviceTicket(HOSTB)).rejects.toThrow(/the KDC's clock is (399|400) s ahead of ours/);
  });

  test('settings that can give no ticket', async () => {
    const kerberos = { backend: 'builtin' as const, realm: REALM, kdcs: [], keytab: keytab(), clockSkew: 300_000 };
    await expect(source({ kerberos }).serviceTicket(HOSTB)).rejects.toThrow('no KDC is known; write kerberos { kdc HOST;');
    const loose = source();
    chmodSync(keytab(), 0o644);
    await expect(loose.serviceTicket(HOSTB)).rejects.toThrow('chmod 600');
  });
});
