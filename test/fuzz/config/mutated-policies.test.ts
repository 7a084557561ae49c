/**
 * Hostile policy files: well-formed ones, mutated. Nothing escapes, every finding is in the file, and no file takes long.
 * FUZZ_SEED is the first seed.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { compile, memoryFiles, show } from '../../../src/config/index.ts';
import { Dice, ENVIRONMENT, randomPolicy } from '../../property/config/policy-text.ts';
import { COUNT, LIMIT, MemoryBound } from '../../support/fuzz.ts';
import { processorTime } from '../../support/processor-time.ts';

const FIRST = Number(process.env.FUZZ_SEED ?? 1);
const SLOWEST_MS = 1500;

const ROOT = join(import.meta.dirname, '../../../policies');
const SHIPPED = readdirSync(ROOT)
  .filter((name) => name.endsWith('.conf'))
  .map((name) => readFileSync(join(ROOT, name), 'utf8'));
const PIECES = [
  '{',
  '}',
  ';',
  ';;',
  '"',
  ',',
  '-',
  '#',
  '\n',
  '\r\n',
  '\0',
  '\u00e9',
  '${',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of the policy language
  '${NAME}',
  '$[HOST]',
  '$',
  'include "*";',
  'include "/t.conf";',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of the policy language
  'setval A "${B}";',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of the policy language
  'setval B "${A}${A}";',
];
const WORDS = [
  'infinite',
  '0',
  '-1',
  '0x',
  '99999999999999999999',
  'MY_IP',
  '::',
  '1.2.3.4/99',
  'default',
  'remote',
  'ikev2',
  'both',
  'port',
  'tag',
  '__proto__',
  'constructor',
  'toString',
];

/** One file from a seed: a few changes of the kinds that break parsers. */
function mutated(seed: number): string {
  const dice = new Dice(seed * 2654435761);
  let text = dice.chance(30) ? dice.pick(SHIPPED) : randomPolicy(seed);
  for (let changes = 1 + dice.below(12); changes > 0; changes--) {
    const at = dice.below(text.length + 1);
    const length = dice.below(dice.chance(90) ? 8 : 400);
    switch (dice.below(8)) {
      case 0:
        text = text.slice(0, at) + text.slice(at + length);
        break;
      case 1:
        text = text.slice(0, at) + dice.pick(PIECES) + text.slice(at);
        break;
      case 2:
        text = `${text.slice(0, at)} ${dice.pick(WORDS)} ${text.slice(at)}`;
        break;
      case 3:
        text = text.slice(0, at) + text.slice(at, at + length * 4) + text.slice(at);
        break;
      case 4:
        text = text.slice(0, at) + String.fromCharCode(dice.below(dice.chance(80) ? 128 : 0xffff)) + text.slice(at + 1);
        break;
      case 5:
        text = text.replace(/[A-Za-z_]{4,}/g, (word) => (dice.chance(3) ? dice.pick(WORDS) : word));
        break;
      case 6:
        text =
          text.slice(0, at) +
          dice.pick(['{', '"', '}', 'a ', '${A']).repeat(1 + dice.below(dice.chance(95) ? 20 : 3000)) +
          text.slice(at);
        break;
      default:
        text = dice.chance(20) ? text.slice(0, at) : text;
    }
  }
  return text;
}

test(`${COUNT} mutated files: no exception, findings in place, bounded time`, LIMIT, () => {
  let refused = 0;
  let slowest = 0;
  const memory = new MemoryBound();
  for (let seed = FIRST; seed < FIRST + COUNT; seed++) {
    memory.mutant();
    const text = mutated(seed);
    const start = processorTime();
    const { config, diagnostics } = compile('/t.conf', memoryFiles({ '/t.conf': text }, ENVIRONMENT));
    slowest = Math.max(slowest, processorTime() - start);
    const lines = text.split('\n');
    const errors = diagnostics.filter(({ severity }) => severity === 'error').length;
    if (config === undefined) refused++;
    if ((config === undefined) !== errors > 0) expect.fail(`seed ${seed}: a configuration and ${errors} errors`);
    for (const finding of diagnostics) {
      const line = (lines[finding.line - 1] ?? '').replace(/\r$/, '');
      const inside =
        finding.line >= 1 && finding.line <= lines.length && finding.column >= 1 && finding.column <= line.length + 2;
      if (!inside || finding.length < 1) expect.fail(`seed ${seed}: outside of the file: ${JSON.stringify(finding)}`);
      if (show(finding).length > 2000) expect.fail(`seed ${seed}: a finding of ${show(finding).length} characters`);
    }
  }
  memory.end();
  expect(slowest).toBeLessThan(SLOWEST_MS);
  // Mutations that leave a file valid, and such that do not, are both common enough for the test to mean something.
  expect(refused).toBeGreaterThan(COUNT / 3);
  expect(refused).toBeLessThan(COUNT);
});
