/** What each message may hold, RFC 7296 appendix C, as data; and the check that runs before any handler sees a payload. */

import { readU32be } from '../../src/bytes/bytes.ts';
import { PeerError } from '../../src/errors.ts';
import type { Proposal, ProposalProtocol } from '../../src/ipsec/proposal.ts';
import { nameOf } from '../../src/wire/registry.ts';
import { EXCHANGE, type ExchangeName, find } from './message.ts';
import { isErrorNotify, notifyName } from './notify.ts';
import { type Payload, type PayloadType, payloadName, payloadNumber } from './payloads.ts';

/** Fewest and most occurrences. */
type Count = readonly [number, number];
const one: Count = [1, 1];
const optional: Count = [0, 1];
const any: Count = [0, Number.POSITIVE_INFINITY];
const some: Count = [1, Number.POSITIVE_INFINITY];

/** How a form is told from the others of its message: the first whose conditions all hold is meant; one without conditions ends a list. */
interface When {
  readonly has?: PayloadType;
  readonly lacks?: readonly PayloadType[];
  /** An error notify (below 16384) is there. */
  readonly error?: true;
  /** This notify is there. */
  readonly notify?: string;
  /** The first proposal is for this protocol. */
  readonly protocol?: ProposalProtocol;
}

/** One shape of a message. `VendorId` and `Notify` may be in every one; other payloads only where they are listed. */
export interface Form {
  readonly name: string;
  readonly when?: When;
  /** Part of an authentication by EAP, which the caller must have asked for. */
  readonly eap?: true;
  readonly holds: Partial<Readonly<Record<PayloadType, Count>>>;
  /** What every proposal must be for, and the octets of its SPI. */
  readonly proposals?: { readonly protocols: readonly ProposalProtocol[]; readonly spiBytes: number };
}

const firstIke = { protocols: ['ike'], spiBytes: 0 } as const;
const nextIke = { protocols: ['ike'], spiBytes: 8 } as const;
const child = { protocols: ['esp', 'ah'], spiBytes: 4 } as const;
const childPayloads = { CP: optional, SA: one, TSi: one, TSr: one } as const;

export const RULES: Readonly<Record<ExchangeName, Readonly<Record<'request' | 'response', readonly Form[]>>>> = {
  // appendix C.1
  IKE_SA_INIT: {
    request: [{ name: 'request', holds: { SA: one, KE: one, Nonce: one }, proposals: firstIke }],
    response: [
      { name: 'cookie response', when: { lacks: ['SA'], notify: 'COOKIE' }, holds: { Notify: some } },
      { name: 'error response', when: { lacks: ['SA'], error: true }, holds: { Notify: some } },
      { name: 'normal response', holds: { SA: one, KE: one, Nonce: one, CERTREQ: any }, proposals: firstIke },
    ],
  },
  // appendix C.2 and C.3
  IKE_AUTH: {
    request: [
      { name: 'EAP request', eap: true, when: { has: 'EAP' }, holds: { EAP: one } },
      {
        name: 'last request with EAP',
        eap: true,
        when: { has: 'AUTH', lacks: ['IDi', 'SA', 'TSi', 'TSr'] },
        holds: { AUTH: one },
      },
      {
        name: 'first request with EAP',
        eap: true,
        when: { has: 'IDi', lacks: ['AUTH'] },
        holds: { IDi: one, CERTREQ: any, IDr: optional, ...childPayloads },
        proposals: child,
      },
      {
        name: 'request',
        holds: { IDi: one, CERT: any, CERTREQ: any, IDr: optional, AUTH: one, ...childPayloads },
        proposals: child,
      },
    ],
    response: [
      { name: 'EAP response', eap: true, when: { has: 'EAP' }, holds: { IDr: optional, CERT: any, AUTH: optional, EAP: one } },
      { name: 'error response', when: { lacks: ['AUTH'], error: true }, holds: { Notify: some } },
      {
        name: 'response with an error of the child SA',
        when: { lacks: ['SA'], error: true },
        holds: { IDr: optional, CERT: any, AUTH: one, CP: optional, Notify: some },
      },
      {
        name: 'last response with EAP',
        eap: true,
        when: { lacks: ['IDr'], has: 'AUTH' },
        holds: { AUTH: one, ...childPayloads },
        proposals: child,
      },
      { name: 'response', holds: { IDr: one, CERT: any, AUTH: one, ...childPayloads }, proposals: child },
    ],
  },
  // appendix C.4 and C.5
  CREATE_CHILD_SA: {
    request: [
      {
        name: 'request to rekey the IKE SA',
        when: { protocol: 'ike' },
        holds: { SA: one, Nonce: one, KE: one },
        proposals: nextIke,
      },
      { name: 'request for a child SA', holds: { Nonce: one, KE: optional, ...childPayloads }, proposals: child },
    ],
    response: [
      { name: 'error response', when: { lacks: ['SA'], error: true }, holds: { Notify: some } },
      {
        name: 'response to a rekeyed IKE SA',
        when: { protocol: 'ike' },
        holds: { SA: one, Nonce: one, KE: one },
        proposals: nextIke,
      },
      { name: 'response for a child SA', holds: { Nonce: one, KE: optional, ...childPayloads }, proposals: child },
    ],
  },
  // appendix C.6
  INFORMATIONAL: {
    request: [{ name: 'request', holds: { Delete: any, CP: optional } }],
    response: [{ name: 'response', holds: { Delete: any, CP: optional } }],
  },
};

/** Octets of a nonce, RFC 7296 §2.10 and §3.9. */
export const NONCE_BYTES = { min: 16, max: 256 } as const;

/**
 * Checks an authenticated message (or one of IKE_SA_INIT) against its row and returns which form it has. Throws PeerError:
 * UNSUPPORTED_CRITICAL_PAYLOAD with the type as data (§2.5), or INVALID_SYNTAX naming what was expected and found (§2.21).
 * Payloads that nobody knows are skipped, and their order is free (§2.5). Forms of EAP are AUTHENTICATION_FAILED unless `eap` is set, so
 * that a message without AUTH gets no further where EAP is not in use.
 */
export function checkRules(
  exchange: number,
  role: 'request' | 'response',
  payloads: readonly Payload[],
  { eap = false }: { readonly eap?: boolean } = {},
): string {
  checkCritical(payloads);
  const name = nameOf(EXCHANGE, exchange);
  if (!isExchange(name))
    throw refused(`exchange type ${exchange} is none of RFC 7296 (expected ${Object.values(EXCHANGE).join(', ')})`);
  const form = RULES[name][role].find((candidate) => applies(candidate.when, payloads));
  if (form === undefined) throw refused(`${name} ${role}: no such message`);
  const what = form.name === role ? `${name} ${role}` : `${name}, ${form.name}`;
  if (form.eap && !eap) throw new PeerError('AUTHENTICATION_FAILED', `${what}: EAP is not in use here, found ${held(payloads)}`);
  checkCounts(what, form, payloads);
  for (const nonce of payloads) {
    if (nonce.type !== 'Nonce' || (nonce.data.length >= NONCE_BYTES.min && nonce.data.length <= NONCE_BYTES.max)) continue;
    throw refused(
      `${what}: a nonce has ${NONCE_BYTES.min} to ${NONCE_BYTES.max} octets, this one ${nonce.data.length} (RFC 7296 §3.9)`,
    );
  }
  if (form.proposals !== undefined) checkProposals(what, form.proposals, find(payloads, 'SA')?.proposals ?? [], role);
  return form.name;
}

/** RFC 7296 §2.5, also for what stands in front of SK. Throws PeerError UNSUPPORTED_CRITICAL_PAYLOAD. */
export function checkCritical(payloads: readonly Payload[]): void {
  for (const payload of payloads) {
    if (payload.type !== 'unknown' || !payload.critical) continue;
    throw new PeerError(
      'UNSUPPORTED_CRITICAL_PAYLOAD',
      `payload type ${payloadName(payload.number)} is marked critical and is not supported here`,
      Uint8Array.of(payload.number),
    );
  }
}

function isExchange(name: string): name is ExchangeName {
  return Object.hasOwn(EXCHANGE, name);
}

function applies(when: When | undefined, payloads: readonly Payload[]): boolean {
  if (when === undefined) return true;
  const has = (type: PayloadType) => payloads.some((payload) => payload.type === type);
  const notify = (is: (type: number) => boolean) => payloads.some((payload) => payload.type === 'Notify' && is(payload.notify));
  return (
    (when.has === undefined || has(when.has)) &&
    !(when.lacks ?? []).some(has) &&
    (when.error === undefined || notify(isErrorNotify)) &&
    (when.notify === undefined || notify((type) => notifyName(type) === when.notify)) &&
    (when.protocol === undefined || find(payloads, 'SA')?.proposals[0]?.protocol === when.protocol)
  );
}

function checkCounts(what: string, form: Form, payloads: readonly Payload[]): void {
  const holds: Readonly<Record<string, Count>> = { VendorId: any, Notify: any, unknown: any, ...form.holds };
  const found = new Map<PayloadType, number>();
  for (const { type } of payloads) found.set(type, (found.get(type) ?? 0) + 1);
  for (const [type, count] of found) {
    const most = holds[type]?.[1] ?? 0;
    if (count > most)
      throw refused(`${what}: expected ${most === 0 ? 'no' : 'one'} ${type} payload, found ${count} in ${held(payloads)}`);
  }
  for (const [type, [fewest]] of Object.entries(holds)) {
    if ((found.get(type as PayloadType) ?? 0) < fewest)
      throw refused(`${what}: expected a ${type} payload, found ${held(payloads)}`);
  }
}

function checkProposals(
  what: string,
  want: NonNullable<Form['proposals']>,
  proposals: readonly Proposal[],
  role: 'request' | 'response',
): void {
  if (role === 'response' && proposals.length !== 1)
    throw refused(`${what}: expected the one chosen proposal, found ${proposals.length}`);
  for (const { number, protocol, spi } of proposals) {
    if (!want.protocols.includes(protocol))
      throw refused(`${what}: proposal ${number} is for ${protocol}, expected ${want.protocols.join(' or ')}`);
    if (spi.length !== want.spiBytes)
      throw refused(`${what}: proposal ${number} has an SPI of ${spi.length} octets, expected ${want.spiBytes}`);
    if (spi.length === 4 && readU32be(spi) < 256)
      throw refused(`${what}: proposal ${number} has the reserved SPI ${readU32be(spi)} (RFC 4303 §2.1)`);
    if (spi.length === 8 && spi.every((octet) => octet === 0))
      throw refused(`${what}: proposal ${number} has an IKE SPI of zero (RFC 7296 §3.1)`);
  }
}

/** What is there, at most twenty names long. */
function held(payloads: readonly Payload[]): string {
  const names = payloads
    .slice(0, 20)
    .map((payload) => (payload.type === 'Notify' ? `N(${notifyName(payload.notify)})` : payloadName(payloadNumber(payload))));
  const more = payloads.length > names.length ? `, and ${payloads.length - names.length} more` : '';
  return `{ ${names.join(', ')}${more} }`;
}

function refused(message: string): PeerError {
  return new PeerError('INVALID_SYNTAX', message);
}
