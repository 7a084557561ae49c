/** KINK between two namespaces with a throw-away MIT KDC in one of them: Tanuki at both ends, real packets through what was negotiated. */

import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadNodeKrb5 } from '../../kinkd/node-krb5.ts';
import { MitKdc, missingKdc } from './lab/kdc.ts';
import { type Host, Lab, namespacesMissing } from './lab/namespaces.ts';
import { waitUntil } from './lab/process.ts';
import { skipNote } from './lab/skip.ts';
import { Tanuki, tanukiMissing } from './lab/tanuki.ts';
import { Pinger, ping } from './lab/traffic.ts';

const nodeKrb5 = loadNodeKrb5();
const missing = namespacesMissing() ?? tanukiMissing() ?? missingKdc();
const why = skipNote('KINK between two namespaces', missing);

const REALM = 'KINK.TEST';
const KDC_PORT = 10088;

type Row = {
  readonly name: string;
  readonly mode: 'transport' | 'tunnel';
  readonly backend: 'builtin' | 'node_krb5';
  readonly encryption: string;
  readonly integrity?: string;
  /** Sections beside that of ESP, or instead of it; the names of all, and what comes of them. */
  readonly others?: { readonly text: string; readonly names: string; readonly suite: string };
  readonly nonce: 'auto' | 'always' | 'never';
  readonly pfs: boolean;
  /** Messages of the first negotiation. */
  readonly messages: readonly string[];
};
const TWO = ['CREATE', 'REPLY'];
const THREE = ['CREATE', 'REPLY, ACKREQ', 'ACK'];
const cbc = { encryption: 'aes128_cbc', integrity: 'hmac_sha2_256' };
const ROWS: readonly Row[] = [
  {
    name: 'AES-CBC and SHA2-256 in two messages',
    mode: 'transport',
    backend: 'builtin',
    ...cbc,
    nonce: 'never',
    pfs: false,
    messages: TWO,
  },
  {
    name: 'AES-CBC and SHA2-256 in three messages',
    mode: 'tunnel',
    backend: 'builtin',
    ...cbc,
    nonce: 'always',
    pfs: false,
    messages: THREE,
  },
  {
    name: 'AES-GCM in three messages',
    mode: 'tunnel',
    backend: 'builtin',
    encryption: 'aes128_gcm_16',
    nonce: 'auto',
    pfs: false,
    messages: THREE,
  },
  {
    name: 'AES-GCM with PFS',
    mode: 'transport',
    backend: 'builtin',
    encryption: 'aes256_gcm_16',
    nonce: 'auto',
    pfs: true,
    messages: THREE,
  },
  {
    name: 'AH in two messages',
    mode: 'transport',
    backend: 'builtin',
    ...cbc,
    others: { text: 'sa ah { sa_protocol ah; ah_auth_alg hmac_sha2_256; };', names: 'ah', suite: 'NULL/HMAC_SHA2_256_128' },
    nonce: 'never',
    pfs: false,
    messages: TWO,
  },
  {
    name: 'IPComp in ESP in AH in three messages',
    mode: 'tunnel',
    backend: 'builtin',
    ...cbc,
    others: {
      text: 'sa ah { sa_protocol ah; ah_auth_alg hmac_sha1; }; sa comp { sa_protocol ipcomp; };',
      names: '{ comp; net4; ah; }',
      suite: 'IPCOMP DEFLATE + ESP AES_CBC_128/HMAC_SHA2_256_128 + AH NULL/HMAC_SHA1_96',
    },
    nonce: 'always',
    pfs: false,
    messages: THREE,
  },
];

const byLibkrb5: Row = {
  name: 'AES-GCM, tickets by libkrb5',
  mode: 'tunnel',
  backend: 'node_krb5',
  encryption: 'aes128_gcm_16',
  nonce: 'auto',
  pfs: false,
  messages: THREE,
};
const noPackage = 'problem' in nodeKrb5 ? nodeKrb5.problem : undefined;
skipNote('KINK with tickets by libkrb5', noPackage);
const ALL = noPackage === undefined ? [...ROWS, byLibkrb5] : ROWS;

describe.skipIf(missing !== undefined).each(ALL)(`KINK, $mode mode, $name${why}`, (row) => {
  let lab: Lab;
  let kdc: MitKdc;
  let a: Tanuki;
  let b: Tanuki;
  const inner = (host: Host) => (row.mode === 'tunnel' ? host.addresses.inner.v4 : host.addresses.outer.v4);

  beforeAll(async () => {
    lab = await Lab.open({ label: `kink ${row.mode} ${row.name}` });
    kdc = await MitKdc.open({
      realm: REALM,
      principals: ['kink/hosta', 'kink/hostb'],
      listen: lab.a.addresses.outer.v4,
      port: KDC_PORT,
      within: ['ip', 'netns', 'exec', lab.a.name],
    });
    const policies = { remotes: [], policies: [] };
    b = await new Tanuki(lab.b, join(lab.dir, 'b')).start({ ...policies, text: policyText('b') });
    a = await new Tanuki(lab.a, join(lab.dir, 'a')).start({ ...policies, text: policyText('a') });
  });
  afterAll(async () => {
    const ends = await Promise.allSettled([a?.stop(), b?.stop()]);
    await kdc?.close();
    await lab?.close();
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  });

  function policyText(of: 'a' | 'b'): string {
    const [mine, theirs] = of === 'a' ? [lab.a, lab.b] : [lab.b, lab.a];
    const [me, peer] = of === 'a' ? ['hosta', 'hostb'] : ['hostb', 'hosta'];
    const net = (host: Host) => (row.mode === 'tunnel' ? host.addresses.net.v4 : host.addresses.outer.v4);
    return `interface { ike ${mine.addresses.outer.v4}; kink ${mine.addresses.outer.v4}; };
logging { level debug; };
kerberos { backend ${row.backend}; realm "${REALM}"; kdc "${kdc.address.host}" port ${KDC_PORT}; keytab "${kdc.file(`${me}.keytab`)}"; };
remote peer {
  acceptable_kmp kink;
  kink {
    peers_ipaddr ${theirs.addresses.outer.v4};
    my_principal "kink/${me}";
    peers_principal "kink/${peer}";
    responder_nonce ${row.nonce};
    need_pfs ${row.pfs ? 'on' : 'off'};
  };
};
selector net4 {
  direction both;
  src ${net(mine)};
  dst ${net(theirs)};
  ${row.mode === 'transport' ? 'upper_layer_protocol icmp;' : ''}
  policy_index net4;
};
policy net4 {
  action auto_ipsec;
  remote_index peer;
  ipsec_mode ${row.mode};
  ipsec_index net4;
  ipsec_level unique;
  my_sa_ipaddr ${mine.addresses.outer.v4};
  peers_sa_ipaddr ${theirs.addresses.outer.v4};
};
ipsec net4 { ipsec_sa_lifetime_time 1 hour; sa_index ${row.others?.names ?? 'net4'}; };
${row.others?.text ?? ''}
sa net4 { sa_protocol esp; esp_enc_alg ${row.encryption}; ${row.integrity === undefined ? '' : `esp_auth_alg ${row.integrity};`} };
`;
  }

  const pinger = () => new Pinger(lab.a, inner(lab.b), { from: inner(lab.a) });
  /** `SPI in/SPI out` of both ends' installed pairs, as A sees them. */
  const pairs = async () => {
    const ours = (await a.children()).map(({ spiIn, spiOut }) => `${spiIn}/${spiOut}`);
    const theirs = (await b.children()).map(({ spiIn, spiOut }) => `${spiOut}/${spiIn}`);
    return JSON.stringify(ours.sort()) === JSON.stringify(theirs.sort()) ? ours : undefined;
  };

  const through = async () => (await ping(lab.a, inner(lab.b), 2, { from: inner(lab.a) })).received === 2;

  test('a packet asks for it; the messages are those of the RFC, and pings go through', async () => {
    const pings = pinger();
    await pings.answered(5, 15);
    await pings.stop();
    const seen = [...a.log.matchAll(/(?:<-- (REPLY(?:, ACKREQ)?)|(CREATE|ACK)) \{/g)].map(
      ([, reply, command]) => reply ?? command,
    );
    expect(seen.slice(0, row.messages.length)).toEqual(row.messages);
    expect((await pairs())?.length).toBe(1);
    const [child] = await a.children();
    expect(child).toMatchObject({ mode: row.mode, ikeSa: `kink:kink/hostb@${REALM}` });
    if (row.others !== undefined) expect(child!.suite).toBe(row.others.suite);
    expect(child!.packetsIn).toBeGreaterThanOrEqual(5);
    expect((await a.status()).problems).toEqual([]);
    expect((await b.status()).problems).toEqual([]);
  });

  test('three rekeys and a DELETE of each old pair under pings, none lost', async () => {
    const pings = pinger();
    await pings.answered(5, 5);
    for (let i = 0; i < 3; i++) {
      const [before] = (await pairs())!;
      await a.rekey('net4', 'child');
      const renewed = async () => {
        const now = await pairs();
        return now?.length === 1 && now[0] !== before;
      };
      await waitUntil(renewed, 20, 'one new pair');
      await pings.answered(5, 5);
    }
    expect((await pings.stop()).lost).toEqual([]);
  });

  test('the KDC stopped: who has a ticket goes on and packets do, who needs one is told; started again, all is well', async () => {
    await kdc.stop();
    const pings = pinger();
    await a.rekey('net4', 'child');
    await pings.answered(20, 10);
    expect((await pings.stop()).lost).toEqual([]);
    // b was never given a ticket for a: it cannot say its DELETE, and lets go of its SAs alone.
    await b.terminate('net4');
    await waitUntil(async () => (await b.status()).childSas.length === 0, 40, 'b without SAs');
    expect(b.log).toMatch(/no ticket for kink\/hosta@KINK\.TEST: .*(no KDC answers|[Cc]annot contact any KDC)/);
    await kdc.start();
    await a.terminate('net4');
    await waitUntil(async () => (await a.status()).childSas.length === 0, 20, 'a without SAs');
    await a.initiate('net4');
    expect((await pairs())?.length).toBe(1);
    expect(await through()).toBe(true);
  });

  test('a kinkd that was killed comes back with another epoch, and the peer notices', async () => {
    const { epoch } = (await a.status()).kinkPeers[0]!;
    await b.killDaemon('kinkd');
    await b.restarted('kinkd');
    const noticed = async () => {
      await ping(lab.b, inner(lab.a), 1, { from: inner(lab.b) });
      return (await a.status()).kinkPeers[0]!.epoch !== epoch;
    };
    await waitUntil(noticed, 60, 'another epoch');
    await waitUntil(through, 30, 'pings through again');
    expect(a.log).toContain('the peer has a new epoch');
  });
});
