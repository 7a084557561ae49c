/** Blocks of directives: how a table of `schema.ts` reads the statements of a group, and how values are inherited. */

import { Fault } from '../errors.ts';
import { Diagnostics, quoted, type Span, showPosition, sourceOf } from './diagnostics.ts';
import { bodyOf, type Kind, type Reader } from './kinds.ts';
import { parse, type Statement, separate, showAtom } from './parser.ts';

/** Who acts on a directive. */
export type Daemon = 'spmd' | 'iked' | 'kinkd' | 'datapath' | 'tanuki' | 'all';

/** One word of the language, said once: the checker, the documentation and the printer read this. */
export interface Directive<T> {
  readonly is: Kind<T>;
  readonly doc: string;
  readonly by: readonly Daemon[];
  /** Policy text that stands where nothing is written. */
  readonly default?: string;
  /** The value of `default`. */
  readonly initial?: T;
  /** It has no effect yet; the text says what happens instead. */
  readonly unbuilt?: string;
  /** It will never have an effect; the text says why or what to use. */
  readonly ignored?: string;
  /** Writing it twice is a mistake and not only doubtful. */
  readonly once?: boolean;
}

export type Words = Readonly<Record<string, Directive<unknown>>>;

export interface BlockSpec<W extends Words> {
  /** As messages and documentation name it: `ikev2 { }`. */
  readonly title: string;
  readonly doc: string;
  readonly words: W;
  /** Other spellings, by the word they stand for. */
  readonly aliases?: Readonly<Record<string, string>>;
}

export type ValueOf<D> = D extends { readonly is: Kind<infer T> } ? T : never;

/** A directive as written. The value is undefined where it was wrong (and reported) or says "not set". */
export interface Entry<T> {
  readonly value: T | undefined;
  readonly at: Span;
}

export interface Block<W extends Words> {
  readonly at: Span;
  readonly entries: { readonly [K in keyof W]?: Entry<ValueOf<W[K]>> };
}

/** Every word of a block with its value: no `undefined` where there is a default. */
export type Settled<W extends Words> = {
  readonly [K in keyof W]: W[K] extends { readonly default: string } ? ValueOf<W[K]> : ValueOf<W[K]> | undefined;
};

type Facts<T> = Omit<Directive<T>, 'initial' | 'default'>;

/** A row of the schema. The default is read by the directive's own kind; a wrong one is a fault of ours. */
export function directive<T>(row: Facts<T> & { readonly default: string }): Directive<T> & { readonly default: string };
export function directive<T>(row: Facts<T>): Directive<T>;
export function directive<T>(row: Facts<T> & { readonly default?: string }): Directive<T> {
  if (row.default === undefined) return row;
  const report = new Diagnostics();
  const [statement] = parse(sourceOf('default', `default ${row.default};`), report);
  const reader: Reader = { report, expand: (atom) => atom.text, quiet: true, homesOf: () => [] };
  const initial = statement === undefined ? undefined : row.is.read(statement.items.slice(1), statement.span, reader);
  if (initial === undefined || report.hasErrors) throw new Fault(`the default ${row.default} is not of its own kind`);
  return { ...row, initial };
}

/** A block within a block. */
export function block<W extends Words>(spec: BlockSpec<W>, unbuilt = false): Kind<Block<W>> & { readonly spec: BlockSpec<W> } {
  return {
    syntax: '{ … }',
    spec,
    read(items, at, reader) {
      const statements = bodyOf(items, at, reader);
      return statements === undefined
        ? undefined
        : readBlock(spec, statements, at, unbuilt ? { ...reader, quiet: true } : reader);
    },
  };
}

/** Reads all statements of a block by its table; reports unknown, repeated and ineffective words. */
export function readBlock<W extends Words>(
  spec: BlockSpec<W>,
  statements: readonly Statement[],
  at: Span,
  reader: Reader,
): Block<W> {
  const { report } = reader;
  const entries: Record<string, Entry<unknown>> = {};
  const wordOf = (written: string) =>
    spec.aliases !== undefined && Object.hasOwn(spec.aliases, written) ? spec.aliases[written]! : written;
  const isDirective = (word: string) => Object.hasOwn(spec.words, wordOf(word));
  for (const whole of statements) {
    for (const statement of separate(whole, isDirective, report)) {
      const first = statement.items[0]!;
      if (first.kind !== 'atom' || first.quoted) {
        const found = first.kind === 'atom' ? showAtom(first) : 'this';
        report.error(first.span, `a directive of ${spec.title} is expected, but there is ${found}`);
        continue;
      }
      const word = wordOf(first.text);
      if (!isDirective(word)) {
        if (report.isFull) report.error(first.span, 'unknown directive');
        else unknownWord(spec, first.text, first.span, reader);
        continue;
      }
      const row = spec.words[word]!;
      const before = entries[word];
      if (before !== undefined) repeated(word, first.span, before.at, row, reader);
      if (word !== first.text)
        report.note(first.span, `${quoted(first.text)} is another word for ${quoted(word)}`, `write ${word}`);
      const value = row.is.read(statement.items.slice(1), first.span, reader);
      if (!reader.quiet) noteEffect(word, first.span, row, reader);
      entries[word] = { value, at: first.span };
    }
  }
  return { at, entries: entries as Block<W>['entries'] };
}

function unknownWord<W extends Words>(spec: BlockSpec<W>, word: string, at: Span, reader: Reader): void {
  const near = reader.report.near(word, [...Object.keys(spec.words), ...Object.keys(spec.aliases ?? {})]);
  const homes = reader.homesOf(word);
  const belongs = homes.length === 0 ? undefined : `it belongs ${homes.join(' or ')}`;
  reader.report.error(
    at,
    `there is no directive ${quoted(word)} in ${spec.title}`,
    belongs ?? (near === undefined ? undefined : `did you mean ${quoted(near)}?`),
  );
}

function repeated(word: string, at: Span, before: Span, row: Directive<unknown>, { report }: Reader): void {
  const message = `${quoted(word)} is there already, at ${showPosition(before)}`;
  if (row.once === true) report.error(at, message, 'put all values into one list');
  else report.warning(at, `${message}; this one counts`, 'take one of them out');
}

function noteEffect(word: string, at: Span, row: Directive<unknown>, { report }: Reader): void {
  if (row.unbuilt !== undefined) report.warning(at, `${quoted(word)} has no effect yet`, row.unbuilt);
  else if (row.ignored !== undefined) report.warning(at, `${quoted(word)} has no effect`, row.ignored);
}

/** The values of one section after inheritance, and where each was written. */
export interface Layers<W extends Words> {
  readonly values: Settled<W>;
  /** The place of a directive, in the first layer that has it; else that of the section itself. */
  at(word: keyof W): Span;
  /** Whether a layer has the directive; `own`: the first. */
  written(word: keyof W): boolean;
  own(word: keyof W): boolean;
}

/** One pass for all: the section's own value, else that of `default { }`, else the built-in one. Lists replace, they never merge. */
export function settle<W extends Words>(spec: BlockSpec<W>, at: Span, ...layers: readonly (Block<W> | undefined)[]): Layers<W> {
  const found = (word: keyof W) => layers.find((layer) => layer?.entries[word]?.value !== undefined)?.entries[word];
  const values: Record<string, unknown> = {};
  for (const word of Object.keys(spec.words)) values[word] = found(word)?.value ?? spec.words[word]!.initial;
  const anywhere = (word: keyof W) => layers.find((layer) => layer?.entries[word] !== undefined)?.entries[word];
  return {
    values: values as Settled<W>,
    at: (word) => (found(word) ?? anywhere(word))?.at ?? at,
    written: (word) => anywhere(word) !== undefined,
    own: (word) => layers[0]?.entries[word] !== undefined,
  };
}
