import { describe, expect, test } from 'vitest';
import { suiteText } from '../../../src/crypto/transforms.ts';
import { INPUT } from '../../../src/datapath/slots.ts';
import type { SaParameters } from '../../../src/ipsec/sa.ts';
import { ip, NOW, type Node, pair, rawIpv4, SUITES, saOf, seeded, tcpPacket, udpPacket, type Wire } from './pair.ts';

const ADDRESSES = {
  4: { source: '192.0.2.1', destination: '192.0.2.2' },
  6: { source: '2001:db8::1', destination: '2001:db8::2' },
} as const;
const INNER = {
  4: { source: '10.1.0.1', destination: '10.2.0.2' },
  6: { source: 'fd00:1::1', destination: 'fd00:2::2' },
} as const;

/** Carries what A sent to B, in the way in which the SA's packets would arrive. */
function carry(b: Node, sa: SaParameters, wires: readonly Wire[]) {
  if (sa.encapsulation !== undefined) return b.unprotect(wires, INPUT.udp, sa.encapsulation.source);
  if (sa.source.family === 6) return b.unprotect(wires, INPUT.raw, { address: sa.source, port: 0 });
  return b.unprotect(
    wires.map((wire) => ({ ...wire, bytes: rawIpv4(wire.bytes, sa, wire.trafficClass) })),
    INPUT.rawWithHeader,
  );
}

describe('what A protects, B unprotects to the same octets (RFC 4303)', () => {
  for (const suite of SUITES) {
    for (const mode of ['tunnel', 'transport'] as const) {
      test(`${suiteText(suite.encr, suite.keyBits, suite.integ)}, ${mode}`, () => {
        for (const outer of [4, 6] as const) {
          for (const inner of mode === 'tunnel' ? ([4, 6] as const) : [outer]) {
            for (const extendedSequence of [false, true]) {
              for (const encapsulated of [false, true]) {
                const source = ip(ADDRESSES[outer].source);
                const destination = ip(ADDRESSES[outer].destination);
                const sa = saOf({
                  suite,
                  mode,
                  source,
                  destination,
                  extendedSequence,
                  encapsulation: encapsulated
                    ? { source: { address: source, port: 4500 }, destination: { address: destination, port: 4500 } }
                    : undefined,
                });
                const { a, b } = pair(sa);
                const hosts = mode === 'tunnel' ? INNER[inner] : ADDRESSES[outer];
                const packets = [0, 1, 2, 3, 16, 800, 1300].map((length) =>
                  udpPacket(seeded(length + 1)(length), { ...hosts, id: 0 }),
                );
                for (const packet of packets) {
                  const wires = a.protect([packet]);
                  expect(wires).toHaveLength(1);
                  expect(wires[0]!.bytes.length % 4).toBe(0);
                  const frames = carry(b, sa, wires);
                  expect(b.engine.drops.toJSON()).toEqual({});
                  expect(frames.map((frame) => frame.packet)).toEqual([packet]);
                }
                const [sender, receiver] = [[...a.engine.core.sad.all][0]!, [...b.engine.core.sad.all][0]!];
                const octets = packets.reduce((sum, packet) => sum + packet.length, 0);
                expect([sender.packets, sender.bytes, receiver.packets, receiver.bytes]).toEqual([7, octets, 7, octets]);
                expect(receiver.lastUse).toBe(NOW.wall);
              }
            }
          }
        }
      });
    }
  }
});

test('a batch to one path is one train of equal packets', () => {
  const { a } = pair();
  const packets = [0, 1, 2, 3].map((n) => udpPacket(new Uint8Array(100).fill(n)));
  a.protect([...packets, udpPacket(new Uint8Array(20))]);
  const { outputs } = a.engine;
  expect(outputs.count).toBe(1);
  expect(outputs.segments[0]).toBe(5);
  expect(outputs.length[0]).toBe(4 * outputs.segmentBytes[0]! + 84);
  expect(a.engine.path(outputs.path[0]!)).toMatchObject({ encapsulated: false });
});

test('sequence numbers begin at 1 and IVs do not repeat', () => {
  const { a } = pair();
  const wires = [1, 2, 3].flatMap(() => a.protect([tcpPacket(1, new Uint8Array(10)), tcpPacket(2, new Uint8Array(10))]));
  expect(wires.map(({ bytes }) => bytes[7])).toEqual([1, 2, 3, 4, 5, 6]);
  expect(new Set(wires.map(({ bytes }) => bytes.slice(8, 16).join())).size).toBe(6);
});
