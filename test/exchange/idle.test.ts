/** Idle lifetimes: who carries nothing ends, with a DELETE, and comes back with the next packet; over each protocol, on virtual time. */

import { describe, expect, test } from 'vitest';
import { disagreements, LAN_A, LAN_B, pair } from '../support/ike-pair.ts';
import { CBC, kinkDisagreements, kinkPair } from '../support/kink-pair.ts';

const IDLE_MS = 16_000;
/** A look a step, which is an eighth. */
const ENDED_MS = IDLE_MS + IDLE_MS / 8 + 1_000;
const ipsec = [{ lifetimeIdle: IDLE_MS }];

/** The same two hosts by either daemon. */
const OVER = {
  ikev2: () => {
    const made = pair({ a: { children: [{ local: LAN_A, peer: LAN_B, ipsec }] } }).established();
    return { ...made, differ: () => disagreements(made.a, made.b) };
  },
  ikev1: () => {
    const v1 = { kmp: ['ikev1'] } as const;
    const made = pair({ a: { ...v1, children: [{ local: LAN_A, peer: LAN_B, ipsec }] }, b: v1 }).established();
    return { ...made, differ: () => disagreements(made.a, made.b) };
  },
  kink: () => {
    const hosts = { local: '192.0.2.1', peer: '192.0.2.2', policy: { mode: 'transport' as const } };
    const made = kinkPair({ a: { children: [{ ...hosts, ipsec, sas: CBC }] } }).established();
    return { ...made, differ: () => kinkDisagreements(made.a, made.b) };
  },
};

describe.each(Object.keys(OVER) as (keyof typeof OVER)[])('%s', (protocol) => {
  test('what is used one way only stays; what nobody uses ends at both ends, and is made anew on demand', () => {
    const { a, b, net, differ } = OVER[protocol]();
    expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
    // One packet in each idle time, all of them inbound, and then all of them outbound.
    for (let i = 1; i <= 4; i++) net.after(i * (IDLE_MS - 3_000), () => (b as typeof a).packet(a as never));
    for (let i = 5; i <= 8; i++) net.after(i * (IDLE_MS - 3_000), () => (a as typeof a).packet(b as never));
    net.run(8 * (IDLE_MS - 3_000) + 1_000);
    expect([a.children(), b.children(), a.lost + b.lost]).toEqual([['installed'], ['installed'], 0]);
    net.run(ENDED_MS);
    expect([a.children(), b.children()]).toEqual([[], []]);
    expect(a.named('child-sa-down').join()).toMatch(/it carried nothing for 1[678] s/);
    // It is not made again by itself, and not rekeyed.
    net.run(60_000);
    expect([a.children(), a.named('child-sa-rekeyed')]).toEqual([[], []]);
    a.acquire();
    net.run(2_000);
    expect([a.children(), b.children(), differ()]).toEqual([['installed'], ['installed'], []]);
  });

  test('it is not ended while the datapath is away and cannot say', () => {
    const { a, net } = OVER[protocol]();
    a.put({ kind: 'pfkey-link', up: false });
    net.run(3 * IDLE_MS);
    expect(a.named('child-sa-down')).toEqual([]);
  });
});

test('one that is to be there always is not looked at', () => {
  const children = [{ local: LAN_A, peer: LAN_B, ipsec, policy: { initiate: 'start' as const } }];
  const { a, net } = pair({ a: { children } }).established();
  net.run(3 * IDLE_MS);
  expect([a.children(), a.named('child-sa-down')]).toEqual([['installed'], []]);
});
