import { expect, test } from 'vitest';
import { INPUT } from '../../../src/datapath/slots.ts';
import { Capture, type CaptureFilter } from '../../../src/datapath-process/capture.ts';
import { CapturedEngine } from '../../../src/datapath-process/captured-engine.ts';
import { IpPacket } from '../../../src/net/ip-packet.ts';
import type { CapturedPacket } from '../../../src/net/pcapng.ts';
import { at, ip, NOW, type Node, pair, rawIpv4, saOf, udpPacket } from '../datapath/pair.ts';

const PORT = 4500;
const path = (from: string, to: string) => ({
  source: { address: ip(from), port: PORT },
  destination: { address: ip(to), port: 4501 },
});

/** An engine of the pair behind a capture. */
function watched(node: Node, filter: Partial<CaptureFilter> = {}) {
  const capture = new Capture();
  const engine = new CapturedEngine(node.engine, capture, node.arena);
  capture.begin({ snapLength: 65_535, ...filter }, NOW.mono);
  const put = (packets: readonly Uint8Array[], kind: number) =>
    packets.forEach((packet, slot) => {
      node.arena.set(packet, engine.inputs.buffer[slot]!);
      engine.inputs.takePacket(slot, kind, packet.length);
    });
  return {
    capture,
    engine,
    protect(packets: readonly Uint8Array[]) {
      put(packets, INPUT.frame);
      engine.protectBatch(0, packets.length, NOW);
      return node.wires();
    },
    unprotect(packets: readonly Uint8Array[]) {
      put(packets, INPUT.rawWithHeader);
      engine.unprotectBatch(0, packets.length, NOW);
    },
    taken: () => capture.take(NOW.mono).packets,
  };
}

const shown = ({ interface: side, direction, comment, octets }: CapturedPacket) => ({ side, direction, comment, octets });

function headerOf({ bytes }: CapturedPacket) {
  const aligned = new Uint8Array((bytes.length + 3) & ~3);
  aligned.set(bytes);
  const packet = new IpPacket(aligned);
  expect(packet.read(0, bytes.length)).toBe(true);
  const { protocol, sourcePort, destinationPort } = packet;
  return {
    source: `${packet.sourceAddress()}`,
    destination: `${packet.destinationAddress()}`,
    protocol,
    sourcePort,
    destinationPort,
  };
}

test('outbound: the packet as the device had it, then ESP with the headers of the wire', () => {
  const { a } = pair();
  const node = watched(a);
  const packet = udpPacket(new Uint8Array(100));
  const [wire] = node.protect([packet]);
  const [inner, outer, ...others] = node.taken();
  expect(others).toEqual([]);
  expect(shown(inner!)).toEqual({ side: 'inner', direction: 'outbound', comment: '', octets: packet.length });
  expect(inner!.bytes).toEqual(packet);
  expect(shown(outer!)).toEqual({
    side: 'outer',
    direction: 'outbound',
    comment: 'SPI c0ffee01',
    octets: 20 + wire!.bytes.length,
  });
  expect(outer!.bytes.subarray(20)).toEqual(wire!.bytes);
  expect(headerOf(outer!)).toMatchObject({ source: '192.0.2.1', destination: '192.0.2.2', protocol: 50 });
});

test('a train in UDP is as many packets as it has', () => {
  const encapsulation = path('192.0.2.1', '192.0.2.2');
  const { a } = pair(saOf({ encapsulation }));
  const node = watched(a, { interface: 'outer' });
  const wires = node.protect([udpPacket(new Uint8Array(100)), udpPacket(new Uint8Array(100)), udpPacket(new Uint8Array(40))]);
  const outer = node.taken();
  expect(outer.map(({ bytes }) => bytes.subarray(28))).toEqual(wires.map(({ bytes }) => bytes));
  for (const packet of outer) expect(headerOf(packet)).toMatchObject({ protocol: 17, sourcePort: 4500, destinationPort: 4501 });
  expect(outer.map(({ comment }) => comment)).toEqual(Array(3).fill('SPI c0ffee01'));
});

test('inbound: as it arrived, before it was opened, then what came out; a drop says its name', () => {
  const sa = saOf();
  const { a, b } = pair(sa);
  const packet = udpPacket(new Uint8Array(100));
  const [wire] = a.protect([packet]);
  const node = watched(b);
  const raw = rawIpv4(wire!.bytes, sa);
  node.unprotect([raw, raw]);
  const packets = node.taken();
  expect(packets.map(shown)).toEqual([
    { side: 'outer', direction: 'inbound', comment: 'SPI c0ffee01', octets: raw.length },
    { side: 'outer', direction: 'inbound', comment: 'SPI c0ffee01, dropped: replayed', octets: raw.length },
    { side: 'inner', direction: 'inbound', comment: '', octets: packet.length },
  ]);
  expect(packets[0]!.bytes).toEqual(raw);
  expect(packets[2]!.bytes).toEqual(packet);
});

test.each<[string, Partial<CaptureFilter>, string[]]>([
  ['an address', { address: '10.2.0.0/16' }, ['inner']],
  ['another address', { address: '10.3.0.0/16' }, []],
  ['an SPI', { spi: 0xc0ffee01 }, ['outer']],
  ['another SPI', { spi: 1 }, []],
  ['a side', { interface: 'inner' }, ['inner']],
  ['drops', { droppedOnly: true }, []],
])('a filter by %s', (_, filter, sides) => {
  const node = watched(pair().a, filter);
  node.protect([udpPacket(new Uint8Array(10))]);
  expect(node.taken().map(({ interface: side }) => side)).toEqual(sides);
});

test('what is longer than the snap length is cut, and says how long it was', () => {
  const node = watched(pair().a, { snapLength: 24, interface: 'inner' });
  const packet = udpPacket(new Uint8Array(100));
  node.protect([packet]);
  expect(node.taken()).toMatchObject([{ bytes: packet.slice(0, 24), octets: packet.length }]);
});

test('memory is bounded: what finds no room is counted, there and in the next packet that is kept', () => {
  const node = watched(pair().a, { interface: 'inner' });
  const packets = Array.from({ length: 8 }, () => udpPacket(new Uint8Array(60_000)));
  for (let i = 0; i < 20; i++) node.protect(packets);
  const { packets: kept, lost } = node.capture.take(NOW.mono);
  expect(kept.length + lost).toBe(160);
  expect(kept.length * 60_000).toBeLessThan(4 * 1024 * 1024);
  node.protect(packets.slice(0, 1));
  expect(node.taken()).toMatchObject([{ lost }]);
});

test('one at a time; one that nobody asks about ends, and nothing is kept then', () => {
  const { a } = pair();
  const node = watched(a);
  expect(() => node.capture.begin({ snapLength: 1 }, NOW.mono)).toThrow('another one is under way');
  expect(() => node.capture.take(at(10_001).mono)).toThrow('none is under way');
  expect(node.capture.on).toBe(false);
  expect(() => node.capture.begin({ snapLength: 1, address: 'nowhere' }, NOW.mono)).toThrow('an address or a prefix');
  node.capture.begin({ snapLength: 1 }, NOW.mono);
  node.capture.end();
  expect(node.protect([udpPacket(new Uint8Array(10))])).toHaveLength(1);
  node.capture.begin({ snapLength: 1 }, NOW.mono);
  expect(node.taken()).toEqual([]);
});
