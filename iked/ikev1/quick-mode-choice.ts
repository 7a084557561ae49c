/** What Quick Mode is to be about, and under which policy: what an initiator asks for, what a responder grants (RFC 2409 §5.5, RFC 3947 §5). */

import { keText } from '../../src/crypto/transforms.ts';
import { PeerError } from '../../src/errors.ts';
import { isSubset, sameSelector, showSelector, type TrafficSelector } from '../../src/ipsec/selector.ts';
import { betweenHosts, covers, type SelectorPair } from '../../src/ipsec/selector-pair.ts';
import { type ClientSelectors, canIdentify, clientSelectors } from '../../src/isakmp/client-ids.ts';
import { find, type Payload } from '../../src/isakmp/payloads.ts';
import { canOffer, chooseOffer } from '../../src/isakmp/quick-mode.ts';
import { type ChildPolicy, protocolsOf } from '../../src/keying/child-policy.ts';
import { type PolicyChoice, type PolicyTerms, termsOf } from '../../src/keying/terms.ts';
import { perceived } from '../natt.ts';
import type { PeerV1 } from '../peers.ts';
import type { IsakmpSa } from './isakmp-sa.ts';
import type { CreateTask } from './quick-mode.ts';

/** What a responder chose, seen from itself. */
export interface QuickModeChoice {
  readonly policy: ChildPolicy;
  readonly terms: PolicyTerms;
  readonly choice: PolicyChoice;
  readonly local: TrafficSelector;
  readonly peer: TrafficSelector;
}

/** What a policy means in this ISAKMP SA. Throws PeerError where that is nothing. */
export function termsFor(sa: IsakmpSa, policy: ChildPolicy): PolicyTerms {
  if (sa.nat !== 'none' && protocolsOf(policy.policy).includes('ah')) {
    throw new PeerError(
      'NO-PROPOSAL-CHOSEN',
      `policy ${policy.policy.name} wants AH, which no NAT lets pass (RFC 3715 §2.1), and there is one between the peers: use esp there`,
    );
  }
  const { needPfs, groups, proposalCheck } = sa.peer!.ikev1;
  const group = needPfs ? groups[0] : undefined;
  return termsOf(policy, { group, encapsulated: sa.nat !== 'none', check: proposalCheck });
}

/** Why nothing can be negotiated under a policy in Quick Mode, or undefined. */
export function refusePolicy({ name, ikev1 }: PeerV1, policy: ChildPolicy): string | undefined {
  const { needPfs, groups, proposalCheck: check } = ikev1;
  const terms = termsOf(policy, { group: needPfs ? groups[0] : undefined, encapsulated: false, check });
  if (canOffer(terms)) return undefined;
  if (needPfs && groups[0] !== undefined && canOffer({ ...terms, group: undefined }))
    return `remote ${name}: IKEv1 has no number for the first group of kmp_dh_group, ${keText(groups[0])}`;
  return `policy ${policy.policy.name}: its ipsec_index holds no SA that IKEv1 can negotiate (esp, ah or both, with ipcomp or without, each with algorithms that it has numbers for)`;
}

/**
 * The one pair of selectors that a Quick Mode can have: of a policy with several the one that covers the packet, else the first. Throws
 * PeerError where none can be said in ID payloads.
 */
export function trafficFor({ path }: IsakmpSa, policy: ChildPolicy, task: CreateTask): ClientSelectors {
  const whole: SelectorPair = { TSi: policy.local, TSr: policy.peer };
  const transport = policy.policy.mode === 'transport';
  const { TSi, TSr } = (transport && betweenHosts(whole, path.local.address, path.remote.address)) || whole;
  const packet = task.kind === 'create-child' ? task.demand.packet : undefined;
  const pairs = TSi.flatMap((IDci) => TSr.filter((ts) => ts.start.family === IDci.start.family).map((IDcr) => ({ IDci, IDcr })));
  const sayable = pairs.filter(({ IDci, IDcr }) => canIdentify(IDci) && canIdentify(IDcr));
  const fitting = sayable.find(({ IDci, IDcr }) => packet !== undefined && covers(packet, { TSi: [IDci], TSr: [IDcr] }));
  const chosen = fitting ?? sayable[0];
  if (chosen !== undefined) return chosen;
  const what = pairs.map(({ IDci, IDcr }) => `${showSelector(IDci)} to ${showSelector(IDcr)}`).join(', ') || 'nothing';
  throw new PeerError('INVALID-ID-INFORMATION', `${policy.name} is ${what}, which IKEv1 cannot say: it knows one port or all`);
}

/** The policy, among those that name the peer, which allows what the peer proposes, and the choice under it. Throws PeerError. */
export function choosePolicy(sa: IsakmpSa, payloads: readonly Payload[]): QuickModeChoice {
  const peer = sa.peer!;
  checkRoom(sa);
  const { local: mine, remote: theirs } = sa.path;
  const proposed = clientSelectors(payloads, theirs.address, mine.address);
  const reasons: string[] = [];
  for (const exact of [true, false]) {
    for (const policy of peer.children) {
      const transport = policy.policy.mode === 'transport';
      const IDci = transport ? perceived(sa, 'there', [proposed.IDci])[0]! : proposed.IDci;
      const IDcr = transport ? perceived(sa, 'here', [proposed.IDcr])[0]! : proposed.IDcr;
      const fits = exact ? sameSelector : isSubset;
      if (!policy.peer.some((ts) => fits(IDci, ts)) || !policy.local.some((ts) => fits(IDcr, ts))) continue;
      try {
        const terms = termsFor(sa, policy);
        return { policy, terms, choice: chooseOffer(terms, find(payloads, 'SA')!), local: IDcr, peer: IDci };
      } catch (error) {
        if (!(error instanceof PeerError) || error.notify !== 'NO-PROPOSAL-CHOSEN') throw error;
        if (!reasons.some((known) => known.startsWith(`policy ${policy.policy.name}:`)))
          reasons.push(`policy ${policy.policy.name}: ${error.message}`);
      }
    }
  }
  if (reasons.length > 0) {
    throw new PeerError(
      'NO-PROPOSAL-CHOSEN',
      `${reasons.join('; ')}: make esp_enc_alg, esp_auth_alg, ah_auth_alg, ipsec_mode, need_pfs and kmp_dh_group have something in common`,
    );
  }
  throw unacceptable(sa, peer, proposed);
}

/** The answer must be about what was asked for; an answer without IDs repeats it. Throws PeerError. */
export function checkAnswered({ path }: IsakmpSa, asked: ClientSelectors, payloads: readonly Payload[]): void {
  if (find(payloads, 'ID') === undefined) return;
  const answered = clientSelectors(payloads, path.local.address, path.remote.address);
  for (const side of ['IDci', 'IDcr'] as const) {
    if (sameSelector(answered[side], asked[side])) continue;
    throw new PeerError(
      'INVALID-ID-INFORMATION',
      `${side} of the answer is ${showSelector(answered[side])}, where we had sent ${showSelector(asked[side])}: correct src and dst on one side`,
    );
  }
}

function unacceptable(sa: IsakmpSa, peer: PeerV1, { IDci, IDcr }: ClientSelectors): PeerError {
  const show = (some: readonly TrafficSelector[]) => some.map(showSelector).join(', ');
  const known = peer.children.map((child) => `selector ${child.name} has ${show(child.peer)} to ${show(child.local)}`).join('; ');
  return new PeerError(
    'INVALID-ID-INFORMATION',
    `the peer proposed ${showSelector(IDci)} to ${showSelector(IDcr)}; ${known || `no selector's policy names remote ${peer.name}`}: correct src and dst on one side${sa.nat === 'none' ? '' : ' (a NAT is between the peers)'}`,
  );
}

/** `child_sas_per_ike_sa`; a rekey finds room for the new beside each old one. Throws PeerError. */
function checkRoom(sa: IsakmpSa): void {
  const most = sa.host.peers.config.interface.limits.childSasPerIkeSa * 2;
  const count = sa.children.length;
  if (count < most) return;
  const why = `the ISAKMP SA has ${count} child SAs, twice the limit of child_sas_per_ike_sa`;
  sa.report('limit-reached', `a Quick Mode is refused: ${why}`, { limit: 'child_sas_per_ike_sa' });
  throw new PeerError('NO-PROPOSAL-CHOSEN', why);
}
