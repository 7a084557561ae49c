/** Sockets that follow addresses: on the loopback, every address of which this host has. */

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { afterEach, expect, test } from 'vitest';
import type { Event } from '../../../src/event.ts';
import { type Endpoint, IpAddress, type Path } from '../../../src/net/address.ts';
import { LocalSockets } from '../../../src/runtime/local-sockets.ts';
import { bindUdp } from '../../../src/runtime/udp.ts';

const PORT = 20500 + (process.pid % 1000);
const end = (address: string, port = PORT): Endpoint => ({ address: IpAddress.parse(address)!, port });
const path = (local: Endpoint, remote: Endpoint): Path => ({ local, remote, encapsulated: false });

let sockets: LocalSockets | undefined;
afterEach(async () => {
  await sockets?.close();
});

function open(wanted: () => readonly Endpoint[]) {
  const events: Event[] = [];
  const received: string[] = [];
  let looked = 0;
  sockets = new LocalSockets({
    wanted,
    onDatagram: ({ local, remote }, bytes) => received.push(`${remote.address} ${local.address} ${bytes}`),
    onAddresses: () => {
      looked++;
    },
    report: (event) => events.push(event),
    directive: 'interface { ike … }',
  });
  return { sockets, events, received, looked: () => looked };
}

test('an address that came after the last look gets its socket when something is to leave from it', async () => {
  let wanted: Endpoint[] = [];
  const node = open(() => wanted);
  await node.sockets.follow();
  const peer = createSocket('udp4').bind(0, '127.0.0.9');
  await once(peer, 'listening');
  try {
    wanted = [end('127.0.0.2')];
    node.sockets.send(path(end('127.0.0.2'), end('127.0.0.9', peer.address().port)), Uint8Array.of(1, 2));
    const [bytes, from] = await once(peer, 'message');
    expect([[...bytes], from.address, from.port]).toEqual([[1, 2], '127.0.0.2', PORT]);
    peer.send(Uint8Array.of(7), PORT, '127.0.0.2');
    await expect.poll(() => node.received).toEqual(['127.0.0.9 127.0.0.2 7']);
    expect(node.events).toEqual([]);
  } finally {
    peer.close();
  }
});

test('what the configuration does not name any more is closed', async () => {
  let wanted = [end('127.0.0.2'), end('127.0.0.3')];
  const node = open(() => wanted);
  await node.sockets.follow();
  await expect(bindUdp(end('127.0.0.3'), { onDatagram: () => {}, onError: () => {} })).rejects.toThrow(/in use/);
  wanted = [end('127.0.0.2')];
  await node.sockets.follow();
  await (await bindUdp(end('127.0.0.3'), { onDatagram: () => {}, onError: () => {} })).close();
});

test('an address without a socket is named with the directive that gives it one', async () => {
  const node = open(() => []);
  node.sockets.send(path(end('127.0.0.2'), end('127.0.0.9')), Uint8Array.of(1));
  await expect
    .poll(() => node.events.map(({ message }) => message))
    .toEqual([`no socket at 127.0.0.2[${PORT}]: list this address in interface { ike … }`]);
});

test('a port in use is a problem that is reported once and goes away with its cause', async () => {
  const other = await bindUdp(end('127.0.0.4'), { onDatagram: () => {}, onError: () => {} });
  const node = open(() => [end('127.0.0.4')]);
  await node.sockets.follow();
  await node.sockets.follow();
  expect([...node.sockets.problems.keys()]).toEqual([`127.0.0.4[${PORT}]`]);
  expect(node.events.map(({ name }) => name)).toEqual(['socket-failed']);
  await other.close();
  await node.sockets.follow();
  expect(node.sockets.problems.size).toBe(0);
});

test('whoever knows of a change need not wait for the next look', async () => {
  let wanted: Endpoint[] = [];
  const node = open(() => wanted);
  expect(node.looked()).toBe(1);
  wanted = [end('127.0.0.5')];
  node.sockets.lookNow();
  expect(node.looked()).toBe(2);
  await node.sockets.follow();
  await expect(bindUdp(end('127.0.0.5'), { onDatagram: () => {}, onError: () => {} })).rejects.toThrow(/in use/);
});
