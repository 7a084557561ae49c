/** What a responder grants of a request for a child SA: policy, mode, proposal and selectors (RFC 7296 §2.7, §2.9, §1.3.1). */

import type { IpsecConfig } from '../../src/config/config.ts';
import { PeerError } from '../../src/errors.ts';
import { choose, type Proposal } from '../../src/ipsec/proposal.ts';
import type { Mode } from '../../src/ipsec/sa.ts';
import { showSelector, type TrafficSelector } from '../../src/ipsec/selector.ts';
import type { SelectorPair } from '../../src/ipsec/selector-pair.ts';
import { type ChildPolicy, protocolOf } from '../../src/keying/child-policy.ts';
import { showSpi } from '../../src/keying/sa-pair.ts';
import { perceived } from '../natt.ts';
import type { Peer } from '../peers.ts';
import { modeSaid, saysTransport } from './child-mode.ts';
import { type ChildSa, childProposals, ipsecOf, type PerfectForwardSecrecy, spiBytes, spiOf } from './child-sa.ts';
import type { IkeSa } from './ike-sa.ts';
import { proposalsText } from './ladder.ts';
import { find } from './message.ts';
import { narrowTo } from './narrowing.ts';
import { findNotify } from './notify.ts';
import type { Payload } from './payloads.ts';

/** What a responder chose, seen from itself. */
export interface ChildChoice {
  readonly policy: ChildPolicy;
  readonly mode: Mode;
  readonly proposal: Proposal;
  readonly ipsec: IpsecConfig;
  readonly TSi: readonly TrafficSelector[];
  readonly TSr: readonly TrafficSelector[];
  readonly additional: boolean;
}

/** What may be had of what the peer asks for, under the policies that name it. Throws PeerError. */
export function chooseChild(
  sa: IkeSa,
  peer: Peer,
  payloads: readonly Payload[],
  pfs: PerfectForwardSecrecy,
  like?: ChildSa,
): ChildChoice {
  const offered: SelectorPair = { TSi: find(payloads, 'TSi')!.selectors, TSr: find(payloads, 'TSr')!.selectors };
  const policies = peer.children.map((policy) => ({ policy, TSi: policy.peer, TSr: policy.local }));
  const same = policies.filter(({ policy }) => policy.name === like?.policy.name);
  const grant = (pair: SelectorPair) => narrowTo(pair, same.length > 0 ? same : policies) ?? narrowTo(pair, policies);
  const transport = saysTransport(payloads);
  const seen = { TSi: perceived(sa, 'there', offered.TSi), TSr: perceived(sa, 'here', offered.TSr) };
  const narrowed = (transport ? grant(seen) : undefined) ?? grant(offered);
  if (narrowed === undefined) throw unacceptable(sa, peer, offered);
  const { policy } = narrowed.policy;
  const mode = chooseMode(peer, policy, modeSaid(payloads, policy));
  if (protocolOf(policy.policy) === 'ah' && sa.nat !== 'none') {
    throw new PeerError(
      'NO_PROPOSAL_CHOSEN',
      `policy ${policy.policy.name} wants AH, which no NAT lets pass (RFC 3715 §2.1), and there is one between the peers: use esp there`,
    );
  }
  const mine = childProposals(policy, peer.ikev2, spiBytes(0), pfs);
  const theirs = find(payloads, 'SA')!.proposals;
  const comparable = pfs === 'never' ? theirs.map(withoutKe) : theirs;
  const proposal = choose(mine.proposals, comparable);
  if (proposal === undefined) {
    throw new PeerError(
      'NO_PROPOSAL_CHOSEN',
      `the peer offered ${proposalsText(theirs)}; policy ${policy.policy.name} accepts ${proposalsText(mine.proposals)}: give esp_enc_alg, esp_auth_alg, ext_sequence${pfs === 'required' ? ' or need_pfs and kmp_dh_group' : ''} something in common`,
    );
  }
  if (spiOf(proposal.spi) < 256)
    throw new PeerError(
      'INVALID_SYNTAX',
      `the proposal's SPI is ${showSpi(spiOf(proposal.spi))}; 0 to 255 are reserved (RFC 4303 §2.1)`,
    );
  const { TSi, TSr, additional } = narrowed;
  return { policy, mode, proposal, ipsec: paddedAs(payloads, ipsecOf(proposal, mine)), TSi, TSr, additional };
}

/** The peer may not take packets with TFC padding (RFC 7296 §1.3.1); it says so about each child. */
export function paddedAs(payloads: readonly Payload[], ipsec: IpsecConfig): IpsecConfig {
  return findNotify(payloads, 'ESP_TFC_PADDING_NOT_SUPPORTED') === undefined ? ipsec : { ...ipsec, tfcPadding: 0 };
}

function withoutKe(proposal: Proposal): Proposal {
  return { ...proposal, transforms: proposal.transforms.filter((transform) => transform.type !== 'KE') };
}

function unacceptable(sa: IkeSa, peer: Peer, { TSi, TSr }: SelectorPair): PeerError {
  const show = (some: readonly TrafficSelector[]) => some.map(showSelector).join(', ');
  const known = peer.children.map((child) => `selector ${child.name} has ${show(child.peer)} to ${show(child.local)}`).join('; ');
  return new PeerError(
    'TS_UNACCEPTABLE',
    `the peer proposed ${show(TSi)} to ${show(TSr)}; ${known || `no selector's policy names remote ${peer.name}`}: correct src and dst on one side${sa.nat === 'none' ? '' : ' (a NAT is between the peers)'}`,
  );
}

/** `selector_check`: the peer's wish must be the policy's (`exact`), or is followed (`obey`). */
function chooseMode(peer: Peer, policy: ChildPolicy, wished: Mode): Mode {
  const { mode } = policy.policy;
  if (mode === wished || (mode !== 'beet' && peer.ikev2.selectorCheck === 'obey')) return wished;
  throw new PeerError(
    'NO_PROPOSAL_CHOSEN',
    `the peer wants ${wished} mode; policy ${policy.policy.name} says ${mode}: correct ipsec_mode on one side${mode === 'beet' ? '' : ', or set selector_check obey'}`,
  );
}

/** `child_sas_per_ike_sa`; a rekey finds room for the new beside each old one, until that is deleted. Throws NO_ADDITIONAL_SAS. */
export function checkRoom(sa: IkeSa, rekey: boolean): void {
  const most = sa.host.peers.config.interface.limits.childSasPerIkeSa * (rekey ? 2 : 1);
  const count = sa.children.length;
  if (count < most) return;
  const why = `the IKE SA has ${count} child SAs, ${rekey ? 'twice ' : ''}the limit of child_sas_per_ike_sa`;
  sa.report('limit-reached', `a request for a child SA is refused: ${why}`, { limit: 'child_sas_per_ike_sa' });
  throw new PeerError('NO_ADDITIONAL_SAS', why);
}
