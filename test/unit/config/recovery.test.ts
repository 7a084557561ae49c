/** The shapes of the language: what goes wrong in them is reported once, and everything behind it is still read. */

import { describe, expect, test } from 'vitest';
import { Diagnostics, sourceOf } from '../../../src/config/diagnostics.ts';
import { compile, memoryFiles } from '../../../src/config/index.ts';
import { parse } from '../../../src/config/parser.ts';

function findings(text: string): string[] {
  return compile('/t.conf', memoryFiles({ '/t.conf': text })).diagnostics.map(
    ({ line, column, message }) => `${line}:${column} ${message}`,
  );
}

/** Findings beside the one that this file of a few directives says nothing useful. */
const shape = (text: string) => {
  const report = new Diagnostics();
  parse(sourceOf('t', text), report);
  return report.list().map(({ line, column, message }) => `${line}:${column} ${message}`);
};

describe('shapes', () => {
  test.each([
    ['a b', ['1:4 a `;` is missing']],
    ['a { b c }', ['1:8 a `;` is missing', '1:10 a `;` is missing behind the `}`']],
    ['a { b; } c { d; };', ['1:9 a `;` is missing behind the `}`']],
    ['a { b; }; };', ['1:11 no block is open that this `}` could close']],
    ['a {\n  b {\n    c;\n};', ['1:3 the `{` is never closed']],
    ['a {\n  b { c;\n\nd e {\n  f;\n};', ['1:3 the block is not closed before `d` in line 4']],
    ['a "b;\nc d;', ['1:3 the string is never closed']],
    ['a "b; c d; }\ne "f";', ['1:3 the string is never closed', '1:12 no block is open that this `}` could close']],
    ['a "b\nc";', ['1:3 the string goes on over the end of the line']],
    ['a "b', ['1:3 the string is never closed', '1:5 a `;` is missing']],
    ['a $b;', ['1:3 a variable is recognised in a quoted string only']],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of the policy language
    ['a /x/${b}/c;', ['1:3 a variable is recognised in a quoted string only']],
    ['a (b);', ['1:3 `(` has no meaning here', '1:5 `)` has no meaning here']],
    ['a "x\u0001y";', ['1:5 the string holds the control character 0x01']],
    ['# nothing but a comment', []],
    ['a "# no comment"; # a comment; {', []],
    ['\ufeffa\r\nb;\r\n', []],
  ])('%j', (text, expected) => expect(shape(text)).toEqual(expected));

  test('a list, a dash and commas keep their shape', () => {
    const [statement] = parse(sourceOf('t', 'x { a - b; c, 128; };'), new Diagnostics());
    const group = statement!.items[1]!;
    expect(group.kind === 'group' && group.statements.map(({ items }) => items.map(({ kind }) => kind))).toEqual([
      ['atom', '-', 'atom'],
      ['atom', ',', 'atom'],
    ]);
  });

  test('a hundred thousand open braces are one mistake, and no stack is too small for them', () => {
    expect(shape('a {'.repeat(100_000))).toEqual(['1:300000 the `{` is never closed']);
  });
});

describe('a missing `;` between two directives is found where it is', () => {
  test('at the end of the line before a word that is known', () => {
    expect(findings('policy p {\n  action discard\n  install on;\n};')).toEqual([
      '1:8 the policy `p` is not used by any selector',
      '2:17 a `;` is missing',
    ]);
  });

  test('within a line', () => {
    expect(findings('policy p { action discard install on; };')).toEqual([
      '1:8 the policy `p` is not used by any selector',
      '1:26 a `;` is missing',
    ]);
  });

  test('a value that is a word of the language is a value', () => {
    const text = `remote r { ikev2 { peers_ipaddr 192.0.2.1; pre_shared_key k; my_id fqdn passive; peers_id keyid tag script; }; };`;
    expect(findings(text)).toEqual(['1:8 the remote `r` is not used by any policy']);
  });

  test('between sections', () => {
    expect(findings('setval A "x"\nsetval B "y";\npolicy p { action none; };')).toContain('1:13 a `;` is missing');
  });
});

test('a file of nonsense has a bounded number of findings', () => {
  const list = compile('/t.conf', memoryFiles({ '/t.conf': 'x { ( };\n'.repeat(5000) })).diagnostics;
  expect(list.length).toBe(501);
  expect(list.at(-1)!.message).toMatch(/^there are \d+ more problems that are not listed$/);
});

test.each([
  ['', 'the file says nothing'],
  ['# all out\n', 'the file says nothing'],
])('a file without a statement is taken for a mistake: %j', (text, message) => {
  expect(findings(text)).toEqual([`1:1 ${message}`]);
});

describe('includes', () => {
  const run = (texts: Record<string, string>, environment = {}) => {
    const { files, diagnostics } = compile('/etc/t/main.conf', memoryFiles(texts, environment));
    return { files, findings: diagnostics.map(({ file, line, column, message }) => `${file}:${line}:${column} ${message}`) };
  };
  const policy = 'policy p { action none; }; selector s { direction both; src ::1; dst ::2; policy_index p; };';

  test('patterns are taken in order, and relative paths start beside the file', () => {
    const texts = {
      '/etc/t/main.conf': 'include "d/*.conf";',
      '/etc/t/d/2.conf': 'setval A "x";',
      '/etc/t/d/1.conf': policy,
      '/etc/t/x.conf': '',
    };
    expect(run(texts)).toEqual({ files: ['/etc/t/main.conf', '/etc/t/d/1.conf', '/etc/t/d/2.conf'], findings: [] });
  });

  test('findings name the file that they are in', () => {
    const texts = { '/etc/t/main.conf': `${policy}\ninclude "/etc/$[WHICH].conf";`, '/etc/x.conf': '\n  bogus on;' };
    expect(run(texts, { WHICH: 'x' }).findings).toEqual(['/etc/x.conf:2:3 there is no section `bogus`']);
  });

  test('a file that was read already is not read again', () => {
    const texts = { '/etc/t/main.conf': `include "a.conf"; include "a.conf";`, '/etc/t/a.conf': policy };
    expect(run(texts).findings).toEqual(['/etc/t/main.conf:1:27 `/etc/t/a.conf` was read already and is not read again']);
  });

  test.each([
    ['include "nowhere.conf";', 'no file matches `/etc/t/nowhere.conf`'],
    ['include "main.conf";', '`/etc/t/main.conf` includes itself'],
    ['include;', 'a file name is expected after `include`'],
    ['include "a" "b";', 'there is more than one file name after `include`'],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of the policy language
    ['setval N "a"; include "${N}.conf";', '${N} is not known yet where files are included'],
    ['include "$[N]";', 'the environment has no variable `N`'],
    ['remote r { include "a"; };', 'there is no directive `include` in remote NAME { }'],
  ])('%s', (text, message) => {
    expect(run({ '/etc/t/main.conf': `${text}\n${policy}` }).findings.join('\n')).toContain(message);
  });

  test('they nest ten deep and no deeper', () => {
    const chain = (n: number) =>
      Object.fromEntries(
        Array.from({ length: n }, (_, i) => [`/etc/t/${i === 0 ? 'main' : i}.conf`, `include "${i + 1}.conf";`]),
      );
    expect(run({ ...chain(10), '/etc/t/10.conf': policy }).findings).toEqual([]);
    expect(run({ ...chain(11), '/etc/t/11.conf': policy }).findings).toEqual([
      '/etc/t/10.conf:1:9 includes are nested deeper than 10',
    ]);
  });
});

test('words are said where they belong', () => {
  const hints = (text: string) => compile('/t.conf', memoryFiles({ '/t.conf': text })).diagnostics.map(({ hint }) => hint);
  expect(hints('interface { device tun; };')).toEqual(['it belongs in `datapath { }`']);
  expect(hints('remote r { pre_shared_key "x"; };')).toContain('it belongs in `ikev2 { }`');
  expect(hints('pre_shared_key "x";')).toEqual(['it belongs in `ikev2 { }`']);
  expect(hints('polcy p { };')).toEqual(['did you mean `policy`?']);
});
