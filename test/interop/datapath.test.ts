/** Two datapath processes with static SAs across the lab's link: every mode, family and encapsulation, the host's rules, and how fast it is. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DatapathStatus, TraceResult } from '../../src/datapath-process/ports.ts';
import { ClearTextWatch } from './lab/capture.ts';
import { DatapathNode, type StaticPair, settings } from './lab/datapath.ts';
import { Lab, type Namespace, namespacesMissing } from './lab/namespaces.ts';
import { waitUntil } from './lab/process.ts';
import { skipNote } from './lab/skip.ts';
import { ping, transfer } from './lab/traffic.ts';

const TANUKI = fileURLToPath(new URL('../../dist/src/cli.js', import.meta.url));
const BUILT = fileURLToPath(new URL('../../dist/src/datapath-process/cli.js', import.meta.url));
const missing = namespacesMissing('iperf3', 'tshark') ?? (existsSync(BUILT) ? undefined : 'not built (npm run build)');
const why = skipNote('two datapath processes', missing);

type Version = 'v4' | 'v6';
type Case = {
  readonly mode: 'tunnel' | 'transport';
  readonly outer: Version;
  readonly inner: Version;
  readonly encapsulated: boolean;
};

const VERSIONS: readonly Version[] = ['v4', 'v6'];
const CASES: readonly Case[] = [true, false].flatMap((encapsulated) =>
  VERSIONS.flatMap((outer): Case[] => [
    ...VERSIONS.map((inner): Case => ({ mode: 'tunnel', outer, inner, encapsulated })),
    { mode: 'transport', outer, inner: outer, encapsulated },
  ]),
);

const title = ({ mode, outer, inner, encapsulated }: Case) =>
  `${mode}, ${mode === 'tunnel' ? `${inner} in ` : ''}${outer}, ${encapsulated ? 'in UDP' : 'protocol 50'}`;

describe.skipIf(missing !== undefined)(`two datapath processes${why}`, () => {
  let lab: Lab;
  let a: DatapathNode;
  let b: DatapathNode;
  let spi = 0x1000;
  /** Rules, routes and links of each host before anything of ours was there. */
  let before: readonly string[];
  /** The same of `a` with a datapath that has no policies. */
  let idle: string;

  const pairOf = ({ mode, outer, inner, encapsulated }: Case): StaticPair => {
    const left = lab.a.addresses;
    const right = lab.b.addresses;
    spi += 2;
    return {
      mode,
      encapsulated,
      outer: { left: left.outer[outer], right: right.outer[outer] },
      inner:
        mode === 'tunnel'
          ? { left: left.net[inner], right: right.net[inner] }
          : { left: left.outer[outer], right: right.outer[outer] },
      spi,
    };
  };
  const install = async (one: Case) => {
    await Promise.all([a.flush(), b.flush()]);
    const pair = pairOf(one);
    await Promise.all([a.install(pair, 'left'), b.install(pair, 'right')]);
  };
  const target = ({ mode, inner, outer }: Case) =>
    mode === 'tunnel' ? lab.b.addresses.inner[inner] : lab.b.addresses.outer[outer];

  beforeAll(async () => {
    lab = await Lab.open({ label: 'datapath', tcpBufferBytes: 0 });
    before = await Promise.all([networkOf(lab.a), networkOf(lab.b)]);
    const started = await Promise.all([
      DatapathNode.start(lab.a, join(lab.dir, 'a')),
      DatapathNode.start(lab.b, join(lab.dir, 'b')),
    ]);
    [a, b] = [started[0].node, started[1].node];
    expect(started.map(({ problems }) => problems)).toEqual([[], []]);
    idle = await networkOf(lab.a);
  });
  afterAll(() => lab?.close());

  test('say what they are', async () => {
    const { device, cipher, closed, problems } = await a.status();
    expect(device).toMatchObject({ kind: 'tun', name: 'tanuki0', mtu: 1390 });
    expect(device.offloads).toEqual(expect.arrayContaining(['checksum', 'tcp-segmentation', 'udp-send-segments']));
    expect({ cipher, closed, problems }).toEqual({ cipher: 'openssl', closed: [], problems: [] });
  });

  test.each(CASES.map((one) => [title(one), one] as const))('%s carries pings and TCP', async (_, one) => {
    await install(one);
    for (const host of [lab.a, lab.b]) await host.must(['ip', 'neighbour', 'flush', 'dev', 'eth0']);
    expect(await ping(lab.a, target(one), 5)).toMatchObject({ received: 5, lost: [], errors: [] });
    // The kernel cuts them to the device's MTU; transport mode carries whole packets only (RFC 4303 §3.3.4).
    expect((await ping(lab.a, target(one), 3, { size: 4000 })).lost).toEqual([]);
    const { receivedBytes } = await transfer(lab.a, lab.b, target(one), { bytes: 4_000_000 });
    expect(receivedBytes).toBeGreaterThan(1_000_000);
    expect(await a.ping(target(one))).toMatchObject({ answered: true });
    const { sas, drops } = await b.status();
    const inbound = sas.find(({ direction }) => direction === 'inbound');
    expect(inbound).toMatchObject({ mode: one.mode, encapsulated: one.encapsulated });
    expect(inbound!.packets).toBeGreaterThan(100);
    expect(drops).toEqual({});
  });

  test('are captured by `tanuki capture`, and tell by `tanuki trace` what a packet then does', async () => {
    const one: Case = { mode: 'tunnel', outer: 'v4', inner: 'v6', encapsulated: true };
    await install(one);
    const to = target(one);
    const from = lab.a.addresses.inner.v6;
    const traced = await lab.a.must([process.execPath, TANUKI, 'trace', from, to, '--json', '--run-dir', a.runDir]);
    const [explained] = JSON.parse(traced) as TraceResult;
    expect(explained).toMatchObject({ fate: 'protected', policy: { action: 'protect' }, sas: [{ mode: 'tunnel' }] });
    const before = await a.status();
    const file = join(lab.dir, 'capture.pcapng');
    const argv = [process.execPath, TANUKI, 'capture', file, '--count', '12', '--seconds', '20', '--run-dir', a.runDir];
    const capture = lab.a.spawn(argv);
    await waitUntil(async () => existsSync(file), 10, 'a capture that has begun');
    expect((await ping(lab.a, to, 3, { from })).lost).toEqual([]);
    expect(await capture.exited).toMatchObject({ code: 0, stderr: `12 packets in ${file}\n` });
    const fields = [
      'frame.interface_name',
      'frame.packet_flags_direction',
      '_ws.col.Protocol',
      'esp.spi',
      'frame.comment',
      'udp.dstport',
    ];
    const shown = await lab.a.must(['tshark', '-r', file, '-T', 'fields', ...fields.flatMap((field) => ['-e', field])]);
    const rows = shown
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split('\t'));
    const after = await a.status();
    const spiOf = (direction: string) => after.sas.find((sa) => sa.direction === direction)!.spi;
    const outer = (way: string, spi: string) => ['outer', way, 'ESP', `0x${spi}`, `SPI ${spi}`, '4500'];
    const inner = (way: string) => ['inner', way, 'ICMPv6', '', '', ''];
    const trip = [
      inner('0x00000002'),
      outer('0x00000002', spiOf('outbound')),
      outer('0x00000001', spiOf('inbound')),
      inner('0x00000001'),
    ];
    expect(rows).toEqual([...trip, ...trip, ...trip]);
    // The policy and the SA that were foretold are those that counted.
    const packets = (status: DatapathStatus) => ({
      policy: status.policies.find(({ id }) => id === explained!.policy!.id)!.packets,
      sa: status.sas.find(({ spi }) => spi === explained!.sas[0]!.spi)!.packets,
    });
    expect(packets(after)).toEqual({ policy: packets(before).policy + 3, sa: packets(before).sa + 3 });
  });

  test.each(['tunnel', 'transport'] as const)(
    '%s: fragments under a policy with a port go with their first one, those of other ports in clear',
    async (mode) => {
      const one: Case = { mode, outer: 'v4', inner: 'v4', encapsulated: true };
      await Promise.all([a.flush(), b.flush()]);
      const pair = { ...pairOf(one), protocol: 17, port: 7000 };
      await Promise.all([a.install(pair, 'left'), b.install(pair, 'right')]);
      const watch = await ClearTextWatch.start(lab.a, 'eth0', 'udp port 7001 or ip[6:2] & 0x1fff != 0');
      expect(await echoes(lab, target(one), 7000, 3)).toBe(3);
      const { sas, drops } = await a.status();
      expect(sas.map(({ packets }) => packets)).toEqual([3, 3]);
      expect(sas.map(({ bytes }) => bytes)).toEqual([3 * 4028, 3 * 4028]);
      if (mode === 'transport') expect(await echoes(lab, target(one), 7001, 3)).toBe(3);
      expect(drops).toEqual({});
      expect((await a.status()).sas.map(({ packets }) => packets)).toEqual([3, 3]);
      expect(await watch.stop()).toEqual([]);
    },
  );

  test('fragments that came one by one are delivered where the policy admits the port of the first (RFC 4301 §7.3)', async () => {
    const one: Case = { mode: 'tunnel', outer: 'v4', inner: 'v4', encapsulated: true };
    await Promise.all([a.flush(), b.flush()]);
    const pair = { ...pairOf(one), protocol: 17 };
    await Promise.all([a.install(pair, 'left'), b.install({ ...pair, port: 7000 }, 'right')]);
    expect(await echoes(lab, target(one), 7000, 3)).toBe(3);
    const packetsIn = async () => (await b.status()).sas.find(({ direction }) => direction === 'inbound')!.packets;
    const admitted = await packetsIn();
    expect(admitted).toBeGreaterThanOrEqual(9);
    expect((await b.status()).drops).toEqual({});
    expect(await echoes(lab, target(one), 7001, 1)).toBe(0);
    expect((await b.status()).drops).toEqual({ policyMismatch: (await packetsIn()) - admitted });
  });

  test('divert what policies protect and nothing else', async () => {
    await install({ mode: 'transport', outer: 'v4', inner: 'v4', encapsulated: true });
    const { v4, v6 } = lab.b.addresses.outer;
    const route = (...argv: string[]) => lab.a.must(['ip', 'route', 'get', ...argv]);
    expect(await route(v4)).toContain('dev tanuki0');
    expect(await route(v4, 'mark', '0x7461')).toContain('dev eth0');
    expect(await route(v4, 'ipproto', 'udp', 'sport', '500')).toContain('dev eth0');
    expect(await route(v4, 'ipproto', 'udp', 'sport', '4500')).toContain('dev eth0');
    expect(await lab.a.must(['ip', '-6', 'route', 'get', v6])).toContain('dev eth0');
    expect((await ping(lab.a, v6, 2)).lost).toEqual([]);
  });

  test('drop clear text that should have been protected (RFC 4301 §5.2)', async () => {
    await Promise.all([a.flush(), b.flush()]);
    const pair = pairOf({ mode: 'tunnel', outer: 'v4', inner: 'v4', encapsulated: true });
    await b.install(pair, 'right');
    const { left, right } = pair.outer;
    await lab.a.must(['ip', 'route', 'add', lab.b.addresses.net.v4, 'via', right]);
    const answered = async () => (await ping(lab.a, lab.b.addresses.inner.v4, 2, { from: lab.a.addresses.inner.v4 })).received;
    expect(await answered()).toBe(0);
    expect((await ping(lab.a, right, 2, { from: left })).lost).toEqual([]);
    await b.flush();
    await lab.b.must(['ip', 'route', 'add', lab.a.addresses.net.v4, 'via', left]);
    expect(await answered()).toBe(2);
    await lab.a.must(['ip', 'route', 'delete', lab.b.addresses.net.v4]);
    await lab.b.must(['ip', 'route', 'delete', lab.a.addresses.net.v4]);
  });

  test('hold packets back after a crash until policies are there again, and then undo what it left', async () => {
    await Promise.all([a.flush(), b.flush()]);
    expect(await networkOf(lab.a)).toBe(idle);
    const one: Case = { mode: 'tunnel', outer: 'v4', inner: 'v4', encapsulated: true };
    await install(one);
    await ping(lab.a, target(one), 1);
    a.program.kill('SIGKILL');
    await a.program.exited;
    expect(await networkOf(lab.a)).not.toBe(before[0]);
    expect((await lab.a.exec(['ping', '-c', '1', '-W', '1', target(one)])).stderr).toContain('No route to host');
    const started = await DatapathNode.start(lab.a, join(lab.dir, 'a'));
    a = started.node;
    expect(started.problems).toEqual([]);
    expect((await lab.a.exec(['ping', '-c', '1', '-W', '1', target(one)])).stderr).toContain('No route to host');
    await install(one);
    expect((await ping(lab.a, target(one), 3)).lost).toEqual([]);
    await a.flush();
    await waitUntil(async () => (await networkOf(lab.a)) === idle, 5, 'nothing of the crashed one is left');
  });

  test('take other settings while they run, and leave nothing behind at their end', async () => {
    await install(CASES[0]!);
    expect(await networkOf(lab.a)).not.toBe(before[0]);
    expect(await a.ask('configure', { settings: settings() })).toEqual({ changed: false, problems: [] });
    expect(await a.ask('configure', { settings: settings({ mtu: 1300 }) })).toEqual({ changed: true, problems: [] });
    expect((await a.status()).device).toMatchObject({ kind: 'tun', name: 'tanuki0', mtu: 1300 });
    expect(await networkOf(lab.a)).toBe(idle);
    await Promise.all([a.stop(), b.stop()]);
    expect(await Promise.all([networkOf(lab.a), networkOf(lab.b)])).toEqual(before);
  });
});

const ECHO = `const { createSocket } = require('node:dgram');
const [, what, address, port, count] = process.argv;
const socket = createSocket('udp4');
if (what === 'serve') socket.on('message', (bytes, { address, port }) => socket.send(bytes, port, address)).bind(port, address, () => console.log('listening'));
else {
  let got = 0;
  const end = () => { console.log(got); process.exit(0); };
  socket.on('message', (bytes) => { if (bytes.length === 4000 && ++got === Number(count)) end(); });
  for (let i = 0; i < count; i++) socket.send(Buffer.alloc(4000, i), port, address);
  setTimeout(end, 5000);
}`;

/** Sends datagrams of 4,000 octets to a port of B and counts those that come back. */
async function echoes({ a, b }: Lab, to: string, port: number, count: number): Promise<number> {
  const argv = (what: string) => [process.execPath, '-e', ECHO, what, to, `${port}`, `${count}`];
  const server = b.spawn(argv('serve'));
  await server.waitFor(({ stdout }) => stdout.includes('listening'), 10, 'a listening echo server');
  const answered = Number(await a.must(argv('ask')));
  server.kill('SIGTERM');
  await server.exited;
  return answered;
}

/** Rules and routes of all tables, as text. */
async function networkOf(host: Namespace): Promise<string> {
  const lists = await Promise.all(
    ['-4', '-6'].flatMap((family) => [
      host.must(['ip', family, 'rule', 'list']),
      host.must(['ip', family, 'route', 'list', 'table', 'all']),
    ]),
  );
  return lists.join('---\n');
}
