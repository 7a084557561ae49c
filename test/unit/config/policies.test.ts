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
const FINDINGS: Readonly<Record<string, readonly string[]>> = {
  'transport-kink.conf': [
    'transport-kink.conf:9:3: warning: `kink` has no effect yet',
    'transport-kink.conf:13:3: warning: the remote `kink_peer` has no effect yet: it is for protocols that are not built',
    'transport-kink.conf:14:3: warning: `kink` has no effect yet',
    'transport-kink.conf:19:3: warning: `selector_index` has no effect yet',
  ],
  'tunnel-kink.conf': [
    'tunnel-kink.conf:8:3: warning: `kink` has no effect yet',
    'tunnel-kink.conf:12:3: warning: the remote `kink_gateway` has no effect yet: it is for protocols that are not built',
    'tunnel-kink.conf:13:3: warning: `kink` has no effect yet',
    'tunnel-kink.conf:17:3: warning: `selector_index` has no effect yet',
  ],
};

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
