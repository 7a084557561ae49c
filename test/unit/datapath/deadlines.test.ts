import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Deadlines } from '../../../src/datapath/deadlines.ts';

const step = fc.oneof(
  fc.record({ kind: fc.constant('set' as const), item: fc.integer({ min: 0, max: 30 }), at: fc.integer({ min: 0, max: 20 }) }),
  fc.record({ kind: fc.constant('delete' as const), item: fc.integer({ min: 0, max: 30 }), at: fc.constant(0) }),
  fc.record({ kind: fc.constant('take' as const), item: fc.constant(0), at: fc.integer({ min: 0, max: 20 }) }),
);

test('what is due comes out in order of time, and of those of one time in the order in which they were set', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const deadlines = new Deadlines<number>();
      let model: { item: number; at: number }[] = [];
      for (const { kind, item, at } of steps) {
        if (kind === 'take') {
          const [first] = model.toSorted((a, b) => a.at - b.at);
          const due = first !== undefined && first.at <= at ? first : undefined;
          expect(deadlines.take(at)).toBe(due?.item);
          model = model.filter((one) => one !== due);
        } else {
          model = model.filter((one) => one.item !== item);
          if (kind === 'set') model.push({ item, at });
          if (kind === 'set') deadlines.set(item, at);
          else deadlines.delete(item);
        }
        expect(deadlines.size).toBe(model.length);
        expect(deadlines.next).toBe(Math.min(Number.POSITIVE_INFINITY, ...model.map((one) => one.at)));
      }
    }),
  );
});

test('without a limit there is no deadline', () => {
  const deadlines = new Deadlines<string>();
  deadlines.set('a', 5);
  deadlines.set('a', Number.POSITIVE_INFINITY);
  expect([deadlines.size, deadlines.take(1e12)]).toEqual([0, undefined]);
});
