/** When a message that was not answered is sent again (RFC 7296 §2.1, §2.4; RFC 2408 §5.1). */

import type { RandomBytes } from '../src/machine.ts';

/** How often and how fast a request is sent again. `intervalMs` is doubled each time, up to 64 times itself. */
export interface RetryPolicy {
  readonly intervalMs: number;
  readonly maxRetries: number;
}

/** Milliseconds until the next transmission: exponential, with up to an eighth less or more, so that peers do not retry in step. */
export function backoff({ intervalMs }: RetryPolicy, tries: number, random: RandomBytes): number {
  const jitter = 0.875 + random(1)[0]! / 1020;
  return Math.round(intervalMs * 2 ** Math.min(tries - 1, 6) * jitter);
}
