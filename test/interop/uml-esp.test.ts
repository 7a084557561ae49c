/** ESP between the embedded engine and the guest kernel's own (esp4, esp6): every transform both have, both modes, raw and in UDP, IPv4 and IPv6. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { EspSuite } from '../../src/crypto/packet-cipher.ts';
import { ENCR_NAMES, INTEG, INTEG_NAMES, suiteText } from '../../src/crypto/transforms.ts';
import { KERNEL_AUTH, KERNEL_ENCR, KernelPeer } from './lab/kernel-peer.ts';
import { namespacesMissing } from './lab/namespaces.ts';
import { skipNote } from './lab/skip.ts';
import { umlMissing } from './lab/uml.ts';

const BUILT = fileURLToPath(new URL('../../dist/src/datapath-process/cli.js', import.meta.url));
const missing = namespacesMissing() ?? umlMissing() ?? (existsSync(BUILT) ? undefined : 'not built (npm run build)');
const why = skipNote('ESP with the guest kernel', missing);

const SUITES: readonly EspSuite[] = [
  { encr: 'aes_gcm_16', keyBits: 128, integ: 'none' },
  { encr: 'aes_gcm_16', keyBits: 256, integ: 'none' },
  { encr: 'aes_gcm_12', keyBits: 192, integ: 'none' },
  { encr: 'aes_gcm_8', keyBits: 256, integ: 'none' },
  { encr: 'aes_ccm_16', keyBits: 128, integ: 'none' },
  { encr: 'aes_ccm_12', keyBits: 192, integ: 'none' },
  { encr: 'aes_ccm_8', keyBits: 256, integ: 'none' },
  { encr: 'chacha20_poly1305', keyBits: 0, integ: 'none' },
  { encr: 'null_auth_aes_gmac', keyBits: 128, integ: 'none' },
  { encr: 'aes_cbc', keyBits: 128, integ: 'hmac_sha2_256' },
  { encr: 'aes_cbc', keyBits: 192, integ: 'hmac_sha2_384' },
  { encr: 'aes_cbc', keyBits: 256, integ: 'hmac_sha2_512' },
  { encr: 'aes_ctr', keyBits: 128, integ: 'aes_xcbc' },
  { encr: 'camellia_cbc', keyBits: 256, integ: 'hmac_sha1' },
  { encr: 'null_enc', keyBits: 0, integ: 'aes_cmac' },
  { encr: '3des_cbc', keyBits: 0, integ: 'hmac_sha1' },
  { encr: 'des_cbc', keyBits: 0, integ: 'hmac_md5' },
];

const ROWS = SUITES.flatMap((suite, i) =>
  (['tunnel', 'transport'] as const).flatMap((mode) =>
    [false, true].map((encapsulated) => {
      // Raw tunnels and transport in UDP are over one family, the others over the other, and the next suite's the other way round.
      const family = ((mode === 'tunnel') !== encapsulated) === (i % 2 === 0) ? ('v4' as const) : ('v6' as const);
      const esn = i % 3 === 1;
      const text = suiteText(suite.encr, suite.keyBits, suite.integ);
      const title = `${text}, ${mode}, ${family}${encapsulated ? ', in UDP' : ''}${esn ? ', ESN' : ''}`;
      return { suite, mode, family, encapsulated, esn, title };
    }),
  ),
);

const BEET = (['v4', 'v6'] as const).flatMap((inner) =>
  (['v4', 'v6'] as const).flatMap((outer) =>
    [false, true].map((encapsulated) => ({
      inner,
      outer,
      encapsulated,
      title: `IP${inner} in IP${outer}${encapsulated ? ', in UDP' : ''}`,
    })),
  ),
);

describe.skipIf(missing !== undefined)(`ESP with the guest kernel${why}`, () => {
  let peer: KernelPeer;
  beforeAll(async () => {
    peer = await KernelPeer.open('uml-esp');
    await peer.listenInUdp();
  });
  afterAll(() => peer?.close());

  test('the table has every transform that both have', () => {
    expect(ROWS.length).toBe(17 * 2 * 2);
    const ciphers = new Set(SUITES.map(({ encr }) => encr));
    const macs = new Set(SUITES.map(({ integ }) => integ));
    expect(ENCR_NAMES.filter((name) => name in KERNEL_ENCR && !ciphers.has(name))).toEqual([]);
    expect(INTEG_NAMES.filter((name) => name in KERNEL_AUTH && INTEG[name].esp && !macs.has(name))).toEqual([]);
    // The kernel's ESP has no implicit IVs.
    expect(ENCR_NAMES.filter((name) => !(name in KERNEL_ENCR))).toEqual([
      'aes_gcm_16_iiv',
      'chacha20_poly1305_iiv',
      'aes_ccm_8_iiv',
    ]);
  });

  test.each(BEET)('BEET mode, $title', async ({ inner, outer, encapsulated }) => {
    await peer.clear();
    const security = { protocol: 'esp', suite: SUITES[0]!, extendedSequence: false } as const;
    await peer.install(peer.pairOf('beet', outer, inner, security, encapsulated));
    expect(await peer.passes('beet', outer, inner)).toEqual([true, true]);
    if (inner === 'v4') expect(await peer.passesWithOptions()).toBe(true);
  });

  test.each(ROWS)('$title', async ({ suite, mode, family, encapsulated, esn }) => {
    await peer.clear();
    await peer.install(peer.pairOf(mode, family, family, { protocol: 'esp', suite, extendedSequence: esn }, encapsulated));
    expect(await peer.passes(mode, family, family)).toEqual([true, true]);
  });
});
