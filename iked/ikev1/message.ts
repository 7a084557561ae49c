/** ISAKMP messages as IKEv1 uses them: header, payload chain, encrypted body, RFC 2408 §3.1, RFC 2409 §3.2 and appendix B. Octets to payloads and back. */

import { cat } from '../../src/bytes/bytes.ts';
import { Fault, PeerError, WireError } from '../../src/errors.ts';
import { GENERIC, readChain, writeChain } from '../../src/isakmp/chain.ts';
import { HEADER_BYTES, IsakmpHeader } from '../../src/isakmp/header.ts';
import { type Payload, payloadBody } from '../../src/isakmp/payloads.ts';
import { encode } from '../../src/wire/codec.ts';
import { Reader } from '../../src/wire/reader.ts';
import { registry } from '../../src/wire/registry.ts';

/** Exchange types, RFC 2408 §3.1 and RFC 2409 appendix A. Main Mode is ISAKMP's Identity Protection. */
export const EXCHANGE = registry({
  Base: 1,
  'Main Mode': 2,
  'Authentication Only': 3,
  'Aggressive Mode': 4,
  Informational: 5,
  'Quick Mode': 32,
  'New Group Mode': 33,
});
export type ExchangeName = keyof typeof EXCHANGE;

/** Version 1.0, as its octet. */
const VERSION = 0x10;
/** Flags, RFC 2408 §3.1. */
const FLAG = { encryption: 0x01, commit: 0x02, authenticationOnly: 0x04 } as const;

/** The header without what the chain computes. */
export interface Header {
  /** The initiator's cookie and the responder's, 8 octets each; `CKY_R` is zero in the first message. */
  readonly CKY_I: Uint8Array;
  readonly CKY_R: Uint8Array;
  readonly exchange: number;
  readonly encrypted: boolean;
  /** The C flag: its sender asks to wait for CONNECTED. */
  readonly commit: boolean;
  /** 0 in phase 1. */
  readonly messageId: number;
  /** Flag bits besides E and C, where any is set. */
  readonly otherFlags?: number;
}

export interface Message extends Header {
  readonly payloads: readonly Payload[];
}

/** A message as far as it can be read without a key. Either `payloads` or `ciphertext` is empty. */
export interface ReadMessage {
  readonly header: Header;
  /** The type of the first payload, which is clear in any case. */
  readonly first: number;
  readonly payloads: readonly Payload[];
  readonly ciphertext: Uint8Array;
}

/** The cipher of an ISAKMP SA with its key: CBC, and nothing that authenticates. */
export interface MessageCipher {
  readonly blockBytes: number;
  encrypt(iv: Uint8Array, text: Uint8Array): Uint8Array;
  decrypt(iv: Uint8Array, text: Uint8Array): Uint8Array;
}

/** A decrypted message. Nothing of it is authentic before its HASH was verified. */
export interface OpenedMessage extends Message {
  /** What follows the first payload, with its header and without the padding: what HASH(1) and HASH(2) cover. */
  readonly afterFirst: Uint8Array;
  readonly padding: Uint8Array;
  /** The last ciphertext block, which is the next message's IV (appendix B). */
  readonly lastBlock: Uint8Array;
}

/** Reads a message as far as it is clear. Throws WireError, or PeerError for a version or flags that are not spoken here. */
export function readMessage(datagram: Uint8Array): ReadMessage {
  if (datagram.length < HEADER_BYTES) {
    throw new WireError(
      `a message has at least the ${HEADER_BYTES} octets of its header, this one ${datagram.length}`,
      0,
      'header',
    );
  }
  const fields = IsakmpHeader.read(new Reader(datagram, 'header', 0, HEADER_BYTES));
  if (fields.version >>> 4 !== VERSION >>> 4) {
    throw new PeerError('INVALID-MAJOR-VERSION', `major version 1 expected, found ${fields.version >>> 4}`);
  }
  if ((fields.version & 15) > (VERSION & 15)) {
    throw new PeerError('INVALID-MINOR-VERSION', `minor version 0 expected, found ${fields.version & 15} (RFC 2408 §3.1)`);
  }
  if (fields.length !== datagram.length) {
    throw new WireError(`announces ${fields.length} octets, but the datagram has ${datagram.length}`, 24, 'header');
  }
  const otherFlags = fields.flags & ~(FLAG.encryption | FLAG.commit);
  const header: Header = {
    CKY_I: fields.SPIi,
    CKY_R: fields.SPIr,
    exchange: fields.exchange,
    encrypted: (fields.flags & FLAG.encryption) !== 0,
    commit: (fields.flags & FLAG.commit) !== 0,
    messageId: fields.messageId,
    ...(otherFlags === 0 ? {} : { otherFlags }),
  };
  const from = new Reader(datagram, '', HEADER_BYTES);
  if (header.encrypted) return { header, first: fields.nextPayload, payloads: [], ciphertext: from.rest() };
  const payloads = readChain(from, fields.nextPayload);
  from.finish();
  return { header, first: fields.nextPayload, payloads, ciphertext: new Uint8Array(0) };
}

/**
 * Decrypts. Throws WireError where the ciphertext is no whole number of blocks or what comes out is no chain of payloads, which is what a
 * wrong key or IV leads to. Padding of any length and content is taken (appendix B has zeros, others a count in the last octet).
 */
export function openMessage({ header, first, ciphertext }: ReadMessage, cipher: MessageCipher, iv: Uint8Array): OpenedMessage {
  if (!header.encrypted) throw new WireError('the message is not encrypted', 19, 'header');
  const { blockBytes } = cipher;
  if (ciphertext.length === 0 || ciphertext.length % blockBytes !== 0) {
    throw new WireError(`${ciphertext.length} octets of ciphertext are no whole number of blocks of ${blockBytes}`, HEADER_BYTES);
  }
  const text = cipher.decrypt(iv, ciphertext);
  const from = new Reader(text, 'decrypted');
  const payloads = readChain(from, first);
  const head = payloads[0];
  return {
    ...header,
    payloads,
    afterFirst: text.slice(head === undefined ? 0 : GENERIC + payloadBody(head).length, from.at),
    padding: text.slice(from.at),
    lastBlock: ciphertext.slice(-blockBytes),
  };
}

/** The octets of a message in the clear. */
export function writeMessage(message: Message): Uint8Array {
  if (message.encrypted) throw new Fault('an encrypted message is sealed');
  const { first, octets } = writeChain(message.payloads);
  return cat(writeHeader(message, first, octets.length), octets);
}

/** The octets of an encrypted message, and the IV of the next. `padding` defaults to as few zeros as fill the last block. */
export function sealMessage(
  message: Message,
  cipher: MessageCipher,
  iv: Uint8Array,
  padding?: Uint8Array,
): { readonly bytes: Uint8Array; readonly lastBlock: Uint8Array } {
  const { first, octets } = writeChain(message.payloads);
  const { blockBytes } = cipher;
  const fill = padding ?? new Uint8Array((blockBytes - (octets.length % blockBytes)) % blockBytes);
  const ciphertext = cipher.encrypt(iv, cat(octets, fill));
  return {
    bytes: cat(writeHeader({ ...message, encrypted: true }, first, ciphertext.length), ciphertext),
    lastBlock: ciphertext.slice(-blockBytes),
  };
}

/** The octets that HASH(1) and HASH(2) cover, of a message that is yet to be sent: all payloads that will follow the HASH. */
export function octetsAfterHash(payloads: readonly Payload[]): Uint8Array {
  return writeChain(payloads).octets;
}

function writeHeader(header: Header, nextPayload: number, bodyBytes: number): Uint8Array {
  const { CKY_I, CKY_R, exchange, messageId, encrypted, commit, otherFlags = 0 } = header;
  const flags = otherFlags | (encrypted ? FLAG.encryption : 0) | (commit ? FLAG.commit : 0);
  const length = HEADER_BYTES + bodyBytes;
  return encode(IsakmpHeader, { SPIi: CKY_I, SPIr: CKY_R, nextPayload, version: VERSION, exchange, flags, messageId, length });
}
