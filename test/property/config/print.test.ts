/** Round trips of the policy language: what is printed compiles to the same configuration, and compiling is deterministic. */

import { expect, test } from 'vitest';
import { compile, memoryFiles, print, show } from '../../../src/config/index.ts';
import { processorTime } from '../../support/processor-time.ts';
import { ENVIRONMENT, randomPolicy } from './policy-text.ts';

const SEEDS = 200;
const compiled = (text: string) => compile('/etc/tanuki/t.conf', memoryFiles({ '/etc/tanuki/t.conf': text }, ENVIRONMENT));

test(`print, then compile, gives the same Config (${SEEDS} random files)`, () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const first = compiled(randomPolicy(seed));
    const errors = first.diagnostics.filter(({ severity }) => severity === 'error');
    expect(errors.map(show), `seed ${seed}`).toEqual([]);
    const printed = print(first.config!);
    const again = compiled(printed);
    expect(again.config, `seed ${seed}: ${again.diagnostics.map(show).join('\n')}`).toStrictEqual(first.config);
    expect(print(again.config!), `seed ${seed}`).toBe(printed);
  }
});

test('the same text gives the same result, findings and all', () => {
  for (let seed = 1; seed <= 40; seed++) expect(compiled(randomPolicy(seed))).toStrictEqual(compiled(randomPolicy(seed)));
});

test('a Config is plain JSON', () => {
  for (let seed = 1; seed <= 40; seed++) {
    const { config } = compiled(randomPolicy(seed));
    expect(JSON.parse(JSON.stringify(config))).toEqual(config);
  }
});

test('time grows with the length of the file and no faster', () => {
  const policies = (n: number) =>
    Array.from(
      { length: n },
      (_, i) => `selector s${i} { direction both; src 10.1.0.0/16; dst 10.${i % 200}.${i >> 8}.${i & 255}; policy_index p${i}; };
      policy p${i} { remote_index r; ipsec_index i${i}; }; ipsec i${i} { sa_index s${i}; }; sa s${i} { };`,
    ).join('\n');
  const time = (n: number) => {
    const text = `remote r { ikev2 { peers_ipaddr 192.0.2.1; pre_shared_key k; }; };\n${policies(n)}`;
    const start = processorTime();
    expect(compiled(text).config?.selectors.length).toBe(2 * n);
    return processorTime() - start;
  };
  time(500);
  const small = Math.min(time(1000), time(1000));
  expect(time(8000)).toBeLessThan(8 * 4 * small + 200);
});

test.each([
  ['statements', 'a;'.repeat(200_000)],
  ['wrong elements', `remote r { ikev2 { kmp_enc_alg { ${'aes128_cbz;'.repeat(50_000)} }; }; };`],
  ['quotes', '"'.repeat(500_000)],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of the policy language
  ['references', `setval { B ""; A "${'${B}'.repeat(200_000)}"; };`],
  ['one long word', `remote ${'x'.repeat(2_000_000)} {};`],
  ['includes of itself', 'include "t.conf";'.repeat(10_000)],
])('a megabyte of %s takes no longer than a megabyte should', (_, text) => {
  const start = processorTime();
  compiled(text);
  expect(processorTime() - start).toBeLessThan(6000);
});
