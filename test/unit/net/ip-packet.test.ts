import { describe, expect, test } from 'vitest';
import { cat } from '../../../src/bytes/bytes.ts';
import { IpPacket } from '../../../src/net/ip-packet.ts';
import { checksumOffsetOf } from '../../../src/net/transport.ts';
import { ipPacket, seeded, tcpPacket, udpPacket } from '../datapath/pair.ts';

const V6 = { source: '2001:db8::1', destination: 'fe80::2' };

function read(packet: Uint8Array, available = packet.length) {
  const view = new IpPacket(packet);
  return view.read(0, available) ? view : undefined;
}

describe('a view of an IP packet', () => {
  test('IPv4', () => {
    expect(read(udpPacket(new Uint8Array(5), { trafficClass: 0x2e }))).toMatchObject({
      family: 4,
      bytes: 33,
      headerBytes: 20,
      protocol: 17,
      trafficClass: 0x2e,
      fragment: false,
      extended: false,
      dontFragment: true,
      source0: 0x0a010001 ^ 0x80000000,
      sourcePort: 1000,
      destinationPort: 2000,
    });
  });

  test('IPv6, with its words in an order that compares as unsigned numbers', () => {
    const view = read(tcpPacket(1, new Uint8Array(5), { ...V6, trafficClass: 0xab }))!;
    expect(view).toMatchObject({
      family: 6,
      headerBytes: 40,
      protocol: 6,
      trafficClass: 0xab,
      source3: 1 ^ 0x80000000,
      destinationPort: 80,
    });
    expect(view.destination0 > view.source0).toBe(true);
  });

  test('options and extension headers are walked to the transport', () => {
    const v4 = udpPacket(new Uint8Array(5));
    const withOptions = cat(Uint8Array.of(0x46, ...v4.slice(1, 3), v4[3]! + 4), v4.slice(4, 20), new Uint8Array(4), v4.slice(20));
    expect(read(withOptions)).toMatchObject({ headerBytes: 24, extended: true, sourcePort: 1000 });
    const chain = cat(
      Uint8Array.of(43, 0, 1, 4, 0, 0, 0, 0),
      Uint8Array.of(60, 1, 2, 0, ...new Uint8Array(12)),
      Uint8Array.of(44, 0, 1, 4, 0, 0, 0, 0),
      Uint8Array.of(17, 0, 0, 0, 0, 0, 0, 9),
      udpPacket(new Uint8Array(0)).slice(20),
    );
    expect(read(ipPacket(0, chain, V6))).toMatchObject({
      headerBytes: 80,
      extended: true,
      protocol: 17,
      fragment: false,
      destinationPort: 2000,
    });
  });

  test('fragments have no ports', () => {
    const v4 = udpPacket(new Uint8Array(5));
    v4[6] = 0x20;
    expect(read(v4)).toMatchObject({ fragment: true, dontFragment: false, sourcePort: -1, destinationPort: -1, protocol: 17 });
    const v6 = ipPacket(44, cat(Uint8Array.of(17, 0, 0, 9, 0, 0, 0, 1), seeded(1)(16)), V6);
    expect(read(v6)).toMatchObject({ fragment: true, protocol: 17, sourcePort: -1 });
  });

  test('ICMP has type and code, the Mobility Header its type, others nothing', () => {
    expect(read(ipPacket(1, Uint8Array.of(8, 3, 0, 0)))).toMatchObject({ sourcePort: 8, destinationPort: 3 });
    expect(read(ipPacket(58, Uint8Array.of(128, 0, 0, 0), V6))).toMatchObject({ sourcePort: 128, destinationPort: 0 });
    expect(read(ipPacket(135, Uint8Array.of(59, 0, 5, 0), V6))).toMatchObject({ sourcePort: 5, destinationPort: -1 });
    expect(read(ipPacket(47, new Uint8Array(8)))).toMatchObject({ sourcePort: -1, destinationPort: -1 });
    expect(read(ipPacket(17, new Uint8Array(3)))).toMatchObject({ sourcePort: -1 });
  });

  test('its own length counts, and what is missing is noticed', () => {
    const packet = udpPacket(new Uint8Array(5));
    expect(read(cat(packet, new Uint8Array(100)))!.bytes).toBe(33);
    for (let length = 0; length < packet.length; length++) expect(read(packet, length)).toBeUndefined();
    const v6 = ipPacket(0, cat(Uint8Array.of(60, 0, 1, 4, 0, 0, 0, 0), Uint8Array.of(17, 9, 1, 4, 0, 0, 0, 0)), V6);
    expect(read(v6)).toBeUndefined();
    for (let length = 0; length < v6.length; length++) expect(read(v6, length)).toBeUndefined();
    for (const first of [0x00, 0x44, 0x50, 0x4f, 0xf5]) expect(read(Uint8Array.of(first, ...packet.slice(1)))).toBeUndefined();
  });

  test('which transports count the addresses in their checksum', () => {
    expect([6, 17, 58, 1, 47].map(checksumOffsetOf)).toEqual([16, 6, 2, -1, -1]);
  });
});
