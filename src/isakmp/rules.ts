/** What a message may hold, as data, and the check of it; with the rows of Quick Mode's payloads, which IKEv1 (RFC 2409 §5.5) and KINK (RFC 4430 §4.2.6) share. */

import { PeerError } from '../errors.ts';
import { notifyName, PAYLOAD } from './doi.ts';
import { all, find, type Payload, type PayloadType, payloadName, payloadNumber } from './payloads.ts';

/** Fewest and most occurrences. */
export type Count = readonly [number, number];
export const one: Count = [1, 1];
export const optional: Count = [0, 1];
export const any: Count = [0, Number.POSITIVE_INFINITY];
export const some: Count = [1, Number.POSITIVE_INFINITY];

/** Payloads of a message and how many of each. `VendorId`, `Notify` and types that nobody knows may be in every one. */
export type Holds = Partial<Readonly<Record<PayloadType, Count>>>;

/** The payloads of Quick Mode without the HASH in front, which KINK has not. In KINK the answer's nonce may be left away. */
export const QUICK_MODE = {
  offer: { SA: one, Nonce: one, KE: optional, ID: [0, 2], 'NAT-OA': [0, 2] },
  answer: { SA: one, Nonce: optional, KE: optional, ID: [0, 2], 'NAT-OA': [0, 2] },
} as const satisfies Record<string, Holds>;

/** Octets of a nonce, RFC 2409 §5. */
export const NONCE_BYTES = { min: 8, max: 256 } as const;

/** Counts payloads, and measures nonces. Throws PeerError that says what was expected and what was found in `what`. */
export function checkHolds(what: string, holds: Holds, payloads: readonly Payload[]): void {
  const allowed: Readonly<Record<string, Count>> = { VendorId: any, Notify: any, unknown: any, ...holds };
  const found = new Map<PayloadType, number>();
  for (const { type } of payloads) found.set(type, (found.get(type) ?? 0) + 1);
  for (const [type, count] of found) {
    const most = allowed[type]?.[1] ?? 0;
    if (count <= most) continue;
    const notify = most === 0 ? 'INVALID-PAYLOAD-TYPE' : 'PAYLOAD-MALFORMED';
    const expected = most === 0 ? 'no' : most === 1 ? 'one' : `at most ${most}`;
    throw new PeerError(
      notify,
      `${what}: expected ${expected} ${type} payload${most > 1 ? 's' : ''}, found ${count} in ${held(payloads)}`,
      Uint8Array.of(PAYLOAD[type as keyof typeof PAYLOAD] ?? 0),
    );
  }
  for (const [type, [fewest]] of Object.entries(allowed)) {
    if ((found.get(type as PayloadType) ?? 0) >= fewest) continue;
    throw new PeerError('PAYLOAD-MALFORMED', `${what}: expected a ${type} payload, found ${held(payloads)}`);
  }
  for (const { data } of all(payloads, 'Nonce')) {
    if (data.length >= NONCE_BYTES.min && data.length <= NONCE_BYTES.max) continue;
    throw new PeerError(
      'PAYLOAD-MALFORMED',
      `${what}: a nonce has ${NONCE_BYTES.min} to ${NONCE_BYTES.max} octets, this one ${data.length} (RFC 2409 §5)`,
    );
  }
}

/** RFC 2409 §5.5: a KE payload is there exactly where the transform names a group. Returns its public value. */
export function checkKe(what: string, group: string | undefined, payloads: readonly Payload[]): Uint8Array | undefined {
  const KE = find(payloads, 'KE');
  if ((KE === undefined) === (group === undefined)) return KE?.data;
  throw new PeerError(
    'INVALID-KEY-INFORMATION',
    KE === undefined
      ? `${what}: the transform names group ${group}, but there is no KE payload`
      : `${what}: there is a KE payload, but the transform names no group`,
  );
}

/** What is there, at most twenty names long. */
export function held(payloads: readonly Payload[]): string {
  const names = payloads
    .slice(0, 20)
    .map((payload) => (payload.type === 'Notify' ? `N(${notifyName(payload.notify)})` : payloadName(payloadNumber(payload))));
  const more = payloads.length > names.length ? `, and ${payloads.length - names.length} more` : '';
  return `{ ${names.join(', ')}${more} }`;
}
