/** The kernel's own ESP and AH, driven over NETLINK_XFRM: on this host as far as its kernel goes, and whole in a user-mode-linux guest against the embedded engine. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DatapathNode, type StaticPair, saOf, settings } from './lab/datapath.ts';
import { Lab, namespacesMissing } from './lab/namespaces.ts';
import { skipNote } from './lab/skip.ts';
import { ping } from './lab/traffic.ts';
import { UmlGuest, umlMissing } from './lab/uml.ts';

const BUILT = fileURLToPath(new URL('../../dist/src/datapath-process/cli.js', import.meta.url));
const DRIVER = fileURLToPath(new URL('./lab/xfrm-kernel.mjs', import.meta.url));
const missing = namespacesMissing() ?? umlMissing() ?? (existsSync(BUILT) ? undefined : 'not built (npm run build)');
const why = skipNote('the kernel by NETLINK_XFRM', missing);

type Command = readonly [name: string, argument?: unknown];
interface Answer {
  // biome-ignore lint/suspicious/noExplicitAny: what the driver prints
  readonly value?: any;
  readonly error?: string;
  readonly code?: string;
}

const ENDS = { source: '192.0.2.1', destination: '192.0.2.2' };
const SA = {
  ...ENDS,
  spi: 0x1001,
  protocol: 'esp',
  mode: 'tunnel',
  suite: { encr: 'aes_gcm_16', keyBits: 128, integ: 'none' },
  encrKey: '01'.repeat(20),
  extendedSequence: false,
  replayWindow: 32,
  reqid: 7,
};
const TEMPLATE = { protocol: 'esp', mode: 'tunnel', reqid: 7, endpoints: ENDS };
const POLICY = {
  selector: { source: '10.101.0.0/24', destination: '10.102.0.0/24' },
  direction: 'outbound',
  action: 'protect',
  templates: [TEMPLATE],
};

describe.skipIf(missing !== undefined)(`the kernel by NETLINK_XFRM${why}`, () => {
  let lab: Lab;
  let guest: UmlGuest;
  let engine: DatapathNode;
  let files = 0;
  let spi = 0x3000;

  beforeAll(async () => {
    lab = await Lab.open({ link: false, label: 'xfrm' });
    guest = await UmlGuest.boot(lab.a, join(lab.dir, 'guest'), lab.b.addresses);
    engine = (await DatapathNode.start(lab.a, join(lab.dir, 'a'), settings())).node;
  });
  afterAll(async () => {
    await engine?.stop();
    await guest?.close();
    await lab?.close();
  });

  const fileOf = (commands: readonly Command[]) => {
    const file = join(guest.dir, `xfrm-${++files}`);
    writeFileSync(file, commands.map((command) => JSON.stringify(command)).join('\n'));
    return file;
  };
  const answersOf = (stdout: string): Answer[] =>
    stdout
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line));
  const inGuest = async (commands: readonly Command[], beside = ''): Promise<Answer[]> =>
    answersOf(await guest.must(`${beside}\n${process.execPath} ${DRIVER} ${fileOf(commands)}`, 60));
  const values = (answers: readonly Answer[]) => {
    for (const { error } of answers) expect(error).toBeUndefined();
    return answers.map(({ value }) => value);
  };

  test("a kernel without ESP says so and names the embedded engine; policies are set all the same, and none of others' goes", async () => {
    const { name } = lab.b;
    await lab.b.must(['ip', 'xfrm', 'policy', 'add', 'src', '10.9.0.0/24', 'dst', '10.8.0.0/24', 'dir', 'out']);
    const gcm = ['aead', 'rfc4106(gcm(aes))', `0x${SA.encrKey}`, '128'];
    const probe = ['ip', 'xfrm', 'state', 'add', 'src', '::1', 'dst', '::1', 'proto', 'esp', 'spi', '9', ...gcm];
    const { stdout } = {
      stdout: await lab.b.must([
        process.execPath,
        DRIVER,
        fileOf([
          ['addPolicy', POLICY],
          ['addPolicy', { ...POLICY, action: 'bypass', templates: [] }],
          ['addSa', SA],
          ['policies'],
          ['removeOurs'],
          ['policies'],
          ['sas'],
        ]),
      ]),
    };
    const [added, again, sa, policies, , after, sas] = answersOf(stdout);
    expect(added!.value).toBeGreaterThan(0);
    expect(again!.code).toBe('EEXIST');
    expect(policies!.value).toMatchObject([{ id: added!.value, action: 'protect', priority: 100, ours: true }]);
    expect([after!.value, sas!.value]).toEqual([[], []]);
    expect(await lab.b.must(['ip', 'xfrm', 'policy'])).toMatch(/^src 10\.9\.0\.0\/24 dst 10\.8\.0\.0\/24/);
    const hasEsp = await lab.b.must(probe).then(
      () => true,
      () => false,
    );
    expect([name, sa!.error ?? 'added']).toEqual([
      name,
      hasEsp ? 'added' : expect.stringMatching(/add SA esp 00001001 .* use the embedded engine$/),
    ]);
  });

  const rows = [
    { name: 'AES-GCM, tunnel, IPv4', mode: 'tunnel', family: 'v4', security: undefined },
    {
      name: 'AES-CBC + SHA2-256 with ESN, tunnel, IPv6',
      mode: 'tunnel',
      family: 'v6',
      security: { protocol: 'esp', suite: { encr: 'aes_cbc', keyBits: 256, integ: 'hmac_sha2_256' }, extendedSequence: true },
    },
    {
      name: 'AES-CBC + SHA2-256 with ESN, transport, IPv4',
      mode: 'transport',
      family: 'v4',
      security: { protocol: 'esp', suite: { encr: 'aes_cbc', keyBits: 128, integ: 'hmac_sha2_256' }, extendedSequence: true },
    },
    {
      name: 'AH with SHA2-256, transport, IPv4',
      mode: 'transport',
      family: 'v4',
      security: { protocol: 'ah', suite: { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha2_256' }, extendedSequence: false },
    },
  ] as const;

  test.each(rows)('SAs and policies of the guest kernel protect: $name', async ({ mode, family, security }) => {
    await engine.flush();
    const [left, right] = [lab.a.addresses, lab.b.addresses];
    const bits = family === 'v4' ? 32 : 128;
    spi += 2;
    const pair: StaticPair = {
      mode,
      encapsulated: false,
      outer: { left: left.outer[family], right: right.outer[family] },
      inner:
        mode === 'tunnel'
          ? { left: left.net[family], right: right.net[family] }
          : { left: `${left.outer[family]}/${bits}`, right: `${right.outer[family]}/${bits}` },
      spi,
      ...(security === undefined ? {} : { security }),
    };
    await engine.install(pair, 'left');
    const sa = (from: 'left' | 'right', to: 'left' | 'right') => {
      const { encrKey, integKey, lifetime, selectors, encapsulation, ...rest } = saOf(pair, from, to);
      const text = (key: typeof integKey) => (key === undefined ? undefined : Buffer.from(key.reveal()).toString('hex'));
      return { ...rest, encrKey: text(encrKey), integKey: text(integKey) };
    };
    const protocol = security?.protocol ?? 'esp';
    const policy = (direction: 'inbound' | 'outbound', from: 'left' | 'right', to: 'left' | 'right') => ({
      selector: { source: pair.inner[from], destination: pair.inner[to] },
      direction,
      action: 'protect',
      templates: [
        {
          protocol,
          mode,
          reqid: pair.spi,
          ...(mode === 'tunnel' ? { endpoints: { source: pair.outer[from], destination: pair.outer[to] } } : {}),
        },
      ],
    });
    const version = family === 'v6' ? '-6' : '-4';
    const routes = `ip ${version} route replace ${left.net[family]} dev vec0 src ${right.inner[family]} proto 99`;
    values(
      await inGuest(
        [
          ['removeOurs'],
          ['addSa', sa('right', 'left')],
          ['addSa', sa('left', 'right')],
          ['addPolicy', policy('outbound', 'right', 'left')],
          ['addPolicy', policy('inbound', 'left', 'right')],
        ],
        routes,
      ),
    );
    const to = mode === 'tunnel' ? right.inner[family] : right.outer[family];
    const from = mode === 'tunnel' ? { from: left.inner[family] } : {};
    await ping(lab.a, to, 1, from); // neighbours are found
    expect(await ping(lab.a, to, 3, from)).toMatchObject({ received: 3, errors: [] });
    const [sas] = values(await inGuest([['sas']]));
    expect(sas.map(({ current }: { current: { packets: number } }) => current.packets >= 3)).toEqual([true, true]);
    values(await inGuest([['removeOurs']]));
    expect(await guest.must('ip xfrm state; ip xfrm policy')).toBe('');
    await guest.must(`ip ${version} route flush table 0 proto 99`);
  });

  test('SPIs, soft and hard EXPIRE, ACQUIRE by a packet, and an SA that moves with its sequence numbers', async () => {
    const to = { source: '192.0.2.1', destination: '192.0.2.9', ports: [4500, 40_000] };
    const name = { ...ENDS, spi: SA.spi, protocol: 'esp' };
    const answers = values(
      await inGuest(
        [
          ['allocateSpi', { ...ENDS, protocol: 'esp', mode: 'tunnel', reqid: 7, min: 0x500, max: 0x5ff }],
          ['addSa', { ...SA, replayWindow: 1024 }],
          ['moveSa', { ...name, to }],
          ['sa', name],
          ['sa', { ...name, ...to }],
          ['removeOurs'],
          ['addSa', { ...SA, soft: { seconds: 1, bytes: 0, packets: 0 }, hard: { seconds: 3, bytes: 0, packets: 0 } }],
          ['await', ['expire', 3]],
          ['addPolicy', { ...POLICY, selector: { source: '0.0.0.0/0', destination: '10.222.0.1/32' } }],
          ['await', ['acquire', 1]],
          ['removeOurs'],
        ],
        'ip route replace 10.222.0.1 dev vec0; (sleep 7; for i in $(seq 40); do ping -c 1 -W 1 10.222.0.1; done) > /dev/null 2>&1 < /dev/null &',
      ),
    );
    const [allocated, , , gone, moved, , , expired, policyId, acquires] = answers;
    expect(allocated).toBeGreaterThanOrEqual(0x500);
    expect(allocated).toBeLessThanOrEqual(0x5ff);
    expect(gone).toBeNull();
    expect(moved).toMatchObject({
      destination: to.destination,
      ours: true,
      encapsulation: { sourcePort: 4500, destinationPort: 40_000 },
      sequence: { outbound: 0, inbound: 0 },
    });
    const of = (spi: number) =>
      expired
        .filter(({ sa }: { sa: { spi: number } }) => sa.spi === spi)
        .map(({ hard, sa }: { hard: boolean; sa: { ours: boolean } }) => [hard, sa.ours]);
    expect(of(SA.spi)).toEqual([
      [false, true],
      [true, true],
    ]);
    // An SPI that nobody completed goes by itself; the kernel keeps no mark of ours in it.
    expect(of(allocated)).toEqual([[true, false]]);
    expect(acquires[0].acquire).toMatchObject({
      ...ENDS,
      protocol: 'esp',
      policy: { id: policyId, ours: true, templates: [{ reqid: 7 }] },
    });
    expect(acquires[0].acquire.seq).toBeGreaterThan(0);
  });
});
