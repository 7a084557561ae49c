/** What happens to ISAKMP SAs and their pairs in time: rekeys of both phases, DELETE, dead peer detection, lifetimes (RFC 2408 §3.15, RFC 2409 §5.5, RFC 3706). */

import { describe, expect, test } from 'vitest';
import { EXCHANGE } from '../../iked/ikev1/message.ts';
import { disagreements, type Flight, type IkeNode, type PairOptions, pair } from '../support/ike-pair.ts';
import { traffic } from '../support/scenes.ts';

const V1 = { kmp: ['ikev1'] } as const;

function established({ a = {}, b = {}, seed = 1 }: PairOptions = {}) {
  const made = pair({ a: { ...V1, ...a }, b: { ...V1, ...b }, seed });
  made.a.initiate();
  made.net.run();
  return made;
}

const whole = (a: IkeNode, b: IkeNode) => {
  expect([a.ikeSas(), b.ikeSas()]).toEqual([['established'], ['established']]);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  expect(disagreements(a, b)).toEqual([]);
};

const rekeyChild = (node: IkeNode) => node.command({ verb: 'rekey', name: 'lan', what: 'child' });
const rekeyIke = (node: IkeNode) => node.command({ verb: 'rekey', name: 'peer', what: 'ike' });
const informational = ({ bytes }: Flight) => bytes[18] === EXCHANGE.Informational;

describe('rekey of phase 2', () => {
  for (const by of ['a', 'b', 'both'] as const) {
    test(`no packet is lost in ten by ${by}`, () => {
      const { a, b, net } = established();
      for (let i = 0; i < 10; i++) {
        net.after(i * 400, () => {
          if (by !== 'b') rekeyChild(a);
          if (by !== 'a') rekeyChild(b);
        });
      }
      expect(traffic(a, b, net, 5_000)).toBe(0);
      net.run(30_000);
      whole(a, b);
    });
  }

  test('by both at once, at every small distance', () => {
    for (let ms = 0; ms <= 45; ms += 5) {
      const { a, b, net } = established({ seed: 1 + ms });
      rekeyChild(a);
      net.after(ms, () => rekeyChild(b));
      expect([ms, traffic(a, b, net, 2_500)]).toEqual([ms, 0]);
      net.run(30_000);
      whole(a, b);
    }
  });

  test('asked for again and again by both: each command makes one pair at most, however many there are', () => {
    const { a, b, net } = established();
    for (let i = 0; i < 5; i++) {
      net.after(i * 50, () => rekeyChild(a));
      net.after(i * 50 + 14, () => rekeyChild(b));
    }
    expect(traffic(a, b, net, 400)).toBe(0);
    // The first pair and ten new ones, of two SAs each.
    for (const { datapath } of [a, b]) expect(datapath.sas.size).toBeLessThanOrEqual(22);
    net.run(30_000);
    whole(a, b);
  });

  test('soft lifetimes start it, and the old pair goes', () => {
    const { a, b, net } = established();
    a.packet(b);
    a.expire('soft');
    net.run(20_000);
    whole(a, b);
    expect(a.named('child-sa-rekeyed')).toHaveLength(1);
    expect(b.named('child-sa-rekeyed')).toHaveLength(1);
  });

  test('under loss, doubling and reordering: nothing is stranded', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const { a, b, net } = established({ seed });
      net.fate = ({ number }) =>
        (number * 11 + seed) % 3 === 0 ? [] : (number + seed) % 4 === 0 ? [10, 500] : [10 + ((number * 17) % 150)];
      for (let i = 0; i < 5; i++) {
        net.after(i * 3000, () => rekeyChild(i % 2 === 0 ? a : b));
        net.after(i * 3000 + 40, () => rekeyChild(a));
      }
      net.run(30_000);
      net.heal();
      net.run(120_000);
      whole(a, b);
    }
  });
});

describe('rekey of phase 1', () => {
  for (const by of ['a', 'b', 'both'] as const) {
    test(`by ${by}: pairs move to the new ISAKMP SA untouched, and the old one is deleted after a while`, () => {
      const { a, b, net } = established();
      const [before] = a.status().ikeSas;
      if (by !== 'b') rekeyIke(a);
      if (by !== 'a') rekeyIke(b);
      expect(traffic(a, b, net, 1_000)).toBe(0);
      expect(net.flights.some(({ bytes }) => bytes.length === 0)).toBe(false);
      net.run(30_000);
      whole(a, b);
      const [after] = a.status().ikeSas;
      expect(after!.name).not.toBe(before!.name);
      expect(after!.children.map(({ spiIn, spiOut }) => [spiIn, spiOut])).toEqual(
        before!.children.map(({ spiIn, spiOut }) => [spiIn, spiOut]),
      );
      expect(a.ladder().filter((line) => line.includes('INITIAL-CONTACT'))).toHaveLength(2);
      rekeyChild(a);
      rekeyChild(b);
      net.run(30_000);
      whole(a, b);
    });
  }

  test('both at once, at every small distance: one ISAKMP SA stays', () => {
    for (let ms = 0; ms <= 70; ms += 7) {
      const { a, b, net } = established({ seed: 1 + ms });
      rekeyIke(a);
      net.after(ms, () => rekeyIke(b));
      expect([ms, traffic(a, b, net, 2_500)]).toEqual([ms, 0]);
      net.run(60_000);
      whole(a, b);
    }
  });

  test('its lifetime starts it by itself, again and again, while pairs are rekeyed too', () => {
    const { a, b, net } = established({ a: { ikev1: { saLifetime: 60_000 } }, b: { ikev1: { saLifetime: 60_000 } } });
    for (let i = 1; i < 8; i++) net.after(i * 29_000, () => rekeyChild(i % 2 === 0 ? a : b));
    for (let i = 0; i < 24; i++) {
      net.run(9_700);
      traffic(a, b, net, 300);
    }
    expect(a.lost + b.lost).toBe(0);
    expect(a.named('ike-sa-rekeyed').length).toBeGreaterThanOrEqual(4);
    net.run(20_000);
    expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
    expect(a.ikeSas().filter((state) => state === 'established')).toHaveLength(1);
  });

  test('message 6 never comes: the responder finds out, and both go on with the old ISAKMP SA', () => {
    const { a, b, net } = established({ b: { ikev1: { dpdDelay: 5_000 } } });
    const [old] = a.status().ikeSas;
    net.lose(({ from, bytes }) => from === b && bytes[18] === EXCHANGE['Main Mode'] && (bytes[19]! & 1) === 1);
    rekeyIke(a);
    for (let i = 1; i < 30; i++) net.after(i * 3_000, () => rekeyChild(a));
    net.run(90_000);
    net.heal();
    net.run(60_000);
    expect(a.named('ike-sa-failed').length).toBeGreaterThan(0);
    expect(b.named('peer-silent')[0]).toContain(`but it speaks in ${old!.name}: that serves again`);
    expect(traffic(a, b, net, 500)).toBe(0);
    whole(a, b);
  });

  test('under loss, doubling and reordering: nothing is stranded', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const { a, b, net } = established({ seed });
      net.fate = ({ number }) =>
        (number * 11 + seed) % 3 === 0 ? [] : (number + seed) % 4 === 0 ? [10, 500] : [10 + ((number * 17) % 150)];
      for (let i = 0; i < 3; i++) {
        net.after(i * 5000, () => rekeyIke(i % 2 === 0 ? a : b));
        net.after(i * 5000 + 60, () => rekeyChild(a));
      }
      net.run(40_000);
      net.heal();
      net.run(200_000);
      expect([seed, a.children(), b.children()]).toEqual([seed, ['installed'], ['installed']]);
      expect(disagreements(a, b)).toEqual([]);
    }
  });
});

describe('DELETE', () => {
  test('of a child takes both halves on both sides, and is confirmed by the half of the other', () => {
    const { a, b, net } = established();
    const [child] = a.status().ikeSas[0]!.children;
    a.command({ verb: 'terminate', name: 'lan' });
    net.run(10_000);
    expect(a.ladder().slice(-2)).toEqual([
      `Informational* { HASH, D(ESP ${child!.spiIn}) } -->`,
      `<-- Informational* { HASH, D(ESP ${child!.spiOut}) }`,
    ]);
    expect([a.children(), b.children()]).toEqual([[], []]);
    expect(disagreements(a, b)).toEqual([]);
  });

  for (const lost of [1, 2]) {
    test(`is said again where ${lost} of its messages are lost`, () => {
      const { a, b, net } = established();
      net.lose(informational, lost);
      a.command({ verb: 'terminate', name: 'lan' });
      net.run(20_000);
      expect([a.children(), b.children()]).toEqual([[], []]);
      expect(disagreements(a, b)).toEqual([]);
    });
  }

  test('of the ISAKMP SA takes its children with it', () => {
    const { a, b, net } = established();
    a.command({ verb: 'terminate', name: 'peer' });
    net.run(10_000);
    expect([a.ikeSas(), b.ikeSas(), a.datapath.sas.size, b.datapath.sas.size]).toEqual([[], [], 0, 0]);
  });

  test('at shutdown every peer is told', () => {
    const { a, b, net } = established();
    const id = a.command({ verb: 'shutdown' });
    net.run(2_500);
    expect(a.reply(id)).toMatchObject({ ok: true });
    expect([b.ikeSas(), b.datapath.sas.size]).toEqual([[], 0]);
  });

  test('of another pair of cookies, or in the clear, deletes nothing', () => {
    const { a, b, net } = established();
    const bytes = net.flights[0]!.bytes.slice();
    const sa = b.v1Sas[0]!;
    bytes.set(sa.CKY_R, 8);
    bytes[18] = EXCHANGE.Informational;
    const path = { local: net.flights[0]!.path.remote, remote: net.flights[0]!.path.local, encapsulated: false };
    b.put({ kind: 'datagram', path, bytes });
    net.run(1_000);
    whole(a, b);
  });

  test('that comes again, octet by octet, is not a second one', () => {
    const { a, b, net } = established();
    a.command({ verb: 'terminate', name: 'lan' });
    const replayed = net.flights.at(-1)!;
    net.run(5_000);
    const before = net.flights.length;
    b.put({
      kind: 'datagram',
      path: { local: replayed.path.remote, remote: replayed.path.local, encapsulated: false },
      bytes: replayed.bytes,
    });
    net.run(1_000);
    expect(net.flights.length).toBe(before);
  });
});

describe('a Quick Mode that comes again (replay)', () => {
  test('message 1 of long ago makes nothing', () => {
    const { a, b, net } = established();
    const message1 = net.flights[6]!;
    net.run(200_000);
    rekeyChild(a);
    net.run(200_000);
    const before = [net.flights.length, b.datapath.everInstalled];
    b.put({
      kind: 'datagram',
      path: { local: message1.path.remote, remote: message1.path.local, encapsulated: false },
      bytes: message1.bytes,
    });
    net.run(1_000);
    expect([net.flights.length, b.datapath.everInstalled]).toEqual(before);
    whole(a, b);
  });
});

describe('dead peer detection (RFC 3706)', () => {
  const dpd = { ikev1: { dpdDelay: 10_000, dpdRetry: 1_000, dpdMaxFail: 3 } };

  test('R-U-THERE is asked after dpd_delay of silence, and answered', () => {
    const { a, b, net } = established({ a: dpd });
    net.run(11_000);
    expect(a.ladder().slice(-2)).toEqual([
      'Informational* { HASH, N(R-U-THERE) } -->',
      '<-- Informational* { HASH, N(R-U-THERE-ACK) }',
    ]);
    whole(a, b);
  });

  test('traffic makes it needless', () => {
    const { a, b, net } = established({ a: dpd });
    for (let i = 0; i < 15; i++) {
      traffic(a, b, net, 20);
      net.run(500);
    }
    expect(a.ladder().some((line) => line.includes('R-U-THERE'))).toBe(false);
  });

  test('a dead peer is given up after dpd_maxfail questions, and its SAs with it', () => {
    const { a, net, b } = established({ a: dpd });
    net.lose(({ from }) => from === b);
    net.run(20_000);
    expect(a.named('peer-silent')[0]).toMatch(/no answer from peer at 192\.0\.2\.2\[500\] to 3 R-U-THERE/);
    expect([a.ikeSas(), a.datapath.sas.size]).toEqual([[], 0]);
  });

  test('one lost answer is no death', () => {
    const { a, b, net } = established({ a: dpd });
    net.lose(({ from }) => from === b, 1);
    net.run(30_000);
    whole(a, b);
  });

  test('is not done with a peer that did not announce it', () => {
    const { a, b, net } = established({ a: dpd, b: { ikev1: { dpd: false } } });
    net.run(60_000);
    expect(a.ladder().some((line) => line.includes('R-U-THERE'))).toBe(false);
    whole(a, b);
  });

  test('the same question again gets the same answer; an old sequence number gets none', () => {
    const { a, b, net } = established({ a: dpd });
    net.run(11_000);
    const first = net.flights.findLast(({ from }) => from === a)!;
    const path = { local: first.path.remote, remote: first.path.local, encapsulated: false };
    const before = net.flights.length;
    b.put({ kind: 'datagram', path, bytes: first.bytes });
    expect(net.flights.length).toBe(before + 1);
    net.run(11_000);
    const later = net.flights.length;
    b.put({ kind: 'datagram', path, bytes: first.bytes });
    expect(net.flights.length).toBe(later);
  });
});

describe('configuration', () => {
  test('a changed remote is torn down, and negotiated anew where something stands', () => {
    const { a, b, net } = established();
    a.configure({ ...a.setting, ikev1: { nonceBytes: 16 } });
    net.run(10_000);
    expect([a.ikeSas(), b.ikeSas()]).toEqual([[], []]);
    a.initiate();
    net.run(10_000);
    whole(a, b);
  });

  test('a selector that is gone is deleted, the rest stays', () => {
    const children = [
      { name: 'one', local: '10.1.1.0/24', peer: '10.2.1.0/24' },
      { name: 'two', local: '10.1.2.0/24', peer: '10.2.2.0/24' },
    ];
    const mirrored = children.map(({ name, local, peer }) => ({ name, local: peer, peer: local }));
    const made = pair({ a: { ...V1, children }, b: { ...V1, children: mirrored } });
    made.a.initiate('peer');
    made.net.run();
    made.a.configure({ ...made.a.setting, children: children.slice(0, 1) });
    made.net.run(10_000);
    expect([made.a.children(), made.b.children()]).toEqual([['installed'], ['installed']]);
    expect(disagreements(made.a, made.b)).toEqual([]);
  });
});
