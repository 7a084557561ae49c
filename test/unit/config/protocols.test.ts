/** What a policy says to IKEv1 and KINK, and what it cannot: the blocks, their inheritance, and how a remote chooses among its protocols. */

import { describe, expect, test } from 'vitest';
import { type Config, compile, memoryFiles, print, type RemoteConfig } from '../../../src/config/index.ts';

const V2 = 'ikev2 { peers_ipaddr 192.0.2.2; pre_shared_key "k"; };';
const V1 = 'peers_ipaddr 192.0.2.1; pre_shared_key "k";';
const KINK = 'peers_ipaddr 192.0.2.3; my_principal "kink/a@R"; peers_principal "kink/b@R";';

function run(text: string) {
  const { config, diagnostics } = compile('/t.conf', memoryFiles({ '/t.conf': text }));
  const of = (severity: string) =>
    diagnostics.filter((found) => found.severity === severity).map(({ line, column, message }) => `${line}:${column} ${message}`);
  const hints = diagnostics.map(({ hint }) => hint ?? '');
  return { config, errors: of('error'), warnings: of('warning'), notes: of('note'), hints };
}

function good(text: string): Config {
  const { config, errors } = run(text);
  expect(errors).toEqual([]);
  return config!;
}

/** One remote of the blocks and whatever else stands in it. */
const remote = (text: string, more = ''): RemoteConfig => good(`remote r { ${text} };\n${more}`).remotes[0]!;
const ikev1 = (directives: string) => remote(`ikev1 { ${V1} ${directives} };`).ikev1!;
const kink = (directives: string) => remote(`kink { ${KINK} ${directives} };`).kink!;

/** The directives stand in column 1 of line 2, so that columns in the expectations can be counted. */
const inV1 = (directives: string) => run(`remote r { ikev1 { ${V1}\n${directives}\n}; };`);
const inKink = (directives: string, rest = '') => run(`remote r { kink { peers_ipaddr 192.0.2.3;\n${directives}\n}; };\n${rest}`);

describe('ikev1 { }', () => {
  test('has defaults that are safe, and fit into one datagram when each is offered with each', () => {
    expect(ikev1('')).toEqual({
      passive: false,
      peersIpaddr: [{ kind: 'literal', address: '192.0.2.1', prefixLength: 32, port: 0 }],
      myId: undefined,
      peersId: [],
      verifyId: true,
      authMethods: ['psk'],
      preSharedKey: '/k',
      pskFormat: 'auto',
      encr: [
        { name: 'aes_cbc', keyBits: 256 },
        { name: 'aes_cbc', keyBits: 128 },
      ],
      hash: ['hmac_sha2_256', 'hmac_sha2_384', 'hmac_sha2_512'],
      groups: ['ecp256', 'modp2048', 'modp3072', 'ecp384'],
      needPfs: false,
      nonceBytes: 32,
      natTraversal: true,
      forceEncapsulation: false,
      proposalCheck: 'claim',
      dpd: true,
      dpdDelay: 120_000,
      dpdRetry: 5_000,
      dpdMaxFail: 5,
      maxRetries: 5,
      retryInterval: 1_000,
      saLifetime: 28_800_000,
      negotiationLimit: 120_000,
      gracePeriod: 'infinite',
      scripts: {},
    });
    const { encr, hash, groups } = ikev1('');
    // A transform of main mode: its header and seven attributes of four octets (RFC 2408 §3.6, RFC 2409 appendix A).
    expect(encr.length * hash.length * groups.length * (8 + 7 * 4)).toBeLessThan(1000);
  });

  test('takes hashes by their names and by those of their HMACs, without a word about it', () => {
    const { config, warnings, notes } = inV1('kmp_hash_alg { sha1; hmac_sha2_256; sha2_512; };');
    expect(config!.remotes[0]!.ikev1!.hash).toEqual(['hmac_sha1', 'hmac_sha2_256', 'hmac_sha2_512']);
    expect([...warnings, ...notes]).toEqual(['1:8 the remote `r` is not used by any policy']);
  });

  test('lets weak algorithms in by name only', () => {
    const { config, warnings } = inV1('kmp_enc_alg 3des_cbc; kmp_dh_group { 2; modp1536; };');
    expect(config!.remotes[0]!.ikev1).toMatchObject({ encr: [{ name: '3des_cbc' }], groups: ['modp1024', 'modp1536'] });
    expect(warnings.map((text) => text.split(';')[0])).toEqual([
      '2:13 `3des_cbc` is weak',
      '2:38 `2` is weak',
      '2:41 `modp1536` is weak',
    ]);
  });

  test.each([
    [
      'kmp_enc_alg aes256_gcm_16;',
      '2:13 IKEv1 has no number for `aes256_gcm_16`',
      'its ciphers: aes_cbc, camellia_cbc, 3des_cbc',
    ],
    [
      'kmp_enc_alg chacha20_poly1305;',
      '2:13 IKEv1 has no number for `chacha20_poly1305`',
      'its ciphers: aes_cbc, camellia_cbc, 3des_cbc',
    ],
    ['kmp_enc_alg null_enc;', '2:13 IKEv1 has no number for `null_enc`', 'its ciphers: aes_cbc, camellia_cbc, 3des_cbc'],
    ['kmp_dh_group x25519;', '2:14 IKEv1 has no number for `x25519`', 'its groups: ecp256, ecp384, ecp521, modp2048,'],
    ['kmp_dh_group { 14; 31; };', '2:20 IKEv1 has no number for `31`', 'its groups: ecp256'],
    ['kmp_hash_alg aes_xcbc;', '2:14 IKEv1 has no number for `aes_xcbc`', 'its hashes: sha2_256, sha2_384, sha2_512, sha1'],
    ['kmp_hash_alg sha2_265;', '2:14 `sha2_265` is no hash', 'did you mean `sha2_256`?'],
    [
      'exchange_mode aggressive;',
      '2:15 `aggressive` mode is not spoken: it shows a hash of the',
      'write exchange_mode main; and',
    ],
    [
      'exchange_mode { base; aggressive; };',
      '2:17 `base` mode is not spoken: no peer of today needs it',
      'write exchange_mode main;',
    ],
    ['exchange_mode mian;', '2:15 `mian` is none of main, aggressive, base, all', 'did you mean `main`?'],
    ['proposal_check exakt;', '2:16 `exakt` is none of obey, strict, claim, exact', 'did you mean `exact`?'],
    ['dpd_maxfail 0;', '2:13 0 is out of range', 'a number from 1 to 100'],
    ['nonce_size 7;', '2:12 a number of octets out of range', '8 to 256'],
    ['cookie_required on;', '2:1 there is no directive `cookie_required` in ikev1 { }', 'it belongs in `ikev2 { }`'],
  ])('refuses %s', (directives, error, hint) => {
    const { errors, hints } = inV1(directives);
    expect(errors[0]).toContain(error);
    expect(hints.join('\n')).toContain(hint);
  });

  test('goes on in main mode where it is one of several, and says so', () => {
    expect(inV1('exchange_mode { main; aggressive; };').warnings).toEqual([
      '2:23 `aggressive` mode has no effect: only main mode is spoken',
    ]);
    expect(inV1('exchange_mode all;').warnings).toEqual(['2:15 `all` means main mode here: no other is spoken']);
  });

  test('warns of words that are for others', () => {
    expect(inV1('kmp_prf_alg hmac_sha1; selector_check obey; max_padlen 9; my_gssapi_id "x";').warnings).toEqual([
      '2:1 `kmp_prf_alg` has no effect',
      '2:24 `selector_check` has no effect',
      '2:45 `max_padlen` has no effect',
      '2:59 `my_gssapi_id` has no effect',
    ]);
    expect(inV1('use_coa on; mobility_role mobile;').warnings).toEqual([
      '2:1 `use_coa` has no effect',
      '2:13 `mobility_role` has no effect',
    ]);
  });

  test('needs a key, and takes the infinite life of an SA for what it says', () => {
    expect(run('remote r { ikev1 { peers_ipaddr 192.0.2.1; }; };').errors).toEqual([
      '1:8 the remote `r` authenticates with a pre-shared key and names none',
    ]);
    const { config, notes } = inV1('kmp_sa_lifetime_time infinite;');
    expect(config!.remotes[0]!.ikev1!.saLifetime).toBe('infinite');
    expect(notes).toContain('2:1 the ISAKMP SA is never rekeyed; racoon2 took `infinite` as "not set"');
  });
});

describe('kink { }', () => {
  test('has defaults that are safe', () => {
    expect(kink('')).toEqual({
      passive: false,
      peersIpaddr: [{ kind: 'literal', address: '192.0.2.3', prefixLength: 32, port: 0 }],
      myPrincipal: 'kink/a@R',
      peersPrincipal: 'kink/b@R',
      needPfs: false,
      groups: ['ecp256', 'modp2048', 'modp3072', 'ecp384'],
      nonceBytes: 32,
      responderNonce: 'auto',
      prf: 'mit',
      clearPayloads: false,
      proposalCheck: 'claim',
      maxRetries: 5,
      retryInterval: 1_000,
      negotiationLimit: 120_000,
      scripts: {},
    });
  });

  test('takes both spellings of the literal reading', () => {
    expect(kink('prf rfc3962_literal;').prf).toBe('rfc3962_literal');
    expect(kink('prf rfc3962-literal;').prf).toBe('rfc3962_literal');
  });

  test('completes principals with the realm, and builds the one of a peer that is known by its name', () => {
    const more = 'kerberos { realm EXAMPLE.NET; };';
    expect(inKink('my_principal "kink/a"; peers_principal "kink/b@OTHER";', more).config!.remotes[0]!.kink).toMatchObject({
      myPrincipal: 'kink/a@EXAMPLE.NET',
      peersPrincipal: 'kink/b@OTHER',
    });
    expect(
      good(`remote r { kink { peers_ipaddr GW.example.net; my_principal "kink/a"; }; };\n${more}`).remotes[0]!.kink!
        .peersPrincipal,
    ).toBe('kink/gw.example.net@EXAMPLE.NET');
  });

  test.each([
    ['', '1:8 the remote `r` speaks KINK and names no principal of ours', 'write my_principal'],
    ['my_principal "kink/a@R";', "1:8 the remote `r` speaks KINK and names no principal of the peer's", 'write peers_principal'],
    ['my_principal "kink/a"; peers_principal "kink/b@R";', '2:1 the principal `kink/a` has no realm', '"kink/a@REALM"'],
    ['my_principal "kink//a@R";', '2:14 `kink//a@R` is no principal', 'for example "kink/gw.example.net@EXAMPLE.NET"'],
    ['my_principal "a@b@c";', '2:14 `a@b@c` is no principal', 'for example'],
    ['kmp_dh_group x448;', '2:14 IKEv1 has no number for `x448`', 'its groups: ecp256'],
    ['responder_nonce allways;', '2:17 `allways` is none of auto, always, never', 'did you mean `always`?'],
    ['prf rfc;', '2:5 `rfc` is none of mit, rfc3962_literal', ''],
  ])('refuses %s', (directives, error, hint) => {
    const { errors, hints } = inKink(directives);
    expect(errors).toContain(error);
    expect(hints.join('\n')).toContain(hint);
  });

  test('warns of what makes it less safe, and of words that are for others', () => {
    const { warnings } = inKink(
      'my_principal "a@R"; peers_principal "b@R";\nresponder_nonce never; clear_payloads on;\npre_shared_key "k"; kmp_enc_alg x; dpd_delay 1;',
    );
    expect(warnings).toEqual([
      '3:1 `never` lets a replayed request make us use a key twice, which reveals the traffic of counter-mode ciphers',
      '3:24 what is negotiated may be read on the way',
      '4:1 `pre_shared_key` has no effect',
      '4:21 `kmp_enc_alg` has no effect',
      '4:36 `dpd_delay` has no effect',
    ]);
  });

  test('says where our own client of Kerberos gets no ticket, unless we only answer', () => {
    const own = (principals: string, kerberos = '') => inKink(principals, `kerberos { backend builtin; ${kerberos} };`).warnings;
    const same = 'my_principal "kink/a@R"; peers_principal "kink/b@R";';
    expect(own(same)).toEqual(['1:8 the remote `r` can be answered only: `backend builtin` has no KDC to get a ticket from']);
    expect(own(same, 'kdc 192.0.2.88;')).toEqual([]);
    expect(own('my_principal "kink/a@R"; peers_principal "kink/b@S";', 'kdc 192.0.2.88;')).toEqual([
      '2:26 `kink/b@S` can be answered only: `backend builtin` gets tickets of the realm `R` alone',
    ]);
    expect(own(`${same} passive on;`)).toEqual([]);
    expect(inKink(same).warnings).toEqual([]);
  });

  test('racoon2 named an inbound selector of the peer: the policies say that now', () => {
    expect(run(`remote r { kink { ${KINK} };\nselector_index s_in; };`).warnings).toEqual(['2:1 `selector_index` has no effect']);
  });

  test('listens on all addresses unless told, and on none where nobody speaks it', () => {
    expect(good(`remote r { kink { ${KINK} }; };`).interface.kink).toMatchObject([{ macro: 'MY_IP', port: 0 }]);
    expect(good(`interface { kink 192.0.2.9 port 911; }; remote r { kink { ${KINK} }; };`).interface.kink).toMatchObject([
      { address: '192.0.2.9', port: 911 },
    ]);
    expect(good(`interface { kink 192.0.2.9; }; remote r { ${V2} };`).interface.kink).toEqual([]);
  });
});

describe('kerberos { }', () => {
  const kerberos = (text: string) => good(`${text} remote r { ${V2} };`).kerberos;

  test('has defaults, and takes KDCs by address and by name', () => {
    expect(kerberos('')).toEqual({
      backend: 'auto',
      realm: undefined,
      kdcs: [],
      keytab: '/etc/krb5.keytab',
      clockSkew: 300_000,
    });
    expect(
      kerberos(
        'kerberos { backend node-krb5; realm R; kdc { 192.0.2.88; 2001:DB8::58 port 8888; kdc.example.net port kerberos; }; keytab "k/a.keytab"; clock_skew 1 min; };',
      ),
    ).toEqual({
      backend: 'node_krb5',
      realm: 'R',
      kdcs: [
        { host: '192.0.2.88', port: 88 },
        { host: '2001:db8::58', port: 8888 },
        { host: 'kdc.example.net', port: 88 },
      ],
      keytab: '/k/a.keytab',
      clockSkew: 60_000,
    });
  });

  test.each([
    ['backend heimdal;', '`heimdal` is none of auto, builtin, node_krb5'],
    ['backend bultin;', '`bultin` is none of auto, builtin, node_krb5'],
    ['realm "A/B";', '`A/B` is no REALM'],
    ['kdc 10.0.0.256;', '`10.0.0.256` is neither an address nor a name'],
    ['kdc 192.0.2.1 port 0;', '`0` is no port'],
    ['kdc 192.0.2.1 port constructor;', '`constructor` is no port'],
    ['clock_skew 0x;', '`0x` is no number'],
  ])('refuses %s', (directive, message) => {
    expect(run(`kerberos {\n${directive}\n}; remote r { ${V2} };`).errors.map((text) => text.replace(/^2:\d+ /, ''))).toEqual([
      message,
    ]);
  });
});

describe('acceptable_kmp', () => {
  const blocks = `ikev1 { ${V1} }; kink { ${KINK} }; ${V2}`;

  test('keeps its order, of which the first initiates, and each protocol has its block', () => {
    const all = remote(`acceptable_kmp { kink; ikev2; ikev1; }; ${blocks}`);
    expect(all.acceptableKmp).toEqual(['kink', 'ikev2', 'ikev1']);
    expect([all.ikev2, all.ikev1, all.kink]).not.toContain(undefined);
  });

  test('where it is not written, the blocks tell, IKEv2 first', () => {
    expect(remote(blocks).acceptableKmp).toEqual(['ikev2', 'ikev1', 'kink']);
    expect(remote(`kink { ${KINK} };`).acceptableKmp).toEqual(['kink']);
  });

  test('an inherited list is for those that the remote has a block for', () => {
    const more = `default { remote { acceptable_kmp { ikev1; ikev2; kink; }; }; };`;
    expect(remote(`${V2} ikev1 { ${V1} };`, more).acceptableKmp).toEqual(['ikev1', 'ikev2']);
    expect(remote(`kink { ${KINK} };`, 'default { remote { acceptable_kmp ikev2; }; };').acceptableKmp).toEqual(['kink']);
  });

  test('a block that it does not name has no effect, and says so; one that it names twice counts once', () => {
    const { config, warnings } = run(`remote r {\nacceptable_kmp { ikev2; ikev2; }; ${V2}\nikev1 { ${V1} }; };`);
    expect(config!.remotes[0]).toMatchObject({ acceptableKmp: ['ikev2'], ikev1: undefined });
    expect(warnings).toEqual([
      '2:25 `ikev2` is in the list already',
      '3:1 the `ikev1` block has no effect: `acceptable_kmp` does not name it',
    ]);
  });

  test('a protocol without a block anywhere is refused', () => {
    const { errors, hints } = run(`remote r { ${V2}\nacceptable_kmp { ikev2; ikev1; }; };`);
    expect(errors).toEqual(['2:25 the remote `r` shall speak IKEv1 and has no `ikev1` block']);
    expect(hints).toContain('write ikev1 { … }; or take it out of acceptable_kmp');
  });

  test('default { } applies to every protocol alike: keys, addresses, principals and all', () => {
    const more = `default { remote { ikev1 { ${V1} dpd off; kmp_enc_alg aes128_cbc; }; kink { ${KINK} need_pfs on; }; }; };`;
    const { ikev1, kink } = remote('acceptable_kmp { ikev1; kink; }; ikev1 { dpd_retry 9; kmp_enc_alg aes192_cbc; };', more);
    expect(ikev1).toMatchObject({ preSharedKey: '/k', dpd: false, dpdRetry: 9_000, encr: [{ keyBits: 192 }] });
    expect(kink).toMatchObject({ myPrincipal: 'kink/a@R', peersIpaddr: [{ address: '192.0.2.3' }], needPfs: true });
  });

  test('an off of its own overrides an inherited on', () => {
    expect(remote(`ikev1 { ${V1} passive off; };`, 'default { remote { ikev1 { passive on; }; }; };').ikev1!.passive).toBe(false);
  });

  test('the end of a tunnel is where the protocol that initiates says that the peer is', () => {
    const end = (list: string, policy = '') =>
      good(
        `remote r { acceptable_kmp { ${list} }; ${blocks} }; policy p { remote_index r; ${policy} };
         selector s { direction both; src 10.1.0.0/16; dst 10.2.0.0/16; policy_index p; };`,
      ).selectors[0]!.policy.peersSaAddress;
    expect(end('ikev1; ikev2; kink;')).toMatchObject({ address: '192.0.2.1' });
    expect(end('ikev2; ikev1; kink;')).toMatchObject({ address: '192.0.2.2' });
    expect(end('kink; ikev2; ikev1;')).toMatchObject({ address: '192.0.2.3' });
    expect(end('kink; ikev2; ikev1;', 'peers_sa_ipaddr 192.0.2.9;')).toMatchObject({ address: '192.0.2.9' });
  });

  test('what is printed compiles to the same, whatever is spoken', () => {
    for (const list of ['ikev1;', 'kink;', 'kink; ikev1; ikev2;']) {
      const first = good(`kerberos { realm R; kdc kdc.example; };\nremote r { acceptable_kmp { ${list} }; ${blocks} };`);
      expect(good(print(first))).toStrictEqual(first);
    }
  });
});

describe('ESP that quick mode has no number for', () => {
  const policy = (blocks: string, sa: string, ipsec = '') =>
    run(
      `remote r { ${blocks} }; selector s { direction both; src 10.1.0.0/16; dst 10.2.0.0/16; policy_index p; };
ipsec i { sa_index a; ${ipsec} }; sa a { ${sa} };
policy p { remote_index r;
ipsec_index i; };`,
    );
  const v1 = `ikev1 { ${V1} };`;

  test('a part of it is left out, with a warning that names the protocol, for IKEv2 nothing is', () => {
    const sa = 'esp_enc_alg { aes_gcm_16; chacha20_poly1305; aes_cbc; }; esp_auth_alg { aes_cmac; hmac_sha2_256; };';
    const message = (kmp: string) =>
      `4:1 ${kmp} cannot offer \`chacha20_poly1305\`, \`aes_cmac\`: with it, the policy \`p\` offers the remote \`r\` the rest`;
    expect(policy(v1, sa).warnings).toEqual([message('IKEv1')]);
    expect(policy(`kink { ${KINK} };`, sa).warnings).toEqual([message('KINK')]);
    expect(policy(`${V2} ${v1}`, sa).warnings).toEqual([message('IKEv1')]);
    expect(policy(V2, sa).warnings).toEqual([]);
  });

  test.each([
    'esp_enc_alg chacha20_poly1305;',
    'esp_enc_alg aes_cbc; esp_auth_alg aes_cmac;',
    'esp_enc_alg { chacha20_poly1305; aes_ctr; }; esp_auth_alg aes_cmac;',
  ])('nothing of it is left: %s', (sa) => {
    const message = '4:1 IKEv1 can negotiate nothing of what the policy `p` offers the remote `r`';
    expect(policy(v1, sa)).toMatchObject({ errors: [message], warnings: [] });
    expect(policy(v1, sa).hints.join()).toContain(
      'it has aes_gcm_16, aes_ccm_16, aes_gcm_12, aes_ccm_12, aes_gcm_8, aes_ccm_8, aes_cbc, aes_ctr, camellia_cbc,',
    );
    expect(policy(`${V2} ${v1}`, sa)).toMatchObject({ errors: [], warnings: [message] });
  });

  test('a MAC that it cannot name is no loss beside an AEAD, and the built-in offers are no surprise', () => {
    expect(policy(v1, 'esp_enc_alg aes_gcm_16;').warnings).toEqual([]);
    expect(policy(v1, '')).toMatchObject({ errors: [], warnings: [] });
  });

  test('extended sequence numbers are noted', () => {
    expect(policy(v1, '', 'ext_sequence on;').notes).toEqual([
      '2:23 `ext_sequence` has no effect with IKEv1: its SAs end after 2^32 packets',
    ]);
    expect(policy(V2, '', 'ext_sequence on;').notes).toEqual([]);
  });
});

describe('several SAs for one packet', () => {
  const file = (blocks: string, more = '') => `remote r { ${blocks} };
selector s { direction both; src 10.1.0.0/16; dst 10.2.0.0/16; policy_index p; };
ipsec i { sa_index { a; c; e; }; };
sa a { sa_protocol ah; ah_auth_alg { hmac_sha2_256; aes_cmac; }; };
sa c { sa_protocol ipcomp; ipcomp_alg deflate; };
sa e { };
ipsec compressed { sa_index { c; e; }; };
policy p { remote_index r; ipsec_index ${more || 'i'}; };`;
  const protocols = (text: string) => good(text).selectors[0]!.policy.ipsec.map(({ sas }) => sas.map(({ protocol }) => protocol));
  const v1 = `ikev1 { ${V1} };`;

  test.each([v1, `kink { ${KINK} };`])('are offered to a remote that IKEv1 and KINK negotiate with: %s', (blocks) => {
    expect(protocols(file(blocks))).toEqual([['ah', 'ipcomp', 'esp']]);
    const name = blocks.startsWith('kink') ? 'KINK' : 'IKEv1';
    expect(run(file(blocks)).warnings).toEqual([
      `8:28 ${name} cannot offer \`aes_cmac\`: with it, the policy \`p\` offers the remote \`r\` the rest`,
    ]);
    const first = good(file(blocks));
    expect(good(print(first))).toStrictEqual(first);
  });

  test('to one that speaks IKEv2 too only what that can say: each protocol makes the same SAs', () => {
    expect(protocols(file(`${V2} ${v1}`, '{ i; compressed; }'))).toEqual([['esp']]);
    expect(run(file(V2, '{ i; compressed; }')).warnings).toEqual([
      '3:7 `i` is not offered to the remote `r`: IKEv2 does not negotiate AH and ESP for one packet (RFC 7296 §3.3 has one protocol a proposal)',
      '7:7 `ipcomp` in `compressed` has no effect for the remote `r`: IKEv2 does not negotiate it yet',
    ]);
    expect(good(file(V2)).selectors[0]!.policy).toMatchObject({ action: 'discard', ipsec: [] });
  });

  test('IPComp alone protects nothing, and knows DEFLATE only', () => {
    const alone = file(v1, 'o').replace('ipsec compressed', 'ipsec o { sa_index c; }; ipsec compressed');
    expect(good(alone).selectors[0]!.policy).toMatchObject({ action: 'discard' });
    expect(run(alone).warnings[0]).toContain('`o` is not offered: nothing in it protects');
    expect(run(file(v1, 'compressed').replace('ipcomp_alg deflate', 'ipcomp_alg { lzs; deflate; }')).warnings).toEqual([
      '5:28 `lzs` of IPComp is not built: `deflate` alone is negotiated',
    ]);
  });
});
