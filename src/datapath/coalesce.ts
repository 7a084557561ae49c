/** The way back from segments to frames: consecutive TCP segments of a flow leave for the device as one frame, in pieces, without being copied. */

import { type Checksum, fold, writeIpv4Checksum } from '../net/checksum.ts';
import { IPV4, IPV6, type IpPacket } from '../net/ip-packet.ts';
import { PROTOCOL } from '../net/transport.ts';
import { FRAME_FLAG, GSO, type Outputs, VNET_HDR_BYTES } from './slots.ts';

const TCP = { sequence: 4, acknowledgment: 8, offset: 12, flags: 13, window: 14, checksum: 16, bytes: 20 } as const;
const PSH = 0x08;
const ACK = 0x10;
/** How many flows are followed at once within a batch, and the pieces and octets of a frame. */
const FLOWS = 8;
const MAX_PIECES = 64;
const MAX_FRAME = 65_535;
const NONE = -1;

/**
 * Collects the frames of one batch. The pieces of a frame must lie in a row in `Outputs`, so they are kept as chains here and written out
 * by `finish`.
 */
export class Coalescer {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #checksum: Checksum;
  readonly #outputs: Outputs;
  readonly #enabled: boolean;
  /** Per output: its chain of payloads, and what the next segment must be. */
  readonly #head: Int32Array;
  readonly #tail: Int32Array;
  readonly #extra: Int32Array;
  readonly #next: Int32Array;
  readonly #nextSequence: Int32Array;
  readonly #segment: Int32Array;
  readonly #ipBytes: Int32Array;
  readonly #tcpBytes: Int32Array;
  /** Per chained payload. */
  readonly #pieceAt: Int32Array;
  readonly #pieceBytes: Int32Array;
  #pieceCount = 0;
  /** Outputs that may still grow. */
  readonly #open = new Int32Array(FLOWS).fill(NONE);
  #oldest = 0;

  constructor(arena: Uint8Array, checksum: Checksum, outputs: Outputs, enabled: boolean) {
    this.#bytes = arena;
    this.#view = new DataView(arena.buffer, arena.byteOffset, arena.length);
    this.#checksum = checksum;
    this.#outputs = outputs;
    this.#enabled = enabled;
    this.#head = new Int32Array(outputs.capacity);
    this.#tail = new Int32Array(outputs.capacity);
    this.#extra = new Int32Array(outputs.capacity);
    this.#nextSequence = new Int32Array(outputs.capacity);
    this.#segment = new Int32Array(outputs.capacity);
    this.#ipBytes = new Int32Array(outputs.capacity);
    this.#tcpBytes = new Int32Array(outputs.capacity);
    this.#next = new Int32Array(outputs.capacity);
    this.#pieceAt = new Int32Array(outputs.capacity);
    this.#pieceBytes = new Int32Array(outputs.capacity);
  }

  begin(): void {
    this.#open.fill(NONE);
    this.#oldest = 0;
    this.#pieceCount = 0;
  }

  /** Whether one packet more fits, as a frame of its own or as a piece. */
  get hasRoom(): boolean {
    const { count, capacity, pieceCapacity } = this.#outputs;
    return count < capacity && this.#pieceCount < this.#pieceAt.length && count + this.#pieceCount < pieceCapacity;
  }

  /** Takes a packet for the device: appends it to the frame of its flow, or begins a frame. There is room (`hasRoom`). */
  add(packet: IpPacket, slot: number): void {
    if (!this.#enabled || packet.protocol !== PROTOCOL.tcp || packet.fragment || packet.extended)
      return void this.#single(packet, slot);
    const tcpAt = packet.at + packet.headerBytes;
    const left = packet.bytes - packet.headerBytes;
    const tcpBytes = left < TCP.bytes ? 0 : (this.#bytes[tcpAt + TCP.offset]! >> 4) * 4;
    if (tcpBytes < TCP.bytes || tcpBytes > left) return void this.#single(packet, slot);
    const place = this.#find(packet);
    const payload = left - tcpBytes;
    const flags = this.#bytes[tcpAt + TCP.flags]!;
    const plain = (flags & ~PSH) === ACK && payload > 0 && (this.#bytes[tcpAt + TCP.offset]! & 0x0f) === 0;
    if (!plain || !this.#isRight(packet, left)) {
      // What may not be joined may not be overtaken either.
      if (place !== NONE) this.#open[place] = NONE;
      return void this.#single(packet, slot);
    }
    if (place !== NONE && this.#append(this.#open[place]!, packet, tcpBytes, payload)) {
      if (payload < this.#segment[this.#open[place]!]! || (flags & PSH) !== 0) this.#open[place] = NONE;
      return;
    }
    if (place !== NONE) this.#open[place] = NONE;
    const output = this.#single(packet, slot);
    this.#bytes[packet.at - VNET_HDR_BYTES] = FRAME_FLAG.checksumValid;
    this.#nextSequence[output] = (this.#view.getInt32(tcpAt + TCP.sequence) + payload) | 0;
    this.#segment[output] = payload;
    this.#ipBytes[output] = packet.headerBytes;
    this.#tcpBytes[output] = tcpBytes;
    if ((flags & PSH) !== 0) return;
    this.#open[place === NONE ? this.#oldest++ % FLOWS : place] = output;
  }

  /** Writes out the pieces, and the headers of frames that have several segments. */
  finish(): void {
    const outputs = this.#outputs;
    outputs.pieceCount = 0;
    for (let output = 0; output < outputs.count; output++) {
      if (outputs.pieces[output] === 0) continue;
      const first = outputs.offset[output]!;
      const extra = this.#extra[output]!;
      outputs.firstPiece[output] = outputs.pieceCount;
      outputs.pieces[output] = 0;
      outputs.addPiece(output, first, outputs.length[output]! - extra);
      if (extra === 0) continue;
      for (let piece = this.#head[output]!; piece !== NONE; piece = this.#next[piece]!) {
        outputs.addPiece(output, this.#pieceAt[piece]!, this.#pieceBytes[piece]!);
      }
      this.#writeFrameHeader(output, first);
    }
  }

  #single(packet: IpPacket, slot: number): number {
    const output = this.#outputs.pushDevice(packet.at, packet.bytes, slot);
    for (let at = packet.at - VNET_HDR_BYTES; at < packet.at; at++) this.#bytes[at] = 0;
    this.#extra[output] = 0;
    this.#head[output] = NONE;
    this.#tail[output] = NONE;
    return output;
  }

  /** The place of the open frame that belongs to the packet's flow. */
  #find(packet: IpPacket): number {
    for (let place = 0; place < FLOWS; place++) {
      const output = this.#open[place]!;
      if (output !== NONE && this.#sameFlow(this.#outputs.offset[output]!, packet)) return place;
    }
    return NONE;
  }

  #sameFlow(other: number, packet: IpPacket): boolean {
    const { at, headerBytes, family } = packet;
    if (this.#bytes[at]! >> 4 !== this.#bytes[other]! >> 4) return false;
    const addresses = family === 4 ? IPV4.source : IPV6.source;
    return this.#same(at + addresses, other + addresses, headerBytes - addresses + 4);
  }

  #same(a: number, b: number, length: number): boolean {
    const view = this.#view;
    const bytes = this.#bytes;
    let i = 0;
    for (; i + 4 <= length; i += 4) if (view.getInt32(a + i) !== view.getInt32(b + i)) return false;
    for (; i < length; i++) if (bytes[a + i] !== bytes[b + i]) return false;
    return true;
  }

  /** Whether the TCP checksum is right: a frame's segments are not checked again behind the device. */
  #isRight(packet: IpPacket, tcpBytes: number): boolean {
    const pseudo = this.#checksum.pseudo(packet.at, PROTOCOL.tcp, tcpBytes);
    return this.#checksum.of(packet.at + packet.headerBytes, tcpBytes, pseudo) === 0;
  }

  /** Appends the payload to a frame, if nothing but its place in the stream tells the segment from the frame's first. */
  #append(output: number, packet: IpPacket, tcpBytes: number, payload: number): boolean {
    const outputs = this.#outputs;
    const first = outputs.offset[output]!;
    const { at, headerBytes } = packet;
    const tcp = at + headerBytes;
    const firstTcp = first + headerBytes;
    const pieces = outputs.pieces[output]!;
    if (
      this.#view.getInt32(tcp + TCP.sequence) !== this.#nextSequence[output] ||
      payload > this.#segment[output]! ||
      pieces >= MAX_PIECES ||
      outputs.length[output]! + payload > MAX_FRAME ||
      headerBytes !== this.#ipBytes[output] ||
      tcpBytes !== this.#tcpBytes[output] ||
      !this.#sameIp(first, packet, pieces) ||
      !this.#same(tcp + TCP.acknowledgment, firstTcp + TCP.acknowledgment, 5) ||
      !this.#same(tcp + TCP.window, firstTcp + TCP.window, 2) ||
      !this.#same(tcp + 18, firstTcp + 18, tcpBytes - 18)
    ) {
      return false;
    }
    const piece = this.#pieceCount++;
    this.#pieceAt[piece] = tcp + tcpBytes;
    this.#pieceBytes[piece] = payload;
    this.#next[piece] = NONE;
    if (this.#head[output] === NONE) this.#head[output] = piece;
    else this.#next[this.#tail[output]!] = piece;
    this.#tail[output] = piece;
    this.#extra[output]! += payload;
    outputs.pieces[output] = pieces + 1;
    outputs.length[output]! += payload;
    this.#nextSequence[output] = (this.#nextSequence[output]! + payload) | 0;
    this.#bytes[firstTcp + TCP.flags]! |= this.#bytes[tcp + TCP.flags]! & PSH;
    return true;
  }

  /** Equal but for length, checksum and an identification that counts up where it matters (RFC 6864). */
  #sameIp(first: number, packet: IpPacket, index: number): boolean {
    const at = packet.at;
    if (packet.family === 6)
      return this.#same(at, first, 4) && this.#bytes[at + IPV6.hopLimit] === this.#bytes[first + IPV6.hopLimit];
    const id = (this.#view.getUint16(first + IPV4.id) + index) & 0xffff;
    return (
      this.#bytes[at + IPV4.tos] === this.#bytes[first + IPV4.tos] &&
      this.#same(at + IPV4.fragment, first + IPV4.fragment, 3) &&
      (packet.dontFragment || this.#view.getUint16(at + IPV4.id) === id)
    );
  }

  #writeFrameHeader(output: number, first: number): void {
    const bytes = this.#bytes;
    const view = this.#view;
    const ipBytes = this.#ipBytes[output]!;
    const length = this.#outputs.length[output]!;
    const v4 = bytes[first]! >> 4 === 4;
    if (v4) {
      view.setUint16(first + IPV4.totalLength, length);
      writeIpv4Checksum(this.#checksum, bytes, first, ipBytes);
    } else {
      view.setUint16(first + IPV6.payloadLength, length - IPV6.bytes);
    }
    const tcp = first + ipBytes;
    view.setUint16(tcp + TCP.checksum, fold(this.#checksum.pseudo(first, PROTOCOL.tcp, length - ipBytes)));
    const header = first - VNET_HDR_BYTES;
    bytes[header] = FRAME_FLAG.needsChecksum;
    bytes[header + 1] = v4 ? GSO.tcp4 : GSO.tcp6;
    view.setUint16(header + 2, ipBytes + this.#tcpBytes[output]!, true);
    view.setUint16(header + 4, this.#segment[output]!, true);
    view.setUint16(header + 6, ipBytes, true);
    view.setUint16(header + 8, TCP.checksum, true);
  }
}
