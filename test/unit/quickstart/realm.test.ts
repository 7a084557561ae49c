/** Either KDC of the quick start gives tickets to the very client that kinkd uses. */

import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { openCredentialSource } from '../../../kinkd/credentials.ts';
import { parsePrincipal, showPrincipal } from '../../../kinkd/krb5/principal.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { mitInstalled, type Realm, type RealmSpec, startMit, startStandIn } from '../../../src/quickstart/realm.ts';
import { systemRandom } from '../../../src/runtime/random.ts';

const REALM = 'QUICKSTART.EXAMPLE';
const directory = mkdtempSync(join(tmpdir(), 'tanuki-realm-'));
let realm: Realm | undefined;

afterEach(async () => {
  await realm?.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function ticketFrom(start: (spec: RealmSpec) => Promise<Realm>): Promise<string> {
  const port = await freePort();
  const keytab = (name: string) => join(directory, `${name}.keytab`);
  realm = await start({
    name: REALM,
    kdc: { address: IpAddress.parse('127.0.0.1')!, port },
    directory: join(directory, 'kdc'),
    principals: ['a.example', 'b.example'].map((name) => ({ principal: `kink/${name}`, keytab: keytab(name) })),
  });
  const source = openCredentialSource({
    kerberos: {
      backend: 'builtin',
      realm: REALM,
      kdcs: [{ host: '127.0.0.1', port }],
      keytab: keytab('a.example'),
      clockSkew: 300_000,
    },
    client: parsePrincipal('kink/a.example', REALM),
    wall: () => Date.now(),
    random: systemRandom,
  });
  try {
    const { client, server } = await source.serviceTicket(parsePrincipal('kink/b.example', REALM));
    return `${showPrincipal(client)} for ${showPrincipal(server)}`;
  } finally {
    source.close();
  }
}

const TICKET = `kink/a.example@${REALM} for kink/b.example@${REALM}`;

test('the stand-in', async () => {
  expect(await ticketFrom((spec) => startStandIn(spec, (text) => expect.fail(text)))).toBe(TICKET);
});

test.skipIf(!mitInstalled())('MIT krb5kdc (skipped where krb5-kdc and krb5-admin-server are not installed)', async () => {
  expect(await ticketFrom(startMit)).toBe(TICKET);
});
