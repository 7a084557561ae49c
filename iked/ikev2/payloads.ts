/** The payloads of IKEv2, RFC 7296 §3.3 to §3.16: one codec each, and the union that all other files speak. */

import { equal } from '../../src/bytes/bytes.ts';
import type { Proposal } from '../../src/ipsec/proposal.ts';
import type { TrafficSelector } from '../../src/ipsec/selector.ts';
import { IpAddress } from '../../src/net/address.ts';
import { type Codec, encode, exactly, reserved, rest, struct, u8, u16 } from '../../src/wire/codec.ts';
import type { Reader } from '../../src/wire/reader.ts';
import { knownName, nameOf, registry } from '../../src/wire/registry.ts';
import { Proposals } from './sa-payload.ts';

/** Payload types, RFC 7296 §3.2 and IANA. `none` ends a chain. */
export const PAYLOAD = registry({
  none: 0,
  SA: 33,
  KE: 34,
  IDi: 35,
  IDr: 36,
  CERT: 37,
  CERTREQ: 38,
  AUTH: 39,
  Nonce: 40,
  Notify: 41,
  Delete: 42,
  VendorId: 43,
  TSi: 44,
  TSr: 45,
  SK: 46,
  CP: 47,
  EAP: 48,
  GSPM: 49,
  SKF: 53,
  PS: 54,
});

/** Identification types, RFC 7296 §3.5. */
export const ID_TYPE = registry({
  IPV4_ADDR: 1,
  FQDN: 2,
  RFC822_ADDR: 3,
  IPV6_ADDR: 5,
  DER_ASN1_DN: 9,
  DER_ASN1_GN: 10,
  KEY_ID: 11,
  NULL: 13,
});

/** Certificate encodings, RFC 7296 §3.6. */
export const CERT_ENCODING = registry({
  PKCS7_X509: 1,
  PGP: 2,
  DNS_SIGNED_KEY: 3,
  X509_SIGNATURE: 4,
  KERBEROS_TOKEN: 6,
  CRL: 7,
  ARL: 8,
  SPKI: 9,
  X509_ATTRIBUTE: 10,
  HASH_AND_URL_X509: 12,
  HASH_AND_URL_BUNDLE: 13,
  OCSP_CONTENT: 14,
  RAW_PUBLIC_KEY: 15,
});

/** Authentication methods, RFC 7296 §3.8, RFC 4754, RFC 7427, RFC 7619. */
export const AUTH_METHOD = registry({
  RSA_SIGNATURE: 1,
  SHARED_KEY: 2,
  DSS_SIGNATURE: 3,
  ECDSA_256: 9,
  ECDSA_384: 10,
  ECDSA_521: 11,
  NULL: 13,
  DIGITAL_SIGNATURE: 14,
});

/** Security protocol identifiers, RFC 7296 §3.3.1; a notify about no SA has `none`. */
export const PROTOCOL = registry({ none: 0, IKE: 1, AH: 2, ESP: 3 });

/** Configuration payload types, RFC 7296 §3.15. */
export const CFG_TYPE = registry({ CFG_REQUEST: 1, CFG_REPLY: 2, CFG_SET: 3, CFG_ACK: 4 });

/** One configuration attribute, RFC 7296 §3.15.1. */
export interface CpAttribute {
  readonly type: number;
  readonly value: Uint8Array;
}

type Body =
  | { readonly type: 'SA'; readonly proposals: readonly Proposal[] }
  | { readonly type: 'KE'; readonly group: number; readonly data: Uint8Array }
  | { readonly type: 'IDi' | 'IDr'; readonly idType: number; readonly data: Uint8Array }
  | { readonly type: 'CERT' | 'CERTREQ'; readonly encoding: number; readonly data: Uint8Array }
  | { readonly type: 'AUTH'; readonly method: number; readonly data: Uint8Array }
  | { readonly type: 'Nonce' | 'VendorId' | 'EAP'; readonly data: Uint8Array }
  | {
      readonly type: 'Notify';
      readonly protocol: number;
      readonly spi: Uint8Array;
      readonly notify: number;
      readonly data: Uint8Array;
    }
  | { readonly type: 'Delete'; readonly protocol: number; readonly spis: readonly Uint8Array[] }
  | { readonly type: 'TSi' | 'TSr'; readonly selectors: readonly TrafficSelector[] }
  | { readonly type: 'CP'; readonly cfgType: number; readonly attributes: readonly CpAttribute[] }
  | { readonly type: 'unknown'; readonly number: number; readonly critical: boolean; readonly body: Uint8Array };

/** What reading adds. None of these members is there in a payload that follows the RFC to the letter, and nobody need set them when sending. */
export interface AsReceived {
  /** The critical bit, which senders of payloads known to everybody leave clear (RFC 7296 §3.2). */
  readonly critical?: boolean;
  /** RESERVED bits of the generic header, where any was set. */
  readonly reservedBits?: number;
  /**
   * The body as it came, where writing the payload's members would give other octets: RESERVED bits were set, or it holds something that
   * is skipped (a proposal for an unknown protocol, an unknown traffic selector type). Writing prefers it, and so does AUTH (§2.15).
   */
  readonly received?: Uint8Array;
}

/** One payload of a message; `type` is the RFC's notation. Lengths, counts and next-payload octets are computed by the chain. */
export type Payload = Body & AsReceived;
export type PayloadType = Payload['type'];
/** A payload of a type that we know. */
export type KnownPayload = Exclude<Payload, { readonly type: 'unknown' }>;
/** The payload of one type: `PayloadOf<'KE'>`. */
export type PayloadOf<T extends PayloadType> = Holding<Payload, T>;
type Holding<P extends Payload, T extends PayloadType> = P extends Payload
  ? T extends P['type']
    ? P & { readonly type: T }
    : never
  : never;

/** RFC 7296 §3.4. */
export const KeyExchange = struct({ group: u16, reserved: reserved(2), data: rest });
/** RFC 7296 §3.5. */
export const Identification = struct({ idType: u8, reserved: reserved(3), data: rest });
/** RFC 7296 §3.6 and §3.7. */
export const Certificate = struct({ encoding: u8, data: rest });
/** RFC 7296 §3.8. */
export const Authentication = struct({ method: u8, reserved: reserved(3), data: rest });
/** RFC 7296 §3.9 (Nonce), §3.12 (Vendor ID), §3.16 (EAP): nothing but data. */
export const Opaque = struct({ data: rest });

/** RFC 7296 §3.10. */
export const Notification: Codec<{
  readonly protocol: number;
  readonly spi: Uint8Array;
  readonly notify: number;
  readonly data: Uint8Array;
}> = {
  read: (from) => {
    const protocol = from.u8();
    const spiBytes = from.u8();
    const notify = from.u16();
    return { protocol, notify, spi: from.bytes(spiBytes), data: from.rest() };
  },
  write: (to, { protocol, spi, notify, data }) => {
    to.u8(protocol);
    to.u8(spi.length);
    to.u16(notify);
    to.bytes(spi);
    to.bytes(data);
  },
};

/** RFC 7296 §3.11. SPIs all have one size; an IKE SA is deleted without naming one. */
export const Deletion: Codec<{ readonly protocol: number; readonly spis: readonly Uint8Array[] }> = {
  read: (from) => {
    const protocol = from.u8();
    const spiBytes = from.u8();
    const count = from.u16();
    if (spiBytes * count !== from.left)
      from.fail(`${count} SPIs of ${spiBytes} octets announced, but ${from.left} octets follow`);
    if (spiBytes === 0 && count > 0) from.fail(`${count} SPIs without octets`);
    return { protocol, spis: Array.from({ length: count }, () => from.bytes(spiBytes)) };
  },
  write: (to, { protocol, spis }) => {
    to.u8(protocol);
    to.u8(spis[0]?.length ?? 0);
    to.u16(spis.length);
    for (const spi of spis) to.bytes(spi);
  },
};

/** Traffic selector types, RFC 7296 §3.13.1. */
export const TS_TYPE = registry({ TS_IPV4_ADDR_RANGE: 7, TS_IPV6_ADDR_RANGE: 8 });

/** RFC 7296 §3.13. Selectors of unknown types are left out: nothing of theirs can be agreed on. */
export const TrafficSelectors: Codec<{ readonly selectors: readonly TrafficSelector[] }> = {
  read: (from) => {
    const count = from.u8();
    from.skip(3);
    const selectors: TrafficSelector[] = [];
    for (let i = 1; i <= count; i++) {
      const selector = readSelector(from, i);
      if (selector !== undefined) selectors.push(selector);
    }
    return { selectors };
  },
  write: (to, { selectors }) => {
    to.u8(selectors.length);
    to.zeros(3);
    for (const { protocol, startPort, endPort, start, end } of selectors) {
      to.u8(start.family === 4 ? TS_TYPE.TS_IPV4_ADDR_RANGE : TS_TYPE.TS_IPV6_ADDR_RANGE);
      to.u8(protocol);
      to.u16(8 + start.bytes.length + end.bytes.length);
      to.u16(startPort);
      to.u16(endPort);
      to.bytes(start.bytes);
      to.bytes(end.bytes);
    }
  },
};

function readSelector(from: Reader, number: number): TrafficSelector | undefined {
  const type = from.u8();
  const protocol = from.u8();
  const length = from.u16();
  if (length < 4) from.fail(`a traffic selector of ${length} octets is shorter than its own header of 4`);
  const body = from.part(length - 4, `selector ${number}`);
  const name = knownName(TS_TYPE, type);
  if (name === undefined) return undefined;
  const octets = name === 'TS_IPV4_ADDR_RANGE' ? 4 : 16;
  const startPort = body.u16();
  const endPort = body.u16();
  const start = IpAddress.of(body.bytes(octets));
  const end = IpAddress.of(body.bytes(octets));
  body.finish();
  return { protocol, startPort, endPort, start, end };
}

/** RFC 7296 §3.15. */
export const Configuration: Codec<{ readonly cfgType: number; readonly attributes: readonly CpAttribute[] }> = {
  read: (from) => {
    const cfgType = from.u8();
    from.skip(3);
    const attributes: CpAttribute[] = [];
    while (from.left > 0) {
      const type = from.u16() & 0x7fff;
      attributes.push({ type, value: from.bytes(from.u16()) });
    }
    return { cfgType, attributes };
  },
  write: (to, { cfgType, attributes }) => {
    to.u8(cfgType);
    to.zeros(3);
    for (const { type, value } of attributes) {
      to.u16(type);
      to.u16(value.length);
      to.bytes(value);
    }
  },
};

/** RFC 7296 §3.3. */
export const SecurityAssociation = struct({ proposals: Proposals });

const BODIES = {
  SA: SecurityAssociation,
  KE: KeyExchange,
  IDi: Identification,
  IDr: Identification,
  CERT: Certificate,
  CERTREQ: Certificate,
  AUTH: Authentication,
  Nonce: Opaque,
  Notify: Notification,
  Delete: Deletion,
  VendorId: Opaque,
  TSi: TrafficSelectors,
  TSr: TrafficSelectors,
  CP: Configuration,
  EAP: Opaque,
} as const satisfies Record<Exclude<PayloadType, 'unknown'>, Codec<unknown>>;

function isKnown(name: string | undefined): name is keyof typeof BODIES {
  return name !== undefined && Object.hasOwn(BODIES, name);
}

/** Number of a payload's type on the wire. */
export function payloadNumber(payload: Payload): number {
  return payload.type === 'unknown' ? payload.number : PAYLOAD[payload.type];
}

/** `IDi`, `SK`, or the number of a type that has no name. */
export function payloadName(number: number): string {
  return nameOf(PAYLOAD, number);
}

/** The payload of type `number` whose body `body` is. Throws WireError. */
export function readPayload(number: number, critical: boolean, body: Reader): Payload {
  const type = knownName(PAYLOAD, number);
  if (!isKnown(type)) return { type: 'unknown', number, critical, body: body.rest() };
  const octets = body.peek();
  const codec: Codec<unknown> = BODIES[type];
  const payload = { type, ...(exactly(codec, body) as object), ...(critical ? { critical } : {}) } as KnownPayload;
  return equal(writeBody(payload), octets) ? payload : { ...payload, received: octets };
}

/** The body of a payload: what follows its generic header. */
export function payloadBody(payload: Payload): Uint8Array {
  if (payload.type === 'unknown') return payload.body;
  return payload.received ?? writeBody(payload);
}

function writeBody(payload: KnownPayload): Uint8Array {
  const codec: Codec<unknown> = BODIES[payload.type];
  return encode(codec, payload);
}
