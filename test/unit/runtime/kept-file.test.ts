/** A file that is kept from run to run: only what is whole and ours is believed. */

import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { utf8 } from '../../../src/bytes/bytes.ts';
import { SystemError } from '../../../src/errors.ts';
import { KeptFile } from '../../../src/runtime/kept-file.ts';

let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tanuki-kept-'));
  path = join(folder, 'kept');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('nothing, then what was written and appended, closed to others and with no other file left', () => {
  const file = new KeptFile(path, 100);
  expect(file.read()).toBeUndefined();
  file.replace(utf8('one'));
  file.append(utf8(' two'));
  expect(new KeptFile(path, 100).read()).toEqual(utf8('one two'));
  expect(statSync(path).mode & 0o777).toBe(0o600);
  file.replace(utf8('three'));
  expect([readFileSync(path, 'utf8'), readdirSync(folder)]).toEqual(['three', ['kept']]);
});

test('what is longer than it may be, no file, or older than the start of the host is not believed', () => {
  const file = new KeptFile(path, 4);
  file.replace(utf8('12345'));
  expect(() => file.read()).toThrow(/has 5 octets, at most 4/);
  rmSync(path);
  symlinkSync('/etc/passwd', path);
  expect(() => file.read()).toThrow(/is no file of this user/);
  rmSync(path);
  mkdirSync(path);
  expect(() => file.read()).toThrow(SystemError);
  rmSync(path, { recursive: true });
  file.replace(utf8('1234'));
  utimesSync(path, 1, 1);
  expect(() => file.read()).toThrow(/older than the last start of this host/);
});

test('what cannot be written whole is given up', () => {
  const file = new KeptFile(join(folder, 'no', 'kept'), 100);
  expect(() => file.append(utf8('x'))).toThrow(/cannot write .*; what was in it is given up/);
  writeFileSync(path, 'old');
  chmodSync(path, 0o600);
  mkdirSync(`${path}.new`);
  expect(() => new KeptFile(path, 100).replace(utf8('new'))).toThrow(SystemError);
  expect(readdirSync(folder)).toEqual(['kept.new']);
});
