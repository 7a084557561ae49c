/** racoon2's rules of the language and what Tanuki mends of them, one line each (`reference/racoon2.md` §2, decisions §6). */

import { describe, expect, test } from 'vitest';
import {
  type Config,
  compile,
  type Ikev2Config,
  memoryFiles,
  type PolicyConfig,
  type SelectorConfig,
} from '../../../src/config/index.ts';

const REST = {
  selector: 'direction both; src 10.1.0.0/16; dst 10.2.0.0/16; policy_index p;',
  policy: 'remote_index r;',
  ikev2: 'peers_ipaddr 192.0.2.1; pre_shared_key "k";',
};

function run(text: string, environment: Record<string, string> = {}) {
  const { config, diagnostics } = compile('/t.conf', memoryFiles({ '/t.conf': text }, environment));
  const of = (severity: string) => diagnostics.filter((found) => found.severity === severity).map(({ message }) => message);
  return { config, errors: of('error'), warnings: of('warning'), notes: of('note') };
}

/** A whole file around a few directives. */
function file({ ikev2 = REST.ikev2, selector = REST.selector, policy = REST.policy, more = '' }): string {
  return `remote r { ikev2 { ${ikev2} }; };\nselector s { ${selector} };\npolicy p { ${policy} };\n${more}`;
}

function good(text: string, environment?: Record<string, string>): Config {
  const { config, errors } = run(text, environment);
  expect(errors).toEqual([]);
  return config!;
}

const ikev2 = (directives: string): Ikev2Config => good(file({ ikev2: `${REST.ikev2} ${directives}` })).remotes[0]!.ikev2!;
const policy = (directives: string, more = ''): PolicyConfig => good(file({ policy: directives, more })).selectors[0]!.policy;
const selectors = (directives: string): readonly SelectorConfig[] =>
  good(file({ selector: `${directives} policy_index p;` })).selectors;
const errorsOf = (directives: string) => run(file({ ikev2: `${REST.ikev2} ${directives}` })).errors;

describe('values', () => {
  test.each([
    ['30', 30_000],
    ['30 sec', 30_000],
    ['30 seconds', 30_000],
    ['2 min', 120_000],
    ['1 minute', 60_000],
    ['8 hours', 28_800_000],
    ['1 day', 86_400_000],
    ['0x10 secs', 16_000],
    ['"+5"', 5_000],
    ['010', 10_000],
    ['infinite', 'infinite'],
  ] as const)('a time: %s', (text, expected) => {
    expect(ikev2(`kmp_sa_lifetime_time ${text};`).saLifetime).toBe(expected);
  });

  test.each([
    ['1', 1],
    ['1 B', 1],
    ['4 KB', 4096],
    ['1 MB', 1_048_576],
    ['2 GB', 2_147_483_648],
    ['7 bytes', 7],
    ['infinite', 'infinite'],
  ] as const)('octets: %s', (text, expected) => {
    expect(policy('remote_index r; ipsec_index i;', `ipsec i { ipsec_sa_lifetime_byte ${text}; };`).ipsec[0]!.lifetimeBytes).toBe(
      expected,
    );
  });

  test.each([
    ['10sec', '`10sec` is no number'],
    ['10 fortnights', '`fortnights` is no unit of time'],
    ['-1 sec', '-1 is out of range'],
    ['0X10', '`0X10` is no number'],
    ['3000000000 sec', '3000000000 is out of range'],
    ['1 2', '`2` is no unit of time'],
    ['1 sec 2', '`2` is one item too many'],
  ])('no time: %s', (text, message) => {
    expect(errorsOf(`kmp_sa_lifetime_time ${text};`)).toEqual([message]);
  });

  test.each(['on', 'enable', 'yes', '"yes"'])('true: %s', (word) => expect(ikev2(`need_pfs ${word};`).needPfs).toBe(true));
  test.each(['off', 'disable', 'no'])('false: %s', (word) => expect(ikev2(`nat_traversal ${word};`).natTraversal).toBe(false));
  test('words are case-sensitive', () => expect(errorsOf('need_pfs On;')).toEqual(['`on` or `off` is expected, not `On`']));
});

describe('infinite, 0 and "not set" are three values', () => {
  const withDefault = (own: string) =>
    run(
      file({
        ikev2: `${REST.ikev2} ${own}`,
        more: 'default { remote { ikev2 { kmp_sa_lifetime_time 1 hour; dpd_delay 1 min; }; }; };',
      }),
    );

  test('infinite overrides a finite default', () => {
    expect(withDefault('kmp_sa_lifetime_time infinite;').config!.remotes[0]!.ikev2!.saLifetime).toBe('infinite');
  });
  test('not set inherits', () => {
    expect(withDefault('').config!.remotes[0]!.ikev2).toMatchObject({ saLifetime: 3_600_000, dpdDelay: 60_000 });
  });
  test('0 is "not set" for the life of an IKE SA and "never" for the liveness check, and says so', () => {
    const { config, warnings } = withDefault('kmp_sa_lifetime_time 0; dpd_delay 0;');
    expect(config!.remotes[0]!.ikev2).toMatchObject({ saLifetime: 3_600_000, dpdDelay: 'infinite' });
    expect(warnings).toEqual([
      '`0` is taken as "not set": the default applies, as in racoon2',
      '`0` is taken as `infinite`, as racoon2 did',
    ]);
  });
});

describe('algorithms', () => {
  test.each([
    ['rijndael_cbc, 128', 'aes_cbc', 128],
    ['rijndael_cbc', 'aes_cbc', 256],
    ['aes192_cbc', 'aes_cbc', 192],
    ['aes_gcm_16, 128', 'aes_gcm_16', 128],
    ['aes128_gcm_16', 'aes_gcm_16', 128],
    ['aes_gcm_16', 'aes_gcm_16', 256],
    ['chacha20_poly1305', 'chacha20_poly1305', 256],
    ['aes_ctr, 256', 'aes_ctr', 256],
    ['3des_cbc', '3des_cbc', 192],
  ])('cipher %s', (text, name, keyBits) => {
    expect(ikev2(`kmp_enc_alg ${text};`).encr).toEqual([{ name, keyBits }]);
  });

  test('weak ones are let in by name, with a warning, and are not offered otherwise', () => {
    const { warnings, config } = run(file({ ikev2: `${REST.ikev2} kmp_enc_alg 3des_cbc; kmp_dh_group { modp1024; 5; 14; };` }));
    expect(config!.remotes[0]!.ikev2!.ke).toEqual(['modp1024', 'modp1536', 'modp2048']);
    expect(warnings.map((message) => message.split(';')[0])).toEqual(['`3des_cbc` is weak', '`modp1024` is weak', '`5` is weak']);
    expect(ikev2('').ke).toEqual(['x25519', 'ecp256', 'modp2048']);
  });

  test('what racoon2 had and Tanuki has not is left out; nothing left is an error', () => {
    const { config, warnings } = run(file({ ikev2: `${REST.ikev2} kmp_enc_alg { twofish_cbc; aes128_cbc; };` }));
    expect(config!.remotes[0]!.ikev2!.encr).toEqual([{ name: 'aes_cbc', keyBits: 128 }]);
    expect(warnings).toEqual(['`twofish_cbc` is not offered: Tanuki does not have it']);
    expect(errorsOf('kmp_hash_alg md5;')).toEqual(['none of the algorithms of `kmp_hash_alg` is available']);
  });

  test.each([
    ['kmp_enc_alg { };', 'the list is empty'],
    ['kmp_enc_alg aes_cbc, 100;', '`aes_cbc` has no keys of 100 bits'],
    ['kmp_enc_alg aes128_cbc, 256;', '`aes128_cbc` has no keys of 256 bits'],
    ['kmp_enc_alg null_enc;', '`null_enc` must not protect an IKE SA (RFC 7296 §5)'],
    ['kmp_enc_alg aes128_cbc; kmp_enc_alg aes256_cbc;', '`kmp_enc_alg` is there already, at /t.conf:1:64'],
    ['kmp_dh_group 99;', '`99` is no Diffie-Hellman group'],
  ])('%s', (text, message) => expect(errorsOf(text)).toEqual([message]));

  test("IKEv2's names of MACs may be those that racoon2's documentation gave", () => {
    const { config, notes } = run(
      file({ ikev2: `${REST.ikev2} kmp_enc_alg aes128_cbc; kmp_hash_alg sha2_256; kmp_prf_alg sha1;` }),
    );
    expect(config!.remotes[0]!.ikev2).toMatchObject({ integ: ['hmac_sha2_256'], prf: ['hmac_sha1'] });
    expect(notes).toEqual(['`sha2_256` is taken as `hmac_sha2_256`', '`sha1` is taken as `hmac_sha1`']);
  });

  test('a key in a list is ignored, and never shown', () => {
    const { warnings } = run(file({ ikev2: `${REST.ikev2} kmp_enc_alg { aes_cbc, 128, "geheim"; aes_gcm_16, , "geheim"; };` }));
    expect(warnings).toEqual(['a key in a list of algorithms is ignored', 'a key in a list of algorithms is ignored']);
  });

  test('no protection at all is refused', () => {
    const more = 'ipsec i { sa_index a; }; sa a { esp_enc_alg null_enc; esp_auth_alg non_auth; };';
    expect(run(file({ policy: 'remote_index r; ipsec_index i;', more })).errors).toEqual([
      '`null_enc` with `non_auth` protects nothing at all',
    ]);
  });
});

describe('addresses, ports and protocols', () => {
  const spec = (text: string) =>
    good(file({ ikev2: `peers_ipaddr ${text}; pre_shared_key k;`, policy: 'remote_index r; ipsec_mode transport;' })).remotes[0]!
      .ikev2!.peersIpaddr;
  test.each([
    ['192.0.2.7', { kind: 'literal', address: '192.0.2.7', prefixLength: 32, port: 0 }],
    ['2001:DB8::0:1 port 1500', { kind: 'literal', address: '2001:db8::1', prefixLength: 128, port: 1500 }],
    ['fe80::1%eth0', { kind: 'literal', address: 'fe80::1%eth0', prefixLength: 128, port: 0 }],
    ['"gw.example.net" port isakmp', { kind: 'fqdn', name: 'gw.example.net', port: 500 }],
    ['MY_IPV6%eth0 port any', { kind: 'macro', macro: 'MY_IPV6', interface: 'eth0', prefixLength: 0, port: 0 }],
    ['IP_UNSPECIFIED', { kind: 'macro', macro: 'IP_ANY', interface: undefined, prefixLength: 0, port: 0 }],
  ])('%s', (text, expected) => expect(spec(text)).toEqual([expected]));

  test.each([
    ['10.0.0.256', '`10.0.0.256` is no address'],
    ['MY_IPv4', 'there is no address macro `MY_IPv4`'],
    ['IP_ANYY', 'there is no address macro `IP_ANYY`'],
    ['IP_RW%eth0', '`IP_RW%eth0` is no address'],
    ['192.0.2.1 port 65536', '`65536` is no port'],
    ['192.0.2.0/24', 'a prefix has no meaning here'],
  ])('wrong: %s', (text, message) => {
    const { errors } = run(
      file({ ikev2: `peers_ipaddr ${text}; pre_shared_key k;`, policy: 'remote_index r; peers_sa_ipaddr 192.0.2.1;' }),
    );
    expect(errors).toEqual([message]);
  });

  test('the address of a prefix may be a variable', () => {
    const config = good(
      // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of the policy language
      `setval NET "10.5.0.0";\n${file({ selector: 'direction outbound; src "${NET}"/16; dst 10.2.0.0/16; policy_index p;' })}`,
    );
    expect(config.selectors[0]!.source).toMatchObject({ address: '10.5.0.0', prefixLength: 16 });
  });

  const net = 'direction outbound; src 10.1.0.0/16; dst 10.2.0.0/16;';
  test.each([
    ['icmp 8', 1, 8, 0],
    ['icmp 3 4', 1, 3, 4],
    ['icmpv6 128 0', 58, 128, 0],
    ['135 5', 135, 5, 0],
    ['"esp"', 50, 0, 0],
    ['ah', 51, 0, 0],
    ['any', 0, 0, 0],
    ['057', 47, 0, 0],
    ['0x2f', 47, 0, 0],
    ['mh bu', 135, 5, 0],
    ['mobility-header hot', 135, 3, 0],
    ['icmpv6 mobile-prefix-solicitation', 58, 146, 0],
    ['icmp destination-unreachable 4', 1, 3, 4],
  ])('upper_layer_protocol %s', (text, protocol, sourcePort, destinationPort) => {
    expect(selectors(`${net} upper_layer_protocol ${text};`)[0]).toMatchObject({ protocol, sourcePort, destinationPort });
  });

  test.each([
    ['mh bux', '`bux` is no ICMP or Mobility Header type or code'],
    ['mh constructor', '`constructor` is no ICMP or Mobility Header type or code'],
    ['tcp bu', '`bu` is no ICMP or Mobility Header type or code'],
    ['icmp 3 echo-reply', '`echo-reply` is no ICMP or Mobility Header type or code'],
    ['icmp 256', '`256` is no ICMP or Mobility Header type or code'],
  ])('no upper layer: %s', (text, message) => {
    expect(run(file({ selector: `${net} upper_layer_protocol ${text}; policy_index p;` })).errors).toEqual([message]);
  });

  test('a port without a protocol that has ports is refused: it would protect more, or less, than it says', () => {
    const { errors } = run(file({ selector: 'direction both; src 10.1.0.0/16 port 80; dst 10.2.0.0/16; policy_index p;' }));
    expect(errors).toEqual(['a port needs a protocol that has ports']);
  });

  test('families do not mix', () => {
    expect(run(file({ selector: 'direction both; src 10.1.0.0/16; dst ::/0; policy_index p;' })).errors).toEqual([
      'source and destination are of different families',
    ]);
  });
});

describe('selectors and policies', () => {
  test('direction both is two selectors, the second with addresses and ports the other way', () => {
    const [out, back] = selectors(
      'direction both; src 10.1.0.1 port 80; dst 10.2.0.0/16 port 90; upper_layer_protocol tcp; reqid 7;',
    );
    expect(out).toMatchObject({ name: 's', direction: 'outbound', sourcePort: 80, destinationPort: 90, reqid: 7 });
    expect(back).toMatchObject({ name: 's.in', direction: 'inbound', source: out!.destination, destination: out!.source });
    expect(back).toMatchObject({ sourcePort: 90, destinationPort: 80, policy: out!.policy });
  });

  test('a mirrored ICMP selector keeps its type', () => {
    expect(selectors('direction both; src 10.1.0.1; dst 10.2.0.1; upper_layer_protocol icmp 8 0;')[1]).toMatchObject({
      sourcePort: 8,
    });
  });

  test.each([
    ['mh bu', 6],
    ['mh ba', 5],
    ['mh hoti', 3],
    ['mh cot', 2],
    ['mh be', 7],
    ['icmpv6 146', 147],
    ['icmpv6 145', 144],
    ['icmpv6 echo-request', 128],
  ])('the way back of %s is type %i', (text, answer) => {
    const written = `direction both; src 2001:db8::1; dst 2001:db8::2; upper_layer_protocol ${text};`;
    expect(selectors(written)[1]).toMatchObject({ name: 's.in', direction: 'inbound', sourcePort: answer });
  });

  test('a request and its answer, written as two selectors, protect both directions', () => {
    const two = (answer: string) =>
      run(
        `remote r { ikev2 { ${REST.ikev2} }; }; policy p { remote_index r; ipsec_mode transport; };
         selector a { direction outbound; src 2001:db8::1; dst 2001:db8::2; upper_layer_protocol mh bu; policy_index p; };
         selector b { direction inbound; src 2001:db8::2; dst 2001:db8::1; upper_layer_protocol mh ${answer}; policy_index p; };`,
      ).warnings;
    expect(two('ba')).toEqual([]);
    expect(two('bu')).toHaveLength(2);
  });

  test('a minimal policy gets ESP, tunnel mode, and the ends of remote and interface', () => {
    const text = file({ more: 'interface { ike 192.0.2.9 port 501; };' });
    expect(good(text).selectors[0]!.policy).toMatchObject({
      action: 'protect',
      mode: 'tunnel',
      level: 'require',
      mySaAddress: { address: '192.0.2.9', port: 0 },
      peersSaAddress: { address: '192.0.2.1' },
      ipsec: [{ name: '(default)', lifetimeTime: 3_600_000, sas: [{ protocol: 'esp' }] }],
    });
  });

  test('default { policy { action discard; } } is for what nothing matches, too', () => {
    expect(good(file({})).unmatched).toBe('bypass');
    const config = good(file({ policy: 'action auto_ipsec; remote_index r;', more: 'default { policy { action discard; }; };' }));
    expect(config).toMatchObject({ unmatched: 'discard', selectors: [{ policy: { action: 'protect' } }, {}] });
  });

  test('default { } applies to every kind of section', () => {
    const more = `default { policy { ipsec_mode transport; ipsec_level unique; }; ipsec { ext_sequence on; }; sa { esp_enc_alg aes128_cbc; }; };`;
    expect(policy('remote_index r;', more)).toMatchObject({
      mode: 'transport',
      level: 'unique',
      ipsec: [{ extendedSequence: true, sas: [{ encr: [{ name: 'aes_cbc', keyBits: 128 }] }] }],
    });
  });

  test('an idle lifetime is for SAs on demand, and shorter than their life', () => {
    const idle = (words: string, more = '') =>
      run(file({ policy: `remote_index r; ipsec_index i; ${more}`, more: `ipsec i { ${words} };` }));
    const { config, warnings } = idle('ipsec_sa_lifetime_idle 10 min;');
    expect([config!.selectors[0]!.policy.ipsec[0]!.lifetimeIdle, warnings]).toEqual([600_000, []]);
    expect(idle('ipsec_sa_lifetime_idle 1 hour;').warnings.join()).toContain('the SA is rekeyed before');
    expect(idle('ipsec_sa_lifetime_idle 1 min;', 'initiate start;').warnings.join()).toContain('is to be there always');
  });

  test('BEET mode is for ESP and IKEv2 alone, between two addresses', () => {
    const beet = (more: string, src = '10.1.0.1', policy = 'remote_index r; ipsec_mode beet;') =>
      run(
        `remote r { ${more} ikev2 { ${REST.ikev2} }; }; policy p { ${policy} };
        selector s { direction both; src ${src}; dst 10.2.0.2; policy_index p; };`,
      );
    const { config, errors, warnings } = beet('');
    expect([errors, warnings]).toEqual([[], []]);
    expect(config!.selectors[0]!.policy).toMatchObject({ mode: 'beet', peersSaAddress: { address: '192.0.2.1' } });
    expect(beet('', '10.1.0.0/16').errors.join()).toContain('between one inner address at each end');
    expect(beet('', 'MY_IP').errors.join()).toContain('between one inner address at each end');
    expect(
      beet('acceptable_kmp { ikev2; ikev1; }; ikev1 { peers_ipaddr 192.0.2.1; pre_shared_key "k"; };').errors.join(),
    ).toContain('ikev1 has no BEET mode');
    const ah = run(
      `remote r { ikev2 { ${REST.ikev2} }; }; policy p { remote_index r; ipsec_mode beet; ipsec_index i; }; ipsec i { sa_index a; };
      sa a { sa_protocol ah; }; selector s { direction both; src 10.1.0.1; dst 10.2.0.2; policy_index p; };`,
    );
    expect(ah.errors.join()).toContain('BEET mode is for ESP alone');
    expect(beet('', '10.1.0.1', 'remote_index r; ipsec_mode beet; peers_sa_ipaddr IP_RW;').errors.join()).toContain(
      'two ends that are known',
    );
  });

  test('AH is offered alone; with ESP it is not in IKEv2, and what is left without an alternative is dropped, never passed', () => {
    const alone = 'ipsec i { sa_index a; }; sa a { sa_protocol ah; ah_auth_alg { hmac_sha1; hmac_sha2_384; }; };';
    expect(policy('remote_index r; ipsec_index i;', alone)).toMatchObject({
      action: 'protect',
      ipsec: [{ sas: [{ protocol: 'ah', encr: [], auth: ['hmac_sha1', 'hmac_sha2_384'] }] }],
    });
    const more = 'ipsec i { sa_index { a; e; }; }; sa a { sa_protocol ah; ah_auth_alg hmac_sha1; }; sa e { };';
    expect(policy('remote_index r; ipsec_index i;', more)).toMatchObject({ action: 'discard', ipsec: [] });
    expect(policy('remote_index r; ipsec_index { i; j; };', `${more} ipsec j { };`)).toMatchObject({
      action: 'protect',
      ipsec: [{ name: 'j' }],
    });
  });

  test.each([
    ['policy p { remote_index nobody; };', 'there is no remote `nobody`'],
    ['policy p { };', 'the policy `p` does not say with whom keys are negotiated'],
    ['policy p { action static_ipsec; remote_index r; };', 'keys by hand (`static_ipsec`) do not exist in Tanuki'],
  ])('%s', (section, message) => {
    const text = `remote r { ikev2 { ${REST.ikev2} }; }; selector s { ${REST.selector} }; ${section}`;
    expect(run(text).errors).toEqual([message]);
  });

  test('a remote that authenticates by nothing that is built has no effect, with a warning', () => {
    const { config, warnings } = run(
      file({ ikev2: 'peers_ipaddr 192.0.2.1; kmp_auth_method rsasig; my_public_key x509pem "c" "k";' }),
    );
    expect(config!.remotes).toEqual([{ name: 'r', acceptableKmp: [], ikev2: undefined, ikev1: undefined, kink: undefined }]);
    expect(warnings).toEqual([
      'the remote `r` does not speak IKEv2 yet: none of its authentication methods is built',
      'the authentication method `rsasig` has no effect yet',
      '`my_public_key` has no effect yet',
    ]);
  });
});

describe('names, quotes and variables', () => {
  test('a name that is a word of the language needs no quotes', () => {
    const text = `remote main { ikev2 { ${REST.ikev2} }; }; selector src { direction both; src 10.1.0.0/16; dst 10.2.0.0/16; policy_index "esp"; }; policy esp { remote_index main; };`;
    expect(good(text).selectors[0]).toMatchObject({ name: 'src', policy: { name: 'esp', remote: 'main' } });
  });

  test('variables nest, the environment comes in, and paths start at the folder of their file', () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of the policy language
    const text = `setval { DIR "keys/\${WHO}"; WHO "$[HOST]"; };\n${file({ ikev2: 'peers_ipaddr 192.0.2.1; pre_shared_key "${DIR}.psk";' })}`;
    expect(good(text, { HOST: 'a' }).remotes[0]!.ikev2!.preSharedKey).toBe('/keys/a.psk');
  });

  test.each([
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of the policy language
    ['setval { A "${B}"; B "${A}"; };', 'the variable `A` refers to itself'],
    ['setval A "${B";', 'the reference `${B` is not closed'],
    ['setval A "$[NOPE]";', 'the environment has no variable `NOPE`'],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of the policy language
    ['setval A ${B};', 'a variable is recognised in a quoted string only'],
  ])('%s', (text, message) => expect(run(`${text}\n${file({})}`).errors[0]).toBe(message));

  test('variables that double each other do not grow without end', () => {
    const chain = Array.from({ length: 30 }, (_, i) => `V${i} "\${V${i + 1}}\${V${i + 1}}";`).join(' ');
    expect(run(`setval { ${chain} V30 "xxxxxxxx"; };\n${file({})}`).errors[0]).toMatch(/more than 4096 characters/);
  });
});

describe('sockets', () => {
  test('a password that no socket asks for is a warning', () => {
    const nobodyAsks = 'the password has no effect: no socket is named that asks for it';
    expect(run('interface { spmd_password "p"; };').warnings).toEqual([nobodyAsks]);
    expect(run('interface { spmd unix "/x"; spmd_password "p"; };').warnings).toEqual([]);
  });
});
