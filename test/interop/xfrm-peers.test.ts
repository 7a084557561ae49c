/**
 * `backend xfrm` in a user-mode-linux guest with our own embedded engine on the host as its peer: a tunnel whose both ends move (SADB_X_MIGRATE), ESN and long replay
 * windows, BEET mode, several SAs for one packet, IKEv1 and KINK.
 */
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connectPfkey, IpAddress, movesOf } from '../../src/pfkey.ts';
import { MitKdc, missingKdc } from './lab/kdc.ts';
import { Lab, namespacesMissing } from './lab/namespaces.ts';
import { closeAll } from './lab/proofs.ts';
import { skipNote } from './lab/skip.ts';
import { policyFile, Tanuki, type TanukiPolicy, type TanukiRemote, type TanukiScenario, tanukiMissing } from './lab/tanuki.ts';
import { Pinger, ping } from './lab/traffic.ts';
import { UmlGuest, umlMissing } from './lab/uml.ts';
import { UmlTanuki } from './lab/uml-tanuki.ts';

const missing = namespacesMissing() ?? umlMissing() ?? tanukiMissing() ?? missingKdc();
const why = skipNote('backend xfrm and the embedded engine', missing);

interface Row {
  readonly name: string;
  /** Tunnel, unless it is said. */
  readonly mode?: 'beet';
  readonly kmp: 'ikev2' | 'ikev1' | 'kink';
  readonly words: Pick<TanukiPolicy, 'encryption' | 'integrity' | 'esn' | 'replayWindow' | 'inAh' | 'ipcomp'>;
  /** What `ip xfrm state` has to say of the pair's SAs. */
  readonly shown: readonly RegExp[];
}
const GCM = { encryption: 'aes128_gcm_16' };
const CBC = { encryption: 'aes128_cbc', integrity: 'hmac_sha2_256' };
const ROWS: readonly Row[] = [
  {
    name: 'esn',
    kmp: 'ikev2',
    words: { ...GCM, esn: true, replayWindow: 4096 },
    shown: [/proto esp .*mode tunnel[\s\S]*flag [^\n]*esn[\s\S]*replay_window 4096/],
  },
  {
    name: 'window',
    kmp: 'ikev2',
    words: { ...CBC, replayWindow: 512 },
    shown: [/proto esp .*mode tunnel[\s\S]*replay_window 512/],
  },
  { name: 'beet', mode: 'beet', kmp: 'ikev2', words: GCM, shown: [/proto esp .*mode beet/] },
  { name: 'ikev1', kmp: 'ikev1', words: CBC, shown: [/proto esp .*mode tunnel[\s\S]*hmac\(sha256\)[\s\S]*cbc\(aes\)/] },
  {
    name: 'bundle',
    kmp: 'ikev1',
    words: { ...GCM, inAh: 'hmac_sha2_256' },
    shown: [/proto esp .*mode tunnel/, /proto ah .*mode transport/],
  },
  {
    name: 'ipcomp',
    kmp: 'ikev1',
    words: { ...CBC, ipcomp: true },
    shown: [/proto comp .*mode tunnel[\s\S]*deflate/, /proto esp .*mode transport/],
  },
  { name: 'kink', kmp: 'kink', words: CBC, shown: [/proto esp .*mode tunnel[\s\S]*cbc\(aes\)/] },
];
const MOVING: Row = { name: 'moving', kmp: 'ikev2', words: GCM, shown: [] };
const ALL: readonly Row[] = [MOVING, ...ROWS];
const REQID = 77;
const REALM = 'KINK.TEST';
const KDC_PORT = 10088;
/** To which the ends of the tunnel move. */
const LATER = { host: '192.0.2.201', guest: '192.0.2.202' } as const;

type Side = 'host' | 'guest';

/** Row `i` has its own addresses on the tap, and its own nets behind both. */
function endsOf(row: Row) {
  const i = ALL.indexOf(row) + 1;
  const of = (n: number) => ({ outer: `192.0.2.${10 * i + n}`, net: `10.20${n}.${i}.0/24`, inner: `10.20${n}.${i}.1` });
  return { host: of(1), guest: of(2) };
}

function remoteOf(row: Row, side: Side): TanukiRemote {
  const other = side === 'host' ? 'guest' : 'host';
  return {
    name: row.name,
    peer: endsOf(row)[other].outer,
    myId: `fqdn ${side}.example`,
    peersId: `fqdn ${other}.example`,
    psk: 'a key of the tests, known to everyone',
    ...(row.kmp === 'ikev1'
      ? { kmp: 'ikev1', encryption: 'aes256_cbc', integrity: 'sha2_256', group: 'ecp256' }
      : { encryption: 'aes256_gcm_16', prf: 'hmac_sha2_256', group: 'x25519' }),
  };
}

function policyOf(row: Row, side: Side): TanukiPolicy {
  const ends = endsOf(row);
  const [mine, theirs] = side === 'host' ? [ends.host, ends.guest] : [ends.guest, ends.host];
  return {
    name: row.name,
    remote: row.name,
    mode: row.mode ?? 'tunnel',
    local: row.mode === 'beet' ? mine.inner : mine.net,
    peer: row.mode === 'beet' ? theirs.inner : theirs.net,
    mySaAddress: mine.outer,
    peersSaAddress: theirs.outer,
    ...(row === MOVING ? { reqid: REQID } : {}),
    ...row.words,
  };
}

/** `dir`: where the keys and the keytab are. */
function scenarioOf(side: Side, dir: string, kdc: string): TanukiScenario {
  const scenario: TanukiScenario = {
    ...(side === 'guest' ? { backend: 'xfrm' } : {}),
    remotes: ALL.filter(({ kmp }) => kmp !== 'kink').map((row) => remoteOf(row, side)),
    policies: ALL.map((row) => policyOf(row, side)),
  };
  const kink = ALL.filter(({ kmp }) => kmp === 'kink').map((row) => {
    const other = side === 'host' ? 'guest' : 'host';
    const peer = endsOf(row)[other].outer;
    return `remote "${row.name}" { acceptable_kmp kink; kink { peers_ipaddr ${peer}; my_principal "kink/${side}"; peers_principal "kink/${other}"; }; };`;
  });
  const kerberos = `kerberos { backend builtin; realm "${REALM}"; kdc "${kdc}" port ${KDC_PORT}; keytab "${join(dir, `${side}.keytab`)}"; };`;
  return { ...scenario, text: [kerberos, ...kink, policyFile(dir, scenario)].join('\n') };
}

describe.skipIf(missing !== undefined)(`backend xfrm in a guest and the embedded engine on the host${why}`, () => {
  let lab: Lab;
  let guest: UmlGuest;
  let kdc: MitKdc;
  let xfrm: UmlTanuki;
  let embedded: Tanuki;

  beforeAll(async () => {
    lab = await Lab.open({ link: false, label: 'xfrm-peers' });
    guest = await UmlGuest.boot(lab.a, join(lab.dir, 'guest'), lab.b.addresses);
    const kdcAddress = lab.a.addresses.outer.v4;
    for (const row of ALL) {
      const { host } = endsOf(row);
      await lab.a.ip(`address add ${host.outer}/24 dev uml0`);
      await lab.a.ip(`address add ${host.inner}/24 dev lo`);
    }
    await lab.a.ip(`address add ${LATER.host}/24 dev uml0`);
    await guest.must(
      [
        'sysctl -qw net.core.xfrm_acq_expires=3 net.core.xfrm_larval_drop=0',
        ...ALL.flatMap((row) => [
          `ip address add ${endsOf(row).guest.outer}/24 dev vec0`,
          `ip address add ${endsOf(row).guest.inner}/24 dev inside`,
        ]),
        `ip address add ${LATER.guest}/24 dev vec0`,
      ].join('\n'),
    );
    kdc = await MitKdc.open({
      realm: REALM,
      principals: ['kink/host', 'kink/guest'],
      listen: kdcAddress,
      port: KDC_PORT,
      within: ['ip', 'netns', 'exec', lab.a.name],
    });
    embedded = new Tanuki(lab.a, join(lab.dir, 'host'));
    xfrm = new UmlTanuki(guest);
    for (const [side, dir] of [
      ['host', embedded.dir],
      ['guest', xfrm.dir],
    ] as const)
      copyFileSync(kdc.file(`${side}.keytab`), join(dir, `${side}.keytab`));
    await embedded.start(scenarioOf('host', embedded.dir, kdcAddress));
    await xfrm.start(scenarioOf('guest', xfrm.dir, kdcAddress));
  }, 120_000);
  afterAll(async () => {
    await guest?.close();
    await closeAll(lab, embedded).finally(() => kdc?.close());
  });

  /** The packet that asks for the pair, from the guest. */
  const begin = async ({ host, guest: end }: ReturnType<typeof endsOf>) => {
    const { code, stdout } = await guest.exec(`ping -n -c 2 -i 0.2 -W 8 -I ${end.inner} ${host.inner}`);
    if (code !== 0) throw new Error(`${stdout}\nthe guest's log:\n${(await xfrm.log()).slice(-4000)}`);
  };
  const stateOf = (row: Row) => {
    const { host, guest: end } = endsOf(row);
    const list = (source: string, destination: string) => `ip -s xfrm state list nokeys src ${source} dst ${destination}`;
    return guest.must(`${list(host.outer, end.outer)}; ${list(end.outer, host.outer)}`);
  };

  test.each(ROWS)('$name: the guest begins, and the host rekeys under pings', async (row) => {
    const ends = endsOf(row);
    await begin(ends);
    // Long enough to be cut, and to be compressed where that is agreed.
    const long = await ping(lab.a, ends.guest.inner, 3, { from: ends.host.inner, size: 3000 });
    expect(long).toMatchObject({ lost: [] });
    const before = await stateOf(row);
    for (const shown of row.shown) {
      const matching = before.split(/^(?=src )/m).filter((sa) => shown.test(sa));
      expect(matching, `${shown} in ${before}`).toHaveLength(2);
      for (const sa of matching) expect(Number(/current:\s+\d+\(bytes\), (\d+)\(packets\)/.exec(sa)![1])).toBeGreaterThan(0);
    }
    const pinger = new Pinger(lab.a, ends.guest.inner, { from: ends.host.inner });
    // In KINK who began a pair rekeys it (RFC 4430 §3.6).
    if (row.kmp === 'kink') await xfrm.command(`rekey ${row.name}`);
    else await embedded.rekey(row.name, 'child');
    const spis = (text: string) => [...text.matchAll(/spi (0x[0-9a-f]{8})/g)].map(([, spi]) => spi!);
    const old = spis(before);
    await pinger.answered(20, 20);
    const now = spis(await stateOf(row));
    expect(now.filter((spi) => !old.includes(spi)).length).toBeGreaterThanOrEqual(2);
    expect((await pinger.stop()).lost).toEqual([]);
  });

  test('both ends of a tunnel move under pings: policies and SAs follow in the kernel, and all goes on', async () => {
    const ends = endsOf(MOVING);
    await begin(ends);
    const told = await connectPfkey(join(embedded.runDir, 'pfkey.sock'));
    const spisAt = async (from: string, to: string) => {
      const list = (source: string, destination: string) => `ip xfrm state list nokeys src ${source} dst ${destination}`;
      const printed = await guest.must(`${list(from, to)}; ${list(to, from)}`);
      // Of SPI 0: a packet asked for an SA just while they moved.
      return [...printed.matchAll(/spi (0x(?!0{8})[0-9a-f]{8})/g)].map(([, spi]) => spi!);
    };
    let at = { host: ends.host.outer, guest: ends.guest.outer };
    const spis = await spisAt(at.guest, at.host);
    expect(spis).toHaveLength(2);
    const pinger = new Pinger(lab.a, ends.guest.inner, { from: ends.host.inner });
    await pinger.answered(10, 10);
    for (const side of ['guest', 'host'] as const) {
      const to = { ...at, [side]: LATER[side] };
      const movement = (direction: 'in' | 'out') => {
        const pair = ({ host, guest: end }: typeof at) => (direction === 'out' ? `${end}-${host}` : `${host}-${end}`);
        const nets = direction === 'out' ? [ends.guest.net, ends.host.net] : [ends.host.net, ends.guest.net];
        const request = (place: typeof at) => `esp/tunnel/${pair(place)}/unique:${REQID}`;
        return `migrate ${nets.join(' ')} any -P ${direction} ipsec ${request(at)} ${request(to)} -k ${to.guest} ${to.host};`;
      };
      const [from, later] = [at[side], to[side]].map((address) => IpAddress.parse(address)!) as [IpAddress, IpAddress];
      const moves = movesOf(await told.policies(), from, later);
      expect(moves.length).toBeGreaterThanOrEqual(2);
      for (const move of moves) await told.migrate(move);
      await xfrm.command(`setkey -c '${movement('in')} ${movement('out')}'`);
      expect(await spisAt(at.guest, at.host)).toEqual([]);
      expect((await spisAt(to.guest, to.host)).sort()).toEqual([...spis].sort());
      const policies = await guest.must('ip xfrm policy list');
      const tunnels = policies.split(/^(?=src )/m).filter((one) => one.includes(`reqid ${REQID} `));
      expect(tunnels.map((one) => /dir (\w+)/.exec(one)![1]).sort()).toEqual(['fwd', 'in', 'out']);
      for (const one of tunnels) {
        expect([...one.matchAll(/tmpl src (\S+) dst (\S+)/g)].flatMap(([, a, b]) => [a, b]).sort()).toEqual(
          [to.host, to.guest].sort(),
        );
      }
      // What is sent between the two messages arrives where nobody waits for it yet.
      await pinger.answered(20, 10);
      at = to;
    }
    const { lost, sent } = await pinger.stop();
    process.stdout.write(`${lost.length} of ${sent} pings lost in two movements\n`);
    await embedded.rekey('moving', 'child');
    const still = new Pinger(lab.a, ends.guest.inner, { from: ends.host.inner });
    await still.answered(20, 10);
    expect((await still.stop()).lost).toEqual([]);
    told.close();
  });
});
