/** The lab's own proof: charon with charon through it, so that what fails elsewhere is not the lab. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ClearTextWatch } from './lab/capture.ts';
import { Charon } from './lab/charon.ts';
import { Lab, namespacesMissing } from './lab/namespaces.ts';
import { charonNode, leftovers, type Node, rekeyOnce } from './lab/nodes.ts';
import { waitUntil } from './lab/process.ts';
import { skipNote } from './lab/skip.ts';
import { charonSide, type Pair, SUITES } from './lab/suites.ts';
import { bulk, idleCounters, Pinger, ping, startBulk, sumCounters, transfer } from './lab/traffic.ts';

const missing = namespacesMissing('charon-systemd', 'swanctl', 'iperf3', 'tcpdump');
const why = skipNote('the lab with charon', missing);

const pair: Pair = { suite: SUITES[0]!, outer: 'v4' };

describe.skipIf(missing !== undefined)(`charon with charon through the lab${why}`, () => {
  let lab: Lab;
  let left: Charon;
  let right: Charon;
  beforeAll(async () => {
    lab = await Lab.open({ label: 'lab' });
    left = await new Charon(lab.a, join(lab.dir, 'left')).start([charonSide(pair, 'a')]);
    right = await new Charon(lab.b, join(lab.dir, 'right')).start([charonSide(pair, 'b')]);
  });
  afterAll(async () => {
    await lab?.close();
    expect(readdirSync('/run/netns').filter((name) => name === lab?.a.name || name === lab?.b.name)).toEqual([]);
    expect(existsSync(lab.dir)).toBe(false);
  });

  test('connects and is listed with its suite on both sides', async () => {
    const watch = await ClearTextWatch.start(lab.b, 'eth0');
    expect((await ping(lab.a, lab.b.addresses.outer.v4, 2)).lost).toEqual([]);
    expect((await ping(lab.a, lab.b.addresses.outer.v6, 2)).lost).toEqual([]);
    expect((await watch.stop()).length).toBe(8);
    await left.initiate('net4');
    await left.initiate('net6');
    const [one] = await left.ikeSas();
    const [other] = await waitUntil(
      async () => ((await right.children()).length === 2 ? right.ikeSas() : undefined),
      5,
      'the responder installed',
    );
    expect(one).toMatchObject({ initiator: true, suite: 'AES_GCM_16-256-PRF_HMAC_SHA2_256-CURVE_25519' });
    expect(one?.spiInitiator).toBe(other?.spiInitiator);
    expect(one?.children[0]).toMatchObject({ state: 'INSTALLED', suite: 'AES_GCM_16-256', encap: true });
    expect(one?.children[0]?.spiIn).toBe(other?.children[0]?.spiOut);
  });

  test('pings IPv4 and IPv6, moves a bulk both ways, and both count the same inner octets', async () => {
    const watch = await ClearTextWatch.start(lab.b, 'eth0');
    for (const family of ['v4', 'v6'] as const) {
      const [from, to] = [lab.a.addresses.inner[family], lab.b.addresses.inner[family]];
      expect(await ping(lab.a, to, 5, { from })).toMatchObject({ sent: 5, received: 5, lost: [] });
      expect(await bulk(lab.a, lab.b, { from, to, octets: 4 << 20 })).toMatchObject({ intact: true });
      expect(await bulk(lab.b, lab.a, { from: to, to: from, octets: 4 << 20 })).toMatchObject({
        intact: true,
      });
      expect((await transfer(lab.a, lab.b, to, { from, seconds: 1, mbitPerSecond: 20 })).receivedBytes).toBeGreaterThan(1 << 20);
    }
    expect(await watch.stop()).toEqual([]);
    const counters = (charon: Charon) => async () => sumCounters(await charon.children());
    const { one, other } = await idleCounters(counters(left), counters(right));
    expect(one.bytesOut).toBeGreaterThan(8 << 20);
    expect([one.bytesOut, one.packetsOut]).toEqual([other.bytesIn, other.packetsIn]);
    expect([one.bytesIn, one.packetsIn]).toEqual([other.bytesOut, other.packetsOut]);
  });

  test('rekeys children and the IKE SA from either side, and both at once, under traffic without a lost ping', async () => {
    const [from, to] = [lab.a.addresses.inner.v4, lab.b.addresses.inner.v4];
    const pinger = new Pinger(lab.a, to, { from });
    const moving = await startBulk(lab.a, lab.b, { from, to, octets: 80e6, mbitPerSecond: 50 });
    const [ours, theirs] = [charonNode(left), charonNode(right)];
    const round = async (by: readonly Node[]) => {
      for (const what of ['child', 'ike'] as const) {
        await rekeyOnce(what, by, ours, theirs);
        await pinger.answered(3, 5);
      }
    };
    await round([ours]);
    await round([theirs]);
    const clean = { ike: 1, children: 2 };
    expect(await leftovers(ours, theirs, 2)).toEqual({ ours: clean, theirs: clean });
    // both at once: no ping may be lost, but charon with charon now and then keeps a redundant SA (see rekeyOnce)
    await round([ours, theirs]);
    expect(await moving.result).toMatchObject({ intact: true });
    const pings = await pinger.stop();
    expect(pings.sent).toBeGreaterThan(20);
    expect(pings.lost).toEqual([]);
    expect(await ours.ikeSpis()).toEqual(await theirs.ikeSpis());
  });

  test('survives a crash of one side: killed, started again, initiated again', async () => {
    // What rekeying left, a redundant IKE SA at times (see rekeyOnce), is none of this test's.
    for (const charon of [left, right]) await charon.restart();
    await left.initiate('net4');
    await waitUntil(async () => (await right.children()).length === 1, 5, 'the responder installed');
    await right.kill();
    const [from, to] = [lab.a.addresses.inner.v4, lab.b.addresses.inner.v4];
    expect((await ping(lab.a, to, 3, { from })).received).toBe(0);
    await right.start();
    await right.initiate('net4');
    await waitUntil(async () => (await left.sas()).length === 1, 10, 'only the new IKE SA is left');
    expect((await ping(lab.a, to, 5, { from })).lost).toEqual([]);
  });

  test('initiating what the peer refuses fails with a reason', async () => {
    const wrong = { ...charonSide(pair, 'a'), psk: 'another' };
    await left.terminate({ ike: 'peer' }, 10, true);
    await left.load([wrong]);
    await expect(left.initiate('net4')).rejects.toThrow(/AUTH_FAILED|AUTHENTICATION_FAILED/);
  });

  for (const suite of SUITES) {
    test(`${suite.name} over IPv6 connects and carries pings of both families`, async () => {
      for (const charon of [left, right]) await charon.restart();
      const other: Pair = { suite, outer: 'v6' };
      await left.load([charonSide(other, 'a')]);
      await right.load([charonSide(other, 'b')]);
      for (const [child, family] of [
        ['net4', 'v4'],
        ['net6', 'v6'],
      ] as const) {
        await right.initiate(child);
        expect((await ping(lab.a, lab.b.addresses.inner[family], 3, { from: lab.a.addresses.inner[family] })).lost).toEqual([]);
      }
    });
  }
});
