/** STATUS, RFC 4430 §3.4, §3.7, §6.5: answered always; sent where a peer has been silent, to see whether its epoch is another. */

import { isErrorNotify, notifyName } from '../src/isakmp/doi.ts';
import { all, type Payload } from '../src/isakmp/payloads.ts';
import { MOST_VOUCHED } from '../src/keying/vouching.ts';
import type { Association } from './association.ts';
import { startStatus } from './initiator.ts';
import type { KinkPair } from './pair.ts';

/** A peer with whom we have SAs is asked after this long without an authentic message or packet. Milliseconds. */
const SILENCE_MS = 30_000;

/** Notify payloads are told of and cause nothing else (RFC 4430 §5.5). */
export function hearNotifies(association: Association, operations: readonly (readonly Payload[])[]): void {
  const notifies = operations.flatMap((payloads) => all(payloads, 'Notify'));
  for (const { notify } of notifies.slice(0, 8)) {
    const kind = isErrorNotify(notify) ? 'an error' : 'a status';
    association.report('notify-received', `the peer tells ${kind}: ${notifyName(notify)}`, { notify: notifyName(notify) });
  }
}

/** Keeps the time of the next look at the peer's life, which is needed only while there are SAs with it. */
export function watch(association: Association): void {
  const { timers, host } = association;
  const inUse = association.pairs.some((pair) => pair.state === 'installed');
  if (!inUse) timers.clear('probe');
  else if (timers.at('probe') === undefined) timers.set('probe', host.now.mono + SILENCE_MS);
}

/** The time has come: traffic counts as a sign of life for a while, so the datapath is asked first. */
export function probe(association: Association): void {
  const { host, heard } = association;
  const quiet = host.now.mono - heard;
  if (quiet < SILENCE_MS) return association.timers.set('probe', heard + SILENCE_MS);
  association.timers.set('probe', host.now.mono + SILENCE_MS);
  const pair = newest(association);
  if (pair === undefined) return;
  if (association.vouched < MOST_VOUCHED) host.countInbound(association, pair);
  else ask(association);
}

function newest({ pairs }: Association): KinkPair | undefined {
  const installed = pairs.filter((pair) => pair.state === 'installed');
  return installed.reduce<KinkPair | undefined>(
    (best, pair) => (best === undefined || pair.since >= best.since ? pair : best),
    undefined,
  );
}

/** What came in through the newest pair so far; undefined: the SA is not there. */
export function trafficSeen(association: Association, pair: KinkPair, packets: number | undefined): void {
  if (packets !== undefined && packets > pair.packetsSeen) {
    pair.packetsSeen = packets;
    association.heard = association.host.now.mono;
    association.vouched += 1;
    return;
  }
  ask(association);
}

function ask(association: Association): void {
  const asking = [...association.transactions.values()].some(({ work, stage }) => work.kind === 'status' || stage === 'sent');
  if (!asking && !association.closed) startStatus(association);
}
