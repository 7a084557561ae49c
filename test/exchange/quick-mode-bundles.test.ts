/** AH, and several SAs for one packet, as IKEv1 and KINK negotiate them by Quick Mode, on virtual time (RFC 2407 §4.4.3, §4.4.5, RFC 2408 §4.2, RFC 2409 §5.5). */

import { describe, expect, test } from 'vitest';
import type { SaConfig } from '../../src/config/config.ts';
import type { ChildSetting } from '../support/ike-config.ts';
import { disagreements, type IkeNode, LAN_A, LAN_B, pair } from '../support/ike-pair.ts';
import { CBC, type KinkNode, kinkDisagreements, kinkPair } from '../support/kink-pair.ts';
import { natted } from '../support/scenes.ts';

type Sas = readonly Partial<SaConfig>[];
const ah: Partial<SaConfig> = { protocol: 'ah', encr: [], auth: ['hmac_sha2_256', 'hmac_sha1'] };
const ipcomp: Partial<SaConfig> = { protocol: 'ipcomp', encr: [], auth: [] };
const [esp] = CBC as [Partial<SaConfig>];
const TRANSPORT = { mode: 'transport', mySaAddress: undefined, peersSaAddress: undefined } as const;

/** The child of each node: between two networks, or between the hosts themselves. */
function children(mode: 'tunnel' | 'transport', sas: Sas, mine: Partial<ChildSetting> = {}): [ChildSetting[], ChildSetting[]] {
  const [local, peer] = mode === 'tunnel' ? [LAN_A, LAN_B] : ['192.0.2.1', '192.0.2.2'];
  const policy = mode === 'tunnel' ? { mode } : TRANSPORT;
  return [[{ local, peer, policy, sas, ...mine }], [{ local: peer, peer: local, policy, sas }]];
}

/** Two nodes of one protocol, and what their tests ask of both alike. */
interface Made {
  readonly a: IkeNode | KinkNode;
  readonly b: IkeNode | KinkNode;
  readonly net: ReturnType<typeof pair>['net'] | ReturnType<typeof kinkPair>['net'];
  /** Who may rekey: in KINK who began (RFC 4430 §3.6). */
  readonly rekeyer: IkeNode | KinkNode;
  disagreements(): string[];
  packets(): [number, number];
}

type Make = (mode: 'tunnel' | 'transport', sas: Sas, mine?: Partial<ChildSetting>, seed?: number) => Made;

const ikev1: Make = (mode, sas, mine, seed = 1) => {
  const [ofA, ofB] = children(mode, sas, mine);
  const { a, b, net } = pair({ a: { kmp: ['ikev1'], children: ofA }, b: { kmp: ['ikev1'], children: ofB }, seed });
  const exchanged = (): [number, number] => {
    a.packet(b);
    b.packet(a);
    net.run(100);
    return [a.received, b.received];
  };
  return { a, b, net, rekeyer: b, disagreements: () => disagreements(a, b), packets: exchanged };
};

const kink: Make = (mode, sas, mine, seed = 1) => {
  const [ofA, ofB] = children(mode, sas, mine);
  const { a, b, net } = kinkPair({ a: { children: ofA }, b: { children: ofB }, seed });
  const exchanged = (): [number, number] => {
    a.packet(b);
    b.packet(a);
    net.run(100);
    return [a.received, b.received];
  };
  return { a, b, net, rekeyer: a, disagreements: () => kinkDisagreements(a, b), packets: exchanged };
};

/** What the datapath was told of each SA, innermost first. */
function inside({ datapath }: IkeNode | KinkNode): string[] {
  return [...datapath.sas.values()].map(({ protocol, mode, suite }) => `${protocol} ${mode} ${suite}`);
}

const KINDS = [
  ['AH', [ah], ['ah * null_enc 0 hmac_sha2_256']],
  ['AH around ESP', [esp, ah], ['esp * aes_cbc 128 hmac_sha2_256', 'ah transport null_enc 0 hmac_sha2_256']],
  ['IPComp in ESP', [esp, ipcomp], ['ipcomp * null_enc 0 none', 'esp transport aes_cbc 128 hmac_sha2_256']],
  ['IPComp in AH', [ipcomp, ah], ['ipcomp * null_enc 0 none', 'ah transport null_enc 0 hmac_sha2_256']],
  [
    'IPComp in ESP in AH',
    [ah, ipcomp, esp],
    ['ipcomp * null_enc 0 none', 'esp transport aes_cbc 128 hmac_sha2_256', 'ah transport null_enc 0 hmac_sha2_256'],
  ],
] as const;

describe.each([
  ['IKEv1', ikev1],
  ['KINK', kink],
] as const)('%s', (_protocol, make) => {
  const rekey = (node: IkeNode | KinkNode) => node.command({ verb: 'rekey', name: 'lan', what: 'child' });

  describe.each(['tunnel', 'transport'] as const)('in %s mode', (mode) => {
    test.each(KINDS)('%s: negotiated, used, rekeyed as one, deleted as one', (_kind, sas, told) => {
      const made = make(mode, sas);
      const { a, b, net } = made;
      a.initiate();
      net.run();
      expect([a.children(), b.children(), made.disagreements()]).toEqual([['installed'], ['installed'], []]);
      const expected = told.map((one) => one.replace('*', mode));
      expect([inside(a), inside(b)]).toEqual([expected, expected]);
      expect(made.packets()).toEqual([1, 1]);
      const before = [...a.datapath.sas.keys()];
      rekey(made.rekeyer);
      net.run(40_000);
      expect([a.children(), b.children(), made.disagreements()]).toEqual([['installed'], ['installed'], []]);
      expect(inside(a)).toEqual(expected);
      expect([...a.datapath.sas.keys()].filter((spi) => before.includes(spi))).toEqual([]);
      expect(made.packets()).toEqual([2, 2]);
      a.command({ verb: 'terminate', name: 'lan' });
      net.run(20_000);
      expect([a.children(), b.children(), made.disagreements()]).toEqual([[], [], []]);
      expect([a.datapath.sas.size, b.datapath.sas.size, a.datapath.outbound.size, b.datapath.outbound.size]).toEqual([
        0, 0, 0, 0,
      ]);
    });
  });

  test('the second of the algorithms is agreed on in each SA by itself', () => {
    const made = make('tunnel', [esp, { ...ah, auth: ['hmac_sha1'] }], {
      sas: [esp, { ...ah, auth: ['hmac_sha2_512', 'hmac_sha1'] }],
    });
    made.a.initiate();
    made.net.run();
    expect([made.a.children(), made.disagreements()]).toEqual([['installed'], []]);
    expect(inside(made.b)[1]).toBe('ah transport null_enc 0 hmac_sha1');
  });

  test.each([
    ['AH where ESP is wanted', [ah], [esp]],
    ['ESP where AH is wanted', [esp], [ah]],
    ['ESP where both are wanted', [esp], [esp, ah]],
    ['both where ESP is wanted', [esp, ah], [esp]],
    ['compressed ESP where it is not to be', [esp, ipcomp], [esp]],
    ['AH by an algorithm that is not wanted', [esp, { ...ah, auth: ['hmac_md5'] }], [esp, ah]],
  ] as const)('%s is refused, and nothing is left of it', (_what, theirs, ours) => {
    const { a, b, net } = make('tunnel', ours, { sas: theirs });
    const id = a.initiate();
    net.run(20_000);
    expect(a.reply(id)).toMatchObject({ ok: false, error: expect.stringContaining('NO-PROPOSAL-CHOSEN') });
    expect(b.named('message-refused')[0]).toMatch(/the peer offered .*we accept /);
    for (const { datapath } of [a, b])
      expect([datapath.larval.size, datapath.sas.size, datapath.outbound.size]).toEqual([0, 0, 0]);
  });

  test('the lifetime of any SA of a bundle is that of all', () => {
    const made = make('tunnel', [esp, ah, ipcomp]);
    const { a, b, net } = made;
    a.initiate();
    net.run();
    const before = [...a.datapath.sas.keys()];
    made.packets();
    a.expire('soft');
    net.run(40_000);
    expect([a.children(), made.disagreements()]).toEqual([['installed'], []]);
    expect([...a.datapath.sas.keys()].filter((spi) => before.includes(spi))).toEqual([]);
    const [one] = [...b.datapath.outbound.values()].filter(({ protocol }) => protocol === 'ah');
    b.pfkey(b.datapath.expire(one!, 'hard'));
    net.run(20_000);
    expect([a.children(), b.children()]).toEqual([[], []]);
    expect([a.datapath.sas.size, b.datapath.sas.size]).toEqual([0, 0]);
  });

  test('a datapath that refuses one SA of a bundle has none of it', () => {
    const { a, b, net } = make('tunnel', [esp, ah, ipcomp]);
    b.datapath.refuseNext = { type: 'UPDATE', errno: 12 };
    a.initiate();
    net.run(120_000);
    expect([b.datapath.larval.size, b.datapath.sas.size, b.datapath.outbound.size]).toEqual([0, 0, 0]);
    expect([a.datapath.larval.size, a.datapath.sas.size, a.datapath.outbound.size]).toEqual([0, 0, 0]);
  });

  test('under loss, doubling and reordering: nothing is stranded', () => {
    for (let seed = 1; seed <= 4; seed++) {
      const made = make('tunnel', [esp, ah, ipcomp], {}, seed);
      const { a, b, net } = made;
      net.fate = ({ number }: { readonly number: number }) =>
        (number * 11 + seed) % 3 === 0 ? [] : (number + seed) % 4 === 0 ? [10, 500] : [10 + ((number * 17) % 150)];
      a.initiate();
      net.run(20_000);
      for (let i = 0; i < 4; i++) net.after(i * 3000, () => rekey(i % 2 === 0 ? a : made.rekeyer));
      net.run(30_000);
      net.heal();
      if (a.children().length === 0) a.initiate();
      net.run(120_000);
      expect([seed, a.children(), b.children(), made.disagreements()]).toEqual([seed, ['installed'], ['installed'], []]);
      expect(inside(a)).toHaveLength(3);
    }
  });

  test('SAs of an earlier run, of every protocol, go when new ones carry their traffic', () => {
    const made = make('tunnel', [esp, ah, ipcomp]);
    const { a, b, net } = made;
    a.initiate();
    net.run();
    const before = [...a.datapath.sas.keys()];
    a.restart();
    net.run(60_000);
    expect([a.children(), b.children(), made.disagreements()]).toEqual([['installed'], ['installed'], []]);
    expect([...a.datapath.sas.keys()].filter((spi) => before.includes(spi))).toEqual([]);
  });
});

describe('as they are said', () => {
  test('in IKEv1', () => {
    const { a, b, net } = pair({
      a: { kmp: ['ikev1'], children: children('tunnel', [esp, ah, ipcomp])[0] },
      b: { kmp: ['ikev1'], children: children('tunnel', [esp, ah, ipcomp])[1] },
    });
    a.initiate();
    net.run();
    const said =
      'SA(00003002: ah HMAC_SHA2_256_128 transport | ah HMAC_SHA1_96 transport and 00003000: esp AES_CBC_128/HMAC_SHA2_256_128 tunnel and 3101: ipcomp DEFLATE tunnel)';
    expect(a.ladder()[6]).toContain(said);
    expect(a.ladder()[7]).toContain('SA(00004002: ah HMAC_SHA2_256_128 transport and 00004000: esp');
    b.command({ verb: 'terminate', name: 'lan' });
    net.run(10_000);
    expect(b.ladder().find((line) => line.includes(' D('))).toContain('D(IPCOMP 4101), D(ESP 00004000), D(AH 00004002)');
  });

  test('in KINK: one CREATE, keys of Ni alone where all that was offered first is taken', () => {
    const { a, b, net } = kinkPair({
      a: { children: children('tunnel', [esp, ah, ipcomp])[0] },
      b: { children: children('tunnel', [esp, ah, ipcomp])[1] },
    });
    a.initiate();
    net.until(() => net.flights.length === 1);
    // Optimistic keying (RFC 4430 §3.2): all inbound SAs are there before the CREATE leaves.
    expect(inside(a)).toHaveLength(3);
    net.run();
    expect(a.ladder()).toHaveLength(2);
    expect(a.ladder()[0]).toContain('AH 00003002: HMAC_SHA2_256_128 transport');
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('in KINK, another algorithm of AH alone makes it three messages, and all keys have Nr in them', () => {
    const { a, b, net } = kinkPair({
      a: { children: children('tunnel', [esp, ah])[0] },
      b: { children: children('tunnel', [esp, { ...ah, auth: ['hmac_sha1'] }])[1] },
    });
    a.initiate();
    net.until(() => net.flights.length === 1);
    const before = [...a.datapath.sas.values()].map(({ keys }) => keys);
    net.run();
    expect(a.ladder()).toHaveLength(3);
    expect([...a.datapath.sas.values()].filter(({ keys }) => before.includes(keys))).toEqual([]);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });
});

test('AH is refused where a NAT is between, which would break it (RFC 3715 §2.1); compressed ESP goes in UDP', () => {
  const through = (sas: Sas) => {
    const { a, b, net } = natted({
      a: { kmp: ['ikev1'], children: [{ local: LAN_A, peer: LAN_B, sas }] },
      b: { kmp: ['ikev1'], children: [{ local: LAN_B, peer: LAN_A, sas }] },
    });
    a.initiate();
    net.run();
    return { a, b };
  };
  const refused = through([ah]);
  expect([refused.a.children(), refused.b.children()]).toEqual([[], []]);
  expect(refused.a.named('child-sa-failed').join()).toContain('wants AH, which no NAT lets pass');
  const { a, b } = through([esp, ipcomp]);
  expect([a.children(), disagreements(a, b)]).toEqual([['installed'], []]);
  expect([...a.datapath.sas.values()].map(({ protocol, encapsulation }) => [protocol, encapsulation !== ''])).toEqual([
    ['ipcomp', false],
    ['esp', true],
  ]);
});
