import { describe, expect, test } from 'vitest';
import { EXCHANGE, readHeader } from '../../iked/ikev2/message.ts';
import { disagreements, type IkeNode, pair } from '../support/ike-pair.ts';
import { traffic } from '../support/scenes.ts';

const rekeyChild = (node: IkeNode) => node.command({ verb: 'rekey', name: 'lan', what: 'child' });
const rekeyIke = (node: IkeNode) => node.command({ verb: 'rekey', name: 'peer', what: 'ike' });
const closeChild = (node: IkeNode) => node.command({ verb: 'terminate', name: 'lan' });
const closeIke = (node: IkeNode) => node.command({ verb: 'terminate', name: 'peer' });

/** One child and one IKE SA at each end, and nothing else anywhere. */
const whole = (a: IkeNode, b: IkeNode) => {
  expect([a.ikeSas(), b.ikeSas()]).toEqual([['established'], ['established']]);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  expect(disagreements(a, b)).toEqual([]);
};

/** A node and its datapath lose their child without a word. */
const forget = (node: IkeNode) => {
  const child = node.v2Children[0]!;
  child.ike.remove(child);
  node.datapath.sas.clear();
  node.datapath.outbound.clear();
};

describe('rekey of a child (§1.3.3, §2.8)', () => {
  test('by the initiator: the new pair takes over and the old one goes', () => {
    const { a, b, net } = pair().established();
    const before = a.status().ikeSas[0]!.children[0]!;
    rekeyChild(a);
    net.run(20_000);
    expect(a.ladder().slice(-4)).toEqual([
      `CREATE_CHILD_SA { N(REKEY_SA, ESP ${before.spiIn}), SA(esp 00003001: aes_gcm_16-128 | no_esn), Ni, TSi(10.1.0.0-10.1.0.255), TSr(10.2.0.0-10.2.0.255) } -->`,
      '<-- CREATE_CHILD_SA { SA(esp 00004001: aes_gcm_16-128 | no_esn), Nr, TSi(10.1.0.0-10.1.0.255), TSr(10.2.0.0-10.2.0.255) }',
      `INFORMATIONAL { D(ESP ${before.spiIn}) } -->`,
      `<-- INFORMATIONAL { D(ESP ${before.spiOut}) }`,
    ]);
    whole(a, b);
  });

  for (const by of ['a', 'b', 'both'] as const) {
    test(`no packet is lost in ten rekeys by ${by}`, () => {
      const { a, b, net } = pair().established();
      for (let i = 0; i < 10; i++) {
        net.after(i * 1000, () => {
          if (by !== 'b') rekeyChild(a);
          if (by !== 'a') rekeyChild(b);
        });
      }
      expect(traffic(a, b, net, 12_000)).toBe(0);
      expect(a.received).toBeGreaterThan(2000);
      net.run(20_000);
      whole(a, b);
    });
  }

  test('no packet is lost either when the DELETE is late: the responder changes over after 2 s', () => {
    const { a, b, net } = pair().established();
    net.lose(({ from, bytes }) => from === a && readHeader(bytes).exchange === EXCHANGE.INFORMATIONAL, 2);
    rekeyChild(a);
    expect(traffic(a, b, net, 6_000)).toBe(0);
    net.run(20_000);
    whole(a, b);
  });

  test('a soft EXPIRE of a used child rekeys it, of an unused one does not', () => {
    const { a, b, net } = pair().established();
    a.expire('soft');
    net.run();
    expect(a.ladder().filter((line) => line.includes('REKEY_SA'))).toEqual([]);
    a.packet(b);
    a.expire('soft');
    net.run(20_000);
    expect(a.ladder().filter((line) => line.includes('REKEY_SA'))).toHaveLength(1);
    whole(a, b);
  });

  test('a hard EXPIRE: the child is gone at both ends', () => {
    const { a, b, net } = pair().established();
    a.expire('hard');
    net.run(20_000);
    expect([a.children(), b.children()]).toEqual([[], []]);
    expect([a.datapath.sas.size, b.datapath.sas.size, b.datapath.outbound.size]).toEqual([0, 0, 0]);
  });

  for (let lost = 0; lost < 4; lost++) {
    test(`datagram ${lost + 1} of the four is lost`, () => {
      const { a, b, net } = pair().established();
      const first = net.flights.length;
      net.lose(({ number }) => number === first + lost, 1);
      rekeyChild(a);
      expect(traffic(a, b, net, 8_000)).toBe(0);
      net.run(20_000);
      whole(a, b);
    });
  }
});

describe('both rekey the same child at once (§2.8.1)', () => {
  for (let seed = 1; seed <= 6; seed++) {
    test(`the one with the lowest nonce yields, seed ${seed}`, () => {
      const { a, b, net } = pair({ seed }).established();
      rekeyChild(a);
      rekeyChild(b);
      expect(traffic(a, b, net, 5_000)).toBe(0);
      net.run(20_000);
      const created = a.ladder().filter((line) => line.includes('REKEY_SA')).length;
      expect(created).toBe(2);
      expect(a.ladder().filter((line) => line.startsWith('INFORMATIONAL') && line.includes('D(ESP'))).toHaveLength(2);
      whole(a, b);
    });
  }

  for (let lost = 0; lost < 8; lost++) {
    for (let seed = 1; seed <= 2; seed++) {
      test(`datagram ${lost + 1} is lost, seed ${seed}`, () => {
        const { a, b, net } = pair({ seed }).established();
        const first = net.flights.length;
        net.lose(({ number }) => number === first + lost, 1);
        rekeyChild(a);
        rekeyChild(b);
        expect(traffic(a, b, net, 10_000)).toBe(0);
        net.run(30_000);
        whole(a, b);
      });
    }
  }

  test('the second sequence of the RFC: the late request meets CHILD_SA_NOT_FOUND, which is ignored', () => {
    const { a, b, net } = pair().established();
    const first = net.flights.length;
    net.lose(({ number }) => number === first, 1);
    rekeyChild(a);
    rekeyChild(b);
    net.run(30_000);
    expect(a.ladder().some((line) => /CREATE_CHILD_SA \{ N\(CHILD_SA_NOT_FOUND/.test(line))).toBe(true);
    whole(a, b);
  });
});

describe('rekey of the IKE SA (§1.3.2, §2.18)', () => {
  for (const by of ['a', 'b'] as const) {
    test(`by ${by}: the children go over, then it is deleted`, () => {
      const made = pair().established();
      const { a, b, net } = made;
      const before = a.status().ikeSas[0]!;
      rekeyIke(made[by]);
      expect(traffic(a, b, net, 3_000)).toBe(0);
      const after = a.status().ikeSas[0]!;
      expect(after.name).not.toBe(before.name);
      expect(after.role).toBe(by === 'a' ? 'initiator' : 'responder');
      expect(after.children[0]?.spiIn).toBe(before.children[0]?.spiIn);
      whole(a, b);
      rekeyChild(a);
      net.run(10_000);
      rekeyChild(b);
      net.run(10_000);
      rekeyIke(a);
      net.run(10_000);
      whole(a, b);
    });
  }

  for (let seed = 1; seed <= 4; seed++) {
    test(`by both at once: one new IKE SA stays and has the children (§2.8.2), seed ${seed}`, () => {
      const { a, b, net } = pair({ seed }).established();
      rekeyIke(a);
      rekeyIke(b);
      net.run(10_000);
      whole(a, b);
    });
  }

  for (let lost = 0; lost < 8; lost++) {
    for (let seed = 1; seed <= 2; seed++) {
      test(`by both at once, datagram ${lost + 1} is lost, seed ${seed}`, () => {
        const { a, b, net } = pair({ seed }).established();
        const first = net.flights.length;
        net.lose(({ number }) => number === first + lost, 1);
        rekeyIke(a);
        rekeyIke(b);
        net.run(40_000);
        whole(a, b);
      });
    }
  }

  for (let lost = 0; lost < 4; lost++) {
    test(`datagram ${lost + 1} of the four is lost`, () => {
      const { a, b, net } = pair().established();
      const first = net.flights.length;
      net.lose(({ number }) => number === first + lost, 1);
      rekeyIke(a);
      net.run(20_000);
      whole(a, b);
    });
  }

  test('its lifetime, with jitter, brings the rekey about', () => {
    const { a, b, net } = pair({ a: { ikev2: { saLifetime: 100_000 } }, b: { ikev2: { saLifetime: 100_000 } } }).established();
    net.run(95_000);
    const first = a.named('ike-sa-rekeyed').length;
    expect(first).toBe(1);
    net.run(1_000_000);
    expect(a.named('ike-sa-rekeyed').length).toBeGreaterThan(9);
    whole(a, b);
  });
});

describe('collisions while rekeying or closing child SAs (§2.25.1)', () => {
  test('rekey of a child that the other is closing: TEMPORARY_FAILURE, and the child is gone', () => {
    const { a, b, net } = pair().established();
    closeChild(a);
    rekeyChild(b);
    net.run(20_000);
    expect(b.ladder().some((line) => line.includes('CREATE_CHILD_SA { N(TEMPORARY_FAILURE) }'))).toBe(true);
    expect([a.children(), b.children()]).toEqual([[], []]);
    expect(disagreements(a, b)).toEqual([]);
  });

  test('both close the same child: both answer without a Delete payload', () => {
    const { a, b, net } = pair().established();
    closeChild(a);
    closeChild(b);
    net.run(20_000);
    expect(
      a
        .ladder()
        .slice(-4)
        .filter((line) => line.includes('INFORMATIONAL { }')),
    ).toHaveLength(2);
    expect([a.children(), b.children()]).toEqual([[], []]);
    expect(disagreements(a, b)).toEqual([]);
  });

  test('a child that is not there is deleted without a Delete payload in the answer, and rekeyed with CHILD_SA_NOT_FOUND, which makes a new one', () => {
    const { a, b, net } = pair().established();
    // b loses its child without a word.
    forget(b);
    rekeyChild(a);
    net.run(20_000);
    expect(a.ladder().some((line) => line.includes('N(CHILD_SA_NOT_FOUND'))).toBe(true);
    whole(a, b);
    forget(b);
    closeChild(a);
    net.run(20_000);
    expect(a.ladder().at(-1)).toBe('<-- INFORMATIONAL { }');
  });

  test('rekey of the IKE SA while the other creates, rekeys or closes a child: TEMPORARY_FAILURE, then it is done', () => {
    for (const other of [rekeyChild, closeChild]) {
      const { a, b, net } = pair().established();
      other(a);
      rekeyIke(b);
      net.run(30_000);
      expect(b.ladder().some((line) => line.includes('CREATE_CHILD_SA { N(TEMPORARY_FAILURE) }'))).toBe(true);
      expect(b.named('ike-sa-rekeyed')).toHaveLength(1);
      expect(disagreements(a, b)).toEqual([]);
    }
  });
});

describe('collisions while rekeying or closing IKE SAs (§2.25.2)', () => {
  test('rekey of an IKE SA that the other is closing: it is closed', () => {
    const { a, b, net } = pair().established();
    closeIke(a);
    rekeyIke(b);
    net.run(20_000);
    expect([a.ikeSas(), b.ikeSas()]).toEqual([[], []]);
    expect(b.ladder().some((line) => line.includes('N(TEMPORARY_FAILURE)')) || b.named('ike-sa-down').length === 1).toBe(true);
    expect(disagreements(a, b)).toEqual([]);
  });

  test('both close it', () => {
    const { a, b, net } = pair().established();
    closeIke(a);
    closeIke(b);
    net.run(30_000);
    expect([a.ikeSas(), b.ikeSas(), a.datapath.sas.size, b.datapath.sas.size]).toEqual([[], [], 0, 0]);
    expect(disagreements(a, b)).toEqual([]);
  });

  test('create or rekey of a child while the other rekeys the IKE SA: TEMPORARY_FAILURE, and done in the new one', () => {
    const { a, b, net } = pair().established();
    rekeyIke(a);
    rekeyChild(b);
    net.run(40_000);
    whole(a, b);
    expect(b.named('child-sa-rekeyed').length + a.named('child-sa-rekeyed').length).toBeGreaterThanOrEqual(1);
  });

  test('delete of a child while the other rekeys the IKE SA: answered as usual', () => {
    const { a, b, net } = pair().established();
    rekeyIke(a);
    closeChild(b);
    net.run(40_000);
    expect([a.ikeSas(), b.ikeSas()]).toEqual([['established'], ['established']]);
    expect([a.children(), b.children()]).toEqual([[], []]);
    expect(disagreements(a, b)).toEqual([]);
  });
});
