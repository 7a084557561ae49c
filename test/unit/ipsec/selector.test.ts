import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  intersect,
  isSubset,
  narrow,
  sameSelector,
  selectorOf,
  selects,
  showSelector,
  type TrafficSelector,
} from '../../../src/ipsec/selector.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';

const ts = (prefix: string, protocol = 0, startPort = 0, endPort = 65535): TrafficSelector =>
  selectorOf(parsePrefix(prefix)!, protocol, { startPort, endPort });

describe('traffic selectors (RFC 7296 §2.9, §3.13.1)', () => {
  test('intersection', () => {
    expect(intersect(ts('10.0.0.0/8'), ts('10.1.0.0/16', 6, 80, 90))).toEqual(ts('10.1.0.0/16', 6, 80, 90));
    expect(intersect(ts('10.0.0.0/8', 6), ts('10.1.0.0/16', 17))).toBeUndefined();
    expect(intersect(ts('10.0.0.0/8', 6, 1, 10), ts('10.1.0.0/16', 6, 11, 20))).toBeUndefined();
    expect(intersect(ts('10.0.0.0/8'), ts('2001:db8::/32'))).toBeUndefined();
  });

  test('narrowing keeps the order offered and repeats nothing', () => {
    const offered = [ts('10.1.0.5'), ts('10.1.0.0/24'), ts('192.0.2.0/24'), ts('10.1.0.5')];
    expect(narrow(offered, [ts('10.0.0.0/8')])).toEqual([ts('10.1.0.5'), ts('10.1.0.0/24')]);
    expect(narrow(offered, [ts('172.16.0.0/12')])).toEqual([]);
  });

  test('one packet', () => {
    expect(selects([ts('10.1.0.0/24', 6, 80, 80)], IpAddress.parse('10.1.0.9')!, 6, 80)).toBe(true);
    expect(selects([ts('10.1.0.0/24', 6, 80, 80)], IpAddress.parse('10.1.0.9')!, 6, 81)).toBe(false);
    expect(selects([ts('10.1.0.0/24', 6)], IpAddress.parse('10.1.0.9')!, 17, 81)).toBe(false);
    expect(selects([ts('10.1.0.0/24')], IpAddress.parse('10.1.1.0')!, 17, 81)).toBe(false);
  });

  test('as text', () => {
    expect(showSelector(ts('10.1.0.0/24'))).toBe('10.1.0.0-10.1.0.255');
    expect(showSelector(ts('192.0.2.1', 17, 1701, 1701))).toBe('192.0.2.1 proto 17 port 1701');
    expect(showSelector(ts('2001:db8::1', 135, 0x0500, 0x0500))).toBe('2001:db8::1 proto 135 type 5');
    expect(showSelector(ts('2001:db8::1', 58, 0x9200, 0x92ff))).toBe('2001:db8::1 proto 58 type 146');
    expect(showSelector(ts('192.0.2.1', 1, 0x0304, 0x0304))).toBe('192.0.2.1 proto 1 type 3 code 4');
    expect(showSelector(ts('192.0.2.1', 1, 0x0304, 0x0306))).toBe('192.0.2.1 proto 1 types and codes 772-774');
  });

  const anySelector = fc
    .record({
      base: fc.integer({ min: 0, max: 15 }),
      size: fc.integer({ min: 0, max: 15 }),
      protocol: fc.constantFrom(0, 6, 17),
      from: fc.integer({ min: 0, max: 7 }),
      ports: fc.integer({ min: 0, max: 7 }),
    })
    .map(
      ({ base, size, protocol, from, ports }): TrafficSelector => ({
        protocol,
        startPort: from,
        endPort: from + ports,
        start: IpAddress.of(Uint8Array.of(10, 0, 0, base)),
        end: IpAddress.of(Uint8Array.of(10, 0, 0, base + size)),
      }),
    );

  test('an intersection selects exactly what both select, whichever comes first', () => {
    fc.assert(
      fc.property(
        anySelector,
        anySelector,
        fc.integer({ min: 0, max: 31 }),
        fc.constantFrom(6, 17, 1),
        fc.integer({ min: 0, max: 15 }),
        (a, b, octet, protocol, port) => {
          const address = IpAddress.of(Uint8Array.of(10, 0, 0, octet));
          const both = intersect(a, b);
          const one = both !== undefined && selects([both], address, protocol, port);
          expect(one).toBe(selects([a], address, protocol, port) && selects([b], address, protocol, port));
          const other = intersect(b, a);
          expect(both === undefined ? other === undefined : other !== undefined && sameSelector(both, other)).toBe(true);
          if (both !== undefined) expect(isSubset(both, a) && isSubset(both, b)).toBe(true);
        },
      ),
    );
  });
});
