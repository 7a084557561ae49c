/** The keys of an SA that Quick Mode made: KEYMAT, RFC 2409 §5.5 and RFC 4430 §6, and how an SA takes its keys from it (RFC 2407 §4.4, RFC 4106 §8.1). */

import { cat, NONE, u32be } from '../bytes/bytes.ts';
import { Secret } from '../bytes/secret.ts';
import type { EspSuite } from '../crypto/packet-cipher.ts';
import { encrKeymatBytes, INTEG, suiteText } from '../crypto/transforms.ts';
import { Fault } from '../errors.ts';
import type { SaProtocol } from '../ipsec/sa.ts';
import { IPSEC_PROTOCOL } from './ipsec-transforms.ts';

/** The pseudorandom function with its key: IKEv1's negotiated prf keyed with SKEYID_d, KINK's that of the ticket's session key. */
export type KeyedPrf = (...data: readonly Uint8Array[]) => Uint8Array;

/** What both ends put into KEYMAT besides the SA's own protocol and SPI. */
export interface KeymatInput {
  /** g(qm)^xy of the KE payloads, where there are any. */
  readonly g_qm_xy?: Uint8Array | undefined;
  /** Bodies of the nonces; KINK's responder may send none. */
  readonly Ni_b: Uint8Array;
  readonly Nr_b?: Uint8Array | undefined;
}

/**
 * KEYMAT = K1 | K2 | …, where K1 = prf([g(qm)^xy |] protocol | SPI | Ni_b | Nr_b) and each further block is the prf over the one before it
 * and the same again. `spi` is that of the SA: its receiver's.
 */
export function keymat(
  prf: KeyedPrf,
  { g_qm_xy = NONE, Ni_b, Nr_b = NONE }: KeymatInput,
  protocol: number,
  spi: number,
  octets: number,
): Uint8Array {
  const seed = cat(g_qm_xy, Uint8Array.of(protocol), u32be(spi), Ni_b, Nr_b);
  const out = new Uint8Array(octets);
  let K: Uint8Array = NONE;
  for (let at = 0; at < octets; at += K.length) {
    K = prf(K, seed);
    if (K.length === 0) throw new Fault('a prf without output');
    out.set(K.subarray(0, octets - at), at);
  }
  return out;
}

/** The keys of one SA in one direction. */
export interface SaKeys {
  /** Key and salt, as KEYMAT has them; empty for AH and NULL. */
  readonly encr: Secret;
  readonly integ: Secret | undefined;
}

/** The keys of the SA that `spi` names: encryption first, with its salt, then integrity. IPComp has none. */
export function saKeys(prf: KeyedPrf, input: KeymatInput, protocol: SaProtocol, spi: number, suite: EspSuite): SaKeys {
  const encrBytes = encrKeymatBytes(suite.encr, suite.keyBits);
  if (encrBytes === undefined) throw new Fault(`${suiteText(suite.encr, suite.keyBits, suite.integ)}: no such key length`);
  const integBytes = suite.integ === 'none' ? 0 : INTEG[suite.integ].keyBytes;
  const KEYMAT = keymat(prf, input, IPSEC_PROTOCOL[protocol], spi, encrBytes + integBytes);
  const encr = new Secret(KEYMAT.slice(0, encrBytes));
  const integ = suite.integ === 'none' ? undefined : new Secret(KEYMAT.slice(encrBytes));
  KEYMAT.fill(0);
  return { encr, integ };
}
