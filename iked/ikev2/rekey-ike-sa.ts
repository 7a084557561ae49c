/** CREATE_CHILD_SA that rekeys the IKE SA, both roles, and the inheritance of its children (RFC 7296 §1.3.2, §2.8, §2.8.2, §2.18). */

import { u16be } from '../../src/bytes/bytes.ts';
import { checkPublicValue, generate, type KeyShare } from '../../src/crypto/dh.ts';
import { KE, type KeName, keByIkev2, keText } from '../../src/crypto/transforms.ts';
import { PeerError } from '../../src/errors.ts';
import { choose, type Proposal } from '../../src/ipsec/proposal.ts';
import { checkIkeSaRekeyable, oursIsRedundant } from './collisions.ts';
import type { Committed, Requested } from './exchanges.ts';
import { IkeSa, type Task } from './ike-sa.ts';
import { chosenOf, ikeProposals } from './ike-sa-init.ts';
import { type IkeSuite, ikeKeys, ikeSuiteOf, rekeyedSkeyseed } from './keys.ts';
import { proposalsText } from './ladder.ts';
import { EXCHANGE, find, type Message, type OpenedMessage } from './message.ts';
import { explainNotify, findError, notifyName, notifyNumber } from './notify.ts';
import { retryLater } from './rekey-child.ts';

/** A replaced IKE SA whose peer never sends its DELETE is forgotten after this. Milliseconds. */
const LINGER_MS = 60_000;
/** The same for the redundant one of two: a peer that has forgotten its own rekey never deletes it. Milliseconds. */
const REDUNDANT_MS = 20_000;

type RekeyTask = Task & { readonly kind: 'rekey-ike' };

export interface RekeyIkeSent {
  readonly for: 'ike';
  readonly task: RekeyTask;
  readonly Ni: Uint8Array;
  readonly share: KeyShare;
  readonly spi: Uint8Array;
  readonly proposals: readonly Proposal[];
}

export interface RekeyIkePlan {
  readonly for: 'ike';
  readonly proposal: Proposal;
  readonly suite: IkeSuite;
}

/** HDR, SK {SA, Ni, KEi}. */
export function requestRekeyIke(sa: IkeSa, task: RekeyTask): Requested {
  const { host } = sa;
  const { ikev2 } = sa.peer!;
  const group = task.group ?? (ikev2.ke.includes(sa.suite!.ke) ? sa.suite!.ke : ikev2.ke[0]!);
  const spi = host.newSpi();
  const share = generate(group, host.random, host.engine);
  const Ni = host.random(ikev2.nonceBytes);
  const proposals = ikeProposals(ikev2, spi, group);
  return {
    exchange: EXCHANGE.CREATE_CHILD_SA,
    payloads: [
      { type: 'SA', proposals },
      { type: 'Nonce', data: Ni },
      { type: 'KE', group: KE[group].ikev2, data: share.publicValue },
    ],
    sent: { for: 'ike', task, Ni, share, spi, proposals },
  };
}

export function planRekeyIke(sa: IkeSa, { payloads }: OpenedMessage): RekeyIkePlan {
  checkIkeSaRekeyable(sa);
  checkRoom(sa);
  const { ikev2, name } = sa.peer!;
  const offered = find(payloads, 'SA')!.proposals;
  const ours = ikeProposals(ikev2, new Uint8Array(8), sa.suite!.ke);
  const proposal = choose(ours, offered);
  if (proposal === undefined) {
    throw new PeerError(
      'NO_PROPOSAL_CHOSEN',
      `to rekey the IKE SA the peer offered ${proposalsText(offered)}; remote ${name} accepts ${proposalsText(ours)}`,
    );
  }
  checkSpi(proposal);
  const suite = ikeSuiteOf(proposal);
  const KEi = find(payloads, 'KE')!;
  if (KEi.group !== KE[suite.ke].ikev2) {
    throw new PeerError(
      'INVALID_KE_PAYLOAD',
      `the peer sent group ${KEi.group}; we want ${keText(suite.ke)}`,
      u16be(KE[suite.ke].ikev2),
    );
  }
  const invalid = checkPublicValue(suite.ke, KEi.data);
  if (invalid !== undefined) throw new PeerError('INVALID_SYNTAX', `KE payload: ${invalid}`);
  return { for: 'ike', proposal, suite };
}

/** `ike_sas`, and as many again that are replaced and not deleted yet: a peer that rekeys without end gets no further. */
function checkRoom(sa: IkeSa): void {
  const { table, peers } = sa.host;
  if (table.size < 2 * peers.config.interface.limits.ikeSas) return;
  const why = `there are ${table.size} IKE SAs, twice the limit of ike_sas`;
  sa.report('limit-reached', `a rekey of the IKE SA is put off: ${why}`, { limit: 'ike_sas' });
  throw new PeerError('TEMPORARY_FAILURE', why);
}

function checkSpi({ spi }: Proposal): void {
  if (spi.length !== 8 || spi.every((octet) => octet === 0))
    throw new PeerError('INVALID_SYNTAX', 'the SPI of a new IKE SA has 8 octets and is not zero');
}

/** HDR, SK {SA, Nr, KEr}. */
export function commitRekeyIke(sa: IkeSa, { payloads }: OpenedMessage, { proposal, suite }: RekeyIkePlan): Committed {
  const { host } = sa;
  const Ni = find(payloads, 'Nonce')!.data;
  const share = generate(suite.ke, host.random, host.engine);
  const g_ir = share.agree(find(payloads, 'KE')!.data);
  const Nr = host.random(sa.peer!.ikev2.nonceBytes);
  const SPIr = host.newSpi();
  const fresh = successorOf(sa, { originalInitiator: false, suite, SPIi: proposal.spi, SPIr, Ni, Nr, g_ir: g_ir.reveal() });
  share.wipe();
  g_ir.wipe();
  if (sa.busy('rekey-ike')) sa.successor = { sa: fresh, Ni, Nr };
  else inherit(sa, fresh);
  return {
    payloads: [
      { type: 'SA', proposals: [{ ...proposal, spi: SPIr }] },
      { type: 'Nonce', data: Nr },
      { type: 'KE', group: KE[suite.ke].ikev2, data: share.publicValue },
    ],
  };
}

interface Fresh {
  readonly originalInitiator: boolean;
  readonly suite: IkeSuite;
  readonly SPIi: Uint8Array;
  readonly SPIr: Uint8Array;
  readonly Ni: Uint8Array;
  readonly Nr: Uint8Array;
  readonly g_ir: Uint8Array;
}

/** §2.18: SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr); Message IDs begin at 0; the exchange's initiator is the new original initiator. */
function successorOf(sa: IkeSa, { originalInitiator, suite, SPIi, SPIr, Ni, Nr, g_ir }: Fresh): IkeSa {
  const SKEYSEED = rekeyedSkeyseed(sa.prf, sa.keys.SK_d, Ni, Nr, g_ir);
  const keys = ikeKeys(suite, SKEYSEED, Ni, Nr, SPIi, SPIr);
  SKEYSEED.wipe();
  const fresh = new IkeSa(sa.host, {
    originalInitiator,
    SPIi,
    SPIr,
    path: sa.path,
    state: { name: 'established' },
    ...(sa.peer === undefined ? {} : { peer: sa.peer }),
  });
  fresh.nat = sa.nat;
  fresh.natTraversal = sa.natTraversal;
  fresh.myId = sa.myId;
  fresh.peerId = sa.peerId;
  fresh.setKeys(suite, keys);
  fresh.establish();
  fresh.authenticatedAt = sa.authenticatedAt;
  fresh.nonces = sa.nonces;
  fresh.begunByUs = sa.begunByUs;
  sa.host.table.add(fresh);
  return fresh;
}

/** The children and all that waits go over to the new IKE SA; the old one is left with its DELETE. */
export function inherit(old: IkeSa, fresh: IkeSa): void {
  for (const child of old.children.splice(0)) {
    child.ike = fresh;
    fresh.children.push(child);
  }
  if (fresh.children.length > 0) fresh.timers.clear('grace');
  const moved = old.tasks.filter(({ kind }) => kind !== 'rekey-ike' && kind !== 'liveness' && kind !== 'delete-ike');
  old.tasks = old.tasks.filter(({ kind }) => kind === 'delete-ike');
  fresh.tasks.push(...moved);
  if (old.preparing !== undefined) fresh.tasks.push(old.preparing);
  old.preparing = undefined;
  old.successor = undefined;
  // The DELETE of a redundant one may have been waiting for this very rekey: it is for what replaces it then.
  fresh.redundant ||= old.redundant;
  if (fresh.redundant) fresh.timers.set('yield', old.timers.at('yield') ?? old.host.now.mono);
  old.state = { name: 'rekeyed' };
  for (const name of ['rekey', 'expire', 'liveness', 'grace', 'yield'] as const) old.timers.clear(name);
  old.timers.set('linger', old.host.now.mono + LINGER_MS);
  if (old.nat === 'here' || old.nat === 'both') fresh.timers.set('keepalive', old.timers.at('keepalive') ?? old.host.now.mono);
  old.timers.clear('keepalive');
  fresh.report(
    'ike-sa-rekeyed',
    `IKE SA ${fresh.name} replaces ${old.name} with ${fresh.children.length} child SAs: ${fresh.suiteText}`,
    {
      replaces: old.name,
      suite: fresh.suiteText,
    },
  );
  fresh.hook('phase1_rekey');
}

export function concludeRekeyIke(sa: IkeSa, sent: RekeyIkeSent, { payloads }: Message): void {
  const { share, Ni, proposals, task } = sent;
  const { successor } = sa;
  const error = findError(payloads);
  if (error !== undefined) {
    share.wipe();
    // §2.8.2: the peer did not notice that both rekey; it is closing the old SA, and its own new one stays.
    if (successor !== undefined) return inherit(sa, successor.sa);
    const why = explainNotify(error, proposalsText(proposals));
    const group = notifyName(error.notify) === 'INVALID_KE_PAYLOAD' ? keByIkev2(notifyNumber(error)) : undefined;
    if (notifyName(error.notify) === 'TEMPORARY_FAILURE') return retryLater(sa, task, why);
    if (mayTry(sa, task, group, share.group)) {
      sa.tasks.unshift({ ...task, group, tries: (task.tries ?? 0) + 1 });
      return;
    }
    sa.report('ike-sa-failed', `IKE SA ${sa.name} was not rekeyed: ${why}`);
    return;
  }
  sa.failingSince = undefined;
  const proposal = chosenOf(proposals, find(payloads, 'SA')!.proposals);
  checkSpi(proposal);
  const suite = ikeSuiteOf(proposal);
  const KEr = find(payloads, 'KE')!;
  if (suite.ke !== share.group || KEr.group !== KE[suite.ke].ikev2)
    throw new PeerError('INVALID_SYNTAX', `KE of group ${KEr.group} where we had sent ${keText(share.group)}`);
  const g_ir = share.agree(KEr.data);
  const Nr = find(payloads, 'Nonce')!.data;
  const fresh = successorOf(sa, {
    originalInitiator: true,
    suite,
    SPIi: sent.spi,
    SPIr: proposal.spi,
    Ni,
    Nr,
    g_ir: g_ir.reveal(),
  });
  share.wipe();
  g_ir.wipe();
  if (successor === undefined) {
    inherit(sa, fresh);
    sa.add({ kind: 'delete-ike', why: `${fresh.name} replaces it` });
  } else if (oursIsRedundant({ Ni, Nr }, successor)) {
    // The lowest nonce is in our exchange: we close what we created; the peer closes the old SA.
    inherit(sa, successor.sa);
    fresh.state = { name: 'rekeyed' };
    fresh.add({ kind: 'delete-ike', why: 'both ends rekeyed at once and the other new SA stays' });
  } else {
    inherit(sa, fresh);
    sa.add({ kind: 'delete-ike', why: `${fresh.name} replaces it` });
    successor.sa.state = { name: 'rekeyed' };
    successor.sa.timers.set('linger', sa.host.now.mono + REDUNDANT_MS);
  }
}

function mayTry(sa: IkeSa, task: RekeyTask, group: KeName | undefined, sent: KeName): group is KeName {
  return group !== undefined && group !== sent && (task.tries ?? 0) < 2 && sa.peer!.ikev2.ke.includes(group);
}
