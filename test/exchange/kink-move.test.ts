/** A node of KINK moves: what it has follows, what is in flight leaves again, and what comes later comes from the new place. */

import { expect, test } from 'vitest';
import { readMessage, TYPE } from '../../kinkd/message.ts';
import { IpAddress } from '../../src/net/address.ts';
import { parsePrefix } from '../../src/net/prefix.ts';
import { migrateToSadb } from '../../src/pfkey/convert-migrate.ts';
import { CBC, type KinkNode, kinkDisagreements, kinkPair } from '../support/kink-pair.ts';
import { LOCAL_MS } from '../support/virtual-net.ts';

const [LAN_A, LAN_B] = ['10.1.0.0/24', '10.2.0.0/24'];
const child = (local: string, peer: string) => [{ local, peer, policy: { mode: 'tunnel' as const }, sas: CBC }];
const address = (text: string) => IpAddress.parse(text)!;
const [HOME, AWAY, PEER] = ['192.0.2.1', '203.0.113.9', '192.0.2.2'];

function tunnel() {
  return kinkPair({ a: { children: child(LAN_A, LAN_B) }, b: { children: child(LAN_B, LAN_A) } });
}

/** What a mobility daemon causes the datapath to announce at one node: the policy for out, then the one for in. */
function announce(node: KinkNode, from: [string, string], to: [string, string], km = true): void {
  const [local, peer] = node.name === 'a' ? [LAN_A, LAN_B] : [LAN_B, LAN_A];
  for (const direction of ['outbound', 'inbound'] as const) {
    const outbound = direction === 'outbound';
    const ends = ([mine, theirs]: [string, string]) =>
      outbound
        ? { source: address(mine), destination: address(theirs) }
        : { source: address(theirs), destination: address(mine) };
    node.pfkey(
      migrateToSadb({
        selector: {
          source: parsePrefix(outbound ? local : peer)!,
          destination: parsePrefix(outbound ? peer : local)!,
          protocol: 0,
          sourcePort: 0,
          destinationPort: 0,
        },
        direction,
        movements: [{ protocol: 'esp', mode: 'tunnel', reqid: 1, old: ends(from), new: ends(to) }],
        kmAddress: km ? { local: { address: address(to[0]), port: 0 }, remote: { address: address(to[1]), port: 0 } } : undefined,
      }),
    );
  }
}

/** Node a leaves home. */
function leave(a: KinkNode, b: KinkNode): void {
  a.addresses.splice(0, 1, AWAY);
  a.datapath.address = AWAY;
  announce(a, [HOME, PEER], [AWAY, PEER]);
  announce(b, [PEER, HOME], [PEER, AWAY]);
}

test('SAs stay as they are; a rekey by either side goes between the new ends', () => {
  const { a, b, net } = tunnel().established();
  const before = [...a.datapath.sas.keys()];
  leave(a, b);
  expect([...a.datapath.sas.keys()]).toEqual(before);
  expect(a.named('tunnel-moved')).toEqual([`lan moved from ${HOME}…${PEER} to ${AWAY}…${PEER}`]);
  expect(a.status().peers[0]).toMatchObject({ local: `${AWAY}[910]`, peer: `${PEER}[910]` });
  expect(b.status().peers[0]).toMatchObject({ local: `${PEER}[910]`, peer: `${AWAY}[910]` });
  const sent = net.flights.length;
  a.command({ verb: 'rekey', name: 'lan', what: 'child' });
  net.run(30_000);
  const later = net.flights.slice(sent).map(({ path }) => [`${path.local.address}`, `${path.remote.address}`].sort().join(' '));
  expect(new Set(later)).toEqual(new Set([`${PEER} ${AWAY}`]));
  expect([...a.datapath.sas.keys()]).not.toEqual(before);
  expect([...a.datapath.sas.values()].map(({ source, destination }) => [source, destination])).toEqual([[PEER, AWAY]]);
  expect(kinkDisagreements(a, b)).toEqual([]);
});

test('a CREATE in flight leaves again from the new address, under the same XID', () => {
  const { a, b, net } = tunnel();
  net.lose(({ bytes }) => bytes[0] === TYPE.CREATE, 1);
  a.initiate();
  net.run(500);
  leave(a, b);
  net.run(20_000);
  const creates = net.flights.filter(({ bytes }) => bytes[0] === TYPE.CREATE);
  expect(creates.map(({ path }) => `${path.local.address}`)).toEqual([HOME, AWAY]);
  expect(new Set(creates.map(({ bytes }) => readMessage(bytes).XID)).size).toBe(1);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
});

test('what the peer sent to the old place and is heard there does not bring KINK back to it', () => {
  const { a, b, net } = tunnel();
  b.initiate();
  net.run(1_000);
  a.addresses.push(AWAY);
  a.datapath.address = AWAY;
  announce(a, [HOME, PEER], [AWAY, PEER]);
  b.command({ verb: 'rekey', name: 'lan', what: 'child' }); // it has not heard of the movement
  net.run(1_000);
  expect(a.status().peers[0]).toMatchObject({ local: `${AWAY}[910]`, peer: `${PEER}[910]` });
  announce(b, [PEER, HOME], [PEER, AWAY]);
  net.run(20_000);
  expect(b.status().peers[0]).toMatchObject({ local: `${PEER}[910]`, peer: `${AWAY}[910]` });
  expect(kinkDisagreements(a, b)).toEqual([]);
});

test('without KMADDRESS the pairs are agreed on anew from the new place', () => {
  const { a, b, net } = tunnel().established();
  const before = [...a.datapath.sas.keys()];
  a.addresses.splice(0, 1, AWAY);
  a.datapath.address = AWAY;
  announce(a, [HOME, PEER], [AWAY, PEER], false);
  announce(b, [PEER, HOME], [PEER, AWAY], false);
  expect([a.children(), b.children()]).toEqual([[], []]);
  a.initiate();
  net.run(20_000);
  expect(a.status().peers[0]).toMatchObject({ local: `${AWAY}[910]` });
  expect([...a.datapath.sas.keys()]).not.toEqual(before);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
});

test('a node that is started again asks for no SPI before the datapath has told where its tunnels have moved to', () => {
  const start = [{ local: LAN_A, peer: LAN_B, policy: { mode: 'tunnel' as const, initiate: 'start' as const }, sas: CBC }];
  const { a, b, net } = kinkPair({ a: { children: start }, b: { children: child(LAN_B, LAN_A) } });
  net.run(10_000);
  expect(a.children()).toEqual(['installed']);
  const asked = () => [...a.datapath.larval.values()].length;
  a.restart({ linkFirst: true });
  expect(asked()).toBe(0);
  net.run(2 * LOCAL_MS);
  expect(asked()).toBe(1);
  net.run(30_000);
  expect(kinkDisagreements(a, b)).toEqual([]);
});
