/** Datagrams in batches over loopback: segmentation offload out, coalescing in, and the control data of both directions. */

import { networkInterfaces } from 'node:os';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { IpAddress } from '../../../../src/net/address.ts';
import {
  Arena,
  close,
  libcDoor,
  MessageTable,
  openUdp,
  PollTable,
  readSockaddr,
  writeSockaddr,
} from '../../../../src/runtime/native/index.ts';

const { open: libc, why } = libcDoor();
/** A host may be without IPv6. */
const LOOPBACK = Object.values(networkInterfaces()).flatMap((addresses) => addresses?.map(({ address }) => address) ?? []);

describe.skipIf(libc === undefined)(`messages${why === undefined ? '' : ` (skipped: ${why})`}`, () => {
  let arena: Arena;
  beforeAll(() => {
    arena = new Arena(libc!, 4 << 20);
  });
  const open: number[] = [];
  afterAll(() => {
    for (const fd of open) close(libc!, fd);
  });

  function socket(address: string, coalesce: boolean) {
    const local = IpAddress.parse(address)!;
    const options = {
      family: local.family,
      address: local,
      packetInfo: true,
      trafficClass: true,
      coalesce,
      receiveBufferBytes: 1 << 20,
    };
    const opened = openUdp(libc!, {
      ...options,
      mtuDiscover: 'omit',
      reuseAddress: true,
      reusePort: true,
      sendBufferBytes: 1 << 20,
    });
    open.push(opened.fd);
    const toAt = arena.reserve(32);
    return { ...opened, local, toAt, toBytes: writeSockaddr(arena, toAt, local, opened.port) };
  }

  function inbox(count: number, bytes: number) {
    const table = new MessageTable(libc!, arena, count);
    const buffers = arena.reserve(count * bytes);
    for (let slot = 0; slot < count; slot++) table.buffer(slot, buffers + slot * bytes, bytes);
    return { table, at: (slot: number) => buffers + slot * bytes };
  }

  function wait(fd: number) {
    const poll = new PollTable(libc!, arena, 1);
    poll.add(fd);
    expect(poll.wait(2000)).toBe(1);
  }

  describe.each(['127.0.0.1', '::1'].filter((address) => LOOPBACK.includes(address)))('%s', (address) => {
    test('one message of scattered pieces leaves as many datagrams and arrives as one buffer', () => {
      const [a, b] = [socket(address, false), socket(address, true)];
      expect([a.segments, b.coalesces, a.coalesces]).toEqual([true, true, false]);
      const outbox = new MessageTable(libc!, arena, 2, 64);
      const payload = arena.reserve(40 * 2000);
      outbox.begin(0, b.toAt, b.toBytes);
      for (let i = 0; i < 40; i++) {
        const bytes = i < 39 ? 1400 : 1000;
        arena.bytes.fill(i + 1, payload + i * 2000, payload + i * 2000 + bytes);
        expect(outbox.add(0, payload + i * 2000, bytes)).toBe(true);
      }
      outbox.control(0, a.family, 1400, 3, -1);
      expect(outbox.send(a.fd, 0, 1)).toBe(1);
      expect(outbox.length(0)).toBe(39 * 1400 + 1000);
      wait(b.fd);
      const { table, at } = inbox(4, 65536);
      expect(table.receive(b.fd, 4)).toBe(1);
      expect([table.length(0), table.segmentBytes[0], table.truncated(0)]).toEqual([39 * 1400 + 1000, 1400, false]);
      expect(table.trafficClass[0]).toBe(3);
      for (let i = 0; i < 40; i++) expect(arena.bytes[at(0) + i * 1400]).toBe(i + 1);
      expect(readSockaddr(arena, table.nameAt(0))).toEqual({ address: a.local, port: a.port });
      const local = table.localAt[0]!;
      expect(IpAddress.of(arena.bytes.subarray(local, local + a.local.bytes.length)).toString()).toBe(address);
      expect(table.interfaceIndex[0]).toBe(1);
      expect(table.receive(b.fd, 4)).toBe(0);
    });

    test('a batch of messages goes out in one call and comes in in one, each with its own length and source', () => {
      const [a, b] = [socket(address, false), socket(address, false)];
      const outbox = new MessageTable(libc!, arena, 8, 2);
      const payload = arena.reserve(4096);
      const sourceAt = arena.reserve(16);
      arena.bytes.set(a.local.bytes, sourceAt);
      for (let slot = 0; slot < 8; slot++) {
        outbox.begin(slot, b.toAt, b.toBytes);
        outbox.add(slot, payload, 4);
        outbox.add(slot, payload + 100, slot);
        expect(outbox.add(slot, payload, 1)).toBe(false);
        outbox.control(slot, a.family, 0, -1, sourceAt);
      }
      expect(outbox.send(a.fd, 0, 8)).toBe(8);
      wait(b.fd);
      const { table } = inbox(16, 256);
      expect(table.receive(b.fd, 16)).toBe(8);
      expect(Array.from({ length: 8 }, (_, slot) => table.length(slot))).toEqual([4, 5, 6, 7, 8, 9, 10, 11]);
      expect(table.segmentBytes[7]).toBe(0);
    });

    test('what the kernel refuses is a negative errno and the rest of the batch goes on', () => {
      const [a, b] = [socket(address, false), socket(address, false)];
      const outbox = new MessageTable(libc!, arena, 2, 2);
      const payload = arena.reserve(70_000);
      outbox.begin(0, b.toAt, b.toBytes);
      outbox.add(0, payload, 69_000);
      outbox.begin(1, b.toAt, b.toBytes);
      outbox.add(1, payload, 300);
      expect(outbox.send(a.fd, 0, 2)).toBe(-90);
      expect(outbox.send(a.fd, 1, 1)).toBe(1);
      expect(() => outbox.receive(a.fd, 1)).toThrow('this message table sends');
      wait(b.fd);
      const { table } = inbox(1, 256);
      expect(table.receive(b.fd, 1)).toBe(1);
      expect([table.length(0), table.truncated(0)]).toEqual([256, true]);
    });
  });

  test('a port in use is told with its cure', () => {
    const address = IpAddress.parse('127.0.0.1')!;
    const first = openUdp(libc!, { family: 4, address });
    open.push(first.fd);
    expect(() => openUdp(libc!, { family: 4, address, port: first.port })).toThrow(
      `open UDP socket on 127.0.0.1[${first.port}]: address already in use (EADDRINUSE); another daemon may hold the port`,
    );
  });
});
