/**
 * IKEv1 against peers we did not write: Main Mode and Quick Mode with charon (RFC 2409 §5.4, §5.5), dead peer detection (RFC 3706), NAT
 * traversal (RFC 3947). One case by name: `npm run test:interop -- ikev1 -t "PFS.*outer v6.*initiator"`.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Charon } from './lab/charon.ts';
import { type Family, Lab, namespacesMissing } from './lab/namespaces.ts';
import { NAT_ADDRESS, natBetween } from './lab/nat.ts';
import { charonNode, isOf, type Node, rekeyOnce, tanukiNode } from './lab/nodes.ts';
import { Pluto, plutoMissing } from './lab/pluto.ts';
import { waitUntil } from './lab/process.ts';
import { closeAll, proveRekeys, proveTraffic } from './lab/proofs.ts';
import { skipNote } from './lab/skip.ts';
import { charonSide, type Pair, SUITES_V1, tanukiSide } from './lab/suites.ts';
import { Tanuki, tanukiMissing } from './lab/tanuki.ts';
import { Pinger, ping } from './lab/traffic.ts';
import { UmlGuest, umlMissing } from './lab/uml.ts';

const missing = namespacesMissing('charon-systemd', 'swanctl', 'tcpdump') ?? tanukiMissing();
const why = skipNote('IKEv1 with charon', missing);

describe.skipIf(missing !== undefined)(`IKEv1 traffic with charon in two namespaces${why}`, () => {
  for (const [index, suite] of SUITES_V1.entries()) {
    for (const outer of index < 2 ? (['v4', 'v6'] as const) : (['v4'] as const)) {
      for (const role of ['initiator', 'responder'] as const) {
        const inner: Family = (index + (role === 'initiator' ? 0 : 1)) % 2 === 0 ? 'v4' : 'v6';
        test(`${suite.name}, outer ${outer}, inner ${inner}, Tanuki ${role}: ping, bulk both ways, equal counts`, async () => {
          const pair: Pair = { suite, outer };
          const lab = await Lab.open({ label: `ikev1 ${suite.name} ${outer} ${role}` });
          const tanuki = new Tanuki(lab.a, join(lab.dir, 'tanuki'));
          try {
            const charon = await new Charon(lab.b, join(lab.dir, 'charon')).start([charonSide(pair, 'b')]);
            await tanuki.start(tanukiSide(pair, 'a'));
            await proveTraffic({ lab, tanuki, charon, inner, initiator: role === 'initiator' ? tanuki : charon });
            expect(await charon.ikeSas()).toMatchObject([{ version: 1, initiator: role === 'responder' }]);
          } finally {
            await closeAll(lab, tanuki);
          }
        });
      }
    }
  }
});

describe.skipIf(missing !== undefined)(`IKEv1 and a crash${why}`, () => {
  test('SIGKILL of iked: no ping lost, though charon forgets the old SAs at INITIAL-CONTACT', async () => {
    const pair: Pair = { suite: SUITES_V1[1]!, outer: 'v4' };
    const lab = await Lab.open({ label: 'ikev1 SIGKILL of iked' });
    const tanuki = new Tanuki(lab.a, join(lab.dir, 'tanuki'));
    try {
      const charon = await new Charon(lab.b, join(lab.dir, 'charon')).start([charonSide(pair, 'b')]);
      await tanuki.start(tanukiSide(pair, 'a', { initiate: 'start' }));
      const spis = async () => (await tanukiNode(tanuki).childSpis()).join(' ');
      const before = await waitUntil(async () => (await spis()) || undefined, 20, 'a first pair');
      const pinger = new Pinger(lab.a, lab.b.addresses.inner.v4, { from: lab.a.addresses.inner.v4, rate: 100 });
      await pinger.answered(50, 5);
      await tanuki.killDaemon('iked');
      await tanuki.restarted('iked');
      await waitUntil(async () => ![before, ''].includes(await spis()), 20, 'a new pair');
      await pinger.answered(300, 10);
      expect((await pinger.stop()).lost).toEqual([]);
      expect(charon.log).toMatch(/INITIAL_CONTACT/);
      await waitUntil(async () => (await charon.sas()).length === 1, 20, 'charon has one ISAKMP SA');
    } finally {
      await closeAll(lab, tanuki);
    }
  });
});

describe.skipIf(missing !== undefined)(`IKEv1 rekeying under traffic${why}`, () => {
  for (const other of ['charon', 'Tanuki'] as const) {
    describe(`Tanuki with ${other}`, () => {
      const pair: Pair = { suite: SUITES_V1[1]!, outer: 'v4' };
      let lab: Lab;
      let nodes: { readonly ours: Node; readonly theirs: Node };
      const tanukis: Tanuki[] = [];
      beforeAll(async () => {
        lab = await Lab.open({ label: `ikev1 rekeying with ${other}` });
        const peer = other === 'charon' ? new Charon(lab.b, join(lab.dir, 'peer')) : new Tanuki(lab.b, join(lab.dir, 'peer'));
        if (peer instanceof Charon) await peer.start([charonSide(pair, 'b')]);
        else tanukis.push(await peer.start(tanukiSide(pair, 'b')));
        const tanuki = await new Tanuki(lab.a, join(lab.dir, 'tanuki')).start(tanukiSide(pair, 'a'));
        tanukis.push(tanuki);
        nodes = { ours: tanukiNode(tanuki), theirs: peer instanceof Charon ? charonNode(peer) : tanukiNode(peer) };
        await tanuki.initiate('net4');
      });
      afterAll(() => closeAll(lab, ...tanukis));

      // Between two of a kind one side shows both.
      for (const by of other === 'charon' ? (['ours', 'theirs'] as const) : (['theirs'] as const)) {
        test(`10 phase 2 and 3 phase 1 rekeys begun by ${by}: no ping lost, the transfer completes, no SA left over`, async () => {
          const rounds = Array.from({ length: 13 }, (_, i) => ((i + 1) % 4 === 0 ? 'ike' : 'child'));
          await proveRekeys({ lab, ...nodes, by: [nodes[by]], rounds });
        }, 240_000);
      }
    });
  }
});

describe.skipIf(missing !== undefined)(`IKEv1 crashes${why}`, () => {
  test('charon dies: dead peer detection tells, and traffic is back within 20 s of its return', async () => {
    const pair: Pair = { suite: SUITES_V1[0]!, outer: 'v4', dpdSeconds: 2, retries: 2 };
    const lab = await Lab.open({ label: 'ikev1 charon killed' });
    const tanuki = new Tanuki(lab.a, join(lab.dir, 'tanuki'));
    try {
      const charon = await new Charon(lab.b, join(lab.dir, 'charon')).start([charonSide(pair, 'b')]);
      await tanuki.start(tanukiSide(pair, 'a', { initiate: 'start' }));
      await tanuki.initiate('net4');
      const pinger = new Pinger(lab.a, lab.b.addresses.inner.v4, { from: lab.a.addresses.inner.v4 });
      await pinger.answered(5, 5);
      await charon.kill();
      await waitUntil(
        async () => (await tanuki.ikeSas()).length === 0,
        30,
        () => `charon is missed; the log:\n${tanuki.log.slice(-3000)}`,
      );
      await charon.start();
      await pinger.answered(10, 20);
      await pinger.stop();
      expect((await tanuki.children()).filter(({ selector }) => isOf(selector, 'net4')).length).toBe(1);
    } finally {
      await closeAll(lab, tanuki);
    }
  });
});

const missingNat = namespacesMissing('charon-systemd', 'swanctl', 'nft') ?? tanukiMissing();
describe.skipIf(missingNat !== undefined)(`IKEv1 through a NAT${skipNote('IKEv1 through a NAT', missingNat)}`, () => {
  const pair: Pair = { suite: SUITES_V1[0]!, outer: 'v4' };
  const open = async (label: string) => {
    const lab = await Lab.open({ link: false, label });
    await natBetween(lab);
    return lab;
  };

  test('Tanuki behind it, charon outside: ESP in UDP from the port of the NAT, rekeyed by either side', async () => {
    const lab = await open('ikev1 behind a NAT');
    const tanuki = new Tanuki(lab.a, join(lab.dir, 'tanuki'));
    try {
      const charon = await new Charon(lab.b, join(lab.dir, 'charon')).start([{ ...charonSide(pair, 'b'), remote: '%any' }]);
      await tanuki.start(tanukiSide(pair, 'a'));
      await tanuki.initiate('net4');
      await passes(lab);
      expect(await tanuki.ikeSas()).toMatchObject([{ nat: expect.stringMatching(/here|both/) }]);
      expect(await tanuki.children()).toMatchObject([{ encapsulated: true }]);
      const [sa] = await charon.ikeSas();
      expect([sa?.remoteHost, sa?.remotePort]).toEqual([NAT_ADDRESS, expect.toSatisfy((port) => port >= 20_000)]);
      for (const by of [tanukiNode(tanuki), charonNode(charon)]) {
        await rekeyOnce('child', [by], tanukiNode(tanuki), charonNode(charon));
        await passes(lab);
      }
    } finally {
      await closeAll(lab, tanuki);
    }
  });

  test('charon behind it, Tanuki outside, which serves a peer from anywhere', async () => {
    const lab = await open('ikev1 with a peer behind a NAT');
    const tanuki = new Tanuki(lab.b, join(lab.dir, 'tanuki'));
    try {
      const charon = await new Charon(lab.a, join(lab.dir, 'charon')).start([charonSide(pair, 'a')]);
      const { ike, remotes, policies } = tanukiSide(pair, 'b');
      await tanuki.start({
        ...(ike !== undefined && { ike }),
        remotes: remotes.map((remote) => ({ ...remote, peer: 'IP_ANY' })),
        policies: policies.map((policy) => ({ ...policy, peersSaAddress: 'IP_ANY' })),
      });
      await charon.initiate('net4');
      await passes(lab);
      expect(await tanuki.ikeSas()).toMatchObject([{ nat: expect.stringMatching(/there|both/) }]);
      expect((await tanuki.ikeSas())[0]?.peer).toMatch(NAT_ADDRESS);
    } finally {
      await closeAll(lab, tanuki);
    }
  });

  async function passes(lab: Lab): Promise<void> {
    const [from, to] = [lab.a.addresses.inner.v4, lab.b.addresses.inner.v4];
    expect(await ping(lab.a, to, 5, { from })).toMatchObject({ sent: 5, lost: [] });
    expect(await ping(lab.b, from, 5, { from: to })).toMatchObject({ sent: 5, lost: [] });
  }
});

const missingScan = namespacesMissing('ike-scan') ?? tanukiMissing();
describe.skipIf(missingScan !== undefined)(`ike-scan${skipNote('ike-scan', missingScan)}`, () => {
  const [AES, TRIPLE_DES] = [7, 5];
  const HASH = { md5: 1, sha1: 2, sha2_256: 4, sha2_384: 5 };
  const AUTH = { psk: 1, rsa: 3 };
  /** RFC 2409 appendix A: cipher and key length, hash, authentication, group. */
  const transform = (cipher: string, hash: number, auth: number, group: number) => `${cipher},${hash},${auth},${group}`;
  const offered = [256, 128].flatMap((bits) =>
    [14, 19].map((group) => transform(`${AES}/${bits}`, HASH.sha2_256, AUTH.psk, group)),
  );
  const others = [
    transform(`${AES}/192`, HASH.sha2_256, AUTH.psk, 14),
    transform(`${TRIPLE_DES}`, HASH.sha2_256, AUTH.psk, 14),
    transform(`${AES}/256`, HASH.sha1, AUTH.psk, 14),
    transform(`${AES}/256`, HASH.md5, AUTH.psk, 14),
    transform(`${AES}/256`, HASH.sha2_384, AUTH.psk, 14),
    transform(`${AES}/256`, HASH.sha2_256, AUTH.rsa, 14),
    transform(`${AES}/256`, HASH.sha2_256, AUTH.psk, 2),
    transform(`${AES}/256`, HASH.sha2_256, AUTH.psk, 5),
    transform(`${AES}/256`, HASH.sha2_256, AUTH.psk, 20),
  ];
  let lab: Lab;
  let tanuki: Tanuki;
  beforeAll(async () => {
    lab = await Lab.open({ label: 'ike-scan' });
    const side = tanukiSide({ suite: SUITES_V1[0]!, outer: 'v4' }, 'a');
    const lists = { encryption: '{ aes256_cbc; aes128_cbc; }', group: '{ modp2048; ecp256; }' };
    tanuki = await new Tanuki(lab.a, join(lab.dir, 'tanuki')).start({
      ...side,
      remotes: side.remotes.map((remote) => ({ ...remote, ...lists })),
    });
  });
  afterAll(() => closeAll(lab, tanuki));
  const scan = async (...words: readonly string[]) =>
    (await lab.b.exec(['ike-scan', '--sport=0', '--retry=1', '--timeout=1000', ...words, lab.a.addresses.outer.v4])).stdout;

  test('sees exactly what the policy offers, and no vendor ID that it did not ask for', async () => {
    for (const trans of offered) {
      const seen = await scan(`--trans=${trans}`);
      const [, bits, group] = /^7\/(\d+),4,1,(\d+)$/.exec(trans)!;
      expect(seen).toMatch(/Main Mode Handshake returned/);
      expect(seen).toMatch(
        new RegExp(`SA=\\(Enc=AES (?=.*KeyLength=${bits})(?=.*Hash=SHA2-256)(?=.*Group=${group}:)(?=.*Auth=PSK)`),
      );
      expect(seen).not.toMatch(/VID=/);
    }
    for (const trans of others) {
      const seen = await scan(`--trans=${trans}`);
      expect([trans, seen]).toEqual([trans, expect.stringMatching(/0 returned handshake; [01] returned notify/)]);
      expect(seen).not.toMatch(/VID=/);
    }
  });

  test('of several transforms the first that the policy has is chosen; dead peer detection is announced to those who announce it', async () => {
    const seen = await scan(
      ...[others[0], offered[3], offered[0]].map((trans) => `--trans=${trans}`),
      '--vendor=afcad71368a1f1c96b8696fc77570100',
    );
    expect(seen).toMatch(/KeyLength=128/);
    expect(seen.match(/VID=\w+/g)).toEqual(['VID=afcad71368a1f1c96b8696fc77570100']);
  });

  test('Aggressive Mode is refused', async () => {
    expect(await scan('--aggressive', '--id=b', `--trans=${offered[0]}`)).toMatch(/0 returned handshake/);
  });
});

const missingPluto = missing ?? umlMissing() ?? plutoMissing();
describe.skipIf(missingPluto !== undefined)(
  `libreswan's pluto over a real kernel${skipNote('IKEv1 with pluto', missingPluto)}`,
  () => {
    const PFS_GCM = {
      ...SUITES_V1[2]!,
      name: 'AES-CBC-128 + SHA2-256 + MODP-2048, PFS, ESP AES-GCM-16',
      policy: SUITES_V1[1]!.policy,
    };
    // This pluto refuses an elliptic curve for ESP over IKEv1.
    const CONNECTIONS = [
      { suite: SUITES_V1[0]!, ike: 'aes256-sha2_256-modp2048', esp: 'aes256-sha2_256', pfs: false },
      { suite: PFS_GCM, ike: 'aes128-sha2_256-modp2048', esp: 'aes_gcm128-null', pfs: true },
    ];
    for (const { suite, ...words } of CONNECTIONS) {
      test(`${suite.name}: phase 1 and Quick Mode begun by either side, pings through raw ESP`, async () => {
        const lab = await Lab.open({ link: false, label: `ikev1 pluto ${suite.name}` });
        const tanuki = new Tanuki(lab.a, join(lab.dir, 'tanuki'));
        let guest: UmlGuest | undefined;
        try {
          guest = await UmlGuest.boot(lab.a, join(lab.dir, 'guest'), lab.b.addresses);
          await guest.must(`ip route add ${lab.a.addresses.net.v4} dev vec0 src ${lab.b.addresses.inner.v4}`);
          const side = tanukiSide({ suite, outer: 'v4' }, 'a');
          const pluto = await new Pluto(guest).start([
            {
              name: 'net4',
              left: lab.b.addresses.outer.v4,
              leftSubnet: lab.b.addresses.net.v4,
              right: lab.a.addresses.outer.v4,
              rightSubnet: lab.a.addresses.net.v4,
              psk: side.remotes[0]!.psk,
              ...words,
            },
          ]);
          await tanuki.start(side);
          for (const initiator of [tanuki, pluto]) {
            await initiator.initiate('net4');
            await waitUntil(async () => (await tanuki.children()).length === 1, 10, 'one pair');
            const [from, to] = [lab.a.addresses.inner.v4, lab.b.addresses.inner.v4];
            expect(await ping(lab.a, to, 5, { from })).toMatchObject({ sent: 5, lost: [] });
            expect(await guest.must(`ping -n -c 5 -i 0.2 -I ${to} ${from}`)).toMatch(/ 5 received/);
            expect(await tanuki.children()).toMatchObject([{ encapsulated: false, packetsIn: 10, packetsOut: 10 }]);
            expect((await tanuki.ikeSas()).map(({ role }) => role)).toEqual([initiator === tanuki ? 'initiator' : 'responder']);
            // Who began it ends it: pluto begins anew what others end.
            await initiator.terminate('net4');
            await waitUntil(async () => (await tanuki.status()).childSas.length === 0, 10, 'nothing left');
            await waitUntil(
              async () => (await guest!.must('ip xfrm state list nokeys')) === '',
              10,
              'nothing left in the kernel',
            );
          }
        } finally {
          await guest?.close();
          await closeAll(lab, tanuki);
        }
      });
    }
  },
);
