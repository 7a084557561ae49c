/** The payloads of KINK, RFC 4430 §4.2.1 to §4.2.8: one codec each, and the union that the rest of kinkd speaks. */

import { fromUtf8, utf8 } from '../src/bytes/bytes.ts';
import { type Codec, encode, exactly, mapped, reserved, rest, struct, u8, u32 } from '../src/wire/codec.ts';
import type { Reader } from '../src/wire/reader.ts';
import { nameOf, registry } from '../src/wire/registry.ts';

/** Payload types, RFC 4430 §4.2. `DONE` ends a chain. */
export const PAYLOAD = registry({
  DONE: 0,
  AP_REQ: 1,
  AP_REP: 2,
  KRB_ERROR: 3,
  TGT_REQ: 4,
  TGT_REP: 5,
  ISAKMP: 6,
  ENCRYPT: 7,
  ERROR: 8,
});

/** Error codes of KINK_ERROR, RFC 4430 §4.2.8. 4 is reserved; racoon2 sends it for a minor version. */
export const KINK_ERROR = registry({
  KINK_OK: 0,
  KINK_PROTOERR: 1,
  KINK_INVDOI: 2,
  KINK_INVMAJ: 3,
  KINK_INTERR: 5,
  KINK_BADQMVERS: 6,
  KINK_U2UDENIED: 7,
});
export type KinkErrorName = keyof typeof KINK_ERROR;

/** Quick Mode 1.0, RFC 4430 §4.2.6: QMMaj in the high, QMMin in the low four bits. */
export const QUICK_MODE_VERSION = 0x10;

/** One payload of a message; `type` is the RFC's name without KINK_. Lengths, alignment and next-payload octets are computed by the chain. */
export type Payload =
  | { readonly type: 'AP_REQ'; readonly EPOCH: number; readonly apReq: Uint8Array }
  | { readonly type: 'AP_REP'; readonly EPOCH: number; readonly apRep: Uint8Array }
  | { readonly type: 'KRB_ERROR'; readonly krbError: Uint8Array }
  | { readonly type: 'TGT_REQ'; readonly principal: string }
  | { readonly type: 'TGT_REP'; readonly ticket: Uint8Array }
  | IsakmpPayload
  | { readonly type: 'ENCRYPT'; readonly ciphertext: Uint8Array }
  | { readonly type: 'ERROR'; readonly code: number }
  | { readonly type: 'unknown'; readonly number: number; readonly body: Uint8Array };

/** RFC 4430 §4.2.6: one SA operation in Quick Mode's payloads, which `src/isakmp` reads: their first type, and the chain as it lies. */
export interface IsakmpPayload {
  readonly type: 'ISAKMP';
  readonly first: number;
  readonly version: number;
  readonly chain: Uint8Array;
}

export type PayloadType = Payload['type'];
/** The payload of one type: `PayloadOf<'ERROR'>`. */
export type PayloadOf<T extends PayloadType> = Extract<Payload, { readonly type: T }>;
type KnownType = Exclude<PayloadType, 'unknown'>;

/** Bodies, behind the generic header. */
const CODECS: { readonly [T in KnownType]: Codec<Omit<PayloadOf<T>, 'type'>> } = {
  AP_REQ: struct({ EPOCH: u32, apReq: rest }),
  AP_REP: struct({ EPOCH: u32, apRep: rest }),
  KRB_ERROR: struct({ krbError: rest }),
  TGT_REQ: struct({ principal: mapped(rest, fromUtf8, utf8) }),
  TGT_REP: struct({ ticket: rest }),
  ISAKMP: struct({ first: u8, version: u8, reserved: reserved(2), chain: rest }),
  ENCRYPT: struct({ ciphertext: rest }),
  ERROR: struct({ code: u32 }),
};

/** Reads one body; a type that nobody has assigned is kept as it is. Throws WireError. */
export function readPayload(number: number, body: Reader): Payload {
  const type = KNOWN.get(number);
  if (type === undefined) return { type: 'unknown', number, body: body.rest() };
  return { type, ...exactly(CODECS[type] as Codec<object>, body) } as Payload;
}

/** The body's octets. */
export function payloadBody(payload: Payload): Uint8Array {
  return payload.type === 'unknown' ? payload.body : encode(CODECS[payload.type] as Codec<Payload>, payload);
}

export function payloadNumber(payload: Payload): number {
  return payload.type === 'unknown' ? payload.number : PAYLOAD[payload.type];
}

/** `AP_REQ`, or the number of an unknown type. */
export function payloadName(number: number): string {
  return nameOf(PAYLOAD, number);
}

/** The first payload of a type, or undefined. */
export function find<T extends PayloadType>(payloads: readonly Payload[], type: T): PayloadOf<T> | undefined {
  return payloads.find((payload): payload is PayloadOf<T> => payload.type === type);
}

/** All payloads of a type, in their order. */
export function all<T extends PayloadType>(payloads: readonly Payload[], type: T): PayloadOf<T>[] {
  return payloads.filter((payload): payload is PayloadOf<T> => payload.type === type);
}

const KNOWN: ReadonlyMap<number, KnownType> = new Map((Object.keys(CODECS) as KnownType[]).map((type) => [PAYLOAD[type], type]));
