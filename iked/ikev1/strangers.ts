/** What is said in the clear to senders that are not proven, or that we do not serve, and what is kept of them: few words, seldom, and little (RFC 2409 §5.7, RFC 2408 §3.14). */

import { readU32be } from '../../src/bytes/bytes.ts';
import { PeerError } from '../../src/errors.ts';
import { DOI, isErrorNotify, type NOTIFY, notifyName, notifyNumber, PROTOCOL } from '../../src/isakmp/doi.ts';
import { all } from '../../src/isakmp/payloads.ts';
import { type Path, showEndpoint } from '../../src/net/address.ts';
import type { Host } from '../host.ts';
import type { IsakmpSa } from './isakmp-sa.ts';
import { ladder } from './ladder.ts';
import { EXCHANGE, type Header, type Message, type ReadMessage, writeMessage } from './message.ts';

/** Transmissions that still follow an unauthenticated refusal, which may be forged. */
const TRIES_AFTER_REFUSAL = 2;

/** Answers with an error notify, within the limit that all unprotected errors share, and tells our own operator more. */
export function complain(host: Host, { CKY_I, CKY_R }: Header, path: Path, error: Error, sa?: string): void {
  if (!host.complaints.another()) return host.count('messages-dropped');
  const name =
    error instanceof PeerError ? error.notify : error.name === 'AuthError' ? 'INVALID-HASH-INFORMATION' : 'PAYLOAD-MALFORMED';
  const notify = notifyNumber(name);
  const peer = `${path.remote.address}`;
  host.report('ike-sa-failed', error.message, { peer, notify: notifyName(notify), sa });
  const message: Message = {
    CKY_I,
    CKY_R,
    exchange: EXCHANGE.Informational,
    encrypted: false,
    commit: false,
    messageId: readU32be(host.random(4)) || 1,
    payloads: [
      { type: 'Notify', doi: DOI.IPSEC, protocol: PROTOCOL.ISAKMP, spi: new Uint8Array(0), notify, data: new Uint8Array(0) },
    ],
  };
  host.report('ladder', ladder(message, false), { peer: showEndpoint(path.remote), direction: 'out', id: message.messageId, sa });
  host.emit({ kind: 'send', path, bytes: writeMessage(message) });
}

/**
 * IKEv1 has no cookie that nothing need be kept for, so whoever sends message 1 from addresses that are not his could keep everybody out, of
 * IKEv2 too, for as long as they are waited for. Those that have not shown theirs, by message 3, get half of the places, and the oldest of them
 * makes room: it has cost no arithmetic.
 */
export function makeRoom(host: Host, halfOpenSas: number): void {
  const unseen = host.table.all().filter((sa): sa is IsakmpSa => sa.version === 1 && sa.state.name === 'awaiting-message-3');
  const [oldest] = unseen;
  if (oldest === undefined || (host.table.halfOpen < halfOpenSas && unseen.length < halfOpenSas / 2)) return;
  host.count('half-open-dropped');
  host.table.forget(oldest);
  oldest.wipe();
  oldest.state = { name: 'closed', why: 'another one begins, and half_open_sas are half open' };
  oldest.clearTimers();
}

/** Whoever sent it: a refusal in the clear is told if nothing better follows, and makes us give up sooner. Anything else is ignored. */
export function hearClearInformational(sa: IsakmpSa, { header, payloads }: ReadMessage): void {
  const error = all(payloads, 'Notify').find(({ notify }) => isErrorNotify(notify));
  sa.host.count('messages-dropped');
  if (sa.authenticated || !sa.originalInitiator || error === undefined) {
    return sa.report('message-dropped', 'an Informational exchange in the clear was ignored: it is not authentic');
  }
  const name = notifyName(error.notify);
  const refusal = `the peer refuses Main Mode: ${name}${HINTS[name] ?? ''}`;
  sa.report('ladder', ladder({ ...header, payloads }, false), { direction: 'in', id: header.messageId });
  if (sa.refusal !== refusal) sa.report('notify-received', refusal, { notify: name });
  sa.refusal = refusal;
  sa.host.remember(sa.peer!.name, refusal);
  sa.turn.limit(sa.host.now.mono, TRIES_AFTER_REFUSAL, sa.retry);
}

/** Where to look, by what the peer says. */
const HINTS: Readonly<Record<string, string>> = {
  'NO-PROPOSAL-CHOSEN':
    ': compare kmp_enc_alg, kmp_hash_alg and kmp_dh_group with what it accepts, and whether it knows our address',
  'INVALID-HASH-INFORMATION': ': are both pre-shared keys the same?',
  'PAYLOAD-MALFORMED': ': are both pre-shared keys the same?',
  'AUTHENTICATION-FAILED': ': are both pre-shared keys the same, and does it expect our my_id?',
  'INVALID-ID-INFORMATION': ': does it expect our my_id?',
} satisfies Partial<Record<keyof typeof NOTIFY, string>>;
