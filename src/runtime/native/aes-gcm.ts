/**
 * AES-GCM of ESP by the routines that OpenSSL itself uses for it on x86-64, without EVP in between: two calls a packet instead of five
 * (RFC 4106, NIST SP 800-38D; why: docs/decisions/0003).
 */

import { readFileSync } from 'node:fs';
import type { Secret } from '../../bytes/secret.ts';
import type { EspSuite, PacketCipher } from '../../crypto/packet-cipher.ts';
import { ENCR, encrKeymatBytes, suiteText } from '../../crypto/transforms.ts';
import { Fault, SystemError } from '../../errors.ts';
import { Arena } from './arena.ts';
import { type Door, tryDoor } from './door.ts';
import type { Libc } from './libc.ts';

/** Pointers and lengths are numbers. Nothing here can fail but a key of a wrong length. */
export interface GcmRoutines {
  /** Expands a key of 128, 192 or 256 bits into a schedule of `SCHEDULE_BYTES`; 0 means success. */
  aesni_set_encrypt_key(key: number, bits: number, schedule: number): number;
  /** Counter mode over whole blocks, which may lie where the input does. The last four octets of `counter` count. */
  aesni_ctr32_encrypt_blocks(input: number, out: number, blocks: number, schedule: number, counter: number): void;
  /** Tables of `TABLE_BYTES` for a hash key whose two halves lie there as numbers of the processor. */
  gcm_init_avx(table: number, hashKey: number): void;
  /** GHASH of whole blocks into the 16 octets at `hash`. */
  gcm_ghash_avx(hash: number, table: number, input: number, length: number): void;
}

const P = 'int64_t';
const SIGNATURES = {
  aesni_set_encrypt_key: ['int', [P, 'int', P]],
  aesni_ctr32_encrypt_blocks: ['void', [P, P, P, P, P]],
  gcm_init_avx: ['void', [P, P]],
  gcm_ghash_avx: ['void', [P, P, P, P]],
} as const satisfies Record<keyof GcmRoutines, readonly [string, readonly string[]]>;

/** What the processor must have; OpenSSL chooses by the same. */
const PROCESSOR_FLAGS = ['aes', 'pclmulqdq', 'avx', 'movbe'];

const BLOCK = 16;
const IV_BYTES = 8;
const SALT_BYTES = 4;
/** The key schedule, then the tables of the hash key. */
const SCHEDULE_BYTES = 256;
const TABLE_BYTES = 256;
const KEY_BYTES = SCHEDULE_BYTES + TABLE_BYTES;
/** Keys in one piece of memory. */
const KEYS = 128;
/** Octets behind the text that a packet in work takes: padding of the last block, and the block of lengths. They are put back. */
const BEHIND = 32;
/** Numbers of network order as x86-64 reads them. */
const ONE = 0x0100_0000;
const BITS_64 = 0x4000_0000;
const BITS_96 = 0x6000_0000;

/** The routines in the node binary, where the processor can run them. */
export function gcmRoutines({ self }: Libc): Door<GcmRoutines> {
  return tryDoor(() => {
    if (process.arch !== 'x64') throw new SystemError(`the routines are those of x86-64, and this is ${process.arch}`);
    const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'latin1'))?.[1]?.split(' ') ?? [];
    const missing = PROCESSOR_FLAGS.filter((flag) => !flags.includes(flag));
    if (missing.length > 0) throw new SystemError(`the processor lacks ${missing.join(', ')}`);
    const functions = Object.entries(SIGNATURES).map(([name, [result, parameters]]) => [
      name,
      self.func(name, result, [...parameters]),
    ]);
    return Object.fromEntries(functions) as GcmRoutines;
  });
}

/** One SA's keys in one direction. */
interface Key {
  readonly schedule: number;
  readonly table: number;
  /** Where they lie, to be wiped. */
  readonly memory: Arena;
  readonly at: number;
  readonly sealing: boolean;
  salt: number;
  readonly icvBytes: number;
}

/**
 * In front of the text of an ESP packet lie SPI, sequence number and IV, which are one block. Counter mode over a block of zeros there and the text
 * behind it makes the mask of the ICV and the ciphertext in one go; with the additional authenticated data there instead, and the block of lengths
 * behind the text, GHASH takes the whole packet in one go.
 */
export class AesGcmCipher implements PacketCipher {
  readonly name = 'openssl';
  readonly #libc: Libc;
  readonly #routines: GcmRoutines;
  readonly #arena: Arena;
  readonly #counterAt: number;
  readonly #hashAt: number;
  readonly #keyAt: number;
  readonly #keys: (Key | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #vacant: { readonly memory: Arena; readonly at: number }[] = [];
  /** SPI, sequence number and IV; what lay behind the text; and the mask of the ICV. */
  readonly #head = new Int32Array(BLOCK / 4);
  readonly #behind = new Int32Array(BEHIND / 4);
  readonly #mask = new Int32Array(BLOCK / 4);

  /** Works on the packets of `arena`, where it reserves a few blocks. Make one for each thread. */
  constructor(libc: Libc, routines: GcmRoutines, arena: Arena) {
    this.#libc = libc;
    this.#routines = routines;
    this.#arena = arena;
    this.#counterAt = arena.reserve(BLOCK);
    this.#hashAt = arena.reserve(BLOCK);
    this.#keyAt = arena.reserve(2 * BLOCK);
  }

  supports({ encr, keyBits, integ }: EspSuite): boolean {
    const { primitive, iv } = ENCR[encr];
    return primitive === 'aes_gcm' && iv === IV_BYTES && integ === 'none' && encrKeymatBytes(encr, keyBits) !== undefined;
  }

  create(suite: EspSuite, direction: 'seal' | 'open', encrKey: Secret, integKey: Secret | undefined): number {
    const { encr, keyBits } = suite;
    const text = suiteText(encr, keyBits, suite.integ);
    if (!this.supports(suite) || integKey !== undefined) throw new Fault(`the routines for AES-GCM do not do ${text}`);
    const want = encrKeymatBytes(encr, keyBits)!;
    if (encrKey.length !== want) throw new Fault(`${text} takes ${want} octets of encryption key, not ${encrKey.length}`);
    const octets = encrKey.reveal();
    const { memory, at } = this.#place();
    const schedule = memory.base + at;
    const table = schedule + SCHEDULE_BYTES;
    this.#expand(octets.subarray(0, want - SALT_BYTES), schedule, table);
    const salt = new DataView(octets.buffer, octets.byteOffset, octets.length).getInt32(want - SALT_BYTES, true);
    const handle = this.#free.pop() ?? this.#keys.length;
    this.#keys[handle] = { schedule, table, memory, at, sealing: direction === 'seal', salt, icvBytes: ENCR[encr].icv };
    return handle;
  }

  destroy(handle: number): void {
    const key = this.#keys[handle];
    if (key === undefined) return;
    const { memory, at } = key;
    memory.bytes.fill(0, at, at + KEY_BYTES);
    key.salt = 0;
    this.#vacant.push({ memory, at });
    this.#keys[handle] = undefined;
    this.#free.push(handle);
  }

  seal(handle: number, espAt: number, textBytes: number, sequenceHigh: number): boolean {
    const key = this.#keys[handle];
    if (key === undefined || !key.sealing || !this.#fits(espAt, textBytes)) return false;
    if ((espAt & 3) !== 0) return this.#moved(handle, key, espAt, textBytes, sequenceHigh);
    const head = espAt >>> 2;
    const end = head + (BLOCK + textBytes) / 4;
    this.#keep(head, end);
    this.#crypt(key, head, textBytes);
    this.#hash(key, head, textBytes, sequenceHigh);
    this.#putBack(head, end);
    const { i32 } = this.#arena;
    const hash = this.#hashAt >>> 2;
    for (let i = 0; i < key.icvBytes >>> 2; i++) i32[end + i] = i32[hash + i]! ^ this.#mask[i]!;
    return true;
  }

  open(handle: number, espAt: number, textBytes: number, sequenceHigh: number): boolean {
    const key = this.#keys[handle];
    if (key === undefined || key.sealing || !this.#fits(espAt, textBytes)) return false;
    if ((espAt & 3) !== 0) return this.#moved(handle, key, espAt, textBytes, sequenceHigh);
    const head = espAt >>> 2;
    const end = head + (BLOCK + textBytes) / 4;
    this.#keep(head, end);
    this.#hash(key, head, textBytes, sequenceHigh);
    this.#crypt(key, head, textBytes);
    this.#putBack(head, end);
    const { bytes, i32 } = this.#arena;
    const hash = this.#hashAt >>> 2;
    let difference = 0;
    for (let i = 0; i < key.icvBytes >>> 2; i++) difference |= i32[end + i]! ^ i32[hash + i]! ^ this.#mask[i]!;
    if (difference !== 0) bytes.fill(0, espAt + BLOCK, espAt + BLOCK + textBytes);
    return difference === 0;
  }

  /** No packet may reach outside the arena, whatever the caller got wrong; ESP's text is whole words (RFC 4303 §2.4). */
  #fits(espAt: number, textBytes: number): boolean {
    return (
      espAt >= 0 && textBytes >= 0 && (textBytes & 3) === 0 && espAt + BLOCK + textBytes + BEHIND <= this.#arena.bytes.length
    );
  }

  /** A packet that does not begin at a word, which only a strange train of UDP segments gives: it is moved for the time. */
  #moved(handle: number, key: Key, espAt: number, textBytes: number, sequenceHigh: number): boolean {
    const { bytes } = this.#arena;
    const to = espAt & -4;
    const length = BLOCK + textBytes + key.icvBytes;
    const before = bytes.slice(to, espAt);
    bytes.copyWithin(to, espAt, espAt + length);
    const done = key.sealing ? this.seal(handle, to, textBytes, sequenceHigh) : this.open(handle, to, textBytes, sequenceHigh);
    bytes.copyWithin(espAt, to, to + length);
    bytes.set(before, to);
    return done;
  }

  /** Counter mode from 1 on: the mask of the ICV (SP 800-38D §7.1: the encrypted first counter), and the text behind it. */
  #crypt({ schedule, salt }: Key, head: number, textBytes: number): void {
    const { base, i32 } = this.#arena;
    const counter = this.#counterAt >>> 2;
    i32[counter] = salt;
    i32[counter + 1] = this.#head[2]!;
    i32[counter + 2] = this.#head[3]!;
    i32[counter + 3] = ONE;
    for (let i = 0; i < BLOCK / 4; i++) i32[head + i] = 0;
    const place = base + 4 * head;
    const blocks = 1 + ((textBytes + BLOCK - 1) >>> 4);
    this.#routines.aesni_ctr32_encrypt_blocks(place, place, blocks, schedule, base + this.#counterAt);
    for (let i = 0; i < BLOCK / 4; i++) this.#mask[i] = i32[head + i]!;
  }

  /** GHASH over SPI and sequence number as in RFC 4106 §5, the ciphertext, and the lengths of both in bits. */
  #hash({ table }: Key, head: number, textBytes: number, sequenceHigh: number): void {
    const { base, i32 } = this.#arena;
    const sequence = this.#head[1]!;
    const extended = sequenceHigh >= 0;
    i32[head] = this.#head[0]!;
    i32[head + 1] = extended ? swap(sequenceHigh) : sequence;
    i32[head + 2] = extended ? sequence : 0;
    i32[head + 3] = 0;
    const text = head + BLOCK / 4;
    const lengths = text + ((textBytes + BLOCK - 1) >>> 4) * (BLOCK / 4);
    for (let word = text + textBytes / 4; word < lengths; word++) i32[word] = 0;
    i32[lengths] = 0;
    i32[lengths + 1] = extended ? BITS_96 : BITS_64;
    i32[lengths + 2] = 0;
    i32[lengths + 3] = swap(8 * textBytes);
    const hash = this.#hashAt >>> 2;
    for (let i = 0; i < BLOCK / 4; i++) i32[hash + i] = 0;
    this.#routines.gcm_ghash_avx(base + this.#hashAt, table, base + 4 * head, 4 * (lengths - head) + BLOCK);
  }

  /** The words of the packet's first block, and those behind its text. */
  #keep(head: number, end: number): void {
    const { i32 } = this.#arena;
    for (let i = 0; i < BLOCK / 4; i++) this.#head[i] = i32[head + i]!;
    for (let i = 0; i < BEHIND / 4; i++) this.#behind[i] = i32[end + i]!;
  }

  #putBack(head: number, end: number): void {
    const { i32 } = this.#arena;
    for (let i = 0; i < BLOCK / 4; i++) i32[head + i] = this.#head[i]!;
    for (let i = 0; i < BEHIND / 4; i++) i32[end + i] = this.#behind[i]!;
  }

  /** Memory for one key, which need not be near the packets. */
  #place(): { readonly memory: Arena; readonly at: number } {
    const vacant = this.#vacant.pop();
    if (vacant !== undefined) return vacant;
    const memory = new Arena(this.#libc, KEYS * KEY_BYTES);
    for (let i = KEYS - 1; i > 0; i--) this.#vacant.push({ memory, at: i * KEY_BYTES });
    return { memory, at: 0 };
  }

  /** The schedule, and the tables of the hash key, which is a block of zeros encrypted. */
  #expand(key: Uint8Array, schedule: number, table: number): void {
    const { base, bytes, u64, view } = this.#arena;
    const at = this.#keyAt;
    const routines = this.#routines;
    bytes.set(key, at);
    const failed = routines.aesni_set_encrypt_key(base + at, 8 * key.length, schedule) !== 0;
    bytes.fill(0, at, at + 2 * BLOCK);
    if (failed) throw new Fault(`OpenSSL refused a key of ${key.length} octets for AES`);
    routines.aesni_ctr32_encrypt_blocks(base + at, base + at, 1, schedule, base + at + BLOCK);
    const [high, low] = [view.getBigUint64(at), view.getBigUint64(at + 8)];
    u64[at >>> 3] = high;
    u64[(at >>> 3) + 1] = low;
    routines.gcm_init_avx(table, base + at);
    bytes.fill(0, at, at + BLOCK);
  }
}

/** The four octets the other way round. */
function swap(word: number): number {
  return (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
}
