import { expect, test } from 'vitest';
import { disagreements, pair } from '../support/ike-pair.ts';

test('IKE_SA_INIT and IKE_AUTH make an IKE SA and one child, with the same keys at both ends (§1.2)', () => {
  const { a, b, net } = pair();
  const id = a.initiate();
  net.run();
  expect(a.ladder()).toEqual([
    'IKE_SA_INIT { SA(aes_gcm_16-128 | prf_hmac_sha2_256 | x25519), KE(x25519), Ni, N(NAT_DETECTION_SOURCE_IP), N(NAT_DETECTION_DESTINATION_IP) } -->',
    '<-- IKE_SA_INIT { SA(aes_gcm_16-128 | prf_hmac_sha2_256 | x25519), KE(x25519), Nr, N(NAT_DETECTION_SOURCE_IP), N(NAT_DETECTION_DESTINATION_IP) }',
    'IKE_AUTH { IDi(a.example), N(INITIAL_CONTACT), AUTH(SHARED_KEY), SA(esp 00003000: aes_gcm_16-128 | no_esn), TSi(10.1.0.0-10.1.0.255), TSr(10.2.0.0-10.2.0.255) } -->',
    '<-- IKE_AUTH { IDr(b.example), AUTH(SHARED_KEY), SA(esp 00004000: aes_gcm_16-128 | no_esn), TSi(10.1.0.0-10.1.0.255), TSr(10.2.0.0-10.2.0.255) }',
  ]);
  expect(a.reply(id)).toMatchObject({ ok: true });
  expect([a.ikeSas(), b.ikeSas()]).toEqual([['established'], ['established']]);
  expect([a.children(), b.children()]).toEqual([['installed'], ['installed']]);
  expect(disagreements(a, b)).toEqual([]);
});
