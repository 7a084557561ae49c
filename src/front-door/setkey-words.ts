/** The words of setkey's language with their places, and what reads them: every error says line and column, what was expected and what was found. */

import { PROTOCOLS } from '../config/addresses.ts';
import { IpAddress } from '../net/address.ts';
import { bitsOf, firstAddress, type Prefix } from '../net/prefix.ts';

export interface Word {
  readonly text: string;
  readonly line: number;
  readonly column: number;
  /** In quotation marks: never an option or the end of a statement. */
  readonly quoted: boolean;
}

export class SetkeyError extends Error {
  readonly line: number;
  readonly column: number;
  constructor(word: Pick<Word, 'line' | 'column'>, message: string) {
    super(message);
    this.line = word.line;
    this.column = word.column;
  }
}

/** All statements of a text, each with its words and without its `;`. Throws SetkeyError. */
export function statementsOf(text: string): Word[][] {
  const statements: Word[][] = [];
  let words: Word[] = [];
  for (const [row, lineText] of text.split('\n').entries()) {
    const line = row + 1;
    for (let at = 0; at < lineText.length; ) {
      const column = at + 1;
      const character = lineText[at]!;
      if (character === '#') break;
      if (/\s/.test(character)) at++;
      else if (character === ';') {
        if (words.length > 0) statements.push(words);
        words = [];
        at++;
      } else if (character === '"') {
        const end = lineText.indexOf('"', at + 1);
        if (end < 0) throw new SetkeyError({ line, column }, 'expected a closing quotation mark in this line, found none');
        words.push({ text: lineText.slice(at + 1, end), line, column, quoted: true });
        at = end + 1;
      } else {
        const [word] = /^[^\s;#"]+/.exec(lineText.slice(at))!;
        words.push({ text: word, line, column, quoted: false });
        at += word.length;
      }
    }
  }
  if (words.length === 0) return statements;
  throw new SetkeyError(words.at(-1)!, `expected ";" behind "${words.at(-1)!.text}", found the end of the text`);
}

/** Reads the words of one statement from left to right. */
export class Words {
  readonly #words: readonly Word[];
  #at: number;

  /** Reads from the word at index `from` on; there is at least one before it. */
  constructor(words: readonly Word[], from: number) {
    this.#words = words;
    this.#at = from;
  }

  /** The next word, or undefined at the end. */
  get next(): Word | undefined {
    return this.#words[this.#at];
  }

  /** The next word is an option. */
  get option(): string | undefined {
    const { next } = this;
    return next !== undefined && !next.quoted && /^-[A-Za-z]/.test(next.text) ? next.text : undefined;
  }

  skip(): void {
    this.#at++;
  }

  /** Throws SetkeyError at the word that was taken last, or at the one that is next. */
  fail(expected: string, at: Word | undefined = this.next): never {
    const last = this.#words.at(-1)!;
    const found = at === undefined ? 'the end of the statement' : `"${at.text}"`;
    throw new SetkeyError(
      at ?? { line: last.line, column: last.column + last.text.length },
      `expected ${expected}, found ${found}`,
    );
  }

  word(expected: string): Word {
    const { next } = this;
    if (next === undefined) this.fail(expected);
    this.#at++;
    return next;
  }

  end(): void {
    if (this.next !== undefined) this.fail('";"');
  }

  choice<T>(table: Readonly<Record<string, T>>, what: string): T {
    const word = this.word(what);
    if (!Object.hasOwn(table, word.text)) this.fail(`${what} (${Object.keys(table).join(', ')})`, word);
    return table[word.text]!;
  }

  number(what: string, least: number, most: number): number {
    const expected = `${what} from ${least} to ${most}`;
    const word = this.word(expected);
    const value = /^(0x[0-9a-f]{1,12}|\d{1,15})$/i.test(word.text) ? Number(word.text) : Number.NaN;
    if (!(value >= least && value <= most)) this.fail(expected, word);
    return value;
  }

  address(what: string): IpAddress {
    return this.endpoint(what).address;
  }

  /** `192.0.2.1` or `192.0.2.1[4500]`. */
  endpoint(what: string): { address: IpAddress; port: number } {
    const word = this.word(what);
    const [, text, port] = /^([^[]+?)(?:\[(\d{1,5}|any)\])?$/.exec(word.text) ?? [];
    const address = IpAddress.parse(text ?? '');
    const number = port === undefined || port === 'any' ? 0 : Number(port);
    if (address === undefined || number > 65_535) this.fail(`${what}, a numeric address`, word);
    return { address, port: number };
  }

  /** `10.1.0.0/16[any]`. */
  range(what: string): { prefix: Prefix; port: number } {
    const word = this.word(what);
    const [, text, length, port] = /^([^[/]+)(?:\/(\d{1,3}))?(?:\[(\d{1,5}|any)\])?$/.exec(word.text) ?? [];
    const address = IpAddress.parse(text ?? '');
    if (address === undefined) this.fail(`${what} as ADDRESS[/LENGTH][[PORT]]`, word);
    const bits = bitsOf(address.family);
    const prefix = { address, length: length === undefined ? bits : Number(length) };
    const number = port === undefined || port === 'any' ? 0 : Number(port);
    if (prefix.length > bits || number > 65_535) this.fail(`${what} with a length up to ${bits} and a port up to 65535`, word);
    return { prefix: { address: firstAddress(prefix), length: prefix.length }, port: number };
  }

  /** `any`, `tcp`, `58`, …, and behind ICMP and the Mobility Header a type and a code: `icmp6 128,0`. */
  upperLayer(): { protocol: number; type: number | undefined; code: number | undefined } {
    const word = this.word('an upper-layer protocol');
    const names: Readonly<Record<string, number>> = { ...PROTOCOLS, any: 0, icmp6: 58, ip4: 4 };
    const named = Object.hasOwn(names, word.text) ? names[word.text]! : Number.NaN;
    const protocol = /^\d{1,3}$/.test(word.text) ? Number(word.text) : named;
    if (!(protocol <= 255)) this.fail('an upper-layer protocol by name or number', word);
    const { next } = this;
    if (![1, 58, 135].includes(protocol) || next === undefined || !/^\d/.test(next.text))
      return { protocol: protocol === 255 ? 0 : protocol, type: undefined, code: undefined };
    this.skip();
    const [, type, code] = /^(\d{1,3})(?:,(\d{1,3}))?$/.exec(next.text) ?? [];
    if (type === undefined || Number(type) > 255 || Number(code ?? 0) > 255) this.fail('TYPE or TYPE,CODE, each 0 to 255', next);
    if (code !== undefined && protocol === 135) this.fail('a Mobility Header type without a code', next);
    return { protocol, type: Number(type), code: code === undefined ? undefined : Number(code) };
  }

  /** `0x` and hexadecimal digits, or text in quotation marks. */
  key(): Uint8Array {
    const word = this.word('a key');
    if (word.quoted) return new TextEncoder().encode(word.text);
    if (!/^0x([0-9a-f]{2})+$/i.test(word.text))
      this.fail('a key as 0x and an even number of digits, or in quotation marks', { ...word, text: 'something else' });
    return Uint8Array.from(word.text.slice(2).match(/../g)!, (pair) => Number.parseInt(pair, 16));
  }
}
