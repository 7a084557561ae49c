/** Informational exchanges: DELETE and notifies, which count only under a HASH (RFC 2409 §5.7, RFC 2408 §3.14, §3.15, RFC 2407 §4.6.3). */

import type { NamedSa } from '../../src/ipsec/sa.ts';
import { deletedSa, deletions } from '../../src/isakmp/deletion.ts';
import { DOI, isErrorNotify, NOTIFY, notifyName, PROTOCOL } from '../../src/isakmp/doi.ts';
import { all, type Payload, type PayloadOf } from '../../src/isakmp/payloads.ts';
import { hearAck, hearProbe } from './dpd.ts';
import { closeIsakmpSa, dropPair, pairsOf } from './endings.ts';
import type { IsakmpSa } from './isakmp-sa.ts';
import type { OpenedMessage } from './message.ts';
import type { QuickModePair } from './pair.ts';
import { Turn } from './turn.ts';

/**
 * A DELETE is not acknowledged in IKEv1, and one that is lost leaves half an SA behind. Ours is said three times at most, and ends as soon as the
 * peer names the other half of the pair; we name ours when we hear one. Peers that know nothing of this ignore what they have deleted already.
 */
const FAREWELL = { intervalMs: 500, maxRetries: 2 } as const;
/** Pairs whose deletion by the peer is remembered, so that it can be confirmed again. */
const MOST_REMEMBERED = 64;
/** SPIs of one DELETE that are looked at. */
const MOST_SPIS = 256;

/** A DELETE of ours under way. */
export interface Farewell {
  /** The SAs that the peer receives on, of pairs that it still has to name, by any of each; undefined: the ISAKMP SA itself. */
  pairs: (readonly NamedSa[])[] | undefined;
  readonly payloads: readonly Payload[];
  readonly turn: Turn;
}

/** What else an Informational exchange can be about. */
export interface Hearing {
  /** A notify that is none of those handled here. */
  refused(notify: PayloadOf<'Notify'>): void;
  /** The peer deletes a pair that is not here, or not yet. */
  unknown(sa: NamedSa): void;
}

/** An authentic message that holds what it may; `bytes` is the datagram. */
export function hearInformational(sa: IsakmpSa, message: OpenedMessage, bytes: Uint8Array, hearing: Hearing): void {
  const { payloads } = message;
  for (const notify of all(payloads, 'Notify')) {
    switch (notify.notify) {
      case NOTIFY['R-U-THERE']:
        hearProbe(sa, notify, bytes);
        break;
      case NOTIFY['R-U-THERE-ACK']:
        hearAck(sa, notify);
        break;
      case NOTIFY['INITIAL-CONTACT']:
        sa.host.established(sa, true);
        break;
      default:
        if (isErrorNotify(notify.notify)) hearing.refused(notify);
        else sa.report('notify-received', `the peer says ${notifyName(notify.notify)}`, { notify: notifyName(notify.notify) });
    }
  }
  const deletes = all(payloads, 'Delete');
  const named = deletes
    .flatMap(({ protocol, spis }) => spis.slice(0, MOST_SPIS).flatMap((spi) => deletedSa(protocol, spi) ?? []))
    .slice(0, MOST_SPIS);
  if (named.length > 0) hearDelete(sa, named, hearing);
  // RFC 2408 §3.15: the SPI of an ISAKMP SA is its pair of cookies; it can only delete the one that protects it.
  if (deletes.some((payload) => payload.protocol === PROTOCOL.ISAKMP && payload.spis.some((spi) => isCookies(sa, spi))))
    hearLeave(sa);
}

function isCookies({ CKY_I, CKY_R }: IsakmpSa, spi: Uint8Array): boolean {
  const cookies = [...CKY_I, ...CKY_R];
  return spi.length === cookies.length && cookies.every((octet, i) => octet === spi[i]);
}

function hearDelete(sa: IsakmpSa, named: readonly NamedSa[], hearing: Hearing): void {
  const awaited: NamedSa[] = [];
  for (const farewell of sa.farewells) {
    if (farewell.pairs === undefined) continue;
    const [answered, open] = partition(farewell.pairs, (sas) => sas.some((one) => includes(named, one)));
    awaited.push(...answered.flat());
    farewell.pairs = open;
  }
  dropFarewells(sa);
  const answer: NamedSa[] = [];
  const pairs = pairsOf(sa, named);
  for (const one of named) {
    if (includes(awaited, one)) continue;
    const pair = pairs.find((known) => known.has('outbound', one));
    const before = sa.deletedByPeer.get(nameOf(one));
    if (pair !== undefined) {
      const ours = pair.names('inbound');
      // All of a bundle goes with the one that was named first; those that are named after it say nothing new.
      if (pair.state !== 'gone') answer.push(...ours);
      for (const other of pair.names('outbound')) remember(sa, other, ours);
      dropPair(pair, 'the peer deleted it', false);
    } else if (before === undefined) hearing.unknown(one);
    else answer.push(...before.filter((known) => !includes(answer, known)));
  }
  if (answer.length > 0) sa.inform(deletions(answer));
}

function remember(sa: IsakmpSa, theirs: NamedSa, ours: readonly NamedSa[]): void {
  sa.deletedByPeer.set(nameOf(theirs), ours);
  if (sa.deletedByPeer.size > MOST_REMEMBERED) sa.deletedByPeer.delete([...sa.deletedByPeer.keys()][0]!);
}

function nameOf({ protocol, spi }: NamedSa): string {
  return `${protocol} ${spi}`;
}

function includes(some: readonly NamedSa[], { protocol, spi }: NamedSa): boolean {
  return some.some((one) => one.protocol === protocol && one.spi === spi);
}

function partition<T>(all: readonly T[], is: (one: T) => boolean): [T[], T[]] {
  return [all.filter(is), all.filter((one) => !is(one))];
}

/** The peer takes its leave. Pairs go on with another ISAKMP SA of the same peer where there is one. */
function hearLeave(sa: IsakmpSa): void {
  const mine = sa.state.name === 'closing' ? sa.state.why : undefined;
  if (mine === undefined) sa.inform([leave(sa)]);
  closeIsakmpSa(sa, mine ?? 'the peer deleted it', false);
}

function leave({ CKY_I, CKY_R }: IsakmpSa): Payload {
  return { type: 'Delete', doi: DOI.IPSEC, protocol: PROTOCOL.ISAKMP, spis: [new Uint8Array([...CKY_I, ...CKY_R])] };
}

// Ours.

/** Pairs go at once; the peer is told until it follows. */
export function beginDelete(sa: IsakmpSa, pairs: readonly QuickModePair[]): void {
  const left = pairs.filter((pair) => pair.state !== 'gone');
  if (left.length === 0) return;
  const payloads = deletions(left.flatMap((pair) => pair.names('inbound')));
  for (const pair of left) dropPair(pair, 'we deleted it', false);
  say(sa, { pairs: left.map((pair) => pair.names('outbound')), payloads, turn: new Turn() });
}

/** Takes leave of the peer: its pairs are deleted with it, unless another ISAKMP SA has them. */
export function beginLeave(sa: IsakmpSa, why: string): void {
  if (sa.state.name !== 'rekeyed') {
    sa.ending = true;
    beginDelete(sa, [...sa.children]);
  }
  sa.clearTimers('rekey', 'liveness', 'grace', 'yield');
  sa.state = { name: 'closing', why };
  say(sa, { pairs: undefined, payloads: [leave(sa)], turn: new Turn() });
}

function say(sa: IsakmpSa, farewell: Farewell): void {
  sa.farewells.push(farewell);
  const bytes = sa.writeInformational(farewell.payloads);
  farewell.turn.ask(bytes, sa.host.now.mono, FAREWELL, sa.host.random);
  sa.transmit(bytes, sa.path);
}

/** Farewells that are due are said again, each under a message ID of its own, until they have been said often enough. */
export function repeatFarewells(sa: IsakmpSa): void {
  const { host } = sa;
  for (const farewell of [...sa.farewells]) {
    const again = farewell.turn.repeat(host.now.mono, FAREWELL, host.random, false);
    if (again === undefined) continue;
    if (again !== 'give-up') {
      sa.inform(farewell.payloads);
      continue;
    }
    sa.farewells.splice(sa.farewells.indexOf(farewell), 1);
    if (farewell.pairs !== undefined || sa.state.name !== 'closing') continue;
    // One that was replaced may have finished a Quick Mode since: that pair is not what ends.
    return closeIsakmpSa(sa, sa.state.why, false, sa.ending ? 'with it' : 'to another');
  }
}

function dropFarewells(sa: IsakmpSa): void {
  const left = sa.farewells.filter(({ pairs }) => pairs === undefined || pairs.length > 0);
  sa.farewells.splice(0, sa.farewells.length, ...left);
}
