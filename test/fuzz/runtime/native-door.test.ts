/**
 * The way from packets to native calls: a libc and an OpenSSL that look at every address and length they are given, and that answer with hostile
 * frames, GSO fields, lengths and control data. Whatever arrives, each call stays within the arena.
 */

import { constants } from 'node:os';
import { describe, expect, test } from 'vitest';
import { CipherPair } from '../../../src/crypto/cipher-pair.ts';
import type { PacketCipher } from '../../../src/crypto/packet-cipher.ts';
import { noblePacketCipher } from '../../../src/crypto/packet-cipher-noble.ts';
import { Datapath } from '../../../src/datapath/datapath.ts';
import { BATCH, PacketLoop } from '../../../src/datapath-process/packet-loop.ts';
import type { NativeMemory } from '../../../src/datapath-process/packet-memory.ts';
import { Sender, type Sockets } from '../../../src/datapath-process/sender.ts';
import { Checksum } from '../../../src/net/checksum.ts';
import { simdMemory, simdSum } from '../../../src/net/checksum-simd.ts';
import { evp } from '../../../src/runtime/native/evp-library.ts';
import {
  AesGcmCipher,
  Arena,
  EvpCipher,
  type GcmRoutines,
  gcmRoutines,
  IOVEC_BYTES,
  type Libc,
  libcDoor,
  MessageTable,
  Tun,
} from '../../../src/runtime/native/index.ts';
import { COUNT, LIMIT } from '../../support/fuzz.ts';
import { NOW, policyOf, saOf, seeded, tcpPacket, templateOf, udpPacket } from '../../unit/datapath/pair.ts';

const { open: libc, why } = libcDoor();
const openssl = libc === undefined ? undefined : evp(libc).open;
const gcm = libc === undefined ? undefined : gcmRoutines(libc).open;
const missing = libc === undefined ? why : openssl === undefined ? 'no OpenSSL is within reach' : undefined;
const { EAGAIN, EINVAL, EIO, EMSGSIZE } = constants.errno;
const TUN_FD = 1000;
const [UDP4, UDP6, RAW4, RAW6, AH4, AH6, WHOLE4, WHOLE6] = [1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008] as const;
/** A descriptor of epoll, and the octets of one event. */
const EPOLL = 1009;
const EPOLL_EVENT = process.arch === 'x64' ? 12 : 16;
const ARENA = 16 * 1024 * 1024;

/** Every pair of address and length that a call was given. */
class Watch {
  calls = 0;
  readonly #ranges: { readonly from: number; readonly to: number }[] = [];

  allow(from: number, octets: number): void {
    this.#ranges.push({ from, to: from + octets });
  }

  /** A NULL of no octets is an address too. */
  pair(call: string, address: number, octets: number): void {
    this.calls++;
    if (address === 0 && octets === 0) return;
    const whole = Number.isSafeInteger(address) && Number.isSafeInteger(octets) && octets >= 0;
    if (whole && this.#ranges.some(({ from, to }) => address >= from && address + octets <= to)) return;
    throw new Error(`${call} was given ${octets} octets at ${address}, which are not in the arena`);
  }
}

/** What the kernel would do to memory, done to the arena. */
class HostileKernel {
  errno = 0;
  readonly #watch: Watch;
  readonly #number: (below: number) => number;
  readonly #seeds: readonly Uint8Array[];
  arena: Arena | undefined;

  constructor(watch: Watch, number: (below: number) => number, seeds: readonly Uint8Array[]) {
    this.#watch = watch;
    this.#number = number;
    this.#seeds = seeds;
  }

  over(real: Libc): Libc {
    const { mmap } = real;
    return {
      ...real,
      mmap: (address, length, ...rest) => {
        const base = mmap(address, length, ...rest);
        if (base > 0) this.#watch.allow(base, length);
        return base;
      },
      errno: () => this.errno,
      poll: (table, count) => this.#poll(table, count),
      epoll_create1: () => EPOLL,
      epoll_ctl: (_epoll, _operation, _fd, event) => {
        this.#watch.pair('epoll_ctl', event, EPOLL_EVENT);
        return 0;
      },
      epoll_wait: (_, events, count) => this.#epoll(events, count),
      read: (_, address, length) => this.#read(address, length),
      readv: (_, iovecs, count) => this.#iovecs('readv', iovecs, count),
      write: (_, address, length) => this.#taken('write', address, length),
      writev: (_, iovecs, count) => this.#fail(this.#iovecs('writev', iovecs, count)),
      recvmmsg: (_, table, count) => this.#recvmmsg(table, count),
      sendmmsg: (_, table, count) => this.#sendmmsg(table, count),
      clock_gettime: (_, timespec) => {
        this.#watch.pair('clock_gettime', timespec, 16);
        return 0;
      },
    };
  }

  #fail(result: number): number {
    if (this.#number(8) > 0) return result;
    this.errno = [EAGAIN, EINVAL, EIO, EMSGSIZE][this.#number(4)]!;
    return -1;
  }

  #poll(table: number, count: number): number {
    this.#watch.pair('poll', table, 8 * count);
    const { base, view } = this.arena!;
    for (let i = 0; i < count; i++) view.setUint16(table - base + 8 * i + 6, this.#number(3) === 0 ? 0 : 1, true);
    return count;
  }

  #epoll(events: number, count: number): number {
    this.#watch.pair('epoll_wait', events, EPOLL_EVENT * count);
    const { base, view } = this.arena!;
    for (let i = 0; i < count; i++) {
      const at = events - base + EPOLL_EVENT * i;
      view.setUint32(at, this.#number(3) === 0 ? this.#number(256) : 1, true);
      view.setUint32(at + EPOLL_EVENT - 8, this.#number(20) === 0 ? this.#number(0x7fff_ffff) : i, true);
    }
    return count;
  }

  #read(address: number, length: number): number {
    this.#watch.pair('read', address, length);
    if (this.#number(4) === 0) return this.#fail(0) === 0 ? this.#again() : -1;
    const header = Uint8Array.from({ length: 10 }, () =>
      this.#number(3) === 0 ? this.#number(256) : [0, 1, 4, 5][this.#number(4)]!,
    );
    const packet = this.#mutant();
    const { base, bytes } = this.arena!;
    const octets = Math.min(length, 10 + packet.length, this.#number(20) === 0 ? this.#number(60) : length);
    bytes.set(header.subarray(0, octets), address - base);
    if (octets > 10) bytes.set(packet.subarray(0, octets - 10), address - base + 10);
    return this.#number(50) === 0 ? length : octets;
  }

  #again(): number {
    this.errno = EAGAIN;
    return -1;
  }

  #taken(call: string, address: number, length: number): number {
    this.#watch.pair(call, address, length);
    return this.#fail(length);
  }

  #iovecs(call: string, at: number, count: number): number {
    this.#watch.pair(call, at, count * IOVEC_BYTES);
    const { base, view } = this.arena!;
    let octets = 0;
    for (let i = 0; i < count; i++) {
      const iovec = at - base + i * IOVEC_BYTES;
      const length = Number(view.getBigUint64(iovec + 8, true));
      this.#watch.pair(`${call} of piece ${i}`, Number(view.getBigUint64(iovec, true)), length);
      octets += length;
    }
    return octets;
  }

  #each(call: string, table: number, count: number, step: (header: number, index: number) => void): void {
    this.#watch.pair(call, table, 64 * count);
    const { base, view } = this.arena!;
    for (let i = 0; i < count; i++) {
      const header = table - base + 64 * i;
      const pointer = (at: number) => Number(view.getBigUint64(header + at, true));
      this.#watch.pair(`${call}: name`, pointer(0), view.getUint32(header + 8, true));
      this.#watch.pair(`${call}: control`, pointer(32), pointer(40));
      this.#iovecs(call, pointer(16), pointer(24));
      step(header, i);
    }
  }

  #sendmmsg(table: number, count: number): number {
    this.#each('sendmmsg', table, count, () => undefined);
    return this.#fail(1 + this.#number(count));
  }

  #recvmmsg(table: number, count: number): number {
    const { base, bytes, view } = this.arena!;
    if (this.#number(4) === 0) return this.#again();
    const received = 1 + this.#number(Math.min(count, 4));
    this.#each('recvmmsg', table, count, (header, index) => {
      if (index >= received) return;
      const pointer = (at: number) => Number(view.getBigUint64(header + at, true)) - base;
      const iovec = pointer(16);
      const to = Number(view.getBigUint64(iovec, true)) - base;
      const room = Number(view.getBigUint64(iovec + 8, true));
      const packet = this.#mutant().subarray(0, room);
      bytes.set(packet, to);
      // The kernel never says more than there was room for: here it does.
      const said = this.#number(30) === 0 ? [0, 1, room, room + 1, 0x7fff_ffff, 0xffff_ffff][this.#number(6)]! : packet.length;
      view.setUint32(header + 56, said, true);
      view.setUint32(header + 48, this.#number(10) === 0 ? this.#number(0xffff) : 0, true);
      const name = pointer(0);
      for (let i = 0; i < 28; i++) bytes[name + i] = this.#number(256);
      bytes[name] = [2, 10][this.#number(2)]!;
      bytes[name + 1] = 0;
      view.setBigUint64(header + 40, BigInt(this.#control(pointer(32), Number(view.getBigUint64(header + 40, true)))), true);
    });
    return received;
  }

  /** Control messages of every type that is read, with true and false lengths. */
  #control(at: number, room: number): number {
    const { bytes, view } = this.arena!;
    let end = at;
    while (end + 40 <= at + room && this.#number(4) > 0) {
      const [level, type, octets] = CONTROLS[this.#number(CONTROLS.length)]!;
      const length = this.#number(8) === 0 ? [0, 15, 16, 17, 0x7fff_ffff, 0xffff_ffff][this.#number(6)]! : 16 + octets;
      view.setUint32(end, length, true);
      view.setUint32(end + 4, 0, true);
      view.setUint32(end + 8, level, true);
      view.setUint32(end + 12, type, true);
      for (let i = 16; i < 40; i++) bytes[end + i] = this.#number(256);
      if (type === 104 && this.#number(2) === 0) view.setUint32(end + 16, [0, 1, 60, 100, 1400][this.#number(5)]!, true);
      end += 40;
    }
    return this.#number(20) === 0 ? [0, 7, room, room + 64, 0x7fff_ffff][this.#number(5)]! : end - at;
  }

  #mutant(): Uint8Array {
    const packet = this.#seeds[this.#number(this.#seeds.length)]!.slice();
    for (let i = this.#number(4); i > 0; i--) packet[this.#number(Math.min(packet.length, 64))] = this.#number(256);
    return this.#number(6) === 0 ? packet.subarray(0, this.#number(packet.length)) : packet;
  }
}

/** Level, type and octets: UDP_GRO, IP_TOS, IP_PKTINFO, IPV6_TCLASS, IPV6_PKTINFO, IPV6_HOPLIMIT, and three extension headers. */
const CONTROLS = [
  [17, 104, 4],
  [0, 1, 1],
  [0, 8, 12],
  [41, 67, 4],
  [41, 50, 20],
  [41, 52, 4],
  [41, 54, 8],
  [41, 57, 8],
  [41, 59, 8],
] as const;

/** OpenSSL, told nothing that does not lie in the arena. */
function watchedEvp(watch: Watch, arena: () => Arena) {
  const real = openssl!;
  const parameters = (call: string, at: number) => {
    const { base, view } = arena();
    for (let i = 0; ; i++) {
      watch.pair(call, at + 40 * i, 40);
      const here = at - base + 40 * i;
      const pointer = (offset: number) => view.getBigUint64(here + offset, true);
      if (pointer(0) === 0n) return;
      const octets = Number(BigInt.asUintN(32, pointer(24)));
      watch.pair(`${call}: data`, Number(pointer(16)), pointer(24) === 0xffff_ffff_ffff_ffffn ? 16 : octets);
    }
  };
  const watched: typeof real = {
    ...real,
    EVP_CIPHER_CTX_ctrl: (context, command, argument, pointer) => {
      if (pointer !== 0) watch.pair('EVP_CIPHER_CTX_ctrl', pointer, argument);
      return real.EVP_CIPHER_CTX_ctrl(context, command, argument, pointer);
    },
    EVP_CIPHER_CTX_set_params: (context, at) => {
      parameters('EVP_CIPHER_CTX_set_params', at);
      return real.EVP_CIPHER_CTX_set_params(context, at);
    },
    EVP_CIPHER_CTX_get_params: (context, at) => {
      parameters('EVP_CIPHER_CTX_get_params', at);
      return real.EVP_CIPHER_CTX_get_params(context, at);
    },
    EVP_CipherUpdate: (context, out, outLength, input, length) => {
      watch.pair('EVP_CipherUpdate: length', outLength, 4);
      if (input !== 0) watch.pair('EVP_CipherUpdate: in', input, length);
      if (out !== 0) watch.pair('EVP_CipherUpdate: out', out, length);
      return real.EVP_CipherUpdate(context, out, outLength, input, length);
    },
    EVP_CipherFinal_ex: (context, out, outLength) => {
      watch.pair('EVP_CipherFinal_ex', out, 0);
      watch.pair('EVP_CipherFinal_ex: length', outLength, 4);
      return real.EVP_CipherFinal_ex(context, out, outLength);
    },
    HMAC_Update: (context, data, length) => {
      watch.pair('HMAC_Update', data, length);
      return real.HMAC_Update(context, data, length);
    },
    HMAC_Final: (context, out, outLength) => {
      watch.pair('HMAC_Final', out, 64);
      watch.pair('HMAC_Final: length', outLength, 4);
      return real.HMAC_Final(context, out, outLength);
    },
    CMAC_Update: (context, data, length) => {
      watch.pair('CMAC_Update', data, length);
      return real.CMAC_Update(context, data, length);
    },
  };
  return watched;
}

/** The routines for AES-GCM: counter, hash and keys lie in the arena or where the keys are, which `mmap` told of. */
function watchedGcm(watch: Watch): GcmRoutines {
  const real = gcm!;
  return {
    aesni_set_encrypt_key: (key, bits, schedule) => {
      watch.pair('aesni_set_encrypt_key', key, bits / 8);
      watch.pair('aesni_set_encrypt_key: schedule', schedule, 256);
      return real.aesni_set_encrypt_key(key, bits, schedule);
    },
    aesni_ctr32_encrypt_blocks: (input, out, blocks, schedule, counter) => {
      watch.pair('aesni_ctr32_encrypt_blocks: in', input, 16 * blocks);
      watch.pair('aesni_ctr32_encrypt_blocks: out', out, 16 * blocks);
      watch.pair('aesni_ctr32_encrypt_blocks: schedule', schedule, 256);
      watch.pair('aesni_ctr32_encrypt_blocks: counter', counter, 16);
      real.aesni_ctr32_encrypt_blocks(input, out, blocks, schedule, counter);
    },
    gcm_init_avx: (table, hashKey) => {
      watch.pair('gcm_init_avx', table, 256);
      watch.pair('gcm_init_avx: hash key', hashKey, 16);
      real.gcm_init_avx(table, hashKey);
    },
    gcm_ghash_avx: (hash, table, input, length) => {
      watch.pair('gcm_ghash_avx', hash, 16);
      watch.pair('gcm_ghash_avx: table', table, 256);
      watch.pair('gcm_ghash_avx: in', input, length);
      real.gcm_ghash_avx(hash, table, input, length);
    },
  };
}

function numbers(seed: number): (below: number) => number {
  const random = seeded(seed);
  return (below) => {
    const [a, b, c, d] = random(4);
    return ((a! << 23) | (b! << 15) | (c! << 7) | (d! >> 1)) % below;
  };
}

const SUITES = [
  saOf(),
  saOf({ extendedSequence: true }),
  saOf({ suite: { encr: 'aes_cbc', keyBits: 128, integ: 'hmac_sha2_256' } }),
  saOf({ suite: { encr: 'chacha20_poly1305', keyBits: 256, integ: 'none' } }),
  saOf({ suite: { encr: 'aes_ctr', keyBits: 256, integ: 'aes_cmac' }, mode: 'transport' }),
  saOf({ suite: { encr: 'null_enc', keyBits: 0, integ: 'aes_xcbc' } }),
  // AES-GCM by EVP.
  saOf(),
];

/** Packets of all kinds, protected by an engine of its own under the same keys, as they are and from the device. */
function seedsOf(sa: ReturnType<typeof saOf>): Uint8Array[] {
  const inner = [
    udpPacket(new Uint8Array(60), { source: '192.0.2.1', destination: '192.0.2.2' }),
    tcpPacket(1, new Uint8Array(9000), { source: '192.0.2.1', destination: '192.0.2.2' }),
    udpPacket(new Uint8Array(30), { source: 'fd00:1::1', destination: 'fd00:2::2' }),
  ];
  const arena = new Uint8Array(2 * 66_000 + 2 * 1024 * 1024);
  let reserved = 0;
  const reserve = (length: number, align = 64) => {
    const at = Math.ceil(reserved / align) * align;
    reserved = at + length;
    return at;
  };
  const cipher = noblePacketCipher(arena);
  const engine = new Datapath({ arena, reserve, cipher, random: seeded(3), slots: 1, unmatched: 'discard', coalesce: false });
  install(engine, sa);
  const sealed = inner.slice(0, 2).map((packet) => {
    arena.set(packet, engine.inputs.buffer[0]!);
    engine.inputs.takePacket(0, 0, packet.length);
    engine.protectBatch(0, 1, NOW);
    const { offset, length } = engine.outputs;
    return arena.slice(offset[0]!, offset[0]! + length[0]!);
  });
  return [...inner, ...sealed, Uint8Array.of(0xff), new Uint8Array(40), new Uint8Array(2000).fill(7)];
}

function install(engine: Datapath, sa: ReturnType<typeof saOf>): void {
  const template = templateOf({ mode: sa.mode });
  engine.addPolicy(policyOf({ direction: 'outbound', templates: [template] }), NOW);
  engine.addPolicy(policyOf({ direction: 'inbound', templates: [template] }), NOW);
  engine.addSa(
    { ...sa, encrKey: sa.encrKey.slice(0, sa.encrKey.length), integKey: sa.integKey?.slice(0, sa.integKey.length) },
    NOW,
  );
}

const socketOf = (fd: number, family: 4 | 6) => ({ fd, family, port: 4500, coalesces: true, segments: true });

describe.skipIf(missing !== undefined)(`native calls${missing === undefined ? '' : ` (skipped: ${missing})`}`, () => {
  test.each(SUITES.map((sa, i) => [i, sa] as const))('of suite %i stay in the arena whatever arrives', LIMIT, (i, sa) => {
    const watch = new Watch();
    const number = numbers(100 + i);
    const kernel = new HostileKernel(watch, number, seedsOf(sa));
    const door = kernel.over(libc!);
    const simd = simdMemory(ARENA);
    const arena = new Arena(door, ARENA, simd.buffer);
    kernel.arena = arena;
    const whole = new EvpCipher(
      watchedEvp(watch, () => arena),
      arena,
    );
    const byEvpAlone = gcm === undefined || i === SUITES.length - 1;
    const cipher: PacketCipher = byEvpAlone ? whole : new CipherPair(new AesGcmCipher(door, watchedGcm(watch), arena), whole);
    const memory: NativeMemory = {
      libc: door,
      arena,
      bytes: arena.bytes,
      reserve: (length, align) => arena.reserve(length, align),
      checksum: new Checksum(arena.bytes, simdSum(simd)),
      cipher,
      boottime: () => NOW.mono,
    };
    const engine = new Datapath({
      ...memory,
      arena: arena.bytes,
      random: seeded(5),
      slots: BATCH,
      unmatched: 'bypass',
      coalesce: true,
    });
    const sockets: Sockets = {
      4: { udp: socketOf(UDP4, 4), raw: socketOf(RAW4, 4), ah: socketOf(AH4, 4), icmp: undefined, whole: socketOf(WHOLE4, 4) },
      6: { udp: socketOf(UDP6, 6), raw: socketOf(RAW6, 6), ah: socketOf(AH6, 6), icmp: undefined, whole: socketOf(WHOLE6, 6) },
    };
    const offloads = { header: true, checksum: true, tcp: true, udp: true };
    const tun = new Tun(door, arena, TUN_FD, 'fuzz', offloads);
    const sender = new Sender(memory, engine, sockets);
    let ike = 0;
    const loop = new PacketLoop(memory, engine, tun, sockets, sender, { encapPort: 4500, spin: 20 }, 9, [], {
      onIke: (slot, at, length) => {
        ike++;
        watch.pair('an IKE message', arena.base + at, length);
        loop.remoteOf(slot);
        loop.localOf(slot);
      },
      inspects: () => number(10) === 0,
      onFrame: () => false,
    });
    install(
      engine,
      i % 2 === 0
        ? sa
        : {
            ...sa,
            encapsulation: { source: { address: sa.source, port: 4500 }, destination: { address: sa.destination, port: 4500 } },
          },
    );
    for (let turn = 0; turn < COUNT / 60; turn++) {
      loop.turn(undefined);
      loop.release();
      engine.drain();
    }
    const [running] = [...engine.core.sad.all];
    expect(running!.packets).toBeGreaterThan(0);
    expect(engine.drops.total).toBeGreaterThan(0);
    expect(watch.calls).toBeGreaterThan(COUNT);
    expect(ike).toBeGreaterThan(0);
  });

  test('what is not in the arena is refused at the door, before the call', () => {
    const watch = new Watch();
    const kernel = new HostileKernel(watch, numbers(1), [new Uint8Array(20)]);
    const door = kernel.over(libc!);
    const arena = new Arena(door, 65_536);
    kernel.arena = arena;
    const tun = new Tun(door, arena, TUN_FD, 'fuzz', { header: true, checksum: true, tcp: true, udp: true });
    const table = new MessageTable(door, arena, 4);
    for (const [at, length] of [
      [-1, 1],
      [0, -1],
      [65_536, 1],
      [65_000, 1000],
      [0, 65_537],
      [Number.NaN, 1],
    ] as const) {
      expect(() => tun.read(at, length)).toThrow(/native call/);
      expect(() => tun.write(at, length)).toThrow(/native call/);
      expect(() => tun.writev(at, Math.abs(length) * 5000)).toThrow(/native call/);
      expect(() => table.begin(0, at, length)).toThrow(/native call/);
      expect(() => table.buffer(0, at, length)).toThrow(/native call/);
    }
    expect(() => table.send(UDP4, 2, 3)).toThrow(/table of 4/);
    expect(() => table.receive(UDP4, 5)).toThrow();
    expect(watch.calls).toBe(0);
  });
});
