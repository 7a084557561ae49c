/** Policy files on a real disk: which are believed, and what a pattern finds. */

import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { sourceFiles } from '../../../src/runtime/files.ts';

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tanuki-files-'));
  mkdirSync(join(folder, 'd'));
  for (const name of ['b.conf', 'a.conf', '.hidden.conf', 'a.txt'])
    writeFileSync(join(folder, 'd', name), `# ${name}\n`, { mode: 0o600 });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('a file of this user that nobody else may write is read', () => {
  expect(sourceFiles.read(join(folder, 'd/a.conf'))).toEqual({ text: '# a.conf\n' });
});

test('a file that others may write is refused, with the command that mends it', () => {
  const path = join(folder, 'open.conf');
  writeFileSync(path, '');
  chmodSync(path, 0o666);
  expect(sourceFiles.read(path)).toEqual({ problem: 'others may write it (mode 666)', hint: `chmod go-w ${path}` });
});

test.each([
  ['nowhere.conf', 'it does not exist'],
  ['d', 'it is no regular file'],
])('%s is not read', (name, problem) => {
  expect(sourceFiles.read(join(folder, name))).toMatchObject({ problem });
});

test('what is not UTF-8 is no policy file', () => {
  const path = join(folder, 'binary.conf');
  writeFileSync(path, Uint8Array.of(0xff, 0xfe, 0x80), { mode: 0o600 });
  expect(sourceFiles.read(path)).toMatchObject({ problem: 'it is not UTF-8 text' });
});

test('patterns find what they match, sorted, without hidden files', () => {
  const d = join(folder, 'd');
  expect(sourceFiles.glob(`${d}/*.conf`)).toEqual([`${d}/a.conf`, `${d}/b.conf`]);
  expect(sourceFiles.glob(`${folder}/?/a.*`)).toEqual([`${d}/a.conf`, `${d}/a.txt`]);
  expect(sourceFiles.glob(`${d}/.*.conf`)).toEqual([`${d}/.hidden.conf`]);
  expect(sourceFiles.glob(`${d}/a.conf`)).toEqual([`${d}/a.conf`]);
  expect(sourceFiles.glob(`${d}/a.conf/*`)).toEqual([]);
  expect(sourceFiles.glob(`${folder}/none/*.conf`)).toEqual([]);
  expect(sourceFiles.glob(`${folder}/none`)).toEqual([]);
});
