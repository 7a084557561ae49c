/** The kinds of value that a directive can have: how each is written, read and checked. Addresses and algorithms have files of their own. */

import type { Limit } from './config.ts';
import { type Diagnostics, quoted, type Span } from './diagnostics.ts';
import { type Atom, type Item, type Statement, showAtom } from './parser.ts';

/** What a kind needs of the whole. */
export interface Reader {
  readonly report: Diagnostics;
  /** Replaces variables; undefined where that failed, which is then reported. */
  expand(atom: Atom): string | undefined;
  /** Whether this stands in a block that has no effect yet, so that saying it again for each word would be noise. */
  readonly quiet: boolean;
  /** Where a directive of this name belongs, for hints: `at the top level`, `in ikev2 { }`. */
  homesOf(word: string): readonly string[];
}

export interface Kind<T> {
  /** The form, for the documentation. */
  readonly syntax: string;
  /** The value; undefined where there is none, which is then reported. `at` is the directive's own word. */
  read(items: readonly Item[], at: Span, reader: Reader): T | undefined;
}

export type TypeOf<K> = K extends Kind<infer T> ? T : never;

/** A value and where it was written. */
export interface Placed<T> {
  readonly value: T;
  readonly at: Span;
}

/** Walks along the items of one statement. */
export class Cursor {
  private readonly items: readonly Item[];
  private readonly at: Span;
  readonly reader: Reader;
  private index = 0;

  constructor(items: readonly Item[], at: Span, reader: Reader) {
    this.items = items;
    this.at = at;
    this.reader = reader;
  }

  get more(): boolean {
    return this.index < this.items.length;
  }

  peek(): Item | undefined {
    return this.items[this.index];
  }

  /** The place of the next item, or of the last one where there is no more. */
  get place(): Span {
    return (this.items[this.index] ?? this.items.at(-1))?.span ?? this.at;
  }

  /** The next item, which must be a word or string; `what` names it in the message. */
  atom(what: string): Atom | undefined {
    const item = this.items[this.index];
    if (item?.kind === 'atom') {
      this.index++;
      return item;
    }
    const found = item === undefined ? 'nothing' : item.kind === 'group' ? 'a `{ }` block' : quoted(item.kind);
    this.reader.report.error(this.place, `${what} is expected, but there is ${found}`);
    return undefined;
  }

  /** The next word with its variables replaced. */
  text(what: string): { readonly text: string; readonly atom: Atom } | undefined {
    const atom = this.atom(what);
    const text = atom === undefined ? undefined : this.reader.expand(atom);
    return atom === undefined || text === undefined ? undefined : { text, atom };
  }

  /** Takes a mark or an unquoted word if it comes next. */
  take(kind: ',' | '-' | { readonly word: string }): boolean {
    const item = this.items[this.index];
    const fits =
      typeof kind === 'string' ? item?.kind === kind : item?.kind === 'atom' && !item.quoted && item.text === kind.word;
    if (fits) this.index++;
    return fits;
  }

  /** Reports what is left over. */
  end(): boolean {
    const item = this.items[this.index];
    if (item === undefined) return true;
    const found = item.kind === 'atom' ? showAtom(item) : item.kind === 'group' ? 'a `{ }` block' : quoted(item.kind);
    this.reader.report.error(item.span, `${found} is one item too many`, 'is a `;` missing before it?');
    return false;
  }
}

/** A kind that reads items one after the other; what it leaves is reported. */
export function kind<T>(syntax: string, read: (cursor: Cursor) => T | undefined): Kind<T> {
  return {
    syntax,
    read(items, at, reader) {
      const cursor = new Cursor(items, at, reader);
      const value = read(cursor);
      return value !== undefined && cursor.end() ? value : undefined;
    },
  };
}

/** One bare element, or `{ e1; e2; }`. Elements that are wrong are reported and left out. */
export function listOf<T>(element: Kind<T>, mayBeEmpty = false): Kind<readonly Placed<T>[]> {
  return {
    syntax: `${element.syntax}, or { ${element.syntax}; … }`,
    read(items, at, reader) {
      const [first, second] = items;
      if (first?.kind !== 'group') {
        const value = element.read(items, at, reader);
        return value === undefined ? undefined : [{ value, at: first?.span ?? at }];
      }
      if (second !== undefined) {
        reader.report.error(second.span, 'something follows the list', 'is a `;` missing before it?');
        return undefined;
      }
      if (first.statements.length === 0 && !mayBeEmpty)
        reader.report.error(first.span, 'the list is empty', 'leave the directive out to get its default');
      const values: Placed<T>[] = [];
      for (const statement of first.statements) {
        const value = element.read(statement.items, statement.span, reader);
        if (value !== undefined) values.push({ value, at: statement.span });
      }
      return values.length === 0 && !mayBeEmpty ? undefined : values;
    },
  };
}

/** `on|enable|yes` or `off|disable|no`. */
export const boolean: Kind<boolean> = kind('on | off', (cursor) => {
  const word = cursor.text('`on` or `off`');
  if (word === undefined) return undefined;
  if (['on', 'enable', 'yes'].includes(word.text)) return true;
  if (['off', 'disable', 'no'].includes(word.text)) return false;
  cursor.reader.report.error(
    word.atom.span,
    `\`on\` or \`off\` is expected, not ${quoted(word.text)}`,
    'also: enable, yes; disable, no',
  );
  return undefined;
});

/** One of a few words. `refused` words get their own sentence. */
export function choice<const W extends string>(words: readonly W[], aliases: Readonly<Record<string, W>> = {}): Kind<W> {
  const known = [...words, ...Object.keys(aliases)];
  return kind(words.join(' | '), (cursor) => {
    const word = cursor.text(`one of ${words.join(', ')}`);
    if (word === undefined) return undefined;
    const found =
      words.find((candidate) => candidate === word.text) ?? (Object.hasOwn(aliases, word.text) ? aliases[word.text] : undefined);
    if (found !== undefined) return found;
    const near = cursor.reader.report.near(word.text, known);
    const hint = near === undefined ? undefined : `did you mean ${quoted(near)}?`;
    cursor.reader.report.error(word.atom.span, `${quoted(word.text)} is none of ${words.join(', ')}`, hint);
    return undefined;
  });
}

/** Decimal, or hexadecimal after a lower-case `0x`; a sign is allowed, octal is not. */
export function parseNumber(text: string): number | undefined {
  const match = /^([+-]?)(?:0x([0-9a-fA-F]{1,12})|(\d{1,16}))$/.exec(text);
  if (match === null) return undefined;
  const value = match[2] === undefined ? Number(match[3]) : Number.parseInt(match[2], 16);
  return match[1] === '-' && value !== 0 ? -value : value;
}

/** The next item as a number within its bounds. */
export function numberAt(cursor: Cursor, what: string, min: number, max: number): number | undefined {
  const word = cursor.text(what);
  if (word === undefined) return undefined;
  const value = parseNumber(word.text);
  if (value !== undefined && value >= min && value <= max) return value;
  const glued = /^([+-]?\d+)([A-Za-z]+)$/.exec(word.text);
  const hint = glued === null ? `a number from ${min} to ${max}` : `put a space between number and unit: ${glued[1]} ${glued[2]}`;
  const message = value === undefined ? `${quoted(word.text)} is no number` : `${value} is out of range`;
  cursor.reader.report.error(word.atom.span, message, hint);
  return undefined;
}

export function integer(min: number, max: number): Kind<number> {
  return kind('N', (cursor) => numberAt(cursor, 'a number', min, max));
}

/** Any string. */
export const text: Kind<string> = kind('STRING', (cursor) => cursor.text('a string')?.text);

/** A string of limited shape that may not be empty. */
export function pattern(what: string, shape: RegExp): Kind<string> {
  return kind(what, (cursor) => {
    const word = cursor.text(what);
    if (word === undefined || shape.test(word.text)) return word?.text;
    cursor.reader.report.error(word.atom.span, `${quoted(word.text)} is no ${what}`);
    return undefined;
  });
}

/** A name that another section defines; resolved when all are known. */
export function nameOf(section: string): Kind<string> {
  return kind(`${section.toUpperCase()}-NAME`, (cursor) => cursor.text(`the name of a ${section} section`)?.text);
}

/** A value with the place of its first item, for kinds that are checked only when all sections are known. */
export function placed<T>(of: Kind<T>): Kind<Placed<T>> {
  return {
    syntax: of.syntax,
    read(items, at, reader) {
      const value = of.read(items, at, reader);
      return value === undefined ? undefined : { value, at: items[0]?.span ?? at };
    },
  };
}

/** What `0` says where it has no use of its own: racoon2 had no way to tell it from `infinite` and from "not set". */
export type Zero = 'infinite' | 'default';

interface Quantity {
  readonly what: string;
  readonly units: Readonly<Record<string, number>>;
  readonly factor: number;
  readonly max: number;
}

const TIME: Quantity = {
  what: 'a time',
  units: {
    ...{ sec: 1, secs: 1, second: 1, seconds: 1, min: 60, mins: 60, minute: 60, minutes: 60 },
    ...{ hour: 3600, hours: 3600, day: 86400, days: 86400 },
  },
  factor: 1000,
  max: 0x7fffffff,
};
const OCTETS: Quantity = {
  what: 'a number of octets',
  units: { B: 1, byte: 1, bytes: 1, KB: 1024, MB: 1024 ** 2, GB: 1024 ** 3, TB: 1024 ** 4 },
  factor: 1,
  max: Number.MAX_SAFE_INTEGER,
};
const PACKETS: Quantity = {
  what: 'a number of packets',
  units: { packet: 1, packets: 1 },
  factor: 1,
  max: Number.MAX_SAFE_INTEGER,
};

function readQuantity(cursor: Cursor, quantity: Quantity): number | undefined {
  const value = numberAt(cursor, quantity.what, 0, quantity.max);
  if (value === undefined) return undefined;
  let unit = 1;
  if (cursor.peek()?.kind === 'atom') {
    const word = cursor.text('a unit')!;
    if (word === undefined) return undefined;
    if (!Object.hasOwn(quantity.units, word.text)) {
      const near = cursor.reader.report.near(word.text, Object.keys(quantity.units));
      const hint = near === undefined ? `units: ${Object.keys(quantity.units).join(', ')}` : `did you mean ${quoted(near)}?`;
      cursor.reader.report.error(
        word.atom.span,
        `${quoted(word.text)} is no unit of ${quantity.what.replace(/^an? /, '')}`,
        hint,
      );
      return undefined;
    }
    unit = quantity.units[word.text]!;
  }
  if (value * unit <= quantity.max) return value * unit * quantity.factor;
  cursor.reader.report.error(cursor.place, `${quantity.what} of that size is out of range`);
  return undefined;
}

/** A quantity without "no limit". Where `0` has no use either, both mean "not set", as in racoon2. */
function quantityKind(quantity: Quantity, min: number, max: number): Kind<number> {
  return kind(syntaxOf(quantity), (cursor) => {
    const place = cursor.place;
    const value = cursor.take({ word: 'infinite' }) ? 'infinite' : readQuantity(cursor, quantity);
    if (value === undefined) return undefined;
    if (value === 'infinite' || (value === 0 && min > 0)) {
      const written = value === 0 ? '`0`' : '`infinite`';
      cursor.reader.report.warning(
        place,
        `${written} is taken as "not set": the default applies, as in racoon2`,
        `write ${quantity.what}`,
      );
      return undefined;
    }
    if (value >= min && value <= max) return value;
    const bounds = max === Number.POSITIVE_INFINITY ? `at least ${min / quantity.factor}` : `${min} to ${max}`;
    cursor.reader.report.error(place, `${quantity.what} out of range`, bounds);
    return undefined;
  });
}

function limitKind(quantity: Quantity, zero: Zero): Kind<Limit> {
  return kind(`${syntaxOf(quantity)} | infinite`, (cursor) => {
    const place = cursor.place;
    if (cursor.take({ word: 'infinite' })) return 'infinite';
    const value = readQuantity(cursor, quantity);
    if (value !== 0) return value;
    if (zero === 'infinite') {
      cursor.reader.report.warning(place, '`0` is taken as `infinite`, as racoon2 did', 'write `infinite`');
      return 'infinite';
    }
    cursor.reader.report.warning(
      place,
      '`0` is taken as "not set": the default applies, as in racoon2',
      'write `infinite` for no limit',
    );
    return undefined;
  });
}

function syntaxOf({ units }: Quantity): string {
  return `N [${Object.keys(units).join('|')}]`;
}

/** Milliseconds. `min` in milliseconds. */
export const duration = (min = 0): Kind<number> => quantityKind(TIME, min, Number.POSITIVE_INFINITY);
/** Octets within bounds. */
export const octets = (min: number, max: number): Kind<number> => quantityKind(OCTETS, min, max);
/** Milliseconds, or `infinite`. */
export const timeLimit = (zero: Zero): Kind<Limit> => limitKind(TIME, zero);
/** Octets, or `infinite`. */
export const octetLimit = (zero: Zero): Kind<Limit> => limitKind(OCTETS, zero);
/** Packets, or `infinite`. */
export const packetLimit = (zero: Zero): Kind<Limit> => limitKind(PACKETS, zero);

/** Several strings behind one word, the first of a few choices: `my_public_key x509pem "CERT" "KEY"`. */
export function tuple(words: readonly string[], ...parts: readonly string[]): Kind<readonly string[]> {
  return kind([words.join(' | '), ...parts].join(' '), (cursor) => {
    const first = cursor.text(`one of ${words.join(', ')}`);
    if (first === undefined) return undefined;
    if (!words.includes(first.text)) {
      cursor.reader.report.error(first.atom.span, `${quoted(first.text)} is none of ${words.join(', ')}`);
      return undefined;
    }
    const values = [first.text];
    for (const part of parts) {
      if (part.startsWith('[') && !cursor.more) break;
      const word = cursor.text(part);
      if (word === undefined) return undefined;
      values.push(word.text);
    }
    return values;
  });
}

/** Statements of a group, for kinds with a body of their own; reports where there is none. */
export function bodyOf(items: readonly Item[], at: Span, reader: Reader): readonly Statement[] | undefined {
  const [first, second] = items;
  if (first?.kind === 'group' && second === undefined) return first.statements;
  reader.report.error((first?.kind === 'group' ? second : first)?.span ?? at, 'a `{ }` block is expected');
  return undefined;
}
