/** The machine of spmd against a datapath that keeps an SPD: installing, reloading, generations, resynchronising, spmif. */

import { describe, expect, test } from 'vitest';
import { OWN_FIRST } from '../../../spmd/priorities.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { LOCAL, Rig } from './rig.ts';

const HEAD = `
  interface { ike { 192.0.2.1 port 500; }; application_bypass off; };
  remote peer { acceptable_kmp ikev2; ikev2 { peers_ipaddr 198.51.100.1; my_id fqdn "a"; peers_id fqdn "b"; kmp_auth_method psk; pre_shared_key "/x"; }; };
  policy tun { action auto_ipsec; remote_index peer; ipsec_mode tunnel; my_sa_ipaddr MY_IP; peers_sa_ipaddr 198.51.100.1; ipsec_index esp; ipsec_level unique; };
  policy warrior { action auto_ipsec; remote_index peer; ipsec_mode tunnel; my_sa_ipaddr 192.0.2.1; peers_sa_ipaddr IP_RW; ipsec_index esp; ipsec_level unique; };
  policy drop { action discard; };
  ipsec esp { sa_index s; };
  sa s { sa_protocol esp; esp_enc_alg aes_gcm_16; };
`;
const ONE = 'selector one { direction both; src 10.1.0.0/16; dst 10.2.0.0/16; policy_index tun; };';
const TWO = 'selector two { direction both; src 10.1.0.0/16; dst 10.3.0.0/16; policy_index tun; };';
const THREE =
  'selector three { direction outbound; src 10.1.0.0/16; dst 203.0.113.0/24; upper_layer_protocol tcp; policy_index drop; };';
const WARRIOR = 'selector rw { direction both; src 10.1.0.0/16; dst IP_RW; policy_index warrior; };';
const UNUSED = 'selector unused { direction outbound; src 10.9.0.0/16; dst 10.8.0.0/16; policy_index drop; };';

const ONE_OUT = 'outbound 10.1.0.0/16 -> 10.2.0.0/16';
const ONE_IN = 'inbound 10.2.0.0/16 -> 10.1.0.0/16';
const TWO_OUT = 'outbound 10.1.0.0/16 -> 10.3.0.0/16';
const TWO_IN = 'inbound 10.3.0.0/16 -> 10.1.0.0/16';
const THREE_OUT = 'outbound 10.1.0.0/16 -> 203.0.113.0/24 proto 6';

function running(...selectors: string[]): Rig {
  const rig = new Rig();
  rig.connect();
  const reply = rig.configure(HEAD + selectors.join('\n'));
  expect(reply()).toMatchObject({ ok: true });
  rig.spd.log.length = 0;
  return rig;
}

describe('installing', () => {
  test('selectors become SPD entries in the order of the file, with templates and one reqid for both directions', () => {
    const rig = running(ONE, TWO, THREE);
    const [out, into, , , drop] = [ONE_OUT, ONE_IN, TWO_OUT, TWO_IN, THREE_OUT].map((key) => rig.spd.policies.get(key)!);
    expect(out!.templates).toMatchObject([{ protocol: 'esp', mode: 'tunnel', level: 'unique', reqid: 1 }]);
    expect(`${out!.templates[0]!.endpoints!.source} ${out!.templates[0]!.endpoints!.destination}`).toBe('192.0.2.1 198.51.100.1');
    expect(`${into!.templates[0]!.endpoints!.source} ${into!.templates[0]!.endpoints!.destination}`).toBe(
      '198.51.100.1 192.0.2.1',
    );
    expect(into!.templates[0]!.reqid).toBe(1);
    expect(rig.spd.policies.get(TWO_IN)!.templates[0]!.reqid).toBe(2);
    expect(drop).toMatchObject({ action: 'discard', templates: [] });
    const byPriority = [...rig.spd.policies].sort(([, a], [, b]) => a.priority - b.priority).map(([key]) => key);
    expect(byPriority).toEqual([ONE_OUT, ONE_IN, TWO_OUT, TWO_IN, THREE_OUT]);
    expect(rig.status().policies.map(({ state }) => state)).toEqual(Array(5).fill('installed'));
  });

  test('a Binding Update and its Acknowledgement are a pair, written as one selector or as two (RFC 4877 §6.1)', () => {
    const MOBILE = 'src 2001:db8::1; dst 2001:db8::a; upper_layer_protocol mh bu; policy_index mobile';
    const policy = 'policy mobile { remote_index peer; ipsec_mode transport; ipsec_index esp; ipsec_level unique; };';
    const answer = 'src 2001:db8::a; dst 2001:db8::1; upper_layer_protocol mh ba; policy_index mobile';
    for (const selectors of [
      `selector m { direction both; ${MOBILE}; };`,
      `selector bu { direction outbound; ${MOBILE}; }; selector ba { direction inbound; ${answer}; };`,
    ]) {
      const rig = running(ONE, policy, selectors);
      const [out, into] = [...rig.spd.policies.values()].filter(({ selector }) => selector.protocol === 135);
      expect(out).toMatchObject({ direction: 'outbound', selector: { sourcePort: 5, destinationPort: 0 } });
      expect(into).toMatchObject({ direction: 'inbound', selector: { sourcePort: 6, destinationPort: 0 } });
      expect([out, into].map((entry) => entry!.templates[0]!.reqid)).toEqual([2, 2]);
    }
  });

  test('`order` comes before the place in the file', () => {
    const later = running(ONE.replace('direction', 'order 9; direction'), TWO);
    expect(later.spd.policies.get(TWO_IN)!.priority).toBeLessThan(later.spd.policies.get(ONE_OUT)!.priority);
  });

  test('IKE passes beside the policies from the addresses it uses, and from no other', () => {
    const rig = new Rig();
    rig.connect();
    rig.configure(HEAD.replace('application_bypass off', 'application_bypass on') + ONE);
    const bypasses = [...rig.spd.policies].filter(([, { action }]) => action === 'bypass').map(([key]) => key);
    expect(bypasses).toEqual([
      'outbound 192.0.2.1[500] -> 0.0.0.0/0 proto 17',
      'inbound 0.0.0.0/0 -> 192.0.2.1[500] proto 17',
      'outbound 192.0.2.1[4500] -> 0.0.0.0/0 proto 17',
      'inbound 0.0.0.0/0 -> 192.0.2.1[4500] proto 17',
    ]);
    const first = Math.min(...[...rig.spd.policies.values()].map(({ priority }) => priority));
    expect(rig.spd.policies.get(bypasses[0]!)!.priority).toBe(first);
  });

  test('a link-local address passes without its zone, which an SPD that is read back does not tell', () => {
    const rig = new Rig();
    rig.connect();
    rig.put({ kind: 'addresses', addresses: [{ address: IpAddress.parse('fe80::1%eth0')!, interface: 'eth0' }] });
    rig.configure(HEAD.replace('application_bypass off', 'application_bypass on').replace('192.0.2.1 port 500', 'MY_IP') + ONE);
    const inbound = [...rig.spd.policies.keys()].filter((key) => key.startsWith('inbound ::/0'));
    expect(inbound).toEqual(['inbound ::/0 -> fe80::1[500] proto 17', 'inbound ::/0 -> fe80::1[4500] proto 17']);
  });

  test('`default { policy { action discard } }` is the last entry of either family and direction', () => {
    const rig = running('default { policy { action discard; }; };', ONE);
    const last = [...rig.spd.policies].filter(([, { action }]) => action === 'discard').map(([key]) => key);
    expect(last).toEqual([
      'outbound 0.0.0.0/0 -> 0.0.0.0/0',
      'inbound 0.0.0.0/0 -> 0.0.0.0/0',
      'outbound ::/0 -> ::/0',
      'inbound ::/0 -> ::/0',
    ]);
    expect(rig.spd.policies.get(last[0]!)!.priority).toBeGreaterThan(rig.spd.policies.get(ONE_IN)!.priority);
  });

  test('the datapath is told its settings before any policy, and the configuration waits for it', () => {
    const rig = new Rig();
    const reply = rig.configure(HEAD + ONE);
    expect([rig.settings.length, reply(), rig.status().problems.length]).toEqual([1, undefined, 1]);
    expect(rig.settings[0]).toMatchObject({ keyPorts: [500], localAddresses: ['192.0.2.1'], unmatched: 'bypass' });
    rig.connect();
    expect(reply()).toMatchObject({ ok: true, result: { generation: 1 } });
    expect([...rig.spd.policies.keys()]).toEqual([ONE_OUT, ONE_IN]);
    expect(rig.status().problems).toEqual([]);
  });

  test('a selector for which nothing can be installed is a problem that status names, and the rest is installed', () => {
    const rig = running(
      ONE,
      TWO.replace('policy_index tun', 'policy_index v6'),
      'policy v6 { action auto_ipsec; remote_index peer; ipsec_mode tunnel; my_sa_ipaddr MY_IPV6_LINKLOCAL; peers_sa_ipaddr 2001:db8::9; ipsec_index esp; ipsec_level unique; };',
    );
    expect([...rig.spd.policies.keys()]).toEqual([ONE_OUT, ONE_IN]);
    expect(rig.status().problems[0]).toContain('selector two is not installed: policy v6: my_sa_ipaddr MY_IPV6_LINKLOCAL');
    expect(rig.events).toContain('policy-not-installed');
  });

  test('a policy that the datapath refuses shows in status', () => {
    const rig = new Rig();
    rig.spd.refused.add(ONE_IN);
    rig.connect();
    rig.configure(HEAD + ONE);
    expect(rig.status().problems).toEqual([`the datapath refused the policy ${ONE_IN}: ENOSYS`]);
    expect(rig.events).toContain('policy-refused');
  });

  test("a change of the host's addresses moves tunnel ends, and touches nothing else", () => {
    const rig = running(ONE, THREE);
    rig.put({ kind: 'addresses', addresses: [...LOCAL].reverse() });
    expect(rig.spd.log).toEqual([]);
    rig.put({ kind: 'addresses', addresses: LOCAL.filter(({ address }) => address.isLoopback) });
    expect(rig.spd.log).toEqual([`put ${ONE_OUT}`, `put ${ONE_IN}`]);
    expect(rig.spd.policies.get(ONE_OUT)!.templates[0]!.endpoints!.source.toString()).toBe('127.0.0.1');
  });
});

describe('reload', () => {
  test('what did not change is not touched; numbers and reqids stay', () => {
    const rig = running(ONE, TWO);
    const before = new Map(rig.spd.policies);
    const reply = rig.configure(HEAD + [UNUSED, ONE, THREE, TWO].join('\n'));
    expect(rig.spd.log).toEqual(['put outbound 10.9.0.0/16 -> 10.8.0.0/16', `put ${THREE_OUT}`]);
    expect(reply()).toMatchObject({ result: { generation: 2, summary: '2 policies added, 0 changed, 0 removed, 4 left alone' } });
    for (const [key, policy] of before) expect(rig.spd.policies.get(key)).toEqual(policy);
    const order = [...rig.spd.policies].sort(([, a], [, b]) => a.priority - b.priority).map(([key]) => key);
    expect(order).toEqual(['outbound 10.9.0.0/16 -> 10.8.0.0/16', ONE_OUT, ONE_IN, THREE_OUT, TWO_OUT, TWO_IN]);
  });

  test('what changed is replaced in place, what went is removed', () => {
    const rig = running(ONE, TWO, THREE);
    const id = rig.spd.policies.get(THREE_OUT)!.id;
    rig.configure(HEAD + [TWO, THREE.replace('drop', 'pass')].join('\n').concat('policy pass { action bypass; };'));
    expect(rig.spd.log).toEqual([`put ${THREE_OUT}`, `remove ${ONE_OUT}`, `remove ${ONE_IN}`]);
    expect(rig.spd.policies.get(THREE_OUT)).toMatchObject({ action: 'bypass', id });
    expect(rig.spd.policies.get(TWO_OUT)!.templates[0]!.reqid).toBe(2);
  });

  test('a daemon that cannot prepare rejects it for all: nothing changes', () => {
    const rig = running(ONE);
    const [iked, kinkd] = [rig.daemon('iked'), rig.daemon('kinkd')];
    for (const daemon of [iked, kinkd]) daemon.say('CONFIG PREPARED 1');
    const before = new Map(rig.spd.policies);
    const reply = rig.configure(HEAD + TWO);
    kinkd.say('CONFIG PREPARED 2');
    expect([reply(), rig.spd.log]).toEqual([undefined, []]);
    iked.say('CONFIG REJECTED 2 cannot read /etc/psk: no such file');
    expect(reply()).toMatchObject({
      ok: false,
      error: 'generation 2 is rejected, nothing has changed: iked: cannot read /etc/psk: no such file',
    });
    expect(rig.spd.policies).toEqual(before);
    expect(rig.spd.log).toEqual([]);
    expect(iked.heard).toEqual(['prepare 1', 'commit 1', 'prepare 2', 'abort 2']);
    expect(kinkd.heard).toEqual(['prepare 1', 'commit 1', 'prepare 2', 'abort 2']);
    expect(rig.status()).toMatchObject({ generation: 1, problems: [expect.stringContaining('cannot read /etc/psk')] });
    rig.configure(HEAD + THREE);
    for (const daemon of [iked, kinkd]) daemon.say('CONFIG PREPARED 3');
    expect(rig.status()).toMatchObject({ generation: 3, problems: [] });
  });

  test('the first configuration is in force at once, also for a daemon that cannot work with it: no traffic goes unprotected meanwhile', () => {
    const rig = new Rig();
    rig.connect();
    const iked = rig.daemon('iked');
    expect(rig.configure(HEAD + ONE)()).toMatchObject({ ok: true });
    expect([...rig.spd.policies.keys()]).toEqual([ONE_OUT, ONE_IN]);
    iked.say('CONFIG REJECTED 1 no key');
    expect(rig.status().problems).toEqual(['iked cannot work with this configuration: no key']);
    rig.configure(HEAD + TWO);
    iked.say('CONFIG PREPARED 2');
    expect([iked.heard, rig.status().problems]).toEqual([['prepare 1', 'prepare 2', 'commit 2'], []]);
  });

  test('SPD changes and commits come when all are prepared, not before', () => {
    const rig = running(ONE);
    const [iked, kinkd] = [rig.daemon('iked'), rig.daemon('kinkd')];
    const reply = rig.configure(HEAD + TWO);
    iked.say('CONFIG PREPARED 2');
    expect([reply(), rig.spd.log, rig.configure(HEAD + ONE)()]).toMatchObject([undefined, [], { ok: false }]);
    kinkd.say('CONFIG PREPARED 2');
    expect(reply()).toMatchObject({ ok: true });
    expect(rig.spd.log).toEqual([`put ${TWO_OUT}`, `put ${TWO_IN}`, `remove ${ONE_OUT}`, `remove ${ONE_IN}`]);
    expect(iked.heard.slice(-1)).toEqual(['commit 2']);
  });

  test('a silent daemon ends it after 30 s; one that goes away does not hold it up', () => {
    const rig = running(ONE);
    const iked = rig.daemon('iked');
    const reply = rig.configure(HEAD + TWO);
    rig.pass(29_999);
    expect(reply()).toBeUndefined();
    rig.pass(1);
    expect(reply()).toMatchObject({ ok: false, error: expect.stringContaining('no answer from iked within 30 s') });
    const second = rig.configure(HEAD + TWO);
    rig.lose(iked);
    expect(second()).toMatchObject({ ok: true });
  });

  test('without a confirmation the configuration before it comes back', () => {
    const rig = running(ONE);
    expect(rig.configure(HEAD + TWO, 60)()).toMatchObject({ ok: true });
    rig.pass(59_000);
    expect([...rig.spd.policies.keys()]).toEqual([TWO_OUT, TWO_IN]);
    expect(rig.status().unconfirmedSeconds).toBe(1);
    rig.pass(1_000);
    expect([...rig.spd.policies.keys()]).toEqual([ONE_OUT, ONE_IN]);
    expect(rig.events).toContain('configuration-taken-back');
    expect(rig.configure(HEAD + TWO, 60)()).toMatchObject({ ok: true });
    expect(rig.command('confirm')).toMatchObject({ ok: true });
    rig.pass(120_000);
    expect([...rig.spd.policies.keys()]).toEqual([TWO_OUT, TWO_IN]);
    expect(rig.command('confirm')).toMatchObject({ ok: false });
  });
});

describe('daemons that come later', () => {
  test('get the configuration in force, with every reqid, and commit alone', () => {
    const rig = running(ONE);
    const iked = rig.daemon('iked');
    expect(iked.heard).toEqual(['prepare 1']);
    const [prepare] = iked.notifications;
    expect(prepare).toMatchObject({
      config: {
        selectors: [
          { name: 'one', reqid: 1 },
          { name: 'one.in', reqid: 1 },
        ],
      },
    });
    iked.say('CONFIG PREPARED 1');
    expect(iked.heard).toEqual(['prepare 1', 'commit 1']);
    expect(rig.status().daemons).toEqual([{ name: 'iked', generation: 1, state: 'committed' }]);
  });

  test('one that comes during a reload takes part in it', () => {
    const rig = running(ONE);
    const iked = rig.daemon('iked');
    const reply = rig.configure(HEAD + TWO);
    const late = rig.daemon('kinkd');
    iked.say('CONFIG PREPARED 2');
    expect([late.heard, reply()]).toEqual([['prepare 2'], undefined]);
    late.say('CONFIG REJECTED 2 no ticket');
    expect([late.heard, iked.heard]).toEqual([
      ['prepare 2', 'abort 2', 'prepare 1'],
      ['prepare 1', 'prepare 2', 'abort 2', 'prepare 1'],
    ]);
    late.say('CONFIG REJECTED 1 no ticket');
    expect(rig.status().problems).toEqual([
      'generation 2 is rejected, nothing has changed: kinkd: no ticket',
      'kinkd cannot work with this configuration: no ticket',
    ]);
  });
});

describe('resynchronising', () => {
  test('after a restart of the datapath all policies are put back', () => {
    const rig = running(ONE, THREE);
    rig.disconnect();
    expect(rig.status().problems).toHaveLength(1);
    rig.spd.policies.clear();
    rig.connect();
    expect([...rig.spd.policies.keys()]).toEqual([ONE_OUT, ONE_IN, THREE_OUT]);
    expect(rig.status().policies.every(({ state }) => state === 'installed')).toBe(true);
  });

  test('after an overrun only what is missing is put back', () => {
    const rig = running(ONE, THREE);
    rig.disconnect();
    rig.spd.policies.delete(ONE_IN);
    rig.connect();
    expect(rig.spd.log).toEqual([`put ${ONE_IN}`]);
  });

  test("a killed spmd's policies are adopted: nothing is touched that is right, and reqids stay", () => {
    const rig = running(ONE, TWO);
    rig.configure(HEAD + [TWO, THREE].join('\n'));
    expect(rig.spd.policies.get(TWO_OUT)!.templates[0]!.reqid).toBe(2);
    rig.restartSpmd();
    rig.spd.log.length = 0;
    rig.connect();
    const reply = rig.configure(HEAD + [TWO, ONE].join('\n'));
    expect(reply()).toMatchObject({ result: { summary: '2 policies added, 0 changed, 1 removed, 2 left alone' } });
    expect(rig.spd.log).toEqual([`put ${ONE_OUT}`, `put ${ONE_IN}`, `remove ${THREE_OUT}`]);
    expect(rig.spd.policies.get(TWO_OUT)!.templates[0]!.reqid).toBe(2);
  });

  test('policies of other programs are left alone, and ours are put back when somebody removes them', () => {
    const rig = running(ONE);
    const policy = { type: 0, direction: 2, id: 0, priority: 7, requests: [] };
    const side = { protocol: 255, prefixLength: 8, address: LOCAL[0]!.address, port: 0 };
    rig.foreign('X_SPDUPDATE', { source: side, destination: side, policy });
    rig.configure(HEAD + TWO);
    expect([...rig.spd.policies.values()].filter(({ priority }) => priority < OWN_FIRST)).toHaveLength(1);
    rig.foreign('X_SPDDELETE2', { policy: { ...policy, id: rig.spd.policies.get(TWO_IN)!.id } });
    expect(rig.spd.policies.has(TWO_IN)).toBe(true);
    expect(rig.events).toContain('policies-removed-by-others');
  });

  test('at exit everything that spmd installed is removed', () => {
    const rig = running(ONE, THREE);
    rig.prompt = false;
    expect(rig.command('shutdown')).toBeUndefined();
    rig.deliver();
    expect([...rig.replies.values()].at(-1)).toMatchObject({ ok: true });
    expect(rig.spd.policies.size).toBe(0);
  });
});

describe('spmif', () => {
  test('SLID names the selector of a policy, also while the number is on its way', () => {
    const rig = running(ONE);
    const client = rig.daemon();
    const id = rig.spd.policies.get(ONE_IN)!.id;
    expect(client.say(`SLID ${id}`)).toBe('250 one.in');
    expect(client.say('SLID 4711')).toBe('551 no selector has policy 4711');
    rig.prompt = false;
    rig.configure(HEAD + [ONE, TWO].join('\n'));
    expect(client.say(`SLID ${rig.spd.policies.get(TWO_OUT)!.id}`)).toBeUndefined();
    rig.deliver();
    expect(client.replies.get(2)).toBe('250 two');
  });

  test('POLICY ADD generates the pair of a road warrior, POLICY DELETE removes it', () => {
    const rig = running(ONE, WARRIOR);
    expect([...rig.spd.policies.keys()]).toEqual([ONE_OUT, ONE_IN]);
    const client = rig.daemon();
    expect(client.say('POLICY ADD rw 600 TUNNEL 10.1.0.0/16 10.200.0.7/32 192.0.2.1 203.0.113.9')).toBe('250 rw rw.in');
    const out = rig.spd.policies.get('outbound 10.1.0.0/16 -> 10.200.0.7')!;
    const into = rig.spd.policies.get('inbound 10.200.0.7 -> 10.1.0.0/16')!;
    expect(out.templates[0]!.endpoints!.destination.toString()).toBe('203.0.113.9');
    expect(into.templates[0]!.endpoints!.source.toString()).toBe('203.0.113.9');
    expect(out.templates[0]!.reqid).toBe(into.templates[0]!.reqid);
    expect(client.say('POLICY DUMP')).toBe(
      `250 one ${rig.spd.policies.get(ONE_OUT)!.id} | one.in ${rig.spd.policies.get(ONE_IN)!.id} | rw ${out.id} | rw.in ${into.id}`,
    );
    expect(client.say(`SLID ${out.id}`)).toBe('250 rw');
    expect(client.say('POLICY DELETE rw TUNNEL 10.1.0.0/16 10.200.0.7/32 192.0.2.1 203.0.113.9')).toBe('250 OK');
    expect(client.say('POLICY DELETE rw')).toBe('551 no policy was generated for rw');
    expect([...rig.spd.policies.keys()]).toEqual([ONE_OUT, ONE_IN]);
    expect(client.say('POLICY ADD nobody 0 TUNNEL 10.1.0.0/16 10.200.0.7/32 192.0.2.1 203.0.113.9')).toBe(
      '550 there is no selector nobody',
    );
    expect(client.say(`POLICY ADD one 0 TUNNEL 10.1.0.0/16 10.2.0.0/16 192.0.2.1 203.0.113.9`)).toBe(
      `550 the policy file has ${ONE_OUT} already`,
    );
  });

  test('generated policies outlive spmd and reloads, and go with their selector', () => {
    const rig = running(WARRIOR);
    rig.daemon().say('POLICY ADD rw 0 TUNNEL 10.1.0.0/16 10.200.0.7/32 192.0.2.1 203.0.113.9');
    rig.restartSpmd();
    rig.spd.log.length = 0;
    rig.connect();
    rig.configure(HEAD + WARRIOR);
    expect([rig.spd.policies.size, rig.spd.log]).toEqual([2, []]);
    rig.configure(HEAD + [ONE, WARRIOR].join('\n'));
    expect(rig.spd.policies.size).toBe(4);
    rig.configure(HEAD + ONE);
    expect([...rig.spd.policies.keys()]).toEqual([ONE_OUT, ONE_IN]);
  });

  test('a generated policy goes when its time is over', () => {
    const rig = running(WARRIOR);
    rig.daemon().say('POLICY ADD rw 600 TUNNEL 10.1.0.0/16 10.200.0.7/32 192.0.2.1 203.0.113.9');
    expect(rig.spmd.wakeAt()).toBe(600_000);
    rig.pass(600_000);
    expect([rig.spd.policies.size, rig.status().policies]).toEqual([0, []]);
  });

  test('a policy that another program installs for `install off` is known by its reqid', () => {
    const MOBILE = 'selector mobile { direction outbound; src 10.7.0.0/16; dst 10.6.0.0/16; reqid 900; policy_index off; };';
    const OFF =
      'policy off { action auto_ipsec; remote_index peer; install off; ipsec_mode transport; ipsec_index esp; ipsec_level unique; };';
    const rig = running(MOBILE, OFF);
    expect(rig.spd.policies.size).toBe(0);
    const side = (text: string) => ({ protocol: 255, prefixLength: 16, address: IpAddress.parse(text)!, port: 0 });
    const requests = [{ protocol: 50, mode: 1, level: 3, reqid: 900, addresses: undefined }];
    rig.foreign('X_SPDUPDATE', {
      source: side('10.7.0.0'),
      destination: side('10.6.0.0'),
      policy: { type: 2, direction: 2, id: 0, priority: 0, requests },
    });
    const [policy] = [...rig.spd.policies.values()];
    expect(rig.daemon().say(`SLID ${policy!.id}`)).toBe('250 mobile');
    rig.foreign('X_SPDDELETE2', { policy: { type: 0, direction: 0, id: policy!.id, priority: 0, requests: [] } });
    expect(rig.daemon().say(`SLID ${policy!.id}`)).toBe(`551 no selector has policy ${policy!.id}`);
  });

  test('a POLICY ADD that the datapath refuses leaves nothing behind', () => {
    const rig = running(WARRIOR);
    rig.spd.refused.add('inbound 10.200.0.7 -> 10.1.0.0/16');
    const answer = rig.daemon().say('POLICY ADD rw 0 TUNNEL 10.1.0.0/16 10.200.0.7/32 192.0.2.1 203.0.113.9');
    expect(answer).toBe('550 the datapath refused it: ENOSYS');
    expect(rig.spd.policies.size).toBe(0);
  });

  test.each([
    ['FQDN QUERY 192.0.2.1', '501'],
    ['FQDN LIST', '251'],
    ['NS LIST', '550'],
    ['MIGRATE a b c d', '500'],
    ['MIGRATE nothing 192.0.2.1 198.51.100.1 192.0.2.7 198.51.100.1', '550'],
    ['STAT', '250'],
    ['POLICY DUMP', '251'],
    ['FROBNICATE', '502'],
    ['SLID x', '500'],
  ])('%s is answered %s', (command, code) => {
    const rig = new Rig();
    expect(rig.daemon().say(command)?.slice(0, 3)).toBe(code);
  });
});
