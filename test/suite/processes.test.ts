/** Two nodes as supervised processes with memory devices: every command, what happens when a daemon is killed, and the way down. */

import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { SuiteStatus } from '../../src/front-door/status.ts';
import { runDir } from '../../src/runtime/run-dir.ts';
import {
  CLI,
  collect,
  connected,
  datapath,
  killDaemon,
  pingLoop,
  pingOnce,
  type Site,
  site,
  status,
  tanuki,
  type Up,
  until,
  up,
} from './nodes.ts';

const A = '10.1.0.1';
const B = '10.2.0.1';
let place: Site;
let a: Up;
let b: Up;

beforeAll(async () => {
  place = site();
  b = up(place.b);
  a = up(place.a);
  await connected([place.a, place.b], ['net'], 30_000);
}, 40_000);

afterAll(async () => {
  await Promise.all([a?.stop(), b?.stop()]);
  place?.remove();
}, 30_000);

/** SPIs of the one child of both nodes, as A sees them. */
async function spis(): Promise<string> {
  const { childSas } = await status(place.a);
  return childSas.map(({ spiIn, spiOut }) => `${spiIn}/${spiOut}`).join();
}

describe('looking', () => {
  test('status: both nodes hold the same two SAs, and nothing is wrong', async () => {
    const [one, other] = [await status(place.a), await status(place.b)];
    expect([one.problems, other.problems]).toEqual([[], []]);
    expect(one.childSas).toHaveLength(1);
    expect(one.childSas[0]).toMatchObject({
      selector: 'net',
      state: 'installed',
      spiIn: other.childSas[0]!.spiOut,
      spiOut: other.childSas[0]!.spiIn,
      localSelectors: ['10.1.0.0-10.1.127.255'],
      peerSelectors: ['10.2.0.0-10.2.127.255'],
    });
    expect(one.ikeSas).toMatchObject([{ name: other.ikeSas[0]!.name, role: 'initiator', myId: 'fqdn a.example', childSas: 1 }]);
    expect(one.daemons.map(({ name, answers, restarts }) => [name, answers, restarts])).toEqual([
      ['datapath', true, 0],
      ['spmd', true, 0],
      ['iked', true, 0],
    ]);
  });

  test('tanuki status prints the page and, with --json, the value', async () => {
    const page = await tanuki('status', '--run-dir', place.a.runDir);
    expect(page).toMatchObject({ code: 0, stderr: '' });
    for (const title of ['Daemons', 'Datapath', 'IKE SAs', 'Child SAs', 'Policies', 'Drops', 'Problems'])
      expect(page.stdout).toContain(title);
    const json = await tanuki('status', '--run-dir', place.a.runDir, '--json');
    const value = JSON.parse(json.stdout) as SuiteStatus;
    expect(value.childSas).toHaveLength(1);
    expect(json.stdout).not.toMatch(/secret|SK_|"key/i);
  });

  test('ping: answered (0), with times; not answered (5); --json parses', async () => {
    const answered = await tanuki('ping', B, '-c', '2', '-i', '0.05', '--run-dir', place.a.runDir);
    expect(answered.code).toBe(0);
    expect(answered.stdout).toMatch(/^10\.2\.0\.1 answered 10\.1\.0\.1: seq=1 time=[\d.]+ ms\n/);
    const silent = await tanuki('ping', '10.2.0.99', '-c', '1', '-W', '0.3', '--json', '--run-dir', place.a.runDir);
    expect(silent.code).toBe(5);
    expect(JSON.parse(silent.stdout)).toMatchObject({ sent: 1, answered: 0, results: [{ answered: false }] });
  });

  test('a second `up` in the same run directory: 1, says so, starts nothing, harms nothing', async () => {
    const before = await spis();
    const outcome = await tanuki('up', '-f', place.a.file, '--run-dir', place.a.runDir);
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(/^tanuki: another daemon listens on \S+control\.sock; stop it first \(tanuki down\)/);
    expect(await spis()).toBe(before);
    expect((await status(place.a)).daemons.every(({ restarts }) => restarts === 0)).toBe(true);
  });
});

describe('asking for something', () => {
  test('rekey: the child has new SPIs, the old SAs go, and no ping is lost', async () => {
    const before = await spis();
    const loop = await pingLoop(place.a, B);
    const outcome = await tanuki('rekey', 'net', '--json', '--run-dir', place.a.runDir);
    expect(outcome.code).toBe(0);
    JSON.parse(outcome.stdout);
    await until('another pair of SPIs', 5_000, async () => {
      const { childSas } = await status(place.a);
      return childSas.length === 1 && childSas[0]!.state === 'installed' && !before.includes(childSas[0]!.spiIn);
    });
    await loop.stop();
    expect(loop.lost).toEqual([]);
  });

  test('rekey --ike: another IKE SA carries the same child', async () => {
    const [name, child] = [(await status(place.a)).ikeSas[0]!.name, await spis()];
    expect((await tanuki('rekey', 'peer', '--ike', '--run-dir', place.a.runDir)).code).toBe(0);
    await until('another IKE SA on both sides', 5_000, async () => {
      const all = [await status(place.a), await status(place.b)];
      return all.every(({ ikeSas }) => ikeSas.length === 1 && ikeSas[0]!.name !== name && ikeSas[0]!.childSas === 1);
    });
    expect(await spis()).toBe(child);
  });

  test('terminate and initiate, with the events of it', async () => {
    const listener = spawn(process.execPath, [CLI, 'events', '--json', '--run-dir', place.b.runDir], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const heard = collect(listener);
    const closed = new Promise<number | null>((resolve) => listener.once('close', resolve));
    try {
      expect((await tanuki('terminate', 'net', '--run-dir', place.a.runDir)).code).toBe(0);
      await until(
        'no child on either side',
        5_000,
        async () => (await status(place.a)).childSas.length + (await status(place.b)).childSas.length === 0,
      );
      await until('events is listening', 5_000, async () => {
        // What B says of this question shows that the stream stands.
        await tanuki('initiate', 'net', '--run-dir', place.a.runDir);
        if (heard.stdout.includes('"child-sa-up"')) return true;
        await tanuki('terminate', 'net', '--run-dir', place.a.runDir);
        return false;
      });
      await connected([place.a, place.b]);
      const lines = heard.stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { daemon: string; at: string; name: string });
      expect(lines.some(({ daemon, name }) => daemon === 'iked' && name === 'child-sa-up')).toBe(true);
      listener.kill('SIGINT');
      await closed;
    } finally {
      listener.kill('SIGKILL');
    }
  });

  test('initiate of what is up already returns at once with its name', async () => {
    const outcome = await tanuki('initiate', 'net', '--json', '--run-dir', place.a.runDir);
    expect(outcome.code).toBe(0);
    expect(JSON.parse(outcome.stdout)).toEqual({ up: [expect.stringMatching(/^net \(in /)] });
  });

  test('an unknown name is refused (4) with the known ones', async () => {
    for (const verb of ['initiate', 'terminate'])
      expect(await tanuki(verb, 'nosuch', '--run-dir', place.a.runDir)).toMatchObject({
        code: 4,
        stdout: '',
        stderr: 'tanuki: there is no selector, policy, remote or IKE SA nosuch; known: peer, net\n',
      });
    expect((await tanuki('rekey', 'nosuch', '--run-dir', place.a.runDir)).code).toBe(4);
  });
});

/** Writes lines to a control socket and returns what it answered until it closed or was quiet for long enough. */
function hostile(path: string, bytes: Uint8Array | string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let text = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      if (text.includes('"id":77')) socket.end();
    });
    socket.on('error', () => resolve(text));
    socket.on('close', () => resolve(text));
    socket.setTimeout(5_000, () => reject(new Error(`no answer from ${path}; so far: ${text}`)));
    socket.write(bytes);
    socket.write('\n{"id":77,"verb":"status"}\n');
  });
}

describe('hostile control lines', () => {
  const LINES = [
    'not JSON',
    '[]',
    'null',
    '{"id":"1","verb":"status"}',
    '{"id":1}',
    '{"id":1,"verb":7}',
    '{"id":1,"verb":"__proto__"}',
    '{"id":1,"verb":"initiate","name":{"toString":1}}',
    '{"id":1,"verb":"reload","confirmSeconds":"x"}',
    '{"id":1,"verb":"ping","address":"10.2.0.1; rm","timeoutMs":1e99}',
    '{"id":1,"verb":"configure","settings":{"datapath":null}}',
    '{"id":1,"verb":"configure"}',
    '\u0000\u0001\u0002',
    `{"id":1,"verb":"${'x'.repeat(40_000)}"}`,
  ];

  test.each(['tanuki', 'datapath', 'spmd', 'iked'] as const)('%s answers each with a sentence and goes on', async (daemon) => {
    const text = await hostile(runDir(place.b.runDir).control(daemon), LINES.join('\n'));
    const answers = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { id: number; ok: boolean; error?: string });
    expect(answers).toHaveLength(LINES.length + 1);
    expect(answers.filter(({ ok }) => ok).map(({ id }) => id)).toEqual([77]);
    for (const { ok, error } of answers) if (!ok) expect(error).toMatch(/\w{3}/);
  });

  test('a line that does not end is cut off: a sentence, where it can still be read, and the connection ends', async () => {
    const text = await hostile(runDir(place.b.runDir).control('iked'), 'x'.repeat(3_000_000));
    if (text !== '') expect(text).toMatch(/"ok":false,"error":"/);
    expect(text).not.toContain('"id":77');
  });

  test('nothing of that changed anything', async () => {
    const { daemons, childSas, problems } = await status(place.b);
    expect(daemons.map(({ restarts }) => restarts)).toEqual([0, 0, 0]);
    expect(childSas).toHaveLength(1);
    expect(problems).toEqual([]);
    expect((await pingOnce(place.a, B)).answered).toBe(true);
  });
});

/**
 * What a machine that is busy with other things is allowed more, in milliseconds: the start of Node takes most of the time, so that is the measure.
 * Nothing where it takes no longer than on two idle cores.
 */
async function slowness(): Promise<number> {
  const began = Date.now();
  await tanuki('--version');
  return 10 * Math.max(0, Date.now() - began - 400);
}

describe('a daemon is killed', () => {
  test.each([
    ['spmd', 'a'],
    ['iked', 'b'],
    ['iked', 'a'],
  ] as const)(
    '%s of node %s: the supervisor starts it again, status says so, no ping is lost',
    async (daemon, side) => {
      const node = place[side];
      const before = [await status(node), await spis()] as const;
      const loops = [await pingLoop(place.a, B), await pingLoop(place.b, A)];
      await killDaemon(node, daemon);
      if (daemon === 'spmd')
        await until(
          'iked has its configuration from the new spmd',
          5_000,
          async () => (await status(node)).generation !== before[0].generation,
        );
      else
        await until(
          'a new child on both sides',
          10_000,
          async () => (await spis()) !== before[1] && (await status(node)).childSas.length === 1,
        );
      await connected([place.a, place.b]);
      for (const loop of loops) await loop.stop();
      expect(loops.flatMap(({ lost }) => lost)).toEqual([]);
      const said = (await status(node)).daemons.find(({ name }) => name === daemon)!;
      expect(said).toMatchObject({ answers: true, restarts: 1, lastExit: 'signal SIGKILL' });
      expect((await tanuki('status', '--run-dir', node.runDir)).stdout).toContain(
        'started again 1 time (last end: signal SIGKILL)',
      );
    },
    40_000,
  );

  test('in the end each datapath holds one pair of SAs', () =>
    until('the old SAs are gone', 12_000, async () => {
      const counts = [(await datapath(place.a)).sas.length, (await datapath(place.b)).sas.length];
      return counts.every((count) => count === 2);
    }));

  test.each(['a', 'b'] as const)(
    'the datapath of node %s: policies are put back, the child has new keys, traffic is back within 3 s',
    async (side) => {
      const node = place[side];
      const [before, policies] = [await spis(), (await datapath(node)).policies.length];
      const allowance = await slowness();
      const began = Date.now();
      await killDaemon(node, 'datapath');
      await until('an answered ping', 10_000, async () => (await pingOnce(place.a, B, 250)).answered);
      expect(Date.now() - began).toBeLessThan(3_000 + allowance);
      await connected([place.a, place.b]);
      const after = await spis();
      expect(after.split('/').filter((spi) => before.includes(spi))).toEqual([]);
      await until('both datapaths hold one pair of SAs', 12_000, async () => {
        const counts = [(await datapath(place.a)).sas.length, (await datapath(place.b)).sas.length];
        return counts.every((count) => count === 2);
      });
      expect((await datapath(node)).policies).toHaveLength(policies);
      expect((side === 'a' ? a : b).text.stderr).toMatch(/datapath-restarted: the datapath has lost 1 child SA/);
    },
    40_000,
  );
});

describe('the way down', () => {
  test('SIGHUP to spmd reads the files again', async () => {
    const { generation, daemons } = await status(place.a);
    process.kill(daemons.find(({ name }) => name === 'spmd')!.pid!, 'SIGHUP');
    await until('a new generation', 5_000, async () => (await status(place.a)).generation !== generation);
    expect(await spis()).not.toBe('');
  });

  test('tanuki down: 0; the peer gets DELETEs; no process and no socket that answers is left', async () => {
    const pids = (await status(place.a)).daemons.map(({ pid }) => pid!);
    expect(await tanuki('down', '--run-dir', place.a.runDir)).toMatchObject({ code: 0, stdout: 'going down\n' });
    expect(await a.ended).toBe(0);
    await until('B has let go', 5_000, async () => (await status(place.b)).ikeSas.length === 0);
    for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow(/ESRCH/);
    const gone = await tanuki('status', '--run-dir', place.a.runDir);
    expect(gone).toMatchObject({ code: 3, stdout: '' });
    expect(gone.stderr).toContain(`start it with: tanuki up --run-dir ${place.a.runDir}`);
    expect(readdirSync(place.a.runDir).filter((name) => name.endsWith('.sock'))).toEqual([]);
  });

  test('the supervisor itself is killed: its daemons end with it, in order, and the run directory is free', async () => {
    const pids = (await status(place.b)).daemons.map(({ pid }) => pid!);
    b.process.kill('SIGKILL');
    await until('all its daemons are gone', 10_000, () => pids.every((pid) => !alive(pid)));
    const again = up(place.b);
    try {
      await until('another suite answers there', 20_000, async () =>
        (await status(place.b)).daemons.every(({ answers }) => answers),
      );
    } finally {
      expect(await again.stop()).toBe(0); // by SIGTERM
    }
  }, 40_000);
});

function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
