/** Headers, chains and SK by hand, octet by octet. */

import { describe, expect, test } from 'vitest';
import {
  all,
  EXCHANGE,
  find,
  type Message,
  openMessage,
  readHeader,
  readMessage,
  sealMessage,
  writeMessage,
} from '../../../../iked/ikev2/message.ts';
import { payloadBody } from '../../../../iked/ikev2/payloads.ts';
import { cat, fromHex, hex, utf8 } from '../../../../src/bytes/bytes.ts';
import { Fault, PeerError } from '../../../../src/errors.ts';
import { SAMPLES, SEAL_KEYS } from '../../../support/ikev2-samples.ts';

const of = (digits: string) => fromHex(digits)!;
const [init, auth] = SAMPLES as readonly [Message, Message, Message, Message];

const written = of(`
  0102030405060708 0000000000000000 22 20 22 08 00000000 00000032
  28 80 0008 001f 0000
  00 00 000e 00112233445566778899`);

test('a message is what RFC 7296 §3.1 and §3.2 draw', () => {
  const message: Message = {
    SPIi: of('0102030405060708'),
    SPIr: new Uint8Array(8),
    exchange: EXCHANGE.IKE_SA_INIT,
    initiator: true,
    response: false,
    messageId: 0,
    payloads: [
      { type: 'KE', group: 31, data: new Uint8Array(0), critical: true },
      { type: 'Nonce', data: of('00112233445566778899') },
    ],
  };
  expect(hex(writeMessage(message))).toBe(hex(written));
  expect(readMessage(written)).toEqual({ header: readHeader(written), payloads: message.payloads });
  expect(readHeader(written)).toMatchObject({ exchange: 34, initiator: true, response: false, messageId: 0, version: 0x20 });
});

describe('headers', () => {
  const patched = (at: number, ...octets: number[]) => {
    const bytes = written.slice();
    bytes.set(octets, at);
    return bytes;
  };

  test('a length that is not that of the datagram', () => {
    expect(() => readMessage(patched(27, 0x33))).toThrow('header: announces 51 octets, but the datagram has 50 (at octet 24)');
    expect(() => readMessage(patched(27, 0x31))).toThrow('header: announces 49 octets, but the datagram has 50 (at octet 24)');
  });

  test('a higher major version is answered with ours (§2.5); a higher minor version is read', () => {
    expect(() => readHeader(patched(17, 0x30))).toThrow(PeerError);
    expect(readHeader(patched(17, 0x2f)).version).toBe(0x2f);
  });

  test('flags without a meaning are kept', () => {
    const { header, payloads } = readMessage(patched(19, 0xff));
    expect(header).toMatchObject({ initiator: true, response: true, otherFlags: 0xd7 });
    expect(writeMessage({ ...header, payloads })).toEqual(patched(19, 0xff));
  });
});

describe('chains', () => {
  test('a payload shorter than its header, longer than the message, or with octets behind the last', () => {
    const bytes = written.slice();
    bytes[31] = 3;
    expect(() => readMessage(bytes)).toThrow('payload KE has a length of 3 octets, less than its own header of 4 (at octet 30)');
    bytes[31] = 0x20;
    expect(() => readMessage(bytes)).toThrow('wanted 28 octets, but 18 are left (at octet 32)');
    const ended = written.slice();
    ended[28] = 0;
    expect(() => readMessage(ended)).toThrow('ends with 14 octets more than its contents account for (at octet 36)');
  });

  test('a failure inside of a payload says where', () => {
    const bytes = writeMessage({ ...init, payloads: [find(init.payloads, 'SA')!] });
    bytes[28 + 4 + 8 + 3] = 11;
    expect(() => readMessage(bytes)).toThrow(/^SA\/proposal 1\/transform 1: wanted 2 octets, but 1 are left \(at octet 50\)$/);
  });

  test('RESERVED of an identification is kept, since AUTH covers it (§2.15)', () => {
    const bytes = writeMessage({ ...init, payloads: [{ type: 'IDi', idType: 2, data: utf8('a') }] });
    bytes[33] = 0xee;
    const [id] = readMessage(bytes).payloads;
    expect(id).toEqual({ type: 'IDi', idType: 2, data: utf8('a'), received: of('02ee000061') });
    expect(hex(payloadBody(id!))).toBe('02ee000061');
  });

  test('a proposal for an unknown protocol and a selector of an unknown type are left out, and written again as they came', () => {
    const bytes = writeMessage({ ...init, payloads: [find(init.payloads, 'SA')!] });
    bytes[28 + 4 + 5] = 9;
    const { header, payloads } = readMessage(bytes);
    expect(find(payloads, 'SA')?.proposals).toEqual([]);
    expect(writeMessage({ ...header, payloads })).toEqual(bytes);
  });

  test('one payload of a type, or all', () => {
    expect(find(init.payloads, 'KE')?.group).toBe(31);
    expect(find(init.payloads, 'CP')).toBeUndefined();
    expect(all([...auth.payloads, ...auth.payloads], 'TSr').length).toBe(2);
  });

  test('a payload too long for its length field is a fault of ours', () => {
    expect(() => writeMessage({ ...init, payloads: [{ type: 'VendorId', data: new Uint8Array(65_532) }] })).toThrow(Fault);
  });
});

describe('SK', () => {
  const keys = SEAL_KEYS[0]!;
  const iv = new Uint8Array(16).fill(5);

  test('covers the message from its first octet, and leaves nothing readable behind its own header', () => {
    const bytes = sealMessage(auth, keys, iv);
    expect(bytes[16]).toBe(46);
    expect(bytes[28]).toBe(35);
    expect(hex(bytes.subarray(32, 48))).toBe(hex(iv));
    expect(hex(bytes)).not.toContain(hex(utf8('a.example')));
    expect((bytes.length - 28 - 4 - 16 - 16) % 16).toBe(0);
  });

  test('padding is as short as the cipher allows, or as long as one asks for, up to 255 octets', () => {
    const length = (padding?: Uint8Array) =>
      openMessage(readMessage(sealMessage(auth, keys, iv, padding)).sealed!, keys).padding.length;
    const shortest = length();
    expect(shortest).toBeLessThan(16);
    expect(length(new Uint8Array(shortest + 224))).toBe(shortest + 224);
    expect(() => sealMessage(auth, keys, iv, new Uint8Array(256))).toThrow(Fault);
  });

  test('what stands in front of SK is not taken for what is inside', () => {
    const outer = [{ type: 'Notify', protocol: 0, spi: new Uint8Array(0), notify: 16384, data: new Uint8Array(0) } as const];
    const opened = openMessage(readMessage(sealMessage({ ...auth, payloads: [], outer }, keys, iv)).sealed!, keys);
    expect(opened).toMatchObject({ payloads: [], outer });
  });

  test('critical and RESERVED bits of SK itself are kept', () => {
    const bytes = sealMessage({ ...auth, skFlags: 0x81 }, keys, iv);
    expect(bytes[29]).toBe(0x81);
    const opened = openMessage(readMessage(bytes).sealed!, keys);
    expect(opened.skFlags).toBe(0x81);
    expect(sealMessage(opened, keys, opened.iv, opened.padding)).toEqual(bytes);
  });

  test('an INFORMATIONAL without payloads, which is a liveness check (§2.4)', () => {
    const bytes = sealMessage({ ...auth, exchange: EXCHANGE.INFORMATIONAL, payloads: [] }, keys, iv);
    expect(bytes[28]).toBe(0);
    expect(openMessage(readMessage(bytes).sealed!, keys).payloads).toEqual([]);
  });

  test('octets behind it, or an SK that is cut short', () => {
    const bytes = sealMessage(auth, keys, iv);
    const longer = cat(bytes, Uint8Array.of(0));
    longer[27] = longer.length & 0xff;
    longer[26] = longer.length >> 8;
    expect(() => readMessage(longer)).toThrow('ends with 1 octets more');
    const shorter = bytes.slice(0, -1);
    shorter[27] = shorter.length & 0xff;
    shorter[26] = shorter.length >> 8;
    expect(() => readMessage(shorter)).toThrow(/wanted \d+ octets, but \d+ are left/);
  });
});
