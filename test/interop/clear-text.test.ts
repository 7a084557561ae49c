/** The host obeys the policy (RFC 4301 §5.2): clear text put on the link by another host is dropped in the kernel and counted, or passes, as the inbound policies say. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { cat, hex } from '../../src/bytes/bytes.ts';
import type { Policy, PolicyAction, PolicySelector } from '../../src/ipsec/policy.ts';
import { parsePrefix } from '../../src/net/prefix.ts';
import { policyToSpdAdd } from '../../src/pfkey/convert-policy.ts';
import { ipPacket, udpPacket } from '../unit/datapath/pair.ts';
import { DatapathNode, settings } from './lab/datapath.ts';
import { ADDRESSES, cable, type Family, Lab, type Namespace, namespacesMissing } from './lab/namespaces.ts';
import { skipNote } from './lab/skip.ts';
import { ping } from './lab/traffic.ts';

const BUILT = fileURLToPath(new URL('../../dist/src/datapath-process/cli.js', import.meta.url));
const missing = namespacesMissing('nft', 'python3') ?? (existsSync(BUILT) ? undefined : 'not built (npm run build)');
const why = skipNote('clear text', missing);

/** Puts whole packets, given in hex, on the link. */
const INJECTOR = `
import socket, sys
v4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
v6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
for text in sys.argv[1:]:
    packet = bytes.fromhex(text)
    if packet[0] >> 4 == 4: v4.sendto(packet, (socket.inet_ntop(socket.AF_INET, packet[16:20]), 0))
    else: v6.sendto(packet, (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0))
`;
/** The test's own count of what got through, by a table that is not ours. */
const WATCH = `
table inet watch {
  counter delivered { }
  chain arrived {
    type filter hook input priority 100;
    iif "lo" accept
    icmpv6 type { 133-137 } accept
    counter name "delivered"
  }
  chain passed {
    type filter hook forward priority 100;
    oifname != "tanuki0" counter name "delivered"
  }
}`;

const { outer: a, inner: behindA } = ADDRESSES.a;
const { outer: b } = ADDRESSES.b;
/** Behind b: what it forwards. */
const THIRD: Record<Family, string> = { v4: '10.91.3.2', v6: 'fd91:3::2' };

const v4 = { source: a.v4, destination: b.v4, dontFragment: false };
const v6 = { source: a.v6, destination: b.v6 };
const udp = (destinationPort: number, ends: { source: string; destination: string } = v4) =>
  udpPacket(Uint8Array.of(1, 2, 3, 4), { ...ends, sourcePort: 1701, destinationPort });
const tcp = (destinationPort: number, ends = v4) =>
  ipPacket(
    6,
    Uint8Array.of(4, 0, destinationPort >> 8, destinationPort & 255, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 16, 0, 0, 0, 0, 0),
    ends,
    16,
  );
const echo = (ends = v4) => ipPacket(1, Uint8Array.of(8, 0, 0, 0, 0, 1, 0, 1), ends, 2);
const echoReply = ipPacket(1, Uint8Array.of(0, 0, 0, 0, 0, 1, 0, 1), v4, 2);
const timestamp = ipPacket(1, cat(Uint8Array.of(13, 0, 0, 0, 0, 1, 0, 1), new Uint8Array(12)), v4, 2);
const echo6 = (ends: { source: string; destination: string } = v6) =>
  ipPacket(58, Uint8Array.of(128, 0, 0, 0, 0, 1, 0, 1), ends, 2);
const mobility = (type: number) => ipPacket(135, Uint8Array.of(59, 0, type, 0, 0, 0, 0, 0), v6);
/** RFC 8200 §4.6: a header in front of the one that counts. */
const behindOptions = (packet: Uint8Array) =>
  cat(
    packet.subarray(0, 4),
    Uint8Array.of(0, packet.length - 40 + 8, 60, 64),
    packet.subarray(8, 40),
    Uint8Array.of(packet[6]!, 0, 1, 4, 0, 0, 0, 0),
    packet.subarray(40),
  );
/** An IPv4 packet in two fragments, cut behind `at` octets of its payload. */
const fragments = (packet: Uint8Array, at = 8) => {
  const piece = (from: number, to: number, more: boolean) => {
    const header = packet.slice(0, 20);
    new DataView(header.buffer).setUint16(2, 20 + to - from);
    new DataView(header.buffer).setUint16(6, (more ? 0x2000 : 0) + from / 8);
    header.fill(0, 10, 12);
    let sum = 0;
    for (let i = 0; i < 20; i += 2) sum += header[i]! * 256 + header[i + 1]!;
    sum = (sum & 0xffff) + (sum >> 16);
    new DataView(header.buffer).setUint16(10, ~sum & 0xffff);
    return cat(header, packet.subarray(20 + from, 20 + to));
  };
  return [piece(0, at, true), piece(at, packet.length - 20, false)];
};

const NUMBERS = { any: 0, icmp: 1, tcp: 6, udp: 17, icmpv6: 58, mh: 135 } as const;
type Words = {
  readonly source?: string;
  readonly destination?: string;
  readonly protocol?: keyof typeof NUMBERS;
  readonly ports?: readonly [number, number];
  readonly portRanges?: PolicySelector['portRanges'];
  readonly action?: PolicyAction;
  readonly level?: 'use' | 'unique';
  readonly priority?: number;
  readonly direction?: Policy['direction'];
};
function policy({
  source = a.v4,
  destination = b.v4,
  protocol = 'any',
  ports = [0, 0],
  action = 'protect',
  ...rest
}: Words): Policy {
  const { level = 'unique', priority = 1000, direction = 'inbound', portRanges } = rest;
  const selector: PolicySelector = {
    source: parsePrefix(source)!,
    destination: parsePrefix(destination)!,
    protocol: NUMBERS[protocol],
    sourcePort: ports[0],
    destinationPort: ports[1],
    portRanges,
  };
  const templates =
    action === 'protect' ? [{ protocol: 'esp', mode: 'transport', level, reqid: 7, endpoints: undefined } as const] : [];
  return { id: 0, selector, direction, action, priority, templates };
}

const esp = ipPacket(50, new Uint8Array(64).fill(9), v4);
const forwarded = (family: Family) => ({
  source: family === 'v4' ? behindA.v4 : behindA.v6,
  destination: THIRD[family],
  dontFragment: false,
});
const CASES: readonly (readonly [
  string,
  readonly Policy[],
  { dropped: readonly Uint8Array[]; passed: readonly Uint8Array[] },
])[] = [
  [
    'host to host, every protocol, but not ESP and IKE',
    [policy({})],
    {
      dropped: [udp(9), tcp(80), echo(), ipPacket(253, new Uint8Array(8), v4)],
      passed: [udp(500), udp(4500), ...fragments(udp(500))],
    },
  ],
  [
    'host to host in IPv6, and neighbours find each other',
    [policy({ source: a.v6, destination: b.v6 })],
    { dropped: [udp(9, v6), tcp(80, v6 as typeof v4), echo6(), behindOptions(udp(9, v6))], passed: [udp(500, v6), echo()] },
  ],
  [
    'L2TP: port 1701 only',
    [policy({ protocol: 'udp', ports: [0, 1701] })],
    { dropped: [udp(1701)], passed: [udp(1702), tcp(1701), echo()] },
  ],
  [
    'L2TP in fragments: without the first, nothing is delivered',
    [policy({ protocol: 'udp', ports: [0, 1701] })],
    { dropped: fragments(udp(1701)).slice(0, 1), passed: [] },
  ],
  [
    'the source port, behind extension headers too',
    [policy({ source: a.v6, destination: b.v6, protocol: 'udp', ports: [1701, 0] })],
    { dropped: [udp(5, v6), behindOptions(udp(6, v6))], passed: [tcp(80, v6 as typeof v4)] },
  ],
  [
    'one type of ICMP',
    [policy({ protocol: 'icmp', ports: [8, 0], action: 'discard' })],
    { dropped: [echo()], passed: [timestamp, udp(9)] },
  ],
  [
    'one type of ICMPv6',
    [policy({ source: a.v6, destination: b.v6, protocol: 'icmpv6', ports: [128, 0] })],
    { dropped: [echo6()], passed: [udp(9, v6)] },
  ],
  [
    'one type of the Mobility Header',
    [policy({ source: a.v6, destination: b.v6, protocol: 'mh', ports: [5, 0] })],
    { dropped: [mobility(5), behindOptions(mobility(5))], passed: [mobility(6)] },
  ],
  [
    'prefixes that end within an octet',
    [
      policy({ source: '192.0.2.0/30', destination: '192.0.2.2/31' }),
      policy({ source: '2001:db8::/33', destination: '2001:db8::/127' }),
    ],
    { dropped: [udp(9)], passed: [udp(9, v6)] },
  ],
  [
    'a bypass before a discard',
    [
      policy({ protocol: 'udp', ports: [0, 53], action: 'bypass', priority: 1 }),
      policy({ source: '0.0.0.0/0', destination: '0.0.0.0/0', action: 'discard' }),
    ],
    { dropped: [udp(54), tcp(53), echo()], passed: [udp(53)] },
  ],
  [
    'ranges of ports, and type 0 of ICMP',
    [
      policy({ protocol: 'udp', portRanges: { sourceLow: 1700, sourceHigh: 1710, destinationLow: 10, destinationHigh: 19 } }),
      policy({ protocol: 'icmp', portRanges: { sourceLow: 0, sourceHigh: 0, destinationLow: 0, destinationHigh: 65_535 } }),
    ],
    { dropped: [udp(10), udp(19), echoReply], passed: [udp(9), udp(20), echo()] },
  ],
  [
    'level use lets clear text in',
    [policy({ level: 'use' }), policy({ source: '192.0.2.0/24', action: 'discard', priority: 2000 })],
    { dropped: [], passed: [udp(9), echo()] },
  ],
  [
    'what is forwarded',
    [
      policy({ source: '10.91.1.0/24', destination: '10.91.3.0/24' }),
      policy({ source: 'fd91:1::/64', destination: 'fd91:3::/64', direction: 'forward' }),
    ],
    {
      dropped: [udp(9, forwarded('v4')), ...fragments(udp(9, forwarded('v4'))), echo6(forwarded('v6'))],
      passed: [udp(9), udp(9, { ...v4, destination: THIRD.v4 })],
    },
  ],
];

describe.skipIf(missing !== undefined)(`clear text${why}`, () => {
  let lab: Lab;
  let third: Namespace;
  let node: DatapathNode;

  const inject = (...packets: readonly Uint8Array[]) => lab.a.must(['python3', '-c', INJECTOR, ...packets.map(hex)]);
  const delivered = async () =>
    Number(/packets (\d+)/.exec(await lab.b.must(['nft', 'list', 'counter', 'inet', 'watch', 'delivered']))![1]);
  const dropped = async () => {
    const { drops } = await node.status();
    return (drops.clearText ?? 0) + (drops.clearDiscard ?? 0) + (drops.clearUnmatched ?? 0);
  };
  const counted = async (...packets: readonly Uint8Array[]) => {
    const before = [await delivered(), await dropped()] as const;
    await inject(...packets);
    return { delivered: (await delivered()) - before[0], dropped: (await dropped()) - before[1] };
  };
  const install = async (policies: readonly Policy[]) => {
    await node.flush();
    for (const one of policies) await node.request(policyToSpdAdd(one));
  };
  const tables = () => lab.b.must(['nft', 'list', 'tables']);

  beforeAll(async () => {
    lab = await Lab.open({ label: 'clear-text' });
    third = await lab.other('c');
    await cable(lab.b, 'eth1', third, 'eth0');
    await lab.b.ip('address add 10.91.3.1/24 dev eth1');
    await lab.b.ip('address add fd91:3::1/64 dev eth1 nodad');
    await third.ip(`address add ${THIRD.v4}/24 dev eth0`);
    await third.ip(`address add ${THIRD.v6}/64 dev eth0 nodad`);
    await lab.b.sysctl({ 'ipv4/ip_forward': 1, 'ipv6/conf/all/forwarding': 1 });
    await lab.a.ip(`route add 10.91.3.0/24 via ${b.v4}`);
    await lab.a.ip(`route add fd91:3::/64 via ${b.v6}`);
    await lab.b.must(['nft', WATCH]);
    node = (await DatapathNode.start(lab.b, join(lab.dir, 'b'))).node;
  });
  afterAll(() => lab?.close());
  beforeEach(async () => {
    for (const host of [lab.a, lab.b])
      for (const family of ['-4', '-6']) await host.must(['ip', family, 'neighbour', 'flush', 'dev', 'eth0']);
  });

  test.each(CASES)('%s', async (_, policies, packets) => {
    await node.flush();
    const all = [...packets.dropped, ...packets.passed];
    expect((await counted(...all)).dropped).toBe(0);
    await install(policies);
    expect(await counted(...packets.dropped)).toEqual({ delivered: 0, dropped: packets.dropped.length });
    const passes = await counted(...packets.passed);
    expect(passes.dropped).toBe(0);
    if (packets.passed.length > 0) expect(passes.delivered).toBeGreaterThan(0);
  });

  test('nft reads the table as it is meant', async () => {
    await install([
      policy({ source: '10.1.0.0/20', protocol: 'udp', ports: [0, 1701] }),
      policy({ protocol: 'icmp', ports: [8, 0], action: 'discard' }),
    ]);
    const listed = await lab.b.must(['nft', 'list', 'table', 'inet', 'tanuki']);
    expect(listed).toMatch(/type filter hook prerouting priority raw; policy accept;/);
    expect(listed).toMatch(/iifname "tanuki0" counter packets \d+ bytes \d+ accept/);
    expect(listed).toMatch(
      /ip saddr 10\.1\.0\.0\/20 ip daddr 192\.0\.2\.2 udp dport 1701 counter packets 0 bytes 0 counter name "clearText" drop/,
    );
    expect(listed).toMatch(/icmp type echo-request counter packets 0 bytes 0 counter name "clearDiscard" drop/);
    expect(listed).toMatch(/icmpv6 type 133-137 ip6 hoplimit 255 counter/);
  });

  test('ESP reaches the engine, which has no SA for it', async () => {
    await install([policy({})]);
    const { drops } = await node.status();
    await inject(esp);
    expect((await node.status()).drops.noSa ?? 0).toBe((drops.noSa ?? 0) + 1);
  });

  test('ICMP about packets of ours passes where a policy is about its sender; about others it does not', async () => {
    await install([policy({ source: '0.0.0.0/0' })]);
    const tooBig = (quoted: Uint8Array) => ipPacket(1, cat(Uint8Array.of(3, 4, 0, 0, 0, 0, 5, 0), quoted.subarray(0, 28)), v4, 2);
    expect(await counted(tooBig(esp), tooBig(udpPacket(new Uint8Array(8), { sourcePort: 4500 })))).toEqual({
      delivered: 2,
      dropped: 0,
    });
    expect(await counted(tooBig(tcp(80)))).toEqual({ delivered: 0, dropped: 1 });
  });

  test('what no policy matches is discarded where the default says so, both ways, and still there is a host', async () => {
    await node.flush();
    const discarding = { ...settings(), unmatched: 'discard' as const };
    await node.stop();
    node = (await DatapathNode.start(lab.b, join(lab.dir, 'b'), discarding)).node;
    await install([
      policy({ protocol: 'udp', ports: [0, 53], action: 'bypass' }),
      policy({ source: b.v6, destination: a.v6, action: 'bypass', direction: 'outbound' }),
    ]);
    expect(await counted(udp(54), tcp(53), echo())).toEqual({ delivered: 0, dropped: 3 });
    expect(await counted(udp(53))).toEqual({ delivered: 1, dropped: 0 });
    const refused = await lab.b.exec(['ping', '-c', '1', '-W', '1', a.v4]);
    expect([refused.code, refused.stdout]).toEqual([1, expect.stringMatching(/Packet filtered/)]);
    expect((await node.status()).drops.unmatched).toBeGreaterThan(0);
    expect((await lab.b.exec(['ping', '-c', '1', '-W', '1', b.v4])).code).toBe(0);
    expect(await lab.b.must(['ip', '-6', 'neighbour', 'get', a.v6, 'dev', 'eth0']).catch(() => '')).not.toContain('FAILED');
    expect(await counted(udp(9, forwarded('v4')))).toEqual({ delivered: 0, dropped: 1 });
    // On its way to be protected: it came from the protected side.
    await node.request(policyToSpdAdd(policy({ source: '10.91.1.0/24', destination: '10.91.3.0/24', direction: 'outbound' })));
    expect(await counted(udp(9, forwarded('v4')))).toEqual({ delivered: 0, dropped: 0 });
    const outbound = (await node.status()).policies.find(({ selector }) => selector.includes('10.91.3.0'));
    expect(outbound).toMatchObject({ direction: 'outbound', packets: 1 });
    await node.stop();
    expect((await ping(lab.a, b.v4, 1)).received).toBe(1);
    node = (await DatapathNode.start(lab.b, join(lab.dir, 'b'))).node;
  });

  test('holds after a crash until the policies are there again, and is undone at the end', async () => {
    await install([policy({})]);
    node.program.kill('SIGKILL');
    await node.program.exited;
    const before = await delivered();
    await inject(udp(9));
    expect(await delivered()).toBe(before);
    node = (await DatapathNode.start(lab.b, join(lab.dir, 'b'))).node;
    expect(await counted(udp(9))).toEqual({ delivered: 0, dropped: 1 });
    await install([policy({ protocol: 'udp', ports: [0, 10] })]);
    await expect.poll(() => counted(udp(9)), { timeout: 5000, interval: 100 }).toEqual({ delivered: 1, dropped: 0 });
    expect(await counted(udp(10))).toEqual({ delivered: 0, dropped: 1 });
    expect(await tables()).toContain('tanuki');
    await node.stop();
    expect(await tables()).toBe('table inet watch\n');
  });
});
