/** AES-GCM by OpenSSL's routines: every length, the octets around the packet, and what becomes of keys. */

import { beforeAll, describe, expect, test } from 'vitest';
import { Secret } from '../../../../src/bytes/secret.ts';
import { type EspSuite, nodePacketCipher, type PacketCipher } from '../../../../src/crypto/index.ts';
import { AesGcmCipher, Arena, gcmRoutines, libcDoor } from '../../../../src/runtime/native/index.ts';
import { seeded } from '../../datapath/pair.ts';

const { open: libc, why } = libcDoor();
const routines = libc === undefined ? undefined : gcmRoutines(libc);
const missing = libc === undefined ? why : routines?.why;

describe.skipIf(missing !== undefined)(
  `AES-GCM by OpenSSL's routines${missing === undefined ? '' : ` (skipped: ${missing})`}`,
  () => {
    const random = seeded(11);
    let arena: Arena;
    let gcm: AesGcmCipher;
    let node: PacketCipher;
    let at: number;
    beforeAll(() => {
      arena = new Arena(libc!, 1 << 20);
      gcm = new AesGcmCipher(libc!, routines!.open!, arena);
      node = nodePacketCipher(arena.bytes);
      at = arena.reserve(8192);
    });

    const suiteOf = (encr: EspSuite['encr'], keyBits: number): EspSuite => ({ encr, keyBits, integ: 'none' });

    test.each([
      [suiteOf('aes_gcm_16', 128), 16],
      [suiteOf('aes_gcm_12', 192), 12],
      [suiteOf('aes_gcm_8', 256), 8],
    ] as const)('%o: packets of every length as node:crypto makes them, and nothing around them changes', (suite, icvBytes) => {
      const key = random(suite.keyBits / 8 + 4);
      const [sealing, theirs, opening] = [gcm, node, gcm].map((cipher, i) =>
        cipher.create(suite, i === 2 ? 'open' : 'seal', new Secret(key.slice()), undefined),
      ) as [number, number, number];
      for (let textBytes = 0; textBytes < 480; textBytes += 4) {
        const high = textBytes % 12 === 0 ? -1 : 0xf000_0000 + textBytes;
        const espAt = at + 64 + ((textBytes / 4) % 5);
        const [from, end] = [espAt - 64, espAt + 16 + textBytes + icvBytes];
        const around = random(end + 64 - from);
        const fill = () => arena.bytes.set(around, from);
        fill();
        expect(node.seal(theirs, espAt, textBytes, high)).toBe(true);
        const sealed = arena.bytes.slice(from, end + 64);
        fill();
        expect(gcm.seal(sealing, espAt, textBytes, high)).toBe(true);
        expect(arena.bytes.slice(from, end + 64)).toEqual(sealed);
        expect(gcm.open(opening, espAt, textBytes, high)).toBe(true);
        expect(arena.bytes.slice(from, end - icvBytes)).toEqual(around.subarray(0, end - icvBytes - from));
        expect(arena.bytes.slice(end - icvBytes, end + 64)).toEqual(sealed.subarray(end - icvBytes - from));
        for (const octet of [espAt, espAt + 7, espAt + 15, espAt + 16, end - 1]) {
          arena.bytes.set(sealed, from);
          arena.bytes[octet]! ^= 0x10;
          expect(gcm.open(opening, espAt, textBytes, high)).toBe(false);
          expect(arena.bytes.subarray(espAt + 16, espAt + 16 + textBytes).every((one) => one === 0)).toBe(true);
          expect(arena.bytes.slice(end, end + 64)).toEqual(sealed.subarray(end - from));
        }
      }
      for (const handle of [sealing, opening]) gcm.destroy(handle);
      node.destroy(theirs);
    });

    test('what lies too near to the end of the arena is refused, and so is another suite', () => {
      const handle = gcm.create(suiteOf('aes_gcm_16', 128), 'seal', new Secret(random(20)), undefined);
      const { length } = arena.bytes;
      expect(gcm.seal(handle, length - 16 - 64 - 32, 64, -1)).toBe(true);
      expect(gcm.seal(handle, length - 16 - 64 - 31, 64, -1)).toBe(false);
      expect(gcm.seal(handle, -1, 64, -1)).toBe(false);
      expect(gcm.seal(handle, at, 62, -1)).toBe(false);
      expect(gcm.open(handle, at, 64, -1)).toBe(false);
      gcm.destroy(handle);
      expect(gcm.seal(handle, at, 64, -1)).toBe(false);
      expect(gcm.supports(suiteOf('aes_gcm_16_iiv', 128))).toBe(false);
      expect(gcm.supports(suiteOf('aes_gcm_16', 100))).toBe(false);
      expect(() => gcm.create(suiteOf('aes_gcm_16', 128), 'seal', new Secret(random(32)), undefined)).toThrow('takes 20 octets');
    });

    test('1,000 SAs have keys of their own, and a key that is destroyed is gone from memory', () => {
      const memories: Uint8Array[] = [];
      const watched: typeof libc = {
        ...libc!,
        mmap: (...call) => {
          const base = libc!.mmap(...call);
          memories.push(new Uint8Array(libc!.koffi.view(base, call[1])));
          return base;
        },
      };
      const many = new AesGcmCipher(watched, routines!.open!, arena);
      const handles = Array.from({ length: 1000 }, (_, i) =>
        many.create(suiteOf('aes_gcm_16', 128), 'seal', new Secret(new Uint8Array(20).fill(i % 251)), undefined),
      );
      expect(new Set(handles).size).toBe(1000);
      const icvs = handles.map((handle) => {
        arena.bytes.fill(0, at, at + 96);
        many.seal(handle, at, 32, -1);
        return arena.bytes.slice(at + 48, at + 64).join();
      });
      expect(new Set(icvs).size).toBe(251);
      for (const handle of handles) many.destroy(handle);
      expect(memories.length).toBe(8);
      expect(memories.every((memory) => memory.every((octet) => octet === 0))).toBe(true);
    });
  },
);
