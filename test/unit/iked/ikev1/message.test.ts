import { describe, expect, test } from 'vitest';
import { messageCipher } from '../../../../iked/ikev1/keys.ts';
import { type Message, openMessage, readMessage, sealMessage, writeMessage } from '../../../../iked/ikev1/message.ts';
import { checkRules } from '../../../../iked/ikev1/rules.ts';
import { announces, vendorId, vendorName } from '../../../../iked/ikev1/vendor-id.ts';
import { hex } from '../../../../src/bytes/bytes.ts';
import { Secret } from '../../../../src/bytes/secret.ts';
import { PeerError, WireError } from '../../../../src/errors.ts';
import type { Payload } from '../../../../src/isakmp/payloads.ts';

const CKY_I = new Uint8Array(8).fill(0x11);
const CKY_R = new Uint8Array(8).fill(0x22);
const hash: Payload = { type: 'HASH', data: new Uint8Array(20).fill(7) };
const nonce: Payload = { type: 'Nonce', data: new Uint8Array(16).fill(9) };
const MESSAGE: Message = {
  CKY_I,
  CKY_R,
  exchange: 32,
  encrypted: true,
  commit: false,
  messageId: 0xcafe,
  payloads: [hash, nonce],
};
const suite = { encr: 'aes_cbc', keyBits: 256, hash: 'hmac_sha1', group: 'modp2048' } as const;
const { cipher, key } = messageCipher(suite, new Secret(new Uint8Array(20).fill(5)));
const IV = new Uint8Array(16).fill(3);

describe('an encrypted message', () => {
  const { bytes, lastBlock } = sealMessage(MESSAGE, cipher, IV);

  test('is opened to what was sealed, and hands on its last block as the next IV', () => {
    const opened = openMessage(readMessage(bytes), cipher, IV);
    expect(opened.payloads).toEqual(MESSAGE.payloads);
    expect(hex(opened.lastBlock)).toBe(hex(lastBlock));
    expect(hex(opened.lastBlock)).toBe(hex(bytes.slice(-16)));
    expect(hex(opened.afterFirst)).toBe(`00000014${'09'.repeat(16)}`);
    expect(opened.padding).toEqual(new Uint8Array(4));
  });

  test('has a key that is expanded where SKEYID_e is too short (appendix B)', () => {
    expect(key.length).toBe(32);
    expect(hex(key.reveal())).not.toContain('05050505');
  });

  test('may be padded by anything', () => {
    const padded = sealMessage(
      MESSAGE,
      cipher,
      IV,
      Uint8Array.from({ length: 20 }, (_, i) => i + 1),
    );
    expect(openMessage(readMessage(padded.bytes), cipher, IV).payloads).toEqual(MESSAGE.payloads);
  });

  test('is refused where it is no whole number of blocks, or another IV makes it no chain', () => {
    const cut = bytes.slice(0, -1);
    cut[27]! -= 1;
    expect(() => openMessage(readMessage(cut), cipher, IV)).toThrow(
      /63 octets of ciphertext are no whole number of blocks of 16|47 octets/,
    );
    expect(() => openMessage(readMessage(bytes), cipher, new Uint8Array(16).fill(4))).toThrow(WireError);
    expect(() => openMessage(readMessage(bytes.slice(0, 28)), cipher, IV)).toThrow(WireError);
  });
});

describe('a header', () => {
  const clear: Message = { ...MESSAGE, encrypted: false, messageId: 0, exchange: 2 };
  const change = (at: number, value: number) => {
    const bytes = writeMessage(clear);
    bytes[at] = value;
    return bytes;
  };

  test.each([
    ['another major version', change(17, 0x20), PeerError, 'major version 1 expected, found 2'],
    ['a higher minor version', change(17, 0x11), PeerError, 'minor version 0 expected, found 1'],
    ['another length', change(27, 1), WireError, 'announces 1 octets'],
    ['a payload without end', change(31, 0xff), WireError, 'wanted'],
    ['too few octets', writeMessage(clear).slice(0, 27), WireError, 'at least the 28 octets'],
  ])('with %s is refused', (_what, bytes, kind, problem) => {
    expect(() => readMessage(bytes)).toThrow(kind);
    expect(() => readMessage(bytes)).toThrow(problem);
  });

  test('keeps flags that have no meaning here', () => {
    const bytes = change(19, 0x86);
    const { header, payloads } = readMessage(bytes);
    expect([header.commit, header.otherFlags]).toEqual([true, 0x84]);
    expect(hex(writeMessage({ ...header, payloads }))).toBe(hex(bytes));
  });
});

describe('the rules', () => {
  const refusal = (name: Parameters<typeof checkRules>[0], encrypted: boolean, payloads: readonly Payload[]) => {
    try {
      checkRules(name, encrypted, payloads);
    } catch (error) {
      if (error instanceof PeerError) return `${error.notify}: ${error.message}`;
    }
    return undefined;
  };

  test.each([
    ['Quick Mode 3', true, [hash], undefined],
    ['Quick Mode 3', false, [hash], 'INVALID-FLAGS: Quick Mode, message 3 is encrypted, this one came in the clear'],
    [
      'Quick Mode 3',
      true,
      [hash, hash],
      'PAYLOAD-MALFORMED: Quick Mode, message 3: expected one HASH payload, found 2 in { HASH, HASH }',
    ],
    [
      'Quick Mode 3',
      true,
      [hash, nonce],
      'INVALID-PAYLOAD-TYPE: Quick Mode, message 3: expected no Nonce payload, found 1 in { HASH, Nonce }',
    ],
    ['Main Mode 3', false, [nonce], 'PAYLOAD-MALFORMED: Main Mode, message 3: expected a KE payload, found { Nonce }'],
    [
      'Main Mode 3',
      false,
      [
        { type: 'KE', data: IV },
        { type: 'Nonce', data: new Uint8Array(7) },
      ],
      'PAYLOAD-MALFORMED: Main Mode, message 3: a nonce has 8 to 256 octets, this one 7 (RFC 2409 §5)',
    ],
    [
      'Informational',
      true,
      [{ type: 'Delete', doi: 1, protocol: 3, spis: [] }, hash],
      'PAYLOAD-MALFORMED: Informational begins with HASH (RFC 2409 §5), found { Delete, HASH }',
    ],
  ] as const)('%s, encrypted %s', (name, encrypted, payloads, expected) => {
    expect(refusal(name, encrypted, payloads as readonly Payload[])).toBe(expected);
  });
});

test('vendor IDs are known by their octets, DPD by any minor version', () => {
  expect(announces([vendorId('RFC 3947')], 'RFC 3947')).toBe(true);
  expect(announces([vendorId('DPD')], 'RFC 3947')).toBe(false);
  const newer = vendorId('DPD').data.slice();
  newer[15] = 9;
  expect(announces([{ type: 'VendorId', data: newer }], 'DPD')).toBe(true);
  expect(announces([{ type: 'VendorId', data: newer.slice(0, 14) }], 'DPD')).toBe(false);
  expect(vendorName(newer)).toBeUndefined();
  expect(vendorName(new Uint8Array(3))).toBeUndefined();
});
