/** Waiting for descriptors: poll(2) over a fixed table in the arena, epoll(7) for many, and the eventfd that wakes a thread out of either. */

import { Fault } from '../../errors.ts';
import type { Arena } from './arena.ts';
import { scratch } from './arena.ts';
import { check, close, EAGAIN, EINTR, type Libc, systemError } from './libc.ts';

export const POLLIN = 0x1;
export const POLLOUT = 0x4;
export const POLLERR = 0x8;
export const POLLHUP = 0x10;
export const POLLNVAL = 0x20;

const POLLFD_BYTES = 8;

/** struct pollfd[]: `fd (4) | events (2) | revents (2)`. An entry with descriptor -1 is skipped by the kernel. */
export class PollTable {
  readonly #libc: Libc;
  readonly #arena: Arena;
  readonly #at: number;
  readonly #capacity: number;
  #count = 0;

  constructor(libc: Libc, arena: Arena, capacity: number) {
    this.#libc = libc;
    this.#arena = arena;
    this.#capacity = capacity;
    this.#at = arena.reserve(capacity * POLLFD_BYTES);
  }

  /** Watches `fd` and returns its index in the table. Throws Fault when the table is full. */
  add(fd: number, events: number = POLLIN): number {
    if (this.#count === this.#capacity) throw new Fault(`the poll table was planned for ${this.#capacity} descriptors`);
    const index = this.#count++;
    this.set(index, fd, events);
    return index;
  }

  /** Replaces an entry; `fd` -1 silences it. */
  set(index: number, fd: number, events: number): void {
    const at = (this.#at + index * POLLFD_BYTES) >>> 2;
    this.#arena.i32[at] = fd;
    this.#arena.i32[at + 1] = events;
  }

  /** What happened to the entry in the last `wait`: POLLIN and its kin. */
  events(index: number): number {
    return this.#arena.i32[((this.#at + index * POLLFD_BYTES) >>> 2) + 1]! >>> 16;
  }

  /**
   * Blocks until something happens or `milliseconds` pass (-1: for ever). Returns how many entries have events; a signal counts
   * as none.
   */
  wait(milliseconds: number): number {
    const ready = this.#libc.poll(this.#arena.base + this.#at, this.#count, milliseconds);
    if (ready >= 0) return ready;
    const errno = this.#libc.errno();
    if (errno !== EINTR) throw systemError('wait for packets', errno);
    for (let index = 0; index < this.#count; index++) this.#arena.view.setUint16(this.#at + index * POLLFD_BYTES + 6, 0);
    return 0;
  }
}

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
/** struct epoll_event: `events (4) | data (8)`, packed on x86-64 only. */
const EPOLL_DATA = process.arch === 'x64' ? 4 : 8;
const EPOLL_EVENT_BYTES = EPOLL_DATA + 8;

/** The same for a set of descriptors that stays: a wait costs what is ready, where poll(2) asks all of them each time. */
export class Epoll {
  readonly #libc: Libc;
  readonly #arena: Arena;
  readonly #fd: number;
  readonly #at: number;
  readonly #capacity: number;
  readonly #events: Uint32Array;
  #count = 0;

  constructor(libc: Libc, arena: Arena, capacity: number) {
    this.#libc = libc;
    this.#arena = arena;
    this.#fd = check(libc, libc.epoll_create1(EPOLL_CLOEXEC), 'make an epoll descriptor');
    this.#at = arena.reserve(capacity * EPOLL_EVENT_BYTES);
    this.#capacity = capacity;
    this.#events = new Uint32Array(capacity);
  }

  /** Watches `fd` for input and returns its index. Throws Fault when as many as were planned are watched. */
  add(fd: number): number {
    if (this.#count === this.#capacity) throw new Fault(`the epoll set was planned for ${this.#capacity} descriptors`);
    const index = this.#count++;
    const { view, base } = this.#arena;
    view.setUint32(this.#at, POLLIN, true);
    view.setUint32(this.#at + EPOLL_DATA, index, true);
    view.setUint32(this.#at + EPOLL_DATA + 4, 0, true);
    check(this.#libc, this.#libc.epoll_ctl(this.#fd, EPOLL_CTL_ADD, fd, base + this.#at), `watch descriptor ${fd}`);
    return index;
  }

  /** What happened to the descriptor in the last `wait`: POLLIN and its kin. */
  events(index: number): number {
    return this.#events[index]!;
  }

  /** As `PollTable.wait`. */
  wait(milliseconds: number): number {
    this.#events.fill(0);
    const ready = this.#libc.epoll_wait(this.#fd, this.#arena.base + this.#at, this.#capacity, milliseconds);
    if (ready < 0) {
      const errno = this.#libc.errno();
      if (errno !== EINTR) throw systemError('wait for packets', errno);
      return 0;
    }
    const { view } = this.#arena;
    for (let i = 0, at = this.#at; i < ready; i++, at += EPOLL_EVENT_BYTES) {
      const index = view.getUint32(at + EPOLL_DATA, true);
      this.#events[index] = view.getUint32(at, true);
    }
    return ready;
  }

  close(): void {
    close(this.#libc, this.#fd);
  }
}

const EFD_CLOEXEC_NONBLOCK = 0o2004000;

/** Makes an eventfd. Any thread of the process may `kick` its number; the thread that polls it calls `drain`. */
export function createEventFd(libc: Libc): number {
  return check(libc, libc.eventfd(0, EFD_CLOEXEC_NONBLOCK), 'make an eventfd');
}

/** Wakes whoever polls the eventfd. Several kicks before a drain are one. */
export function kick(libc: Libc, fd: number): void {
  const page = scratch(libc);
  page.setU64(0, 1);
  if (libc.write(fd, page.base, 8) < 0 && libc.errno() !== EAGAIN) throw systemError('wake the packet thread', libc.errno());
}

/** Forgets the kicks so far; true if there was one. */
export function drain(libc: Libc, fd: number): boolean {
  if (libc.read(fd, scratch(libc).base, 8) === 8) return true;
  const errno = libc.errno();
  if (errno !== EAGAIN && errno !== EINTR) throw systemError('read the eventfd', errno);
  return false;
}
