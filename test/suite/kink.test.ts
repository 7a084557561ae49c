/** kinkd under `tanuki up`: it runs where a policy has KINK, from the start or from a reload on, and the front door finds what it serves. */

import { existsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeKeytab } from '../../kinkd/krb5/keytab.ts';
import { serviceKey } from '../support/kink-config.ts';
import { type Site, site, status, tanuki, type Up, until, up } from './nodes.ts';

let place: Site;
let node: Up;

beforeAll(async () => {
  place = site((_, said) => ({ ...said, initiate: '' }));
  node = up(place.a);
  await until('a node', 20_000, async () => (await status(place.a)).daemons.every(({ answers }) => answers));
}, 30_000);
afterAll(async () => {
  await node?.stop();
  place?.remove();
});

const keytab = () => join(place.directory, 'a', 'kink.keytab');

/** A policy of KINK; nobody listens where the KDC should be. */
function kinkText(file = keytab()): string {
  const [me, peer] = [place.a.address, place.b.address];
  return `
interface { ike "${me}" port 10500; kink "${me}" port 10910; datapath { device memory; encap_port 14500; encapsulation force; addresses 10.1.0.1; }; };
kerberos { backend builtin; realm EXAMPLE.ORG; kdc "${me}" port 10089; keytab "${file}"; };
remote peer { acceptable_kmp kink; kink { peers_ipaddr "${peer}" port 10910; my_principal "kink/a.example.org"; peers_principal "kink/b.example.org"; }; };
selector net { direction both; src 10.1.0.0/17; dst 10.2.0.0/17; policy_index net; };
policy net { remote_index peer; my_sa_ipaddr "${me}"; peers_sa_ipaddr "${peer}"; };
`;
}

describe('tanuki up', () => {
  test('without KINK in its policies there is no kinkd', async () => {
    expect((await status(place.a)).daemons.map(({ name }) => name)).toEqual(['datapath', 'spmd', 'iked']);
  });

  test('a reload that brings KINK starts it, and what it needs and lacks is said', async () => {
    writeFileSync(place.a.file, kinkText(), { mode: 0o600 });
    expect((await tanuki('reload', '--run-dir', place.a.runDir)).code).toBe(0);
    const problem = await until('kinkd says that it has no keytab', 10_000, async () =>
      (await status(place.a)).problems.find((text) => text.includes('kink.keytab')),
    );
    expect(problem).toMatch(/kinkd.*keytab: cannot read .*kink\.keytab: no such file; export it \(kadmin: ktadd -k/);
  }, 30_000);

  test('with the keytab it serves the policy: initiate finds it, and tells why there is no ticket', async () => {
    writeFileSync(keytab(), writeKeytab([serviceKey('a')], Date.now()), { mode: 0o600 });
    writeFileSync(place.a.file, `${kinkText()}# again\nlogging { level debug; };\n`, { mode: 0o600 });
    expect(await tanuki('reload', '--run-dir', place.a.runDir)).toMatchObject({ code: 0 });
    const { daemons } = await until('kinkd serves', 10_000, async () => {
      const now = await status(place.a);
      return now.problems.length === 0 && now;
    });
    expect(daemons.map(({ name, answers }) => [name, answers])).toContainEqual(['kinkd', true]);
    const outcome = await tanuki('initiate', 'net', '--run-dir', place.a.runDir);
    expect(outcome.code).toBe(4);
    expect(outcome.stderr).toMatch(/net: no ticket for kink\/b\.example\.org@EXAMPLE\.ORG: no KDC answers/);
    expect((await status(place.a)).kinkPeers).toMatchObject([
      { remote: 'peer', peersPrincipal: 'kink/b.example.org@EXAMPLE.ORG' },
    ]);
    const page = (await tanuki('status', '--run-dir', place.a.runDir)).stdout;
    expect(page).toContain('KINK peers');
    const unknown = await tanuki('terminate', 'nowhere', '--run-dir', place.a.runDir);
    expect([unknown.code, unknown.stderr]).toEqual([4, expect.stringContaining('nowhere')]);
  }, 60_000);

  test('the replay cache is a private file of the run directory', () => {
    const file = join(place.a.runDir, 'kinkd.replays');
    expect(existsSync(file)).toBe(true);
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });
});
