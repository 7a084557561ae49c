/** An IKE SA whose ends moved, as the mobility daemons of both sides know (RFC 4877 §9; addresses are no part of its keys, RFC 7296 §2.14). */

import { between, endsOf, type PairEnds, sameEnds } from '../../src/keying/ends.ts';
import { showEndpoint } from '../../src/net/address.ts';
import { closeIkeSa } from './endings.ts';
import type { IkeSa } from './ike-sa.ts';
import { startIkeSa } from './ike-sa-init.ts';
import { repeat } from './timing.ts';

/**
 * It talks between other addresses from now on. A request in flight leaves again, the same octets under the same Message ID, from the new
 * address (RFC 7296 §2.1). IKE_SA_INIT says in its NAT detection hashes where it came from: that exchange begins anew.
 */
export function move(sa: IkeSa, to: PairEnds): void {
  const { host, state, peer } = sa;
  if (sa.closed || sameEnds(endsOf(sa.path.local, sa.path.remote), to)) return;
  const path = between(sa.path, to);
  if (state.name === 'awaiting-ike-sa-init' && peer !== undefined) {
    const { demand, share } = state.init;
    sa.state = { name: 'closing' };
    share.wipe();
    closeIkeSa(sa, 'its address changed', false);
    startIkeSa(host, peer, path, demand);
    return;
  }
  sa.report('peer-moved', `the IKE SA is between ${showEndpoint(path.local)} and ${showEndpoint(path.remote)} now`);
  sa.path = path;
  const again = sa.window.resend(host.now.mono, sa.retry, host.random);
  if (again !== undefined) repeat(sa, again);
}

/** The ends moved and key management was not to move with them: nothing more can be said in this IKE SA, and its children are agreed on anew. */
export function dropMoved(sa: IkeSa): void {
  closeIkeSa(sa, 'its tunnel moved, and no KMADDRESS came with the MIGRATE', true);
}
