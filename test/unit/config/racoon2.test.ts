/** A file written for racoon2 loads, with warnings at most, and lint says what changed (decisions §6). */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { compile, memoryFiles } from '../../../src/config/index.ts';

const TEXT = readFileSync(join(import.meta.dirname, 'fixtures/racoon2-style.conf'), 'utf8');
const { config, diagnostics } = compile('/t.conf', memoryFiles({ '/t.conf': TEXT }));
const of = (severity: string) =>
  diagnostics.filter((found) => found.severity === severity).map(({ line, message }) => `${line} ${message}`);

test('there is no error', () => expect(of('error')).toEqual([]));

test('the warnings say what has no effect, each once', () => {
  expect(of('warning')).toEqual([
    '12 `kink` has no effect yet',
    '23 `ikev1` has no effect yet',
    '38 `logmode` has no effect',
    '40 `kmp_sa_lifetime_byte` has no effect',
    '43 `times_per_send` has no effect',
    '44 `infinite` is taken as "not set": the default applies, as in racoon2',
    '45 `ipsec_sa_nego_time_limit` has no effect',
    '46 `3des_cbc` is weak; it is let in because the policy names it',
    '47 `hmac_md5` is not offered: Tanuki does not have it',
    '48 `hmac_md5` is not offered: Tanuki does not have it',
    '49 `modp1024` is weak; it is let in because the policy names it',
    '56 `kink` has no effect yet',
    '60 `3des_cbc` is weak; it is let in because the policy names it',
    '60 `hmac_md5` is not offered: Tanuki does not have it',
    '64 `ipsec_ah_esp` is not offered: ah is not built yet',
    '65 `ah` has no effect yet',
    '65 `hmac_md5` is not offered: Tanuki does not have it',
    '66 `3des_cbc` is weak; it is let in because the policy names it',
    '66 `hmac_md5` is not offered: Tanuki does not have it',
    '69 `ikev1` is not spoken yet',
    '70 `ikev1` has no effect yet',
    '82 `my_public_key` has no effect yet',
    '83 `peers_public_key` has no effect yet',
    '84 `provide` has no effect yet',
    '85 `request` has no effect yet',
    '86 `script` has no effect yet',
    '88 `selector_index` has no effect yet',
    '91 the remote `old_peer` has no effect yet: it is for protocols that are not built',
    '92 `ikev1` has no effect yet',
    '121 the address pool has no effect yet',
  ]);
});

test('the notes say what changed', () => {
  expect(of('note')).toEqual([
    '11 port 4500 needs no entry: the datapath listens there and hands IKE over',
    '39 the IKE SA is never rekeyed; racoon2 took `infinite` as "not set"',
    '91 the remote `old_peer` is not used by any policy',
  ]);
});

test('what is built is as the file says', () => {
  expect(config!.remotes).toMatchObject([
    {
      name: 'ike_tun_remote',
      acceptableKmp: ['ikev2'],
      ikev2: {
        encr: [
          { name: 'aes_cbc', keyBits: 128 },
          { name: 'aes_cbc', keyBits: 256 },
          { name: '3des_cbc', keyBits: 192 },
        ],
        prf: ['hmac_sha1', 'aes_xcbc'],
        integ: ['hmac_sha1'],
        saLifetime: 'infinite',
        retryInterval: 10_000,
        preSharedKey: '/etc/racoon2/psk/test.psk',
      },
    },
    { name: 'old_peer', acceptableKmp: [], ikev2: undefined },
  ]);
  expect(config!.interface).toMatchObject({ ike: [{ macro: 'MY_IP', port: 500 }], spmd: '/var/run/racoon2/spmif' });
  expect(config!.selectors.map(({ name, policy }) => [name, policy.action, policy.ipsec.map((ipsec) => ipsec.name)])).toEqual([
    ['ike_tun_sel_out', 'protect', ['ipsec_esp']],
    ['ike_tun_sel_in', 'protect', ['ipsec_esp']],
  ]);
});
