/** IKEv2 messages for tests: arbitrary ones of every payload, and a small fixed set that mutations start from. */

import fc from 'fast-check';
import { cipherOfSuite } from '../../iked/ikev2/keys.ts';
import { EXCHANGE, type Header, type Message, type SealKeys, sealMessage, writeMessage } from '../../iked/ikev2/message.ts';
import { notify } from '../../iked/ikev2/notify.ts';
import { AUTH_METHOD, ID_TYPE, PAYLOAD, type Payload, PROTOCOL } from '../../iked/ikev2/payloads.ts';
import { fromHex, utf8 } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import type { Proposal, Transform } from '../../src/ipsec/proposal.ts';
import type { TrafficSelector } from '../../src/ipsec/selector.ts';
import { IpAddress } from '../../src/net/address.ts';

const u8 = fc.nat(0xff);
const u16 = fc.nat(0xffff);
const octets = (minLength: number, maxLength: number) => fc.uint8Array({ minLength, maxLength });

const transform: fc.Arbitrary<Transform> = fc
  .record({
    type: fc.oneof(fc.constantFrom('ENCR', 'PRF', 'INTEG', 'KE', 'ESN'), fc.integer({ min: 6, max: 255 })),
    id: u16,
    keyBits: fc.option(u16, { nil: undefined }),
    other: fc.array(fc.record({ type: fc.integer({ min: 0, max: 13 }), value: octets(0, 8) }), { maxLength: 2 }),
  })
  .map(({ type, id, keyBits, other }) => ({
    type: type as Transform['type'],
    id,
    ...(keyBits === undefined ? {} : { keyBits }),
    ...(other.length === 0 ? {} : { otherAttributes: other }),
  }));

const proposal: fc.Arbitrary<Proposal> = fc.record({
  number: u8,
  protocol: fc.constantFrom('ike', 'ah', 'esp'),
  spi: octets(0, 8),
  transforms: fc.array(transform, { maxLength: 6 }),
});

const selector: fc.Arbitrary<TrafficSelector> = fc.constantFrom(4, 16).chain((length) =>
  fc.record({
    protocol: u8,
    startPort: u16,
    endPort: u16,
    start: octets(length, length).map((bytes) => IpAddress.of(bytes)),
    end: octets(length, length).map((bytes) => IpAddress.of(bytes)),
  }),
);

const sized = fc.nat(8).chain((length) => fc.array(octets(length, length), { maxLength: length === 0 ? 0 : 5 }));
const data = octets(0, 300);
const known = new Set<number>(Object.values(PAYLOAD));

/** One arbitrary of each payload type, by its name. */
export const PAYLOADS: { readonly [T in Payload['type']]: fc.Arbitrary<Payload> } = {
  SA: fc.record({ type: fc.constant('SA'), proposals: fc.array(proposal, { minLength: 1, maxLength: 4 }) }),
  KE: fc.record({ type: fc.constant('KE'), group: u16, data }),
  IDi: fc.record({ type: fc.constant('IDi'), idType: u8, data }),
  IDr: fc.record({ type: fc.constant('IDr'), idType: u8, data }),
  CERT: fc.record({ type: fc.constant('CERT'), encoding: u8, data }),
  CERTREQ: fc.record({ type: fc.constant('CERTREQ'), encoding: u8, data }),
  AUTH: fc.record({ type: fc.constant('AUTH'), method: u8, data }),
  Nonce: fc.record({ type: fc.constant('Nonce'), data }),
  Notify: fc.record({ type: fc.constant('Notify'), protocol: u8, spi: octets(0, 255), notify: u16, data }),
  Delete: fc.record({ type: fc.constant('Delete'), protocol: u8, spis: sized }),
  VendorId: fc.record({ type: fc.constant('VendorId'), data }),
  TSi: fc.record({ type: fc.constant('TSi'), selectors: fc.array(selector, { maxLength: 6 }) }),
  TSr: fc.record({ type: fc.constant('TSr'), selectors: fc.array(selector, { maxLength: 6 }) }),
  CP: fc.record({
    type: fc.constant('CP'),
    cfgType: u8,
    attributes: fc.array(fc.record({ type: fc.nat(0x7fff), value: octets(0, 20) }), { maxLength: 5 }),
  }),
  EAP: fc.record({ type: fc.constant('EAP'), data }),
  unknown: fc.record({
    type: fc.constant('unknown'),
    number: fc.integer({ min: 1, max: 255 }).filter((number) => !known.has(number)),
    critical: fc.boolean(),
    body: data,
  }),
};

export const payload: fc.Arbitrary<Payload> = fc.oneof(...Object.values(PAYLOADS));
export const payloads: fc.Arbitrary<Payload[]> = fc.array(payload, { maxLength: 8 });

export const header: fc.Arbitrary<Header> = fc.record({
  SPIi: octets(8, 8),
  SPIr: octets(8, 8),
  exchange: u8,
  initiator: fc.boolean(),
  response: fc.boolean(),
  messageId: fc.nat(0xffffffff),
  version: fc.integer({ min: 0x20, max: 0x2f }),
});

/** Keys of each kind of protection: encrypt-then-MAC, and combined modes. Their octets are fixed and of no use elsewhere. */
export const SEAL_KEYS: readonly SealKeys[] = [
  cipherOfSuite({ encr: 'aes_cbc', keyBits: 256, integ: 'hmac_sha2_256' }),
  cipherOfSuite({ encr: 'aes_ctr', keyBits: 128, integ: 'hmac_sha1' }),
  cipherOfSuite({ encr: 'aes_gcm_16', keyBits: 256, integ: 'none' }),
  cipherOfSuite({ encr: 'chacha20_poly1305', keyBits: 0, integ: 'none' }),
].map((cipher) => ({
  encr: new Secret(new Uint8Array(cipher.encrKeyBytes).fill(7)),
  integ: new Secret(new Uint8Array(cipher.integKeyBytes).fill(9)),
  cipher,
}));

const SPIi = fromHex('0102030405060708')!;
const SPIr = fromHex('1112131415161718')!;
const NOWHERE = new Uint8Array(8);
const Ni = new Uint8Array(32).fill(0x4e);
const base = { SPIi, SPIr, initiator: true, response: false, messageId: 1 };
const ts = (from: string, to: string): TrafficSelector => ({
  protocol: 0,
  startPort: 0,
  endPort: 65535,
  start: IpAddress.parse(from)!,
  end: IpAddress.parse(to)!,
});
const ikeProposal: Proposal = {
  number: 1,
  protocol: 'ike',
  spi: new Uint8Array(0),
  transforms: [
    { type: 'ENCR', id: 20, keyBits: 256 },
    { type: 'PRF', id: 5 },
    { type: 'KE', id: 31 },
  ],
};
const espProposal: Proposal = {
  number: 1,
  protocol: 'esp',
  spi: Uint8Array.of(0xc0, 0xff, 0xee, 0),
  transforms: [
    { type: 'ENCR', id: 12, keyBits: 128 },
    { type: 'INTEG', id: 12 },
    { type: 'ESN', id: 0 },
  ],
};
const TSi: Payload = { type: 'TSi', selectors: [ts('10.1.0.0', '10.1.0.255')] };
const TSr: Payload = { type: 'TSr', selectors: [ts('2001:db8::', '2001:db8::ffff'), ts('10.2.0.0', '10.2.0.255')] };

/** A well-formed message of each exchange. Only the first goes in the clear. */
export const SAMPLES: readonly [Message, ...Message[]] = [
  {
    ...base,
    SPIr: NOWHERE,
    messageId: 0,
    exchange: EXCHANGE.IKE_SA_INIT,
    payloads: [
      { type: 'SA', proposals: [ikeProposal] },
      { type: 'KE', group: 31, data: new Uint8Array(32).fill(9) },
      { type: 'Nonce', data: Ni },
      notify('NAT_DETECTION_SOURCE_IP', new Uint8Array(20)),
      { type: 'VendorId', data: utf8('tanuki') },
    ],
  },
  {
    ...base,
    exchange: EXCHANGE.IKE_AUTH,
    payloads: [
      { type: 'IDi', idType: ID_TYPE.FQDN, data: utf8('a.example') },
      { type: 'AUTH', method: AUTH_METHOD.SHARED_KEY, data: new Uint8Array(32) },
      notify('INITIAL_CONTACT'),
      { type: 'SA', proposals: [espProposal] },
      TSi,
      TSr,
    ],
  },
  {
    ...base,
    exchange: EXCHANGE.CREATE_CHILD_SA,
    payloads: [
      notify('REKEY_SA', undefined, { protocol: PROTOCOL.ESP, spi: espProposal.spi }),
      { type: 'SA', proposals: [espProposal] },
      { type: 'Nonce', data: Ni },
      TSi,
      TSr,
    ],
  },
  {
    ...base,
    exchange: EXCHANGE.INFORMATIONAL,
    payloads: [
      { type: 'Delete', protocol: PROTOCOL.ESP, spis: [espProposal.spi] },
      { type: 'CP', cfgType: 1, attributes: [{ type: 1, value: new Uint8Array(4) }] },
      { type: 'unknown', number: 200, critical: false, body: utf8('later') },
    ],
  },
];

/** The samples as octets: the first in the clear, the others sealed with the first of `SEAL_KEYS`. */
export function sampleDatagrams(): Uint8Array[] {
  const [clear, ...secret] = SAMPLES;
  return [writeMessage(clear), ...secret.map((message) => sealMessage(message, SEAL_KEYS[0]!, new Uint8Array(16)))];
}
