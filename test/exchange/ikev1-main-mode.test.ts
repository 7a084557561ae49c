/** Phase 1 of IKEv1 on virtual time, in the notation of RFC 2409 §5.4. */

import { describe, expect, test } from 'vitest';
import { EXCHANGE, readMessage, writeMessage } from '../../iked/ikev1/message.ts';
import { utf8 } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import { settingsOf } from '../support/ike-config.ts';
import { disagreements, type Flight, type IkeNode, type PairOptions, pair } from '../support/ike-pair.ts';
import { natted } from '../support/scenes.ts';

const V1 = { kmp: ['ikev1'] } as const;

function pairV1({ a = {}, b = {}, seed = 1 }: PairOptions = {}) {
  return pair({ a: { ...V1, ...a }, b: { ...V1, ...b }, seed });
}

const up = (a: IkeNode, b: IkeNode) => {
  expect([a.ikeSas(), b.ikeSas()]).toEqual([['established'], ['established']]);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  expect(disagreements(a, b)).toEqual([]);
};

describe('Main Mode', () => {
  test('and Quick Mode bring up a child, in six messages and three', () => {
    const { a, b, net } = pairV1();
    const id = a.initiate();
    net.run();
    expect(a.ladder()).toEqual([
      'Main Mode { SA(AES_CBC_128/HMAC_SHA2_256/ECP256), V(RFC 3947), V(DPD) } -->',
      '<-- Main Mode { SA(AES_CBC_128/HMAC_SHA2_256/ECP256), V(RFC 3947), V(DPD) }',
      'Main Mode { KE, N, NAT-D, NAT-D } -->',
      '<-- Main Mode { KE, N, NAT-D, NAT-D }',
      'Main Mode* { ID(a.example), HASH, N(INITIAL-CONTACT) } -->',
      '<-- Main Mode* { ID(b.example), HASH, N(INITIAL-CONTACT) }',
      'Quick Mode* { HASH, SA(00003000: esp AES_GCM_16_128 tunnel), N, ID(10.1.0.0-10.1.0.255), ID(10.2.0.0-10.2.0.255) } -->',
      '<-- Quick Mode* { HASH, SA(00004000: esp AES_GCM_16_128 tunnel), N, ID(10.1.0.0-10.1.0.255), ID(10.2.0.0-10.2.0.255) }',
      'Quick Mode* { HASH } -->',
    ]);
    expect(b.ladder()).toEqual(a.ladder());
    expect(a.reply(id)).toMatchObject({ ok: true });
    expect(a.status().ikeSas[0]).toMatchObject({
      name: expect.stringMatching(/^v1:[0-9a-f]{8}\/[0-9a-f]{8}$/),
      remote: 'peer',
      role: 'initiator',
      suite: 'AES_CBC_128/HMAC_SHA2_256/ECP256',
      myId: 'fqdn a.example',
      peerId: 'fqdn b.example',
    });
    up(a, b);
    expect(net.flights).toHaveLength(9);
  });

  test.each([
    ['modp2048', 'hmac_sha1', 'aes_cbc', 256],
    ['modp3072', 'hmac_sha2_384', 'aes_cbc', 192],
    ['ecp521', 'hmac_sha2_512', 'aes_cbc', 256],
    ['modp1024', 'hmac_sha1', '3des_cbc', 192],
    ['ecp256', 'hmac_sha2_256', 'camellia_cbc', 256],
  ] as const)('with %s, %s and %s of %i bits', (group, hash, name, keyBits) => {
    const ikev1 = { groups: [group], hash: [hash], encr: [{ name, keyBits }] };
    const { a, b, net } = pairV1({ a: { ikev1 }, b: { ikev1 } });
    a.initiate();
    net.run();
    up(a, b);
  });

  for (let lost = 0; lost < 9; lost++) {
    test(`message ${lost + 1} is lost: somebody says his last again`, () => {
      const { a, b, net } = pairV1();
      net.lose(({ number }) => number === lost, 1);
      a.initiate();
      net.run(20_000);
      up(a, b);
    });

    test(`message ${lost + 1} comes twice, the second time late`, () => {
      const { a, b, net } = pairV1();
      net.fate = ({ number }) => (number === lost ? [10, 700] : [10]);
      a.initiate();
      net.run(20_000);
      up(a, b);
    });
  }

  test('a third of all messages is lost, and the rest is late and doubled', () => {
    for (let seed = 1; seed <= 12; seed++) {
      const { a, b, net } = pairV1({ seed });
      net.fate = ({ number }) =>
        (number * 7 + seed) % 3 === 0 ? [] : (number + seed) % 5 === 0 ? [10, 400] : [10 + ((number * 13) % 90)];
      a.initiate();
      net.run(60_000);
      net.heal();
      net.run(30_000);
      up(a, b);
    }
  });

  test('a responder says nothing again by itself, and never more than was said to it', () => {
    const { a, b, net } = pairV1();
    net.lose(({ from }) => from === b);
    a.initiate();
    net.run(30_000);
    const sent = (node: IkeNode) => net.flights.filter(({ from }) => from === node);
    expect(sent(a).length).toBeGreaterThan(2);
    expect(sent(b).length).toBe(sent(a).length);
    for (const [i, { bytes }] of sent(b).entries()) expect(bytes.length).toBeLessThanOrEqual(sent(a)[i]!.bytes.length);
  });

  test('message 2 names no ability that message 1 did not', () => {
    const { a, net } = pairV1({ a: { ikev1: { natTraversal: false, dpd: false } } });
    a.initiate();
    net.run();
    expect(a.ladder().slice(0, 4)).toEqual([
      'Main Mode { SA(AES_CBC_128/HMAC_SHA2_256/ECP256) } -->',
      '<-- Main Mode { SA(AES_CBC_128/HMAC_SHA2_256/ECP256) }',
      'Main Mode { KE, N } -->',
      '<-- Main Mode { KE, N }',
    ]);
  });

  test('both ends begin at once: one ISAKMP SA and one child stay', () => {
    for (let seed = 1; seed <= 6; seed++) {
      const { a, b, net } = pairV1({ seed });
      a.initiate();
      b.initiate();
      net.run(60_000);
      up(a, b);
    }
  });
});

describe('what cannot be agreed on', () => {
  test('no transform in common: both sides say what was offered and what is accepted', () => {
    const { a, b, net } = pairV1({ b: { ikev1: { encr: [{ name: 'aes_cbc', keyBits: 256 }] } } });
    const id = a.initiate();
    net.run(60_000);
    expect(a.reply(id)).toMatchObject({ ok: false, error: expect.stringContaining('NO-PROPOSAL-CHOSEN: compare kmp_enc_alg') });
    expect(b.named('ike-sa-failed')[0]).toMatch(
      /remote peer: the peer offered AES_CBC_128\/HMAC_SHA2_256\/ECP256; we accept AES_CBC_256\/HMAC_SHA2_256\/ECP256: make kmp_enc_alg/,
    );
    expect([a.ikeSas(), b.ikeSas()]).toEqual([[], []]);
  });

  test('another pre-shared key: both sides are told to compare the files', () => {
    const { a, b, net } = pairV1({ b: { psk: 'another' } });
    const id = a.initiate();
    net.run(120_000);
    expect(a.reply(id)).toMatchObject({ ok: false, error: expect.stringMatching(/are both pre-shared keys the same\?/) });
    expect(b.named('ike-sa-failed')[0]).toBe(
      "the peer's proof was made with another pre-shared key than the one of remote peer: compare the files of pre_shared_key on both sides",
    );
    expect([a.ikeSas(), b.ikeSas()]).toEqual([[], []]);
    expect(a.datapath.everInstalled + b.datapath.everInstalled).toBe(0);
  });

  test('the peer is another than peers_id says', () => {
    const { a, b, net } = pairV1({ a: { peersId: 'c.example' } });
    const id = a.initiate();
    net.run(10_000);
    expect(a.reply(id)).toMatchObject({
      ok: false,
      error: expect.stringMatching(/the peer says it is fqdn b\.example; remote peer expects fqdn c\.example/),
    });
    expect(a.ikeSas()).toEqual([]);
    const other = pairV1({ b: { peersId: 'c.example' } });
    other.a.initiate();
    other.net.run(120_000);
    expect(other.b.named('ike-sa-failed')[0]).toMatch(/the peer says it is fqdn a\.example; remote peer expects fqdn c\.example/);
    expect([other.a.ikeSas(), other.b.ikeSas()]).toEqual([[], []]);
    void b;
  });

  test('Aggressive Mode is refused with what to do', () => {
    const { a, b, net } = pairV1();
    a.initiate();
    const [first] = net.flights;
    const aggressive = first!.bytes.slice();
    aggressive[18] = EXCHANGE['Aggressive Mode'];
    b.put({
      kind: 'datagram',
      path: { local: first!.path.remote, remote: first!.path.local, encapsulated: false },
      bytes: aggressive,
    });
    expect(b.named('ike-sa-failed')).toEqual([
      '192.0.2.1[500] begins with Aggressive Mode, which is not spoken here: set it to main mode',
    ]);
    expect(b.ladder().at(-1)).toBe('<-- Informational { N(UNSUPPORTED-EXCHANGE-TYPE) }');
    expect(b.ikeSas()).toEqual([]);
  });

  test('the peer does not answer: the silence is explained', () => {
    const { a, b, net } = pairV1();
    net.lose(({ from }) => from === b);
    const id = a.initiate();
    net.run(120_000);
    expect(a.reply(id)).toMatchObject({
      ok: false,
      error: expect.stringMatching(
        /no answer from peer at 192\.0\.2\.2\[500\] to 6 transmissions of Main Mode's first message: is the peer up/,
      ),
    });
  });

  test('a refusal in the clear may be forged: the real answer still counts', () => {
    const { a, b, net } = pairV1();
    a.initiate();
    const { header } = readMessage(net.flights[0]!.bytes);
    const forged = writeMessage({
      ...header,
      exchange: EXCHANGE.Informational,
      messageId: 7,
      payloads: [{ type: 'Notify', doi: 1, protocol: 1, spi: new Uint8Array(0), notify: 14, data: new Uint8Array(0) }],
    });
    a.put({
      kind: 'datagram',
      path: { local: net.flights[0]!.path.local, remote: net.flights[0]!.path.remote, encapsulated: false },
      bytes: forged,
    });
    net.run();
    up(a, b);
  });
});

describe('several remotes at one address', () => {
  /** b serves anybody, by two remotes with keys of their own; the second is a. */
  const two = (keyOfA: string, idOfA: string) => {
    const made = pairV1({ a: { psk: 'a and b' } });
    const base = settingsOf({ ...made.b.setting, psk: 'a and b', peer: 'IP_ANY' });
    const [remote] = base.config.remotes;
    const stranger = {
      ...remote!,
      name: 'stranger',
      ikev1: { ...remote!.ikev1!, peersId: [{ type: 'fqdn', value: idOfA, file: false }] as const },
    };
    const config = { ...base.config, remotes: [stranger, ...base.config.remotes] };
    const psksV1 = new Map([...base.psksV1!, ['stranger', new Secret(utf8(keyOfA))]]);
    made.b.put({ kind: 'prepare', generation: 9, settings: { ...base, config, psksV1 } });
    made.b.put({ kind: 'commit', generation: 9 });
    return made;
  };

  test('the pre-shared key tells which of them the peer is', () => {
    const { a, b, net } = two('another key', 'a.example');
    a.initiate();
    net.run();
    expect(b.status().ikeSas.map(({ remote }) => remote)).toEqual(['peer']);
    up(a, b);
  });

  test('with the same key, its identity does', () => {
    const { a, b, net } = two('a and b', 'c.example');
    a.initiate();
    net.run();
    expect(b.status().ikeSas.map(({ remote }) => remote)).toEqual(['peer']);
    up(a, b);
  });
});

describe('acceptable_kmp', () => {
  test('the first listed begins, and any listed is answered', () => {
    const { a, b, net } = pair({ a: { kmp: ['ikev1', 'ikev2'] }, b: { kmp: ['ikev2', 'ikev1'] } });
    a.initiate();
    net.run();
    expect(a.status().ikeSas.map(({ name }) => name.slice(0, 3))).toEqual(['v1:']);
    up(a, b);
    const other = pair({ a: { kmp: ['ikev2', 'ikev1'] }, b: { kmp: ['ikev1', 'ikev2'] } });
    other.a.initiate();
    other.net.run();
    expect(other.a.status().ikeSas.map(({ name }) => name.slice(0, 3))).toEqual(['v2:']);
    up(other.a, other.b);
  });

  test('IKEv1 to a remote that does not list it is dropped, with one explanation however often it comes', () => {
    const { a, b, net } = pair({ a: { kmp: ['ikev1'] }, b: { kmp: ['ikev2'] } });
    a.initiate();
    net.run(60_000);
    expect(net.flights.every(({ from }) => from === a)).toBe(true);
    expect(net.flights.length).toBeGreaterThan(3);
    expect(b.named('message-refused')).toEqual([
      '192.0.2.1 speaks IKEv1 and is not answered: acceptable_kmp of remote peer does not list it: add ikev1 there, or set the peer to IKEv2',
    ]);
    expect(b.ikeSas()).toEqual([]);
  });
});

describe('NAT traversal (RFC 3947)', () => {
  test('both move to port 4500 with message 5, and ESP is encapsulated', () => {
    const { a, b, net } = natted({ a: V1, b: V1 });
    a.initiate();
    net.run();
    expect(a.ladder().some((line) => line.includes('UDP-encapsulated') || line.includes('UDP-encapsulated tunnel'))).toBe(true);
    expect([a.status().ikeSas[0]?.nat, b.status().ikeSas[0]?.nat]).toEqual(['here', 'there']);
    expect(a.status().ikeSas[0]).toMatchObject({ local: '10.0.0.1[4500]', peer: '192.0.2.2[4500]', encapsulated: true });
    expect(b.status().ikeSas[0]).toMatchObject({ local: '192.0.2.2[4500]', peer: '198.51.100.7[24500]', encapsulated: true });
    const ports = (flight: Flight) => flight.path.remote.port;
    expect(net.flights.filter(({ from }) => from === a).map(ports)).toEqual([500, 500, 4500, 4500, 4500]);
    expect([...a.datapath.outbound.values()][0]?.encapsulation).toBe('4500>4500');
    expect([...b.datapath.outbound.values()][0]?.encapsulation).toBe('4500>24500');
    net.run(61_000);
    expect([a.keepalives, b.keepalives]).toEqual([3, 0]);
    up(a, b);
  });

  test('the NAT forgets and gives another port: the peer is followed after its next authentic message', () => {
    const { a, b, net, ports } = natted({ a: V1, b: V1 });
    a.initiate();
    net.run();
    ports.base = 30_000;
    a.command({ verb: 'rekey', name: 'lan', what: 'child' });
    net.run(30_000);
    expect(b.status().ikeSas[0]?.peer).toBe('198.51.100.7[34500]');
    expect(b.named('peer-moved')).toHaveLength(1);
    expect([...b.datapath.outbound.values()].map((sa) => sa.encapsulation)).toEqual(['4500>34500']);
    up(a, b);
  });

  test.each([
    ['initiator', 3, ['there', 'forced']],
    ['responder', 2, ['none', 'none']],
  ] as const)("an octet of NAT-D changed on the way to the %s: the initiator's port decides for both", (_, number, found) => {
    const { a, b, net } = pairV1();
    const before = net.fate;
    net.fate = (flight) => {
      if (flight.number === number) flight.bytes[flight.bytes.length - 1]! ^= 1;
      return before(flight);
    };
    a.initiate();
    net.run();
    expect([a.status().ikeSas[0]?.nat, b.status().ikeSas[0]?.nat]).toEqual(found);
    b.command({ verb: 'rekey', name: 'lan', what: 'child' });
    net.run(30_000);
    up(a, b);
  });

  test.each(['a', 'b'] as const)(
    'an ISAKMP SA on port 4500 is rekeyed by %s, and no NAT is found any more: both go by the port',
    (by) => {
      const { a, b, net } = pairV1();
      net.fate = (flight) => {
        if (flight.number === 3) flight.bytes[flight.bytes.length - 1]! ^= 1;
        return [10];
      };
      a.initiate();
      net.run();
      (by === 'a' ? a : b).command({ verb: 'rekey', name: 'peer', what: 'ike' });
      net.run(30_000);
      expect([a.status().ikeSas[0]?.nat, b.status().ikeSas[0]?.nat]).toEqual(['forced', 'forced']);
      b.command({ verb: 'rekey', name: 'lan', what: 'child' });
      net.run(30_000);
      up(a, b);
    },
  );

  test('force_encapsulation on one side encapsulates on both', () => {
    const { a, b, net } = pairV1({ a: { ikev1: { forceEncapsulation: true } } });
    a.initiate();
    net.run();
    expect([a.status().ikeSas[0]?.nat, b.status().ikeSas[0]?.nat]).toEqual(['forced', 'there']);
    expect([...b.datapath.outbound.values()][0]?.encapsulation).toBe('4500>4500');
    up(a, b);
  });

  test('transport mode behind a NAT is for the addresses that each end sees (§5.2)', () => {
    const policy = { mode: 'transport', mySaAddress: undefined, peersSaAddress: undefined } as const;
    const { a, b, net } = natted({
      a: { ...V1, children: [{ local: '10.0.0.1', peer: '192.0.2.2', policy }] },
      b: { ...V1, children: [{ local: '192.0.2.2', peer: '198.51.100.7', policy }] },
    });
    a.initiate();
    net.run();
    expect(a.ladder().at(-3)).toMatch(
      /UDP-encapsulated transport\), N, ID\(10\.0\.0\.1\), ID\(192\.0\.2\.2\), NAT-OA, NAT-OA \} -->$/,
    );
    expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
    expect(b.status().ikeSas[0]!.children[0]).toMatchObject({ localSelectors: ['192.0.2.2'], peerSelectors: ['198.51.100.7'] });
  });
});

describe('INITIAL-CONTACT (RFC 2407 §4.6.3.3)', () => {
  test('a peer that begins anew takes its old SAs with it, and no packet is lost', () => {
    const { a, b, net } = pairV1();
    a.initiate();
    net.run();
    a.restart();
    net.run(100);
    a.initiate();
    net.run(30_000);
    expect(b.named('ike-sa-down')[0]).toMatch(/the peer begins anew \(INITIAL_CONTACT in v1:/);
    expect([a.ikeSas(), b.ikeSas()]).toEqual([['established'], ['established']]);
    expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
    expect(b.datapath.sas.size).toBe(1);
  });
});
