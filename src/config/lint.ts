/** What `tanuki lint` says about a policy file: every finding, and what the file amounts to. */

import { type Compiled, compile } from './compile.ts';
import type { SourceFiles } from './load.ts';

export interface LintSummary {
  readonly files: number;
  readonly errors: number;
  readonly warnings: number;
  readonly notes: number;
  readonly remotes: number;
  readonly selectors: number;
  readonly policies: number;
}

export interface Lint extends Compiled {
  readonly summary: LintSummary;
}

/** Compiles and counts. Counts of remotes, selectors (one a direction) and policies are 0 where there is an error. */
export function lint(file: string, files: SourceFiles): Lint {
  const compiled = compile(file, files);
  const count = (severity: string) => compiled.diagnostics.filter((diagnostic) => diagnostic.severity === severity).length;
  const selectors = compiled.config?.selectors ?? [];
  return {
    ...compiled,
    summary: {
      files: compiled.files.length,
      errors: count('error'),
      warnings: count('warning'),
      notes: count('note'),
      remotes: compiled.config?.remotes.length ?? 0,
      selectors: selectors.length,
      policies: new Set(selectors.map(({ policy }) => policy.name)).size,
    },
  };
}

/** One line: `2 files: 1 error, 0 warnings, 3 notes`, or what is in a file without errors. */
export function showSummary({ files, errors, warnings, notes, remotes, selectors, policies }: LintSummary): string {
  const counted = (n: number, word: string, more = `${word}s`) => `${n} ${n === 1 ? word : more}`;
  const findings = [counted(errors, 'error'), counted(warnings, 'warning'), counted(notes, 'note')].join(', ');
  const content = [counted(remotes, 'remote'), counted(selectors, 'selector'), counted(policies, 'policy', 'policies')].join(
    ', ',
  );
  return `${counted(files, 'file')}: ${findings}${errors > 0 ? '' : ` (${content})`}`;
}
