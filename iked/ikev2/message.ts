/** IKEv2 messages: header, payload chain and the Encrypted payload, RFC 7296 §3.1, §3.2, §3.14. Octets to payloads and back. */

import { cat } from '../../src/bytes/bytes.ts';
import type { Secret } from '../../src/bytes/secret.ts';
import type { IkeCipher } from '../../src/crypto/aead.ts';
import { AuthError, Fault, PeerError, WireError } from '../../src/errors.ts';
import { HEADER_BYTES, IsakmpHeader } from '../../src/isakmp/header.ts';
import type { RandomBytes } from '../../src/machine.ts';
import { encode } from '../../src/wire/codec.ts';
import { Reader } from '../../src/wire/reader.ts';
import { registry } from '../../src/wire/registry.ts';
import { Writer } from '../../src/wire/writer.ts';
import {
  PAYLOAD,
  type Payload,
  type PayloadOf,
  type PayloadType,
  payloadBody,
  payloadName,
  payloadNumber,
  readPayload,
} from './payloads.ts';

/** Exchange types, RFC 7296 §3.1. */
export const EXCHANGE = registry({ IKE_SA_INIT: 34, IKE_AUTH: 35, CREATE_CHILD_SA: 36, INFORMATIONAL: 37 });
export type ExchangeName = keyof typeof EXCHANGE;

/** Version 2.0, as its octet. */
export const VERSION = 0x20;
/** Flags, RFC 7296 §3.1. */
const FLAG = { initiator: 0x08, response: 0x20 } as const;
/** Octets of a generic payload header. */
const GENERIC = 4;
const CRITICAL = 0x80;
const RESERVED = 0x7f;
/** More payloads than any honest message holds; reading stops there, before a sender is known. */
const MOST_PAYLOADS = 256;

/** The IKE header without what the chain computes. */
export interface Header {
  /** 8 octets; `SPIr` is zero in the first message. */
  readonly SPIi: Uint8Array;
  readonly SPIr: Uint8Array;
  readonly exchange: number;
  /** The I flag: sent by the original initiator of the IKE SA. */
  readonly initiator: boolean;
  readonly response: boolean;
  readonly messageId: number;
  /** Absent: 2.0. Major version in the high, minor in the low four bits. */
  readonly version?: number;
  /** Flag bits that have no meaning here (the V bit among them), where any is set. */
  readonly otherFlags?: number;
}

export interface Message extends Header {
  readonly payloads: readonly Payload[];
  /** What stood in front of the SK payload: authenticated with it, but not secret. */
  readonly outer?: readonly Payload[];
  /** The octet of SK's generic header that holds its critical bit, where any bit of it was set. */
  readonly skFlags?: number;
}

/** An SK payload that has not been opened, with all that its ICV covers. */
export interface Sealed {
  readonly header: Header;
  readonly outer: readonly Payload[];
  /** Type of the first payload inside. */
  readonly first: number;
  /** From the IKE header to the generic header of SK, inclusive. */
  readonly aad: Uint8Array;
  /** IV, ciphertext, ICV. */
  readonly body: Uint8Array;
}

/** An SKF payload (RFC 7383 §2.5), which is recognised and no more. */
export interface Fragment {
  readonly first: number;
  readonly body: Uint8Array;
}

/** What can be known of a message before its SA is looked up. At most one of `sealed` and `fragment` is there. */
export interface ReadMessage {
  readonly header: Header;
  /** The clear payloads: all of them in IKE_SA_INIT, else those in front of SK. */
  readonly payloads: readonly Payload[];
  readonly sealed?: Sealed;
  readonly fragment?: Fragment;
}

/** The keys of one direction: SK_ei and SK_ai, or SK_er and SK_ar (`integ` empty with a combined-mode cipher). */
export interface SealKeys {
  readonly encr: Secret;
  readonly integ: Secret;
  readonly cipher: IkeCipher;
}

/** An opened message, and what its sender chose freely, so that it can be sealed again to the same octets. */
export interface OpenedMessage extends Message {
  readonly iv: Uint8Array;
  /** Without the Pad Length octet. */
  readonly padding: Uint8Array;
}

/** Reads and checks the header. Throws WireError, or PeerError INVALID_MAJOR_VERSION (RFC 7296 §2.5) for a version above 2. */
export function readHeader(datagram: Uint8Array): Header {
  return readFields(datagram).header;
}

/** Reads a message as far as it is clear; SK stays sealed. Throws as `readHeader` does. */
export function readMessage(datagram: Uint8Array): ReadMessage {
  const { header, nextPayload } = readFields(datagram);
  const from = new Reader(datagram, '', HEADER_BYTES);
  const { payloads, last } = readChain(from, nextPayload);
  if (last === undefined) return { header, payloads };
  if (last.type === PAYLOAD.SKF) return { header, payloads, fragment: { first: last.first, body: last.body } };
  const aad = datagram.slice(0, datagram.length - last.body.length);
  return { header, payloads, sealed: { header, outer: payloads, first: last.first, aad, body: last.body } };
}

/** Authenticates and decrypts. Throws AuthError where the ICV is wrong, WireError where what it protected is no chain of payloads. */
export function openMessage(sealed: Sealed, { encr, integ, cipher }: SealKeys): OpenedMessage {
  const text = cipher.open(encr.reveal(), integ.reveal(), sealed.aad, sealed.body);
  if (text === undefined)
    throw new AuthError(`the ICV of a message of ${sealed.aad.length + sealed.body.length} octets is wrong`);
  const padBytes = text.at(-1);
  if (padBytes === undefined || padBytes >= text.length) {
    throw new WireError(
      `padding of ${padBytes ?? 0} octets in ${text.length} octets of plaintext (RFC 7296 §3.14)`,
      undefined,
      'SK',
    );
  }
  const end = text.length - 1 - padBytes;
  const skFlags = sealed.aad.at(-3)!;
  const { payloads, last } = readChain(new Reader(text, 'SK', 0, end), sealed.first);
  if (last !== undefined) throw new WireError(`${payloadName(last.type)} inside of SK`, undefined, 'SK');
  return {
    ...sealed.header,
    payloads,
    ...(sealed.outer.length === 0 ? {} : { outer: sealed.outer }),
    ...(skFlags === 0 ? {} : { skFlags }),
    iv: sealed.body.slice(0, cipher.ivBytes),
    padding: text.slice(end, -1),
  };
}

/** The octets of a message without SK. */
export function writeMessage(message: Message): Uint8Array {
  const chain = writeChain(message.payloads, PAYLOAD.none);
  return cat(writeHeader(message, chain.first, chain.octets.length), chain.octets);
}

/**
 * The octets of a message whose payloads are all within SK. `iv` is the IV itself or a source for it; with a combined-mode cipher no two
 * messages under one key may have the same. `padding` defaults to as few zeros as the cipher's block asks for.
 */
export function sealMessage(
  message: Message,
  { encr, integ, cipher }: SealKeys,
  iv: Uint8Array | RandomBytes,
  padding?: Uint8Array,
): Uint8Array {
  const inner = writeChain(message.payloads, PAYLOAD.none);
  const fill = padding ?? new Uint8Array(shortest(inner.octets.length + 1, cipher.blockBytes));
  if (fill.length > 255) throw new Fault(`padding has at most 255 octets, not ${fill.length}`);
  const text = cat(inner.octets, fill, Uint8Array.of(fill.length));
  const bodyBytes = cipher.ivBytes + text.length + cipher.icvBytes;
  const outer = writeChain(message.outer ?? [], PAYLOAD.SK);
  const sk = genericHeader(inner.first, message.skFlags ?? 0, bodyBytes);
  const aad = cat(writeHeader(message, outer.first, outer.octets.length + GENERIC + bodyBytes), outer.octets, sk);
  const vector = iv instanceof Uint8Array ? iv : iv(cipher.ivBytes);
  return cat(aad, cipher.seal(encr.reveal(), integ.reveal(), vector, aad, text));
}

/** The first payload of a type, or undefined. */
export function find<T extends PayloadType>(payloads: readonly Payload[], type: T): PayloadOf<T> | undefined {
  return payloads.find((payload): payload is PayloadOf<T> => payload.type === type);
}

/** All payloads of a type, in their order. */
export function all<T extends PayloadType>(payloads: readonly Payload[], type: T): PayloadOf<T>[] {
  return payloads.filter((payload): payload is PayloadOf<T> => payload.type === type);
}

function shortest(length: number, block: number): number {
  return (block - (length % block)) % block;
}

function readFields(datagram: Uint8Array): { header: Header; nextPayload: number } {
  if (datagram.length < HEADER_BYTES) {
    throw new WireError(
      `a message has at least the ${HEADER_BYTES} octets of its header, this one ${datagram.length}`,
      0,
      'header',
    );
  }
  const fields = IsakmpHeader.read(new Reader(datagram, 'header', 0, HEADER_BYTES));
  const major = fields.version >>> 4;
  if (major > 2)
    throw new PeerError(
      'INVALID_MAJOR_VERSION',
      `major version ${major}, but the highest that we speak is 2`,
      Uint8Array.of(VERSION),
    );
  if (major < 2) throw new WireError(`major version 2 expected, found ${major}`, 17, 'header');
  if (fields.length !== datagram.length) {
    throw new WireError(`announces ${fields.length} octets, but the datagram has ${datagram.length}`, 24, 'header');
  }
  const otherFlags = fields.flags & ~(FLAG.initiator | FLAG.response);
  const header: Header = {
    SPIi: fields.SPIi,
    SPIr: fields.SPIr,
    exchange: fields.exchange,
    initiator: (fields.flags & FLAG.initiator) !== 0,
    response: (fields.flags & FLAG.response) !== 0,
    messageId: fields.messageId,
    version: fields.version,
    ...(otherFlags === 0 ? {} : { otherFlags }),
  };
  return { header, nextPayload: fields.nextPayload };
}

function writeHeader(header: Header, nextPayload: number, bodyBytes: number): Uint8Array {
  const { SPIi, SPIr, exchange, messageId, version = VERSION, otherFlags = 0 } = header;
  const flags = otherFlags | (header.initiator ? FLAG.initiator : 0) | (header.response ? FLAG.response : 0);
  return encode(IsakmpHeader, { SPIi, SPIr, nextPayload, version, exchange, flags, messageId, length: HEADER_BYTES + bodyBytes });
}

/** The payload that ends a chain because its next-payload octet speaks of what is inside: SK or SKF. */
interface Last {
  readonly type: number;
  readonly first: number;
  readonly body: Uint8Array;
}

/** RFC 7296 §3.2: payloads up to next-payload 0, which must be the end of the octets; or up to SK or SKF, which must be the last. */
function readChain(from: Reader, first: number): { payloads: Payload[]; last?: Last } {
  const payloads: Payload[] = [];
  let type = first;
  while (type !== PAYLOAD.none) {
    if (payloads.length === MOST_PAYLOADS) from.fail(`more than ${MOST_PAYLOADS} payloads`);
    const next = from.u8();
    const flags = from.u8();
    const length = from.u16();
    if (length < GENERIC)
      from.fail(
        `payload ${payloadName(type)} has a length of ${length} octets, less than its own header of ${GENERIC}`,
        from.at - 2,
      );
    const body = from.part(length - GENERIC, payloadName(type));
    if (type === PAYLOAD.SK || type === PAYLOAD.SKF) {
      from.finish();
      return { payloads, last: { type, first: next, body: body.rest() } };
    }
    const payload = readPayload(type, (flags & CRITICAL) !== 0, body);
    payloads.push((flags & RESERVED) === 0 ? payload : { ...payload, reservedBits: flags & RESERVED });
    type = next;
  }
  from.finish();
  return { payloads };
}

function writeChain(payloads: readonly Payload[], end: number): { first: number; octets: Uint8Array } {
  const to = new Writer(512);
  payloads.forEach((payload, i) => {
    const next = payloads[i + 1];
    const body = payloadBody(payload);
    const flags = (payload.critical ? CRITICAL : 0) | (payload.reservedBits ?? 0);
    to.bytes(genericHeader(next === undefined ? end : payloadNumber(next), flags, body.length));
    to.bytes(body);
  });
  const first = payloads[0];
  return { first: first === undefined ? end : payloadNumber(first), octets: to.finish() };
}

function genericHeader(next: number, flags: number, bodyBytes: number): Uint8Array {
  const length = GENERIC + bodyBytes;
  if (length > 0xffff) throw new Fault(`a payload has at most ${0xffff} octets, not ${length}`);
  return Uint8Array.of(next, flags, length >>> 8, length & 0xff);
}
