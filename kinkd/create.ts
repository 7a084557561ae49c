/**
 * CREATE, both roles, RFC 4430 §3.2, §6.3, §7. Two messages where the responder takes the first transform of the first proposal, whose inbound SA
 * the initiator has then installed already; three where it chooses otherwise, adds Nr, or keys are exchanged: then it sends on its own SA only after ACK.
 */

import { NONE } from '../src/bytes/bytes.ts';
import { Secret } from '../src/bytes/secret.ts';
import { generate } from '../src/crypto/dh.ts';
import { PeerError } from '../src/errors.ts';
import { sameSelector, showSelector } from '../src/ipsec/selector.ts';
import { clientSelectors, idOf } from '../src/isakmp/client-ids.ts';
import { isErrorNotify, NOTIFY, notifyName } from '../src/isakmp/doi.ts';
import { all, find, type Payload } from '../src/isakmp/payloads.ts';
import {
  answerOffer,
  buildOffer,
  canOffer,
  concludeOffer,
  firstOf,
  responderLifetime,
  withResponderLifetime,
} from '../src/isakmp/quick-mode.ts';
import type { ChosenSa } from '../src/isakmp/terms.ts';
import type { Agreement } from '../src/keying/sa-pair.ts';
import { type KeysOf, type PolicyChoice, sasOf } from '../src/keying/terms.ts';
import type { Answer } from './answer.ts';
import type { Association } from './association.ts';
import { clientsOf, countsIvs, type Grant, grantOf, termsOf, within } from './grant.ts';
import { kinkKeys } from './keys.ts';
import type { EncryptionKey } from './krb5/enctypes.ts';
import { KinkPair } from './pair.ts';
import type { CreateOffer, CreateWork, Transaction } from './transaction.ts';

/** SAs that one CREATE may ask for. */
const MOST_OPERATIONS = 8;

// The initiator.

/** The offer for a demand under the policy in force: SA, Ni, [KE], IDci, IDcr. A string says why there is none. */
export function offerCreate(
  association: Association,
  work: CreateWork,
  path: Transaction['path'],
  spi: number,
): CreateOffer | string {
  const { host, peer } = association;
  const policy = host.peers.child(work.demand.policy.name);
  if (policy === undefined || policy.remote !== peer.name) return 'its selector is no longer configured';
  const group = peer.kink.needPfs ? peer.kink.groups[0] : undefined;
  if (peer.kink.needPfs && group === undefined) return 'need_pfs is on, but kmp_dh_group names no group';
  const terms = termsOf(association, policy, group);
  if (!canOffer(terms)) return `policy ${policy.policy.name} has no SAs that KINK has numbers for the algorithms of`;
  const { packet } = work.demand;
  const ends = host.pathOfPair(policy, policy.policy.mode, path);
  const clients = clientsOf(policy, ends, packet && { IDci: packet.TSi[0]!, IDcr: packet.TSr[0]! });
  if (clients === undefined) return `its src and dst do not lead from ${ends.local.address} to ${ends.remote.address}`;
  const share = group === undefined ? undefined : generate(group, host.random, host.engine);
  const Ni_b = host.random(peer.kink.nonceBytes);
  const spis = host.spisWith(spi);
  const payloads: Payload[] = [
    buildOffer(terms, spis),
    { type: 'Nonce', data: Ni_b },
    ...(share === undefined ? [] : [{ type: 'KE', data: share.publicValue } as const]),
    idOf(clients.IDci),
    idOf(clients.IDcr),
  ];
  return { generation: host.generation, terms, spi, spis, payloads, Ni_b, share };
}

/** The pair as far as it is known before the REPLY: our inbound SA by the first transform of the first proposal, keyed with Ni alone (§3.2). */
export function optimisticPair({ association, path, work, credential }: Transaction, offer: CreateOffer): KinkPair {
  const { terms, payloads, spis, Ni_b } = offer;
  const SA = find(payloads, 'SA')!;
  const chosen = concludeOffer(terms, firstOf(SA));
  // The peer's SPIs are still to come.
  const choice = { ...chosen, sas: chosen.sas.map((sa) => ({ ...sa, spi: 0 })) };
  const inbound = kinkKeys(credential!.key, association.peer.kink.prf, { Ni_b });
  const outbound = () => ({ encr: new Secret(NONE), integ: undefined });
  const agreed = {
    ...sides(association, path, work as CreateWork, payloads),
    ...sasOf(choice, spis, inbound, outbound),
    mode: choice.mode,
    initiator: true,
  };
  return new KinkPair(association, agreed, choice, path);
}

/** What an initiator's pair is about, by the IDs that it sent. */
function sides(
  { host }: Association,
  { local, remote }: Transaction['path'],
  { demand }: CreateWork,
  payloads: readonly Payload[],
): Pick<Agreement, 'policy' | 'local' | 'peer'> {
  const policy = host.peers.child(demand.policy.name) ?? demand.policy;
  const { IDci, IDcr } = clientSelectors(payloads, local.address, remote.address);
  return { policy, local: within(policy.local, IDci), peer: within(policy.peer, IDcr) };
}

/** What a REPLY to CREATE comes to. Throws PeerError where it refuses, or is not to be accepted. */
export interface Concluded {
  readonly pair: KinkPair;
  /** The inbound SA that was installed before is the one agreed on. */
  readonly asOffered: boolean;
}

export function concludeCreate(transaction: Transaction, offer: CreateOffer, reply: readonly Payload[]): Concluded {
  const { association, path, credential } = transaction;
  const work = transaction.work as CreateWork;
  const SA = find(reply, 'SA');
  if (SA === undefined) throw refusalOf(reply);
  // Lifetimes may only be lowered (§3.2); everything else must be as it was offered.
  const choice = withResponderLifetime(concludeOffer({ ...offer.terms, check: 'strict' }, SA), reply);
  checkIds(offer.payloads, reply, path);
  const { share, Ni_b, spis } = offer;
  const KEr = find(reply, 'KE')?.data;
  if ((share === undefined) !== (KEr === undefined))
    throw new PeerError(
      'PAYLOAD-MALFORMED',
      share === undefined ? 'KE came, but we sent none' : 'KE is missing, though we sent it',
    );
  const Nr_b = find(reply, 'Nonce')?.data;
  const g_qm_xy = share?.agree(KEr!);
  const { optimistic } = work;
  const same = optimistic !== undefined && Nr_b === undefined && sameSuite(optimistic.choice, choice);
  const keys = kinkKeys(credential!.key, association.peer.kink.prf, { g_qm_xy: g_qm_xy?.reveal(), Ni_b, Nr_b });
  // What is installed already keeps its keys.
  const known: KeysOf = (protocol) => optimistic!.sas.find((sa) => sa.protocol === protocol)!.inbound;
  const agreed = {
    ...sides(association, path, work, offer.payloads),
    ...sasOf(choice, spis, same ? known : keys, keys),
    mode: choice.mode,
    initiator: true,
  };
  share?.wipe();
  g_qm_xy?.wipe();
  return { pair: new KinkPair(association, agreed, choice, path, work.replaces), asOffered: same };
}

function sameSuite(a: PolicyChoice, b: PolicyChoice): boolean {
  const same = (one: ChosenSa, other: ChosenSa | undefined) =>
    one.protocol === other?.protocol &&
    one.suite.encr === other.suite.encr &&
    one.suite.keyBits === other.suite.keyBits &&
    one.suite.integ === other.suite.integ;
  return a.mode === b.mode && a.sas.length === b.sas.length && a.sas.every((sa, i) => same(sa, b.sas[i]));
}

/** IDs come back as they went (RFC 2409 §5.5), or not at all. */
function checkIds(sent: readonly Payload[], reply: readonly Payload[], { local, remote }: Transaction['path']): void {
  if (all(reply, 'ID').length === 0) return;
  const ours = clientSelectors(sent, local.address, remote.address);
  const theirs = clientSelectors(reply, local.address, remote.address);
  if (sameSelector(ours.IDci, theirs.IDci) && sameSelector(ours.IDcr, theirs.IDcr)) return;
  throw new PeerError(
    'PAYLOAD-MALFORMED',
    `IDs came back as ${showSelector(theirs.IDci)} and ${showSelector(theirs.IDcr)}, not as ${showSelector(ours.IDci)} and ${showSelector(ours.IDcr)}`,
  );
}

/** RFC 4430 §5.5: an error notify says that the request has failed entirely, known or not. */
export function refusalOf(reply: readonly Payload[]): PeerError {
  const error = all(reply, 'Notify').find(({ notify }) => isErrorNotify(notify));
  if (error === undefined) return new PeerError('PAYLOAD-MALFORMED', 'the peer answered without SA and without a reason');
  const name = notifyName(error.notify);
  const [type] = error.data;
  const meaning =
    error.notify === NOTIFY['INVALID-PAYLOAD-TYPE']
      ? type === 4
        ? 'it takes no KE payload as we sent it: compare need_pfs and kmp_dh_group on both sides'
        : `it does not know payload type ${type ?? '?'}`
      : MEANINGS[error.notify];
  return new PeerError(name, `the peer refused with ${name}${meaning === undefined ? '' : `: ${meaning}`}`);
}

const MEANINGS: Readonly<Record<number, string>> = {
  [NOTIFY['INVALID-SPI']]: 'it does not have, or already has, an SA of this SPI',
  [NOTIFY['NO-PROPOSAL-CHOSEN']]:
    'compare esp_enc_alg, esp_auth_alg, ipsec_mode, need_pfs and lifetimes on both sides; its log says more',
  [NOTIFY['PAYLOAD-MALFORMED']]: 'it found our selectors or payloads unacceptable; its log says why',
};

// The responder.

/** What is granted of a CREATE, one grant a KINK_ISAKMP: all or nothing. Throws PeerError. */
export function planCreate(answer: Answer, operations: readonly (readonly Payload[])[]): readonly Grant[] {
  const { association, path } = answer;
  if (operations.length > MOST_OPERATIONS)
    throw new PeerError(
      'PAYLOAD-MALFORMED',
      `${operations.length} SA operations in one CREATE, at most ${MOST_OPERATIONS} are taken`,
    );
  checkRoom(association, operations.length);
  const grants = operations.map((payloads) => grantOf(association, path, payloads));
  for (const [i, { choice }] of grants.entries()) {
    const before = grants.slice(0, i).flatMap((other) => other.choice.sas);
    for (const sa of choice.sas) {
      const twice = before.some(({ protocol, spi }) => protocol === sa.protocol && spi === sa.spi);
      if (twice || association.outbound(sa) !== undefined)
        throw new PeerError('INVALID-SPI', `SPI ${sa.spi.toString(16)} is that of an SA with this peer already`);
    }
  }
  return grants;
}

/** `child_sas_per_ike_sa` bounds what one principal can have here; a rekey finds room beside the old. */
function checkRoom(association: Association, more: number): void {
  const { host, pairs } = association;
  const most = 2 * host.peers.config.interface.limits.childSasPerIkeSa;
  if (pairs.length + more <= most) return;
  const why = `there are ${pairs.length} pairs of SAs with it, twice the limit of child_sas_per_ike_sa`;
  association.report('limit-reached', `CREATE is refused: ${why}`, { limit: 'child_sas_per_ike_sa' });
  throw new PeerError('NO-PROPOSAL-CHOSEN', why);
}

/** What a responder made of its grants, before anything has changed. */
export interface Created {
  readonly pairs: readonly KinkPair[];
  /** One KINK_ISAKMP each. */
  readonly operations: readonly (readonly Payload[])[];
  /** Three messages: the outbound SAs wait for ACK. */
  readonly threeWay: boolean;
}

/**
 * Keys and answers, given an SPI for each grant. Only this computes what takes time, long after AP-REQ and Cksum were found right. Throws PeerError
 * where a KE payload leads to no secret.
 */
export function makeCreate(answer: Answer, grants: readonly Grant[], spis: readonly number[], key: EncryptionKey): Created {
  const { association } = answer;
  const { host, peer } = association;
  const asks = grants.some((grant) => !grant.optimistic || grant.KEi !== undefined || wantsNonce(association, grant));
  const made = grants.map((grant, i) => {
    const nonce = asks && peer.kink.responderNonce !== 'never' ? host.random(peer.kink.nonceBytes) : undefined;
    return makeOne(answer, grant, spis[i]!, key, nonce);
  });
  return { pairs: made.map(({ pair }) => pair), operations: made.map(({ payloads }) => payloads), threeWay: asks };
}

/** Whether Nr is needed for the responder's own sake: see `countsIvs`; and while the replay cache cannot vouch for its whole window. */
function wantsNonce({ host, peer }: Association, { choice }: Grant): boolean {
  switch (peer.kink.responderNonce) {
    case 'always':
      return true;
    case 'never':
      return false;
    default:
      return countsIvs(choice) || !host.replays.complete;
  }
}

function makeOne(answer: Answer, grant: Grant, spi: number, key: EncryptionKey, Nr_b: Uint8Array | undefined) {
  const { association, path } = answer;
  const { host, peer } = association;
  const { policy, choice, KEi, Ni_b } = grant;
  const share = KEi === undefined ? undefined : generate(choice.group!, host.random, host.engine);
  const g_qm_xy = share?.agree(KEi!);
  const spis = host.spisWith(spi);
  const agreed = {
    policy,
    mode: choice.mode,
    local: grant.local,
    peer: grant.peer,
    ...sasOf(choice, spis, kinkKeys(key, peer.kink.prf, { g_qm_xy: g_qm_xy?.reveal(), Ni_b, Nr_b })),
    initiator: false,
  };
  share?.wipe();
  g_qm_xy?.wipe();
  const payloads: Payload[] = [
    answerOffer(choice, spis),
    ...(Nr_b === undefined ? [] : [{ type: 'Nonce', data: Nr_b } as const]),
    ...(share === undefined ? [] : [{ type: 'KE', data: share.publicValue } as const]),
    ...grant.ids,
    ...(choice.shortened ? [responderLifetime(choice, spis)] : []),
  ];
  return { pair: new KinkPair(association, agreed, choice, path), payloads };
}
