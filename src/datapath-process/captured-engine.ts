/**
 * The packet engine with a capture in front of it: while one is on, what goes into a batch is copied before, and what comes of it behind. An outer
 * packet is captured as it is on the wire, with the headers that the kernel puts before it or has taken away (RFC 3948 §2.1).
 */

import type { PacketEngine } from '../datapath/datapath.ts';
import { DONT_FRAGMENT, IpHeaders } from '../datapath/ip-header.ts';
import { INPUT, OUTPUT } from '../datapath/slots.ts';
import type { Instant } from '../machine.ts';
import { IpAddress, type Path } from '../net/address.ts';
import { Checksum } from '../net/checksum.ts';
import { IpPacket } from '../net/ip-packet.ts';
import type { CapturedPacket } from '../net/pcapng.ts';
import { PROTOCOL } from '../net/transport.ts';
import type { Candidate, Capture } from './capture.ts';
import { KEEPALIVE_OCTET, NON_ESP_MARKER } from './engine-host.ts';

const UDP_BYTES = 8;
/** Before a payload that gets headers: those of IPv6 and UDP. */
const HEADERS = 64;
const LONGEST = 65_535;

type Way = Pick<CapturedPacket, 'interface' | 'direction'>;
const INNER_OUT: Way = { interface: 'inner', direction: 'outbound' };
const INNER_IN: Way = { interface: 'inner', direction: 'inbound' };
const OUTER_OUT: Way = { interface: 'outer', direction: 'outbound' };
const OUTER_IN: Way = { interface: 'outer', direction: 'inbound' };

export class CapturedEngine implements PacketEngine {
  readonly inputs: PacketEngine['inputs'];
  readonly outputs: PacketEngine['outputs'];
  readonly drops: PacketEngine['drops'];
  readonly #engine: PacketEngine;
  readonly #capture: Capture;
  readonly #arena: Uint8Array;
  readonly #scratch = new Uint8Array(HEADERS + LONGEST + 1);
  readonly #view = new DataView(this.#scratch.buffer);
  readonly #headers = new IpHeaders(this.#scratch, new Checksum(this.#scratch));
  readonly #packet = new IpPacket(this.#scratch);
  /** What goes into the batch at hand, by slot: it is kept once its fate is known. */
  #before: { readonly slot: number; readonly packet: Candidate }[] = [];

  constructor(engine: PacketEngine, capture: Capture, arena: Uint8Array) {
    this.#engine = engine;
    this.#capture = capture;
    this.#arena = arena;
    this.inputs = engine.inputs;
    this.outputs = engine.outputs;
    this.drops = engine.drops;
  }

  protectBatch(first: number, count: number, now: Instant): number {
    if (!this.#capture.on) return this.#engine.protectBatch(first, count, now);
    for (let slot = first; slot < first + count; slot++) this.#noteWhole(slot, INNER_OUT);
    const taken = this.#engine.protectBatch(first, count, now);
    this.#keep(first + taken, now);
    return taken;
  }

  unprotectBatch(first: number, count: number, now: Instant): number {
    if (!this.#capture.on) return this.#engine.unprotectBatch(first, count, now);
    for (let slot = first; slot < first + count; slot++) this.#noteReceived(slot);
    const taken = this.#engine.unprotectBatch(first, count, now);
    this.#keep(first + taken, now);
    return taken;
  }

  checkClear(first: number, count: number): number {
    return this.#engine.checkClear(first, count);
  }

  icmpError(slot: number, now: Instant): void {
    if (!this.#capture.on) return this.#engine.icmpError(slot, now);
    this.#noteReceived(slot);
    this.#engine.icmpError(slot, now);
    this.#keepInputs(slot + 1, now);
  }

  get hasReleasable(): boolean {
    return this.#engine.hasReleasable;
  }

  releaseHeld(now: Instant): void {
    this.#engine.releaseHeld(now);
    if (this.#capture.on) this.#keepOutputs(now);
  }

  path(id: number): Path | undefined {
    return this.#engine.path(id);
  }

  drain(): ReturnType<PacketEngine['drain']> {
    return this.#engine.drain();
  }

  tick(now: Instant): void {
    this.#engine.tick(now);
  }

  wakeAt(): number | undefined {
    return this.#engine.wakeAt();
  }

  #noteWhole(slot: number, way: Way): void {
    const at = this.inputs.offset[slot]!;
    this.#before.push({ slot, packet: this.#whole(this.#arena.subarray(at, at + this.inputs.length[slot]!), way) });
  }

  #noteReceived(slot: number): void {
    const { kind, offset, length, segmentBytes } = this.inputs;
    const at = offset[slot]!;
    if (kind[slot] !== INPUT.udp && kind[slot] !== INPUT.raw && kind[slot] !== INPUT.icmpv6)
      return this.#noteWhole(slot, OUTER_IN);
    const remote = addressOf(this.inputs.remoteFamily[slot]!, this.inputs.remote, slot);
    const family = remote.family;
    const known = this.inputs.localFamily[slot] === family;
    const local = known ? addressOf(family, this.inputs.local, slot) : IpAddress.unspecified(family);
    const from = { address: remote, port: this.inputs.remotePort[slot]! };
    const to = { address: local, port: this.inputs.localPort[slot]! };
    const encapsulated = kind[slot] === INPUT.udp;
    const protocol = encapsulated ? PROTOCOL.udp : kind[slot] === INPUT.raw ? PROTOCOL.esp : PROTOCOL.icmpv6;
    const trafficClass = this.inputs.trafficClass[slot]!;
    const end = at + length[slot]!;
    const step = segmentBytes[slot]! > 0 ? segmentBytes[slot]! : length[slot]!;
    for (let each = at; each < end; each += step) {
      const payload = this.#arena.subarray(each, Math.min(each + step, end));
      if (encapsulated && !isEsp(payload)) continue;
      this.#before.push({ slot, packet: this.#composed(payload, from, to, protocol, trafficClass, 0, OUTER_IN) });
    }
  }

  #keep(end: number, now: Instant): void {
    this.#keepInputs(end, now);
    this.#keepOutputs(now);
  }

  /** The inputs before slot `end`; those behind it were not taken, and come again. */
  #keepInputs(end: number, { mono, wall }: Instant): void {
    const before = this.#before;
    this.#before = [];
    before.forEach(({ slot, packet }, i) => {
      // Of a run of packets the engine tells the fate of the last.
      const drop = before[i + 1]?.slot === slot ? 0 : this.inputs.drop[slot]!;
      if (slot < end) this.#capture.put(packet, drop, mono, wall);
    });
  }

  #keepOutputs({ mono, wall }: Instant): void {
    for (let output = 0; output < this.outputs.count; output++)
      for (const packet of this.#packetsOf(output)) this.#capture.put(packet, 0, mono, wall);
  }

  *#packetsOf(output: number): Iterable<Candidate> {
    const { kind, offset, length, segmentBytes, trafficClass, dontFragment } = this.outputs;
    const at = offset[output]!;
    const end = at + length[output]!;
    if (kind[output] === OUTPUT.device) return yield this.#whole(this.#piecesOf(output), INNER_IN);
    if (kind[output] === OUTPUT.clear) return yield this.#whole(this.#arena.subarray(at, end), OUTER_OUT);
    const path = kind[output] === OUTPUT.esp ? this.path(this.outputs.path[output]!) : undefined;
    if (path === undefined) return;
    const protocol = path.encapsulated ? PROTOCOL.udp : PROTOCOL.esp;
    const flags = dontFragment[output] === 1 ? DONT_FRAGMENT : 0;
    const step = segmentBytes[output]! > 0 ? segmentBytes[output]! : length[output]!;
    for (let each = at; each < end; each += step) {
      const payload = this.#arena.subarray(each, Math.min(each + step, end));
      yield this.#composed(payload, path.local, path.remote, protocol, trafficClass[output]!, flags, OUTER_OUT);
    }
  }

  /** A frame for the device, which may lie in pieces. */
  #piecesOf(output: number): Uint8Array {
    const { firstPiece, pieces, pieceOffset, pieceLength, length } = this.outputs;
    const packet = new Uint8Array(length[output]!);
    let at = 0;
    for (let piece = firstPiece[output]!; piece < firstPiece[output]! + pieces[output]!; piece++) {
      packet.set(this.#arena.subarray(pieceOffset[piece]!, pieceOffset[piece]! + pieceLength[piece]!), at);
      at += pieceLength[piece]!;
    }
    return packet;
  }

  #whole(bytes: Uint8Array, way: Way): Candidate {
    const kept = bytes.subarray(0, LONGEST);
    this.#scratch.set(kept);
    return this.#candidate(kept.length, way);
  }

  /** A payload behind the IP header, and UDP's, that it has on the wire. A UDP checksum is zero there too (RFC 3948 §2.1). */
  #composed(
    payload: Uint8Array,
    source: Path['local'],
    destination: Path['local'],
    protocol: number,
    trafficClass: number,
    flags: number,
    way: Way,
  ): Candidate {
    const headerBytes = source.address.family === 4 ? 20 : 40;
    const inUdp = protocol === PROTOCOL.udp ? UDP_BYTES : 0;
    const kept = payload.subarray(0, LONGEST - headerBytes - inUdp);
    const octets = inUdp + kept.length;
    this.#headers.write(0, source.address, destination.address, protocol, octets, trafficClass, 0, flags);
    if (inUdp > 0) {
      this.#view.setUint16(headerBytes, source.port);
      this.#view.setUint16(headerBytes + 2, destination.port);
      this.#view.setUint32(headerBytes + 4, octets * 0x10000);
    }
    this.#scratch.set(kept, headerBytes + inUdp);
    return this.#candidate(headerBytes + octets, way, inUdp);
  }

  /** The packet at the front of the scratch memory. */
  #candidate(octets: number, way: Way, udpBytes = 0): Candidate {
    const packet = this.#packet;
    const isIp = packet.read(0, octets);
    const { protocol } = packet;
    const spiAt =
      !isIp || packet.fragment || way.interface === 'inner'
        ? -1
        : packet.headerBytes +
          (udpBytes > 0 ? udpBytes : protocol === PROTOCOL.esp ? 0 : protocol === PROTOCOL.ah ? 4 : -LONGEST);
    return {
      ...way,
      octets,
      bytes: this.#scratch.slice(0, octets),
      source: isIp ? packet.sourceAddress() : undefined,
      destination: isIp ? packet.destinationAddress() : undefined,
      spi: spiAt >= 0 && spiAt + 4 <= octets ? this.#view.getUint32(spiAt) : undefined,
    };
  }
}

/** Keepalives and IKE are none of the engine's packets (RFC 3948 §2.2, §2.3). */
function isEsp(payload: Uint8Array): boolean {
  if (payload.length === 1 && payload[0] === KEEPALIVE_OCTET) return false;
  return payload.length < NON_ESP_MARKER || payload.subarray(0, NON_ESP_MARKER).some((octet) => octet !== 0);
}

/** An address as the slots' columns have it (`IpPacket`). */
function addressOf(family: number, column: Int32Array, slot: number): IpAddress {
  const bytes = new Uint8Array(family === 4 ? 4 : 16);
  const view = new DataView(bytes.buffer);
  for (let word = 0; word < bytes.length / 4; word++) view.setInt32(4 * word, column[4 * slot + word]! ^ 0x80000000);
  return IpAddress.of(bytes);
}
