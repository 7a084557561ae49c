/** Every bound of `limits { }` holds, says so once, and leaves what is there alone (RFC 7296 §2.6, §1.3). */

import { describe, expect, test } from 'vitest';
import { EXCHANGE, readHeader } from '../../iked/ikev2/message.ts';
import { disagreements, type IkeNode, pair } from '../support/ike-pair.ts';

const LOUD = new Set(['notice', 'warning', 'error']);
const told = (node: IkeNode) => node.events.filter(({ name, severity }) => name === 'limit-reached' && LOUD.has(severity));

describe('half_open_sas', () => {
  test('strangers get no further than the limit; one line tells of it, however many come; a later peer is served', () => {
    const { a, b, net } = pair({ b: { limits: { halfOpenSas: 3, cookieThreshold: 1000 } } });
    a.initiate();
    const init = net.flights[0]!;
    net.lose(() => true);
    for (let i = 0; i < 500; i++) {
      const bytes = init.bytes.slice();
      bytes.set([1, i >> 8, i & 255], 0);
      const path = { local: init.path.remote, remote: { ...init.path.local, port: 1000 + i }, encapsulated: false };
      b.put({ kind: 'datagram', path, bytes });
    }
    expect(b.machine.table.halfOpen).toBe(3);
    expect(told(b)).toEqual([expect.objectContaining({ limit: 'half_open_sas' })]);
    net.heal();
    net.run(60_000);
    expect(b.children()).toEqual(['installed']);
    expect(disagreements(a, b)).toEqual([]);
  });
});

describe('ike_sas', () => {
  test('a responder ignores further peers, an initiator says why it does not begin', () => {
    const { a, b, net } = pair({ b: { limits: { ikeSas: 0 } } });
    a.initiate();
    net.run(1_000);
    expect([b.ikeSas(), told(b).length]).toEqual([[], 1]);
    const id = b.initiate();
    expect(b.reply(id)).toMatchObject({ ok: false, error: expect.stringContaining('the limit of ike_sas') });
  });

  test('a peer that rekeys without ever deleting gets no further than twice the limit', () => {
    const { a, b, net } = pair({ b: { limits: { ikeSas: 2 } } }).established();
    for (let i = 0; i < 12; i++) {
      a.command({ verb: 'rekey', name: 'peer', what: 'ike' });
      // Its DELETE never comes.
      net.lose(({ from, bytes }) => from === a && readHeader(bytes).exchange === EXCHANGE.INFORMATIONAL);
      net.run(500);
    }
    expect(b.machine.table.size).toBeLessThanOrEqual(4);
    expect(told(b)).toEqual([expect.objectContaining({ limit: 'ike_sas' })]);
  });
});

describe('child_sas_per_ike_sa', () => {
  const children = (x: string, y: string) =>
    ['one', 'two', 'three'].map((name, i) => ({ name, local: `10.${x}.${i}.0/24`, peer: `10.${y}.${i}.0/24` }));

  test('one more is refused with NO_ADDITIONAL_SAS and said; a rekey of one that is there is granted', () => {
    const { a, b, net } = pair({
      a: { children: children('1', '2') },
      b: { children: children('2', '1'), limits: { childSasPerIkeSa: 2, ikeSas: 1 } },
    }).established();
    a.initiate('two');
    net.run();
    a.initiate('three');
    net.run(500);
    expect(told(b)[0]).toMatchObject({ limit: 'child_sas_per_ike_sa' });
    expect(b.children()).toEqual(['installed', 'installed']);
    a.command({ verb: 'rekey', name: 'one', what: 'child' });
    net.run(10_000);
    expect(a.named('child-sa-rekeyed')).toHaveLength(1);
    expect(b.children()).toEqual(['installed', 'installed']);
  });
});
