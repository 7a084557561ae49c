/** Phase 2 of IKEv1 on virtual time, in the notation of RFC 2409 §5.5. */

import { describe, expect, test } from 'vitest';
import { EXCHANGE } from '../../iked/ikev1/message.ts';
import type { IpsecConfig } from '../../src/config/config.ts';
import { disagreements, type Flight, type IkeNode, LAN_A, LAN_B, type PairOptions, pair } from '../support/ike-pair.ts';
import { traffic } from '../support/scenes.ts';

const V1 = { kmp: ['ikev1'] } as const;

function pairV1({ a = {}, b = {}, seed = 1 }: PairOptions = {}) {
  return pair({ a: { ...V1, ...a }, b: { ...V1, ...b }, seed });
}

const up = (a: IkeNode, b: IkeNode) => {
  expect([a.ikeSas(), b.ikeSas()]).toEqual([['established'], ['established']]);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  expect(disagreements(a, b)).toEqual([]);
};

const isQuick = ({ bytes }: Flight) => bytes[18] === EXCHANGE['Quick Mode'];
const rekeyChild = (node: IkeNode) => node.command({ verb: 'rekey', name: 'lan', what: 'child' });
/** One selector with an `ipsec` section of its own. */
const lan = (local: string, peer: string, ipsec: Partial<IpsecConfig>) => [{ local, peer, ipsec: [ipsec] }];

describe('Quick Mode', () => {
  test('with perfect forward secrecy has a KE payload each way, and other keys', () => {
    const ikev1 = { needPfs: true };
    const { a, b, net } = pairV1({ a: { ikev1 }, b: { ikev1 } });
    a.initiate();
    net.run();
    expect(a.ladder().slice(6, 8)).toEqual([
      'Quick Mode* { HASH, SA(00003000: esp AES_GCM_16_128/ECP256 tunnel), N, KE, ID(10.1.0.0-10.1.0.255), ID(10.2.0.0-10.2.0.255) } -->',
      '<-- Quick Mode* { HASH, SA(00004000: esp AES_GCM_16_128/ECP256 tunnel), N, KE, ID(10.1.0.0-10.1.0.255), ID(10.2.0.0-10.2.0.255) }',
    ]);
    up(a, b);
  });

  test.each([
    ['aes_gcm_16', 256, []],
    ['aes_cbc', 128, ['hmac_sha1']],
    ['aes_cbc', 256, ['hmac_sha2_512']],
    ['null_enc', 0, ['hmac_sha2_256']],
  ] as const)('agrees on %s with %i bits and %j', (name, keyBits, auth) => {
    const children = (local: string, peer: string) => [{ local, peer, sas: [{ encr: [{ name, keyBits }], auth }] }];
    const { a, b, net } = pairV1({ a: { children: children(LAN_A, LAN_B) }, b: { children: children(LAN_B, LAN_A) } });
    a.initiate();
    net.run();
    up(a, b);
    expect(traffic(a, b, net, 50)).toBe(0);
  });

  test('in transport mode is between the hosts', () => {
    const policy = { mode: 'transport', mySaAddress: undefined, peersSaAddress: undefined } as const;
    const { a, b, net } = pairV1({
      a: { children: [{ local: '192.0.2.1', peer: '192.0.2.2', policy }] },
      b: { children: [{ local: '192.0.2.2', peer: '192.0.2.1', policy }] },
    });
    a.initiate();
    net.run();
    expect(a.ladder().at(-3)).toMatch(/transport\), N, ID\(192\.0\.2\.1\), ID\(192\.0\.2\.2\) \} -->$/);
    up(a, b);
  });

  test('over IPv6, for a protocol and a port', () => {
    const { a, b, net } = pairV1({
      a: {
        address: '2001:db8::1',
        peer: '2001:db8::2',
        children: [{ local: '2001:db8:1::/64', peer: '2001:db8:2::/64', protocol: 6, peerPort: 80 }],
      },
      b: {
        address: '2001:db8::2',
        peer: '2001:db8::1',
        children: [{ local: '2001:db8:2::/64', peer: '2001:db8:1::/64', protocol: 6, localPort: 80 }],
      },
    });
    a.initiate();
    net.run();
    expect(a.ladder().at(-3)).toContain('ID(2001:db8:2::-2001:db8:2:0:ffff:ffff:ffff:ffff proto 6 port 80)');
    up(a, b);
  });

  test('each selector has its own, several at once in one ISAKMP SA', () => {
    const names = ['one', 'two', 'three', 'four'];
    const children = (local: number, peer: number) =>
      names.map((name, i) => ({ name, local: `10.${local}.${i}.0/24`, peer: `10.${peer}.${i}.0/24` }));
    const { a, b, net } = pairV1({ a: { children: children(1, 2) }, b: { children: children(2, 1) } });
    const id = a.initiate('peer');
    net.run();
    expect(a.reply(id)).toMatchObject({ ok: true });
    expect([a.ikeSas(), b.ikeSas()]).toEqual([['established'], ['established']]);
    expect(
      a
        .status()
        .ikeSas[0]!.children.map(({ selector }) => selector)
        .sort(),
    ).toEqual([...names].sort());
    expect(b.children()).toEqual(names.map(() => 'installed'));
    expect(disagreements(a, b)).toEqual([]);
  });

  test('what the peer may have is bound to the policies that name it', () => {
    const { a, b, net } = pairV1({ a: { children: [{ local: LAN_A, peer: '10.9.0.0/24' }] } });
    const id = a.initiate();
    net.run(20_000);
    expect(a.reply(id)).toMatchObject({
      ok: false,
      error: expect.stringContaining('INVALID-ID-INFORMATION: compare src and dst'),
    });
    expect(b.named('message-refused')[0]).toMatch(
      /the peer proposed 10\.1\.0\.0-10\.1\.0\.255 to 10\.9\.0\.0-10\.9\.0\.255; selector lan has 10\.1\.0\.0-10\.1\.0\.255 to 10\.2\.0\.0-10\.2\.0\.255: correct src and dst/,
    );
    expect([a.ikeSas(), b.ikeSas()]).toEqual([['established'], ['established']]);
    expect([a.datapath.larval.size, b.datapath.larval.size, b.datapath.sas.size]).toEqual([0, 0, 0]);
  });

  test('less than a policy allows is granted as it was asked for', () => {
    const { a, b, net } = pairV1({ a: { children: [{ local: '10.1.0.0/28', peer: '10.2.0.128/25' }] } });
    a.initiate();
    net.run();
    up(a, b);
    expect(b.status().ikeSas[0]!.children[0]).toMatchObject({
      localSelectors: ['10.2.0.128-10.2.0.255'],
      peerSelectors: ['10.1.0.0-10.1.0.15'],
    });
  });

  test('another algorithm: both ends say what was offered and what is accepted, and nothing is left behind', () => {
    const { a, b, net } = pairV1({
      b: { children: [{ local: LAN_B, peer: LAN_A, sas: [{ encr: [{ name: 'aes_cbc', keyBits: 256 }], auth: ['hmac_sha1'] }] }] },
    });
    const id = a.initiate();
    net.run(20_000);
    expect(a.reply(id)).toMatchObject({ ok: false, error: expect.stringContaining('NO-PROPOSAL-CHOSEN: compare esp_enc_alg') });
    expect(b.named('message-refused')[0]).toMatch(
      /the peer offered esp AES_GCM_16_128 tunnel; we accept esp AES_CBC_256\/HMAC_SHA1_96 tunnel/,
    );
    expect([a.datapath.larval.size, b.datapath.larval.size]).toEqual([0, 0]);
  });

  test('a refusal that is lost is said again when message 1 is', () => {
    const { a, b, net } = pairV1({ a: { children: [{ local: LAN_A, peer: '10.9.0.0/24' }] } });
    net.lose(({ from, bytes }) => from === b && bytes[18] === EXCHANGE.Informational, 1);
    const id = a.initiate();
    net.run(20_000);
    expect(a.reply(id)).toMatchObject({ ok: false, error: expect.stringContaining('INVALID-ID-INFORMATION') });
    expect(b.named('message-refused')).toHaveLength(1);
  });
});

describe('message 3 is lost', () => {
  test('the responder repeats message 2 until it comes, receives at once and sends as soon as it is there', () => {
    const { a, b, net } = pairV1();
    net.lose(({ from, bytes }) => from === a && bytes[18] === EXCHANGE['Quick Mode'] && bytes.length < 110, 2);
    a.initiate();
    net.run(500);
    expect([a.children(), b.children()]).toEqual([['installed'], ['installing']]);
    a.packet(b);
    net.run(100);
    expect([b.received, b.lost]).toEqual([1, 0]);
    expect(b.datapath.outbound.size).toBe(0);
    net.run(5_000);
    up(a, b);
    expect(b.events.filter(({ name }) => name === 'child-sa-up')).toHaveLength(1);
  });

  test('for ever: the responder takes its half back, and tells the initiator', () => {
    const { a, b, net } = pairV1();
    net.lose(({ from, bytes }) => from === a && bytes[18] === EXCHANGE['Quick Mode'] && bytes.length < 110);
    a.initiate();
    net.run(120_000);
    expect([a.children(), b.children()]).toEqual([[], []]);
    expect([a.datapath.sas.size, b.datapath.sas.size]).toEqual([0, 0]);
  });

  test('in a rekey: traffic goes on over the old pair until it comes', () => {
    const { a, b, net } = pairV1();
    a.initiate();
    net.run();
    net.lose(({ from, bytes }) => from === a && bytes[18] === EXCHANGE['Quick Mode'] && bytes.length < 110, 2);
    rekeyChild(a);
    expect(traffic(a, b, net, 4_000)).toBe(0);
    net.run(10_000);
    up(a, b);
  });
});

test('a responder may take ESP from message 3 on: the initiator of a rekey gives that a second of its own before its ESP follows', () => {
  const { a, b, net } = pairV1();
  a.initiate();
  net.run();
  const sending = () => a.datapath.outboundFor(1)!.spi;
  const old = sending();
  rekeyChild(a);
  net.run(900);
  expect([sending(), b.datapath.outboundFor(1)!.spi]).toEqual([old, Math.max(...a.datapath.sas.keys())]);
  net.run(200);
  expect(sending()).toBe(Math.max(...b.datapath.sas.keys()));
  expect(sending()).not.toBe(old);
  net.run(10_000);
  up(a, b);
});

describe('proposal_check', () => {
  const lifetime = (seconds: number) => ({ lifetimeTime: seconds * 1000 });
  const run = (check: 'obey' | 'strict' | 'claim' | 'exact', offered: number, own: number) => {
    const made = pairV1({
      a: { children: lan(LAN_A, LAN_B, lifetime(offered)) },
      b: { children: lan(LAN_B, LAN_A, lifetime(own)), ikev1: { proposalCheck: check } },
    });
    made.a.initiate();
    made.net.run(5_000);
    const left = (node: IkeNode) => {
      const ms = node.status().ikeSas[0]?.children[0]?.expiresInMs;
      return ms === undefined ? undefined : Math.ceil(ms / 1000 / 10) * 10;
    };
    return { ...made, left: [left(made.a), left(made.b)] };
  };

  test.each([
    ['obey', 3600, 1800, [3600, 3600]],
    ['strict', 3600, 1800, [undefined, undefined]],
    ['strict', 900, 1800, [900, 900]],
    ['claim', 3600, 1800, [1800, 1800]],
    ['claim', 900, 1800, [900, 900]],
    ['exact', 900, 1800, [undefined, undefined]],
    ['exact', 1800, 1800, [1800, 1800]],
  ] as const)('%s: %i s are offered to one who wants %i s', (check, offered, own, expected) => {
    expect(run(check, offered, own).left).toEqual(expected);
  });

  test('claim tells the initiator by RESPONDER-LIFETIME', () => {
    const { a } = run('claim', 3600, 1800);
    expect(a.ladder().find((line) => line.includes('RESPONDER-LIFETIME'))).toMatch(
      /^<-- Quick Mode\* \{ HASH, SA\(.*N\(RESPONDER-LIFETIME 00004000\) \}$/,
    );
  });

  test('strict without a group of its own takes the PFS that the peer wants', () => {
    const { a, b, net } = pairV1({ a: { ikev1: { needPfs: true } }, b: { ikev1: { proposalCheck: 'strict' } } });
    a.initiate();
    net.run();
    up(a, b);
    const other = pairV1({ a: { ikev1: { needPfs: true } }, b: { ikev1: { proposalCheck: 'exact' } } });
    const id = other.a.initiate();
    other.net.run(10_000);
    expect(other.a.reply(id)).toMatchObject({ ok: false });
    expect(other.b.named('message-refused')[0]).toContain('no PFS is wanted');
  });
});

describe('the datapath', () => {
  test('gives no SPI: the peer is refused, and the initiator told', () => {
    const { a, b, net } = pairV1();
    b.datapath.refuseNext = { type: 'GETSPI', errno: 12 };
    const id = a.initiate();
    net.run(10_000);
    expect(a.reply(id)).toMatchObject({ ok: false, error: expect.stringContaining('NO-PROPOSAL-CHOSEN') });
    expect(b.named('message-refused')[0]).toContain('the datapath gave no SPI');
    a.initiate();
    net.run(10_000);
    up(a, b);
  });

  test('refuses an SA of the initiator: whoever asked is told, and no half is left behind', () => {
    for (const type of ['UPDATE', 'ADD'] as const) {
      const { a, b, net } = pairV1();
      a.datapath.refuseNext = { type, errno: 12 };
      const id = a.initiate();
      net.run(60_000);
      expect(a.reply(id)).toMatchObject({ ok: false });
      expect(a.named('child-sa-failed')[0]).toContain('ENOMEM');
      expect([a.children(), b.children()]).toEqual([[], []]);
      expect([a.datapath.larval.size, a.datapath.sas.size, b.datapath.sas.size]).toEqual([0, 0, 0]);
    }
  });

  test('refuses the inbound SA of the responder: no half is left behind', () => {
    const { a, b, net } = pairV1();
    b.datapath.refuseNext = { type: 'UPDATE', errno: 12 };
    a.initiate();
    net.run(120_000);
    expect([a.children(), b.children()]).toEqual([[], []]);
    expect([a.datapath.larval.size, b.datapath.larval.size, a.datapath.sas.size, b.datapath.sas.size]).toEqual([0, 0, 0, 0]);
  });
});

test('every message of a rekey is lost, doubled or overtaken once, and no packet with it', () => {
  for (let n = 0; n < 3; n++) {
    for (const fate of [[], [10, 300], [400]]) {
      const { a, b, net } = pairV1();
      a.initiate();
      net.run();
      let seen = -1;
      net.fate = (flight) => {
        if (!isQuick(flight)) return [10];
        seen += 1;
        return seen === n ? fate : [10];
      };
      rekeyChild(a);
      expect([n, fate, traffic(a, b, net, 3_500)]).toEqual([n, fate, 0]);
      net.heal();
      net.run(20_000);
      up(a, b);
    }
  }
});
