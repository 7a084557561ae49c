/**
 * The whole line against peers we did not write: traffic, rekeying and crashes in namespaces, with charon and with itself.
 * One case by name: `npm run test:interop -- spine -t "AES-GCM.*outer v6.*initiator"`.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Charon } from './lab/charon.ts';
import { type Family, Lab, namespacesMissing } from './lab/namespaces.ts';
import { charonNode, isOf, type Node, tanukiNode } from './lab/nodes.ts';
import { waitUntil } from './lab/process.ts';
import { closeAll, one, proveRekeys, proveTraffic } from './lab/proofs.ts';
import { skipNote } from './lab/skip.ts';
import { charonSide, type Pair, SUITES, tanukiSide } from './lab/suites.ts';
import { Tanuki, tanukiMissing } from './lab/tanuki.ts';
import { Pinger, ping } from './lab/traffic.ts';
import { UmlCharon, UmlGuest, umlMissing } from './lab/uml.ts';

const missing = namespacesMissing('charon-systemd', 'swanctl', 'tcpdump') ?? tanukiMissing();
const why = skipNote('the spine', missing);
const missingGuest = missing ?? umlMissing();
const whyNoGuest = skipNote('the spine with a real kernel', missingGuest);
const FAMILIES: readonly Family[] = ['v4', 'v6'];

describe.skipIf(missing !== undefined)(`traffic with charon in two namespaces${why}`, () => {
  for (const suite of SUITES) {
    for (const outer of FAMILIES) {
      for (const role of ['initiator', 'responder'] as const) {
        describe(`${suite.name}, outer ${outer}, Tanuki ${role}`, () => {
          const pair: Pair = { suite, outer };
          let lab: Lab;
          let tanuki: Tanuki;
          let charon: Charon;
          beforeAll(async () => {
            lab = await Lab.open({ label: `traffic ${suite.name} ${outer} ${role}` });
            charon = await new Charon(lab.b, join(lab.dir, 'charon')).start([charonSide(pair, 'b')]);
            tanuki = await new Tanuki(lab.a, join(lab.dir, 'tanuki')).start(tanukiSide(pair, 'a'));
          });
          afterAll(() => closeAll(lab, tanuki));

          for (const inner of FAMILIES) {
            test(`inner ${inner}: ping, bulk both ways, equal counts`, async () => {
              await proveTraffic({ lab, tanuki, charon, inner, initiator: role === 'initiator' ? tanuki : charon });
            });
          }
        });
      }
    }
  }

  test('on demand: the first packet asks for the SA and is delivered when it is there', async () => {
    const lab = await Lab.open({ label: 'on demand' });
    const pair: Pair = { suite: SUITES[0]!, outer: 'v4' };
    const tanuki = new Tanuki(lab.a, join(lab.dir, 'tanuki'));
    try {
      const charon = await new Charon(lab.b, join(lab.dir, 'charon')).start([charonSide(pair, 'b')]);
      await tanuki.start(tanukiSide(pair, 'a'));
      expect(await ping(lab.a, lab.b.addresses.inner.v4, 3, { from: lab.a.addresses.inner.v4 })).toMatchObject({
        sent: 3,
        lost: [],
      });
      expect((await charon.ikeSas()).length).toBe(1);
    } finally {
      await closeAll(lab, tanuki);
    }
  });
});

describe.skipIf(missingGuest !== undefined)(`traffic with a real kernel${whyNoGuest}`, () => {
  const pair: Pair = { suite: SUITES[0]!, outer: 'v4', mode: 'both' };
  let lab: Lab;
  let guest: UmlGuest;
  let inside: UmlCharon;
  let tanuki: Tanuki;
  beforeAll(async () => {
    lab = await Lab.open({ link: false, label: 'kernel' });
    guest = await UmlGuest.boot(lab.a, join(lab.dir, 'guest'), lab.b.addresses);
    inside = new UmlCharon(guest);
    await inside.start([charonSide(pair, 'b')]);
    tanuki = await new Tanuki(lab.a, join(lab.dir, 'tanuki')).start(tanukiSide(pair, 'a'));
  });
  afterAll(async () => {
    await guest?.close();
    await closeAll(lab, tanuki);
  });

  for (const name of ['net4', 'net6', 'host'] as const) {
    test(`raw ESP in ${name === 'host' ? 'transport' : 'tunnel'} mode: ${name}`, async () => {
      const inner = name === 'net6' ? 'v6' : 'v4';
      const [from, to] =
        name === 'host'
          ? [lab.a.addresses.outer.v4, lab.b.addresses.outer.v4]
          : [lab.a.addresses.inner[inner], lab.b.addresses.inner[inner]];
      await tanuki.initiate(name);
      const theirs = await waitUntil(
        async () => one(await inside.children(), (child) => child.name === name),
        10,
        `${name} in the guest`,
      );
      expect(theirs).toMatchObject({ encap: false, mode: name === 'host' ? 'TRANSPORT' : 'TUNNEL' });
      expect(await ping(lab.a, to, 5, { from })).toMatchObject({ sent: 5, lost: [] });
      expect(await ping(lab.a, to, 5, { from, size: 1300 })).toMatchObject({ sent: 5, lost: [] });
      expect(await guest.must(`ping -n -c 5 -i 0.2 -I ${to} ${from}`)).toMatch(/ 5 received/);
      const now = one(await inside.children(), (child) => child.name === name);
      expect([now?.packetsIn, now?.packetsOut]).toEqual([15, 15]);
      expect((await tanuki.children()).find(({ selector }) => isOf(selector, name))).toMatchObject({
        encapsulated: false,
        packetsIn: 15,
        packetsOut: 15,
      });
    });
  }
});

describe.skipIf(missingGuest !== undefined)(`BEET mode with a real kernel${whyNoGuest}`, () => {
  const pair: Pair = { suite: SUITES[0]!, outer: 'v4', mode: 'beet' };
  let lab: Lab;
  let guest: UmlGuest;
  let inside: UmlCharon;
  let tanuki: Tanuki;
  beforeAll(async () => {
    lab = await Lab.open({ link: false, label: 'beet' });
    guest = await UmlGuest.boot(lab.a, join(lab.dir, 'guest'), lab.b.addresses);
    inside = new UmlCharon(guest);
    await inside.start([charonSide(pair, 'b')]);
    tanuki = await new Tanuki(lab.a, join(lab.dir, 'tanuki')).start(tanukiSide(pair, 'a'));
  });
  afterAll(async () => {
    await guest?.close();
    await closeAll(lab, tanuki);
  });

  // The second child is made within the IKE SA of the first, in which charon has heard whose notify ours is.
  for (const [name, inner] of [
    ['beet4', 'v4'],
    ['beet6', 'v6'],
  ] as const) {
    test(`begun by ${inner === 'v4' ? 'Tanuki' : 'charon'}, rekeyed by the other: ${name}`, async () => {
      const [from, to] = [lab.a.addresses.inner[inner], lab.b.addresses.inner[inner]];
      if (inner === 'v4') await tanuki.initiate(name);
      else await inside.initiate(name);
      const child = () => inside.children().then((all) => one(all, (known) => known.name === name));
      const theirs = await waitUntil(child, 10, `${name} in the guest`);
      expect(theirs).toMatchObject({ encap: false, mode: 'BEET' });
      expect(await ping(lab.a, to, 5, { from })).toMatchObject({ sent: 5, lost: [] });
      expect(await ping(lab.a, to, 5, { from, size: 1300 })).toMatchObject({ sent: 5, lost: [] });
      expect(await guest.must(`ping -n -c 5 -i 0.2 -I ${to} ${from}`)).toMatch(/ 5 received/);
      expect((await tanuki.children()).find(({ selector }) => isOf(selector, name))).toMatchObject({
        packetsIn: 15,
        packetsOut: 15,
      });
      const before = theirs!.spiIn;
      if (inner === 'v4') await inside.rekey({ child: name });
      else await tanuki.rekey(name, 'child');
      await waitUntil(async () => ((await child())?.spiIn ?? before) !== before, 10, `${name} is rekeyed`);
      expect(await child()).toMatchObject({ mode: 'BEET' });
      expect(await ping(lab.a, to, 5, { from })).toMatchObject({ sent: 5, lost: [] });
    });
  }
});

describe.skipIf(missing !== undefined)(`rekeying under traffic${why}`, () => {
  for (const other of ['charon', 'Tanuki'] as const) {
    describe(`Tanuki with ${other}`, () => {
      const pair: Pair = { suite: SUITES[0]!, outer: 'v4' };
      let lab: Lab;
      let nodes: { readonly ours: Node; readonly theirs: Node };
      const tanukis: Tanuki[] = [];
      beforeAll(async () => {
        lab = await Lab.open({ label: `rekeying with ${other}` });
        const peer = other === 'charon' ? new Charon(lab.b, join(lab.dir, 'peer')) : new Tanuki(lab.b, join(lab.dir, 'peer'));
        if (peer instanceof Charon) await peer.start([charonSide(pair, 'b')]);
        else tanukis.push(await peer.start(tanukiSide(pair, 'b')));
        const tanuki = await new Tanuki(lab.a, join(lab.dir, 'tanuki')).start(tanukiSide(pair, 'a'));
        tanukis.push(tanuki);
        nodes = { ours: tanukiNode(tanuki), theirs: peer instanceof Charon ? charonNode(peer) : tanukiNode(peer) };
        await tanuki.initiate('net4');
      });
      afterAll(() => closeAll(lab, ...tanukis));

      for (const by of ['ours', 'theirs', 'both at once'] as const) {
        test(`20 child and 5 IKE rekeys begun by ${by}: no ping lost, the transfer completes, no SA left over`, async () => {
          const rounds = Array.from({ length: 25 }, (_, i) => ((i + 1) % 5 === 0 ? 'ike' : 'child'));
          const { ours, theirs } = nodes;
          await proveRekeys({ lab, ours, theirs, by: by === 'both at once' ? [ours, theirs] : [nodes[by]], rounds });
        }, 240_000);
      }
    });
  }
});

describe.skipIf(missing !== undefined)(`crashes${why}`, () => {
  const pair: Pair = { suite: SUITES[0]!, outer: 'v4', dpdSeconds: 2, retries: 2 };
  let lab: Lab;
  let tanuki: Tanuki;
  let charon: Charon;
  const start = async (more: Parameters<typeof tanukiSide>[2]) => {
    lab = await Lab.open({ label: expect.getState().currentTestName?.replace(/^.*> /, '') ?? 'crash' });
    charon = await new Charon(lab.b, join(lab.dir, 'charon')).start([charonSide(pair, 'b')]);
    tanuki = await new Tanuki(lab.a, join(lab.dir, 'tanuki')).start(tanukiSide(pair, 'a', more));
    await (more?.passive ? charon : tanuki).initiate('net4');
    expect((await ping(lab.a, lab.b.addresses.inner.v4, 3, { from: lab.a.addresses.inner.v4 })).lost).toEqual([]);
  };
  const pinging = (rate = 10) => new Pinger(lab.a, lab.b.addresses.inner.v4, { from: lab.a.addresses.inner.v4, rate });
  const spis = async () => (await tanukiNode(tanuki).childSpis()).join(' ');

  test('charon killed and started again: traffic is back within 20 s by itself', async () => {
    try {
      await start({ initiate: 'start' });
      const pinger = pinging();
      await pinger.answered(5, 5);
      await charon.restart();
      await pinger.answered(10, 20);
      await pinger.stop();
      expect((await tanuki.children()).filter(({ selector }) => isOf(selector, 'net4')).length).toBe(1);
    } finally {
      await closeAll(lab, tanuki);
    }
  });

  test('SIGKILL of spmd: no ping lost, it is started again, nothing is renegotiated', async () => {
    try {
      await start({});
      const before = await spis();
      const pinger = pinging();
      await pinger.answered(5, 5);
      await tanuki.killDaemon('spmd');
      await tanuki.restarted('spmd');
      await pinger.answered(30, 10);
      expect((await pinger.stop()).lost).toEqual([]);
      expect(await spis()).toBe(before);
    } finally {
      await closeAll(lab, tanuki);
    }
  });

  test('SIGKILL of iked: no ping lost, it negotiates anew with INITIAL_CONTACT and deletes the old SAs', async () => {
    try {
      await start({ initiate: 'start' });
      const before = await spis();
      // Many, so that some are under way in the moment when charon has forgotten the old SAs and iked has not installed the new ones.
      const pinger = pinging(100);
      await pinger.answered(50, 5);
      await tanuki.killDaemon('iked');
      await tanuki.restarted('iked');
      await waitUntil(async () => (await spis()) !== before && (await tanuki.children()).length > 0, 20, 'a new child SA');
      await pinger.answered(300, 10);
      expect((await pinger.stop()).lost).toEqual([]);
      expect(charon.log).toMatch(/N\(INIT_CONTACT\)/);
      await waitUntil(async () => (await charon.sas()).length === 1, 20, 'charon has one IKE SA');
      const inDatapath = async () => (await tanuki.status()).childSas.filter(({ selector }) => isOf(selector, 'net4')).length;
      await waitUntil(async () => (await inDatapath()) === 1, 20, 'one child SA left');
    } finally {
      await closeAll(lab, tanuki);
    }
  });

  test('SIGKILL of iked with a policy that only responds: the old SAs go on', async () => {
    try {
      await start({ passive: true });
      const pinger = pinging();
      await pinger.answered(5, 5);
      await tanuki.killDaemon('iked');
      await tanuki.restarted('iked');
      await pinger.answered(50, 15);
      expect((await pinger.stop()).lost).toEqual([]);
    } finally {
      await closeAll(lab, tanuki);
    }
  });

  test('SIGKILL of the datapath: new keys for every child, traffic within 3 s, status says what happened', async () => {
    try {
      await start({});
      const before = await spis();
      const pinger = pinging();
      await pinger.answered(5, 5);
      await tanuki.killDaemon('datapath');
      await pinger.answered(5, 3);
      await tanuki.restarted('datapath');
      await delay(1000);
      await pinger.stop();
      expect(await spis()).not.toBe(before);
      const daemon = (await tanuki.status()).daemons.find(({ name }) => name === 'datapath');
      expect(daemon).toMatchObject({ answers: true, restarts: 1, lastExit: expect.stringMatching(/SIGKILL/) });
    } finally {
      await closeAll(lab, tanuki);
    }
  });
});
