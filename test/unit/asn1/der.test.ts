import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as der from '../../../src/asn1/der.ts';
import {
  application,
  constant,
  type DerType,
  decode,
  field,
  flags,
  int,
  octets,
  optional,
  sequence,
  sequenceOf,
  text,
  time,
} from '../../../src/asn1/schema.ts';
import { equal, fromHex, hex, utf8 } from '../../../src/bytes/bytes.ts';
import { WireError } from '../../../src/errors.ts';

const read = (digits: string) => new der.DerReader(fromHex(digits)!, 'test');

describe('elements', () => {
  test.each([
    [0, '020100'],
    [127, '02017f'],
    [128, '02020080'],
    [256, '02020100'],
    [-1, '0201ff'],
    [-128, '020180'],
    [-129, '0202ff7f'],
    [4294967295, '020500ffffffff'],
    [-2147483648, '020480000000'],
  ])('INTEGER %i is %s (X.690 §8.3)', (value, digits) => {
    expect(hex(der.integer(value))).toBe(digits);
    expect(read(digits).integer()).toBe(value);
  });

  test('a time is written with Z and without a fraction (RFC 4120 §5.2.3)', () => {
    const bytes = der.generalizedTime(Date.UTC(2026, 10, 28, 2, 49, 40) / 1000);
    expect(hex(bytes)).toBe(`180f${hex(utf8('20261128024940Z'))}`);
    expect(new der.DerReader(bytes).generalizedTime()).toBe(Date.UTC(2026, 10, 28, 2, 49, 40) / 1000);
  });

  test.each([
    ['02020001', 'as few octets as possible'],
    ['0202ff80', 'as few octets as possible'],
    ['0200', 'at least one octet'],
    ['020700112233445566', 'too large'],
    ['0201', '1 octets where 0 are left'],
    ['02', 'without a length'],
    ['', 'found the end'],
    ['0401ff', 'wanted integer, found octetString'],
    ['02810100', 'as few octets as possible'],
    ['028000', 'no definite form'],
    ['0285000000000100', 'no definite form'],
    ['0282', 'cut off'],
  ])('refuses %s as an INTEGER: %s', (digits, problem) => {
    expect(() => read(digits).integer()).toThrow(WireError);
    expect(() => read(digits).integer()).toThrow(problem);
  });

  test.each([
    '20260230000000Z',
    '20261301000000Z',
    '20260101000060Z',
    '2026010100000Z',
    '20260101000000+0000',
    '20260101000000.0Z',
    '00500101000000Z',
  ])('refuses the time %s', (wrong) => {
    expect(() => new der.DerReader(der.element(der.TAG.generalizedTime, utf8(wrong))).generalizedTime()).toThrow(WireError);
  });

  test.each(['0300', '030108', '03020101', '03020800', '030101'])('refuses the bit string %s', (digits) => {
    expect(() => read(digits).bitString()).toThrow(WireError);
  });

  test('refuses a string that is no UTF-8', () => {
    expect(() => read('1b02c328').generalString()).toThrow('no UTF-8');
  });

  test('lengths of one to three octets', () => {
    for (const length of [0, 127, 128, 255, 256, 65535, 65536]) {
      const value = new Uint8Array(length).fill(7);
      const bytes = der.octetString(value);
      expect(equal(new der.DerReader(bytes).octetString(), value)).toBe(true);
    }
  });
});

describe('types', () => {
  const Sample = application(
    5,
    sequence({
      version: constant(0, 5),
      name: field(1, text),
      when: optional(2, time),
      bits: field(4, flags),
      list: optional(6, sequenceOf(int, 3)),
    }),
  );
  const Open = sequence({ a: field(0, int), b: optional(2, octets) }, 'open');

  test('what is written is read again', () => {
    fc.assert(
      fc.property(
        fc.record(
          {
            name: fc.string({ unit: 'grapheme' }).filter((name) => !name.includes('\ufffd')),
            when: fc.integer({ min: 0, max: 4102444800 }),
            bits: fc.integer({ min: 0, max: 0xffffffff }),
            list: fc.array(fc.integer({ min: -(2 ** 31), max: 2 ** 32 - 1 }), { maxLength: 3 }),
          },
          { requiredKeys: ['name', 'bits'] },
        ),
        (value) => {
          expect(decode(Sample, Sample.write(value), 'sample')).toEqual(value);
        },
      ),
    );
  });

  const refused = <T>(type: DerType<T>, bytes: Uint8Array, problem: string) => {
    expect(() => decode(type, bytes, 'sample')).toThrow(WireError);
    expect(() => decode(type, bytes, 'sample')).toThrow(problem);
  };

  test('a constant that differs, an element too many, octets after the end', () => {
    const bytes = Sample.write({ name: 'x', bits: 1 });
    const other = bytes.slice();
    other[8] = 4;
    refused(Sample, other, 'sample/version: wanted 5, found 4');
    refused(Sample, Uint8Array.of(...bytes, 0), 'more than belong here');
    refused(Sample, Sample.write({ name: 'x', bits: 1, list: [1, 2, 3, 4] }), 'more than 3 elements');
    refused(sequence({ a: field(0, int) }), Open.write({ a: 1, b: Uint8Array.of(1) }), 'more than belong here');
    refused(Sample, new Uint8Array(0), 'nothing to read');
  });

  test('an open sequence skips later members, but not members out of order', () => {
    const later = sequence({ a: field(0, int), c: field(3, int), d: field(9, text) });
    expect(decode(Open, later.write({ a: 1, c: 2, d: 'new' }), 'sample')).toEqual({ a: 1 });
    refused(
      Open,
      der.element(der.TAG.sequence, ...[0, 5, 4].map((tag) => der.element(der.contextTag(tag), der.integer(1)))),
      'order of their tags',
    );
  });
});
