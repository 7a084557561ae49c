import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cat } from '../../../src/bytes/bytes.ts';
import { INPUT } from '../../../src/datapath/slots.ts';
import type { Policy } from '../../../src/ipsec/policy.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { type Prefix, prefixHolds } from '../../../src/net/prefix.ts';
import { NOW, Node, pair, policyOf, seeded, selectorOf, tcpPacket, udpPacket } from '../../unit/datapath/pair.ts';

const address = fc
  .tuple(fc.constantFrom(10, 200), fc.integer({ min: 0, max: 3 }))
  .map(([a, d]) => IpAddress.parse(`${a}.0.0.${d}`)!);
const prefix = fc
  .tuple(address, fc.constantFrom(0, 1, 8, 30, 31, 32))
  .map(([first, length]): Prefix => ({ address: first, length }));
const port = fc.constantFrom(0, 1000, 1001);
const policy = fc
  .record({
    source: prefix,
    destination: prefix,
    protocol: fc.constantFrom(0, 17, 6),
    sourcePort: port,
    destinationPort: port,
    priority: fc.integer({ min: 0, max: 3 }),
    action: fc.constantFrom('bypass', 'discard'),
  })
  .map(
    ({ priority, action, ...selector }): Policy =>
      policyOf({ selector: selectorOf(selector), priority, action: action as Policy['action'] }),
  );
const packet = fc.record({
  source: address,
  destination: address,
  sourcePort: fc.constantFrom(1000, 1001),
  destinationPort: fc.constantFrom(1000, 1001),
  tcp: fc.boolean(),
});

/** RFC 4301 §4.4.1: the first entry that matches, by the book. */
function verdictOf(
  policies: readonly Policy[],
  {
    source,
    destination,
    sourcePort,
    destinationPort,
    tcp,
  }: { source: IpAddress; destination: IpAddress; sourcePort: number; destinationPort: number; tcp: boolean },
) {
  const matches = ({ selector }: Policy) =>
    prefixHolds(selector.source, source) &&
    prefixHolds(selector.destination, destination) &&
    (selector.protocol === 0 || selector.protocol === (tcp ? 6 : 17)) &&
    (selector.sourcePort === 0 || selector.sourcePort === sourcePort) &&
    (selector.destinationPort === 0 || selector.destinationPort === destinationPort);
  const ordered = [...policies].sort((a, b) => a.priority - b.priority);
  return ordered.find(matches)?.action ?? 'bypass';
}

describe('SPD', () => {
  test('with its cache decides as an ordered list does, while policies come and go', () => {
    const node = new Node();
    fc.assert(
      fc.property(
        fc.array(policy, { maxLength: 6 }),
        fc.array(packet, { minLength: 1, maxLength: 20 }),
        fc.nat(5),
        (policies, packets, gone) => {
          const entries = policies.map((one) => node.engine.addPolicy(one, NOW));
          const check = (list: readonly Policy[]) => {
            for (const one of [...packets, ...packets]) {
              const options = {
                source: `${one.source}`,
                destination: `${one.destination}`,
                sourcePort: one.sourcePort,
                destinationPort: one.destinationPort,
              };
              node.protect([one.tcp ? tcpPacket(1, new Uint8Array(1), options) : udpPacket(new Uint8Array(1), options)]);
              expect(node.clears().length === 1 ? 'bypass' : node.drop(0)).toBe(verdictOf(list, one));
            }
          };
          check(policies);
          const removed = entries[gone];
          if (removed !== undefined) {
            node.engine.removePolicy(removed);
            check(policies.filter((_, i) => i !== gone));
          }
          node.engine.removePolicies(node.engine.core.spd.entries());
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe('segmentation and coalescing', () => {
  test('give the octets that went in, whatever the sizes and however the wire batches them', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 30_000 }),
        fc.integer({ min: 48, max: 1400 }),
        fc.boolean(),
        fc.boolean(),
        fc.integer({ min: 1, max: 8 }),
        (length, segment, v6, joined, batch) => {
          const { a, b } = pair();
          const payload = seeded(length)(length);
          const whole = tcpPacket(0xffff_ff00, payload, v6 ? { source: 'fd00:1::1', destination: 'fd00:2::2' } : {});
          const ipBytes = v6 ? 40 : 20;
          const le = (n: number) => Uint8Array.of(n & 0xff, n >> 8);
          const header = cat(Uint8Array.of(1, v6 ? 4 : 1), le(ipBytes + 32), le(segment), le(ipBytes), le(16));
          const wires = a.protectFrame(header, whole);
          expect(wires).toHaveLength(Math.ceil(length / segment));
          const parts: Uint8Array[] = [];
          const take = (frames: ReturnType<typeof b.frames>) =>
            frames.forEach((frame) => void parts.push(frame.packet.slice(ipBytes + 32)));
          if (joined) take(b.unprotectRun(wires.slice(0, 40)));
          for (let i = joined ? 40 : 0; i < wires.length; i += batch) take(b.unprotect(wires.slice(i, i + batch), INPUT.udp));
          expect(cat(...parts)).toEqual(payload);
          expect(b.engine.drops.toJSON()).toEqual({});
        },
      ),
      { numRuns: 20 },
    );
  }, 60_000);
});
