import { describe, expect, test } from 'vitest';
import { paddedAs } from '../../iked/ikev2/child-choice.ts';
import { notify } from '../../iked/ikev2/notify.ts';
import { IPSEC } from '../support/ike-config.ts';
import { disagreements, LAN_A, LAN_B, pair } from '../support/ike-pair.ts';
import { natted } from '../support/scenes.ts';

describe('AH', () => {
  test('is negotiated, rekeyed and deleted as AH (RFC 7296 §3.3.1, §3.11)', () => {
    const ah = { protocol: 'ah', encr: [], auth: ['hmac_sha2_256', 'hmac_sha1'] } as const;
    const ipsec = [{ extendedSequence: true }];
    const { a, b, net } = pair({
      a: { children: [{ local: LAN_A, peer: LAN_B, sas: [ah], ipsec }] },
      b: { children: [{ local: LAN_B, peer: LAN_A, sas: [{ ...ah, auth: ['hmac_sha1'] }], ipsec }] },
    }).established();
    expect(disagreements(a, b)).toEqual([]);
    const [first] = a.v2Children;
    expect([first!.protocol, first!.suite, first!.parameters('outbound').encrKey.length]).toEqual(['ah', 'NULL/HMAC_SHA1_96', 0]);
    a.command({ verb: 'rekey', name: 'lan', what: 'child' });
    net.run(10_000);
    expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
    expect(disagreements(a, b)).toEqual([]);
    expect(a.v2Children[0]!.spiIn).not.toBe(first!.spiIn);
    b.command({ verb: 'terminate', name: 'lan' });
    net.run(10_000);
    expect([a.children(), b.children()]).toEqual([[], []]);
  });

  test('an offer of AH is not taken for one of ESP', () => {
    const ah = { protocol: 'ah', encr: [], auth: ['hmac_sha2_256'] } as const;
    const { a } = pair({
      a: { children: [{ local: LAN_A, peer: LAN_B, sas: [ah] }] },
      b: { children: [{ local: LAN_B, peer: LAN_A }] },
    }).established();
    expect(a.children()).toEqual([]);
  });

  test('is refused where a NAT is between, which would break it (RFC 3715 §2.1)', () => {
    const ah = { protocol: 'ah', encr: [], auth: ['hmac_sha2_256'] } as const;
    const { a, b, net } = natted({
      a: { children: [{ local: LAN_A, peer: LAN_B, sas: [ah] }] },
      b: { children: [{ local: LAN_B, peer: LAN_A, sas: [ah] }] },
    });
    a.initiate();
    net.run();
    expect([a.children(), b.children()]).toEqual([[], []]);
    expect(b.named('message-refused').join() + b.named('child-sa-failed').join()).toContain('wants AH, which no NAT lets pass');
  });
});

describe('suites', () => {
  const suites = [
    {
      ike: { encr: [{ name: 'aes_cbc', keyBits: 256 }], integ: ['hmac_sha2_256'], prf: ['hmac_sha2_256'], ke: ['modp2048'] },
      esp: { encr: [{ name: 'aes_cbc', keyBits: 128 }], auth: ['hmac_sha2_256'] },
    },
    {
      ike: { encr: [{ name: 'chacha20_poly1305', keyBits: 256 }], integ: [], prf: ['hmac_sha2_384'], ke: ['ecp256'] },
      esp: { encr: [{ name: 'chacha20_poly1305', keyBits: 256 }], auth: [] },
    },
    {
      ike: { encr: [{ name: 'aes_ctr', keyBits: 192 }], integ: ['aes_xcbc'], prf: ['aes_xcbc'], ke: ['x448'] },
      esp: { encr: [{ name: 'aes_ctr', keyBits: 256 }], auth: ['aes_cmac'] },
    },
    {
      ike: { encr: [{ name: 'aes_gcm_8', keyBits: 128 }], integ: [], prf: ['hmac_sha2_256'], ke: ['x25519'] },
      esp: { encr: [{ name: 'aes_gcm_12', keyBits: 192 }], auth: [] },
    },
    {
      ike: { encr: [{ name: 'aes_ccm_16', keyBits: 256 }], integ: [], prf: ['hmac_sha2_256'], ke: ['x25519'] },
      esp: { encr: [{ name: 'aes_gcm_16_iiv', keyBits: 256 }], auth: ['none'] },
    },
    {
      ike: { encr: [{ name: 'aes_ccm_12', keyBits: 192 }], integ: [], prf: ['hmac_sha2_256'], ke: ['x25519'] },
      esp: { encr: [{ name: 'aes_ccm_8_iiv', keyBits: 128 }], auth: [] },
    },
    {
      ike: {
        encr: [{ name: 'camellia_cbc', keyBits: 256 }],
        integ: ['hmac_sha2_256'],
        prf: ['hmac_sha2_256'],
        ke: ['x25519'],
      },
      esp: { encr: [{ name: 'camellia_cbc', keyBits: 128 }], auth: ['hmac_md5'] },
    },
    {
      ike: { encr: [{ name: 'aes_gcm_12', keyBits: 256 }], integ: [], prf: ['hmac_sha2_256'], ke: ['x25519'] },
      esp: { encr: [{ name: 'null_auth_aes_gmac', keyBits: 256 }], auth: ['hmac_sha2_256'] },
    },
    {
      ike: { encr: [{ name: 'aes_ccm_8', keyBits: 128 }], integ: [], prf: ['hmac_sha2_256'], ke: ['x25519'] },
      esp: { encr: [{ name: 'chacha20_poly1305_iiv', keyBits: 256 }], auth: [] },
    },
    {
      ike: { encr: [{ name: 'aes_gcm_16', keyBits: 256 }], integ: [], prf: ['hmac_sha2_512'], ke: ['ecp384'] },
      esp: { encr: [{ name: 'null_enc', keyBits: 0 }], auth: ['hmac_sha1'] },
    },
  ] as const;
  for (const { ike, esp } of suites) {
    test(`${ike.encr[0].name}, ${ike.prf[0]}, ${ike.ke[0]} with ESP ${esp.encr[0].name}; rekeyed with PFS`, () => {
      const setting = { ikev2: { ...ike, needPfs: true }, children: [{ local: LAN_A, peer: LAN_B, sas: [esp] }] };
      const { a, b, net } = pair({
        a: setting,
        b: { ...setting, children: [{ local: LAN_B, peer: LAN_A, sas: [esp] }] },
      }).established();
      expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
      expect(disagreements(a, b)).toEqual([]);
      b.command({ verb: 'rekey', name: 'lan', what: 'child' });
      net.run(10_000);
      a.command({ verb: 'rekey', name: 'peer', what: 'ike' });
      net.run(10_000);
      a.command({ verb: 'rekey', name: 'lan', what: 'child' });
      net.run(10_000);
      expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
      expect(disagreements(a, b)).toEqual([]);
    });
  }

  test('a peer without implicit IVs gets the same cipher with explicit ones (RFC 8750 §5)', () => {
    const gcm = { name: 'aes_gcm_16', keyBits: 256 } as const;
    const both = { encr: [{ name: 'aes_gcm_16_iiv', keyBits: 256 }, gcm], auth: [] } as const;
    const { a, b } = pair({
      a: { children: [{ local: LAN_A, peer: LAN_B, sas: [both] }] },
      b: { children: [{ local: LAN_B, peer: LAN_A, sas: [{ encr: [gcm], auth: [] }] }] },
    }).established();
    expect(a.status().ikeSas[0]?.children[0]?.suite).toBe('AES_GCM_16_256');
    expect(disagreements(a, b)).toEqual([]);
  });

  test('AEADs and ciphers with separate integrity go into proposals of their own, in the order of the policy (§2.7)', () => {
    const mixed = {
      encr: [
        { name: 'aes_cbc', keyBits: 128 },
        { name: 'aes_gcm_16', keyBits: 128 },
      ],
      auth: ['hmac_sha2_256'],
    } as const;
    const only = { encr: [{ name: 'aes_gcm_16', keyBits: 128 }], auth: [] } as const;
    const { a, b } = pair({
      a: { children: [{ local: LAN_A, peer: LAN_B, sas: [mixed] }] },
      b: { children: [{ local: LAN_B, peer: LAN_A, sas: [only] }] },
    }).established();
    expect(a.status().ikeSas[0]?.children[0]?.suite).toBe('AES_GCM_16_128');
    expect(disagreements(a, b)).toEqual([]);
  });

  test('ESN is used where both want it, and not where one does not (§3.3.2)', () => {
    const child = (local: string, peer: string, extendedSequence: boolean) => ({
      children: [{ local, peer, ipsec: [{ extendedSequence }] }],
    });
    const both = pair({ a: child(LAN_A, LAN_B, true), b: child(LAN_B, LAN_A, true) }).established();
    expect(both.a.status().ikeSas[0]?.children[0]?.extendedSequence).toBe(true);
    expect(disagreements(both.a, both.b)).toEqual([]);
    const one = pair({ a: child(LAN_A, LAN_B, true), b: child(LAN_B, LAN_A, false) }).established();
    expect(one.a.status().ikeSas[0]?.children[0]?.extendedSequence).toBe(false);
    expect(disagreements(one.a, one.b)).toEqual([]);
  });

  test('TFC padding is for what is sent only, and not for a peer that does not take it (RFC 7296 §1.3.1)', () => {
    const { a, b } = pair({
      a: { children: [{ local: LAN_A, peer: LAN_B, ipsec: [{ tfcPadding: 1200 }] }] },
      b: { children: [{ local: LAN_B, peer: LAN_A }] },
    }).established();
    const told = ({ datapath }: typeof a) =>
      [datapath.outbound, datapath.sas].map((sas) => [...sas.values()].map(({ message }) => message.tfcPadding));
    expect([told(a), told(b)]).toEqual([
      [[1200], [undefined]],
      [[undefined], [undefined]],
    ]);
    const ipsec = { ...IPSEC, tfcPadding: 1200 };
    expect(paddedAs([], ipsec)).toBe(ipsec);
    expect(paddedAs([notify('ESP_TFC_PADDING_NOT_SUPPORTED')], ipsec).tfcPadding).toBe(0);
  });

  test('no common ESP suite: NO_PROPOSAL_CHOSEN says what each end has, and the IKE SA stays', () => {
    const sas = [{ encr: [{ name: 'aes_gcm_16', keyBits: 256 }], auth: [] }] as const;
    const { a, b } = pair({ b: { children: [{ local: LAN_B, peer: LAN_A, sas }] } }).established();
    expect(b.named('child-sa-failed')[0]).toMatch(
      /the peer offered .*aes_gcm_16-128.*policy lan-policy accepts .*aes_gcm_16-256.*esp_enc_alg/,
    );
    expect(a.named('child-sa-failed')[0]).toMatch(/NO_PROPOSAL_CHOSEN.*we had sent .*aes_gcm_16-128/);
    expect([a.ikeSas(), a.children()]).toEqual([['established'], []]);
    expect(disagreements(a, b)).toEqual([]);
  });
});

describe('traffic selectors', () => {
  test('a request and its answer share a pair of SAs: each end offers what it sends (RFC 4877 §6.1)', () => {
    const MH = 135;
    const { a, b } = pair({
      a: { children: [{ local: '2001:db8::1', peer: '2001:db8::a', protocol: MH, localPort: 5 }] },
      b: { children: [{ local: '2001:db8::a', peer: '2001:db8::1', protocol: MH, localPort: 6 }] },
    }).established();
    expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
    expect(disagreements(a, b)).toEqual([]);
    expect(a.status().ikeSas[0]?.children[0]).toMatchObject({
      localSelectors: ['2001:db8::1 proto 135 type 5'],
      peerSelectors: ['2001:db8::a proto 135 type 6'],
    });
  });

  test('the responder narrows to its policy and both ends install the same (§2.9)', () => {
    const { a, b } = pair({
      a: { children: [{ local: '10.1.0.0/16', peer: '10.2.0.0/16' }] },
      b: { children: [{ local: '10.2.3.0/24', peer: '10.1.0.0/16', protocol: 6, localPort: 80 }] },
    }).established();
    expect(a.status().ikeSas[0]?.children[0]).toMatchObject({
      localSelectors: ['10.1.0.0-10.1.255.255 proto 6'],
      peerSelectors: ['10.2.3.0-10.2.3.255 proto 6 port 80'],
    });
    expect(disagreements(a, b)).toEqual([]);
  });

  test('only selectors whose policy names the remote are granted: another remote of ours has one that would fit', () => {
    const { a, b } = pair({ b: { children: [{ local: LAN_B, peer: LAN_A, policy: { remote: 'somebody-else' } }] } });
    expect(b.configurations.at(-1)).toMatchObject({
      state: 'rejected',
      reason: expect.stringContaining('there is no remote somebody-else'),
    });
    expect(a.configurations.at(-1)?.state).toBe('committed');
  });

  test('two policies: each packet gets the child of its own', () => {
    const children = (x: string, y: string) => [
      { name: 'one', local: `10.${x}.1.0/24`, peer: `10.${y}.1.0/24` },
      { name: 'two', local: `10.${x}.2.0/24`, peer: `10.${y}.2.0/24` },
    ];
    const { a, b, net } = pair({ a: { children: children('1', '2') }, b: { children: children('2', '1') } });
    a.acquire('two');
    a.acquire('one');
    net.run();
    expect(a.status().ikeSas.map(({ children: [...all] }) => all.map(({ selector }) => selector).sort())).toEqual([
      ['one', 'two'],
    ]);
    expect(a.ladder().filter((line) => line.startsWith('CREATE_CHILD_SA'))).toHaveLength(1);
    expect(disagreements(a, b)).toEqual([]);
  });

  test('IPv6 inside of IPv4', () => {
    const { a, b } = pair({
      a: { children: [{ local: '2001:db8:1::/48', peer: '2001:db8:2::/48' }] },
      b: { children: [{ local: '2001:db8:2::/48', peer: '2001:db8:1::/48' }] },
    }).established();
    expect(disagreements(a, b)).toEqual([]);
    expect(a.children()).toEqual(['installed']);
  });
});

describe("BEET mode, by strongSwan's private notify", () => {
  const beet = (local: string, peer: string) => ({ children: [{ local, peer, policy: { mode: 'beet' as const } }] });
  test('both want it: each names the vendor whose notify it is, and a rekey keeps it', () => {
    const { a, b, net } = pair({ a: beet('10.1.0.1', '10.2.0.2'), b: beet('10.2.0.2', '10.1.0.1') }).established();
    for (const message of [0, 1]) expect(a.ladder()[message]).toMatch(/IKE_SA_INIT.*, V[ ,]/);
    for (const message of [2, 3]) expect(a.ladder()[message]).toContain('N(USE_BEET_MODE)');
    a.command({ verb: 'rekey', name: 'lan', what: 'child' });
    net.run(10_000);
    expect(a.status().ikeSas[0]?.children.map(({ mode }) => mode)).toEqual(['beet']);
    expect(disagreements(a, b)).toEqual([]);
  });

  test('one does not: refused by either, whatever selector_check says', () => {
    const tunnel = { children: [{ local: '10.2.0.2', peer: '10.1.0.1' }], ikev2: { selectorCheck: 'obey' as const } };
    const granted = pair({ a: { ...beet('10.1.0.1', '10.2.0.2'), ikev2: tunnel.ikev2 }, b: tunnel }).established();
    expect(granted.a.named('child-sa-failed').concat(granted.a.named('message-refused')).join()).toMatch(
      /the peer grants tunnel mode where policy lan-policy says beet/,
    );
    expect(granted.a.children()).toEqual([]);
    const asked = pair({
      a: { children: [{ local: '10.2.0.2', peer: '10.1.0.1' }] },
      b: { ...beet('10.1.0.1', '10.2.0.2'), ikev2: tunnel.ikev2 },
    }).established();
    expect(asked.b.named('child-sa-failed')[0]).toMatch(/the peer wants tunnel mode; policy lan-policy says beet/);
    expect(asked.a.children()).toEqual([]);
  });
});

describe('transport mode (§1.3.1)', () => {
  const transport = (local: string, peer: string) => ({ children: [{ local, peer, policy: { mode: 'transport' as const } }] });
  test('both want it', () => {
    const { a, b } = pair({ a: transport('192.0.2.1', '192.0.2.2'), b: transport('192.0.2.2', '192.0.2.1') }).established();
    expect(a.ladder()[2]).toContain('N(USE_TRANSPORT_MODE)');
    expect(a.status().ikeSas[0]?.children[0]?.mode).toBe('transport');
    expect(disagreements(a, b)).toEqual([]);
  });

  test('the responder does not: refused with selector_check exact, followed with obey', () => {
    const tunnel = { children: [{ local: '192.0.2.2', peer: '192.0.2.1' }] };
    const exact = pair({ a: transport('192.0.2.1', '192.0.2.2'), b: tunnel }).established();
    expect(exact.b.named('child-sa-failed')[0]).toMatch(/the peer wants transport mode; policy lan-policy says tunnel/);
    expect(exact.a.children()).toEqual([]);
    const obey = pair({
      a: transport('192.0.2.1', '192.0.2.2'),
      b: { ...tunnel, ikev2: { selectorCheck: 'obey' } },
    }).established();
    expect(obey.b.status().ikeSas[0]?.children[0]?.mode).toBe('transport');
    expect(disagreements(obey.a, obey.b)).toEqual([]);
  });
});

describe('further children', () => {
  const children = (x: string, y: string) => [
    { name: 'one', local: `10.${x}.1.0/24`, peer: `10.${y}.1.0/24` },
    { name: 'two', local: `10.${x}.2.0/24`, peer: `10.${y}.2.0/24` },
  ];

  test('CREATE_CHILD_SA in the IKE SA that is there, also from the other side (§1.3.1)', () => {
    const { a, b, net } = pair({ a: { children: children('1', '2') }, b: { children: children('2', '1') } }).established();
    const id = b.initiate('two');
    net.run();
    expect(b.reply(id)).toMatchObject({ ok: true });
    expect(b.ladder().slice(-2)).toEqual([
      expect.stringMatching(
        /^<-- CREATE_CHILD_SA \{ SA\(.*\), Ni, TSi\(10\.2\.2\.0-10\.2\.2\.255\), TSr\(10\.1\.2\.0-10\.1\.2\.255\) \}$/,
      ),
      expect.stringMatching(/^CREATE_CHILD_SA \{ SA\(.*\), Nr, TSi\(.*\), TSr\(.*\) \} -->$/),
    ]);
    expect(disagreements(a, b)).toEqual([]);
    expect(a.children()).toEqual(['installed', 'installed']);
  });

  test('more than the responder allows: NO_ADDITIONAL_SAS, and the next goes into an IKE SA of its own (§1.3)', () => {
    const { a, b, net } = pair({
      a: { children: children('1', '2') },
      b: { children: children('2', '1'), limits: { childSasPerIkeSa: 1 } },
    }).established();
    a.initiate('two');
    net.run();
    expect(a.ladder().filter((line) => line.includes('NO_ADDITIONAL_SAS'))).toHaveLength(1);
    expect(a.ikeSas()).toEqual(['established', 'established']);
    expect(a.children()).toEqual(['installed', 'installed']);
    expect(disagreements(a, b)).toEqual([]);
  });

  test('with PFS a group that the responder does not want is corrected by INVALID_KE_PAYLOAD', () => {
    const { a, b, net } = pair({
      a: { children: children('1', '2'), ikev2: { needPfs: true, ke: ['x25519', 'ecp256'] } },
      b: { children: children('2', '1'), ikev2: { needPfs: true, ke: ['x25519', 'ecp256'] } },
    }).established();
    b.configure({ ...b.setting, ikev2: { needPfs: true, ke: ['x25519', 'ecp256'] } });
    a.initiate('two');
    net.run();
    expect(a.ladder().at(-1)).toContain('KE(x25519)');
    expect(disagreements(a, b)).toEqual([]);
  });

  test('need_pfs at the responder alone: refused, and the words say so', () => {
    const { a, b, net } = pair({
      a: { children: children('1', '2') },
      b: { children: children('2', '1'), ikev2: { needPfs: true } },
    }).established();
    const id = a.initiate('two');
    net.run();
    expect(b.named('message-refused').at(-1)).toMatch(/NO_PROPOSAL_CHOSEN.*need_pfs/);
    expect(a.reply(id)).toMatchObject({ ok: false });
    expect(disagreements(a, b)).toEqual([]);
  });

  test('the datapath refuses an SA: the peer is told by a DELETE, nothing is left over', () => {
    const { a, b, net } = pair();
    a.datapath.refuseNext = { type: 'ADD', errno: 12 };
    a.initiate();
    net.run(20_000);
    expect(a.named('child-sa-failed')[0]).toContain('the datapath refused the outbound SA: ENOMEM');
    expect(disagreements(a, b)).toEqual([]);
    expect(b.children()).toEqual([]);
  });

  test('the datapath gives no SPI: the demand fails with a reason, at both roles', () => {
    const { a, b, net } = pair();
    a.datapath.refuseNext = { type: 'GETSPI', errno: 12 };
    const id = a.initiate();
    net.run(20_000);
    expect(a.reply(id)).toMatchObject({ ok: false, error: expect.stringContaining('the datapath gave no SPI') });
    b.datapath.refuseNext = { type: 'GETSPI', errno: 12 };
    const second = a.initiate();
    net.run(20_000);
    expect(a.reply(second)).toMatchObject({ ok: false, error: expect.stringContaining('TEMPORARY_FAILURE') });
    expect(disagreements(a, b)).toEqual([]);
  });
});

describe('ACQUIRE', () => {
  test('the packet of a policy brings its child up; more ACQUIREs meanwhile begin nothing more', () => {
    const { a, b, net } = pair();
    a.acquire();
    net.run(5);
    a.acquire();
    a.acquire();
    net.run();
    expect(net.flights).toHaveLength(4);
    expect(a.children()).toEqual(['installed']);
    expect(a.datapath.refusedAcquires).toEqual([]);
    expect(disagreements(a, b)).toEqual([]);
  });

  test('a failure is told to the datapath, and further packets wait for a pause that grows', () => {
    const { a, net } = pair({ b: { psk: 'other' } });
    a.acquire();
    net.run(500);
    expect(a.datapath.refusedAcquires).toHaveLength(1);
    const before = net.flights.length;
    for (let i = 0; i < 100; i++) {
      a.acquire();
      net.run(100);
    }
    expect((net.flights.length - before) / 4).toBeLessThan(6);
  });

  test('a passive remote does not begin', () => {
    const { a, net } = pair({ a: { ikev2: { passive: true } } });
    a.acquire();
    net.run();
    expect(net.flights).toHaveLength(0);
    expect(a.named('acquire-refused')[0]).toContain('remote peer is passive');
    expect(a.datapath.refusedAcquires).toHaveLength(1);
  });
});
