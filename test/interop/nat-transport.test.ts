/**
 * Transport mode through a NAT (RFC 7296 §2.23.1, RFC 3947 §5.2, RFC 3948 §3.1.2), as L2TP clients use it: each end has selectors for the addresses that it
 * sees, and the transport checksums are right for those although they were made for others.
 */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Lab, namespacesMissing } from './lab/namespaces.ts';
import { NAT_ADDRESS, natBetween } from './lab/nat.ts';
import { isOf } from './lab/nodes.ts';
import { closeAll } from './lab/proofs.ts';
import { skipNote } from './lab/skip.ts';
import { type Pair, SUITES, SUITES_V1, tanukiSide } from './lab/suites.ts';
import { Tanuki, tanukiMissing } from './lab/tanuki.ts';
import { bulk, ping } from './lab/traffic.ts';

const OCTETS = 1e6;
const missing = namespacesMissing('nft') ?? tanukiMissing();

describe.skipIf(missing !== undefined)(`transport mode through a NAT${skipNote('transport mode through a NAT', missing)}`, () => {
  for (const [version, suite] of [
    ['IKEv2', SUITES[0]!],
    ['IKEv1', SUITES_V1[0]!],
  ] as const) {
    test(`${version}: ping and TCP, rekeyed by either side`, async () => {
      const lab = await Lab.open({ link: false, label: `${version} transport behind a NAT` });
      const [client, server] = [new Tanuki(lab.a, join(lab.dir, 'client')), new Tanuki(lab.b, join(lab.dir, 'server'))];
      const pair: Pair = { suite, outer: 'v4', mode: 'transport' };
      try {
        await natBetween(lab);
        const { ike, remotes, policies } = tanukiSide(pair, 'b', { passive: true });
        await server.start({
          ...(ike !== undefined && { ike }),
          remotes: remotes.map((remote) => ({ ...remote, peer: NAT_ADDRESS })),
          policies: policies.map((policy) => ({ ...policy, peer: NAT_ADDRESS, peersSaAddress: NAT_ADDRESS })),
        });
        await client.start(tanukiSide(pair, 'a'));
        await client.initiate('host');
        for (const by of [undefined, client, server]) {
          await by?.rekey('host', 'child');
          await passes(lab);
        }
        // The pair that was replaced last may be there for a moment yet.
        const children = (await server.status()).childSas.filter(({ selector }) => isOf(selector, 'host'));
        for (const child of children) expect(child).toMatchObject({ mode: 'transport', encapsulated: true });
        expect(Math.max(...children.map(({ packetsIn }) => packetsIn))).toBeGreaterThan(0);
      } finally {
        await closeAll(lab, client, server);
      }
    });
  }

  async function passes(lab: Lab): Promise<void> {
    const [from, to] = [lab.a.addresses.outer.v4, lab.b.addresses.outer.v4];
    expect(await ping(lab.a, to, 5, { from })).toMatchObject({ sent: 5, lost: [] });
    expect(await bulk(lab.a, lab.b, { from, to, octets: OCTETS })).toMatchObject({ intact: true });
  }
});
