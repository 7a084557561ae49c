/** What the datapath needs of a cipher: integers in, a verdict out, no object per packet. Implemented by noble (portable) and by OpenSSL over FFI. */

import type { Secret } from '../bytes/secret.ts';
import type { EncrName, IntegName } from './transforms.ts';

/** The algorithms of one ESP SA, RFC 4303 §3.2. A combined-mode cipher has `integ: 'none'`. An AH SA has `null_enc`, and the text is all but the first 8 octets. */
export interface EspSuite {
  readonly encr: EncrName;
  /** Cipher key length without the salt; 0 where the cipher has one length only or none. */
  readonly keyBits: number;
  readonly integ: IntegName | 'none';
}

/**
 * Works in place on ESP packets in the host's one arena. A packet at offset `espAt` lies there as
 * `SPI (4) | sequence (4) | IV (row's iv) | text (textBytes: payload, padding, pad length, next header) | ICV (icv bytes)`.
 * The IV has been written by the caller, also that of an integrity algorithm that has one, in front of its ICV (RFC 4543 §4: AH only). `sequenceHigh` is the high half of an extended sequence number, which is authenticated
 * but not sent (RFC 4303 §2.2.1), or -1 where the SA has 32-bit numbers.
 */
export interface PacketCipher {
  /** `openssl`, `noble`, … for the log and for `status`. */
  readonly name: string;
  supports(suite: EspSuite): boolean;
  /**
   * Prepares the keys of one SA in one direction and returns its handle, an integer >= 0. `encrKey` is key and salt as
   * KEYMAT has them. Throws Fault where `supports` is false or a length is wrong.
   */
  create(suite: EspSuite, direction: 'seal' | 'open', encrKey: Secret, integKey: Secret | undefined): number;
  /** Wipes and forgets the keys. */
  destroy(handle: number): void;
  /** Encrypts the text and writes the ICV behind it. False if the cipher failed, which drops the packet. */
  seal(handle: number, espAt: number, textBytes: number, sequenceHigh: number): boolean;
  /** Checks the ICV in constant time, and only if it is right decrypts the text. */
  open(handle: number, espAt: number, textBytes: number, sequenceHigh: number): boolean;
}
