/** IKE_SA_INIT, both roles, with its retries for COOKIE and INVALID_KE_PAYLOAD (RFC 7296 §1.2, §2.6, §2.7, §2.21.1, §2.23). */

import { NONE, u16be } from '../../src/bytes/bytes.ts';
import type { Ikev2Config } from '../../src/config/config.ts';
import { checkPublicValue, generate } from '../../src/crypto/dh.ts';
import { sha1 } from '../../src/crypto/hash.ts';
import { prfOf } from '../../src/crypto/prf.ts';
import { ENCR, INTEG, KE, type KeName, keByIkev2, keText, PRF } from '../../src/crypto/transforms.ts';
import { PeerError, WireError } from '../../src/errors.ts';
import { choose, type Proposal, type Transform } from '../../src/ipsec/proposal.ts';
import { type Path, showEndpoint } from '../../src/net/address.ts';
import type { Demand, Host } from '../host.ts';
import { detectNat, type EndpointHash, floated, NAT_TEXT, natDetectionPair } from '../natt.ts';
import type { Peer } from '../peers.ts';
import { vendorIds } from './child-mode.ts';
import { encrTransform } from './child-sa.ts';
import { IkeSa, type InitSent } from './ike-sa.ts';
import { type IkeSuite, ikeKeys, ikeSuiteOf, skeyseed } from './keys.ts';
import { ladder, proposalsText } from './ladder.ts';
import { all, EXCHANGE, find, type Message, type ReadMessage, writeMessage } from './message.ts';
import { checkNotifyData, explainNotify, findError, findNotify, isNotifyName, NOTIFY, notify, notifyNumber } from './notify.ts';
import type { Payload } from './payloads.ts';
import { checkRules } from './rules.ts';

/** An IKE_SA_INIT is begun again for cookies and groups at most this often: an attacker can forge both (§2.6). */
const MOST_RETRIES = 5;
/** A responder gives up an IKE SA that is not authenticated within this. Milliseconds. */
const HALF_OPEN_MS = 30_000;
/** Transmissions that still follow an unauthenticated refusal, which may be forged (§2.21.1). */
const TRIES_AFTER_REFUSAL = 2;

const NO_SPI = new Uint8Array(8);

/** What we offer or accept for an IKE SA, best first; `spi` as RFC 7296 §3.3.1 wants it. */
export function ikeProposals({ encr, integ, prf, ke }: Ikev2Config, spi: Uint8Array, first?: KeName): Proposal[] {
  const proposals: Proposal[] = [];
  const groups = first !== undefined && ke.includes(first) ? [first, ...ke.filter((name) => name !== first)] : ke;
  const common: Transform[] = [
    ...prf.map((name): Transform => ({ type: 'PRF', id: PRF[name].ikev2 })),
    ...groups.map((name): Transform => ({ type: 'KE', id: KE[name].ikev2 })),
  ];
  const add = (ciphers: typeof encr, integrity: readonly Transform[]) => {
    if (ciphers.length === 0) return;
    const transforms = [...ciphers.map(({ name, keyBits }) => encrTransform(name, keyBits)), ...integrity, ...common];
    proposals.push({ number: proposals.length + 1, protocol: 'ike', spi, transforms });
  };
  const combined = ({ name }: (typeof encr)[number]) => ENCR[name].icv > 0;
  const separate = () => {
    const integrity = integ.map((name): Transform => ({ type: 'INTEG', id: INTEG[name].ikev2 }));
    if (integrity.length > 0)
      add(
        encr.filter((cipher) => !combined(cipher)),
        integrity,
      );
  };
  const combinedFirst = encr[0] !== undefined && combined(encr[0]);
  if (!combinedFirst) separate();
  add(encr.filter(combined), []);
  if (combinedFirst) separate();
  return proposals;
}

/** The initiator's first message. */
export function startIkeSa(host: Host, peer: Peer, path: Path, demand: Demand): IkeSa {
  const { ikev2 } = peer;
  const group = ikev2.ke[0]!;
  const share = generate(group, host.random, host.engine);
  const init: InitSent = { demand, Ni: host.random(ikev2.nonceBytes), share, cookie: undefined, retries: 0, refusal: undefined };
  const sa = new IkeSa(host, {
    originalInitiator: true,
    SPIi: host.newSpi(),
    SPIr: NO_SPI,
    path,
    peer,
    state: { name: 'awaiting-ike-sa-init', init },
  });
  host.table.add(sa);
  sa.timers.set('negotiation', host.now.mono + ikev2.negotiationLimit);
  sa.report('ike-sa-started', `IKE_SA_INIT to ${sa.peerName} for ${demand.policy.name}`);
  request(sa, init);
  return sa;
}

/** HDR, [N(COOKIE)], SAi1, KEi, Ni, N(NAT_DETECTION_SOURCE_IP), N(NAT_DETECTION_DESTINATION_IP). */
function request(sa: IkeSa, init: InitSent): void {
  const { ikev2 } = sa.peer!;
  sa.state = { name: 'awaiting-ike-sa-init', init };
  sa.window.settle();
  sa.send(EXCHANGE.IKE_SA_INIT, [
    ...(init.cookie === undefined ? [] : [notify('COOKIE', init.cookie)]),
    { type: 'SA', proposals: ikeProposals(ikev2, NONE) },
    { type: 'KE', group: KE[init.share.group].ikev2, data: init.share.publicValue },
    { type: 'Nonce', data: init.Ni },
    ...natPayloads(sa, ikev2, NO_SPI),
    ...vendorIds(sa.peer!.children),
  ]);
}

function natPayloads(sa: IkeSa, ikev2: Ikev2Config, SPIr: Uint8Array): Payload[] {
  if (!ikev2.natTraversal) return [];
  const { source, destination } = natDetectionPair(natDetection(sa.SPIi, SPIr), sa.path, ikev2.forceEncapsulation);
  return [notify('NAT_DETECTION_SOURCE_IP', source), notify('NAT_DETECTION_DESTINATION_IP', destination)];
}

/** The initiator's half of what a response means. It is not authenticated: what cannot be used is remembered and waited out (§2.21.1). */
export function concludeIkeSaInit(sa: IkeSa, read: ReadMessage, bytes: Uint8Array, path: Path): void {
  const { state } = sa;
  if (state.name !== 'awaiting-ike-sa-init' || !sa.window.awaits(0) || read.header.messageId !== 0) return;
  const message = { ...read.header, payloads: read.payloads };
  sa.report('ladder', ladder(message), { direction: 'in', id: 0 });
  try {
    checkRules(EXCHANGE.IKE_SA_INIT, 'response', read.payloads);
    if (find(read.payloads, 'SA') === undefined) return retry(sa, state.init, message);
    accept(sa, state.init, message, bytes, path);
  } catch (error) {
    if (!(error instanceof PeerError || error instanceof WireError)) throw error;
    refused(sa, state.init, `the response to IKE_SA_INIT is not usable: ${error.message}`);
  }
}

function refused(sa: IkeSa, init: InitSent, refusal: string): void {
  if (init.refusal !== refusal) sa.report('notify-received', refusal);
  sa.host.remember(sa.peer!.name, refusal);
  sa.state = { name: 'awaiting-ike-sa-init', init: { ...init, refusal } };
  sa.window.limit(sa.host.now.mono, TRIES_AFTER_REFUSAL, sa.retry);
}

/** A response without SA: a cookie, another group, or a refusal. */
function retry(sa: IkeSa, init: InitSent, { payloads }: Message): void {
  const { ikev2 } = sa.peer!;
  const again: InitSent = { ...init, retries: init.retries + 1 };
  const may = init.retries < MOST_RETRIES;
  const cookie = findNotify(payloads, 'COOKIE');
  if (cookie !== undefined) {
    checkNotifyData(cookie.notify, cookie.data);
    if (may) request(sa, { ...again, cookie: cookie.data });
    else
      refused(sa, init, `the peer asked for a cookie ${again.retries} times: something between us changes our address or port`);
    return;
  }
  const other = findNotify(payloads, 'INVALID_KE_PAYLOAD');
  if (other !== undefined) {
    const group = keByIkev2(notifyNumber(other));
    const sent = keText(init.share.group);
    if (may && group !== undefined && group !== init.share.group && ikev2.ke.includes(group)) {
      init.share.wipe();
      return request(sa, { ...again, share: generate(group, sa.host.random, sa.host.engine) });
    }
    return refused(
      sa,
      init,
      `${explainNotify(other, sent)}; kmp_dh_group of remote ${sa.peer!.name} is ${ikev2.ke.map(keText).join(', ')}`,
    );
  }
  const error = findError(payloads);
  if (error !== undefined) refused(sa, init, explainNotify(error, proposalsText(ikeProposals(ikev2, NONE))));
}

function accept(sa: IkeSa, init: InitSent, message: Message, bytes: Uint8Array, path: Path): void {
  const { host } = sa;
  const { ikev2 } = sa.peer!;
  const SPIr = message.SPIr;
  if (SPIr.every((octet) => octet === 0)) throw new PeerError('INVALID_SYNTAX', 'the responder chose no SPI');
  const suite = ikeSuiteOf(chosenOf(ikeProposals(ikev2, NONE), find(message.payloads, 'SA')!.proposals));
  const KEr = find(message.payloads, 'KE')!;
  if (suite.ke !== init.share.group || KEr.group !== KE[suite.ke].ikev2) {
    throw new PeerError(
      'INVALID_SYNTAX',
      `the responder chose ${keText(suite.ke)} and sent group ${KEr.group} where we had sent ${keText(init.share.group)}`,
    );
  }
  const g_ir = init.share.agree(KEr.data);
  const Nr = find(message.payloads, 'Nonce')!.data;
  const SKEYSEED = skeyseed(prfOf(suite.prf, host.engine), init.Ni, Nr, g_ir.reveal());
  const keys = ikeKeys(suite, SKEYSEED, init.Ni, Nr, sa.SPIi, SPIr);
  const request = sa.window.outstanding!.bytes;
  g_ir.wipe();
  SKEYSEED.wipe();

  init.share.wipe();
  sa.window.settle();
  sa.SPIr = SPIr;
  sa.setKeys(suite, keys);
  sa.state = { name: 'awaiting-ike-auth', facts: { Ni: init.Ni, Nr, request, response: bytes } };
  findNat(sa, message, path, ikev2);
  if (sa.nat !== 'none') sa.path = floated(path, host.peers.encapPort);
  sa.add({ kind: 'ike-auth', demand: init.demand });
}

/**
 * The one proposal of a response, if it is one that we made: one transform of each type (§2.7, §3.3.6). Throws PeerError.
 */
export function chosenOf(ours: readonly Proposal[], theirs: readonly Proposal[]): Proposal {
  const [answer, ...more] = theirs;
  const chosen = answer === undefined || more.length > 0 ? undefined : choose(ours, [answer]);
  const types = new Set(answer?.transforms.map((transform) => transform.type));
  if (chosen === undefined || answer === undefined || types.size !== answer.transforms.length) {
    throw new PeerError(
      'NO_PROPOSAL_CHOSEN',
      `the response holds ${proposalsText(theirs)}, which is not one choice of what we had sent: ${proposalsText(ours)}`,
    );
  }
  return chosen;
}

function findNat(sa: IkeSa, message: Message, path: Path, ikev2: Ikev2Config): void {
  const data = (name: 'NAT_DETECTION_SOURCE_IP' | 'NAT_DETECTION_DESTINATION_IP') =>
    all(message.payloads, 'Notify')
      .filter((payload) => payload.notify === NOTIFY[name].number)
      .map((payload) => payload.data);
  const found = ikev2.natTraversal
    ? detectNat(
        natDetection(message.SPIi, message.SPIr),
        path,
        data('NAT_DETECTION_SOURCE_IP'),
        data('NAT_DETECTION_DESTINATION_IP'),
      )
    : undefined;
  sa.natTraversal = found !== undefined;
  sa.nat = found === undefined ? 'none' : found === 'none' && ikev2.forceEncapsulation ? 'forced' : found;
  if (sa.nat !== 'none') sa.report('nat-found', NAT_TEXT[sa.nat], { nat: sa.nat });
}

/** Data of NAT_DETECTION_*_IP: SHA-1(SPIi | SPIr | address | port), §2.23. */
function natDetection(SPIi: Uint8Array, SPIr: Uint8Array): EndpointHash {
  return ({ address, port }) => sha1(SPIi, SPIr, address.bytes, u16be(port));
}

/** The responder. Keeps nothing unless the request is whole, its address proven where that is asked for, and a suite is found. */
export function respondIkeSaInit(host: Host, read: ReadMessage, bytes: Uint8Array, path: Path): void {
  const { header, payloads } = read;
  const known = host.table.byInitiator(header.SPIi, path.remote);
  if (known?.initRequest !== undefined) return known.repeatInit(bytes, path);
  const message: Message = { ...header, payloads };
  const from = showEndpoint(path.remote);
  host.report('ladder', ladder(message), { peer: from, direction: 'in', id: 0 });
  try {
    respond(host, message, bytes, path);
  } catch (error) {
    if (!(error instanceof PeerError || error instanceof WireError)) throw error;
    const type = error instanceof PeerError && isNotifyName(error.notify) ? error.notify : 'INVALID_SYNTAX';
    const data = error instanceof PeerError ? error.data : NONE;
    const cookie = type === 'COOKIE';
    if (!cookie && !host.complaints.another()) return host.count('messages-dropped');
    if (!cookie)
      host.report(type === 'INVALID_KE_PAYLOAD' ? 'message-refused' : 'ike-sa-failed', error.message, {
        peer: `${path.remote.address}`,
        notify: type,
      });
    const answer: Message = { ...header, SPIr: NO_SPI, initiator: false, response: true, payloads: [notify(type, data)] };
    host.report('ladder', ladder(answer), { peer: from, direction: 'out', id: 0 });
    host.emit({ kind: 'send', path, bytes: writeMessage(answer) });
  }
}

function respond(host: Host, message: Message, bytes: Uint8Array, path: Path): void {
  const { SPIi, payloads } = message;
  const from = showEndpoint(path.remote);
  if (message.messageId !== 0 || SPIi.every((octet) => octet === 0))
    throw new WireError('Message ID 0 and an SPI expected in IKE_SA_INIT');
  checkRules(EXCHANGE.IKE_SA_INIT, 'request', payloads);
  const candidates = host.peersAt(path.remote.address);
  if (candidates.length === 0) {
    throw new PeerError(
      'NO_PROPOSAL_CHOSEN',
      `${from} asked for an IKE SA; no remote has ${path.remote.address} in peers_ipaddr: add it there if the peer is to be served`,
    );
  }
  const Ni = find(payloads, 'Nonce')!.data;
  proveAddress(host, candidates, message, Ni, path);
  const { proposal, suite, peer } = chooseSuite(candidates, find(payloads, 'SA')!.proposals, from);
  const KEi = find(payloads, 'KE')!;
  if (KEi.group !== KE[suite.ke].ikev2) {
    throw new PeerError(
      'INVALID_KE_PAYLOAD',
      `${from} sent group ${KEi.group}; we want ${keText(suite.ke)}`,
      u16be(KE[suite.ke].ikev2),
    );
  }
  const invalid = checkPublicValue(suite.ke, KEi.data);
  if (invalid !== undefined) throw new PeerError('INVALID_SYNTAX', `KE payload of ${from}: ${invalid}`);
  const { halfOpenSas, ikeSas } = host.peers.config.interface.limits;
  const limit = host.table.halfOpen >= halfOpenSas ? 'half_open_sas' : host.table.size >= ikeSas ? 'ike_sas' : undefined;
  if (limit !== undefined) {
    const there = `${host.table.halfOpen} half-open of ${host.table.size} IKE SAs`;
    return host.report('limit-reached', `IKE_SA_INIT of ${from} ignored: there are ${there}, the limit of ${limit}`, { limit });
  }
  const share = generate(suite.ke, host.random, host.engine);
  const g_ir = share.agree(KEi.data);
  const Nr = host.random(peer.ikev2.nonceBytes);
  const SPIr = host.newSpi();
  const SKEYSEED = skeyseed(prfOf(suite.prf, host.engine), Ni, Nr, g_ir.reveal());
  const keys = ikeKeys(suite, SKEYSEED, Ni, Nr, SPIi, SPIr);
  g_ir.wipe();
  SKEYSEED.wipe();

  const sa = new IkeSa(host, {
    originalInitiator: false,
    SPIi,
    SPIr,
    path,
    candidates,
    state: { name: 'awaiting-ike-auth', facts: { Ni, Nr, request: bytes, response: NONE } },
    initRequest: { bytes, from: path.remote },
  });
  findNat(sa, { ...message, SPIr: NO_SPI }, path, peer.ikev2);
  const response = sa.response(message, [
    { type: 'SA', proposals: [{ ...proposal, spi: NONE }] },
    { type: 'KE', group: KE[suite.ke].ikev2, data: share.publicValue },
    { type: 'Nonce', data: Nr },
    ...(sa.natTraversal ? natPayloads(sa, peer.ikev2, SPIr) : []),
    ...vendorIds(candidates.flatMap(({ children }) => children)),
  ]);
  share.wipe();
  sa.state = { name: 'awaiting-ike-auth', facts: { Ni, Nr, request: bytes, response } };
  sa.setKeys(suite, keys);
  sa.window.answer(response);
  sa.timers.set('negotiation', host.now.mono + Math.min(HALF_OPEN_MS, peer.ikev2.negotiationLimit));
  host.table.add(sa);
  sa.transmit(response, path);
}

/** §2.6: under load, or always where a policy says so, a request without our cookie is answered with one and leaves nothing behind. */
function proveAddress(host: Host, candidates: readonly Peer[], message: Message, Ni: Uint8Array, path: Path): void {
  const { cookieThreshold } = host.peers.config.interface.limits;
  if (host.table.halfOpen < cookieThreshold && !candidates.some((peer) => peer.ikev2.cookieRequired)) return;
  const cookie = findNotify(message.payloads, 'COOKIE');
  if (cookie !== undefined && host.cookies.check(cookie.data, Ni, path.remote, message.SPIi, host.now)) return;
  host.count('cookies-sent');
  throw new PeerError('COOKIE', 'a cookie is demanded', host.cookies.make(Ni, path.remote, message.SPIi, host.now));
}

function chooseSuite(
  candidates: readonly Peer[],
  offered: readonly Proposal[],
  from: string,
): { proposal: Proposal; suite: IkeSuite; peer: Peer } {
  for (const peer of candidates) {
    const proposal = choose(ikeProposals(peer.ikev2, NONE), offered);
    if (proposal !== undefined) return { proposal, suite: ikeSuiteOf(proposal), peer };
  }
  const accepted = candidates
    .map((peer) => `remote ${peer.name} accepts ${proposalsText(ikeProposals(peer.ikev2, NONE))}`)
    .join('; ');
  throw new PeerError(
    'NO_PROPOSAL_CHOSEN',
    `peer ${from} offered ${proposalsText(offered)}; ${accepted}: make kmp_enc_alg, kmp_hash_alg, kmp_prf_alg or kmp_dh_group have something in common`,
  );
}

/** Whether a remote would have agreed to a suite that was chosen before it was known who the peer is. */
export function acceptsSuite(peer: Peer, suite: IkeSuite): boolean {
  const { encr, integ, prf, ke } = peer.ikev2;
  return (
    encr.some(({ name, keyBits }) => name === suite.encr && (!ENCR[name].keyLength || keyBits === suite.keyBits)) &&
    (suite.integ === 'none' || integ.includes(suite.integ)) &&
    prf.includes(suite.prf) &&
    ke.includes(suite.ke)
  );
}
