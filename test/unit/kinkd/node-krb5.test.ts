/** The source over libkrb5 with a library of our own in its place, which does with the cache file what node-krb5 does. */

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Credential } from '../../../kinkd/krb5/credential.ts';
import { parsePrincipal, ticketGranter } from '../../../kinkd/krb5/principal.ts';
import { type NodeKrb5, NodeKrb5Source } from '../../../kinkd/node-krb5.ts';
import { SystemError } from '../../../src/errors.ts';
import { HOSTA, HOSTB, NOON, REALM, testRealm, writeCcache } from '../../support/kerberos.ts';

let folder: string;
let wall: number;
let calls: string[];
let running: number;
let cached: Credential[];
let configuration: string | undefined;
let source: NodeKrb5Source;

/** Each ticket is another; kinit and spnego append to the cache as libkrb5 does. */
function put(server: Credential['server'], cache: string) {
  const { credential } = testRealm(20, { server, starttime: wall / 1000, endtime: wall / 1000 + 1000 + calls.length });
  if (!existsSync(cache)) cached = [];
  cached.push(credential);
  writeFileSync(cache, writeCcache(HOSTA, cached));
}

async function native(call: string, effect: () => void): Promise<string> {
  calls.push(call);
  running += 1;
  expect(running).toBe(1); // one at a time
  configuration = process.env.KRB5_CONFIG && readFileSync(process.env.KRB5_CONFIG, 'utf8');
  await new Promise((resolve) => setImmediate(resolve));
  running -= 1;
  effect();
  return '';
}

const library: NodeKrb5 = {
  kinit: ({ principal, realm, ccname }) => native(`kinit ${principal} ${realm}`, () => put(ticketGranter(REALM), ccname)),
  spnego: ({ service_principal, ccname }) =>
    native(`spnego ${service_principal}`, () => {
      if (service_principal.startsWith('kink/nobody')) throw new Error('Server not found in Kerberos database');
      if (!service_principal.startsWith('kink/nothing')) put(parsePrincipal(service_principal), ccname);
    }),
};

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tanuki-krb5-'));
  [wall, calls, running, cached] = [NOON, [], 0, []];
  const kerberos = {
    backend: 'node_krb5' as const,
    realm: REALM,
    kdcs: [{ host: '::1', port: 88 }],
    keytab: '/k',
    clockSkew: 300_000,
  };
  source = new NodeKrb5Source({ kerberos, client: HOSTA, wall: () => wall, directory: folder }, library, 'a test');
});
afterEach(() => {
  source.close();
  expect(readdirSync(folder)).toEqual([]);
  rmSync(folder, { recursive: true });
});

describe('node_krb5', () => {
  test('fills a private cache once for all who ask, with a krb5.conf of its own', async () => {
    const before = process.env.KRB5_CONFIG;
    const all = await Promise.all([1, 2, 3].map(() => source.serviceTicket(HOSTB)));
    expect(calls).toEqual(['kinit kink/hosta KINK.TEST', 'spnego kink/hostb@KINK.TEST']);
    expect(all[0]).toMatchObject({ client: HOSTA, server: { components: ['kink', 'hostb'] }, key: { etype: 20 } });
    expect(configuration).toContain('kdc = [::1]:88');
    expect(process.env.KRB5_CONFIG).toBe(before);
    const cache = join(folder, readdirSync(folder)[0]!, 'ccache');
    expect(statSync(dirname(cache)).mode & 0o777).toBe(0o700);
  });

  test('a fresh ticket, and one that ends soon, come with a new cache; another service does not', async () => {
    const first = await source.serviceTicket(HOSTB);
    await source.serviceTicket(parsePrincipal('kink/other', REALM));
    expect(calls.length).toBe(3);
    const fresh = await source.serviceTicket(HOSTB, { fresh: true });
    expect(fresh.endtime).not.toBe(first.endtime);
    expect(calls.slice(3)).toEqual(['kinit kink/hosta KINK.TEST', 'spnego kink/hostb@KINK.TEST']);
    wall += 890_000;
    await source.serviceTicket(HOSTB);
    expect(calls.length).toBe(5);
    wall += 20_000;
    expect((await source.serviceTicket(HOSTB)).starttime).toBe(wall / 1000);
    expect(calls.length).toBe(7);
  });

  test('what fails is named, and does not hold up the next', async () => {
    const failing = source.serviceTicket(parsePrincipal('kink/nobody', REALM));
    const next = source.serviceTicket(HOSTB);
    await expect(failing).rejects.toThrow('ticket for kink/nobody@KINK.TEST: libkrb5 says: Server not found');
    await next;
    await expect(source.serviceTicket(parsePrincipal('kink/nothing', REALM))).rejects.toThrow('no usable ticket');
    for (const name of ['a/b/c', 'a\\/b', 'a b'])
      await expect(source.serviceTicket(parsePrincipal(name, REALM))).rejects.toThrow('plain parts');
    source.close();
    await expect(source.serviceTicket(HOSTB)).rejects.toThrow(SystemError);
  });

  test('what waits is bounded', async () => {
    const all = await Promise.allSettled(Array.from({ length: 70 }, () => source.serviceTicket(HOSTB)));
    const refused = all.filter((outcome) => outcome.status === 'rejected');
    expect(refused.length).toBe(6);
    expect(String(refused[0]!.reason)).toContain('64 requests to libkrb5 wait already');
  });
});
