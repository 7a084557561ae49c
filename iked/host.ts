/** What one IKE SA needs of the machine that owns it: the clock reading of this step, chance, the tables, and somewhere to put what it causes. */

import type { LocalAddress } from '../src/config/expand.ts';
import type { Engine } from '../src/crypto/engine.ts';
import type { Mode, Spis } from '../src/ipsec/sa.ts';
import type { Asks } from '../src/keying/asks.ts';
import type { ChildPolicy } from '../src/keying/child-policy.ts';
import type { Complaints } from '../src/keying/complaints.ts';
import type { Demand as KeyDemand } from '../src/keying/demands.ts';
import type { Details } from '../src/keying/events.ts';
import type { Failures } from '../src/keying/failures.ts';
import type { Migrations } from '../src/keying/migration.ts';
import type { Replies } from '../src/keying/replies.ts';
import type { Wanted } from '../src/keying/wanted.ts';
import type { Instant, RandomBytes } from '../src/machine.ts';
import type { IpAddress, Path } from '../src/net/address.ts';
import type { IkedEventName } from './events.ts';
import type { Cookies } from './ikev2/cookie.ts';
import type { IkeSa } from './ikev2/ike-sa.ts';
import type { Peer, Peers, PeerV1 } from './peers.ts';
import type { IkedOutput } from './ports.ts';
import type { SaTable } from './sa-table.ts';
import type { KeyChild, KeySa } from './versions.ts';

/** A child SA that is wanted. */
export interface Demand extends KeyDemand {
  /** The peer makes child SAs for single pairs of addresses only (SINGLE_PAIR_REQUIRED). */
  readonly singlePair?: boolean;
}

export interface Host {
  readonly random: RandomBytes;
  readonly engine: Engine;
  readonly cookies: Cookies;
  readonly table: SaTable;
  /** Unprotected errors (RFC 7296 §2.21.4). */
  readonly complaints: Complaints;
  /** The configuration in force. */
  readonly peers: Peers;
  /** The remotes that serve a peer at this address by IKEv2, and by IKEv1. */
  peersAt(address: IpAddress): Peer[];
  peersAtV1(address: IpAddress): PeerV1[];
  /** Its number: a plan of an older one is made again. */
  readonly generation: number;
  /** The reading of this step. */
  readonly now: Instant;
  /** Whether the datapath is connected; its sockets and rules may be gone with it. */
  readonly linked: boolean;
  emit(output: IkedOutput): void;
  report(name: IkedEventName, message: string, details?: Details): void;
  /** Counts under a name that `status` shows. */
  count(name: string): void;
  /** A fresh IKE SPI, unique here. */
  newSpi(): Uint8Array;
  /** Where a new pair of this policy ends, given the peer relation that it is negotiated in. */
  pathOfPair(sa: KeySa, policy: ChildPolicy, mode: Mode): Path;
  /** Asks the datapath for an SPI for such a pair. Ends in `spiArrived`. */
  askSpi(sa: KeySa, role: 'request' | 'response', policy: ChildPolicy, mode: Mode): void;
  /** The SPIs of one pair that came with this one, and itself: of a bundle one for each SA. */
  spisWith(spi: number): Spis;
  /** Gives an SPI back that no child was made of. */
  releaseSpi(spi: number): void;
  /** UPDATE of the inbound SA, and ADD of the outbound one unless it is held back. Ends in `childInstalled` or `childRefused`. */
  install(child: KeyChild, outbound: boolean): void;
  /** ADD of an outbound SA that was held back. */
  installOutbound(child: KeyChild): void;
  /** DELETE of both SAs: the outbound one now, the inbound one after `drainMs`. */
  uninstall(child: KeyChild, drainMs: number): void;
  /** How many packets came in through a child, for liveness. Ends in `trafficCounted`. */
  countInbound(sa: KeySa, child: KeyChild): void;
  /** First authentication of this peer since we began: INITIAL_CONTACT is due. */
  isFirstContact(remote: string): boolean;
  /** With INITIAL_CONTACT the peer drops the SAs that an earlier run of ours had with it: nothing more is sent on them until new ones are in. */
  holdOldSas(sa: KeySa): void;
  /** Whether the traffic of a policy waits for a new child by that. */
  isOnHold(policy: ChildPolicy): boolean;
  /** An IKE SA came up, by whichever role. `initialContact`: the peer says it has no other with us. */
  established(sa: KeySa, initialContact: boolean): void;
  /** The time has come to close an IKE SA that is redundant. */
  yields(loser: IkeSa): void;
  /** A demand ended. */
  satisfied(demand: Demand, child: KeyChild): void;
  failed(demand: Demand, why: string): void;
  /** Something goes wrong and may yet come right: `status` shows it until it does. */
  remember(subject: string, why: string): void;
  /** The peer takes no more children in the IKE SA at hand: another IKE SA is begun for this one. */
  demandElsewhere(demand: Demand): void;
  /** An IKE SA is gone, `failed` where that was not asked for. */
  closed(sa: KeySa, why: string, failed: boolean): void;
  /** A child is gone and no other took its place; `wanted` where its traffic is likely to go on. */
  childGone(child: KeyChild, why: string, wanted: boolean): void;
}

/** What the parts of the machine need of it besides what an IKE SA does. */
export interface Owner extends Host {
  readonly asks: Asks<KeySa, KeyChild>;
  readonly wanted: Wanted;
  readonly migrations: Migrations;
  readonly replies: Replies;
  readonly failures: Failures;
  /** The host's own addresses. */
  readonly local: readonly LocalAddress[];
  /** Does work on behalf of one IKE SA: a fault of ours in it closes that one and leaves the rest alone. */
  guard(sa: KeySa, work: () => void): void;
}
