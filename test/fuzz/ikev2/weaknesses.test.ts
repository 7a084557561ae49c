/** What broke other daemons in their states, against a live iked, one test a weakness. Each fails when its guard is taken away. */

import { describe, expect, test } from 'vitest';
import { EXCHANGE, find, readMessage } from '../../../iked/ikev2/message.ts';
import { notify, notifyName } from '../../../iked/ikev2/notify.ts';
import { ID_TYPE, type Payload } from '../../../iked/ikev2/payloads.ts';
import { u16be, u32be } from '../../../src/bytes/bytes.ts';
import { CURVE, modpPrime, toOctets } from '../../../src/crypto/groups.ts';
import { KE, type KeName } from '../../../src/crypto/transforms.ts';
import { type IkeNode, pair } from '../../support/ike-pair.ts';
import { childPayloads, espProposal, IKE_PROPOSAL, Stranger, selectors } from './stranger.ts';

let seed = 0;

/** A node that listens, and a stranger in front of it. */
function meeting(ke: readonly KeName[] = ['x25519'], negotiationLimit = 600_000) {
  const ikev2 = { ke, negotiationLimit };
  const { b: node, net } = pair({ a: { ikev2 }, b: { ikev2 } });
  return { node, net, stranger: new Stranger(node, ++seed) };
}

/** After IKE_SA_INIT; nobody has proved anything. */
function opened() {
  const met = meeting();
  expect(met.stranger.open()).toBe(true);
  return met;
}

/** After IKE_AUTH with the right key: one child. */
function authenticated() {
  const met = opened();
  met.stranger.exchange(EXCHANGE.IKE_AUTH, met.stranger.authPayloads());
  expect(met.node.children()).toEqual(['installed']);
  return met;
}

/** Nothing came of it: no SA, no SPI, no fault. */
function expectNothing(node: IkeNode, stranger: Stranger): void {
  expect(stranger.faults).toEqual([]);
  expect(stranger.asked).toEqual([]);
  expect(node.ikeSas()).not.toContain('established');
  expect(node.datapath.everInstalled).toBe(0);
}

/** Names of the notifications in an answer that is not sealed. */
function told(responses: readonly Uint8Array[]): string[] {
  return responses.flatMap((bytes) =>
    readMessage(bytes).payloads.flatMap((payload) => (payload.type === 'Notify' ? [notifyName(payload.notify)] : [])),
  );
}

describe('CVE-2014-9221: a KE payload of a group that was not offered, or that does not exist', () => {
  test.each([0, 1, 14, 1024, 65535])('group %i', (group) => {
    const { node, stranger } = meeting();
    const ke: Payload = { type: 'KE', group, data: new Uint8Array(32).fill(9) };
    const answers = stranger.send(stranger.init([IKE_PROPOSAL, ke, { type: 'Nonce', data: stranger.Ni }]));
    expect(told(answers)).toEqual(['INVALID_KE_PAYLOAD']);
    expectNothing(node, stranger);
    expect(node.ikeSas()).toEqual([]);
  });
});

describe('CVE-2014-2338 and CVE-2019-12312: any exchange before authentication', () => {
  const rekey: Payload[] = [
    {
      type: 'SA',
      proposals: [
        {
          number: 1,
          protocol: 'ike',
          spi: new Uint8Array(8).fill(3),
          transforms: IKE_PROPOSAL.type === 'SA' ? IKE_PROPOSAL.proposals[0]!.transforms : [],
        },
      ],
    },
    { type: 'Nonce', data: new Uint8Array(32) },
    { type: 'KE', group: 31, data: new Uint8Array(32).fill(9) },
  ];
  const child: Payload[] = [espProposal(0x5151_0002), { type: 'Nonce', data: new Uint8Array(32) }, ...childPayloads(0).slice(1)];
  test.each([
    ['a rekey of the IKE SA', EXCHANGE.CREATE_CHILD_SA, rekey],
    ['a new child', EXCHANGE.CREATE_CHILD_SA, child],
    ['an empty INFORMATIONAL', EXCHANGE.INFORMATIONAL, []],
    ['a DELETE', EXCHANGE.INFORMATIONAL, [{ type: 'Delete', protocol: 1, spis: [] }]],
    ['a DELETE of children', EXCHANGE.INFORMATIONAL, [{ type: 'Delete', protocol: 3, spis: [u32be(1)] }]],
    ['INITIAL_CONTACT alone', EXCHANGE.INFORMATIONAL, [notify('INITIAL_CONTACT')]],
    ['IKE_SESSION_RESUME', 38, []],
    ['an exchange of IKEv1', 2, []],
  ] as [string, number, Payload[]][])('%s', (_name, exchange, payloads) => {
    const { node, net, stranger } = opened();
    stranger.send(stranger.request(exchange, payloads));
    net.run(1_000);
    expectNothing(node, stranger);
  });

  test('IKE_AUTH that is right but for the key: nothing of it is believed', () => {
    const { node, stranger } = opened();
    const answer = stranger.exchange(EXCHANGE.IKE_AUTH, [notify('INITIAL_CONTACT'), ...stranger.authPayloads('another')]);
    expect(answer?.payloads.map((payload) => (payload.type === 'Notify' ? notifyName(payload.notify) : payload.type))).toEqual([
      'AUTHENTICATION_FAILED',
    ]);
    expectNothing(node, stranger);
    expect(node.ikeSas()).toEqual([]);
  });
});

describe('CVE-2023-41913: a DH value of another length than the group has', () => {
  test.each([0, 1, 31, 33, 60_000])('%i octets', (length) => {
    const { node, stranger } = meeting();
    const ke: Payload = { type: 'KE', group: 31, data: new Uint8Array(length).fill(9) };
    const answers = stranger.send(stranger.init([IKE_PROPOSAL, ke, { type: 'Nonce', data: stranger.Ni }]));
    expect(told(answers).every((name) => name === 'INVALID_SYNTAX')).toBe(true);
    expectNothing(node, stranger);
    expect(node.ikeSas()).toEqual([]);
  });
});

describe('CVE-2015-3240: degenerate public values (RFC 6989, RFC 7748 §6)', () => {
  const p = modpPrime('modp2048');
  const modp = (value: bigint) => toOctets(value, KE.modp2048.publicBytes);
  const { p: field, b } = CURVE.ecp256;
  const point = (x: bigint, y: bigint) => Uint8Array.from([...toOctets(x, 32), ...toOctets(y, 32)]);
  test.each([
    ['modp2048: 0', 'modp2048', modp(0n)],
    ['modp2048: 1', 'modp2048', modp(1n)],
    ['modp2048: p - 1', 'modp2048', modp(p - 1n)],
    ['modp2048: p', 'modp2048', modp(p)],
    ['ecp256: the point at infinity as zeros', 'ecp256', point(0n, 0n)],
    ['ecp256: off the curve', 'ecp256', point(5n, b)],
    ['ecp256: a coordinate of p', 'ecp256', point(field, 1n)],
    ['x25519: 0, of low order', 'x25519', new Uint8Array(32)],
    ['x25519: 1, of low order', 'x25519', Uint8Array.from({ length: 32 }, (_, i) => (i === 0 ? 1 : 0))],
  ] as [string, KeName, Uint8Array][])('%s', (_name, group, data) => {
    const { node, stranger } = meeting([group]);
    const SA: Payload = {
      type: 'SA',
      proposals: [
        {
          number: 1,
          protocol: 'ike',
          spi: new Uint8Array(0),
          transforms: [
            { type: 'ENCR', id: 20, keyBits: 128 },
            { type: 'PRF', id: 5 },
            { type: 'KE', id: KE[group].ikev2 },
          ],
        },
      ],
    };
    const answers = stranger.send(
      stranger.init([SA, { type: 'KE', group: KE[group].ikev2, data }, { type: 'Nonce', data: stranger.Ni }]),
    );
    expect(told(answers)).toEqual(['INVALID_SYNTAX']);
    expectNothing(node, stranger);
    expect(node.ikeSas()).toEqual([]);
  });
});

describe('CVE-2013-4564: shorter than a header, or of another version', () => {
  test('0 to 27 octets of a header, and every header without its payloads', () => {
    const { node, stranger } = meeting();
    const whole = stranger.init();
    for (let length = 0; length < whole.length; length++) expect(stranger.send(whole.slice(0, length))).toEqual([]);
    expectNothing(node, stranger);
    expect(node.ikeSas()).toEqual([]);
  });

  test.each([0, 1, 3, 15])('major version %i', (major) => {
    const { node, stranger } = meeting();
    const bytes = stranger.init();
    bytes[17] = major << 4;
    expect(told(stranger.send(bytes)).every((name) => name === 'INVALID_MAJOR_VERSION')).toBe(true);
    expectNothing(node, stranger);
    expect(node.ikeSas()).toEqual([]);
  });
});

describe('CVE-2013-6467: each payload of each message left out in turn', () => {
  test.each([0, 1, 2])('IKE_SA_INIT without payload %i', (left) => {
    const { node, stranger } = meeting();
    stranger.send(stranger.init(stranger.initPayloads().filter((_, i) => i !== left)));
    expectNothing(node, stranger);
    expect(node.ikeSas()).toEqual([]);
  });

  test.each([0, 1, 2, 3, 4])('IKE_AUTH without payload %i', (left) => {
    const { node, stranger } = opened();
    stranger.send(
      stranger.request(
        EXCHANGE.IKE_AUTH,
        stranger.authPayloads().filter((_, i) => i !== left),
      ),
    );
    expectNothing(node, stranger);
  });

  test.each([0, 1, 2, 3])('CREATE_CHILD_SA without payload %i', (left) => {
    const { node, stranger } = authenticated();
    const before = node.datapath.everInstalled;
    const payloads: Payload[] = [
      espProposal(0x5151_0002),
      { type: 'Nonce', data: new Uint8Array(32) },
      ...childPayloads(0).slice(1),
    ];
    stranger.send(
      stranger.request(
        EXCHANGE.CREATE_CHILD_SA,
        payloads.filter((_, i) => i !== left),
      ),
    );
    expect(stranger.faults).toEqual([]);
    expect(node.datapath.larval.size).toBe(0);
    expect(node.datapath.everInstalled).toBe(before);
  });
});

describe('CVE-2016-5391: each transform of a proposal left out in turn', () => {
  test.each([0, 1, 2])('without transform %i', (left) => {
    const { node, stranger } = meeting();
    const [proposal] = IKE_PROPOSAL.type === 'SA' ? IKE_PROPOSAL.proposals : [];
    const SA: Payload = {
      type: 'SA',
      proposals: [{ ...proposal!, transforms: proposal!.transforms.filter((_, i) => i !== left) }],
    };
    const answers = stranger.send(stranger.init([SA, ...stranger.initPayloads().slice(1)]));
    expect(told(answers)).toEqual(['NO_PROPOSAL_CHOSEN']);
    expectNothing(node, stranger);
    expect(node.ikeSas()).toEqual([]);
  });
});

describe('CVE-2023-38710: REKEY_SA of every protocol', () => {
  test('none but ESP names a child of ours; the child stays as it is', () => {
    const { node, stranger } = authenticated();
    const before = [...node.datapath.sas.keys()];
    for (let protocol = 0; protocol < 256; protocol++) {
      if (protocol === 3) continue;
      for (const spi of [new Uint8Array(0), u32be(0x5151_0001), new Uint8Array(8)]) {
        const payloads: Payload[] = [
          notify('REKEY_SA', undefined, { protocol, spi }),
          espProposal(0x5252_0000 + protocol),
          { type: 'Nonce', data: new Uint8Array(32) },
          ...childPayloads(0).slice(1),
        ];
        const answer = stranger.exchange(EXCHANGE.CREATE_CHILD_SA, payloads);
        const names = answer?.payloads.flatMap((payload) =>
          payload.type === 'Notify' ? [notifyName(payload.notify)] : [payload.type],
        );
        expect(names).toEqual(['CHILD_SA_NOT_FOUND']);
      }
    }
    expect(stranger.faults).toEqual([]);
    expect([...node.datapath.sas.keys()]).toEqual(before);
    expect(node.children()).toEqual(['installed']);
  });
});

describe('CVE-2023-23009: traffic selectors whose counts and lengths lie', () => {
  /** One selector of IPv4, and what the payload says of it. */
  const selector = (length: number) => [7, 0, ...u16be(length), 0, 0, 255, 255, 10, 1, 0, 0, 10, 1, 0, 255];
  test.each([
    ['a count of 0', [0, 0, 0, 0]],
    ['a count of 255 and one selector', [255, 0, 0, 0, ...selector(16)]],
    ['a count of 1 and two selectors', [1, 0, 0, 0, ...selector(16), ...selector(16)]],
    ['a selector that says 0 octets', [1, 0, 0, 0, ...selector(0)]],
    ['a selector that says 65535 octets', [1, 0, 0, 0, ...selector(65_535)]],
    ['255 selectors', [255, 0, 0, 0, ...Array.from({ length: 255 }, () => selector(16)).flat()]],
  ])('%s', (_name, octets) => {
    const { node, stranger } = authenticated();
    const SA = espProposal(0x5151_0002);
    const unknown: Payload = { type: 'unknown', number: 44, critical: false, body: Uint8Array.from(octets) };
    const payloads: Payload[] = [SA, { type: 'Nonce', data: new Uint8Array(32) }, unknown, selectors('TSr', '10.2.0.0')];
    stranger.send(stranger.request(EXCHANGE.CREATE_CHILD_SA, payloads));
    expect(stranger.faults).toEqual([]);
    expect(node.datapath.larval.size).toBe(0);
    expect(node.datapath.sas.size).toBeLessThanOrEqual(2);
  });
});

describe('CVE-2025-9242: identities of every length before authentication', () => {
  test.each([0, 1, 255, 520, 4096, 60_000])('IDi of %i octets', (length) => {
    const { node, stranger } = opened();
    for (const idType of [ID_TYPE.FQDN, ID_TYPE.IPV4_ADDR, ID_TYPE.KEY_ID, ID_TYPE.DER_ASN1_DN, 0, 255]) {
      const attempt = new Stranger(node, ++seed);
      attempt.open();
      const IDi: Payload = { type: 'IDi', idType, data: new Uint8Array(length).fill(0x41) };
      attempt.send(attempt.request(EXCHANGE.IKE_AUTH, [IDi, ...attempt.authPayloads().slice(1)]));
      expectNothing(node, attempt);
    }
    expectNothing(node, stranger);
  });
});

describe('CVE-2016-5361: amplification before the address is proven', () => {
  test('an answer to IKE_SA_INIT is at most twice the request, and what is no message gets none', () => {
    const { node, net, stranger } = meeting();
    const request = stranger.init();
    const answers = stranger.send(request);
    expect(answers.length).toBe(1);
    expect(answers[0]!.length).toBeLessThanOrEqual(2 * request.length);
    const before = net.flights.length;
    net.run(120_000);
    expect(net.flights.length).toBe(before);
    expect(node.ikeSas()).not.toContain('established');
  });
});

describe('CVE-2020-1763 and CVE-2022-23094: first packets that name states that are not there', () => {
  test('every exchange, flag and SPI of a stranger', () => {
    const { node, stranger } = meeting();
    const bytes = stranger.init();
    for (let exchange = 0; exchange < 256; exchange++) {
      for (const flags of [0, 8, 0x20, 0x28, 0xff]) {
        const message = bytes.slice();
        message[18] = exchange;
        message[19] = flags;
        message.fill(exchange, 8, 16);
        const answers = stranger.send(message);
        for (const answer of answers) expect(answer.length).toBeLessThanOrEqual(message.length);
      }
    }
    expectNothing(node, stranger);
  });
});

test('half-open IKE SAs are bounded, and are forgotten in time', () => {
  const { node, net } = meeting(['x25519'], 10_000);
  for (let i = 0; i < 500; i++) new Stranger(node, 10_000 + i).open();
  expect(node.machine.table.size).toBeLessThanOrEqual(100);
  net.run(60_000);
  expect(node.machine.table.size).toBe(0);
  const late = new Stranger(node, 99_999);
  expect(late.open()).toBe(true);
  expect(find(late.exchange(EXCHANGE.IKE_AUTH, late.authPayloads())!.payloads, 'AUTH')).toBeDefined();
});
