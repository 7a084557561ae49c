import { expect, test } from 'vitest';
import { INPUT } from '../../../src/datapath/slots.ts';
import { selectorOf } from '../../../src/ipsec/selector.ts';
import { COUNT, LIMIT, MemoryBound } from '../../support/fuzz.ts';
import {
  at,
  ip,
  NOW,
  type Node,
  pair,
  rawIpv4,
  saOf,
  seeded,
  tcpPacket,
  udpPacket,
  type Wire,
} from '../../unit/datapath/pair.ts';

/** Flips, cuts, inserts and repeats octets. */
function mutate(bytes: Uint8Array, number: (below: number) => number): Uint8Array {
  let changed = bytes.slice();
  for (let i = number(4) + 1; i > 0; i--) {
    const here = number(changed.length + 1);
    const kind = number(5);
    if (kind === 0 && changed.length > 0) changed[here % changed.length]! ^= 1 << number(8);
    else if (kind === 1 && changed.length > 0) changed[here % changed.length] = [0, 1, 0x7f, 0x80, 0xff][number(5)]!;
    else if (kind === 2) changed = changed.slice(0, here);
    else if (kind === 3) changed = changed.slice(here);
    else changed = Uint8Array.of(...changed.subarray(0, here), number(256), ...changed.subarray(here)).subarray(0, 2000);
  }
  return changed;
}

function numbers(seed: number): (below: number) => number {
  const random = seeded(seed);
  return (below) => {
    const [a, b, c] = random(3);
    return ((a! << 16) | (b! << 8) | c!) % below;
  };
}

const host = (text: string) => [selectorOf({ address: ip(text), length: 32 })];
const BEET = saOf({ mode: 'beet', selectors: { source: host('10.1.0.1'), destination: host('10.2.0.2') } });

/** Every packet either comes out or is counted under a name, and nothing is thrown. */
function expectAccounted(node: Node, before: number): void {
  const dropped = node.engine.drops.total - before;
  expect([0, 1]).toContain(dropped);
  if (dropped === 1) expect(node.drop(0)).not.toBe('none');
}

test(`${COUNT} mutated ESP packets give named drops, move no window and tell nothing`, LIMIT, () => {
  const memory = new MemoryBound();
  const number = numbers(11);
  for (const [sa, kind] of [
    [saOf(), INPUT.rawWithHeader],
    [saOf({ suite: { encr: 'aes_cbc', keyBits: 128, integ: 'hmac_sha2_256' }, mode: 'transport' }), INPUT.udp],
    [saOf({ extendedSequence: true }), INPUT.raw],
    [BEET, INPUT.rawWithHeader],
  ] as const) {
    const { a, b } = pair(sa);
    const inner = sa.mode === 'transport' ? { source: '192.0.2.1', destination: '192.0.2.2' } : {};
    const [wire] = a.protect([udpPacket(new Uint8Array(60), inner)]) as [Wire];
    const valid = kind === INPUT.rawWithHeader ? rawIpv4(wire.bytes, sa) : wire.bytes;
    const [receiver] = [...b.engine.core.sad.all];
    for (let i = 0; i < COUNT / 4; i++) {
      memory.mutant();
      const bytes = mutate(valid, number);
      const before = b.engine.drops.total;
      const frames = b.unprotect([{ ...wire, bytes }], kind, undefined, at(i));
      expectAccounted(b, before);
      // What was not touched where it counts (an outer header, a non-ESP marker) may pass, once.
      if (frames.length > 0) expect(frames[0]!.packet.slice(20)).toEqual(udpPacket(new Uint8Array(60), inner).slice(20));
      else expect(receiver!.window.top).toBeLessThanOrEqual(1);
    }
    expect(b.engine.drain()).toEqual([]);
    expect(receiver!.packets).toBeLessThanOrEqual(1);
  }
  memory.end();
});

test(`${COUNT} mutated inner packets, properly sealed, give named drops`, LIMIT, () => {
  const memory = new MemoryBound();
  const number = numbers(12);
  for (const parameters of [saOf(), BEET]) {
    const { a, b } = pair(parameters);
    // An entry of its own for everything: what the sender's engine refuses to protect never reaches the receiver.
    const seeds = [
      tcpPacket(1, new Uint8Array(30)),
      udpPacket(new Uint8Array(30), { source: 'fd00:1::1', destination: 'fd00:2::2' }),
      hopByHop(),
    ];
    const { esp, sad, outputs } = a.engine.core;
    const [sender] = [...sad.all];
    for (let i = 0; i < COUNT / 2; i++) {
      memory.mutant();
      const inner = mutate(seeds[i % seeds.length]!, number);
      outputs.clear();
      a.arena.set(inner, esp.payloadAt(sender!, outputs.at));
      const length = esp.seal(sender!, outputs.at, inner.length, [4, 41, 59, 6, 94, number(256)][number(6)]!);
      const bytes = a.arena.slice(outputs.at, outputs.at + length);
      const before = b.engine.drops.total;
      const frames = b.unprotect([{ bytes, path: 0, trafficClass: number(4) }], INPUT.udp, undefined, NOW);
      expectAccounted(b, before);
      if (b.engine.drops.total === before) expect(frames).toHaveLength(1);
    }
  }
  memory.end();
});

test(`${COUNT} mutated frames from the device give packets or named drops`, LIMIT, () => {
  const memory = new MemoryBound();
  const number = numbers(13);
  const { a } = pair();
  const seeds = [
    tcpPacket(1, new Uint8Array(900)),
    udpPacket(new Uint8Array(900)),
    tcpPacket(1, new Uint8Array(900), { source: 'fd00:1::1', destination: 'fd00:2::2' }),
  ];
  for (let i = 0; i < COUNT; i++) {
    memory.mutant();
    const packet = mutate(seeds[i % seeds.length]!, number);
    const header = Uint8Array.of(
      number(3),
      [0, 1, 4, 5, 3, 0x81][number(6)]!,
      number(256),
      0,
      number(256),
      number(2),
      number(100),
      0,
      number(30),
      0,
    );
    const before = a.engine.drops.total;
    const wires = a.protectFrame(header, packet);
    expectAccounted(a, before);
    if (a.engine.drops.total === before) expect(wires.length + a.clears().length).toBeGreaterThan(0);
  }
  memory.end();
});

test('runs of ESP with impossible segment sizes give named drops', () => {
  const { a, b } = pair(saOf(), { outputs: 16, outputBytes: 16_384 });
  const [wire] = a.protect([udpPacket(new Uint8Array(60))]) as [Wire];
  const run = new Uint8Array(60_000);
  for (let i = 0; i < run.length; i++) run[i] = wire.bytes[i % wire.bytes.length]!;
  b.arena.set(run, b.engine.inputs.buffer[0]!);
  for (const segmentBytes of [1, 2, 3, 4, 5, 7, 8, 9, wire.bytes.length, 59_999, 60_000, 65_535]) {
    b.engine.inputs.takePacket(0, INPUT.udp, run.length, segmentBytes);
    const before = b.engine.drops.total;
    expect(b.engine.unprotectBatch(0, 1, NOW)).toBe(1);
    expect(b.engine.drops.total).toBeGreaterThan(before);
  }
});

function hopByHop(): Uint8Array {
  const packet = udpPacket(new Uint8Array(24), { source: 'fd00:1::1', destination: 'fd00:2::2' });
  packet[6] = 0;
  packet.set([60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0], 40);
  return packet;
}
