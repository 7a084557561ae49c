import { describe, expect, test } from 'vitest';
import { EXCHANGE, readHeader } from '../../iked/ikev2/message.ts';
import { notify } from '../../iked/ikev2/notify.ts';
import type { Payload } from '../../iked/ikev2/payloads.ts';
import { hostAddress } from '../../src/pfkey/convert.ts';
import { sadb } from '../../src/pfkey/message.ts';
import { SADB_SATYPE } from '../../src/pfkey/registry.ts';
import { disagreements, type IkeNode, LAN_A, LAN_B, pair } from '../support/ike-pair.ts';
import { natted, OUTSIDE } from '../support/scenes.ts';

const whole = (a: IkeNode, b: IkeNode) => {
  expect([a.ikeSas(), b.ikeSas()]).toEqual([['established'], ['established']]);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  expect(disagreements(a, b)).toEqual([]);
};

/** A request that our own code would never send, over the IKE SA of `from`. */
const inject = (from: IkeNode, exchange: number, payloads: readonly Payload[]) => {
  const [sa] = from.v2Sas;
  sa!.current = { task: { kind: 'liveness' }, sent: { for: 'informational', task: { kind: 'liveness' } } };
  from.net.send(from, sa!.path, sa!.send(exchange, payloads));
};

const dpd = { ikev2: { dpdDelay: 2_000, maxRetries: 2 } };

describe('liveness (§2.4)', () => {
  test('an empty INFORMATIONAL after dpd_delay without anything authentic, and none while there is traffic of IKE', () => {
    const { a, b, net } = pair({ a: dpd }).established();
    const before = a.ladder().length;
    net.run(7_000);
    expect(a.ladder().slice(before)).toContain('INFORMATIONAL { } -->');
    whole(a, b);
  });

  test('ESP that comes in is a sign of life: one check of three is made while it flows, and every one once it stops', () => {
    const { a, b, net } = pair({ a: dpd }).established();
    const checks = (ms: number) => {
      const before = a.ladder().length;
      net.run(ms);
      return a
        .ladder()
        .slice(before)
        .filter((line) => line === 'INFORMATIONAL { } -->').length;
    };
    for (let at = 0; at < 70_000; at += 500) net.after(at, () => b.packet(a));
    net.run(10_000);
    expect(checks(60_000)).toBe(10);
    net.run(5_000);
    expect(checks(60_000)).toBeGreaterThan(25);
    whole(a, b);
  });

  test('what we send ourselves is no sign of life', () => {
    const { a, b, net } = pair({ a: dpd }).established();
    const before = a.ladder().length;
    for (let at = 0; at < 10_000; at += 500) net.after(at, () => a.packet(b));
    net.run(10_000);
    expect(a.ladder().slice(before)).toContain('INFORMATIONAL { } -->');
  });

  test('a silent peer: its SAs are given up; the next packet negotiates anew once it is back', () => {
    const { a, b, net } = pair({ a: dpd, b: dpd }).established();
    net.lose(() => true);
    net.run(20_000);
    expect(a.named('peer-silent')[0]).toContain('no answer from peer at 192.0.2.2[500]');
    expect([a.ikeSas(), a.children(), a.datapath.sas.size, a.datapath.outbound.size]).toEqual([[], [], 0, 0]);
    expect(a.status().failures[0]?.subject).toBe('peer');
    a.acquire();
    net.run(2_000);
    net.heal();
    net.run(20_000);
    whole(a, b);
    expect(a.status().failures).toEqual([]);
  });

  test('initiate start: tried again by itself, with pauses, until the peer is back', () => {
    const start = { ...dpd, children: [{ local: LAN_A, peer: LAN_B, policy: { initiate: 'start' as const } }] };
    const { a, b, net } = pair({ a: start, b: dpd });
    net.run(3_000);
    whole(a, b);
    net.lose(() => true);
    net.run(120_000);
    expect(a.named('retry-scheduled').length).toBeGreaterThan(3);
    net.heal();
    expect(net.until(() => a.children().includes('installed'), 20_000)).toBe(true);
    net.run(30_000);
    whole(a, b);
  });

  test('an unprotected INVALID_IKE_SPI changes nothing but the time of the next check (§2.21.4)', () => {
    const { a, b, net } = pair({ b: { ikev2: { passive: true } } }).established();
    net.run(20_000);
    b.restart();
    const id = a.command({ verb: 'rekey', name: 'lan', what: 'child' });
    net.run(1_000);
    expect(a.reply(id)).toMatchObject({ ok: true });
    expect(a.named('message-dropped').some((line) => line.includes('INVALID_IKE_SPI'))).toBe(true);
    expect([a.ikeSas(), a.children()]).toEqual([['established'], ['installed']]);
    net.run(120_000);
    expect(a.ikeSas()).toEqual([]);
  });
});

describe('restarts', () => {
  test('INITIAL_CONTACT is sent once, and the old SAs of the same peer go without a message', () => {
    const { a, b, net } = pair().established();
    a.datapath.restart();
    a.restart();
    net.run(100);
    a.initiate();
    net.run(20_000);
    expect(a.ladder().filter((line) => line.includes('N(INITIAL_CONTACT)'))).toHaveLength(2);
    expect(b.named('ike-sa-down')[0]).toContain('INITIAL_CONTACT');
    whole(a, b);
  });

  test('a new iked finds its old SAs by DUMP, negotiates anew, and deletes them once the new ones are in: no packet is lost', () => {
    const { a, b, net } = pair().established();
    for (let at = 0; at < 10_000; at += 10) {
      net.after(at, () => {
        a.packet(b);
        b.packet(a);
      });
    }
    net.after(1_000, () => a.restart());
    net.run(30_000);
    expect(a.named('sa-adopted')).toHaveLength(1);
    expect([a.lost, b.lost]).toEqual([0, 0]);
    whole(a, b);
  });

  test('a responder-only iked keeps its old SAs', () => {
    const { a, b, net } = pair({ b: { ikev2: { passive: true } } }).established();
    b.restart();
    net.run(10_000);
    expect(b.named('sa-adopted')).toHaveLength(1);
    expect(b.datapath.sas.size).toBe(1);
    b.packet(a);
    a.packet(b);
    net.run(100);
    expect([a.lost, b.lost]).toEqual([0, 0]);
  });

  test('the peer of a responder-only iked notices its restart though the old SAs carry traffic, and negotiates anew', () => {
    const start = { ...dpd, children: [{ local: LAN_A, peer: LAN_B, policy: { initiate: 'start' as const } }] };
    const { a, b, net } = pair({ a: start, b: { ikev2: { passive: true } } });
    net.run(3_000);
    for (let at = 0; at < 60_000; at += 500) {
      net.after(at, () => {
        a.packet(b);
        b.packet(a);
      });
    }
    b.restart();
    net.run(60_000);
    expect(a.named('peer-silent')).toHaveLength(1);
    expect([a.datapath.sas.size, b.datapath.sas.size]).toEqual([1, 1]);
    whole(a, b);
  });

  test('the datapath restarts empty: every child is negotiated anew at once, with new keys', () => {
    const { a, b, net } = pair().established();
    const keys = [...a.datapath.outbound.values()].map((sa) => sa.keys);
    a.put({ kind: 'pfkey-link', up: false });
    a.datapath.restart();
    net.run(500);
    a.put({ kind: 'pfkey-link', up: true });
    net.run(2_000);
    expect(a.datapath.outboundFor(1)).toBeDefined();
    expect(keys).not.toContain(a.datapath.outboundFor(1)!.keys);
    expect(a.named('datapath-restarted')).toHaveLength(1);
    net.run(20_000);
    whole(a, b);
  });

  test('the connection to the datapath breaks and comes back: nothing is lost', () => {
    const { a, b, net } = pair().established();
    const before = a.status().ikeSas[0]!.children[0]!.spiIn;
    a.put({ kind: 'pfkey-link', up: false });
    net.run(500);
    a.put({ kind: 'pfkey-link', up: true });
    net.run(5_000);
    expect(a.status().ikeSas[0]!.children[0]!.spiIn).toBe(before);
    whole(a, b);
  });
});

describe('NAT (§2.23, RFC 3948)', () => {
  test('the initiator is behind one: both move to port 4500, ESP is encapsulated, keepalives flow every 20 s', () => {
    const { a, b, net } = natted();
    a.initiate();
    net.run();
    expect([a.status().ikeSas[0]?.nat, b.status().ikeSas[0]?.nat]).toEqual(['here', 'there']);
    expect(a.status().ikeSas[0]).toMatchObject({ local: '10.0.0.1[4500]', peer: '192.0.2.2[4500]', encapsulated: true });
    expect(b.status().ikeSas[0]).toMatchObject({ local: '192.0.2.2[4500]', peer: '198.51.100.7[24500]', encapsulated: true });
    expect([...a.datapath.outbound.values()][0]?.encapsulation).toBe('4500>4500');
    expect([...b.datapath.outbound.values()][0]?.encapsulation).toBe('4500>24500');
    net.run(61_000);
    expect([a.keepalives, b.keepalives]).toEqual([3, 0]);
  });

  test('transport mode is for the addresses that each end sees, also when either end rekeys (§2.23.1)', () => {
    const policy = { mode: 'transport', mySaAddress: undefined, peersSaAddress: undefined } as const;
    const { a, b, net } = natted({
      a: { children: [{ name: 'host', local: '10.0.0.1', peer: '192.0.2.2', policy }] },
      b: { children: [{ name: 'host', local: '192.0.2.2', peer: '198.51.100.7', policy }] },
    });
    a.initiate('host');
    net.run();
    for (const by of [undefined, a, b]) {
      by?.command({ verb: 'rekey', name: 'host', what: 'child' });
      net.run(20_000);
      expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
      const [ofA, ofB] = [a, b].map((node) => node.status().ikeSas[0]!.children[0]);
      expect(ofA).toMatchObject({ mode: 'transport', localSelectors: ['10.0.0.1'], peerSelectors: ['192.0.2.2'] });
      expect(ofB).toMatchObject({ mode: 'transport', localSelectors: ['192.0.2.2'], peerSelectors: ['198.51.100.7'] });
    }
    expect([a, b].flatMap((node) => node.named('message-refused'))).toEqual([]);
  });

  test('the NAT forgets and gives another port: the peer is followed after its next authentic request', () => {
    const { a, b, net, ports } = natted();
    a.initiate();
    net.run();
    ports.base = 30_000;
    a.command({ verb: 'rekey', name: 'lan', what: 'child' });
    net.run(20_000);
    expect(b.status().ikeSas[0]?.peer).toBe('198.51.100.7[34500]');
    expect(b.named('peer-moved')).toHaveLength(1);
    expect([...b.datapath.outbound.values()].map((sa) => sa.encapsulation)).toEqual(['4500>34500']);
    expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  });

  test('the NAT gives another port and only ESP shows it: the peer is followed, and its SAs are rekeyed to where it is', () => {
    const { a, b, net, ports } = natted();
    a.initiate();
    net.run();
    ports.base = 30_000;
    const [sa] = [...b.datapath.sas.values()];
    b.pfkey(
      sadb('X_NAT_T_NEW_MAPPING', {
        satype: SADB_SATYPE.ESP,
        sa: sa!.message.sa!,
        source: hostAddress(OUTSIDE),
        nattSourcePort: 24_500,
        destination: hostAddress(OUTSIDE),
        nattDestinationPort: 34_500,
      }),
    );
    net.run(20_000);
    expect(b.status().ikeSas[0]?.peer).toBe('198.51.100.7[34500]');
    expect([...b.datapath.outbound.values()].map((one) => one.encapsulation)).toEqual(['4500>34500']);
    expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  });

  test('no NAT: port 500 and plain ESP; force_encapsulation brings UDP on both ends', () => {
    const plain = pair().established();
    expect([...plain.a.datapath.outbound.values()][0]?.encapsulation).toBe('');
    for (const side of ['a', 'b'] as const) {
      const { a, b } = pair({ [side]: { ikev2: { forceEncapsulation: true } } }).established();
      expect([[...a.datapath.outbound.values()][0]?.encapsulation, [...b.datapath.outbound.values()][0]?.encapsulation]).toEqual([
        '4500>4500',
        '4500>4500',
      ]);
      expect(a.status().ikeSas[0]?.local).toBe('192.0.2.1[4500]');
      expect(disagreements(a, b)).toEqual([]);
    }
  });
});

describe('configuration', () => {
  const children = (x: string, y: string) => [
    { name: 'one', local: `10.${x}.1.0/24`, peer: `10.${y}.1.0/24` },
    { name: 'two', local: `10.${x}.2.0/24`, peer: `10.${y}.2.0/24` },
  ];

  test('what did not change keeps its SAs; a changed child is deleted', () => {
    const { a, b, net } = pair({ a: { children: children('1', '2') }, b: { children: children('2', '1') } }).established();
    a.initiate('two');
    net.run();
    const before = a.status().ikeSas[0]!;
    a.configure({ ...a.setting, children: [children('1', '2')[0]!, { ...children('1', '2')[1]!, protocol: 6 }] });
    net.run(10_000);
    const after = a.status().ikeSas[0]!;
    expect(after.name).toBe(before.name);
    expect(after.children.map(({ spiIn }) => spiIn)).toEqual([before.children[0]!.spiIn]);
    expect(disagreements(a, b)).toEqual([]);
  });

  test('a changed remote loses its IKE SA with a DELETE; the same configuration again changes nothing', () => {
    const { a, b, net } = pair().established();
    const flights = net.flights.length;
    a.configure(a.setting);
    net.run();
    expect(net.flights.length).toBe(flights);
    a.configure({ ...a.setting, ikev2: { ke: ['ecp256', 'x25519'] } });
    net.run(10_000);
    expect([a.ikeSas(), b.ikeSas()]).toEqual([[], []]);
    expect(b.named('ike-sa-down')[0]).toContain('the peer deleted it');
    expect(disagreements(a, b)).toEqual([]);
  });

  test('a configuration without a key is rejected with its reason and changes nothing', () => {
    const { a, b, net } = pair().established();
    const { generation } = a.status();
    a.configure({ ...a.setting, psk: '' });
    expect(a.configurations.at(-1)).toMatchObject({ state: 'rejected', reason: expect.stringContaining('pre_shared_key') });
    net.run();
    expect(a.status().generation).toBe(generation);
    whole(a, b);
  });
});

describe('commands', () => {
  test('unknown names are answered with the known ones', () => {
    const { a } = pair();
    expect(a.reply(a.initiate('nix'))).toMatchObject({
      ok: false,
      error: expect.stringContaining('known: peer, lan, lan-policy'),
    });
    expect(a.reply(a.command({ verb: 'terminate', name: 'nix' }))).toMatchObject({ ok: false });
    expect(a.reply(a.command({ verb: 'rekey', name: 'lan', what: 'child' }))).toMatchObject({
      ok: false,
      error: expect.stringContaining('nothing of lan is up'),
    });
  });

  test('terminate: by selector the child goes, by remote the IKE SA; initiate start does not bring it back', () => {
    const { a, b, net } = pair({ a: { children: [{ local: LAN_A, peer: LAN_B, policy: { initiate: 'start' } }] } });
    net.run(3_000);
    a.command({ verb: 'terminate', name: 'lan' });
    net.run(30_000);
    expect([a.ikeSas(), a.children(), b.children()]).toEqual([['established'], [], []]);
    a.command({ verb: 'terminate', name: 'peer' });
    net.run(30_000);
    expect([a.ikeSas(), b.ikeSas()]).toEqual([[], []]);
    expect(disagreements(a, b)).toEqual([]);
    a.initiate();
    net.run();
    whole(a, b);
  });

  test('the peer deletes a child that is to be up: it comes back by itself', () => {
    const { a, b, net } = pair({ a: { children: [{ local: LAN_A, peer: LAN_B, policy: { initiate: 'start' } }] } });
    net.run(3_000);
    b.command({ verb: 'terminate', name: 'lan' });
    net.run(10_000);
    whole(a, b);
  });

  test('shutdown closes every IKE SA and replies when the peers know', () => {
    const { a, b, net } = pair().established();
    const id = a.command({ verb: 'shutdown' });
    net.run();
    expect(a.reply(id)).toMatchObject({ ok: true });
    expect([a.ikeSas(), b.ikeSas()]).toEqual([[], []]);
  });

  test('status in JSON holds no secret', () => {
    const { a } = pair().established();
    const text = JSON.stringify([a.status(), a.events]);
    const keys = [...a.datapath.outbound.values(), ...a.datapath.sas.values()].flatMap((sa) => sa.keys.trim().split(' '));
    for (const key of keys) expect(text).not.toContain(key);
    expect(text).not.toContain('a secret between the two');
  });
});

describe('keys and SPIs', () => {
  test('an IKE SA that ends with a request under way leaves no larval SA, and its keys are wiped', () => {
    const { a, b, net } = pair({ a: { ikev2: { maxRetries: 1, needPfs: true } }, b: { ikev2: { needPfs: true } } }).established();
    const [sa] = a.v2Sas;
    const { SK_d, SK_ei, SK_pi } = sa!.keys;
    const { encr } = sa!.children[0]!.agreed.inbound;
    net.lose(() => true);
    a.command({ verb: 'rekey', name: 'lan', what: 'child' });
    net.run(50);
    net.run(20_000);
    expect(a.ikeSas()).toEqual([]);
    expect(a.datapath.larval.size).toBe(0);
    for (const key of [SK_d, SK_ei, SK_pi, encr]) expect(key.reveal().every((octet) => octet === 0)).toBe(true);
    expect(b.ikeSas()).toEqual(['established']);
  });
});

test('the keys of a configuration that is replaced are wiped', () => {
  const { a, b, net } = pair().established();
  const { psk } = a.machine.peers.byName('peer')!;
  a.configure({ ...a.setting });
  expect(psk!.reveal().every((octet) => octet === 0)).toBe(true);
  expect(
    a.machine.peers
      .byName('peer')!
      .psk!.reveal()
      .some((octet) => octet !== 0),
  ).toBe(true);
  a.command({ verb: 'terminate', name: 'peer' });
  net.run(10_000);
  a.initiate();
  net.run(10_000);
  whole(a, b);
});

describe('what a peer may not do', () => {
  test('an unknown critical payload is refused and named, the IKE SA stays (§2.5)', () => {
    const { a, b, net } = pair().established();
    inject(a, EXCHANGE.INFORMATIONAL, [{ type: 'unknown', number: 77, critical: true, body: new Uint8Array(3) }]);
    net.run();
    expect(a.ladder().at(-1)).toContain('N(UNSUPPORTED_CRITICAL_PAYLOAD');
    whole(a, b);
  });

  test('so is one in front of the encrypted payload, in requests and in responses', () => {
    const outer = [{ type: 'unknown', number: 77, critical: true, body: new Uint8Array(3) }] as const;
    const { a, b, net } = pair().established();
    const [sa] = a.v2Sas;
    const seal = sa!.window;
    const task = { kind: 'liveness' } as const;
    sa!.current = { task, sent: { for: 'informational', task } };
    net.send(a, sa!.path, sa!.send(EXCHANGE.INFORMATIONAL, [], outer));
    net.run();
    expect(seal.open).toBe(true);
    expect(a.ladder().at(-1)).toContain('N(UNSUPPORTED_CRITICAL_PAYLOAD');
    whole(a, b);
  });

  test('a malformed request ends the IKE SA with INVALID_SYNTAX, at both ends (§2.21.3)', () => {
    const { a, b, net } = pair().established();
    inject(a, EXCHANGE.CREATE_CHILD_SA, [notify('INITIAL_CONTACT')]);
    net.run(20_000);
    expect(b.named('message-refused')[0]).toContain('INVALID_SYNTAX');
    expect([a.ikeSas(), a.datapath.sas.size, b.ikeSas(), b.datapath.sas.size]).toEqual([[], 0, [], 0]);
    expect(a.named('ike-sa-failed')[0]).toContain('INVALID_SYNTAX');
  });

  test('CREATE_CHILD_SA and INFORMATIONAL before IKE_AUTH lead nowhere (CVE-2014-2338, CVE-2019-12312)', () => {
    for (const exchange of [EXCHANGE.CREATE_CHILD_SA, EXCHANGE.INFORMATIONAL]) {
      const { a, b, net } = pair();
      net.lose(({ from, bytes }) => from === a && readHeader(bytes).exchange === EXCHANGE.IKE_AUTH);
      a.initiate();
      net.run(100);
      const [sa] = a.v2Sas;
      sa!.window.settle();
      sa!.window.startAt(1, 0);
      net.send(a, sa!.path, sa!.send(exchange, []));
      net.run(100);
      expect(b.v2Sas.some((one) => one.authenticated)).toBe(false);
      expect(b.datapath.everInstalled).toBe(0);
    }
  });

  test('SET_WINDOW_SIZE is noted, a stray response and a flipped bit are ignored', () => {
    const { a, b, net } = pair().established();
    inject(a, EXCHANGE.INFORMATIONAL, [notify('SET_WINDOW_SIZE', Uint8Array.of(0, 0, 0, 9))]);
    net.run();
    expect(b.v2Sas[0]!.window.peerSize).toBe(9);
    const last = net.flights.at(-1)!;
    const flipped = last.bytes.slice();
    flipped[flipped.length - 1]! ^= 1;
    a.put({
      kind: 'datagram',
      path: { local: last.path.remote, remote: last.path.local, encapsulated: false },
      bytes: last.bytes,
    });
    a.put({ kind: 'datagram', path: { local: last.path.remote, remote: last.path.local, encapsulated: false }, bytes: flipped });
    whole(a, b);
  });
});
