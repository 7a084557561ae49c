/** Mutated datagrams against a live iked: before authentication they change nothing and ask the datapath for nothing; after it they never escape as an exception. */

import { expect, test } from 'vitest';
import { EXCHANGE, writeMessage } from '../../../iked/ikev2/message.ts';
import { notify } from '../../../iked/ikev2/notify.ts';
import type { Payload } from '../../../iked/ikev2/payloads.ts';
import { u32be } from '../../../src/bytes/bytes.ts';
import { COUNT, LIMIT, MemoryBound } from '../../support/fuzz.ts';
import { type IkeNode, pair } from '../../support/ike-pair.ts';
import { mutate, type Numbers, numbers } from '../../support/mutate.ts';
import { childPayloads, IKE_PROPOSAL, Stranger } from './stranger.ts';

/** Everything about a node's SAs that does not change by itself. */
function snapshot(node: IkeNode): unknown {
  const { ikeSas } = node.status();
  const established = ikeSas.filter(({ state }) => state === 'established');
  const still = established.map(({ ageMs, rekeyInMs, children, ...rest }) => ({
    ...rest,
    children: children.map(({ ageMs: age, rekeyInMs: rekey, expiresInMs, ...child }) => child),
  }));
  const { larval, sas, outbound, everInstalled } = node.datapath;
  return { still, larval: [...larval.keys()], sas: [...sas.keys()], outbound: [...outbound.keys()], everInstalled };
}

function expectWhole(a: IkeNode, b: IkeNode): void {
  expect([...a.named('fault'), ...b.named('fault')]).toEqual([]);
  const before = b.received;
  a.packet(b);
  a.net.run(1_000);
  expect(b.received).toBe(before + 1);
}

/** Bounds that hold whatever strangers send. */
function expectBounded(node: IkeNode): void {
  const { ikeSas, failures, counters } = node.status();
  expect(ikeSas.length).toBeLessThanOrEqual(102);
  expect(failures.length).toBeLessThanOrEqual(64);
  expect(Object.keys(counters).length).toBeLessThanOrEqual(64);
}

test(`${COUNT} mutants of every message of a negotiation, to a node with an established SA`, LIMIT, () => {
  const { a, b, net } = pair().established();
  for (const what of ['child', 'ike'] as const) {
    a.command({ verb: 'rekey', name: what === 'child' ? 'lan' : 'peer', what });
    net.run(20_000);
  }
  const recorded = net.flights.filter(({ from }) => from === a).map(({ path, bytes }) => ({ path, bytes }));
  expect(recorded.length).toBeGreaterThan(5);
  const random = numbers(1);
  const before = snapshot(b);
  const pfkeyBefore = b.datapath.everInstalled;
  const memory = new MemoryBound();
  for (let i = 0; i < COUNT; i++) {
    memory.mutant();
    const { path, bytes } = recorded[random(recorded.length)]!;
    const mutant = mutate(bytes, random);
    const arriving = { local: path.remote, remote: path.local, encapsulated: path.encapsulated };
    for (const output of b.machine.handle({ kind: 'datagram', path: arriving, bytes: mutant }, net.now)) {
      expect(output.kind).not.toBe('pfkey');
      if (output.kind === 'event') expect(output.event.name).not.toBe('fault');
    }
    if (i % 200 === 199) {
      expect(snapshot(b)).toEqual(before);
      expectBounded(b);
      net.run(500);
    }
  }
  memory.end();
  expect(b.datapath.everInstalled).toBe(pfkeyBefore);
  expect(snapshot(b)).toEqual(before);
  expectWhole(a, b);
});

test(`${COUNT} mutants of IKE_AUTH, rightly sealed by a stranger that does not know the key`, LIMIT, () => {
  const patient = { ikev2: { negotiationLimit: 20_000 }, limits: { cookieThreshold: 95 } };
  const { a, b, net } = pair({ a: patient, b: patient }).established();
  const before = snapshot(b);
  const random = numbers(2);
  let reached = 0;
  const memory = new MemoryBound();
  for (let i = 0; i < COUNT; i++) {
    memory.mutant();
    const stranger = new Stranger(b, i);
    if (stranger.open()) {
      reached++;
      send(stranger, EXCHANGE.IKE_AUTH, stranger.authPayloads('guessed'), random);
      expect(stranger.faults).toEqual([]);
      expect(stranger.asked).toEqual([]);
    }
    b.events.length = 0;
    if (i % 50 === 49) net.run(30_000);
    if (i % 500 === 499) {
      expect(snapshot(b)).toEqual(before);
      expectBounded(b);
    }
  }
  memory.end();
  expect(reached).toBeGreaterThan(COUNT / 10);
  expect(snapshot(b)).toEqual(before);
  expectWhole(a, b);
});

test(`${COUNT} mutants of every request of an authenticated peer`, LIMIT, () => {
  const random = numbers(3);
  let authenticated = 0;
  let node: IkeNode | undefined;
  let stranger: Stranger | undefined;
  const memory = new MemoryBound();
  for (let i = 0; i < COUNT; i++) {
    memory.mutant();
    if (node === undefined || i % 500 === 0) node = pair({ seed: 1 + i }).b;
    if (stranger === undefined || node.machine.table.bySpi(stranger.SPIr) === undefined) {
      stranger = new Stranger(node, i);
      if (!stranger.open() || stranger.exchange(EXCHANGE.IKE_AUTH, stranger.authPayloads()) === undefined) {
        stranger = undefined;
        node.net.run(60_000);
        continue;
      }
      authenticated++;
    }
    const [exchange, payloads] = requests(i)[random(6)]!;
    send(stranger, exchange, payloads, random);
    expect(stranger.faults).toEqual([]);
    expect(node.datapath.larval.size).toBeLessThanOrEqual(4);
    expect(node.machine.table.size).toBeLessThanOrEqual(102);
    // The limit of children, and as many that are being replaced.
    expect(node.datapath.sas.size).toBeLessThanOrEqual(220);
    stranger.outputs.length = 0;
    node.events.length = 0;
    if (i % 50 === 49) node.net.run(1_000);
  }
  memory.end();
  expect(authenticated).toBeGreaterThan(3);
});

/** A sealed request whose text is mutated, mostly; now and then the sealed octets are. */
function send(stranger: Stranger, exchange: number, payloads: readonly Payload[], random: Numbers): void {
  const chain = writeMessage({
    SPIi: stranger.SPIi,
    SPIr: stranger.SPIr,
    exchange,
    initiator: true,
    response: false,
    messageId: 0,
    payloads,
  });
  const first = random(20) === 0 ? random(256) : chain[16]!;
  const sealed = stranger.seal(exchange, first, mutate(chain.subarray(28), random));
  const answers = stranger.send(random(10) === 0 ? mutate(sealed, random) : sealed);
  if (answers.length > 0) stranger.advance();
}

/** What an established peer may ask for. */
function requests(i: number): [number, Payload[]][] {
  const nonce: Payload = { type: 'Nonce', data: new Uint8Array(32).fill(i) };
  const [SA, TSi, TSr] = childPayloads(0x6000_0000 + i) as [Payload, Payload, Payload];
  const rekey = notify('REKEY_SA', undefined, { protocol: 3, spi: u32be(0x5151_0001) });
  const ike: Payload = {
    type: 'SA',
    proposals:
      IKE_PROPOSAL.type === 'SA' ? IKE_PROPOSAL.proposals.map((one) => ({ ...one, spi: new Uint8Array(8).fill(7) })) : [],
  };
  return [
    [EXCHANGE.CREATE_CHILD_SA, [SA, nonce, TSi, TSr]],
    [EXCHANGE.CREATE_CHILD_SA, [rekey, SA, nonce, TSi, TSr]],
    [EXCHANGE.CREATE_CHILD_SA, [ike, nonce, { type: 'KE', group: 31, data: new Uint8Array(32).fill(9) }]],
    [EXCHANGE.INFORMATIONAL, []],
    [EXCHANGE.INFORMATIONAL, [{ type: 'Delete', protocol: 3, spis: [u32be(0x5151_0001), u32be(7)] }]],
    [EXCHANGE.INFORMATIONAL, [notify('INITIAL_CONTACT'), { type: 'Delete', protocol: 1, spis: [] }]],
  ];
}
