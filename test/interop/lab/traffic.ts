/** Traffic between two hosts and what became of it: pings with the list of the lost, iperf3 with its own account. */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Namespace } from './namespaces.ts';
import { type Program, waitUntil } from './process.ts';

const BULK = fileURLToPath(new URL('bulk.mjs', import.meta.url));
let nextPort = 5300;
/** Pings a second, where nothing else is said. */
const PING_RATE = 10;

/** What a ping run came to. `lost` are sequence numbers (the first ping is 1). */
export type PingResult = {
  readonly sent: number;
  readonly received: number;
  readonly lost: readonly number[];
  readonly duplicates: number;
  readonly errors: readonly string[];
};

export type PingOptions = {
  /** Our address, else the kernel chooses. */
  readonly from?: string;
  /** Pings a second (10). */
  readonly rate?: number;
  /** Octets of data (56). */
  readonly size?: number;
};

/** Sends `count` pings and waits for the answers: each gets at least 2 s. */
export async function ping(host: Namespace, to: string, count: number, options: PingOptions = {}): Promise<PingResult> {
  const program = host.spawn([...pingArgv(to, options), '-c', String(count)]);
  const seconds = count / (options.rate ?? PING_RATE) + 10;
  await waitUntil(
    () => program.finished,
    seconds,
    () => `${count} pings; so far ${program.stdout}${program.stderr}`,
  );
  return pingResult(program);
}

/** Pings until `stop`, which waits 2 s for the last answers before it counts. */
export class Pinger {
  readonly #program: Program;
  readonly #rate: number;
  constructor(host: Namespace, to: string, options: PingOptions = {}) {
    this.#rate = options.rate ?? PING_RATE;
    this.#program = host.spawn(pingArgv(to, options));
  }
  /** How many answers have come. */
  get received(): number {
    return sequenceNumbers(this.#program.stdout).length;
  }
  /** When each answer came, in the milliseconds of `Date.now()`, in the order of arrival. */
  get answerTimes(): readonly number[] {
    return [...this.#program.stdout.matchAll(/^\[(\d+\.\d+)\] \d+ bytes from /gm)].map((match) => Number(match[1]) * 1000);
  }
  /** Waits until `more` further answers have come. */
  async answered(more: number, seconds: number): Promise<void> {
    const goal = this.received + more;
    await this.#program.waitFor(() => this.received >= goal, seconds, `${more} more ping answers`);
  }
  /** Ends it. The pings of the last second count as sent only where they were answered: nobody waited for the others. */
  async stop(): Promise<PingResult> {
    await delay(300);
    this.#program.kill('SIGINT');
    await this.#program.exited;
    return pingResult(this.#program, Math.ceil(0.3 * this.#rate));
  }
}

function pingArgv(to: string, { from, rate = PING_RATE, size }: PingOptions): string[] {
  const source = from === undefined ? [] : ['-I', from];
  const data = size === undefined ? [] : ['-s', String(size)];
  return ['ping', '-n', '-D', '-O', '-W', '2', '-i', String(1 / rate), ...source, ...data, to];
}

/** `tail`: so many of the last ones nobody waited for. */
function pingResult({ stdout, stderr, argv }: Program, tail = 0): PingResult {
  const summary = /(\d+) packets transmitted/.exec(stdout);
  if (!summary) throw new Error(`${argv.join(' ')} gave no summary:\n${stdout}${stderr}`);
  const answers = sequenceNumbers(stdout);
  const seen = new Set(answers);
  const last = answers.reduce((highest, seq) => Math.max(highest, seq), 0);
  const transmitted = Number(summary[1]);
  const sent = transmitted - last <= tail ? last : transmitted;
  const lost = Array.from({ length: sent }, (_, i) => i + 1).filter((seq) => !seen.has(seq));
  const errors = stdout
    .split('\n')
    .filter((line) => /icmp_seq=\d+ (?!ttl)[A-Z]|From .* (unreachable|exceeded)/i.test(line) && !/time=/.test(line));
  return { sent, received: seen.size, lost, duplicates: answers.length - seen.size, errors };
}

/** `icmp_seq` of every answer line, in the order of arrival (-O's "no answer yet" lines are not answers). */
function sequenceNumbers(stdout: string): number[] {
  return [...stdout.matchAll(/bytes from .*icmp_seq=(\d+) .*time=/g)].map((match) => Number(match[1]));
}

/**
 * What iperf3's client says. Octets are TCP payload (UDP: datagram payload). With a `bytes` limit `receivedBytes` may be less than
 * `sentBytes`: iperf3's receiver stops counting when the sender says that it is done.
 */
export type Transfer = {
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly receivedMbitPerSecond: number;
  readonly retransmits: number;
  readonly lostPackets: number;
};

export type TransferOptions = {
  readonly from?: string;
  /** How long, seconds (3); or how much. */
  readonly seconds?: number;
  readonly bytes?: number;
  /** Held to this many Mbit/s, else as fast as it goes (UDP: 1). */
  readonly mbitPerSecond?: number;
  /** The server sends. */
  readonly reverse?: boolean;
  readonly udp?: boolean;
  readonly port?: number;
};

/** A transfer from `client` to a one-off server in `server` at address `to`. */
export async function transfer(
  client: Namespace,
  server: Namespace,
  to: string,
  options: TransferOptions = {},
): Promise<Transfer> {
  return (await startTransfer(client, server, to, options)).result;
}

/** Like `transfer`, but returns when it is on its way: `result` settles at its end. */
export async function startTransfer(
  client: Namespace,
  server: Namespace,
  to: string,
  options: TransferOptions = {},
): Promise<{ result: Promise<Transfer> }> {
  const port = String(options.port ?? 5201);
  const listener = server.spawn(['iperf3', '-s', '-1', '-B', to, '-p', port, '--forceflush']);
  await listener.waitFor(({ stdout }) => /Server listening/.test(stdout), 5, 'iperf3 listening');
  const rate = options.mbitPerSecond ?? (options.udp ? 1 : undefined);
  const argv = [
    ...['iperf3', '-c', to, '-p', port, '-J', '--connect-timeout', '10000'],
    ...(options.from === undefined ? [] : ['-B', options.from]),
    ...(options.bytes === undefined ? ['-t', String(options.seconds ?? 3)] : ['-n', String(options.bytes)]),
    ...(rate === undefined ? [] : ['-b', `${rate}M`]),
    ...(options.reverse ? ['-R'] : []),
    ...(options.udp ? ['-u'] : []),
  ];
  const program = client.spawn(argv);
  const limit = (options.seconds ?? (options.bytes ?? 0) / 125_000) + 30;
  const result = (async () => {
    try {
      await waitUntil(
        () => program.finished,
        limit,
        () => `${argv.join(' ')} ended`,
      );
      return transferOf(program);
    } finally {
      program.kill('SIGKILL');
      await listener.stop(1);
    }
  })();
  result.catch(() => undefined);
  return { result };
}

type Sum = { bytes?: number; bits_per_second?: number; retransmits?: number; lost_packets?: number };

function transferOf({ stdout, stderr, argv, finished }: Program): Transfer {
  const report = (stdout.trim() === '' ? {} : JSON.parse(stdout)) as { error?: string; end?: Record<string, Sum> };
  if (report.error !== undefined || finished?.code !== 0) throw new Error(`${argv.join(' ')}: ${report.error ?? ''}${stderr}`);
  const sent = report.end?.sum_sent ?? report.end?.sum ?? {};
  const received = report.end?.sum_received ?? report.end?.sum ?? {};
  return {
    sentBytes: sent.bytes ?? 0,
    receivedBytes: received.bytes ?? 0,
    receivedMbitPerSecond: (received.bits_per_second ?? 0) / 1e6,
    retransmits: sent.retransmits ?? 0,
    lostPackets: received.lost_packets ?? 0,
  };
}

/** What became of a checked transfer: `intact` when the receiver's SHA-256 equals the sender's. */
export type Bulk = { readonly octets: number; readonly seconds: number; readonly intact: boolean };

export type BulkOptions = {
  readonly from: string;
  readonly to: string;
  readonly octets: number;
  readonly mbitPerSecond?: number;
};

/** A transfer on its way: `result` settles when the receiver has answered for the last octet, `finish` makes the next one the last. */
export type RunningBulk = { readonly result: Promise<Bulk>; readonly finish: () => Promise<Bulk> };

/** Starts a TCP transfer of `octets`, every one checked. */
export async function startBulk(sender: Namespace, receiver: Namespace, options: BulkOptions): Promise<RunningBulk> {
  const { from, to, octets, mbitPerSecond = 0 } = options;
  const port = String(nextPort++);
  const listener = receiver.spawn([process.execPath, BULK, 'serve', to, port]);
  await listener.waitFor(({ stdout }) => stdout.includes('listening'), 10, 'a listening receiver');
  const program = sender.spawn([process.execPath, BULK, 'send', from, to, port, String(octets), String(mbitPerSecond)]);
  const limit = 40 + octets / 125_000 / (mbitPerSecond || 8);
  const result = (async () => {
    try {
      const { stdout, stderr } = await waitUntil(() => program.finished, limit, `a transfer of ${octets} octets to ${to} ended`);
      if (stdout === '') throw new Error(`the transfer to ${to} failed: ${stderr}`);
      return JSON.parse(stdout) as Bulk;
    } finally {
      program.kill();
      listener.kill();
    }
  })();
  result.catch(() => undefined);
  const finish = () => {
    program.kill('SIGINT');
    return result;
  };
  return { result, finish };
}

/** Like `startBulk`, to its end. */
export async function bulk(sender: Namespace, receiver: Namespace, options: BulkOptions): Promise<Bulk> {
  return (await startBulk(sender, receiver, options)).result;
}

/** One side's account of a pair of SAs, in inner IP octets and packets. */
export type Counters = {
  readonly bytesIn: number;
  readonly packetsIn: number;
  readonly bytesOut: number;
  readonly packetsOut: number;
};

/**
 * Waits until both sides' counters stand still for `idleSeconds` (2) and gives both; the test then compares `one.bytesOut`
 * with `other.bytesIn`. Fails after 20 s of movement.
 */
export async function idleCounters(
  one: () => Promise<Counters>,
  other: () => Promise<Counters>,
  idleSeconds = 2,
): Promise<{ one: Counters; other: Counters }> {
  let before = '';
  let since = performance.now();
  return waitUntil(
    async () => {
      const pair = { one: pick(await one()), other: pick(await other()) };
      const text = JSON.stringify(pair);
      if (text !== before) {
        before = text;
        since = performance.now();
      }
      return performance.now() - since >= idleSeconds * 1000 ? pair : undefined;
    },
    20,
    () => `counters at rest; last seen ${before}`,
    200,
  );
}

function pick({ bytesIn, packetsIn, bytesOut, packetsOut }: Counters): Counters {
  return { bytesIn, packetsIn, bytesOut, packetsOut };
}

/** The sum over several SAs. */
export function sumCounters(list: readonly Counters[]): Counters {
  const sum = (key: keyof Counters) => list.reduce((total, counters) => total + counters[key], 0);
  return { bytesIn: sum('bytesIn'), packetsIn: sum('packetsIn'), bytesOut: sum('bytesOut'), packetsOut: sum('packetsOut') };
}
