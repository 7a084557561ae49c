/** Outputs of spmd's machine that many of its steps have. */

import type { SpmdEvent } from './events.ts';
import type { SpmdOutput } from './ports.ts';

/** The id of a `configure` that nobody waits for. */
export const NOBODY = -1;

export function refuse(id: number, error: string): SpmdOutput {
  return { kind: 'reply', id, ok: false, error };
}

export function event(name: SpmdEvent['name'], severity: SpmdEvent['severity'], message: string): SpmdOutput {
  return { kind: 'event', event: { name, severity, message } };
}
