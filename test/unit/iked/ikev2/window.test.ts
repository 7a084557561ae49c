import { expect, test } from 'vitest';
import { Window } from '../../../../iked/ikev2/window.ts';
import { backoff } from '../../../../iked/retry.ts';
import { seededRandom } from '../../../support/random.ts';

const retry = { intervalMs: 1000, maxRetries: 3 };
const octets = (...some: number[]) => Uint8Array.from(some);

test('a request is handled once, absorbed while it is handled, and answered again with the same octets (§2.1)', () => {
  const window = new Window();
  expect(window.admit(0)).toEqual({ is: 'new' });
  window.handle();
  expect(window.admit(0).is).toBe('ignored');
  window.answer(octets(1, 2));
  expect(window.admit(0)).toEqual({ is: 'answered', response: octets(1, 2) });
  expect(window.admit(1)).toEqual({ is: 'new' });
  expect(window.admit(2).is).toBe('ignored');
  window.answer(octets(3));
  expect(window.admit(0).is).toBe('ignored');
});

test('one request at a time, sent again with growing pauses up to the limit', () => {
  const window = new Window();
  const random = seededRandom(7);
  window.send(0, octets(9), 0, retry, random);
  expect([window.open, window.awaits(0), window.awaits(1), window.nextMessageId]).toEqual([false, true, false, 1]);
  const sent: number[] = [];
  for (let mono = 0; mono < 100_000; mono += 10) {
    const again = window.retransmit(mono, retry, random);
    if (again === 'give-up') break;
    if (again !== undefined) sent.push(mono);
  }
  expect(sent).toHaveLength(3);
  expect(sent[2]! - sent[1]!).toBeGreaterThan(1.5 * (sent[1]! - sent[0]!));
  window.settle();
  expect(window.open).toBe(true);
});

test('the pause is the interval doubled each time, an eighth less or more, and at most 64 times as long', () => {
  const random = seededRandom(1);
  for (let tries = 1; tries < 20; tries++) {
    const factor = backoff(retry, tries, random) / (1000 * 2 ** Math.min(tries - 1, 6));
    expect(factor).toBeGreaterThanOrEqual(0.87);
    expect(factor).toBeLessThanOrEqual(1.13);
  }
});
