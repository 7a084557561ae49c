import { expect, test } from 'vitest';
import { INPUT } from '../../../src/datapath/slots.ts';
import { EngineVerbs } from '../../../src/datapath/verbs.ts';
import { saIdTo, saToGetspi, saToUpdate } from '../../../src/pfkey/convert.ts';
import { at, copyOf, ip, ipPacket, NOW, Node, policyOf, saOf, seeded, udpPacket, type Wire } from './pair.ts';

const SPI = 0x1234;
const SA = saOf({ spi: SPI });
const REMOTE = { address: ip('192.0.2.1'), port: 4500 };

/** A host that has given out an SPI, and a peer that sends on it already. */
function hosts() {
  const peer = new Node();
  peer.engine.addPolicy(policyOf(), NOW);
  peer.engine.addSa(copyOf(SA), NOW, 'outbound');
  const node = new Node();
  node.engine.addPolicy(policyOf({ direction: 'inbound' }), NOW);
  const verbs = new EngineVerbs(node.engine, { random: seeded(99) });
  verbs.handle(saToGetspi(SA, { min: SPI, max: SPI }), NOW);
  const complete = () => verbs.handle(saToUpdate(copyOf(SA)), NOW);
  const released = () => {
    const packets: Uint8Array[] = [];
    while (node.engine.hasReleasable) {
      node.engine.releaseHeld(NOW);
      packets.push(...node.frames().map(({ packet }) => packet));
    }
    return packets;
  };
  const esp = (packet: Uint8Array): Wire => peer.protect([packet])[0]!;
  return { node, verbs, complete, released, esp };
}

const packets = (count: number, octets = 20) =>
  Array.from({ length: count }, (_, i) => udpPacket(new Uint8Array(octets).fill(i)));

test('ESP for a larval SA waits for UPDATE, and is delivered in order', () => {
  const { node, complete, released, esp } = hosts();
  const sent = packets(5);
  expect(node.unprotect(sent.map(esp), INPUT.udp, REMOTE)).toEqual([]);
  expect(node.engine.status()).toMatchObject({ held: 5, drops: {} });
  expect(node.engine.hasReleasable).toBe(false);
  complete();
  expect(released()).toEqual(sent);
  expect(node.engine.status()).toMatchObject({ held: 0, drops: {}, sas: [{ packets: 5, sequence: 5 }] });
  expect(node.engine.drain()).toEqual([]);
});

test('a run of datagrams and raw ESP wait the same way, and what is replayed counts once', () => {
  const { node, complete, released, esp } = hosts();
  const sent = packets(4);
  const wires = sent.map(esp);
  node.unprotectRun(wires.slice(0, 2));
  const raw = wires
    .slice(2)
    .map((wire) => ({ ...wire, bytes: ipPacket(50, wire.bytes, { source: '192.0.2.1', destination: '192.0.2.2' }) }));
  node.unprotect(raw, INPUT.rawWithHeader);
  node.unprotect(raw.slice(0, 1), INPUT.rawWithHeader);
  complete();
  expect(released()).toEqual(sent);
  expect(node.engine.drops.toJSON()).toEqual({ replayed: 1 });
});

test('where it comes from tells of a new mapping', () => {
  const encapsulation = { source: REMOTE, destination: { address: ip('192.0.2.2'), port: 4500 } };
  const { node, verbs, released, esp } = hosts();
  node.unprotect([esp(packets(1)[0]!)], INPUT.udp, { ...REMOTE, port: 61_000 });
  verbs.handle(saToUpdate({ ...copyOf(SA), encapsulation }), NOW);
  expect(released()).toHaveLength(1);
  expect(node.engine.drain()).toMatchObject([{ kind: 'new-mapping', now: { port: 61_000 } }]);
});

test('another SPI, another destination and a forged packet are dropped by their names', () => {
  const { node, complete, released, esp } = hosts();
  const wire = esp(packets(1)[0]!);
  const other = wire.bytes.slice();
  other[3] = 0x35;
  node.unprotect([{ ...wire, bytes: other }], INPUT.udp);
  expect(node.drop(0)).toBe('noSa');
  const elsewhere = ipPacket(50, wire.bytes, { source: '192.0.2.1', destination: '192.0.2.3' });
  node.unprotect([{ ...wire, bytes: elsewhere }], INPUT.rawWithHeader);
  expect(node.drop(0)).toBe('noSa');
  const forged = wire.bytes.slice();
  forged[forged.length - 1]! ^= 1;
  node.unprotect([{ ...wire, bytes: forged }], INPUT.udp);
  complete();
  expect(released()).toEqual([]);
  expect(node.engine.status()).toMatchObject({ held: 0, drops: { noSa: 2, badIcv: 1 } });
});

test('what waits goes with the larval SA: deleted, or never completed', () => {
  for (const end of ['delete', 'time'] as const) {
    const { node, verbs, released, esp } = hosts();
    node.unprotect(packets(3).map(esp), INPUT.udp);
    if (end === 'delete') verbs.handle(saIdTo('DELETE', SA, SA.source), NOW);
    else node.engine.tick(at(30_000));
    expect(released()).toEqual([]);
    expect(node.engine.status()).toMatchObject({ held: 0, drops: { noSa: 3 } });
  }
});

test('what waits is bounded: 256 packets and 256 KiB a larval SA, 1 MiB in all', () => {
  const { node, verbs, esp } = hosts();
  const small = esp(packets(1)[0]!);
  for (let i = 0; i < 300; i++) node.unprotect([small], INPUT.udp);
  expect(node.engine.status()).toMatchObject({ held: 256, drops: { holdFull: 44 } });
  verbs.handle(saIdTo('DELETE', SA, SA.source), NOW);
  const large = esp(packets(1, 60_000)[0]!);
  for (let spi = SPI; spi < SPI + 6; spi++) {
    verbs.handle(saToGetspi(SA, { min: spi, max: spi }), NOW);
    const bytes = large.bytes.slice();
    new DataView(bytes.buffer).setUint32(0, spi);
    for (let i = 0; i < 5; i++) node.unprotect([{ ...large, bytes }], INPUT.udp);
  }
  const most = Math.floor((1024 * 1024) / large.bytes.length);
  expect(node.engine.status()).toMatchObject({ held: most, drops: { noSa: 256, holdFull: 44 + 30 - most } });
});
