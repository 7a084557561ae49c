/** Two ciphers as one: what the first does not support, the second does. */

import type { Secret } from '../bytes/secret.ts';
import type { EspSuite, PacketCipher } from './packet-cipher.ts';

/** Handles of the first are even here, those of the second odd. */
export class CipherPair implements PacketCipher {
  readonly name: string;
  readonly #first: PacketCipher;
  readonly #second: PacketCipher;

  constructor(first: PacketCipher, second: PacketCipher) {
    this.name = second.name;
    this.#first = first;
    this.#second = second;
  }

  supports(suite: EspSuite): boolean {
    return this.#first.supports(suite) || this.#second.supports(suite);
  }

  create(suite: EspSuite, direction: 'seal' | 'open', encrKey: Secret, integKey: Secret | undefined): number {
    return this.#first.supports(suite)
      ? 2 * this.#first.create(suite, direction, encrKey, integKey)
      : 2 * this.#second.create(suite, direction, encrKey, integKey) + 1;
  }

  destroy(handle: number): void {
    this.#of(handle).destroy(handle >>> 1);
  }

  seal(handle: number, espAt: number, textBytes: number, sequenceHigh: number): boolean {
    return this.#of(handle).seal(handle >>> 1, espAt, textBytes, sequenceHigh);
  }

  open(handle: number, espAt: number, textBytes: number, sequenceHigh: number): boolean {
    return this.#of(handle).open(handle >>> 1, espAt, textBytes, sequenceHigh);
  }

  #of(handle: number): PacketCipher {
    return (handle & 1) === 0 ? this.#first : this.#second;
  }
}
