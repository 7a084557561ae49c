import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SpdEntry } from '../../../src/datapath/spd.ts';
import { compareEntries, SpdIndex } from '../../../src/datapath/spd-index.ts';
import { IpPacket } from '../../../src/net/ip-packet.ts';
import type { Prefix } from '../../../src/net/prefix.ts';
import { ip, NOW, policyOf, selectorOf, udpPacket } from '../../unit/datapath/pair.ts';

const family = fc.constantFrom<4 | 6>(4, 6);
const digit = fc.integer({ min: 0, max: 3 });
const textOf = (v: 4 | 6, [a, b, c]: readonly number[]) => (v === 4 ? `${10 * a!}.${b}.0.${c}` : `2001:db${a}::${b}:0:0:${c}`);
const digits = fc.tuple(digit, digit, digit);
const length = fc.constantFrom(0, 1, 7, 8, 16, 24, 30, 31, 32);
const entry = fc.record({
  v: family,
  source: digits,
  destination: digits,
  lengths: fc.tuple(length, length),
  protocol: fc.constantFrom(0, 17, 6),
  priority: digit,
});
const packet = fc.record({ v: family, source: digits, destination: digits });

test('the index finds what a walk through all entries in their order finds, while entries come and go', () => {
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 40 }), fc.array(packet, { minLength: 1, maxLength: 20 }), (rows, packets) => {
      const index = new SpdIndex<SpdEntry>();
      let all: SpdEntry[] = [];
      rows.forEach(({ v, source, destination, lengths, protocol, priority }, order) => {
        const prefixOf = (of: readonly number[], bits: number): Prefix => ({
          address: ip(textOf(v, of)),
          length: v === 4 ? bits : 4 * bits,
        });
        const selector = selectorOf({
          source: prefixOf(source, lengths[0]),
          destination: prefixOf(destination, lengths[1]),
          protocol,
        });
        const added = new SpdEntry(policyOf({ selector, priority, action: 'discard' }), 0, NOW, order, undefined);
        all.push(added);
        index.add(added);
        if (order % 3 === 2) index.remove(all.splice(order % all.length, 1)[0]!);
      });
      all = all.toSorted(compareEntries);
      for (const { v, source, destination } of packets) {
        const bytes = udpPacket(new Uint8Array(4), { source: textOf(v, source), destination: textOf(v, destination) });
        const view = new IpPacket(bytes);
        expect(view.read(0, bytes.length)).toBe(true);
        expect(index.match(view)).toBe(all.find((one) => one.matches(view)));
        const admits = (one: SpdEntry) => one.order % 2 === 0;
        expect(index.match(view, admits)).toBe(all.find((one) => one.matches(view) && admits(one)));
      }
      for (const one of all) expect(index.alike(one.policy.selector)).toContain(one);
    }),
  );
});
