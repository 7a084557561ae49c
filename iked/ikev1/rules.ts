/** What each message of IKEv1 may hold, RFC 2409 §5.4, §5.5, §5.7 and RFC 3947 §3.2, as data; and the check that runs before any handler sees a payload. */

import { PeerError } from '../../src/errors.ts';
import type { Payload } from '../../src/isakmp/payloads.ts';
import { any, checkHolds, type Holds, held, one, QUICK_MODE } from '../../src/isakmp/rules.ts';

/** One message: what it holds, which payloads must come first, and whether it is encrypted. */
interface Row {
  readonly name: string;
  readonly encrypted: boolean;
  /** Payloads that stand in front, in this order (§5: SA in phase 1; §5.5: HASH, then SA). */
  readonly begins: readonly Payload['type'][];
  readonly holds: Holds;
}

const hellos = { encrypted: false, begins: ['SA'], holds: { SA: one } } as const;
const exchanges = { encrypted: false, begins: [], holds: { KE: one, Nonce: one, 'NAT-D': any, CR: any } } as const;
const proofs = { encrypted: true, begins: [], holds: { ID: one, HASH: one, CERT: any, CR: any } } as const;

export const RULES = {
  // §5.4, with a pre-shared key
  'Main Mode 1': { name: 'Main Mode, message 1', ...hellos },
  'Main Mode 2': { name: 'Main Mode, message 2', ...hellos },
  'Main Mode 3': { name: 'Main Mode, message 3', ...exchanges },
  'Main Mode 4': { name: 'Main Mode, message 4', ...exchanges },
  'Main Mode 5': { name: 'Main Mode, message 5', ...proofs },
  'Main Mode 6': { name: 'Main Mode, message 6', ...proofs },
  // §5.5
  'Quick Mode 1': {
    name: 'Quick Mode, message 1',
    encrypted: true,
    begins: ['HASH', 'SA'],
    holds: { HASH: one, ...QUICK_MODE.offer },
  },
  'Quick Mode 2': {
    name: 'Quick Mode, message 2',
    encrypted: true,
    begins: ['HASH', 'SA'],
    holds: { HASH: one, ...QUICK_MODE.answer, Nonce: one },
  },
  'Quick Mode 3': { name: 'Quick Mode, message 3', encrypted: true, begins: ['HASH'], holds: { HASH: one } },
  // §5.7
  Informational: { name: 'Informational', encrypted: true, begins: ['HASH'], holds: { HASH: one, Delete: any } },
  // §5.7, before there are keys: only ever a hint
  'clear Informational': { name: 'Informational in the clear', encrypted: false, begins: [], holds: { Delete: any } },
} as const satisfies Record<string, Row>;

export type MessageName = keyof typeof RULES;

/** Checks a message against its row. Throws PeerError naming what was expected and what was found. */
export function checkRules(name: MessageName, encrypted: boolean, payloads: readonly Payload[]): void {
  const row: Row = RULES[name];
  if (encrypted !== row.encrypted) {
    const how = (is: boolean) => (is ? 'encrypted' : 'in the clear');
    throw new PeerError('INVALID-FLAGS', `${row.name} is ${how(row.encrypted)}, this one came ${how(encrypted)}`);
  }
  checkHolds(row.name, row.holds, payloads);
  row.begins.forEach((type, i) => {
    if (payloads[i]?.type === type) return;
    throw new PeerError(
      'PAYLOAD-MALFORMED',
      `${row.name} begins with ${row.begins.join(', ')} (RFC 2409 §5), found ${held(payloads)}`,
    );
  });
}
