/** A policy file and everything it includes, as one list of top-level statements. Files are reached through `SourceFiles` only. */

import { type Diagnostics, quoted, type Span, sourceOf } from './diagnostics.ts';
import { type Atom, parse, type Statement, separate } from './parser.ts';
import { expandEnvironment } from './variables.ts';

/** A file's text, or why it is not to be read, and what to do about it. */
export type FileText = { readonly text: string } | { readonly problem: string; readonly hint: string };

/** What the policy language needs of the world. `src/runtime/files.ts` is the real one, with its checks of owner and mode. */
export interface SourceFiles {
  read(path: string): FileText;
  /** The files that a shell pattern (`*`, `?`, a leading `~/`) matches, sorted; a path without pattern characters matches itself if it is there. */
  glob(pattern: string): readonly string[];
  env(name: string): string | undefined;
}

/** Includes within includes. */
const DEEPEST = 10;
/** Files of one configuration. */
const MOST_FILES = 1000;
/** Characters of one configuration. */
const MOST_TEXT = 16 * 1024 * 1024;

export interface Loaded {
  readonly statements: readonly Statement[];
  /** All files that were read, in that order. */
  readonly files: readonly string[];
}

/** Reads the file and its includes; `isSection` knows the words that may open a top-level statement. */
export function load(file: string, files: SourceFiles, isSection: (word: string) => boolean, report: Diagnostics): Loaded {
  const statements: Statement[] = [];
  const read: string[] = [];
  let size = 0;
  loadFile(file, [], undefined);
  return { statements, files: read };

  function loadFile(path: string, within: readonly string[], from: Span | undefined): void {
    const place = from ?? { source: sourceOf(path, ''), start: 0, end: 0 };
    if (within.includes(path))
      return void report.error(place, `${quoted(path)} includes itself`, `by way of ${[...within, path].join(' -> ')}`);
    if (within.length > DEEPEST)
      return void report.error(place, `includes are nested deeper than ${DEEPEST}`, 'include the files from one place');
    if (read.length >= MOST_FILES)
      return void report.error(place, `more than ${MOST_FILES} files are included`, 'is the pattern too wide?');
    const found = files.read(path);
    if ('problem' in found) return void report.error(place, `${quoted(path)} is not read: ${found.problem}`, found.hint);
    size += found.text.length;
    if (size > MOST_TEXT)
      return void report.error(place, `the files hold more than ${MOST_TEXT} characters`, 'is this a policy file?');
    read.push(path);
    for (const statement of parse(sourceOf(path, found.text), report)) {
      for (const part of separate(statement, isSection, report)) {
        const first = part.items[0]!;
        if (first.kind === 'atom' && !first.quoted && first.text === 'include') include(part, first, path, within);
        else statements.push(part);
      }
    }
  }

  function include(statement: Statement, word: Atom, path: string, within: readonly string[]): void {
    const [, target, more] = statement.items;
    if (target?.kind !== 'atom')
      return void report.error(target?.span ?? word.span, 'a file name is expected after `include`', 'include "FILE";');
    if (more !== undefined)
      return void report.error(
        more.span,
        'there is more than one file name after `include`',
        'write one `include` for each, or a pattern',
      );
    const name = expandEnvironment(target, files, report);
    if (name === undefined) return;
    const pattern = besideFile(path, name);
    const matches = files.glob(pattern);
    if (matches.length === 0)
      report.error(
        target.span,
        `no file matches ${quoted(pattern)}`,
        'relative paths start at the folder of the file that includes them',
      );
    for (const match of matches) {
      if (read.includes(match) && ![...within, path].includes(match)) {
        report.note(
          target.span,
          `${quoted(match)} was read already and is not read again`,
          'take one `include` out, or leave it: it does no harm',
        );
      } else loadFile(match, [...within, path], target.span);
    }
  }
}

/** A path as a policy file means it: relative ones start at the folder of the file that says them. */
export function besideFile(file: string, path: string): string {
  if (path === '' || path.startsWith('/') || path.startsWith('~')) return path;
  const slash = file.lastIndexOf('/');
  return slash < 0 ? path : `${file.slice(0, slash + 1)}${path}`;
}
