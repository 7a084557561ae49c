/**
 * What leaves for the network: trains of ESP by UDP_SEGMENT or one by one, IKE and keepalives, and bypassed packets as they are. Everything is
 * marked, so that it is never diverted again. Nothing is allocated per packet (performance: sendmmsg over tables filled once).
 */

import { constants } from 'node:os';
import type { PacketEngine } from '../datapath/datapath.ts';
import type { Family, IpAddress, Path } from '../net/address.ts';
import {
  letFragment,
  MessageTable,
  type OpenSocket,
  POLLOUT,
  PollTable,
  SOCKADDR_BYTES,
  writeSockaddr,
} from '../runtime/native/index.ts';
import { NON_ESP_MARKER } from './engine-host.ts';
import type { NativeMemory } from './packet-memory.ts';

const { EIO, EINVAL, EMSGSIZE } = constants.errno;
/** Messages of one sendmmsg. */
const BATCH = 64;
/** Paths whose socket addresses are kept, which is that many peers' tunnels at once; others take a place by their id. */
const PATHS = 65_536;
/** sockaddr of the remote end, then our own address. */
const PATH_BYTES = SOCKADDR_BYTES + 16;
/** How long a full socket is waited for, in milliseconds, before what is left of the batch is dropped. */
const PATIENCE = 20;
/** Longest UDP payload, and room for the marker before it. */
const DATAGRAM_ROOM = 65_536;
const NO_LIMIT = 0x10000;
const NO_DOOR = -1;
const IPV6_DOORS = 2;

/** The sockets of one family; what could not be opened is absent. */
export interface FamilySockets {
  readonly udp: OpenSocket | undefined;
  readonly raw: OpenSocket | undefined;
  /** Receives AH; what is sent of it leaves as whole packets. */
  readonly ah: OpenSocket | undefined;
  /** Sends whole IP packets. */
  readonly whole: OpenSocket | undefined;
  /** Hears ICMP errors. */
  readonly icmp: OpenSocket | undefined;
}

export type Sockets = Readonly<Record<Family, FamilySockets>>;

/** Why packets did not leave, by name as `status` shows it. */
export const SEND_DROPS = { noSocket: 0, socketFull: 0, sendRefused: 0 };

export class Sender {
  readonly drops = { ...SEND_DROPS };
  readonly #engine: PacketEngine;
  readonly #memory: NativeMemory;
  readonly #sockets: Sockets;
  readonly #outbox: MessageTable;
  /** For what the kernel would not segment, and for what comes alone. */
  readonly #singles: MessageTable;
  readonly #writable: PollTable;
  readonly #pathsAt: number;
  readonly #scratchAt: number;
  /** By place: the path id it holds (-1: none), its socket, family, sockaddr length, and the longest segment that its kernel side takes. */
  readonly #pathId = new Int32Array(PATHS).fill(-1);
  readonly #pathFd = new Int32Array(PATHS);
  readonly #pathFamily = new Uint8Array(PATHS);
  readonly #pathDoor = new Uint8Array(PATHS);
  /** By door (`doorOf`): whether what leaves by it now may be fragmented, as the sockets were opened. */
  readonly #mayFragment = new Uint8Array(4).fill(1);
  readonly #segmentLimit = new Int32Array(PATHS);
  /** Of the messages in the outbox: how many, for which descriptor, and which output each is. */
  #queued = 0;
  #queuedFd = -1;
  #queuedDoor = 0;
  #queuedWhole = 0;
  readonly #outputOf = new Int32Array(BATCH);

  constructor(memory: NativeMemory, engine: PacketEngine, sockets: Sockets) {
    const { libc, arena } = memory;
    this.#memory = memory;
    this.#engine = engine;
    this.#sockets = sockets;
    this.#outbox = new MessageTable(libc, arena, BATCH);
    this.#singles = new MessageTable(libc, arena, BATCH);
    this.#writable = new PollTable(libc, arena, 1);
    this.#pathsAt = arena.reserve(PATHS * PATH_BYTES, 64);
    this.#scratchAt = arena.reserve(DATAGRAM_ROOM + SOCKADDR_BYTES + 16, 64);
    this.#writable.add(-1, POLLOUT);
  }

  /** Takes one output of kind `esp`. Call `flush` behind the last of a batch. */
  esp(output: number): void {
    const { outputs } = this.#engine;
    const place = this.#placeOf(outputs.path[output]!);
    if (place < 0) {
      this.drops.noSocket += outputs.segments[output]!;
      return;
    }
    const fd = this.#pathFd[place]!;
    const whole = outputs.dontFragment[output]!;
    if (this.#queuedFd !== fd || this.#queuedWhole !== whole || this.#queued === BATCH) this.flush();
    this.#queuedFd = fd;
    this.#queuedDoor = this.#pathDoor[place]!;
    this.#queuedWhole = whole;
    const segment = outputs.segmentBytes[output]!;
    const single = outputs.segments[output] === 1;
    if (!single && segment > this.#segmentLimit[place]!) {
      this.flush();
      this.#sendSingly(output, place, whole === 0);
      return;
    }
    this.#compose(
      this.#outbox,
      this.#queued,
      place,
      output,
      outputs.offset[output]!,
      outputs.length[output]!,
      single ? 0 : segment,
    );
    this.#outputOf[this.#queued++] = output;
  }

  /** Sends what waits in the outbox. */
  flush(): void {
    const count = this.#queued;
    this.#queued = 0;
    if (count > 0) this.#openDoor(this.#queuedDoor, this.#queuedFd, this.#queuedWhole === 0);
    for (let first = 0; first < count; ) {
      const sent = this.#outbox.send(this.#queuedFd, first, count - first);
      if (sent > 0) first += sent;
      else if (sent === 0) {
        if (this.#awaitRoom(this.#queuedFd)) continue;
        for (; first < count; first++) this.drops.socketFull += this.#engine.outputs.segments[this.#outputOf[first]!]!;
      } else this.#refused(this.#outputOf[first++]!, -sent);
    }
  }

  /** An IKE message behind its marker (RFC 3948 §2.2), or a keepalive. */
  datagram(path: Path, bytes: Uint8Array, marker: boolean): void {
    const { arena } = this.#memory;
    const socket = this.#sockets[path.remote.address.family].udp;
    if (socket === undefined || bytes.length > DATAGRAM_ROOM - NON_ESP_MARKER) {
      this.drops.noSocket++;
      return;
    }
    const at = this.#scratchAt;
    const head = marker ? NON_ESP_MARKER : 0;
    arena.bytes.fill(0, at, at + head);
    arena.bytes.set(bytes, at + head);
    this.#openDoor(doorOf(path.remote.address.family, true), socket.fd, true);
    this.#alone(socket.fd, at, head + bytes.length, path.remote.address, path.remote.port, path.local.address);
  }

  /** A whole IP packet, as it is (OUTPUT.clear). */
  clear(at: number, length: number): void {
    const { bytes } = this.#memory;
    const family = bytes[at]! >> 4 === 4 ? 4 : 6;
    const socket = this.#sockets[family].whole;
    if (socket === undefined) {
      this.drops.noSocket++;
      return;
    }
    const name = this.#scratchAt + DATAGRAM_ROOM;
    bytes.fill(0, name, name + SOCKADDR_BYTES);
    bytes[name] = family === 4 ? 2 : 10;
    const destination = at + (family === 4 ? 16 : 24);
    bytes.copyWithin(name + (family === 4 ? 4 : 8), destination, destination + (family === 4 ? 4 : 16));
    this.#singles.begin(0, name, family === 4 ? 16 : 28);
    this.#singles.add(0, at, length);
    this.#transmit(socket.fd, 1);
  }

  /** One datagram to an address that is known as an object: rare. */
  #alone(fd: number, at: number, length: number, remote: IpAddress, port: number, local: IpAddress): void {
    const { arena } = this.#memory;
    const name = this.#scratchAt + DATAGRAM_ROOM;
    const nameBytes = writeSockaddr(arena, name, remote, port);
    arena.bytes.set(local.bytes, name + SOCKADDR_BYTES);
    this.#singles.begin(0, name, nameBytes);
    this.#singles.add(0, at, length);
    this.#singles.control(0, remote.family, 0, -1, local.isUnspecified ? -1 : name + SOCKADDR_BYTES);
    this.#transmit(fd, 1);
  }

  /** Where the path's addresses lie; -1 where no socket can carry it. */
  #placeOf(id: number): number {
    const place = id % PATHS;
    if (this.#pathId[place] === id) return this.#pathFd[place]! < 0 ? -1 : place;
    // Another path had this place, and messages to it may wait.
    this.flush();
    const path = this.#engine.path(id);
    if (path === undefined) return -1;
    const { family } = path.remote.address;
    const sockets = this.#sockets[family];
    const socket = path.encapsulated ? sockets.udp : sockets.raw;
    const at = this.#pathsAt + place * PATH_BYTES;
    writeSockaddr(this.#memory.arena, at, path.remote.address, path.encapsulated ? path.remote.port : 0);
    this.#memory.bytes.set(path.local.address.bytes, at + SOCKADDR_BYTES);
    this.#pathId[place] = id;
    this.#pathFd[place] = socket?.fd ?? -1;
    this.#pathFamily[place] = family;
    this.#pathDoor[place] = doorOf(family, path.encapsulated);
    this.#segmentLimit[place] = socket?.segments === true ? NO_LIMIT : 0;
    return socket === undefined ? -1 : place;
  }

  #compose(table: MessageTable, slot: number, place: number, output: number, at: number, length: number, segment: number): void {
    const family = this.#pathFamily[place] === 4 ? 4 : 6;
    const name = this.#pathsAt + place * PATH_BYTES;
    table.begin(slot, name, family === 4 ? 16 : 28);
    table.add(slot, at, length);
    table.control(slot, family, segment, this.#engine.outputs.trafficClass[output]!, name + SOCKADDR_BYTES);
  }

  /**
   * EINVAL: a segment is longer than the MTU; EIO: the device cannot. Remembered, and sent one by one. EMSGSIZE: the link itself carries less than the
   * packet, which the device's MTU was to prevent: it leaves in fragments.
   */
  #refused(output: number, errno: number): void {
    const { outputs } = this.#engine;
    const place = outputs.path[output]! % PATHS;
    const segment = outputs.segmentBytes[output]!;
    if (outputs.segments[output]! > 1 && (errno === EIO || errno === EINVAL || errno === EMSGSIZE)) {
      this.#segmentLimit[place] = errno === EIO ? 0 : segment - 1;
      this.#sendSingly(output, place, outputs.dontFragment[output] === 0);
    } else if (errno === EMSGSIZE && outputs.dontFragment[output] === 1) this.#sendSingly(output, place, true);
    else this.drops.sendRefused += outputs.segments[output]!;
  }

  #sendSingly(output: number, place: number, mayFragment: boolean): void {
    const { outputs } = this.#engine;
    const end = outputs.offset[output]! + outputs.length[output]!;
    const step = outputs.segmentBytes[output]!;
    const fd = this.#pathFd[place]!;
    const door = this.#pathDoor[place]!;
    this.#openDoor(door, fd, mayFragment);
    let count = 0;
    for (let at = outputs.offset[output]!; at < end; at += step) {
      this.#compose(this.#singles, count++, place, output, at, Math.min(step, end - at), 0);
      if (count < BATCH) continue;
      this.#transmit(fd, count, door);
      count = 0;
    }
    if (count > 0) this.#transmit(fd, count, door);
  }

  /** IPv4: whether routers may fragment what leaves by a door from now on (RFC 4301 §8.1): seldom other than before. */
  #openDoor(door: number, fd: number, mayFragment: boolean): void {
    if (door >= IPV6_DOORS || (this.#mayFragment[door] === 1) === mayFragment) return;
    // Where the kernel refuses, packets leave as before: with DF where routers might cut them, or without; neither is worse than a lost one.
    letFragment(this.#memory.libc, fd, mayFragment);
    this.#mayFragment[door] = mayFragment ? 1 : 0;
  }

  #transmit(fd: number, count: number, door = NO_DOOR): void {
    for (let first = 0; first < count; ) {
      const sent = this.#singles.send(fd, first, count - first);
      if (sent > 0) first += sent;
      else if (sent === 0) {
        if (this.#awaitRoom(fd)) continue;
        this.drops.socketFull += count - first;
        return;
      } else if (sent === -EMSGSIZE && door !== NO_DOOR && this.#mayFragment[door] === 0) this.#openDoor(door, fd, true);
      else {
        this.drops.sendRefused++;
        first++;
      }
    }
  }

  #awaitRoom(fd: number): boolean {
    this.#writable.set(0, fd, POLLOUT);
    return this.#writable.wait(PATIENCE) > 0;
  }
}

/** The four sockets that ESP leaves by. */
function doorOf(family: Family, encapsulated: boolean): number {
  return (family === 4 ? 0 : IPV6_DOORS) + (encapsulated ? 0 : 1);
}
