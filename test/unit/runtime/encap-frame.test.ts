import { describe, expect, test } from 'vitest';
import { cat } from '../../../src/bytes/bytes.ts';
import { WireError } from '../../../src/errors.ts';
import { IpAddress, type Path } from '../../../src/net/address.ts';
import { EncapFramer, writeEncapFrame } from '../../../src/runtime/encap-frame.ts';

const path = (local: string, remote: string): Path => ({
  local: { address: IpAddress.parse(local)!, port: 4500 },
  remote: { address: IpAddress.parse(remote)!, port: 61234 },
  encapsulated: true,
});

describe('encap.sock', () => {
  const frames = [
    { kind: 'ike', path: path('192.0.2.1', '198.51.100.7'), bytes: Uint8Array.of(1, 2, 3) },
    { kind: 'keepalive', path: path('2001:db8::1', '2001:db8::2') },
    { kind: 'ike', path: path('2001:db8::1', '2001:db8::2'), bytes: new Uint8Array(1400).fill(7) },
  ] as const;

  test('frames survive any cutting of the stream', () => {
    const stream = cat(...frames.map(writeEncapFrame));
    for (const size of [1, 3, 7, 64, 10_000]) {
      const framer = new EncapFramer();
      const read = [];
      for (let at = 0; at < stream.length; at += size) read.push(...framer.put(stream.subarray(at, at + size)));
      expect(read).toEqual(frames);
    }
  });

  test.each([
    ['a length that no datagram has', [0, 2, 0, 0]],
    ['a length below the fixed part', [0, 0, 0, 5]],
    ['an unknown family', [0, 0, 0, 6, 0, 5, 0, 0, 0, 0]],
    ['an unknown kind', [0, 0, 0, 14, 9, 4, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]],
    ['addresses cut short', [0, 0, 0, 10, 0, 4, 0, 0, 0, 0, 1, 1, 1, 1]],
  ])('%s is refused', (_, bytes) => {
    expect(() => new EncapFramer().put(Uint8Array.from(bytes))).toThrow(WireError);
  });
});
