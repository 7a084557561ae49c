/** Tunnels that move: spmd follows X_MIGRATE, does not take the movement back, and sends it for spmif's MIGRATE. */

import { describe, expect, test } from 'vitest';
import type { KmAddress } from '../../../src/ipsec/policy.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';
import { migrateToSadb } from '../../../src/pfkey/convert-migrate.ts';
import { LOCAL, Rig } from './rig.ts';

const FILE = (peer = '198.51.100.1') => `
  interface { ike { 192.0.2.1 port 500; }; application_bypass off; };
  remote peer { acceptable_kmp ikev2; ikev2 { peers_ipaddr 198.51.100.1; my_id fqdn "a"; peers_id fqdn "b"; kmp_auth_method psk; pre_shared_key "/x"; }; };
  policy tun { action auto_ipsec; remote_index peer; ipsec_mode tunnel; my_sa_ipaddr MY_IP; peers_sa_ipaddr ${peer}; ipsec_index esp; ipsec_level unique; };
  ipsec esp { sa_index s; };
  sa s { sa_protocol esp; esp_enc_alg aes_gcm_16; };
  selector one { direction both; src 10.1.0.0/16; dst 10.2.0.0/16; policy_index tun; };
`;
const OUT = 'outbound 10.1.0.0/16 -> 10.2.0.0/16';
const IN = 'inbound 10.2.0.0/16 -> 10.1.0.0/16';
const ip = (text: string) => IpAddress.parse(text)!;
const [MINE, OLD, NEW] = [ip('192.0.2.1'), ip('198.51.100.1'), ip('203.0.113.7')];
const KM: KmAddress = { local: { address: MINE, port: 0 }, remote: { address: NEW, port: 0 } };

function running(): Rig {
  const rig = new Rig();
  rig.connect();
  expect(rig.configure(FILE())()).toMatchObject({ ok: true });
  rig.spd.log.length = 0;
  rig.events.length = 0;
  return rig;
}

/** A mobility daemon says that the peer moved. */
function move(rig: Rig, { from = OLD, to = NEW, kmAddress }: { from?: IpAddress; to?: IpAddress; kmAddress?: KmAddress } = {}) {
  const prefix = (text: string) => ({ address: parsePrefix(text)!.address, length: 16 });
  const [one, two] = [prefix('10.1.0.0/16'), prefix('10.2.0.0/16')];
  const kind = { protocol: 'esp', mode: 'tunnel', reqid: 1 } as const;
  const ports = { protocol: 0, sourcePort: 0, destinationPort: 0 };
  rig.toDatapath(
    migrateToSadb({
      selector: { source: one, destination: two, ...ports },
      direction: 'outbound',
      movements: [{ ...kind, old: { source: MINE, destination: from }, new: { source: MINE, destination: to } }],
      kmAddress,
    }),
    2,
  );
  rig.toDatapath(
    migrateToSadb({
      selector: { source: two, destination: one, ...ports },
      direction: 'inbound',
      movements: [{ ...kind, old: { source: from, destination: MINE }, new: { source: to, destination: MINE } }],
    }),
    2,
  );
}

function ends(rig: Rig): string[] {
  return [OUT, IN].map((key) => {
    const { source, destination } = rig.spd.policies.get(key)!.templates[0]!.endpoints!;
    return `${source} ${destination}`;
  });
}

const MOVED = ['192.0.2.1 203.0.113.7', '203.0.113.7 192.0.2.1'];
const HOME = ['192.0.2.1 198.51.100.1', '198.51.100.1 192.0.2.1'];

describe('a movement that a mobility daemon told', () => {
  test('is reported, and stays through reloads of a file that did not change the tunnel', () => {
    const rig = running();
    move(rig);
    expect(rig.events).toEqual(['policy-moved', 'policy-moved']);
    expect(rig.configure(FILE())()).toMatchObject({ ok: true });
    expect(rig.configure(`${FILE()} policy drop { action discard; };`)()).toMatchObject({ ok: true });
    expect(rig.spd.log).toEqual([`migrate ${OUT}`, `migrate ${IN}`]);
    expect(ends(rig)).toEqual(MOVED);
  });

  test('is put back with its KMADDRESS when the datapath has lost everything', () => {
    const rig = running();
    move(rig, { kmAddress: KM });
    rig.spd.policies.clear();
    rig.spd.kmAddresses.clear();
    rig.disconnect();
    rig.connect();
    expect(ends(rig)).toEqual(MOVED);
    expect(rig.spd.kmAddresses.get(OUT)).toEqual(KM);
  });

  test('ends where the file says something else', () => {
    const rig = running();
    move(rig);
    rig.configure(FILE('203.0.113.99'));
    expect(ends(rig)).toEqual(['192.0.2.1 203.0.113.99', '203.0.113.99 192.0.2.1']);
    rig.configure(FILE());
    expect(ends(rig)).toEqual(HOME);
  });

  test('chains; and a file that catches up with it has nothing to change', () => {
    const rig = running();
    move(rig);
    move(rig, { from: NEW, to: ip('203.0.113.8') });
    rig.configure(FILE('203.0.113.8'));
    expect(rig.spd.log.filter((line) => line.startsWith('put'))).toEqual([]);
    rig.configure(FILE());
    expect(ends(rig)).toEqual(HOME);
  });

  test('is known to the next spmd where the datapath tells a KMADDRESS; without it the file decides', () => {
    for (const kmAddress of [KM, undefined]) {
      const rig = running();
      move(rig, kmAddress === undefined ? {} : { kmAddress });
      rig.restartSpmd();
      rig.connect();
      rig.configure(FILE());
      expect(ends(rig)[0]).toBe(kmAddress === undefined ? HOME[0] : MOVED[0]);
    }
  });

  test('our own address that changes: the macro catches up, and nothing is put twice', () => {
    const rig = running();
    const elsewhere = ip('192.0.2.77');
    rig.put({ kind: 'addresses', addresses: [{ address: elsewhere, interface: 'eth0' }, ...LOCAL.slice(2)] });
    expect(ends(rig)[0]).toBe('192.0.2.77 198.51.100.1');
    rig.spd.log.length = 0;
    rig.put({ kind: 'addresses', addresses: [{ address: elsewhere, interface: 'eth0' }, ...LOCAL.slice(2)] });
    expect(rig.spd.log).toEqual([]);
  });

  test('that was under way while we put the policy is put right again', () => {
    const rig = running();
    rig.prompt = false;
    rig.configure(FILE('198.51.100.2'));
    move(rig, { from: ip('198.51.100.2') });
    rig.deliver();
    rig.prompt = true;
    rig.deliver();
    expect(ends(rig)).toEqual(MOVED);
    expect(rig.status().policies.map(({ state }) => state)).toEqual(['installed', 'installed']);
  });
});

describe("spmif's MIGRATE", () => {
  const COMMAND = 'MIGRATE one 192.0.2.1 198.51.100.1 192.0.2.1 203.0.113.7';

  test('moves the selector and its mirror, and is answered when the datapath has done so', () => {
    const rig = running();
    const daemon = rig.daemon();
    rig.prompt = false;
    expect(daemon.say(COMMAND)).toBeUndefined();
    rig.prompt = true;
    rig.deliver();
    expect(daemon.replies.get(0)).toBe('250 OK');
    expect(ends(rig)).toEqual(MOVED);
    expect(daemon.say(COMMAND)).toBe('250 OK');
    expect(rig.spd.log).toEqual([`migrate ${OUT}`, `migrate ${IN}`]);
  });

  test('says what is wrong', () => {
    const rig = running();
    const daemon = rig.daemon();
    expect(daemon.say('MIGRATE two 192.0.2.1 198.51.100.1 192.0.2.1 203.0.113.7')).toMatch(/^551 there is no selector two/);
    expect(daemon.say('MIGRATE one 192.0.2.1 198.51.100.9 192.0.2.1 203.0.113.7')).toMatch(/^550 no installed policy of one/);
    expect(daemon.say('MIGRATE one 192.0.2.1 198.51.100.1 192.0.2.1 2001:db8::1')).toMatch(/^500 syntax: MIGRATE <selector>/);
    rig.disconnect();
    expect(daemon.say(COMMAND)).toMatch(/^550 the datapath is not connected/);
  });

  test('a policy that is not there any more is refused by the datapath, and the reason is told', () => {
    const rig = running();
    const daemon = rig.daemon();
    rig.spd.policies.delete(IN);
    expect(daemon.say(COMMAND)).toBe(`550 the datapath refused to move ${IN}: ENOENT`);
  });
});
