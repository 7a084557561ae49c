import { describe, expect, test } from 'vitest';
import { innerClass, innerEcn, keptClass, OUTER, outerHeaderOf } from '../../../src/datapath/tunnel.ts';
import { ip } from './pair.ts';

const NOT_ECT = 0;
const ECT_1 = 1;
const ECT_0 = 2;
const CE = 3;
const DROPPED = -1;

/** RFC 6040 figure 4: by the inner field, what follows from the outer one. */
const DECAPSULATION: Readonly<Record<number, Readonly<Record<number, number>>>> = {
  [NOT_ECT]: { [NOT_ECT]: NOT_ECT, [ECT_0]: NOT_ECT, [ECT_1]: NOT_ECT, [CE]: DROPPED },
  [ECT_0]: { [NOT_ECT]: ECT_0, [ECT_0]: ECT_0, [ECT_1]: ECT_1, [CE]: CE },
  [ECT_1]: { [NOT_ECT]: ECT_1, [ECT_0]: ECT_1, [ECT_1]: ECT_1, [CE]: CE },
  [CE]: { [NOT_ECT]: CE, [ECT_0]: CE, [ECT_1]: CE, [CE]: CE },
};

test('ECN at the end of a tunnel is what RFC 6040 figure 4 says, whatever the DSCPs are', () => {
  for (const [inner, row] of Object.entries(DECAPSULATION))
    for (const [outer, result] of Object.entries(row))
      for (const dscp of [0, 0xb8, 0xfc])
        expect([inner, outer, innerEcn(Number(inner) | dscp, Number(outer) | (dscp ^ 0xfc))]).toEqual([inner, outer, result]);
});

describe('an outer header', () => {
  const V4 = ip('192.0.2.1');
  const V6 = ip('2001:db8::1');
  const outer = (
    inner: number,
    df: 'copy' | 'set' | 'clear',
    dscp: 'copy' | number,
    mode: 'tunnel' | 'transport' = 'tunnel',
    source = V4,
  ) => {
    const { mask, bits } = outerHeaderOf({ df, dscp }, { mode, source });
    return (inner & mask) | bits;
  };

  test('has DF as the policy says (RFC 4301 §8.1)', () => {
    const DF = OUTER.dontFragment;
    expect([DF, 0].map((inner) => outer(inner, 'copy', 'copy'))).toEqual([DF, 0]);
    expect([DF, 0].map((inner) => outer(inner, 'set', 'copy'))).toEqual([DF, DF]);
    expect([DF, 0].map((inner) => outer(inner, 'clear', 'copy'))).toEqual([0, 0]);
    expect([DF, 0].map((inner) => outer(inner, 'clear', 'copy', 'tunnel', V6))).toEqual([DF, DF]);
  });

  test('has ECN as the inner one has it always (RFC 6040 §4.1), and DSCP as the policy says', () => {
    for (let inner = 0; inner < 256; inner++) {
      expect(outer(inner, 'copy', 'copy')).toBe(inner);
      expect(outer(inner, 'copy', 46)).toBe((46 << 2) | (inner & 3));
      expect(outer(inner, 'copy', 46, 'transport')).toBe(inner);
    }
  });
});

test('a packet that leaves a tunnel keeps its DSCP, or takes that of the outer header, and never other ECN', () => {
  for (let inner = 0; inner < 256; inner++)
    for (const outer of [0x00, 0x2a, 0xb9, 0xff]) {
      const ecn = innerEcn(inner, outer);
      expect(innerClass(inner, outer, keptClass(false))).toBe(ecn < 0 ? -1 : (inner & 0xfc) | ecn);
      expect(innerClass(inner, outer, keptClass(true))).toBe(ecn < 0 ? -1 : (outer & 0xfc) | ecn);
    }
});
