/** AH between the embedded engine and the guest kernel's own (ah4, ah6): every integrity algorithm both have, both modes, IPv4 and IPv6, and AH around ESP. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { IntegName } from '../../src/crypto/transforms.ts';
import { KERNEL_AUTH, KernelPeer, xfrmPolicies, xfrmState } from './lab/kernel-peer.ts';
import { namespacesMissing } from './lab/namespaces.ts';
import { skipNote } from './lab/skip.ts';
import { umlMissing } from './lab/uml.ts';

const BUILT = fileURLToPath(new URL('../../dist/src/datapath-process/cli.js', import.meta.url));
const missing = namespacesMissing() ?? umlMissing() ?? (existsSync(BUILT) ? undefined : 'not built (npm run build)');
const why = skipNote('AH with the guest kernel', missing);

describe.skipIf(missing !== undefined)(`AH with the guest kernel${why}`, () => {
  let peer: KernelPeer;
  beforeAll(async () => {
    peer = await KernelPeer.open('uml-ah');
  });
  afterAll(() => peer?.close());

  const rows = (Object.keys(KERNEL_AUTH) as IntegName[]).flatMap((integ) =>
    (['tunnel', 'transport'] as const).flatMap((mode) =>
      (['v4', 'v6'] as const).map((family) => ({ integ, mode, family, esn: family === 'v6' })),
    ),
  );

  test('the table has the rows it should have', () => expect(rows.length).toBe(7 * 2 * 2));

  test.each(rows)('$integ, $mode, $family: pings pass (ESN: $esn)', async ({ integ, mode, family, esn }) => {
    await peer.clear();
    const pair = peer.pairOf(mode, family, family, {
      protocol: 'ah',
      suite: { encr: 'null_enc', keyBits: 0, integ },
      extendedSequence: esn,
    });
    await peer.install(pair, family === 'v4' ? 'align4' : '');
    expect(await peer.passes(mode, family, family)).toEqual([true, true]);
  });

  test('AH around ESP, in transport mode and around a tunnel', async () => {
    const ah = {
      protocol: 'ah',
      suite: { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha2_256' },
      extendedSequence: false,
    } as const;
    for (const [mode, family] of [
      ['transport', 'v4'],
      ['transport', 'v6'],
      ['tunnel', 'v4'],
      ['tunnel', 'v6'],
    ] as const) {
      await peer.clear();
      const pairs = [peer.pairOf(mode, family, family, undefined), peer.pairOf('transport', family, family, ah)];
      await peer.engine.installBundle(pairs, 'left');
      const flags = family === 'v4' ? 'align4' : '';
      const states = pairs.flatMap((pair) => {
        const flag = pair.security === ah ? flags : '';
        return [xfrmState(pair, 'left', 'right', flag), xfrmState(pair, 'right', 'left', flag)];
      });
      await peer.guest.must(['set -e', ...states, xfrmPolicies(pairs)].join('\n'));
      expect([mode, family, await peer.passes(mode, family, family)]).toEqual([mode, family, [true, true, true, true]]);
    }
  });

  test('TCP in both directions, segmented before AH', async () => {
    for (const family of ['v4', 'v6'] as const) {
      await peer.clear();
      const pair = peer.pairOf('transport', family, family, {
        protocol: 'ah',
        suite: { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha2_256' },
        extendedSequence: true,
      });
      await peer.engine.install(pair, 'left');
      const flags = family === 'v4' ? 'align4' : '';
      await peer.guest.must(`set -e
        ${xfrmState(pair, 'left', 'right', flags)}
        ${xfrmState(pair, 'right', 'left', flags)}
        ${xfrmPolicies([pair])}
        for port in 5399 5400; do iperf3 -s -1 -D -p $port --logfile /tmp/iperf-${family}-$port.log; done`);
      const to = peer.lab.b.addresses.outer[family];
      for (const direction of [
        ['-p', '5399'],
        ['-p', '5400', '-R'],
      ]) {
        const report: string = await peer.lab.a.must(['iperf3', '-c', to, '-n', '8M', '-J', ...direction], { timeout: 60 });
        // iperf3's receiver stops counting when the sender says that it is done.
        expect(JSON.parse(report).end.sum_received?.bytes ?? report).toBeGreaterThan(1_000_000);
      }
    }
  });

  test('padded as the kernel has it by default, where the configuration says so', async () => {
    await peer.clear();
    await peer.restart({ ahPadding: 'linux' });
    const pair = peer.pairOf('transport', 'v4', 'v4', {
      protocol: 'ah',
      suite: { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha2_256' },
      extendedSequence: false,
    });
    await peer.install(pair);
    expect(await peer.passes('transport', 'v4', 'v4')).toEqual([true, true]);
  });
});
