/** The 28-octet header that ISAKMP (RFC 2408 §3.1) and IKEv2 (RFC 7296 §3.1) share. */

import { bytes, struct, u8, u32, type Value } from '../wire/codec.ts';

export const HEADER_BYTES = 28;

/** The fields as they lie; `SPIi` and `SPIr` are IKEv1's cookies. `length` counts the whole message, header included. */
export const IsakmpHeader = struct({
  SPIi: bytes(8),
  SPIr: bytes(8),
  nextPayload: u8,
  version: u8,
  exchange: u8,
  flags: u8,
  messageId: u32,
  length: u32,
});
export type IsakmpHeader = Value<typeof IsakmpHeader>;

/** Major version (the high half of the version octet), or undefined where the datagram is too short to have one: what tells IKEv1 from IKEv2. */
export function majorVersion(datagram: Uint8Array): number | undefined {
  return datagram.length < HEADER_BYTES ? undefined : datagram[17]! >>> 4;
}
