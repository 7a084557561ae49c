/** The queue of IKE messages for iked: bounds, shares, turns. */
import { expect, test } from 'vitest';
import { IkeQueue, networkOf } from '../../../src/datapath-process/ike-queue.ts';

const frame = (n: number) => Uint8Array.of(n);
const drainAll = (queue: IkeQueue) => {
  const out: number[] = [];
  for (let next = queue.next(); next !== undefined; next = queue.next()) out.push(next[0]!);
  return out;
};

test('one network keeps its order, several take turns', () => {
  const queue = new IkeQueue();
  for (const [network, n] of [
    ['a', 1],
    ['a', 2],
    ['a', 3],
    ['b', 10],
    ['b', 11],
  ] as const)
    queue.put(network, frame(n));
  expect(drainAll(queue)).toEqual([1, 10, 2, 11, 3]);
});

test('a flood from one network leaves room for another', () => {
  const queue = new IkeQueue({ total: 10, share: 4, inFlight: 100 });
  const taken = Array.from({ length: 20 }, (_, n) => queue.put('flood', frame(n)));
  expect(taken.filter((ok) => ok)).toHaveLength(4);
  expect(queue.put('peer', frame(99))).toBe(true);
  expect(drainAll(queue)).toEqual([0, 99, 1, 2, 3]);
});

test('floods from many networks end at the total', () => {
  const queue = new IkeQueue({ total: 10, share: 4, inFlight: 100 });
  for (let n = 0; n < 50; n++) queue.put(`${n}`, frame(n));
  expect(queue.waiting).toBe(10);
});

test('what is handed out must be taken over before more is', () => {
  const queue = new IkeQueue({ total: 10, share: 10, inFlight: 2 });
  for (let n = 0; n < 5; n++) queue.put('a', frame(n));
  expect(drainAll(queue)).toEqual([0, 1]);
  queue.taken(1);
  expect(drainAll(queue)).toEqual([2]);
  queue.taken(7);
  expect(drainAll(queue)).toEqual([3, 4]);
});

test('networks are a /24 and a /48', () => {
  expect(networkOf(Uint8Array.of(192, 0, 2, 1))).toBe(networkOf(Uint8Array.of(192, 0, 2, 99)));
  expect(networkOf(Uint8Array.of(192, 0, 2, 1))).not.toBe(networkOf(Uint8Array.of(192, 0, 3, 1)));
  const v6 = (seventh: number, sixth = 0) => Uint8Array.of(0x20, 1, 0xd, 0xb8, 0, sixth, seventh, 0, 0, 0, 0, 0, 0, 0, 0, 1);
  expect(networkOf(v6(1))).toBe(networkOf(v6(2)));
  expect(networkOf(v6(1, 1))).not.toBe(networkOf(v6(1, 2)));
});
