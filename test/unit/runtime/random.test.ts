import { expect, test } from 'vitest';
import { hex } from '../../../src/bytes/bytes.ts';
import { systemRandom } from '../../../src/runtime/random.ts';

test('every request gets octets of its own, of the length asked for, and none comes twice', () => {
  const seen = new Set<string>();
  for (let i = 0; i < 3000; i++) {
    const octets = systemRandom(8 + (i % 60));
    expect([octets.length, octets.byteLength === octets.buffer.byteLength]).toEqual([8 + (i % 60), true]);
    for (let from = 0; from + 8 <= octets.length; from += 8) seen.add(hex(octets.subarray(from, from + 8)));
    octets.fill(0);
  }
  expect(seen.size).toBe(Array.from({ length: 3000 }, (_, i) => (8 + (i % 60)) >> 3).reduce((sum, n) => sum + n));
  expect(systemRandom(0)).toHaveLength(0);
});
