import { describe, expect, test } from 'vitest';
import { hex, utf8 } from '../../../src/bytes/bytes.ts';
import { echoReplyTo, echoRequest, readEchoReply } from '../../../src/datapath-process/echo.ts';
import { IpAddress } from '../../../src/net/address.ts';

const address = (text: string) => IpAddress.parse(text)!;

describe('ICMP echo', () => {
  test('an IPv4 request, byte for byte', () => {
    const packet = echoRequest(
      { source: address('10.1.0.1'), destination: address('10.2.0.1'), identifier: 0x1234, sequence: 1 },
      utf8('abc'),
    );
    // By hand: 4500+001f+4001+0a01+0001+0a02+0001 = 9925, complement 66da; 0800+1234+0001+6162+6300 = de97, complement 2168.
    expect(hex(packet)).toBe('4500001f00000000400166da0a0100010a0200010800216812340001616263');
  });

  test.each([
    ['10.1.0.1', '10.2.0.1'],
    ['2001:db8:1::1', '2001:db8:2::1'],
  ])('%s asks %s and is answered', (from, to) => {
    const echo = { source: address(from), destination: address(to), identifier: 7, sequence: 65535 };
    const request = echoRequest(echo, new Uint8Array(57).fill(9));
    const reply = echoReplyTo(request, [address(to)]);
    expect(readEchoReply(reply!)).toMatchObject({
      source: address(to),
      destination: address(from),
      identifier: 7,
      sequence: 65535,
    });
    expect(reply!.length).toBe(request.length);
    expect(echoReplyTo(request, [address(from)])).toBeUndefined();
    expect(readEchoReply(request)).toBeUndefined();
    const broken = reply!.slice();
    broken[broken.length - 1]! ^= 1;
    expect(readEchoReply(broken)).toBeUndefined();
  });

  test('no prefix of a packet, and no packet with one octet changed, does harm', () => {
    const request = echoRequest(
      { source: address('10.1.0.1'), destination: address('10.2.0.1'), identifier: 7, sequence: 1 },
      utf8('data'),
    );
    for (let length = 0; length < request.length; length++)
      expect(echoReplyTo(request.slice(0, length), [address('10.2.0.1')])).toBeUndefined();
    for (let at = 0; at < request.length; at++) {
      for (let value = 0; value < 256; value++) {
        const changed = request.slice();
        changed[at] = value;
        expect(() => [echoReplyTo(changed, [address('10.2.0.1')]), readEchoReply(changed)]).not.toThrow();
      }
    }
  });
});
