/** What happened, as data. Machines return events instead of logging; logs, control clients, hooks and tests all read the same ones. */

export type Severity = 'debug' | 'info' | 'notice' | 'warning' | 'error';

/**
 * One event. `name` is kebab-case, in the past tense or a noun (`child-sa-up`); `message` is one sentence for people. Each machine
 * narrows this to a closed union of its own. Every further member is a string, a number, a boolean or a list of strings, and never a secret.
 */
export interface Event {
  readonly name: string;
  readonly severity: Severity;
  readonly message: string;
  readonly [detail: string]: string | number | boolean | readonly string[] | undefined;
}
