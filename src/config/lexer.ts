/** Policy text into tokens: words, quoted strings and punctuation, each with its place. Knows no word by name. */

import { type Diagnostics, lineEndAt, quoted, type Source, type Span } from './diagnostics.ts';

export type TokenKind = 'word' | 'string' | '{' | '}' | ';' | ',' | '-' | 'end';

export interface Token {
  readonly kind: TokenKind;
  /** A word as written, a string without its quotes, else the punctuation itself. */
  readonly text: string;
  readonly span: Span;
}

/** What an unquoted word is made of. */
const WORD = /[0-9A-Za-z%*\-./:?@_]+/y;
/** An unquoted variable reference: not allowed, but taken as one piece so that only it is reported. */
const REFERENCE = /\$(?:\{[^}\s";]*\}?|\[[^\]\s";]*\]?)?[0-9A-Za-z%*\-./:?@_]*/y;
const BLANK = /[ \t\r\n\f\ufeff]+/y;
const COMMENT = /#[^\n]*/y;
/** Anything else, up to where a token could start again. */
const FOREIGN = /[^0-9A-Za-z%*\-./:?@_\s{};,"#$]+/y;

/** Always ends with an `end` token. Reports what is no token and goes on behind it. */
export function lex(source: Source, report: Diagnostics): Token[] {
  const { text } = source;
  const tokens: Token[] = [];
  let at = 0;
  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    return pattern.exec(text)?.[0];
  };
  const push = (kind: TokenKind, content: string, end: number) => {
    tokens.push({ kind, text: content, span: { source, start: at, end } });
    at = end;
  };
  while (at < text.length) {
    const skipped = match(BLANK) ?? match(COMMENT);
    if (skipped !== undefined) {
      at += skipped.length;
      continue;
    }
    const first = text[at]!;
    if (first === '{' || first === '}' || first === ';' || first === ',') push(first, first, at + 1);
    else if (first === '"') {
      const end = stringEnd(source, at, report);
      const closed = text[end - 1] === '"' && end - 1 > at;
      push('string', text.slice(at + 1, closed ? end - 1 : end), end);
    } else if (first === '$') reference(match(REFERENCE)!);
    else {
      const word = match(WORD);
      if (word !== undefined) push(word === '-' ? '-' : 'word', word, at + word.length);
      else foreign(match(FOREIGN) ?? first);
    }
  }
  at = text.length;
  push('end', '', text.length);
  return tokens;

  function reference(written: string): void {
    const before = tokens.at(-1);
    const joins = before?.kind === 'word' && before.span.end === at;
    const start = joins ? before.span.start : at;
    if (joins) tokens.pop();
    const end = at + written.length;
    const whole = text.slice(start, end);
    report.error({ source, start, end }, 'a variable is recognised in a quoted string only', `write "${whole}"`);
    tokens.push({ kind: 'string', text: whole, span: { source, start, end } });
    at = end;
  }

  function foreign(written: string): void {
    const hint = first7bit(written)
      ? 'names that hold other characters are written in "quotes"'
      : 'only quoted strings and comments may hold it';
    report.error({ source, start: at, end: at + written.length }, `${quoted(written)} has no meaning here`, hint);
    at += written.length;
  }
}

function first7bit(text: string): boolean {
  return text.charCodeAt(0) < 128;
}

/**
 * The place behind a string that opens at `at`. Strings may span lines; one that runs over a line's end although a `;` came before it
 * has lost its closing quote, and is taken to end before that `;`.
 */
function stringEnd(source: Source, at: number, report: Diagnostics): number {
  const { text } = source;
  const close = text.indexOf('"', at + 1);
  const lineEnd = lineEndAt(source, at);
  if (close >= 0 && close < lineEnd) {
    checkCharacters(source, at + 1, close, report);
    return close + 1;
  }
  const semicolon = text.slice(at, lineEnd).indexOf(';');
  if (close < 0 || semicolon >= 0) {
    const end = semicolon >= 0 ? at + semicolon : text[lineEnd - 1] === '\r' ? lineEnd - 1 : lineEnd;
    report.error({ source, start: at, end }, 'the string is never closed', 'put the closing " at its end');
    return end;
  }
  report.warning({ source, start: at, end: lineEnd }, 'the string goes on over the end of the line', 'is the closing " missing?');
  checkCharacters(source, at + 1, close, report);
  return close + 1;
}

function checkCharacters(source: Source, from: number, to: number, report: Diagnostics): void {
  const found = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/.exec(source.text.slice(from, to));
  if (found === null) return;
  const start = from + found.index;
  const code = found[0].charCodeAt(0).toString(16).padStart(2, '0');
  report.error({ source, start, end: start + 1 }, `the string holds the control character 0x${code}`, 'take it out');
}
