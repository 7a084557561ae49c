/** `tanuki up`: the daemons as supervised children, or all in one process, in the foreground. */

import { fileURLToPath } from 'node:url';
import type { Event, Severity } from '../event.ts';
import { serveControl } from '../runtime/control.ts';
import { type LogSink, logSink } from '../runtime/log-sink.ts';
import { peerCheck } from '../runtime/peer-check.ts';
import { prepareRunDir } from '../runtime/run-dir.ts';
import { type ChildStatus, supervise } from '../runtime/supervisor.ts';
import { startSuite } from '../suite.ts';
import { ask } from './ask.ts';
import { EXIT, Exit } from './exit-codes.ts';
import { lintFile } from './lint.ts';
import { MetricsDoor } from './metrics.ts';

export interface UpOptions {
  readonly file: string;
  readonly runDir: string;
  readonly singleProcess: boolean;
  /** Go down again after this many seconds unless `tanuki confirm` comes; undefined: stay. */
  readonly confirmSeconds: number | undefined;
  readonly logLevel: Severity | undefined;
}

/** Runs until SIGINT, SIGTERM or `tanuki down`; SIGHUP reads the policy files again. Resolves with the exit code. */
export async function up(options: UpOptions): Promise<number> {
  const lint = lintFile(options.file);
  if (!lint.ok) {
    process.stderr.write(lint.text);
    throw new Exit(EXIT.usage, `${options.file} cannot be used; nothing was started`);
  }
  const { path } = prepareRunDir(options.runDir);
  const log = logSink('tanuki', { level: options.logLevel ?? 'info', destination: 'stderr', format: 'text' });
  const end = ending(options.confirmSeconds, log);
  let running: Running | undefined;
  const metrics = new MetricsDoor(path, (event) => log.write(event));
  /** The policy files were read again: a daemon may be needed that was not before, and `/metrics` elsewhere. */
  const follow = () => {
    const read = lintFile(options.file);
    if (read.kink) running?.needKink();
    if (read.ok) void metrics.follow(read.metrics);
  };
  // The control socket comes first: where another suite has this run directory, nothing is started.
  const control = await serveControl(
    prepareRunDir(path).control('tanuki'),
    async ({ verb }) => {
      if (verb === 'status') return { pid: process.pid, daemons: running?.status() ?? [] };
      if (verb === 'confirm') return { confirmed: end.confirm() };
      if (verb === 'reloaded') return void follow();
      if (verb === 'down') return void setImmediate(() => end.with(EXIT.ok));
      throw new Error(`unknown verb "${verb}"; expected status, confirm, reloaded or down`);
    },
    peerCheck((event) => log.write(event)),
  );
  try {
    running = options.singleProcess ? await oneProcess(options) : children(options, lint.kink, log, end.with);
  } catch (error) {
    await control.close();
    throw error;
  }
  const reload = () =>
    void ask('spmd', path, 'reload').then(follow, ({ message }: Error) =>
      log.write({ name: 'reload-failed', severity: 'error', message: `SIGHUP: ${message}` }),
    );
  process.on('SIGHUP', reload);
  await metrics.follow(lint.metrics);
  log.write({
    name: 'up',
    severity: 'notice',
    message: `tanuki is up with ${options.file}; status: tanuki status --run-dir ${path}`,
  });
  const code = await end.came;
  await metrics.follow(undefined);
  await running.stop();
  process.off('SIGHUP', reload);
  await control.close();
  log.write({ name: 'down', severity: 'notice', message: 'tanuki is down' });
  return code;
}

interface Running {
  status(): readonly ChildStatus[];
  /** A policy has KINK. */
  needKink(): void;
  stop(): Promise<void>;
}

function children({ file, runDir, logLevel }: UpOptions, kink: boolean, log: LogSink, end: (code: number) => void): Running {
  const script = (name: string) => fileURLToPath(new URL(name, import.meta.url));
  const common = ['--run-dir', runDir, ...(logLevel === undefined ? [] : ['--log-level', logLevel])];
  const kinkd = { name: 'kinkd', argv: [script('../../kinkd/cli.js'), ...common] };
  const supervisor = supervise({
    children: [
      { name: 'datapath', argv: [script('../datapath-process/cli.js'), ...common] },
      { name: 'spmd', argv: [script('../../spmd/cli.js'), '--file', file, '--no-datapath', ...common] },
      { name: 'iked', argv: [script('../../iked/cli.js'), ...common] },
      ...(kink ? [kinkd] : []),
    ],
    onEvent: (event: Event) => log.write(event),
    onHopeless(name, code) {
      log.write({
        name: 'daemon-hopeless',
        severity: 'error',
        message: `${name} cannot run (exit code ${code}); its reason is above`,
      });
      end(EXIT.failed);
    },
  });
  return { status: () => supervisor.status(), stop: () => supervisor.stop(), needKink: () => supervisor.add(kinkd) };
}

async function oneProcess({ file, runDir, logLevel }: UpOptions): Promise<Running> {
  const since = Date.now();
  const suite = await startSuite({ file, runDir, logLevel });
  const part = (name: string): ChildStatus => ({
    name,
    pid: process.pid,
    running: true,
    restarts: 0,
    since,
    lastExit: undefined,
  });
  return { status: () => ['datapath', 'spmd', 'iked', 'kinkd'].map(part), stop: () => suite.stop(), needKink: () => {} };
}

/** What ends `up`: a signal, `down`, a hopeless child, or a confirmation that did not come. */
function ending(confirmSeconds: number | undefined, log: LogSink) {
  let finish: (code: number) => void = () => {};
  const came = new Promise<number>((resolve) => {
    finish = resolve;
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => finish(EXIT.ok));
  const timer =
    confirmSeconds === undefined
      ? undefined
      : setTimeout(() => {
          log.write({
            name: 'not-confirmed',
            severity: 'warning',
            message: `not confirmed within ${confirmSeconds} s (tanuki confirm): going down again`,
          });
          finish(EXIT.timeout);
        }, confirmSeconds * 1000);
  return {
    came,
    with: (code: number) => finish(code),
    confirm() {
      clearTimeout(timer);
      return timer !== undefined;
    },
  };
}
