import { describe, expect, test } from 'vitest';
import { cat, u16be } from '../../../src/bytes/bytes.ts';
import { INPUT, OUTPUT } from '../../../src/datapath/slots.ts';
import {
  type Frame,
  NOW,
  Node,
  type PacketOptions,
  pair,
  pseudoHeader,
  saOf,
  seeded,
  slowSum,
  tcpPacket,
  udpPacket,
} from './pair.ts';

const V6 = { source: 'fd00:1::1', destination: 'fd00:2::2' };

/** virtio_net_hdr, little-endian. */
function header(gsoType: number, headerBytes: number, segmentBytes: number, start: number, offset: number): Uint8Array {
  const le = (n: number) => Uint8Array.of(n & 0xff, n >> 8);
  return cat(Uint8Array.of(1, gsoType), le(headerBytes), le(segmentBytes), le(start), le(offset));
}

/** A frame as the device delivers it: one long segment whose checksum field holds the pseudo-header's sum. */
function tcpFrame(payload: Uint8Array, segmentBytes: number, options: PacketOptions & { flags?: number } = {}) {
  const packet = tcpPacket(1000, payload, options);
  const ipBytes = packet[0]! >> 4 === 4 ? 20 : 40;
  packet.set(u16be(slowSum(pseudoHeader(packet, 6, packet.length - ipBytes))), ipBytes + 16);
  return { packet, header: header(ipBytes === 20 ? 1 : 4, ipBytes + 32, segmentBytes, ipBytes, 16) };
}

function expectRight(packet: Uint8Array, protocol: number): void {
  const v4 = packet[0]! >> 4 === 4;
  if (v4) expect(slowSum(packet.slice(0, 20))).toBe(0xffff);
  const transport = packet.slice(v4 ? 20 : 40);
  expect(slowSum(pseudoHeader(packet, protocol, transport.length), transport)).toBe(0xffff);
}

/** What a frame of several segments says of itself, as the kernel would complete it. */
function payloadOf({ packet }: Frame): Uint8Array {
  return packet.slice(packet[0]! >> 4 === 4 ? 52 : 72);
}

describe('segmentation (TSO) and coalescing (GRO)', () => {
  for (const [family, hosts] of [
    [4, {}],
    [6, V6],
  ] as const) {
    test(`a TCP frame over IPv${family} arrives as it left, in one frame again`, () => {
      const payload = seeded(5)(20_000);
      const { a, b } = pair();
      const frame = tcpFrame(payload, 1348, { ...hosts, flags: 0x18 });
      const wires = a.protectFrame(frame.header, frame.packet);
      expect(wires).toHaveLength(15);
      expect(a.engine.outputs.count).toBe(1);
      const frames = b.unprotectRun(wires);
      expect(b.engine.drops.toJSON()).toEqual({});
      expect(frames.map(({ pieces }) => pieces)).toEqual([15]);
      expect(payloadOf(frames[0]!)).toEqual(payload);
      expect(frames[0]!.packet).toEqual(frame.packet);
      expect(frames[0]!.header).toEqual(frame.header);
    });

    test(`the segments over IPv${family}, one by one, are right by the slow sum`, () => {
      const { a, b } = pair(saOf(), { coalesce: false });
      const frame = tcpFrame(seeded(6)(5000), 1000, { ...hosts, flags: 0x99 });
      const frames = b.unprotectRun(a.protectFrame(frame.header, frame.packet));
      const ipBytes = family === 4 ? 20 : 40;
      expect(frames).toHaveLength(5);
      for (const { packet } of frames) expectRight(packet, 6);
      const tcp = frames.map(({ packet }) => packet.slice(ipBytes));
      expect(tcp.map((octets) => octets[13])).toEqual([0x90, 0x10, 0x10, 0x10, 0x19]);
      expect(tcp.map((octets) => new DataView(octets.buffer).getUint32(4))).toEqual([1000, 2000, 3000, 4000, 5000]);
      if (family === 4) expect(frames.map(({ packet }) => packet[5])).toEqual([0x34, 0x35, 0x36, 0x37, 0x38]);
    });
  }

  test('transport mode cuts without the IP header and gets the same stream back', () => {
    const sa = saOf({ mode: 'transport' });
    const { a, b } = pair(sa);
    const payload = seeded(8)(10_000);
    const frame = tcpFrame(payload, 1400, { source: '192.0.2.1', destination: '192.0.2.2' });
    const frames = b.unprotectRun(a.protectFrame(frame.header, frame.packet));
    expect(frames).toHaveLength(1);
    expect(payloadOf(frames[0]!)).toEqual(payload);
  });

  test('a UDP frame (USO) becomes datagrams', () => {
    const { a, b } = pair();
    const packet = udpPacket(seeded(9)(3000));
    packet.set(u16be(slowSum(pseudoHeader(packet, 17, packet.length - 20))), 26);
    const frames = b.unprotectRun(a.protectFrame(header(5, 28, 1000, 20, 6), packet));
    expect(frames.map((frame) => frame.packet.length)).toEqual([1028, 1028, 1028]);
    for (const frame of frames) expectRight(frame.packet, 17);
    expect(cat(...frames.map((frame) => frame.packet.slice(28)))).toEqual(packet.slice(28));
  });

  test('a frame without segmentation gets its checksum', () => {
    const { a, b } = pair();
    const whole = tcpPacket(5, seeded(3)(101));
    const partial = whole.slice();
    partial.set(u16be(slowSum(pseudoHeader(whole, 6, whole.length - 20))), 36);
    const frames = b.unprotectRun(a.protectFrame(header(0, 0, 0, 20, 16), partial));
    expect(frames[0]!.packet).toEqual(whole);
  });

  test('bypassed frames are cut too', () => {
    const a = new Node();
    const frame = tcpFrame(seeded(6)(2500), 1000);
    a.protectFrame(frame.header, frame.packet);
    expect(a.clears()).toHaveLength(3);
    for (const packet of a.clears()) expectRight(packet, 6);
  });

  test('what may not be joined is not, and nothing overtakes', () => {
    const { a, b } = pair();
    const data = (n: number, changes = {}) => tcpPacket(1000 + 100 * n, new Uint8Array(100).fill(n), { id: n, ...changes });
    const broken = data(4);
    broken[60]! ^= 1;
    const cases: readonly (readonly [string, readonly Uint8Array[], readonly number[]])[] = [
      ['in order', [data(0), data(1), data(2)], [3]],
      ['a gap', [data(0), data(2), data(3)], [1, 2]],
      ['another acknowledgment', [data(0), data(1, { acknowledgment: 78 })], [1, 1]],
      ['another traffic class', [data(0), data(1, { trafficClass: 4 })], [1, 1]],
      ['PSH ends a frame', [data(0), data(1, { flags: 0x18 }), data(2)], [2, 1]],
      ['FIN stays alone', [data(0), data(1, { flags: 0x11 })], [1, 1]],
      ['a pure acknowledgment between', [data(0), tcpPacket(1100, new Uint8Array(0)), data(1)], [1, 1, 1]],
      ['a wrong checksum', [data(3), broken, data(5)], [1, 1, 1]],
      [
        'a shorter one ends a frame',
        [data(0), tcpPacket(1100, new Uint8Array(50), { id: 1 }), tcpPacket(1150, new Uint8Array(100), { id: 2 })],
        [2, 1],
      ],
      ['a longer one begins a frame', [tcpPacket(950, new Uint8Array(50)), data(0), data(1)], [1, 2]],
      ['two flows', [data(0), data(0, { sourcePort: 5 }), data(1), data(1, { sourcePort: 5 })], [2, 2]],
      [
        'identifications that do not count up, and may be fragmented',
        [data(0, { dontFragment: false }), data(5, { dontFragment: false, id: 9 })],
        [1, 1],
      ],
      ['a datagram between', [data(0), udpPacket(new Uint8Array(9)), data(1)], [2, 1]],
    ];
    for (const [what, packets, pieces] of cases) {
      const frames = b.unprotect(a.protect(packets), INPUT.udp);
      expect([what, frames.map((frame) => frame.pieces)]).toEqual([what, pieces]);
    }
  });

  test('a right segment alone is marked as checked, a wrong one is not', () => {
    const { a, b } = pair();
    const wrong = tcpPacket(1, new Uint8Array(10));
    wrong[55]! ^= 1;
    expect(b.unprotect(a.protect([tcpPacket(1, new Uint8Array(10))]), INPUT.udp)[0]!.header[0]).toBe(2);
    expect(b.unprotect(a.protect([wrong]), INPUT.udp)[0]).toMatchObject({ header: new Uint8Array(10), packet: wrong });
  });

  test('impossible segmentation requests are dropped by name', () => {
    const { a } = pair();
    const { packet } = tcpFrame(new Uint8Array(100), 50);
    for (const bad of [
      header(1, 52, 0, 20, 16),
      header(4, 52, 50, 20, 16),
      header(5, 28, 50, 20, 6),
      header(3, 28, 50, 20, 6),
      header(0, 0, 0, 20, 200),
      header(0, 0, 0, 3, 2),
    ]) {
      expect(a.protectFrame(bad, packet)).toEqual([]);
      expect(a.drop(0)).toBe('badFrame');
    }
    expect(a.protectFrame(new Uint8Array(4), new Uint8Array(0))).toEqual([]);
    expect(a.drop(0)).toBe('malformed');
  });

  test('without room the batch stops, and goes on when it is called again', () => {
    const { a } = pair(saOf(), { outputs: 8, outputBytes: 16_384 });
    const packets = Array.from({ length: 8 }, () => udpPacket(new Uint8Array(3000)));
    packets.forEach((packet, slot) => {
      a.arena.set(packet, a.engine.inputs.buffer[slot]!);
      a.engine.inputs.takePacket(slot, INPUT.frame, packet.length);
    });
    let done = 0;
    let sent = 0;
    for (let calls = 0; done < 8 && calls < 8; calls++) {
      done += a.engine.protectBatch(done, 8 - done, NOW);
      sent += a.wires().length;
    }
    expect([done, sent]).toEqual([8, 8]);
    const huge = tcpFrame(new Uint8Array(20_000), 1000);
    expect(a.protectFrame(huge.header, huge.packet)).toEqual([]);
    expect(a.drop(0)).toBe('noRoom');
  });
});

test('IKE messages and keepalives between ESP on the encapsulation port (RFC 3948 §2)', () => {
  const { a, b } = pair();
  const [esp] = a.protect([udpPacket(new Uint8Array(20))]);
  const ike = { ...esp!, bytes: cat(new Uint8Array(4), seeded(1)(28)) };
  const keepalive = { ...esp!, bytes: Uint8Array.of(0xff) };
  const frames = b.unprotect([ike, esp!, keepalive], INPUT.udp);
  expect(frames).toHaveLength(1);
  const { outputs } = b.engine;
  expect([outputs.count, outputs.kind[0], outputs.length[0], outputs.slot[0]]).toEqual([2, OUTPUT.ike, 28, 0]);
  expect(b.arena.slice(outputs.offset[0], outputs.offset[0]! + 28)).toEqual(seeded(1)(28));
  expect(b.engine.drops.toJSON()).toEqual({});
});
