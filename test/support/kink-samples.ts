/** Session keys and messages for tests of kinkd's codecs. */

import type { EncryptionKey } from '../../kinkd/krb5/enctypes.ts';
import { encrypted, IPSEC_DOI, sealMessage, TYPE, writeMessage } from '../../kinkd/message.ts';
import type { Payload } from '../../kinkd/payloads.ts';
import { utf8 } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import { writeChain } from '../../src/isakmp/chain.ts';
import { idOf } from '../../src/isakmp/client-ids.ts';
import type { Payload as QuickPayload } from '../../src/isakmp/payloads.ts';
import { buildOffer } from '../../src/isakmp/quick-mode.ts';
import { IpAddress } from '../../src/net/address.ts';
import { seededRandom } from './random.ts';

/** A session key of AES-256 and HMAC-SHA1, what MIT's KDC gives by default. */
export function sessionKey(octet = 1): EncryptionKey {
  return { etype: 18, key: new Secret(new Uint8Array(32).fill(octet)) };
}

const host = (text: string) => {
  const address = IpAddress.parse(text)!;
  return idOf({ start: address, end: address, protocol: 0, startPort: 0, endPort: 65535 });
};
const offer = buildOffer(
  {
    alternatives: [
      {
        sas: [
          {
            protocol: 'esp',
            encr: [
              { name: 'aes_gcm_16', keyBits: 256 },
              { name: 'aes_cbc', keyBits: 128 },
            ],
            auth: ['hmac_sha2_256', 'hmac_sha1'],
          },
        ],
        lifetime: { seconds: 3600, bytes: 0, packets: 0 },
      },
      {
        sas: [
          { protocol: 'ipcomp', encr: [], auth: [] },
          { protocol: 'esp', encr: [{ name: 'aes_cbc', keyBits: 128 }], auth: ['hmac_sha1'] },
          { protocol: 'ah', encr: [], auth: ['hmac_sha2_256'] },
        ],
        lifetime: { seconds: 3600, bytes: 0, packets: 0 },
      },
    ],
    mode: 'tunnel',
    encapsulated: false,
    group: undefined,
    check: 'strict',
  },
  new Map([
    ['esp', 0x12345678],
    ['ah', 0x12345679],
    ['ipcomp', 0x1234],
  ]),
);
const nonce: QuickPayload = { type: 'Nonce', data: new Uint8Array(16).fill(9) };

/** Quick Mode payloads as each message has them. */
export const QUICK_SAMPLES: readonly (readonly QuickPayload[])[] = [
  [offer, nonce, host('192.0.2.1'), host('192.0.2.2')],
  [offer, nonce, { type: 'KE', data: new Uint8Array(64).fill(3) }, host('2001:db8::1'), host('2001:db8::2')],
  [{ type: 'Notify', doi: 1, protocol: 3, spi: Uint8Array.of(1, 2, 3, 4), notify: 14, data: utf8('why') }],
  [{ type: 'Delete', doi: 1, protocol: 3, spis: [Uint8Array.of(1, 2, 3, 4), Uint8Array.of(5, 6, 7, 8)] }],
  [
    { type: 'Delete', doi: 1, protocol: 2, spis: [Uint8Array.of(1, 2, 3, 4)] },
    { type: 'Delete', doi: 1, protocol: 4, spis: [Uint8Array.of(1, 2)] },
  ],
];

export function isakmpSample(payloads: readonly QuickPayload[]): Payload {
  const { first, octets } = writeChain(payloads);
  return { type: 'ISAKMP', first, version: 0x10, chain: octets };
}

/** One message of each kind, sealed with `sessionKey()` where it has a key. */
export function sampleDatagrams(): Uint8Array[] {
  const key = sessionKey();
  const random = seededRandom(5);
  const apReq: Payload = { type: 'AP_REQ', EPOCH: 0x65000000, apReq: random(613) };
  const apRep: Payload = { type: 'AP_REP', EPOCH: 0x65000001, apRep: random(85) };
  const header = { DOI: IPSEC_DOI, XID: 0x01020304, ACKREQ: false };
  const sealed = (messageType: number, payloads: readonly Payload[]) => sealMessage({ ...header, messageType, payloads }, key);
  const inner = (...payloads: readonly Payload[]) => encrypted(payloads, key, random);
  return [
    ...QUICK_SAMPLES.map((quick) => sealed(TYPE.CREATE, [apReq, inner(isakmpSample(quick))])),
    sealed(TYPE.DELETE, [apReq, isakmpSample(QUICK_SAMPLES[3]!)]),
    sealed(TYPE.STATUS, [apReq]),
    sealed(TYPE.ACK, [apReq]),
    sealed(TYPE.REPLY, [apRep, inner(isakmpSample(QUICK_SAMPLES[0]!), { type: 'ERROR', code: 1 })]),
    sealed(TYPE.REPLY, [apRep, inner({ type: 'KRB_ERROR', krbError: random(90) })]),
    writeMessage({ ...header, messageType: TYPE.REPLY, payloads: [{ type: 'KRB_ERROR', krbError: random(90) }] }),
    writeMessage({ ...header, messageType: TYPE.REPLY, payloads: [{ type: 'TGT_REP', ticket: random(300) }] }),
    writeMessage({
      ...header,
      messageType: TYPE.GETTGT,
      payloads: [{ type: 'TGT_REQ', principal: 'kink/b.example.org@EXAMPLE.ORG' }],
    }),
    writeMessage({ ...header, messageType: TYPE.REPLY, payloads: [{ type: 'unknown', number: 200, body: random(9) }] }),
  ];
}
