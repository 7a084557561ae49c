import { describe, expect, test } from 'vitest';
import { readHeader, writeMessage } from '../../iked/ikev2/message.ts';
import { notify } from '../../iked/ikev2/notify.ts';
import { disagreements, type IkeNode, pair } from '../support/ike-pair.ts';

const up = (a: IkeNode, b: IkeNode) => {
  expect([a.ikeSas(), b.ikeSas()]).toEqual([['established'], ['established']]);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  expect(disagreements(a, b)).toEqual([]);
};

const gone = (a: IkeNode, b: IkeNode) => {
  expect([a.ikeSas(), b.ikeSas()]).toEqual([[], []]);
  expect([a.datapath.larval.size, b.datapath.larval.size, a.datapath.sas.size, b.datapath.sas.size]).toEqual([0, 0, 0, 0]);
};

describe('IKE_SA_INIT', () => {
  test('a demanded cookie comes back, in front of the unchanged request, and the responder keeps nothing before it (§2.6)', () => {
    const { a, b, net } = pair({ b: { ikev2: { cookieRequired: true } } });
    a.initiate();
    net.until(() => net.flights.length === 2);
    expect(b.ikeSas()).toEqual([]);
    net.run();
    expect(a.ladder().slice(0, 3)).toEqual([
      expect.stringMatching(/^IKE_SA_INIT \{ SA/),
      '<-- IKE_SA_INIT { N(COOKIE) }',
      expect.stringMatching(/^IKE_SA_INIT \{ N\(COOKIE\), SA/),
    ]);
    up(a, b);
  });

  test('a cookie of more than 64 octets, or of none, is not echoed', () => {
    for (const size of [0, 65]) {
      const { a, b, net } = pair();
      a.initiate();
      const init = net.flights.at(-1)!;
      const cookie = [notify('COOKIE', new Uint8Array(size))];
      const forged = writeMessage({ ...readHeader(init.bytes), initiator: false, response: true, payloads: cookie });
      a.put({ kind: 'datagram', path: init.path, bytes: forged });
      expect(net.flights).toHaveLength(1);
      expect(a.named('notify-received')[0]).toMatch(/COOKIE carries .* expected 1 to 64/);
      net.run();
      up(a, b);
    }
  });

  test('INVALID_KE_PAYLOAD is answered with the group that is wanted, also after a cookie, which stays (§2.6.1)', () => {
    const { a, b, net } = pair({
      a: { ikev2: { ke: ['x25519', 'ecp256'] } },
      b: { ikev2: { ke: ['ecp256'], cookieRequired: true } },
    });
    a.initiate();
    net.run();
    expect(a.ladder().slice(0, 6)).toEqual([
      expect.stringContaining('KE(x25519)'),
      expect.stringContaining('N(COOKIE)'),
      expect.stringMatching(/N\(COOKIE\).*KE\(x25519\)/),
      expect.stringMatching(/N\(INVALID_KE_PAYLOAD.*ecp256/),
      expect.stringMatching(/N\(COOKIE\).*KE\(ecp256\)/),
      expect.stringContaining('KE(ecp256)'),
    ]);
    up(a, b);
  });

  test('a group that the policy does not list is not taken from an unauthenticated INVALID_KE_PAYLOAD', () => {
    const { a, b, net } = pair();
    a.initiate();
    const init = net.flights.at(-1)!;
    const header = readHeader(init.bytes);
    const forged = writeMessage({
      ...header,
      initiator: false,
      response: true,
      payloads: [notify('INVALID_KE_PAYLOAD', Uint8Array.of(0, 2))],
    });
    a.put({ kind: 'datagram', path: init.path, bytes: forged });
    net.run();
    up(a, b);
    expect(a.named('notify-received')[0]).toMatch(/INVALID_KE_PAYLOAD \(modp1024\).*we had sent X25519/);
    expect(a.status().ikeSas[0]?.suite).toContain('X25519');
  });

  test('NO_PROPOSAL_CHOSEN: both ends say what they had and what to change', () => {
    const { a, b, net } = pair({ b: { ikev2: { encr: [{ name: 'aes_cbc', keyBits: 256 }], integ: ['hmac_sha2_256'] } } });
    const id = a.initiate();
    net.run(20_000);
    expect(b.named('ike-sa-failed')[0]).toMatch(
      /peer 192\.0\.2\.1\[500\] offered aes_gcm_16-128 .*remote peer accepts aes_cbc-256.*kmp_enc_alg/,
    );
    expect(a.reply(id)).toMatchObject({
      ok: false,
      error: expect.stringMatching(/NO_PROPOSAL_CHOSEN.*we had sent aes_gcm_16-128.*Possible causes/),
    });
    expect(a.status().failures[0]).toMatchObject({
      subject: expect.any(String),
      why: expect.stringContaining('NO_PROPOSAL_CHOSEN'),
    });
    gone(a, b);
  });

  test('a peer that no remote names gets one refusal and leaves nothing', () => {
    const { a, b, net } = pair({ b: { peer: '192.0.2.77' } });
    a.initiate();
    net.run(20_000);
    expect(b.named('ike-sa-failed')[0]).toContain('no remote has 192.0.2.1 in peers_ipaddr');
    gone(a, b);
  });

  test('no answer at all: as many transmissions as the policy says, then one clear line', () => {
    const { a, b, net } = pair({ a: { ikev2: { maxRetries: 3 } } });
    net.lose(() => true);
    const id = a.initiate();
    net.run(60_000);
    expect(net.flights.length).toBe(4);
    expect(new Set(net.flights.map(({ bytes }) => bytes.join())).size).toBe(1);
    expect(a.reply(id)).toMatchObject({ ok: false, error: expect.stringContaining('no answer from peer at 192.0.2.2[500]') });
    gone(a, b);
  });

  test('under load every request must bring a cookie, and half-open IKE SAs are bounded', () => {
    const { a, b, net } = pair({ b: { limits: { halfOpenSas: 3, cookieThreshold: 2 } } });
    net.lose(({ from, bytes }) => from === a && readHeader(bytes).exchange === 35);
    const first = net.flights.length;
    for (let port = 1; port <= 40; port++) {
      a.initiate();
      net.run(50);
      const init = net.flights.slice(first).find(({ from }) => from === a)!;
      const bytes = init.bytes.slice();
      bytes[0] = port;
      b.put({
        kind: 'datagram',
        path: { local: init.path.remote, remote: { ...init.path.local, port: 1000 + port }, encapsulated: false },
        bytes,
      });
    }
    expect(b.status().ikeSas.length).toBeLessThanOrEqual(3);
    expect(b.status().counters['cookies-sent']).toBeGreaterThan(30);
    expect(b.datapath.everInstalled).toBe(0);
  });
});

describe('IKE_AUTH', () => {
  test('a wrong PSK: AUTHENTICATION_FAILED and no more on the wire; the responder says what to compare, and no SPI was asked for', () => {
    const { a, b, net } = pair({ b: { psk: 'another secret' } });
    const id = a.initiate();
    net.run();
    expect(a.ladder().at(-1)).toBe('<-- IKE_AUTH { N(AUTHENTICATION_FAILED) }');
    expect(b.named('ike-sa-failed')[0]).toMatch(
      /AUTH of fqdn a\.example was made with another pre-shared key than the one of remote peer/,
    );
    expect(a.reply(id)).toMatchObject({
      ok: false,
      error: expect.stringMatching(/AUTHENTICATION_FAILED.*we had sent IDi fqdn a\.example.*pre-shared keys differ/),
    });
    expect(b.datapath.everInstalled).toBe(0);
    gone(a, b);
  });

  test('the responder refuses an identity that peers_id does not list', () => {
    const { a, b, net } = pair({ b: { peersId: 'c.example' } });
    a.initiate();
    net.run();
    expect(b.named('ike-sa-failed')[0]).toMatch(/the peer says it is fqdn a\.example; remote peer expects fqdn c\.example/);
    gone(a, b);
  });

  test('the initiator refuses one too, and says so to the peer in an INFORMATIONAL (§2.21.2)', () => {
    const { a, b, net } = pair({ a: { peersId: 'c.example' } });
    const id = a.initiate();
    net.run();
    expect(a.ladder().slice(-2)).toEqual(['INFORMATIONAL { N(AUTHENTICATION_FAILED) } -->', '<-- INFORMATIONAL { }']);
    expect(a.reply(id)).toMatchObject({ ok: false, error: expect.stringContaining('the peer says it is fqdn b.example') });
    expect(b.named('ike-sa-down')[0]).toContain('AUTHENTICATION_FAILED');
    net.run(10_000);
    gone(a, b);
  });

  test('verify_id off takes any identity that knows the key', () => {
    const { a, b, net } = pair({ a: { ikev2: { verifyId: false } }, b: { peersId: 'x', ikev2: { verifyId: false } } });
    a.initiate();
    net.run();
    up(a, b);
  });

  test('send_peers_id: an IDr that is not ours is refused', () => {
    const { a, b, net } = pair({ a: { peersId: 'c.example', ikev2: { sendPeersId: true } } });
    a.initiate();
    net.run();
    expect(b.named('ike-sa-failed')[0]).toMatch(
      /the peer wants to speak to fqdn c\.example; my_id of remote peer is fqdn b\.example/,
    );
    gone(a, b);
  });

  test('a method that the policy does not list is refused', () => {
    const { a, b, net } = pair({ b: { ikev2: { authMethods: ['rsasig'] } } });
    a.initiate();
    net.run();
    expect(b.named('ike-sa-failed')[0]).toMatch(/fqdn a\.example authenticates by SHARED_KEY; remote peer accepts rsasig/);
    gone(a, b);
  });

  test('the first child fails, the IKE SA stays (§1.2, §2.21.2)', () => {
    const { a, b, net } = pair({ b: { children: [{ local: '10.9.0.0/24', peer: '10.8.0.0/24' }] } });
    const id = a.initiate();
    net.run();
    expect([a.ikeSas(), b.ikeSas()]).toEqual([['established'], ['established']]);
    expect(a.reply(id)).toMatchObject({ ok: false, error: expect.stringMatching(/TS_UNACCEPTABLE.*10\.1\.0\.0-10\.1\.0\.255/) });
    expect(b.named('child-sa-failed')[0]).toMatch(
      /the peer proposed 10\.1\.0\.0-10\.1\.0\.255 to 10\.2\.0\.0-10\.2\.0\.255; selector lan has/,
    );
    expect(disagreements(a, b)).toEqual([]);
  });
});

describe('a faulty network', () => {
  for (let lost = 0; lost < 4; lost++) {
    test(`datagram ${lost + 1} of the four is lost, and sent again with the same octets (§2.1)`, () => {
      const { a, b, net } = pair();
      net.lose(({ number }) => number === lost, 1);
      a.initiate();
      net.run(10_000);
      up(a, b);
      const octets = net.flights.map(({ from, bytes }) => `${from.name} ${bytes.join()}`);
      expect(new Set(octets).size).toBe(4);
    });
  }

  test('every datagram arrives three times: one SA, one child, identical responses', () => {
    const { a, b, net } = pair();
    net.fate = () => [10, 12, 300];
    a.initiate();
    net.run(10_000);
    up(a, b);
    expect(b.datapath.everInstalled).toBe(1);
  });

  for (let seed = 1; seed <= 4; seed++) {
    test(`both begin at once: the IKE SA with the lowest nonce goes, closed by whom began it, and nothing is left of it, seed ${seed}`, () => {
      const { a, b, net } = pair({ seed });
      a.initiate();
      b.initiate();
      net.run(20_000);
      up(a, b);
    });
  }

  test('both ask for the same further child at once: one of the two goes', () => {
    const { a, b, net } = pair().established();
    a.command({ verb: 'terminate', name: 'lan' });
    net.run(10_000);
    a.acquire();
    b.acquire();
    net.run(20_000);
    up(a, b);
  });

  test('a higher major version is answered once, an unknown SPI with INVALID_IKE_SPI, both at a bounded rate (§2.5, §2.21.4)', () => {
    const { a, b, net } = pair();
    a.initiate();
    net.run(5);
    const init = net.flights[0]!;
    const path = { local: init.path.remote, remote: init.path.local, encapsulated: false };
    const newer = init.bytes.slice();
    newer[17] = 0x30;
    b.put({ kind: 'datagram', path, bytes: newer });
    expect(b.named('message-refused').at(-1)).toContain('INVALID_MAJOR_VERSION');
    const stray = init.bytes.slice();
    stray[18] = 37;
    stray[8] = 1;
    const before = net.flights.length;
    for (let i = 0; i < 200; i++) b.put({ kind: 'datagram', path, bytes: stray });
    expect(net.flights.length - before).toBeLessThan(25);
    expect(b.named('message-refused').at(-1)).toContain('INVALID_IKE_SPI');
    net.run();
    up(a, b);
  });
});
