/** The payloads of ISAKMP, RFC 2408 §3.4 to §3.16 and RFC 3947 §3.2, §5.2: one codec each, and the union that IKEv1 and KINK speak. */

import { equal } from '../bytes/bytes.ts';
import { type Codec, encode, exactly, reserved, rest, struct, u8, u16, u32 } from '../wire/codec.ts';
import type { Reader } from '../wire/reader.ts';
import { knownName, nameOf } from '../wire/registry.ts';
import { PAYLOAD } from './doi.ts';
import { SecurityAssociation } from './sa-payload.ts';

type Body =
  | ({ readonly type: 'SA' } & SecurityAssociation)
  | { readonly type: 'KE' | 'HASH' | 'SIG' | 'Nonce' | 'VendorId' | 'NAT-D'; readonly data: Uint8Array }
  | {
      readonly type: 'ID';
      readonly idType: number;
      readonly protocol: number;
      readonly port: number;
      readonly data: Uint8Array;
    }
  | { readonly type: 'CERT' | 'CR'; readonly encoding: number; readonly data: Uint8Array }
  | {
      readonly type: 'Notify';
      readonly doi: number;
      readonly protocol: number;
      readonly spi: Uint8Array;
      readonly notify: number;
      readonly data: Uint8Array;
    }
  | { readonly type: 'Delete'; readonly doi: number; readonly protocol: number; readonly spis: readonly Uint8Array[] }
  | { readonly type: 'NAT-OA'; readonly idType: number; readonly data: Uint8Array }
  | { readonly type: 'unknown'; readonly number: number; readonly body: Uint8Array };

/** What reading adds. Neither member is there in a payload that follows the RFC to the letter, and nobody need set them when sending. */
export interface AsReceived {
  /** The RESERVED octet of the generic header, where it was not zero. */
  readonly reservedOctet?: number;
  /** The body as it came, where writing the payload's members would give other octets. Writing prefers it, and so do the hashes over it. */
  readonly received?: Uint8Array;
}

/** One payload; `type` is the RFC's name. Lengths, counts and next-payload octets are computed by the chain. */
export type Payload = Body & AsReceived;
export type PayloadType = Payload['type'];
type KnownPayload = Exclude<Payload, { readonly type: 'unknown' }>;
/** The payload of one type: `PayloadOf<'SA'>`. */
export type PayloadOf<T extends PayloadType> = Holding<Payload, T>;
type Holding<P extends Payload, T extends PayloadType> = P extends Payload
  ? T extends P['type']
    ? P & { readonly type: T }
    : never
  : never;

/** RFC 2408 §3.7 (KE), §3.11 (HASH), §3.12 (SIG), §3.13 (Nonce), §3.16 (VID), RFC 3947 §3.2 (NAT-D): nothing but data. */
export const Opaque = struct({ data: rest });
/** RFC 2407 §4.6.2. */
export const Identification = struct({ idType: u8, protocol: u8, port: u16, data: rest });
/** RFC 2408 §3.9 and §3.10. */
export const Certificate = struct({ encoding: u8, data: rest });
/** RFC 3947 §5.2. */
export const OriginalAddress = struct({ idType: u8, reserved: reserved(3), data: rest });

/** RFC 2408 §3.14. */
export const Notification: Codec<{
  readonly doi: number;
  readonly protocol: number;
  readonly spi: Uint8Array;
  readonly notify: number;
  readonly data: Uint8Array;
}> = {
  read: (from) => {
    const doi = from.u32();
    const protocol = from.u8();
    const spiBytes = from.u8();
    const notify = from.u16();
    return { doi, protocol, notify, spi: from.bytes(spiBytes), data: from.rest() };
  },
  write: (to, { doi, protocol, spi, notify, data }) => {
    to.u32(doi);
    to.u8(protocol);
    to.u8(spi.length);
    to.u16(notify);
    to.bytes(spi);
    to.bytes(data);
  },
};

/** RFC 2408 §3.15. SPIs all have one size. */
export const Deletion: Codec<{ readonly doi: number; readonly protocol: number; readonly spis: readonly Uint8Array[] }> = {
  read: (from) => {
    const doi = u32.read(from);
    const protocol = from.u8();
    const spiBytes = from.u8();
    const count = from.u16();
    if (spiBytes * count !== from.left)
      from.fail(`${count} SPIs of ${spiBytes} octets announced, but ${from.left} octets follow`);
    if (spiBytes === 0 && count > 0) from.fail(`${count} SPIs without octets`);
    return { doi, protocol, spis: Array.from({ length: count }, () => from.bytes(spiBytes)) };
  },
  write: (to, { doi, protocol, spis }) => {
    to.u32(doi);
    to.u8(protocol);
    to.u8(spis[0]?.length ?? 0);
    to.u16(spis.length);
    for (const spi of spis) to.bytes(spi);
  },
};

const BODIES = {
  SA: SecurityAssociation,
  KE: Opaque,
  ID: Identification,
  CERT: Certificate,
  CR: Certificate,
  HASH: Opaque,
  SIG: Opaque,
  Nonce: Opaque,
  Notify: Notification,
  Delete: Deletion,
  VendorId: Opaque,
  'NAT-D': Opaque,
  'NAT-OA': OriginalAddress,
} as const satisfies Record<Exclude<PayloadType, 'unknown'>, Codec<unknown>>;

function isKnown(name: string | undefined): name is keyof typeof BODIES {
  return name !== undefined && Object.hasOwn(BODIES, name);
}

/** Number of a payload's type on the wire. */
export function payloadNumber(payload: Payload): number {
  return payload.type === 'unknown' ? payload.number : PAYLOAD[payload.type];
}

/** `SA`, `NAT-D`, or the number of a type that has no name. */
export function payloadName(number: number): string {
  return nameOf(PAYLOAD, number);
}

/** The payload of type `number` whose body `body` is. Throws WireError. */
export function readPayload(number: number, body: Reader): Payload {
  const type = knownName(PAYLOAD, number);
  if (!isKnown(type)) return { type: 'unknown', number, body: body.rest() };
  const octets = body.peek();
  const codec: Codec<unknown> = BODIES[type];
  const payload = { type, ...(exactly(codec, body) as object) } as KnownPayload;
  return equal(writeBody(payload), octets) ? payload : { ...payload, received: octets };
}

/** The body of a payload, `<P>_b` of RFC 2409 §3.2: what follows its generic header. */
export function payloadBody(payload: Payload): Uint8Array {
  if (payload.type === 'unknown') return payload.body;
  return payload.received ?? writeBody(payload);
}

function writeBody(payload: KnownPayload): Uint8Array {
  const codec: Codec<unknown> = BODIES[payload.type];
  return encode(codec, payload);
}

/** The first payload of a type, or undefined. */
export function find<T extends PayloadType>(payloads: readonly Payload[], type: T): PayloadOf<T> | undefined {
  return payloads.find((payload): payload is PayloadOf<T> => payload.type === type);
}

/** All payloads of a type, in their order. */
export function all<T extends PayloadType>(payloads: readonly Payload[], type: T): PayloadOf<T>[] {
  return payloads.filter((payload): payload is PayloadOf<T> => payload.type === type);
}
