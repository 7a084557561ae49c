/** The lab's own proof: charon with charon through it, so that what fails elsewhere is not the lab. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Charon, type CharonConnection } from './lab/charon.ts';
import { type HostAddresses, Lab, namespacesMissing } from './lab/namespaces.ts';
import { waitUntil } from './lab/process.ts';
import { bulk, idleCounters, Pinger, ping, startBulk, sumCounters, transfer } from './lab/traffic.ts';

const missing = namespacesMissing('charon-systemd', 'swanctl', 'iperf3');
const why = missing === undefined ? '' : ` (skipped: ${missing})`;

const connection = (local: HostAddresses, remote: HostAddresses): CharonConnection => ({
  name: 'pair',
  local: local.outer.v4,
  remote: remote.outer.v4,
  localId: local.outer.v4,
  remoteId: remote.outer.v4,
  psk: 'lab proof, not a secret',
  ike: 'aes128gcm16-prfsha256-x25519',
  children: [
    {
      name: 'net',
      esp: 'aes128gcm16',
      localTs: [local.net.v4, local.net.v6],
      remoteTs: [remote.net.v4, remote.net.v6],
    },
  ],
});

describe.skipIf(missing !== undefined)(`charon with charon through the lab${why}`, () => {
  let lab: Lab;
  let left: Charon;
  let right: Charon;
  beforeAll(async () => {
    lab = await Lab.open();
    left = await new Charon(lab.a, join(lab.dir, 'left')).start([connection(lab.a.addresses, lab.b.addresses)]);
    right = await new Charon(lab.b, join(lab.dir, 'right')).start([connection(lab.b.addresses, lab.a.addresses)]);
  });
  afterAll(async () => {
    await lab?.close();
    expect(readdirSync('/run/netns').filter((name) => name === lab?.a.name || name === lab?.b.name)).toEqual([]);
    expect(existsSync(lab.dir)).toBe(false);
  });

  test('connects and is listed with its suite on both sides', async () => {
    expect((await ping(lab.a, lab.b.addresses.outer.v4, 2)).lost).toEqual([]);
    expect((await ping(lab.a, lab.b.addresses.outer.v6, 2)).lost).toEqual([]);
    await left.initiate('net');
    const [one] = await left.ikeSas();
    const [other] = await waitUntil(
      async () => ((await right.children()).length > 0 ? right.ikeSas() : undefined),
      5,
      'the responder installed',
    );
    expect(one).toMatchObject({ initiator: true, suite: 'AES_GCM_16-128-PRF_HMAC_SHA2_256-CURVE_25519' });
    expect(one?.spiInitiator).toBe(other?.spiInitiator);
    expect(one?.children[0]).toMatchObject({ state: 'INSTALLED', suite: 'AES_GCM_16-128', encap: true });
    expect(one?.children[0]?.spiIn).toBe(other?.children[0]?.spiOut);
  });

  test('pings IPv4 and IPv6, moves a bulk both ways, and both count the same inner octets', async () => {
    for (const family of ['v4', 'v6'] as const) {
      const [from, to] = [lab.a.addresses.inner[family], lab.b.addresses.inner[family]];
      expect(await ping(lab.a, to, 5, { from })).toMatchObject({ sent: 5, received: 5, lost: [] });
      expect(await bulk(lab.a, lab.b, { from, to, octets: 4 << 20 })).toMatchObject({ intact: true });
      expect(await bulk(lab.b, lab.a, { from: to, to: from, octets: 4 << 20 })).toMatchObject({
        intact: true,
      });
      expect((await transfer(lab.a, lab.b, to, { from, seconds: 1, mbitPerSecond: 20 })).receivedBytes).toBeGreaterThan(1 << 20);
    }
    const counters = (charon: Charon) => async () => sumCounters(await charon.children());
    const { one, other } = await idleCounters(counters(left), counters(right));
    expect(one.bytesOut).toBeGreaterThan(8 << 20);
    expect([one.bytesOut, one.packetsOut]).toEqual([other.bytesIn, other.packetsIn]);
    expect([one.bytesIn, one.packetsIn]).toEqual([other.bytesOut, other.packetsOut]);
  });

  test('rekeys children and the IKE SA from either side, and both at once, under traffic without a lost ping', async () => {
    const [from, to] = [lab.a.addresses.inner.v4, lab.b.addresses.inner.v4];
    const pinger = new Pinger(lab.a, to, { from });
    const moving = await startBulk(lab.a, lab.b, { from, to, octets: 40e6, mbitPerSecond: 50 });
    const rekeyed = async (what: 'child' | 'ike', by: readonly Charon[]) => {
      const id = async () => (what === 'ike' ? (await left.ikeSas())[0]?.spiInitiator : (await left.children())[0]?.spiIn);
      const before = await id();
      await Promise.all(by.map((charon) => charon.rekey(what === 'ike' ? { ike: 'pair' } : { child: 'net' })));
      const settled = async () => {
        const [now, ours, theirs] = [await id(), await left.children(), await right.children()];
        return (
          now !== undefined && now !== before && ours.length === 1 && theirs.length === 1 && ours[0]!.spiIn === theirs[0]!.spiOut
        );
      };
      await waitUntil(settled, 20, `${what} rekeyed`);
      await pinger.answered(3, 5);
    };
    for (const by of [[left], [right], [left, right]]) {
      await rekeyed('child', by);
      await rekeyed('ike', by);
    }
    expect(await moving.result).toMatchObject({ intact: true });
    const pings = await pinger.stop();
    expect(pings.sent).toBeGreaterThan(20);
    expect(pings.lost).toEqual([]);
  });

  test('survives a crash of one side: killed, started again, initiated again', async () => {
    await right.kill();
    const [from, to] = [lab.a.addresses.inner.v4, lab.b.addresses.inner.v4];
    expect((await ping(lab.a, to, 3, { from })).received).toBe(0);
    await right.start();
    await right.initiate('net');
    await waitUntil(async () => (await left.sas()).length === 1, 10, 'only the new IKE SA is left');
    expect((await ping(lab.a, to, 5, { from })).lost).toEqual([]);
  });

  test('initiating what the peer refuses fails with a reason', async () => {
    const wrong = { ...connection(lab.a.addresses, lab.b.addresses), psk: 'another' };
    await left.terminate({ ike: 'pair' }, 10, true);
    await left.load([wrong]);
    await expect(left.initiate('net')).rejects.toThrow(/AUTH_FAILED|AUTHENTICATION_FAILED/);
  });
});
