#!/usr/bin/env node
/** The bin `kinkd`: the KINK daemon as a process of its own, fed by spmd. */

import { Command, Option } from 'commander';
import type { Severity } from '../src/event.ts';
import { defaultRunDir } from '../src/runtime/run-dir.ts';
import { runDaemon } from '../src/runtime/shell.ts';
import { startKinkd } from './daemon.ts';

await new Command('kinkd')
  .description('Negotiates keys by KINK (RFC 4430), with Kerberos; spmd feeds it its policies.')
  .option('--run-dir <dir>', 'where the sockets of the daemons are', defaultRunDir())
  .addOption(
    new Option('--log-level <level>', 'least severity that is logged').choices(['debug', 'info', 'notice', 'warning', 'error']),
  )
  .action((options: { runDir: string; logLevel?: Severity }) => runDaemon('kinkd', () => startKinkd(options)))
  .parseAsync();
