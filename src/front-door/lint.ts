/** `tanuki lint`, and the check that `tanuki up` makes before it starts anything. */

import { speaksKink } from '../../kinkd/peers.ts';
import { type Diagnostic, lint, print, show, showSummary } from '../config/index.ts';
import { type Endpoint, IpAddress } from '../net/address.ts';
import { sourceFiles } from '../runtime/files.ts';

export interface Linted {
  /** No errors; warnings are allowed. */
  readonly ok: boolean;
  readonly diagnostics: readonly Diagnostic[];
  /** Every finding with its line and a caret, and a summary. */
  readonly text: string;
  /** The whole configuration as it was understood; undefined where there are errors. */
  readonly printed: string | undefined;
  /** Where `/metrics` is to be served. */
  readonly metrics: Endpoint | undefined;
  /** Whether a policy needs kinkd. */
  readonly kink: boolean;
}

export function lintFile(file: string): Linted {
  const { config, diagnostics, summary } = lint(file, sourceFiles);
  const text = `${[...diagnostics.map(show), `${file}: ${showSummary(summary)}`].join('\n')}\n`;
  const printed = config === undefined ? undefined : print(config);
  const { address = '', port = 0 } = config?.interface.metrics ?? {};
  const at = IpAddress.parse(address);
  const metrics = at && { address: at, port };
  return { ok: config !== undefined, diagnostics, text, printed, metrics, kink: config !== undefined && speaksKink(config) };
}
