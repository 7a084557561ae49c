/** What `status` shows of failures. */

import { expect, test } from 'vitest';
import { Failures } from '../../../src/keying/failures.ts';

test('what a peer sent commands no terminal', () => {
  const failures = new Failures(() => true);
  failures.remember('office', 'the peer said \u001b[2J and\na line', 1);
  expect(failures.all.get('office')!.why).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
});

test('strangers push out strangers, and nothing that is configured', () => {
  const failures = new Failures((name) => name === 'office');
  failures.remember('office', 'no answer', 1);
  for (let i = 0; i < 100; i++) failures.remember(`192.0.2.${i}`, 'no policy', 2);
  expect(failures.all.size).toBe(64);
  expect(failures.all.has('office')).toBe(true);
});
