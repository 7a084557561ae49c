/**
 * A node that moves, told of it only by SADB_X_MIGRATE with KMADDRESS at both ends (RFC 4877 §5.2, draft-ebalard-mext-pfkey-enhanced-migrate):
 * its tunnel, its SAs and its key management are where it is, under every key exchange protocol. Four namespaces, Tanuki at both ends.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DatapathSaStatus } from '../../src/datapath-process/ports.ts';
import { connectPfkey, IpAddress, movesOf, type PfkeyConnection } from '../../src/pfkey.ts';
import { MitKdc, missingKdc } from './lab/kdc.ts';
import { type Family, namespacesMissing } from './lab/namespaces.ts';
import { isOf, leftovers, type Node, rekeyOnce, tanukiNode } from './lab/nodes.ts';
import { waitUntil } from './lab/process.ts';
import { closeAll } from './lab/proofs.ts';
import { GATEWAY, PLACES, type Place, Roaming } from './lab/roaming.ts';
import { skipNote } from './lab/skip.ts';
import { Tanuki, type TanukiRemote, type TanukiScenario, tanukiMissing } from './lab/tanuki.ts';
import { Pinger, startBulk } from './lab/traffic.ts';

const missing = namespacesMissing() ?? tanukiMissing();
const why = skipNote('a node that moves', missing);

type Row = {
  readonly protocol: 'IKEv2' | 'IKEv1' | 'KINK';
  readonly outer: Family;
  /** KINK's words are in a policy file of its own. */
  readonly remote?: Pick<TanukiRemote, 'kmp' | 'encryption' | 'integrity' | 'prf' | 'group'>;
  readonly rekeys: readonly ('child' | 'ike')[];
};
const IKEV2 = { encryption: 'aes256_gcm_16', prf: 'hmac_sha2_256', group: 'x25519' };
const IKEV1 = { kmp: 'ikev1', encryption: 'aes256_cbc', integrity: 'sha2_256', group: 'ecp256' } as const;
const ROWS: readonly Row[] = [
  { protocol: 'IKEv2', outer: 'v4', remote: IKEV2, rekeys: ['child', 'ike'] },
  { protocol: 'IKEv2', outer: 'v6', remote: IKEV2, rekeys: ['child', 'ike'] },
  { protocol: 'IKEv1', outer: 'v4', remote: IKEV1, rekeys: ['child', 'ike'] },
  { protocol: 'KINK', outer: 'v4', rekeys: ['child'] },
];
const missingRealm = missing ?? missingKdc();
const whyNoRealm = skipNote('a node that moves under KINK', missingRealm);

const REQID = 77;
const REALM = 'KINK.TEST';
const KDC_PORT = 10088;
/** Traffic must be back this long after the message at most (issue: within 1 s). */
const RESUME_MS = 1000;

for (const row of ROWS) {
  const kink = row.protocol === 'KINK';
  const skipped = (kink ? missingRealm : missing) !== undefined;
  describe.skipIf(skipped)(`a node that moves, ${row.protocol}, outer ${row.outer}${kink ? whyNoRealm : why}`, () => {
    let roaming: Roaming;
    let kdc: MitKdc | undefined;
    let mn: Tanuki;
    let gw: Tanuki;
    let nodes: { readonly ours: Node; readonly theirs: Node };
    beforeAll(async () => {
      roaming = await Roaming.open({ label: `migrate ${row.protocol} ${row.outer}` });
      if (kink) {
        const principals = ['kink/mn', 'kink/gw'];
        const within = ['ip', 'netns', 'exec', roaming.gw.name];
        kdc = await MitKdc.open({ realm: REALM, principals, listen: GATEWAY.v4, port: KDC_PORT, within });
      }
      gw = await new Tanuki(roaming.gw, join(roaming.lab.dir, 'gw')).start(scenario(row, roaming, 'gw', kdc));
      mn = await new Tanuki(roaming.mn, join(roaming.lab.dir, 'mn')).start(scenario(row, roaming, 'mn', kdc));
      nodes = { ours: tanukiNode(mn), theirs: tanukiNode(gw) };
      await mn.initiate('net4');
    });
    afterAll(async () => {
      await closeAll(roaming, mn, gw).finally(() => kdc?.close());
    });

    test('two movements under traffic: back within 1 s, nothing negotiated anew, counters go on; then rekeying at the new place', async () => {
      const { ours, theirs } = nodes;
      const told = await Promise.all([mn, gw].map(({ runDir }) => connectPfkey(join(runDir, 'pfkey.sock'))));
      const [from, to] = [roaming.mn.addresses.inner.v4, roaming.gw.addresses.inner.v4];
      const pinger = new Pinger(roaming.mn, to, { from });
      const moving = await startBulk(roaming.mn, roaming.gw, { from, to, octets: 1e9, mbitPerSecond: 20 });
      await pinger.answered(10, 10);

      for (const place of [PLACES.second, PLACES.third]) {
        const before = { ours: await view(mn), theirs: await view(gw), at: roaming.place };
        await roaming.move(place);
        const at = Date.now();
        await Promise.all(told.map((client) => tell(client, before.at.address[row.outer], place.address[row.outer])));
        await pinger.answered(1, 5);
        const gap = pinger.answerTimes.find((time) => time > at)! - at;
        report(`${row.protocol} outer ${row.outer}: traffic back ${Math.round(gap)} ms after the message`);
        expect(gap).toBeLessThan(RESUME_MS);
        await pinger.answered(10, 5);
        for (const [node, was] of [
          [mn, before.ours],
          [gw, before.theirs],
        ] as const) {
          const now = await view(node);
          expect(now.names).toEqual(was.names);
          expect(now.sas.map(({ spi }) => spi)).toEqual(was.sas.map(({ spi }) => spi));
          for (const [i, sa] of now.sas.entries()) {
            expect(sa.sequence).toBeGreaterThan(was.sas[i]!.sequence);
            expect(sa.packets).toBeGreaterThan(was.sas[i]!.packets);
            expect([sa.source, sa.destination].sort()).toEqual([place.address[row.outer], GATEWAY[row.outer]].sort());
          }
        }
      }
      const transfer = await moving.finish();
      expect(transfer.intact).toBe(true);
      expect(transfer.octets).toBeLessThan(1e9);

      const moved = await pinger.stop();
      report(`${row.protocol} outer ${row.outer}: ${moved.lost.length} of ${moved.sent} pings lost in two movements`);

      const still = new Pinger(roaming.mn, to, { from });
      for (const what of row.rekeys) {
        // In KINK who began a pair rekeys it (RFC 4430 §3.6).
        for (const by of kink ? [ours] : [ours, theirs]) {
          await rekeyOnce(what, [by], ours, theirs);
          await still.answered(3, 5);
        }
      }
      expect((await still.stop()).lost).toEqual([]);
      if (kink) {
        await gw.terminate('net4');
        await waitUntil(async () => (await mn.status()).childSas.length === 0, 10, 'the pair is gone at both ends');
        await gw.initiate('net4');
      }
      const clean = { ike: kink ? 0 : 1, children: 1 };
      expect(await leftovers(ours, theirs, 1, clean.ike)).toEqual({ ours: clean, theirs: clean });
      expect(await ours.ikeSpis()).toEqual(await theirs.ikeSpis());
      for (const node of [mn, gw]) {
        // An inbound SA that was replaced is kept for a while, for packets that are on their way.
        const { sas } = await waitUntil(
          async () => {
            const now = await view(node);
            return now.sas.length === 2 ? now : undefined;
          },
          20,
          'two SAs in the datapath',
        );
        expect(sas.map(({ source, destination }) => `${source} ${destination}`).sort()).toEqual(pairOf(PLACES.third, row.outer));
      }
      for (const client of told) client.close();
    });
  });
}

/** The names of all IKE and child SAs, and the SAs of the datapath in the order of their SPIs. */
async function view(node: Tanuki): Promise<{ names: readonly string[]; sas: readonly DatapathSaStatus[] }> {
  const { ikeSas, childSas } = await node.status();
  const { sas } = await node.datapath();
  return {
    names: [
      ...ikeSas.map(({ name, state }) => `${name} ${state}`),
      ...childSas
        .filter(({ selector }) => isOf(selector, 'net4'))
        .map(({ spiIn, spiOut, state }) => `${spiIn} ${spiOut} ${state}`),
    ],
    sas: [...sas].sort((a, b) => (a.spi < b.spi ? -1 : 1)),
  };
}

function pairOf({ address }: Place, outer: Family): string[] {
  return [`${address[outer]} ${GATEWAY[outer]}`, `${GATEWAY[outer]} ${address[outer]}`].sort();
}

/** What a mobility daemon does, and all that it does. */
async function tell(client: PfkeyConnection, from: string, to: string): Promise<void> {
  const moves = movesOf(await client.policies(), IpAddress.parse(from)!, IpAddress.parse(to)!);
  expect(moves.length).toBeGreaterThanOrEqual(2);
  for (const migrate of moves) await client.migrate(migrate);
}

/** The policy's ends are literal: where the mobile node is when it starts. */
function scenario({ outer, remote }: Row, { mn, gw }: Roaming, at: 'mn' | 'gw', kdc: MitKdc | undefined): TanukiScenario {
  const [here, there] = at === 'mn' ? [mn, gw] : [gw, mn];
  const ends = { mn: PLACES.first.address[outer], gw: GATEWAY[outer] };
  const [local, peer] = at === 'mn' ? [ends.mn, ends.gw] : [ends.gw, ends.mn];
  const other = at === 'mn' ? 'gw' : 'mn';
  const nets = [here.addresses.net.v4, there.addresses.net.v4] as const;
  if (remote === undefined)
    return {
      remotes: [],
      policies: [],
      text: kinkText({ at, other, ends: [local, peer], nets, keytab: kdc!.file(`${at}.keytab`) }),
    };
  return {
    remotes: [
      {
        name: 'peer',
        peer,
        myId: `fqdn ${at}.example`,
        peersId: `fqdn ${other}.example`,
        psk: 'a key of the tests, known to everyone',
        ...remote,
      },
    ],
    policies: [
      {
        name: 'net4',
        remote: 'peer',
        mode: 'tunnel',
        local: nets[0],
        peer: nets[1],
        reqid: REQID,
        mySaAddress: local,
        peersSaAddress: peer,
        encryption: 'aes256_gcm_16',
      },
    ],
  };
}

type KinkSide = {
  readonly at: string;
  readonly other: string;
  readonly ends: readonly [string, string];
  readonly nets: readonly [string, string];
  readonly keytab: string;
};

function kinkText({ at, other, ends, nets, keytab }: KinkSide): string {
  return `logging { level debug; };
kerberos { backend builtin; realm "${REALM}"; kdc "${GATEWAY.v4}" port ${KDC_PORT}; keytab "${keytab}"; };
remote peer { acceptable_kmp kink; kink { peers_ipaddr ${ends[1]}; my_principal "kink/${at}"; peers_principal "kink/${other}"; }; };
selector net4 { direction both; src ${nets[0]}; dst ${nets[1]}; policy_index net4; reqid ${REQID}; };
policy net4 {
  action auto_ipsec; remote_index peer; ipsec_mode tunnel; ipsec_index net4; ipsec_level unique;
  my_sa_ipaddr ${ends[0]}; peers_sa_ipaddr ${ends[1]};
};
ipsec net4 { sa_index net4; };
sa net4 { sa_protocol esp; esp_enc_alg aes256_gcm_16; };
`;
}

function report(line: string): void {
  process.stdout.write(`${line}\n`);
}
