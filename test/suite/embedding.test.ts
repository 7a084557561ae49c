/** docs/embedding.md as it stands: its programs run against the built package and print what the page says; every door of package.json opens. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startSuite } from '../../src/suite.ts';
import { connected, pingOnce, ROOT, run, site } from './nodes.ts';

/** A project that has the package installed. */
const project = mkdtempSync(join(tmpdir(), 'tanuki-embedder-'));
const page = readFileSync(join(ROOT, 'docs/embedding.md'), 'utf8');
const programs = [...page.matchAll(/```js\n([\s\S]*?)```\n\nIt prints:\n\n```\n([\s\S]*?)```/g)];

beforeAll(() => {
  mkdirSync(join(project, 'node_modules'));
  symlinkSync(ROOT, join(project, 'node_modules/tanuki'));
});

afterAll(() => rmSync(project, { recursive: true, force: true }));

describe('docs/embedding.md', () => {
  test('has its two programs', () => expect(programs).toHaveLength(2));

  test.each(programs.map(([, program, printed], i) => [i + 1, program!, printed!] as const))(
    'program %i prints what the page says',
    async (number, program, printed) => {
      const file = join(project, `${number}.mjs`);
      writeFileSync(file, program);
      const outcome = await run(file, []);
      expect(outcome).toEqual({ code: 0, stdout: printed, stderr: '' });
    },
  );
});

describe('package.json', () => {
  const { exports, bin } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    exports: Record<string, string>;
    bin: Record<string, string>;
  };

  test('every door opens and has something behind it', async () => {
    const doors = Object.keys(exports).map((door) => `tanuki${door.slice(1)}`);
    const file = join(project, 'doors.mjs');
    writeFileSync(
      file,
      `for (const door of ${JSON.stringify(doors)}) console.log(door, Object.keys(await import(door)).length > 0 ? 'opens' : 'is empty');`,
    );
    const { code, stdout, stderr } = await run(file, []);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout.trim().split('\n')).toEqual(doors.map((door) => `${door} opens`));
    for (const door of doors) expect(page).toContain(`\`${door}\``);
  });

  test.each(Object.entries(bin))('bin %s says how it is used', async (_, script) => {
    expect(await run(join(ROOT, script), ['--help'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('Usage:'),
      stderr: '',
    });
  });
});

test('a suite that was stopped can be started again in the same process and run directory', async () => {
  const place = site();
  const start = (node: typeof place.a) => startSuite({ file: node.file, runDir: node.runDir, quiet: true });
  try {
    for (const _ of [1, 2]) {
      const suites = [await start(place.b), await start(place.a)];
      await connected([place.a, place.b]);
      expect((await pingOnce(place.a, '10.2.0.1')).answered).toBe(true);
      for (const suite of suites.reverse()) await suite.stop();
    }
  } finally {
    place.remove();
  }
});
