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
    '24 `logmode` has no effect',
    '26 `kmp_sa_lifetime_byte` has no effect',
    '28 `times_per_send` has no effect',
    '29 `ipsec_sa_nego_time_limit` has no effect',
    '30 `3des_cbc` is weak; it is let in because the policy names it',
    '31 `md5` is not offered: Tanuki does not have it',
    '32 `modp1024` is weak; it is let in because the policy names it',
    '34 `random_pad_content` has no effect',
    '38 `logmode` has no effect',
    '40 `kmp_sa_lifetime_byte` has no effect',
    '43 `times_per_send` has no effect',
    '44 `infinite` is taken as "not set": the default applies, as in racoon2',
    '45 `ipsec_sa_nego_time_limit` has no effect',
    '46 `3des_cbc` is weak; it is let in because the policy names it',
    '47 `hmac_md5` is not offered: Tanuki does not have it',
    '48 `hmac_md5` is not offered: it is too weak for an IKE SA (RFC 8247)',
    '49 `modp1024` is weak; it is let in because the policy names it',
    '60 `3des_cbc` is weak; it is let in because the policy names it',
    '60 `hmac_md5` is weak; it is let in because the policy names it',
    '64 `ipsec_ah_esp` is not offered to the remote `ike_tun_remote`: IKEv2 does not negotiate AH and ESP for one packet (RFC 7296 §3.3 has one protocol a proposal)',
    '65 `hmac_md5` is weak; it is let in because the policy names it',
    '66 `3des_cbc` is weak; it is let in because the policy names it',
    '66 `hmac_md5` is weak; it is let in because the policy names it',
    '82 `my_public_key` has no effect yet',
    '83 `peers_public_key` has no effect yet',
    '84 `provide` has no effect yet',
    '85 `request` has no effect yet',
    '88 `selector_index` has no effect',
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
      acceptableKmp: ['ikev2', 'ikev1'],
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
      ikev1: {
        encr: [
          { name: 'aes_cbc', keyBits: 128 },
          { name: '3des_cbc', keyBits: 192 },
        ],
        hash: ['hmac_sha1'],
        groups: ['modp3072', 'modp2048', 'modp1024'],
        proposalCheck: 'obey',
        saLifetime: 600_000,
        retryInterval: 10_000,
        peersId: [{ type: 'ipaddr', value: '198.51.100.7' }],
      },
      kink: undefined,
    },
    {
      name: 'old_peer',
      acceptableKmp: ['ikev1'],
      ikev2: undefined,
      ikev1: { peersIpaddr: [{ address: '203.0.113.9' }], dpdDelay: 20_000, groups: ['modp3072', 'modp2048', 'modp1024'] },
    },
  ]);
  expect(config!.interface).toMatchObject({ ike: [{ macro: 'MY_IP', port: 500 }], spmd: '/var/run/racoon2/spmif' });
  expect(config!.selectors.map(({ name, policy }) => [name, policy.action, policy.ipsec.map((ipsec) => ipsec.name)])).toEqual([
    ['ike_tun_sel_out', 'protect', ['ipsec_esp']],
    ['ike_tun_sel_in', 'protect', ['ipsec_esp']],
  ]);
});
