/** The engine's memory and cipher: an arena outside the JavaScript heap with OpenSSL on it where the doors are open, else ordinary ones. */

import type { PacketCipher } from '../crypto/packet-cipher.ts';
import { nodePacketCipher } from '../crypto/packet-cipher-node.ts';
import { type Reserve, reserveIn } from '../datapath/slots.ts';
import { SystemError } from '../errors.ts';
import { Checksum } from '../net/checksum.ts';
import { simdMemory, simdSum } from '../net/checksum-simd.ts';
import type { MonotonicClock } from '../runtime/clock.ts';
import { Arena, bootMilliseconds, type Libc, libcDoor, packetCipher } from '../runtime/native/index.ts';
import type { DatapathSettings } from './ports.ts';

export interface PacketMemory {
  readonly bytes: Uint8Array;
  readonly reserve: Reserve;
  readonly checksum: Checksum;
  readonly cipher: PacketCipher;
  /** CLOCK_BOOTTIME where it can be read. */
  readonly boottime: MonotonicClock | undefined;
}

export interface NativeMemory extends PacketMemory {
  readonly libc: Libc;
  readonly arena: Arena;
  readonly boottime: MonotonicClock;
}

/** `octets` of memory, wherever it can be had. What the settings asked for and is not there is told in `problems`. */
export async function packetMemory(
  choice: DatapathSettings['datapath']['cipher'],
  octets: number,
  problems: string[],
): Promise<PacketMemory> {
  const { open: libc, why } = libcDoor();
  if (libc !== undefined) return nativeMemory(libc, choice, octets, problems);
  const bytes = new Uint8Array(octets);
  const cipher = choice === 'noble' ? await nobleCipher(bytes) : nodePacketCipher(bytes);
  if (choice === 'openssl') problems.push(insteadOfOpenssl(why, cipher));
  return { bytes, reserve: reserveIn(bytes), checksum: new Checksum(bytes), cipher, boottime: undefined };
}

/** The same outside the heap, for system calls too. Throws SystemError where the host has no memory. */
export async function nativeMemory(
  libc: Libc,
  choice: DatapathSettings['datapath']['cipher'],
  octets: number,
  problems: string[],
): Promise<NativeMemory> {
  const { arena, checksum } = arenaOf(libc, octets, problems);
  return {
    libc,
    arena,
    checksum,
    bytes: arena.bytes,
    reserve: (length, align) => arena.reserve(length, align),
    cipher: choice === 'noble' ? await nobleCipher(arena.bytes) : nativeCipher(libc, arena, problems),
    boottime: () => bootMilliseconds(libc),
  };
}

/** One that SIMD can sum where there is address space for it, else an ordinary one. */
function arenaOf(libc: Libc, octets: number, problems: string[]): { readonly arena: Arena; readonly checksum: Checksum } {
  try {
    const memory = simdMemory(octets);
    const arena = new Arena(libc, octets, memory.buffer);
    return { arena, checksum: new Checksum(arena.bytes, simdSum(memory)) };
  } catch (error) {
    if (!(error instanceof RangeError || error instanceof SystemError)) throw error;
    problems.push(`checksums are made without SIMD, more slowly (${error.message}); is the address space limited (ulimit -v)?`);
    const arena = new Arena(libc, octets);
    return { arena, checksum: new Checksum(arena.bytes) };
  }
}

/** Loaded only where it is asked for: noble's tables take longer than all the rest of a start. */
async function nobleCipher(bytes: Uint8Array): Promise<PacketCipher> {
  const { noblePacketCipher } = await import('../crypto/packet-cipher-noble.ts');
  return noblePacketCipher(bytes);
}

function nativeCipher(libc: Libc, arena: Arena, problems: string[]): PacketCipher {
  const { open, why } = packetCipher(libc, arena);
  if (open !== undefined) return open;
  const instead = nodePacketCipher(arena.bytes);
  problems.push(insteadOfOpenssl(why, instead));
  return instead;
}

function insteadOfOpenssl(why: string, { name }: PacketCipher): string {
  return `OpenSSL cannot protect packets (${why}); ${name} does it instead, several times slower; to have this silent: interface { datapath { cipher noble; } }`;
}
