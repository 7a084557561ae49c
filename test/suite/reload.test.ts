/** Reload as a difference (decisions §6): a bad file changes nothing anywhere and says why; what did not change keeps its SAs and its packets. */

import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask } from '../../src/front-door/ask.ts';
import {
  connected,
  datapath,
  type Inside,
  iked,
  inside,
  pingLoop,
  pingOnce,
  type Site,
  site,
  status,
  tanuki,
  until,
} from './nodes.ts';

let place: Site;
let a: Inside;
let b: Inside;
let good: string;

beforeAll(async () => {
  place = site((_, said) => ({ ...said, second: true }));
  b = await inside(place.b);
  a = await inside(place.a);
  await connected([place.a, place.b], ['net', 'other'], 20_000);
  good = readFileSync(place.a.file, 'utf8');
}, 30_000);

afterAll(async () => {
  await a?.suite.stop();
  await b?.suite.stop();
  place?.remove();
}, 20_000);

/** Everything that a reload could change: generation, policies with their numbers, SAs with their SPIs. Counters and ages apart. */
async function deep() {
  const sides = [];
  for (const node of [place.a, place.b]) {
    const { sas, policies, device } = await datapath(node);
    const { ikeSas, generation } = await iked(node);
    sides.push({
      device,
      generation: [generation, (await status(node)).generation],
      policies: policies.map(({ packets, ...rest }) => rest),
      sas: sas.map(({ spi, direction, state, reqid }) => ({ spi, direction, state, reqid })),
      ikeSas: ikeSas.map(({ name, state, children }) => ({
        name,
        state,
        children: children.map(({ spiIn, spiOut, selector, state }) => ({ spiIn, spiOut, selector, state })),
      })),
    });
  }
  return sides;
}

async function refused(file: string): Promise<string> {
  writeFileSync(place.a.file, file);
  try {
    await ask('spmd', place.a.runDir, 'reload');
  } catch (error) {
    return (error as Error).message;
  } finally {
    writeFileSync(place.a.file, good);
  }
  throw new Error('the file was taken');
}

describe('a bad file changes nothing and says why', () => {
  test.each([
    [
      'an unknown word',
      (text: string) => text.replace('initiate start', 'initate start'),
      /node\.conf:\d+:\d+:.*initate[\s\S]*initiate/,
    ],
    ['a half-written file', (text: string) => text.slice(0, text.indexOf('policy net') + 20), /node\.conf:\d+:\d+:/],
    ['an empty file', () => '', /node\.conf/],
    [
      'a key that is not there',
      (text: string) => text.replace('node.psk', 'nosuch.psk'),
      /iked: pre_shared_key of remote peer: cannot read \S+nosuch\.psk: no such file; make one/,
    ],
    [
      'a reference to nothing',
      (text: string) => text.replace('remote_index peer', 'remote_index pier'),
      /node\.conf:\d+:\d+:.*pier/,
    ],
  ])('%s', async (_, spoil, why) => {
    const before = await deep();
    const said = await refused(spoil(good));
    expect(said).toMatch(why);
    expect(await deep()).toEqual(before);
    expect(a.lines().at(-1)).toMatch(/configuration-rejected/);
  });

  test('a key that is open to others', async () => {
    const before = await deep();
    chmodSync(place.a.key, 0o640);
    // Something else has to change too: a reload of the very same file need not look at the key.
    const said = await refused(good.replace('initiate start', 'initiate demand'));
    chmodSync(place.a.key, 0o600);
    expect(said).toMatch(/pre_shared_key of remote peer: .* is open to others \(mode 640\): chmod 600/);
    expect(await deep()).toEqual(before);
  });

  test('the command ends with 4 and prints the reason with its place', async () => {
    writeFileSync(place.a.file, good.replace('initiate start', 'initate start'));
    const outcome = await tanuki('reload', '--run-dir', place.a.runDir);
    writeFileSync(place.a.file, good);
    expect(outcome).toMatchObject({ code: 4, stdout: '' });
    expect(outcome.stderr).toMatch(/^tanuki: nothing has changed: \S+node\.conf has .*mistake/);
    expect(outcome.stderr).toContain('initate');
  });
});

describe('a good file', () => {
  test('the very same one: nothing is negotiated anew', async () => {
    const before = (await deep()).map(({ sas, ikeSas }) => [sas, ikeSas]);
    const outcome = await tanuki('reload', '--json', '--run-dir', place.a.runDir);
    expect(outcome.code).toBe(0);
    expect(JSON.parse(outcome.stdout)).toMatchObject({ summary: expect.stringMatching(/0 removed/) });
    expect((await deep()).map(({ sas, ikeSas }) => [sas, ikeSas])).toEqual(before);
  });

  test("one policy changed: the other's SAs keep their SPIs and lose no packet", async () => {
    const kept = async () =>
      (await status(place.a)).childSas.filter(({ selector }) => selector === 'net').map(({ spiIn, spiOut }) => [spiIn, spiOut]);
    const of = async () =>
      (await status(place.a)).childSas.find(({ selector, state }) => selector === 'other' && state === 'installed')?.spiIn;
    const [before, other] = [await kept(), await of()];
    const loop = await pingLoop(place.a, '10.2.0.1');
    const changed = good.replace('src 10.1.0.0/16; dst 10.2.128.0/17', 'src 10.1.0.0/17; dst 10.2.128.0/17');
    expect(changed).not.toBe(good);
    writeFileSync(place.a.file, changed);
    await ask('spmd', place.a.runDir, 'reload');
    await until('the changed selector has new SAs', 10_000, async () => {
      const now = await of();
      return now !== undefined && now !== other;
    });
    await loop.stop();
    writeFileSync(place.a.file, good);
    expect(loop.lost).toEqual([]);
    expect(loop.sent).toBeGreaterThan(0);
    expect(await kept()).toEqual(before);
  });

  test('reload --confirm goes back by itself; a confirmed one stays', async () => {
    await ask('spmd', place.a.runDir, 'reload');
    const policies = async () =>
      (await datapath(place.a)).policies.map(({ selector, direction }) => `${direction} ${selector}`).sort();
    const before = await policies();
    writeFileSync(
      place.a.file,
      `${good}\nselector third { direction both; src 10.1.0.0/24; dst 192.0.2.0/24; policy_index third; }; policy third { action none; };`,
    );
    expect((await tanuki('reload', '--confirm', '1', '--run-dir', place.a.runDir)).code).toBe(0);
    expect((await policies()).length).toBeGreaterThan(before.length);
    await until('the old policies are back', 5_000, async () => (await policies()).join() === before.join());
    expect((await tanuki('reload', '--confirm', '600', '--run-dir', place.a.runDir)).code).toBe(0);
    expect((await tanuki('confirm', '--run-dir', place.a.runDir)).code).toBe(0);
    const third = await policies();
    expect(third.length).toBeGreaterThan(before.length);
    writeFileSync(place.a.file, good);
    await ask('spmd', place.a.runDir, 'reload');
    expect(await policies()).toEqual(before);
  }, 30_000);

  test('the key file came to be after the start: a reload takes it up', async () => {
    const late = site();
    const key = readFileSync(late.a.key);
    rmSync(late.a.key);
    const [two, one] = [await inside(late.b), await inside(late.a)];
    try {
      await until('status names the missing key', 5_000, async () =>
        (await status(late.a)).problems.some((problem) => problem.includes('no such file')),
      );
      writeFileSync(late.a.key, key, { mode: 0o600 });
      await ask('spmd', late.a.runDir, 'reload');
      await connected([late.a, late.b]);
      expect((await pingOnce(late.a, '10.2.0.1')).answered).toBe(true);
      expect((await status(late.a)).problems).toEqual([]);
    } finally {
      await one.suite.stop();
      await two.suite.stop();
      late.remove();
    }
  }, 30_000);
});
