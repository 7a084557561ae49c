/** One block of memory outside the JavaScript heap whose address is a small integer, and the typed arrays over it. */

import { Fault } from '../../errors.ts';
import { check, close, type Libc, systemError } from './libc.ts';

const PROT_READ_WRITE = 0x3;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
/** x86-64 only: below 2^31, so that addresses are small integers to V8 (10-17 % off a packet's cryptography). */
const MAP_32BIT = 0x40;
const MFD_CLOEXEC = 1;

/**
 * Memory for everything the kernel and OpenSSL touch. Places in it are offsets; `base + offset` is the address a call takes.
 * It lives as long as the thread does: parts are reserved once and never given back.
 */
export class Arena {
  readonly base: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly u64: BigUint64Array;
  #reserved = 0;

  /**
   * Maps `length` octets (rounded up to pages), zeroed. `twin`, of as many octets and of nobody else, e.g. WebAssembly's, becomes the same memory at another
   * address. Throws SystemError where the host has no such memory.
   */
  constructor(libc: Libc, length: number, twin?: ArrayBuffer) {
    const whole = twin?.byteLength ?? Math.ceil(length / 4096) * 4096;
    const pages = twin === undefined ? ANONYMOUS : sharedPages(libc, whole);
    try {
      this.base = lowest(libc, whole, pages);
      if (twin !== undefined) {
        const address = Number(libc.koffi.address(twin));
        if (map(libc, whole, pages, MAP_FIXED, address) !== address)
          throw systemError(`map ${whole} octets of memory for packets a second time`, libc.errno());
      }
    } finally {
      if (pages.fd >= 0) close(libc, pages.fd);
    }
    const buffer = twin ?? libc.koffi.view(this.base, whole);
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.i32 = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.u64 = new BigUint64Array(buffer);
  }

  /** Sets `length` octets aside for good and returns their offset. Throws Fault where the arena was planned too small. */
  reserve(length: number, align = 16): number {
    const at = Math.ceil(this.#reserved / align) * align;
    if (at + length > this.bytes.length) {
      throw new Fault(`the arena has ${this.bytes.length} octets, ${this.#reserved} of them taken: no room for ${length} more`);
    }
    this.#reserved = at + length;
    return at;
  }

  /**
   * The last check before a native call: `length` octets at `at` lie in the arena. What a packet says never gets so far unchecked; if it did, this thread
   * ends here rather than somebody else's memory. Throws Fault.
   */
  mustHold(at: number, length: number): void {
    if (at >= 0 && length >= 0 && at + length <= this.bytes.length) return;
    throw new Fault(`a native call was to get ${length} octets at ${at} of an arena of ${this.bytes.length}`);
  }

  /** Writes the 64-bit number at a multiple of 4, without a BigInt. */
  setU64(at: number, value: number): void {
    this.u32[at >>> 2] = value;
    this.u32[(at >>> 2) + 1] = value / 0x1_0000_0000;
  }

  /** Writes the address of the arena's own `offset` at `at`. */
  setPointer(at: number, offset: number): void {
    this.setU64(at, this.base + offset);
  }
}

/** What is mapped. */
interface Pages {
  readonly fd: number;
  readonly flags: number;
}

const ANONYMOUS: Pages = { fd: -1, flags: MAP_PRIVATE | MAP_ANONYMOUS };

function sharedPages(libc: Libc, length: number): Pages {
  const fd = check(libc, libc.memfd_create('tanuki-packets', MFD_CLOEXEC), 'make memory for packets that can be mapped twice');
  if (libc.ftruncate(fd, length) === 0) return { fd, flags: MAP_SHARED };
  const error = systemError(`make ${length} octets of memory for packets`, libc.errno());
  close(libc, fd);
  throw error;
}

/** At a small address where that can be had. */
function lowest(libc: Libc, length: number, pages: Pages): number {
  let base = process.arch === 'x64' ? map(libc, length, pages, MAP_32BIT) : -1;
  if (base < 0) base = map(libc, length, pages);
  if (base < 0) throw systemError(`map ${length} octets of memory for packets`, libc.errno());
  return base;
}

function map(libc: Libc, length: number, { fd, flags }: Pages, extra = 0, address = 0): number {
  return libc.mmap(address, length, PROT_READ_WRITE, flags | extra, fd, 0);
}

let shared: Arena | undefined;

/** A page for the arguments of one rare call at a time; nothing in it survives the next caller. */
export function scratch(libc: Libc): Arena {
  shared ??= new Arena(libc, 4096);
  return shared;
}
