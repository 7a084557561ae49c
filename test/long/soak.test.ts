/**
 * The datapath at full speed for ten minutes while its child SA is rekeyed every five seconds: no packet is lost at a rekey, memory is flat, and the
 * garbage collector never holds the packet worker up. SOAK_SECONDS makes it shorter.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Lab, namespacesMissing } from '../interop/lab/namespaces.ts';
import { rekeyOnce, tanukiNode } from '../interop/lab/nodes.ts';
import { closeAll } from '../interop/lab/proofs.ts';
import { type Pair, tanukiSide } from '../interop/lab/suites.ts';
import { Tanuki, tanukiMissing } from '../interop/lab/tanuki.ts';
import { Pinger } from '../interop/lab/traffic.ts';

const SECONDS = Number(process.env.SOAK_SECONDS ?? 600);
const REKEY_SECONDS = 5;
/** Compilers and caches settle first. */
const WARM_UP_SECONDS = 20;
const MOST_PAUSE_MS = 5;
const MOST_GROWTH_MIB = 8;
const TRACE_GC = fileURLToPath(new URL('trace-gc.cjs', import.meta.url));
/** What a full socket or device queue drops is TCP's business, rekeys or not. */
const BACK_PRESSURE: readonly string[] = ['socketFull', 'deviceFull'];

const PAIR: Pair = {
  suite: {
    name: 'AES-128-GCM-16',
    remote: { encryption: 'aes128_gcm_16', prf: 'hmac_sha2_256', group: 'x25519' },
    policy: { encryption: 'aes128_gcm_16' },
    ike: 'aes128gcm16-prfsha256-x25519',
    esp: 'aes128gcm16',
  },
  outer: 'v4',
};

interface Collection {
  readonly isolate: string;
  /** Since the isolate began, and how long it held its thread up; milliseconds. */
  readonly at: number;
  readonly pause: number;
}

/** What V8's `--trace-gc` printed: the packet worker's, which are those of any isolate but the first of its process. */
function workersCollections(log: string): Collection[] {
  const mains = new Map<string, string>();
  const found: Collection[] = [];
  for (const [, pid, isolate, at, pause] of log.matchAll(/^\[(\d+):(0x[0-9a-f]+)\]\s+(\d+) ms: .* MB, ([\d.]+) \/ /gm)) {
    if (!mains.has(pid!)) mains.set(pid!, isolate!);
    if (mains.get(pid!) !== isolate) found.push({ isolate: isolate!, at: Number(at), pause: Number(pause) });
  }
  return found;
}

const missing = namespacesMissing('iperf3') ?? tanukiMissing();

describe.skipIf(missing !== undefined)(`soak${missing === undefined ? '' : ` (skipped: ${missing})`}`, () => {
  let lab: Lab;
  const tanukis: Tanuki[] = [];
  beforeAll(async () => {
    lab = await Lab.open({ label: 'soak', tcpBufferBytes: 0 });
    for (const at of ['a', 'b'] as const) {
      const scenario = tanukiSide(PAIR, at);
      const remotes = scenario.remotes.map((remote) => ({ ...remote, forceEncapsulation: true }));
      const env = { NODE_OPTIONS: `--require=${TRACE_GC}` };
      tanukis.push(await new Tanuki(lab[at], join(lab.dir, at)).start({ ...scenario, logLevel: 'info', remotes }, [], env));
    }
    await tanukis[0]!.initiate('net4');
  });
  afterAll(() => closeAll(lab, ...tanukis));

  test(`${SECONDS} s of one TCP flow, a rekey every ${REKEY_SECONDS} s`, async () => {
    const [a, b] = tanukis as [Tanuki, Tanuki];
    const [from, to] = [lab.a.addresses.inner.v4, lab.b.addresses.inner.v4];
    const pids = await Promise.all([a, b].map((tanuki) => datapathPid(tanuki)));
    const listener = lab.b.spawn(['iperf3', '-s', '-1', '-B', to, '--forceflush']);
    await listener.waitFor(({ stdout }) => /Server listening/.test(stdout), 5, 'iperf3 listening');
    const duration = SECONDS + WARM_UP_SECONDS;
    const flow = lab.a.spawn([
      'iperf3',
      '-c',
      to,
      '-B',
      from,
      '-t',
      String(duration + 60),
      '-i',
      '0',
      '--connect-timeout',
      '10000',
    ]);
    const pinger = new Pinger(lab.a, to, { from });
    await delay(WARM_UP_SECONDS * 1000);

    const resident: number[] = [];
    const [ours, theirs] = [tanukiNode(a), tanukiNode(b)];
    const end = performance.now() + SECONDS * 1000;
    let rekeys = 0;
    while (performance.now() < end) {
      const next = performance.now() + REKEY_SECONDS * 1000;
      await rekeyOnce('child', [rekeys % 2 === 0 ? ours : theirs], ours, theirs);
      rekeys++;
      resident.push(Math.max(...pids.map(residentMib)));
      await delay(Math.max(0, next - performance.now()));
    }
    expect(flow.finished, 'the flow lasts longer than the soak').toBeUndefined();
    const counted = await Promise.all([a, b].map((tanuki) => tanuki.datapath()));
    const packets = counted.map(({ sas }) => Math.max(0, ...sas.map((sa) => sa.packets)));
    const pings = await pinger.stop();
    flow.kill('SIGINT');
    await flow.exited;
    await Promise.all([a, b].map((tanuki) => tanuki.stop()));
    tanukis.length = 0;

    const collections = [a, b].flatMap((tanuki) => workersCollections(tanuki.log));
    const settled = collections.filter(({ at }) => at > WARM_UP_SECONDS * 1000);
    const pause = Math.max(0, ...settled.map((one) => one.pause));
    const rate = /([\d.]+ [GM]bits\/sec)\s+(?:\d+\s+)?sender/.exec(flow.stdout)?.[1];
    const drops = counted.map((status) => status.drops);
    process.stdout.write(
      `${SECONDS} s at ${rate}: ${rekeys} rekeys; pings ${pings.received} of ${pings.sent}; drops ${JSON.stringify(drops)}; ` +
        `resident ${resident[0]?.toFixed(1)} to ${resident.at(-1)?.toFixed(1)} MiB, at most ${Math.max(...resident).toFixed(1)}; ` +
        `${settled.length} collections in the packet workers after the start, at most ${pause} ms; last SAs ${packets.join(', ')} packets\n`,
    );
    expect(collections.length, 'collections in the packet workers, the start included').toBeGreaterThan(0);
    expect(pings).toMatchObject({ lost: [], duplicates: 0 });
    for (const ofOne of drops) expect(Object.keys(ofOne).filter((name) => !BACK_PRESSURE.includes(name))).toEqual([]);
    expect(pause).toBeLessThan(MOST_PAUSE_MS);
    const settledAt = resident.slice(Math.floor(resident.length / 4));
    expect(Math.max(...settledAt) - settledAt[0]!, 'MiB of growth').toBeLessThan(MOST_GROWTH_MIB);
  });
});

async function datapathPid(tanuki: Tanuki): Promise<number> {
  const pid = (await tanuki.status()).daemons.find(({ name }) => name === 'datapath')?.pid;
  if (pid === undefined) throw new Error('status gives no pid for the datapath');
  return pid;
}

function residentMib(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}
