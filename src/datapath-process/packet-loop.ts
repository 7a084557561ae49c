/**
 * The packet path: waits in epoll for the device, the sockets and the eventfd; batches of received ESP become frames for the device, frames
 * from the device become trains of ESP (RFC 4303, RFC 3948). One thread, nothing allocated per packet.
 */

import type { PacketEngine } from '../datapath/datapath.ts';
import { INPUT, OUTPUT, PACKET_ROOM } from '../datapath/slots.ts';
import type { Instant } from '../machine.ts';
import { type Endpoint, type Family, IpAddress } from '../net/address.ts';
import {
  Epoll,
  IOVEC_BYTES,
  MessageTable,
  POLLIN,
  readSockaddr,
  type Tun,
  VNET_HDR_BYTES,
  writeIovec,
} from '../runtime/native/index.ts';
import { AhReceiver } from './ah-receiver.ts';
import type { NativeMemory } from './packet-memory.ts';
import type { Sender, Sockets } from './sender.ts';

/** Packets taken from the device or a socket at once. */
export const BATCH = 32;
/** Batches taken from one descriptor before the others have their turn. */
const ROUNDS = 4;
/** Pieces of one frame for the device: as many as writev takes would do; the coalescer uses 64. */
const MAX_PIECES = 256;
const NAME_PORT = 2;
const NAME_ADDRESS: Readonly<Record<Family, number>> = { 4: 4, 6: 8 };

export interface LoopEvents {
  /** An IKE message that arrived on the encapsulation port. The arena holds it until this returns. */
  readonly onIke: (slot: number, at: number, length: number) => void;
  /** Whether frames for the device are to be looked at first; and one of them: true where it is not for the device. */
  readonly inspects: () => boolean;
  readonly onFrame: (packet: Uint8Array) => boolean;
}

/** A socket that packets come from. */
interface Source {
  readonly fd: number;
  readonly family: Family;
  readonly kind: number;
  readonly pollIndex: number;
}

export class PacketLoop {
  readonly drops = { deviceFull: 0, deviceRefused: 0, truncated: 0, receiveFailed: 0 };
  readonly #memory: NativeMemory;
  readonly #engine: PacketEngine;
  readonly #tun: Tun;
  readonly #sender: Sender;
  readonly #events: LoopEvents;
  readonly #poll: Epoll;
  readonly #inbox: MessageTable;
  readonly #ahInbox: AhReceiver;
  readonly #sources: readonly Source[];
  readonly #encapPort: number;
  /** Milliseconds. */
  readonly #spin: number;
  readonly #iovecsAt: number;
  readonly #deviceIndex: number;
  readonly #headerBytes: number;
  readonly #tunIndex: number;
  readonly #others: number[];
  /** Whether the device had more than one packet in the last turn. */
  #deviceWasBusy = false;
  /** Given to the engine for packets; one object, since that happens for each batch. */
  readonly #now: { mono: number; wall: number };

  /** `deviceIndex`: the device's number among interfaces; `others`: descriptors that `wait` reports, e.g. the eventfd. */
  constructor(
    memory: NativeMemory,
    engine: PacketEngine,
    tun: Tun,
    sockets: Sockets,
    sender: Sender,
    { encapPort, spin }: { readonly encapPort: number; readonly spin: number },
    deviceIndex: number,
    others: readonly number[],
    events: LoopEvents,
  ) {
    const { libc, arena } = memory;
    this.#memory = memory;
    this.#engine = engine;
    this.#tun = tun;
    this.#sender = sender;
    this.#events = events;
    this.#encapPort = encapPort;
    this.#spin = spin / 1000;
    this.#deviceIndex = deviceIndex;
    this.#now = { mono: memory.boottime(), wall: Date.now() };
    this.#headerBytes = tun.offloads.header ? VNET_HDR_BYTES : 0;
    this.#iovecsAt = arena.reserve(MAX_PIECES * IOVEC_BYTES);
    this.#poll = new Epoll(libc, arena, 9 + others.length);
    this.#others = others.map((fd) => this.#poll.add(fd));
    this.#tunIndex = this.#poll.add(tun.fd);
    this.#inbox = new MessageTable(libc, arena, BATCH);
    for (let slot = 0; slot < BATCH; slot++) this.#inbox.buffer(slot, engine.inputs.buffer[slot]!, PACKET_ROOM);
    this.#ahInbox = new AhReceiver(memory, engine, BATCH);
    this.#sources = ([4, 6] as const).flatMap((family) => {
      const { udp, raw, ah, icmp } = sockets[family];
      const source = (fd: number, kind: number): Source => ({ fd, family, kind, pollIndex: this.#poll.add(fd) });
      return [
        ...(udp === undefined ? [] : [source(udp.fd, INPUT.udp)]),
        ...(raw === undefined ? [] : [source(raw.fd, family === 4 ? INPUT.rawWithHeader : INPUT.raw)]),
        ...(ah === undefined ? [] : [source(ah.fd, INPUT.ah)]),
        ...(icmp === undefined ? [] : [source(icmp.fd, family === 4 ? INPUT.icmp : INPUT.icmpv6)]),
      ];
    });
  }

  /** Waits until packets or `others` have something, at most until `mono` milliseconds (undefined: for ever), and handles the packets. */
  turn(until: number | undefined): void {
    const milliseconds = until === undefined ? -1 : Math.max(0, Math.min(Math.ceil(until - this.#now.mono), 3_600_000));
    if (this.#spin === 0 || !this.#spins(milliseconds)) this.#poll.wait(milliseconds);
    this.#now.mono = this.#memory.boottime();
    this.#now.wall = Date.now();
    for (let i = 0; i < this.#sources.length; i++) {
      const source = this.#sources[i]!;
      if (this.#poll.events(source.pollIndex) === 0) continue;
      if (source.kind === INPUT.ah && source.family === 6) this.#receiveAh(source.fd);
      else this.#receive(source);
    }
    if ((this.#poll.events(this.#tunIndex) & POLLIN) !== 0) this.#readDevice();
  }

  /** What comes while the thread looks for it is not kept waiting for the thread to wake. True once there is something. */
  #spins(milliseconds: number): boolean {
    const end = this.#memory.boottime() + (milliseconds < 0 ? this.#spin : Math.min(this.#spin, milliseconds));
    do {
      if (this.#poll.wait(0) > 0) return true;
    } while (this.#memory.boottime() < end);
    return false;
  }

  /** Whether the descriptor of that index among `others` has something. */
  has(other: number): boolean {
    return this.#poll.events(this.#others[other]!) !== 0;
  }

  /** Both clocks as they were at the beginning of this turn, in the one object that packets are handed over with. */
  get now(): Instant {
    return this.#now;
  }

  close(): void {
    this.#poll.close();
  }

  /** Who sent what lies in the slot, and to which of our addresses. For rare packets, before the next batch. */
  remoteOf(slot: number): Endpoint | undefined {
    return readSockaddr(this.#memory.arena, this.#inbox.nameAt(slot));
  }

  localOf(slot: number): IpAddress | undefined {
    const at = this.#inbox.localAt[slot]!;
    const bytes = this.#engine.inputs.localFamily[slot] === 4 ? 4 : 16;
    return at < 0 ? undefined : IpAddress.of(this.#memory.bytes.subarray(at, at + bytes));
  }

  /** A packet as if it had come from the device. */
  inject(packet: Uint8Array): void {
    const { inputs } = this.#engine;
    this.#memory.bytes.set(packet, inputs.buffer[0]!);
    inputs.takePacket(0, INPUT.frame, packet.length);
    this.#protect(1);
  }

  /** Sends what waited for an SA and may go now. */
  release(): void {
    while (this.#engine.hasReleasable) {
      this.#engine.releaseHeld(this.#now);
      this.#carryOut();
    }
  }

  #readDevice(): void {
    const { inputs } = this.#engine;
    const tun = this.#tun;
    const header = this.#headerBytes;
    // A packet that comes alone is on its way before it is known that there is no other.
    let most = this.#deviceWasBusy ? BATCH : 1;
    this.#deviceWasBusy = false;
    for (let round = 0; round < ROUNDS; round++) {
      let count = 0;
      while (count < most) {
        const octets =
          header > 0 ? tun.read(inputs.frameAt(count), PACKET_ROOM + header) : tun.read(inputs.buffer[count]!, PACKET_ROOM);
        if (octets <= 0) {
          if (octets < 0) this.drops.receiveFailed++;
          break;
        }
        if (header > 0) inputs.takeFrame(count, octets);
        else inputs.takePacket(count, INPUT.frame, octets);
        count++;
      }
      if (count === 0) return;
      this.#deviceWasBusy ||= round > 0 || count > 1;
      this.#protect(count);
      if (count < most) return;
      most = BATCH;
    }
  }

  #protect(count: number): void {
    const now = this.#now;
    for (let done = 0; done < count; ) {
      done += this.#engine.protectBatch(done, count - done, now);
      this.#carryOut();
    }
  }

  #receive({ fd, family, kind }: Source): void {
    const { inputs } = this.#engine;
    const inbox = this.#inbox;
    for (let round = 0; round < ROUNDS; round++) {
      const received = inbox.receive(fd, BATCH);
      if (received < 0) this.drops.receiveFailed++;
      if (received <= 0) return;
      for (let slot = 0; slot < received; slot++) {
        if (inbox.truncated(slot)) this.drops.truncated++;
        inputs.takePacket(slot, kind, Math.min(inbox.length(slot), PACKET_ROOM), inbox.segmentBytes[slot]);
        inputs.trafficClass[slot] = inbox.trafficClass[slot]!;
        if (kind !== INPUT.rawWithHeader && kind !== INPUT.ah) this.#noteAddresses(slot, family);
      }
      if (kind === INPUT.icmp || kind === INPUT.icmpv6) this.#hearIcmp(received);
      else this.#unprotect(received);
      if (received < BATCH) return;
    }
  }

  #unprotect(count: number): void {
    const now = this.#now;
    for (let done = 0; done < count; ) {
      done += this.#engine.unprotectBatch(done, count - done, now);
      this.#carryOut();
    }
  }

  /** AH over IPv6: rare, and it needs its headers put together. */
  #receiveAh(fd: number): void {
    const received = this.#ahInbox.receive(fd);
    if (received < 0) this.drops.receiveFailed++;
    if (received > 0) this.#unprotect(received);
  }

  /** Errors that come out of the device are the engine's own answers, or came through a tunnel and are about what was in it. */
  #hearIcmp(received: number): void {
    const now = this.#now;
    for (let slot = 0; slot < received; slot++)
      if (this.#inbox.interfaceIndex[slot] !== this.#deviceIndex) this.#engine.icmpError(slot, now);
  }

  #noteAddresses(slot: number, family: Family): void {
    const { inputs } = this.#engine;
    const { bytes } = this.#memory;
    const name = this.#inbox.nameAt(slot);
    const port = (bytes[name + NAME_PORT]! << 8) | bytes[name + NAME_PORT + 1]!;
    inputs.setRemote(slot, family, name + NAME_ADDRESS[family], port);
    const local = this.#inbox.localAt[slot]!;
    if (local >= 0) inputs.setLocal(slot, family, local, this.#encapPort);
    else inputs.localFamily[slot] = 0;
  }

  /** Sends and delivers what the last batch gave. */
  #carryOut(): void {
    const { outputs } = this.#engine;
    for (let i = 0; i < outputs.count; i++) {
      const kind = outputs.kind[i];
      if (kind === OUTPUT.esp) this.#sender.esp(i);
      else if (kind === OUTPUT.device) this.#deliver(i);
      else if (kind === OUTPUT.clear) this.#sender.clear(outputs.offset[i]!, outputs.length[i]!);
      else this.#events.onIke(outputs.slot[i]!, outputs.offset[i]!, outputs.length[i]!);
    }
    this.#sender.flush();
  }

  #deliver(output: number): void {
    if (this.#events.inspects() && this.#events.onFrame(this.#copyOf(output))) return;
    const { outputs } = this.#engine;
    const header = this.#headerBytes;
    const first = outputs.firstPiece[output]!;
    const pieces = outputs.pieces[output]!;
    const at = outputs.pieceOffset[first]! - header;
    const length = outputs.pieceLength[first]! + header;
    let written: number;
    if (pieces === 1) written = this.#tun.write(at, length);
    else {
      const { arena } = this.#memory;
      writeIovec(arena, this.#iovecsAt, at, length);
      for (let i = 1; i < pieces; i++) {
        writeIovec(arena, this.#iovecsAt + i * IOVEC_BYTES, outputs.pieceOffset[first + i]!, outputs.pieceLength[first + i]!);
      }
      written = this.#tun.writev(this.#iovecsAt, pieces);
    }
    if (written === 0) this.drops.deviceFull++;
    else if (written < 0) this.drops.deviceRefused++;
  }

  #copyOf(output: number): Uint8Array {
    const { firstPiece, pieces, pieceOffset, pieceLength, length } = this.#engine.outputs;
    const packet = new Uint8Array(length[output]!);
    let at = 0;
    for (let piece = firstPiece[output]!; piece < firstPiece[output]! + pieces[output]!; piece++) {
      packet.set(this.#memory.bytes.subarray(pieceOffset[piece]!, pieceOffset[piece]! + pieceLength[piece]!), at);
      at += pieceLength[piece]!;
    }
    return packet;
  }
}
