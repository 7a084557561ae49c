/** What broke other daemons while they read a message, one test a weakness. Each fails when its guard is taken away. */

import { describe, expect, test } from 'vitest';
import { childSuiteOf, ikeSuiteOf } from '../../../../iked/ikev2/keys.ts';
import { identityText, ladder, sealedLadder } from '../../../../iked/ikev2/ladder.ts';
import {
  EXCHANGE,
  find,
  type Message,
  openMessage,
  readMessage,
  sealMessage,
  writeMessage,
} from '../../../../iked/ikev2/message.ts';
import { notify } from '../../../../iked/ikev2/notify.ts';
import { ID_TYPE, PAYLOAD, type Payload, payloadBody, payloadNumber, readPayload } from '../../../../iked/ikev2/payloads.ts';
import { checkRules } from '../../../../iked/ikev2/rules.ts';
import { cat, equal, fromHex, utf8 } from '../../../../src/bytes/bytes.ts';
import { AuthError, PeerError, WireError } from '../../../../src/errors.ts';
import { choose, type Proposal } from '../../../../src/ipsec/proposal.ts';
import { Reader } from '../../../../src/wire/reader.ts';
import { SAMPLES, SEAL_KEYS } from '../../../support/ikev2-samples.ts';

const [init, auth, rekey] = SAMPLES as readonly [Message, Message, Message, Message];
const request = (message: Message, payloads: readonly Payload[] = message.payloads) =>
  checkRules(message.exchange, 'request', payloads);
const of = (digits: string) => fromHex(digits)!;
const body = (number: number, octets: Uint8Array) => readPayload(number, false, new Reader(octets));
const withPatch = (bytes: Uint8Array, at: number, ...octets: number[]) => {
  const patched = bytes.slice();
  patched.set(octets, at);
  return patched;
};

/** Runs `attempt` and gives the error it must end with, which is one of those that the daemon expects. */
function refusal(attempt: () => unknown): WireError | PeerError | AuthError {
  try {
    attempt();
  } catch (error) {
    if (error instanceof WireError || error instanceof PeerError || error instanceof AuthError) return error;
    throw error;
  }
  throw new Error('was not refused');
}

test.each([0, 1024, 65535])('CVE-2014-9221: key exchange group %i has no parameters here, and is refused as a choice', (id) => {
  const message = readMessage(writeMessage({ ...init, payloads: [{ type: 'KE', group: id, data: new Uint8Array(32) }] }));
  expect(find(message.payloads, 'KE')?.group).toBe(id);
  const chosen: Proposal = {
    ...find(init.payloads, 'SA')!.proposals[0]!,
    transforms: [
      { type: 'ENCR', id: 20, keyBits: 256 },
      { type: 'PRF', id: 5 },
      { type: 'KE', id },
    ],
  };
  expect(refusal(() => ikeSuiteOf(chosen))).toMatchObject({ notify: 'NO_PROPOSAL_CHOSEN' });
});

describe('CVE-2015-3991: payload types of IKEv1 in IKEv2', () => {
  test.each([1, 2, 4, 5, 6, 8, 10, 11, 12, 20, 21, 130, 132])('type %i is no payload of ours', (number) => {
    const payload = body(number, of('00000001000000010000002c'));
    expect(payload.type).toBe('unknown');
    const payloads = [payload, ...init.payloads.slice(1)];
    expect(refusal(() => request(init, payloads)).message).toContain('expected a SA payload');
    const critical = [{ ...payload, critical: true } as Payload, ...init.payloads];
    expect(refusal(() => request(init, critical))).toMatchObject({
      notify: 'UNSUPPORTED_CRITICAL_PAYLOAD',
      data: Uint8Array.of(number),
    });
  });

  test('a message of IKEv1 is refused by its version', () => {
    expect(refusal(() => readMessage(withPatch(writeMessage(init), 17, 0x10))).message).toContain(
      'major version 2 expected, found 1',
    );
  });
});

test.each([0, 1, 255, 257, 65_000])('CVE-2023-41913: a KE payload of %i octets is data, and overflows nothing', (length) => {
  const again = readMessage(writeMessage({ ...init, payloads: [{ type: 'KE', group: 14, data: new Uint8Array(length) }] }));
  expect(find(again.payloads, 'KE')?.data.length).toBe(length);
});

test('CVE-2013-4564: datagrams shorter than the header', () => {
  const whole = writeMessage(init);
  for (let length = 0; length < 28; length++)
    expect(refusal(() => readMessage(whole.slice(0, length)))).toBeInstanceOf(WireError);
});

test.each([0, 1, 3, 15])('CVE-2013-4564: major version %i', (major) => {
  const error = refusal(() => readMessage(withPatch(writeMessage(init), 17, major << 4)));
  if (major > 2) expect(error).toMatchObject({ notify: 'INVALID_MAJOR_VERSION', data: Uint8Array.of(0x20) });
  else expect(error).toBeInstanceOf(WireError);
});

describe('CVE-2013-6467: a payload is missing, or is another', () => {
  const required = SAMPLES.flatMap((message) =>
    message.payloads.flatMap((payload, i) =>
      ['SA', 'KE', 'IDi', 'AUTH', 'Nonce', 'TSi', 'TSr'].includes(payload.type) ? [{ message, i, type: payload.type }] : [],
    ),
  );

  test.each(required)('exchange $message.exchange without $type', ({ message, i, type }) => {
    const error = refusal(() => request(message, message.payloads.toSpliced(i, 1)));
    // Without AUTH the initiator asks for EAP (RFC 7296 §2.16).
    expect(error).toMatchObject({ notify: type === 'AUTH' ? 'AUTHENTICATION_FAILED' : 'INVALID_SYNTAX' });
  });

  test.each(required)('exchange $message.exchange with $type twice', ({ message, i }) => {
    expect(refusal(() => request(message, [...message.payloads, message.payloads[i]!]))).toMatchObject({
      notify: 'INVALID_SYNTAX',
    });
  });

  test.each(required)('exchange $message.exchange with $type under every other number', ({ message, i }) => {
    for (let number = 1; number < 256; number++) {
      if (number === payloadNumber(message.payloads[i]!)) continue;
      const payloads = message.payloads.with(i, { type: 'unknown', number, critical: false, body: of('0102') });
      refusal(() => {
        const read = readMessage(writeMessage({ ...message, payloads }));
        if (read.sealed !== undefined) openMessage(read.sealed, SEAL_KEYS[0]!);
        request(message, read.payloads);
      });
    }
  });
});

describe('CVE-2015-3204: reserved bits and odd next-payload octets', () => {
  test('all RESERVED bits set mean nothing, and are kept', () => {
    const bytes = writeMessage(init);
    bytes[19]! |= 0xff & ~0x28;
    for (let at = 28; at < bytes.length; at += (bytes[at + 2]! << 8) | bytes[at + 3]!) bytes[at + 1]! |= 0x7f;
    // RESERVED of the first proposal and its first transform, and of KE.
    bytes[28 + 4 + 1] = bytes[28 + 4 + 8 + 1] = bytes[28 + 4 + 8 + 5] = 0xff;
    const ke = 28 + ((bytes[30]! << 8) | bytes[31]!);
    bytes[ke + 6] = bytes[ke + 7] = 0xff;
    const { header, payloads } = readMessage(bytes);
    expect(payloads.map(({ critical: _c, reservedBits: _b, received: _r, ...rest }) => rest)).toEqual(init.payloads);
    expect(() => request(init, payloads)).not.toThrow();
    expect(writeMessage({ ...header, payloads })).toEqual(bytes);
  });

  test('every first next-payload octet', () => {
    const bytes = writeMessage(init);
    const whole = writeMessage({ ...init, payloads: [] });
    for (let number = 0; number < 256; number++) {
      if (number === PAYLOAD.SA) continue;
      refusal(() => {
        const read = readMessage(withPatch(bytes, 16, number));
        if (read.sealed !== undefined) openMessage(read.sealed, SEAL_KEYS[0]!);
        request(init, read.payloads);
      });
      if (number !== 0) expect(refusal(() => readMessage(withPatch(whole, 16, number)))).toBeInstanceOf(WireError);
    }
  });
});

describe('CVE-2016-5391, CVE-2018-10811, CVE-2016-3071: a transform type is left out, or is one that nobody has', () => {
  const offer = find(init.payloads, 'SA')!.proposals[0]!;

  test.each([0, 1, 2])('IKE proposal without transform %i', (i) => {
    const proposal = { ...offer, transforms: offer.transforms.toSpliced(i, 1) };
    expect(choose([offer], [proposal])).toBeUndefined();
    expect(refusal(() => ikeSuiteOf(proposal))).toMatchObject({ notify: 'NO_PROPOSAL_CHOSEN' });
  });

  test.each([0, 1, 2])('IKE proposal whose transform %i has an unknown number', (i) => {
    const proposal = { ...offer, transforms: offer.transforms.with(i, { ...offer.transforms[i]!, id: 999 }) };
    expect(choose([offer], [proposal])).toBeUndefined();
    expect(refusal(() => ikeSuiteOf(proposal))).toMatchObject({ notify: 'NO_PROPOSAL_CHOSEN' });
  });

  test('a transform with an attribute that nobody knows is not chosen', () => {
    const strange = { ...offer.transforms[0]!, otherAttributes: [{ type: 0x8001, value: of('0001') }] };
    expect(choose([offer], [{ ...offer, transforms: offer.transforms.with(0, strange) }])).toBeUndefined();
  });
});

test('CVE-2024-3652: an algorithm with no key bits, or with odd ones', () => {
  const esp = find(auth.payloads, 'SA')!.proposals[0]!;
  for (const keyBits of [undefined, 0, 1, 127, 65535]) {
    for (const id of [12, 20]) {
      const transform = { type: 'ENCR', id, ...(keyBits === undefined ? {} : { keyBits }) } as const;
      expect(refusal(() => childSuiteOf({ ...esp, transforms: [transform] }))).toMatchObject({ notify: 'NO_PROPOSAL_CHOSEN' });
    }
  }
});

describe('CVE-2023-23009: traffic selector payloads that lie', () => {
  const selector = of('07000010 0000ffff 0a010000 0a0100ff');

  test('a count of more or fewer selectors than there are', () => {
    for (const count of [0, 2, 3, 255])
      expect(refusal(() => body(PAYLOAD.TSi, cat(Uint8Array.of(count, 0, 0, 0), selector)))).toBeInstanceOf(WireError);
  });

  test('every length of a selector but its own', () => {
    for (let length = 0; length < 64; length++) {
      const octets = cat(of('01000000'), withPatch(selector, 2, 0, length));
      if (length === 16) expect(body(PAYLOAD.TSi, octets)).toMatchObject({ selectors: [{ endPort: 65535 }] });
      else expect(refusal(() => body(PAYLOAD.TSi, octets))).toBeInstanceOf(WireError);
    }
  });

  test('255 selectors are read; IPv6 in the octets of IPv4 is refused', () => {
    const many = cat(of('ff000000'), ...Array.from({ length: 255 }, () => selector));
    expect(body(PAYLOAD.TSr, many)).toHaveProperty('selectors.length', 255);
    expect(refusal(() => body(PAYLOAD.TSr, cat(of('01000000'), withPatch(selector, 0, 8))))).toBeInstanceOf(WireError);
  });
});

test('CVE-2023-38710: N(REKEY_SA) for every protocol, with SPIs of every size', () => {
  for (let protocol = 0; protocol < 256; protocol++) {
    for (const spiBytes of [0, 3, 4, 8, 255]) {
      const n = notify('REKEY_SA', undefined, { protocol, spi: new Uint8Array(spiBytes) });
      const read = readMessage(writeMessage({ ...rekey, payloads: [n, ...rekey.payloads.slice(1)] }));
      expect(read.payloads[0]).toEqual(n);
      expect(ladder({ ...read.header, payloads: read.payloads })).toContain('N(REKEY_SA');
    }
  }
  expect(refusal(() => body(PAYLOAD.Notify, of('01ff4009')))).toBeInstanceOf(WireError);
});

test('CVE-2023-38711, CVE-2023-38712: several and doubled deletes are read as they are; counts that lie are not', () => {
  const twice = { type: 'Delete', protocol: 3, spis: [of('00000100'), of('00000100')] } as const;
  const { payloads } = readMessage(writeMessage({ ...init, exchange: EXCHANGE.INFORMATIONAL, payloads: [twice, twice] }));
  expect(payloads).toEqual([twice, twice]);
  expect(checkRules(EXCHANGE.INFORMATIONAL, 'request', payloads)).toBe('request');
  for (const lie of ['0304ffff00000100', '03040000 00000100', '0300ffff', '03ff000100000100', '0304000100']) {
    expect(refusal(() => body(PAYLOAD.Delete, of(lie)))).toBeInstanceOf(WireError);
  }
});

test('CVE-2025-9242, CVE-2013-6075: identities of 0 to 65,000 octets are data, and are printed short', () => {
  for (const length of [0, 1, 2, 3, 4, 5, 16, 17, 520, 65_000]) {
    for (let idType = 0; idType < 16; idType++) {
      const id: Payload = { type: 'IDi', idType, data: new Uint8Array(length).fill(0x41) };
      const { payloads } = readMessage(writeMessage({ ...auth, payloads: [id] }));
      expect(payloads[0]).toMatchObject({ type: 'IDi', idType });
      expect(equal(payloadBody(payloads[0]!), payloadBody(id))).toBe(true);
      expect(ladder({ ...auth, payloads }).length).toBeLessThan(400);
    }
  }
});

test('CVE-2022-34721, CVE-2023-28771: an identity cannot write into a log or a terminal', () => {
  const hostile = utf8('a\n2026 iked: IKE SA up\u001b]0;x\u0007\u0000\r');
  for (const idType of [ID_TYPE.FQDN, ID_TYPE.RFC822_ADDR, ID_TYPE.KEY_ID, 200]) {
    expect(identityText(idType, hostile)).toMatch(/^[\x20-\x7e…]*$/);
  }
});

test('CVE-2016-1287, CVE-2013-5018: SKF and SK of 0 to 64 octets', () => {
  for (let length = 0; length <= 64; length++) {
    const fragment = writeMessage({
      ...auth,
      payloads: [{ type: 'unknown', number: PAYLOAD.SKF, critical: false, body: new Uint8Array(length) }],
    });
    expect(readMessage(fragment).fragment?.body.length).toBe(length);
    expect(sealedLadder(readMessage(fragment))).toContain(`SKF(${length} octets)`);
    const sealed = readMessage(
      writeMessage({
        ...auth,
        payloads: [{ type: 'unknown', number: PAYLOAD.SK, critical: false, body: new Uint8Array(length) }],
      }),
    ).sealed!;
    for (const keys of SEAL_KEYS) expect(refusal(() => openMessage(sealed, keys))).toBeInstanceOf(AuthError);
  }
});

test('CVE-2019-12312: exchange types of every number', () => {
  for (let exchange = 0; exchange < 256; exchange++) {
    for (const role of ['request', 'response'] as const) {
      if (exchange === EXCHANGE.INFORMATIONAL) expect(checkRules(exchange, role, [])).toBe(role);
      else expect(refusal(() => checkRules(exchange, role, []))).toMatchObject({ notify: 'INVALID_SYNTAX' });
    }
  }
});

describe('RFC 7296 §3.14: what only the holder of the keys can get wrong', () => {
  const keys = SEAL_KEYS[2]!;
  const iv = new Uint8Array(keys.cipher.ivBytes);
  const sealed = readMessage(sealMessage({ ...auth, payloads: [] }, keys, iv)).sealed!;
  const sealText = (text: Uint8Array, first = 0) => ({
    ...sealed,
    first,
    body: keys.cipher.seal(keys.encr.reveal(), keys.integ.reveal(), iv, sealed.aad, text),
  });

  test('padding that is longer than the text', () => {
    for (const text of ['', '01', '000003', 'ff']) {
      expect(refusal(() => openMessage(sealText(of(text)), keys)).message).toMatch(/^SK: padding of \d+ octets in \d octets/);
    }
    expect(openMessage(sealText(of('00')), keys).payloads).toEqual([]);
  });

  test('SK inside of SK', () => {
    expect(refusal(() => openMessage(sealText(of('0000000400'), PAYLOAD.SK), keys)).message).toContain('SK inside of SK');
  });

  test('payloads behind SK', () => {
    const bytes = sealMessage(auth, keys, iv);
    const longer = withPatch(cat(bytes, of('00000004')), 24, 0, 0, (bytes.length + 4) >> 8, (bytes.length + 4) & 0xff);
    expect(refusal(() => readMessage(longer)).message).toContain('ends with 4 octets more');
  });
});
