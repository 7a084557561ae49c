/** A script of the policy file is run by the daemon, with what it is about in its environment. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { connected, inside, site, until } from './nodes.ts';

test('phase2_up of iked runs the script that the policy names', async () => {
  const place = site((side, said) => (side === 'a' ? { ...said, ikev2: 'script { phase2_up "hook"; };' } : said));
  const [script, told] = [join(place.directory, 'a', 'hook'), join(place.directory, 'told')];
  // Written under another name first, so that it is there whole or not at all.
  writeFileSync(script, `#!/bin/sh\n{ echo "event=$1"; env; } > ${told}.part && mv ${told}.part ${told}\n`, { mode: 0o700 });
  const running = [await inside(place.b), await inside(place.a)];
  try {
    await connected([place.a, place.b], ['net'], 20_000);
    await until('the script has run', 10_000, () => existsSync(told));
    const lines = readFileSync(told, 'utf8').split('\n');
    expect(lines).toEqual(
      expect.arrayContaining([
        'event=phase2_up',
        'SELECTOR_INDEX=net',
        'IPSEC_MODE=tunnel',
        `LOCAL_ADDR=${place.a.address}`,
        `REMOTE_ADDR=${place.b.address}`,
        'LOCAL_NET_ADDR=10.1.0.0',
        'LOCAL_NET_PREFIXLEN=17',
      ]),
    );
  } finally {
    for (const { suite } of running) await suite.stop();
    place.remove();
  }
}, 60_000);
