/** Lengths, counts and markers inside of payloads that contradict each other, and what the error says of each. */

import { describe, expect, test } from 'vitest';
import { PAYLOAD, readPayload } from '../../../../iked/ikev2/payloads.ts';
import { cat, fromHex } from '../../../../src/bytes/bytes.ts';
import { Reader } from '../../../../src/wire/reader.ts';

const of = (digits: string) => fromHex(digits)!;
const read = (type: keyof typeof PAYLOAD, digits: string) => readPayload(PAYLOAD[type], false, new Reader(of(digits), type));

describe('SA (§3.3)', () => {
  const TRANSFORM = '0000000801000014';

  test('one proposal with one transform', () => {
    expect(read('SA', `0000001001010001${TRANSFORM}`)).toEqual({
      type: 'SA',
      proposals: [{ number: 1, protocol: 'ike', spi: new Uint8Array(0), transforms: [{ type: 'ENCR', id: 20 }] }],
    });
  });

  test.each([
    [
      'another marker than last or more',
      `0100001001010001${TRANSFORM}`,
      'SA: what follows proposal 1 is 0 or 2, not 1 (at octet 0)',
    ],
    ['the marker of a proposal at a transform', '00000010010100010200000801000014', 'what follows transform 1 is 0 or 3, not 2'],
    [
      'a proposal shorter than its header',
      '0000000701010000',
      'SA: proposal 1 has a length of 7 octets, less than its header of 8 (at octet 2)',
    ],
    [
      'a transform shorter than its header',
      '00000010010100010000000701000014',
      'SA/proposal 1: transform 1 has a length of 7 octets',
    ],
    [
      'octets behind the last proposal',
      `0000001001010001${TRANSFORM}00`,
      'SA: ends with 1 octets more than its contents account for (at octet 16)',
    ],
    ['octets behind the last transform', `0000001101010001${TRANSFORM}00`, 'SA/proposal 1: ends with 1 octets more'],
    ['no proposal behind a marker that promises one', `0200001001010001${TRANSFORM}`, 'SA: wanted 1 octets, but 0 are left'],
    [
      'more transforms announced than there are',
      `0000001001010002${TRANSFORM}`,
      'announces 2 transforms, but number 1 is the last',
    ],
    [
      'fewer transforms announced than there are',
      `00000018010100010300000801000014${TRANSFORM}`,
      'announces 1 transforms, but number 1 is not the last',
    ],
    ['transforms where none are announced', `0000001001010000${TRANSFORM}`, 'SA/proposal 1: ends with 8 octets more'],
    ['an SPI longer than the proposal', '000000080101ff00', 'SA/proposal 1: wanted 255 octets, but 0 are left'],
    [
      'an attribute longer than its transform',
      '0000001401010001 0000000c01000014 000100ff',
      'SA/proposal 1/transform 1: wanted 255 octets, but 0 are left',
    ],
    ['nothing', '', 'SA: wanted 1 octets, but 0 are left (at octet 0)'],
  ])('%s', (_what, digits, message) => {
    expect(() => read('SA', digits)).toThrow(message);
  });

  test('a Key Length in the long form, or a second one, is an attribute that nobody knows', () => {
    const long = read('SA', '0000001601010001 0000000e01000014 000e00020100');
    expect(long).toMatchObject({ proposals: [{ transforms: [{ otherAttributes: [{ type: 14, value: of('0100') }] }] }] });
    const twice = read('SA', '0000001801010001 0000001001000014 800e0100800e0080');
    expect(twice).toMatchObject({
      proposals: [{ transforms: [{ keyBits: 256, otherAttributes: [{ type: 0x800e, value: of('0080') }] }] }],
    });
  });
});

describe('TS (§3.13)', () => {
  test.each([
    [
      'a selector shorter than its own header',
      '01000000 07000003',
      'TSi: a traffic selector of 3 octets is shorter than its own header of 4',
    ],
    [
      'a selector longer than its addresses',
      '01000000 07000014 0000ffff 0a000001 0a000001 00000000',
      'TSi/selector 1: ends with 4 octets more than its contents account for (at octet 20)',
    ],
    [
      'a second selector that is not there',
      '02000000 07000010 0000ffff 0a000001 0a000001',
      'TSi: wanted 1 octets, but 0 are left (at octet 20)',
    ],
    ['one selector more than the count says', '00000000 07000010 0000ffff 0a000001 0a000001', 'TSi: ends with 16 octets more'],
  ])('%s', (_what, digits, message) => {
    expect(() => read('TSi', digits)).toThrow(message);
  });

  test('a selector of an unknown type is skipped, and kept', () => {
    const digits = '02000000 0900000800000000 07000010 0000ffff 0a000001 0a000001';
    expect(read('TSi', digits)).toMatchObject({ selectors: [{ endPort: 65535 }], received: of(digits) });
  });
});

describe('Delete (§3.11)', () => {
  test.each([
    [
      'more SPIs than there are octets',
      '0304000200000100',
      'Delete: 2 SPIs of 4 octets announced, but 4 octets follow (at octet 4)',
    ],
    ['fewer', '0304000000000100', 'Delete: 0 SPIs of 4 octets announced, but 4 octets follow'],
    ['SPIs without octets', '0300ffff', 'Delete: 65535 SPIs without octets'],
  ])('%s', (_what, digits, message) => {
    expect(() => read('Delete', digits)).toThrow(message);
  });

  test('an IKE SA is deleted without an SPI; a size of SPIs that are not there is kept', () => {
    expect(read('Delete', '01000000')).toEqual({ type: 'Delete', protocol: 1, spis: [] });
    expect(read('Delete', '01040000')).toMatchObject({ spis: [], received: of('01040000') });
  });
});

test('a reader does not go backwards', () => {
  const from = new Reader(cat(of('0102')));
  from.skip(1);
  expect(() => from.skip(-1)).toThrow('cannot read -1 octets');
  expect(() => from.part(-1)).toThrow('cannot read -1 octets');
});
