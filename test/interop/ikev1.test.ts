/** IKEv1 against charon in two namespaces: both roles, both families, rekeys of both phases under traffic, dead peers. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Charon } from './lab/charon.ts';
import { type Family, Lab, namespacesMissing } from './lab/namespaces.ts';
import { charonNode, isOf, leftovers, rekeyOnce, tanukiNode } from './lab/nodes.ts';
import { waitUntil } from './lab/process.ts';
import { skipNote } from './lab/skip.ts';
import { charonSide, type Pair, SUITES_V1, tanukiSide } from './lab/suites.ts';
import { Tanuki, tanukiMissing } from './lab/tanuki.ts';
import { bulk, Pinger, type PingResult, ping } from './lab/traffic.ts';

const missing = namespacesMissing('charon-systemd', 'swanctl', 'tcpdump') ?? tanukiMissing();
const why = skipNote('IKEv1 with charon', missing);
const FAMILIES: readonly Family[] = ['v4', 'v6'];
const childName = (inner: Family) => (inner === 'v4' ? 'net4' : 'net6');

async function closeAll(lab: Lab | undefined, ...tanukis: readonly (Tanuki | undefined)[]): Promise<void> {
  for (const tanuki of tanukis) await tanuki?.stop().catch((error: Error) => console.error(error.message));
  await lab?.close();
}

describe.skipIf(missing !== undefined)(`IKEv1 with charon${why}`, () => {
  for (const suite of SUITES_V1) {
    for (const outer of FAMILIES) {
      for (const role of ['initiator', 'responder'] as const) {
        describe(`${suite.name}, outer ${outer}, Tanuki ${role}`, () => {
          const pair: Pair = { suite, outer };
          let lab: Lab;
          let tanuki: Tanuki;
          let charon: Charon;
          beforeAll(async () => {
            lab = await Lab.open({ label: `ikev1 ${suite.name} ${outer} ${role}` });
            charon = await new Charon(lab.b, join(lab.dir, 'charon')).start([charonSide(pair, 'b')]);
            tanuki = await new Tanuki(lab.a, join(lab.dir, 'tanuki')).start(tanukiSide(pair, 'a'));
          });
          afterAll(() => closeAll(lab, tanuki));

          for (const inner of FAMILIES) {
            const name = childName(inner);
            test(`inner ${inner}: ping and bulk both ways`, async () => {
              const from = lab.a.addresses.inner[inner];
              const to = lab.b.addresses.inner[inner];
              await (role === 'initiator' ? tanuki : charon).initiate(name);
              await waitUntil(
                async () =>
                  (await tanuki.children()).some(({ selector }) => isOf(selector, name)) &&
                  (await charon.children()).some((child) => child.name === name),
                10,
                `${name} is up on both sides`,
              );
              expect((await charon.ikeSas()).map(({ version }) => version)).toEqual([1]);
              expect(await ping(lab.a, to, 5, { from })).toMatchObject({ sent: 5, lost: [] });
              expect(await ping(lab.b, from, 5, { from: to })).toMatchObject({ sent: 5, lost: [] });
              expect(await bulk(lab.a, lab.b, { from, to, octets: 4 << 20 })).toMatchObject({ intact: true });
              expect(await bulk(lab.b, lab.a, { from: to, to: from, octets: 4 << 20 })).toMatchObject({ intact: true });
            });
          }
        });
      }
    }
  }
});

describe.skipIf(missing !== undefined)(`IKEv1 in time, with charon${why}`, () => {
  for (const suite of SUITES_V1.slice(0, 2)) {
    describe(suite.name, () => {
      const pair: Pair = { suite, outer: 'v4' };
      let lab: Lab;
      let tanuki: Tanuki;
      let charon: Charon;
      beforeAll(async () => {
        lab = await Lab.open({ label: `ikev1 rekeys ${suite.name}` });
        charon = await new Charon(lab.b, join(lab.dir, 'charon')).start([charonSide(pair, 'b')]);
        tanuki = await new Tanuki(lab.a, join(lab.dir, 'tanuki')).start(tanukiSide(pair, 'a'));
        await tanuki.initiate('net4');
      });
      afterAll(() => closeAll(lab, tanuki));

      for (const by of ['ours', 'theirs'] as const) {
        test(`10 child and 3 ISAKMP rekeys begun by ${by}: no ping lost, no SA left over`, async () => {
          const [ours, theirs] = [tanukiNode(tanuki), charonNode(charon)];
          const pinger = new Pinger(lab.a, lab.b.addresses.inner.v4, { from: lab.a.addresses.inner.v4 });
          await pinger.answered(3, 10);
          for (let round = 1; round <= 13; round++) {
            await rekeyOnce(round % 4 === 0 ? 'ike' : 'child', [by === 'ours' ? ours : theirs], ours, theirs);
            await pinger.answered(3, 5);
          }
          const pings = await pinger.stop();
          expect(pings).toMatchObject({ lost: [], duplicates: 0 } satisfies Partial<PingResult>);
          const clean = { ike: 1, children: 1 };
          expect(await leftovers(ours, theirs)).toEqual({ ours: clean, theirs: clean });
        }, 300_000);
      }
    });
  }

  test('charon dies: it is noticed by dead peer detection, and traffic is back when charon is', async () => {
    const pair: Pair = { suite: SUITES_V1[0]!, outer: 'v4', dpdSeconds: 2, retries: 2 };
    const lab = await Lab.open({ label: 'ikev1 dpd' });
    const tanuki = new Tanuki(lab.a, join(lab.dir, 'tanuki'));
    try {
      const charon = await new Charon(lab.b, join(lab.dir, 'charon')).start([charonSide(pair, 'b')]);
      await tanuki.start(tanukiSide(pair, 'a', { initiate: 'start' }));
      const pinger = new Pinger(lab.a, lab.b.addresses.inner.v4, { from: lab.a.addresses.inner.v4 });
      await pinger.answered(5, 10);
      await charon.kill();
      await waitUntil(
        async () => (await tanuki.ikeSas()).length === 0,
        60,
        () => `charon is missed; the log:\n${tanuki.log.slice(-3000)}`,
      );
      await charon.start();
      await pinger.answered(5, 30);
      await pinger.stop();
    } finally {
      await closeAll(lab, tanuki);
    }
  });
});
