/**
 * One flow through charon with charon (kernel-libipsec), wireguard-go with wireguard-go, and Tanuki with Tanuki: the same veth, in turns. Prints medians,
 * spreads and ratios; nothing is asserted about a time. Options by environment: BENCH_ROUNDS (3), BENCH_PEERS (see `pairs.ts`), BENCH_JSON, and
 * BENCH_LOADS: `tcp` leaves the datagrams and the pings out.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Lab, namespacesMissing } from '../interop/lab/namespaces.ts';
import { giveJson, printTable, type Spread, spread, spreadText } from './figures.ts';
import { delivered, flow, mtuOf, roundTrips } from './load.ts';
import { machineShape, processorSeconds, waitForIdle } from './machine.ts';
import { type PeerName, type RunningPair, startPair } from './pairs.ts';

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);
const PEERS = (process.env.BENCH_PEERS ?? 'charon,wireguard-go,tanuki,tanuki-raw').split(',') as PeerName[];
/** Traffic before anything is measured, for either pair: compilers and caches are as they are in a daemon that has run for a while. */
const WARM_UP_SECONDS = 2;
const TCP_SECONDS = 3;
const UDP_SECONDS = 2;
const UDP_OCTETS = 64;
const PINGS = 1000;
const TCP_ONLY = process.env.BENCH_LOADS === 'tcp';
/** IPv4, TCP and timestamps: what an MTU does not leave for payload. */
const TCP_OVERHEAD = 52;

type Round = {
  readonly peer: PeerName;
  readonly round: number;
  /** How idle the machine was before the TCP flow and before the datagrams, percent. */
  readonly idle: readonly [number, number];
  readonly mtu: number;
  readonly tcpGbit: number;
  readonly retransmits: number;
  readonly usPerPacketA: number;
  readonly usPerPacketB: number;
  readonly usPerPacket: number;
  readonly udpKpps: number;
  readonly rttP50: number;
  readonly rttP99: number;
  readonly pingsLost: number;
};

const PROGRAMS = [
  ...(PEERS.includes('charon') ? ['charon-systemd', 'swanctl'] : []),
  ...(PEERS.includes('wireguard-go') ? ['wireguard-go', 'wg'] : []),
];
const missing = namespacesMissing('iperf3', 'taskset', ...PROGRAMS);

describe.skipIf(missing !== undefined)(`throughput${missing === undefined ? '' : ` (skipped: ${missing})`}`, () => {
  const rounds: Round[] = [];
  let lab: Lab;
  beforeAll(async () => {
    lab = await Lab.open({ tcpBufferBytes: 0, label: 'bench-throughput' });
  });
  afterAll(async () => {
    await lab?.close();
    if (rounds.length > 0) await report(rounds);
  });

  for (let round = 1; round <= ROUNDS; round++) {
    for (const peer of PEERS) {
      test(`${peer}, round ${round} of ${ROUNDS}`, async () => {
        const pair = await startPair(lab, peer, round);
        try {
          rounds.push(await measure(lab, pair, peer, round));
        } finally {
          await pair.stop();
        }
        expect(rounds.at(-1)?.tcpGbit).toBeGreaterThan(0);
      });
    }
  }
});

async function measure(lab: Lab, pair: RunningPair, peer: PeerName, round: number): Promise<Round> {
  const port = 5200 + round;
  const mtu = await mtuOf(lab.a, pair.device.a);
  const used = () => ({ a: processorSeconds(pair.pids.a), b: processorSeconds(pair.pids.b) });

  await flow(lab, port, WARM_UP_SECONDS);
  const beforeTcp = await waitForIdle();
  const before = used();
  const tcp = await flow(lab, port, TCP_SECONDS);
  const after = used();
  const packets = tcp.sentBytes / (mtu - TCP_OVERHEAD);
  const perPacket = (seconds: number) => (1e6 * seconds) / packets;

  const beforeUdp = TCP_ONLY ? beforeTcp : await waitForIdle();
  const { packets: first } = await delivered(lab.b, pair.device.b);
  if (!TCP_ONLY) await flow(lab, port, UDP_SECONDS, ['-u', '-b', '0', '-l', String(UDP_OCTETS)]);
  const { packets: last } = await delivered(lab.b, pair.device.b);

  if (!TCP_ONLY) await waitForIdle();
  const rtt = TCP_ONLY ? { p50: Number.NaN, p99: Number.NaN, lost: 0 } : await roundTrips(lab, PINGS);
  const result: Round = {
    peer,
    round,
    idle: [beforeTcp, beforeUdp],
    mtu,
    tcpGbit: tcp.gbitPerSecond,
    retransmits: tcp.retransmits,
    usPerPacketA: perPacket(after.a - before.a),
    usPerPacketB: perPacket(after.b - before.b),
    usPerPacket: perPacket(after.a - before.a + after.b - before.b),
    udpKpps: (last - first) / (UDP_SECONDS + 1) / 1000,
    rttP50: rtt.p50,
    rttP99: rtt.p99,
    pingsLost: rtt.lost,
  };
  console.log(JSON.stringify(result, (_, value) => (typeof value === 'number' ? Number(value.toFixed(3)) : value)));
  return result;
}

type Column = { readonly title: string; readonly digits: number; readonly of: (round: Round) => number };

const COLUMNS: readonly Column[] = [
  { title: 'TCP Gbit/s', digits: 2, of: (round) => round.tcpGbit },
  { title: 'CPU us/packet A', digits: 2, of: (round) => round.usPerPacketA },
  { title: 'B', digits: 2, of: (round) => round.usPerPacketB },
  { title: 'A+B', digits: 2, of: (round) => round.usPerPacket },
  { title: `UDP ${UDP_OCTETS} octets, kpackets/s`, digits: 1, of: (round) => round.udpKpps },
  { title: 'RTT p50 us', digits: 0, of: (round) => round.rttP50 },
  { title: 'p99', digits: 0, of: (round) => round.rttP99 },
];

async function report(rounds: readonly Round[]): Promise<void> {
  const figures = PEERS.map((peer) => {
    const own = rounds.filter((round) => round.peer === peer);
    return { peer, spreads: own.length === 0 ? [] : COLUMNS.map(({ of }) => spread(own.map(of))) };
  }).filter(({ spreads }) => spreads.length > 0);
  const of = (name: PeerName) => figures.find(({ peer }) => peer === name)?.spreads;
  const ratios = figures.flatMap(({ peer, spreads }) =>
    (['charon', 'wireguard-go'] as const).flatMap((other) => {
      const than = of(other);
      if (!peer.startsWith('tanuki') || than === undefined) return [];
      return [{ name: `${peer} : ${other}`, values: COLUMNS.map((_, i) => spreads[i]!.median / than[i]!.median) }];
    }),
  );
  const row = (peer: string, spreads: readonly Spread[]) => [
    peer,
    ...spreads.map((figure, i) => spreadText(figure, COLUMNS[i]!.digits)),
  ];
  printTable([
    ['median [lowest-highest]', ...COLUMNS.map(({ title }) => title)],
    ...figures.map(({ peer, spreads }) => row(peer, spreads)),
    ...ratios.map(({ name, values }) => [name, ...values.map((ratio) => `${ratio.toFixed(2)}x`)]),
  ]);
  const named = (spreads: readonly Spread[]) => Object.fromEntries(COLUMNS.map(({ title }, i) => [title, spreads[i]]));
  giveJson('throughput', {
    date: new Date().toISOString().slice(0, 10),
    machine: await machineShape(),
    figures: Object.fromEntries(figures.map(({ peer, spreads }) => [peer, named(spreads)])),
    ratios: Object.fromEntries(
      ratios.map(({ name, values }) => [name, Object.fromEntries(COLUMNS.map(({ title }, i) => [title, values[i]]))]),
    ),
    rounds,
  });
}
