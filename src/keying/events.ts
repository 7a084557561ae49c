/** What every key daemon reports, whatever its protocol: one row a name. Each line of one negotiation carries the SA's short name in `sa`. */

import type { Event, Severity } from '../event.ts';
import { printable } from '../wire/dump.ts';

type Rows = Readonly<Record<string, readonly [Severity, string]>>;

/** Name, severity and the sentence that explains the name in the manual. */
export const KEY_EVENTS = {
  'child-sa-up': ['info', 'A pair of IPsec SAs is installed.'],
  'child-sa-rekeyed': ['info', 'A new pair of IPsec SAs replaces an old one.'],
  'child-sa-down': ['info', 'A pair of IPsec SAs is gone.'],
  'child-sa-failed': ['warning', 'A child SA could not be negotiated or installed; the message says why and what to change.'],
  'peer-silent': ['warning', 'A peer did not answer within the retry limit.'],
  'peer-moved': ['notice', 'A peer is reached at another address or port.'],
  'tunnel-moved': ['notice', 'A mobility daemon moved the ends of a policy (MIGRATE); its SAs go on with their keys.'],
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
  ladder: ['debug', 'One message, decoded without its secrets, as the RFC draws it.'],
  'limit-reached': ['warning', 'A bound was hit: work was refused.'],
  fault: ['error', 'A fault of this program; the SA it happened in is closed.'],
} as const satisfies Rows;

export type KeyEventName = keyof typeof KEY_EVENTS;

export interface KeyEvent<Name extends string = string> extends Event {
  readonly name: Name;
}

/** Undefined details are left out. */
export type Details = Readonly<Record<string, string | number | boolean | undefined>>;

export type ReportKeyEvent = (name: KeyEventName, message: string, details?: Details) => void;

/** One event of a table with its details. Names and texts of a peer's may be in any of them: nothing in them commands a terminal or begins a line. */
export function eventOf<Table extends Rows, Name extends keyof Table & string>(
  table: Table,
  name: Name,
  message: string,
  details: Details = {},
): KeyEvent<Name> {
  const told = Object.entries(details)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => [key, typeof value === 'string' ? printable(value) : value]);
  return { ...Object.fromEntries(told), name, severity: table[name]![0], message: printable(message) };
}
