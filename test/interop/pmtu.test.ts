/** A path with a link of 1280 octets in the middle: what fits goes, what does not is answered or cut, and nobody outside can shrink it (RFC 4301 §8). */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DatapathNode, type StaticPair } from './lab/datapath.ts';
import { forgeTooBig } from './lab/forge.ts';
import { Lab, type Namespace, namespacesMissing } from './lab/namespaces.ts';
import { waitUntil } from './lab/process.ts';
import { narrowBetween } from './lab/routers.ts';
import { skipNote } from './lab/skip.ts';
import { ping, transfer } from './lab/traffic.ts';

const BUILT = fileURLToPath(new URL('../../dist/src/datapath-process/cli.js', import.meta.url));
const missing = namespacesMissing('iperf3') ?? (existsSync(BUILT) ? undefined : 'not built (npm run build)');
const why = skipNote('a path with a small MTU', missing);

const NARROW = 1280;
type Version = 'v4' | 'v6';
type Case = { readonly outer: Version; readonly inner: Version; readonly encapsulated: boolean };
const CASES: readonly Case[] = (['v4', 'v6'] as const).flatMap((outer) =>
  (['v4', 'v6'] as const).map((inner) => ({ outer, inner, encapsulated: inner === outer })),
);
const HEADERS = { v4: 28, v6: 48 } as const;

describe.skipIf(missing !== undefined)(`a link of ${NARROW} octets in the middle${why}`, () => {
  let lab: Lab;
  let a: DatapathNode;
  let b: DatapathNode;
  let outsider: Namespace;
  let spi = 0x2000;

  const install = async ({ outer, inner, encapsulated }: Case, mode: StaticPair['mode'] = 'tunnel') => {
    await Promise.all([a.flush(), b.flush()]);
    const [left, right] = [lab.a.addresses, lab.b.addresses];
    spi += 2;
    const ends = { left: left.outer[outer], right: right.outer[outer] };
    const nets = { left: left.net[inner], right: right.net[inner] };
    const pair: StaticPair = { mode, encapsulated, outer: ends, inner: mode === 'tunnel' ? nets : ends, spi };
    await Promise.all([a.install(pair, 'left'), b.install(pair, 'right')]);
    return pair;
  };
  const dropsOf = async (node: DatapathNode, name: string) => (await node.status()).drops[name] ?? 0;

  beforeAll(async () => {
    lab = await Lab.open({ label: 'pmtu', link: false, tcpBufferBytes: 0 });
    ({ outsider } = await narrowBetween(lab, NARROW));
    const started = await Promise.all([
      DatapathNode.start(lab.a, join(lab.dir, 'a')),
      DatapathNode.start(lab.b, join(lab.dir, 'b')),
    ]);
    [a, b] = [started[0].node, started[1].node];
    expect(started.map(({ problems }) => problems)).toEqual([[], []]);
  });
  afterAll(() => lab?.close());

  test.each(['v4', 'v6'] as const)('what an outsider forges over %s changes nothing', async (outer) => {
    const pair = await install({ outer, inner: 'v4', encapsulated: true });
    const to = lab.b.addresses.inner.v4;
    const from = lab.a.addresses.inner.v4;
    expect((await ping(lab.a, to, 5, { from })).lost).toEqual([]);
    const { left, right } = pair.outer;
    const sent = { from: left, to: right, encapsulated: true, spi: pair.spi, sequence: 2, bytes: 1400 };
    const forgeries = [
      { ...sent, spi: pair.spi + 0x1000 },
      { ...sent, sequence: 0x7000_0000 },
      { ...sent, sequence: 0 },
      { ...sent, to: lab.b.addresses.outer[outer === 'v4' ? 'v6' : 'v4'] },
      { ...sent, encapsulated: false },
      // It cannot have been too big for that link.
      { ...sent, bytes: 100 },
    ].filter(({ to: other }) => other.includes(':') === left.includes(':'));
    const before = await dropsOf(a, 'forgedIcmp');
    for (const forged of forgeries) await forgeTooBig(outsider, forged, 600, 20);
    await waitUntil(async () => (await dropsOf(a, 'forgedIcmp')) === before + 20 * forgeries.length, 5, 'all forgeries counted');
    const whole = ['ping', '-n', '-c', '3', '-i', '0.3', '-W', '2', '-s', '1150', '-M', 'do', '-I', from, to];
    expect((await lab.a.exec(whole)).stdout).toContain('3 packets transmitted, 3 received');
    expect(await dropsOf(a, 'tooBig')).toBe(0);
  });

  test.each(CASES.map((one) => [`${one.inner} in ${one.outer}, ${one.encapsulated ? 'in UDP' : 'protocol 50'}`, one] as const))(
    '%s: pings with and without DF, and TCP',
    async (_, one) => {
      await install(one);
      const to = lab.b.addresses.inner[one.inner];
      const from = lab.a.addresses.inner[one.inner];
      const pings = (size: number, discover: 'do' | 'dont' | 'want', count = 3) =>
        lab.a.exec([
          'ping',
          '-n',
          '-c',
          String(count),
          '-i',
          '0.3',
          '-W',
          '2',
          '-s',
          String(size),
          '-M',
          discover,
          '-I',
          from,
          to,
        ]);
      /** Of five. The first answer may be lost where the other end learns its path by it. */
      const answered = async (size: number, discover: 'do' | 'dont' | 'want') =>
        Number(/(\d+) received/.exec((await pings(size, discover, 5)).stdout)?.[1]);
      const before = await dropsOf(a, 'forgedIcmp');
      expect((await ping(lab.a, to, 1, { from })).lost).toEqual([]);

      // With DF: the first too long one makes the path known, the next is answered with what fits, and that fits.
      const tooLong = await pings(1390 - HEADERS[one.inner], 'do', 4);
      const told = /mtu[ =:]+(\d+)/i.exec(tooLong.stdout + tooLong.stderr);
      expect(told, tooLong.stdout + tooLong.stderr).not.toBeNull();
      const mtu = Number(told![1]);
      expect(mtu).toBeGreaterThan(one.inner === 'v6' ? 1279 : 1150);
      expect(mtu).toBeLessThanOrEqual(NARROW);
      expect(await answered(mtu - HEADERS[one.inner], 'do')).toBeGreaterThanOrEqual(4);
      expect((await pings(1400, 'do', 1)).stderr).toMatch(new RegExp(`mtu[=:] ?${mtu}`));

      // Without DF: cut and put together again, both ways.
      for (const [size, discover] of [
        [1400, 'dont'],
        [1400, 'want'],
        [4000, 'dont'],
      ] as const)
        expect(await answered(size, discover), `${size} ${discover}`).toBeGreaterThanOrEqual(
          one.outer === 'v4' && one.inner === 'v4' ? 5 : 4,
        );

      const { receivedBytes } = await transfer(lab.a, lab.b, to, { bytes: 4_000_000 });
      expect(receivedBytes).toBeGreaterThan(1_000_000);
      expect(await dropsOf(a, 'tooBig')).toBeGreaterThan(0);
      expect(await dropsOf(a, 'forgedIcmp')).toBe(before);
    },
  );

  test.each(['v4', 'v6'] as const)('transport mode over %s carries TCP', async (outer) => {
    await install({ outer, inner: outer, encapsulated: true }, 'transport');
    const to = lab.b.addresses.outer[outer];
    const { receivedBytes } = await transfer(lab.a, lab.b, to, { bytes: 4_000_000 });
    expect(receivedBytes).toBeGreaterThan(1_000_000);
  });
});
