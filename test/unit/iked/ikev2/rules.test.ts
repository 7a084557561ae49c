/** RFC 7296 appendix C: which message is which form, and what the refusals say. */

import { describe, expect, test } from 'vitest';
import { EXCHANGE, type ExchangeName } from '../../../../iked/ikev2/message.ts';
import { notify } from '../../../../iked/ikev2/notify.ts';
import { type Payload, PROTOCOL } from '../../../../iked/ikev2/payloads.ts';
import { checkRules, RULES } from '../../../../iked/ikev2/rules.ts';
import { PeerError } from '../../../../src/errors.ts';
import type { Proposal, ProposalProtocol } from '../../../../src/ipsec/proposal.ts';

const data = new Uint8Array(32);
const proposal = (protocol: ProposalProtocol, spi: readonly number[], number = 1): Proposal => ({
  number,
  protocol,
  spi: Uint8Array.from(spi),
  transforms: [],
});
const sa = (...proposals: Proposal[]): Payload => ({ type: 'SA', proposals });
const first = sa(proposal('ike', []));
const next = sa(proposal('ike', [1, 2, 3, 4, 5, 6, 7, 8]));
const child = sa(proposal('esp', [1, 2, 3, 4]));
const [IDi, IDr]: Payload[] = [
  { type: 'IDi', idType: 2, data },
  { type: 'IDr', idType: 2, data },
];
const KE: Payload = { type: 'KE', group: 31, data };
const N: Payload = { type: 'Nonce', data };
const AUTH: Payload = { type: 'AUTH', method: 2, data };
const [TSi, TSr]: Payload[] = [
  { type: 'TSi', selectors: [] },
  { type: 'TSr', selectors: [] },
];
const EAP: Payload = { type: 'EAP', data };
const V: Payload = { type: 'VendorId', data };
const D: Payload = { type: 'Delete', protocol: PROTOCOL.IKE, spis: [] };
const CERT: Payload = { type: 'CERT', encoding: 4, data };

const VALID: readonly (readonly [ExchangeName, 'request' | 'response', string, readonly Payload[]])[] = [
  ['IKE_SA_INIT', 'request', 'request', [notify('COOKIE', data), first, KE, N, V, V]],
  ['IKE_SA_INIT', 'response', 'normal response', [first, KE, N, notify('NAT_DETECTION_SOURCE_IP', new Uint8Array(20))]],
  ['IKE_SA_INIT', 'response', 'cookie response', [notify('COOKIE', data)]],
  ['IKE_SA_INIT', 'response', 'error response', [notify('INVALID_KE_PAYLOAD', Uint8Array.of(0, 31)), V]],
  [
    'IKE_AUTH',
    'request',
    'request',
    [IDi!, notify('INITIAL_CONTACT'), IDr!, AUTH, notify('USE_TRANSPORT_MODE'), child, TSi!, TSr!],
  ],
  ['IKE_AUTH', 'request', 'request', [V, TSr!, TSi!, child, AUTH, IDi!, CERT, CERT]],
  ['IKE_AUTH', 'response', 'response', [IDr!, AUTH, child, TSi!, TSr!]],
  ['IKE_AUTH', 'response', 'error response', [notify('AUTHENTICATION_FAILED')]],
  ['IKE_AUTH', 'response', 'response with an error of the child SA', [IDr!, AUTH, notify('TS_UNACCEPTABLE')]],
  ['CREATE_CHILD_SA', 'request', 'request for a child SA', [notify('REKEY_SA'), child, N, KE, TSi!, TSr!]],
  ['CREATE_CHILD_SA', 'request', 'request for a child SA', [child, N, TSi!, TSr!]],
  ['CREATE_CHILD_SA', 'request', 'request to rekey the IKE SA', [next, N, KE]],
  ['CREATE_CHILD_SA', 'response', 'response for a child SA', [child, N, TSi!, TSr!]],
  ['CREATE_CHILD_SA', 'response', 'response to a rekeyed IKE SA', [next, N, KE]],
  ['CREATE_CHILD_SA', 'response', 'error response', [notify('NO_ADDITIONAL_SAS')]],
  ['INFORMATIONAL', 'request', 'request', []],
  ['INFORMATIONAL', 'request', 'request', [D, D, notify('INVALID_SELECTORS')]],
  ['INFORMATIONAL', 'response', 'response', []],
];

test.each(VALID)('%s %s is the %s', (exchange, role, form, payloads) => {
  expect(checkRules(EXCHANGE[exchange], role, payloads)).toBe(form);
});

const EAP_FORMS: readonly (readonly ['request' | 'response', string, readonly Payload[]])[] = [
  ['request', 'first request with EAP', [IDi!, child, TSi!, TSr!]],
  ['response', 'EAP response', [IDr!, CERT, AUTH, EAP]],
  ['request', 'EAP request', [EAP]],
  ['response', 'EAP response', [EAP]],
  ['request', 'last request with EAP', [AUTH]],
  ['response', 'last response with EAP', [AUTH, child, TSi!, TSr!]],
];

test.each(EAP_FORMS)('IKE_AUTH %s: %s, where EAP is in use and only there', (role, form, payloads) => {
  expect(checkRules(EXCHANGE.IKE_AUTH, role, payloads, { eap: true })).toBe(form);
  expect(() => checkRules(EXCHANGE.IKE_AUTH, role, payloads)).toThrow(
    expect.objectContaining({ notify: 'AUTHENTICATION_FAILED' }),
  );
});

test('every form of the table is reached by one of the messages above', () => {
  const reached = new Set([
    ...VALID.map(([exchange, role, form]) => `${exchange} ${role} ${form}`),
    ...EAP_FORMS.map(([role, form]) => `IKE_AUTH ${role} ${form}`),
  ]);
  const all = Object.entries(RULES).flatMap(([exchange, roles]) =>
    Object.entries(roles).flatMap(([role, forms]) => forms.map((form) => `${exchange} ${role} ${form.name}`)),
  );
  expect([...reached].sort()).toEqual(all.sort());
});

describe('refusals say what was expected and what was found', () => {
  const INVALID: readonly (readonly [ExchangeName, 'request' | 'response', readonly Payload[], string])[] = [
    ['IKE_SA_INIT', 'request', [first, N], 'IKE_SA_INIT request: expected a KE payload, found { SA, Nonce }'],
    [
      'IKE_SA_INIT',
      'request',
      [first, KE, KE, N],
      'IKE_SA_INIT request: expected one KE payload, found 2 in { SA, KE, KE, Nonce }',
    ],
    [
      'IKE_SA_INIT',
      'request',
      [first, KE, N, TSi!],
      'IKE_SA_INIT request: expected no TSi payload, found 1 in { SA, KE, Nonce, TSi }',
    ],
    ['IKE_SA_INIT', 'request', [child, KE, N], 'IKE_SA_INIT request: proposal 1 is for esp, expected ike'],
    ['IKE_SA_INIT', 'request', [next, KE, N], 'IKE_SA_INIT request: proposal 1 has an SPI of 8 octets, expected 0'],
    [
      'IKE_SA_INIT',
      'response',
      [sa(proposal('ike', []), proposal('ike', [], 2)), KE, N],
      'expected the one chosen proposal, found 2',
    ],
    [
      'IKE_SA_INIT',
      'request',
      [first, KE, { type: 'Nonce', data: data.slice(17) }],
      'a nonce has 16 to 256 octets, this one 15 (RFC 7296 §3.9)',
    ],
    [
      'IKE_SA_INIT',
      'request',
      [first, KE, { type: 'Nonce', data: new Uint8Array(257) }],
      'a nonce has 16 to 256 octets, this one 257',
    ],
    ['IKE_AUTH', 'request', [IDi!, AUTH, first, TSi!, TSr!], 'IKE_AUTH request: proposal 1 is for ike, expected esp or ah'],
    [
      'IKE_AUTH',
      'request',
      [IDi!, AUTH, sa(proposal('esp', [0, 0, 0, 255])), TSi!, TSr!],
      'has the reserved SPI 255 (RFC 4303 §2.1)',
    ],
    ['CREATE_CHILD_SA', 'request', [sa(proposal('ike', [0, 0, 0, 0, 0, 0, 0, 0])), N, KE], 'has an IKE SPI of zero'],
    [
      'CREATE_CHILD_SA',
      'request',
      [next, N],
      'CREATE_CHILD_SA, request to rekey the IKE SA: expected a KE payload, found { SA, Nonce }',
    ],
    [
      'CREATE_CHILD_SA',
      'request',
      [sa(proposal('esp', [1, 2, 3])), N, TSi!, TSr!],
      'proposal 1 has an SPI of 3 octets, expected 4',
    ],
    ['INFORMATIONAL', 'request', [AUTH], 'INFORMATIONAL request: expected no AUTH payload'],
    ['CREATE_CHILD_SA', 'response', [notify('COOKIE', data)], 'found { N(COOKIE) }'],
  ];

  test.each(INVALID)('%s %s %#', (exchange, role, payloads, message) => {
    let error: unknown;
    try {
      checkRules(EXCHANGE[exchange], role, payloads);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(PeerError);
    expect(error).toMatchObject({ notify: 'INVALID_SYNTAX', message: expect.stringContaining(message) });
  });

  test('an unknown payload is skipped; a critical one is named by its octet (§2.5), also where the rest is wrong', () => {
    const unknown = { type: 'unknown', number: 77, critical: false, body: data } as const;
    expect(checkRules(EXCHANGE.INFORMATIONAL, 'request', [unknown, unknown])).toBe('request');
    expect(() => checkRules(EXCHANGE.IKE_AUTH, 'request', [{ ...unknown, critical: true }])).toThrow(
      expect.objectContaining({ notify: 'UNSUPPORTED_CRITICAL_PAYLOAD', data: Uint8Array.of(77) }),
    );
    // The critical bit of a payload that everybody knows says nothing.
    expect(checkRules(EXCHANGE.INFORMATIONAL, 'request', [{ ...D, critical: true }])).toBe('request');
  });

  test('an error notify that nobody has assigned fails a response like any other (§3.10.1)', () => {
    const strange: Payload = { type: 'Notify', protocol: 0, spi: new Uint8Array(0), notify: 8192, data };
    expect(checkRules(EXCHANGE.CREATE_CHILD_SA, 'response', [strange])).toBe('error response');
  });
});
