/**
 * Sockets with the options that Node's own lack: UDP with marks, packet information and segmentation offload, and raw ESP and AH
 * (socket(7), ip(7), ipv6(7), udp(7)).
 */

import { type Family, IpAddress, showEndpoint } from '../../net/address.ts';
import { type Arena, scratch } from './arena.ts';
import { check, type Libc } from './libc.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const IPPROTO_IP = 0;
export const IPPROTO_UDP = 17;
export const IPPROTO_IPV6 = 41;
export const IPPROTO_ESP = 50;
export const IPPROTO_AH = 51;
/** A raw socket that sends whole IP packets, header included, and receives none. */
export const IPPROTO_RAW = 255;
export const IP_TOS = 1;
export const IP_PKTINFO = 8;
export const IPV6_PKTINFO = 50;
/** IPv6 extension headers and the hop limit of what was received (RFC 3542 §4, §7 to §9). */
export const IPV6_HOPLIMIT = 52;
export const IPV6_HOPOPTS = 54;
export const IPV6_RTHDR = 57;
export const IPV6_DSTOPTS = 59;
export const IPV6_TCLASS = 67;
export const UDP_SEGMENT = 103;
export const UDP_GRO = 104;

const UDP_ENCAP = 100;
const UDP_ENCAP_ESPINUDP = 2;

const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_REUSEPORT = 15;
const SO_PEERCRED = 17;
const SO_BINDTODEVICE = 25;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SO_MARK = 36;
const IP_MTU_DISCOVER = 10;
const IP_RECVTOS = 13;
const IP_FREEBIND = 15;
const IPV6_MTU_DISCOVER = 23;
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
const SOL_RAW = 255;
/** ICMP_FILTER and ICMPV6_FILTER. */
const ICMP_FILTER = 1;
const ICMP_UNREACHABLE = 3;
const ICMPV6_TOO_BIG = 2;
const IPV6_V6ONLY = 26;
const IPV6_RECVPKTINFO = 49;
const IPV6_RECVHOPLIMIT = 51;
const IPV6_RECVHOPOPTS = 53;
const IPV6_RECVRTHDR = 56;
const IPV6_RECVDSTOPTS = 58;
const IPV6_RECVTCLASS = 66;
const IPV6_FREEBIND = 78;

const RAW_NAME = { [IPPROTO_ESP]: 'ESP', [IPPROTO_AH]: 'AH', [IPPROTO_RAW]: 'whole packets' } as const;

/** Room for any sockaddr that we use: sockaddr_in has 16 octets, sockaddr_in6 has 28. */
export const SOCKADDR_BYTES = 32;

/** What the kernel does with DF and its path MTU cache, IP_MTU_DISCOVER of ip(7). */
export const MTU_DISCOVER = {
  /** Never DF; the kernel fragments. */
  dont: 0,
  /** DF, and fragments of what is too long for the known path MTU. */
  want: 1,
  /** DF; too long is EMSGSIZE. */
  do: 2,
  /** DF, and the known path MTU is ignored. */
  probe: 3,
  /** Never DF, and the known path MTU is ignored: a forged ICMP message cannot shrink it. */
  omit: 5,
} as const;

/** What a socket is wanted for. What is absent stays as the kernel has it. */
export interface SocketOptions {
  readonly family: Family;
  /** To bind to; any address where absent. */
  readonly address?: IpAddress;
  /** UDP only; 0 or absent lets the kernel choose. */
  readonly port?: number;
  /** SO_MARK on everything sent, so that the suite's own packets never take the diverting route. Needs CAP_NET_ADMIN. */
  readonly mark?: number;
  /** Only packets of this interface. */
  readonly device?: string;
  readonly reuseAddress?: boolean;
  readonly reusePort?: boolean;
  /** May bind to an address that the host does not have yet. */
  readonly freeBind?: boolean;
  /** Tell the destination address of each packet received. */
  readonly packetInfo?: boolean;
  /** Tell TOS or traffic class of each packet received (ECN, RFC 6040). */
  readonly trafficClass?: boolean;
  /** IPv6 only: tell the hop limit and the extension headers before the protocol of each packet received. */
  readonly extensionHeaders?: boolean;
  /** UDP only: take runs of datagrams in one buffer (UDP_GRO), if the kernel can. */
  readonly coalesce?: boolean;
  readonly receiveBufferBytes?: number;
  readonly sendBufferBytes?: number;
  readonly mtuDiscover?: keyof typeof MTU_DISCOVER;
}

/** An open, non-blocking socket and what it turned out to be able to do. Close it with `close` of libc.ts. */
export interface OpenSocket {
  readonly fd: number;
  readonly family: Family;
  /** The bound UDP port; 0 for a raw socket. */
  readonly port: number;
  /** Received buffers may hold many datagrams (their size is in `MessageTable.segmentBytes`). */
  readonly coalesces: boolean;
  /** A message sent may be cut into datagrams by the kernel (UDP_SEGMENT). */
  readonly segments: boolean;
}

/** Opens and binds a UDP socket. Throws SystemError. */
export function openUdp(libc: Libc, options: SocketOptions): OpenSocket {
  const local = { address: options.address ?? IpAddress.unspecified(options.family), port: options.port ?? 0 };
  const what = `open UDP socket on ${showEndpoint(local)}`;
  return open(libc, options, SOCK_DGRAM, IPPROTO_UDP, what, 'another daemon may hold the port: stop it or choose another port');
}

/**
 * Opens a raw socket for ESP or AH. IPv4 delivers packets with their IP header, IPv6 without. Needs CAP_NET_RAW. Throws
 * SystemError.
 */
export function openRaw(
  libc: Libc,
  protocol: typeof IPPROTO_ESP | typeof IPPROTO_AH | typeof IPPROTO_RAW,
  options: SocketOptions,
): OpenSocket {
  const what = `open raw IPv${options.family} socket for ${RAW_NAME[protocol]}`;
  return open(libc, { ...options, port: 0 }, SOCK_RAW, protocol, what, 'raw sockets need root or CAP_NET_RAW');
}

/**
 * Opens a raw socket that hears ICMP's "destination unreachable" (with its IPv4 header), or ICMPv6's "packet too big" (without): those that can say that a
 * packet was too long. Needs CAP_NET_RAW. Throws SystemError.
 */
export function openIcmp(libc: Libc, family: Family): OpenSocket {
  const what = `open raw IPv${family} socket for ICMP errors`;
  const protocol = family === 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
  const socket = open(libc, { family, packetInfo: true }, SOCK_RAW, protocol, what, 'raw sockets need root or CAP_NET_RAW');
  const page = scratch(libc);
  page.bytes.fill(0xff, 0, 32);
  // A set bit keeps a type out: struct icmp_filter (32 bits), struct icmp6_filter (256 bits).
  const bit = family === 4 ? ICMP_UNREACHABLE : ICMPV6_TOO_BIG;
  page.bytes[0]! &= ~(1 << bit);
  const level = family === 4 ? SOL_RAW : IPPROTO_ICMPV6;
  check(libc, libc.setsockopt(socket.fd, level, ICMP_FILTER, page.base, family === 4 ? 4 : 32), `${what}: set the filter`);
  return socket;
}

/**
 * Whether routers may fragment what leaves by an IPv4 socket from now on. In neither case does the kernel heed path MTUs that somebody told it. False where
 * the kernel refuses.
 */
export function letFragment(libc: Libc, fd: number, allowed: boolean): boolean {
  return trySetOption(libc, fd, IPPROTO_IP, IP_MTU_DISCOVER, allowed ? MTU_DISCOVER.omit : MTU_DISCOVER.probe);
}

/** From now on the kernel keeps ESP and keepalives that come in by a UDP socket for itself; IKE's messages come with their marker (RFC 3948 §2.2). Throws SystemError. */
export function giveEspToKernel(libc: Libc, fd: number): void {
  const what = 'have the kernel take ESP in UDP (UDP_ENCAP)';
  check(libc, rawSetOption(libc, fd, IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP), what, 'use the embedded engine');
}

function open(libc: Libc, options: SocketOptions, type: number, protocol: number, what: string, hint: string): OpenSocket {
  const domain = options.family === 4 ? AF_INET : AF_INET6;
  const fd = check(libc, libc.socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol), what, hint);
  try {
    if (domain === AF_INET6 && type === SOCK_DGRAM)
      check(libc, rawSetOption(libc, fd, IPPROTO_IPV6, IPV6_V6ONLY, 1), `${what}: set IPV6_V6ONLY`);
    applyOptions(libc, fd, options, what);
    const page = scratch(libc);
    const length = writeSockaddr(page, 0, options.address ?? IpAddress.unspecified(options.family), options.port ?? 0);
    check(libc, libc.bind(fd, page.base, length), what, hint);
    const udp = type === SOCK_DGRAM;
    return {
      fd,
      family: options.family,
      port: udp ? boundPort(libc, fd, what) : 0,
      coalesces: udp && options.coalesce === true && trySetOption(libc, fd, IPPROTO_UDP, UDP_GRO, 1),
      segments: udp && getOption(libc, fd, IPPROTO_UDP, UDP_SEGMENT) !== undefined,
    };
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

function applyOptions(libc: Libc, fd: number, options: SocketOptions, what: string): void {
  const set = (level: number, option: number, value: number, name: string, hint = '') =>
    check(libc, rawSetOption(libc, fd, level, option, value), `${what}: set ${name}`, hint);
  const v4 = options.family === 4;
  const level = v4 ? IPPROTO_IP : IPPROTO_IPV6;
  if (options.reuseAddress) set(SOL_SOCKET, SO_REUSEADDR, 1, 'SO_REUSEADDR');
  if (options.reusePort) set(SOL_SOCKET, SO_REUSEPORT, 1, 'SO_REUSEPORT');
  if (options.freeBind) set(level, v4 ? IP_FREEBIND : IPV6_FREEBIND, 1, 'IP_FREEBIND');
  if (options.mark !== undefined) set(SOL_SOCKET, SO_MARK, options.mark, 'SO_MARK', 'marks need root or CAP_NET_ADMIN');
  if (options.packetInfo) set(level, v4 ? IP_PKTINFO : IPV6_RECVPKTINFO, 1, 'packet information');
  if (options.trafficClass) set(level, v4 ? IP_RECVTOS : IPV6_RECVTCLASS, 1, 'traffic class information');
  if (options.extensionHeaders && !v4) {
    for (const option of [IPV6_RECVHOPLIMIT, IPV6_RECVHOPOPTS, IPV6_RECVRTHDR, IPV6_RECVDSTOPTS])
      set(level, option, 1, 'extension header information');
  }
  if (options.mtuDiscover !== undefined) {
    set(
      level,
      v4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER,
      MTU_DISCOVER[options.mtuDiscover],
      `IP_MTU_DISCOVER ${options.mtuDiscover}`,
    );
  }
  if (
    options.receiveBufferBytes !== undefined &&
    !trySetOption(libc, fd, SOL_SOCKET, SO_RCVBUFFORCE, options.receiveBufferBytes)
  ) {
    set(SOL_SOCKET, SO_RCVBUF, options.receiveBufferBytes, 'SO_RCVBUF');
  }
  if (options.sendBufferBytes !== undefined && !trySetOption(libc, fd, SOL_SOCKET, SO_SNDBUFFORCE, options.sendBufferBytes)) {
    set(SOL_SOCKET, SO_SNDBUF, options.sendBufferBytes, 'SO_SNDBUF');
  }
  if (options.device !== undefined) bindToDevice(libc, fd, options.device);
}

function bindToDevice(libc: Libc, fd: number, device: string): void {
  const page = scratch(libc);
  const name = Buffer.from(`${device}\0`);
  page.bytes.set(name.subarray(0, 16));
  check(
    libc,
    libc.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, page.base, Math.min(16, name.length)),
    `bind a socket to interface ${device}`,
  );
}

function rawSetOption(libc: Libc, fd: number, level: number, option: number, value: number): number {
  const page = scratch(libc);
  page.i32[0] = value;
  return libc.setsockopt(fd, level, option, page.base, 4);
}

/** Sets an integer option; false where the kernel refuses. */
export function trySetOption(libc: Libc, fd: number, level: number, option: number, value: number): boolean {
  return rawSetOption(libc, fd, level, option, value) === 0;
}

/** An integer option, or undefined where the kernel does not know it. */
export function getOption(libc: Libc, fd: number, level: number, option: number): number | undefined {
  const page = scratch(libc);
  page.i32[0] = 4;
  page.i32[1] = 0;
  return libc.getsockopt(fd, level, option, page.base + 4, page.base) === 0 ? page.i32[1] : undefined;
}

function boundPort(libc: Libc, fd: number, what: string): number {
  const page = scratch(libc);
  page.u32[0] = SOCKADDR_BYTES;
  check(libc, libc.getsockname(fd, page.base + 16, page.base), what);
  return page.view.getUint16(18);
}

/** Writes a sockaddr_in or sockaddr_in6 and returns its length. A zone that is a number becomes the scope. */
export function writeSockaddr(arena: Arena, at: number, address: IpAddress, port: number): number {
  arena.bytes.fill(0, at, at + SOCKADDR_BYTES);
  arena.view.setUint16(at, address.family === 4 ? AF_INET : AF_INET6, true);
  arena.view.setUint16(at + 2, port);
  arena.bytes.set(address.bytes, at + (address.family === 4 ? 4 : 8));
  if (address.family === 4) return 16;
  if (/^\d+$/.test(address.zone)) arena.view.setUint32(at + 24, Number(address.zone), true);
  return 28;
}

/** Reads a sockaddr that the kernel wrote; undefined where it is neither IPv4 nor IPv6. For rare packets: it allocates. */
export function readSockaddr(arena: Arena, at: number): { address: IpAddress; port: number } | undefined {
  const family = arena.view.getUint16(at, true);
  const port = arena.view.getUint16(at + 2);
  if (family === AF_INET) return { address: IpAddress.of(arena.bytes.subarray(at + 4, at + 8)), port };
  if (family !== AF_INET6) return undefined;
  const scope = arena.view.getUint32(at + 24, true);
  return { address: IpAddress.of(arena.bytes.subarray(at + 8, at + 24), scope === 0 ? '' : String(scope)), port };
}

/** Who made the other end of a UNIX socket: struct ucred by SO_PEERCRED. Throws SystemError. */
export function peerCredentials(libc: Libc, fd: number): { pid: number; uid: number; gid: number } {
  const page = scratch(libc);
  page.u32[0] = 12;
  check(libc, libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, page.base + 16, page.base), 'ask who connected');
  return { pid: page.i32[4]!, uid: page.u32[5]!, gid: page.u32[6]! };
}
