/** Random but well-formed policy files, from a seed: for round trips and as the ground that the fuzzer mutates. */

/** A small generator of pseudorandom numbers (xorshift32), so that a seed reproduces a file. */
export class Dice {
  private state: number;

  constructor(seed: number) {
    this.state = (seed | 0) === 0 ? 1 : seed | 0;
  }

  below(n: number): number {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return (this.state >>> 0) % n;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  /** Some of the values, at least one, in a random order. */
  some<T>(values: readonly T[]): T[] {
    const order = values.map((value) => ({ value, at: this.below(1 << 20) })).sort((a, b) => a.at - b.at);
    return order.slice(0, 1 + this.below(values.length)).map(({ value }) => value);
  }
}

const CIPHERS = [
  'aes_gcm_16',
  'aes128_gcm_16',
  'aes_cbc, 192',
  'rijndael_cbc, 128',
  'aes256_cbc',
  'chacha20_poly1305',
  'aes_ctr, 256',
  '3des_cbc',
  'blowfish_cbc',
];
const MACS = ['hmac_sha2_256', 'hmac_sha2_384', 'hmac_sha2_512', 'hmac_sha1', 'aes_xcbc', 'aes_cmac'];
const GROUPS = ['x25519', 'x448', 'ecp256', 'ecp384', 'modp2048', '15', '5', 'curve25519'];
const OLD_CIPHERS = ['aes_cbc, 192', 'rijndael_cbc, 128', 'aes256_cbc', '3des_cbc', 'blowfish_cbc'];
const HASHES = ['sha2_256', 'sha2_384', 'hmac_sha2_512', 'sha1', 'md5'];
const OLD_GROUPS = ['ecp256', 'ecp384', 'modp2048', '15', '5', 'modp768'];
const TIMES = ['infinite', '0', '30 sec', '2 min', '8 hours', '1 day', '3600'];
const ADDRESSES = [
  '192.0.2.1',
  '2001:db8::1',
  'MY_IP',
  'IP_RW',
  '"IP_ANY"',
  'gw.example.net',
  '"MY_IPV6%eth0"',
  '198.51.100.9 port 1500',
  '::1 port isakmp',
];
const PROTOCOLS = ['any', 'tcp', 'udp', '"esp"', '47', '0x2f', 'icmp 8', 'icmp 3 1', 'icmpv6 128 0', '135 5', 'sctp'];
const WITH_PORTS = ['tcp', 'udp', 'sctp'];

const list = (word: string, values: readonly string[]) => `${word} { ${values.map((value) => `${value};`).join(' ')} };`;

/** A file that compiles: every reference is defined and nothing in it is unsafe. */
export function randomPolicy(seed: number): string {
  const dice = new Dice(seed);
  const flag = () => dice.pick(['on', 'off', 'yes', 'disable']);
  const maybe = (line: string) => (dice.chance(40) ? `    ${line}\n` : '');
  const good = <T>(values: readonly T[], needed: T) => [...new Set([...dice.some(values), needed])];
  const names = { remotes: ['r0', '"r 1"', 'main'], policies: ['p0', 'p1', '"none"'], ipsecs: ['i0', 'i1'], sas: ['s0', 's1'] };

  const ikev2 = () =>
    [
      '  ikev2 {\n',
      maybe(`passive ${flag()};`),
      `    peers_ipaddr ${dice.pick(ADDRESSES.slice(0, 4))};\n`,
      maybe(dice.pick(['my_id fqdn "a.example";', 'my_id { email a@b.example; keyid tag "x"; };', 'my_id ipaddr 2001:DB8::0;'])),
      maybe(dice.pick(['peers_id fqdn b.example;', 'peers_id { ipaddr 192.0.2.1; keyid "id.bin"; x509_subject "c.pem"; };'])),
      maybe(`verify_id ${flag()};`),
      `    pre_shared_key "keys/\${NAME}.psk";\n`,
      maybe(`psk_format ${dice.pick(['auto', 'text', 'hex', 'raw'])};`),
      maybe(list('kmp_enc_alg', good(CIPHERS, 'aes_gcm_16'))),
      maybe(list('kmp_hash_alg', good(MACS, 'hmac_sha2_256'))),
      maybe(list('kmp_prf_alg', good(MACS, 'hmac_sha2_256'))),
      maybe(list('kmp_dh_group', good(GROUPS, 'ecp256'))),
      maybe(`nonce_size ${16 + dice.below(241)};`),
      maybe(`dpd_delay ${dice.pick(TIMES)};`),
      maybe(`kmp_sa_lifetime_time ${dice.pick(TIMES)};`),
      maybe(`kmp_sa_grace_period ${dice.pick(TIMES)};`),
      maybe(`interval_to_send ${1 + dice.below(60)} sec;`),
      maybe(`max_retry_to_send ${dice.below(101)};`),
      maybe(`need_pfs ${flag()};`),
      maybe(`force_encapsulation ${flag()};`),
      maybe(`selector_check ${dice.pick(['obey', 'exact'])};`),
      maybe(`max_padlen ${dice.below(256)};`),
      maybe('script { child_up "/bin/true"; phase1_down "down.sh"; };'),
      maybe('provide { addresspool pool; dns 192.0.2.53; };'),
      '  };\n',
    ].join('');
  const ikev1 = () =>
    [
      '  ikev1 {\n',
      maybe(`passive ${flag()};`),
      `    peers_ipaddr ${dice.pick(ADDRESSES.slice(0, 4))};\n`,
      maybe('my_id ipaddr 192.0.2.9;'),
      maybe(dice.pick(['peers_id fqdn b.example;', 'peers_id { ipaddr 192.0.2.1; x509_subject "c.pem"; };'])),
      '    pre_shared_key "old.psk";\n',
      maybe(`kmp_auth_method ${dice.pick(['psk', '{ rsasig; psk; }'])};`),
      maybe(list('kmp_enc_alg', good(OLD_CIPHERS, 'aes256_cbc'))),
      maybe(list('kmp_hash_alg', good(HASHES, 'sha2_256'))),
      maybe(list('kmp_dh_group', good(OLD_GROUPS, 'ecp256'))),
      maybe(`exchange_mode ${dice.pick(['main', '{ main; aggressive; }', 'all'])};`),
      maybe(`nonce_size ${8 + dice.below(249)};`),
      maybe(`proposal_check ${dice.pick(['obey', 'strict', 'claim', 'exact'])};`),
      maybe(`dpd ${flag()};`),
      maybe(`dpd_delay ${dice.pick(TIMES)};`),
      maybe(`dpd_retry ${1 + dice.below(60)} sec;`),
      maybe(`dpd_maxfail ${1 + dice.below(100)};`),
      maybe(`kmp_sa_lifetime_time ${dice.pick(TIMES)};`),
      maybe(`force_encapsulation ${flag()};`),
      maybe('kmp_prf_alg hmac_sha1;'),
      maybe('script phase1_up "up.sh";'),
      '  };\n',
    ].join('');
  const kink = () =>
    [
      '  kink {\n',
      maybe(`passive ${flag()};`),
      maybe(`peers_ipaddr ${dice.pick(ADDRESSES.slice(0, 4))};`),
      '    my_principal "kink/a.example@EXAMPLE.NET";\n',
      `    peers_principal "kink/b.example${dice.pick(['', '@OTHER.NET'])}";\n`,
      maybe(list('kmp_dh_group', good(OLD_GROUPS, 'ecp256'))),
      maybe(`need_pfs ${flag()};`),
      maybe(`responder_nonce ${dice.pick(['auto', 'always', 'never'])};`),
      maybe(`prf ${dice.pick(['mit', 'rfc3962_literal', 'rfc3962-literal'])};`),
      maybe(`clear_payloads ${flag()};`),
      maybe(`proposal_check ${dice.pick(['obey', 'strict', 'claim', 'exact'])};`),
      maybe(`max_retry_to_send ${dice.below(101)};`),
      maybe('kmp_enc_alg x;'),
      '  };\n',
    ].join('');
  /** The blocks of a remote, and an order of its own among them. */
  const blocks = () => {
    const spoken = dice.some(['ikev2', 'ikev1', 'kink'] as const);
    const text = spoken.map((kmp) => ({ ikev2, ikev1, kink })[kmp]()).join('');
    return `${dice.chance(50) ? `  ${list('acceptable_kmp', dice.some(spoken))}\n` : ''}${text}`;
  };
  const ports = dice.chance(50);
  const port = () => (ports ? ` port ${dice.pick(['80', 'https', 'any', '65535'])}` : '');
  const selector = (name: string, i: number) =>
    [
      `selector ${name} {\n`,
      maybe(`order ${dice.below(7) - 3};`),
      `  direction ${dice.pick(['both', 'inbound', 'outbound'])};\n`,
      i % 2 === 0
        ? `  src 10.${dice.below(256)}.7.0/${dice.below(25)}${port()};\n  dst ${dice.pick(['10.2.0.0/16', 'IP_RW', '172.16.3.4'])}${port()};\n`
        : `  src 2001:db8:${dice.below(256)}::/${dice.below(129)}${port()};\n  dst ${dice.pick(['fe80::1/128', 'IP_ANY', '::/0'])}${port()};\n`,
      `  upper_layer_protocol ${dice.pick(ports ? WITH_PORTS : PROTOCOLS)};\n`,
      maybe(`reqid ${dice.below(1000)};`),
      `  policy_index ${dice.pick(names.policies)};\n};\n`,
    ].join('');
  const policy = (name: string) => {
    const action = dice.pick(['auto_ipsec', 'auto_ipsec', 'auto_ipsec', 'discard', 'none', 'bypass']);
    return [
      `policy ${name} {\n  action ${action};\n  remote_index ${dice.pick(names.remotes)};\n`,
      maybe(`ipsec_mode ${dice.pick(['transport', 'tunnel'])};`),
      '  my_sa_ipaddr MY_IP;\n  peers_sa_ipaddr 192.0.2.77;\n',
      maybe(`ipsec_level ${dice.pick(['unique', 'require', 'use'])};`),
      maybe(`initiate ${dice.pick(['demand', 'start'])};`),
      maybe(list('ipsec_index', dice.some(names.ipsecs))),
      '};\n',
    ].join('');
  };
  const ipsec = (name: string) =>
    [
      `ipsec ${name} {\n`,
      maybe(`ipsec_sa_lifetime_time ${dice.pick(TIMES)};`),
      maybe(`ipsec_sa_lifetime_byte ${dice.pick(['infinite', '0', '10 GB', '4096', '1 B'])};`),
      maybe(`ipsec_sa_lifetime_idle ${dice.pick(TIMES)};`),
      maybe(`ipsec_sa_lifetime_packets ${dice.pick(['infinite', '1000000', '5 packets'])};`),
      maybe(`ext_sequence ${flag()};`),
      maybe(`replay_window ${dice.below(65537)};`),
      maybe(`sa_index ${dice.pick(names.sas)};`),
      '};\n',
    ].join('');
  const sa = (name: string) => {
    const protocol = dice.pick(['esp', 'esp', 'esp', 'ah', 'ipcomp']);
    return [
      `sa ${name} {\n  sa_protocol ${protocol};\n`,
      maybe(list('esp_enc_alg', good(CIPHERS, 'aes_gcm_16'))),
      protocol === 'ah'
        ? `    ${list('ah_auth_alg', dice.some(MACS))}\n`
        : maybe(list('esp_auth_alg', dice.some([...MACS, 'non_auth']))),
      '};\n',
    ].join('');
  };

  return [
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of the policy language
    'setval { NAME "${OTHER}-$[HOST]"; OTHER peer; };\n',
    dice.chance(50)
      ? `interface {\n  ike ${dice.pick(ADDRESSES)};\n  datapath { device memory; mtu ${dice.below(9001)}; };\n};\n`
      : '',
    dice.chance(30) ? `limits { half_open_sas ${1 + dice.below(500)}; };\n` : '',
    dice.chance(30) ? `logging { level ${dice.pick(['debug', 'error'])}; destination "log"; };\n` : '',
    dice.chance(30) ? 'resolver { resolver on; nameserver { 192.0.2.53; 2001:db8::53 port 5353; }; };\n' : '',
    dice.chance(50)
      ? `default {\n  policy { action ${dice.pick(['discard', 'none'])}; };\n  remote {\n${ikev2()}  };\n  ipsec { ext_sequence on; };\n};\n`
      : '',
    `kerberos { realm EXAMPLE.NET; ${dice.pick(['', 'kdc { 192.0.2.88; kdc.example.net port 8888; };', 'keytab "k.tab"; backend builtin;'])} };\n`,
    ...names.remotes.map((name) => `remote ${name} {\n${blocks()}};\n`),
    ...['a', 'b', '"c d"', 'e'].map(selector),
    ...names.policies.map(policy),
    ...names.ipsecs.map(ipsec),
    ...names.sas.map(sa),
    dice.chance(30) ? 'addresspool pool { 10.9.0.1 - 10.9.0.99; 2001:db8::1 - 2001:db8::ff; };\n' : '',
  ].join('');
}

export const ENVIRONMENT = { HOST: 'host7' };
