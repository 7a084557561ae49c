/**
 * AH and IPComp that IKEv1 negotiates (RFC 2407 §4.4.3, §4.4.5): the embedded engine here, charon over the kernel's own AH, ESP and IPComp in a
 * user-mode-linux guest.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CharonConnection } from './lab/charon.ts';
import { Lab, namespacesMissing } from './lab/namespaces.ts';
import { Pluto, plutoMissing } from './lab/pluto.ts';
import { must, waitUntil } from './lab/process.ts';
import { closeAll } from './lab/proofs.ts';
import { skipNote } from './lab/skip.ts';
import { SUITES_V1, tanukiSide } from './lab/suites.ts';
import { Tanuki, type TanukiPolicy, type TanukiRemote, tanukiMissing } from './lab/tanuki.ts';
import { ping } from './lab/traffic.ts';
import { UmlCharon, UmlGuest, umlMissing } from './lab/uml.ts';

const missing = namespacesMissing('charon-systemd', 'swanctl') ?? umlMissing() ?? tanukiMissing();
const why = skipNote('AH and IPComp by IKEv1', missing);

const TCP_ECHO = fileURLToPath(new URL('./lab/tcp-echo.py', import.meta.url));
const PSK = 'a key of the tests, known to everyone';

/** One pair of addresses, with one child between them. */
interface Row {
  readonly name: string;
  readonly mode: 'tunnel' | 'transport';
  readonly family: 4 | 6;
  readonly ours: Pick<TanukiPolicy, 'encryption' | 'integrity' | 'ah' | 'ipcomp'>;
  readonly theirs: { readonly esp: string; readonly ah?: string; readonly ipcomp?: boolean };
  /** Innermost first. */
  readonly sas: readonly string[];
}

const AH = { encryption: '', integrity: 'hmac_sha2_256', ah: true } as const;
const CBC = { encryption: 'aes128_cbc', integrity: 'hmac_sha2_256' } as const;
const GCM = { encryption: 'aes256_gcm_16' } as const;
const ROWS: readonly Row[] = [
  { name: 'ahtunnel', mode: 'tunnel', family: 4, ours: AH, theirs: { esp: '', ah: 'sha256' }, sas: ['ah'] },
  { name: 'ahhosts', mode: 'transport', family: 4, ours: AH, theirs: { esp: '', ah: 'sha256' }, sas: ['ah'] },
  {
    name: 'ahhosts6',
    mode: 'transport',
    family: 6,
    ours: { ...AH, integrity: 'hmac_sha1' },
    theirs: { esp: '', ah: 'sha1' },
    sas: ['ah'],
  },
  {
    name: 'comptunnel',
    mode: 'tunnel',
    family: 4,
    ours: { ...CBC, ipcomp: true },
    theirs: { esp: 'aes128-sha256', ipcomp: true },
    sas: ['ipcomp', 'esp'],
  },
  {
    name: 'comptunnel6',
    mode: 'tunnel',
    family: 6,
    ours: { ...GCM, ipcomp: true },
    theirs: { esp: 'aes256gcm16', ipcomp: true },
    sas: ['ipcomp', 'esp'],
  },
  {
    name: 'comphosts',
    mode: 'transport',
    family: 4,
    ours: { ...GCM, ipcomp: true },
    theirs: { esp: 'aes256gcm16', ipcomp: true },
    sas: ['ipcomp', 'esp'],
  },
  {
    name: 'compahtunnel',
    mode: 'tunnel',
    family: 4,
    ours: { ...AH, ipcomp: true },
    theirs: { esp: '', ah: 'sha256', ipcomp: true },
    sas: ['ipcomp', 'ah'],
  },
];

/** Each row has its own addresses on the cable, and its own nets behind the hosts. */
function endsOf(row: Row) {
  const i = ROWS.indexOf(row) + 1;
  const v4 = row.family === 4;
  const end = (host: number) => ({
    outer: v4 ? `198.51.100.${10 * i + host}` : `2001:db8:51::${i}:${host}`,
    net: v4 ? `10.20${host}.${i}.0/24` : `fd2${host}:${i}::/64`,
    inner: v4 ? `10.20${host}.${i}.1` : `fd2${host}:${i}::1`,
  });
  const [ours, theirs] = [end(1), end(2)];
  return { ours, theirs, bits: v4 ? 24 : 64 };
}

/** Where the row's packets come from and go to. */
function hostsOf(row: Row) {
  const { ours, theirs } = endsOf(row);
  return row.mode === 'tunnel' ? { here: ours.inner, there: theirs.inner } : { here: ours.outer, there: theirs.outer };
}

function remoteOf(row: Row): TanukiRemote {
  const { ours, theirs } = endsOf(row);
  return {
    name: row.name,
    kmp: 'ikev1',
    peer: theirs.outer,
    myId: `ipaddr ${ours.outer}`,
    peersId: `ipaddr ${theirs.outer}`,
    psk: PSK,
    encryption: 'aes128_cbc',
    integrity: 'sha2_256',
    group: 'ecp256',
  };
}

function policyOf(row: Row): TanukiPolicy {
  const { ours, theirs } = endsOf(row);
  const tunnel = row.mode === 'tunnel';
  return {
    name: row.name,
    remote: row.name,
    mode: row.mode,
    local: tunnel ? ours.net : ours.outer,
    peer: tunnel ? theirs.net : theirs.outer,
    mySaAddress: ours.outer,
    peersSaAddress: theirs.outer,
    ...row.ours,
  };
}

function connectionOf(row: Row): CharonConnection {
  const { ours, theirs } = endsOf(row);
  return {
    name: row.name,
    version: 1,
    local: theirs.outer,
    remote: ours.outer,
    localId: theirs.outer,
    remoteId: ours.outer,
    psk: PSK,
    ike: 'aes128-sha256-ecp256',
    children: [
      {
        name: row.name,
        mode: row.mode,
        ...row.theirs,
        ...(row.mode === 'tunnel' ? { localTs: [theirs.net], remoteTs: [ours.net] } : {}),
      },
    ],
  };
}

describe.skipIf(missing !== undefined)(`AH and IPComp by IKEv1 with charon over a real kernel${why}`, () => {
  let lab: Lab;
  let guest: UmlGuest;
  let charon: UmlCharon;
  let tanuki: Tanuki;

  beforeAll(async () => {
    lab = await Lab.open({ link: false, label: 'ikev1 bundles' });
    guest = await UmlGuest.boot(lab.a, join(lab.dir, 'guest'), lab.b.addresses);
    expect((await guest.exec('cat modules-missing')).stdout).toBe('');
    // The first SA of a kind loads modules, which takes seconds: its SPI must last as long.
    const there: string[] = ['set -e', 'echo 30 > /proc/sys/net/core/xfrm_acq_expires'];
    for (const row of ROWS) {
      const { ours, theirs, bits } = endsOf(row);
      const nodad = row.family === 6 ? ['nodad'] : [];
      for (const [address, device] of [
        [ours.outer, 'uml0'],
        [ours.inner, 'lo'],
      ] as const)
        await must(['ip', '-n', lab.a.name, 'address', 'add', `${address}/${bits}`, 'dev', device, ...nodad]);
      there.push(
        `ip address add ${theirs.outer}/${bits} dev vec0 ${nodad}`,
        `ip address add ${theirs.inner}/${bits} dev inside ${nodad}`,
      );
    }
    await guest.must(there.join('\n'));
    charon = new UmlCharon(guest);
    await charon.start(ROWS.map(connectionOf));
    tanuki = await new Tanuki(lab.a, join(lab.dir, 'tanuki')).start({
      remotes: ROWS.map(remoteOf),
      policies: ROWS.map(policyOf),
    });
  });
  afterAll(async () => {
    await guest?.close();
    await closeAll(lab, tanuki);
  });

  /** Packets that each of our SAs of the row has carried. */
  const carried = async (row: Row) => {
    const { ours, theirs } = endsOf(row);
    const ends = [ours.outer, theirs.outer];
    const { sas } = await tanuki.datapath();
    return sas
      .filter(({ source, destination }) => ends.includes(source) && ends.includes(destination))
      .map(({ protocol, direction, packets }) => ({ protocol, direction, packets }));
  };

  describe.each(ROWS)('$name ($mode, IPv$family)', (row) => {
    test.each(['Tanuki', 'charon'] as const)(
      'begun by %s: pings and TCP both ways, what can be compressed is, rekeyed, deleted',
      async (by) => {
        const { here, there } = hostsOf(row);
        await (by === 'Tanuki' ? tanuki : charon).initiate(row.name);
        const ofRow = async () => (await tanuki.children()).filter(({ policy }) => policy === row.name);
        const child = (
          await waitUntil(async () => ((await ofRow()).length === 1 ? await ofRow() : undefined), 10, 'one pair')
        )[0]!;
        expect(child).toMatchObject({ mode: row.mode, protocol: row.sas.at(-1) });
        const passes = async () => (await ping(lab.a, there, 1, { from: here })).lost.length === 0;
        await waitUntil(passes, 15, 'the guest has loaded what its SAs need');
        expect((await ping(lab.a, there, 3, { from: here })).lost).toEqual([]);
        expect(await guest.must(`ping -c 3 -i 0.2 -W 2 -s 1000 -p 61 -I ${there} ${here}`)).toContain('3 received');
        const serving = guest.exec(`python3 ${TCP_ECHO} serve ${there}`);
        expect((await lab.a.exec(['python3', TCP_ECHO, 'send', here, there, 'text'], { timeout: 40 })).stdout).toBe('intact\n');
        expect((await serving).code).toBe(0);
        const sas = await carried(row);
        for (const protocol of row.sas)
          for (const direction of ['inbound', 'outbound'])
            expect([
              protocol,
              direction,
              sas.find((sa) => sa.protocol === protocol && sa.direction === direction)?.packets,
            ]).toEqual([protocol, direction, expect.toSatisfy((packets) => packets > 100)]);
        if (row.ours.ipcomp) {
          // The kernel counts what it had to decompress.
          const { ours, theirs } = endsOf(row);
          const state = await guest.must(`ip -s xfrm state list nokeys src ${ours.outer} dst ${theirs.outer} proto comp`);
          expect(Number(/(\d+)\(packets\)/.exec(state.slice(state.indexOf('lifetime current')))?.[1])).toBeGreaterThan(100);
        }
        await (by === 'Tanuki' ? tanuki.rekey(row.name, 'child') : charon.rekey({ child: row.name }));
        await waitUntil(async () => (await ofRow()).some(({ spiIn }) => spiIn !== child.spiIn), 10, 'a new pair');
        expect((await ping(lab.a, there, 3, { from: here })).lost).toEqual([]);
        expect(await guest.must(`ping -c 3 -i 0.2 -W 2 -s 1000 -p 61 -I ${there} ${here}`)).toContain('3 received');
        await (by === 'Tanuki' ? tanuki.terminate(row.name) : charon.terminate(row.name));
        await waitUntil(async () => (await ofRow()).length === 0, 15, 'no pair');
        await waitUntil(async () => !(await charon.children()).some(({ name }) => name === row.name), 15, 'none in charon');
      },
    );
  });
});

const missingPluto = missing ?? plutoMissing();
describe.skipIf(missingPluto !== undefined)(
  `AH and IPComp by IKEv1 with libreswan's pluto${skipNote('pluto', missingPluto)}`,
  () => {
    const SHA1 = { encryption: '', integrity: 'hmac_sha1', ah: true } as const;
    test.each([
      ['AH', SHA1, { esp: '', ah: 'sha1' }],
      ['IPComp in ESP', { ...CBC, ipcomp: true }, { esp: 'aes128-sha2_256', compress: true }],
    ] as const)('%s in a tunnel, begun by either side: pings that can be compressed pass', async (_name, ours, theirs) => {
      const lab = await Lab.open({ link: false, label: 'ikev1 bundles with pluto' });
      const tanuki = new Tanuki(lab.a, join(lab.dir, 'tanuki'));
      let guest: UmlGuest | undefined;
      try {
        guest = await UmlGuest.boot(lab.a, join(lab.dir, 'guest'), lab.b.addresses);
        await guest.must(`ip route add ${lab.a.addresses.net.v4} dev vec0 src ${lab.b.addresses.inner.v4}`);
        const side = tanukiSide({ suite: { ...SUITES_V1[0]!, policy: ours }, outer: 'v4' }, 'a');
        const pluto = await new Pluto(guest).start([
          {
            name: 'net4',
            left: lab.b.addresses.outer.v4,
            leftSubnet: lab.b.addresses.net.v4,
            right: lab.a.addresses.outer.v4,
            rightSubnet: lab.a.addresses.net.v4,
            psk: side.remotes[0]!.psk,
            ike: 'aes256-sha2_256-modp2048',
            pfs: false,
            ...theirs,
          },
        ]);
        await tanuki.start(side);
        const [from, to] = [lab.a.addresses.inner.v4, lab.b.addresses.inner.v4];
        for (const initiator of [tanuki, pluto]) {
          await initiator.initiate('net4');
          await waitUntil(async () => (await tanuki.children()).length === 1, 10, 'one pair');
          const passes = async () => (await ping(lab.a, to, 1, { from })).lost.length === 0;
          await waitUntil(passes, 15, () => `a first answer; pluto's log:\n${pluto.log.slice(-3000)}`);
          expect(await lab.a.must(['ping', '-n', '-c', '5', '-i', '0.2', '-s', '1000', '-p', '61', '-I', from, to])).toMatch(
            / 5 received/,
          );
          expect(await guest.must(`ping -n -c 5 -i 0.2 -s 1000 -p 61 -I ${to} ${from}`)).toMatch(/ 5 received/);
          const { sas } = await tanuki.datapath();
          expect(new Set(sas.map(({ protocol }) => protocol))).toEqual(new Set('ah' in theirs ? ['ah'] : ['ipcomp', 'esp']));
          for (const { protocol, direction, packets } of sas)
            expect([protocol, direction, packets]).toEqual([protocol, direction, expect.toSatisfy((count) => count >= 10)]);
          // Who began it ends it: pluto begins anew what others end.
          await initiator.terminate('net4');
          await waitUntil(async () => (await tanuki.status()).childSas.length === 0, 10, 'nothing left');
          await waitUntil(async () => (await tanuki.datapath()).sas.length === 0, 10, 'no SA left');
        }
      } finally {
        await guest?.close();
        await closeAll(lab, tanuki);
      }
    });
  },
);
