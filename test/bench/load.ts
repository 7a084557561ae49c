/** The loads: one TCP flow, small UDP datagrams as fast as they go, pings; each program bound to its side's processor. */
import type { Lab, Namespace } from '../interop/lab/namespaces.ts';
import { must, waitUntil } from '../interop/lab/process.ts';
import { quantile } from './figures.ts';

const PROCESSORS = { a: 0, b: 1 } as const;

function on(side: 'a' | 'b', argv: readonly string[]): string[] {
  return ['taskset', '-c', String(PROCESSORS[side]), ...argv];
}

/** What iperf3 says of one flow from A to B. */
export type Flow = { readonly gbitPerSecond: number; readonly retransmits: number; readonly sentBytes: number };

/** One flow from A to B, the first second left out of the rate. `more` are iperf3's own words, e.g. `-u`. */
export async function flow(lab: Lab, port: number, seconds: number, more: readonly string[] = []): Promise<Flow> {
  const to = lab.b.addresses.inner.v4;
  const listener = lab.b.spawn(on('b', ['iperf3', '-s', '-1', '-B', to, '-p', String(port), '--forceflush']));
  await listener.waitFor(({ stdout }) => /Server listening/.test(stdout), 5, 'iperf3 listening');
  const argv = ['iperf3', '-c', to, '-p', String(port), '-B', lab.a.addresses.inner.v4, '-J', '-O', '1', '-t', String(seconds)];
  const client = lab.a.spawn(on('a', [...argv, '--connect-timeout', '10000', ...more]));
  try {
    await waitUntil(
      () => client.finished,
      seconds + 30,
      () => `${argv.join(' ')} ended; so far ${client.stdout.slice(-500)}${client.stderr}`,
    );
    return flowOf(client.stdout);
  } finally {
    client.kill('SIGKILL');
    await listener.stop(1);
  }
}

type Sum = { bytes?: number; bits_per_second?: number; retransmits?: number };

function flowOf(stdout: string): Flow {
  const report = JSON.parse(stdout) as { error?: string; end?: Record<string, Sum>; intervals?: { sum: Sum }[] };
  if (report.error !== undefined) throw new Error(`iperf3: ${report.error}`);
  const received = report.end?.sum_received ?? report.end?.sum ?? {};
  return {
    gbitPerSecond: (received.bits_per_second ?? 0) / 1e9,
    retransmits: report.end?.sum_sent?.retransmits ?? 0,
    sentBytes: (report.intervals ?? []).reduce((sum, interval) => sum + (interval.sum.bytes ?? 0), 0),
  };
}

/** Packets and octets that the device has given its host (what a daemon wrote to it) since it is there. */
export async function delivered(host: Namespace, device: string): Promise<{ packets: number; bytes: number }> {
  type Link = { stats64: { rx: { packets: number; bytes: number } } };
  const [link] = JSON.parse(await must(['ip', '-n', host.name, '-j', '-s', 'link', 'show', device])) as Link[];
  return link!.stats64.rx;
}

export async function mtuOf(host: Namespace, device: string): Promise<number> {
  const [link] = JSON.parse(await must(['ip', '-n', host.name, '-j', 'link', 'show', device])) as { mtu: number }[];
  return link!.mtu;
}

export type RoundTrips = { readonly p50: number; readonly p99: number; readonly lost: number };

/** `count` pings from A to B, 500 a second: round-trip times in microseconds. */
export async function roundTrips(lab: Lab, count: number): Promise<RoundTrips> {
  const [from, to] = [lab.a.addresses.inner.v4, lab.b.addresses.inner.v4];
  const text = await lab.a.must(on('a', ['ping', '-n', '-i', '0.002', '-c', String(count), '-W', '1', '-I', from, to]), {
    timeout: 60,
  });
  const times = [...text.matchAll(/ time=([\d.]+) ms/g)].map((match) => Number(match[1]) * 1000).sort((x, y) => x - y);
  if (times.length === 0) throw new Error(`no ping was answered:\n${text.slice(-500)}`);
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99), lost: count - times.length };
}
