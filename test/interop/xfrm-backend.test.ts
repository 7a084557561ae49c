/** `backend xfrm` against charon over the same real kernel's ESP and AH, in two namespaces of a user-mode-linux guest. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CharonConnection } from './lab/charon.ts';
import { DatapathNode, settings } from './lab/datapath.ts';
import { Lab, namespacesMissing } from './lab/namespaces.ts';
import { waitUntil } from './lab/process.ts';
import { skipNote } from './lab/skip.ts';
import { type TanukiPolicy, type TanukiRemote, tanukiMissing } from './lab/tanuki.ts';
import { UmlCharon, UmlGuest, umlMissing } from './lab/uml.ts';
import { LEFT, natBetween, RIGHT, twoHosts, UmlTanuki } from './lab/uml-tanuki.ts';

const missing = namespacesMissing('charon-systemd', 'swanctl') ?? umlMissing() ?? tanukiMissing();
const why = skipNote('backend xfrm in a guest', missing);

const TCP_ECHO = fileURLToPath(new URL('./lab/tcp-echo.py', import.meta.url));
const PSK = 'a key of the tests, known to everyone';

/** One pair of addresses, with one child between them. */
interface Row {
  readonly name: string;
  readonly mode: 'tunnel' | 'transport';
  readonly family: 4 | 6;
  readonly security: 'gcm' | 'cbc' | 'ah';
}
const ROWS: readonly Row[] = (['tunnel', 'transport'] as const).flatMap((mode) =>
  ([4, 6] as const).flatMap((family) =>
    (['gcm', 'cbc', 'ah'] as const).map((security): Row => ({ name: `${mode}${family}${security}`, mode, family, security })),
  ),
);

/** One more, whose SAs end by packets or by time. */
const SHORT: Row = { name: 'short', mode: 'tunnel', family: 4, security: 'gcm' };
const LIMITS = { lifePackets: 120, lifeSeconds: 8 };
const ALL: readonly Row[] = [...ROWS, SHORT];

/** Behind a NAT, which changes ports under way (`udp-relay.mjs`). */
const NAT = {
  left: { outer: '198.18.1.1', net: '10.111.0.0/24', inner: '10.111.0.1' },
  right: { outer: '198.18.2.1', net: '10.112.0.0/24', inner: '10.112.0.1' },
  near: '198.18.1.254',
  far: '198.18.2.254',
} as const;

/** Row `i` has its own addresses on the cable, and its own nets behind the hosts. */
function endsOf({ family }: Row, i: number) {
  const outer = (host: number) => (family === 4 ? `192.0.2.${10 * i + host}` : `2001:db8::${i + 1}:${host}`);
  const net = (host: number) => (family === 4 ? `10.10${host}.${i}.0/24` : `fd0${host}:${i}::/64`);
  const inner = (host: number) => (family === 4 ? `10.10${host}.${i}.1` : `fd0${host}:${i}::1`);
  return { left: { outer: outer(1), net: net(1), inner: inner(1) }, right: { outer: outer(2), net: net(2), inner: inner(2) } };
}

const SECURITY = {
  gcm: { ours: { encryption: 'aes256_gcm_16' }, theirs: { esp: 'aes256gcm16' } },
  cbc: { ours: { encryption: 'aes128_cbc', integrity: 'hmac_sha2_256' }, theirs: { esp: 'aes128-sha256' } },
  ah: { ours: { encryption: '', integrity: 'hmac_sha2_256', ah: true }, theirs: { esp: '', ah: 'sha256' } },
} as const;

/** What the kernel calls them. */
const KERNEL = { gcm: /rfc4106\(gcm\(aes\)\)/, cbc: /hmac\(sha256\)[\s\S]*cbc\(aes\)/, ah: /hmac\(sha256\)/ } as const;

function remoteOf(row: Row, i: number): TanukiRemote {
  const { left, right } = endsOf(row, i);
  return {
    name: row.name,
    peer: right.outer,
    myId: `ipaddr ${left.outer}`,
    peersId: `ipaddr ${right.outer}`,
    psk: PSK,
    encryption: 'aes256_gcm_16',
    prf: 'hmac_sha2_256',
    group: 'x25519',
  };
}

function policyOf(row: Row, i: number): TanukiPolicy {
  const { left, right } = endsOf(row, i);
  const tunnel = row.mode === 'tunnel';
  return {
    name: row.name,
    remote: row.name,
    mode: row.mode,
    local: tunnel ? left.net : left.outer,
    peer: tunnel ? right.net : right.outer,
    mySaAddress: left.outer,
    peersSaAddress: right.outer,
    initiate: 'demand',
    ...(row === SHORT ? LIMITS : {}),
    ...SECURITY[row.security].ours,
  };
}

function connectionOf(row: Row, i: number): CharonConnection {
  const { left, right } = endsOf(row, i);
  const tunnel = row.mode === 'tunnel';
  return {
    name: row.name,
    local: right.outer,
    remote: left.outer,
    localId: right.outer,
    remoteId: left.outer,
    psk: PSK,
    ike: 'aes256gcm16-prfsha256-x25519',
    children: [
      {
        name: row.name,
        mode: row.mode,
        ...SECURITY[row.security].theirs,
        ...(tunnel ? { localTs: [right.net], remoteTs: [left.net] } : {}),
      },
    ],
  };
}

describe.skipIf(missing !== undefined)(`backend xfrm in a guest${why}`, () => {
  let lab: Lab;
  let guest: UmlGuest;
  let charon: UmlCharon;
  let tanuki: UmlTanuki;

  beforeAll(async () => {
    lab = await Lab.open({ link: false, label: 'xfrm-backend' });
    guest = await UmlGuest.boot(lab.a, join(lab.dir, 'guest'), lab.b.addresses);
    const addresses = (side: 'left' | 'right') => ({
      outer: ALL.map((row, i) => `${endsOf(row, i)[side].outer}/${row.family === 4 ? 24 : 64}`),
      inner: [...ALL.map((row, i) => `${endsOf(row, i)[side].inner}/${row.family === 4 ? 24 : 64}`), `${NAT[side].inner}/24`],
    });
    await twoHosts(guest, { left: addresses('left'), right: addresses('right') });
    await natBetween(guest, NAT);
    charon = new UmlCharon(guest, { namespace: RIGHT });
    await charon.start([
      ...ALL.map(connectionOf),
      {
        name: 'nat',
        local: NAT.right.outer,
        remote: NAT.far,
        localId: 'right.example',
        remoteId: 'left.example',
        psk: PSK,
        ike: 'aes256gcm16-prfsha256-x25519',
        children: [{ name: 'nat', esp: 'aes256gcm16', localTs: [NAT.right.net], remoteTs: [NAT.left.net] }],
      },
    ]);
    tanuki = await new UmlTanuki(guest, LEFT).start({
      backend: 'xfrm',
      remotes: [
        ...ALL.map(remoteOf),
        { ...remoteOf(SHORT, 0), name: 'nat', peer: NAT.near, myId: 'fqdn left.example', peersId: 'fqdn right.example' },
      ],
      policies: [
        ...ALL.map(policyOf),
        {
          name: 'nat',
          remote: 'nat',
          mode: 'tunnel',
          local: NAT.left.net,
          peer: NAT.right.net,
          mySaAddress: NAT.left.outer,
          peersSaAddress: NAT.near,
          initiate: 'demand',
          ...SECURITY.gcm.ours,
        },
      ],
    });
  }, 120_000);
  afterAll(async () => {
    await guest?.close();
    await lab?.close();
  });

  const sideOf = (row: Row, side: 'left' | 'right') => {
    const { [side]: end } = endsOf(row, ALL.indexOf(row));
    return row.mode === 'tunnel' ? end.inner : end.outer;
  };
  const ping = (row: Row, from: 'left' | 'right', options: string) => {
    const [source, destination] = [sideOf(row, from), sideOf(row, from === 'left' ? 'right' : 'left')];
    return `ip netns exec ${from} ping -n -I ${source} ${options} ${destination}`;
  };
  /** A MiB of TCP there and back. */
  const transfer = (row: Row) => {
    const [left, right] = [sideOf(row, 'left'), sideOf(row, 'right')];
    return `ip netns exec right python3 ${TCP_ECHO} serve ${right} & ip netns exec left python3 ${TCP_ECHO} send ${left} ${right}; wait`;
  };
  /**
   * A transfer there and back, then pings both ways at once, after a ping that brings the SA; then what the left kernel says of the SAs between the row's
   * addresses.
   */
  const traffic = (row: Row, from: 'left' | 'right') => {
    const { left, right } = endsOf(row, ALL.indexOf(row));
    const state = (source: string, destination: string) =>
      `ip netns exec left ip -s xfrm state list nokeys src ${source} dst ${destination}`;
    return `${ping(row, from, '-c 1 -W 8')}
${transfer(row)}
${ping(row, 'left', '-c 5 -i 0.2 -W 2')} > /tmp/there & ${ping(row, 'right', '-c 5 -i 0.2 -W 2')} > /tmp/back; wait
cat /tmp/there /tmp/back; echo; ${state(left.outer, right.outer)}; ${state(right.outer, left.outer)}`;
  };
  const proveTraffic = (row: Row, printed: string) => {
    expect(printed.match(/ 5 received/g), printed).toHaveLength(2);
    expect(printed).toMatch(/^intact$/m);
    const sas = printed.split(/^(?=src )/m).slice(1);
    expect(sas, printed).toHaveLength(2);
    for (const sa of sas) {
      expect(sa).toMatch(new RegExp(`proto ${row.security === 'ah' ? 'ah' : 'esp'} [\\s\\S]*mode ${row.mode}`));
      expect(sa).toMatch(KERNEL[row.security]);
      // Bytes, packets: the lifetime's current values.
      expect(Number(/lifetime current:\s+\d+\(bytes\), (\d+)\(packets\)/.exec(sa)![1])).toBeGreaterThanOrEqual(10);
    }
  };

  describe.each(ROWS)('$name', (row) => {
    test('Tanuki begins, as its first packet asks for the SA', async () => {
      proveTraffic(row, await guest.must(traffic(row, 'left')));
    });

    test('charon begins', async () => {
      await charon.terminate(row.name);
      await charon.initiate(row.name);
      proveTraffic(row, await guest.must(traffic(row, 'right')));
    });
  });

  /** The SPIs of both SAs between the row's addresses, as the left kernel has them. */
  const spisOf = async ({ left, right }: { left: { outer: string }; right: { outer: string } }) => {
    const list = (source: string, destination: string) =>
      `ip netns exec left ip xfrm state list nokeys src ${source} dst ${destination}`;
    const printed = await guest.must(`${list(left.outer, right.outer)}; ${list(right.outer, left.outer)}`);
    return [...printed.matchAll(/spi (0x[0-9a-f]{8})/g)].map(([, spi]) => spi!);
  };
  const renewed = (row: Row, before: readonly string[], seconds = 20) =>
    waitUntil(
      async () => {
        const now = await spisOf(endsOf(row, ALL.indexOf(row)));
        return now.length === 2 && !now.some((spi) => before.includes(spi)) ? now : undefined;
      },
      seconds,
      `two new SAs of ${row.name}`,
      200,
    );

  test('rekeys of child and IKE SA by either side, under a transfer and twenty pings a second: none is lost, and all arrives', async () => {
    const row = ROWS[0]!;
    await guest.must(ping(row, 'left', '-c 1 -W 8'));
    const transfer = await guest.transfer(
      { name: 'left', address: sideOf(row, 'left') },
      { name: 'right', address: sideOf(row, 'right') },
      4,
    );
    const flood = await guest.pings('left', sideOf(row, 'left'), sideOf(row, 'right'));
    let spis = await spisOf(endsOf(row, 0));
    await tanuki.command(`rekey ${row.name}`);
    spis = await renewed(row, spis);
    await charon.rekey({ child: row.name });
    spis = await renewed(row, spis);
    const ike = async () => (await charon.sas()).find(({ name, state }) => name === row.name && state === 'ESTABLISHED');
    for (const rekey of [() => tanuki.command(`rekey ${row.name} --ike`), () => charon.rekey({ ike: row.name })]) {
      const before = (await ike())!.id;
      await rekey();
      await waitUntil(async () => ((await ike())?.id ?? before) !== before, 15, 'a new IKE SA', 200);
    }
    await tanuki.command(`rekey ${row.name}`);
    await renewed(row, spis);
    const { sent, lost } = await flood.stop();
    expect(lost).toBe(0);
    expect(sent).toBeGreaterThan(50);
    const { octets, intact } = await transfer.finish();
    expect(intact).toBe(true);
    expect(octets).toBeGreaterThan(1 << 20);
  });

  test('an SA whose packets near their end is replaced without loss (soft EXPIRE); one that nobody uses ends (hard EXPIRE)', async () => {
    const ends = endsOf(SHORT, ALL.indexOf(SHORT));
    await guest.must(ping(SHORT, 'left', '-c 1 -W 8'));
    const first = await spisOf(ends);
    // More packets than one SA may carry, sooner than its time.
    expect(await guest.must(ping(SHORT, 'left', '-c 200 -i 0.02'))).toMatch(/ 200 received, 0% packet loss/);
    await waitUntil(async () => !(await spisOf(ends)).some((spi) => first.includes(spi)), 10, 'the first SAs are gone', 200);
    await waitUntil(async () => (await spisOf(ends)).length === 0, 40, 'the last SAs ended', 500);
    expect(await tanuki.log()).toMatch(/child SA short .* is gone: it reached the end of its lifetime/);
  });

  test('behind a NAT in UDP; when the NAT changes its ports, the kernel tells and the outbound SA follows', async () => {
    await charon.initiate('nat');
    const across = (from: 'left' | 'right', options: string) =>
      `ip netns exec ${from} ping -n -I ${NAT[from].inner} ${options} ${NAT[from === 'left' ? 'right' : 'left'].inner}`;
    expect(await guest.must(`${across('left', '-c 3 -i 0.2')}; ${across('right', '-c 3 -i 0.2')}`)).toMatch(
      / 3 received[\s\S]* 3 received/,
    );
    const portOf = async () => {
      const printed = await guest.must(`ip netns exec left ip xfrm state list nokeys src ${NAT.left.outer} dst ${NAT.near}`);
      return Number(/encap type espinudp sport 4500 dport (\d+)/.exec(printed)?.[1]);
    };
    const before = await portOf();
    expect(before).toBeGreaterThan(1024);
    await guest.must('kill -USR1 $(cat /tmp/relay.pid)');
    await guest.exec(across('right', '-c 2 -i 0.5 -W 1'));
    await waitUntil(
      async () => (await portOf()) !== before && (await portOf()) > 1024,
      15,
      'the outbound SA has another port',
      200,
    );
    expect(await guest.must(`${across('left', '-c 3 -i 0.2')}; ${across('right', '-c 3 -i 0.2')}`)).toMatch(
      / 3 received[\s\S]* 3 received/,
    );
  });

  const kill = async (daemon: 'datapath' | 'iked' | 'spmd') => {
    const found = (await tanuki.status()).daemons.find(({ name }) => name === daemon)!;
    await guest.must(`kill -9 ${found.pid}`);
    await waitUntil(
      async () =>
        (await tanuki.status().catch(() => undefined))?.daemons.some(
          ({ name, answers, restarts }) => name === daemon && answers && restarts > found.restarts,
        ),
      40,
      `${daemon} again`,
      200,
    );
  };

  test.each(['datapath', 'spmd'] as const)(
    'a killed %s: the kernel goes on with SAs and policies, and the new one takes them over',
    async (daemon) => {
      const row = ROWS[0]!;
      await guest.must(ping(row, 'left', '-c 1 -W 8'));
      const before = await spisOf(endsOf(row, 0));
      const policies = async () => {
        const printed = await guest.must('ip netns exec left ip xfrm policy list');
        return printed
          .split(/^(?=src )/m)
          .map((one) =>
            one
              .split('\n')
              .slice(0, 2)
              .join(' ')
              .replace(/ ptype .*/, ''),
          )
          .sort();
      };
      const installed = await policies();
      const there = await guest.pings('left', sideOf(row, 'left'), sideOf(row, 'right'));
      const back = await guest.pings('right', sideOf(row, 'right'), sideOf(row, 'left'));
      await kill(daemon);
      const children = async () => (await tanuki.status()).childSas.filter(({ state }) => state === 'installed');
      const spis = (await children()).flatMap(({ spiIn, spiOut }) => [spiIn, spiOut]);
      for (const spi of before) expect(spis).toContain(spi.slice(2));
      // What nobody put again has gone by then.
      await waitUntil(async () => (await policies()).join() === installed.join(), 20, 'the same policies', 500).catch(
        async () => {
          expect(await policies()).toEqual(installed);
        },
      );
      expect([await there.stop(), await back.stop()].map(({ lost }) => lost)).toEqual([0, 0]);
      expect(await spisOf(endsOf(row, 0))).toEqual(before);
      expect((await tanuki.status()).datapath?.inbound.sas).toBeGreaterThan(0);
      // And who took them over can rekey them.
      await tanuki.command(`rekey ${row.name}`);
      await renewed(row, before);
    },
  );

  test('a killed iked: the kernel goes on with the SAs, the new one finds them by DUMP and replaces them', async () => {
    const row = ROWS[0]!;
    await guest.must(ping(row, 'left', '-c 1 -W 8'));
    const before = await spisOf(endsOf(row, 0));
    const there = await guest.pings('left', sideOf(row, 'left'), sideOf(row, 'right'));
    await kill('iked');
    await renewed(row, before, 40);
    expect(await tanuki.log()).toMatch(new RegExp(`SAs of an earlier run serve ${row.name}`));
    expect((await there.stop()).lost).toBe(0);
  });

  test('a kernel without ESP says so, and names the embedded engine', async () => {
    const gcm = ['aead', 'rfc4106(gcm(aes))', `0x${'01'.repeat(20)}`, '128'];
    const probe = ['ip', 'xfrm', 'state', 'add', 'src', '192.0.2.1', 'dst', '192.0.2.2', 'proto', 'esp', 'spi', '9', ...gcm];
    const { code } = await lab.b.exec(probe);
    const { node, problems } = await DatapathNode.start(lab.b, join(lab.dir, 'host'), settings({ backend: 'xfrm' }));
    const { device } = await node.status();
    await node.stop();
    // Of the host's own kernel, which may have it.
    expect({ problems, kind: device.kind }).toEqual(
      code === 0
        ? { problems: [], kind: 'kernel' }
        : {
            problems: [expect.stringMatching(/^backend xfrm: add SA .*use the embedded engine.*backend embedded/)],
            kind: 'none',
          },
    );
  });

  test('at its end nothing of ours is left in the kernel, and what others have is', async () => {
    const foreign = 'src 10.9.0.0/24 dst 10.8.0.0/24';
    await guest.must(`ip netns exec left ip xfrm policy add ${foreign} dir out`);
    await tanuki.stop();
    const left = await guest.must(
      'cd /; ip netns exec left bash -c "ip xfrm state; ip xfrm policy; ip rule; ip -6 rule; ip route show table 7461; ip -6 route show table 7461"',
    );
    expect(left).toMatch(/^src 10\.9\.0\.0\/24 dst 10\.8\.0\.0\/24/);
    expect(left.match(/^src /gm)).toHaveLength(1);
    expect(left).not.toMatch(/7461/);
  });
});
