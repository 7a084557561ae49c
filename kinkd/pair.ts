/** A pair of IPsec SAs that a CREATE made: whose it is, and what was agreed on, as `src/keying` and the datapath know it. */

import { sameSelector, type TrafficSelector } from '../src/ipsec/selector.ts';
import { leadOf } from '../src/isakmp/terms.ts';
import { type Agreement, SaPair } from '../src/keying/sa-pair.ts';
import { ipsecOf, type PolicyChoice } from '../src/keying/terms.ts';
import type { Path } from '../src/net/address.ts';
import type { Association } from './association.ts';

export class KinkPair extends SaPair {
  readonly association: Association;
  readonly choice: PolicyChoice;
  /** Where messages about it go; `path` is where its packets do. */
  talk: Path;
  /** The pair that it was made to replace. */
  readonly replaces: KinkPair | undefined;
  /** When a pair that another took the place of is to be deleted by us, `mono`. */
  retireAt: number | undefined;
  /** When a rekey that failed is tried again, `mono`. */
  rekeyAt: number | undefined;

  constructor(
    association: Association,
    agreed: Omit<Agreement, 'ipsec'>,
    choice: PolicyChoice,
    talk: Path,
    replaces?: KinkPair | undefined,
  ) {
    const { now, random } = association.host;
    const algorithms = { ...leadOf(choice).suite, extendedSequence: false };
    const ends = association.host.pathOfPair(agreed.policy, choice.mode, talk);
    const path = choice.encapsulated ? encapsulatedPath(ends, association) : ends;
    super({ ...agreed, ipsec: ipsecOf(choice) }, algorithms, path, choice.encapsulated, now.mono, random(1)[0]! / 255);
    this.association = association;
    this.talk = talk;
    this.choice = choice;
    this.replaces = replaces;
  }

  /** Whether this pair and another are for the same traffic of the same policy. */
  carriesWhat({ agreed, policy }: KinkPair): boolean {
    const same = (a: readonly TrafficSelector[], b: readonly TrafficSelector[]) =>
      a.length === b.length && a.every((ts, i) => sameSelector(ts, b[i]!));
    return policy.name === this.policy.name && same(agreed.local, this.agreed.local) && same(agreed.peer, this.agreed.peer);
  }

  get owner(): Association {
    return this.association;
  }
}

/** Both ends have the encapsulation port that is configured here: KINK has no way to learn another. */
function encapsulatedPath({ local, remote }: Path, { host }: Association): Path {
  const port = host.peers.config.interface.datapath.encapPort;
  return { local: { address: local.address, port }, remote: { address: remote.address, port }, encapsulated: true };
}
