/** Hostile AH and bundles: mutated packets, headers and options are dropped by name, and what was not authenticated leaves no trace (RFC 4302 §3.4). */
import { expect, test } from 'vitest';
import { cat, u16be } from '../../../src/bytes/bytes.ts';
import { INPUT } from '../../../src/datapath/slots.ts';
import { IpPacket } from '../../../src/net/ip-packet.ts';
import { COUNT, LIMIT, MemoryBound } from '../../support/fuzz.ts';
import { mutate, numbers } from '../../support/mutate.ts';
import { copyOf, ip, NOW, Node, pair, policyOf, saOf, selectorOf, templateOf, udpPacket } from '../../unit/datapath/pair.ts';

const HOSTS = {
  4: { source: '192.0.2.1', destination: '192.0.2.2' },
  6: { source: '2001:db8::1', destination: '2001:db8::2' },
} as const;
const NULL_SHA = { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha1' } as const;

function ahSa(family: 4 | 6, mode: 'transport' | 'tunnel') {
  const { source, destination } = HOSTS[family];
  return saOf({ protocol: 'ah', mode, suite: NULL_SHA, source: ip(source), destination: ip(destination) });
}

/** Record route, security and padding in IPv4; hop-by-hop options, a route and destination options in IPv6. */
function rich(family: 4 | 6): Uint8Array {
  const plain = udpPacket(new Uint8Array(40), HOSTS[family]);
  if (family === 4) {
    const options = Uint8Array.of(130, 4, 1, 2, 7, 7, 4, 0, 0, 0, 0, 131, 7, 4, 192, 0, 2, 2, 1, 0);
    const packet = cat(plain.slice(0, 20), options, plain.slice(20));
    packet[0] = 0x4a;
    packet.set(u16be(packet.length), 2);
    return packet;
  }
  const headers = cat(
    Uint8Array.of(43, 0, 0x3e, 4, 1, 2, 3, 4),
    Uint8Array.of(60, 2, 0, 1, 0, 0, 0, 0),
    ip('2001:db8::9').bytes,
    Uint8Array.of(17, 2, 1, 2, 0, 0, 0xc9, 16),
    ip('2001:db8::8').bytes,
  );
  const packet = cat(plain.slice(0, 40), headers, plain.slice(40));
  packet[6] = 0;
  packet.set(u16be(packet.length - 40), 4);
  return packet;
}

function accounted(node: Node, before: number, gave: number): void {
  const dropped = node.engine.drops.total - before;
  expect(dropped + gave).toBe(1);
  if (dropped === 1) expect(node.drop(0)).not.toBe('none');
}

test(`${COUNT} mutated packets of AH give named drops and move no window`, LIMIT, () => {
  const memory = new MemoryBound();
  const random = numbers(21);
  for (const family of [4, 6] as const) {
    for (const mode of ['transport', 'tunnel'] as const) {
      const { a, b } = pair(ahSa(family, mode));
      a.protect([rich(family)]);
      const [valid] = a.clears();
      const [receiver] = [...b.engine.core.sad.all];
      for (let i = 0; i < COUNT / 4; i++) {
        memory.mutant();
        const before = b.engine.drops.total;
        const frames = b.unprotect([{ bytes: mutate(valid!, random), path: 0, trafficClass: 0 }], INPUT.ah);
        accounted(b, before, frames.length);
        if (frames.length === 0) expect(receiver!.window.top).toBeLessThanOrEqual(1);
      }
      expect(receiver!.packets).toBeLessThanOrEqual(1);
    }
  }
  memory.end();
});

test(`${COUNT} mutated packets from the device go through AH, or are dropped by name, and what goes comes in`, LIMIT, () => {
  const memory = new MemoryBound();
  const random = numbers(22);
  for (const family of [4, 6] as const) {
    const { a, b } = pair(ahSa(family, 'transport'));
    const view = (packet: Uint8Array) => new IpPacket(packet);
    for (let i = 0; i < COUNT / 2; i++) {
      memory.mutant();
      const packet = mutate(rich(family), random);
      const before = a.engine.drops.total;
      const { outbound } = a.engine.core.fragments;
      const gathered = outbound.held + outbound.joined;
      a.protect([packet]);
      const wires = a.clears();
      if (a.engine.hasReleasable || a.engine.core.acquires.pending.length > 0) {
        // Other addresses: another SA is asked for.
        a.engine.core.acquires.forget([...a.engine.core.acquires.pending]);
        continue;
      }
      // A fragment waits for others.
      accounted(a, before, wires.length + outbound.held + outbound.joined - gathered);
      // A route that is not at its end is not yet at a receiver.
      const isThere = wires.length === 1 && view(wires[0]!).read(0, wires[0]!.length) && wires[0]![9] === 51 && family === 4;
      if (!isThere || wires[0]!.includes(131)) continue;
      const dropped = b.engine.drops.total;
      accounted(b, dropped, b.unprotect([{ bytes: wires[0]!, path: 0, trafficClass: 0 }], INPUT.ah).length);
      expect(b.drop(0)).not.toBe('badIcv');
    }
  }
  memory.end();
});

test(`${COUNT} mutated packets in ESP in AH, all properly sealed, give packets or named drops`, LIMIT, () => {
  const memory = new MemoryBound();
  const random = numbers(23);
  const esp = saOf({ spi: 0x1001, mode: 'transport', reqid: 11 });
  const ah = { ...ahSa(4, 'transport'), spi: 0x1002, reqid: 12 };
  const templates = [esp, ah].map(({ protocol, mode, reqid }) => templateOf({ protocol, mode, reqid }));
  const a = new Node();
  const b = new Node();
  b.engine.addPolicy(policyOf({ direction: 'inbound', selector: selectorOf(), templates }), NOW);
  for (const sa of [esp, ah]) {
    b.engine.addSa(copyOf(sa), NOW, 'inbound');
  }
  const outer = a.engine.addSa(copyOf(ah), NOW);
  const inner = a.engine.addSa(copyOf(esp), NOW);
  const seed = udpPacket(new Uint8Array(40), HOSTS[4]);
  const { outputs, esp: sealer, ah: around } = a.engine.core;
  for (let i = 0; i < COUNT; i++) {
    memory.mutant();
    outputs.clear();
    const at = outputs.at + 64;
    const payload = mutate(seed.slice(20), random);
    const ahBytes = around.headerBytes(outer, 4);
    a.arena.set(payload, sealer.payloadAt(inner, at + 20 + ahBytes));
    const sealed = sealer.seal(inner, at + 20 + ahBytes, payload.length, [17, 6, 50, 51, 4, 59, random(256)][random(7)]!);
    const length = 20 + ahBytes + sealed;
    a.arena.set(seed.slice(0, 20), at);
    a.arena[at + 9] = 51;
    a.arena.set(u16be(length), at + 2);
    expect(around.seal(outer, at, length, at + 20, 50, outputs.at + 8192)).toBe(0);
    const before = b.engine.drops.total;
    const frames = b.unprotect([{ bytes: a.arena.slice(at, at + length), path: 0, trafficClass: 0 }], INPUT.ah);
    accounted(b, before, frames.length);
  }
  expect(Object.keys(b.engine.drops.toJSON())).not.toContain('badIcv');
  memory.end();
});
