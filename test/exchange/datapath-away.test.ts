/** The datapath dies and comes back, with and without its SAs: what was under way goes on at once (RFC 7296 §2.1, §2.4). */

import { expect, test } from 'vitest';
import { SADB_SASTATE } from '../../src/pfkey/registry.ts';
import { disagreements, type IkeNode, pair } from '../support/ike-pair.ts';

const whole = (a: IkeNode, b: IkeNode) => {
  expect([a.ikeSas(), b.ikeSas()]).toEqual([['established'], ['established']]);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  expect(disagreements(a, b)).toEqual([]);
};

test('a request that was lost with the datapath leaves again as soon as it is back, and the children behind it are there at once', () => {
  const { a, b, net } = pair().established();
  net.lose(() => true);
  a.command({ verb: 'rekey', name: 'peer', what: 'ike' });
  a.put({ kind: 'pfkey-link', up: false });
  a.datapath.restart();
  net.run(300);
  net.heal();
  a.put({ kind: 'pfkey-link', up: true });
  expect(net.until(() => a.datapath.outboundFor(1) !== undefined, 300)).toBe(true);
  net.run(20_000);
  whole(a, b);
});

test('while the datapath is away nothing counts as a try, and no liveness check begins', () => {
  const { a, b, net } = pair({ a: { ikev2: { dpdDelay: 2_000, maxRetries: 2 } } }).established();
  const before = a.ladder().length;
  net.lose(() => true);
  a.command({ verb: 'rekey', name: 'peer', what: 'ike' });
  a.put({ kind: 'pfkey-link', up: false });
  net.run(60_000);
  expect(a.ladder().slice(before)).toEqual([expect.stringMatching(/^CREATE_CHILD_SA .* -->$/)]);
  expect(a.named('peer-silent')).toEqual([]);
  net.heal();
  a.put({ kind: 'pfkey-link', up: true });
  net.run(20_000);
  whole(a, b);
});

test('a peer that is silent once the datapath is back is given up as usual', () => {
  const { a, net } = pair({ a: { ikev2: { dpdDelay: 2_000, maxRetries: 2 } } }).established();
  a.put({ kind: 'pfkey-link', up: false });
  net.lose(() => true);
  net.run(10_000);
  a.put({ kind: 'pfkey-link', up: true });
  net.run(15_000);
  expect(a.named('peer-silent')).toHaveLength(1);
});

test('messages on the encapsulation port go again when the datapath takes them again', () => {
  const { a, b, net } = pair({ a: { ikev2: { forceEncapsulation: true } } }).established();
  net.lose(() => true);
  a.command({ verb: 'rekey', name: 'lan', what: 'child' });
  net.run(100);
  net.heal();
  a.put({ kind: 'encap-link' });
  expect(net.until(() => a.named('child-sa-rekeyed').length === 1, 100)).toBe(true);
  net.run(20_000);
  whole(a, b);
});

test('a rekey that is asked for while the datapath is away waits for it', () => {
  const { a, b, net } = pair().established();
  a.put({ kind: 'pfkey-link', up: false });
  a.command({ verb: 'rekey', name: 'lan', what: 'child' });
  net.run(1_000);
  expect(a.named('child-sa-failed')).toEqual([]);
  a.put({ kind: 'pfkey-link', up: true });
  net.run(20_000);
  expect(a.named('child-sa-rekeyed')).toHaveLength(1);
  whole(a, b);
});

test('a soft EXPIRE that nobody heard is seen in the DUMP', () => {
  const { a, b, net } = pair().established();
  a.packet(b);
  a.put({ kind: 'pfkey-link', up: false });
  const sa = a.datapath.outboundFor(1)!;
  const message = a.datapath.expire(sa, 'soft');
  a.datapath.outbound.set(sa.spi, { ...sa, message: { ...message, sa: { ...sa.message.sa!, state: SADB_SASTATE.DYING } } });
  a.put({ kind: 'pfkey-link', up: true });
  net.run(20_000);
  expect(a.named('child-sa-rekeyed')).toHaveLength(1);
  whole(a, b);
});
