/** Addresses that a policy file does not know: MY_IP and its kin, and peers that come from anywhere (IP_RW). */

import { expect, test } from 'vitest';
import type { AddressMacro, AddressSpec } from '../../src/config/config.ts';
import { IpAddress } from '../../src/net/address.ts';
import { hostAddress } from '../../src/pfkey/convert.ts';
import { disagreements, IkeNode, LAN_B, Net, pair } from '../support/ike-pair.ts';
import { packetFrom } from '../support/triggers.ts';

const macro = (name: AddressMacro): AddressSpec => ({
  kind: 'macro',
  macro: name,
  interface: undefined,
  prefixLength: 0,
  port: 0,
});
const have = (node: IkeNode, ...addresses: string[]) =>
  node.put({ kind: 'addresses', addresses: addresses.map((text) => ({ address: IpAddress.parse(text)!, interface: 'eth0' })) });

test('my_sa_ipaddr MY_IP: the IKE SA comes from an address of the peer’s family', () => {
  const { a, b, net } = pair({
    a: { children: [{ local: '10.1.0.0/24', peer: LAN_B, policy: { mySaAddress: macro('MY_IP') } }] },
  });
  have(a, '2001:db8::1', '192.0.2.1');
  a.initiate();
  net.run();
  expect(a.status().ikeSas[0]?.local).toBe('192.0.2.1[500]');
  expect(disagreements(a, b)).toEqual([]);
});

test('a selector MY_IP is each address of ours, in the families of the other side; new addresses are new selectors', () => {
  const { a, b, net } = pair({
    a: { children: [{ local: 'MY_IP', peer: LAN_B }] },
    b: { children: [{ local: LAN_B, peer: '0.0.0.0/0' }] },
  });
  have(a, '192.0.2.1', '198.51.100.1', '2001:db8::1');
  a.initiate();
  net.run();
  expect(a.status().ikeSas[0]?.children[0]?.localSelectors).toEqual(['192.0.2.1', '198.51.100.1']);
  have(a, '192.0.2.1', '198.51.100.1');
  net.run(10_000);
  expect(a.children()).toEqual(['installed']);
  have(a, '192.0.2.1');
  net.run(10_000);
  expect([a.children(), a.ikeSas()]).toEqual([[], ['established']]);
  have(a);
  expect(a.reply(a.initiate())).toMatchObject({ ok: false, error: expect.stringContaining('no address family in common') });
  expect(disagreements(a, b)).toEqual([]);
});

test('transport mode with MY_IP: only the two hosts that negotiate are proposed', () => {
  const policy = { mode: 'transport' } as const;
  const { a, b, net } = pair({
    a: { children: [{ local: 'MY_IP', peer: '192.0.2.2', policy }] },
    b: { children: [{ local: '192.0.2.2', peer: '192.0.2.1', policy }] },
  });
  have(a, '198.51.100.1', '192.0.2.1');
  a.initiate();
  net.run();
  expect(a.ladder()[2]).toContain('TSi(192.0.2.1), TSr(192.0.2.2)');
  expect(disagreements(a, b)).toEqual([]);
});

/** A gateway that serves whoever knows the key, and so many peers. */
function gateway(count: number) {
  const net = new Net();
  const gate = new IkeNode(
    net,
    'gate',
    {
      address: '192.0.2.1',
      peer: '192.0.2.1',
      id: 'gate.example',
      peersId: '',
      ikev2: { peersIpaddr: [macro('IP_ANY')], verifyId: false },
      children: [{ local: '10.1.0.0/16', peer: 'IP_RW', policy: { peersSaAddress: macro('IP_RW') } }],
    },
    3,
  );
  const peers = Array.from({ length: count }, (_, i) => {
    const address = `203.0.113.${i + 1}`;
    const children = [{ local: address, peer: '10.1.0.0/16' }];
    return new IkeNode(
      net,
      `peer${i}`,
      { address, peer: '192.0.2.1', id: `p${i}.example`, peersId: 'gate.example', children },
      5 + i,
    );
  });
  for (const node of [gate, ...peers]) node.start();
  net.run(100);
  return { net, gate, peers };
}

test('IP_RW: each peer is granted its own address, and spmd makes the policies while the child is there', () => {
  const { net, gate, peers } = gateway(2);
  for (const peer of peers) peer.initiate();
  net.run();
  expect(gate.status().ikeSas.flatMap(({ children }) => children.map(({ peerSelectors }) => peerSelectors))).toEqual([
    ['203.0.113.1'],
    ['203.0.113.2'],
  ]);
  expect(gate.orders).toEqual([
    'POLICY ADD lan 0 TUNNEL 10.1.0.0/16 203.0.113.1 192.0.2.1 203.0.113.1',
    'POLICY ADD lan 0 TUNNEL 10.1.0.0/16 203.0.113.2 192.0.2.1 203.0.113.2',
  ]);
  // What is wanted for one peer is asked of that one.
  peers[0]!.command({ verb: 'terminate', name: 'lan' });
  net.run(10_000);
  const { source, destination } = {
    source: hostAddress(IpAddress.parse('192.0.2.1')!),
    destination: hostAddress(IpAddress.parse('203.0.113.1')!),
  };
  gate.pfkey(gate.datapath.acquire(1, undefined, { source, destination }, packetFrom('10.1.0.5', '203.0.113.1', 6, [80, 4000])));
  net.run();
  expect(peers[0]!.children()).toEqual(['installed']);
  expect(peers[1]!.children()).toEqual(['installed']);
  gate.orders.length = 0;
  // A rekey puts them in force again and takes nothing back.
  peers[0]!.command({ verb: 'rekey', name: 'lan', what: 'child' });
  net.run(20_000);
  expect(gate.orders.filter((order) => order.startsWith('POLICY DELETE'))).toEqual([]);
  peers[0]!.command({ verb: 'terminate', name: 'peer' });
  net.run(20_000);
  expect(gate.orders.at(-1)).toBe('POLICY DELETE lan TUNNEL 10.1.0.0/16 203.0.113.1 192.0.2.1 203.0.113.1');
  expect(gate.children()).toEqual(['installed']);
});

test('IP_RW: we never begin, and say so', () => {
  const { gate } = gateway(0);
  expect(gate.reply(gate.initiate())).toMatchObject({ ok: false, error: expect.stringContaining('no address to begin with') });
});
