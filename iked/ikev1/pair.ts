/** The pair of IPsec SAs that one Quick Mode made (RFC 2409 §5.5), and which of several pairs for the same traffic carries it. */

import { compare } from '../../src/bytes/bytes.ts';
import { samePair } from '../../src/ipsec/selector-pair.ts';
import { type Agreement, SaPair } from '../../src/keying/sa-pair.ts';
import type { Path } from '../../src/net/address.ts';
import { sameIdentity } from '../auth/identity.ts';
import type { Demand } from '../host.ts';
import type { IsakmpSa } from './isakmp-sa.ts';

/** What two ends agreed on, and the nonces of the exchange. */
export interface QuickModeAgreement extends Agreement {
  readonly Ni_b: Uint8Array;
  readonly Nr_b: Uint8Array;
}

export class QuickModePair extends SaPair<QuickModeAgreement> {
  readonly version = 1;
  /** The ISAKMP SA that looks after it: a newer one with the same peer takes it over. */
  isakmp: IsakmpSa;
  /** What it was asked for; undefined for a rekey, for the peer's, and once those who wait were told. */
  demand: Demand | undefined;
  /** When the exchange that made it began, `mono`. */
  readonly begun: number;

  constructor(agreed: QuickModeAgreement, suite: SaPair['algorithms'], isakmp: IsakmpSa, path: Path, begun: number) {
    const { host, nat } = isakmp;
    const encapsulated = nat !== 'none' && path.encapsulated;
    super(agreed, suite, path, encapsulated, host.now.mono, host.random(1)[0]! / 255);
    this.isakmp = isakmp;
    this.begun = begun;
  }

  override get owner(): IsakmpSa {
    return this.isakmp;
  }

  /** Both SAs are in the datapath and the peer has shown that it has them too. */
  get confirmed(): boolean {
    return this.state === 'installed' && this.outboundState === 'installed';
  }
}

/** Whether two ISAKMP SAs are with the same peer: one remote may stand for many (`IP_RW`). */
export function samePeer(a: IsakmpSa, b: IsakmpSa): boolean {
  if (a === b) return true;
  const { peerId, myId } = a;
  if (a.peer?.name !== b.peer?.name || peerId === undefined || myId === undefined) return false;
  return b.peerId !== undefined && b.myId !== undefined && sameIdentity(peerId, b.peerId) && sameIdentity(myId, b.myId);
}

/** Every pair with the peer of `isakmp`, whichever ISAKMP SA looks after it. */
export function pairsOfPeer(isakmp: IsakmpSa): QuickModePair[] {
  return isakmp.host.table
    .all()
    .flatMap((sa) => (sa.version === 1 && samePeer(sa, isakmp) ? sa.children : []))
    .filter((pair) => pair.state !== 'gone');
}

/** Others for the same traffic of the same policy. */
export function twinsOf(pair: QuickModePair): QuickModePair[] {
  const { agreed } = pair;
  const traffic = { TSi: agreed.local, TSr: agreed.peer };
  return pairsOfPeer(pair.isakmp).filter(
    (other) =>
      other !== pair &&
      other.policy.name === pair.policy.name &&
      other.agreed.mode === agreed.mode &&
      samePair({ TSi: other.agreed.local, TSr: other.agreed.peer }, traffic),
  );
}

/**
 * Whether both ends made one at once: neither was there when the exchange of the other began. Of the two the one whose exchange has the
 * lowest nonce goes, as both ends can tell (RFC 7296 §2.8.1 has this rule; RFC 2409 has none).
 */
export function madeAtOnce(a: QuickModePair, b: QuickModePair): boolean {
  return a.agreed.initiator !== b.agreed.initiator && a.begun <= b.since && b.begun <= a.since;
}

/** The one of two that were made at once which is redundant. */
export function redundantOf(a: QuickModePair, b: QuickModePair): QuickModePair {
  return compare(lower(a), lower(b)) < 0 ? a : b;
}

function lower({ agreed: { Ni_b, Nr_b } }: QuickModePair): Uint8Array {
  return compare(Ni_b, Nr_b) < 0 ? Ni_b : Nr_b;
}
