/** What happens around restarts while traffic flows: one child a selector, and nothing in flight is lost (RFC 7296 §2.4). */

import { expect, test } from 'vitest';
import { type IkeNode, LAN_A, LAN_B, type Net, pair } from '../support/ike-pair.ts';

/** A packet each way every 10 ms; one that finds no SA fires an ACQUIRE, as the datapath does. */
function traffic(net: Net, a: IkeNode, b: IkeNode, ms: number, withAcquires = true): void {
  for (let at = 0; at < ms; at += 10) {
    net.after(at, () => {
      for (const [from, to] of [
        [a, b],
        [b, a],
      ] as const) {
        if (from.datapath.outboundFor(1) === undefined && withAcquires) from.acquire();
        else from.packet(to);
      }
    });
  }
}

test('an ACQUIRE while a lost child is negotiated anew asks for no second one', () => {
  const { a, b, net } = pair().established();
  a.put({ kind: 'pfkey-link', up: false });
  a.datapath.restart();
  net.run(500);
  a.put({ kind: 'pfkey-link', up: true });
  traffic(net, a, b, 3_000);
  net.run(20_000);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  expect(a.ladder().filter((line) => line.startsWith('CREATE_CHILD_SA'))).toHaveLength(1);
});

test('an ACQUIRE that came before the DUMP was read asks for the one child that the DUMP asks for', () => {
  const { a, b, net } = pair().established();
  a.put({ kind: 'pfkey-link', up: false });
  a.datapath.restart();
  a.put({ kind: 'pfkey-link', up: true });
  a.acquire();
  a.acquire();
  net.run(20_000);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
});

test('an ACQUIRE whose policy spmd names when the child is already up asks for no second one', () => {
  const { a, b, net } = pair();
  a.acquire();
  a.acquire();
  net.run(5_000);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
});

test('a new iked connected to the datapath before its configuration came adopts the old SAs when it comes', () => {
  const { a, b, net } = pair().established();
  a.restart(50);
  net.run(20_000);
  expect(a.named('sa-adopted')).toHaveLength(1);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  expect([a.datapath.sas.size, b.datapath.sas.size]).toEqual([1, 1]);
});

test('INITIAL_CONTACT: packets protected by the old SAs are taken until the peer has changed over', () => {
  const { a, b, net } = pair().established();
  traffic(net, a, b, 10_000, false);
  net.after(1_003, () => a.restart());
  net.run(20_000);
  expect([a.lost, b.lost]).toEqual([0, 0]);
  expect([a.datapath.sas.size, b.datapath.sas.size]).toEqual([1, 1]);
});

test('INITIAL_CONTACT of a peer that both ends begin with: one child in the end', () => {
  const children = [{ local: LAN_A, peer: LAN_B, initiate: 'start' as const }];
  const { a, b, net } = pair({
    a: { children },
    b: { children: [{ ...children[0]!, local: LAN_B, peer: LAN_A }] },
  }).established();
  a.restart();
  net.run(30_000);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
});
