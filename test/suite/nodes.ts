/**
 * Whole nodes for the suite tests: policy files of two peers in a folder of their own, `tanuki up` as a process or in this one, and questions
 * with deadlines. Addresses are drawn from 127/8 by process id and a counter, so that runs side by side do not meet.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { IkedStatus } from '../../iked/ports.ts';
import type { DatapathStatus, PingResult } from '../../src/datapath-process/ports.ts';
import type { Event } from '../../src/event.ts';
import { ask } from '../../src/front-door/ask.ts';
import { keygen } from '../../src/front-door/keygen.ts';
import { type SuiteStatus, statusOf } from '../../src/front-door/status.ts';
import { controlClient } from '../../src/runtime/control.ts';
import { type DaemonName, runDir } from '../../src/runtime/run-dir.ts';
import type { Daemon } from '../../src/runtime/shell.ts';
import { startSuite } from '../../src/suite.ts';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
export const CLI = join(ROOT, 'dist/src/cli.js');
export const BUILT = existsSync(CLI);

/** What a command did. */
export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a script of `dist` to its end; killed at the deadline (then `code` is null). */
export function run(
  script: string,
  args: readonly string[],
  { limitMs = 20_000, env }: { limitMs?: number; env?: NodeJS.ProcessEnv } = {},
): Promise<Outcome> {
  return outcomeOf(spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env }), limitMs);
}

export function tanuki(...args: string[]): Promise<Outcome> {
  return run(CLI, args);
}

export function outcomeOf(child: ChildProcess, limitMs: number): Promise<Outcome> {
  const text = collect(child);
  return new Promise((resolve) => {
    const limit = setTimeout(() => child.kill('SIGKILL'), limitMs);
    child.once('close', (code) => {
      clearTimeout(limit);
      resolve({ code, ...text });
    });
  });
}

export function collect(child: ChildProcess): { stdout: string; stderr: string } {
  const text = { stdout: '', stderr: '' };
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    text.stdout += chunk;
  });
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    text.stderr += chunk;
  });
  return text;
}

/** Waits until `probe` returns something; looks every 20 ms and fails with `what` at the deadline. What `probe` throws counts as not yet. */
export async function until<T>(
  what: string,
  limitMs: number,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  const deadline = Date.now() + limitMs;
  let last: unknown;
  for (;;) {
    try {
      const found = await probe();
      if (found !== undefined && found !== false) return found;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline)
      throw new Error(`not within ${limitMs} ms: ${what}${last === undefined ? '' : ` (${(last as Error).message})`}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

let drawn = 0;

/** A network 127.x.y.0/24 that no other test of this machine is likely to use. */
export function loopbackNet(): string {
  const seed = process.pid * 8 + (drawn++ % 8);
  return `127.${64 + ((seed >> 8) % 128)}.${seed & 0xff}`;
}

export interface Site {
  readonly directory: string;
  readonly a: NodeFiles;
  readonly b: NodeFiles;
  remove(): void;
}

export interface NodeFiles {
  readonly file: string;
  readonly runDir: string;
  readonly key: string;
  /** Outer address. */
  readonly address: string;
}

/** What one node's policy file says, beyond what all share. */
export interface Side {
  readonly me: string;
  readonly peer: string;
  readonly myId: string;
  readonly peersId: string;
  /** `initiate start;` or nothing. */
  readonly initiate: string;
  /** Inside of `ikev2 { }`. */
  readonly ikev2?: string;
  /** The proposal of `ipsec`, and whatever else follows. */
  readonly more?: string;
  readonly datapath?: string;
  readonly innerMine: string;
  readonly innerPeer: string;
  readonly second?: boolean;
}

/** A policy file of two nodes over loopback, with one tunnel `net` and, where `second`, another one `other` to another remote of the same peer. */
export function policyText(side: Side): string {
  const {
    me,
    peer,
    myId,
    peersId,
    initiate,
    ikev2 = '',
    more = '',
    datapath = 'device memory;',
    innerMine,
    innerPeer,
    second,
  } = side;
  return `
interface {
  ike "${me}" port 10500;
  datapath { ${datapath} encap_port 14500; encapsulation force; addresses 10.${innerMine}.0.1; };
};
remote peer {
  ikev2 {
    peers_ipaddr "${peer}" port 10500;
    my_id fqdn ${myId};
    peers_id fqdn ${peersId};
    pre_shared_key "node.psk";
    force_encapsulation on;
    ${ikev2}
  };
};
selector net { direction both; src 10.${innerMine}.0.0/17; dst 10.${innerPeer}.0.0/17; policy_index net; };
policy net { remote_index peer; my_sa_ipaddr "${me}"; peers_sa_ipaddr "${peer}"; ${initiate} };
${
  second === true
    ? `selector other { direction both; src 10.${innerMine}.${innerMine === '1' ? '0.0/16' : '128.0/17'}; dst 10.${innerPeer}.${innerPeer === '1' ? '0.0/16' : '128.0/17'}; policy_index other; };
policy other { remote_index peer; my_sa_ipaddr "${me}"; peers_sa_ipaddr "${peer}"; ${initiate} };`
    : ''
}
${more}
`;
}

const START = 'initiate start;';

/** Both files, a common key, nothing started. `change` alters what a side says. */
export function site(change: (side: 'a' | 'b', said: Side) => Side = (_, said) => said): Site {
  const directory = mkdtempSync(join(tmpdir(), 'tanuki-test-'));
  const net = loopbackNet();
  const base = { a: `${net}.1`, b: `${net}.2` };
  const node = (name: 'a' | 'b'): NodeFiles => {
    const folder = join(directory, name);
    mkdirSync(folder, { mode: 0o700 });
    const other = name === 'a' ? 'b' : 'a';
    const said = change(name, {
      me: base[name],
      peer: base[other],
      myId: `${name}.example`,
      peersId: `${other}.example`,
      initiate: name === 'a' ? START : '',
      innerMine: name === 'a' ? '1' : '2',
      innerPeer: name === 'a' ? '2' : '1',
    });
    const file = join(folder, 'node.conf');
    writeFileSync(file, policyText(said), { mode: 0o600 });
    return { file, runDir: join(folder, 'run'), key: join(folder, 'node.psk'), address: base[name] };
  };
  const a = node('a');
  const b = node('b');
  const secret = randomBytes(32).toString('base64');
  for (const { key } of [a, b]) writeFileSync(key, `${secret}\n`, { mode: 0o600 });
  return { directory, a, b, remove: () => rmSync(directory, { recursive: true, force: true }) };
}

/** A running `tanuki up`. */
export interface Up {
  readonly files: NodeFiles;
  readonly process: ChildProcess;
  readonly text: { stdout: string; stderr: string };
  /** Resolves with the exit code. */
  readonly ended: Promise<number | null>;
  stop(): Promise<number | null>;
}

export function up(files: NodeFiles, args: readonly string[] = [], uid?: number): Up {
  const child = spawn(process.execPath, [CLI, 'up', '-f', files.file, '--run-dir', files.runDir, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  const text = collect(child);
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  return {
    files,
    process: child,
    text,
    ended,
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
      const limit = setTimeout(() => child.kill('SIGKILL'), 12_000);
      const code = await ended;
      clearTimeout(limit);
      return code;
    },
  };
}

export function status(node: NodeFiles): Promise<SuiteStatus> {
  return statusOf(node.runDir);
}

export async function iked(node: NodeFiles): Promise<IkedStatus> {
  return (await ask('iked', node.runDir, 'status')) as IkedStatus;
}

export async function datapath(node: NodeFiles): Promise<DatapathStatus> {
  return (await ask('datapath', node.runDir, 'status')) as DatapathStatus;
}

/** Waits until every node has exactly one installed child of each selector and each SA of it is in its datapath. */
export async function connected(
  nodes: readonly NodeFiles[],
  selectors: readonly string[] = ['net'],
  limitMs = 15_000,
): Promise<void> {
  await until(`${selectors.join(', ')} up on all nodes`, limitMs, async () => {
    for (const node of nodes) {
      const { childSas } = await status(node);
      const names = childSas.filter((child) => child.state === 'installed').map((child) => child.selector);
      if ([...names].sort().join() !== [...selectors].sort().join()) return false;
    }
    return true;
  });
}

export async function pingOnce(node: NodeFiles, address: string, timeoutMs = 2_000): Promise<PingResult> {
  return (await ask('datapath', node.runDir, 'ping', { address, sequence: 1, timeoutMs })) as PingResult;
}

export interface PingLoop {
  readonly sent: number;
  /** What was not answered, each with its sequence number. */
  readonly lost: readonly string[];
  /** Sends three more, stops, and waits for the last answers. */
  stop(): Promise<void>;
}

/** Ten pings a second over one connection to the datapath. */
export async function pingLoop(node: NodeFiles, address: string): Promise<PingLoop> {
  const client = await controlClient(runDir(node.runDir).control('datapath'));
  const lost: string[] = [];
  const open = new Set<Promise<void>>();
  let sent = 0;
  const one = async (sequence: number) => {
    try {
      const result = (await client.ask('ping', { address, sequence, timeoutMs: 3_000 })) as PingResult;
      if (!result.answered) lost.push(`${sequence}: ${result.why}`);
    } catch (error) {
      lost.push(`${sequence}: ${(error as Error).message}`);
    }
  };
  const send = () => {
    const ping: Promise<void> = one(++sent).finally(() => open.delete(ping));
    open.add(ping);
  };
  send();
  const timer = setInterval(send, 100);
  return {
    get sent() {
      return sent;
    },
    lost,
    async stop() {
      const enough = sent + 3;
      await until('three pings more', 10_000, () => sent >= enough);
      clearInterval(timer);
      await Promise.all(open);
      client.close();
    },
  };
}

/** SIGKILL for one daemon of a node that runs as processes; resolves when the supervisor has started it again and it answers. */
export async function killDaemon(node: NodeFiles, name: Exclude<DaemonName, 'tanuki'>): Promise<void> {
  const before = (await status(node)).daemons.find((daemon) => daemon.name === name)!;
  process.kill(before.pid!, 'SIGKILL');
  await until(`${name} runs again`, 10_000, async () => {
    const now = (await status(node)).daemons.find((daemon) => daemon.name === name)!;
    return now.answers && now.restarts === before.restarts + 1 && now.pid !== before.pid;
  });
}

/** A new key in place of a node's own. */
export function newKey(node: NodeFiles): void {
  rmSync(node.key);
  keygen(node.key, 256);
  chmodSync(node.key, 0o600);
}

/** One node in this process, and what it reported. */
export interface Inside {
  readonly files: NodeFiles;
  readonly suite: Daemon;
  readonly events: readonly { readonly daemon: string; readonly event: Event }[];
  /** Log lines of at least this severity, without their time. */
  lines(least?: 'notice' | 'warning'): string[];
}

export async function inside(files: NodeFiles): Promise<Inside> {
  const events: { daemon: string; event: Event }[] = [];
  const suite = await startSuite({
    file: files.file,
    runDir: files.runDir,
    quiet: true,
    onEvent: (daemon, event) => events.push({ daemon, event }),
  });
  const counted = { notice: ['notice', 'warning', 'error'], warning: ['warning', 'error'] };
  return {
    files,
    suite,
    events,
    lines: (least = 'warning') =>
      events
        .filter(({ event }) => counted[least].includes(event.severity))
        .map(({ daemon, event }) => `${daemon}: ${event.name}: ${event.message}`),
  };
}

/** Gives a folder and all in it to another user. */
export function chownTree(path: string, uid: number): void {
  chownSync(path, uid, uid);
  for (const entry of readdirSync(path, { recursive: true, withFileTypes: true }))
    chownSync(join(entry.parentPath, entry.name), uid, uid);
}
