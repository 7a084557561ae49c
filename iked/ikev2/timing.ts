/** What time alone causes in one IKE SA: retransmissions, lifetimes, liveness, keepalives (RFC 7296 §2.1, §2.4, §2.8). */

import { checkLiveness, silenceCountsFromNow } from '../liveness.ts';
import { KEEPALIVE_MS } from '../natt.ts';
import { activate, closeIkeSa, failIkeSa, noteSilence, peerSilent } from './endings.ts';
import type { IkeSa } from './ike-sa.ts';

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
        checkLiveness(sa, (child) => host.countInbound(sa, child));
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
  const { host, window } = sa;
  if (sa.closed) return;
  silenceCountsFromNow(sa);
  const again = window.resend(host.now.mono, sa.retry, host.random);
  if (again !== undefined) repeat(sa, again);
}
