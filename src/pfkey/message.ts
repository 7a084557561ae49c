/** PF_KEY messages (RFC 2367 §2, Linux dialect) to and from bytes, and the framing of a byte stream of them. */

import { cat, NONE } from '../bytes/bytes.ts';
import { readExtension, writeExtension } from './extensions.ts';
import { MessageWriter } from './field.ts';
import {
  ERRNO,
  extensionByNumber,
  SADB_EXT,
  SADB_EXT_PRIVATE,
  SADB_TYPE,
  type SadbExtension,
  type SadbType,
  typeByNumber,
} from './registry.ts';
import { SadbError, type SadbExtensions, type SadbMessage, sadb, type UnknownExtension } from './sadb.ts';

export * from './sadb.ts';

/** Octets of `struct sadb_msg`. */
export const SADB_HEADER = 16;
export const PF_KEY_V2 = 2;

/** `tanuki`: all we have. `linux-strict`: what the kernel of Linux would understand; private extensions are unknown there. */
export type Dialect = 'tanuki' | 'linux-strict';

// biome-ignore format: a table
const SA_ORDER: readonly SadbExtension[] = [
  'sa', 'window', 'sequenceState', 'lifetimeHard', 'lifetimeSoft', 'lifetimeCurrent', 'source', 'destination', 'proxy', 'keyAuth',
  'keyEncrypt', 'sa2', 'nattType', 'nattSourcePort', 'nattDestinationPort', 'securityContext',
];
// biome-ignore format: a table
const POLICY_ORDER: readonly SadbExtension[] = [
  'kmAddress', 'source', 'destination', 'lifetimeHard', 'lifetimeSoft', 'lifetimeCurrent', 'policy', 'portRanges', 'proposal', 'securityContext',
];
const MAPPING_ORDER: readonly SadbExtension[] = ['sa', 'source', 'nattSourcePort', 'destination', 'nattDestinationPort'];
const ALL = Object.keys(SADB_EXT) as readonly SadbExtension[];

/** The order of extensions that Linux writes for a verb; what a row does not name follows by number. */
function writtenOrder(type: SadbType): readonly SadbExtension[] {
  if (type === 'X_NAT_T_NEW_MAPPING') return ORDER.mapping;
  return type === 'ACQUIRE' || type === 'X_MIGRATE' || type.startsWith('X_SPD') ? ORDER.policy : ORDER.sa;
}

const orderOf = (names: readonly SadbExtension[]): readonly SadbExtension[] => [...new Set([...names, ...ALL])];
const ORDER = { sa: orderOf(SA_ORDER), policy: orderOf(POLICY_ORDER), mapping: orderOf(MAPPING_ORDER) };

/**
 * One message from exactly its octets, checked in the order in which Linux checks. Throws SadbError, whose errno is the one
 * that Linux answers. A nonzero errno in a request means nothing except in ACQUIRE.
 */
export function readSadb(bytes: Uint8Array, dialect: Dialect = 'tanuki'): SadbMessage {
  const { type, view, words } = readHeader(bytes);
  if (words * 8 !== bytes.length) {
    throw new SadbError(ERRNO.EMSGSIZE, `the header says ${words} words, but ${bytes.length} octets came`, 4, true);
  }
  const unknown: UnknownExtension[] = [];
  const order: number[] = [];
  const extensions: Record<string, unknown> = {};
  const header = {
    type,
    errno: bytes[2]!,
    satype: bytes[3]!,
    seq: view.getUint32(8, true),
    pid: view.getUint32(12, true),
    reserved: view.getUint16(6, true),
    unknown,
    order,
  };
  for (let at = SADB_HEADER; at < bytes.length; ) {
    if (bytes.length - at < 4)
      throw new SadbError(ERRNO.EINVAL, `${bytes.length - at} octets are left, too few for an extension`, at);
    const length = view.getUint16(at, true) * 8;
    const number = view.getUint16(at + 2, true);
    if (length === 0 || at + length > bytes.length) {
      throw new SadbError(ERRNO.EINVAL, `extension ${number} says ${length} octets, but ${bytes.length - at} are left`, at);
    }
    if (number === 0) throw new SadbError(ERRNO.EINVAL, 'extension type 0 is reserved', at);
    const name = dialect === 'linux-strict' && number >= SADB_EXT_PRIVATE ? undefined : extensionByNumber(number);
    if (name === undefined) unknown.push({ number, body: bytes.slice(at + 4, at + length) });
    else if (Object.hasOwn(extensions, name)) throw new SadbError(ERRNO.EINVAL, `extension ${name} comes twice`, at);
    else extensions[name] = readExtension(name, bytes, view, at, length);
    order.push(number);
    at += length;
  }
  return Object.assign(header, extensions as SadbExtensions);
}

const writer = new MessageWriter();

/**
 * A message as octets: extensions in `order` where there is one, and what it does not name in the order of the verb. What `hides` names is left out,
 * as if it were not there.
 */
export function writeSadb(message: SadbMessage, hides?: (name: SadbExtension) => boolean): Uint8Array {
  const { type, unknown } = message;
  writer.start(SADB_HEADER);
  writer.u8(0, PF_KEY_V2);
  writer.u8(1, SADB_TYPE[type]);
  writer.u8(2, message.errno);
  writer.u8(3, message.satype);
  writer.u16(6, message.reserved);
  writer.u32(8, message.seq);
  writer.u32(12, message.pid);
  const isThere = (name: SadbExtension) => message[name] !== undefined && hides?.(name) !== true;
  const ordered = new Set<string>();
  const kept = new Set<UnknownExtension>();
  for (const number of message.order) {
    const name = extensionByNumber(number);
    if (name !== undefined && isThere(name)) {
      if (!ordered.has(name)) writeExtension(writer, name, message[name]!);
      ordered.add(name);
      continue;
    }
    const extension = unknown.find((one) => one.number === number && !kept.has(one));
    if (extension === undefined) continue;
    kept.add(extension);
    writeUnknown(extension);
  }
  for (const name of writtenOrder(type)) if (isThere(name) && !ordered.has(name)) writeExtension(writer, name, message[name]!);
  for (const extension of unknown) if (!kept.has(extension)) writeUnknown(extension);
  return writer.take();
}

function writeUnknown({ number, body }: UnknownExtension): void {
  writer.begin(4 + body.length);
  writer.octets(4, body);
  writer.end(number);
}

/** The message that an unreadable request's error is answered with: its header, as far as there is one. */
export function errorReply(bytes: Uint8Array, errno: number): SadbMessage | undefined {
  if (bytes.length < SADB_HEADER) return undefined;
  const type = typeByNumber(bytes[1]!);
  if (type === undefined) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return sadb(type, { errno, satype: bytes[3]!, seq: view.getUint32(8, true), pid: view.getUint32(12, true) });
}

/** The checks of `send`, §1.1 of the Linux dialect: size, version, reserved and type, length. Replies may have a reserved field. */
function readHeader(bytes: Uint8Array): { type: SadbType; view: DataView; words: number } {
  if (bytes.length < SADB_HEADER) throw new SadbError(ERRNO.EMSGSIZE, `a header has 16 octets, ${bytes.length} came`, 0, true);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes[0] !== PF_KEY_V2) throw new SadbError(ERRNO.EINVAL, `version is ${bytes[0]}, not 2`, 0, true);
  const type = typeByNumber(bytes[1]!);
  if (type === undefined) throw new SadbError(ERRNO.EINVAL, `message type is ${bytes[1]}, not 1 to 24`, 1, true);
  const words = view.getUint16(4, true);
  if (words < 2) throw new SadbError(ERRNO.EMSGSIZE, `length is ${words} words, fewer than the header's 2`, 4, true);
  return { type, view, words };
}

/**
 * Cuts a byte stream into messages by `sadb_msg_len`. A header that cannot be framed throws a fatal SadbError, and does so in every later
 * call: the stream is lost. Messages before it in the same chunk are returned first; `push` of nothing then says what is wrong.
 */
export class SadbFramer {
  #pending: Uint8Array[] = [];
  #length = 0;

  /** Octets that wait for the rest of their message. */
  get pending(): number {
    return this.#length;
  }

  /** The header that waits, or that cannot be framed; shorter while there is less. */
  get header(): Uint8Array {
    return this.#length === 0 ? NONE : this.#front(Math.min(SADB_HEADER, this.#length)).slice(0, SADB_HEADER);
  }

  push(chunk: Uint8Array): Uint8Array[] {
    if (chunk.length > 0) this.#pending.push(chunk);
    this.#length += chunk.length;
    const messages: Uint8Array[] = [];
    while (this.#length >= SADB_HEADER) {
      const head = this.#front(SADB_HEADER);
      const length = (head[4]! | (head[5]! << 8)) * 8;
      const broken = head[0] !== PF_KEY_V2 || length < SADB_HEADER;
      if (broken && messages.length > 0) return messages;
      if (head[0] !== PF_KEY_V2) throw new SadbError(ERRNO.EINVAL, `version is ${head[0]}, not 2`, 0, true);
      if (broken) throw new SadbError(ERRNO.EMSGSIZE, `length is ${length} octets, fewer than the header's 16`, 4, true);
      if (this.#length < length) break;
      const joined = this.#front(length);
      messages.push(joined.slice(0, length));
      if (joined.length > length) this.#pending[0] = joined.subarray(length);
      else this.#pending.shift();
      this.#length -= length;
    }
    return messages;
  }

  /** The first piece, made to hold at least `length` octets. */
  #front(length: number): Uint8Array {
    if (this.#pending[0]!.length < length) this.#pending = [cat(...this.#pending)];
    return this.#pending[0]!;
  }
}
