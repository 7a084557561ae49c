/** Every policy that the package ships loads, with exactly the warnings that are listed here. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { compile, memoryFiles, show } from '../../../src/config/index.ts';

const ROOT = join(import.meta.dirname, '../../../policies');

function policyFiles(folder: string): string[] {
  return readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith('.conf'))
    .map((name) => join(folder, name));
}

const NAMES = [...policyFiles('.'), ...policyFiles('quickstart')].sort();
const TEXTS = Object.fromEntries(NAMES.map((name) => [`/policies/${name}`, readFileSync(join(ROOT, name), 'utf8')]));
const FILES = memoryFiles(TEXTS, { TANUKI_RUN_DIR: '/run/tanuki' });

/** Findings other than notes, by file. What is not listed has none. */
const FINDINGS: Readonly<Record<string, readonly string[]>> = {};

test.each(NAMES)('%s loads', (name) => {
  const { config, diagnostics } = compile(`/policies/${name}`, FILES);
  const findings = diagnostics
    .filter(({ severity }) => severity !== 'note')
    .map(
      ({ file, line, column, severity, message }) =>
        `${file.replace('/policies/', '')}:${line}:${column}: ${severity}: ${message}`,
    );
  expect(findings).toEqual(FINDINGS[name] ?? []);
  expect(config, diagnostics.map(show).join('\n')).toBeDefined();
});
