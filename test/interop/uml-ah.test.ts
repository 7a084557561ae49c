/** AH between the embedded engine and the guest kernel's own (ah4, ah6): every integrity algorithm both have, both modes, IPv4 and IPv6, and AH around ESP. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { INTEG, type IntegName } from '../../src/crypto/transforms.ts';
import { DatapathNode, type StaticPair, saOf, settings } from './lab/datapath.ts';
import { Lab, namespacesMissing } from './lab/namespaces.ts';
import { skipNote } from './lab/skip.ts';
import { ping } from './lab/traffic.ts';
import { UmlGuest, umlMissing } from './lab/uml.ts';

const BUILT = fileURLToPath(new URL('../../dist/src/datapath-process/cli.js', import.meta.url));
const missing = namespacesMissing() ?? umlMissing() ?? (existsSync(BUILT) ? undefined : 'not built (npm run build)');
const why = skipNote('AH with the guest kernel', missing);

/** What the kernel calls them. */
const AUTH: Partial<Record<IntegName, string>> = {
  hmac_sha1: 'hmac(sha1)',
  hmac_sha2_256: 'hmac(sha256)',
  hmac_sha2_384: 'hmac(sha384)',
  hmac_sha2_512: 'hmac(sha512)',
  aes_xcbc: 'xcbc(aes)',
  aes_cmac: 'cmac(aes)',
};
type Version = 'v4' | 'v6';

/** A state as iproute2 takes it; `align4` is what RFC 4302 §2.6 asks for and what is not the kernel's default. */
function xfrmState(pair: StaticPair, from: 'left' | 'right', to: 'left' | 'right', flags = ''): string {
  const { spi, mode, source, destination, suite, integKey, encrKey, protocol, extendedSequence } = saOf(pair, from, to);
  const hex = (key: Uint8Array) => `0x${Buffer.from(key).toString('hex')}`;
  const { integ } = suite;
  const algorithm =
    integ === 'none'
      ? `aead 'rfc4106(gcm(aes))' ${hex(encrKey.reveal())} 128`
      : `auth-trunc '${AUTH[integ]}' ${hex(integKey!.reveal())} ${8 * INTEG[integ].icvBytes}`;
  const words = [...(extendedSequence ? ['esn'] : []), ...(flags === '' ? [] : [flags])];
  const flag = `${words.length > 0 ? `flag ${words.join(' ')}` : ''} replay-window ${extendedSequence ? 64 : 32}`;
  return `ip xfrm state add src ${source} dst ${destination} proto ${protocol} spi ${spi} reqid ${pair.spi} mode ${mode} ${flag} ${algorithm}`;
}

function xfrmPolicies(pairs: readonly StaticPair[]): string {
  const { inner } = pairs[0]!;
  const policy = (dir: 'in' | 'out' | 'fwd', from: 'left' | 'right', to: 'left' | 'right') => {
    const templates = pairs.map((pair) => {
      const { source, destination, protocol, mode } = saOf(pair, from, to);
      return `tmpl src ${source} dst ${destination} proto ${protocol} reqid ${pair.spi} mode ${mode}`;
    });
    return `ip xfrm policy add src ${inner[from]} dst ${inner[to]} dir ${dir} priority 100 ${templates.join(' ')}`;
  };
  // Neighbours are found in clear: what went through the tunnel would come from another device.
  const discovery = [135, 136].flatMap((type) =>
    ['in', 'out'].map((dir) => `ip xfrm policy add src ::/0 dst ::/0 proto ipv6-icmp type ${type} dir ${dir} priority 1`),
  );
  return [...discovery, policy('out', 'right', 'left'), policy('in', 'left', 'right')].join('\n');
}

describe.skipIf(missing !== undefined)(`AH with the guest kernel${why}`, () => {
  let lab: Lab;
  let guest: UmlGuest;
  let engine: DatapathNode;
  let spi = 0x2000;

  beforeAll(async () => {
    lab = await Lab.open({ link: false, label: 'uml-ah' });
    guest = await UmlGuest.boot(lab.a, join(lab.dir, 'guest'), lab.b.addresses);
    engine = (await DatapathNode.start(lab.a, join(lab.dir, 'a'), settings())).node;
  });
  afterAll(async () => {
    await engine?.stop();
    await guest?.close();
    await lab?.close();
  });

  const pairOf = (mode: 'tunnel' | 'transport', outer: Version, inner: Version, security: StaticPair['security']): StaticPair => {
    const [left, right] = [lab.a.addresses, lab.b.addresses];
    const bits = outer === 'v4' ? 32 : 128;
    spi += 2;
    return {
      mode,
      encapsulated: false,
      outer: { left: left.outer[outer], right: right.outer[outer] },
      inner:
        mode === 'tunnel'
          ? { left: left.net[inner], right: right.net[inner] }
          : { left: `${left.outer[outer]}/${bits}`, right: `${right.outer[outer]}/${bits}` },
      spi,
      ...(security === undefined ? {} : { security }),
    };
  };
  const clear = async () => {
    await engine.flush();
    await guest.must(
      'kill $(pidof iperf3) 2>/dev/null; ip xfrm state flush; ip xfrm policy flush; ip -4 route flush table 0 proto 99; ip -6 route flush table 0 proto 99; true',
    );
  };
  const passes = async (mode: 'tunnel' | 'transport', outer: Version, inner: Version) => {
    const to = mode === 'tunnel' ? lab.b.addresses.inner[inner] : lab.b.addresses.outer[outer];
    const from = mode === 'tunnel' ? { from: lab.a.addresses.inner[inner] } : {};
    if (mode === 'tunnel')
      await guest.must(
        `ip ${inner === 'v6' ? '-6' : ''} route replace ${lab.a.addresses.net[inner]} dev vec0 src ${lab.b.addresses.inner[inner]} proto 99`,
      );
    // Neighbours have to be found first.
    await ping(lab.a, to, 1, from);
    const before = (await engine.status()).drops;
    expect(await ping(lab.a, to, 3, from)).toMatchObject({ received: 3, errors: [] });
    expect(await ping(lab.a, to, 2, { ...from, size: 1200 })).toMatchObject({ received: 2, errors: [] });
    const { drops, sas } = await engine.status();
    expect(drops).toEqual(before);
    return sas.map(({ packets }) => packets >= 5);
  };

  const rows = (Object.keys(AUTH) as IntegName[]).flatMap((integ) =>
    (['tunnel', 'transport'] as const).flatMap((mode) =>
      (['v4', 'v6'] as const).map((family) => ({ integ, mode, family, esn: family === 'v6' })),
    ),
  );

  test('the table has the rows it should have', () => expect(rows.length).toBe(6 * 2 * 2));

  test.each(rows)('$integ, $mode, $family: pings pass (ESN: $esn)', async ({ integ, mode, family, esn }) => {
    await clear();
    const pair = pairOf(mode, family, family, {
      protocol: 'ah',
      suite: { encr: 'null_enc', keyBits: 0, integ },
      extendedSequence: esn,
    });
    await engine.install(pair, 'left');
    const flags = family === 'v4' ? 'align4' : '';
    await guest.must(`set -e
      ${xfrmState(pair, 'left', 'right', flags)}
      ${xfrmState(pair, 'right', 'left', flags)}
      ${xfrmPolicies([pair])}`);
    expect(await passes(mode, family, family)).toEqual([true, true]);
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
      await clear();
      const pairs = [pairOf(mode, family, family, undefined), pairOf('transport', family, family, ah)];
      await engine.installBundle(pairs, 'left');
      const flags = family === 'v4' ? 'align4' : '';
      const states = pairs.flatMap((pair) => {
        const flag = pair.security === ah ? flags : '';
        return [xfrmState(pair, 'left', 'right', flag), xfrmState(pair, 'right', 'left', flag)];
      });
      await guest.must(['set -e', ...states, xfrmPolicies(pairs)].join('\n'));
      expect([mode, family, await passes(mode, family, family)]).toEqual([mode, family, [true, true, true, true]]);
    }
  });

  test('TCP in both directions, segmented before AH', async () => {
    for (const family of ['v4', 'v6'] as const) {
      await clear();
      const pair = pairOf('transport', family, family, {
        protocol: 'ah',
        suite: { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha2_256' },
        extendedSequence: true,
      });
      await engine.install(pair, 'left');
      const flags = family === 'v4' ? 'align4' : '';
      await guest.must(`set -e
        ${xfrmState(pair, 'left', 'right', flags)}
        ${xfrmState(pair, 'right', 'left', flags)}
        ${xfrmPolicies([pair])}
        for port in 5399 5400; do iperf3 -s -1 -D -p $port --logfile /tmp/iperf-${family}-$port.log; done`);
      const to = lab.b.addresses.outer[family];
      for (const direction of [
        ['-p', '5399'],
        ['-p', '5400', '-R'],
      ]) {
        const report: string = await lab.a.must(['iperf3', '-c', to, '-n', '8M', '-J', ...direction], { timeout: 60 });
        // iperf3's receiver stops counting when the sender says that it is done.
        expect(JSON.parse(report).end.sum_received?.bytes ?? report).toBeGreaterThan(1_000_000);
      }
    }
  });

  test('padded as the kernel has it by default, where the configuration says so', async () => {
    await clear();
    await engine.stop();
    engine = (await DatapathNode.start(lab.a, join(lab.dir, 'a'), settings({ ahPadding: 'linux' }))).node;
    const pair = pairOf('transport', 'v4', 'v4', {
      protocol: 'ah',
      suite: { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha2_256' },
      extendedSequence: false,
    });
    await engine.install(pair, 'left');
    await guest.must(`set -e
      ${xfrmState(pair, 'left', 'right')}
      ${xfrmState(pair, 'right', 'left')}
      ${xfrmPolicies([pair])}`);
    expect(await passes('transport', 'v4', 'v4')).toEqual([true, true]);
  });
});
