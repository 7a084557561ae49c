/** Scripts that hang on events: which are run, and what they are told (racoon2's names). */

import { expect, test } from 'vitest';
import { pair } from '../support/ike-pair.ts';

const SCRIPTS = Object.fromEntries(
  ['phase1_up', 'phase1_down', 'phase1_rekey', 'phase2_up', 'phase2_down', 'phase2_rekey', 'migration'].map((event) => [
    event,
    `/etc/tanuki/hook/${event}`,
  ]),
);

for (const version of ['ikev2', 'ikev1'] as const) {
  test(`${version}: up, rekeyed and down, each once and with what it is about`, () => {
    const { a, net } = pair({ a: { kmp: [version], [version]: { scripts: SCRIPTS } }, b: { kmp: [version] } }).established();
    expect(a.hooks.map(({ event }) => event).sort()).toEqual(['phase1_up', 'phase2_up']);
    expect(a.hooks.find(({ event }) => event === 'phase1_up')).toMatchObject({
      file: '/etc/tanuki/hook/phase1_up',
      environment: { LOCAL_ADDR: '192.0.2.1', LOCAL_PORT: '500', REMOTE_ADDR: '192.0.2.2', REMOTE_PORT: '500' },
    });
    expect(a.hooks.find(({ event }) => event === 'phase2_up')?.environment).toEqual({
      LOCAL_ADDR: '192.0.2.1',
      REMOTE_ADDR: '192.0.2.2',
      SELECTOR_INDEX: 'lan',
      IPSEC_MODE: 'tunnel',
      LOCAL_NET_ADDR: '10.1.0.0',
      LOCAL_NET_PREFIXLEN: '24',
      LOCAL_NET_PORT: '0',
      REMOTE_NET_ADDR: '10.2.0.0',
      REMOTE_NET_PREFIXLEN: '24',
      REMOTE_NET_PORT: '0',
      UPPER_LAYER_PROTOCOL: '0',
    });

    a.hooks.length = 0;
    a.command({ verb: 'rekey', name: 'lan', what: 'child' });
    net.run(20_000);
    // The end of what was replaced is told of by the rekey.
    expect(a.hooks.map(({ event }) => event)).toEqual(['phase2_rekey']);

    a.hooks.length = 0;
    a.command({ verb: 'rekey', name: 'peer', what: 'ike' });
    net.run(20_000);
    expect(a.hooks.map(({ event }) => event).filter((event) => event !== 'phase1_up')).toEqual(['phase1_rekey']);

    a.hooks.length = 0;
    a.command({ verb: 'terminate', name: 'peer' });
    net.run(20_000);
    expect(a.hooks.map(({ event }) => event).sort()).toEqual(['phase1_down', 'phase2_down']);
  });
}

test('no script is named: nothing is run', () => {
  const { a, net } = pair().established();
  a.command({ verb: 'rekey', name: 'lan', what: 'child' });
  net.run(20_000);
  expect(a.hooks).toEqual([]);
});
