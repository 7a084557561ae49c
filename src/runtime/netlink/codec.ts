/**
 * Netlink's framing as octets: message headers and attributes, in the host's (little-endian) order (RFC 3549 §2.3, netlink(7)).
 */

import { WireError } from '../../errors.ts';

export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_DUMP = 0x300;
/**
 * With a NEW request: take the place of what is there, fail where something is there, make it where nothing is there, put it
 * last.
 */
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;

const HEADER_BYTES = 16;
const ATTRIBUTE_HEADER_BYTES = 4;
/** The bits of an attribute's type that are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER). */
const TYPE_MASK = 0x3fff;

/** struct nlmsghdr, and what follows it. */
export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly body: Uint8Array;
}

/** `length (4) | type (2) | flags (2) | sequence (4) | port (4) | body`, padded to 4. */
export function encodeMessage(type: number, flags: number, sequence: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(align(HEADER_BYTES + body.length));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, HEADER_BYTES + body.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  view.setUint32(8, sequence, true);
  bytes.set(body, HEADER_BYTES);
  return bytes;
}

/** The messages of one datagram. Throws WireError where a length does not fit. */
export function messages(bytes: Uint8Array): NetlinkMessage[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found: NetlinkMessage[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = at + HEADER_BYTES <= bytes.length ? view.getUint32(at, true) : 0;
    if (length < HEADER_BYTES || at + length > bytes.length) {
      throw new WireError(`a netlink message of ${length} octets where ${bytes.length - at} are left`, at, 'netlink');
    }
    found.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      body: bytes.subarray(at + HEADER_BYTES, at + length),
    });
    at += align(length);
  }
  return found;
}

/** The attributes from `from` on, by type; the last of a type counts. Throws WireError where a length does not fit. */
export function attributes(bytes: Uint8Array, from: number): Map<number, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found = new Map<number, Uint8Array>();
  for (let at = from; at + ATTRIBUTE_HEADER_BYTES <= bytes.length; ) {
    const length = view.getUint16(at, true);
    if (length < ATTRIBUTE_HEADER_BYTES || at + length > bytes.length) {
      throw new WireError(`a netlink attribute of ${length} octets where ${bytes.length - at} are left`, at, 'netlink');
    }
    found.set(view.getUint16(at + 2, true) & TYPE_MASK, bytes.subarray(at + ATTRIBUTE_HEADER_BYTES, at + length));
    at += align(length);
  }
  return found;
}

/** `length (2) | type (2) | value`, padded to 4. */
export function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(align(ATTRIBUTE_HEADER_BYTES + value.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, ATTRIBUTE_HEADER_BYTES + value.length, true);
  view.setUint16(2, type, true);
  bytes.set(value, ATTRIBUTE_HEADER_BYTES);
  return bytes;
}

export function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

/** The number in an attribute of 1, 2 or 4 octets; undefined where it is absent or has another length. */
export function number(value: Uint8Array | undefined): number | undefined {
  if (value === undefined) return undefined;
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  if (value.length === 4) return view.getUint32(0, true);
  if (value.length === 2) return view.getUint16(0, true);
  return value.length === 1 ? view.getUint8(0) : undefined;
}

export function text(value: Uint8Array | undefined): string | undefined {
  return value === undefined ? undefined : new TextDecoder().decode(value).replace(/\0.*$/s, '');
}

function align(length: number): number {
  return (length + 3) & ~3;
}
