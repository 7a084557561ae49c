/** The packet that asks for a child is its first traffic selector (RFC 7296 §2.9). */

import { describe, expect, test } from 'vitest';
import { PeerError } from '../../src/errors.ts';
import { disagreements, type IkeNode, LAN_A, LAN_B, pair } from '../support/ike-pair.ts';
import { packetFrom } from '../support/triggers.ts';

const selectorsOf = (node: IkeNode) =>
  node
    .status()
    .ikeSas.flatMap(({ children }) => children.map(({ localSelectors, peerSelectors }) => [localSelectors, peerSelectors]));

/** Has `node` refuse the next request for a child, which our own code does not do. */
const refuseNext = (node: IkeNode, notify: string) => {
  const child = node.machine.peers.all[0]!.children[0]!;
  const { local } = child;
  let refused = false;
  Object.defineProperty(child, 'local', {
    get: () => {
      if (refused) return local;
      refused = true;
      throw new PeerError(notify, 'a test wants it so');
    },
  });
};

const TCP = 6;
const ICMP = 1;

describe('the first selectors are those of the packet', () => {
  const families = [
    { name: 'IPv4', a: LAN_A, b: LAN_B, from: '10.1.0.7', to: '10.2.0.9', lanA: '10.1.0.0-10.1.0.255' },
    {
      name: 'IPv6',
      a: '2001:db8:1::/64',
      b: '2001:db8:2::/64',
      from: '2001:db8:1::7',
      to: '2001:db8:2::9',
      lanA: '2001:db8:1::-2001:db8:1:0:ffff:ffff:ffff:ffff',
    },
  ] as const;
  for (const { name, a: lanA, b: lanB, from, to, lanA: whole } of families) {
    test(`${name}, in IKE_AUTH: granted with all the rest, which contains them`, () => {
      const { a, b, net } = pair({
        a: { children: [{ local: lanA, peer: lanB }] },
        b: { children: [{ local: lanB, peer: lanA }] },
      });
      a.acquire('lan', packetFrom(from, to, TCP, [4000, 80], 1400));
      net.run();
      expect(a.ladder()[2]).toContain(`TSi(${from} proto 6 port 4000, ${whole}), TSr(${to} proto 6 port 80, `);
      expect(selectorsOf(a)[0]![0]).toEqual([whole]);
      expect(disagreements(a, b)).toEqual([]);
      expect(b.datapath.sas.size).toBe(1);
    });
  }

  test('in CREATE_CHILD_SA too; ICMP without its type, since the answer has another', () => {
    const { a, b, net } = pair().established();
    a.command({ verb: 'terminate', name: 'lan' });
    net.run(10_000);
    a.acquire('lan', packetFrom('10.1.0.7', '10.2.0.9', ICMP, [0x0800, 0]));
    net.run();
    expect(a.ladder().at(-2)).toContain('TSi(10.1.0.7 proto 1, 10.1.0.0-10.1.0.255), TSr(10.2.0.9 proto 1, 10.2.0.0-10.2.0.255)');
    expect(disagreements(a, b)).toEqual([]);
  });

  test('of two policies of the responder the one is chosen that has the packet', () => {
    const { a, b, net } = pair({
      a: { children: [{ local: '10.1.0.0/16', peer: '10.2.0.0/16' }] },
      b: {
        children: [
          { name: 'one', local: '10.2.1.0/24', peer: '10.1.0.0/16' },
          { name: 'two', local: '10.2.2.0/24', peer: '10.1.0.0/16' },
        ],
      },
    });
    a.acquire('lan', packetFrom('10.1.0.7', '10.2.2.9', TCP, [4000, 80]));
    net.run();
    expect(b.status().ikeSas[0]?.children[0]?.selector).toBe('two');
    expect(disagreements(a, b)).toEqual([]);
  });

  test('a packet that the policy has no part in, or that is none, changes nothing', () => {
    for (const packet of [packetFrom('10.9.0.1', '10.2.0.9', TCP, [1, 2]), new Uint8Array(3), Uint8Array.of(0x45, 0, 0, 0)]) {
      const { a, b, net } = pair();
      a.acquire('lan', packet);
      net.run();
      expect(a.ladder()[2]).toContain('TSi(10.1.0.0-10.1.0.255), TSr(10.2.0.0-10.2.0.255)');
      expect(disagreements(a, b)).toEqual([]);
    }
  });

  test('narrowed so that the packet is left out: said, the ACQUIRE refused, and no second child of the kind stays', () => {
    const { a, b, net } = pair({
      a: { children: [{ local: '10.1.0.0/16', peer: '10.2.0.0/16' }] },
      b: { children: [{ local: '10.2.3.0/24', peer: '10.1.0.0/16' }] },
    });
    for (let i = 0; i < 60; i++) {
      a.acquire('lan', packetFrom('10.1.0.7', '10.2.9.9', TCP, [4000, 80]));
      net.run(500);
    }
    expect(a.named('child-sa-failed')[0]).toMatch(/leaves out the packet from 10\.1\.0\.7 proto 6 port 4000 to 10\.2\.9\.9/);
    expect(a.datapath.refusedAcquires.length).toBeGreaterThan(0);
    net.run(20_000);
    expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
    expect(a.ladder().filter((line) => line.startsWith('CREATE_CHILD_SA')).length).toBeLessThan(8);
    expect(disagreements(a, b)).toEqual([]);
  });
});

describe('SINGLE_PAIR_REQUIRED', () => {
  test('in IKE_AUTH: asked again for the pair of addresses that has traffic, and all of its protocols', () => {
    const { a, b, net } = pair();
    refuseNext(b, 'SINGLE_PAIR_REQUIRED');
    a.acquire('lan', packetFrom('10.1.0.7', '10.2.0.9', TCP, [4000, 80]));
    net.run();
    expect(a.ladder().at(-2)).toMatch(/^CREATE_CHILD_SA .* TSi\(10\.1\.0\.7\), TSr\(10\.2\.0\.9\) } -->$/);
    expect(selectorsOf(a)).toEqual([[['10.1.0.7'], ['10.2.0.9']]]);
    expect(a.datapath.refusedAcquires).toEqual([]);
    expect(disagreements(a, b)).toEqual([]);
  });

  test('in CREATE_CHILD_SA: once, then it is a refusal like any other; and at once where no packet says which pair', () => {
    for (const packet of [packetFrom('10.1.0.7', '10.2.0.9', TCP, [4000, 80]), undefined]) {
      const { a, b, net } = pair().established();
      a.command({ verb: 'terminate', name: 'lan' });
      net.run(10_000);
      const before = a.ladder().length;
      net.after(15, () => refuseNext(b, 'SINGLE_PAIR_REQUIRED'));
      refuseNext(b, 'SINGLE_PAIR_REQUIRED');
      a.acquire('lan', packet);
      net.run(500);
      const requests = a
        .ladder()
        .slice(before)
        .filter((line) => line.startsWith('CREATE_CHILD_SA'));
      expect(requests).toHaveLength(packet === undefined ? 1 : 2);
      expect(b.ikeSas()).toEqual(['established']);
    }
  });
});
