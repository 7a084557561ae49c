/** What iked reports: a closed union, one row a name. Each line of one negotiation carries the SA's short name in `sa`. */

import type { Event, Severity } from '../src/event.ts';

/** Name, severity and the sentence that explains the name in the manual. */
export const IKED_EVENTS = {
  'ike-sa-started': ['debug', 'We began to negotiate an IKE SA.'],
  'ike-sa-up': ['info', 'An IKE SA is established and both ends are authenticated.'],
  'ike-sa-rekeyed': ['info', 'A new IKE SA took over the children of an old one.'],
  'ike-sa-down': ['info', 'An IKE SA is gone, with its children.'],
  'ike-sa-failed': ['warning', 'An IKE SA could not be established; the message says why and what to change.'],
  'child-sa-up': ['info', 'A pair of IPsec SAs is installed.'],
  'child-sa-rekeyed': ['info', 'A new pair of IPsec SAs replaces an old one.'],
  'child-sa-down': ['info', 'A pair of IPsec SAs is gone.'],
  'child-sa-failed': ['warning', 'A child SA could not be negotiated or installed; the message says why and what to change.'],
  'peer-silent': ['warning', 'A peer did not answer within the retry limit.'],
  'peer-moved': ['notice', 'A peer behind a NAT is reached at another address or port.'],
  'nat-found': ['info', 'A NAT is between the peers: UDP encapsulation is used.'],
  'message-refused': ['notice', 'A message was answered with an error notification.'],
  'message-dropped': ['debug', 'A message was ignored; the message says why.'],
  'notify-received': ['notice', 'The peer refused something, or told us something worth knowing.'],
  retransmitted: ['debug', 'A request was sent again.'],
  'acquire-refused': ['warning', 'The datapath asked for an SA that cannot be negotiated.'],
  'retry-scheduled': ['info', 'A failed negotiation is to be tried again.'],
  'datapath-up': ['info', 'The connection to the datapath stands.'],
  'datapath-lost': ['error', 'The connection to the datapath broke.'],
  'datapath-restarted': ['warning', 'The datapath lost its SAs: every child is negotiated anew.'],
  'sa-adopted': ['info', 'An SA of an earlier run was found and is kept until a new one carries its traffic.'],
  configured: ['info', 'A configuration generation took effect.'],
  'configuration-rejected': ['error', 'A configuration generation was refused and changed nothing.'],
  ladder: ['debug', 'One IKE message, decoded without its secrets, as the RFC draws it.'],
  'limit-reached': ['warning', 'A bound was hit: work was refused.'],
  fault: ['error', 'A fault of this program; the SA it happened in is closed.'],
} as const satisfies Record<string, readonly [Severity, string]>;

export type IkedEventName = keyof typeof IKED_EVENTS;

export interface IkedEvent extends Event {
  readonly name: IkedEventName;
}

/** One event of the table with its details; undefined details are left out. */
export function event(
  name: IkedEventName,
  message: string,
  details: Readonly<Record<string, string | number | boolean | undefined>> = {},
): IkedEvent {
  const told = Object.fromEntries(Object.entries(details).filter(([, value]) => value !== undefined));
  return { ...told, name, severity: IKED_EVENTS[name][0], message };
}
