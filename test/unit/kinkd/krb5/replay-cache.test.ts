import { describe, expect, test } from 'vitest';
import { ReplayCache, replayLimits } from '../../../../kinkd/krb5/replay-cache.ts';
import { cat } from '../../../../src/bytes/bytes.ts';
import { WireError } from '../../../../src/errors.ts';

const id = (n: number) => new Uint8Array(32).fill(n);
const limits = replayLimits(300, 4);

describe('the replay cache', () => {
  test('knows what was added, for twice the skew and no longer', () => {
    const cache = new ReplayCache(limits, 1000);
    cache.add(id(1), 2000);
    expect([cache.has(id(1)), cache.has(id(2))]).toEqual([true, false]);
    cache.expire(2600);
    expect(cache.has(id(1))).toBe(true);
    cache.expire(2601);
    expect(cache.has(id(1))).toBe(false);
  });

  test('vouches for the window only once it is older than that', () => {
    const cache = new ReplayCache(limits, 1000);
    expect([cache.complete(1000), cache.complete(1600), cache.complete(1601), cache.completeAt()]).toEqual([
      false,
      false,
      true,
      1600,
    ]);
    cache.add(id(1), 1700);
    cache.expire(2301);
    expect([cache.size, cache.complete(2301)]).toEqual([0, true]);
    // The clock is set back: what was forgotten could be replayed.
    expect(cache.complete(2000)).toBe(false);
  });

  test('is bounded: the oldest goes, and the cache says that it is incomplete', () => {
    const cache = new ReplayCache(limits, 0);
    for (let n = 1; n <= 5; n++) cache.add(id(n), 2000 + n);
    expect([cache.size, cache.has(id(1)), cache.has(id(2))]).toEqual([4, false, true]);
    expect([cache.complete(2006), cache.complete(2601), cache.complete(2602)]).toEqual([false, false, true]);
  });

  test('is persisted whole and by appending, and a cut record is left out', () => {
    const cache = new ReplayCache(limits, 1000);
    let file = cache.write();
    file = cat(file, cache.add(id(1), 1700), cache.add(id(2), 1800));
    expect(cache.write()).toEqual(file);
    for (const [cut, known] of [
      [0, 2],
      [1, 1],
      [40, 1],
      [41, 0],
    ] as const) {
      const read = ReplayCache.read(file.subarray(0, file.length - cut), limits, 1900);
      expect([read.size, read.has(id(1)), read.complete(1601), read.complete(1600)]).toEqual([known, known > 0, true, false]);
    }
    const later = ReplayCache.read(file, limits, 2350);
    expect([later.has(id(1)), later.has(id(2)), later.complete(2350)]).toEqual([false, true, true]);
    expect(() => ReplayCache.read(file.subarray(0, 12), limits, 0)).toThrow(WireError);
    expect(() => ReplayCache.read(id(0), limits, 0)).toThrow('no replay cache');
  });

  test('a file that holds more than the bound is cut to it, incomplete', () => {
    const large = new ReplayCache(replayLimits(300, 10), 0);
    for (let n = 1; n <= 10; n++) large.add(id(n), 2000);
    const read = ReplayCache.read(large.write(), limits, 2100);
    expect([read.size, read.complete(2100)]).toEqual([4, false]);
  });
});
