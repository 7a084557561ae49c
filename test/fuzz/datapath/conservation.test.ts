/**
 * Whatever is done to outer and inner packets, every one that goes in comes out, waits for an SA, or is counted as dropped under a name: sent is
 * delivered and consumed and kept and the sum of all drops, after each batch and for each direction (RFC 4301 §5, RFC 4303 §3.4). The bulk
 * goes by a cipher that costs nothing, a share by a real one.
 */

import { expect, test } from 'vitest';
import { cat, u16be } from '../../../src/bytes/bytes.ts';
import type { PacketCipher } from '../../../src/crypto/packet-cipher.ts';
import { noblePacketCipher } from '../../../src/crypto/packet-cipher-noble.ts';
import { DROP, dropName } from '../../../src/datapath/drops.ts';
import type { Sa } from '../../../src/datapath/sa.ts';
import { FRAME_FLAG, GSO, INPUT, OUTPUT } from '../../../src/datapath/slots.ts';
import type { SaParameters } from '../../../src/ipsec/sa.ts';
import { selectorOf as trafficSelectorOf } from '../../../src/ipsec/selector.ts';
import { COUNT, MemoryBound } from '../../support/fuzz.ts';
import { type Numbers, numbers } from '../../support/mutate.ts';
import { sumCipher } from '../../support/sum-cipher.ts';
import {
  at,
  copyOf,
  ip,
  ipPacket,
  NOW,
  Node,
  policyOf,
  saOf,
  selectorOf,
  tcpPacket,
  templateOf,
  udpPacket,
} from '../../unit/datapath/pair.ts';

/** 10 million where the long run asks for 100,000 of the others. */
const BULK = COUNT >= 100_000 ? 100 * COUNT : 20 * COUNT;
const REAL = COUNT;
const SLOTS = 32;
/** A batch takes a millisecond; now and then a minute passes, so that every time-out comes. */
const timeOf = (batch: number) => at(batch + 60_000 * Math.floor(batch / 2000));
const EDGES = [0, 1, 4, 6, 0x40, 0x45, 0x60, 0x7f, 0x80, 0xfe, 0xff] as const;
const NULL_SHA = { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha1' } as const;

/** Where packets go, and what becomes of them; the same in both families. */
const NETS = { tunnel: 2, bundle: 3, discard: 4, bypass: 5, wanting: 6, nowhere: 7, ports: 8, beet: 9 } as const;
const inner = (family: 4 | 6, net: number) =>
  family === 4 ? { source: '10.1.0.1', destination: `10.${net}.0.2` } : { source: 'fd00:1::1', destination: `fd00:${net}::2` };
const HOSTS = {
  4: { source: '192.0.2.1', destination: '192.0.2.2' },
  6: { source: '2001:db8::1', destination: '2001:db8::2' },
} as const;

/** Both directions under test in one engine, and a peer that seals what it receives. */
class Subject {
  readonly node: Node;
  readonly peer: Node;
  readonly #sealers: Sa[] = [];
  /** The peer's. */
  readonly #cipher: PacketCipher;
  readonly #seeds: readonly Uint8Array[];
  readonly #random: Numbers;
  /** What went in, and what came of it. */
  readonly tally = { sent: 0, delivered: 0, consumed: 0 };

  constructor(cipherOf: (arena: Uint8Array) => PacketCipher, random: Numbers) {
    this.#random = random;
    const arenas = [0, 1].map(() => new Uint8Array((SLOTS + 2) * 66_000 + 3 * 1024 * 1024));
    const nodeOf = (arena: Uint8Array, cipher: PacketCipher) => {
      const node = new Node(
        { arena, cipher, unmatched: 'discard', coalesce: false, larvalLifetime: 500, outputBytes: 2 ** 21, icmpErrors: true },
        SLOTS,
      );
      return Object.assign(node, { arena });
    };
    this.node = nodeOf(arenas[0]!, cipherOf(arenas[0]!));
    this.#cipher = cipherOf(arenas[1]!);
    this.peer = nodeOf(arenas[1]!, this.#cipher);
    for (const family of [4, 6] as const) this.#furnish(family);
    this.#seeds = ([4, 6] as const).flatMap(seedsOf);
  }

  #furnish(family: 4 | 6): void {
    const { source, destination } = HOSTS[family];
    const [here, there] = [ip(source), ip(destination)];
    const spi = family * 0x1000;
    const esp = (changes: Partial<SaParameters>) => saOf({ source: here, destination: there, replayWindow: 64, ...changes });
    const ah = (changes: Partial<SaParameters>) => esp({ protocol: 'ah', suite: NULL_SHA, ...changes });
    const tunnel = esp({ spi, reqid: family * 10, extendedSequence: family === 6 });
    const transport = esp({ spi: spi + 1, reqid: family * 10 + 1, mode: 'transport' });
    const inside = esp({ spi: spi + 2, reqid: family * 10 + 2 });
    const around = ah({ spi: spi + 3, reqid: family * 10 + 3, mode: 'transport' });
    const ends = inner(family, NETS.beet);
    const host = (text: string) => [trafficSelectorOf({ address: ip(text), length: family === 4 ? 32 : 128 })];
    const beet = esp({
      spi: spi + 4,
      reqid: family * 10 + 4,
      mode: 'beet',
      selectors: { source: host(ends.source), destination: host(ends.destination) },
    });
    const request = ({ protocol, mode, reqid }: SaParameters) => templateOf({ protocol, mode, reqid });
    const bits = family === 4 ? 16 : 32;
    const to = (net: number) => ({ address: ip(inner(family, net).destination), length: bits });
    for (const direction of ['outbound', 'inbound'] as const) {
      const add = (net: number, changes: Parameters<typeof policyOf>[0]) =>
        this.node.engine.addPolicy(
          policyOf({ direction, selector: selectorOf({ destination: to(net) }, family), ...changes }),
          NOW,
        );
      add(NETS.tunnel, { templates: [request(tunnel)] });
      add(NETS.bundle, { templates: [request(inside), request(around)] });
      add(NETS.beet, { templates: [request(beet)] });
      add(NETS.discard, { action: 'discard' });
      add(NETS.bypass, { action: 'bypass' });
      const ports = { protocol: 17, destinationPort: 53, destination: to(NETS.ports) };
      add(NETS.ports, { selector: selectorOf(ports, family), templates: [request(tunnel)] });
      add(NETS.wanting, { templates: [templateOf({ reqid: 99 })] });
      const host = { source: { address: here, length: bits * 2 }, destination: { address: there, length: bits * 2 } };
      this.node.engine.addPolicy(
        policyOf({ direction, selector: selectorOf(host, family), templates: [request(transport)] }),
        NOW,
      );
    }
    for (const sa of [tunnel, transport, inside, around, beet]) {
      this.node.engine.addSa(copyOf(sa), NOW, 'outbound');
      this.node.engine.addSa(copyOf({ ...sa, spi: sa.spi + 0x100 }), NOW, 'inbound');
      const sealer = this.peer.engine.addSa(copyOf({ ...sa, spi: sa.spi + 0x100 }), NOW, 'outbound');
      this.#sealers.push(sealer);
    }
  }

  /** A seed, mutated or now and then as it is, at `to`: its length. */
  #lay(bytes: Uint8Array, to: number, room: number): number {
    const seed = this.#seeds[this.#random(this.#seeds.length)]!;
    bytes.set(seed, to);
    return this.#random(6) === 0 ? seed.length : mutateAt(bytes, to, seed.length, room, this.#random);
  }

  /** One batch of packets from the device. */
  outbound(batch: number): void {
    const { engine, arena } = this.node;
    const { inputs } = engine;
    const random = this.#random;
    const now = timeOf(batch);
    const isFrame = batch % 4 === 0;
    const count = isFrame ? 1 : SLOTS;
    for (let slot = 0; slot < count; slot++) {
      inputs.takePacket(slot, INPUT.frame, this.#lay(arena, inputs.buffer[slot]!, 2000));
      if (random(4) === 0) inputs.flags[slot] = random(2) === 0 ? FRAME_FLAG.needsChecksum : random(256);
      inputs.checksumStart[slot] = random(2) === 0 ? 20 : random(70);
      inputs.checksumOffset[slot] = random(3) === 0 ? random(3000) : 16;
      if (!isFrame) continue;
      inputs.gsoType[slot] = [GSO.tcp4, GSO.tcp6, GSO.udp, 3, random(128)][random(5)]!;
      inputs.segmentBytes[slot] = [0, 1, 7, 100, 1400, 65_535][random(6)]!;
    }
    this.tally.sent += count;
    const dropped = engine.drops.total - this.#discarded;
    for (let done = 0; done < count; ) {
      done += engine.protectBatch(done, count - done, now);
      const before = this.tally.delivered;
      this.#countOutputs(true);
      if (isFrame) this.tally.delivered = Math.min(this.tally.delivered, before + 1);
    }
    this.#checkNames(count, engine.drops.total - this.#discarded - dropped);
    while (engine.hasReleasable) {
      engine.releaseHeld(now);
      this.#countOutputs();
    }
    const due = engine.wakeAt();
    if (due !== undefined && due <= now.mono) engine.tick(now);
    engine.drain();
    this.#checkLaw();
  }

  /** `protecting`: what goes to the device are answers about packets that were dropped. */
  #countOutputs(protecting = false): void {
    const { outputs } = this.node.engine;
    for (let i = 0; i < outputs.count; i++) {
      if (protecting && outputs.kind[i] === OUTPUT.device) continue;
      if (outputs.kind[i] === OUTPUT.ike) this.tally.consumed++;
      else this.tally.delivered += outputs.kind[i] === OUTPUT.esp ? outputs.segments[i]! : 1;
    }
  }

  /** One batch of packets from the network: sealed around what may be broken, and then broken or not. */
  inbound(batch: number): void {
    const { engine, arena } = this.node;
    const { inputs } = engine;
    const random = this.#random;
    for (let slot = 0; slot < SLOTS; slot++) {
      const to = inputs.buffer[slot]!;
      let { kind, length } = this.#seal(to);
      if (random(3) > 0) length = mutateAt(arena, to, length, 3000, random);
      if (kind !== INPUT.ah && random(16) === 0) kind = [INPUT.udp, INPUT.raw, INPUT.rawWithHeader][random(3)]!;
      if (kind === INPUT.udp && random(16) === 0) {
        length = random(6);
        arena.fill([0, 0xff][random(2)]!, to, to + length);
      }
      inputs.takePacket(slot, kind, length);
      inputs.trafficClass[slot] = random(4);
      inputs.localFamily[slot] = 0;
      if (kind === INPUT.udp && length === 1 && arena[to] === 0xff) this.tally.consumed++;
    }
    this.tally.sent += SLOTS;
    const dropped = engine.drops.total - this.#discarded;
    for (let done = 0; done < SLOTS; ) {
      done += engine.unprotectBatch(done, SLOTS - done, timeOf(batch));
      this.#countOutputs();
    }
    this.#checkNames(SLOTS, engine.drops.total - this.#discarded - dropped);
    engine.drain();
    this.#checkLaw();
  }

  /** A packet of one of the peer's SAs, written to `to`: how it arrives, and its length. */
  #seal(to: number): { kind: number; length: number } {
    const { arena, engine } = this.peer;
    const { esp, ah, outputs } = engine.core;
    const random = this.#random;
    const sa = this.#sealers[random(this.#sealers.length)]!;
    const { source, destination, protocol } = sa.parameters;
    const headerBytes = source.family === 4 ? 20 : 40;
    outputs.clear();
    const ipAt = (outputs.at + 15) & ~15;
    const isAh = protocol === 'ah';
    const nextHeader = [4, 41, source.family === 4 ? 4 : 41, 17, 6, 50, 59, 94, random(256)][random(9)]!;
    const bodyAt = isAh ? ipAt + headerBytes + ah.headerBytes(sa, source.family) : esp.payloadAt(sa, ipAt + headerBytes);
    const bodyBytes = this.#lay(arena, bodyAt, 2000);
    const whole = isAh ? bodyAt + bodyBytes - ipAt : headerBytes + esp.sealedBytes(sa, bodyBytes);
    engine.core.ipHeaders.write(ipAt, source, destination, isAh ? 51 : 50, whole - headerBytes, 0, 7, 0);
    if (isAh) ah.seal(sa, ipAt, whole, ipAt + headerBytes, nextHeader, ipAt + 8192);
    else {
      esp.seal(sa, ipAt + headerBytes, bodyBytes, nextHeader);
      if (random(32) === 0) this.#padWrongly(sa, ipAt + headerBytes, bodyAt, whole - headerBytes - sa.icvBytes);
    }
    const hasHeader = isAh || (source.family === 4 && random(2) === 0);
    const from = hasHeader ? ipAt : ipAt + headerBytes;
    this.node.arena.set(arena.subarray(from, ipAt + whole), to);
    const kind = isAh ? INPUT.ah : hasHeader ? INPUT.rawWithHeader : random(2) === 0 ? INPUT.raw : INPUT.udp;
    return { kind, length: ipAt + whole - from };
  }

  /** A peer that pads as it likes, and authenticates that. */
  #padWrongly(sa: Sa, espAt: number, textAt: number, octets: number): void {
    const trailerAt = espAt + octets - 2;
    this.peer.arena[trailerAt] = 255 - this.#random(64);
    this.#cipher.seal(sa.sealHandle, espAt, trailerAt + 2 - textAt, sa.extended ? 0 : -1);
  }

  /** One batch of packets that came in clear. */
  clear(): void {
    const { engine, arena } = this.node;
    const { inputs } = engine;
    for (let slot = 0; slot < SLOTS; slot++) inputs.takePacket(slot, INPUT.clear, this.#lay(arena, inputs.buffer[slot]!, 2000));
    this.tally.sent += SLOTS;
    const dropped = engine.drops.total - this.#discarded;
    this.tally.delivered += engine.checkClear(0, SLOTS);
    this.#checkNames(SLOTS, engine.drops.total - this.#discarded - dropped);
    this.#checkLaw();
  }

  /** Fragments that were dropped after they had been kept: no slot says so. */
  get #discarded(): number {
    const { inbound, outbound } = this.node.engine.core.fragments;
    return inbound.discarded + outbound.discarded;
  }

  /** As many slots say that they were dropped, and why, as the counters do. */
  #checkNames(count: number, dropped: number): void {
    const { drop } = this.node.engine.inputs;
    let named = 0;
    for (let slot = 0; slot < count; slot++) if (drop[slot] !== DROP.none && dropName(drop[slot]!) !== 'none') named++;
    if (named !== dropped) expect(named, JSON.stringify(this.node.engine.drops)).toBe(dropped);
  }

  #checkLaw(): void {
    const { drops, core } = this.node.engine;
    const { sent, delivered, consumed } = this.tally;
    const { inbound, outbound } = core.fragments;
    const gathering = inbound.held + outbound.held + outbound.joined;
    const kept = core.acquires.held + core.acquires.ready + core.early.held + core.early.ready + gathering;
    if (delivered + consumed + kept + drops.total === sent) return;
    expect({
      delivered,
      consumed,
      kept,
      drops: drops.total,
      sum: delivered + consumed + kept + drops.total,
      of: drops.toJSON(),
    }).toMatchObject({ sum: sent });
  }
}

function seedsOf(family: 4 | 6): Uint8Array[] {
  const nets = Object.values(NETS).flatMap((net) => {
    const ends = inner(family, net);
    return [
      tcpPacket(1, new Uint8Array(300), ends),
      udpPacket(new Uint8Array(40), ends),
      ipPacket(family === 4 ? 1 : 58, new Uint8Array(16), ends),
    ];
  });
  const hosts = udpPacket(new Uint8Array(40), HOSTS[family]);
  const ported = udpPacket(new Uint8Array(72), { ...inner(family, NETS.ports), destinationPort: 53 });
  const fragment = udpPacket(new Uint8Array(40), inner(family, NETS.tunnel));
  if (family === 4) fragment.set([0x20, 0x00], 6);
  const rich = [hosts, udpPacket(new Uint8Array(40), inner(family, NETS.beet))].map(family === 4 ? withOptions : withHeaders);
  return [
    ...nets,
    hosts,
    hosts,
    ...rich,
    family === 4 ? fragment : withHeaders(fragment),
    tcpPacket(1, new Uint8Array(1300), HOSTS[family]),
    ...halves(ported),
    ...halves(hosts),
  ];
}

/** Two fragments. */
function halves(packet: Uint8Array): Uint8Array[] {
  const is4 = packet[0]! >> 4 === 4;
  const header = packet.slice(0, is4 ? 20 : 40);
  const payload = packet.slice(header.length);
  return [payload.slice(0, 24), payload.slice(24)].map((part, i) => {
    const fragment = is4 ? cat(header, part) : cat(header, Uint8Array.of(17, 0, 0, i === 0 ? 1 : 24, 0, 0, 0, 5), part);
    if (is4) fragment.set(i === 0 ? [0x20, 0] : [0, 3], 6);
    else fragment[6] = 44;
    fragment.set(u16be(is4 ? fragment.length : fragment.length - 40), is4 ? 2 : 4);
    return fragment;
  });
}

function withOptions(packet: Uint8Array): Uint8Array {
  const longer = cat(packet.slice(0, 20), Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 0), packet.slice(20));
  longer[0] = 0x48;
  longer.set(u16be(longer.length), 2);
  return longer;
}

function withHeaders(packet: Uint8Array): Uint8Array {
  const headers = Uint8Array.of(60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 9);
  const longer = cat(packet.slice(0, 40), headers, packet.slice(40));
  longer[6] = 0;
  longer.set(u16be(longer.length - 40), 4);
  return longer;
}

/** One to three changes in place: the new length. Half of them in the headers, where they matter. */
function mutateAt(bytes: Uint8Array, from: number, octets: number, room: number, random: Numbers): number {
  let length = octets;
  for (let i = random(3); i >= 0 && length > 0; i--) {
    const here = from + random(random(2) === 0 ? Math.min(length, 64) : length);
    switch (random(8)) {
      case 0:
      case 1:
        bytes[here]! ^= 1 << random(8);
        break;
      case 2:
        bytes[here] = EDGES[random(EDGES.length)]!;
        break;
      case 3:
        bytes[here] = random(256);
        break;
      case 4:
        bytes[here]! += random(2) === 0 ? 1 : -1;
        break;
      case 5:
        length = random(2) === 0 ? here - from : random(length);
        break;
      case 6: {
        const cut = Math.min(random(20) + 1, from + length - here);
        bytes.copyWithin(here, here + cut, from + length);
        length -= cut;
        break;
      }
      default: {
        const more = Math.min(random(20) + 1, room - length);
        if (more <= 0) break;
        bytes.copyWithin(here + more, here, from + length);
        length += more;
      }
    }
  }
  return length;
}

for (const [name, count, cipherOf] of [
  ['a checksum for a cipher', BULK, sumCipher],
  ['real ciphers', REAL, noblePacketCipher],
] as const)
  test(`${count} mutated packets by ${name}: sent is delivered, consumed, kept or dropped by name`, {
    timeout: 120_000 + count,
  }, () => {
    const random = numbers(46);
    const subject = new Subject(cipherOf, random);
    const memory = new MemoryBound(count);
    const began = performance.now();
    for (let batch = 0; subject.tally.sent < count; batch++) {
      const { sent } = subject.tally;
      if (batch % 8 === 7) subject.clear();
      else if (batch % 2 === 0) subject.outbound(batch);
      else subject.inbound(batch);
      memory.mutant(subject.tally.sent - sent);
    }
    memory.end();
    const { engine } = subject.node;
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    process.stdout.write(
      `${name}, ${seconds} s: ${JSON.stringify({ ...subject.tally, kept: engine.core.acquires.held, ...engine.drops.toJSON() })}\n`,
    );
    // It reaches every corner: what is not listed cannot happen here, with no SA of IPComp, no path that was found narrow and no ICMP from outside; fragments of so many packets
    // as there is no room for take longer to come.
    const cannot = [
      'none',
      'unsupported',
      'cipherFailed',
      'acquireFailed',
      'noRoom',
      'badCompression',
      'tooBig',
      'forgedIcmp',
      'reassemblyFull',
    ];
    if (count >= 100_000)
      expect(
        Object.keys(DROP).filter((reason) => engine.drops.of(reason as keyof typeof DROP) === 0 && !cannot.includes(reason)),
      ).toEqual([]);
  });
