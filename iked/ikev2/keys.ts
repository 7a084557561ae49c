/** Key derivation and shared-key authentication of IKEv2, RFC 7296 §2.13 to §2.18, in the RFC's own symbols. */

import { cat, utf8 } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import { type IkeCipher, ikeCipher } from '../../src/crypto/aead.ts';
import type { EspSuite } from '../../src/crypto/packet-cipher.ts';
import { nonceKey, type Prf, prfOf, prfPlus } from '../../src/crypto/prf.ts';
import {
  type EncrName,
  encrByIkev2,
  encrKeymatBytes,
  INTEG,
  type IntegName,
  integByIkev2,
  type KeName,
  keByIkev2,
  type PrfName,
  prfByIkev2,
} from '../../src/crypto/transforms.ts';
import { Fault, PeerError } from '../../src/errors.ts';
import { type Proposal, transformOf } from '../../src/ipsec/proposal.ts';
import type { PairSuite, SaKeys } from '../../src/keying/sa-pair.ts';
import type { SealKeys } from './message.ts';

/** The algorithms of one IKE SA. */
export interface IkeSuite {
  readonly encr: EncrName;
  /** Without the salt; 0 where the algorithm has one key length only. */
  readonly keyBits: number;
  readonly integ: IntegName | 'none';
  readonly prf: PrfName;
  readonly ke: KeName;
}

/** The algorithms of one child SA. `ke` is undefined without PFS. AH has `encr: 'null_enc'`. */
export interface ChildSuite extends PairSuite {
  readonly ke: KeName | undefined;
}

/** The seven keys of an IKE SA, RFC 7296 §2.14. SK_ai and SK_ar are empty with a combined-mode cipher. */
export interface IkeKeys {
  readonly SK_d: Secret;
  readonly SK_ai: Secret;
  readonly SK_ar: Secret;
  readonly SK_ei: Secret;
  readonly SK_er: Secret;
  readonly SK_pi: Secret;
  readonly SK_pr: Secret;
}

/** The algorithms of a chosen IKE proposal. Throws PeerError NO_PROPOSAL_CHOSEN where it holds none or unknown ones. */
export function ikeSuiteOf(proposal: Proposal): IkeSuite {
  const { encr, keyBits, integ } = cipherOf(proposal);
  const prf = prfByIkev2(transformOf(proposal, 'PRF')?.id ?? 0);
  const ke = keByIkev2(transformOf(proposal, 'KE')?.id ?? 0);
  if (prf === undefined || ke === undefined)
    throw unusable(proposal, prf === undefined ? 'no known PRF' : 'no known key exchange');
  return { encr, keyBits, integ, prf, ke };
}

/** The algorithms of a chosen ESP or AH proposal. Throws as `ikeSuiteOf` does. */
export function childSuiteOf(proposal: Proposal): ChildSuite {
  const group = transformOf(proposal, 'KE')?.id ?? 0;
  const ke = keByIkev2(group);
  if (group !== 0 && ke === undefined) throw unusable(proposal, `unknown key exchange ${group}`);
  return { ...cipherOf(proposal), ke, extendedSequence: transformOf(proposal, 'ESN')?.id === 1 };
}

function cipherOf(proposal: Proposal): EspSuite {
  const integ = integByIkev2(transformOf(proposal, 'INTEG')?.id ?? 0) ?? 'none';
  if (proposal.protocol === 'ah') return { encr: 'null_enc', keyBits: 0, integ };
  const transform = transformOf(proposal, 'ENCR');
  const encr = encrByIkev2(transform?.id ?? 0);
  if (transform === undefined || encr === undefined) throw unusable(proposal, 'no known encryption');
  const keyBits = transform.keyBits ?? 0;
  if (encrKeymatBytes(encr, keyBits) === undefined) throw unusable(proposal, `${encr} has no key of ${keyBits} bits`);
  return { encr, keyBits, integ };
}

function unusable(proposal: Proposal, why: string): PeerError {
  return new PeerError('NO_PROPOSAL_CHOSEN', `proposal ${proposal.number} (${proposal.protocol}): ${why}`);
}

/** Protection of an IKE SA's messages under its suite. */
export function cipherOfSuite({ encr, keyBits, integ }: EspSuite): IkeCipher {
  return ikeCipher(encr, keyBits, integ);
}

/** SKEYSEED = prf(Ni | Nr, g^ir), RFC 7296 §2.14. */
export function skeyseed(prf: Prf, Ni: Uint8Array, Nr: Uint8Array, g_ir: Uint8Array): Secret {
  return new Secret(prf.of(nonceKey(prf, Ni, Nr), g_ir));
}

/** SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr), RFC 7296 §2.18. `prf` is the old IKE SA's. */
export function rekeyedSkeyseed(prf: Prf, SK_d: Secret, Ni: Uint8Array, Nr: Uint8Array, g_ir: Uint8Array): Secret {
  return new Secret(prf.of(SK_d.reveal(), g_ir, Ni, Nr));
}

/** {SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr} = prf+ (SKEYSEED, Ni | Nr | SPIi | SPIr), RFC 7296 §2.14. */
export function ikeKeys(
  suite: IkeSuite,
  SKEYSEED: Secret,
  Ni: Uint8Array,
  Nr: Uint8Array,
  SPIi: Uint8Array,
  SPIr: Uint8Array,
): IkeKeys {
  const prf = prfOf(suite.prf);
  const cipher = cipherOfSuite(suite);
  const next = taker(prf, SKEYSEED, cat(Ni, Nr, SPIi, SPIr));
  return {
    SK_d: next(prf.keyBytes),
    SK_ai: next(cipher.integKeyBytes),
    SK_ar: next(cipher.integKeyBytes),
    SK_ei: next(cipher.encrKeyBytes),
    SK_er: next(cipher.encrKeyBytes),
    SK_pi: next(prf.keyBytes),
    SK_pr: next(prf.keyBytes),
  };
}

/** What protects the messages that one side of an IKE SA sends: `initiator` is the original initiator of that SA. */
export function sealKeys(keys: IkeKeys, cipher: IkeCipher, sender: 'initiator' | 'responder'): SealKeys {
  return sender === 'initiator'
    ? { encr: keys.SK_ei, integ: keys.SK_ai, cipher }
    : { encr: keys.SK_er, integ: keys.SK_ar, cipher };
}

/** Wipes all seven. */
export function wipeKeys(keys: IkeKeys): void {
  for (const key of [keys.SK_d, keys.SK_ai, keys.SK_ar, keys.SK_ei, keys.SK_er, keys.SK_pi, keys.SK_pr]) key.wipe();
}

/**
 * KEYMAT = prf+(SK_d, [g^ir (new) |] Ni | Nr), RFC 7296 §2.17: first the SA that carries data from the initiator of this exchange to its
 * responder, and in each SA encryption before integrity.
 */
export function childKeys(
  prf: Prf,
  SK_d: Secret,
  suite: EspSuite,
  Ni: Uint8Array,
  Nr: Uint8Array,
  g_ir?: Uint8Array,
): { readonly fromInitiator: SaKeys; readonly fromResponder: SaKeys } {
  const encrBytes = encrKeymatBytes(suite.encr, suite.keyBits);
  if (encrBytes === undefined) throw new Fault(`${suite.encr} has no key of ${suite.keyBits} bits`);
  const integBytes = suite.integ === 'none' ? undefined : INTEG[suite.integ].keyBytes;
  const next = taker(prf, SK_d, g_ir === undefined ? cat(Ni, Nr) : cat(g_ir, Ni, Nr));
  const direction = (): SaKeys => {
    const encr = next(encrBytes);
    return { encr, integ: integBytes === undefined ? undefined : next(integBytes) };
  };
  const fromInitiator = direction();
  return { fromInitiator, fromResponder: direction() };
}

/**
 * What one side signs or MACs, RFC 7296 §2.15: RealMessage | Nonce of the other side | prf(SK_p, RestOfIDPayload). `realMessage` is that
 * side's own first message as it went over the wire (with the cookie, if there was one), `idBody` its ID payload's body, RESERVED included.
 */
export function signedOctets(
  prf: Prf,
  realMessage: Uint8Array,
  otherNonce: Uint8Array,
  SK_p: Secret,
  idBody: Uint8Array,
): Uint8Array {
  return cat(realMessage, otherNonce, prf.of(SK_p.reveal(), idBody));
}

const KEY_PAD = utf8('Key Pad for IKEv2');

/** AUTH = prf(prf(Shared Secret, "Key Pad for IKEv2"), <SignedOctets>), RFC 7296 §2.15. */
export function sharedKeyAuth(prf: Prf, sharedSecret: Secret, octets: Uint8Array): Uint8Array {
  return prf.of(prf.of(sharedSecret.reveal(), KEY_PAD), octets);
}

function taker(prf: Prf, key: Secret, seed: Uint8Array): (length: number) => Secret {
  const next = prfPlus(prf, key.reveal(), seed);
  return (length) => new Secret(next(length));
}
