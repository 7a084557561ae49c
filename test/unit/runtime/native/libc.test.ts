/** The doors themselves, the arena, the poll table, the eventfd and the boot clock. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SystemError } from '../../../../src/errors.ts';
import { simdMemory } from '../../../../src/net/checksum-simd.ts';
import {
  Arena,
  bootMilliseconds,
  close,
  createEventFd,
  credentialsOf,
  doorReports,
  drain,
  Epoll,
  kick,
  libcDoor,
  POLLIN,
  PollTable,
  systemError,
} from '../../../../src/runtime/native/index.ts';

const { open: libc, why } = libcDoor();

test('each door says what is behind it, or why it is shut', () => {
  const reports = doorReports();
  expect(reports.map(({ door }) => door)).toEqual(['system calls', 'openssl', 'tun', 'raw sockets', 'routes and rules']);
  for (const { detail } of reports) expect(detail).not.toBe('');
  expect(reports[0]!.open).toBe(libc !== undefined);
});

test('an errno becomes its name and a sentence', () => {
  const error = systemError('open UDP socket on 0.0.0.0[4500]', 98, 'choose another port');
  expect(error).toBeInstanceOf(SystemError);
  expect(error.code).toBe('EADDRINUSE');
  expect(error.message).toBe('open UDP socket on 0.0.0.0[4500]: address already in use (EADDRINUSE); choose another port');
});

describe.skipIf(libc === undefined)(`system calls${why === undefined ? '' : ` (skipped: ${why})`}`, () => {
  test('the arena has a small address on x64, whole pages, and room that is reserved once', () => {
    const arena = new Arena(libc!, 10_000);
    expect(arena.bytes.length).toBe(12_288);
    if (process.arch === 'x64') expect(arena.base).toBeLessThan(2 ** 31);
    const first = arena.reserve(100);
    const second = arena.reserve(1, 4096);
    expect([first, second]).toEqual([0, 4096]);
    expect(() => arena.reserve(8192)).toThrow('no room for 8192 more');
    arena.setPointer(8, 4096);
    expect(arena.u64[1]).toBe(BigInt(arena.base + 4096));
    arena.setU64(16, 2 ** 40 + 5);
    expect(arena.u64[2]).toBe(2n ** 40n + 5n);
  });

  test('the arena and its twin are the same memory', () => {
    const { buffer } = simdMemory(3 * 65_536);
    const arena = new Arena(libc!, 3 * 65_536, buffer);
    if (process.arch === 'x64') expect(arena.base).toBeLessThan(2 ** 31);
    const fd = libc!.open('/proc/self/comm', 0);
    const at = arena.reserve(16, 4096);
    const length = libc!.read(fd, arena.base + at, 16);
    close(libc!, fd);
    expect(Buffer.from(buffer, at, length).toString()).toBe(readFileSync('/proc/self/comm', 'latin1'));
    arena.bytes[at] = 7;
    expect(new Uint8Array(libc!.koffi.view(arena.base + at, 1))[0]).toBe(7);
  });

  test('reads and writes through addresses reach the very bytes', () => {
    const arena = new Arena(libc!, 4096);
    const fd = libc!.open('/proc/self/comm', 0);
    const length = libc!.read(fd, arena.base, 64);
    close(libc!, fd);
    expect(Buffer.from(arena.bytes.subarray(0, length)).toString()).toBe(readFileSync('/proc/self/comm', 'latin1'));
    expect(() => close(libc!, fd)).toThrow('(EBADF)');
  });

  test('a kick wakes the poll, several are one, and an empty poll ends in time', () => {
    const arena = new Arena(libc!, 4096);
    const poll = new PollTable(libc!, arena, 2);
    const [quiet, wake] = [createEventFd(libc!), createEventFd(libc!)];
    const [quietSlot, wakeSlot] = [poll.add(quiet), poll.add(wake)];
    expect(() => poll.add(0)).toThrow('planned for 2 descriptors');
    expect(poll.wait(0)).toBe(0);
    expect(drain(libc!, wake)).toBe(false);
    kick(libc!, wake);
    kick(libc!, wake);
    expect(poll.wait(-1)).toBe(1);
    expect([poll.events(quietSlot), poll.events(wakeSlot)]).toEqual([0, POLLIN]);
    expect(drain(libc!, wake)).toBe(true);
    expect(drain(libc!, wake)).toBe(false);
    kick(libc!, quiet);
    poll.set(quietSlot, -1, 0);
    expect(poll.wait(0)).toBe(0);
    close(libc!, quiet);
    close(libc!, wake);
  });

  test('an epoll set tells which descriptors have something, and is bounded', () => {
    const arena = new Arena(libc!, 4096);
    const epoll = new Epoll(libc!, arena, 3);
    const fds = [createEventFd(libc!), createEventFd(libc!), createEventFd(libc!)];
    const indexes = fds.map((fd) => epoll.add(fd));
    expect(() => epoll.add(0)).toThrow('planned for 3 descriptors');
    expect(epoll.wait(0)).toBe(0);
    kick(libc!, fds[0]!);
    kick(libc!, fds[2]!);
    expect(epoll.wait(-1)).toBe(2);
    expect(indexes.map((index) => epoll.events(index))).toEqual([POLLIN, 0, POLLIN]);
    expect(drain(libc!, fds[2]!)).toBe(true);
    expect(epoll.wait(5)).toBe(1);
    expect(indexes.map((index) => epoll.events(index))).toEqual([POLLIN, 0, 0]);
    for (const fd of fds) close(libc!, fd);
    epoll.close();
    expect(() => epoll.close()).toThrow('(EBADF)');
  });

  test('the boot clock agrees with the kernel and does not go back', () => {
    const before = bootMilliseconds(libc!);
    const uptime = Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]) * 1000;
    const after = bootMilliseconds(libc!);
    expect(before).toBeLessThanOrEqual(after);
    expect(Math.abs(uptime - before)).toBeLessThan(1000);
  });

  test('a UNIX socket tells who connected', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tanuki-'));
    const path = join(directory, 'socket');
    try {
      const credentials = await new Promise((resolve, reject) => {
        const server = createServer((socket) => {
          try {
            resolve(credentialsOf(libc!, socket));
          } catch (error) {
            reject(error);
          }
          socket.destroy();
          expect(() => credentialsOf(libc!, socket)).toThrow('the connection is closed already');
          server.close();
        });
        server.listen(path, () => connect(path).on('error', reject));
      });
      expect(credentials).toEqual({ pid: process.pid, uid: process.geteuid!(), gid: process.getegid!() });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
