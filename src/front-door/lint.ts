/** `tanuki lint`, and the check that `tanuki up` makes before it starts anything. */

import { type Diagnostic, lint, print, show, showSummary } from '../config/index.ts';
import { sourceFiles } from '../runtime/files.ts';

export interface Linted {
  /** No errors; warnings are allowed. */
  readonly ok: boolean;
  readonly diagnostics: readonly Diagnostic[];
  /** Every finding with its line and a caret, and a summary. */
  readonly text: string;
  /** The whole configuration as it was understood; undefined where there are errors. */
  readonly printed: string | undefined;
}

export function lintFile(file: string): Linted {
  const { config, diagnostics, summary } = lint(file, sourceFiles);
  const text = `${[...diagnostics.map(show), `${file}: ${showSummary(summary)}`].join('\n')}\n`;
  return { ok: config !== undefined, diagnostics, text, printed: config === undefined ? undefined : print(config) };
}
