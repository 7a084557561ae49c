/** docs/config.md is written from the schema. `UPDATE_DOCS=1 npx vitest run test/unit/config/reference.test.ts` writes it anew. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { renderReference } from '../../../src/config/index.ts';
import { IKEV1, KINK, SECTIONS, TABLES } from '../../../src/config/schema.ts';

const FILE = join(import.meta.dirname, '../../../docs/config.md');

test('docs/config.md is what the schema says', () => {
  const text = renderReference();
  if (process.env.UPDATE_DOCS === '1') writeFileSync(FILE, text);
  expect(readFileSync(FILE, 'utf8') === text, 'docs/config.md is out of date: run this test with UPDATE_DOCS=1').toBe(true);
});

test('every directive has a sentence, a form and a daemon', () => {
  for (const { title, words } of TABLES) {
    for (const [word, { doc, by, is }] of Object.entries(words)) {
      expect(doc, `${title} ${word}`).toMatch(/^["`'A-Z].*[.`]$/);
      expect(by.length, `${title} ${word}`).toBeGreaterThan(0);
      expect(is.syntax, `${title} ${word}`).not.toBe('');
    }
  }
});

/** All words of racoon2's grammar, `reference/racoon2.md` §2. */
const RACOON2: Readonly<Record<string, string>> = {
  'interface { }': 'ike kink spmd spmd_password application_bypass',
  'resolver { }': 'resolver nameserver dns_query',
  'remote NAME { }': 'ikev1 ikev2 kink acceptable_kmp selector_index',
  'ikev1 { }':
    'exchange_mode my_gssapi_id need_pfs my_public_key peers_public_key pre_shared_key dpd dpd_delay dpd_retry dpd_maxfail',
  'ikev2 { }':
    'logmode logfile passive use_coa peers_ipaddr peers_kmp_port verify_id verify_pubkey send_cert_req nonce_size initial_contact nat_traversal ' +
    'support_proxy my_id peers_id selector_check proposal_check random_pad_content random_padlen max_padlen max_retry_to_send interval_to_send ' +
    'times_per_send kmp_sa_lifetime_time kmp_sa_lifetime_byte kmp_sa_nego_time_limit kmp_sa_grace_period ipsec_sa_nego_time_limit kmp_enc_alg ' +
    'kmp_hash_alg kmp_prf_alg kmp_auth_method kmp_dh_group mobility_role script cookie_required send_peers_id need_pfs my_public_key ' +
    'peers_public_key pre_shared_key dpd_delay provide request require_config_payload max_ip4_alloc max_ip6_alloc',
  'provide { }': 'addresspool dns dhcp application_version mip6_home_prefix',
  'kink { }': 'my_principal peers_principal',
  'selector NAME { }': 'order direction src dst upper_layer_protocol next_header_including tagged policy_index reqid',
  'policy NAME { }': 'action install remote_index ipsec_index ipsec_mode my_sa_ipaddr peers_sa_ipaddr ipsec_level',
  'ipsec NAME { }': 'ipsec_sa_lifetime_time ipsec_sa_lifetime_byte ext_sequence sa_index',
  'sa NAME { }': 'sa_protocol esp_enc_alg esp_auth_alg ah_auth_alg ipcomp_alg spi',
  'default { }': 'remote policy ipsec sa',
};

test("every word of racoon2's grammar is known", () => {
  for (const [title, words] of Object.entries(RACOON2)) {
    const table = TABLES.find((candidate) => candidate.title === title);
    expect(Object.keys(table?.words ?? {}), title).toEqual(expect.arrayContaining(words.split(' ')));
  }
  const shared = RACOON2['ikev2 { }']!.split(' ').slice(0, 38);
  for (const { words } of [IKEV1, KINK]) expect(Object.keys(words)).toEqual(expect.arrayContaining(shared.slice(0, 34)));
  expect(Object.keys(SECTIONS)).toEqual(
    expect.arrayContaining('setval include default interface resolver remote selector policy ipsec sa addresspool'.split(' ')),
  );
});
