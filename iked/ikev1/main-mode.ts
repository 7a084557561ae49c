/** Main Mode with pre-shared keys, both roles (RFC 2409 §5.4), with NAT detection and the move to the encapsulation port (RFC 3947 §3, §4). */

import { equal } from '../../src/bytes/bytes.ts';
import type { Ikev1Config } from '../../src/config/config.ts';
import { checkPublicValue, generate } from '../../src/crypto/dh.ts';
import { AuthError, PeerError, WireError } from '../../src/errors.ts';
import { DOI, NOTIFY, PROTOCOL } from '../../src/isakmp/doi.ts';
import { all, find, type Payload, type PayloadOf, payloadBody } from '../../src/isakmp/payloads.ts';
import { type Path, showEndpoint } from '../../src/net/address.ts';
import { type Identity, identityOfAddress, showIdentity } from '../auth/identity.ts';
import type { Demand, Host } from '../host.ts';
import { floated } from '../natt.ts';
import { type PeerV1, refuseIdentity } from '../peers.ts';
import { failIsakmpSa } from './endings.ts';
import { IsakmpSa, type State } from './isakmp-sa.ts';
import { type Exchanged, HASH_I, HASH_R, phase1Iv } from './keys.ts';
import { ladder } from './ladder.ts';
import type { Message, OpenedMessage, ReadMessage } from './message.ts';
import { natByPort, natPayloads, noteNat } from './natt.ts';
import { buildPhase1Offer, concludePhase1 } from './phase-1-proposals.ts';
import { chooseCandidate, identify, keysFor, phase1Terms, verifyMessage6 } from './proof.ts';
import { checkRules } from './rules.ts';
import { complain, makeRoom } from './strangers.ts';
import { announces, vendorId } from './vendor-id.ts';

/** A responder gives up an ISAKMP SA that is not authenticated within this. Milliseconds. */
const HALF_OPEN_MS = 30_000;
const NO_COOKIE = new Uint8Array(8);

/** What we can do, as vendor IDs: a responder names only what the initiator named. */
function abilities({ natTraversal, dpd }: Ikev1Config, asked?: readonly Payload[]): Payload[] {
  const names = [...(natTraversal ? ['RFC 3947' as const] : []), ...(dpd ? ['DPD' as const] : [])];
  return names.filter((name) => asked === undefined || announces(asked, name)).map(vendorId);
}

function noteAbilities(sa: IsakmpSa, { natTraversal, dpd }: Ikev1Config, payloads: readonly Payload[]): void {
  sa.natTraversal = natTraversal && announces(payloads, 'RFC 3947');
  sa.deadPeerDetection = dpd && announces(payloads, 'DPD');
}

// The initiator.

/** Message 1: HDR, SA, VIDs. `demand`: what it is begun for; none where it replaces another. */
export function startIsakmpSa(host: Host, peer: PeerV1, path: Path, demand?: Demand): IsakmpSa {
  const { ikev1 } = peer;
  const offer = buildPhase1Offer(phase1Terms(ikev1));
  const sa = new IsakmpSa(host, {
    originalInitiator: true,
    CKY_I: host.newSpi(),
    CKY_R: NO_COOKIE,
    path,
    peer,
    state: { name: 'awaiting-message-2', SAi_b: payloadBody(offer) },
  });
  host.table.add(sa);
  sa.timers.set('negotiation', host.now.mono + ikev1.negotiationLimit);
  if (demand !== undefined) sa.add({ kind: 'create-child', demand });
  const what = demand === undefined ? 'to replace the ISAKMP SA at hand' : `for ${demand.policy.name}`;
  sa.report('ike-sa-started', `Main Mode with ${sa.peerName} ${what}`);
  ask(sa, [offer, ...abilities(ikev1)], false);
  return sa;
}

/** A message of the initiator's, which repeats it until the next one of the responder is there. */
function ask(sa: IsakmpSa, payloads: readonly Payload[], encrypted: boolean): void {
  const bytes = sa.writePhase1(payloads, encrypted);
  sa.turn.ask(bytes, sa.host.now.mono, sa.retry, sa.host.random);
  sa.transmit(bytes, sa.path);
}

/** Message 3: HDR, KE, Ni, [NAT-D, NAT-D]. */
function hearMessage2(sa: IsakmpSa, { SAi_b }: State & { name: 'awaiting-message-2' }, read: ReadMessage): void {
  const { host } = sa;
  const { ikev1 } = sa.peer!;
  const { header, payloads } = read;
  checkRules('Main Mode 2', header.encrypted, payloads);
  if (equal(header.CKY_R, NO_COOKIE)) throw new PeerError('INVALID-COOKIE', 'the responder chose no cookie');
  const choice = concludePhase1(phase1Terms(ikev1), find(payloads, 'SA')!);
  const share = generate(choice.suite.group, host.random, host.engine);
  const Ni_b = host.random(ikev1.nonceBytes);

  sa.CKY_R = header.CKY_R;
  noteAbilities(sa, ikev1, payloads);
  sa.state = { name: 'awaiting-message-4', SAi_b, choice, share, Ni_b };
  // The peer drops them at message 5: a round trip earlier they are on hold for certain by then.
  host.holdOldSas(sa);
  ask(
    sa,
    [{ type: 'KE', data: share.publicValue }, { type: 'Nonce', data: Ni_b }, ...natPayloads(sa, choice, ikev1, sa.path)],
    false,
  );
}

/** Message 5: HDR*, IDii, HASH_I, [N(INITIAL-CONTACT)], on the encapsulation port where a NAT was found. */
function hearMessage4(
  sa: IsakmpSa,
  state: State & { name: 'awaiting-message-4' },
  { header, payloads }: ReadMessage,
  path: Path,
): void {
  const peer = sa.peer!;
  const { SAi_b, choice, share, Ni_b } = state;
  checkRules('Main Mode 4', header.encrypted, payloads);
  const exchanged: Exchanged = {
    CKY_I: sa.CKY_I,
    CKY_R: sa.CKY_R,
    Ni_b,
    Nr_b: find(payloads, 'Nonce')!.data,
    g_xi: share.publicValue,
    g_xr: find(payloads, 'KE')!.data,
  };
  const g_xy = share.agree(exchanged.g_xr);
  const keys = keysFor(peer, choice, exchanged, g_xy);
  share.wipe();
  g_xy.wipe();
  const myId = peer.myId ?? identityOfAddress(sa.path.local.address);
  const IDii = idPayload(myId);

  noteNat(sa, choice, peer.ikev1, payloads, path);
  sa.setKeys(choice.suite, keys, phase1Iv(choice.suite, exchanged.g_xi, exchanged.g_xr));
  sa.lifeSeconds = choice.seconds;
  sa.myId = myId;
  sa.state = { name: 'awaiting-message-6', SAi_b, choice, exchanged };
  if (sa.nat !== 'none') sa.path = floated(sa.path, sa.host.peers.encapPort);
  // One that replaces another may be on the encapsulation port from the beginning, and the NAT be gone.
  sa.nat = natByPort(sa.nat, sa.path.encapsulated);
  const hash = HASH_I(sa.prf, keys.SKEYID, exchanged, SAi_b, payloadBody(IDii));
  ask(sa, [IDii, { type: 'HASH', data: hash }, ...initialContact(sa)], true);
}

function hearMessage6(sa: IsakmpSa, state: State & { name: 'awaiting-message-6' }, read: ReadMessage, bytes: Uint8Array): void {
  const { message, peerId } = verifyMessage6(sa, state, read);
  const refusal = refuseIdentity(sa.peer!, peerId, sa.path.remote.address);
  if (refusal !== undefined) return failIsakmpSa(sa, refusal);

  sa.acceptPhase1(message);
  draw(sa, message);
  sa.turn.hear(bytes);
  sa.peerId = peerId;
  up(sa, hasInitialContact(message));
}

// The responder.

/** Message 2: HDR, SA, VIDs. Keeps nothing unless the message is whole and a suite is found. */
export function respondMainMode(host: Host, read: ReadMessage, bytes: Uint8Array, path: Path): void {
  const { header, payloads } = read;
  const known = host.table.byInitiator(header.CKY_I, path.remote);
  if (known !== undefined) return known.version === 1 ? known.repeatInit(bytes, path) : host.count('messages-dropped');
  host.report('ladder', ladder({ ...header, payloads }, true), { peer: showEndpoint(path.remote), direction: 'in', id: 0 });
  try {
    respond(host, read, bytes, path);
  } catch (error) {
    if (!(error instanceof PeerError || error instanceof WireError)) throw error;
    complain(host, header, path, error);
  }
}

function respond(host: Host, { header, payloads }: ReadMessage, bytes: Uint8Array, path: Path): void {
  const from = showEndpoint(path.remote);
  if (header.messageId !== 0 || equal(header.CKY_I, NO_COOKIE))
    throw new WireError('Message ID 0 and an initiator cookie expected in Main Mode');
  checkRules('Main Mode 1', header.encrypted, payloads);
  const candidates = host.peersAtV1(path.remote.address);
  const SA = find(payloads, 'SA')!;
  const { peer, choice } = chooseCandidate(candidates, SA, from);
  const { halfOpenSas, ikeSas } = host.peers.config.interface.limits;
  makeRoom(host, halfOpenSas);
  const limit = host.table.halfOpen >= halfOpenSas ? 'half_open_sas' : host.table.size >= ikeSas ? 'ike_sas' : undefined;
  if (limit !== undefined) {
    const there = `${host.table.halfOpen} half-open of ${host.table.size} IKE SAs`;
    return host.report('limit-reached', `Main Mode of ${from} ignored: there are ${there}, the limit of ${limit}`, { limit });
  }

  const sa = new IsakmpSa(host, {
    originalInitiator: false,
    CKY_I: header.CKY_I,
    CKY_R: host.newSpi(),
    path,
    candidates: [peer, ...candidates.filter((other) => other !== peer)],
    state: { name: 'awaiting-message-3', SAi_b: payloadBody(SA), choice },
    initRequest: { bytes, from: path.remote },
  });
  noteAbilities(sa, peer.ikev1, payloads);
  sa.timers.set('negotiation', host.now.mono + Math.min(HALF_OPEN_MS, peer.ikev1.negotiationLimit));
  host.table.add(sa);
  answer(sa, bytes, [choice.answer, ...abilities(peer.ikev1, payloads)], false, path);
}

/** A message of the responder's, which repeats it only where the initiator repeats its own: nobody is sent more than he sends before he is proven. */
function answer(sa: IsakmpSa, bytes: Uint8Array, payloads: readonly Payload[], encrypted: boolean, path: Path): void {
  const said = sa.writePhase1(payloads, encrypted);
  sa.turn.hear(bytes);
  sa.turn.answer(said);
  sa.transmit(said, path);
}

/** Message 4: HDR, KE, Nr, [NAT-D, NAT-D]. */
function hearMessage3(
  sa: IsakmpSa,
  { SAi_b, choice }: State & { name: 'awaiting-message-3' },
  { header, payloads }: ReadMessage,
  bytes: Uint8Array,
  path: Path,
): void {
  const { host } = sa;
  const { ikev1 } = sa.candidates[0]!;
  checkRules('Main Mode 3', header.encrypted, payloads);
  const g_xi = find(payloads, 'KE')!.data;
  // Nobody makes us compute by a value that no honest peer sends: he could do so for ever, since he leaves the state as it is.
  const invalid = checkPublicValue(choice.suite.group, g_xi);
  if (invalid !== undefined) throw new PeerError('INVALID-KEY-INFORMATION', `KE payload of Main Mode: ${invalid}`);
  const share = generate(choice.suite.group, host.random, host.engine);
  const g_xy = share.agree(g_xi);
  const exchanged: Exchanged = {
    CKY_I: sa.CKY_I,
    CKY_R: sa.CKY_R,
    Ni_b: find(payloads, 'Nonce')!.data,
    Nr_b: host.random(ikev1.nonceBytes),
    g_xi,
    g_xr: share.publicValue,
  };
  share.wipe();

  noteNat(sa, choice, ikev1, payloads, path);
  sa.state = { name: 'awaiting-message-5', SAi_b, choice, exchanged, g_xy };
  answer(
    sa,
    bytes,
    [{ type: 'KE', data: exchanged.g_xr }, { type: 'Nonce', data: exchanged.Nr_b }, ...natPayloads(sa, choice, ikev1, path)],
    false,
    path,
  );
}

/** Message 6: HDR*, IDir, HASH_R, [N(INITIAL-CONTACT)]. */
function hearMessage5(
  sa: IsakmpSa,
  state: State & { name: 'awaiting-message-5' },
  read: ReadMessage,
  bytes: Uint8Array,
  path: Path,
): void {
  const { SAi_b, exchanged, choice } = state;
  const candidates = sa.host.peersAtV1(path.remote.address);
  const { peer, peerId, message, keys } = identify(candidates, path.remote.address, state, read);
  const myId = peer.myId ?? identityOfAddress(path.local.address);
  const IDir = idPayload(myId);

  sa.setKeys(choice.suite, keys, message.lastBlock);
  draw(sa, message);
  sa.path = path;
  sa.nat = natByPort(sa.nat, path.encapsulated);
  sa.peer = peer;
  sa.peerId = peerId;
  sa.myId = myId;
  // The remote may be another than the one whose lifetime was looked at first.
  const own = phase1Terms(peer.ikev1).seconds;
  sa.lifeSeconds = own === 0 || peer.ikev1.proposalCheck === 'obey' ? choice.seconds : Math.min(own, choice.seconds);
  state.g_xy.wipe();
  sa.host.holdOldSas(sa);
  const hash = HASH_R(sa.prf, sa.keys.SKEYID, exchanged, SAi_b, payloadBody(IDir));
  answer(sa, bytes, [IDir, { type: 'HASH', data: hash }, ...initialContact(sa)], true, path);
  up(sa, hasInitialContact(message));
}

// Both.

/** A message of Main Mode for an SA that is there. What it cannot use changes nothing: it is not authentic, or not yet. */
export function hearMainMode(sa: IsakmpSa, read: ReadMessage, bytes: Uint8Array, path: Path): void {
  const { state, host } = sa;
  const again = sa.turn.repetition(bytes);
  if (again !== undefined) {
    if (again.answer === undefined) return host.count('messages-dropped');
    host.count('responses-repeated');
    return sa.transmit(again.answer, path);
  }
  if (read.header.messageId !== 0) return drop(sa, 'a message of Main Mode has the message ID 0');
  if (!read.header.encrypted) draw(sa, { ...read.header, payloads: read.payloads });
  try {
    switch (state.name) {
      case 'awaiting-message-2':
        return hearMessage2(sa, state, read);
      case 'awaiting-message-3':
        return hearMessage3(sa, state, read, bytes, path);
      case 'awaiting-message-4':
        return hearMessage4(sa, state, read, path);
      case 'awaiting-message-5':
        return hearMessage5(sa, state, read, bytes, path);
      case 'awaiting-message-6':
        return hearMessage6(sa, state, read, bytes);
      default:
        return drop(sa, 'Main Mode is over');
    }
  } catch (error) {
    if (!(error instanceof PeerError || error instanceof WireError || error instanceof AuthError)) throw error;
    refuse(sa, read, path, error);
  }
}

/** Anybody could have sent it: what is wrong with it is said once, and the negotiation goes on waiting for something better. */
function refuse(sa: IsakmpSa, { header }: ReadMessage, path: Path, error: Error): void {
  const said = sa.refusal === error.message;
  sa.refusal = error.message;
  sa.host.remember((sa.peer ?? sa.candidates[0])?.name ?? `${path.remote.address}`, error.message);
  if (said) return sa.host.count('messages-dropped');
  if (sa.originalInitiator) return sa.report('message-dropped', `a message of Main Mode is not usable: ${error.message}`);
  complain(sa.host, header, path, error, sa.name);
}

function draw(sa: IsakmpSa, message: Message): void {
  sa.report('ladder', ladder(message, !sa.originalInitiator), { direction: 'in', id: 0 });
}

function drop(sa: IsakmpSa, why: string): void {
  sa.host.count('messages-dropped');
  sa.report('message-dropped', `a message was ignored: ${why}`);
}

/** With NAT traversal protocol and port are 0 (RFC 3947 §4), which RFC 2407 §4.6.2 allows always. */
function idPayload({ idType, data }: Identity): PayloadOf<'ID'> {
  return { type: 'ID', idType, protocol: 0, port: 0, data };
}

/** RFC 2407 §4.6.3.3: not where it replaces another. */
function initialContact(sa: IsakmpSa): Payload[] {
  if (!sa.host.isFirstContact(sa.peer!.name)) return [];
  const spi = new Uint8Array([...sa.CKY_I, ...sa.CKY_R]);
  return [
    {
      type: 'Notify',
      doi: DOI.IPSEC,
      protocol: PROTOCOL.ISAKMP,
      spi,
      notify: NOTIFY['INITIAL-CONTACT'],
      data: new Uint8Array(0),
    },
  ];
}

function hasInitialContact({ payloads }: OpenedMessage): boolean {
  return all(payloads, 'Notify').some(({ notify }) => notify === NOTIFY['INITIAL-CONTACT']);
}

function up(sa: IsakmpSa, contact: boolean): void {
  sa.establish();
  const nat = sa.nat === 'none' ? '' : `, ${sa.path.encapsulated ? 'UDP encapsulation' : 'NAT'}`;
  sa.report(
    'ike-sa-up',
    `ISAKMP SA with ${sa.peerName} is up: ${showIdentity(sa.myId!)} and ${showIdentity(sa.peerId!)}, ${sa.suiteText}${nat}`,
    { suite: sa.suiteText, role: sa.originalInitiator ? 'initiator' : 'responder' },
  );
  sa.hook('phase1_up');
  sa.host.established(sa, contact);
}
