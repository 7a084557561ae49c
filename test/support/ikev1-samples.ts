/** Payloads and messages of IKEv1 and KINK to write, read and mutate. */

import fc from 'fast-check';
import { messageCipher } from '../../iked/ikev1/keys.ts';
import { EXCHANGE, type Message, sealMessage, writeMessage } from '../../iked/ikev1/message.ts';
import { buildPhase1Offer } from '../../iked/ikev1/phase-1-proposals.ts';
import { vendorId } from '../../iked/ikev1/vendor-id.ts';
import { Secret } from '../../src/bytes/secret.ts';
import { selectorOf } from '../../src/ipsec/selector.ts';
import { idOf } from '../../src/isakmp/client-ids.ts';
import { NOTIFY, PROTOCOL } from '../../src/isakmp/doi.ts';
import type { Payload } from '../../src/isakmp/payloads.ts';
import { buildOffer } from '../../src/isakmp/quick-mode.ts';
import { parsePrefix } from '../../src/net/prefix.ts';

const octets = (min: number, max: number) => fc.uint8Array({ minLength: min, maxLength: max });
const u8 = fc.integer({ min: 0, max: 255 });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffffffff });

const attribute = fc.oneof(
  fc.record({ type: fc.integer({ min: 0, max: 0x7fff }), basic: fc.constant(true), value: octets(2, 2) }),
  fc.record({ type: fc.integer({ min: 0, max: 0x7fff }), basic: fc.constant(false), value: octets(0, 9) }),
);
const transform = fc.record({ number: u8, id: u8, attributes: fc.array(attribute, { maxLength: 5 }) });
const proposal = fc.record({
  number: u8,
  protocol: u8,
  spi: octets(0, 8),
  transforms: fc.array(transform, { maxLength: 3 }),
});
const opaque = <T extends Payload['type']>(type: T) => fc.record({ type: fc.constant(type), data: octets(0, 40) });

/** Arbitrary payloads of every type. */
export const PAYLOADS = {
  SA: fc.record({
    type: fc.constant('SA'),
    doi: fc.constant(1),
    situation: fc.constant(1),
    proposals: fc.array(proposal, { minLength: 1, maxLength: 3 }),
    unread: fc.constant(new Uint8Array(0)),
  }),
  'SA of another situation': fc.record({
    type: fc.constant('SA'),
    doi: fc.constant(1),
    situation: fc.integer({ min: 2, max: 9 }),
    proposals: fc.constant([]),
    unread: octets(0, 40),
  }),
  KE: opaque('KE'),
  HASH: opaque('HASH'),
  SIG: opaque('SIG'),
  Nonce: opaque('Nonce'),
  VendorId: opaque('VendorId'),
  'NAT-D': opaque('NAT-D'),
  ID: fc.record({ type: fc.constant('ID'), idType: u8, protocol: u8, port: u16, data: octets(0, 40) }),
  CERT: fc.record({ type: fc.constant('CERT'), encoding: u8, data: octets(0, 40) }),
  CR: fc.record({ type: fc.constant('CR'), encoding: u8, data: octets(0, 40) }),
  Notify: fc.record({
    type: fc.constant('Notify'),
    doi: u32,
    protocol: u8,
    spi: octets(0, 16),
    notify: u16,
    data: octets(0, 40),
  }),
  Delete: fc.record({
    type: fc.constant('Delete'),
    doi: u32,
    protocol: u8,
    spis: fc.integer({ min: 1, max: 16 }).chain((size) => fc.array(octets(size, size), { minLength: 1, maxLength: 4 })),
  }),
  'NAT-OA': fc.record({ type: fc.constant('NAT-OA'), idType: u8, data: octets(0, 16) }),
  unknown: fc.record({ type: fc.constant('unknown'), number: fc.integer({ min: 22, max: 255 }), body: octets(0, 40) }),
} as const;

export const SUITE = { encr: 'aes_cbc', keyBits: 128, hash: 'hmac_sha1', group: 'modp2048' } as const;
export const CIPHER = messageCipher(SUITE, new Secret(new Uint8Array(20).fill(0x5a))).cipher;
export const IV = new Uint8Array(16).fill(0x3c);

const fill = (length: number, octet: number) => new Uint8Array(length).fill(octet);
const lifetime = { seconds: 3600, bytes: 0, packets: 0 };

function message(exchange: keyof typeof EXCHANGE, encrypted: boolean, payloads: readonly Payload[]): Message {
  return {
    CKY_I: fill(8, 0x11),
    CKY_R: fill(8, 0x22),
    exchange: EXCHANGE[exchange],
    encrypted,
    commit: false,
    messageId: exchange === 'Main Mode' ? 0 : 0x01020304,
    payloads,
  };
}

/** One of each kind of message, as we would send them. */
export const SAMPLES: readonly Message[] = [
  message('Main Mode', false, [
    buildPhase1Offer({
      encr: [{ name: 'aes_cbc', keyBits: 256 }],
      hash: ['hmac_sha2_256', 'hmac_sha1'],
      groups: ['ecp256', 'modp2048'],
      seconds: 28_800,
      check: 'strict',
    }),
    vendorId('RFC 3947'),
    vendorId('DPD'),
  ]),
  message('Main Mode', false, [
    { type: 'KE', data: fill(256, 4) },
    { type: 'Nonce', data: fill(32, 5) },
    { type: 'NAT-D', data: fill(20, 6) },
    { type: 'NAT-D', data: fill(20, 7) },
  ]),
  message('Main Mode', true, [
    { type: 'ID', idType: 2, protocol: 0, port: 0, data: new TextEncoder().encode('a.example') },
    { type: 'HASH', data: fill(20, 8) },
    { type: 'Notify', doi: 1, protocol: PROTOCOL.ISAKMP, spi: fill(16, 1), notify: NOTIFY['INITIAL-CONTACT'], data: fill(0, 0) },
  ]),
  message('Quick Mode', true, [
    { type: 'HASH', data: fill(20, 9) },
    buildOffer(
      {
        alternatives: [
          { sas: [{ protocol: 'esp', encr: [{ name: 'aes_gcm_16', keyBits: 128 }], auth: [] }], lifetime },
          {
            sas: [{ protocol: 'esp', encr: [{ name: 'aes_cbc', keyBits: 256 }], auth: ['hmac_sha2_256', 'hmac_sha1'] }],
            lifetime,
          },
          {
            sas: [
              { protocol: 'ah', encr: [], auth: ['hmac_sha2_256', 'hmac_sha1'] },
              { protocol: 'esp', encr: [{ name: 'aes_cbc', keyBits: 128 }], auth: ['hmac_sha1'] },
              { protocol: 'ipcomp', encr: [], auth: [] },
            ],
            lifetime,
          },
        ],
        mode: 'tunnel',
        encapsulated: true,
        group: 'modp2048',
        check: 'claim',
      },
      new Map([
        ['esp', 0xc0ffee00],
        ['ah', 0xc0ffee01],
        ['ipcomp', 0xc0ff],
      ]),
    ),
    { type: 'Nonce', data: fill(32, 10) },
    { type: 'KE', data: fill(256, 11) },
    idOf(selectorOf(parsePrefix('10.1.0.0/24')!)),
    idOf(selectorOf(parsePrefix('2001:db8::/64')!, 17, { startPort: 53, endPort: 53 })),
    { type: 'NAT-OA', idType: 1, data: fill(4, 12) },
  ]),
  message('Informational', true, [
    { type: 'HASH', data: fill(20, 13) },
    { type: 'Delete', doi: 1, protocol: PROTOCOL.ESP, spis: [fill(4, 14), fill(4, 15)] },
  ]),
];

export function sampleDatagrams(): Uint8Array[] {
  return SAMPLES.map((one) => (one.encrypted ? sealMessage(one, CIPHER, IV).bytes : writeMessage(one)));
}
