/** Waiting for descriptors: poll(2) over a fixed table in the arena, and the eventfd that wakes a thread out of it. */

import { Fault } from '../../errors.ts';
import type { Arena } from './arena.ts';
import { scratch } from './arena.ts';
import { check, EAGAIN, EINTR, type Libc, systemError } from './libc.ts';

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
