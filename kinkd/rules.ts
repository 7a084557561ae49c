/** What each message may hold, RFC 4430 §6, as data; and the checks that run before any handler sees a payload. */

import { PeerError, WireError } from '../src/errors.ts';
import { readPayloads } from '../src/isakmp/chain.ts';
import {
  type Payload as QuickPayload,
  type PayloadType as QuickType,
  payloadNumber as quickNumber,
} from '../src/isakmp/payloads.ts';
import { nameOf } from '../src/wire/registry.ts';
import { IPSEC_DOI, TYPE, type TypeName } from './message.ts';
import {
  type IsakmpPayload,
  type Payload,
  type PayloadType,
  payloadName,
  payloadNumber,
  QUICK_MODE_VERSION,
} from './payloads.ts';

/** Fewest and most occurrences. */
type Count = readonly [number, number];
const one: Count = [1, 1];
const optional: Count = [0, 1];
const any: Count = [0, Number.POSITIVE_INFINITY];
const some: Count = [1, Number.POSITIVE_INFINITY];

/** One shape of a message: the first whose condition holds is meant. What KINK_ENCRYPT held stands in its place. */
export interface Form {
  readonly name: string;
  readonly when?: { readonly has?: PayloadType; readonly lacks?: PayloadType };
  readonly holds: Partial<Readonly<Record<PayloadType, Count>>>;
}

export const RULES: Readonly<Record<TypeName, readonly Form[]>> = {
  // §6.3
  CREATE: [{ name: 'CREATE', holds: { AP_REQ: one, ISAKMP: some } }],
  // §6.4
  DELETE: [{ name: 'DELETE', holds: { AP_REQ: one, ISAKMP: some } }],
  // §6.5
  STATUS: [{ name: 'STATUS', holds: { AP_REQ: one, ISAKMP: any } }],
  // §6.2
  ACK: [{ name: 'ACK', holds: { AP_REQ: one } }],
  // §6.6
  GETTGT: [{ name: 'GETTGT', holds: { TGT_REQ: one } }],
  // §6.1, and what §6.3 to §6.6 say of it. §6.6 lets a REPLY to GETTGT hold KINK_TGT_REP alone, which §6.1 forgets.
  REPLY: [
    { name: 'REPLY with a TGT', when: { has: 'TGT_REP' }, holds: { TGT_REP: one } },
    {
      name: 'REPLY with a Kerberos error',
      when: { lacks: 'AP_REP', has: 'KRB_ERROR' },
      holds: { KRB_ERROR: one, ERROR: optional },
    },
    { name: 'REPLY with an error', when: { lacks: 'AP_REP' }, holds: { ERROR: one } },
    { name: 'REPLY with a protected Kerberos error', when: { has: 'KRB_ERROR' }, holds: { AP_REP: one, KRB_ERROR: one } },
    { name: 'REPLY', holds: { AP_REP: one, ERROR: optional, ISAKMP: any } },
  ],
};

/** One shape of the Quick Mode payloads in a KINK_ISAKMP. */
interface QuickForm {
  readonly name: string;
  readonly when?: QuickType;
  readonly holds: Partial<Readonly<Record<QuickType, Count>>>;
}

/** What each KINK_ISAKMP may hold besides Notify: of a command, and of the REPLY to it (RFC 4430 §6.3 to §6.5). HASH is not used (§5). */
export const QUICK_RULES: Readonly<
  Record<'CREATE' | 'DELETE' | 'STATUS', Readonly<Record<'command' | 'reply', readonly QuickForm[]>>>
> = {
  CREATE: {
    command: [{ name: 'CREATE', holds: { SA: one, Nonce: one, KE: optional, ID: [0, 2] } }],
    reply: [
      { name: 'REPLY to CREATE', when: 'SA', holds: { SA: one, Nonce: optional, KE: optional, ID: [0, 2] } },
      { name: 'REPLY that refuses CREATE', holds: { Notify: some } },
    ],
  },
  DELETE: {
    command: [{ name: 'DELETE', holds: { Delete: some } }],
    reply: [{ name: 'REPLY to DELETE', holds: { Delete: any } }],
  },
  STATUS: { command: [{ name: 'STATUS', holds: {} }], reply: [{ name: 'REPLY to STATUS', holds: {} }] },
};

/** Octets of a nonce, RFC 2409 §5. */
export const NONCE_BYTES = { min: 8, max: 256 } as const;

/** Payloads that stay outside of KINK_ENCRYPT: they bring the key that opens it (RFC 4430 §6). */
const OUTSIDE: readonly PayloadType[] = ['AP_REQ', 'AP_REP', 'TGT_REQ', 'TGT_REP', 'ENCRYPT'];

/**
 * Checks what an opened message holds, `inner` being what its KINK_ENCRYPT held, and returns all of it in order. Throws PeerError
 * KINK_PROTOERR naming what was expected and found, or KINK_BADQMVERS. Payloads that nobody has assigned are skipped.
 */
export function checkRules(messageType: number, outer: readonly Payload[], inner: readonly Payload[]): readonly Payload[] {
  const type = nameOf(TYPE, messageType);
  const hidden = inner.find((payload) => OUTSIDE.includes(payload.type));
  if (hidden !== undefined) throw refused(`${type}: ${hidden.type} inside of ENCRYPT`);
  const payloads = [...outer.filter((payload) => payload.type !== 'ENCRYPT'), ...inner];
  if (!isType(type)) throw refused(`message type ${messageType} is none of RFC 4430 §4`);
  const form = RULES[type].find(({ when }) => applies(when, payloads))!;
  const holds: Readonly<Record<string, Count>> = { unknown: any, ...form.holds };
  for (const payload of payloads) {
    const most = holds[payload.type]?.[1] ?? 0;
    const found = payloads.filter((other) => other.type === payload.type).length;
    if (found > most)
      throw refused(`${form.name}: expected ${most === 0 ? 'no' : 'one'} ${payload.type}, found ${held(payloads)}`);
  }
  for (const [name, [fewest]] of Object.entries(holds)) {
    if (payloads.filter((payload) => payload.type === name).length < fewest)
      throw refused(`${form.name}: expected ${name}, found ${held(payloads)}`);
  }
  checkVersions(payloads);
  return payloads;
}

/**
 * Reads the payloads of a KINK_ISAKMP and checks what they are. Throws PeerError with the notify to answer with: INVALID-PAYLOAD-TYPE and the type
 * as data, or PAYLOAD-MALFORMED (RFC 4430 §5.5).
 */
export function readQuick(
  { first, chain }: IsakmpPayload,
  command: keyof typeof QUICK_RULES,
  direction: 'command' | 'reply',
): readonly QuickPayload[] {
  let payloads: QuickPayload[];
  try {
    payloads = readPayloads(chain, first, 'ISAKMP');
  } catch (error) {
    throw error instanceof WireError ? new PeerError('PAYLOAD-MALFORMED', error.message) : error;
  }
  const has = (type: QuickType) => payloads.some((payload) => payload.type === type);
  const form = QUICK_RULES[command][direction].find(({ when }) => when === undefined || has(when))!;
  const holds: Readonly<Record<string, Count>> = { VendorId: any, Notify: any, ...form.holds };
  const found = quickHeld(payloads);
  for (const payload of payloads) {
    const most = holds[payload.type]?.[1] ?? 0;
    if (most === 0) throw new PeerError('INVALID-PAYLOAD-TYPE', `${form.name}: ${found}`, Uint8Array.of(quickNumber(payload)));
    if (payloads.filter(({ type }) => type === payload.type).length > most)
      throw new PeerError('PAYLOAD-MALFORMED', `${form.name}: expected ${most} ${payload.type}, found ${found}`);
    if (payload.type === 'Nonce' && (payload.data.length < NONCE_BYTES.min || payload.data.length > NONCE_BYTES.max))
      throw new PeerError(
        'PAYLOAD-MALFORMED',
        `${form.name}: a nonce has ${NONCE_BYTES.min} to ${NONCE_BYTES.max} octets, this one ${payload.data.length} (RFC 2409 §5)`,
      );
    if ((payload.type === 'Delete' || payload.type === 'Notify') && payload.doi !== IPSEC_DOI)
      throw new PeerError(
        'PAYLOAD-MALFORMED',
        `${form.name}: ${payload.type} of DOI ${payload.doi}, expected ${IPSEC_DOI} (RFC 4430 §4)`,
      );
  }
  for (const [type, [fewest]] of Object.entries(holds))
    if (fewest > 0 && !has(type as QuickType))
      throw new PeerError('PAYLOAD-MALFORMED', `${form.name}: expected ${type}, found ${found}`);
  return payloads;
}

/**
 * What may be seen before the key is known: whether a message has what brings the key, or is one that needs none. `sealed` says whether it
 * has a Cksum. Returns why it is to be dropped, or undefined.
 */
export function refuseOuter(messageType: number, outer: readonly Payload[], sealed: boolean): string | undefined {
  const type = nameOf(TYPE, messageType);
  const count = (wanted: PayloadType) => outer.filter((payload) => payload.type === wanted).length;
  switch (type) {
    case 'CREATE':
    case 'DELETE':
    case 'STATUS':
    case 'ACK':
      if (count('AP_REQ') !== 1) return `${type} with ${count('AP_REQ')} AP_REQ payloads: expected one`;
      return sealed ? undefined : `${type} without Cksum`;
    case 'GETTGT':
      return count('TGT_REQ') === 1 ? undefined : `GETTGT with ${count('TGT_REQ')} TGT_REQ payloads: expected one`;
    case 'REPLY':
      if (count('AP_REP') > 1) return `REPLY with ${count('AP_REP')} AP_REP payloads: expected at most one`;
      return sealed || count('AP_REP') === 0 ? undefined : 'REPLY with AP_REP but without Cksum';
    default:
      return `message type ${messageType} is none of RFC 4430 §4`;
  }
}

/** RFC 4430 §4.2.6: Quick Mode 1.0 in all of a message. */
function checkVersions(payloads: readonly Payload[]): void {
  for (const payload of payloads) {
    if (payload.type !== 'ISAKMP' || payload.version === QUICK_MODE_VERSION) continue;
    const found = `${payload.version >>> 4}.${payload.version & 15}`;
    throw new PeerError('KINK_BADQMVERS', `Quick Mode ${found}, but the version that we speak is 1.0 (RFC 4430 §4.2.6)`);
  }
}

function isType(name: string): name is TypeName {
  return Object.hasOwn(TYPE, name);
}

function applies(when: Form['when'], payloads: readonly Payload[]): boolean {
  const has = (type: PayloadType) => payloads.some((payload) => payload.type === type);
  return when === undefined || ((when.has === undefined || has(when.has)) && (when.lacks === undefined || !has(when.lacks)));
}

/** What is there, at most twenty names long. */
function held(payloads: readonly Payload[]): string {
  const names = payloads.slice(0, 20).map((payload) => payloadName(payloadNumber(payload)));
  const more = payloads.length > names.length ? `, and ${payloads.length - names.length} more` : '';
  return `{ ${names.join(', ')}${more} }`;
}

function quickHeld(payloads: readonly QuickPayload[]): string {
  return `{ ${payloads
    .slice(0, 20)
    .map((payload) => (payload.type === 'unknown' ? `type ${payload.number}` : payload.type))
    .join(', ')} }`;
}

function refused(message: string): PeerError {
  return new PeerError('KINK_PROTOERR', message);
}
