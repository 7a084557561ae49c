/** The picture of a message in a log. */

import { expect, test } from 'vitest';
import { dumpMessage, ladder, payloadText, proposalsText, sealedLadder } from '../../../../iked/ikev2/ladder.ts';
import { EXCHANGE, type Message, readMessage, sealMessage } from '../../../../iked/ikev2/message.ts';
import { notify } from '../../../../iked/ikev2/notify.ts';
import { SAMPLES, SEAL_KEYS } from '../../../support/ikev2-samples.ts';

const [init, auth, rekey, info] = SAMPLES as readonly [Message, Message, Message, Message];

test('requests of the original initiator point right', () => {
  expect(ladder(init)).toBe(
    'IKE_SA_INIT { SA(aes_gcm_16-256 | prf_hmac_sha2_256 | x25519), KE(x25519), Ni, N(NAT_DETECTION_SOURCE_IP), V } -->',
  );
  expect(ladder(auth)).toBe(
    'IKE_AUTH { IDi(a.example), AUTH(SHARED_KEY), N(INITIAL_CONTACT), SA(esp c0ffee00: aes_cbc-128 | hmac_sha2_256 | no_esn), ' +
      'TSi(10.1.0.0-10.1.0.255), TSr(2001:db8::-2001:db8::ffff, 10.2.0.0-10.2.0.255) } -->',
  );
  expect(ladder(rekey)).toMatch(/^CREATE_CHILD_SA \{ N\(REKEY_SA, ESP c0ffee00\), SA\(.*\), Ni, TSi\(.*\) \} -->$/);
  expect(ladder(info)).toBe('INFORMATIONAL { D(ESP c0ffee00), CP(CFG_REQUEST), 200? } -->');
});

test('messages of the other side point left, requests too, and nonces are named by the exchange', () => {
  expect(ladder({ ...rekey, initiator: false, payloads: [{ type: 'Nonce', data: new Uint8Array(16) }] })).toBe(
    '<-- CREATE_CHILD_SA { Ni }',
  );
  expect(ladder({ ...init, initiator: false, response: true, payloads: [{ type: 'Nonce', data: new Uint8Array(16) }] })).toBe(
    '<-- IKE_SA_INIT { Nr }',
  );
  expect(ladder({ ...info, payloads: [] }, false)).toBe('<-- INFORMATIONAL { }');
  expect(ladder({ ...info, exchange: 240, payloads: [] })).toBe('240 { } -->');
});

test('a message that is not opened shows how much is hidden', () => {
  const bytes = sealMessage(auth, SEAL_KEYS[0]!, new Uint8Array(16));
  expect(sealedLadder(readMessage(bytes))).toBe(`IKE_AUTH { SK(${bytes.length - 32} octets) } -->`);
});

test('no octet of AUTH, KE, nonces, EAP or private data is shown', () => {
  const data = new Uint8Array(32).fill(0xab);
  const payloads = [
    { type: 'AUTH', method: 2, data },
    { type: 'KE', group: 14, data },
    { type: 'Nonce', data },
    { type: 'EAP', data },
    { type: 'CP', cfgType: 2, attributes: [{ type: 1, value: data }] },
    { type: 'CERT', encoding: 4, data },
    notify('COOKIE', data),
    notify('NAT_DETECTION_SOURCE_IP', data.slice(0, 20)),
  ] as const;
  expect(ladder({ ...init, exchange: EXCHANGE.IKE_AUTH, payloads })).not.toContain('abab');
});

test('unknown numbers are printed as numbers', () => {
  expect(payloadText({ type: 'KE', group: 1024, data: new Uint8Array(0) }, false)).toBe('KE(group 1024)');
  expect(payloadText({ type: 'AUTH', method: 99, data: new Uint8Array(0) }, false)).toBe('AUTH(99)');
  expect(payloadText({ type: 'IDr', idType: 1, data: Uint8Array.of(192, 0, 2, 1) }, true)).toBe('IDr(192.0.2.1)');
  expect(payloadText({ type: 'unknown', number: 200, critical: true, body: new Uint8Array(0) }, false)).toBe('200?!');
  const transforms = [
    { type: 'ENCR', id: 20, keyBits: 128 },
    { type: 'ENCR', id: 999 },
    { type: 'INTEG', id: 0 },
    { type: 'PRF', id: 77 },
    { type: 'KE', id: 0 },
    { type: 'ESN', id: 1 },
    { type: 6, id: 35 },
  ] as const;
  const proposal = { number: 1, protocol: 'ike', spi: new Uint8Array(0), transforms } as const;
  expect(proposalsText([proposal, { ...proposal, protocol: 'ah', transforms: [] }])).toBe(
    'aes_gcm_16-128,encr 999 | none | prf_77 | none | esn | type 6 35 or ah: ',
  );
});

test('a dump has every member with the names of its numbers, and no proof of identity', () => {
  const text = dumpMessage({ ...auth, payloads: [...auth.payloads, { type: 'EAP', data: new Uint8Array(5).fill(0xab) }] });
  expect(text).toMatch(/^SPIi: 0102030405060708\nSPIr: 1112131415161718\n/);
  for (const part of [
    'exchange: 35 (IKE_AUTH)',
    'idType: 2 (FQDN)',
    'method: 2 (SHARED_KEY)',
    'notify: 16384 (INITIAL_CONTACT)',
    'end: 10.1.0.255',
  ]) {
    expect(text).toContain(part);
  }
  expect(text).toContain('data: 32 octets');
  expect(text).toContain('data: 5 octets');
  expect(text).not.toContain('abab');
});
