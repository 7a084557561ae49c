/** Replays, strangers, forgeries (RFC 4430 §4, §10): nothing has an effect before AP-REQ and Cksum were found right, and nothing has it twice. */

import { describe, expect, test } from 'vitest';
import type { EncryptionKey } from '../../kinkd/krb5/enctypes.ts';
import { encrypted, openEncrypt, readMessage, sealMessage, TYPE, writeMessage } from '../../kinkd/message.ts';
import { find, type Payload } from '../../kinkd/payloads.ts';
import { hex, u32be, utf8 } from '../../src/bytes/bytes.ts';
import { writeChain } from '../../src/isakmp/chain.ts';
import type { ChildSetting } from '../support/ike-config.ts';
import { principalText } from '../support/kink-config.ts';
import { CBC, KinkNode, kinkDisagreements, kinkPair } from '../support/kink-pair.ts';
import type { Flight } from '../support/virtual-net.ts';

const is = (type: keyof typeof TYPE) => (flight: Flight) => flight.bytes[0] === TYPE[type];
const GCM: NonNullable<ChildSetting['sas']> = [{ encr: [{ name: 'aes_gcm_16', keyBits: 128 }], auth: [] }];
const transport = (local: string, peer: string, sas = CBC, more: Partial<ChildSetting> = {}): ChildSetting => ({
  local,
  peer,
  policy: { mode: 'transport' },
  sas,
  ...more,
});

/** What a node has and did: nothing of it may change by a message that proves nothing. */
function fingerprint(node: KinkNode): string {
  const { peers, replayCache } = node.status();
  const { everInstalled, sas, outbound, larval } = node.datapath;
  return JSON.stringify([
    peers.map(({ epoch, outstanding, children }) => [epoch, outstanding, children.map(({ spiIn, state }) => [spiIn, state])]),
    replayCache.size,
    everInstalled,
    [...sas.keys()],
    [...outbound.keys()],
    larval.size,
    node.disk === undefined ? '' : hex(node.disk),
  ]);
}

describe('replays', () => {
  test('a CREATE that was heard before is dropped without a word', () => {
    const { a, b, net } = kinkPair().established();
    const create = net.flights.find(is('CREATE'))!;
    const [before, flights] = [fingerprint(b), net.flights.length];
    for (let i = 0; i < 5; i++) b.hear(create.path, create.bytes);
    net.run(5_000);
    expect(fingerprint(b)).toBe(before);
    expect(net.flights.length).toBe(flights);
    expect(b.named('message-dropped').at(-1)).toContain('KRB_AP_ERR_REPEAT');
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('also after a restart: what was accepted is on disk before it had an effect', () => {
    const { a, b, net } = kinkPair().established();
    void a;
    const create = net.flights.find(is('CREATE'))!;
    b.restart({ datapath: true });
    net.run(100);
    const flights = net.flights.length;
    b.hear(create.path, create.bytes);
    net.run(1_000);
    expect(b.datapath.sas.size).toBe(0);
    expect(net.flights.length).toBe(flights);
  });

  test('with the file lost, a replayed CREATE makes no key and counter again: a fresh Nr is in it, and no ACK comes', () => {
    const { a, b, net } = kinkPair({ b: { kink: { responderNonce: 'auto' } } }).established();
    void a;
    const create = net.flights.find(is('CREATE'))!;
    const sending = [...b.datapath.outbound.values()][0]!.keys;
    b.restart({ datapath: true, forget: true });
    net.run(100);
    b.hear(create.path, create.bytes);
    net.run(100);
    expect(b.ladder().at(-1)).toContain('REPLY, ACKREQ');
    expect(b.datapath.outbound.size).toBe(0);
    expect([...b.datapath.sas.values()].map(({ keys }) => keys)).not.toContain(sending);
    net.run(120_000);
    expect(b.datapath.sas.size).toBe(0);
  });

  test('a damaged file: an empty cache takes its place, and it is said', () => {
    const { a, b, net } = kinkPair().established();
    b.disk = utf8('this was a replay cache once');
    b.restart({ datapath: true });
    net.run(100);
    expect(b.named('replay-cache-lost')[0]).toContain('damaged');
    expect(b.status().replayCache.complete).toBe(false);
    b.initiate();
    net.run(10_000);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });

  test('a DELETE and an ACK are good once', () => {
    const { a, b, net } = kinkPair({ b: { kink: { responderNonce: 'always' } } }).established();
    a.command({ verb: 'terminate', name: 'peer' });
    net.run(20_000);
    const [del, ack] = [net.flights.find(is('DELETE'))!, net.flights.find(is('ACK'))!];
    a.initiate();
    net.run(1_000);
    const before = fingerprint(b);
    b.hear(del.path, del.bytes);
    b.hear(ack.path, ack.bytes);
    net.run(10_000);
    expect(fingerprint(b)).toBe(before);
    expect(kinkDisagreements(a, b)).toEqual([]);
  });
});

describe('who may ask for what (§10)', () => {
  function withStranger(others: NonNullable<Parameters<typeof kinkPair>[0]>['b'] = {}) {
    const made = kinkPair({ b: others });
    const c = new KinkNode(
      made.net,
      'c',
      { address: '192.0.2.3', peer: '192.0.2.2', name: 'c', peersName: 'b', children: [transport('192.0.2.3', '192.0.2.2')] },
      9,
    ).start();
    made.net.run(700_000);
    return { ...made, c };
  }

  test('a principal of the realm that no remote names gets a protected refusal, and nothing is kept of it', () => {
    const { b, c, net } = withStranger();
    const before = fingerprint(b);
    const id = c.initiate();
    net.run(1_000);
    expect(c.ladder()[1]).toBe('<-- REPLY { AP_REP, ENCRYPT{ ISAKMP{ N(PAYLOAD-MALFORMED) } } }');
    expect(c.reply(id)).toMatchObject({ ok: false });
    expect(b.named('message-refused')[0]).toContain(
      `${principalText('c')} (to ${principalText('b')}) is the peers_principal of no remote`,
    );
    expect(fingerprint(b)).toBe(before);
  });

  test("a known principal gets only the selectors of its own policies, not another's", () => {
    const others = [
      { name: 'c', address: '192.0.2.3', children: [transport('192.0.2.2', '192.0.2.3', CBC, { name: 'to-c', reqid: 7 })] },
    ];
    const { a, b, c, net } = withStranger({ others });
    c.configure({ ...c.setting, children: [transport('192.0.2.1', '192.0.2.2')] });
    const id = c.initiate();
    net.run(1_000);
    expect(c.reply(id)).toMatchObject({ ok: false });
    c.configure({ ...c.setting, children: [transport('192.0.2.3', '192.0.2.2')] });
    c.initiate();
    a.initiate();
    net.run(1_000);
    expect([a, b, c].map(({ datapath }) => datapath.outbound.size)).toEqual([1, 2, 1]);
  });

  test("a DELETE reaches the SAs of its own principal only: another's SPI is INVALID-SPI", () => {
    const others = [
      { name: 'c', address: '192.0.2.3', children: [transport('192.0.2.2', '192.0.2.3', CBC, { name: 'to-c', reqid: 7 })] },
    ];
    const { a, b, c, net } = withStranger({ others });
    a.initiate();
    net.run(1_000);
    c.initiate();
    net.run(1_000);
    // c names the SPI that a receives on beside its own.
    net.lose(() => true);
    c.command({ verb: 'terminate', name: 'peer' });
    net.run(100);
    const { path, bytes } = net.flights.find(is('DELETE'))!;
    const key = [...c.tickets.values()][0]!.key;
    const read = readMessage(bytes);
    const spis = [...a.datapath.sas.keys(), ...c.datapath.sas.keys()].map(u32be);
    const { first, octets } = writeChain([{ type: 'Delete', doi: 1, protocol: 3, spis }]);
    const inner = encrypted([{ type: 'ISAKMP', first, version: 0x10, chain: octets }], key, (length) => new Uint8Array(length));
    net.heal();
    b.hear(path, sealMessage({ ...read, payloads: [read.payloads[0]!, inner] }, key));
    net.run(100);
    expect(b.ladder().at(-1)).toMatch(/ISAKMP\{ D\(ESP \w+\), N\(INVALID-SPI\) \}/);
    expect([...b.datapath.outbound.keys()]).toEqual([...a.datapath.sas.keys()]);
    expect(a.children()).toEqual(['installed']);
  });

  test('a ticket for another name in the keytab is not for this remote', () => {
    const { a, b, net } = kinkPair();
    // b answers to two names, but only one of them is my_principal of the remote that a is.
    b.configure({ ...b.setting, kink: { myPrincipal: principalText('b') } });
    a.configure({ ...a.setting, kink: { peersPrincipal: principalText('other') } });
    const id = a.initiate();
    net.run(200_000);
    expect(a.reply(id)).toMatchObject({ ok: false, error: expect.stringContaining('KRB_AP_ERR_NOT_US') });
    expect(b.datapath.everInstalled).toBe(0);
    expect(a.named('notify-received')[0]).toContain('unprotected');
  });
});

describe('forgeries', () => {
  test('every octet of a CREATE flipped: no SA, no SPI, no state, and at most so many complaints', () => {
    const { a, b, net } = kinkPair({
      a: { children: [transport('192.0.2.1', '192.0.2.2', GCM)] },
      b: { children: [transport('192.0.2.2', '192.0.2.1', GCM)] },
    });
    net.lose(() => true);
    a.initiate();
    net.run(100);
    const { path, bytes } = net.flights.find(is('CREATE'))!;
    const [before, flights] = [fingerprint(b), net.flights.length];
    for (let at = 0; at < bytes.length; at++) {
      const bad = bytes.slice();
      bad[at]! ^= 0x10;
      // RESERVED bits of the header that Cksum covers are covered too; only what follows the message is not.
      b.hear(path, bad);
    }
    expect(fingerprint(b)).toBe(before);
    expect(net.flights.length - flights).toBeLessThanOrEqual(20);
    b.hear(path, bytes);
    net.run(100);
    expect(b.datapath.everInstalled).toBe(1);
  });

  test.each([
    ['without AP_REQ', (): readonly Payload[] => [{ type: 'ISAKMP', first: 1, version: 0x10, chain: new Uint8Array(8) }]],
    ['without Cksum', (real: readonly Payload[]): readonly Payload[] => real],
    [
      'with another AP-REQ',
      (real: readonly Payload[]): readonly Payload[] => [
        { type: 'AP_REQ', EPOCH: 1, apReq: utf8('no AP-REQ') },
        ...real.slice(1),
      ],
    ],
    ['with AP_REQ twice', (real: readonly Payload[]): readonly Payload[] => [real[0]!, ...real]],
  ])('CREATE %s is dropped silently', (_, change) => {
    const { a, b, net } = kinkPair();
    net.lose(() => true);
    a.initiate();
    net.run(100);
    const { path, bytes } = net.flights.find(is('CREATE'))!;
    const before = fingerprint(b);
    const read = readMessage(bytes);
    b.hear(path, writeMessage({ ...read, payloads: change(read.payloads) }));
    net.run(1_000);
    expect(fingerprint(b)).toBe(before);
    expect(net.flights.filter(({ from }) => from === b)).toEqual([]);
  });

  test('unprotected errors end nothing: the real answer is taken, and what they said is only told', () => {
    const { a, b, net } = kinkPair();
    net.fate = (flight) => (is('REPLY')(flight) ? [500] : [10]);
    a.initiate();
    net.until(() => net.flights.some(is('CREATE')));
    const { path, bytes } = net.flights.find(is('CREATE'))!;
    const { XID } = readMessage(bytes);
    const forged = (payloads: readonly Payload[], from = path) =>
      a.hear(
        { ...from, local: from.remote, remote: from.local },
        writeMessage({ messageType: TYPE.REPLY, DOI: 1, XID, ACKREQ: false, payloads }),
      );
    forged([{ type: 'ERROR', code: 5 }]);
    forged([{ type: 'KRB_ERROR', krbError: utf8('no KRB-ERROR') }]);
    forged([{ type: 'TGT_REP', ticket: utf8('a ticket') }]);
    forged([{ type: 'ERROR', code: 1 }], { ...path, remote: { address: path.local.address, port: 910 } });
    net.run(2_000);
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect(a.children()).toEqual(['installed']);
    expect(a.named('notify-received')[0]).toContain('an unprotected answer to our command says KINK_INTERR; we go on asking');
  });

  test('a REPLY with a wrong AP-REP, and one to nothing, are dropped', () => {
    const { a, b, net } = kinkPair();
    net.fate = (flight) => (is('REPLY')(flight) ? [500] : [10]);
    a.initiate();
    net.until(() => net.flights.some(is('REPLY')));
    const { path, bytes } = net.flights.find(is('REPLY'))!;
    for (let at = 4; at < bytes.length; at += 3) {
      const bad = bytes.slice();
      bad[at]! ^= 1;
      a.hear(path, bad);
    }
    expect(a.children()).toEqual([]);
    net.run(2_000);
    expect(kinkDisagreements(a, b)).toEqual([]);
    expect(a.children()).toEqual(['installed']);
    const before = fingerprint(a);
    a.hear(path, bytes);
    expect(fingerprint(a)).toBe(before);
  });

  test('GETTGT is denied, another version and DOI are told, and all that only so often (§4.2.8)', () => {
    const { a, b, net } = kinkPair();
    net.lose(() => true);
    a.initiate();
    net.run(100);
    const create = net.flights.find(is('CREATE'))!;
    const answers = () => net.flights.filter(({ from }) => from === b).map(({ bytes }) => readMessage(bytes).payloads);
    const getTgt = writeMessage({
      messageType: TYPE.GETTGT,
      DOI: 0,
      XID: 7,
      ACKREQ: false,
      payloads: [{ type: 'TGT_REQ', principal: principalText('b') }],
    });
    b.hear(create.path, getTgt);
    const version = create.bytes.slice();
    version[1] = 0x20;
    b.hear(create.path, version);
    const doi = create.bytes.slice();
    doi[7] = 9;
    b.hear(create.path, doi);
    expect(answers()).toEqual([[{ type: 'ERROR', code: 7 }], [{ type: 'ERROR', code: 3 }], [{ type: 'ERROR', code: 2 }]]);
    for (let i = 0; i < 1_000; i++) b.hear(create.path, version);
    expect(answers().length).toBeLessThanOrEqual(20);
    // An answer to an answer would go on for ever.
    net.run(2_000);
    const count = answers().length;
    const reply = version.slice();
    reply[0] = TYPE.REPLY;
    b.hear(create.path, reply);
    expect(answers().length).toBe(count);
  });

  test('payloads in the clear are refused unless the policy lets them in', () => {
    for (const clearPayloads of [false, true]) {
      const { a, b, net } = kinkPair({ b: { kink: { clearPayloads } } });
      net.lose(() => true);
      a.initiate();
      net.run(100);
      const { path, bytes } = net.flights.find(is('CREATE'))!;
      net.heal();
      const key = [...a.tickets.values()][0]!.key;
      const clear = inTheClear(bytes, key);
      b.hear(path, clear);
      net.run(100);
      expect(b.ladder()[1]).toContain(clearPayloads ? 'REPLY { AP_REP, ENCRYPT{ ISAKMP' : 'ERROR(KINK_PROTOERR)');
    }
  });
});

/** The same message with what KINK_ENCRYPT held in its place. */
function inTheClear(bytes: Uint8Array, key: EncryptionKey): Uint8Array {
  const read = readMessage(bytes);
  const inner = openEncrypt(find(read.payloads, 'ENCRYPT')!, key);
  return sealMessage({ ...read, payloads: [read.payloads[0]!, ...inner] }, key);
}
