/** Commands without a running suite, in one process, with a confirmation that does or does not come; and every exit code that docs/commands.md lists. */

import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EXIT } from '../../src/front-door/exit-codes.ts';
import { lintFile } from '../../src/front-door/lint.ts';
import { connected, ROOT, type Site, site, status, tanuki, until, up } from './nodes.ts';

let place: Site;

beforeAll(() => {
  place = site();
});

afterAll(() => place.remove());

describe('nothing runs', () => {
  test('a command line that is wrong: 2', async () => {
    expect((await tanuki('nosuch')).code).toBe(EXIT.usage);
    const outcome = await tanuki('ping', '10.2.0.1', '-c', '-3');
    expect(outcome.code).toBe(EXIT.usage);
    expect(outcome.stderr).toContain('expected a whole number');
    expect((await tanuki('trace', '10.1.0.1', '10.2.0.1', 'nosuch')).code).toBe(EXIT.usage);
  });

  test('no daemon answers: 3, and how to start one', async () => {
    const outcome = await tanuki('reload', '--run-dir', place.a.runDir);
    expect(outcome).toMatchObject({ code: EXIT.notRunning, stdout: '' });
    expect(outcome.stderr).toBe(
      `tanuki: spmd does not answer in ${place.a.runDir} (nothing listens there); start it with: tanuki up --run-dir ${place.a.runDir}\n`,
    );
  });

  test('up with a bad file: 2, every mistake with its place, nothing started, no directory made', async () => {
    const file = join(place.directory, 'bad.conf');
    writeFileSync(file, 'remote r { ikev2 { peers_ipadr 192.0.2.1; }; };\nselector s { direction sideways; };\n', {
      mode: 0o600,
    });
    const runDir = join(place.directory, 'never');
    const outcome = await tanuki('up', '-f', file, '--run-dir', runDir);
    expect(outcome.code).toBe(EXIT.usage);
    expect(outcome.stderr).toMatch(/bad\.conf:1:20: error/);
    expect(outcome.stderr).toMatch(/bad\.conf:2:\d+: error/);
    expect(outcome.stderr).toContain('nothing was started');
    expect(existsSync(runDir)).toBe(false);
  });

  test('up with a file that is not there: 2', async () => {
    expect((await tanuki('up', '-f', join(place.directory, 'nosuch.conf'), '--run-dir', place.a.runDir)).code).toBe(EXIT.usage);
  });

  test('up in a run directory that cannot be: 1 and why', async () => {
    const outcome = await tanuki('up', '-f', place.a.file, '--run-dir', join('/tmp', 'x'.repeat(200)));
    expect(outcome.code).toBe(EXIT.failed);
    expect(outcome.stderr).toContain('too long for UNIX sockets');
  });

  test('lint: 0 with warnings at most, 2 with mistakes; --json parses', async () => {
    expect((await tanuki('lint', place.a.file)).code).toBe(EXIT.ok);
    const outcome = await tanuki('lint', join(place.directory, 'bad.conf'), '--json');
    expect(outcome.code).toBe(EXIT.usage);
    const { ok, diagnostics } = JSON.parse(outcome.stdout) as { ok: boolean; diagnostics: { line: number }[] };
    expect(ok).toBe(false);
    expect(diagnostics.length).toBeGreaterThanOrEqual(2);
    const printed = await tanuki('lint', place.a.file, '--print');
    expect(printed.stdout).toContain('peers_ipaddr');
  });

  test('keygen: a private file of the strength asked for; an existing one is left as it is (1)', async () => {
    const file = join(place.directory, 'new.psk');
    expect((await tanuki('keygen', file, '--bits', '512')).code).toBe(EXIT.ok);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const key = readFileSync(file, 'utf8');
    expect(Buffer.from(key, 'base64')).toHaveLength(64);
    const again = await tanuki('keygen', file);
    expect(again.code).toBe(EXIT.failed);
    expect(again.stderr).toContain('left as it is');
    expect(`${again.stdout}${again.stderr}`).not.toContain(key.trim());
    expect(readFileSync(file, 'utf8')).toBe(key);
    expect((await tanuki('keygen', join(place.directory, 'weak.psk'), '--bits', '64')).code).toBe(EXIT.usage);
  });

  test('docs/commands.md lists the exit codes as they are', () => {
    const text = readFileSync(join(ROOT, 'docs/commands.md'), 'utf8');
    const listed = [...text.matchAll(/^\| (\d) \| (.*) \|$/gm)].map(([, code]) => Number(code));
    expect(listed).toEqual(Object.values(EXIT));
  });

  test("README's example policy loads as it stands, once its key exists", () => {
    const text = readFileSync(join(ROOT, 'README.md'), 'utf8');
    const [, policy] = text.match(/```\n(interface \{[\s\S]*?)```/)!;
    const file = join(place.directory, 'readme.conf');
    writeFileSync(file, policy!, { mode: 0o600 });
    expect(lintFile(file)).toMatchObject({ ok: true, diagnostics: [] });
  });

  test("README's commands exist", async () => {
    const text = readFileSync(join(ROOT, 'README.md'), 'utf8');
    const named = new Set([...text.matchAll(/^tanuki (\w+)/gm)].map(([, name]) => name!));
    const help = (await tanuki('--help')).stdout;
    for (const name of named) expect(help).toMatch(new RegExp(`^  ${name}\\b`, 'm'));
    const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: Record<string, string> };
    for (const [, script] of text.matchAll(/npm run ([\w:]+)/g)) expect(Object.keys(scripts)).toContain(script);
  });
});

describe('--single-process and --confirm', () => {
  test('all daemons in one process; not confirmed: goes down by itself with 5', async () => {
    const b = up(place.b, ['--single-process']);
    const a = up(place.a, ['--single-process', '--confirm', '2']);
    try {
      const { daemons } = await until('a status', 10_000, () => status(place.a));
      expect(new Set(daemons.map(({ pid }) => pid))).toEqual(new Set([a.process.pid]));
      expect(await a.ended).toBe(EXIT.timeout);
      expect(a.text.stderr).toMatch(/not confirmed within 2 s \(tanuki confirm\): going down again/);
      await until('B has let go', 5_000, async () => (await status(place.b)).ikeSas.length === 0);
      const again = up(place.a, ['--single-process', '--confirm', '3']);
      const began = Date.now();
      try {
        await until(
          'it is confirmed',
          3_000,
          async () => (await tanuki('confirm', '--run-dir', place.a.runDir)).code === EXIT.ok,
        );
        await connected([place.a, place.b]);
        const traced = await tanuki('trace', '10.1.0.1', '10.2.0.1', 'udp', '53', '--json', '--run-dir', place.a.runDir);
        expect(JSON.parse(traced.stdout)).toMatchObject([
          { fate: 'protected', policy: { action: 'protect' }, sas: [{ mode: 'tunnel' }] },
        ]);
        expect((await tanuki('trace', '10.1.0.1', 'nowhere', '--run-dir', place.a.runDir)).code).toBe(EXIT.refused);
        await until('the time is over after which it would go down', 10_000, () => Date.now() - began > 3_500);
        expect((await status(place.a)).childSas).toHaveLength(1);
        again.process.kill('SIGHUP');
        await until('SIGHUP reads the files again', 5_000, () => again.text.stderr.split('configuration-committed').length > 2);
        expect((await tanuki('down', '--json', '--run-dir', place.a.runDir)).code).toBe(EXIT.ok);
        expect(await again.ended).toBe(EXIT.ok);
      } finally {
        await again.stop();
      }
    } finally {
      await a.stop();
      expect(await b.stop()).toBe(EXIT.ok);
    }
  }, 60_000);

  test('a daemon that cannot run at all ends the suite: 1, and its reason is in the log', async () => {
    const runDir = join(place.directory, 'blocked');
    mkdirSync(runDir, { mode: 0o700 });
    writeFileSync(join(runDir, 'pfkey.sock'), 'no socket');
    writeFileSync(join(runDir, 'datapath.control.sock'), 'no socket');
    const outcome = await tanuki('up', '-f', place.a.file, '--single-process', '--run-dir', runDir);
    expect(outcome.code).toBe(EXIT.failed);
    expect(outcome.stderr).toContain('is in the way: it exists and is no socket; remove it');
  });
});
