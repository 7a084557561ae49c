/** KINK messages, RFC 4430 §4: header, payload chain on 4-octet boundaries, KINK_ENCRYPT and Cksum. Octets to payloads and back. */

import { cat } from '../src/bytes/bytes.ts';
import { AuthError, Fault, PeerError, WireError } from '../src/errors.ts';
import type { RandomBytes } from '../src/machine.ts';
import { struct, u8, u16, u32 } from '../src/wire/codec.ts';
import { Reader } from '../src/wire/reader.ts';
import { registry } from '../src/wire/registry.ts';
import { Writer } from '../src/wire/writer.ts';
import { checksum, decrypt, type EncryptionKey, encrypt, KEY_USAGE, verifyChecksum } from './krb5/enctypes.ts';
import { PAYLOAD, type Payload, type PayloadOf, payloadBody, payloadName, payloadNumber, readPayload } from './payloads.ts';

/** Message types, RFC 4430 §4. */
export const TYPE = registry({ CREATE: 1, DELETE: 2, REPLY: 3, GETTGT: 4, ACK: 5, STATUS: 6 });
export type TypeName = keyof typeof TYPE;

/** The IPsec DOI's number. */
export const IPSEC_DOI = 1;
/** KINK's own port, RFC 4430 §9. */
export const KINK_PORT = 910;

const HEADER_BYTES = 16;
const MAJOR_VERSION = 1;
const ACKREQ = 0x80;
/** Octets of a payload's generic header. */
const GENERIC = 4;
/** Everything starts on a multiple of this, RFC 4430 §4.1. */
const ALIGNMENT = 4;
/** More payloads than any honest message holds; reading stops there, before a sender is known. */
const MOST_PAYLOADS = 64;

/** Offsets of the two fields that Cksum sees otherwise than the wire has them. */
const AT = { length: 2, cksumLen: 14 } as const;

/** The header without what the chain computes. */
export interface Header {
  readonly messageType: number;
  readonly DOI: number;
  readonly XID: number;
  readonly ACKREQ: boolean;
}

export interface Message extends Header {
  readonly payloads: readonly Payload[];
}

/** A message as it came: nothing in it is to be believed before `verifyCksum`. */
export interface ReadMessage extends Message {
  /** What Cksum covers (RFC 4430 §4: the Length without it, CksumLen zero), and Cksum; undefined where there is none. */
  readonly sealed: { readonly covered: Uint8Array; readonly Cksum: Uint8Array } | undefined;
}

const Fields = struct({
  messageType: u8,
  version: u8,
  length: u16,
  DOI: u32,
  XID: u32,
  nextPayload: u8,
  flags: u8,
  cksumLen: u16,
});

/** XID and type alone, for an answer to what cannot be read further; undefined where not even they are there. */
export function peekHeader(datagram: Uint8Array): Header | undefined {
  if (datagram.length < HEADER_BYTES) return undefined;
  const { messageType, DOI, XID, flags } = Fields.read(new Reader(datagram));
  return { messageType, DOI, XID, ACKREQ: (flags & ACKREQ) !== 0 };
}

/**
 * Reads a message; KINK_ENCRYPT stays closed. Throws WireError, or PeerError with the name of the KINK_ERROR to answer with: KINK_INVMAJ for
 * another major version, KINK_INVDOI for another DOI.
 */
export function readMessage(datagram: Uint8Array): ReadMessage {
  if (datagram.length < HEADER_BYTES)
    throw new WireError(
      `a message has at least the ${HEADER_BYTES} octets of its header, this one ${datagram.length}`,
      0,
      'header',
    );
  const fields = Fields.read(new Reader(datagram, 'header'));
  const major = fields.version >>> 4;
  if (major !== MAJOR_VERSION)
    throw new PeerError('KINK_INVMAJ', `major version ${major}, but the one that we speak is ${MAJOR_VERSION} (RFC 4430 §4)`);
  const { messageType, DOI, XID, length, cksumLen } = fields;
  if (length > datagram.length)
    throw new WireError(`announces ${length} octets, but the datagram has ${datagram.length}`, AT.length, 'header');
  const end = length - cksumLen;
  if (end < HEADER_BYTES)
    throw new WireError(
      `a message of ${length} octets with ${cksumLen} octets of Cksum has no room for its header of ${HEADER_BYTES}`,
      AT.length,
      'header',
    );
  // GETTGT is about Kerberos alone: no DOI has a meaning in it (RFC 4430 §6.6).
  if (DOI !== IPSEC_DOI && messageType !== TYPE.GETTGT)
    throw new PeerError('KINK_INVDOI', `DOI ${DOI}, but the one that we speak is ${IPSEC_DOI}, IPsec (RFC 4430 §4)`);
  if (end % ALIGNMENT !== 0 && cksumLen > 0)
    throw new WireError(
      `Cksum starts at octet ${end}, which is no multiple of ${ALIGNMENT} (RFC 4430 §4.1)`,
      AT.cksumLen,
      'header',
    );
  const from = new Reader(datagram, '', HEADER_BYTES, end);
  const payloads = readChain(from, fields.nextPayload);
  from.finish();
  return {
    messageType,
    DOI,
    XID,
    ACKREQ: (fields.flags & ACKREQ) !== 0,
    payloads,
    sealed: cksumLen === 0 ? undefined : { covered: covered(datagram, end), Cksum: datagram.slice(end, length) },
  };
}

/** Proves the message by the session key of the ticket that it brought or answers. Throws AuthError: such a message is dropped (RFC 4430 §4). */
export function verifyCksum({ sealed }: ReadMessage, key: EncryptionKey): void {
  if (sealed === undefined) throw new AuthError('no Cksum, though a key is at hand (RFC 4430 §4)');
  if (!verifyChecksum(key, KEY_USAGE.KINK_CKSUM, sealed.covered, sealed.Cksum)) throw new AuthError('Cksum is wrong');
}

/** The octets of a message without Cksum: GETTGT and its answers, and errors for which there is no key. */
export function writeMessage(message: Message): Uint8Array {
  const chain = writeChain(message.payloads);
  if (HEADER_BYTES + chain.octets.length > 0xffff) throw new Fault(`a message of ${chain.octets.length} octets of payloads`);
  const to = new Writer(HEADER_BYTES + chain.octets.length);
  Fields.write(to, {
    messageType: message.messageType,
    version: MAJOR_VERSION << 4,
    length: HEADER_BYTES + chain.octets.length,
    DOI: message.DOI,
    XID: message.XID,
    nextPayload: chain.first,
    flags: message.ACKREQ ? ACKREQ : 0,
    cksumLen: 0,
  });
  to.bytes(chain.octets);
  return to.finish();
}

/** The octets of a message with Cksum over all of it, RFC 4430 §4. */
export function sealMessage(message: Message, key: EncryptionKey): Uint8Array {
  const octets = writeMessage(message);
  const Cksum = checksum(key, KEY_USAGE.KINK_CKSUM, octets);
  const sealed = cat(octets, Cksum);
  setU16(sealed, AT.length, sealed.length);
  setU16(sealed, AT.cksumLen, Cksum.length);
  return sealed;
}

/** The payloads inside of a KINK_ENCRYPT, RFC 4430 §4.2.7. What an etype pads behind the last one is ignored. Throws AuthError or WireError. */
export function openEncrypt({ ciphertext }: PayloadOf<'ENCRYPT'>, key: EncryptionKey): Payload[] {
  const plaintext = decrypt(key, KEY_USAGE.KINK_ENCRYPT, ciphertext);
  if (plaintext === undefined) throw new AuthError('KINK_ENCRYPT does not open with the session key');
  const from = new Reader(plaintext, 'ENCRYPT');
  const first = from.u8();
  from.skip(3);
  return readChain(from, first);
}

/** A KINK_ENCRYPT around payloads. */
export function encrypted(payloads: readonly Payload[], key: EncryptionKey, random: RandomBytes): PayloadOf<'ENCRYPT'> {
  const { first, octets } = writeChain(payloads);
  const plaintext = cat(Uint8Array.of(first, 0, 0, 0), octets);
  return { type: 'ENCRYPT', ciphertext: encrypt(key, KEY_USAGE.KINK_ENCRYPT, plaintext, random) };
}

/** RFC 4430 §4.2: payloads up to KINK_DONE, each on a 4-octet boundary of the octets read. KINK_ENCRYPT must be the last. */
function readChain(from: Reader, first: number): Payload[] {
  const payloads: Payload[] = [];
  for (let type = first; type !== PAYLOAD.DONE; ) {
    if (payloads.length === MOST_PAYLOADS) from.fail(`more than ${MOST_PAYLOADS} payloads`);
    const next = from.u8();
    from.skip(1);
    const length = from.u16();
    if (length < GENERIC)
      from.fail(
        `payload ${payloadName(type)} has a length of ${length} octets, less than its own header of ${GENERIC}`,
        from.at - 2,
      );
    payloads.push(readPayload(type, from.part(length - GENERIC, payloadName(type))));
    if (type === PAYLOAD.ENCRYPT && next !== PAYLOAD.DONE)
      from.fail(`${payloadName(next)} behind ENCRYPT, which must be the last payload (RFC 4430 §4.2.7)`);
    // The last payload of a message without Cksum may lack its padding: nothing has to be aligned behind it.
    from.skip(Math.min(padding(from.at), from.left));
    type = next;
  }
  return payloads;
}

function writeChain(payloads: readonly Payload[]): { first: number; octets: Uint8Array } {
  const to = new Writer(512);
  payloads.forEach((payload, i) => {
    const body = payloadBody(payload);
    const next = payloads[i + 1];
    to.u8(next === undefined ? PAYLOAD.DONE : payloadNumber(next));
    to.u8(0);
    to.u16(GENERIC + body.length);
    to.bytes(body);
    to.zeros(padding(to.length));
  });
  const first = payloads[0];
  return { first: first === undefined ? PAYLOAD.DONE : payloadNumber(first), octets: to.finish() };
}

function padding(length: number): number {
  return (ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT;
}

/** The message as its sender had it before Cksum was appended. */
function covered(datagram: Uint8Array, end: number): Uint8Array {
  const octets = datagram.slice(0, end);
  setU16(octets, AT.length, end);
  setU16(octets, AT.cksumLen, 0);
  return octets;
}

function setU16(octets: Uint8Array, at: number, value: number): void {
  octets[at] = value >>> 8;
  octets[at + 1] = value & 0xff;
}
