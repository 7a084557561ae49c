import { expect, test } from 'vitest';
import { type CapturedPacket, pcapngHead, pcapngPacket } from '../../../src/net/pcapng.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const packet: CapturedPacket = {
  at: 0x18_0000_0001,
  interface: 'outer',
  direction: 'inbound',
  octets: 1500,
  bytes: Uint8Array.of(0x45, 0, 5),
  comment: 'SPI c0ffee01',
  lost: 0,
};

test('a file begins with its section and the two interfaces, whose packets are raw IP and whose time is in milliseconds', () => {
  expect(hex(pcapngHead(0x60))).toBe(
    [
      '0a0d0d0a 00000034 1a2b3c4d 0001 0000 ffffffffffffffff 0004 000e 74616e756b692063617074757265 0000 0000 0000 00000034',
      '00000001 0000002c 0065 0000 00000060 0002 0005 696e6e6572 000000 0009 0001 03 000000 0000 0000 0000002c',
      '00000001 0000002c 0065 0000 00000060 0002 0005 6f75746572 000000 0009 0001 03 000000 0000 0000 0000002c',
    ]
      .join('')
      .replaceAll(' ', ''),
  );
});

test('a packet has its interface, time, both lengths, comment and direction; what was lost before it where something was', () => {
  const head = '00000001 00000018 00000001 00000003 000005dc 45000500 0001 000c 53504920633066666565 3031 0002 0004';
  expect(hex(pcapngPacket(packet))).toBe(`00000006 00000040 ${head} 00000001 0000 0000 00000040`.replaceAll(' ', ''));
  expect(hex(pcapngPacket({ ...packet, direction: 'outbound', lost: 7 }))).toBe(
    `00000006 0000004c ${head} 00000002 0004 0008 0000000000000007 0000 0000 0000004c`.replaceAll(' ', ''),
  );
});
