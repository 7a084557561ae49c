/** Keys of SAs that KINK makes, RFC 4430 §7: Quick Mode's KEYMAT with SKEYID_d the ticket's session key and its enctype's prf. */

import { cat } from '../src/bytes/bytes.ts';
import { type KeyedPrf, type KeymatInput, saKeys } from '../src/isakmp/keymat.ts';
import type { KeysOf } from '../src/keying/terms.ts';
import { type EncryptionKey, type PrfReading, prf } from './krb5/enctypes.ts';

/** prf(SKEYID_d, …). Which of the two readings of RFC 3962 is meant, both ends must have the same (`prf` in the policy file). */
export function keyedPrf(SKEYID_d: EncryptionKey, reading: PrfReading): KeyedPrf {
  return (...data) => prf(SKEYID_d, cat(...data), reading);
}

/** The keys of the SA that `spi` names, its receiver's. Without Nr only Ni makes them (optimistic keying, §3.2). */
export function kinkKeys(SKEYID_d: EncryptionKey, reading: PrfReading, input: KeymatInput): KeysOf {
  return (...sa) => saKeys(keyedPrf(SKEYID_d, reading), input, ...sa);
}
