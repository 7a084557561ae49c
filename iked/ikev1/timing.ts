/** What time alone causes in one ISAKMP SA: repetitions, lifetimes, liveness, keepalives (RFC 2408 §5.1, RFC 3706 §5.5, RFC 3948 §4). */

import { checkLiveness, silenceCountsFromNow } from '../liveness.ts';
import { KEEPALIVE_MS } from '../natt.ts';
import { probe } from './dpd.ts';
import { activate, closeIsakmpSa, failIsakmpSa } from './endings.ts';
import { giveUp } from './exchanges.ts';
import { repeatFarewells } from './informational.ts';
import type { IsakmpSa } from './isakmp-sa.ts';
import type { QuickMode } from './quick-mode.ts';

/** Transmissions without an answer after which `status` names a silent peer; the log waits for the retry limit. */
const TRIES_UNTIL_SAID = 3;

/** Everything of one ISAKMP SA whose time has come. */
export function passTime(sa: IsakmpSa): void {
  const { host, timers } = sa;
  const { mono } = host.now;
  repeatMainMode(sa);
  for (const exchange of [...sa.quickModes.values()]) if (!sa.closed) repeatQuickMode(sa, exchange);
  if (!sa.closed) repeatFarewells(sa);
  if (!sa.closed) probe(sa);
  if (sa.closed) return;
  for (const pair of [...sa.children]) if (pair.outboundAt !== undefined && pair.outboundAt <= mono) activate(pair);
  for (const name of timers.takeDue(mono)) {
    switch (name) {
      case 'negotiation':
        failIsakmpSa(sa, sa.refusal ?? `not established within ${Math.round((mono - sa.since) / 1000)} s`);
        break;
      case 'linger':
        closeIsakmpSa(sa, 'the peer did not come back to it', false, 'with it');
        break;
      case 'rekey':
        rekeyWhereWeMay(sa);
        break;
      case 'expire':
        sa.add({ kind: 'delete-ike', why: 'its lifetime ended' });
        break;
      case 'grace':
        if (sa.children.length === 0 && sa.tasks.length === 0)
          sa.add({ kind: 'delete-ike', why: 'it has had no child SA for kmp_sa_grace_period' });
        break;
      case 'yield':
        sa.add({ kind: 'delete-ike', why: 'a newer one has taken over' });
        break;
      case 'keepalive':
        host.emit({ kind: 'keepalive', path: sa.path });
        timers.set('keepalive', mono + KEEPALIVE_MS);
        break;
      default:
        checkLiveness(sa, (pair) => host.countInbound(sa, pair));
    }
    if (sa.closed) return;
  }
}

/** A remote that is `passive` waits for the peer to begin Main Mode, also where one is to be replaced. */
function rekeyWhereWeMay(sa: IsakmpSa): void {
  if (sa.state.name === 'established' && !sa.has('rekey-ike') && !sa.peer!.ikev1.passive) sa.add({ kind: 'rekey-ike' });
}

function repeatMainMode(sa: IsakmpSa): void {
  const { host, turn } = sa;
  const again = turn.repeat(host.now.mono, sa.retry, host.random, !host.linked && sa.path.encapsulated);
  if (again === undefined) return;
  if (again === 'give-up') return failIsakmpSa(sa, noAnswer(sa));
  repeated(sa, again, 'Main Mode', turn.tries);
  if (turn.tries >= TRIES_UNTIL_SAID && sa.peer !== undefined) host.remember(sa.peer.name, noAnswer(sa));
}

function repeated(sa: IsakmpSa, bytes: Uint8Array, what: string, tries: number): void {
  sa.host.count('requests-repeated');
  sa.report('retransmitted', `${what} said again (transmission ${tries})`);
  sa.transmit(bytes, sa.path);
}

/** Why nothing comes of Main Mode, and where to look. */
function noAnswer({ state, turn, peerName, path, refusal }: IsakmpSa): string {
  if (refusal !== undefined) return refusal;
  const silence = `no answer from ${peerName} to ${turn.tries} transmissions`;
  const port = `UDP port ${path.remote.port}`;
  if (state.name === 'awaiting-message-2')
    return `${silence} of Main Mode's first message: is the peer up, is ${port} open between us, and does the peer accept our address and IKEv1?`;
  if (state.name === 'awaiting-message-6')
    return `${silence} of Main Mode's message 5: are both pre-shared keys the same, does the peer expect our my_id, and is ${port} open between us?`;
  return `${silence} of Main Mode's message 3: is ${port} open between us?`;
}

function repeatQuickMode(sa: IsakmpSa, exchange: QuickMode): void {
  const { host } = sa;
  const { step, turn } = exchange;
  const again = turn.repeat(host.now.mono, sa.retry, host.random, !host.linked);
  if (again === undefined) return;
  if (again !== 'give-up') return repeated(sa, again, 'Quick Mode', turn.tries);
  turn.rest();
  const silence = `no answer from ${sa.peerName} to ${turn.tries} transmissions of Quick Mode`;
  if (step.name === 'awaiting-message-2') return giveUp(sa, exchange, step.offered, silence);
  // Message 3 never came: the initiator does not have the pair, or nothing gets through.
  if (step.name === 'awaiting-message-3') sa.add({ kind: 'delete-child', children: [step.pair] });
}

/** The datapath is back, and with it the way of our messages: what waits for an answer is said again at once, and silence counts from now. */
export function wayRestored(sa: IsakmpSa): void {
  if (sa.closed) return;
  silenceCountsFromNow(sa);
  resend(sa);
}

/** Everything that waits for an answer leaves again. */
export function resend(sa: IsakmpSa): void {
  const { host } = sa;
  const turns = [
    { what: 'Main Mode', turn: sa.turn },
    ...[...sa.quickModes.values()].map(({ turn }) => ({ what: 'Quick Mode', turn })),
  ];
  for (const { what, turn } of turns) {
    const again = turn.resend(host.now.mono, sa.retry, host.random);
    if (again !== undefined) repeated(sa, again, what, turn.tries);
  }
}
