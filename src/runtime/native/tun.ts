/**
 * The TUN device, Linux's Documentation/networking/tuntap: whole IP packets through a descriptor, with segmentation offload where
 * the kernel has it.
 */

import { SystemError } from '../../errors.ts';
import { type Arena, scratch } from './arena.ts';
import { check, EAGAIN, EINTR, type Libc, systemError } from './libc.ts';
import { IOVEC_BYTES, writeIovec } from './messages.ts';

const O_RDWR_NONBLOCK_CLOEXEC = 0o2004002;
const TUNSETIFF = 0x400454ca;
const TUNGETIFF = 0x800454d2;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_TSO6 = 0x04;
const TUN_F_USO4 = 0x20;
const TUN_F_USO6 = 0x40;

/** Octets of `struct virtio_net_hdr`, which precedes each packet of a device with `header`. */
export const VNET_HDR_BYTES = 10;

/** Offsets in `struct virtio_net_hdr`; its 16-bit numbers are little-endian here. */
export const VNET = { flags: 0, gsoType: 1, headerBytes: 2, gsoBytes: 4, checksumStart: 6, checksumOffset: 8 } as const;

/** Values of `gsoType`. `udp` asks for segmentation into datagrams (UDP_L4); bit 0x80 tells that TCP's ECN is in use. */
export const VNET_GSO = { none: 0, tcp4: 1, tcp6: 4, udp: 5, ecn: 0x80 } as const;

/** Values of `flags`: the checksum is still to be computed; the checksum is known to be right. */
export const VNET_FLAG = { needsChecksum: 1, dataValid: 2 } as const;

/** What the kernel agreed to hand over uncut. */
export interface TunOffloads {
  /** Each packet is preceded by a `virtio_net_hdr` of `VNET_HDR_BYTES`, in both directions. */
  readonly header: boolean;
  readonly checksum: boolean;
  /** TCP over IPv4 and IPv6 up to 64 KiB. */
  readonly tcp: boolean;
  /** UDP over IPv4 and IPv6 (Linux 6.2 and later). */
  readonly udp: boolean;
}

const NO_OFFLOADS: TunOffloads = { header: false, checksum: false, tcp: false, udp: false };

/** An open TUN device. The descriptor does not block. Closing it removes the device. */
export class Tun {
  readonly fd: number;
  /** As the kernel named it. */
  readonly name: string;
  readonly offloads: TunOffloads;
  readonly #libc: Libc;
  readonly #arena: Arena;

  /** Adopts an open descriptor (`openTun`, or one inherited). */
  constructor(libc: Libc, arena: Arena, fd: number, name: string, offloads: TunOffloads) {
    this.#libc = libc;
    this.#arena = arena;
    this.fd = fd;
    this.name = name;
    this.offloads = offloads;
  }

  /** Reads one packet to arena offset `at`: its octets (0: there is none now), or -errno. */
  read(at: number, length: number): number {
    this.#arena.mustHold(at, length);
    return this.#done(this.#libc.read(this.fd, this.#arena.base + at, length));
  }

  /** Reads one packet into the `count` pieces whose iovecs are at `iovecsAt`: its octets (0: there is none now), or -errno. */
  readv(iovecsAt: number, count: number): number {
    this.#arena.mustHold(iovecsAt, count * IOVEC_BYTES);
    return this.#done(this.#libc.readv(this.fd, this.#arena.base + iovecsAt, count));
  }

  /** Writes the packet of `length` octets at `at`: octets taken (0: no room now), or -errno. */
  write(at: number, length: number): number {
    this.#arena.mustHold(at, length);
    return this.#done(this.#libc.write(this.fd, this.#arena.base + at, length));
  }

  /** Writes one packet from the `count` pieces whose iovecs (`writeIovec`) are at `iovecsAt`: octets taken, or -errno. */
  writev(iovecsAt: number, count: number): number {
    this.#arena.mustHold(iovecsAt, count * IOVEC_BYTES);
    return this.#done(this.#libc.writev(this.fd, this.#arena.base + iovecsAt, count));
  }

  #done(result: number): number {
    if (result >= 0) return result;
    const errno = this.#libc.errno();
    return errno === EAGAIN || errno === EINTR ? 0 : -errno;
  }
}

/**
 * Opens a TUN device called `name` (`%d` in it is a number the kernel chooses), with every offload the kernel has unless
 * `offload` is false. Link state, MTU and addresses are rtnetlink's business (`netlink/rtnetlink.ts`). Throws SystemError.
 */
export function openTun(libc: Libc, arena: Arena, name: string, offload = true): Tun {
  if (Buffer.byteLength(name) > 15)
    throw new SystemError(`an interface name has at most 15 octets, "${name}" has more`, 'EINVAL');
  const what = `open TUN device ${name}`;
  const fd = check(
    libc,
    libc.open('/dev/net/tun', O_RDWR_NONBLOCK_CLOEXEC),
    what,
    'it needs the kernel module tun, root or CAP_NET_ADMIN',
  );
  try {
    const header = offload && setInterface(libc, fd, name, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR) === 0;
    if (!header && setInterface(libc, fd, name, IFF_TUN | IFF_NO_PI) !== 0) {
      throw systemError(what, libc.errno(), 'it needs root or CAP_NET_ADMIN, and a name that no other device has');
    }
    const actual = readName(scratch(libc));
    return new Tun(libc, arena, fd, actual, header ? negotiate(libc, fd) : NO_OFFLOADS);
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/**
 * Takes over a TUN device that someone with the privilege opened, by its descriptor, which is made non-blocking. It keeps the
 * packet header it was opened with. Throws SystemError where the descriptor is no TUN device, or one whose packets have a
 * protocol prefix.
 */
export function adoptTun(libc: Libc, arena: Arena, fd: number): Tun {
  const what = `take over TUN device on descriptor ${fd}`;
  const page = scratch(libc);
  check(libc, libc.ioctl(fd, TUNGETIFF, page.base), what, 'it must be a descriptor of /dev/net/tun with a device attached');
  const flags = page.view.getUint16(16, true);
  const name = readName(page);
  if ((flags & IFF_TUN) === 0 || (flags & IFF_NO_PI) === 0) {
    throw new SystemError(`${what}: ${name} has flags 0x${flags.toString(16)}, and IFF_TUN | IFF_NO_PI is wanted`, 'EINVAL');
  }
  check(libc, libc.fcntl(fd, F_SETFL, O_NONBLOCK), what);
  const header = (flags & IFF_VNET_HDR) !== 0;
  return new Tun(libc, arena, fd, name, header ? negotiate(libc, fd) : NO_OFFLOADS);
}

/** struct ifreq: `name (16) | flags (2) | …`, 40 octets. */
function setInterface(libc: Libc, fd: number, name: string, flags: number): number {
  const page = scratch(libc);
  page.bytes.fill(0, 0, 40);
  page.bytes.set(Buffer.from(name));
  page.view.setUint16(16, flags, true);
  return libc.ioctl(fd, TUNSETIFF, page.base);
}

function readName(page: Arena): string {
  return Buffer.from(page.bytes.subarray(0, page.bytes.indexOf(0))).toString();
}

function negotiate(libc: Libc, fd: number): TunOffloads {
  const page = scratch(libc);
  page.i32[0] = VNET_HDR_BYTES;
  check(libc, libc.ioctl(fd, TUNSETVNETHDRSZ, page.base), 'set the header size of the TUN device');
  const accepts = (features: number) => libc.ioctl(fd, TUNSETOFFLOAD, features) === 0;
  const tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
  if (accepts(tcp | TUN_F_USO4 | TUN_F_USO6)) return { header: true, checksum: true, tcp: true, udp: true };
  if (accepts(tcp)) return { header: true, checksum: true, tcp: true, udp: false };
  return { header: true, checksum: accepts(TUN_F_CSUM), tcp: false, udp: false };
}

/** The iovecs of one `writev`: header, first packet, and the payloads coalesced behind it. */
export class Pieces {
  readonly at: number;
  readonly capacity: number;
  count = 0;
  octets = 0;
  readonly #arena: Arena;

  constructor(arena: Arena, capacity: number) {
    this.#arena = arena;
    this.capacity = capacity;
    this.at = arena.reserve(capacity * 16);
  }

  clear(): void {
    this.count = 0;
    this.octets = 0;
  }

  /** False where the table is full: write out first. */
  add(at: number, length: number): boolean {
    if (this.count === this.capacity) return false;
    writeIovec(this.#arena, this.at + this.count * 16, at, length);
    this.count++;
    this.octets += length;
    return true;
  }
}
