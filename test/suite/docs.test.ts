/** The pages that quote the program: what they name must exist. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { DROP } from '../../src/datapath/drops.ts';
import { ROOT } from './nodes.ts';

const page = (name: string) => readFileSync(join(ROOT, 'docs', name), 'utf8');

/** Where a file lies that a row names without its folder. */
const FOLDERS = [
  ...['', 'iked', 'iked/ikev1', 'iked/ikev2', 'kinkd', 'kinkd/krb5'],
  ...['src/crypto', 'src/datapath', 'src/config', 'src/isakmp', 'src/keying'],
];

/** All sources as one text, with interpolations taken out: what is between them is written as the page quotes it. */
const sources = ['src', 'iked', 'spmd']
  .flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map((file) => join(ROOT, folder, file)),
  )
  .filter((file) => file.endsWith('.ts'))
  .map((file) => readFileSync(file, 'utf8'))
  .join('\n');

describe('troubleshooting.md', () => {
  const text = page('troubleshooting.md');
  const rows = [...text.matchAll(/^\| (`.*?) \| /gm)].map(([, cell]) => cell!);
  const sentences = rows
    .flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, quoted]) => quoted!))
    .filter((quoted) => quoted.includes(' '));

  test.each(sentences)('%s', (sentence) => {
    // `…`, upper-case words, numbers and quoted commands stand for what varies.
    const pieces = sentence.split(/…|\b[A-Z_]{4,}\b|\bN\b|\d+|: |; | of | has /).map((piece) =>
      piece
        .trim()
        .replace(/^[([\])]+|[([\])]+$/g, '')
        .trim(),
    );
    const literal = pieces.filter((piece) => piece.length >= 8);
    expect(literal.filter((piece) => !sources.includes(piece))).toEqual([]);
  });

  test('there are many of them', () => expect(sentences.length).toBeGreaterThan(30));

  test('drops have the names of the engine', () => {
    const named = [...text.matchAll(/^\| ((?:`[a-z]+[A-Za-z]*`(?:, )?)+) \|/gm)].flatMap(([, cell]) =>
      [...cell!.matchAll(/`(\w+)`/g)].map(([, name]) => name!),
    );
    expect(named.length).toBeGreaterThan(8);
    for (const name of named) expect(Object.keys(DROP)).toContain(name);
  });
});

describe('rfc-coverage.md', () => {
  const rows = page('rfc-coverage.md')
    .split('\n')
    .filter((line) => line.startsWith('| '));

  test('every file and test that it names is there', () => {
    const missing: string[] = [];
    for (const row of rows) {
      const [, , files = '', tests = ''] = row.split(' |').map((cell) => cell.trim());
      for (const [, name] of files.matchAll(/`([\w./*-]+)`/g)) {
        const stem = name!.replace(/\*.*$/, '');
        const places = FOLDERS.map((folder) => join(ROOT, folder, stem));
        const there = name!.includes('*')
          ? places.some((place) => readdirSync(join(place, '..')).some((file) => file.startsWith(stem.split('/').at(-1)!)))
          : places.some(existsSync);
        if (!there) missing.push(name!);
      }
      let folder = '';
      for (const [, name] of tests.matchAll(/`([\w./-]+)`/g)) {
        if (name!.includes('/')) folder = name!.split('/').slice(0, -1).join('/');
        if (![name!, `${folder}/${name}`].some((place) => existsSync(join(ROOT, 'test', place)))) missing.push(name!);
      }
    }
    expect(missing).toEqual([]);
  });

  test('what is done names a file and a test', () => {
    const bare = rows.filter(
      (row) => /\| done/.test(row) && row.split('|').at(-2)!.trim() === '' && !row.includes('conformance'),
    );
    expect(bare).toEqual([]);
  });
});

test('all pages and the README link to what exists', () => {
  for (const name of [
    ...readdirSync(join(ROOT, 'docs'))
      .filter((file) => file.endsWith('.md'))
      .map((file) => `docs/${file}`),
    'README.md',
  ]) {
    const folder = join(ROOT, name, '..');
    for (const [, target] of readFileSync(join(ROOT, name), 'utf8').matchAll(/\]\((?!https?:)([^)#]+)/g))
      expect(existsSync(join(folder, target!)), `${name} links to ${target}`).toBe(true);
  }
});
