/** The quick start as people run it: a process, real sockets, no privilege, no configuration. */

import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { collect, type Outcome, ROOT, run, until } from './nodes.ts';

/** A copy of what is installed, with addresses of its own, so that a quick start in another terminal is not in the way. */
const copy = mkdtempSync(join(tmpdir(), 'tanuki-copy-'));
const script = join(copy, 'dist/src/quickstart.js');
/** Where the quick start makes its folder. */
const scratch = join(copy, 'tmp');
const NET = `127.${64 + (process.pid % 128)}.${(process.pid >> 7) & 0xff}`;

beforeAll(() => {
  cpSync(join(ROOT, 'dist'), join(copy, 'dist'), {
    recursive: true,
    filter: (path) => !path.endsWith('.map') && !path.endsWith('.d.ts'),
  });
  cpSync(join(ROOT, 'policies'), join(copy, 'policies'), { recursive: true });
  cpSync(join(ROOT, 'package.json'), join(copy, 'package.json'));
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
  mkdirSync(scratch);
  for (const file of ['a.conf', 'b.conf']) {
    const path = join(copy, 'policies/quickstart', file);
    writeFileSync(path, readFileSync(path, 'utf8').replaceAll('127.0.0.', `${NET}.`));
  }
});

afterAll(() => rmSync(copy, { recursive: true, force: true }));

function quickstart(...args: string[]): Promise<Outcome> {
  return run(script, args, { limitMs: 30_000, env: { ...process.env, TMPDIR: scratch } });
}

/** The messages of each protocol, as their RFCs draw them. */
const LADDERS = {
  ikev2: ['IKE_SA_INIT', '<-- IKE_SA_INIT', 'IKE_AUTH', '<-- IKE_AUTH'],
  ikev1: [
    ...['Main Mode', '<-- Main Mode', 'Main Mode', '<-- Main Mode', 'Main Mode*', '<-- Main Mode*'],
    ...['Quick Mode*', '<-- Quick Mode*', 'Quick Mode*'],
  ],
  kink: ['CREATE', '<-- REPLY', 'ACK'],
} as const;

describe.each(['ikev2', 'ikev1', 'kink'] as const)('npm start -- --once --protocol %s', (protocol) => {
  let outcome: Outcome;
  beforeAll(async () => {
    outcome = await quickstart('--once', ...(protocol === 'ikev2' ? [] : ['--protocol', protocol]));
  }, 35_000);

  test('ends with 0 in less than 30 s and says nothing on standard error', () => {
    expect(outcome).toMatchObject({ code: 0, stderr: '' });
  });

  test("shows the RFC's ladder", () => {
    const arrows = outcome.stdout.split('\n').filter((line) => /-->|<--/.test(line));
    expect(arrows.map((line) => line.match(/(<-- )?(IKE_\w+|\w+ Mode\*?|CREATE|REPLY|ACK)/)?.[0])).toEqual(LADDERS[protocol]);
  });

  test("shows both nodes' SAs, each other's mirror", () => {
    const spis = [...outcome.stdout.matchAll(/child SA net installed, esp tunnel, SPI in (\w{8}) out (\w{8})/g)];
    expect(spis).toHaveLength(2);
    expect(spis[0]!.slice(1, 3)).toEqual(spis[1]!.slice(1, 3).reverse());
    expect(outcome.stdout.match(protocol === 'kink' ? / {2}KINK {5}kink:/g : /IKE SA {3}\S+ established/g)).toHaveLength(2);
  });

  test('shows answered pings with their times, and counters that agree', () => {
    expect(outcome.stdout.match(/10\.2\.0\.1 answered 10\.1\.0\.1: seq=\d time=[\d.]+ ms/g)).toHaveLength(3);
    expect(outcome.stdout).toMatch(/node A: in 3 packets, 252 octets; out 3 packets, 252 octets/);
    expect(outcome.stdout).toMatch(/node B: in 3 packets, 252 octets; out 3 packets, 252 octets/);
  });

  if (protocol === 'kink')
    test('says which KDC the tickets come from', () => {
      expect(outcome.stdout).toMatch(
        /Kerberos: (tickets come from the installed krb5kdc|no krb5kdc is installed: tickets come from)/,
      );
    });

  test('holds no secret: nothing that is as long and random as a key', () => {
    // SPIs have 8 and 16 digits; the shortest key would have 32, the pre-shared key 44 characters of base64.
    expect(outcome.stdout).not.toMatch(/[0-9a-f]{32}|[A-Za-z0-9+/]{40}/i);
  });

  test('leaves no directory', () => {
    expect(readdirSync(scratch)).toEqual([]);
  });
});

describe('npm start', () => {
  test('stays up, tells the commands, and Ctrl-C ends it with 0; no process and no directory is left', async () => {
    const child = spawn(process.execPath, [script], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: scratch },
      detached: true,
    });
    const text = collect(child);
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    try {
      await until('the quick start says that it stays', 20_000, () => text.stdout.includes('until Ctrl-C'));
      expect(text.stdout).toMatch(/npx tanuki status --run-dir \S+\/a\n/);
      process.kill(-child.pid!, 'SIGINT'); // what a terminal does: to the whole process group
      expect(await ended).toBe(0);
      expect(text.stderr).toBe('');
      expect(() => process.kill(-child.pid!, 0)).toThrow(/ESRCH/);
      expect(readdirSync(scratch)).toEqual([]);
    } finally {
      child.kill('SIGKILL');
    }
  }, 30_000);
});

describe('what goes wrong is said', () => {
  test('a port in use: non-zero, and which one', async () => {
    const occupant = createSocket('udp4');
    await new Promise<void>((resolve) => occupant.bind(10500, `${NET}.1`, resolve));
    try {
      const { code, stderr, stdout } = await quickstart('--once');
      expect(code).toBe(1);
      expect(stderr).toMatch(/^quick start: .*10500\] is in use by another program/);
      expect(`${stdout}${stderr}`).not.toContain('at async');
      expect(readdirSync(scratch)).toEqual([]);
    } finally {
      await new Promise<void>((resolve) => occupant.close(() => resolve()));
    }
  }, 35_000);

  test('the policies are missing: non-zero, and where they were expected', async () => {
    rmSync(join(copy, 'policies/quickstart'), { recursive: true });
    const { code, stderr } = await quickstart('--once');
    expect(code).toBe(1);
    expect(stderr).toMatch(/^quick start: the example policies are missing: expected them in .*policies\/quickstart\/\n$/);
    expect(readdirSync(scratch)).toEqual([]);
  });
});
