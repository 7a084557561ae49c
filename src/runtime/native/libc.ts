/** The C library through koffi: the system calls that Node does not offer, with every address and length a plain number. */

import { createRequire } from 'node:module';
import { endianness, constants as osConstants } from 'node:os';
import { getSystemErrorMap } from 'node:util';
import { SystemError } from '../../errors.ts';
import { type Door, tryDoor } from './door.ts';

type Koffi = typeof import('koffi');

/**
 * Raw calls: the result is libc's own (-1 on failure, then `errno()`). Addresses are numbers and never JavaScript memory; lengths
 * are octets. A caller passes the result through `check`, or on the packet path counts the failure.
 */
export interface Libc {
  readonly koffi: Koffi;
  /** The process itself: libc and, in the usual node binary, OpenSSL. */
  readonly self: ReturnType<Koffi['load']>;
  errno(): number;
  open(path: string, flags: number): number;
  close(fd: number): number;
  read(fd: number, address: number, length: number): number;
  write(fd: number, address: number, length: number): number;
  readv(fd: number, iovecs: number, count: number): number;
  writev(fd: number, iovecs: number, count: number): number;
  ioctl(fd: number, request: number, address: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  memfd_create(name: string, flags: number): number;
  ftruncate(fd: number, length: number): number;
  mmap(address: number, length: number, protection: number, flags: number, fd: number, offset: number): number;
  eventfd(initial: number, flags: number): number;
  poll(table: number, count: number, timeoutMilliseconds: number): number;
  epoll_create1(flags: number): number;
  epoll_ctl(epoll: number, operation: number, fd: number, event: number): number;
  epoll_wait(epoll: number, events: number, count: number, timeoutMilliseconds: number): number;
  socket(family: number, type: number, protocol: number): number;
  bind(fd: number, sockaddr: number, length: number): number;
  getsockname(fd: number, sockaddr: number, lengthAt: number): number;
  setsockopt(fd: number, level: number, option: number, value: number, length: number): number;
  getsockopt(fd: number, level: number, option: number, value: number, lengthAt: number): number;
  send(fd: number, address: number, length: number, flags: number): number;
  recv(fd: number, address: number, length: number, flags: number): number;
  sendmmsg(fd: number, table: number, count: number, flags: number): number;
  recvmmsg(fd: number, table: number, count: number, flags: number, timeout: number): number;
  clock_gettime(clock: number, timespec: number): number;
}

/**
 * Result and arguments as koffi binds them: int64_t for addresses and sizes is the fastest way in (26 ns for a small integer,
 * 33-55 ns for a pointer).
 */
const SIGNATURES = {
  open: ['int', ['str', 'int']],
  close: ['int', ['int']],
  read: ['int64_t', ['int', 'int64_t', 'int64_t']],
  write: ['int64_t', ['int', 'int64_t', 'int64_t']],
  readv: ['int64_t', ['int', 'int64_t', 'int']],
  writev: ['int64_t', ['int', 'int64_t', 'int']],
  ioctl: ['int', ['int', 'int64_t', 'int64_t']],
  fcntl: ['int', ['int', 'int', 'int64_t']],
  memfd_create: ['int', ['str', 'int']],
  ftruncate: ['int', ['int', 'int64_t']],
  mmap: ['int64_t', ['int64_t', 'int64_t', 'int', 'int', 'int', 'int64_t']],
  eventfd: ['int', ['int', 'int']],
  poll: ['int', ['int64_t', 'int64_t', 'int']],
  epoll_create1: ['int', ['int']],
  epoll_ctl: ['int', ['int', 'int', 'int', 'int64_t']],
  epoll_wait: ['int', ['int', 'int64_t', 'int', 'int']],
  socket: ['int', ['int', 'int', 'int']],
  bind: ['int', ['int', 'int64_t', 'int']],
  getsockname: ['int', ['int', 'int64_t', 'int64_t']],
  setsockopt: ['int', ['int', 'int', 'int', 'int64_t', 'int']],
  getsockopt: ['int', ['int', 'int', 'int', 'int64_t', 'int64_t']],
  send: ['int64_t', ['int', 'int64_t', 'int64_t', 'int']],
  recv: ['int64_t', ['int', 'int64_t', 'int64_t', 'int']],
  sendmmsg: ['int', ['int', 'int64_t', 'int', 'int']],
  recvmmsg: ['int', ['int', 'int64_t', 'int', 'int', 'int64_t']],
  clock_gettime: ['int', ['int', 'int64_t']],
} as const satisfies Record<Exclude<keyof Libc, 'koffi' | 'self' | 'errno'>, readonly [string, readonly string[]]>;

export const EINTR: number = osConstants.errno.EINTR;
export const EAGAIN: number = osConstants.errno.EAGAIN;

let door: Door<Libc> | undefined;

/**
 * Opens the door once for this thread. It stays shut where koffi is not installed, or the host is not a 64-bit little-endian
 * Linux.
 */
export function libc(): Door<Libc> {
  door ??= tryDoor(load);
  return door;
}

function load(): Libc {
  if (process.platform !== 'linux') throw new SystemError(`the system calls are Linux's, and this is ${process.platform}`);
  if (endianness() !== 'LE' || !['x64', 'arm64', 'riscv64', 'loong64'].includes(process.arch)) {
    throw new SystemError(`the struct layouts are those of 64-bit little-endian processors, and this is ${process.arch}`);
  }
  const koffi = loadKoffi();
  const self = koffi.load(null);
  const calls = Object.entries(SIGNATURES).map(([name, [result, parameters]]) => [
    name,
    self.func(name, result, [...parameters]),
  ]);
  return { ...(Object.fromEntries(calls) as Omit<Libc, 'koffi' | 'self' | 'errno'>), koffi, self, errno: () => koffi.errno() };
}

function loadKoffi(): Koffi {
  try {
    return createRequire(import.meta.url)('koffi') as Koffi;
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0] : String(error);
    throw new SystemError(`the optional package koffi did not load (${reason}); "npm install koffi@3.3.4" brings it`);
  }
}

/** The error of a failed call: `what was tried: Linux's sentence (ERRNO)`, then what to do about it. */
export function systemError(what: string, errno: number, hint = ''): SystemError {
  const known = getSystemErrorMap().get(-errno);
  const name = known?.[0] ?? Object.entries(osConstants.errno).find(([, number]) => number === errno)?.[0] ?? `errno ${errno}`;
  const sentence = known?.[1] ?? 'the system call failed';
  return new SystemError(`${what}: ${sentence} (${name})${hint === '' ? '' : `; ${hint}`}`, name);
}

/**
 * `result` where it is not negative, else throws the SystemError that errno tells. Call it on the very result: errno does not
 * last.
 */
export function check(libc: Libc, result: number, what: string, hint = ''): number {
  if (result >= 0) return result;
  throw systemError(what, libc.errno(), hint);
}

/** Closes a descriptor of ours; closing it twice is an error that is told. */
export function close(libc: Libc, fd: number): void {
  const result = libc.close(fd);
  if (result < 0 && libc.errno() !== EINTR) throw systemError(`close descriptor ${fd}`, libc.errno());
}
