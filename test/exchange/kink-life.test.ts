/** Loss, rekey, delete, restarts, clocks and tickets (RFC 4430 §3.3 to §3.7, §9), as ladders of two kinkd on virtual time. */

import { describe, expect, test } from 'vitest';
import { readMessage, TYPE } from '../../kinkd/message.ts';
import { ERRNO } from '../../src/pfkey/registry.ts';
import { CBC, type KinkNode, kinkDisagreements, kinkPair } from '../support/kink-pair.ts';
import type { Flight } from '../support/virtual-net.ts';

const is = (type: keyof typeof TYPE) => (flight: Flight) => flight.bytes[0] === TYPE[type];
const ALWAYS = { kink: { responderNonce: 'always' as const } };

/** One packet each way now, and whether any was lost. */
function traffic(a: KinkNode, b: KinkNode, net: { run(ms: number): void }): number {
  const before = a.lost + b.lost;
  a.packet(b);
  b.packet(a);
  net.run(50);
  return a.lost + b.lost - before;
}

describe('each message lost, doubled or late (§9)', () => {
  test.each([
    ['CREATE', {}],
    ['REPLY', {}],
    ['CREATE', ALWAYS],
    ['REPLY', ALWAYS],
    ['ACK', ALWAYS],
  ] as const)('%s is lost twice (%o)', (type, b) => {
    const made = kinkPair({ b });
    made.net.lose(is(type), 2);
    made.a.initiate();
    made.net.run(20_000);
    expect(kinkDisagreements(made.a, made.b)).toEqual([]);
    expect([made.a.children(), made.b.children()]).toEqual([['installed'], ['installed']]);
    expect(traffic(made.a, made.b, made.net)).toBe(0);
  });

  test('a retransmission is built anew: the same ticket and XID, another authenticator (§9)', () => {
    const { a, b, net } = kinkPair();
    net.lose(is('CREATE'), 2);
    a.initiate();
    net.run(20_000);
    const sent = net.flights.filter(is('CREATE')).map(({ bytes }) => readMessage(bytes));
    expect(sent.length).toBe(3);
    expect(new Set(sent.map(({ XID }) => XID)).size).toBe(1);
    const apReqs = sent.map(({ payloads }) => payloads[0]!);
    expect(new Set(apReqs.map((payload) => JSON.stringify(payload))).size).toBe(3);
    expect(net.kdc.given).toBe(1);
    expect(a.named('retransmitted').length).toBe(2);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('a command that comes again gets the same answer for its newest authenticator, and makes nothing anew', () => {
    const { a, b, net } = kinkPair();
    net.lose(is('REPLY'), 1);
    a.initiate();
    net.run(5_000);
    expect(b.status().counters).toMatchObject({ 'commands-heard-again': 1 });
    expect(b.datapath.everInstalled).toBe(1);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('any of the authenticators may be answered: a late REPLY to the first is taken', () => {
    const { a, b, net } = kinkPair();
    let first = true;
    net.fate = (flight) => {
      if (is('REPLY')(flight) && first) {
        first = false;
        return [1_500];
      }
      return is('CREATE')(flight) && flight.number > 0 ? [] : [10];
    };
    a.initiate();
    net.run(5_000);
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect(a.children()).toEqual(['installed']);
  });

  test('every message doubled and in any order', () => {
    for (let seed = 1; seed <= 6; seed++) {
      const { a, b, net } = kinkPair({ seed, b: seed % 2 === 0 ? {} : ALWAYS });
      net.fate = ({ number }) => [10 + ((number * 7 + seed) % 5) * 300, 10 + ((number * 3 + seed) % 4) * 700];
      a.initiate();
      net.run(10_000);
      a.expire('soft');
      net.run(120_000);
      net.heal();
      net.run(60_000);
      expect(kinkDisagreements(a, b), `seed ${seed}`).toEqual([]);
      expect(traffic(a, b, net)).toBe(0);
    }
  });

  test('the peer does not answer at all: the failure says so, nothing stays, and a later attempt succeeds', () => {
    const { a, b, net } = kinkPair();
    net.lose(({ from }) => from === b);
    const id = a.initiate();
    net.run(120_000);
    expect(a.reply(id)).toMatchObject({ ok: false, error: expect.stringContaining('did not answer 6 times') });
    expect([a.datapath.sas.size, a.datapath.larval.size]).toEqual([0, 0]);
    net.heal();
    net.run(90_000);
    a.initiate();
    net.run(1_000);
    expect(traffic(a, b, net)).toBe(0);
  });

  test('ACK lost for good: packets through the SA stand for it (§9)', () => {
    const { a, b, net } = kinkPair({ b: ALWAYS });
    net.lose(is('ACK'));
    a.initiate();
    net.run(500);
    expect(b.datapath.outbound.size).toBe(0);
    a.packet(b);
    net.run(4_000);
    expect(b.datapath.outbound.size).toBe(1);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('no ACK and no packet: the responder gives up what it made', () => {
    const { a, b, net } = kinkPair({ b: ALWAYS });
    net.lose(is('ACK'));
    a.initiate();
    net.run(120_000);
    expect([b.datapath.sas.size, b.datapath.outbound.size]).toEqual([0, 0]);
    expect(b.named('child-sa-failed')[0]).toContain('no ACK came');
  });

  test('no ACK and no packet: the initiator, who has the SAs, is told by DELETE once it is heard', () => {
    const { a, b, net } = kinkPair({ b: ALWAYS });
    net.lose(is('ACK'));
    a.initiate();
    net.until(() => b.named('child-sa-failed').length > 0);
    expect(a.children()).toEqual(['installed']);
    net.run(60_000);
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect([a, b].map(({ datapath }) => datapath.sas.size)).toEqual([0, 0]);
    expect(a.named('child-sa-down')[0]).toContain('the peer deleted it');
  });

  test('the datapath refuses the outbound SA after the ACK: the initiator, who has both, is told by DELETE', () => {
    const { a, b, net } = kinkPair({ b: ALWAYS });
    b.datapath.refuseNext = { type: 'ADD', errno: ERRNO.ENOSYS };
    a.initiate();
    net.run(500);
    expect(b.children()).toEqual([]);
    net.run(60_000);
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect(a.children()).toEqual([]);
  });

  test('a CREATE that comes again when its SAs were given up is refused', () => {
    const { a, b, net } = kinkPair({ b: { kink: { ...ALWAYS.kink, maxRetries: 2 } } });
    const givenUp = () => b.named('child-sa-failed').length > 0;
    net.fate = ({ number }) => (number === 0 || givenUp() ? [10] : []);
    const id = a.initiate();
    net.run(120_000);
    expect(b.named('child-sa-failed')[0]).toContain('no ACK came');
    expect(a.reply(id)).toMatchObject({ ok: false, error: expect.stringContaining('KINK_INTERR') });
    expect([a, b].map(({ datapath }) => datapath.sas.size)).toEqual([0, 0]);
  });
});

describe('rekey (§3.6) and delete (§3.3)', () => {
  test.each([
    ['two-way', {}],
    ['three-way', ALWAYS],
  ] as const)('ten rekeys under traffic without a lost packet, by the original initiator (%s)', (_, b) => {
    const made = kinkPair({ b }).established();
    let lost = 0;
    for (let i = 0; i < 10; i++) {
      lost += traffic(made.a, made.b, made.net);
      made.a.expire('soft');
      made.b.expire('soft'); // not the responder's business
      for (let n = 0; n < 200; n++) lost += traffic(made.a, made.b, made.net);
    }
    expect(lost).toBe(0);
    expect(kinkDisagreements(made.a, made.b)).toEqual([]);
    expect(made.a.children()).toEqual(['installed']);
    expect(made.a.named('child-sa-rekeyed').length).toBe(10);
    expect(made.b.named('child-sa-rekeyed').length).toBe(10);
    expect(made.net.flights.filter(is('CREATE')).every(({ from }) => from === made.a)).toBe(true);
  });

  test('the old pair goes by DELETE: each side names what it receives on', () => {
    const { a, b, net } = kinkPair().established();
    a.packet(b);
    net.run(50);
    a.expire('soft');
    net.run(20_000);
    expect(a.ladder().slice(-4)).toEqual([
      expect.stringContaining('CREATE { AP_REQ'),
      expect.stringContaining('<-- REPLY { AP_REP'),
      'DELETE { AP_REQ, ENCRYPT{ ISAKMP{ D(ESP 00003000) } } } -->',
      '<-- REPLY { AP_REP, ENCRYPT{ ISAKMP{ D(ESP 00004000) } } }',
    ]);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('an SA that nobody uses is not rekeyed', () => {
    const { a, net } = kinkPair().established();
    a.expire('soft');
    net.run(10_000);
    expect(net.flights.filter(is('CREATE')).length).toBe(1);
  });

  test.each(['CREATE', 'REPLY', 'ACK', 'DELETE'] as const)('a rekey with each %s lost twice', (type) => {
    const { a, b, net } = kinkPair({ b: ALWAYS }).established();
    traffic(a, b, net);
    net.lose(is(type), 2);
    a.expire('soft');
    let lost = 0;
    for (let n = 0; n < 800; n++) lost += traffic(a, b, net);
    expect(lost).toBe(0);
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect(a.named('child-sa-rekeyed').length).toBe(1);
  });

  test('terminate: DELETE takes both directions on both sides, the inbound SAs last', () => {
    const { a, b, net } = kinkPair().established();
    const id = b.command({ verb: 'terminate', name: 'peer' });
    net.until(() => net.flights.filter(is('DELETE')).length === 1);
    expect([b.datapath.outbound.size, b.datapath.sas.size]).toEqual([0, 1]);
    net.run(1_000);
    expect([a.datapath.outbound.size, a.datapath.sas.size]).toEqual([0, 1]);
    net.run(10_000);
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect([a, b].map(({ datapath }) => datapath.sas.size)).toEqual([0, 0]);
    expect(b.reply(id)).toMatchObject({ ok: true, result: { childSas: 1 } });
    expect(a.named('child-sa-down')[0]).toContain('the peer deleted it');
  });

  test('a peer that does not answer a DELETE is told again once it is heard, and keeps no SA that is its own', () => {
    const { a, b, net } = kinkPair().established();
    net.lose(() => true);
    b.command({ verb: 'terminate', name: 'peer' });
    net.run(100_000);
    expect(b.named('child-sa-down')[0]).toContain('the peer was not told');
    expect([a, b].map(({ datapath }) => datapath.sas.size)).toEqual([1, 0]);
    net.heal();
    // The peer asks after us, or wants another pair: either shows that it is there.
    net.run(60_000);
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect([a, b].map(({ datapath }) => datapath.sas.size)).toEqual([0, 0]);
    expect(a.named('child-sa-down')[0]).toContain('the peer deleted it');
  });

  test('both delete at once', () => {
    const { a, b, net } = kinkPair().established();
    a.command({ verb: 'terminate', name: 'peer' });
    b.command({ verb: 'terminate', name: 'peer' });
    net.run(20_000);
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect([a, b].map(({ datapath }) => datapath.sas.size)).toEqual([0, 0]);
  });

  test('rekey and terminate by command; the responder leaves rekeying to the peer', () => {
    const { a, b, net } = kinkPair().established();
    const refused = b.command({ verb: 'rekey', name: 'lan', what: 'child' });
    expect(b.reply(refused)).toMatchObject({ ok: false, error: expect.stringContaining('the peer rekeys it') });
    const id = a.command({ verb: 'rekey', name: 'lan', what: 'child' });
    expect(a.reply(id)).toMatchObject({ ok: true, result: { childSas: 1 } });
    net.run(20_000);
    expect(a.named('child-sa-rekeyed').length).toBe(1);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('shutdown takes leave, and replies when the peer has answered', () => {
    const { a, b, net } = kinkPair().established();
    const id = a.command({ verb: 'shutdown' });
    net.run(1_000);
    expect(a.reply(id)).toMatchObject({ ok: true });
    net.run(10_000);
    expect(b.datapath.sas.size).toBe(0);
  });

  test('the end of a lifetime takes the pair on both sides', () => {
    const { a, b, net } = kinkPair().established();
    a.expire('hard');
    net.run(20_000);
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect([a.datapath.sas.size, b.datapath.sas.size]).toEqual([0, 0]);
  });
});

describe('a peer that restarts (§3.7)', () => {
  test('its next CREATE shows another epoch: what was is forgotten, what is new works', () => {
    const { a, b, net } = kinkPair().established();
    net.run(5_000);
    b.restart({ datapath: true });
    net.run(100);
    b.initiate();
    net.run(10_000);
    expect(a.named('peer-restarted')[0]).toContain('1 pairs of SAs are forgotten');
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect(a.children()).toEqual(['installed']);
    expect(traffic(a, b, net)).toBe(0);
  });

  test('a peer that is silent is asked by STATUS, whose answer shows the epoch', () => {
    const { a, b, net } = kinkPair().established();
    net.run(5_000);
    b.restart({ datapath: true });
    net.run(60_000);
    expect(a.ladder().slice(-2)).toEqual(['STATUS { AP_REQ } -->', '<-- REPLY { AP_REP }']);
    expect(a.named('peer-restarted').length).toBe(1);
    net.run(10_000);
    expect([a.datapath.sas.size, a.datapath.outbound.size]).toEqual([0, 0]);
  });

  test('a peer that restarted and may not begin is found out in spite of the traffic that its datapath keeps up', () => {
    const { a, b, net } = kinkPair({ b: { kink: { passive: true } } }).established();
    net.run(5_000);
    b.restart();
    for (let i = 0; i < 12; i++) {
      traffic(a, b, net);
      net.run(10_000);
    }
    expect(a.named('peer-restarted').length).toBe(1);
    a.initiate();
    net.run(10_000);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('while packets come in nobody is asked for a while; while they do not, STATUS is answered and ends nothing', () => {
    const { a, b, net } = kinkPair().established();
    const talk = (seconds: number) => {
      for (let i = 0; i < seconds / 10; i++) {
        traffic(a, b, net);
        net.run(10_000);
      }
      return net.flights.filter(is('STATUS')).length;
    };
    expect(talk(80)).toBe(0);
    expect(talk(120)).toBeLessThan(6);
    net.run(120_000);
    expect(net.flights.filter(is('STATUS')).length).toBeGreaterThan(1);
    net.lose(({ from }) => from === b);
    net.run(300_000);
    expect(a.named('peer-silent').length).toBeGreaterThan(0);
    expect(a.children()).toEqual(['installed']); // silence proves nothing (§3.7)
  });

  test('a daemon that restarts beside its datapath adopts its SAs until new ones carry the traffic', () => {
    const { a, b, net } = kinkPair().established();
    net.run(5_000);
    a.restart();
    net.run(20_000);
    expect(a.named('sa-adopted').length).toBe(1);
    expect(b.named('peer-restarted').length).toBe(1);
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect(traffic(a, b, net)).toBe(0);
  });

  test('a message from before the restart that comes late ends nothing', () => {
    const { a, b, net } = kinkPair().established();
    net.run(5_000);
    net.lose(is('DELETE'));
    b.command({ verb: 'terminate', name: 'peer' });
    net.run(500);
    const late = net.flights.filter(is('DELETE'))[0]!;
    b.restart({ datapath: true });
    net.run(100);
    b.initiate();
    net.run(2_000);
    expect(a.named('peer-restarted').length).toBe(1);
    a.hear(late.path, late.bytes);
    net.run(10_000);
    expect(a.named('peer-restarted').length).toBe(1);
    expect(a.named('message-dropped').at(-1)).toContain('from before the peer restarted');
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect(a.children()).toEqual(['installed']);
  });

  test('the datapath restarts: the pair is negotiated anew with new keys', () => {
    const { a, b, net } = kinkPair().established();
    const before = [...a.datapath.sas.values()][0]!.keys;
    net.run(5_000);
    a.put({ kind: 'pfkey-link', up: false });
    a.datapath.restart();
    a.put({ kind: 'pfkey-link', up: true });
    net.run(20_000);
    expect(a.named('datapath-restarted').length).toBe(1);
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect([...a.datapath.sas.values()][0]!.keys).not.toBe(before);
  });
});

describe('clocks and tickets', () => {
  test('clocks that differ by an hour: the protected KRB_AP_ERR_SKEW is believed once, and the peer gets its own time', () => {
    const { a, b, net } = kinkPair();
    b.wallOffsetMs = 3_600_000;
    net.run(1_000);
    // The ticket must be good by b's clock too.
    a.initiate();
    net.run(5_000);
    expect(a.ladder().slice(0, 2)).toEqual([expect.stringContaining('CREATE'), '<-- REPLY { AP_REP, ENCRYPT{ KRB_ERROR } }']);
    expect(a.named('clock-adjusted')[0]).toContain("the peer's clock is 3600 s ahead of ours");
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect(a.children()).toEqual(['installed']);
    const before = net.flights.length;
    a.command({ verb: 'rekey', name: 'lan', what: 'child' });
    net.run(20_000);
    expect(net.flights.length - before).toBeLessThanOrEqual(6); // without asking for the time again
  });

  test('a ticket that ended by the clock of the peer: a new transaction with a new one (§9)', () => {
    const { a, b, net } = kinkPair();
    net.kdc.lifeSeconds = 600;
    [a.wallOffsetMs, b.wallOffsetMs] = [-290_000, 290_000];
    a.initiate();
    net.run(1_000);
    net.run(615_000);
    const xids = () => new Set(net.flights.filter(is('CREATE')).map(({ bytes }) => readMessage(bytes).XID)).size;
    const [before, given] = [xids(), net.kdc.given];
    a.command({ verb: 'rekey', name: 'lan', what: 'child' });
    net.run(20_000);
    expect(b.named('message-refused').at(-1)).toContain('KRB_AP_ERR_TKT_EXPIRED');
    expect([xids() - before, net.kdc.given - given]).toEqual([2, 1]);
    expect(a.named('child-sa-rekeyed').length).toBe(1);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('a ticket that ends before the transaction could is not used', () => {
    const { a, b, net } = kinkPair();
    net.kdc.lifeSeconds = 600;
    a.initiate();
    net.run(1_000);
    net.run(570_000);
    a.command({ verb: 'rekey', name: 'lan', what: 'child' });
    net.run(20_000);
    const ticket = [...a.tickets.values()][0]!;
    expect(ticket.endtime * 1000 - net.now.wall).toBeGreaterThan(500_000);
    expect(b.named('message-refused')).toEqual([]);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('the KDC is away: SAs work, answers go out, and only who needs a ticket waits', () => {
    const { a, b, net } = kinkPair().established();
    net.kdc.delayMs = undefined;
    a.tickets.clear();
    b.tickets.clear();
    expect(traffic(a, b, net)).toBe(0);
    a.command({ verb: 'rekey', name: 'lan', what: 'child' });
    net.run(5_000);
    expect(traffic(a, b, net)).toBe(0);
    net.run(8_000);
    expect(a.named('ticket-failed')[0]).toContain('no KDC answered');
    expect(a.children()).toEqual(['installed']);
    net.kdc.delayMs = 5;
    net.run(30_000);
    expect(a.named('child-sa-rekeyed').length).toBe(1);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('without a KDC a first CREATE fails with its reason, and is tried again for what stands', () => {
    const start = {
      children: [
        { local: '192.0.2.1', peer: '192.0.2.2', policy: { mode: 'transport' as const, initiate: 'start' as const }, sas: CBC },
      ],
    };
    const { a, b, net } = kinkPair({ a: start, settled: false });
    net.kdc.delayMs = undefined;
    a.tickets.clear();
    a.restart({ datapath: true });
    b.restart({ datapath: true });
    net.run(12_000);
    expect(a.status().failures[0]).toMatchObject({ subject: 'lan', why: expect.stringContaining('no KDC answered') });
    net.kdc.delayMs = 5;
    net.run(40_000);
    expect(a.children()).toEqual(['installed']);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });
});

describe('configuration', () => {
  test('a selector that changed is torn down with DELETE, one that did not keeps its SAs', () => {
    const children = [
      {
        name: 'one',
        local: '192.0.2.1',
        peer: '192.0.2.2',
        protocol: 6,
        reqid: 1,
        policy: { mode: 'transport' as const },
        sas: CBC,
      },
      {
        name: 'two',
        local: '192.0.2.1',
        peer: '192.0.2.2',
        protocol: 17,
        reqid: 2,
        policy: { mode: 'transport' as const },
        sas: CBC,
      },
    ];
    const { a, b, net } = kinkPair({ a: { children } });
    a.initiate('one');
    a.initiate('two');
    net.run(1_000);
    expect(kinkDisagreements(a, b)).toEqual([]);
    const kept = a.datapath.outboundFor(1)!.spi;
    a.configure({ ...a.setting, children: [children[0]!, { ...children[1]!, peerPort: 53 }] });
    net.run(20_000);
    expect(a.datapath.outboundFor(1)!.spi).toBe(kept);
    expect(a.datapath.outboundFor(2)).toBeUndefined();
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('a keytab without our key, and a principal that is none, refuse the generation', () => {
    const { a } = kinkPair();
    a.configure({ ...a.setting, kink: { myPrincipal: 'kink/other.example.org@EXAMPLE.ORG' } });
    expect(a.configurations.at(-1)).toMatchObject({
      state: 'rejected',
      reason: expect.stringContaining('the keytab has no key for my_principal'),
    });
    a.configure({ ...a.setting, kink: { myPrincipal: 'kink/other.example.org' } });
    expect(a.configurations.at(-1)).toMatchObject({ state: 'rejected', reason: expect.stringContaining('has no realm') });
  });
});
