/** What time alone causes in one IKE SA: retransmissions, lifetimes, liveness, keepalives (RFC 7296 §2.1, §2.4, §2.8). */

import { KEEPALIVE_MS } from '../natt.ts';
import type { ChildSa } from './child-sa.ts';
import { activate, closeIkeSa, failIkeSa, noteSilence, peerSilent } from './endings.ts';
import type { IkeSa } from './ike-sa.ts';

/** Liveness is looked at again after this at the earliest. Milliseconds. */
const PROBE_MS = 1_000;
/**
 * Checks in a row that ESP makes needless. A peer that restarted may have kept its child SAs without the IKE SA, and where it may not begin
 * a new one only an answer of IKE tells.
 */
const MOST_VOUCHED = 2;

/** Everything of one IKE SA whose time has come. */
export function passTime(sa: IkeSa): void {
  const { host, window, timers } = sa;
  const { mono } = host.now;
  const again = window.retransmit(mono, sa.retry, host.random, !host.linked && sa.state.name === 'established');
  if (again === 'give-up') return peerSilent(sa);
  if (again !== undefined) repeat(sa, again);
  for (const child of [...sa.children]) if (child.outboundAt !== undefined && child.outboundAt <= mono) activate(child);
  for (const name of timers.takeDue(mono)) {
    switch (name) {
      case 'negotiation':
        failIkeSa(sa, `not established within ${Math.round((mono - sa.since) / 1000)} s`);
        break;
      case 'linger':
        closeIkeSa(sa, 'the peer did not come back to it', false);
        break;
      case 'rekey':
        if (sa.state.name === 'established' && !sa.has('rekey-ike')) sa.add({ kind: 'rekey-ike' });
        break;
      case 'expire':
        sa.add({ kind: 'delete-ike', why: 'its lifetime ended before it could be rekeyed' });
        break;
      case 'grace':
        if (sa.children.length === 0 && sa.tasks.length === 0)
          sa.add({ kind: 'delete-ike', why: 'it has had no child SA for kmp_sa_grace_period' });
        break;
      case 'yield':
        host.yields(sa);
        break;
      case 'keepalive':
        host.emit({ kind: 'keepalive', path: sa.path });
        timers.set('keepalive', mono + KEEPALIVE_MS);
        break;
      default:
        checkLiveness(sa);
    }
    if (sa.closed) return;
  }
}

/** A request of ours leaves again. */
export function repeat(sa: IkeSa, octets: Uint8Array): void {
  const { host, window } = sa;
  host.count('requests-repeated');
  sa.report('retransmitted', `request ${window.outstanding?.messageId} sent again (transmission ${window.outstanding?.tries})`);
  sa.transmit(octets, sa.path);
  noteSilence(sa);
}

/**
 * The datapath is back, and with it the way of our messages through its sockets and past its rules: a request that waits is sent again at
 * once, since everything else waits behind it, and silence counts from now.
 */
export function wayRestored(sa: IkeSa): void {
  const { host, window, timers } = sa;
  if (sa.closed) return;
  const delay = sa.peer?.ikev2.dpdDelay ?? 'infinite';
  if (delay !== 'infinite' && timers.at('liveness') !== undefined)
    timers.set('liveness', host.now.mono + Math.min(delay, PROBE_MS));
  const again = window.resend(host.now.mono, sa.retry, host.random);
  if (again !== undefined) repeat(sa, again);
}

/**
 * RFC 7296 §2.4: an empty INFORMATIONAL where there was no sign of life for `dpd_delay`. Traffic of the children counts as one, so the
 * datapath is asked first whether any came; but not for ever, since it tells of the peer's datapath alone.
 */
function checkLiveness(sa: IkeSa): void {
  const { host, timers } = sa;
  const { mono } = host.now;
  const delay = sa.peer?.ikev2.dpdDelay ?? 'infinite';
  if (delay === 'infinite' || sa.state.name !== 'established') return;
  const due = sa.heard + delay;
  timers.set('liveness', Math.max(due, mono + Math.min(delay, PROBE_MS)));
  if (!host.linked || due > mono || !sa.window.open || sa.has('liveness') || sa.counting !== undefined) return;
  const children = sa.children.filter((child) => child.pending === 0);
  if (children.length === 0 || sa.vouched >= MOST_VOUCHED) return sa.add({ kind: 'liveness' });
  sa.counting = { left: children.length, moved: false };
  for (const child of children) host.countInbound(sa, child);
}

/** The datapath's answer to `countInbound`; undefined: it does not have the SA. */
export function trafficCounted(sa: IkeSa, child: ChildSa, packets: number | undefined): void {
  const { counting, host } = sa;
  if (counting === undefined || sa.closed) return;
  if (packets !== undefined && packets > child.packetsSeen) {
    child.packetsSeen = packets;
    counting.moved = true;
  }
  counting.left -= 1;
  if (counting.left > 0) return;
  sa.counting = undefined;
  if (counting.moved) {
    sa.heard = host.now.mono;
    sa.vouched += 1;
  } else if (sa.state.name === 'established' && host.linked && !sa.has('liveness')) sa.add({ kind: 'liveness' });
}
