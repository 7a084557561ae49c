/** The policy language's door: files in, a `Config` and findings out. */

export { type Compiled, compile } from './compile.ts';
export type * from './config.ts';
export { type Diagnostic, type DiagnosticSeverity, show } from './diagnostics.ts';
export { expandEndpoints, expandPrefixes, type LocalAddress } from './expand.ts';
export { type Lint, type LintSummary, lint, showSummary } from './lint.ts';
export type { FileText, SourceFiles } from './load.ts';
export { memoryFiles } from './memory-files.ts';
export { print } from './print.ts';
export { renderReference } from './reference.ts';
