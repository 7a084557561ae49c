#!/usr/bin/env node
/** The bin `spmd`: the policy manager as a process of its own; run alone, it starts a datapath of its own. */

import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import type { Severity } from '../src/event.ts';
import { defaultRunDir } from '../src/runtime/run-dir.ts';
import { type Daemon, runDaemon } from '../src/runtime/shell.ts';
import { supervise } from '../src/runtime/supervisor.ts';
import { startSpmd } from './daemon.ts';

interface Options {
  readonly file: string;
  readonly runDir: string;
  readonly datapath: boolean;
  readonly logLevel?: Severity;
}

await new Command('spmd')
  .description('Reads the policy files, installs the policies, and feeds the key daemons.')
  .option('-f, --file <file>', 'policy file', '/etc/tanuki/tanuki.conf')
  .option('--run-dir <dir>', 'where the sockets of the daemons are', defaultRunDir())
  .option('-F', 'stay in the foreground, as it always does (accepted for those who are used to it)')
  .option('--no-datapath', 'do not start a datapath: one runs already, or will')
  .addOption(
    new Option('--log-level <level>', 'least severity that is logged').choices(['debug', 'info', 'notice', 'warning', 'error']),
  )
  .action((options: Options) => runDaemon('spmd', () => start(options)))
  .parseAsync();

async function start({ file, runDir, datapath, logLevel }: Options): Promise<Daemon> {
  const spmd = await startSpmd({ file, runDir, logLevel });
  const hangup = () => {
    // Why a reload was refused is in the log already.
    spmd.reload().catch(() => undefined);
  };
  process.on('SIGHUP', hangup);
  const script = fileURLToPath(new URL('../src/datapath-process/cli.js', import.meta.url));
  const level = logLevel === undefined ? [] : ['--log-level', logLevel];
  const child = datapath
    ? supervise({
        children: [{ name: 'datapath', argv: [script, '--run-dir', runDir, ...level] }],
        onEvent: ({ severity, message }) => process.stderr.write(`spmd ${severity}: ${message}\n`),
        onHopeless: (name, code) => process.stderr.write(`spmd: ${name} cannot run (exit code ${code}); its reason is above\n`),
      })
    : undefined;
  return {
    async stop() {
      process.off('SIGHUP', hangup);
      await spmd.stop();
      await child?.stop();
    },
  };
}
