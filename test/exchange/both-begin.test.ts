/** Both ends begin an IKE SA at once, and rekey before the redundant one is closed: one stays, the same at both ends (RFC 7296 §2.8.1, §2.8.2). */

import { describe, expect, test } from 'vitest';
import { disagreements, type IkeNode, pair } from '../support/ike-pair.ts';

/** `b` begins while the first message of `a` has come; `later` happens after `ms`. */
function begun(seed: number, ms: number, later: (made: ReturnType<typeof pair>) => void): void {
  const made = pair({ seed });
  const { a, b, net } = made;
  a.initiate();
  net.after(15, () => b.initiate());
  net.after(ms, () => later(made));
  net.run(60_000);
  expect([a.ikeSas(), b.ikeSas()]).toEqual([['established'], ['established']]);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  expect(disagreements(a, b)).toEqual([]);
}

function rekey(node: IkeNode): void {
  node.command({ verb: 'rekey', name: 'peer', what: 'ike' });
}

describe('one end rekeys', () => {
  for (const seed of [1, 2, 3])
    for (const by of ['a', 'b'] as const)
      for (const [ms, when] of [
        [45, 'as they come up'],
        [500, 'while the redundant one waits for its end'],
        [2_030, 'as the redundant one is to be closed'],
      ] as const)
        test(`${by}, ${when}, seed ${seed}`, () => begun(seed, ms, (made) => rekey(made[by])));
});

describe('both rekey', () => {
  test('at once, as the redundant one is to be closed', () => {
    begun(4, 2_020, ({ a, b }) => {
      rekey(a);
      rekey(b);
    });
  });

  test('and a lost response keeps the rekey of the one that stays open when the other is to be closed', () => {
    begun(5, 1_500, ({ a, b, net }) => {
      const lost = net.flights.length + 6;
      net.lose(({ number }) => number === lost, 1);
      rekey(a);
      rekey(b);
    });
  });
});
