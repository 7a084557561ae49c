/** PacketCipher over any crypto engine: ESP's encryption and integrity as RFC 4303 §3.3.2 and §3.4.4 have them. */

import { cat, equal } from '../bytes/bytes.ts';
import type { Secret } from '../bytes/secret.ts';
import { Fault } from '../errors.ts';
import { gmac, macOf } from './mac.ts';
import type { EspSuite, PacketCipher } from './packet-cipher.ts';
import { type Engine, isAead, isCbc, isUnauthenticated } from './primitives.ts';
import { ENCR, type EncrName, type EncrRow, encrKeyBytes, INTEG, type IntegName, isSuite, suiteText } from './transforms.ts';

/** Octets of SPI and sequence number. */
const HEADER = 8;
/** Octets that a nonce has behind its salt. */
const IV = 8;

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
    if (key === undefined || !isSuite(suite.encr, suite.integ)) return false;
    const { primitive }: EncrRow = ENCR[suite.encr];
    return !isUnauthenticated(primitive) || engine.cipher(primitive, new Uint8Array(key)) !== undefined;
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
  const { primitive, salt }: EncrRow = ENCR[encr];
  const keyBytes = encrKeyBytes(encr, keyBits) ?? 0;
  const keymat = taken(encrKey, keyBytes + salt, `encryption key of ${what}`);
  if (integ === 'none') {
    if (integKey !== undefined && integKey.length > 0) throw new Fault(`${what} takes no integrity key`);
    return primitive === 'aes_gmac'
      ? authentication(arena, engine, encr, keymat)
      : combined(arena, engine, encr, keymat, keyBytes);
  }
  const integBytes = taken(integKey, INTEG[integ].keyBytes, `integrity key of ${what}`);
  const cipher = isUnauthenticated(primitive) ? engine.cipher(primitive, keymat.subarray(0, keyBytes)) : undefined;
  return encryptThenMac(arena, encr, cipher, icvOf(integ, integBytes, engine), integ, keymat.subarray(keyBytes), () => {
    keymat.fill(0);
    integBytes.fill(0);
  });
}

/** What comes behind the authenticated octets; `iv` is what lies there already, of which GMAC makes its nonce (RFC 4543 §4). */
type IcvOf = (iv: Uint8Array, ...data: readonly Uint8Array[]) => Uint8Array;

function icvOf(integ: IntegName, key: Uint8Array, engine: Engine): IcvOf {
  if (INTEG[integ].iv > 0) {
    const tag = gmac(key, engine);
    return (iv, ...data) => cat(iv, tag(iv, ...data));
  }
  const mac = macOf(integ, key, engine);
  return (_, ...data) => mac(...data);
}

function taken(key: Secret | undefined, length: number, what: string): Uint8Array {
  if ((key?.length ?? 0) !== length) throw new Fault(`${what}: expected ${length} octets, found ${key?.length ?? 0}`);
  return key === undefined ? new Uint8Array(0) : key.reveal().slice();
}

/**
 * RFC 4106, RFC 4309 and RFC 7634: the nonce is salt | IV; SPI and sequence number are authenticated, with the high half of an extended
 * number between them (RFC 4106 §5).
 */
function combined(arena: Uint8Array, engine: Engine, encr: EncrName, keymat: Uint8Array, keyBytes: number): Keyed {
  const { primitive, salt, iv, icv }: EncrRow = ENCR[encr];
  if (!isAead(primitive)) throw new Fault(`${encr} does not authenticate`);
  const aead = engine.aead(primitive, keymat.subarray(0, keyBytes), icv);
  const nonce = new Uint8Array(salt + IV);
  nonce.set(keymat.subarray(keyBytes));
  const extended = new Uint8Array(12);
  const prepare = (at: number, sequenceHigh: number): Uint8Array => {
    writeIv(nonce, salt, arena, at, iv, sequenceHigh);
    return numbered(arena, at, sequenceHigh, extended);
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

/** RFC 4543 §3.3: nothing is encrypted; SPI, whole sequence number, IV and text are authenticated. */
function authentication(arena: Uint8Array, engine: Engine, encr: EncrName, keymat: Uint8Array): Keyed {
  const { iv, icv } = ENCR[encr];
  const tag = gmac(keymat, engine);
  const extended = new Uint8Array(12);
  const icvOver = (at: number, end: number, sequenceHigh: number) =>
    tag(
      arena.subarray(at + HEADER, at + HEADER + iv),
      numbered(arena, at, sequenceHigh, extended),
      arena.subarray(at + HEADER, end),
    );
  const fits = (end: number, textBytes: number) => textBytes >= 0 && end + icv <= arena.length;
  return {
    seal(at, textBytes, sequenceHigh) {
      const end = at + HEADER + iv + textBytes;
      if (!fits(end, textBytes)) return false;
      arena.set(icvOver(at, end, sequenceHigh), end);
      return true;
    },
    open(at, textBytes, sequenceHigh) {
      const end = at + HEADER + iv + textBytes;
      return fits(end, textBytes) && equal(icvOver(at, end, sequenceHigh), arena.subarray(end, end + icv));
    },
    wipe() {
      keymat.fill(0);
    },
  };
}

/** The IV behind the salt of a nonce: that of the packet, or the whole sequence number (RFC 8750 §4). */
function writeIv(nonce: Uint8Array, salt: number, arena: Uint8Array, at: number, iv: number, sequenceHigh: number): void {
  if (iv > 0) nonce.set(arena.subarray(at + HEADER, at + HEADER + iv), salt);
  else {
    writeU32(nonce, salt, sequenceHigh === -1 ? 0 : sequenceHigh);
    nonce.set(arena.subarray(at + 4, at + 8), salt + 4);
  }
}

/** SPI and sequence number, the whole of an extended one. */
function numbered(arena: Uint8Array, at: number, sequenceHigh: number, extended: Uint8Array): Uint8Array {
  if (sequenceHigh === -1) return arena.subarray(at, at + HEADER);
  extended.set(arena.subarray(at, at + 4));
  writeU32(extended, 4, sequenceHigh);
  extended.set(arena.subarray(at + 4, at + 8), 8);
  return extended;
}

/**
 * RFC 3602, RFC 3686 (counter block nonce | IV | 1) and RFC 2410 under a separate integrity algorithm, whose ICV covers the
 * packet from the SPI to the end of the text and then, unsent, the high half of an extended sequence number (RFC 4303 §3.3.2.1).
 */
function encryptThenMac(
  arena: Uint8Array,
  encr: EncrName,
  cipher: ReturnType<Engine['cipher']>,
  mac: IcvOf,
  integ: IntegName,
  nonce: Uint8Array,
  wipe: () => void,
): Keyed {
  const { primitive, iv, block }: EncrRow = ENCR[encr];
  const { iv: icvIv, icvBytes } = INTEG[integ];
  const granule = isCbc(primitive) ? block : 1;
  const high = new Uint8Array(4);
  const counter = new Uint8Array(16);
  counter.set(nonce);
  counter[15] = 1;
  const firstBlock = (at: number): Uint8Array => {
    const sent = arena.subarray(at + HEADER, at + HEADER + iv);
    if (primitive !== 'aes_ctr') return sent;
    counter.set(sent, nonce.length);
    return counter;
  };
  const icvOf = (at: number, end: number, sequenceHigh: number): Uint8Array => {
    const sent = arena.subarray(end, end + icvIv);
    if (sequenceHigh === -1) return mac(sent, arena.subarray(at, end));
    writeU32(high, 0, sequenceHigh);
    return mac(sent, arena.subarray(at, end), high);
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
