/** Two engines joined by a wire that the test holds in its hands, and packets to send through them. */

import { cat, u16be, u32be } from '../../../src/bytes/bytes.ts';
import { Secret } from '../../../src/bytes/secret.ts';
import type { EspSuite, PacketCipher } from '../../../src/crypto/packet-cipher.ts';
import { noblePacketCipher } from '../../../src/crypto/packet-cipher-noble.ts';
import { ENCR, encrKeymatBytes, INTEG } from '../../../src/crypto/transforms.ts';
import { Datapath, type DatapathOptions } from '../../../src/datapath/datapath.ts';
import { dropName } from '../../../src/datapath/drops.ts';
import { INPUT, OUTPUT, reserveIn, VNET_HDR_BYTES } from '../../../src/datapath/slots.ts';
import { UNLIMITED } from '../../../src/ipsec/lifetime.ts';
import type { Policy, PolicySelector, Template } from '../../../src/ipsec/policy.ts';
import type { SaParameters } from '../../../src/ipsec/sa.ts';
import type { Instant } from '../../../src/machine.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { everything } from '../../../src/net/prefix.ts';

export const NOW: Instant = { mono: 1_000_000, wall: 1_700_000_000_000 };

export function at(milliseconds: number): Instant {
  return { mono: NOW.mono + milliseconds, wall: NOW.wall + milliseconds };
}

export function ip(text: string): IpAddress {
  return IpAddress.parse(text)!;
}

/** A generator of octets that gives the same ones in every run. */
export function seeded(seed: number): (length: number) => Uint8Array {
  let state = seed >>> 0 || 1;
  return (length) => {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      bytes[i] = state >>> 24;
    }
    return bytes;
  };
}

/** What one engine wants sent: one ESP packet each. */
export interface Wire {
  readonly bytes: Uint8Array;
  readonly path: number;
  readonly trafficClass: number;
}

/** A frame for the device: its virtio_net_hdr, and the packet with all pieces joined. */
export interface Frame {
  readonly header: Uint8Array;
  readonly packet: Uint8Array;
  readonly pieces: number;
}

/** A cipher over an arena. */
export type CipherOn = (arena: Uint8Array) => PacketCipher;

export class Node {
  readonly arena: Uint8Array;
  readonly engine: Datapath;

  constructor(options: Partial<DatapathOptions> = {}, slots = 8, cipherOn: CipherOn = noblePacketCipher) {
    this.arena = new Uint8Array((slots + 1) * 66_000 + 2 * 1024 * 1024);
    this.engine = new Datapath({
      arena: this.arena,
      reserve: reserveIn(this.arena),
      cipher: options.cipher ?? cipherOn(this.arena),
      random: seeded(7),
      slots,
      unmatched: 'bypass',
      coalesce: true,
      ...options,
    });
  }

  /** Hands plain packets to the engine as one batch; ESP packets come back. */
  protect(packets: readonly Uint8Array[], now = NOW): Wire[] {
    packets.forEach((packet, slot) => {
      this.arena.set(packet, this.engine.inputs.buffer[slot]!);
      this.engine.inputs.takePacket(slot, INPUT.frame, packet.length);
    });
    const consumed = this.engine.protectBatch(0, packets.length, now);
    if (consumed !== packets.length) throw new Error(`the batch ended after ${consumed}`);
    return this.wires();
  }

  /** Hands one frame with its virtio_net_hdr to the engine. */
  protectFrame(header: Uint8Array, packet: Uint8Array, now = NOW): Wire[] {
    const slot = 0;
    this.arena.set(cat(header, packet), this.engine.inputs.frameAt(slot));
    this.engine.inputs.takeFrame(slot, header.length + packet.length);
    this.engine.protectBatch(slot, 1, now);
    return this.wires();
  }

  wires(): Wire[] {
    const { outputs } = this.engine;
    const wires: Wire[] = [];
    for (let i = 0; i < outputs.count; i++) {
      if (outputs.kind[i] !== OUTPUT.esp) continue;
      const end = outputs.offset[i]! + outputs.length[i]!;
      for (let from = outputs.offset[i]!; from < end; from += outputs.segmentBytes[i]!) {
        const to = Math.min(end, from + outputs.segmentBytes[i]!);
        wires.push({ bytes: this.arena.slice(from, to), path: outputs.path[i]!, trafficClass: outputs.trafficClass[i]! });
      }
    }
    return wires;
  }

  /** Packets that leave in clear. */
  clears(): Uint8Array[] {
    const { outputs } = this.engine;
    const packets: Uint8Array[] = [];
    for (let i = 0; i < outputs.count; i++) {
      if (outputs.kind[i] === OUTPUT.clear)
        packets.push(this.arena.slice(outputs.offset[i]!, outputs.offset[i]! + outputs.length[i]!));
    }
    return packets;
  }

  frames(): Frame[] {
    const { outputs } = this.engine;
    const frames: Frame[] = [];
    for (let i = 0; i < outputs.count; i++) {
      if (outputs.kind[i] !== OUTPUT.device) continue;
      const parts: Uint8Array[] = [];
      const first = outputs.firstPiece[i]!;
      for (let piece = first; piece < first + outputs.pieces[i]!; piece++) {
        parts.push(this.arena.slice(outputs.pieceOffset[piece]!, outputs.pieceOffset[piece]! + outputs.pieceLength[piece]!));
      }
      const start = outputs.pieceOffset[first]!;
      frames.push({ header: this.arena.slice(start - VNET_HDR_BYTES, start), packet: cat(...parts), pieces: parts.length });
    }
    return frames;
  }

  /** ESP from the wire: UDP payload, or raw with (IPv4) or without (IPv6) its IP header. */
  unprotect(wires: readonly Wire[], kind: number, from?: { address: IpAddress; port: number }, now = NOW): Frame[] {
    wires.forEach(({ bytes, trafficClass }, slot) => {
      this.arena.set(bytes, this.engine.inputs.buffer[slot]!);
      this.engine.inputs.takePacket(slot, kind, bytes.length);
      this.engine.inputs.trafficClass[slot] = trafficClass;
      if (from !== undefined) this.setRemote(slot, from);
    });
    this.engine.unprotectBatch(0, wires.length, now);
    return this.frames();
  }

  /** The same as UDP_GRO delivers it: one buffer, `segmentBytes` each. */
  unprotectRun(wires: readonly Wire[], now = NOW): Frame[] {
    const run = cat(...wires.map(({ bytes }) => bytes));
    this.arena.set(run, this.engine.inputs.buffer[0]!);
    this.engine.inputs.takePacket(0, INPUT.udp, run.length, wires[0]!.bytes.length);
    this.engine.unprotectBatch(0, 1, now);
    return this.frames();
  }

  setRemote(slot: number, { address, port }: { address: IpAddress; port: number }): void {
    const scratch = this.engine.outputs.end - 16;
    this.arena.set(address.bytes, scratch);
    this.engine.inputs.setRemote(slot, address.family, scratch, port);
  }

  drop(slot: number): string {
    return dropName(this.engine.inputs.drop[slot]!);
  }
}

export const SUITES: readonly EspSuite[] = [
  { encr: 'aes_gcm_16', keyBits: 128, integ: 'none' },
  { encr: 'aes_gcm_16', keyBits: 256, integ: 'none' },
  { encr: 'chacha20_poly1305', keyBits: 256, integ: 'none' },
  { encr: 'aes_cbc', keyBits: 128, integ: 'hmac_sha2_256' },
  { encr: 'aes_cbc', keyBits: 256, integ: 'hmac_sha2_512' },
  { encr: 'aes_cbc', keyBits: 192, integ: 'hmac_sha2_384' },
  { encr: 'aes_ctr', keyBits: 128, integ: 'hmac_sha1' },
  { encr: 'aes_ctr', keyBits: 256, integ: 'aes_cmac' },
  { encr: 'aes_cbc', keyBits: 128, integ: 'aes_xcbc' },
  { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha2_256' },
  { encr: 'aes_gcm_8', keyBits: 128, integ: 'none' },
  { encr: 'aes_ccm_12', keyBits: 192, integ: 'none' },
  { encr: 'aes_gcm_16_iiv', keyBits: 256, integ: 'none' },
  { encr: 'aes_ccm_8_iiv', keyBits: 128, integ: 'none' },
  { encr: 'chacha20_poly1305_iiv', keyBits: 256, integ: 'none' },
  { encr: 'null_auth_aes_gmac', keyBits: 256, integ: 'none' },
];

export const GCM: EspSuite = SUITES[0]!;

export function keysOf(suite: EspSuite, seed = 3): { encrKey: Secret; integKey: Secret | undefined } {
  const random = seeded(seed);
  return {
    encrKey: new Secret(random(encrKeymatBytes(suite.encr, suite.keyBits)!)),
    integKey: suite.integ === 'none' ? undefined : new Secret(random(INTEG[suite.integ].keyBytes)),
  };
}

export function saOf(changes: Partial<SaParameters> & { suite?: EspSuite } = {}): SaParameters {
  const suite = changes.suite ?? GCM;
  return {
    spi: 0xc0ffee01,
    protocol: 'esp',
    mode: 'tunnel',
    source: ip('192.0.2.1'),
    destination: ip('192.0.2.2'),
    suite,
    ...keysOf(suite),
    extendedSequence: false,
    replayWindow: 64,
    reqid: 1,
    encapsulation: undefined,
    lifetime: { soft: UNLIMITED, hard: UNLIMITED },
    selectors: { source: [], destination: [] },
    ...changes,
  };
}

export function selectorOf(changes: Partial<PolicySelector> = {}, family: 4 | 6 = 4): PolicySelector {
  return {
    source: everything(family),
    destination: everything(family),
    protocol: 0,
    sourcePort: 0,
    destinationPort: 0,
    ...changes,
  };
}

export function templateOf(changes: Partial<Template> = {}): Template {
  return { protocol: 'esp', mode: 'tunnel', level: 'unique', reqid: 1, endpoints: undefined, ...changes };
}

export function policyOf(changes: Partial<Policy> = {}): Policy {
  const action = changes.action ?? 'protect';
  return {
    id: 0,
    selector: selectorOf(),
    direction: 'outbound',
    action,
    priority: 100,
    templates: action === 'protect' ? [templateOf()] : [],
    ...changes,
  };
}

/** A sends, B receives: policies for both families on both sides, and one SA. */
export function pair(
  sa: SaParameters = saOf(),
  options: Partial<DatapathOptions> = {},
  cipherOn?: CipherOn,
): { a: Node; b: Node } {
  const a = new Node(options, 8, cipherOn);
  const b = new Node(options, 8, cipherOn);
  const templates = [templateOf({ protocol: sa.protocol, mode: sa.mode, reqid: sa.reqid })];
  for (const family of [4, 6] as const) {
    a.engine.addPolicy(policyOf({ selector: selectorOf({}, family), templates }), NOW);
    b.engine.addPolicy(policyOf({ selector: selectorOf({}, family), direction: 'inbound', templates }), NOW);
  }
  a.engine.addSa(copyOf(sa), NOW);
  b.engine.addSa(copyOf(sa), NOW, 'inbound');
  return { a, b };
}

/** The same SA with keys of its own, since each engine wipes its keys. */
export function copyOf(sa: SaParameters): SaParameters {
  return {
    ...sa,
    encrKey: sa.encrKey.slice(0, sa.encrKey.length),
    integKey: sa.integKey?.slice(0, sa.integKey.length),
  };
}

/** One's complement sum by the book (RFC 1071 §1), for checking the fast one. */
export function slowSum(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let i = 0; i < part.length; i++) sum += i % 2 === 0 ? part[i]! * 256 : part[i]!;
  }
  while (sum > 0xffff) sum = Math.floor(sum / 0x10000) + (sum % 0x10000);
  return sum;
}

export function pseudoHeader(packet: Uint8Array, protocol: number, length: number): Uint8Array {
  const addresses = packet[0]! >> 4 === 4 ? packet.slice(12, 20) : packet.slice(8, 40);
  return cat(addresses, u32be(length), u32be(protocol));
}

export interface PacketOptions {
  readonly source?: string;
  readonly destination?: string;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly trafficClass?: number;
  readonly id?: number;
  readonly dontFragment?: boolean;
}

/** An IP packet around `transport`, whose checksum field at `checksumAt` is computed. */
export function ipPacket(protocol: number, transport: Uint8Array, options: PacketOptions = {}, checksumAt = -1): Uint8Array {
  const source = ip(options.source ?? '10.1.0.1');
  const destination = ip(options.destination ?? '10.2.0.2');
  const trafficClass = options.trafficClass ?? 0;
  const body = transport.slice();
  const header =
    source.family === 4
      ? cat(
          Uint8Array.of(0x45, trafficClass),
          u16be(20 + body.length),
          u16be(options.id ?? 0x1234),
          u16be(options.dontFragment === false ? 0 : 0x4000),
          Uint8Array.of(64, protocol, 0, 0),
          source.bytes,
          destination.bytes,
        )
      : cat(
          u32be(0x60000000 + trafficClass * 0x100000),
          u16be(body.length),
          Uint8Array.of(protocol, 64),
          source.bytes,
          destination.bytes,
        );
  if (source.family === 4) header.set(u16be(~slowSum(header) & 0xffff), 10);
  if (checksumAt >= 0) {
    body.set([0, 0], checksumAt);
    body.set(u16be(~slowSum(pseudoHeader(header, protocol, body.length), body) & 0xffff), checksumAt);
  }
  return cat(header, body);
}

export function udpPacket(payload: Uint8Array, options: PacketOptions = {}): Uint8Array {
  const udp = cat(
    u16be(options.sourcePort ?? 1000),
    u16be(options.destinationPort ?? 2000),
    u16be(8 + payload.length),
    u16be(0),
    payload,
  );
  return ipPacket(17, udp, options, 6);
}

export function tcpPacket(
  sequence: number,
  payload: Uint8Array,
  options: PacketOptions & { flags?: number; acknowledgment?: number } = {},
): Uint8Array {
  const tcp = cat(
    u16be(options.sourcePort ?? 1000),
    u16be(options.destinationPort ?? 80),
    u32be(sequence),
    u32be(options.acknowledgment ?? 77),
    Uint8Array.of(0x80, options.flags ?? 0x10),
    u16be(512),
    u32be(0),
    // NOP NOP timestamps, as most segments have.
    Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2),
    payload,
  );
  return ipPacket(6, tcp, options, 16);
}

/** An IPv4 packet around ESP, as a raw socket delivers it. */
export function rawIpv4(esp: Uint8Array, sa: SaParameters, trafficClass = 0): Uint8Array {
  return ipPacket(50, esp, { source: `${sa.source}`, destination: `${sa.destination}`, trafficClass });
}

export const ICV = (suite: EspSuite): number => (suite.integ === 'none' ? ENCR[suite.encr].icv : INTEG[suite.integ].icvBytes);
