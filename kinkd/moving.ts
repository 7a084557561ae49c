/** A peer or we ourselves at another address, as the mobility daemons of both sides know. KINK's keys come from tickets and know no address (RFC 4430 §3.2). */

import { between, endsOf, type PairEnds, sameEnds } from '../src/keying/ends.ts';
import { type Path, showEndpoint } from '../src/net/address.ts';
import type { Association } from './association.ts';
import { dropPair } from './endings.ts';
import { repeatCommand } from './initiator.ts';

/** It talks between other addresses from now on. A command in flight is sent again from there: with the same ticket and XID, as every repetition (§9). */
export function move(association: Association, from: PairEnds, to: PairEnds): void {
  const moves = (path: Path) => sameEnds(endsOf(path.local, path.remote), from) && !sameEnds(from, to);
  const { path, pairs, answers, transactions } = association;
  if (moves(path)) {
    association.path = between(path, to);
    const { local, remote } = association.path;
    association.report('peer-moved', `KINK is spoken between ${showEndpoint(local)} and ${showEndpoint(remote)} now`);
  }
  for (const pair of pairs) if (moves(pair.talk)) pair.talk = between(pair.talk, to);
  for (const answer of answers.values()) if (moves(answer.path)) answer.path = between(answer.path, to);
  for (const transaction of [...transactions.values()]) {
    if (!moves(transaction.path)) continue;
    transaction.path = between(transaction.path, to);
    if (transaction.stage === 'sent') repeatCommand(transaction);
  }
}

/** The ends moved and key management was not to move with them: pairs that were agreed on there are agreed on anew, where the node is now. */
export function dropMoved(association: Association, from: PairEnds, to: PairEnds): void {
  for (const pair of [...association.pairs])
    if (sameEnds(endsOf(pair.talk.local, pair.talk.remote), from))
      dropPair(pair, 0, 'its tunnel moved, and no KMADDRESS came with the MIGRATE', true);
  move(association, from, to);
}
