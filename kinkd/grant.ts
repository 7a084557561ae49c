/** What a policy offers and accepts in a CREATE, and what a responder grants of one: policy, algorithms and selectors (RFC 4430 §5, §6.3). */

import { checkPublicValue } from '../src/crypto/dh.ts';
import { ENCR, type EncrRow, type KeName, keText } from '../src/crypto/transforms.ts';
import { PeerError } from '../src/errors.ts';
import { ANY_PORT, intersect, isSubset, sameSelector, showSelector, type TrafficSelector } from '../src/ipsec/selector.ts';
import { type ClientSelectors, canIdentify, clientSelectors } from '../src/isakmp/client-ids.ts';
import { PAYLOAD } from '../src/isakmp/doi.ts';
import { all, find, type Payload } from '../src/isakmp/payloads.ts';
import { chooseOffer, isFirst } from '../src/isakmp/quick-mode.ts';
import { type ChildPolicy, protocolOf } from '../src/keying/child-policy.ts';
import { literals } from '../src/keying/ends.ts';
import { type PolicyChoice, type PolicyTerms, termsOf as termsOfPolicy } from '../src/keying/terms.ts';
import type { Path } from '../src/net/address.ts';
import type { Association } from './association.ts';
import type { Peer } from './peers.ts';

/** What a responder grants of one SA operation, seen from itself. */
export interface Grant {
  readonly policy: ChildPolicy;
  readonly choice: PolicyChoice;
  readonly local: readonly TrafficSelector[];
  readonly peer: readonly TrafficSelector[];
  /** It is the first transform of the first proposal: what the initiator may have installed already (RFC 4430 §3.2). */
  readonly optimistic: boolean;
  readonly Ni_b: Uint8Array;
  /** The initiator's public value, where the choice has a group. */
  readonly KEi: Uint8Array | undefined;
  /** IDci and IDcr, to be sent back as they came. */
  readonly ids: readonly Payload[];
}

/**
 * What a policy wants of its SAs. `group` is that of the KE payloads, or none. KINK does not find NATs, but where the datapath is told to put all
 * ESP in UDP (RFC 3948), so must the peer's.
 */
export function termsOf({ peer: { kink }, host }: Association, child: ChildPolicy, group: KeName | undefined): PolicyTerms {
  // AH is in UDP never (RFC 3948 §2 has ESP alone).
  const forced = host.peers.config.interface.datapath.encapsulation === 'force';
  const encapsulated = forced && protocolOf(child.policy) === 'esp';
  return termsOfPolicy(child, { group, encapsulated, check: kink.proposalCheck });
}

/**
 * Ciphers that an IV must never serve twice under one key. What a responder's key is made of without Nr is all in the initiator's CREATE, so that a
 * CREATE replayed to a responder that forgot it would make it use key and counter again.
 */
export function countsIvs({ sas }: PolicyChoice): boolean {
  const rows: EncrRow[] = sas.map(({ suite }) => ENCR[suite.encr]);
  return rows.some(({ salt }) => salt > 0);
}

/** The one pair of selectors that a CREATE can name of a policy: the packet's, where it says one, else the first; hosts only in transport mode. */
export function clientsOf(policy: ChildPolicy, path: Path, packet?: ClientSelectors): ClientSelectors | undefined {
  const locals = withHost(policy, policy.local, path.local.address);
  const peers = withHost(policy, policy.peer, path.remote.address);
  const holding = (some: readonly TrafficSelector[], one: TrafficSelector | undefined) =>
    (one === undefined ? undefined : some.find((ts) => isSubset(one, ts))) ?? some[0];
  const IDci = holding(locals, packet?.IDci);
  if (IDci === undefined) return undefined;
  const IDcr = holding(
    peers.filter(({ start }) => start.family === IDci.start.family),
    packet?.IDcr,
  );
  return IDcr === undefined ? undefined : { IDci: sayable(IDci), IDcr: sayable(IDcr) };
}

/** The policy's own selectors within what IDs name; IDs have no room for ranges of ports (ICMP types), which the policy keeps for itself. */
export function within(policy: readonly TrafficSelector[], named: TrafficSelector): TrafficSelector[] {
  return policy.flatMap((ts) => intersect(ts, named) ?? []);
}

/**
 * What is granted of one SA operation under the policies that name its principal. Throws PeerError with the notify to answer with. Nothing
 * changes, and nothing is computed that takes time.
 */
export function grantOf(association: Association, path: Path, payloads: readonly Payload[]): Grant {
  const { peer } = association;
  const SA = find(payloads, 'SA')!;
  const named = all(payloads, 'ID').length > 0;
  const clients = clientSelectors(payloads, path.remote.address, path.local.address);
  const candidates = named ? policiesNaming(peer, clients) : policiesBetween(peer, path);
  if (candidates.length === 0) throw unknownSelectors(peer, clients, named);
  const KEi = find(payloads, 'KE')?.data;
  let refusal: unknown;
  for (const policy of candidates) {
    for (const group of peer.kink.needPfs ? peer.kink.groups : [undefined]) {
      try {
        const choice = chooseOffer(termsOf(association, policy, group), SA);
        checkKe(peer, choice, KEi);
        return {
          policy,
          choice,
          local: named ? within(policy.local, clients.IDcr) : withHost(policy, policy.local, path.local.address),
          peer: named ? within(policy.peer, clients.IDci) : withHost(policy, policy.peer, path.remote.address),
          optimistic: isFirst(choice, SA),
          Ni_b: find(payloads, 'Nonce')!.data,
          KEi: choice.group === undefined ? undefined : KEi,
          ids: all(payloads, 'ID'),
        };
      } catch (error) {
        if (!(error instanceof PeerError)) throw error;
        refusal ??= error;
      }
    }
  }
  throw refusal;
}

/** RFC 4430 §5.7: a KE payload that goes with no group of ours is told by INVALID-PAYLOAD-TYPE. */
function checkKe({ kink }: Peer, { group }: PolicyChoice, KEi: Uint8Array | undefined): void {
  const refused = (why: string) => new PeerError('INVALID-PAYLOAD-TYPE', why, Uint8Array.of(PAYLOAD.KE));
  if (group === undefined) {
    if (KEi !== undefined) throw refused('a KE payload came, but the transform that fits names no group');
    return;
  }
  if (!kink.groups.includes(group))
    throw refused(`the peer wants PFS with ${keText(group)}; kmp_dh_group has ${kink.groups.map(keText).join(', ')}`);
  if (KEi === undefined)
    throw new PeerError('PAYLOAD-MALFORMED', `the transform names group ${keText(group)}, but no KE payload came`);
  const problem = checkPublicValue(group, KEi);
  if (problem !== undefined) throw new PeerError('PAYLOAD-MALFORMED', `KE payload: ${problem}`);
}

/** Policies whose selectors hold what the IDs name; those that are just that come first. */
function policiesNaming({ children }: Peer, { IDci, IDcr }: ClientSelectors): readonly ChildPolicy[] {
  const fits = (test: (a: TrafficSelector, b: TrafficSelector) => boolean) => (policy: ChildPolicy) =>
    policy.local.some((ts) => test(IDcr, sayable(ts))) && policy.peer.some((ts) => test(IDci, sayable(ts)));
  const exact = children.filter(fits(sameSelector));
  return [...exact, ...children.filter((policy) => !exact.includes(policy) && fits(isSubset)(policy))];
}

/** racoon2 sends no IDs: then the policies between the two hosts are meant, the first whose algorithms fit. */
function policiesBetween({ children }: Peer, { local, remote }: Path): readonly ChildPolicy[] {
  return children.filter((policy) => {
    const { mode, mySaAddress, peersSaAddress } = policy.policy;
    if (mode === 'transport')
      return withHost(policy, policy.local, local.address).length > 0 && withHost(policy, policy.peer, remote.address).length > 0;
    const mine = literals([mySaAddress]).every((address) => address.equals(local.address));
    return mine && literals([peersSaAddress]).every((address) => address.equals(remote.address));
  });
}

/** A transport-mode SA is for the two hosts that negotiate it: of several addresses only theirs are meant. */
function withHost(
  { policy }: ChildPolicy,
  selectors: readonly TrafficSelector[],
  host: Path['local']['address'],
): readonly TrafficSelector[] {
  if (policy.mode === 'tunnel') return selectors;
  return selectors.flatMap((ts) => intersect(ts, { ...ANY_PORT, protocol: 0, start: host, end: host }) ?? []);
}

function sayable(ts: TrafficSelector): TrafficSelector {
  return canIdentify(ts) ? ts : { ...ts, ...ANY_PORT };
}

/** RFC 4430 §5.5 has no notify of its own for it. */
function unknownSelectors({ name, children }: Peer, { IDci, IDcr }: ClientSelectors, named: boolean): PeerError {
  const asked = `${showSelector(IDci)} to ${showSelector(IDcr)}${named ? '' : ' (it sent no IDs)'}`;
  const show = (some: readonly TrafficSelector[]) => some.map(showSelector).join(', ');
  const known = children.map((child) => `selector ${child.name} has ${show(child.peer)} to ${show(child.local)}`).join('; ');
  const why = known || `no selector's policy names remote ${name}`;
  return new PeerError('PAYLOAD-MALFORMED', `the peer asks for ${asked}; ${why}: correct src and dst on one side`);
}
