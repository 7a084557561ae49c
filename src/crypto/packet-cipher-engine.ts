/** PacketCipher over any crypto engine: ESP's encryption and integrity as RFC 4303 §3.3.2 and §3.4.4 have them. */

import { equal } from '../bytes/bytes.ts';
import type { Secret } from '../bytes/secret.ts';
import { Fault } from '../errors.ts';
import { macOf } from './mac.ts';
import type { EspSuite, PacketCipher } from './packet-cipher.ts';
import type { AeadName, Engine, UnauthenticatedName } from './primitives.ts';
import { ENCR, type EncrName, encrKeyBytes, INTEG, type IntegName, suiteText } from './transforms.ts';

/** Octets of SPI and sequence number. */
const HEADER = 8;

/** The keys of one SA in one direction at work on the arena. `at` is where the packet begins. */
interface Keyed {
  seal(at: number, textBytes: number, sequenceHigh: number): boolean;
  open(at: number, textBytes: number, sequenceHigh: number): boolean;
  wipe(): void;
}

/** Works on packets of `arena`; `name` is for the log. It allocates a few small objects a packet. */
export function enginePacketCipher(arena: Uint8Array, engine: Engine, name: string): PacketCipher {
  const table: (Keyed | undefined)[] = [];
  const free: number[] = [];
  const supports = (suite: EspSuite) => {
    const key = encrKeyBytes(suite.encr, suite.keyBits);
    if (key === undefined || ENCR[suite.encr].icv > 0 !== (suite.integ === 'none')) return false;
    return suite.encr !== '3des_cbc' || engine.cipher('3des_cbc', new Uint8Array(key)) !== undefined;
  };
  return {
    name,
    supports,
    create(suite, _direction, encrKey, integKey) {
      if (!supports(suite))
        throw new Fault(`${name} cannot protect ESP with ${suiteText(suite.encr, suite.keyBits, suite.integ)}`);
      const handle = free.pop() ?? table.length;
      table[handle] = keyed(arena, engine, suite, encrKey, integKey);
      return handle;
    },
    destroy(handle) {
      const keys = table[handle];
      if (keys === undefined) return;
      keys.wipe();
      table[handle] = undefined;
      free.push(handle);
    },
    seal(handle, espAt, textBytes, sequenceHigh) {
      return table[handle]?.seal(espAt, textBytes, sequenceHigh) ?? false;
    },
    open(handle, espAt, textBytes, sequenceHigh) {
      return table[handle]?.open(espAt, textBytes, sequenceHigh) ?? false;
    },
  };
}

function keyed(arena: Uint8Array, engine: Engine, suite: EspSuite, encrKey: Secret, integKey: Secret | undefined): Keyed {
  const { encr, keyBits, integ } = suite;
  const what = suiteText(encr, keyBits, integ);
  const keyBytes = encrKeyBytes(encr, keyBits) ?? 0;
  const keymat = taken(encrKey, keyBytes + ENCR[encr].salt, `encryption key of ${what}`);
  if (encr === 'aes_gcm_16' || encr === 'chacha20_poly1305') {
    if (integKey !== undefined && integKey.length > 0) throw new Fault(`${what} takes no integrity key`);
    return combined(arena, engine, encr, keymat, keyBytes);
  }
  const name = integ as IntegName;
  const integBytes = taken(integKey, INTEG[name].keyBytes, `integrity key of ${what}`);
  const cipher = encr === 'null_enc' ? undefined : engine.cipher(encr as UnauthenticatedName, keymat.subarray(0, keyBytes));
  return encryptThenMac(arena, encr, cipher, macOf(name, integBytes, engine), name, keymat.subarray(keyBytes), () => {
    keymat.fill(0);
    integBytes.fill(0);
  });
}

function taken(key: Secret | undefined, length: number, what: string): Uint8Array {
  if ((key?.length ?? 0) !== length) throw new Fault(`${what}: expected ${length} octets, found ${key?.length ?? 0}`);
  return key === undefined ? new Uint8Array(0) : key.reveal().slice();
}

/**
 * RFC 4106 and RFC 7634: the nonce is salt | IV; SPI and sequence number are authenticated, with the high half of an extended
 * number between them (RFC 4106 §5).
 */
function combined(arena: Uint8Array, engine: Engine, encr: AeadName, keymat: Uint8Array, keyBytes: number): Keyed {
  const { salt, iv, icv } = ENCR[encr];
  const aead = engine.aead(encr, keymat.subarray(0, keyBytes));
  const nonce = new Uint8Array(salt + iv);
  nonce.set(keymat.subarray(keyBytes));
  const extended = new Uint8Array(12);
  const prepare = (at: number, sequenceHigh: number): Uint8Array => {
    nonce.set(arena.subarray(at + HEADER, at + HEADER + iv), salt);
    if (sequenceHigh === -1) return arena.subarray(at, at + HEADER);
    extended.set(arena.subarray(at, at + 4));
    writeU32(extended, 4, sequenceHigh);
    extended.set(arena.subarray(at + 4, at + 8), 8);
    return extended;
  };
  return {
    seal(at, textBytes, sequenceHigh) {
      const text = at + HEADER + iv;
      if (textBytes < 0 || text + textBytes + icv > arena.length) return false;
      arena.set(aead.seal(nonce, prepare(at, sequenceHigh), arena.subarray(text, text + textBytes)), text);
      return true;
    },
    open(at, textBytes, sequenceHigh) {
      const text = at + HEADER + iv;
      if (textBytes < 0 || text + textBytes + icv > arena.length) return false;
      const opened = aead.open(nonce, prepare(at, sequenceHigh), arena.subarray(text, text + textBytes + icv));
      if (opened === undefined) return false;
      arena.set(opened, text);
      return true;
    },
    wipe() {
      keymat.fill(0);
      nonce.fill(0);
    },
  };
}

/**
 * RFC 3602, RFC 3686 (counter block nonce | IV | 1) and RFC 2410 under a separate integrity algorithm, whose ICV covers the
 * packet from the SPI to the end of the text and then, unsent, the high half of an extended sequence number (RFC 4303 §3.3.2.1).
 */
function encryptThenMac(
  arena: Uint8Array,
  encr: EncrName,
  cipher: ReturnType<Engine['cipher']>,
  mac: (...data: readonly Uint8Array[]) => Uint8Array,
  integ: IntegName,
  nonce: Uint8Array,
  wipe: () => void,
): Keyed {
  const { iv, block } = ENCR[encr];
  const { icvBytes } = INTEG[integ];
  const granule = cipher === undefined || encr === 'aes_ctr' ? 1 : block;
  const high = new Uint8Array(4);
  const counter = new Uint8Array(16);
  counter.set(nonce);
  counter[15] = 1;
  const firstBlock = (at: number): Uint8Array => {
    const sent = arena.subarray(at + HEADER, at + HEADER + iv);
    if (encr !== 'aes_ctr') return sent;
    counter.set(sent, nonce.length);
    return counter;
  };
  const icvOf = (at: number, end: number, sequenceHigh: number): Uint8Array => {
    if (sequenceHigh === -1) return mac(arena.subarray(at, end));
    writeU32(high, 0, sequenceHigh);
    return mac(arena.subarray(at, end), high);
  };
  const fits = (end: number, textBytes: number) => textBytes >= 0 && textBytes % granule === 0 && end + icvBytes <= arena.length;
  return {
    seal(at, textBytes, sequenceHigh) {
      const text = at + HEADER + iv;
      const end = text + textBytes;
      if (!fits(end, textBytes)) return false;
      if (cipher !== undefined) arena.set(cipher.encrypt(firstBlock(at), arena.subarray(text, end)), text);
      arena.set(icvOf(at, end, sequenceHigh), end);
      return true;
    },
    open(at, textBytes, sequenceHigh) {
      const text = at + HEADER + iv;
      const end = text + textBytes;
      if (!fits(end, textBytes)) return false;
      if (!equal(icvOf(at, end, sequenceHigh), arena.subarray(end, end + icvBytes))) return false;
      if (cipher !== undefined) arena.set(cipher.decrypt(firstBlock(at), arena.subarray(text, end)), text);
      return true;
    },
    wipe() {
      wipe();
      counter.fill(0);
    },
  };
}

function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}
