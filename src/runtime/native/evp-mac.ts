/**
 * The separate integrity algorithms of ESP over OpenSSL with kept contexts: HMAC (RFC 4868, RFC 2404), CMAC (RFC 4494), XCBC (RFC
 * 3566), GMAC (RFC 4543).
 */

import type { Secret } from '../../bytes/secret.ts';
import type { IntegName } from '../../crypto/transforms.ts';
import { Fault } from '../../errors.ts';
import type { Arena } from './arena.ts';
import type { Evp } from './evp-library.ts';

/** One keyed MAC. `compute` leaves the whole MAC at the `macAt` that it was made with. */
export interface Mac {
  /**
   * Over `length` octets at arena offset `at`, then the four of `sequenceHigh` if that is not -1 (RFC 4303 §2.8). False on
   * failure.
   */
  compute(at: number, length: number, sequenceHigh: number): boolean;
  /** Wipes the key. */
  free(): void;
}

/** Where a MAC may write: its result, a place for lengths, and (XCBC) a copy of the message. */
export interface MacRoom {
  readonly macAt: number;
  readonly lengthAt: number;
  readonly copyAt: number;
  readonly copyBytes: number;
}

/** OpenSSL's digest under each HMAC. */
export const HMAC_DIGEST: Partial<Record<IntegName, string>> = {
  hmac_md5: 'MD5',
  hmac_sha1: 'SHA1',
  hmac_sha2_256: 'SHA2-256',
  hmac_sha2_384: 'SHA2-384',
  hmac_sha2_512: 'SHA2-512',
};

function writeHigh(arena: Arena, at: number, sequenceHigh: number): number {
  arena.view.setUint32(at, sequenceHigh);
  return arena.base + at;
}

function hold(arena: Arena, at: number, key: Uint8Array, use: (address: number) => number): number {
  arena.bytes.set(key, at);
  const result = use(arena.base + at);
  arena.bytes.fill(0, at, at + key.length);
  return result;
}

/** HMAC with a kept HMAC_CTX: three calls a packet. */
export class Hmac implements Mac {
  readonly #evp: Evp;
  readonly #arena: Arena;
  readonly #room: MacRoom;
  readonly #context: bigint;

  constructor(evp: Evp, arena: Arena, room: MacRoom, digest: number, key: Secret) {
    this.#evp = evp;
    this.#arena = arena;
    this.#room = room;
    this.#context = BigInt(evp.HMAC_CTX_new());
    if (
      hold(arena, room.copyAt, key.reveal(), (address) => evp.HMAC_Init_ex(this.#context, address, key.length, digest, 0)) !== 1
    ) {
      throw new Fault('OpenSSL refused an HMAC key');
    }
  }

  compute(at: number, length: number, sequenceHigh: number): boolean {
    const evp = this.#evp;
    const context = this.#context;
    const base = this.#arena.base;
    const { macAt, lengthAt } = this.#room;
    if (evp.HMAC_Init_ex(context, 0, 0, 0, 0) !== 1 || evp.HMAC_Update(context, base + at, length) !== 1) return false;
    if (sequenceHigh >= 0 && evp.HMAC_Update(context, writeHigh(this.#arena, lengthAt + 8, sequenceHigh), 4) !== 1) return false;
    return evp.HMAC_Final(context, base + macAt, base + lengthAt) === 1;
  }

  free(): void {
    this.#evp.HMAC_CTX_free(this.#context);
  }
}

/** AES-CMAC with a kept CMAC_CTX: three calls a packet. */
export class Cmac implements Mac {
  readonly #evp: Evp;
  readonly #arena: Arena;
  readonly #room: MacRoom;
  readonly #context: bigint;

  constructor(evp: Evp, arena: Arena, room: MacRoom, aes128Cbc: number, key: Secret) {
    this.#evp = evp;
    this.#arena = arena;
    this.#room = room;
    this.#context = BigInt(evp.CMAC_CTX_new());
    if (
      hold(arena, room.copyAt, key.reveal(), (address) => evp.CMAC_Init(this.#context, address, key.length, aes128Cbc, 0)) !== 1
    ) {
      throw new Fault('OpenSSL refused a CMAC key');
    }
  }

  compute(at: number, length: number, sequenceHigh: number): boolean {
    const evp = this.#evp;
    const context = this.#context;
    const base = this.#arena.base;
    const { macAt, lengthAt } = this.#room;
    if (evp.CMAC_Init(context, 0, 0, 0, 0) !== 1 || evp.CMAC_Update(context, base + at, length) !== 1) return false;
    if (sequenceHigh >= 0 && evp.CMAC_Update(context, writeHigh(this.#arena, lengthAt + 8, sequenceHigh), 4) !== 1) return false;
    return evp.CMAC_Final(context, base + macAt, base + lengthAt) === 1;
  }

  free(): void {
    this.#evp.CMAC_CTX_free(this.#context);
  }
}

export const GMAC_SALT_BYTES = 4;
const GMAC_IV_BYTES = 8;
const GMAC_TAG_BYTES = 16;
const EVP_CTRL_AEAD_GET_TAG = 0x10;

/**
 * AES-GMAC (RFC 4543 §4) as the tag of AES-GCM over authenticated data alone: four calls a packet. The IV is read behind the message, where AH's ICV
 * goes, and `macAt` gets IV and tag.
 */
export class Gmac implements Mac {
  readonly #evp: Evp;
  readonly #arena: Arena;
  readonly #room: MacRoom;
  readonly #context: bigint;
  readonly #salt: Uint8Array;

  constructor(evp: Evp, arena: Arena, room: MacRoom, gcm: number, key: Secret) {
    this.#evp = evp;
    this.#arena = arena;
    this.#room = room;
    const octets = key.reveal();
    const keyBytes = octets.length - GMAC_SALT_BYTES;
    this.#salt = octets.slice(keyBytes);
    this.#context = BigInt(evp.EVP_CIPHER_CTX_new());
    const init = (address: number) => evp.EVP_CipherInit_ex(this.#context, gcm, 0, address, 0, 1);
    if (hold(arena, room.copyAt, octets.subarray(0, keyBytes), init) !== 1) throw new Fault('OpenSSL refused a GMAC key');
  }

  compute(at: number, length: number, sequenceHigh: number): boolean {
    const evp = this.#evp;
    const context = this.#context;
    const { base, bytes } = this.#arena;
    const { macAt, lengthAt, copyAt } = this.#room;
    const ivAt = at + length;
    if (ivAt + GMAC_IV_BYTES > bytes.length) return false;
    bytes.set(this.#salt, copyAt);
    bytes.copyWithin(copyAt + GMAC_SALT_BYTES, ivAt, ivAt + GMAC_IV_BYTES);
    bytes.copyWithin(macAt, ivAt, ivAt + GMAC_IV_BYTES);
    if (evp.EVP_CipherInit_ex(context, 0, 0, 0, base + copyAt, -1) !== 1) return false;
    const lengths = base + lengthAt;
    if (evp.EVP_CipherUpdate(context, 0, lengths, base + at, length) !== 1) return false;
    const high = sequenceHigh < 0 ? 0 : writeHigh(this.#arena, lengthAt + 8, sequenceHigh);
    if (high !== 0 && evp.EVP_CipherUpdate(context, 0, lengths, high, 4) !== 1) return false;
    const tag = base + macAt + GMAC_IV_BYTES;
    return (
      evp.EVP_CipherFinal_ex(context, tag, lengths) === 1 &&
      evp.EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, GMAC_TAG_BYTES, tag) === 1
    );
  }

  free(): void {
    this.#evp.EVP_CIPHER_CTX_free(this.#context);
    this.#salt.fill(0);
  }
}

/** AES-XCBC-MAC (RFC 3566 §4) as the last block of AES-CBC over a padded copy of the message: OpenSSL has no XCBC. */
export class Xcbc implements Mac {
  readonly #evp: Evp;
  readonly #arena: Arena;
  readonly #room: MacRoom;
  readonly #context: bigint;
  /** K2 for whole last blocks, K3 for padded ones. */
  readonly #K2: Uint8Array;
  readonly #K3: Uint8Array;

  constructor(evp: Evp, arena: Arena, room: MacRoom, aes128Cbc: number, key: Secret) {
    this.#evp = evp;
    this.#arena = arena;
    this.#room = room;
    this.#context = BigInt(evp.EVP_CIPHER_CTX_new());
    this.#use(aes128Cbc, key.reveal());
    const derived = [1, 2, 3].map((n) => {
      arena.bytes.fill(n, room.copyAt, room.copyAt + 16);
      if (!this.#encrypt(16)) throw new Fault('OpenSSL refused to derive the XCBC keys');
      return arena.bytes.slice(room.copyAt, room.copyAt + 16);
    });
    this.#K2 = derived[1]!;
    this.#K3 = derived[2]!;
    this.#use(0, derived[0]!);
    derived[0]!.fill(0);
    arena.bytes.fill(0, room.copyAt, room.copyAt + 16);
  }

  compute(at: number, length: number, sequenceHigh: number): boolean {
    const { bytes } = this.#arena;
    const { copyAt, copyBytes, macAt } = this.#room;
    if (length + 20 > copyBytes) return false;
    bytes.copyWithin(copyAt, at, at + length);
    let end = copyAt + length;
    if (sequenceHigh >= 0) {
      bytes[end] = sequenceHigh >>> 24;
      bytes[end + 1] = sequenceHigh >>> 16;
      bytes[end + 2] = sequenceHigh >>> 8;
      bytes[end + 3] = sequenceHigh;
      end += 4;
    }
    const whole = end > copyAt && (end - copyAt) % 16 === 0;
    if (!whole) {
      bytes[end++] = 0x80;
      while ((end - copyAt) % 16 !== 0) bytes[end++] = 0;
    }
    const mask = whole ? this.#K2 : this.#K3;
    for (let i = 0; i < 16; i++) bytes[end - 16 + i]! ^= mask[i]!;
    if (!this.#encrypt(end - copyAt)) return false;
    bytes.copyWithin(macAt, end - 16, end);
    return true;
  }

  free(): void {
    this.#evp.EVP_CIPHER_CTX_free(this.#context);
    this.#K2.fill(0);
    this.#K3.fill(0);
  }

  #use(cipher: number, key: Uint8Array): void {
    const init = (address: number) => this.#evp.EVP_CipherInit_ex(this.#context, cipher, 0, address, 0, 1);
    const ready = hold(this.#arena, this.#room.copyAt, key, init);
    if (ready !== 1 || this.#evp.EVP_CIPHER_CTX_set_padding(this.#context, 0) !== 1)
      throw new Fault('OpenSSL refused an XCBC key');
  }

  /** CBC with a zero IV over the copy, in place. */
  #encrypt(length: number): boolean {
    const { base, bytes } = this.#arena;
    const { copyAt, macAt, lengthAt } = this.#room;
    bytes.fill(0, macAt, macAt + 16);
    const copy = base + copyAt;
    if (this.#evp.EVP_CipherInit_ex(this.#context, 0, 0, 0, base + macAt, -1) !== 1) return false;
    return this.#evp.EVP_CipherUpdate(this.#context, copy, base + lengthAt, copy, length) === 1;
  }
}
