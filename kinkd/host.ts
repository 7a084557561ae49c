/** What the parts of kinkd need of the machine that owns them: the clock reading of this step, chance, the tables, and somewhere to put what they cause. */

import type { LocalAddress } from '../src/config/expand.ts';
import type { Engine } from '../src/crypto/engine.ts';
import type { Mode, Spis } from '../src/ipsec/sa.ts';
import type { Asker } from '../src/keying/asks.ts';
import type { ChildPolicy } from '../src/keying/child-policy.ts';
import type { Complaints } from '../src/keying/complaints.ts';
import type { Demand } from '../src/keying/demands.ts';
import type { Details } from '../src/keying/events.ts';
import type { Instant, RandomBytes } from '../src/machine.ts';
import type { Path } from '../src/net/address.ts';
import type { Answer } from './answer.ts';
import type { Association } from './association.ts';
import type { AssociationTable } from './association-table.ts';
import type { KinkdEventName } from './events.ts';
import type { AuthenticatorClock } from './krb5/ap-exchange.ts';
import type { KinkPair } from './pair.ts';
import type { Peer, Peers } from './peers.ts';
import type { KinkdOutput } from './ports.ts';
import type { Replays } from './replays.ts';
import type { Transaction } from './transaction.ts';

export interface Host {
  readonly random: RandomBytes;
  readonly engine: Engine;
  /** Gives each of our authenticators a time of its own. */
  readonly clock: AuthenticatorClock;
  /** Since when our SA information is valid, RFC 4430 §4.2.1: when this daemon started. */
  readonly EPOCH: number;
  /** The configuration in force. */
  readonly peers: Peers;
  /** Its number: a plan of an older one is made again. */
  readonly generation: number;
  /** The reading of this step. */
  readonly now: Instant;
  /** The host's own addresses. */
  readonly local: readonly LocalAddress[];
  readonly table: AssociationTable;
  readonly replays: Replays;
  /** Errors to those who have not proven themselves, or who repeat themselves. */
  readonly complaints: Complaints;
  emit(output: KinkdOutput): void;
  report(name: KinkdEventName, message: string, details?: Details): void;
  /** Counts under a name that `status` shows. */
  count(name: string): void;

  /** Asks for a ticket, answered by `ticketArrived`. */
  askTicket(transaction: Transaction, fresh: boolean): void;
  /** The peer is about to drop the SAs that an earlier run of ours had with it: nothing more is sent on them until new ones are in. */
  holdOldSas(transaction: Transaction): void;
  /** Asks the datapath for an SPI, answered by `spiArrived`. */
  askSpi(asker: Transaction | Answer, role: 'request' | 'response', policy: ChildPolicy, mode: Mode): void;
  /** Where a new pair of this policy ends, given where its keys are negotiated. */
  pathOfPair(policy: ChildPolicy, mode: Mode, talk: Path): Path;
  /** Where a message of the peer's is answered: where it came from, unless one of us has moved while it was under way. */
  presentPath(peer: Peer, path: Path): Path;
  /** The SPIs of one pair that came with this one, and itself: of a bundle one for each SA. */
  spisWith(spi: number): Spis;
  /** Gives an SPI back that no pair was made of. */
  releaseSpi(spi: number): void;
  /** UPDATE of the inbound SA, and ADD of the outbound one unless it is held back. Ends in `pairInstalled` or `pairRefused`. */
  install(pair: KinkPair, outbound: boolean): void;
  /** ADD of an outbound SA that was held back. */
  installOutbound(pair: KinkPair): void;
  /** DELETE of the optimistic inbound SA, and ADD of both SAs of the pair that was agreed on under the same SPI. */
  replaceOptimistic(optimistic: KinkPair, pair: KinkPair): void;
  /** DELETE of the outbound SA alone. */
  uninstallOutbound(pair: KinkPair): void;
  /** DELETE of both SAs: the outbound one now, the inbound one after `drainMs`. */
  uninstall(pair: KinkPair, drainMs: number): void;
  /** How many packets came in through a pair. Ends in `trafficCounted`. */
  countInbound(asker: Asker & (Transaction | Answer | Association), pair: KinkPair): void;

  /** A demand ended. */
  satisfied(demand: Demand, pair: KinkPair): void;
  failed(demand: Demand, why: string): void;
  /** Something goes wrong and may yet come right: `status` shows it until it does. */
  remember(subject: string, why: string): void;
  /** A pair is gone and no other took its place; `wanted` where its traffic is likely to go on. */
  pairGone(pair: KinkPair, why: string, wanted: boolean): void;
  /** A pair of the peer's making is in the datapath. */
  arrived(pair: KinkPair): void;
  /** A new pair carries what SAs of an earlier run carried. */
  carried(pair: KinkPair): void;
  /** What an operator waits for is over: nothing is left of the association. */
  ended(association: Association): void;
}
