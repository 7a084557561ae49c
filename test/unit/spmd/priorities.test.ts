/** Priorities: in the order of the names, in our range, and the same as before wherever the order lets them. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { assignPriorities, IKE_BYPASS, isDynamic, isOwn, UNMATCHED } from '../../../spmd/priorities.ts';

const names = fc.uniqueArray(
  fc.integer({ min: 0, max: 40 }).map((n) => `s${n}`),
  { maxLength: 30 },
);

function check(order: readonly string[], numbers: ReadonlyMap<string, number>): void {
  const list = order.map((name) => numbers.get(name)!);
  expect(list).toEqual([...new Set(list)].sort((a, b) => a - b));
  for (const number of list) {
    expect([isOwn(number), isDynamic(number), isDynamic(number | 1)]).toEqual([true, false, true]);
    expect(IKE_BYPASS < number && number < UNMATCHED).toBe(true);
  }
}

describe('priorities', () => {
  test('rise in the order of the names after any series of reloads, and stay where the order is the same', () => {
    fc.assert(
      fc.property(fc.array(names, { minLength: 1, maxLength: 12 }), (reloads) => {
        let before = new Map<string, number>();
        for (const order of reloads) {
          const numbers = assignPriorities(order, before);
          check(order, numbers);
          expect(assignPriorities(order, numbers)).toEqual(numbers);
          before = numbers;
        }
      }),
      { numRuns: 300 },
    );
  });

  test('of an entry that moves only its own changes', () => {
    const before = assignPriorities(['a', 'b', 'c', 'd'], new Map());
    const moved = assignPriorities(['d', 'a', 'b', 'c'], before);
    expect(['a', 'b', 'c'].map((name) => moved.get(name))).toEqual(['a', 'b', 'c'].map((name) => before.get(name)));
    expect(moved.get('d')).toBeLessThan(before.get('a')!);
  });

  test('are numbered anew where no room is left between two', () => {
    let order = ['first', 'last'];
    let numbers = assignPriorities(order, new Map());
    for (let n = 0; n < 50; n++) {
      order = ['first', `new${n}`, ...order.slice(1)];
      numbers = assignPriorities(order, numbers);
      check(order, numbers);
    }
  });

  test('of twenty thousand entries fit', () => {
    const order = Array.from({ length: 20_000 }, (_, n) => `s${n}`);
    const numbers = assignPriorities(order, new Map());
    const list = [...numbers.values()];
    expect([list.length, list[0]! < list.at(-1)!, isOwn(list.at(-1)!)]).toEqual([20_000, true, true]);
    expect(list.every((number, i) => i === 0 || number > list[i - 1]!)).toBe(true);
  });
});
