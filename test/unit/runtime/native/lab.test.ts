/**
 * What needs privilege, in a namespace of its own: rtnetlink, the TUN device with its offloads, raw ESP, marks and device
 * binding.
 */

import { createSocket } from 'node:dgram';
import { existsSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import { IpAddress } from '../../../../src/net/address.ts';
import { parsePrefix, showPrefix } from '../../../../src/net/prefix.ts';
import {
  Arena,
  adoptTun,
  close,
  IPPROTO_ESP,
  libcDoor,
  MessageTable,
  openRaw,
  openTun,
  openUdp,
  Pieces,
  PollTable,
  readSockaddr,
  VNET,
  VNET_GSO,
  VNET_HDR_BYTES,
  writeSockaddr,
} from '../../../../src/runtime/native/index.ts';
import { HostMonitor, Rtnetlink } from '../../../../src/runtime/netlink/rtnetlink.ts';
import { enterNamespace, inAnotherNamespace } from './namespace.ts';

const missing = enterNamespace() ?? (existsSync('/dev/net/tun') ? undefined : 'there is no /dev/net/tun');

describe.skipIf(missing !== undefined)(`privileged doors${missing === undefined ? '' : ` (skipped: ${missing})`}`, () => {
  const { open: libc } = libcDoor();
  const ready = missing === undefined ? libc : undefined;
  const arena = ready && new Arena(ready, 8 << 20);

  function wait(fd: number, milliseconds = 2000): number {
    const poll = new PollTable(libc!, arena!, 1);
    poll.add(fd);
    return poll.wait(milliseconds);
  }

  test('routes, rules and addresses: add, list, refuse twice, delete; a monitor hears of it all', () => {
    const rtnetlink = new Rtnetlink(libc!);
    const monitor = new HostMonitor(libc!, ['LINK', 'IPV4_IFADDR', 'IPV4_ROUTE', 'IPV4_RULE', 'IPV6_ROUTE', 'IPV6_RULE']);
    const lo = rtnetlink.link('lo')!;
    expect(lo).toMatchObject({ name: 'lo', up: true, loopback: true });
    rtnetlink.setLink(lo.index, { mtu: 9000 });
    expect(rtnetlink.link('lo')!.mtu).toBe(9000);
    rtnetlink.setLink(lo.index, { mtu: 65536 });

    const prefix = parsePrefix('192.0.2.7/24')!;
    rtnetlink.addAddress(lo.index, prefix);
    expect(rtnetlink.addresses(4).map((address) => showPrefix(address.prefix))).toContain('192.0.2.7/24');
    expect(() => rtnetlink.addAddress(lo.index, prefix)).toThrow(expect.objectContaining({ code: 'EEXIST' }));

    for (const [destination, table] of [
      ['198.51.100.0/24', 77],
      ['0.0.0.0/0', 7000],
      ['2001:db8::/32', 77],
      ['::/0', 7000],
    ] as const) {
      const family = destination.includes(':') ? 6 : 4;
      const route = {
        destination: parsePrefix(destination)!,
        table,
        type: 'unicast',
        index: lo.index,
        metric: 20,
        mtu: 1400,
        protocol: 99,
      } as const;
      rtnetlink.addRoute(route);
      expect(rtnetlink.routes(family, table)).toEqual([route]);
      expect(() => rtnetlink.addRoute(route)).toThrow(
        `add route ${destination} over link 1 in table ${table}: file already exists (EEXIST)`,
      );
      rtnetlink.addRoute(route, true);
      rtnetlink.deleteRoute(route);
      expect(rtnetlink.routes(family, table)).toEqual([]);
      expect(() => rtnetlink.deleteRoute(route)).toThrow(expect.objectContaining({ code: 'ESRCH' }));
    }
    rtnetlink.addRoute({ destination: parsePrefix('203.0.113.0/24')!, table: 77, type: 'blackhole' });
    expect(rtnetlink.routes(4, 77)).toMatchObject([{ type: 'blackhole', destination: { length: 24 } }]);

    for (const family of [4, 6] as const) {
      const rule = { family, priority: 1234, table: 77, mark: 0x7a, mask: 0xff, invert: true, protocol: 99 } as const;
      rtnetlink.addRule(rule);
      expect(rtnetlink.rules(family).filter(({ priority }) => priority === 1234)).toEqual([rule]);
      expect(() => rtnetlink.addRule(rule)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
      rtnetlink.deleteRule(rule);
      expect(rtnetlink.rules(family).some(({ priority }) => priority === 1234)).toBe(false);
      expect(() => rtnetlink.deleteRule(rule)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    }

    expect(rtnetlink.lookup(IpAddress.parse('192.0.2.9')!)).toMatchObject({
      index: lo.index,
      preferredSource: IpAddress.parse('192.0.2.7'),
    });
    expect(() => rtnetlink.lookup(IpAddress.parse('8.8.8.8')!)).toThrow(expect.objectContaining({ code: 'ENETUNREACH' }));
    rtnetlink.deleteAddress(lo.index, prefix);

    const { changes, lost } = monitor.changes();
    expect(lost).toBe(false);
    for (const kind of ['link', 'address', 'route', 'rule']) expect(changes.map((change) => change.kind)).toContain(kind);
    expect(changes.filter((change) => change.kind === 'rule').map(({ gone }) => gone)).toEqual([false, true, false, true]);
    expect(monitor.changes().changes).toEqual([]);
    monitor.close();
    rtnetlink.close();
  });

  test('a packet comes out of the TUN device and another goes in', async () => {
    const tun = openTun(libc!, arena!, 'tanuki%d');
    expect(tun.name).toBe('tanuki0');
    expect(tun.offloads).toMatchObject({ header: true, checksum: true, tcp: true });
    const rtnetlink = new Rtnetlink(libc!);
    const link = rtnetlink.link(tun.name)!;
    expect(link).toMatchObject({ kind: 'tun', up: false });
    rtnetlink.setLink(link.index, { up: true, mtu: 1400 });
    rtnetlink.addAddress(link.index, parsePrefix('10.9.0.1/24')!);
    const at = arena!.reserve(70_000);
    const own = openUdp(libc!, { family: 4, address: IpAddress.parse('10.9.0.1')! });
    const toAt = arena!.reserve(32);
    const toBytes = writeSockaddr(arena!, toAt, IpAddress.parse('10.9.0.2')!, 7);
    const table = new MessageTable(libc!, arena!, 1);
    arena!.bytes.set(Buffer.from('out of it'), at);
    table.begin(0, toAt, toBytes);
    table.add(0, at, 9);
    expect(table.send(own.fd, 0, 1)).toBe(1);

    expect(wait(tun.fd)).toBe(1);
    const length = readIpv4(tun, at);
    expect(length).toBe(VNET_HDR_BYTES + 20 + 8 + 9);
    const ip = at + VNET_HDR_BYTES;
    expect(arena!.bytes[at + VNET.gsoType]).toBe(VNET_GSO.none);
    expect([arena!.bytes[ip], arena!.bytes[ip + 9], arena!.bytes[ip + 19]]).toEqual([0x45, 17, 2]);
    expect(Buffer.from(arena!.bytes.subarray(ip + 28, ip + 37)).toString()).toBe('out of it');

    // Send it back: swap addresses and ports, no UDP checksum, and in three pieces.
    const { bytes, view } = arena!;
    bytes.fill(0, at, at + VNET_HDR_BYTES);
    const [source, destination] = [bytes.slice(ip + 12, ip + 16), bytes.slice(ip + 16, ip + 20)];
    bytes.set(destination, ip + 12);
    bytes.set(source, ip + 16);
    view.setUint16(ip + 20, 7);
    view.setUint16(ip + 22, own.port);
    view.setUint16(ip + 26, 0);
    const pieces = new Pieces(arena!, 3);
    expect([pieces.add(at, VNET_HDR_BYTES), pieces.add(ip, 28), pieces.add(ip + 28, 9), pieces.add(ip, 1)]).toEqual([
      true,
      true,
      true,
      false,
    ]);
    expect(tun.writev(pieces.at, pieces.count)).toBe(pieces.octets);
    expect(wait(own.fd)).toBe(1);
    const inbox = new MessageTable(libc!, arena!, 1);
    inbox.buffer(0, at, 2000);
    expect(inbox.receive(own.fd, 1)).toBe(1);
    expect(Buffer.from(bytes.subarray(at, at + inbox.length(0))).toString()).toBe('out of it');
    expect(readSockaddr(arena!, inbox.nameAt(0))).toEqual({ address: IpAddress.parse('10.9.0.2'), port: 7 });

    expect(tun.write(at, 5)).toBe(-22);
    close(libc!, own.fd);
    close(libc!, tun.fd);
    expect(rtnetlink.link('tanuki0')).toBeUndefined();
    rtnetlink.close();
  });

  test('a segmented send reaches the TUN device uncut where it takes UDP segmentation', () => {
    const tun = openTun(libc!, arena!, 'gso0');
    expect(adoptTun(libc!, arena!, tun.fd)).toMatchObject({ name: 'gso0', offloads: tun.offloads });
    const rtnetlink = new Rtnetlink(libc!);
    const { index } = rtnetlink.link('gso0')!;
    rtnetlink.setLink(index, { up: true, mtu: 1400 });
    rtnetlink.addAddress(index, parsePrefix('10.8.0.1/24')!);
    const own = openUdp(libc!, { family: 4, sendBufferBytes: 1 << 20 });
    const at = arena!.reserve(70_000);
    const toAt = arena!.reserve(32);
    const toBytes = writeSockaddr(arena!, toAt, IpAddress.parse('10.8.0.2')!, 7);
    const outbox = new MessageTable(libc!, arena!, 1);
    outbox.begin(0, toAt, toBytes);
    outbox.add(0, at, 10_000);
    outbox.control(0, 4, 1000, -1, -1);
    expect(outbox.send(own.fd, 0, 1)).toBe(1);
    expect(wait(tun.fd)).toBe(1);
    const length = readIpv4(tun, at);
    const payload = length - VNET_HDR_BYTES - 28;
    if (tun.offloads.udp) {
      expect([payload, arena!.bytes[at + VNET.gsoType], arena!.view.getUint16(at + VNET.gsoBytes, true)]).toEqual([
        10_000,
        VNET_GSO.udp,
        1000,
      ]);
    } else expect(payload).toBe(1000);
    expect(tun.read(at, 70_000)).toBe(tun.offloads.udp ? 0 : VNET_HDR_BYTES + 1028);
    for (const fd of [own.fd, tun.fd]) close(libc!, fd);
    rtnetlink.close();
  });

  test('TCP between two namespaces crosses two TUN devices in frames far longer than the MTU', async () => {
    const SIZE = 4 << 20;
    const here = '10.7.0.1';
    const there = '10.7.0.2';
    const device = (name: string, address: string) => {
      const tun = openTun(libc!, arena!, name);
      const rtnetlink = new Rtnetlink(libc!);
      const { index } = rtnetlink.link(name)!;
      rtnetlink.setLink(index, { up: true, mtu: 1400 });
      rtnetlink.addAddress(index, parsePrefix(`${address}/24`)!);
      rtnetlink.close();
      return tun;
    };
    const near = device('tcp0', here);
    let received = 0;
    const server = createServer((socket) => {
      socket.on('data', (data) => {
        if (data.some((octet) => octet !== 0x5a)) socket.destroy(new Error('corrupted'));
        received += data.length;
      });
    });
    const far = await inAnotherNamespace(libc!, async () => {
      const tun = device('tcp0', there);
      await new Promise<void>((resolve) => server.listen(9, there, resolve));
      return tun;
    });
    const at = arena!.reserve(70_000);
    let longest = 0;
    let ended = false;
    const relay = (): void => {
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        for (let length = from.read(at, 70_000); length > 0; length = from.read(at, 70_000)) {
          const written = to.write(at, length);
          if (written !== length) throw new Error(`${written} of ${length} octets written`);
          if (arena!.bytes[at + VNET.gsoType] === VNET_GSO.tcp4) longest = Math.max(longest, length);
        }
      }
      if (!ended) setImmediate(relay);
    };
    relay();
    const client = connect(9, there);
    await new Promise<void>((resolve, reject) => {
      client.on('error', reject);
      client.on('close', () => resolve());
      client.end(Buffer.alloc(SIZE, 0x5a));
    });
    await new Promise((resolve) => server.close(resolve));
    ended = true;
    expect(received).toBe(SIZE);
    expect(longest).toBeGreaterThan(30_000);
    for (const { fd } of [near, far]) close(libc!, fd);
  });

  test('a TUN device without offloads has no header; a name in use and a long name are told', () => {
    const tun = openTun(libc!, arena!, 'plain0', false);
    expect(tun.offloads).toEqual({ header: false, checksum: false, tcp: false, udp: false });
    expect(tun.read(0, 2000)).toBe(0);
    expect(() => openTun(libc!, arena!, 'plain0')).toThrow(/^open TUN device plain0: .*\(EBUSY\)/);
    expect(() => openTun(libc!, arena!, 'a-name-of-16-oct')).toThrow('an interface name has at most 15 octets');
    expect(adoptTun(libc!, arena!, tun.fd)).toMatchObject({ name: 'plain0', offloads: tun.offloads });
    close(libc!, tun.fd);
    expect(() => adoptTun(libc!, arena!, tun.fd)).toThrow('(EBADF)');
  });

  test.each([
    ['127.0.0.1', 20],
    ['::1', 0],
  ] as const)('raw ESP over %s arrives behind %d octets of IP header', (text, headerBytes) => {
    const address = IpAddress.parse(text)!;
    const options = { family: address.family, packetInfo: true, trafficClass: true, mark: 0x7a, device: 'lo' } as const;
    const [a, b] = [openRaw(libc!, IPPROTO_ESP, { ...options, address }), openRaw(libc!, IPPROTO_ESP, options)];
    const at = arena!.reserve(4096);
    const toAt = arena!.reserve(32);
    const toBytes = writeSockaddr(arena!, toAt, address, 0);
    const esp = Uint8Array.from({ length: 64 }, (_, i) => i + 1);
    arena!.bytes.set(esp, at);
    const table = new MessageTable(libc!, arena!, 2, 2);
    table.begin(0, toAt, toBytes);
    table.add(0, at, 20);
    table.add(0, at + 20, 44);
    table.control(0, address.family, 0, 0xb8, -1);
    expect(table.send(a.fd, 0, 1)).toBe(1);
    expect(wait(b.fd)).toBe(1);
    const inbox = new MessageTable(libc!, arena!, 1);
    inbox.buffer(0, at + 1024, 2048);
    expect(inbox.receive(b.fd, 1)).toBe(1);
    expect(inbox.length(0)).toBe(64 + headerBytes);
    expect(arena!.bytes.slice(at + 1024 + headerBytes, at + 1024 + headerBytes + 64)).toEqual(esp);
    expect(inbox.trafficClass[0]).toBe(0xb8);
    expect(readSockaddr(arena!, inbox.nameAt(0))?.address.toString()).toBe(text);
    for (const { fd } of [a, b]) close(libc!, fd);
  });

  test('an unknown interface is told', () => {
    expect(() => openUdp(libc!, { family: 4, device: 'nowhere0' })).toThrow(
      'bind a socket to interface nowhere0: no such device (ENODEV)',
    );
  });

  test("Node's own sockets are in the namespace too", async () => {
    const socket = createSocket('udp4');
    await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
    expect(socket.address().address).toBe('127.0.0.1');
    socket.close();
  });

  /** The next IPv4 packet: an interface that comes up speaks IPv6 by itself. */
  function readIpv4(tun: { readonly fd: number; read(at: number, length: number): number }, at: number): number {
    for (;;) {
      expect(wait(tun.fd)).toBe(1);
      const length = tun.read(at, 70_000);
      if (arena!.bytes[at + VNET_HDR_BYTES]! >> 4 === 4) return length;
    }
  }
});
