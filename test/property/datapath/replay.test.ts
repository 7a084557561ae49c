import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ReplayWindow } from '../../../src/datapath/replay.ts';

const TWO_32 = 2 ** 32;

/** The window as RFC 4303 §3.4.3 tells it: everything that was accepted is remembered. */
class NaiveWindow {
  readonly #seen = new Set<number>();
  readonly #size: number;
  top = 0;

  constructor(size: number) {
    this.#size = size;
  }

  fresh(sequence: number): boolean {
    return sequence > 0 && sequence > this.top - this.#size && !this.#seen.has(sequence);
  }

  accept(sequence: number): void {
    this.#seen.add(sequence);
    this.top = Math.max(this.top, sequence);
  }
}

/** Steps relative to the top: mostly near it, sometimes far. */
const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: -140, max: 40 }) },
    { weight: 2, arbitrary: fc.integer({ min: -5000, max: 5000 }) },
    { weight: 2, arbitrary: fc.integer({ min: -70_000, max: 70_000 }) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 2 ** 30 }) },
  ),
  { minLength: 1, maxLength: 300 },
);
const sizes = fc.constantFrom(32, 64, 96, 128, 1024, 4096, 65_536);
const starts = fc.constantFrom(0, 1, 31, 32, 63, 1000, TWO_32 - 100, TWO_32 - 1, TWO_32, 5 * TWO_32 - 50);

describe('the anti-replay window (RFC 6479)', () => {
  test('decides as a window that remembers everything', () => {
    fc.assert(
      fc.property(sizes, starts, steps, (size, start, moves) => {
        const fast = new ReplayWindow(size);
        const naive = new NaiveWindow(size);
        if (start > 0) for (const window of [fast, naive]) window.accept(start);
        for (const move of moves) {
          const sequence = Math.max(0, naive.top + move);
          expect([sequence, fast.fresh(sequence)]).toEqual([sequence, naive.fresh(sequence)]);
          if (!naive.fresh(sequence)) continue;
          fast.accept(sequence);
          naive.accept(sequence);
          expect(fast.top).toBe(naive.top);
        }
      }),
    );
  });

  test('a leap to a word that has the place of the old one forgets the old one', () => {
    for (const leap of [128, 256, 1280]) {
      const window = new ReplayWindow(64);
      window.accept(100);
      window.accept(127 + leap);
      expect([window.fresh(100 + leap), window.fresh(127 + leap)]).toEqual([true, false]);
    }
  });

  test('looking changes nothing', () => {
    fc.assert(
      fc.property(sizes, steps, (size, moves) => {
        const window = new ReplayWindow(size);
        window.accept(10_000);
        for (const move of moves) window.fresh(Math.max(0, 10_000 + move));
        expect([window.top, window.fresh(9_999), window.fresh(10_000), window.fresh(10_001)]).toEqual([
          10_000,
          true,
          false,
          true,
        ]);
      }),
    );
  });

  test('the high half is guessed right for whatever is in the window or less than 2^32 - size ahead of it (RFC 4303 appendix A2)', () => {
    fc.assert(
      fc.property(sizes, starts, fc.integer({ min: -65_535, max: 2 ** 31 }), (size, start, move) => {
        const window = new ReplayWindow(size);
        if (start > 0) window.accept(start);
        const sequence = start + Math.max(move, 1 - size);
        fc.pre(sequence > 0);
        expect(window.extend(sequence % TWO_32)).toBe(sequence);
      }),
    );
  });

  test('without a window nothing but 0 is refused', () => {
    const window = new ReplayWindow(0);
    window.accept(100);
    expect([window.fresh(0), window.fresh(1), window.fresh(100), window.fresh(101)]).toEqual([false, true, true, true]);
    expect(window.extend(99)).toBe(99);
  });
});
