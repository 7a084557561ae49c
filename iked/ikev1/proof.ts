/** Who the peer is in Main Mode, and its proof by a pre-shared key: messages 5 and 6 (RFC 2409 §5.4). */

import { equal } from '../../src/bytes/bytes.ts';
import type { Secret } from '../../src/bytes/secret.ts';
import type { Ikev1Config } from '../../src/config/config.ts';
import { AuthError, PeerError, WireError } from '../../src/errors.ts';
import { find, type PayloadOf, payloadBody } from '../../src/isakmp/payloads.ts';
import type { IpAddress } from '../../src/net/address.ts';
import type { Identity } from '../auth/identity.ts';
import { type PeerV1, refuseIdentity } from '../peers.ts';
import type { IsakmpSa, State } from './isakmp-sa.ts';
import {
  type Exchanged,
  HASH_I,
  HASH_R,
  type IsakmpKeys,
  isakmpKeys,
  messageCipher,
  phase1Iv,
  prfOfSuite,
  skeyidOfSharedKey,
  wipeKeys,
} from './keys.ts';
import { type OpenedMessage, openMessage, type ReadMessage } from './message.ts';
import { choosePhase1, type Phase1Choice, type Phase1Terms, suitesOf, suiteText } from './phase-1-proposals.ts';
import { checkRules } from './rules.ts';

/** Remotes whose keys are tried on one message 5: without the right key nobody can read who sent it. */
const MOST_CANDIDATES = 16;

/** What a remote wants of its ISAKMP SAs. */
export function phase1Terms({ encr, hash, groups, saLifetime, proposalCheck }: Ikev1Config): Phase1Terms {
  return { encr, hash, groups, seconds: saLifetime === 'infinite' ? 0 : saLifetime / 1000, check: proposalCheck };
}

/** The first remote, of those of the initiator's address, that accepts something of the offer, and the choice. Throws PeerError. */
export function chooseCandidate(
  candidates: readonly PeerV1[],
  SA: PayloadOf<'SA'>,
  from: string,
): { peer: PeerV1; choice: Phase1Choice } {
  const reasons: string[] = [];
  for (const peer of candidates) {
    try {
      return { peer, choice: choosePhase1(phase1Terms(peer.ikev1), SA) };
    } catch (error) {
      if (!(error instanceof PeerError) || error.notify !== 'NO-PROPOSAL-CHOSEN') throw error;
      reasons.push(`remote ${peer.name}: ${error.message}`);
    }
  }
  throw new PeerError(
    'NO-PROPOSAL-CHOSEN',
    `Main Mode of ${from}: ${reasons.join('; ')}: make kmp_enc_alg, kmp_hash_alg or kmp_dh_group have something in common`,
  );
}

/**
 * Who the initiator is: the first remote of its address with whose pre-shared key its message opens and whose `peers_id` it says it is, with
 * the keys that follow. Throws AuthError.
 */
export function identify(
  candidates: readonly PeerV1[],
  address: IpAddress,
  { SAi_b, exchanged, choice, g_xy }: State & { name: 'awaiting-message-5' },
  read: ReadMessage,
): { peer: PeerV1; peerId: Identity; message: OpenedMessage; keys: IsakmpKeys } {
  const reasons: string[] = [];
  const unread: PeerV1[] = [];
  for (const peer of candidates.slice(0, MOST_CANDIDATES)) {
    const keys = keysFor(peer, choice, exchanged, g_xy);
    const verified = verifyMessage5(peer, keys, choice, exchanged, SAi_b, read);
    if (verified === undefined) unread.push(peer);
    else {
      const { message, peerId } = verified;
      const refusal =
        refuseIdentity(peer, peerId, address) ??
        (acceptsSuite(peer, choice) ? undefined : `remote ${peer.name} does not accept the suite ${suiteText(choice.suite)}`);
      if (refusal === undefined) return { peer, peerId, message, keys };
      reasons.push(refusal);
    }
    wipeKeys(keys);
  }
  if (unread.length > 0) reasons.push(otherKey(unread));
  throw new AuthError(reasons.join('; ') || `no remote serves ${address} any more`);
}

function verifyMessage5(
  peer: PeerV1,
  keys: IsakmpKeys,
  { suite }: Phase1Choice,
  exchanged: Exchanged,
  SAi_b: Uint8Array,
  read: ReadMessage,
): { message: OpenedMessage; peerId: Identity } | undefined {
  try {
    const { cipher, key } = messageCipher(suite, keys.SKEYID_e);
    const iv = phase1Iv(suite, exchanged.g_xi, exchanged.g_xr);
    const message = openProof(read, [peer], () => openMessage(read, cipher, iv));
    key.wipe();
    checkRules('Main Mode 5', true, message.payloads);
    const IDii = find(message.payloads, 'ID')!;
    const hash = HASH_I(prfOfSuite(suite), keys.SKEYID, exchanged, SAi_b, payloadBody(IDii));
    if (!equal(hash, find(message.payloads, 'HASH')!.data)) return undefined;
    return { message, peerId: { idType: IDii.idType, data: IDii.data } };
  } catch (error) {
    if (error instanceof PeerError || error instanceof AuthError) return undefined;
    throw error;
  }
}

function acceptsSuite(peer: PeerV1, { suite }: Phase1Choice): boolean {
  return suitesOf(phase1Terms(peer.ikev1)).some((own) => suiteText(own) === suiteText(suite));
}

/** Decrypts message 5 or 6. A wrong key shows in what comes out of it, which is no chain of payloads. */
function openProof(read: ReadMessage, peers: readonly PeerV1[], open: () => OpenedMessage): OpenedMessage {
  if (!read.header.encrypted)
    throw new PeerError('INVALID-FLAGS', 'messages 5 and 6 of Main Mode are encrypted, this one came in the clear');
  try {
    return open();
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    throw new AuthError(otherKey(peers));
  }
}

/** What is said of a proof that another key made. */
function otherKey(peers: readonly PeerV1[]): string {
  const names = peers.map(({ name }) => name).join(' or ');
  return `the peer's proof was made with another pre-shared key than the one of remote ${names}: compare the files of pre_shared_key on both sides`;
}

/** The keys that a remote's pre-shared key leads to. Throws AuthError where it has none. */
export function keysFor(
  { name, psk }: PeerV1,
  { suite }: Phase1Choice,
  { CKY_I, CKY_R, Ni_b, Nr_b }: Exchanged,
  g_xy: Secret,
): IsakmpKeys {
  if (psk === undefined) throw new AuthError(`remote ${name} has no pre_shared_key in its ikev1 block: name a key file there`);
  const prf = prfOfSuite(suite);
  const SKEYID: Secret = skeyidOfSharedKey(prf, psk, Ni_b, Nr_b);
  return isakmpKeys(prf, SKEYID, g_xy, CKY_I, CKY_R);
}

/** The initiator: message 6, verified. Throws AuthError or PeerError. */
export function verifyMessage6(
  sa: IsakmpSa,
  { SAi_b, exchanged }: State & { name: 'awaiting-message-6' },
  read: ReadMessage,
): { readonly message: OpenedMessage; readonly peerId: Identity } {
  const peer = sa.peer!;
  const message = openProof(read, [peer], () => sa.openPhase1(read));
  checkRules('Main Mode 6', true, message.payloads);
  const IDir: PayloadOf<'ID'> = find(message.payloads, 'ID')!;
  const hash = HASH_R(sa.prf, sa.keys.SKEYID, exchanged, SAi_b, payloadBody(IDir));
  if (!equal(hash, find(message.payloads, 'HASH')!.data)) throw new AuthError(otherKey([peer]));
  return { message, peerId: { idType: IDir.idType, data: IDir.data } };
}
