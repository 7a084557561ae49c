import { describe, expect, test } from 'vitest';
import { decrypt, encrypt, enctype, KEY_USAGE } from '../../../kinkd/krb5/enctypes.ts';
import {
  encrypted,
  openEncrypt,
  peekHeader,
  readMessage,
  sealMessage,
  TYPE,
  verifyCksum,
  writeMessage,
} from '../../../kinkd/message.ts';
import type { Payload } from '../../../kinkd/payloads.ts';
import { hex, utf8 } from '../../../src/bytes/bytes.ts';
import { AuthError, PeerError, WireError } from '../../../src/errors.ts';
import { sessionKey } from '../../support/kink-samples.ts';

const key = sessionKey();
const random = (length: number) => new Uint8Array(length).fill(7);
const apReq: Payload = { type: 'AP_REQ', EPOCH: 0x01020304, apReq: utf8('ap-req') };
const isakmp: Payload = { type: 'ISAKMP', first: 10, version: 0x10, chain: utf8('quick') };
const header = { messageType: TYPE.CREATE, DOI: 1, XID: 0xdeadbeef, ACKREQ: false };

describe('a message without Cksum (RFC 4430 §4)', () => {
  const octets = writeMessage({ ...header, payloads: [apReq, { type: 'ERROR', code: 1 }] });

  test('lies as the RFC draws it, every payload on a boundary of four octets', () => {
    expect(hex(octets)).toBe(
      // Type, version, Length; DOI; XID; NextPayload, A, CksumLen
      `01100028${'00000001'}deadbeef${'01000000'}` +
        // AP_REQ: 14 octets, and 2 of padding that its length does not count
        `0800000e${'01020304'}${hex(utf8('ap-req'))}0000` +
        // ERROR
        `00000008${'00000001'}`,
    );
  });

  test('is read back', () => {
    expect(readMessage(octets)).toEqual({ ...header, payloads: [apReq, { type: 'ERROR', code: 1 }], sealed: undefined });
  });

  test('may be followed by data that Length does not count, and RESERVED bits mean nothing', () => {
    const more = new Uint8Array([...octets, 1, 2, 3]);
    more[1] = 0x1f;
    more[13]! |= 0x7f;
    more[17] = 0xff;
    expect(readMessage(more)).toEqual(readMessage(octets));
  });

  test('needs no padding behind the last payload', () => {
    const short = writeMessage({ ...header, payloads: [apReq] }).slice(0, -2);
    short[3] = short.length;
    expect(readMessage(short).payloads).toEqual([apReq]);
  });
});

describe('Cksum (RFC 4430 §4)', () => {
  const sealed = sealMessage({ ...header, ACKREQ: true, payloads: [apReq] }, key);

  test('covers the message with the Length that it has without Cksum, and CksumLen zero', () => {
    const plain = writeMessage({ ...header, ACKREQ: true, payloads: [apReq] });
    const read = readMessage(sealed);
    expect(hex(read.sealed!.covered)).toBe(hex(plain));
    expect(sealed.length).toBe(plain.length + enctype(key.etype).checksumBytes);
    expect([(sealed[2]! << 8) | sealed[3]!, sealed[15]]).toEqual([sealed.length, enctype(key.etype).checksumBytes]);
    expect(() => verifyCksum(read, key)).not.toThrow();
  });

  test('one flipped bit anywhere, or another key, is an AuthError or no message', () => {
    const other = sessionKey(2);
    expect(() => verifyCksum(readMessage(sealed), other)).toThrow(AuthError);
    for (let at = 0; at < sealed.length; at++) {
      const bad = sealed.slice();
      bad[at]! ^= 1;
      let error: unknown;
      try {
        verifyCksum(readMessage(bad), key);
      } catch (thrown) {
        error = thrown;
      }
      const known = error instanceof AuthError || error instanceof WireError || error instanceof PeerError;
      expect(known, `octet ${at}: ${error}`).toBe(true);
    }
  });

  test('a message that should have one and has none is an AuthError', () => {
    expect(() => verifyCksum(readMessage(writeMessage({ ...header, payloads: [apReq] })), key)).toThrow(AuthError);
  });
});

describe('KINK_ENCRYPT (RFC 4430 §4.2.7)', () => {
  const payload = encrypted([isakmp, { type: 'ERROR', code: 5 }], key, random);

  test('opens to what it held, aligned from its own first octet', () => {
    expect(openEncrypt(payload, key)).toEqual([isakmp, { type: 'ERROR', code: 5 }]);
  });

  test('what an etype pads behind the last payload is ignored', () => {
    const plaintext = decrypt(key, KEY_USAGE.KINK_ENCRYPT, payload.ciphertext)!;
    const padded = encrypt(key, KEY_USAGE.KINK_ENCRYPT, new Uint8Array([...plaintext, 9, 9, 9, 9, 9]), random);
    expect(openEncrypt({ type: 'ENCRYPT', ciphertext: padded }, key)).toEqual([isakmp, { type: 'ERROR', code: 5 }]);
  });

  test('another key is an AuthError', () => {
    expect(() => openEncrypt(payload, sessionKey(3))).toThrow(AuthError);
  });

  test('must be the last payload', () => {
    const octets = writeMessage({ ...header, payloads: [apReq, payload, { type: 'ERROR', code: 1 }] });
    expect(() => readMessage(octets)).toThrow('ERROR behind ENCRYPT');
  });
});

describe('what is no message says what was expected, and where', () => {
  const octets = sealMessage({ ...header, payloads: [apReq] }, key);
  const changed = (at: number, ...values: number[]) => {
    const bad = octets.slice();
    bad.set(values, at);
    return () => readMessage(bad);
  };

  test.each([
    [
      'a datagram shorter than the header',
      () => readMessage(octets.slice(0, 15)),
      'at least the 16 octets of its header, this one 15',
    ],
    ['a Length beyond the datagram', changed(2, 0xff, 0xff), 'announces 65535 octets'],
    ['a CksumLen that leaves no header', changed(14, 0, 0xf0), 'no room for its header'],
    ['a Cksum out of line', changed(14, 0, 13), 'no multiple of 4'],
    ['a payload shorter than its header', changed(18, 0, 3), 'less than its own header of 4'],
    ['a payload longer than the message', changed(18, 0xff, 0xff), 'wanted 65531 octets'],
    ['octets behind the last payload', changed(12, 0), 'more than its contents account for'],
  ])('%s', (_, read, message) => {
    expect(read).toThrow(WireError);
    expect(read).toThrow(message);
  });

  test('another major version and another DOI name the error to answer with', () => {
    expect(changed(1, 0x20)).toThrow(expect.objectContaining({ notify: 'KINK_INVMAJ' }));
    expect(changed(7, 2)).toThrow(expect.objectContaining({ notify: 'KINK_INVDOI' }));
    expect(peekHeader(octets)).toEqual(header);
    expect(peekHeader(octets.slice(0, 15))).toBeUndefined();
  });

  test('more payloads than any message needs are refused before they are read', () => {
    const many = writeMessage({ ...header, payloads: Array.from({ length: 65 }, (): Payload => ({ type: 'ERROR', code: 1 })) });
    expect(() => readMessage(many)).toThrow('more than 64 payloads');
  });
});
