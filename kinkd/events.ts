/** What kinkd reports: a closed union, one row a name. Each line of one peer's story carries its short name in `sa`. */

import type { Severity } from '../src/event.ts';
import { type Details, eventOf, KEY_EVENTS, type KeyEvent } from '../src/keying/events.ts';

/** Name, severity and the sentence that explains the name in the manual. */
export const KINKD_EVENTS = {
  ...KEY_EVENTS,
  'ticket-failed': ['warning', 'No ticket for a peer was to be had; the message says why and what to change.'],
  'peer-restarted': ['notice', 'A peer has another epoch: it has forgotten what it had with us, and so did we.'],
  'clock-adjusted': ['notice', 'A peer said authentically that its clock differs from ours: our messages to it go by its clock.'],
  'replay-cache-young': [
    'notice',
    'The replay cache cannot vouch for all of its window yet: we add nonces of our own until it can.',
  ],
  'replay-cache-lost': ['warning', 'The file of the replay cache is of no use: an empty one takes its place.'],
} as const satisfies Record<string, readonly [Severity, string]>;

export type KinkdEventName = keyof typeof KINKD_EVENTS;
export type KinkdEvent = KeyEvent<KinkdEventName>;

export function event(name: KinkdEventName, message: string, details: Details = {}): KinkdEvent {
  return eventOf(KINKD_EVENTS, name, message, details);
}
