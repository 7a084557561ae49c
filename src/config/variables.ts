/** `${NAME}` from `setval` and `$[NAME]` from the environment, inside one word or string each. */

import { type Diagnostics, quoted } from './diagnostics.ts';
import type { Atom } from './parser.ts';

/** Where `$[NAME]` comes from. */
export interface Environment {
  env(name: string): string | undefined;
}

/** Variables within variables. */
const DEEPEST = 32;
/** Characters that a string may grow to. */
const LONGEST = 4096;

const OPENING = /\$[{[]/g;

interface Variable {
  readonly value: Atom;
  state: 'written' | 'expanding' | { readonly text: string | undefined };
}

/** The `setval` variables of one configuration. Every value is expanded once, when it is first asked for. */
export class Variables {
  private readonly table = new Map<string, Variable>();
  private readonly environment: Environment;
  private readonly report: Diagnostics;

  constructor(environment: Environment, report: Diagnostics) {
    this.environment = environment;
    this.report = report;
  }

  /** False where the name was there already; the new value counts. */
  define(name: string, value: Atom): boolean {
    const isNew = !this.table.has(name);
    this.table.set(name, { value, state: 'written' });
    return isNew;
  }

  /** The text with all its references replaced; undefined where that failed, which is then reported. */
  expand(atom: Atom): string | undefined {
    return this.expandAt(atom, 0);
  }

  /** Expands the values that nothing uses too, so that a mistake in them is found. */
  expandAll(): void {
    for (const name of this.table.keys()) this.valueOf(name, 0);
  }

  private expandAt(atom: Atom, depth: number): string | undefined {
    return replaceReferences(atom, this.report, (form, name) => {
      if (form === '[') return fromEnvironment(name, atom, this.environment, this.report);
      if (!this.table.has(name)) {
        const near = this.report.near(name, this.table.keys());
        const hint = near === undefined ? `define it: setval { ${name || 'NAME'} "value"; };` : `did you mean \${${near}}?`;
        this.report.error(atom.span, `there is no variable ${quoted(name)}`, hint);
        return undefined;
      }
      if (depth < DEEPEST && this.table.get(name)!.state !== 'expanding') return this.valueOf(name, depth + 1);
      const why = depth < DEEPEST ? 'refers to itself' : `is nested deeper than ${DEEPEST}`;
      this.report.error(atom.span, `the variable ${quoted(name)} ${why}`, 'give one of them a plain value');
      return undefined;
    });
  }

  private valueOf(name: string, depth: number): string | undefined {
    const variable = this.table.get(name)!;
    if (typeof variable.state === 'object') return variable.state.text;
    variable.state = 'expanding';
    const text = this.expandAt(variable.value, depth);
    variable.state = { text };
    return text;
  }
}

/** Replaces `$[NAME]` alone, as `include` needs it: `setval` is known only when all files are read. */
export function expandEnvironment(atom: Atom, environment: Environment, report: Diagnostics): string | undefined {
  return replaceReferences(atom, report, (form, name) => {
    if (form === '[') return fromEnvironment(name, atom, environment, report);
    report.error(atom.span, `\${${name}} is not known yet where files are included`, 'use an environment variable: $[NAME]');
    return undefined;
  });
}

function fromEnvironment(name: string, atom: Atom, environment: Environment, report: Diagnostics): string | undefined {
  const value = environment.env(name);
  if (value === undefined) {
    report.error(atom.span, `the environment has no variable ${quoted(name)}`, 'set it before the daemon starts, or use setval');
  } else if (/["\u0000-\u001f]|\$[{[]/.test(value)) {
    report.error(
      atom.span,
      `the environment variable ${quoted(name)} holds a quote, a control character or a reference`,
      'give it a plain value',
    );
    return undefined;
  }
  return value;
}

function replaceReferences(
  atom: Atom,
  report: Diagnostics,
  resolve: (form: '{' | '[', name: string) => string | undefined,
): string | undefined {
  const { text } = atom;
  let result = '';
  let at = 0;
  OPENING.lastIndex = 0;
  for (let match = OPENING.exec(text); match !== null; match = OPENING.exec(text)) {
    const form = match[0] === '${' ? '{' : '[';
    const close = text.indexOf(form === '{' ? '}' : ']', match.index);
    if (close < 0) {
      report.error(
        atom.span,
        `the reference ${quoted(text.slice(match.index))} is not closed`,
        `end it with ${form === '{' ? '}' : ']'}`,
      );
      return undefined;
    }
    const value = resolve(form, text.slice(match.index + 2, close));
    if (value === undefined) return undefined;
    result += text.slice(at, match.index) + value;
    at = close + 1;
    // `resolve` may have used the pattern for a nested value.
    OPENING.lastIndex = at;
    if (result.length > LONGEST) break;
  }
  result += text.slice(at);
  if (result.length <= LONGEST && result !== text && /\$[{[]/.test(result)) {
    report.error(
      atom.span,
      `replacing the variables makes another reference: ${quoted(result)}`,
      'give the variables plain values',
    );
    return undefined;
  }
  if (result.length <= LONGEST) return result;
  report.error(atom.span, `the string has more than ${LONGEST} characters once its variables are replaced`, 'make it shorter');
  return undefined;
}
