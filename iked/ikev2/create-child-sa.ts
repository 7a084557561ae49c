/** CREATE_CHILD_SA for a new child and for a child rekey, both roles; the child in IKE_AUTH is made by the same functions (RFC 7296 §1.3.1, §1.3.3, §2.8, §2.9, §2.17). */

import { u16be } from '../../src/bytes/bytes.ts';
import type { Secret } from '../../src/bytes/secret.ts';
import type { IpsecConfig } from '../../src/config/config.ts';
import { generate, type KeyShare } from '../../src/crypto/dh.ts';
import { KE, type KeName, keByIkev2, keText } from '../../src/crypto/transforms.ts';
import { PeerError } from '../../src/errors.ts';
import type { Proposal } from '../../src/ipsec/proposal.ts';
import type { Mode } from '../../src/ipsec/sa.ts';
import { showSelector, type TrafficSelector } from '../../src/ipsec/selector.ts';
import { betweenHosts, covers, type SelectorPair } from '../../src/ipsec/selector-pair.ts';
import type { ChildPolicy } from '../../src/keying/child-policy.ts';
import { showSpi } from '../../src/keying/sa-pair.ts';
import type { Demand } from '../host.ts';
import { perceived } from '../natt.ts';
import { type ChildChoice, checkRoom, chooseChild, paddedAs } from './child-choice.ts';
import { modePayloads, modeSaid } from './child-mode.ts';
import {
  type ChildAgreement,
  ChildSa,
  childProposals,
  ipsecOf,
  type PerfectForwardSecrecy,
  protocolId,
  spiBytes,
  spiOf,
} from './child-sa.ts';
import { checkChildFree, checkIkeSaFree, twinsOf } from './collisions.ts';
import { abandonChild } from './endings.ts';
import { ChildNotFound, type Committed, type Requested, type SpiAsk } from './exchanges.ts';
import type { IkeSa, Task } from './ike-sa.ts';
import { chosenOf } from './ike-sa-init.ts';
import { childKeys, childSuiteOf } from './keys.ts';
import { proposalsText } from './ladder.ts';
import { EXCHANGE, find, type Message, type OpenedMessage } from './message.ts';
import { checkNarrowed, proposedSelectors, singlePair } from './narrowing.ts';
import { explainNotify, findError, findNotify, isNotifyName, notify, notifyName, notifyNumber } from './notify.ts';
import type { Payload, PayloadOf } from './payloads.ts';
import { concludeRekeyed, createAnew, retryLater } from './rekey-child.ts';

/** A responder that made a new SA for an old one sends on the old until the peer shows that it is ready, at most this long (§2.8). Milliseconds. */
export const HOLD_OUTBOUND_MS = 2_000;

/** Why there is to be no child. */
export interface Rejected {
  readonly error: PeerError;
}

/** What an initiator put into its request. */
export interface ChildOffer extends SelectorPair {
  readonly policy: ChildPolicy;
  readonly proposals: readonly Proposal[];
  readonly ipsecs: readonly IpsecConfig[];
  readonly mode: Mode;
  /** [N(USE_TRANSPORT_MODE)] or [N(USE_BEET_MODE)], SA, TSi, TSr. */
  readonly payloads: readonly Payload[];
}

export interface ChildPlan {
  readonly for: 'child';
  readonly choice: ChildChoice;
  readonly old: ChildSa | undefined;
  readonly group: KeName | undefined;
  readonly spi: SpiAsk;
}

export interface ChildSent {
  readonly for: 'child';
  readonly task: Task & { readonly kind: 'create-child' | 'rekey-child' };
  readonly demand: Demand | undefined;
  readonly old: ChildSa | undefined;
  readonly offer: ChildOffer;
  readonly spi: number;
  readonly Ni: Uint8Array;
  readonly share: KeyShare | undefined;
  /** SPIs of unknown children that the peer deleted since: the one that the response brings may be among them. */
  readonly deleted: number[];
}

// The initiator.

/** `demand`: what is wanted, for a new child; `like`: the child that it is to replace, whose selectors are proposed again (§2.9.2). */
export function offerChild(
  sa: IkeSa,
  policy: ChildPolicy,
  spi: number,
  pfs: PerfectForwardSecrecy,
  {
    group,
    demand,
    like,
  }: { readonly group?: KeName | undefined; readonly demand?: Demand | undefined; readonly like?: ChildSa | undefined },
): ChildOffer {
  const { proposals, ipsecs } = childProposals(policy, sa.peer!.ikev2, spiBytes(spi), pfs, group);
  const mode = like?.agreed.mode ?? policy.policy.mode;
  const { TSi, TSr } =
    like === undefined
      ? proposedSelectors(policySelectors(sa, policy, mode), demand ?? { policy })
      : { TSi: like.agreed.local, TSr: like.agreed.peer };
  const payloads: Payload[] = [
    ...modePayloads(mode),
    { type: 'SA', proposals },
    { type: 'TSi', selectors: TSi },
    { type: 'TSr', selectors: TSr },
  ];
  return { policy, proposals, ipsecs, mode, TSi, TSr, payloads };
}

/** A transport-mode SA is for the two hosts that negotiate it: of several addresses only theirs are proposed (§2.9, §1.3.1). */
function policySelectors({ path }: IkeSa, { local, peer }: ChildPolicy, mode: Mode): SelectorPair {
  const policy = { TSi: local, TSr: peer };
  return (mode === 'transport' && betweenHosts(policy, path.local.address, path.remote.address)) || policy;
}

/** HDR, SK {[N(REKEY_SA)], [N(USE_TRANSPORT_MODE)], SA, Ni, [KEi], TSi, TSr}. */
export function requestChild(sa: IkeSa, task: ChildSent['task'], spi: number): Requested {
  const { host } = sa;
  const { ikev2 } = sa.peer!;
  const old = task.kind === 'rekey-child' ? task.child : undefined;
  const demand = task.kind === 'create-child' ? task.demand : undefined;
  const policy = host.peers.child(old?.policy.name ?? demand!.policy.name) ?? old?.policy ?? demand!.policy;
  const group = ikev2.needPfs ? (task.group ?? groupFor(sa)) : undefined;
  const share = group === undefined ? undefined : generate(group, host.random, host.engine);
  const offer = offerChild(sa, policy, spi, group === undefined ? 'never' : 'required', { group, demand, like: old });
  const Ni = host.random(ikev2.nonceBytes);
  const [first, ...selectors] = splitBefore(offer.payloads, 'TSi');
  const payloads: Payload[] = [
    ...(old === undefined ? [] : [notify('REKEY_SA', undefined, { protocol: protocolId(old), spi: spiBytes(old.spiIn) })]),
    ...first!,
    { type: 'Nonce', data: Ni },
    ...(share === undefined ? [] : [{ type: 'KE', group: KE[share.group].ikev2, data: share.publicValue } as const]),
    ...selectors.flat(),
  ];
  return {
    exchange: EXCHANGE.CREATE_CHILD_SA,
    payloads,
    sent: { for: 'child', task, demand, old, offer, spi, Ni, share, deleted: [] },
  };
}

function splitBefore(payloads: readonly Payload[], type: Payload['type']): [Payload[], Payload[]] {
  const at = payloads.findIndex((payload) => payload.type === type);
  return [payloads.slice(0, at), payloads.slice(at)];
}

/** The group that the peer has shown to accept, where it is one of ours for children. */
function groupFor(sa: IkeSa): KeName {
  const { ke } = sa.peer!.ikev2;
  return sa.suite !== undefined && ke.includes(sa.suite.ke) ? sa.suite.ke : ke[0]!;
}

// The responder.

export function planCreateChild(sa: IkeSa, request: OpenedMessage): ChildPlan {
  const { payloads } = request;
  const peer = sa.peer!;
  const old = rekeyedChild(sa, findNotify(payloads, 'REKEY_SA'));
  checkIkeSaFree(sa);
  if (old !== undefined) checkChildFree(old);
  checkRoom(sa, old !== undefined);
  const KEi = find(payloads, 'KE');
  const choice = chooseChild(sa, peer, payloads, peer.ikev2.needPfs ? 'required' : KEi === undefined ? 'never' : 'allowed', old);
  const group = childSuiteOf(choice.proposal).ke;
  if (group !== undefined && KEi?.group !== KE[group].ikev2) {
    throw new PeerError(
      'INVALID_KE_PAYLOAD',
      `the peer sent ${KEi === undefined ? 'no KE' : `group ${KEi.group}`}; we want ${keText(group)}`,
      u16be(KE[group].ikev2),
    );
  }
  return { for: 'child', choice, old, group, spi: { mode: choice.mode, policy: choice.policy } };
}

/** The child that N(REKEY_SA) names by the SPI that its sender receives on. Throws CHILD_SA_NOT_FOUND, or TEMPORARY_FAILURE where it may come. */
function rekeyedChild(sa: IkeSa, rekey: PayloadOf<'Notify'> | undefined): ChildSa | undefined {
  if (rekey === undefined) return undefined;
  const { protocol, spi } = rekey;
  const child =
    spi.length === 4 ? sa.children.find((known) => known.spiOut === spiOf(spi) && protocolId(known) === protocol) : undefined;
  if (child !== undefined) return child;
  const making = sa.current?.task.kind;
  const moving = sa.host.table
    .all()
    .some((old) => old.version === 2 && old.successor?.sa === sa && old.children.some((known) => known.spiOut === spiOf(spi)));
  if (making === 'create-child' || making === 'rekey-child' || moving) {
    // It may be the child of our own exchange, whose response the peer's request has overtaken; or be still with the IKE SA that this one
    // replaces, while our own rekey of that waits for its response. Not found would be the end of it there.
    throw new PeerError('TEMPORARY_FAILURE', 'the peer rekeys a child SA that is not here yet: an exchange of ours is under way');
  }
  throw new ChildNotFound(
    protocol,
    spi,
    `the peer rekeys a child SA that is not here (protocol ${protocol}, SPI ${spi.length === 4 ? showSpi(spiOf(spi)) : `of ${spi.length} octets`})`,
  );
}

/** HDR, SK {[N(USE_TRANSPORT_MODE)], SA, Nr, [KEr], TSi, TSr}. */
export function commitChild(
  sa: IkeSa,
  { payloads }: OpenedMessage,
  { choice, old, group }: ChildPlan,
  spi: number | undefined,
): Committed {
  const { host } = sa;
  const Ni = find(payloads, 'Nonce')!.data;
  const share = group === undefined ? undefined : generate(group, host.random, host.engine);
  const g_ir = share?.agree(find(payloads, 'KE')!.data);
  const Nr = host.random(sa.peer!.ikev2.nonceBytes);
  const made = makeChild(sa, choice, spi!, Ni, Nr, g_ir, old === undefined ? 0 : HOLD_OUTBOUND_MS);
  share?.wipe();
  g_ir?.wipe();
  if (old !== undefined) {
    made.child.replaces = old;
    old.successor = { child: made.child, Ni, Nr };
    if (!old.rekeying) {
      old.state = 'replaced';
      old.superseded = true;
    }
  }
  const [first, selectors] = splitBefore(made.payloads, 'TSi');
  return {
    child: made.child,
    payloads: [
      ...first,
      { type: 'Nonce', data: Nr },
      ...(share === undefined ? [] : [{ type: 'KE', group: KE[share.group].ikev2, data: share.publicValue } as const]),
      ...selectors,
    ],
  };
}

/** A responder's child, on its way into the datapath, and what says so to the peer. */
export function makeChild(
  sa: IkeSa,
  choice: ChildChoice,
  spi: number,
  Ni: Uint8Array,
  Nr: Uint8Array,
  g_ir: Secret | undefined,
  holdMs: number,
) {
  const { policy, mode, proposal, ipsec, TSi, TSr, additional } = choice;
  const keys = childKeys(sa.prf, sa.keys.SK_d, childSuiteOf(proposal), Ni, Nr, g_ir?.reveal());
  const child = enter(sa, {
    policy,
    mode,
    proposal,
    ipsec,
    spiIn: spi,
    spiOut: spiOf(proposal.spi),
    local: TSr,
    peer: TSi,
    inbound: keys.fromInitiator,
    outbound: keys.fromResponder,
    initiator: false,
    nonces: { Ni, Nr },
  });
  install(child, holdMs);
  const payloads: Payload[] = [
    ...modePayloads(mode),
    ...(additional ? [notify('ADDITIONAL_TS_POSSIBLE')] : []),
    { type: 'SA', proposals: [{ ...proposal, spi: spiBytes(spi) }] },
    { type: 'TSi', selectors: TSi },
    { type: 'TSr', selectors: TSr },
  ];
  return { child, payloads };
}

function enter(sa: IkeSa, agreed: ChildAgreement): ChildSa {
  // AH covers the addresses that a NAT changes, and is never in UDP (RFC 3948 §1).
  const encapsulated = sa.nat !== 'none' && sa.path.encapsulated && agreed.proposal.protocol === 'esp';
  const child = new ChildSa(agreed, sa, encapsulated, sa.host.now.mono, sa.host.random(1)[0]! / 255);
  sa.children.push(child);
  sa.timers.clear('grace');
  return child;
}

/** `holdMs`: how long the outbound SA is held back; `'none'`: it is never installed. */
function install(child: ChildSa, holdMs: number | 'none'): void {
  if (holdMs !== 0 && holdMs !== 'none') {
    child.outboundState = 'held';
    child.outboundAt = child.ike.host.now.mono + holdMs;
  }
  child.ike.host.install(child, holdMs === 0);
}

/** The notification in place of a child. */
export function refusedChild(error: PeerError): Payload {
  return notify(isNotifyName(error.notify) ? error.notify : 'NO_PROPOSAL_CHOSEN', error.data);
}

// The initiator again.

/** What the response to our request for a child says: the child, or why there is none. Used by IKE_AUTH as well. Throws PeerError. */
export function readChild(
  sa: IkeSa,
  sent: { readonly offer: ChildOffer; readonly spi: number; readonly demand: Demand | undefined },
  payloads: readonly Payload[],
  Ni: Uint8Array,
  Nr: Uint8Array,
  g_ir: Secret | undefined,
  outbound: 'now' | 'none' = 'now',
): ChildSa | undefined {
  const { offer, spi, demand } = sent;
  const SA = find(payloads, 'SA');
  const error = findError(payloads);
  if (SA === undefined || error !== undefined) {
    sa.host.releaseSpi(spi);
    const why = error === undefined ? 'the response holds no SA payload' : explainNotify(error, whatWeSent(offer));
    const single = error !== undefined && notifyName(error.notify) === 'SINGLE_PAIR_REQUIRED';
    if (demand !== undefined && !(single && askSinglePair(sa, demand))) abandonChild(sa, { kind: 'create-child', demand }, why);
    return undefined;
  }
  const proposal = chosenOf(offer.proposals, SA.proposals);
  if (spiOf(proposal.spi) < 256)
    throw new PeerError('INVALID_SYNTAX', `the peer chose SPI ${showSpi(spiOf(proposal.spi))}, which is reserved`);
  const said = modeSaid(payloads, offer.policy);
  const answer = { TSi: find(payloads, 'TSi')!.selectors, TSr: find(payloads, 'TSr')!.selectors };
  const seen = { TSi: perceived(sa, 'here', answer.TSi), TSr: perceived(sa, 'there', answer.TSr) };
  const { TSi, TSr } = checkNarrowed(offer, said === 'transport' ? seen : answer);
  const mode = answeredMode(sa, offer, said);
  const keys = childKeys(sa.prf, sa.keys.SK_d, childSuiteOf(proposal), Ni, Nr, g_ir?.reveal());
  const child = enter(sa, {
    policy: offer.policy,
    mode,
    proposal,
    ipsec: paddedAs(payloads, ipsecOf(proposal, offer)),
    spiIn: spi,
    spiOut: spiOf(proposal.spi),
    local: TSi,
    peer: TSr,
    inbound: keys.fromResponder,
    outbound: keys.fromInitiator,
    initiator: true,
    nonces: { Ni, Nr },
  });
  install(child, outbound === 'now' ? 0 : outbound);
  if (findNotify(payloads, 'ADDITIONAL_TS_POSSIBLE') !== undefined) {
    sa.report(
      'notify-received',
      `the peer narrowed ${offer.policy.name} to ${TSi.map(showSelector).join(', ')} and ${TSr.map(showSelector).join(', ')}, and would accept more in further child SAs`,
      { notify: 'ADDITIONAL_TS_POSSIBLE' },
    );
  }
  if (demand !== undefined) conclude(sa, demand, child);
  return child;
}

/** A child that does not cover the packet that asked for it is of no use to it: asking again waits for a pause, and a second of the kind goes. */
function conclude(sa: IkeSa, demand: Demand, child: ChildSa): void {
  const { local, peer } = child.agreed;
  if (demand.packet === undefined || covers(demand.packet, { TSi: local, TSr: peer })) return sa.host.satisfied(demand, child);
  const show = (some: readonly TrafficSelector[]) => some.map(showSelector).join(', ');
  const { TSi, TSr } = demand.packet;
  const why = `the peer narrowed it to ${show(local)} and ${show(peer)}, which leaves out the packet from ${show(TSi)} to ${show(TSr)}: correct src and dst on one side`;
  sa.report('child-sa-failed', `child SA for ${demand.policy.name}: ${why}`, { child: demand.policy.name });
  sa.host.failed(demand, why);
  if (!twinsOf(child).some((twin) => twin.usable)) return;
  child.superseded = true;
  sa.add({ kind: 'delete-child', children: [child] });
}

/** SINGLE_PAIR_REQUIRED: the same for the one pair of addresses that has traffic. False where there is none, or that was asked for already. */
function askSinglePair(sa: IkeSa, demand: Demand): boolean {
  if (demand.singlePair || singlePair({ TSi: demand.policy.local, TSr: demand.policy.peer }, demand) === undefined) return false;
  sa.tasks.unshift({ kind: 'create-child', demand: { ...demand, singlePair: true } });
  return true;
}

function answeredMode(sa: IkeSa, { mode, policy }: ChildOffer, said: Mode): Mode {
  if (said === 'transport' && mode !== 'transport')
    throw new PeerError('INVALID_SYNTAX', 'the peer answered USE_TRANSPORT_MODE, which we had not sent');
  if (mode !== said && (mode === 'beet' || sa.peer!.ikev2.selectorCheck === 'exact')) {
    const obey = mode === 'beet' ? '' : ', or set selector_check obey';
    throw new PeerError(
      'NO_PROPOSAL_CHOSEN',
      `the peer grants ${said} mode where policy ${policy.policy.name} says ${mode}: correct ipsec_mode on one side${obey}`,
    );
  }
  return said;
}

function whatWeSent({ proposals, TSi, TSr, mode }: ChildOffer): string {
  return `${proposalsText(proposals)} for ${TSi.map(showSelector).join(', ')} to ${TSr.map(showSelector).join(', ')} in ${mode} mode`;
}

export function concludeChild(sa: IkeSa, sent: ChildSent, { payloads }: Message): void {
  const { share, old, task } = sent;
  const error = findError(payloads);
  if (error !== undefined) {
    share?.wipe();
    sa.host.releaseSpi(sent.spi);
    return refusedByPeer(sa, sent, error);
  }
  sa.failingSince = undefined;
  const KEr = find(payloads, 'KE');
  if ((share === undefined) !== (KEr === undefined) || (share !== undefined && KEr?.group !== KE[share.group].ikev2)) {
    throw new PeerError(
      'INVALID_SYNTAX',
      `${KEr === undefined ? 'no KE' : `KE of group ${KEr.group}`} in the response where we had sent ${share === undefined ? 'none' : keText(share.group)}`,
    );
  }
  const g_ir = share?.agree(KEr!.data);
  share?.wipe();
  const Nr = find(payloads, 'Nonce')!.data;
  if (task.kind === 'rekey-child' && old !== undefined) {
    concludeRekeyed(sa, old, { Ni: sent.Ni, Nr }, (outbound) => readChild(sa, sent, payloads, sent.Ni, Nr, g_ir, outbound));
  } else readChild(sa, sent, payloads, sent.Ni, Nr, g_ir);
  g_ir?.wipe();
  // The peer's DELETE has overtaken its response: it has neither this child nor what this was to replace.
  const deleted = sa.children.filter((child) => child.spiIn === sent.spi && sent.deleted.includes(child.spiOut));
  if (deleted.length > 0) sa.add({ kind: 'delete-child', children: old?.state === 'replaced' ? [...deleted, old] : deleted });
}

/** The error notifications of CREATE_CHILD_SA, each with what the RFC wants done about it. */
function refusedByPeer(sa: IkeSa, { task, demand, offer, share }: ChildSent, error: PayloadOf<'Notify'>): void {
  const why = explainNotify(error, whatWeSent(offer));
  switch (notifyName(error.notify)) {
    case 'TEMPORARY_FAILURE':
      return retryLater(sa, task, why);
    case 'CHILD_SA_NOT_FOUND':
      if (task.kind === 'rekey-child') return createAnew(sa, task.child);
      break;
    case 'INVALID_KE_PAYLOAD': {
      const group = keByIkev2(notifyNumber(error));
      const tries = task.tries ?? 0;
      if (group !== undefined && group !== share?.group && tries < 2 && sa.peer!.ikev2.ke.includes(group)) {
        sa.tasks.unshift({ ...task, group, tries: tries + 1 });
        return;
      }
      break;
    }
    case 'SINGLE_PAIR_REQUIRED':
      if (demand !== undefined && askSinglePair(sa, demand)) return;
      break;
    case 'NO_ADDITIONAL_SAS':
      // §1.3: a peer that rekeys nothing within the IKE SA wants a new IKE SA instead.
      sa.full = true;
      if (task.kind === 'create-child') return sa.host.demandElsewhere(task.demand);
      break;
    default:
  }
  abandonChild(sa, task, why);
}
