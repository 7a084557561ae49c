/** What a packet, a change and a tick cost must not grow with the number of SAs and policies: counted in look-ups, not in time. */

import { beforeAll, describe, expect, test } from 'vitest';
import type { Sa } from '../../../src/datapath/sa.ts';
import type { Policy } from '../../../src/ipsec/policy.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { at, NOW, Node, policyOf, saOf, selectorOf, udpPacket } from './pair.ts';

const PEERS = 1200;
const OWN = IpAddress.parse('192.0.2.1')!;

const peer = (i: number) => IpAddress.of(Uint8Array.of(198, 18, i >> 8, i));
const behind = (i: number) => ({ address: IpAddress.of(Uint8Array.of(10, 64 + (i >> 8), i, 0)), length: 24 });
const packetTo = (i: number, destinationPort = 9) =>
  udpPacket(new Uint8Array(20), { source: '10.1.0.1', destination: `10.${64 + (i >> 8)}.${i & 255}.7`, destinationPort });

function policyTo(i: number, reqid: number): Policy {
  const template = {
    protocol: 'esp',
    mode: 'tunnel',
    level: 'unique',
    reqid,
    endpoints: { source: OWN, destination: peer(i) },
  } as const;
  return policyOf({ selector: selectorOf({ destination: behind(i) }), templates: [template] });
}

function saTo(i: number, reqid: number, spi: number) {
  const lifetime = { soft: { seconds: 100 + i, bytes: 0, packets: 0 }, hard: { seconds: 10_000, bytes: 0, packets: 0 } };
  return saOf({ spi, reqid, source: OWN, destination: peer(i), lifetime });
}

describe.each([
  ['a reqid for each policy', (i: number) => 1000 + i],
  ['templates without reqids', () => 0],
])('%s', (_, reqidOf) => {
  const node = new Node();
  const { core } = node.engine;
  const sas: Sa[] = [];
  const cost = (step: () => void) => {
    const before = [core.spd.candidates, core.sad.candidates];
    step();
    return [core.spd.candidates - before[0]!, core.sad.candidates - before[1]!];
  };

  beforeAll(() => {
    for (let i = 0; i < PEERS; i++) {
      node.engine.addPolicy(policyTo(i, reqidOf(i)), NOW);
      sas.push(node.engine.addSa(saTo(i, reqidOf(i), 0x1000 + i), NOW));
    }
  });

  test('the first packet of a flow looks at one policy and one SA, the next at none', () => {
    for (const i of [0, 7, PEERS - 1]) {
      expect(cost(() => expect(node.protect([packetTo(i)])).toHaveLength(1))).toEqual([1, 1]);
      expect(cost(() => expect(node.protect([packetTo(i)])).toHaveLength(1))).toEqual([0, 0]);
    }
  });

  test('an SA that comes or goes leaves the flows of other policies alone, and moves its own without a look at the policies', () => {
    node.protect([packetTo(3), packetTo(4)]);
    const rekeyed = node.engine.addSa(saTo(4, reqidOf(4), 0x9_0000), NOW);
    if (reqidOf(4) !== 0) expect(cost(() => node.protect([packetTo(3)]))).toEqual([0, 0]);
    expect(cost(() => node.protect([packetTo(4)]))).toEqual([0, 1]);
    expect(rekeyed.packets).toBe(1);
    node.engine.removeSa(rekeyed);
    expect(cost(() => node.protect([packetTo(4)]))).toEqual([0, 1]);
  });

  test('names are found by SPI; a tick touches what is due and nothing else', () => {
    expect(core.sad.find(0x1000 + 77, 'esp', peer(77))).toBe(sas[77]);
    expect(core.sad.find(0x1000 + 77, 'esp', peer(78))).toBeUndefined();
    node.engine.drain();
    expect(core.wakeAt()).toBe(NOW.mono + 100_000);
    node.engine.tick(at(99_999));
    expect(node.engine.drain()).toHaveLength(0);
    node.engine.tick(at(102_000));
    expect(node.engine.drain().map((effect) => effect.kind === 'expire' && effect.sa)).toEqual(sas.slice(0, 3));
    expect(core.wakeAt()).toBe(NOW.mono + 103_000);
  });

  test('no expiry is lost where thousands are due at once: what there is no room to tell stays due', () => {
    const told = new Set<unknown>();
    let turns = 0;
    for (; core.wakeAt()! <= at(5_000_000).mono; turns++) {
      node.engine.tick(at(5_000_000));
      for (const effect of node.engine.drain()) if (effect.kind === 'expire') told.add(effect.sa);
    }
    expect([told.size, core.effects.lost]).toEqual([PEERS - 3, 0]);
    expect(turns).toBe(2);
  });
});
