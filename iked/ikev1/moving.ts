/** An ISAKMP SA whose ends moved, as the mobility daemons of both sides know: addresses are no part of its keys (RFC 2409 §5). */

import { between, endsOf, type PairEnds, sameEnds } from '../../src/keying/ends.ts';
import { showEndpoint } from '../../src/net/address.ts';
import { closeIsakmpSa } from './endings.ts';
import type { IsakmpSa } from './isakmp-sa.ts';
import { startIsakmpSa } from './main-mode.ts';
import { resend } from './timing.ts';

/** It talks between other addresses from now on, and what waits for an answer leaves again unchanged. Main Mode, which hashes addresses (NAT-D), begins anew. */
export function move(sa: IsakmpSa, to: PairEnds): void {
  const { host, peer } = sa;
  if (sa.closed || sameEnds(endsOf(sa.path.local, sa.path.remote), to)) return;
  const path = between(sa.path, to);
  if (!sa.authenticated && sa.originalInitiator && peer !== undefined) {
    const { tasks } = sa;
    sa.tasks = [];
    closeIsakmpSa(sa, 'its address changed', false, 'with it');
    startIsakmpSa(host, peer, path).tasks.push(...tasks);
    return;
  }
  sa.report('peer-moved', `the ISAKMP SA is between ${showEndpoint(path.local)} and ${showEndpoint(path.remote)} now`);
  sa.path = path;
  resend(sa);
}

/** The ends moved and key management was not to move with them: nothing more can be said in this ISAKMP SA, and its pairs are agreed on anew. */
export function dropMoved(sa: IsakmpSa): void {
  closeIsakmpSa(sa, 'its tunnel moved, and no KMADDRESS came with the MIGRATE', true, 'with it');
}
