/** IKE_AUTH with pre-shared keys, both roles, and the first child SA in it (RFC 7296 §1.2, §2.15, §2.21.2, §2.4). */

import { AuthError, PeerError } from '../../src/errors.ts';
import type { IpAddress } from '../../src/net/address.ts';
import { type Identity, identityOfAddress, sameIdentity, showIdentity } from '../auth/identity.ts';
import { checkAuth, sharedKeyPayload } from '../auth/shared-key.ts';
import type { Demand } from '../host.ts';
import { type Peer, refuseIdentity } from '../peers.ts';
import { type ChildChoice, chooseChild } from './child-choice.ts';
import { type ChildOffer, makeChild, offerChild, type Rejected, readChild, refusedChild } from './create-child-sa.ts';
import { failIkeSa } from './endings.ts';
import type { Committed, Requested, SpiAsk } from './exchanges.ts';
import type { IkeSa, InitFacts } from './ike-sa.ts';
import { acceptsSuite } from './ike-sa-init.ts';
import { signedOctets } from './keys.ts';
import { EXCHANGE, find, type Message, type OpenedMessage } from './message.ts';
import { explainNotify, findError, findNotify, notify } from './notify.ts';
import { type Payload, type PayloadOf, payloadBody } from './payloads.ts';

/** See `overlaps`. Milliseconds. */
export const CONTACT_HOLD_MS = 500;

export interface AuthSent {
  readonly for: 'ike-auth';
  readonly demand: Demand;
  readonly offer: ChildOffer;
  /** Our SPI of the child. */
  readonly spi: number;
}

export interface AuthPlan {
  readonly for: 'ike-auth';
  readonly peer: Peer;
  readonly peerId: Identity;
  readonly myId: Identity;
  readonly child: ChildChoice | Rejected;
  readonly initialContact: boolean;
  readonly spi?: SpiAsk | undefined;
}

/** HDR, SK {IDi, [N(INITIAL_CONTACT)], [IDr], AUTH, [N(USE_TRANSPORT_MODE)], SAi2, TSi, TSr}. */
export function requestIkeAuth(sa: IkeSa, demand: Demand, spi: number): Requested {
  const peer = sa.peer!;
  const myId = peer.myId ?? identityOfAddress(sa.path.local.address);
  const IDi: PayloadOf<'IDi'> = { type: 'IDi', ...myId };
  const IDr = peer.ikev2.sendPeersId ? peer.peersId[0] : undefined;
  const offer = offerChild(sa, demand.policy, spi, 'never', { demand });
  const octets = ownOctets(sa, factsOf(sa), payloadBody(IDi));
  const AUTH = sharedKeyPayload(sa.prf, peer, octets);
  sa.myId = myId;
  const payloads: Payload[] = [
    IDi,
    ...(sa.host.isFirstContact(peer.name) ? [notify('INITIAL_CONTACT')] : []),
    ...(IDr === undefined ? [] : [{ type: 'IDr', ...IDr } as const]),
    AUTH,
    ...offer.payloads,
  ];
  return { exchange: EXCHANGE.IKE_AUTH, payloads, sent: { for: 'ike-auth', demand, offer, spi } };
}

function factsOf(sa: IkeSa): InitFacts {
  if (sa.state.name !== 'awaiting-ike-auth')
    throw new PeerError('INVALID_SYNTAX', 'IKE_AUTH in an IKE SA that is not waiting for it');
  return sa.state.facts;
}

/** What we sign: our own first message, the peer's nonce, our identity. */
function ownOctets(sa: IkeSa, { Ni, Nr, request, response }: InitFacts, idBody: Uint8Array): Uint8Array {
  const [real, nonce, SK_p] = sa.originalInitiator ? [request, Nr, sa.keys.SK_pi] : [response, Ni, sa.keys.SK_pr];
  return signedOctets(sa.prf, real, nonce, SK_p, idBody);
}

/** What the peer signs. */
function peerOctets(sa: IkeSa, { Ni, Nr, request, response }: InitFacts, idBody: Uint8Array): Uint8Array {
  const [real, nonce, SK_p] = sa.originalInitiator ? [response, Ni, sa.keys.SK_pr] : [request, Nr, sa.keys.SK_pi];
  return signedOctets(sa.prf, real, nonce, SK_p, idBody);
}

/** The responder: who is it, does it prove that, and may it have the child that it asks for. Changes nothing. */
export function planIkeAuth(sa: IkeSa, request: OpenedMessage): AuthPlan {
  const { payloads } = request;
  const IDi = find(payloads, 'IDi');
  const AUTH = find(payloads, 'AUTH');
  if (IDi === undefined || AUTH === undefined) {
    throw new AuthError('the peer wants to be authenticated by EAP (no AUTH in its first IKE_AUTH); remotes here accept psk');
  }
  const peerId: Identity = { idType: IDi.idType, data: IDi.data };
  const { peer, myId } = identify(sa, peerId, find(payloads, 'IDr'));
  checkAuth(sa.prf, peer, peerOctets(sa, factsOf(sa), payloadBody(IDi)), AUTH, showIdentity(peerId));
  const child = chooseOrReject(sa, peer, payloads);
  return {
    for: 'ike-auth',
    peer,
    peerId,
    myId,
    child,
    initialContact: findNotify(payloads, 'INITIAL_CONTACT') !== undefined,
    spi: 'error' in child ? undefined : { mode: child.mode, policy: child.policy },
  };
}

/** The remote, among those of the peer's address, whose `peers_id` it is, and which of our identities it means. */
function identify(sa: IkeSa, peerId: Identity, IDr: PayloadOf<'IDr'> | undefined): { peer: Peer; myId: Identity } {
  const { address } = sa.path.remote;
  const reasons: string[] = [];
  for (const peer of sa.host.peersAt(address)) {
    const myId = peer.myId ?? identityOfAddress(sa.path.local.address);
    const refusal =
      refuseIdentity(peer, peerId, address) ??
      refuseOwn(peer, myId, IDr) ??
      (acceptsSuite(peer, sa.suite!) ? undefined : `remote ${peer.name} does not accept the suite ${sa.suiteText}`);
    if (refusal === undefined) return { peer, myId };
    reasons.push(refusal);
  }
  throw new AuthError(reasons.join('; ') || `no remote serves ${address} any more`);
}

function refuseOwn(peer: Peer, myId: Identity, IDr: PayloadOf<'IDr'> | undefined): string | undefined {
  if (IDr === undefined || sameIdentity(myId, IDr)) return undefined;
  return `the peer wants to speak to ${showIdentity(IDr)}; my_id of remote ${peer.name} is ${showIdentity(myId)}: correct one of them`;
}

/** A child that cannot be had does not keep the IKE SA from being (§2.21.2). */
function chooseOrReject(sa: IkeSa, peer: Peer, payloads: readonly Payload[]): ChildChoice | Rejected {
  try {
    return chooseChild(sa, peer, payloads, 'never');
  } catch (error) {
    if (error instanceof PeerError) return { error };
    throw error;
  }
}

/** HDR, SK {IDr, AUTH, SAr2, TSi, TSr}, or an error notification in place of the child. */
export function commitIkeAuth(sa: IkeSa, _request: OpenedMessage, plan: AuthPlan, spi: number | undefined): Committed {
  const { peer, myId, peerId } = plan;
  const facts = factsOf(sa);
  const IDr: PayloadOf<'IDr'> = { type: 'IDr', ...myId };
  const AUTH = sharedKeyPayload(sa.prf, peer, ownOctets(sa, facts, payloadBody(IDr)));
  sa.peer = peer;
  sa.myId = myId;
  sa.peerId = peerId;
  const overlapping = plan.initialContact && overlaps(sa, plan.child);
  up(sa, plan.initialContact);
  const identity: Payload[] = [IDr, AUTH];
  const rejected = 'error' in plan.child ? plan.child : spi === undefined ? NO_SPI : undefined;
  if (rejected !== undefined || 'error' in plan.child || spi === undefined) {
    const error = (rejected ?? NO_SPI).error;
    sa.report('child-sa-failed', `no child SA for ${showIdentity(peerId)}: ${error.message}`, { notify: error.notify });
    return { payloads: [...identity, refusedChild(error)] };
  }
  const made = makeChild(sa, plan.child, spi, facts.Ni, facts.Nr, undefined, overlapping ? CONTACT_HOLD_MS : 0);
  return { payloads: [...identity, ...made.payloads], child: made.child };
}

/**
 * Whether the peer, which begins anew, still has a child of ours from before: its datapath may have outlived its daemon. Then we go on
 * sending on the old one until the peer has had time to install the new one, as in a rekey (§2.8).
 */
function overlaps(sa: IkeSa, choice: ChildChoice | Rejected): boolean {
  if ('error' in choice) return false;
  return sa.host.table.children().some((child) => child.policy.name === choice.policy.name && child.usable);
}

const NO_SPI: Rejected = { error: new PeerError('TEMPORARY_FAILURE', 'the datapath gave no SPI: is it running?') };

function up(sa: IkeSa, initialContact: boolean): void {
  sa.establish();
  const nat = sa.nat === 'none' ? '' : `, ${sa.path.encapsulated ? 'UDP encapsulation' : 'NAT'}`;
  sa.report(
    'ike-sa-up',
    `IKE SA with ${sa.peerName} is up: ${showIdentity(sa.myId!)} and ${showIdentity(sa.peerId!)}, ${sa.suiteText}${nat}`,
    {
      suite: sa.suiteText,
      role: sa.originalInitiator ? 'initiator' : 'responder',
    },
  );
  sa.hook('phase1_up');
  sa.host.established(sa, initialContact);
}

/** The initiator: is it whom we wanted, does it prove that, and what became of the child. */
export function concludeIkeAuth(sa: IkeSa, sent: AuthSent, { payloads }: Message): void {
  const peer = sa.peer!;
  const IDr = find(payloads, 'IDr');
  const AUTH = find(payloads, 'AUTH');
  const error = findError(payloads);
  if (AUTH === undefined || IDr === undefined) {
    sa.host.releaseSpi(sent.spi);
    const told = error === undefined ? 'the peer answered IKE_AUTH without AUTH' : explainNotify(error, whatWeSent(sa));
    sa.host.failed(sent.demand, told);
    return failIkeSa(sa, told);
  }
  const peerId: Identity = { idType: IDr.idType, data: IDr.data };
  const refusal = refuseIdentity(peer, peerId, addressOf(sa));
  if (refusal !== undefined) throw new AuthError(refusal);
  checkAuth(sa.prf, peer, peerOctets(sa, factsOf(sa), payloadBody(IDr)), AUTH, showIdentity(peerId));
  const { Ni, Nr } = factsOf(sa);

  sa.peerId = peerId;
  up(sa, findNotify(payloads, 'INITIAL_CONTACT') !== undefined);
  readChild(sa, sent, payloads, Ni, Nr, undefined);
}

function addressOf(sa: IkeSa): IpAddress {
  return sa.path.remote.address;
}

function whatWeSent(sa: IkeSa): string {
  const to = sa.peer!.peersId.map(showIdentity).join(' or ');
  return `IDi ${sa.myId === undefined ? '' : showIdentity(sa.myId)} and AUTH by shared key${to === '' ? '' : `, expecting ${to}`}`;
}
