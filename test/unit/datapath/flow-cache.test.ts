import { expect, test } from 'vitest';
import { FlowCache } from '../../../src/datapath/flow-cache.ts';
import { IpPacket } from '../../../src/net/ip-packet.ts';
import { tcpPacket, udpPacket } from './pair.ts';

function viewOf(bytes: Uint8Array): IpPacket {
  const view = new IpPacket(bytes);
  if (!view.read(0, bytes.length)) throw new Error('not a packet');
  return view;
}

const V4 = { source: '10.0.0.1', destination: '10.0.0.2' };
const V6 = { source: '2001:db8:1:2:3:4:5:6', destination: '2001:db8:9:8:7:6:5:4' };
const NOTHING = new Uint8Array(0);

test('flows that differ in anything at all are kept apart, even where they share a place', () => {
  const packets = [
    udpPacket(NOTHING, V4),
    tcpPacket(0, NOTHING, { ...V4, destinationPort: 2000 }),
    udpPacket(NOTHING, { ...V4, sourcePort: 1001 }),
    udpPacket(NOTHING, { ...V4, destinationPort: 2001 }),
    udpPacket(NOTHING, { ...V4, source: '10.0.0.3' }),
    udpPacket(NOTHING, { ...V4, destination: '10.0.0.3' }),
    udpPacket(NOTHING, V6),
    ...['2001:db9:1:2:3:4:5:6', '2001:db8:1:3:3:4:5:6', '2001:db8:1:2:3:5:5:6', '2001:db8:1:2:3:4:5:7'].map((source) =>
      udpPacket(NOTHING, { ...V6, source }),
    ),
    ...['2001:db9:9:8:7:6:5:4', '2001:db8:9:7:7:6:5:4', '2001:db8:9:8:7:5:5:4', '2001:db8:9:8:7:6:5:3'].map((destination) =>
      udpPacket(NOTHING, { ...V6, destination }),
    ),
  ].map(viewOf);
  for (const [i, first] of packets.entries()) {
    for (const [j, second] of packets.entries()) {
      const cache = new FlowCache<number>(1);
      expect(cache.find(first, 0)).toBeUndefined();
      cache.remember(first, 0, i);
      expect(cache.find(second, 0)).toBe(i === j ? i : undefined);
      expect(cache.find(second, 1)).toBeUndefined();
    }
  }
});

test('a set has two places; the third flow takes that of the oldest, and invalidate empties all', () => {
  const cache = new FlowCache<string>(1);
  const [a, b, c] = [1, 2, 3].map((sourcePort) => viewOf(udpPacket(NOTHING, { ...V4, sourcePort })));
  for (const [flow, name] of [
    [a, 'a'],
    [b, 'b'],
    [c, 'c'],
  ] as const) {
    cache.find(flow!, 0);
    cache.remember(flow!, 0, name);
  }
  expect([a, b, c].map((flow) => cache.find(flow!, 0))).toEqual([undefined, 'b', 'c']);
  cache.invalidate();
  expect([a, b, c].map((flow) => cache.find(flow!, 0))).toEqual([undefined, undefined, undefined]);
});

test('flows that keep taking each other\u2019s places make it grow, up to 65,536 and no further', () => {
  const cache = new FlowCache<number>(2);
  const view = new IpPacket(udpPacket(NOTHING, V4));
  view.read(0, 28);
  for (let round = 0; round < 3; round++) {
    for (let flow = 0; flow < 200_000; flow++) {
      view.source0 = flow;
      if (cache.find(view, 0) === undefined) cache.remember(view, 0, flow);
      if (flow % 1000 === 0) expect(cache.find(view, 0)).toBe(flow);
    }
  }
  expect(cache.capacity).toBe(65_536);
});

test('flows that have little room among others are soon found again, nearly all, in whichever order they come', () => {
  const cache = new FlowCache<number>();
  const view = new IpPacket(udpPacket(NOTHING, V4));
  view.read(0, 28);
  const misses = [0, 1, 2, 3, 4, 5].map(() => {
    let missed = 0;
    for (let flow = 0; flow < 2500; flow++) {
      view.destination0 = 0x0a400009 + (flow << 8);
      if (cache.find(view, 0) !== undefined) continue;
      cache.remember(view, 0, flow);
      missed++;
    }
    return missed;
  });
  expect(misses.at(-1)).toBeLessThan(100);
});
