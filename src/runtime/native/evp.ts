/**
 * ESP's cryptography by OpenSSL over FFI: `PacketCipher` on one arena, with a kept context for each SA and direction (RFC 4106,
 * RFC 4309, RFC 4543, RFC 7634, RFC 8750, RFC 3602, RFC 3686).
 */

import { cat } from '../../bytes/bytes.ts';
import type { Secret } from '../../bytes/secret.ts';
import type { EspSuite, PacketCipher } from '../../crypto/packet-cipher.ts';
import {
  ENCR,
  type EncrName,
  type EncrPrimitive,
  type EncrRow,
  encrKeymatBytes,
  INTEG,
  isSuite,
  suiteText,
} from '../../crypto/transforms.ts';
import { Fault } from '../../errors.ts';
import type { Arena } from './arena.ts';
import type { Evp } from './evp-library.ts';
import { Cmac, GMAC_SALT_BYTES, Gmac, HMAC_DIGEST, Hmac, type Mac, type MacRoom, Xcbc } from './evp-mac.ts';

const EVP_CTRL_AEAD_SET_IVLEN = 0x9;
const EVP_CTRL_AEAD_GET_TAG = 0x10;
const EVP_CTRL_AEAD_SET_TAG = 0x11;
const OSSL_PARAM_OCTET_STRING = 5;
/** struct OSSL_PARAM: `key 0 | type 8 | data 16 | size 24 | return size 32`; one without a key ends a list. */
const OSSL_PARAM_BYTES = 40;
const DATA = 16;
/** Octets of an IV in a packet, and of an implicit one (RFC 8750 §4). */
const IV_BYTES = 8;
/** For `tlsivfixed`: the data is the whole IV, not only its fixed part. */
const WHOLE_IV = 0xffff_ffff_ffff_ffffn;
const ESP_HEADER_BYTES = 8;
/** The longest packet with room for XCBC's padding behind it. */
const COPY_BYTES = 65536 + 64;

/**
 * How each algorithm works and makes the IV that OpenSSL wants. AEADs put the salt in front; CCM has to know the length of the text first, and GMAC
 * authenticates what AEADs encrypt. CTR puts salt in front and a counter behind (RFC 3686 §4).
 */
type Kind = 'aead' | 'ccm' | 'gmac' | 'ctr' | 'cbc' | 'null';

interface Keys {
  readonly kind: Kind;
  /** 0 where nothing is encrypted. */
  readonly context: bigint;
  /** Whether the context takes a whole IV as a parameter, which spares the way through EVP's initialization (AES-GCM). */
  readonly ivByParameter: boolean;
  readonly sealing: boolean;
  /** Its four octets (CCM: three) as they lie in memory, read as a little-endian number; 0 where there is none. */
  salt: number;
  /** Whether the nonce is four octets of salt and the IV of the packet. */
  readonly plainIv: boolean;
  readonly ivBytes: number;
  readonly blockBytes: number;
  readonly icvBytes: number;
  /** Where lie the parameters that OpenSSL takes or gives the ICV by. */
  readonly tag: TagParameters;
  mac: Mac | undefined;
}

/** Arena offsets of parameter lists: an ICV, and IV and ICV. */
interface TagParameters {
  readonly alone: number;
  readonly behindIv: number;
}

const KIND: Record<EncrPrimitive, Kind> = {
  aes_gcm: 'aead',
  chacha20_poly1305: 'aead',
  aes_ccm: 'ccm',
  aes_gmac: 'gmac',
  aes_cbc: 'cbc',
  camellia_cbc: 'cbc',
  '3des_cbc': 'cbc',
  des_cbc: 'cbc',
  aes_ctr: 'ctr',
  null: 'null',
};

function algorithm(encr: EncrName, keyBits: number): string {
  const { primitive } = ENCR[encr];
  switch (primitive) {
    case 'aes_gcm':
    case 'aes_gmac':
      return `AES-${keyBits}-GCM`;
    case 'aes_ccm':
      return `AES-${keyBits}-CCM`;
    case 'aes_cbc':
      return `AES-${keyBits}-CBC`;
    case 'aes_ctr':
      return `AES-${keyBits}-CTR`;
    case 'camellia_cbc':
      return `CAMELLIA-${keyBits}-CBC`;
    case 'chacha20_poly1305':
      return 'ChaCha20-Poly1305';
    case '3des_cbc':
    case 'des_cbc':
      return 'DES-EDE3-CBC';
    case 'null':
      return 'NULL';
  }
}

/** Single DES is in OpenSSL's legacy provider, but triple DES with one key three times is the same (RFC 2451 §2.1). */
function cipherKey(encr: EncrName, key: Uint8Array): Uint8Array {
  return encr === 'des_cbc' ? cat(key, key, key) : key;
}

/** `Keys.salt` of the octets behind a key. */
function saltOf(octets: Uint8Array): number {
  return octets.reduce((sum, octet, i) => sum + octet * 2 ** (8 * i), 0);
}

/**
 * Five calls seal an AEAD packet and four open it; nothing is allocated. An AEAD packet that does not authenticate is zeroed, since OpenSSL
 * decrypts before it knows. Make one for each thread, over the arena of its packets (it reserves 64 KiB there).
 */
export class EvpCipher implements PacketCipher {
  readonly name = 'openssl';
  readonly #evp: Evp;
  readonly #arena: Arena;
  readonly #keys: (Keys | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #ciphers = new Map<string, number>();
  readonly #digests = new Map<string, number>();
  readonly #ivAt: number;
  readonly #aadAt: number;
  readonly #ivParameters: number;
  /** By the octets of an ICV. */
  readonly #tagParameters: ReadonlyMap<number, TagParameters>;
  readonly #room: MacRoom;

  constructor(evp: Evp, arena: Arena) {
    this.#evp = evp;
    this.#arena = arena;
    this.#ivAt = arena.reserve(16);
    arena.bytes[this.#ivAt + 15] = 1;
    this.#aadAt = arena.reserve(16);
    this.#room = {
      macAt: arena.reserve(64),
      lengthAt: arena.reserve(16),
      copyAt: arena.reserve(COPY_BYTES),
      copyBytes: COPY_BYTES,
    };
    const iv = { name: 'tlsivfixed', at: this.#ivAt, bytes: WHOLE_IV };
    this.#ivParameters = this.#layParameters([iv]);
    this.#tagParameters = new Map(
      [16, 12, 8].map((octets) => {
        const tag = { name: 'tag', at: 0, bytes: BigInt(octets) };
        return [octets, { alone: this.#layParameters([tag]), behindIv: this.#layParameters([tag, iv]) }];
      }),
    );
  }

  supports({ encr, keyBits, integ }: EspSuite): boolean {
    if (encrKeymatBytes(encr, keyBits) === undefined || !isSuite(encr, integ)) return false;
    if (encr !== 'null_enc' && this.#cipher(algorithm(encr, keyBits)) === 0) return false;
    if (integ === 'none') return true;
    const digest = HMAC_DIGEST[integ];
    if (digest !== undefined) return this.#digest(digest) !== 0;
    const { iv, keyBytes } = INTEG[integ];
    return this.#cipher(iv > 0 ? `AES-${8 * (keyBytes - GMAC_SALT_BYTES)}-GCM` : 'AES-128-CBC') !== 0;
  }

  create(suite: EspSuite, direction: 'seal' | 'open', encrKey: Secret, integKey: Secret | undefined): number {
    const { encr, keyBits, integ } = suite;
    const text = suiteText(encr, keyBits, integ);
    if (!this.supports(suite)) throw new Fault(`OpenSSL here does not have ${text}`);
    const row: EncrRow = ENCR[encr];
    const kind = KIND[row.primitive];
    const want = encrKeymatBytes(encr, keyBits)!;
    if (encrKey.length !== want) throw new Fault(`${text} takes ${want} octets of encryption key, not ${encrKey.length}`);
    const integBytes = integ === 'none' ? 0 : INTEG[integ].keyBytes;
    if ((integKey?.length ?? 0) !== integBytes)
      throw new Fault(`${text} takes ${integBytes} octets of integrity key, not ${integKey?.length}`);
    const octets = encrKey.reveal();
    const key = octets.subarray(0, want - row.salt);
    const context = kind === 'null' ? 0n : this.#context(suite, cipherKey(encr, key), direction);
    const keys: Keys = {
      kind,
      context,
      ivByParameter: (row.primitive === 'aes_gcm' || kind === 'gmac') && this.#takesIv(context),
      sealing: direction === 'seal',
      salt: saltOf(octets.subarray(want - row.salt)),
      plainIv: row.salt === 4 && row.iv > 0,
      ivBytes: row.iv,
      blockBytes: kind === 'cbc' ? row.block : 1,
      icvBytes: integ === 'none' ? row.icv : INTEG[integ].icvBytes,
      tag: this.#tagParameters.get(row.icv || 16)!,
      mac: undefined,
    };
    if (integKey !== undefined) {
      try {
        keys.mac = this.#mac(suite, integKey);
      } catch (error) {
        if (keys.context !== 0n) this.#evp.EVP_CIPHER_CTX_free(keys.context);
        throw error;
      }
    }
    const handle = this.#free.pop() ?? this.#keys.length;
    this.#keys[handle] = keys;
    return handle;
  }

  destroy(handle: number): void {
    const keys = this.#keys[handle];
    if (keys === undefined) return;
    if (keys.context !== 0n) this.#evp.EVP_CIPHER_CTX_free(keys.context);
    keys.mac?.free();
    keys.salt = 0;
    this.#keys[handle] = undefined;
    this.#free.push(handle);
  }

  seal(handle: number, espAt: number, textBytes: number, sequenceHigh: number): boolean {
    const keys = this.#keys[handle];
    if (keys === undefined || !keys.sealing || !this.#fits(keys, espAt, textBytes)) return false;
    if (keys.mac === undefined) return this.#sealAead(keys, espAt, textBytes, sequenceHigh) || this.#failed();
    const textAt = espAt + ESP_HEADER_BYTES + keys.ivBytes;
    if (!this.#crypt(keys, espAt, textAt, textBytes)) return this.#failed();
    if (!keys.mac.compute(espAt, textAt + textBytes - espAt, sequenceHigh)) return this.#failed();
    const { macAt } = this.#room;
    this.#arena.bytes.copyWithin(textAt + textBytes, macAt, macAt + keys.icvBytes);
    return true;
  }

  open(handle: number, espAt: number, textBytes: number, sequenceHigh: number): boolean {
    const keys = this.#keys[handle];
    if (keys === undefined || keys.sealing || !this.#fits(keys, espAt, textBytes)) return false;
    const textAt = espAt + ESP_HEADER_BYTES + keys.ivBytes;
    if (keys.mac === undefined) {
      if (this.#openAead(keys, espAt, textBytes, sequenceHigh)) return true;
      if (keys.kind !== 'gmac') this.#arena.bytes.fill(0, textAt, textAt + textBytes);
      return this.#failed();
    }
    if (!keys.mac.compute(espAt, textAt + textBytes - espAt, sequenceHigh)) return this.#failed();
    if (!this.#sameIcv(textAt + textBytes, keys.icvBytes)) return false;
    return this.#crypt(keys, espAt, textAt, textBytes) || this.#failed();
  }

  /** No packet may reach outside the arena, whatever the caller got wrong. */
  #fits(keys: Keys, espAt: number, textBytes: number): boolean {
    const end = espAt + ESP_HEADER_BYTES + keys.ivBytes + textBytes + keys.icvBytes;
    return espAt >= 0 && textBytes >= 0 && end <= this.#arena.bytes.length && textBytes % keys.blockBytes === 0;
  }

  #sealAead(keys: Keys, espAt: number, textBytes: number, sequenceHigh: number): boolean {
    const evp = this.#evp;
    const base = this.#arena.base;
    const context = keys.context;
    const textAt = espAt + ESP_HEADER_BYTES + keys.ivBytes;
    const text = base + textAt;
    const outLength = base + this.#room.lengthAt;
    this.#writeIv(keys, espAt, sequenceHigh);
    if (keys.ivByParameter) {
      this.#arena.setPointer(keys.tag.alone + DATA, textAt + textBytes);
      return (
        evp.EVP_CIPHER_CTX_set_params(context, base + this.#ivParameters) === 1 &&
        this.#authenticateHeader(context, espAt, sequenceHigh, outLength) &&
        this.#process(keys, text, textBytes, outLength) &&
        evp.EVP_CipherFinal_ex(context, text + textBytes, outLength) === 1 &&
        evp.EVP_CIPHER_CTX_get_params(context, base + keys.tag.alone) === 1
      );
    }
    return (
      evp.EVP_CipherInit_ex(context, 0, 0, 0, base + this.#ivAt, -1) === 1 &&
      this.#announce(keys, textBytes, outLength) &&
      this.#authenticateHeader(context, espAt, sequenceHigh, outLength) &&
      this.#process(keys, text, textBytes, outLength) &&
      evp.EVP_CipherFinal_ex(context, text + textBytes, outLength) === 1 &&
      evp.EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, keys.icvBytes, text + textBytes) === 1
    );
  }

  #openAead(keys: Keys, espAt: number, textBytes: number, sequenceHigh: number): boolean {
    const evp = this.#evp;
    const base = this.#arena.base;
    const context = keys.context;
    const textAt = espAt + ESP_HEADER_BYTES + keys.ivBytes;
    const text = base + textAt;
    const outLength = base + this.#room.lengthAt;
    this.#writeIv(keys, espAt, sequenceHigh);
    return (
      this.#begin(keys, textAt + textBytes) &&
      this.#announce(keys, textBytes, outLength) &&
      this.#authenticateHeader(context, espAt, sequenceHigh, outLength) &&
      this.#process(keys, text, textBytes, outLength) &&
      evp.EVP_CipherFinal_ex(context, text + textBytes, outLength) === 1
    );
  }

  /** Hands the ICV over with the IV, which saves a call. */
  #begin({ context, ivByParameter, tag }: Keys, icvAt: number): boolean {
    const { base } = this.#arena;
    const parameters = ivByParameter ? tag.behindIv : tag.alone;
    this.#arena.setPointer(parameters + DATA, icvAt);
    return ivByParameter
      ? this.#evp.EVP_CIPHER_CTX_set_params(context, base + parameters) === 1
      : this.#evp.EVP_DecryptInit_ex2(context, 0, 0, base + this.#ivAt, base + parameters) === 1;
  }

  /** CCM's first block holds the length of the text (RFC 3610 §2.2). */
  #announce({ kind, context }: Keys, textBytes: number, outLength: number): boolean {
    return kind !== 'ccm' || this.#evp.EVP_CipherUpdate(context, 0, outLength, 0, textBytes) === 1;
  }

  /** Encrypts or decrypts the text, which is at an address; GMAC authenticates it together with the IV before it (RFC 4543 §3.3). */
  #process({ kind, context, ivBytes }: Keys, text: number, textBytes: number, outLength: number): boolean {
    return kind === 'gmac'
      ? this.#evp.EVP_CipherUpdate(context, 0, outLength, text - ivBytes, ivBytes + textBytes) === 1
      : this.#evp.EVP_CipherUpdate(context, text, outLength, text, textBytes) === 1;
  }

  /** The AAD of RFC 4106 §5: SPI and sequence number as sent, with the high half between them where there is one. */
  #authenticateHeader(context: bigint, espAt: number, sequenceHigh: number, outLength: number): boolean {
    const { base, bytes } = this.#arena;
    if (sequenceHigh < 0) return this.#evp.EVP_CipherUpdate(context, 0, outLength, base + espAt, ESP_HEADER_BYTES) === 1;
    const at = this.#aadAt;
    for (let i = 0; i < 4; i++) bytes[at + i] = bytes[espAt + i]!;
    bytes[at + 4] = sequenceHigh >>> 24;
    bytes[at + 5] = sequenceHigh >>> 16;
    bytes[at + 6] = sequenceHigh >>> 8;
    bytes[at + 7] = sequenceHigh;
    for (let i = 4; i < 8; i++) bytes[at + 4 + i] = bytes[espAt + i]!;
    return this.#evp.EVP_CipherUpdate(context, 0, outLength, base + at, 12) === 1;
  }

  /** CBC, CTR and NULL in place: two calls, or none. */
  #crypt(keys: Keys, espAt: number, textAt: number, textBytes: number): boolean {
    if (keys.kind === 'null') return true;
    const { base } = this.#arena;
    let iv = base + espAt + ESP_HEADER_BYTES;
    if (keys.kind === 'ctr') {
      this.#writeIv(keys, espAt, -1);
      iv = base + this.#ivAt;
    }
    const text = base + textAt;
    return (
      this.#evp.EVP_CipherInit_ex(keys.context, 0, 0, 0, iv, -1) === 1 &&
      this.#evp.EVP_CipherUpdate(keys.context, text, base + this.#room.lengthAt, text, textBytes) === 1
    );
  }

  /** Salt and explicit IV; the block counter 1 behind them, which only CTR reads, was written once. */
  #writeIv(keys: Keys, espAt: number, sequenceHigh: number): void {
    if (!keys.plainIv) return this.#writeOtherIv(keys, espAt, sequenceHigh);
    const { bytes, u32 } = this.#arena;
    const at = this.#ivAt;
    const from = espAt + ESP_HEADER_BYTES;
    u32[at >>> 2] = keys.salt;
    if ((from & 3) === 0) {
      u32[(at + 4) >>> 2] = u32[from >>> 2]!;
      u32[(at + 8) >>> 2] = u32[(from + 4) >>> 2]!;
    } else for (let i = 0; i < 8; i++) bytes[at + 4 + i] = bytes[from + i]!;
  }

  /** CCM's salt is of three octets (RFC 4309 §4); an implicit IV is the whole sequence number (RFC 8750 §4). */
  #writeOtherIv({ kind, salt, ivBytes }: Keys, espAt: number, sequenceHigh: number): void {
    const { bytes, view } = this.#arena;
    view.setUint32(this.#ivAt, salt, true);
    const at = this.#ivAt + (kind === 'ccm' ? 3 : 4);
    const from = espAt + ESP_HEADER_BYTES;
    if (ivBytes > 0) bytes.copyWithin(at, from, from + IV_BYTES);
    else {
      view.setUint32(at, Math.max(0, sequenceHigh));
      bytes.copyWithin(at + 4, from - 4, from);
    }
  }

  #sameIcv(at: number, icvBytes: number): boolean {
    const { bytes } = this.#arena;
    const { macAt } = this.#room;
    let difference = 0;
    for (let i = 0; i < icvBytes; i++) difference |= bytes[at + i]! ^ bytes[macAt + i]!;
    return difference === 0;
  }

  /** Empties OpenSSL's error queue, which node:crypto on this thread would read. */
  #failed(): false {
    this.#evp.ERR_clear_error();
    return false;
  }

  #cipher(name: string): number {
    const known = this.#ciphers.get(name);
    if (known !== undefined) return known;
    const cipher = this.#evp.EVP_CIPHER_fetch(0, name, 0);
    if (cipher === 0) this.#evp.ERR_clear_error();
    this.#ciphers.set(name, cipher);
    return cipher;
  }

  #digest(name: string): number {
    const known = this.#digests.get(name);
    if (known !== undefined) return known;
    const digest = this.#evp.EVP_MD_fetch(0, name, 0);
    if (digest === 0) this.#evp.ERR_clear_error();
    this.#digests.set(name, digest);
    return digest;
  }

  #context({ encr, keyBits }: EspSuite, key: Uint8Array, direction: 'seal' | 'open'): bigint {
    const name = algorithm(encr, keyBits);
    const row: EncrRow = ENCR[encr];
    const { base, bytes } = this.#arena;
    const at = this.#room.copyAt;
    const context = BigInt(this.#evp.EVP_CIPHER_CTX_new());
    bytes.set(key, at);
    const encrypt = direction === 'seal' ? 1 : 0;
    const evp = this.#evp;
    const ready =
      evp.EVP_CipherInit_ex(context, this.#cipher(name), 0, 0, 0, encrypt) === 1 &&
      (row.primitive !== 'aes_ccm' ||
        (evp.EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_IVLEN, row.salt + IV_BYTES, 0) === 1 &&
          evp.EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, row.icv, 0) === 1)) &&
      evp.EVP_CipherInit_ex(context, 0, 0, base + at, 0, encrypt) === 1;
    bytes.fill(0, at, at + key.length);
    if (!ready || this.#evp.EVP_CIPHER_CTX_set_padding(context, 0) !== 1) {
      this.#evp.EVP_CIPHER_CTX_free(context);
      this.#evp.ERR_clear_error();
      throw new Fault(`OpenSSL refused a key for ${name}`);
    }
    return context;
  }

  #mac({ integ }: EspSuite, key: Secret): Mac {
    const digest = HMAC_DIGEST[integ as keyof typeof HMAC_DIGEST];
    if (digest !== undefined) return new Hmac(this.#evp, this.#arena, this.#room, this.#digest(digest), key);
    if (integ !== 'none' && INTEG[integ].iv > 0) {
      const gcm = this.#cipher(`AES-${8 * (key.length - GMAC_SALT_BYTES)}-GCM`);
      return new Gmac(this.#evp, this.#arena, this.#room, gcm, key);
    }
    const block = this.#cipher('AES-128-CBC');
    return integ === 'aes_cmac'
      ? new Cmac(this.#evp, this.#arena, this.#room, block, key)
      : new Xcbc(this.#evp, this.#arena, this.#room, block, key);
  }

  /** Whether OpenSSL takes `tlsivfixed` as meant here; the known-answer test then says whether it makes the right packets of it. */
  #takesIv(context: bigint): boolean {
    return this.#evp.EVP_CIPHER_CTX_set_params(context, this.#arena.base + this.#ivParameters) === 1 || this.#failed();
  }

  /** A list of octet strings in the arena. */
  #layParameters(list: readonly { readonly name: string; readonly at: number; readonly bytes: bigint }[]): number {
    const arena = this.#arena;
    const start = arena.reserve((list.length + 1) * OSSL_PARAM_BYTES);
    list.forEach(({ name, at, bytes }, index) => {
      const nameAt = arena.reserve(16);
      arena.bytes.set(new TextEncoder().encode(name), nameAt);
      const here = start + index * OSSL_PARAM_BYTES;
      arena.setPointer(here, nameAt);
      arena.u32[(here + 8) >>> 2] = OSSL_PARAM_OCTET_STRING;
      arena.setPointer(here + DATA, at);
      arena.u64[(here + 24) >>> 3] = bytes;
    });
    return start;
  }
}
