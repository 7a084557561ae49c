import { describe, expect, test } from 'vitest';
import { EXCHANGE, readHeader } from '../../iked/ikev2/message.ts';
import { disagreements, type IkeNode, type Net, pair } from '../support/ike-pair.ts';

/** The responses of `from` to CREATE_CHILD_SA take `ms`, so that what it sends next overtakes them. */
function delayResponse(net: Net, from: IkeNode, ms: number): void {
  const before = net.fate;
  net.fate = (flight) => {
    const header = readHeader(flight.bytes);
    return flight.from === from && header.response && header.exchange === EXCHANGE.CREATE_CHILD_SA ? [ms] : before(flight);
  };
}

function whole(a: IkeNode, b: IkeNode): void {
  expect([a.ikeSas(), b.ikeSas()]).toEqual([['established'], ['established']]);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  expect(disagreements(a, b)).toEqual([]);
}

/** UDP does not keep the order: the responder of an exchange may use its outcome before the initiator has heard of it. */
describe('a request overtakes the response that it builds on', () => {
  test('a rekey of the child that the response brings is put off, not refused for good (§2.25)', () => {
    const { a, b, net } = pair().established();
    a.command({ verb: 'rekey', name: 'lan', what: 'child' });
    delayResponse(net, b, 80);
    net.after(40, () => {
      // b's newest child is the one that a does not know yet.
      const newest = b.v2Children.at(-1)!;
      newest.ike.add({ kind: 'rekey-child', child: newest });
      b.put({ kind: 'tick' });
    });
    net.run(1_000);
    net.heal();
    net.run(30_000);
    expect(b.ladder().some((line) => line.includes('CHILD_SA_NOT_FOUND'))).toBe(false);
    whole(a, b);
  });

  test('a DELETE of the child that the response brings is not forgotten (§1.4.1)', () => {
    const { a, b, net } = pair().established();
    a.command({ verb: 'rekey', name: 'lan', what: 'child' });
    delayResponse(net, b, 80);
    net.after(40, () => {
      const newest = b.v2Children.at(-1)!;
      newest.ike.add({ kind: 'delete-child', children: [newest] });
      b.put({ kind: 'tick' });
    });
    net.run(1_000);
    net.heal();
    net.run(30_000);
    expect(disagreements(a, b)).toEqual([]);
    expect(a.children().length).toBe(b.children().length);
  });

  for (let seed = 1; seed <= 4; seed++) {
    test(`in a collision of rekeys the response comes after the other child's outbound half is in, seed ${seed} (§2.8.1)`, () => {
      const { a, b, net } = pair({ seed }).established();
      a.command({ verb: 'rekey', name: 'lan', what: 'child' });
      b.command({ verb: 'rekey', name: 'lan', what: 'child' });
      delayResponse(net, a, 2_600);
      delayResponse(net, b, 2_600);
      net.run(2_900);
      net.heal();
      net.run(30_000);
      whole(a, b);
      expect([a.datapath.outbound.size, b.datapath.outbound.size]).toEqual([1, 1]);
    });
  }
});
