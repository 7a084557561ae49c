/** The encapsulation port where the kernel has ESP (RFC 3948): it takes ESP and keepalives from these sockets, and leaves IKE to us. */

import type { DatapathSettings } from '../datapath-process/ports.ts';
import { SystemError } from '../errors.ts';
import { type Family, IpAddress, type Path } from '../net/address.ts';
import {
  Arena,
  close,
  giveEspToKernel,
  type Libc,
  MessageTable,
  type OpenSocket,
  openUdp,
  readSockaddr,
  SOCKADDR_BYTES,
  writeSockaddr,
} from '../runtime/native/index.ts';

/** The non-ESP marker, RFC 3948 §2.2. */
const MARKER = 4;
const BATCH = 16;
const DATAGRAM_ROOM = 65_536;
const BUFFER_BYTES = 4 * 1024 * 1024;
/** A host without IPv6 is no problem. */
const NO_FAMILY = ['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EPROTONOSUPPORT'];

export class EncapSockets {
  readonly #libc: Libc;
  readonly #arena: Arena;
  readonly #port: number;
  readonly #sockets: readonly OpenSocket[];
  readonly #inbox: MessageTable;
  readonly #buffersAt: number;
  readonly #outbox: MessageTable;
  readonly #scratchAt: number;
  /** Messages that no socket could carry. */
  failed = 0;

  /** What cannot be opened is told in `problems`. */
  constructor(libc: Libc, { datapath }: DatapathSettings, problems: string[]) {
    this.#libc = libc;
    this.#port = datapath.encapPort;
    this.#arena = new Arena(libc, (BATCH + 2) * DATAGRAM_ROOM + 65_536);
    this.#sockets = ([4, 6] as const).flatMap((family) => this.#open(family, problems));
    this.#inbox = new MessageTable(libc, this.#arena, BATCH);
    this.#buffersAt = this.#arena.reserve(BATCH * DATAGRAM_ROOM);
    for (let slot = 0; slot < BATCH; slot++) this.#inbox.buffer(slot, this.#buffersAt + slot * DATAGRAM_ROOM, DATAGRAM_ROOM);
    this.#outbox = new MessageTable(libc, this.#arena, 1);
    this.#scratchAt = this.#arena.reserve(DATAGRAM_ROOM + 2 * SOCKADDR_BYTES);
  }

  get fds(): readonly number[] {
    return this.#sockets.map(({ fd }) => fd);
  }

  /** IKE messages that wait, without their marker. */
  receive(onIke: (path: Path, bytes: Uint8Array) => void): void {
    for (const { fd, family } of this.#sockets) {
      const count = this.#inbox.receive(fd, BATCH);
      for (let slot = 0; slot < count; slot++) {
        const length = this.#inbox.length(slot);
        const remote = readSockaddr(this.#arena, this.#inbox.nameAt(slot));
        const localAt = this.#inbox.localAt[slot]!;
        if (remote === undefined || localAt < 0 || length <= MARKER) continue;
        const { bytes } = this.#arena;
        const address = IpAddress.of(bytes.slice(localAt, localAt + (family === 4 ? 4 : 16)));
        const at = this.#buffersAt + slot * DATAGRAM_ROOM;
        if (bytes.subarray(at, at + MARKER).some((octet) => octet !== 0)) continue;
        const path: Path = { local: { address, port: this.#port }, remote, encapsulated: true };
        onIke(path, bytes.slice(at + MARKER, at + length));
      }
    }
  }

  /** One IKE message behind its marker, or a keepalive without. */
  send({ local, remote }: Path, datagram: Uint8Array, marker: boolean): void {
    const socket = this.#sockets.find(({ family }) => family === remote.address.family);
    const head = marker ? MARKER : 0;
    if (socket === undefined || head + datagram.length > DATAGRAM_ROOM) {
      this.failed++;
      return;
    }
    const arena = this.#arena;
    const at = this.#scratchAt;
    const name = at + DATAGRAM_ROOM;
    arena.bytes.fill(0, at, at + head);
    arena.bytes.set(datagram, at + head);
    const nameBytes = writeSockaddr(arena, name, remote.address, remote.port);
    arena.bytes.set(local.address.bytes, name + SOCKADDR_BYTES);
    this.#outbox.begin(0, name, nameBytes);
    this.#outbox.add(0, at, head + datagram.length);
    this.#outbox.control(0, remote.address.family, 0, -1, local.address.isUnspecified ? -1 : name + SOCKADDR_BYTES);
    if (this.#outbox.send(socket.fd, 0, 1) !== 1) this.failed++;
  }

  close(): void {
    for (const { fd } of this.#sockets) close(this.#libc, fd);
  }

  #open(family: Family, problems: string[]): OpenSocket[] {
    const libc = this.#libc;
    try {
      const socket = openUdp(libc, {
        family,
        port: this.#port,
        packetInfo: true,
        receiveBufferBytes: BUFFER_BYTES,
        sendBufferBytes: BUFFER_BYTES,
      });
      try {
        giveEspToKernel(libc, socket.fd);
      } catch (error) {
        close(libc, socket.fd);
        throw error;
      }
      return [socket];
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      if (family === 4 || !NO_FAMILY.includes(error.code ?? '')) problems.push(error.message);
      return [];
    }
  }
}
