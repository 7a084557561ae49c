/** The top level of a configuration: variables first, then every section read by its table and filed under its name. */

import { ranges } from './addresses.ts';
import { type Block, type BlockSpec, readBlock, type Words } from './blocks.ts';
import type { AddressPool } from './config.ts';
import { type Diagnostics, quoted, type Span, showPosition } from './diagnostics.ts';
import { bodyOf, Cursor, type Reader } from './kinds.ts';
import { type Atom, type Item, type Statement, showAtom } from './parser.ts';
import {
  ADDRESSPOOL,
  DEFAULT,
  INTERFACE,
  IPSEC,
  KERBEROS,
  LIMITS,
  LOGGING,
  POLICY,
  REMOTE,
  RESOLVER,
  SA,
  SECTIONS,
  SELECTOR,
  TABLES,
} from './schema.ts';
import { type Environment, Variables } from './variables.ts';

/** A section that others refer to by name. `at` is the name as written. */
export interface Named<W extends Words> {
  readonly name: string;
  readonly at: Span;
  readonly block: Block<W>;
}

export type Table<W extends Words> = ReadonlyMap<string, Named<W>>;

export interface Sections {
  readonly interface: Block<typeof INTERFACE.words> | undefined;
  readonly limits: Block<typeof LIMITS.words> | undefined;
  readonly logging: Block<typeof LOGGING.words> | undefined;
  readonly resolver: Block<typeof RESOLVER.words> | undefined;
  readonly kerberos: Block<typeof KERBEROS.words> | undefined;
  readonly default: Block<typeof DEFAULT.words> | undefined;
  readonly remotes: Table<typeof REMOTE.words>;
  readonly selectors: Table<typeof SELECTOR.words>;
  readonly policies: Table<typeof POLICY.words>;
  readonly ipsecs: Table<typeof IPSEC.words>;
  readonly sas: Table<typeof SA.words>;
  readonly pools: ReadonlyMap<string, AddressPool>;
}

export function isSection(word: string): boolean {
  return Object.hasOwn(SECTIONS, word);
}

/** Where a word is at home, for hints: the first table that has it. */
function homesOf(word: string): readonly string[] {
  if (isSection(word)) return ['at the top level'];
  const home = TABLES.find((table) => Object.hasOwn(table.words, word));
  return home === undefined ? [] : [`in \`${home.title}\``];
}

export function readSections(statements: readonly Statement[], environment: Environment, report: Diagnostics): Sections {
  const variables = new Variables(environment, report);
  const reader: Reader = { report, quiet: false, expand: (atom) => variables.expand(atom), homesOf };
  const kinds = statements.map((statement) => sectionWord(statement, report));
  statements.forEach((statement, i) => {
    if (kinds[i] === 'setval') setval(statement, variables, reader);
  });
  variables.expandAll();

  const of = (word: string) => statements.filter((_, i) => kinds[i] === word);
  const single = <W extends Words>(word: string, spec: BlockSpec<W>) => readSingle(of(word), spec, reader);
  const named = <W extends Words>(word: string, spec: BlockSpec<W>) =>
    readNamed(of(word), word, reader, (items, name, at): Named<W> | undefined => {
      const body = bodyOf(items, at, reader);
      return body === undefined ? undefined : { name, at, block: readBlock(spec, body, at, reader) };
    });
  return {
    interface: single('interface', INTERFACE),
    limits: single('limits', LIMITS),
    logging: single('logging', LOGGING),
    resolver: single('resolver', RESOLVER),
    kerberos: single('kerberos', KERBEROS),
    default: single('default', DEFAULT),
    remotes: named('remote', REMOTE),
    selectors: named('selector', SELECTOR),
    policies: named('policy', POLICY),
    ipsecs: named('ipsec', IPSEC),
    sas: named('sa', SA),
    pools: readNamed(of('addresspool'), 'addresspool', reader, (items, name, at) => {
      const found = ranges.read(items, at, reader);
      report.warning(at, 'the address pool has no effect yet', ADDRESSPOOL.unbuilt);
      return found === undefined ? undefined : { name, ranges: found };
    }),
  };
}

/** The word that opens a top-level statement; reports an unknown one. */
function sectionWord(statement: Statement, report: Diagnostics): string | undefined {
  const first = statement.items[0]!;
  if (first.kind === 'atom' && !first.quoted && isSection(first.text)) return first.text;
  if (first.kind !== 'atom' || first.quoted) {
    report.error(first.span, `a section is expected, but there is ${first.kind === 'atom' ? showAtom(first) : 'this'}`);
    return undefined;
  }
  if (report.isFull) {
    report.error(first.span, 'unknown section');
    return undefined;
  }
  const near = report.near(first.text, Object.keys(SECTIONS));
  const homes = homesOf(first.text);
  const hint =
    homes.length > 0
      ? `it belongs ${homes[0]}`
      : near === undefined
        ? `known: ${Object.keys(SECTIONS).join(', ')}`
        : `did you mean ${quoted(near)}?`;
  report.error(first.span, `there is no section ${quoted(first.text)}`, hint);
  return undefined;
}

/** `setval { NAME "value"; … };` or `setval NAME "value";`. */
function setval(statement: Statement, variables: Variables, reader: Reader): void {
  const [, body, ...more] = statement.items;
  if (body?.kind !== 'group') return void one(statement.items.slice(1), statement.span);
  if (more[0] !== undefined) reader.report.error(more[0].span, 'something follows the block', 'is a `;` missing before it?');
  for (const inner of body.statements) one(inner.items, inner.span);

  function one(items: readonly Item[], at: Span): void {
    const cursor = new Cursor(items, at, reader);
    const name = cursor.atom('the name of a variable');
    const value = name === undefined ? undefined : cursor.atom('its value');
    if (name === undefined || value === undefined || !cursor.end()) return;
    if (!variables.define(name.text, value)) {
      reader.report.warning(
        name.span,
        `the variable ${quoted(name.text)} has a value already; this one counts`,
        'take one of them out',
      );
    }
  }
}

function readSingle<W extends Words>(statements: readonly Statement[], spec: BlockSpec<W>, reader: Reader): Block<W> | undefined {
  let first: Block<W> | undefined;
  for (const statement of statements) {
    const at = statement.items[0]!.span;
    const body = bodyOf(statement.items.slice(1), at, reader);
    const block = body === undefined ? undefined : readBlock(spec, body, at, reader);
    if (first !== undefined)
      reader.report.error(
        at,
        `${quoted(spec.title)} is there already, at ${showPosition(first.at)}`,
        'make one block of the two',
      );
    first ??= block;
  }
  return first;
}

function readNamed<T>(
  statements: readonly Statement[],
  word: string,
  reader: Reader,
  read: (items: readonly Item[], name: string, at: Span) => T | undefined,
): ReadonlyMap<string, T> {
  const found = new Map<string, T>();
  const places = new Map<string, Span>();
  for (const statement of statements) {
    const [opening, second] = statement.items;
    const nameAtom: Atom | undefined = second?.kind === 'atom' ? second : undefined;
    const at = (nameAtom ?? opening)!.span;
    if (nameAtom === undefined) reader.report.error(at, `the ${word} has no name`, `write ${word} NAME { … };`);
    const name = nameAtom === undefined ? undefined : reader.expand(nameAtom);
    const value = read(statement.items.slice(nameAtom === undefined ? 1 : 2), name ?? '', at);
    if (name === undefined) continue;
    const before = places.get(name);
    if (before !== undefined) {
      reader.report.warning(
        at,
        `there is a ${word} ${quoted(name)} already, at ${showPosition(before)}; that one counts`,
        'give this one another name',
      );
      continue;
    }
    places.set(name, at);
    if (value !== undefined) found.set(name, value);
  }
  return found;
}
