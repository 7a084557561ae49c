/** What a running suite shows of itself to other programs: `/metrics` for Prometheus, and `tanuki capture` on a memory device. */

import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EXIT } from '../../src/front-door/exit-codes.ts';
import { CLI, connected, outcomeOf, type Site, site, status, tanuki, until, up } from './nodes.ts';

const PORT = 19_500;
let place: Site;
let a: ReturnType<typeof up>;
let b: ReturnType<typeof up>;

/** `interface { metrics … }` of A's file; none: the word is not there. */
function serveAt(port: number | undefined): void {
  const text = readFileSync(place.a.file, 'utf8').replace(/\n {2}metrics [^\n]*/, '');
  const word = port === undefined ? '' : `\n  metrics ${place.a.address}${port === 9500 ? '' : ` port ${port}`};`;
  writeFileSync(place.a.file, text.replace('interface {', `interface {${word}`), { mode: 0o600 });
}

const scrape = (port: number, path = '/metrics', init: RequestInit = {}) =>
  fetch(`http://${place.a.address}:${port}${path}`, init);

beforeAll(async () => {
  place = site();
  serveAt(PORT);
  b = up(place.b);
  a = up(place.a);
  await connected([place.a, place.b]);
}, 30_000);

afterAll(async () => {
  await Promise.all([a.stop(), b.stop()]);
  place.remove();
});

/** The text format, line by line: samples by name and labels; each behind the HELP and TYPE of its metric. */
function parse(text: string): { readonly types: Map<string, string>; readonly samples: Map<string, number> } {
  const types = new Map<string, string>();
  const helped = new Set<string>();
  const samples = new Map<string, number>();
  expect(text.endsWith('\n')).toBe(true);
  for (const line of text.split('\n').filter((one) => one !== '')) {
    const [, help] = /^# HELP ([a-z_]+) \S/.exec(line) ?? [];
    const [, typed, type] = /^# TYPE ([a-z_]+) (counter|gauge)$/.exec(line) ?? [];
    const [, name, labels = '', value] = /^([a-z_]+)(\{(?:[a-z]+="(?:[^"\\]|\\.)*",?)*\})? (-?[0-9.e+]+)$/.exec(line) ?? [];
    if (help !== undefined) helped.add(help);
    else if (typed !== undefined) types.set(typed, type!);
    else if (name !== undefined) {
      expect(types.has(name) && helped.has(name), line).toBe(true);
      expect(samples.has(name + labels), line).toBe(false);
      samples.set(name + labels, Number(value));
    } else throw new Error(`not of the text format: ${line}`);
  }
  return { types, samples };
}

test('the figures are those of the status, with names and units of Prometheus', async () => {
  expect((await tanuki('ping', '10.2.0.1', '-c', '3', '-i', '0.05', '--run-dir', place.a.runDir)).code).toBe(EXIT.ok);
  const response = await scrape(PORT);
  expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8']);
  const { types, samples } = parse(await response.text());
  const said = await status(place.a);
  for (const name of types.keys())
    expect(name).toMatch(types.get(name) === 'counter' ? /^tanuki_\w+_total$/ : /^tanuki_\w+(?<!_total)$/);
  const { inbound, outbound, acquires } = said.datapath!;
  expect(outbound.packets).toBeGreaterThanOrEqual(3);
  for (const [name, value] of [
    ['tanuki_datapath_packets_total{direction="outbound"}', outbound.packets],
    ['tanuki_datapath_packets_total{direction="inbound"}', inbound.packets],
    ['tanuki_datapath_bytes_total{direction="outbound"}', outbound.bytes],
    ['tanuki_datapath_sas{direction="inbound"}', 1],
    ['tanuki_datapath_acquires_total', acquires],
    ['tanuki_ike_sas{state="established"}', 1],
    ['tanuki_child_sas{state="installed",protocol="esp",mode="tunnel"}', 1],
    ['tanuki_daemon_up{daemon="iked"}', 1],
    ['tanuki_daemon_restarts_total{daemon="datapath"}', 0],
    ['tanuki_problems', said.problems.length],
    ['tanuki_configuration_generation', said.generation],
  ] as const)
    expect(samples.get(name), name).toBe(value);
  const policies = [...samples].filter(([name]) => name.startsWith('tanuki_policy_packets_total'));
  expect(policies).toHaveLength(said.policies.length);
  expect(policies.reduce((sum, [, packets]) => sum + packets, 0)).toBe(
    said.policies.reduce((sum, { packets }) => sum + packets, 0),
  );
});

test('what an SA carried still counts when it is gone', async () => {
  const before = (await status(place.a)).datapath!.outbound;
  const [child] = (await status(place.a)).childSas;
  expect((await tanuki('rekey', 'net', '--run-dir', place.a.runDir)).code).toBe(EXIT.ok);
  await until('another SA in its place', 10_000, async () => {
    const { childSas } = await status(place.a);
    return childSas.length === 1 && childSas[0]!.spiIn !== child!.spiIn;
  });
  expect((await status(place.a)).datapath!.outbound).toEqual(before);
});

test('a daemon that died counts as started again', async () => {
  const { pid } = (await status(place.a)).daemons.find(({ name }) => name === 'iked')!;
  process.kill(pid!, 'SIGKILL');
  const restarted = 'tanuki_daemon_restarts_total{daemon="iked"}';
  await until('iked runs again', 10_000, async () => parse(await (await scrape(PORT)).text()).samples.get(restarted) === 1);
  await connected([place.a, place.b]);
});

test('nothing else is there, and nothing but GET', async () => {
  expect((await scrape(PORT, '/')).status).toBe(404);
  expect((await scrape(PORT, '/metrics', { method: 'POST' })).status).toBe(405);
});

test('a reload moves it; without the word it is nowhere', async () => {
  serveAt(9500);
  expect((await tanuki('reload', '--run-dir', place.a.runDir)).code).toBe(EXIT.ok);
  await until('the default port', 5_000, async () => (await scrape(9500)).ok);
  await expect(scrape(PORT)).rejects.toThrow();
  serveAt(undefined);
  expect((await tanuki('reload', '--run-dir', place.a.runDir)).code).toBe(EXIT.ok);
  await until('it is closed', 5_000, () =>
    scrape(9500).then(
      () => false,
      () => true,
    ),
  );
});

test('capture writes what passes, also without a TUN device; a second one is refused', async () => {
  const file = join(place.directory, 'net.pcapng');
  const capturing = tanuki('capture', file, '--count', '4', '--seconds', '15', '--json', '--run-dir', place.a.runDir);
  await until('it has begun', 10_000, () => readFileSync(file).length > 0);
  const second = await tanuki('capture', file, '--run-dir', place.a.runDir);
  expect([second.code, second.stderr]).toEqual([EXIT.refused, expect.stringContaining('another one is under way')]);
  expect((await tanuki('ping', '10.2.0.1', '-c', '1', '--run-dir', place.a.runDir)).code).toBe(EXIT.ok);
  const done = await capturing;
  expect([done.code, JSON.parse(done.stderr)]).toEqual([EXIT.ok, { file, packets: 4, lost: 0 }]);
  const [child] = (await status(place.a)).childSas;
  const text = readFileSync(file, 'latin1');
  for (const spi of [child!.spiIn, child!.spiOut]) expect(text).toContain(`SPI ${spi}`);
  const pipe = '"$0" "$1" capture --seconds 20 --run-dir "$2" | head -c 4 | od -An -tx1';
  const piped = outcomeOf(spawn('sh', ['-c', pipe, process.execPath, CLI, place.a.runDir]), 20_000);
  const ended = await until('it ends when nobody reads any more', 15_000, async () => {
    await tanuki('ping', '10.2.0.1', '-c', '1', '--run-dir', place.a.runDir);
    return Promise.race([piped, undefined]);
  });
  expect([ended.code, ended.stdout.trim()]).toEqual([0, '0a 0d 0d 0a']);
  const wrong = await tanuki('capture', file, '--spi', 'xyz', '--run-dir', place.a.runDir);
  expect([wrong.code, wrong.stderr]).toEqual([EXIT.usage, expect.stringContaining('hexadecimal')]);
}, 60_000);
