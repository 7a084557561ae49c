/** Hostile spmif lines against the machine of spmd: no exception, no change before LOGIN, bounded answers. */

import { expect, test } from 'vitest';
import { utf8 } from '../../../src/bytes/bytes.ts';
import { CODE } from '../../../src/spmif/protocol.ts';
import { COUNT, LIMIT, MemoryBound } from '../../support/fuzz.ts';
import { configOf, Rig } from '../../unit/spmd/rig.ts';

const POLICIES = `
  interface { ike { 192.0.2.1 port 500; }; application_bypass off; };
  remote peer { acceptable_kmp ikev2; ikev2 { peers_ipaddr 198.51.100.1; my_id fqdn "a"; peers_id fqdn "b"; kmp_auth_method psk; pre_shared_key "/x"; }; };
  selector rw { direction both; src 10.1.0.0/16; dst IP_RW; policy_index warrior; };
  policy warrior { action auto_ipsec; remote_index peer; ipsec_mode tunnel; my_sa_ipaddr 192.0.2.1; peers_sa_ipaddr IP_RW; ipsec_index esp; ipsec_level unique; };
  ipsec esp { sa_index s; };
  sa s { sa_protocol esp; esp_enc_alg aes_gcm_16; };
`;
const LINES = [
  'SLID 8',
  'POLICY ADD rw 60 TUNNEL 10.1.0.0/16 10.200.0.7/32 192.0.2.1 203.0.113.9',
  'POLICY DELETE rw',
  'POLICY DUMP',
  'CONFIG SUBSCRIBE iked',
  'CONFIG PREPARED 1',
  'CONFIG REJECTED 1 because',
  'FQDN QUERY 192.0.2.1',
  'LOGIN 0123456789ABCDEF0123456789ABCDEF01234567',
  'STAT',
  'QUIT',
];

function generator(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return (state >>> 8) % n;
  };
}

function mutate(random: (n: number) => number): Uint8Array {
  let bytes = utf8(`${LINES[random(LINES.length)]}\r\n`);
  for (let n = random(4); n > 0; n--) {
    const at = random(bytes.length);
    if (random(3) === 0) bytes = Uint8Array.from([...bytes.slice(0, at), ...bytes.slice(random(bytes.length))]);
    else bytes[at] = random(256);
    if (bytes.length === 0) bytes = utf8('\n');
  }
  return bytes;
}

test.each([
  ['without', undefined],
  ['with', utf8('secret')],
] as const)(`${COUNT} mutated lines, %s a password`, LIMIT, (_, password) => {
  const rig = new Rig();
  rig.connect();
  rig.put({ kind: 'configure', id: 1, config: configOf(POLICIES), password, confirmSeconds: 0 });
  const random = generator(42);
  const codes = new Set<string>();
  rig.overhear = (bytes) => {
    codes.add(new TextDecoder().decode(bytes.subarray(0, 3)));
    expect(bytes.length).toBeLessThan(8_000);
  };
  const memory = new MemoryBound();
  for (let i = 0; i < COUNT; i++) {
    memory.mutant();
    const client = 1_000_000 + Math.floor(i / 20);
    if (i % 20 === 0) rig.put({ kind: 'spmif-connected', client });
    rig.put({ kind: 'spmif', client, bytes: mutate(random) });
    if (i % 20 === 19) rig.put({ kind: 'spmif-closed', client });
  }
  memory.end();
  expect(codes.has(String(CODE.syntax)) || codes.has(String(CODE.unknownCommand))).toBe(true);
  expect(rig.spd.log.length > 0).toBe(password === undefined);
  expect(rig.status().generation).toBe(1);
});
