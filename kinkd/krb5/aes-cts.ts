/** AES-CBC with ciphertext stealing (RFC 3962 §5) and the n-fold function (RFC 3961 §5.1), which Kerberos' enctypes are built of. */

import { cat } from '../../src/bytes/bytes.ts';
import type { Engine } from '../../src/crypto/engine.ts';
import { Fault } from '../../src/errors.ts';

/** Octets of an AES block. */
export const BLOCK = 16;

const ZERO = new Uint8Array(BLOCK);

/** CBC-CS3 with a zero IV: the last two blocks change places, and the ciphertext is as long as the text, which has one block at least. */
export function cbcCts(
  key: Uint8Array,
  engine: Engine,
): { encrypt(text: Uint8Array): Uint8Array; decrypt(ciphertext: Uint8Array): Uint8Array } {
  const aes = engine.cipher('aes_cbc', key);
  if (aes === undefined) throw new Fault(`the ${engine.name} engine has no AES-CBC`);
  return {
    encrypt(text) {
      if (text.length <= BLOCK) return aes.encrypt(ZERO, wholeBlock(text)).slice();
      const { before, last } = split(text.length);
      const padded = cat(text, new Uint8Array(before + 2 * BLOCK - text.length));
      const C = aes.encrypt(ZERO, padded);
      padded.fill(0);
      return cat(C.subarray(0, before), C.subarray(before + BLOCK), C.subarray(before, before + last));
    },
    decrypt(ciphertext) {
      if (ciphertext.length <= BLOCK) return aes.decrypt(ZERO, wholeBlock(ciphertext)).slice();
      const { before, last } = split(ciphertext.length);
      const previous = before === 0 ? ZERO : ciphertext.subarray(before - BLOCK, before);
      const swapped = ciphertext.subarray(before, before + BLOCK);
      const stolen = ciphertext.subarray(before + BLOCK);
      // D(swapped) is the padded last block of text, XORed with the whole C(n-1), whose missing end is therefore D's own end.
      const D = aes.decrypt(ZERO, swapped);
      const whole = cat(stolen, D.subarray(last));
      return cat(
        before === 0 ? new Uint8Array(0) : aes.decrypt(ZERO, ciphertext.subarray(0, before)),
        aes.decrypt(previous, whole),
        xor(D.subarray(0, last), stolen),
      );
    },
  };
}

/**
 * n-fold: copies of the input, each rotated right by 13 bits more than the one before, are laid end to end up to a common multiple of both
 * lengths, cut in pieces of `length` octets, and added in one's complement.
 */
export function nfold(input: Uint8Array, length: number): Uint8Array {
  const total = (input.length * length) / gcd(input.length, length);
  const bits = input.length * 8;
  const octetAt = (position: number) => {
    const copy = Math.floor(position / input.length);
    const first = ((((position % input.length) * 8 - 13 * copy) % bits) + bits) % bits;
    const pair = (input[first >> 3]! << 8) | input[((first >> 3) + 1) % input.length]!;
    return (pair >> (8 - (first & 7))) & 0xff;
  };
  const sums = new Uint32Array(length);
  for (let position = 0; position < total; position++) sums[position % length]! += octetAt(position);
  let carry = 0;
  do {
    for (let i = length - 1; i >= 0; i--) {
      const sum = sums[i]! + carry;
      sums[i] = sum & 0xff;
      carry = sum >>> 8;
    }
  } while (carry !== 0); // the carry out of the first octet comes in again at the last
  return Uint8Array.from(sums);
}

/** Octets before the last two blocks, and octets in the last. */
function split(length: number): { before: number; last: number } {
  const blocks = Math.ceil(length / BLOCK);
  return { before: (blocks - 2) * BLOCK, last: length - (blocks - 1) * BLOCK };
}

function wholeBlock(text: Uint8Array): Uint8Array {
  if (text.length !== BLOCK) throw new Fault(`ciphertext stealing needs a whole block, not ${text.length} octets`);
  return text;
}

function xor(a: Uint8Array, b: Uint8Array): Uint8Array {
  return a.map((octet, i) => octet ^ b[i]!);
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
