/**
 * Many datagrams a system call: recvmmsg(2) and sendmmsg(2) over tables laid by hand in the arena, filled once (RFC 3542 for the
 * control data).
 */

import { Fault } from '../../errors.ts';
import type { Arena } from './arena.ts';
import { EAGAIN, EINTR, type Libc } from './libc.ts';
import {
  IP_PKTINFO,
  IP_TOS,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_UDP,
  IPV6_PKTINFO,
  IPV6_TCLASS,
  SOCKADDR_BYTES,
  UDP_GRO,
  UDP_SEGMENT,
} from './sockets.ts';

/** struct mmsghdr: `name 0 | namelen 8 | iov 16 | iovlen 24 | control 32 | controllen 40 | flags 48 | msg_len 56`. */
const MMSGHDR_BYTES = 64;
const NAME = 0;
const NAME_LENGTH = 8;
const IOV = 16;
const IOV_LENGTH = 24;
const CONTROL = 32;
const CONTROL_LENGTH = 40;
const FLAGS = 48;
const MSG_LEN = 56;

/** struct cmsghdr: `len (8) | level (4) | type (4)`, then the data; each starts at a multiple of 8. */
export const CMSGHDR_BYTES = 16;
const CONTROL_BYTES = 160;

const MSG_DONTWAIT = 0x40;
const MSG_CTRUNC = 0x08;
const MSG_TRUNC = 0x20;

/** struct iovec: `base (8) | length (8)`. */
export const IOVEC_BYTES = 16;

/** Writes one struct iovec; `at` is a multiple of 16. */
export function writeIovec(arena: Arena, at: number, offset: number, length: number): void {
  arena.mustHold(offset, length);
  const word = at >>> 2;
  const address = arena.base + offset;
  arena.u32[word] = address;
  arena.u32[word + 1] = address / 0x1_0000_0000;
  arena.u32[word + 2] = length;
}

/**
 * A table of `count` messages. Use one for receiving and another for sending: per packet only lengths and pointers change, and
 * no call allocates. Results are non-negative, or the negative errno of the call: the packet path counts it and goes on.
 */
export class MessageTable {
  readonly count: number;
  /** Received: size of each datagram but the last in the buffer, or 0 where it holds a single one (UDP_GRO). */
  readonly segmentBytes: Int32Array;
  /** Received: TOS or traffic class of the outer header, or 0. */
  readonly trafficClass: Int32Array;
  /** Received: arena offset of the address the packet was sent to (4 or 16 octets), or -1. It holds until the next `receive`. */
  readonly localAt: Int32Array;
  /** Received: index of the interface, or 0. */
  readonly interfaceIndex: Int32Array;
  readonly #libc: Libc;
  readonly #arena: Arena;
  readonly #headers: number;
  readonly #names: number;
  readonly #iovecs: number;
  readonly #controls: number;
  readonly #perMessage: number;
  readonly #controlBytes: number;
  #sends = false;

  /**
   * `iovecsPerMessage`: into how many pieces one message may be scattered (at most 1024, UIO_MAXIOV). `controlBytes`: room for each message's
   * control data, a multiple of 8.
   */
  constructor(libc: Libc, arena: Arena, count: number, iovecsPerMessage = 1, controlBytes = CONTROL_BYTES) {
    this.count = count;
    this.segmentBytes = new Int32Array(count);
    this.trafficClass = new Int32Array(count);
    this.localAt = new Int32Array(count).fill(-1);
    this.interfaceIndex = new Int32Array(count);
    this.#libc = libc;
    this.#arena = arena;
    this.#perMessage = iovecsPerMessage;
    this.#controlBytes = controlBytes;
    this.#headers = arena.reserve(count * MMSGHDR_BYTES, 64);
    this.#names = arena.reserve(count * SOCKADDR_BYTES);
    this.#iovecs = arena.reserve(count * iovecsPerMessage * IOVEC_BYTES);
    this.#controls = arena.reserve(count * controlBytes);
    for (let slot = 0; slot < count; slot++) {
      const header = this.#headers + slot * MMSGHDR_BYTES;
      arena.setPointer(header + NAME, this.nameAt(slot));
      arena.setPointer(header + IOV, this.#iovecs + slot * iovecsPerMessage * IOVEC_BYTES);
      arena.setPointer(header + CONTROL, this.#controls + slot * this.#controlBytes);
    }
  }

  /** Arena offset of the slot's own sockaddr: the source of a message received. */
  nameAt(slot: number): number {
    return this.#names + slot * SOCKADDR_BYTES;
  }

  /** Where a received message of this slot goes. Once, or whenever the buffer is swapped for another. */
  buffer(slot: number, at: number, length: number): void {
    writeIovec(this.#arena, this.#iovecs + slot * this.#perMessage * IOVEC_BYTES, at, length);
    this.#arena.u32[(this.#headers + slot * MMSGHDR_BYTES + IOV_LENGTH) >>> 2] = 1;
  }

  /** Takes what is there, at most `max` messages, into slots 0…: their number (0 where there is none), or -errno. */
  receive(fd: number, max: number): number {
    if (this.#sends) throw new Fault('this message table sends: receiving would overwrite the addresses it sends to');
    const u32 = this.#arena.u32;
    for (let slot = 0; slot < max; slot++) {
      const word = (this.#headers + slot * MMSGHDR_BYTES) >>> 2;
      u32[word + (NAME_LENGTH >>> 2)] = SOCKADDR_BYTES;
      u32[word + (CONTROL_LENGTH >>> 2)] = this.#controlBytes;
    }
    this.#mustHave(0, max);
    const received = this.#libc.recvmmsg(fd, this.#arena.base + this.#headers, max, MSG_DONTWAIT, 0);
    if (received < 0) return this.#failure();
    for (let slot = 0; slot < received; slot++) this.#readControl(slot);
    return received;
  }

  /** Octets received in, or sent from, the slot. */
  length(slot: number): number {
    return this.#arena.u32[(this.#headers + slot * MMSGHDR_BYTES + MSG_LEN) >>> 2]!;
  }

  /** Whether the message received was longer than its buffer. */
  truncated(slot: number): boolean {
    return (this.#arena.u32[(this.#headers + slot * MMSGHDR_BYTES + FLAGS) >>> 2]! & MSG_TRUNC) !== 0;
  }

  /** Arena offset of what the kernel told about the message received: struct cmsghdr and data, again and again, up to `controlEnd`. */
  controlAt(slot: number): number {
    return this.#controls + slot * this.#controlBytes;
  }

  controlEnd(slot: number): number {
    const told = this.#arena.u32[(this.#headers + slot * MMSGHDR_BYTES + CONTROL_LENGTH) >>> 2]!;
    return this.controlAt(slot) + Math.min(this.#controlBytes, told);
  }

  /** Whether there was more to tell than `controlBytes` hold. */
  controlTruncated(slot: number): boolean {
    return (this.#arena.u32[(this.#headers + slot * MMSGHDR_BYTES + FLAGS) >>> 2]! & MSG_CTRUNC) !== 0;
  }

  /** Begins a message to the sockaddr of `toBytes` octets at `toAt` (`writeSockaddr`), without pieces and control data. */
  begin(slot: number, toAt: number, toBytes: number): void {
    this.#arena.mustHold(toAt, toBytes);
    const u32 = this.#arena.u32;
    this.#sends = true;
    const word = (this.#headers + slot * MMSGHDR_BYTES) >>> 2;
    const address = this.#arena.base + toAt;
    u32[word] = address;
    u32[word + 1] = address / 0x1_0000_0000;
    u32[word + (NAME_LENGTH >>> 2)] = toBytes;
    u32[word + (IOV_LENGTH >>> 2)] = 0;
    u32[word + (CONTROL_LENGTH >>> 2)] = 0;
  }

  /** Appends a piece to the message; false where it has all its pieces, which ends the message. */
  add(slot: number, at: number, length: number): boolean {
    const u32 = this.#arena.u32;
    const word = (this.#headers + slot * MMSGHDR_BYTES + IOV_LENGTH) >>> 2;
    const pieces = u32[word]!;
    if (pieces === this.#perMessage) return false;
    writeIovec(this.#arena, this.#iovecs + (slot * this.#perMessage + pieces) * IOVEC_BYTES, at, length);
    u32[word] = pieces + 1;
    return true;
  }

  /**
   * Control data of a message to send. `segmentBytes`: cut it into datagrams of this size, the last may be shorter, at most 64 of
   * them and 65,507 octets in all (0: one datagram); EINVAL tells that a segment is longer than the MTU, EIO that the device
   * cannot: send them singly there. `trafficClass`: its TOS (-1: the socket's). `sourceAt`: arena offset of the address to send
   * from (-1: the kernel chooses).
   */
  control(slot: number, family: 4 | 6, segmentBytes: number, trafficClass: number, sourceAt: number): void {
    const { u32, bytes } = this.#arena;
    const start = this.controlAt(slot);
    let at = start;
    if (segmentBytes > 0) {
      this.#cmsg(at, 2, IPPROTO_UDP, UDP_SEGMENT);
      u32[(at + CMSGHDR_BYTES) >>> 2] = segmentBytes;
      at += 24;
    }
    if (trafficClass >= 0) {
      this.#cmsg(at, 4, family === 4 ? IPPROTO_IP : IPPROTO_IPV6, family === 4 ? IP_TOS : IPV6_TCLASS);
      u32[(at + CMSGHDR_BYTES) >>> 2] = trafficClass;
      at += 24;
    }
    if (sourceAt >= 0 && family === 4) {
      this.#cmsg(at, 12, IPPROTO_IP, IP_PKTINFO);
      u32[(at + CMSGHDR_BYTES) >>> 2] = 0;
      bytes.copyWithin(at + CMSGHDR_BYTES + 4, sourceAt, sourceAt + 4);
      u32[(at + CMSGHDR_BYTES + 8) >>> 2] = 0;
      at += 32;
    } else if (sourceAt >= 0) {
      this.#cmsg(at, 20, IPPROTO_IPV6, IPV6_PKTINFO);
      bytes.copyWithin(at + CMSGHDR_BYTES, sourceAt, sourceAt + 16);
      u32[(at + CMSGHDR_BYTES + 16) >>> 2] = 0;
      at += 40;
    }
    u32[(this.#headers + slot * MMSGHDR_BYTES + CONTROL_LENGTH) >>> 2] = at - start;
  }

  /**
   * Sends `count` messages from slot `first`: how many the kernel took (0: it can take none now), or -errno of the very first,
   * which the caller drops before it goes on with the next.
   */
  send(fd: number, first: number, count: number): number {
    this.#mustHave(first, count);
    const sent = this.#libc.sendmmsg(fd, this.#arena.base + this.#headers + first * MMSGHDR_BYTES, count, MSG_DONTWAIT);
    return sent < 0 ? this.#failure() : sent;
  }

  #mustHave(first: number, count: number): void {
    if (first >= 0 && count >= 0 && first + count <= this.count) return;
    throw new Fault(`messages ${first} to ${first + count - 1} of a table of ${this.count}`);
  }

  #failure(): number {
    const errno = this.#libc.errno();
    return errno === EAGAIN || errno === EINTR ? 0 : -errno;
  }

  #cmsg(at: number, dataBytes: number, level: number, type: number): void {
    const u32 = this.#arena.u32;
    const word = at >>> 2;
    u32[word] = CMSGHDR_BYTES + dataBytes;
    u32[word + 1] = 0;
    u32[word + 2] = level;
    u32[word + 3] = type;
  }

  #readControl(slot: number): void {
    const u32 = this.#arena.u32;
    this.segmentBytes[slot] = 0;
    this.trafficClass[slot] = 0;
    this.localAt[slot] = -1;
    this.interfaceIndex[slot] = 0;
    let at = this.controlAt(slot);
    const end = this.controlEnd(slot);
    while (at + CMSGHDR_BYTES <= end) {
      const word = at >>> 2;
      const length = u32[word]!;
      if (length < CMSGHDR_BYTES || at + length > end) return;
      const octets = length - CMSGHDR_BYTES;
      const level = u32[word + 2]!;
      const type = u32[word + 3]!;
      const data = word + (CMSGHDR_BYTES >>> 2);
      if (level === IPPROTO_UDP && type === UDP_GRO && octets >= 4) this.segmentBytes[slot] = u32[data]!;
      else if (level === IPPROTO_IP && type === IP_TOS) this.trafficClass[slot] = u32[data]! & 0xff;
      else if (level === IPPROTO_IPV6 && type === IPV6_TCLASS) this.trafficClass[slot] = u32[data]! & 0xff;
      else if (level === IPPROTO_IP && type === IP_PKTINFO && octets >= 12) {
        this.interfaceIndex[slot] = u32[data]!;
        this.localAt[slot] = (data + 2) << 2;
      } else if (level === IPPROTO_IPV6 && type === IPV6_PKTINFO && octets >= 20) {
        this.localAt[slot] = data << 2;
        this.interfaceIndex[slot] = u32[data + 4]!;
      }
      at += (length + 7) & ~7;
    }
  }
}
