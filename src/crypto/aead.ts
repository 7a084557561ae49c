/** One face over combined-mode ciphers (RFC 5282, RFC 7634) and encrypt-then-MAC pairs for IKEv2's SK payload, RFC 7296 §3.14. */

import { cat, equal, u32be } from '../bytes/bytes.ts';
import { Fault } from '../errors.ts';
import { defaultEngine, type Engine, type Unauthenticated } from './engine.ts';
import { macOf } from './mac.ts';
import { isAead, isUnauthenticated } from './primitives.ts';
import { ENCR, type EncrName, type EncrRow, encrKeyBytes, INTEG, type IntegName, suiteText } from './transforms.ts';

/** The protection of one IKE SA's messages. Lengths are octets. */
export interface IkeCipher {
  /** SK_ei and SK_er each: key and salt. */
  readonly encrKeyBytes: number;
  /** SK_ai and SK_ar each: 0 for a combined-mode cipher. */
  readonly integKeyBytes: number;
  readonly ivBytes: number;
  readonly icvBytes: number;
  /** What the length of text, padding and pad length together is a multiple of. */
  readonly blockBytes: number;
  /**
   * `iv | ciphertext | ICV`. `aad` is the message from the IKE header up to and including the SK payload's generic header; the
   * ICV covers it whether it is a combined-mode cipher's or that of a separate algorithm. `text` ends with padding and pad length.
   */
  seal(encrKey: Uint8Array, integKey: Uint8Array, iv: Uint8Array, aad: Uint8Array, text: Uint8Array): Uint8Array;
  /** The text, padding included, or undefined where `sealed` is too short, of a wrong length for the cipher, or not authentic. */
  open(encrKey: Uint8Array, integKey: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array | undefined;
}

/**
 * The cipher of an IKE SA. `keyBits` excludes the salt and is 0 or the one length where the algorithm has one only. Throws
 * Fault for a pair that no checked proposal holds: no such key length, integrity missing or superfluous, a cipher IKE may not use.
 */
export function ikeCipher(encr: EncrName, keyBits: number, integ: IntegName | 'none', engine: Engine = defaultEngine): IkeCipher {
  const what = suiteText(encr, keyBits, integ);
  const keyBytes = encrKeyBytes(encr, keyBits);
  if (keyBytes === undefined) throw new Fault(`${what}: no key of ${keyBits} bits (${ENCR[encr].rfc})`);
  if (ENCR[encr].icv > 0 !== (integ === 'none')) {
    throw new Fault(`${what}: integrity is separate exactly where the cipher has none of its own (RFC 7296 §3.3)`);
  }
  if (!ENCR[encr].ike || (integ !== 'none' && !INTEG[integ].ike))
    throw new Fault(`${what}: not for IKE SAs (${ENCR[encr].ike ? INTEG[integ as IntegName].rfc : ENCR[encr].rfc}, RFC 7296 §5)`);
  return integ === 'none' ? combined(encr, keyBytes, engine) : encryptThenMac(encr, keyBytes, integ, engine);
}

/** RFC 5282 §3 to §5 and RFC 7634 §3: the nonce is salt | IV, the text needs no alignment. */
function combined(encr: EncrName, keyBytes: number, engine: Engine): IkeCipher {
  const { primitive, salt, iv: ivBytes, icv: icvBytes }: EncrRow = ENCR[encr];
  if (!isAead(primitive)) throw new Fault(`${encr} does not authenticate`);
  const encrKeyBytes = keyBytes + salt;
  const keyed = (encrKey: Uint8Array) =>
    engine.aead(primitive, checked('encryption', encrKey, encrKeyBytes).subarray(0, keyBytes), icvBytes);
  const nonce = (encrKey: Uint8Array, iv: Uint8Array) => cat(encrKey.subarray(keyBytes), iv);
  return {
    encrKeyBytes,
    integKeyBytes: 0,
    ivBytes,
    icvBytes,
    blockBytes: 1,
    seal(encrKey, integKey, iv, aad, text) {
      checked('integrity', integKey, 0);
      return cat(iv, keyed(encrKey).seal(nonce(encrKey, checked('IV', iv, ivBytes)), aad, text));
    },
    open(encrKey, integKey, aad, sealed) {
      checked('integrity', integKey, 0);
      if (sealed.length < ivBytes + icvBytes) return undefined;
      return keyed(encrKey).open(nonce(encrKey, sealed.subarray(0, ivBytes)), aad, sealed.subarray(ivBytes));
    },
  };
}

/** RFC 7296 §3.14: encrypt, then authenticate the whole message up to the ICV. For CTR the counter block is that of RFC 5930 §2. */
function encryptThenMac(encr: EncrName, keyBytes: number, integ: IntegName, engine: Engine): IkeCipher {
  const { primitive, salt, iv: ivBytes, block }: EncrRow = ENCR[encr];
  if (!isUnauthenticated(primitive)) throw new Fault(`${encr} does not encrypt`);
  const { keyBytes: integKeyBytes, icvBytes } = INTEG[integ];
  const encrKeyBytes = keyBytes + salt;
  const blockBytes = primitive === 'aes_ctr' ? 1 : block;
  const create = (key: Uint8Array): Unauthenticated => {
    const cipher = engine.cipher(primitive, key);
    if (cipher === undefined) throw new Fault(`the crypto engine ${engine.name} has no ${encr}: use the native one`);
    return cipher;
  };
  create(new Uint8Array(keyBytes)); // a cipher that is missing is missed now, not at the first message
  const keyed = (encrKey: Uint8Array) => create(checked('encryption', encrKey, encrKeyBytes).subarray(0, keyBytes));
  const firstBlock = (encrKey: Uint8Array, iv: Uint8Array) =>
    primitive === 'aes_ctr' ? cat(encrKey.subarray(keyBytes), iv, u32be(1)) : iv;
  return {
    encrKeyBytes,
    integKeyBytes,
    ivBytes,
    icvBytes,
    blockBytes,
    seal(encrKey, integKey, iv, aad, text) {
      if (text.length % blockBytes !== 0)
        throw new Fault(`${text.length} octets are not a multiple of ${encr}'s block, ${blockBytes}`);
      const ciphertext = keyed(encrKey).encrypt(firstBlock(encrKey, checked('IV', iv, ivBytes)), text);
      return cat(iv, ciphertext, macOf(integ, integKey, engine)(aad, iv, ciphertext));
    },
    open(encrKey, integKey, aad, sealed) {
      const end = sealed.length - icvBytes;
      if (end < ivBytes || (end - ivBytes) % blockBytes !== 0) return undefined;
      if (!equal(macOf(integ, integKey, engine)(aad, sealed.subarray(0, end)), sealed.subarray(end))) return undefined;
      return keyed(encrKey).decrypt(firstBlock(encrKey, sealed.subarray(0, ivBytes)), sealed.subarray(ivBytes, end));
    },
  };
}

function checked(what: string, bytes: Uint8Array, length: number): Uint8Array {
  const noun = what === 'IV' ? what : `${what} key`;
  if (bytes.length !== length) throw new Fault(`${noun}: expected ${length} octets, found ${bytes.length}`);
  return bytes;
}
