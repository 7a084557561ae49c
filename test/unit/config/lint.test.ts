/** Acceptance: lint on a file with twelve planted mistakes reports all of them, each at its line and column, and nothing else. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lint, memoryFiles, show, showSummary } from '../../../src/config/index.ts';

const TEXT = readFileSync(join(import.meta.dirname, 'fixtures/twelve-mistakes.conf'), 'utf8');
const result = lint('/t.conf', memoryFiles({ '/t.conf': TEXT }));

test('all twelve mistakes are found where they are', () => {
  const found = result.diagnostics.map(
    ({ line, column, severity, message, hint }) => `${line}:${column} ${severity}: ${message} (${hint})`,
  );
  expect(found).toEqual([
    '6:5 error: there is no directive `devise` in datapath { } (did you mean `device`?)',
    '14:17 error: `30sec` is no number (put a space between number and unit: 30 sec)',
    '16:36 error: `aes256_gmc_16` is no cipher (did you mean `aes256_gcm_16`?)',
    '24:3 error: there is no directive `peers_id` in remote NAME { } (it belongs in `ikev2 { }`)',
    '27:27 error: a `;` is missing (every statement ends with `;`)',
    '30:19 error: `on` or `off` is expected, not `maybe` (also: enable, yes; disable, no)',
    '32:16 error: there is no variable `NAME` (define it: setval { NAME "value"; };)',
    '37:10 warning: the selector `out` has no inbound counterpart, so its traffic is protected in one direction only ' +
      '(write direction both; and leave the other selector out)',
    '47:7 error: `/33` is no prefix length (a number from 0 to 32)',
    '50:16 error: there is no policy `brunch` (did you mean `branch`?)',
    '56:14 error: `tunel` is none of transport, tunnel, beet (did you mean `tunnel`?)',
    '60:8 warning: there is a policy `branch` already, at /t.conf:53:8; that one counts (give this one another name)',
  ]);
});

test('there is no configuration, and the summary says how much is wrong', () => {
  expect(result.config).toBeUndefined();
  expect(showSummary(result.summary)).toBe('1 file: 10 errors, 2 warnings, 0 notes');
});

test('a finding is shown with its line, a caret under the place and the hint', () => {
  expect(show(result.diagnostics[0]!)).toBe(
    [
      '/t.conf:6:5: error: there is no directive `devise` in datapath { }',
      '    6 |     devise memory;',
      '      |     ^^^^^^',
      '      = did you mean `device`?',
    ].join('\n'),
  );
});

test('tabs keep the caret in its place, and long lines are cut around it', () => {
  const text = `interface {\n\tike MY_IPX;\n\t${'#'.padEnd(300, 'x')}\n${' '.repeat(300)}bogus on;\n};`;
  const [tab, long] = lint('/t.conf', memoryFiles({ '/t.conf': text })).diagnostics;
  expect(show(tab!).split('\n').slice(1, 3)).toEqual(['    2 | \tike MY_IPX;', '      | \t    ^^^^^^']);
  const [, line, carets] = show(long!).split('\n');
  expect(line!.length).toBeLessThan(130);
  expect(line!.slice(carets!.indexOf('^'), carets!.lastIndexOf('^') + 1)).toBe('bogus');
});

test('control characters of a file do not reach the terminal', () => {
  const [finding] = lint('/t.conf', memoryFiles({ '/t.conf': 'remote "\u001b[31m" { bogus on; };' })).diagnostics;
  expect(show(finding!)).not.toContain('\u001b');
});

test('a file without errors is summed up', () => {
  const text = `remote a { ikev2 { peers_ipaddr 192.0.2.1; pre_shared_key "k"; }; };
    selector s { direction both; src 10.1.0.0/16; dst 10.2.0.0/16; policy_index p; };
    policy p { remote_index a; };`;
  expect(showSummary(lint('/t.conf', memoryFiles({ '/t.conf': text })).summary)).toBe(
    '1 file: 0 errors, 0 warnings, 0 notes (1 remote, 2 selectors, 1 policy)',
  );
});
