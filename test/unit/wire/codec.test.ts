/** How messages are declared here, from one octet to a whole SA payload. Read it from top to bottom: each test adds one thing. */

import { describe, expect, test } from 'vitest';
import { fromHex, hex } from '../../../src/bytes/bytes.ts';
import { Fault, WireError } from '../../../src/errors.ts';
import {
  bytes,
  type Codec,
  counted,
  decode,
  encode,
  lengthPrefixed,
  list,
  mapped,
  registry,
  reserved,
  rest,
  struct,
  tagged,
  u8,
  u16,
  u24,
  u32,
  u64,
  type Value,
} from '../../../src/wire/index.ts';

const of = (digits: string) => fromHex(digits)!;
const written = <T>(codec: Codec<T>, value: T) => hex(encode(codec, value));

describe('numbers', () => {
  test('are big-endian', () => {
    expect(decode(u8, of('7f'))).toBe(0x7f);
    expect(decode(u16, of('0102'))).toBe(0x0102);
    expect(decode(u24, of('010203'))).toBe(0x010203);
    expect(decode(u32, of('ff020304'))).toBe(0xff020304);
    expect(decode(u64, of('ffffffff00000001'))).toBe(0xffffffff00000001n);
    expect(written(u32, 0xff020304)).toBe('ff020304');
    expect(written(u64, 0xffffffff00000001n)).toBe('ffffffff00000001');
  });

  test('that are cut short are an error that says how much was missing, and where', () => {
    expect(() => decode(u32, of('0102'), 'SPI')).toThrow(new WireError('wanted 4 octets, but 2 are left', 0, 'SPI'));
  });

  test('that do not fit are a fault of ours: nothing is cut off in silence', () => {
    expect(() => encode(u8, 256)).toThrow(Fault);
    expect(() => encode(u16, -1)).toThrow(Fault);
    expect(() => encode(u32, 0.5)).toThrow(Fault);
    expect(() => encode(u64, 1n << 64n)).toThrow(Fault);
  });
});

describe('octets', () => {
  test('of a fixed number, or all that are left', () => {
    expect(decode(bytes(2), of('0102'))).toEqual(of('0102'));
    expect(decode(rest, of('010203'))).toEqual(of('010203'));
    expect(() => encode(bytes(2), of('01'))).toThrow('expected 2 octets to write, found 1');
  });

  test('are copies: what was read does not change when the datagram does', () => {
    const datagram = of('0102');
    const read = decode(rest, datagram);
    datagram.fill(0);
    expect(read).toEqual(of('0102'));
  });

  test('left over are an error', () => {
    expect(() => decode(u8, of('0102'))).toThrow('ends with 1 octets more than its contents account for (at octet 1)');
  });
});

describe('struct', () => {
  // RFC 7296 §3.4
  const KeyExchange = struct({ group: u16, reserved: reserved(2), data: rest });
  type KeyExchange = Value<typeof KeyExchange>;

  test('reads its fields in order; RESERVED is skipped, whatever it holds, and is no part of the value', () => {
    const value: KeyExchange = decode(KeyExchange, of('001fdeadabcd'));
    expect(value).toEqual({ group: 31, data: of('abcd') });
  });

  test('writes RESERVED as zero', () => {
    expect(written(KeyExchange, { group: 31, data: of('abcd') })).toBe('001f0000abcd');
  });
});

describe('repetition', () => {
  const Pair = struct({ type: u8, value: u8 });

  test('list: up to the end', () => {
    expect(decode(list(Pair), of('01020304'))).toEqual([
      { type: 1, value: 2 },
      { type: 3, value: 4 },
    ]);
    expect(() => decode(list(Pair), of('010203'))).toThrow(WireError);
  });

  test('counted: as many as a number says', () => {
    expect(decode(counted(u8, u16), of('0200010002'))).toEqual([1, 2]);
    expect(written(counted(u8, u16), [1, 2])).toBe('0200010002');
    expect(() => decode(counted(u8, u16), of('030001'))).toThrow(WireError);
  });

  test('an item without octets would never end, and is an error', () => {
    expect(() => decode(list(struct({})), of('01'))).toThrow('an item of a list has no octets');
    expect(() => decode(counted(u32, struct({})), of('ffffffff'))).toThrow('an item of a list has no octets');
  });
});

describe('lengths', () => {
  const Name = lengthPrefixed(u8, rest, 'name');

  test('are computed, and are no part of the value', () => {
    expect(decode(struct({ name: Name, after: u8 }), of('02aabb07'))).toEqual({ name: of('aabb'), after: 7 });
    expect(written(Name, of('aabb'))).toBe('02aabb');
  });

  test('that promise too much are refused before anything is read', () => {
    expect(() => decode(Name, of('ffaabb'))).toThrow('wanted 255 octets, but 2 are left');
  });

  test('that promise more than the contents use are refused with the path', () => {
    const Inner = struct({ port: lengthPrefixed(u8, u16, 'port') });
    expect(() => decode(Inner, of('03000102'), 'TSi')).toThrow(
      'TSi/port: ends with 1 octets more than its contents account for (at octet 3)',
    );
  });
});

describe('choices', () => {
  const Address = tagged(u8, { 7: bytes(4), 8: bytes(16) });

  test('the tag says which part follows', () => {
    expect(decode(Address, of('07c0000201'))).toEqual({ tag: 7, value: of('c0000201') });
    expect(written(Address, { tag: 7, value: of('c0000201') })).toBe('07c0000201');
  });

  test('an unknown tag is an error that names the known ones', () => {
    expect(() => decode(Address, of('09'), 'TSi')).toThrow('TSi: expected one of the types 7, 8, found 9 (at octet 0)');
  });

  test('names of what an object inherits are no tags', () => {
    expect(() => encode(Address, { tag: 'constructor' } as unknown as Value<typeof Address>)).toThrow(Fault);
  });
});

test('mapped: another type over the same octets', () => {
  const Even = mapped(
    u8,
    (value, from) => (value % 2 === 0 ? value / 2 : from.fail(`${value} is odd`)),
    (half) => half * 2,
  );
  expect(decode(Even, of('08'))).toBe(4);
  expect(written(Even, 4)).toBe('08');
  expect(() => decode(Even, of('07'))).toThrow('7 is odd (at octet 1)');
});

/*
 * An SA payload (RFC 7296 §3.3) in the combinators above. The project's own (`iked/ikev2/sa-payload.ts`) is written by hand, as
 * "Last Substruc" repeats what the lengths say already and wants to be checked against them.
 */
describe('a whole SA payload', () => {
  const TYPE = registry({ ENCR: 1, PRF: 2, INTEG: 3, KE: 4, ESN: 5 });
  /** The length of these counts itself and what stands before it: 4 octets. */
  const length = mapped(
    u16,
    (all, from) => (all >= 4 ? all - 4 : from.fail(`a length of ${all} octets`)),
    (inner) => inner + 4,
  );
  const Attribute = struct({ type: u16, value: u16 });
  const Transform = struct({
    last: u8,
    reserved: reserved(1),
    body: lengthPrefixed(length, struct({ type: u8, reserved: reserved(1), id: u16, attributes: list(Attribute) }), 'transform'),
  });
  const Proposal = struct({
    last: u8,
    reserved: reserved(1),
    body: lengthPrefixed(
      length,
      struct({ number: u8, protocol: u8, spiBytes: u8, transforms: counted(u8, Transform) }),
      'proposal',
    ),
  });
  const SecurityAssociation = list(Proposal);

  const octets = of('0000002401010003 0300000c01000014800e0100 0300000802000005 00000008 0400001f');
  const value: Value<typeof SecurityAssociation> = [
    {
      last: 0,
      body: {
        number: 1,
        protocol: 1,
        spiBytes: 0,
        transforms: [
          { last: 3, body: { type: TYPE.ENCR, id: 20, attributes: [{ type: 0x800e, value: 256 }] } },
          { last: 3, body: { type: TYPE.PRF, id: 5, attributes: [] } },
          { last: 0, body: { type: TYPE.KE, id: 31, attributes: [] } },
        ],
      },
    },
  ];

  test('is read', () => {
    expect(decode(SecurityAssociation, octets, 'SA')).toEqual(value);
  });

  test('is written to the same octets', () => {
    expect(written(SecurityAssociation, value)).toBe(hex(octets));
  });

  test('tells where it is wrong', () => {
    const bad = octets.slice();
    bad[11] = 13;
    expect(() => decode(SecurityAssociation, bad, 'SA')).toThrow(
      /^SA\/proposal\/transform: wanted 2 octets, but 1 are left \(at octet 20\)$/,
    );
  });
});
