/**
 * IKEv1 against peers we did not write: Main Mode and Quick Mode with charon (RFC 2409 §5.4, §5.5), dead peer detection (RFC 3706), NAT
 * traversal (RFC 3947). One case by name: `npm run test:interop -- ikev1 -t "PFS.*outer v6.*initiator"`.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Charon } from './lab/charon.ts';
import { type Family, Lab, namespacesMissing } from './lab/namespaces.ts';
import { charonNode, isOf, type Node, tanukiNode } from './lab/nodes.ts';
import { waitUntil } from './lab/process.ts';
import { closeAll, proveRekeys, proveTraffic } from './lab/proofs.ts';
import { skipNote } from './lab/skip.ts';
import { charonSide, type Pair, SUITES_V1, tanukiSide } from './lab/suites.ts';
import { Tanuki, tanukiMissing } from './lab/tanuki.ts';
import { Pinger } from './lab/traffic.ts';

const missing = namespacesMissing('charon-systemd', 'swanctl', 'tcpdump') ?? tanukiMissing();
const why = skipNote('IKEv1 with charon', missing);

describe.skipIf(missing !== undefined)(`IKEv1 traffic with charon in two namespaces${why}`, () => {
  for (const [index, suite] of SUITES_V1.entries()) {
    for (const outer of index < 2 ? (['v4', 'v6'] as const) : (['v4'] as const)) {
      for (const role of ['initiator', 'responder'] as const) {
        const inner: Family = (index + (role === 'initiator' ? 0 : 1)) % 2 === 0 ? 'v4' : 'v6';
        test(`${suite.name}, outer ${outer}, inner ${inner}, Tanuki ${role}: ping, bulk both ways, equal counts`, async () => {
          const pair: Pair = { suite, outer };
          const lab = await Lab.open({ label: `ikev1 ${suite.name} ${outer} ${role}` });
          const tanuki = new Tanuki(lab.a, join(lab.dir, 'tanuki'));
          try {
            const charon = await new Charon(lab.b, join(lab.dir, 'charon')).start([charonSide(pair, 'b')]);
            await tanuki.start(tanukiSide(pair, 'a'));
            await proveTraffic({ lab, tanuki, charon, inner, initiator: role === 'initiator' ? tanuki : charon });
            expect(await charon.ikeSas()).toMatchObject([{ version: 1, initiator: role === 'responder' }]);
          } finally {
            await closeAll(lab, tanuki);
          }
        });
      }
    }
  }
});

describe.skipIf(missing !== undefined)(`IKEv1 rekeying under traffic${why}`, () => {
  for (const other of ['charon', 'Tanuki'] as const) {
    describe(`Tanuki with ${other}`, () => {
      const pair: Pair = { suite: SUITES_V1[1]!, outer: 'v4' };
      let lab: Lab;
      let nodes: { readonly ours: Node; readonly theirs: Node };
      const tanukis: Tanuki[] = [];
      beforeAll(async () => {
        lab = await Lab.open({ label: `ikev1 rekeying with ${other}` });
        const peer = other === 'charon' ? new Charon(lab.b, join(lab.dir, 'peer')) : new Tanuki(lab.b, join(lab.dir, 'peer'));
        if (peer instanceof Charon) await peer.start([charonSide(pair, 'b')]);
        else tanukis.push(await peer.start(tanukiSide(pair, 'b')));
        const tanuki = await new Tanuki(lab.a, join(lab.dir, 'tanuki')).start(tanukiSide(pair, 'a'));
        tanukis.push(tanuki);
        nodes = { ours: tanukiNode(tanuki), theirs: peer instanceof Charon ? charonNode(peer) : tanukiNode(peer) };
        await tanuki.initiate('net4');
      });
      afterAll(() => closeAll(lab, ...tanukis));

      // Between two of a kind one side shows both.
      for (const by of other === 'charon' ? (['ours', 'theirs'] as const) : (['theirs'] as const)) {
        test(`10 phase 2 and 3 phase 1 rekeys begun by ${by}: no ping lost, the transfer completes, no SA left over`, async () => {
          const rounds = Array.from({ length: 13 }, (_, i) => ((i + 1) % 4 === 0 ? 'ike' : 'child'));
          await proveRekeys({ lab, ...nodes, by: [nodes[by]], rounds });
        }, 240_000);
      }
    });
  }
});

describe.skipIf(missing !== undefined)(`IKEv1 crashes${why}`, () => {
  test('charon dies: dead peer detection tells, and traffic is back within 20 s of its return', async () => {
    const pair: Pair = { suite: SUITES_V1[0]!, outer: 'v4', dpdSeconds: 2, retries: 2 };
    const lab = await Lab.open({ label: 'ikev1 charon killed' });
    const tanuki = new Tanuki(lab.a, join(lab.dir, 'tanuki'));
    try {
      const charon = await new Charon(lab.b, join(lab.dir, 'charon')).start([charonSide(pair, 'b')]);
      await tanuki.start(tanukiSide(pair, 'a', { initiate: 'start' }));
      await tanuki.initiate('net4');
      const pinger = new Pinger(lab.a, lab.b.addresses.inner.v4, { from: lab.a.addresses.inner.v4 });
      await pinger.answered(5, 5);
      await charon.kill();
      await waitUntil(
        async () => (await tanuki.ikeSas()).length === 0,
        30,
        () => `charon is missed; the log:\n${tanuki.log.slice(-3000)}`,
      );
      await charon.start();
      await pinger.answered(10, 20);
      await pinger.stop();
      expect((await tanuki.children()).filter(({ selector }) => isOf(selector, 'net4')).length).toBe(1);
    } finally {
      await closeAll(lab, tanuki);
    }
  });
});
