#!/usr/bin/env node
/** The datapath as a process of its own; started by `tanuki up` and by spmd. */

import { Command, Option } from 'commander';
import type { Severity } from '../event.ts';
import { defaultRunDir } from '../runtime/run-dir.ts';
import { runDaemon } from '../runtime/shell.ts';
import { startDatapath } from './daemon.ts';

await new Command('datapath')
  .description('The embedded ESP datapath: PF_KEY server and packets.')
  .option('--run-dir <dir>', 'where the sockets of the daemons are', defaultRunDir())
  .addOption(
    new Option('--log-level <level>', 'least severity that is logged').choices(['debug', 'info', 'notice', 'warning', 'error']),
  )
  .action((options: { runDir: string; logLevel?: Severity }) => runDaemon('datapath', () => startDatapath(options)))
  .parseAsync();
