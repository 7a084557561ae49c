/** The machine under a benchmark: how idle it is, what it is, and how much of a processor a process has used. */
import { readdirSync, readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { run } from '../interop/lab/process.ts';

/** How long a busy machine is waited for, in seconds. */
const IDLE_PATIENCE = Number(process.env.BENCH_IDLE_SECONDS ?? 20);

/** Share of all processors' time that was idle, in percent, over `milliseconds`. */
async function idlePercent(milliseconds: number): Promise<number> {
  const before = ticks();
  await delay(milliseconds);
  const after = ticks();
  return (100 * (after.idle - before.idle)) / Math.max(1, after.all - before.all);
}

/** Idle and all ticks since boot; a guest's stolen time counts as busy. */
function ticks(): { idle: number; all: number } {
  const fields = readFileSync('/proc/stat', 'utf8').split('\n')[0]!.trim().split(/\s+/).slice(1, 9).map(Number);
  return { idle: fields[3]! + fields[4]!, all: fields.reduce((sum, value) => sum + value, 0) };
}

/** Waits until the machine is at least `percent` idle for half a second, at most `seconds`: how idle it was at last. */
export async function waitForIdle(percent = 85, seconds = IDLE_PATIENCE): Promise<number> {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    const idle = await idlePercent(500);
    if (idle >= percent || performance.now() > deadline) return Math.round(idle);
  }
}

/** User and system time that the processes and their threads have used, in seconds. What has ended counts nothing. */
export function processorSeconds(pids: readonly number[]): number {
  const TICKS_PER_SECOND = 100;
  let total = 0;
  for (const pid of pids) {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    total += (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  }
  return total;
}

/** Binds every thread of a process to one processor. */
export async function pin(pid: number, processor: number): Promise<void> {
  const threads = readdirSync(`/proc/${pid}/task`);
  await Promise.all(threads.map((thread) => run(['taskset', '-c', '-p', String(processor), thread])));
}

export type MachineShape = {
  readonly processors: number;
  readonly model: string;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly node: string;
  readonly openssl: string;
  readonly strongswan: string;
  readonly iperf3: string;
};

/** What the figures belong to; no name of the machine. */
export async function machineShape(): Promise<MachineShape> {
  const version = async (argv: readonly string[], pattern: RegExp) => {
    const { stdout, stderr } = await run(argv);
    return pattern.exec(stdout + stderr)?.[1] ?? 'not found';
  };
  return {
    processors: cpus().length,
    model: cpus()[0]?.model.trim() ?? 'unknown',
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: /^\d+\.\d+(\.\d+)?/.exec(release())?.[0] ?? release(),
    node: process.versions.node,
    openssl: process.versions.openssl,
    strongswan: await version(['swanctl', '--help'], /strongSwan (\d\S*)/),
    iperf3: await version(['iperf3', '--version'], /iperf (\S+)/),
  };
}
