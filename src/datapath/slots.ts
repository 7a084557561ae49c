/**
 * The engine's doors for packets: input slots, each with a buffer in the one arena, and the outputs of a batch (RFC 4301 §5). Descriptors are
 * columns of typed arrays, filled by the host on one side and by the engine on the other; nothing here is allocated per packet.
 */

import { Fault } from '../errors.ts';

/** Octets of `struct virtio_net_hdr`, which precedes each packet of a TUN device with IFF_VNET_HDR; its numbers are little-endian. */
export const VNET_HDR_BYTES = 10;

/** `gsoType` of a frame: what the packet is to be segmented into. 0x80 (TCP ECN) is masked away on reading. */
export const GSO = { none: 0, tcp4: 1, tcp6: 4, udp: 5 } as const;

/** `flags` of a frame: the transport checksum holds the pseudo-header's sum only; the checksum is known to be right. */
export const FRAME_FLAG = { needsChecksum: 1, checksumValid: 2 } as const;

/** What an input slot holds. */
export const INPUT = {
  /** An IP packet, or a frame to be segmented, from the device (`takeFrame`): for `protectBatch`. */
  frame: 0,
  /** ESP from a raw IPv4 socket: `offset` is at the IP header. For `unprotectBatch`, as the next two. */
  rawWithHeader: 1,
  /** ESP from a raw IPv6 socket: `offset` is at the SPI. */
  raw: 2,
  /** UDP payload from the encapsulation port (RFC 3948): one ESP packet, or a run of them, `segmentBytes` each (UDP_GRO). */
  udp: 3,
  /** An IP packet that came from outside without protection: for `checkClear`. */
  clear: 4,
  /** A whole IP packet that carries AH: `offset` is at the IP header, of IPv6 too. For `unprotectBatch`. */
  ah: 5,
  /** An ICMP message from a raw IPv4 socket: `offset` is at the IP header. For `icmpError`, as the next. */
  icmp: 6,
  /** An ICMPv6 message from a raw IPv6 socket, whose checksum the kernel has verified: `offset` is at its type. */
  icmpv6: 7,
} as const;

/** What an output is for. */
export const OUTPUT = {
  /**
   * ESP packets for `path`, back to back in memory: `segmentBytes` each, the last may be shorter; `length` is their sum. One message with
   * UDP_SEGMENT where the path is UDP and the kernel can, else one message each.
   */
  esp: 0,
  /** One whole IP packet that goes out as it is (a bypass policy, or AH around it), with the suite's mark so that it does not come back. */
  clear: 1,
  /**
   * A frame for the device, in pieces `firstPiece` to `firstPiece + pieces - 1`. A virtio_net_hdr lies in the ten octets before the first
   * piece: a device with such headers is written from there, another from the piece itself.
   */
  device: 2,
  /** A datagram of the encapsulation port that is not ESP (RFC 3948 §2.2): from `offset` on is what follows the non-ESP marker. `slot` tells whence. */
  ike: 3,
} as const;

/** A part of the arena for good: `length` octets at a multiple of `align`. Throws Fault where there is no room. */
export type Reserve = (length: number, align?: number) => number;

/** Reserves from front to back of `arena`: for hosts without a native arena, and tests. */
export function reserveIn(arena: Uint8Array): Reserve {
  let reserved = 0;
  return (length, align = 64) => {
    const at = Math.ceil(reserved / align) * align;
    if (at + length > arena.length) throw new Fault(`an arena of ${arena.length} octets has no room for ${length} more at ${at}`);
    reserved = at + length;
    return at;
  };
}

/** Octets before a packet in an input buffer: the virtio_net_hdr of a frame that leaves again has its place there. */
export const HEADROOM = 64;
/** Octets of an input buffer for a packet or a run of packets: IP's limit, which UDP_GRO and TSO share. */
export const PACKET_ROOM = 65_536;

/** The input slots. The host splits them as it likes (some for the device, some for each socket) and hands in any range. */
export class Slots {
  readonly capacity: number;
  /** Where a packet may be received: `PACKET_ROOM` octets, with `HEADROOM` before them. Fixed. */
  readonly buffer: Int32Array;
  /** `INPUT`. */
  readonly kind: Uint8Array;
  /** First octet of the packet in the arena. The host sets it to `buffer`, or has `takeFrame` set it. */
  readonly offset: Int32Array;
  readonly length: Int32Array;
  /** `frame`: payload octets of each segment; `udp`: octets of each ESP packet; 0: it is a single packet. */
  readonly segmentBytes: Int32Array;
  /** `frame` only, as virtio_net_hdr has them: `GSO`, `FRAME_FLAG`, and where the checksum starts and lies behind that. */
  readonly gsoType: Uint8Array;
  readonly flags: Uint8Array;
  readonly checksumStart: Uint16Array;
  readonly checksumOffset: Uint16Array;
  /** Outer TOS or traffic class of what was received (`INPUT.raw` and `udp`), for ECN. */
  readonly trafficClass: Uint8Array;
  /**
   * Outer addresses of what was received, four words a slot as `IpPacket` has them (`setRemote`, `setLocal`). They stay until they are set
   * again; a family of 0 says that the address is not known. `INPUT.rawWithHeader` needs none: the engine reads the IP header.
   */
  readonly remoteFamily: Uint8Array;
  readonly localFamily: Uint8Array;
  readonly remote: Int32Array;
  readonly local: Int32Array;
  readonly remotePort: Uint16Array;
  readonly localPort: Uint16Array;
  /** Written by the engine: why the (last) packet of the slot was dropped, `DROP.none` where none was. */
  readonly drop: Uint8Array;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(arena: Uint8Array, reserve: Reserve, capacity: number) {
    this.capacity = capacity;
    this.buffer = new Int32Array(capacity);
    this.kind = new Uint8Array(capacity);
    this.offset = new Int32Array(capacity);
    this.length = new Int32Array(capacity);
    this.segmentBytes = new Int32Array(capacity);
    this.gsoType = new Uint8Array(capacity);
    this.flags = new Uint8Array(capacity);
    this.checksumStart = new Uint16Array(capacity);
    this.checksumOffset = new Uint16Array(capacity);
    this.trafficClass = new Uint8Array(capacity);
    this.remoteFamily = new Uint8Array(capacity);
    this.localFamily = new Uint8Array(capacity);
    this.remote = new Int32Array(4 * capacity);
    this.local = new Int32Array(4 * capacity);
    this.remotePort = new Uint16Array(capacity);
    this.localPort = new Uint16Array(capacity);
    this.drop = new Uint8Array(capacity);
    this.#bytes = arena;
    this.#view = new DataView(arena.buffer, arena.byteOffset, arena.length);
    for (let slot = 0; slot < capacity; slot++) {
      this.buffer[slot] = reserve(HEADROOM + PACKET_ROOM, 64) + HEADROOM;
      this.offset[slot] = this.buffer[slot]!;
    }
  }

  /** Where the device's read goes when it delivers a virtio_net_hdr first, so that the packet itself lies at `buffer`. */
  frameAt(slot: number): number {
    return this.buffer[slot]! - VNET_HDR_BYTES;
  }

  /** Describes a packet of `octets` that was read to `buffer`. */
  takePacket(slot: number, kind: number, octets: number, segmentBytes = 0): void {
    this.kind[slot] = kind;
    this.offset[slot] = this.buffer[slot]!;
    this.length[slot] = octets;
    this.segmentBytes[slot] = segmentBytes;
    this.gsoType[slot] = GSO.none;
    this.flags[slot] = 0;
  }

  /** Describes a frame of `octets`, virtio_net_hdr included, that was read to `frameAt`. */
  takeFrame(slot: number, octets: number): void {
    const at = this.frameAt(slot);
    const bytes = this.#bytes;
    this.takePacket(slot, INPUT.frame, Math.max(0, octets - VNET_HDR_BYTES));
    if (octets < VNET_HDR_BYTES) return;
    this.flags[slot] = bytes[at]!;
    this.gsoType[slot] = bytes[at + 1]! & 0x7f;
    this.segmentBytes[slot] = bytes[at + 4]! | (bytes[at + 5]! << 8);
    this.checksumStart[slot] = bytes[at + 6]! | (bytes[at + 7]! << 8);
    this.checksumOffset[slot] = bytes[at + 8]! | (bytes[at + 9]! << 8);
  }

  /** Notes the sender's address, which lies at arena offset `at`, and its port. */
  setRemote(slot: number, family: 4 | 6, at: number, port: number): void {
    this.remoteFamily[slot] = family;
    this.remotePort[slot] = port;
    this.#copyAddress(this.remote, slot, family, at);
  }

  /** Notes our own address that the packet was sent to, which lies at arena offset `at`, and our port. */
  setLocal(slot: number, family: 4 | 6, at: number, port: number): void {
    this.localFamily[slot] = family;
    this.localPort[slot] = port;
    this.#copyAddress(this.local, slot, family, at);
  }

  #copyAddress(column: Int32Array, slot: number, family: 4 | 6, at: number): void {
    const words = family === 6 ? 4 : 1;
    for (let i = 0; i < 4; i++) column[4 * slot + i] = i < words ? this.#view.getInt32(at + 4 * i) ^ 0x80000000 : 0;
  }
}

/** What one batch gave. Each batch starts with none; their memory holds until the next batch (some of it lies in the input buffers). */
export class Outputs {
  readonly capacity: number;
  count = 0;
  /** `OUTPUT`. */
  readonly kind: Uint8Array;
  readonly offset: Int32Array;
  /** All octets of the output; of all pieces together for `device`. */
  readonly length: Int32Array;
  /** `esp`: octets of each packet in it but the last. */
  readonly segmentBytes: Int32Array;
  /** `esp`: how many packets it holds. */
  readonly segments: Int32Array;
  /** `esp`: the id that `PacketEngine.path` resolves. */
  readonly path: Int32Array;
  /** The input slot that it came of (the first, where there are several). */
  readonly slot: Int32Array;
  /** `esp`: TOS or traffic class for the outer header (DSCP and ECN, RFC 4301 §5.1.2, RFC 6040). */
  readonly trafficClass: Uint8Array;
  /** `esp`: 1 where no router may fragment it, 0 where the host sees to it that it can be (RFC 4301 §8.1). */
  readonly dontFragment: Uint8Array;
  readonly firstPiece: Int32Array;
  readonly pieces: Int32Array;
  readonly pieceCapacity: number;
  pieceCount = 0;
  readonly pieceOffset: Int32Array;
  readonly pieceLength: Int32Array;
  /** The part of the arena where new packets are laid out, front to back. */
  readonly start: number;
  readonly end: number;
  at: number;

  /** `octets` of room for packets; 1 MiB holds a 64 KiB frame cut into the smallest segments that TCP uses. */
  constructor(reserve: Reserve, capacity: number, octets: number) {
    this.capacity = capacity;
    this.kind = new Uint8Array(capacity);
    this.offset = new Int32Array(capacity);
    this.length = new Int32Array(capacity);
    this.segmentBytes = new Int32Array(capacity);
    this.segments = new Int32Array(capacity);
    this.path = new Int32Array(capacity);
    this.slot = new Int32Array(capacity);
    this.trafficClass = new Uint8Array(capacity);
    this.dontFragment = new Uint8Array(capacity);
    this.firstPiece = new Int32Array(capacity);
    this.pieces = new Int32Array(capacity);
    this.pieceCapacity = 2 * capacity;
    this.pieceOffset = new Int32Array(this.pieceCapacity);
    this.pieceLength = new Int32Array(this.pieceCapacity);
    this.start = reserve(octets, 64);
    this.end = this.start + octets;
    this.at = this.start;
  }

  clear(): void {
    this.count = 0;
    this.pieceCount = 0;
    this.at = this.start;
  }

  /** Appends an output; the caller has seen to it that there is room. */
  push(kind: number, offset: number, length: number, slot: number): number {
    const output = this.count++;
    this.kind[output] = kind;
    this.offset[output] = offset;
    this.length[output] = length;
    this.segmentBytes[output] = 0;
    this.segments[output] = 1;
    this.path[output] = -1;
    this.slot[output] = slot;
    this.trafficClass[output] = 0;
    this.dontFragment[output] = 0;
    this.firstPiece[output] = this.pieceCount;
    this.pieces[output] = 0;
    return output;
  }

  /** Whether `outputs` more of together `octets` fit. */
  hasRoom(outputs: number, octets: number): boolean {
    return (
      this.count + outputs <= this.capacity && this.pieceCount + outputs <= this.pieceCapacity && this.at + octets <= this.end
    );
  }

  /** A frame for the device of one piece. */
  pushDevice(offset: number, length: number, slot: number): number {
    const output = this.push(OUTPUT.device, offset, length, slot);
    this.addPiece(output, offset, length);
    return output;
  }

  /** One piece more of the frame that was begun last, or at least before any other with pieces. */
  addPiece(output: number, offset: number, length: number): void {
    this.pieceOffset[this.pieceCount] = offset;
    this.pieceLength[this.pieceCount] = length;
    this.pieceCount++;
    this.pieces[output]!++;
  }
}
