/** What iked reports: a closed union, one row a name. */

import { type Details, eventOf, KEY_EVENTS, type KeyEvent } from '../src/keying/events.ts';

/** Name, severity and the sentence that explains the name in the manual. */
export const IKED_EVENTS = {
  'ike-sa-started': ['debug', 'We began to negotiate an IKE SA.'],
  'ike-sa-up': ['info', 'An IKE SA is established and both ends are authenticated.'],
  'ike-sa-rekeyed': ['info', 'A new IKE SA took over the children of an old one.'],
  'ike-sa-down': ['info', 'An IKE SA is gone, with its children.'],
  'ike-sa-failed': ['warning', 'An IKE SA could not be established; the message says why and what to change.'],
  'nat-found': ['info', 'A NAT is between the peers: UDP encapsulation is used.'],
  ...KEY_EVENTS,
} as const;

export type IkedEventName = keyof typeof IKED_EVENTS;

export type IkedEvent = KeyEvent<IkedEventName>;

export function event(name: IkedEventName, message: string, details: Details = {}): IkedEvent {
  return eventOf(IKED_EVENTS, name, message, details);
}
