/** Crashes under two suites of ours: the datapath by SIGKILL and by an exception in its packet worker, with a hundred children; every other daemon at full speed. */
import { readFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readPcap } from '../support/pcap.ts';
import { throwInPacketWorker } from './lab/inspector.ts';
import { Lab, type Namespace, namespacesMissing } from './lab/namespaces.ts';
import { type Program, waitUntil } from './lab/process.ts';
import { closeAll } from './lab/proofs.ts';
import { skipNote } from './lab/skip.ts';
import { Tanuki, tanukiMissing } from './lab/tanuki.ts';
import { Pinger, ping, startTransfer } from './lab/traffic.ts';

const missing = namespacesMissing('tcpdump', 'iperf3', 'nft') ?? tanukiMissing();
const why = skipNote('crashes of our own daemons', missing);

const CHILDREN = 100;
/** From the crash until every child is there again. Where others have the cores the clock says nothing: the daemons must not need more than two cores give meanwhile. */
const LIMIT_MS = 3000;
const CORES = 2;

/** The test's own account of ESP on the link. */
const COUNTERS = `
table inet watch {
  counter sent { }
  counter arrived { }
  chain leaving {
    type filter hook postrouting priority 100;
    meta l4proto esp counter name "sent"
  }
  chain arriving {
    type filter hook input priority 100;
    meta l4proto esp counter name "arrived"
  }
}`;

/** `n` children between addresses of their own; side a begins them. */
function scenario(lab: Lab, side: 'a' | 'b', n: number) {
  const [mine, theirs] = side === 'a' ? [1, 2] : [2, 1];
  const [local, peer] = side === 'a' ? [lab.a, lab.b] : [lab.b, lab.a];
  const remote = {
    name: 'peer',
    peer: peer.addresses.outer.v4,
    myId: `ipaddr ${local.addresses.outer.v4}`,
    peersId: `ipaddr ${peer.addresses.outer.v4}`,
    psk: 'not so secret',
    encryption: 'aes128_gcm_16',
    prf: 'hmac_sha2_256',
    group: 'x25519',
    passive: side === 'b',
  };
  const policies = Array.from({ length: n }, (_, i) => ({
    name: `c${i + 1}`,
    remote: 'peer',
    mode: 'tunnel' as const,
    local: `10.91.${mine}.${i + 1}/32`,
    peer: `10.91.${theirs}.${i + 1}/32`,
    mySaAddress: local.addresses.outer.v4,
    peersSaAddress: peer.addresses.outer.v4,
    encryption: 'aes128_gcm_16',
    ...(side === 'a' ? { initiate: 'start' as const } : {}),
  }));
  return { logLevel: 'info' as const, ike: [local.addresses.outer.v4], remotes: [remote], policies };
}

async function addresses(lab: Lab, n: number): Promise<void> {
  for (const [host, net] of [
    [lab.a, 1],
    [lab.b, 2],
  ] as const) {
    const lines = Array.from({ length: n - 1 }, (_, i) => `address add 10.91.${net}.${i + 2}/32 dev lo`);
    await host.must(['sh', '-ec', lines.map((line) => `ip ${line}`).join('\n')]);
  }
}

/** SPIs of the SAs that the datapath has, by direction. */
async function spis(tanuki: Tanuki): Promise<{ inbound: string[]; outbound: string[] }> {
  const { sas } = await tanuki.datapath();
  const of = (direction: string) => sas.filter((sa) => sa.direction === direction && sa.state !== 'dead').map(({ spi }) => spi);
  return { inbound: of('inbound'), outbound: of('outbound') };
}

describe.skipIf(missing !== undefined)(`crashes of the datapath with ${CHILDREN} children${why}`, () => {
  let lab: Lab;
  let a: Tanuki;
  let b: Tanuki;
  let capture: Program;
  let file: string;
  /** SPIs that side a sent to, of each life of its datapath. */
  const lives: string[][] = [];

  beforeAll(async () => {
    lab = await Lab.open({ label: 'crash' });
    await addresses(lab, CHILDREN);
    file = join(lab.dir, 'esp.pcap');
    capture = lab.b.spawn(['tcpdump', '-n', '-U', '-s', '64', '-B', '16384', '-i', 'eth0', '-w', file, 'esp']);
    await capture.waitFor(({ stderr }) => stderr.includes('listening on'), 10, 'a listening tcpdump');
    b = await new Tanuki(lab.b, join(lab.dir, 'tanuki-b')).start(scenario(lab, 'b', CHILDREN));
    a = await new Tanuki(lab.a, join(lab.dir, 'tanuki-a')).start(scenario(lab, 'a', CHILDREN));
    await waitUntil(async () => (await spis(a)).outbound.length === CHILDREN, 30, `${CHILDREN} children`, 100);
  });
  afterAll(async () => {
    await b?.stop();
    await closeAll(lab, a);
  });

  /** All children with SPIs that are not `old`. */
  const back = (tanuki: Tanuki, old: ReadonlySet<string>) => async () => {
    const now = await spis(tanuki).catch(() => undefined);
    const fresh = (list: readonly string[]) => list.filter((spi) => !old.has(spi)).length;
    return now !== undefined && fresh(now.outbound) >= CHILDREN && fresh(now.inbound) >= CHILDREN;
  };

  test.each([
    ['SIGKILL', killDatapath],
    ['an exception in the packet worker', async (tanuki: Tanuki) => throwInPacketWorker(lab.a, await pidOf(tanuki, 'datapath'))],
  ] as const)('%s: restarted, policies and children back with new keys within 3 s', async (how, crash) => {
    const before = await spis(a);
    lives.push(before.outbound);
    const policies = (await a.datapath()).policies.length;
    const restarts = (await daemonOf(a, 'datapath')).restarts;
    const pinger = new Pinger(lab.a, '10.91.2.1', { from: '10.91.1.1' });
    await pinger.answered(5, 5);
    // That of the old datapath goes with it.
    const spentBefore = (await processorMs(a, b)) - processorMsOf(await pidOf(a, 'datapath'));
    const up = childrenUp(a) + CHILDREN;
    const began = await crash(a);
    await waitUntil(async () => childrenUp(a) >= up, 60, `${CHILDREN} new children after ${how}`, 20);
    const tookMs = Date.now() - began;
    await waitUntil(back(a, new Set([...before.inbound, ...before.outbound])), 1, 'all SAs of them in the datapath', 20);
    const spentMs = (await processorMs(a, b)) - spentBefore;
    const busy = loadavg()[0]! > cpus().length;
    console.log(
      `${how}: ${CHILDREN} children back in ${Math.round(tookMs)} ms, ${spentMs} ms of processor time${busy ? ' (others have the cores: the clock is not judged)' : ''}`,
    );
    expect(spentMs).toBeLessThan(CORES * LIMIT_MS);
    if (!busy) expect(tookMs).toBeLessThan(LIMIT_MS);
    await pinger.answered(5, 3);
    await pinger.stop();
    expect((await a.datapath()).policies.length).toBe(policies);
    expect(await daemonOf(a, 'datapath')).toMatchObject({ answers: true, restarts: restarts + 1 });
    // The peer took them too, and carries traffic in each.
    for (let i = 1; i <= CHILDREN; i += 33)
      expect((await ping(lab.a, `10.91.2.${i}`, 2, { from: `10.91.1.${i}` })).lost).toEqual([]);
  });

  test('no sequence number was used twice under one key', async () => {
    lives.push((await spis(a)).outbound);
    await delay(500); // what was captured last is written
    capture.kill('SIGINT');
    await capture.exited;
    const seen = new Set<string>();
    const carried = new Set<string>();
    for (const { source, payload, protocol } of readPcap(file)) {
      if (protocol !== 50) continue;
      const view = new DataView(payload.buffer, payload.byteOffset, 8);
      const spi = view.getUint32(0).toString(16).padStart(8, '0');
      const name = `${source} ${spi} ${view.getUint32(4)}`;
      expect(seen.has(name), name).toBe(false);
      seen.add(name);
      if (source === lab.a.addresses.outer.v4) carried.add(spi);
    }
    expect(lives.length).toBeGreaterThanOrEqual(3);
    const all = lives.flat();
    expect(new Set(all).size).toBe(all.length);
    // Each life of the datapath is in the capture.
    for (const life of lives) expect(life.some((spi) => carried.has(spi))).toBe(true);
  });
});

describe.skipIf(missing !== undefined)(`crashes of the other daemons at full speed${why}`, () => {
  test.each(['spmd', 'iked'] as const)('SIGKILL of %s loses no packet', async (name) => {
    const lab = await Lab.open({ label: `crash ${name}` });
    const [a, b] = [new Tanuki(lab.a, join(lab.dir, 'tanuki-a')), new Tanuki(lab.b, join(lab.dir, 'tanuki-b'))];
    try {
      await b.start(scenario(lab, 'b', 1));
      await a.start(scenario(lab, 'a', 1));
      await waitUntil(async () => (await spis(a)).outbound.length === 1, 20, 'a child', 50);
      await Promise.all([lab.a, lab.b].map((host) => host.must(['nft', COUNTERS])));
      const { result } = await startTransfer(lab.a, lab.b, '10.91.2.1', { from: '10.91.1.1', seconds: 6 });
      await delay(2000);
      await a.killDaemon(name);
      await a.restarted(name);
      const { receivedBytes } = await result;
      await waitUntil(
        async () => (await counted(lab.a, 'sent')) === (await counted(lab.b, 'arrived')),
        5,
        'what was sent has arrived',
        100,
      );
      const sent = await counted(lab.a, 'sent');
      console.log(`SIGKILL of ${name}: ${Math.round(receivedBytes / 1e6)} MB in ${sent} packets of ESP`);
      expect(sent).toBeGreaterThan(20_000);
      // Between the device of one and that of the other nothing is lost: not in a socket, not by the engines, not by the devices.
      const drops = await Promise.all([a, b].map(async (one) => (await one.datapath()).drops));
      expect(drops).toEqual([{}, {}]);
      expect(await lab.b.must(['cat', '/proc/net/raw'])).not.toMatch(/ [1-9]\d*\s*$/m);
      for (const host of [lab.a, lab.b]) expect(await deviceDrops(host)).toEqual([0, 0]);
    } finally {
      await b.stop();
      await closeAll(lab, a);
    }
  });
});

/** Packets that a table named `watch` of the test's own has counted. */
async function counted(host: Namespace, name: string): Promise<number> {
  return Number(/packets (\d+)/.exec(await host.must(['nft', 'list', 'counter', 'inet', 'watch', name]))![1]);
}

/** Dropped by the TUN, both ways. */
async function deviceDrops(host: Namespace): Promise<number[]> {
  const [link] = JSON.parse(await host.must(['ip', '-s', '-j', 'link', 'show', 'tanuki0'])) as {
    stats64: Record<'rx' | 'tx', { dropped: number }>;
  }[];
  return [link!.stats64.rx.dropped, link!.stats64.tx.dropped];
}

/** How many children the log has said to be up: asking the datapath for all of its SAs again and again would take a core from what is measured. */
function childrenUp(tanuki: Tanuki): number {
  return tanuki.log.split('child-sa-up').length - 1;
}

async function daemonOf(tanuki: Tanuki, name: string) {
  return (await tanuki.status()).daemons.find((daemon) => daemon.name === name)!;
}

/** Gives the time of the crash. */
async function killDatapath(tanuki: Tanuki): Promise<number> {
  const pid = await pidOf(tanuki, 'datapath');
  const now = Date.now();
  process.kill(pid, 'SIGKILL');
  return now;
}

async function pidOf(tanuki: Tanuki, name: string): Promise<number> {
  const { pid } = await daemonOf(tanuki, name);
  if (pid === undefined) throw new Error(`${name} does not run`);
  return pid;
}

/** Processor time that the daemons have used since they were started, in milliseconds. */
async function processorMs(...hosts: readonly Tanuki[]): Promise<number> {
  const statuses = await Promise.all(hosts.map((host) => host.status()));
  return statuses
    .flatMap(({ daemons }) => daemons)
    .reduce((sum, { pid }) => sum + (pid === undefined ? 0 : processorMsOf(pid)), 0);
}

/** proc(5): utime and stime, in ticks of 10 ms, behind the name in parentheses. */
function processorMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return 10 * (Number(fields[11]) + Number(fields[12]));
}
