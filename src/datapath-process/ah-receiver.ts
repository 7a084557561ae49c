/**
 * AH over IPv6 as a raw socket hands it on, without the headers before it, which AH covers: they are put together again from what the kernel tells
 * about them (RFC 3542 §4, §7 to §9; RFC 4302 §3.3.3.1.2).
 */

import type { PacketEngine } from '../datapath/datapath.ts';
import { swapHomeAddress } from '../datapath/mutable-fields.ts';
import { INPUT, PACKET_ROOM } from '../datapath/slots.ts';
import { IPV6 } from '../net/ip-packet.ts';
import { PROTOCOL } from '../net/transport.ts';
import {
  CMSGHDR_BYTES,
  IPPROTO_IPV6,
  IPV6_DSTOPTS,
  IPV6_HOPLIMIT,
  IPV6_HOPOPTS,
  IPV6_RTHDR,
  MessageTable,
} from '../runtime/native/index.ts';
import type { NativeMemory } from './packet-memory.ts';

/** Most that the extension headers before AH may have, and what the kernel tells besides. */
const HEADERS = 2048;
const CONTROL = HEADERS + 512;
const NAME_ADDRESS = 8;
const HOP_LIMIT = 64;
const NEXT_HEADER: Readonly<Record<number, number>> = {
  [IPV6_HOPOPTS]: PROTOCOL.hopByHop,
  [IPV6_RTHDR]: PROTOCOL.routing,
  [IPV6_DSTOPTS]: PROTOCOL.destinationOptions,
};

export class AhReceiver {
  readonly #memory: NativeMemory;
  readonly #engine: PacketEngine;
  readonly #inbox: MessageTable;
  /** What the IPv6 header of the packet at hand says. */
  #first: number = PROTOCOL.ah;
  #hopLimit = HOP_LIMIT;

  constructor(memory: NativeMemory, engine: PacketEngine, batch: number) {
    const { libc, arena } = memory;
    this.#memory = memory;
    this.#engine = engine;
    this.#inbox = new MessageTable(libc, arena, batch, 1, CONTROL);
    for (let slot = 0; slot < batch; slot++)
      this.#inbox.buffer(slot, engine.inputs.buffer[slot]! + HEADERS, PACKET_ROOM - HEADERS);
  }

  /** Takes what is there into input slots from 0: how many, 0 where there is none, or -errno. One whose headers are not known becomes an empty slot, which the engine drops as malformed. */
  receive(fd: number): number {
    const received = this.#inbox.receive(fd, this.#inbox.count);
    for (let slot = 0; slot < received; slot++) this.#rebuild(slot);
    return received;
  }

  #rebuild(slot: number): void {
    const { inputs } = this.#engine;
    const { bytes, arena } = this.#memory;
    const inbox = this.#inbox;
    const ahAt = inputs.buffer[slot]! + HEADERS;
    const extensionBytes = this.#layExtensions(slot, ahAt);
    const payloadBytes = extensionBytes + inbox.length(slot);
    inputs.takePacket(slot, INPUT.ah, 0);
    if (extensionBytes < 0 || inbox.localAt[slot]! < 0 || inbox.truncated(slot) || payloadBytes > 0xffff) return;
    const at = ahAt - extensionBytes - IPV6.bytes;
    arena.view.setUint32(at, 0x60000000 + inbox.trafficClass[slot]! * 0x100000);
    arena.view.setUint16(at + IPV6.payloadLength, payloadBytes);
    bytes[at + IPV6.nextHeader] = this.#first;
    bytes[at + IPV6.hopLimit] = this.#hopLimit;
    const source = inbox.nameAt(slot) + NAME_ADDRESS;
    bytes.copyWithin(at + IPV6.source, source, source + 16);
    bytes.copyWithin(at + IPV6.destination, inbox.localAt[slot]!, inbox.localAt[slot]! + 16);
    let nextHeader = this.#first;
    for (let header = at + IPV6.bytes; header < ahAt; header += 8 + 8 * bytes[header + 1]!) {
      if (nextHeader === PROTOCOL.destinationOptions) swapHomeAddress(bytes, at, header);
      nextHeader = bytes[header]!;
    }
    inputs.offset[slot] = at;
    inputs.length[slot] = IPV6.bytes + payloadBytes;
  }

  /** Lays the extension headers that end at `ahAt`, in the order in which the kernel tells them: their octets, or -1 where they are no chain to AH. */
  #layExtensions(slot: number, ahAt: number): number {
    const { bytes, arena } = this.#memory;
    const { u32 } = arena;
    const inbox = this.#inbox;
    if (inbox.controlTruncated(slot)) return -1;
    const end = inbox.controlEnd(slot);
    const start = ahAt - HEADERS + IPV6.bytes;
    let laid = start;
    let expected = -1;
    this.#first = PROTOCOL.ah;
    this.#hopLimit = HOP_LIMIT;
    for (let at = inbox.controlAt(slot); at + CMSGHDR_BYTES <= end; ) {
      const length = u32[at >>> 2]!;
      if (length < CMSGHDR_BYTES || at + length > end) return -1;
      const type = u32[(at + 12) >>> 2]!;
      const data = at + CMSGHDR_BYTES;
      const isIpv6 = u32[(at + 8) >>> 2] === IPPROTO_IPV6;
      const nextHeader = isIpv6 ? NEXT_HEADER[type] : undefined;
      if (isIpv6 && type === IPV6_HOPLIMIT) this.#hopLimit = bytes[data]!;
      else if (nextHeader !== undefined) {
        const octets = length - CMSGHDR_BYTES;
        if (octets < 8 || octets !== 8 + 8 * bytes[data + 1]! || laid + octets > ahAt) return -1;
        if (expected === -1) this.#first = nextHeader;
        else if (expected !== nextHeader) return -1;
        expected = bytes[data]!;
        bytes.copyWithin(laid, data, data + octets);
        laid += octets;
      }
      at += (length + 7) & ~7;
    }
    if (expected !== -1 && expected !== PROTOCOL.ah) return -1;
    bytes.copyWithin(ahAt - (laid - start), start, laid);
    return laid - start;
  }
}
