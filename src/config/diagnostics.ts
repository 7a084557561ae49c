/** What is wrong with a policy file and where: positions, the collector that every stage reports to, and the form in which people read it. */

/** One file's text. Made by `sourceOf`, so that lines are found without counting again. */
export interface Source {
  readonly file: string;
  readonly text: string;
  readonly lineStarts: readonly number[];
}

/** A stretch of a source, in UTF-16 units from its start; `end` is the first unit behind it. */
export interface Span {
  readonly source: Source;
  readonly start: number;
  readonly end: number;
}

/** `error`: there is no configuration. `warning`: something has another effect than it seems. `note`: worth knowing. */
export type DiagnosticSeverity = 'error' | 'warning' | 'note';

/** One finding. Lines and columns count from 1; `length` is in columns and stays within the line. */
export interface Diagnostic {
  readonly severity: DiagnosticSeverity;
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly length: number;
  readonly message: string;
  readonly hint: string | undefined;
  /** The whole line that it is about. */
  readonly sourceLine: string;
}

/** A file of nonsense would give a finding for every character: after this many the rest is counted only. */
const MOST = 500;

export function sourceOf(file: string, text: string): Source {
  const lineStarts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) lineStarts.push(at + 1);
  return { file, text, lineStarts };
}

/** From the start of one span to the end of another of the same source. */
export function across(first: Span, last: Span): Span {
  return { source: first.source, start: first.start, end: last.end };
}

/** The place right behind a span, where something is missing. */
export function behind(span: Span): Span {
  return { source: span.source, start: span.end, end: span.end + 1 };
}

/** Whether nothing but white space stands before the span in its line. */
export function opensLine(span: Span): boolean {
  const { source } = span;
  const start = source.lineStarts[lineIndex(source, span.start)]!;
  return source.text.slice(start, span.start).trim() === '';
}

/** Line and column of a span's start, counted from 1. */
export function positionOf(span: Span): { readonly line: number; readonly column: number } {
  const index = lineIndex(span.source, span.start);
  return { line: index + 1, column: span.start - span.source.lineStarts[index]! + 1 };
}

/** `tunnel.conf:12:5`. */
export function showPosition(span: Span): string {
  const { line, column } = positionOf(span);
  return `${span.source.file}:${line}:${column}`;
}

/** Where the line of an offset ends: its line feed, or the end of the text. */
export function lineEndAt(source: Source, offset: number): number {
  const next = source.lineStarts[lineIndex(source, offset) + 1];
  return next === undefined ? source.text.length : next - 1;
}

function lineIndex({ lineStarts }: Source, offset: number): number {
  let low = 0;
  let high = lineStarts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (lineStarts[middle]! <= offset) low = middle;
    else high = middle - 1;
  }
  return low;
}

interface Finding {
  readonly severity: DiagnosticSeverity;
  readonly span: Span;
  readonly message: string;
  readonly hint: string | undefined;
}

/** Collects what the stages report. The order of the result is that of the files as they were first seen, then of the text. */
export class Diagnostics {
  private readonly findings: Finding[] = [];
  private readonly order = new Map<Source, number>();
  private readonly known = new Set<string>();
  private suppressed = 0;
  private errors = 0;

  /** Tells the collector of a source, in the order in which their findings shall be listed. */
  seen(source: Source): void {
    if (!this.order.has(source)) this.order.set(source, this.order.size);
  }

  get hasErrors(): boolean {
    return this.errors > 0;
  }

  /** Whether further findings are only counted: then there is no need to look for hints. */
  get isFull(): boolean {
    return this.findings.length >= MOST;
  }

  /** The known word that is closest to what was written, if one is close, and if the finding is going to be listed. */
  near(word: string, known: Iterable<string>): string | undefined {
    return this.isFull ? undefined : closest(word, known);
  }

  error(span: Span, message: string, hint?: string): void {
    this.errors++;
    this.add('error', span, message, hint);
  }

  warning(span: Span, message: string, hint?: string): void {
    this.add('warning', span, message, hint);
  }

  note(span: Span, message: string, hint?: string): void {
    this.add('note', span, message, hint);
  }

  private add(severity: DiagnosticSeverity, span: Span, message: string, hint: string | undefined): void {
    this.seen(span.source);
    // What is written in `default { }` is met again in every section that inherits it.
    const key = `${this.order.get(span.source)} ${span.start} ${message}`;
    if (this.known.has(key)) return;
    if (!this.isFull) this.known.add(key);
    if (this.isFull) this.suppressed++;
    else this.findings.push({ severity, span, message: clip(message), hint: hint === undefined ? undefined : clip(hint) });
  }

  list(): Diagnostic[] {
    const rank = (finding: Finding) => this.order.get(finding.span.source) ?? 0;
    const sorted = [...this.findings].sort((a, b) => rank(a) - rank(b) || a.span.start - b.span.start);
    const list = sorted.map(diagnosticOf);
    const last = list.at(-1);
    if (this.suppressed > 0 && last !== undefined) {
      list.push({
        ...last,
        severity: 'error',
        message: `there are ${this.suppressed} more problems that are not listed`,
        hint: undefined,
      });
    }
    return list;
  }
}

/** A word of the file that is a whole page long must not make a message of that length. */
function clip(text: string): string {
  return text.length > 400 ? `${text.slice(0, 397)}...` : text;
}

function diagnosticOf({ severity, span, message, hint }: Finding): Diagnostic {
  const { source } = span;
  const { line, column } = positionOf(span);
  const from = source.lineStarts[line - 1]!;
  const to = source.lineStarts[line] ?? source.text.length + 1;
  const sourceLine = source.text.slice(from, to).replace(/\r?\n$/, '');
  const length = Math.max(1, Math.min(span.end - span.start, sourceLine.length - column + 1));
  return { severity, file: source.file, line, column, length, message, hint, sourceLine };
}

/** Columns of a long line that are shown around the place. */
const SHOWN = 110;

/**
 * The finding as a compiler would print it:
 *
 *     tunnel.conf:12:5: error: there is no directive `peer_id` in ikev2 { }
 *        12 |     peer_id fqdn "b.example";
 *           |     ^^^^^^^
 *           = did you mean `peers_id`?
 */
export function show(diagnostic: Diagnostic): string {
  const { severity, file, line, column, length, message, hint, sourceLine } = diagnostic;
  const from = sourceLine.length <= SHOWN ? 0 : Math.max(0, Math.min(column - 1 - SHOWN / 2, sourceLine.length - SHOWN));
  const text = printable(sourceLine.slice(from, from + SHOWN));
  const indent = text.slice(0, column - 1 - from).replace(/[^\t]/g, ' ');
  const carets = '^'.repeat(Math.max(1, Math.min(length, from + SHOWN - column + 1)));
  const gutter = String(line).padStart(5);
  const blank = ' '.repeat(gutter.length);
  const lines = [
    `${file}:${line}:${column}: ${severity}: ${printable(message)}`,
    `${gutter} | ${text}`,
    `${blank} | ${indent}${carets}`,
  ];
  if (hint !== undefined) lines.push(`${blank} = ${printable(hint)}`);
  return lines.join('\n');
}

/** Control characters from a file never reach a terminal. */
function printable(text: string): string {
  return text.replace(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/g, '\u00b7');
}

/** Text of an operator's file inside a message: cut, in backquotes. */
export function quoted(text: string): string {
  return `\`${text.length > 60 ? `${text.slice(0, 57)}...` : text}\``;
}

/** At most a third of the letters may be wrong. */
function closest(word: string, known: Iterable<string>): string | undefined {
  if (word.length > 40) return undefined;
  let best: string | undefined;
  let bestDistance = Math.min(3, Math.max(1, Math.floor(word.length / 3))) + 1;
  for (const candidate of known) {
    if (Math.abs(candidate.length - word.length) >= bestDistance) continue;
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** Insertions, deletions, substitutions and swaps of neighbours that lead from one word to the other. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let cost = Math.min(previous[j]! + 1, row[j - 1]! + 1, previous[j - 1]! + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) cost = Math.min(cost, before[j - 2]! + 1);
      row.push(cost);
    }
    [before, previous] = [previous, row];
  }
  return previous[b.length]!;
}
