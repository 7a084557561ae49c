/** INFORMATIONAL, both roles: deletes, liveness, notifications (RFC 7296 §1.4, §1.4.1, §2.4, §2.25). */

import { showIdentity } from '../auth/identity.ts';
import { type ChildSa, protocolId, spiBytes, spiOf } from './child-sa.ts';
import { closeIkeSa, dropChild } from './endings.ts';
import type { Committed, Requested } from './exchanges.ts';
import type { IkeSa, Task } from './ike-sa.ts';
import { all, EXCHANGE, type OpenedMessage } from './message.ts';
import { explainNotify, isErrorNotify, notify, notifyName } from './notify.ts';
import { type Payload, PROTOCOL } from './payloads.ts';
import { switchOver } from './rekey-child.ts';
import { inherit } from './rekey-ike-sa.ts';

export interface InformationalSent {
  readonly for: 'informational';
  readonly task: Task;
}

export interface InformationalPlan {
  readonly for: 'informational';
  readonly children: readonly ChildSa[];
  /** SPIs that the peer deletes and that are none of our children's. */
  readonly unknown: readonly number[];
  readonly ike: boolean;
  /** A notification that ends the IKE SA without a Delete payload (§2.21.2). */
  readonly fatal: string | undefined;
}

/** HDR, SK {[N], [D]}; undefined where there is nothing left to say. */
export function requestInformational(sa: IkeSa, task: Task): Requested | undefined {
  const payloads = payloadsOf(sa, task);
  return payloads === undefined
    ? undefined
    : { exchange: EXCHANGE.INFORMATIONAL, payloads, sent: { for: 'informational', task } };
}

function payloadsOf(sa: IkeSa, task: Task): Payload[] | undefined {
  switch (task.kind) {
    case 'delete-child': {
      const left = task.children.filter((child) => child.state !== 'gone');
      return left.length === 0 ? undefined : deletesOf(left);
    }
    case 'delete-ike':
      if (sa.state.name === 'established') sa.state = { name: 'closing' };
      return task.notify === undefined ? [{ type: 'Delete', protocol: PROTOCOL.IKE, spis: [] }] : [notify(task.notify)];
    default:
      return [];
  }
}

export function concludeInformational(sa: IkeSa, { task }: InformationalSent): void {
  if (task.kind === 'delete-child')
    for (const child of task.children) if (child.state !== 'gone') dropChild(child, 'we deleted it', false);
  if (task.kind === 'delete-ike') closeIkeSa(sa, task.why, false);
}

export function planInformational(sa: IkeSa, { payloads }: OpenedMessage): InformationalPlan {
  const deletes = all(payloads, 'Delete');
  const children = sa.children.filter((child) =>
    deletes.some(({ protocol, spis }) => protocol === protocolId(child) && spis.some((spi) => spiOf(spi) === child.spiOut)),
  );
  const spis = deletes.filter(({ protocol }) => protocol !== PROTOCOL.IKE).flatMap((payload) => payload.spis.map(spiOf));
  const errors = all(payloads, 'Notify').filter((payload) => isErrorNotify(payload.notify));
  const fatal = errors.find((error) => ENDS.includes(notifyName(error.notify)));
  for (const error of errors)
    if (error !== fatal) sa.report('notify-received', explainNotify(error), { notify: notifyName(error.notify) });
  return {
    for: 'informational',
    children,
    unknown: spis.filter((spi) => !children.some((child) => child.spiOut === spi)).slice(0, MOST_UNKNOWN),
    ike: deletes.some(({ protocol }) => protocol === PROTOCOL.IKE),
    fatal: fatal === undefined ? undefined : explainNotify(fatal, whatWeWere(sa, notifyName(fatal.notify))),
  };
}

/** What a peer that was not content with our IKE_AUTH response had got from us (§2.21.2). */
function whatWeWere(sa: IkeSa, name: string): string | undefined {
  if (name !== 'AUTHENTICATION_FAILED' || sa.myId === undefined) return undefined;
  return `${sa.originalInitiator ? 'IDi' : 'IDr'} ${showIdentity(sa.myId)} and AUTH by shared key`;
}

/** SPIs of a peer's DELETE that are kept until the response to our own request has come. */
const MOST_UNKNOWN = 16;
const ENDS: readonly string[] = ['AUTHENTICATION_FAILED', 'INVALID_SYNTAX', 'UNSUPPORTED_CRITICAL_PAYLOAD'];

/** §1.4.1: the answer names the other half of each pair, unless our own DELETE for it is under way (§2.25.1). */
export function commitInformational(
  sa: IkeSa,
  _request: OpenedMessage,
  { children, unknown, ike, fatal }: InformationalPlan,
): Committed {
  if (ike) {
    // §2.8.2: the peer never saw that we were rekeying too; what it made is the successor.
    if (sa.successor !== undefined) inherit(sa, sa.successor.sa);
    return { payloads: [], ending: { close: 'the peer deleted it', failed: false } };
  }
  if (fatal !== undefined) {
    sa.report('ike-sa-failed', `the IKE SA with ${sa.peerName} is given up: ${fatal}`);
    return { payloads: [], ending: { close: fatal, failed: true } };
  }
  const sent = sa.current?.sent;
  if (sent?.for === 'child' && sent.deleted.length < MOST_UNKNOWN) sent.deleted.push(...unknown);
  const answered = children.filter((child) => !deleting(sa, child));
  for (const child of children) {
    switchOver(child);
    dropChild(child, 'the peer deleted it', false);
  }
  return { payloads: deletesOf(answered) };
}

/** A Delete payload for each protocol that the children have (§3.11). */
function deletesOf(children: readonly ChildSa[]): Payload[] {
  return [PROTOCOL.ESP, PROTOCOL.AH].flatMap((protocol): Payload[] => {
    const spis = children.filter((child) => protocolId(child) === protocol).map((child) => spiBytes(child.spiIn));
    return spis.length === 0 ? [] : [{ type: 'Delete', protocol, spis }];
  });
}

/** Whether our own DELETE for the child has left and is not answered. */
function deleting(sa: IkeSa, child: ChildSa): boolean {
  const task = sa.current?.task;
  return task?.kind === 'delete-child' && task.children.includes(child);
}
