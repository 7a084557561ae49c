/** Tokens into statements and groups. Knows shapes and not words: `word items ;`, where an item may be a group `{ statements }`. */

import { across, behind, type Diagnostics, opensLine, positionOf, quoted, type Source, type Span } from './diagnostics.ts';
import { lex, type Token } from './lexer.ts';

/** A word or a quoted string, before its variables are expanded. */
export interface Atom {
  readonly kind: 'atom';
  readonly text: string;
  readonly quoted: boolean;
  readonly span: Span;
}

/** A comma, or a dash that stands alone. */
export interface Mark {
  readonly kind: ',' | '-';
  readonly span: Span;
}

/** `{ … }`: a block of directives or a list of elements, which have the same shape. */
export interface Group {
  readonly kind: 'group';
  readonly statements: readonly Statement[];
  readonly span: Span;
}

export type Item = Atom | Mark | Group;

/** What ends with `;`. Has at least one item. */
export interface Statement {
  readonly items: readonly Item[];
  readonly span: Span;
}

interface Frame {
  readonly open: Token | undefined;
  readonly statements: Statement[];
  items: Item[];
}

/** All statements of a file. Reports what is out of shape and goes on; never throws. */
export function parse(source: Source, report: Diagnostics): Statement[] {
  report.seen(source);
  const tokens = lex(source, report);
  const lacksClosing = count(tokens, '{') > count(tokens, '}');
  const root: Frame = { open: undefined, statements: [], items: [] };
  const frames: Frame[] = [root];
  const top = () => frames.at(-1)!;

  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i]!;
    switch (token.kind) {
      case ';':
        finish(top());
        break;
      case '{':
        endAfterGroup(token);
        frames.push({ open: token, statements: [], items: [] });
        break;
      case '}':
        if (top().items.length > 0) missingSemicolon(top());
        if (frames.length === 1) report.error(token.span, 'no block is open that this `}` could close', 'take it out');
        else close(token.span);
        break;
      case 'end':
        if (frames.length > 1) closeAll(top().open!, 'the `{` is never closed');
        else if (top().items.length > 0) missingSemicolon(top());
        break;
      default:
        if (lacksClosing && frames.length > 1 && opensSection(tokens, i)) {
          const { line } = positionOf(token.span);
          closeAll(frames[1]!.open!, `the block is not closed before ${quoted(token.text)} in line ${line}`);
        }
        endAfterGroup(token);
        top().items.push(itemOf(token));
    }
  }
  return root.statements;

  function finish(frame: Frame): void {
    if (frame.items.length > 0) {
      frame.statements.push({ items: frame.items, span: across(frame.items[0]!.span, frame.items.at(-1)!.span) });
    }
    frame.items = [];
  }

  function missingSemicolon(frame: Frame): void {
    const last = frame.items.at(-1)!;
    report.error(
      behind(last.span),
      last.kind === 'group' ? 'a `;` is missing behind the `}`' : 'a `;` is missing',
      'every statement ends with `;`',
    );
    finish(frame);
  }

  /** A group ends its statement: whatever follows it other than `;` begins another. */
  function endAfterGroup(next: Token): void {
    const last = top().items.at(-1);
    if (last?.kind === 'group' && next.span.start >= last.span.end) missingSemicolon(top());
  }

  function close(closing: Span): void {
    const frame = frames.pop()!;
    top().items.push({ kind: 'group', statements: frame.statements, span: across(frame.open!.span, closing) });
  }

  /** Reports one unclosed brace and closes every open group where the text stands. */
  function closeAll(open: Token, message: string): void {
    report.error(open.span, message, 'add `};` where the block ends');
    while (frames.length > 1) {
      finish(top());
      const last = top().statements.at(-1)?.span ?? top().open!.span;
      close(last);
    }
    finish(root);
  }
}

function count(tokens: readonly Token[], kind: Token['kind']): number {
  return tokens.reduce((sum, token) => sum + (token.kind === kind ? 1 : 0), 0);
}

/** Whether `word [name] {` starts here in the first column: then it is a section, whatever is still open. */
function opensSection(tokens: readonly Token[], i: number): boolean {
  const token = tokens[i]!;
  if (token.kind !== 'word' || positionOf(token.span).column !== 1 || !opensLine(token.span)) return false;
  const next = tokens[i + 1]?.kind;
  return next === '{' || ((next === 'word' || next === 'string') && tokens[i + 2]?.kind === '{');
}

function itemOf(token: Token): Item {
  if (token.kind === ',' || token.kind === '-') return { kind: token.kind, span: token.span };
  return { kind: 'atom', text: token.text, quoted: token.kind === 'string', span: token.span };
}

/**
 * Where a `;` was forgotten, two directives look like one. Splits a statement before every unquoted word that
 * `isDirective` knows and that cannot be a value, and reports the missing `;`.
 */
export function separate(
  statement: Statement,
  isDirective: (word: string) => boolean,
  report: Diagnostics,
): readonly Statement[] {
  const { items } = statement;
  const cuts = [0];
  for (let i = 1; i < items.length; i++) {
    const item = items[i]!;
    if (item.kind !== 'atom' || item.quoted || !isDirective(item.text)) continue;
    // Within a line a word may be a value; behind a value and before another one it is not.
    if (opensLine(item.span) || (i >= cuts.at(-1)! + 2 && i + 1 < items.length)) cuts.push(i);
  }
  if (cuts.length === 1) return [statement];
  return cuts.map((from, i) => {
    const part = items.slice(from, cuts[i + 1] ?? items.length);
    const last = part.at(-1)!;
    if (i < cuts.length - 1) report.error(behind(last.span), 'a `;` is missing', 'every statement ends with `;`');
    return { items: part, span: across(part[0]!.span, last.span) };
  });
}

/** A word or string as it stood in the text. */
export function showAtom(atom: Atom): string {
  return atom.quoted ? quoted(`"${atom.text}"`) : quoted(atom.text);
}
