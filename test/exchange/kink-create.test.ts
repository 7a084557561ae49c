/** CREATE in two and three messages (RFC 4430 §3.2, §6.3, §7), as ladders of two kinkd on virtual time. */

import { describe, expect, test } from 'vitest';
import type { ChildSetting } from '../support/ike-config.ts';
import { CBC, kinkDisagreements, kinkPair } from '../support/kink-pair.ts';

const GCM: NonNullable<ChildSetting['sas']> = [{ encr: [{ name: 'aes_gcm_16', keyBits: 128 }], auth: [] }];

/** One transport-mode child of node `a` or `b` with these algorithms. */
function child(of: 'a' | 'b', more: Partial<ChildSetting>): readonly ChildSetting[] {
  const [local, peer] = of === 'a' ? ['192.0.2.1', '192.0.2.2'] : ['192.0.2.2', '192.0.2.1'];
  return [{ local, peer, policy: { mode: 'transport' }, sas: CBC, ...more }];
}

const SA = (spi: string, suite = 'AES_CBC_128/HMAC_SHA2_256_128') => `SA(ESP ${spi}: ${suite} transport)`;
const IDS = 'IDci(192.0.2.1), IDcr(192.0.2.2)';

describe('two messages: the responder takes the first transform (§3.2)', () => {
  test('the initiator has its inbound SA before it asks', () => {
    const { a, b, net } = kinkPair();
    const id = a.initiate();
    expect(net.until(() => net.flights.length === 1)).toBe(true);
    expect([a.datapath.sas.size, a.datapath.outbound.size, b.datapath.everInstalled]).toEqual([1, 0, 0]);
    net.run(1_000);
    expect(a.ladder()).toEqual([
      `CREATE { AP_REQ, ENCRYPT{ ISAKMP{ ${SA('00003000')}, Ni, ${IDS} } } } -->`,
      `<-- REPLY { AP_REP, ENCRYPT{ ISAKMP{ ${SA('00004000')}, ${IDS} } } }`,
    ]);
    expect(b.ladder()).toEqual(a.ladder());
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect(a.reply(id)).toMatchObject({ ok: true, result: { up: ['lan (in 00003000, out 00004000)'] } });
    a.packet(b);
    b.packet(a);
    net.run(100);
    expect([a.received, b.received, a.lost, b.lost]).toEqual([1, 1, 0, 0]);
  });

  test('the responder may send as soon as it has answered: nothing of it is lost', () => {
    const { a, b, net } = kinkPair();
    a.initiate();
    net.until(() => b.datapath.outbound.size === 1);
    b.packet(a);
    net.run(100);
    expect([a.received, a.lost]).toEqual([1, 0]);
  });

  test('an ACQUIRE begins it, in tunnel mode too', () => {
    const tunnel = { mode: 'tunnel' } as const;
    const { a, b, net } = kinkPair({
      a: { children: [{ local: '10.1.0.0/24', peer: '10.2.0.0/24', policy: tunnel, sas: CBC }] },
      b: { children: [{ local: '10.2.0.0/24', peer: '10.1.0.0/24', policy: tunnel, sas: CBC }] },
    });
    a.acquire();
    net.run(1_000);
    expect(a.ladder()[0]).toContain('tunnel), Ni, IDci(10.1.0.0-10.1.0.255), IDcr(10.2.0.0-10.2.0.255)');
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect([...a.datapath.sas.values()].map(({ mode, selectors }) => [mode, selectors])).toEqual([
      ['tunnel', '10.2.0.0-10.2.0.255/0/0-65535 > 10.1.0.0-10.1.0.255/0/0-65535'],
    ]);
  });

  test('a shorter lifetime of the responder holds for both, and the SA that runs already gets it', () => {
    const ipsec = (seconds: number) => ({ ipsec: [{ lifetimeTime: seconds * 1000 }] });
    const { a, b, net } = kinkPair({
      a: { children: child('a', ipsec(3600)), kink: { proposalCheck: 'claim' } },
      b: { children: child('b', ipsec(600)), kink: { proposalCheck: 'claim' } },
    });
    a.initiate();
    net.run(1_000);
    expect(a.ladder()[1]).toContain('N(RESPONDER-LIFETIME)');
    expect(kinkDisagreements(a, b)).toEqual([]);
    const seconds = [a, b].flatMap(({ datapath }) => [...datapath.sas.values(), ...datapath.outbound.values()]);
    expect(seconds.map(({ message }) => message.lifetimeHard?.addtime)).toEqual([600, 600, 600, 600]);
  });
});

describe('three messages', () => {
  test('another transform than the first: the optimistic SA is replaced, and the responder sends only after ACK', () => {
    const { a, b, net } = kinkPair({
      a: {
        children: child('a', {
          sas: [
            {
              encr: [
                { name: 'aes_cbc', keyBits: 256 },
                { name: 'aes_cbc', keyBits: 128 },
              ],
              auth: ['hmac_sha2_256'],
            },
          ],
        }),
      },
      b: { children: child('b', {}) },
    });
    net.lose(({ from }) => from === b, 1);
    a.initiate();
    net.until(() => b.ladder().length === 2);
    const optimistic = [...a.datapath.sas.values()].map(({ suite, keys }) => [suite, keys]);
    expect(optimistic[0]![0]).toBe('aes_cbc 256 hmac_sha2_256');
    net.run(300);
    expect([b.datapath.sas.size, b.datapath.outbound.size]).toEqual([1, 0]);
    net.run(3_000);
    expect(a.ladder().slice(-2)).toEqual([
      `<-- REPLY, ACKREQ { AP_REP, ENCRYPT{ ISAKMP{ ${SA('00004000')}, Nr, ${IDS} } } }`,
      'ACK { AP_REQ } -->',
    ]);
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect([...a.datapath.sas.values()][0]!.suite).toBe('aes_cbc 128 hmac_sha2_256');
    a.packet(b);
    b.packet(a);
    net.run(100);
    expect([a.received, b.received]).toEqual([1, 1]);
  });

  test('AES-GCM: without Nr the key would be all in the CREATE, so the responder adds one', () => {
    const { a, b, net } = kinkPair({ a: { children: child('a', { sas: GCM }) }, b: { children: child('b', { sas: GCM }) } });
    a.initiate();
    net.run(1_000);
    expect(a.ladder()).toEqual([
      `CREATE { AP_REQ, ENCRYPT{ ISAKMP{ ${SA('00003000', 'AES_GCM_16_128')}, Ni, ${IDS} } } } -->`,
      `<-- REPLY, ACKREQ { AP_REP, ENCRYPT{ ISAKMP{ ${SA('00004000', 'AES_GCM_16_128')}, Nr, ${IDS} } } }`,
      'ACK { AP_REQ } -->',
    ]);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('a replay cache younger than its window: every CREATE is answered with a nonce', () => {
    const { a, b, net } = kinkPair({ settled: false });
    a.initiate();
    net.run(1_000);
    expect(b.named('replay-cache-young').length).toBe(1);
    expect(a.ladder()[1]).toContain('REPLY, ACKREQ');
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect(b.status().replayCache).toEqual({ size: 2, complete: false });
  });

  test.each([
    ['always', CBC, true],
    ['never', GCM, false],
  ] as const)('responder_nonce %s', (responderNonce, sas, asks) => {
    const { a, b, net } = kinkPair({
      a: { children: child('a', { sas }) },
      b: { children: child('b', { sas }), kink: { responderNonce } },
    });
    a.initiate();
    net.run(1_000);
    expect(a.ladder()[1]!.includes('Nr')).toBe(asks);
    expect(a.ladder().length).toBe(asks ? 3 : 2);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test.each(['ecp256', 'modp2048'] as const)('KE with %s: nothing is installed before the REPLY (§3.2)', (group) => {
    const kink = { needPfs: true, groups: [group] };
    const { a, b, net } = kinkPair({ a: { kink }, b: { kink } });
    a.initiate();
    net.until(() => net.flights.length === 1);
    expect([a.datapath.sas.size, a.datapath.larval.size]).toEqual([0, 1]);
    net.run(1_000);
    expect(a.ladder()[0]).toContain('Ni, KE, IDci');
    expect(a.ladder()[1]).toMatch(/REPLY, ACKREQ .* Nr, KE, IDci/);
    expect(a.ladder()[2]).toBe('ACK { AP_REQ } -->');
    expect(kinkDisagreements(a, b)).toEqual([]);
  });
});

describe('both readings of the prf, every enctype', () => {
  test.each([17, 18, 19, 20] as const)('enctype %i', (etype) => {
    const { a, b, net } = kinkPair();
    net.kdc.etype = etype;
    a.initiate();
    net.run(1_000);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('the same reading on both sides agrees, two readings do not', () => {
    const literal = { prf: 'rfc3962_literal' } as const;
    const both = kinkPair({ a: { kink: literal }, b: { kink: literal } }).established();
    expect(kinkDisagreements(both.a, both.b)).toEqual([]);
    const one = kinkPair({ a: { kink: literal } }).established();
    expect(kinkDisagreements(one.a, one.b).join()).toContain('has other keys at each end');
  });
});

describe('what the responder refuses, it says, and the initiator explains', () => {
  test('no algorithm in common', () => {
    const { a, b, net } = kinkPair({ b: { children: child('b', { sas: GCM }) } });
    const id = a.initiate();
    net.run(1_000);
    expect(a.ladder()[1]).toBe('<-- REPLY { AP_REP, ENCRYPT{ ISAKMP{ N(NO-PROPOSAL-CHOSEN) } } }');
    expect(a.reply(id)).toMatchObject({ ok: false, error: expect.stringContaining('refused with NO-PROPOSAL-CHOSEN') });
    expect(b.named('message-refused')[0]).toContain(
      'the peer offered esp AES_CBC_128/HMAC_SHA2_256_128 transport; we accept esp AES_GCM_16_128',
    );
    expect([a, b].map(({ datapath }) => [datapath.sas.size, datapath.larval.size])).toEqual([
      [0, 0],
      [0, 0],
    ]);
  });

  test('selectors of no policy', () => {
    const { a, b, net } = kinkPair({ b: { children: child('b', { protocol: 6 }) } });
    const id = a.initiate();
    net.run(1_000);
    expect(a.ladder()[1]).toContain('N(PAYLOAD-MALFORMED)');
    expect(b.named('message-refused')[0]).toContain(
      'the peer asks for 192.0.2.1 to 192.0.2.2; selector lan has 192.0.2.1 proto 6 to 192.0.2.2 proto 6',
    );
    expect(a.reply(id)).toMatchObject({ ok: false });
    expect(b.datapath.everInstalled).toBe(0);
  });

  test('narrower selectors than the policy has are granted as they are asked', () => {
    const { a, b, net } = kinkPair({ a: { children: child('a', { protocol: 6, peerPort: 80 }) } });
    a.initiate();
    net.run(1_000);
    expect(a.ladder()[0]).toContain('IDci(192.0.2.1 proto 6), IDcr(192.0.2.2 proto 6 port 80)');
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('another mode, PFS that the other side does not want or lacks, a group that it does not have', () => {
    const refusal = (a: object, b: object) => {
      const nodes = kinkPair({ a, b });
      const id = nodes.a.initiate();
      nodes.net.run(1_000);
      const reply = nodes.a.reply(id);
      expect(kinkDisagreements(nodes.a, nodes.b)).toEqual([]);
      return reply?.ok === false ? reply.error : 'up';
    };
    const pfs = (...groups: string[]) => ({ kink: { needPfs: true, groups } });
    expect(refusal({}, { children: child('b', { policy: { mode: 'tunnel' } }) })).toContain('NO-PROPOSAL-CHOSEN');
    expect(refusal({}, pfs('ecp256'))).toContain('NO-PROPOSAL-CHOSEN');
    expect(refusal(pfs('modp2048'), pfs('ecp256'))).toMatch(/NO-PROPOSAL-CHOSEN|INVALID-PAYLOAD-TYPE/);
    expect(refusal(pfs('ecp384'), {})).toContain('INVALID-PAYLOAD-TYPE: it takes no KE payload as we sent it');
    expect(refusal(pfs('modp2048'), {})).toBe('up');
  });

  test('a longer lifetime than the responder allows, by proposal_check', () => {
    const ipsec = (seconds: number) => ({ ipsec: [{ lifetimeTime: seconds * 1000 }] });
    const { a, b, net } = kinkPair({ a: { children: child('a', ipsec(3600)) }, b: { children: child('b', ipsec(600)) } });
    const id = a.initiate();
    net.run(1_000);
    expect(a.reply(id)).toMatchObject({ ok: false, error: expect.stringContaining('NO-PROPOSAL-CHOSEN') });
    expect(b.named('message-refused')[0]).toContain('a lifetime of 3600 s, ours is 600 s (proposal_check strict)');
  });

  test('the datapath refuses: nothing stays behind on either side', () => {
    const { a, b, net } = kinkPair();
    b.datapath.refuseNext = { type: 'GETSPI', errno: 2 };
    const first = a.initiate();
    net.run(1_000);
    expect(a.ladder()[1]).toBe('<-- REPLY { AP_REP, ENCRYPT{ ERROR(KINK_INTERR) } }');
    expect(a.reply(first)).toMatchObject({ ok: false });
    b.datapath.refuseNext = { type: 'UPDATE', errno: 22 };
    a.initiate();
    net.run(1_000);
    a.datapath.refuseNext = { type: 'ADD', errno: 22 };
    a.initiate();
    net.run(8_000);
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect([a, b].map(({ datapath }) => datapath.sas.size)).toEqual([0, 0]);
    a.initiate();
    net.run(1_000);
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect(a.children()).toEqual(['installed']);
  });
});

test('both ends begin at once: both pairs work, and one is left after the first rekey', () => {
  const { a, b, net } = kinkPair();
  a.initiate();
  b.initiate();
  net.run(1_000);
  expect(kinkDisagreements(a, b)).toEqual([]);
  expect([a.children(), b.children()]).toEqual([
    ['installed', 'installed'],
    ['installed', 'installed'],
  ]);
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const)
    from.packet(to);
  net.run(100);
  expect([a.received, b.received]).toEqual([1, 1]);
  const older = [...a.datapath.outbound.values()].sort((x, y) => x.serial - y.serial)[0]!;
  older.packets = 1;
  a.pfkey(a.datapath.expire(older, 'soft'));
  b.pfkey(b.datapath.expire([...b.datapath.outbound.values()].sort((x, y) => x.serial - y.serial)[0]!, 'soft'));
  net.run(20_000);
  expect(kinkDisagreements(a, b)).toEqual([]);
});
