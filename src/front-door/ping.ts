/** `tanuki ping`: echo requests that take the way of any packet: policy, SA, ESP, and back. */

import type { PingResult } from '../datapath-process/ports.ts';
import { ask } from './ask.ts';
import { EXIT } from './exit-codes.ts';
import { withProgress } from './progress.ts';

export interface PingOptions {
  readonly address: string;
  readonly runDir: string;
  readonly count: number;
  /** Seconds. */
  readonly interval: number;
  readonly timeout: number;
  readonly source?: string;
  readonly json?: boolean;
}

/** Returns the exit code: `ok` where every request was answered, else `timeout`. */
export async function ping({ address, runDir, count, interval, timeout, source, json }: PingOptions): Promise<number> {
  const results: PingResult[] = [];
  for (let sequence = 1; sequence <= count; sequence++) {
    if (sequence > 1) await new Promise((resolve) => setTimeout(resolve, interval * 1000));
    const args = { address, sequence, timeoutMs: timeout * 1000, ...(source === undefined ? {} : { source }) };
    const asked = ask('datapath', runDir, 'ping', args, timeout * 1000 + 5_000);
    const result = (await withProgress(`${address}: waiting for seq=${sequence}`, asked)) as PingResult;
    results.push(result);
    if (json !== true) process.stdout.write(`${pingLine(address, sequence, result)}\n`);
  }
  const answered = results.filter((result) => result.answered).length;
  if (json === true) process.stdout.write(`${JSON.stringify({ address, sent: count, answered, results }, undefined, 2)}\n`);
  else process.stdout.write(`${address}: ${count} sent, ${answered} answered\n`);
  return answered === count ? EXIT.ok : EXIT.timeout;
}

export function pingLine(address: string, sequence: number, result: PingResult): string {
  if (result.answered) return `${address} answered ${result.source}: seq=${sequence} time=${result.rttMs.toFixed(2)} ms`;
  return `${address} did not answer ${result.source}: seq=${sequence}: ${result.why}`;
}
