/** Hook scripts: their argument and environment, order, bounds, and what is said where one fails. */

import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test, vi } from 'vitest';
import type { Event } from '../../../src/event.ts';
import { Hooks } from '../../../src/runtime/hooks.ts';

const directory = mkdtempSync(join(tmpdir(), 'tanuki-hooks-'));
const out = join(directory, 'out');
let told: Event[] = [];
beforeEach(() => {
  told = [];
  rmSync(out, { force: true });
});
afterAll(() => rmSync(directory, { recursive: true }));

function script(name: string, body: string, mode = 0o755): string {
  const file = join(directory, name);
  writeFileSync(file, `#!/bin/sh\n${body}\n`);
  chmodSync(file, mode);
  return file;
}

const hooks = (limitMs?: number) =>
  new Hooks({ report: (event) => told.push(event), ...(limitMs === undefined ? {} : { limitMs }) });
const idle = (of: Hooks) => vi.waitFor(() => expect(of.size).toBe(0), { timeout: 8_000 });
const messages = () => told.filter(({ name }) => name !== 'hook-done').map(({ message }) => message);

test('a script finds the event as its argument and what it is told in its environment, and nothing else of ours', async () => {
  process.env.A_SECRET = 'of ours';
  const file = script('env', `echo "$1 $OLD_SRC $NEW_SRC [$A_SECRET] [$HOME]" > ${out}`);
  const runner = hooks();
  runner.run({ event: 'migration', file, about: 'a', environment: { OLD_SRC: '192.0.2.1', NEW_SRC: '198.51.100.1' } });
  await idle(runner);
  expect(readFileSync(out, 'utf8')).toBe('migration 192.0.2.1 198.51.100.1 [] []\n');
  expect(told.map(({ name }) => name)).toEqual(['hook-done']);
});

test('those about the same run in order, and others do not wait for them', async () => {
  const gate = join(directory, 'gate');
  const slow = script('slow', `while [ ! -e ${gate} ]; do sleep 0.02; done; echo slow >> ${out}`);
  const quick = script('quick', `echo $N >> ${out}`);
  const runner = hooks();
  runner.run({ event: 'phase2_up', file: slow, about: 'one', environment: {} });
  runner.run({ event: 'phase2_down', file: quick, about: 'one', environment: { N: 'after' } });
  runner.run({ event: 'phase2_up', file: quick, about: 'two', environment: { N: 'other' } });
  await vi.waitFor(() => expect(existsSync(out) && readFileSync(out, 'utf8')).toBe('other\n'), { timeout: 8_000 });
  writeFileSync(gate, '');
  await idle(runner);
  expect(readFileSync(out, 'utf8')).toBe('other\nslow\nafter\n');
});

test('one that takes too long is killed with its children; what fails says so with its last words', async () => {
  const runner = hooks(200);
  runner.run({ event: 'phase1_up', file: script('hangs', 'sleep 60 & sleep 60'), about: 'a', environment: {} });
  await idle(runner);
  runner.run({ event: 'phase1_up', file: script('fails', 'echo "no such route" >&2; exit 3'), about: 'a', environment: {} });
  await idle(runner);
  const [late, failed] = messages();
  expect(late).toMatch(/hangs for phase1_up was killed: it ran longer than 0.2 s$/);
  expect(failed).toMatch(/fails for phase1_up ended with exit code 3: no such route$/);
});

test('what is absent, not executable or writable by others is not run', async () => {
  const runner = hooks();
  const run = (file: string) => runner.run({ event: 'phase1_up', file, about: file, environment: {} });
  run(join(directory, 'absent'));
  run(script('plain', 'true', 0o644));
  run(script('open', 'true', 0o777));
  await idle(runner);
  expect(messages()).toEqual([
    expect.stringContaining('ENOENT'),
    expect.stringContaining('EACCES'),
    expect.stringContaining('chmod go-w'),
  ]);
});

test('there are bounds: the hook that finds too many waiting is dropped and told', () => {
  const runner = hooks();
  const file = script('stuck', 'sleep 60');
  for (let i = 0; i < 258; i++) runner.run({ event: 'phase1_up', file, about: 'one', environment: {} });
  expect(messages()).toEqual([expect.stringContaining('256 hooks wait')]);
  runner.stop();
});
