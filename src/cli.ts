#!/usr/bin/env node
/**
 * The front door: `tanuki up`, `status`, `lint`, `ping` and the rest. Each command is a file of `src/front-door`.
 * Those that need the daemons, the policy language or PF_KEY load their file when they are called: the others answer at once.
 */

import { Command, InvalidArgumentError, Option } from 'commander';
import type { Severity } from './event.ts';
import { ask } from './front-door/ask.ts';
import { type CaptureOptions, capture, showCaptured } from './front-door/capture.ts';
import { events } from './front-door/events.ts';
import { EXIT, Exit } from './front-door/exit-codes.ts';
import { askKeyDaemons } from './front-door/key-daemons.ts';
import { KEY_BITS, keygen } from './front-door/keygen.ts';
import { ping } from './front-door/ping.ts';
import { withProgress } from './front-door/progress.ts';
import { showStatus, statusOf } from './front-door/status.ts';
import { showTrace, trace } from './front-door/trace.ts';
import { CAPTURE_INTERFACES } from './net/pcapng.ts';
import { defaultRunDir } from './runtime/run-dir.ts';

const DEFAULT_FILE = '/etc/tanuki/tanuki.conf';

const runDirOption = new Option('--run-dir <dir>', 'where the sockets of the daemons are').default(defaultRunDir());
const jsonOption = new Option('--json', 'print JSON');
const levelOption = new Option('--log-level <level>', 'least severity that is logged').choices([
  'debug',
  'info',
  'notice',
  'warning',
  'error',
]);

interface Common {
  readonly runDir: string;
  readonly json?: boolean;
}

// Before the commands, which inherit it: a wrong command line ends with `usage`.
const program = new Command('tanuki')
  .description('Key exchange for IPsec in userspace.')
  .version('0.1.0')
  .showHelpAfterError()
  .exitOverride();

program
  .command('up')
  .description('start the daemons and stay in the foreground')
  .option('-f, --file <file>', 'policy file', DEFAULT_FILE)
  .addOption(runDirOption)
  .option('--single-process', 'all daemons in this process')
  .option('--confirm <seconds>', 'go down again unless `tanuki confirm` comes within this time', seconds)
  .addOption(levelOption)
  .action(async (o: Common & { file: string; singleProcess?: boolean; confirm?: number; logLevel?: Severity }) => {
    const { up } = await import('./front-door/up.ts');
    process.exitCode = await up({
      file: o.file,
      runDir: o.runDir,
      singleProcess: o.singleProcess === true,
      confirmSeconds: o.confirm,
      logLevel: o.logLevel,
    });
  });

program
  .command('down')
  .description('stop the daemons')
  .addOption(runDirOption)
  .addOption(jsonOption)
  .action(async (o: Common) => print(o, await ask('tanuki', o.runDir, 'down'), 'going down'));

program
  .command('confirm')
  .description('keep what `up --confirm` or `reload --confirm` put in force')
  .addOption(runDirOption)
  .addOption(jsonOption)
  .action(async (o: Common) => {
    const results = await Promise.allSettled([ask('tanuki', o.runDir, 'confirm'), ask('spmd', o.runDir, 'confirm')]);
    const failure = results.find((result) => result.status === 'rejected');
    if (failure !== undefined && results.every((result) => result.status === 'rejected')) throw failure.reason;
    print(o, { confirmed: true }, 'confirmed');
  });

program
  .command('reload')
  .description('read the policy files again; a bad file changes nothing')
  .addOption(runDirOption)
  .option('--confirm <seconds>', 'go back to the old ones unless `tanuki confirm` comes within this time', seconds)
  .addOption(jsonOption)
  .action(async (o: Common & { confirm?: number }) => {
    const asked = ask('spmd', o.runDir, 'reload', { confirmSeconds: o.confirm ?? 0 });
    const result = (await withProgress('reload: the daemons check the new configuration', asked)) as {
      generation: number;
      summary: string;
    };
    // Whoever supervises the daemons may have to start another; where nobody does, nobody answers.
    await ask('tanuki', o.runDir, 'reloaded').catch(() => undefined);
    print(o, result, result.summary);
  });

program
  .command('status')
  .description('daemons, IKE SAs, child SAs, policies, drops')
  .addOption(runDirOption)
  .addOption(jsonOption)
  .action(async (o: Common) => {
    const status = await statusOf(o.runDir);
    print(o, status, showStatus(status));
  });

program
  .command('lint <file>')
  .description('check a policy file: every mistake with its place')
  .option('--print', 'print the whole configuration as it was understood')
  .addOption(jsonOption)
  .action(async (file: string, o: { print?: boolean; json?: boolean }) => {
    const { lintFile } = await import('./front-door/lint.ts');
    const { ok, text, printed, diagnostics } = lintFile(file);
    print(o, { ok, diagnostics }, text + (o.print === true && printed !== undefined ? printed : ''));
    if (!ok) process.exitCode = EXIT.usage;
  });

program
  .command('ping <address>')
  .description('send echo requests through the policies, with or without a TUN device')
  .addOption(runDirOption)
  .option('-c, --count <n>', 'how many', whole, 4)
  .option('-i, --interval <seconds>', 'between two of them', seconds, 1)
  .option('-I, --source <address>', 'source address')
  .option('-W, --timeout <seconds>', 'wait for an answer this long', seconds, 5)
  .addOption(jsonOption)
  .action(async (address: string, o: Common & { count: number; interval: number; source?: string; timeout: number }) => {
    process.exitCode = await ping({ address, ...o });
  });

program
  .command('trace <source> <destination> [protocol] [port]')
  .description('what the datapath would do with a packet, which is not sent: policy, SA, every step, drop reason')
  .option('-s, --source-port <n>', 'port at the source', port)
  .option('-l, --octets <n>', 'length of the IP packet', port)
  .option('-i, --inbound', 'a packet that comes in: in clear, and through each SA that could carry it')
  .addOption(runDirOption)
  .addOption(jsonOption)
  .action(
    async (
      source: string,
      destination: string,
      protocol: string | undefined,
      portText: string | undefined,
      o: Common & { sourcePort?: number; octets?: number; inbound?: boolean },
    ) => {
      const { runDir, sourcePort, octets } = o;
      const inbound = o.inbound === true;
      const result = await trace({ runDir, source, destination, protocol, port: portText, sourcePort, octets, inbound });
      print(o, result, showTrace(result));
    },
  );

program
  .command('capture [file]')
  .description('inner and outer packets of the datapath as a pcapng file, until Ctrl-C; - is standard output')
  .option('-c, --count <n>', 'end after so many packets', whole)
  .option('--seconds <seconds>', 'end after this time', seconds)
  .option('-s, --snap-length <octets>', 'octets of a packet that are kept', port)
  .addOption(new Option('--only <side>', 'one side of the datapath only').choices([...CAPTURE_INTERFACES]))
  .option('-a, --address <prefix>', 'packets that have this at one end')
  .option('--spi <spi>', 'outer packets of this SPI, as `status` shows it')
  .option('--dropped', 'packets that were dropped')
  .addOption(runDirOption)
  .addOption(jsonOption)
  .action(async (file: string | undefined, o: Common & Omit<CaptureOptions, 'file' | 'runDir'>) => {
    const captured = await capture({ ...o, file: file ?? '-' });
    process.stderr.write(o.json === true ? `${JSON.stringify(captured)}\n` : showCaptured(captured));
  });

for (const [name, what] of [
  ['initiate', 'negotiate now what a selector, policy or remote names'],
  ['terminate', 'delete the SAs that a selector, policy, remote or IKE SA names'],
] as const) {
  program
    .command(`${name} <name>`)
    .description(what)
    .addOption(runDirOption)
    .option('-W, --timeout <seconds>', 'give up after this time', seconds, 30)
    .addOption(jsonOption)
    .action(async (subject: string, o: Common & { timeout: number }) => {
      const asked = askKeyDaemons(o.runDir, name, { name: subject }, o.timeout * 1000);
      print(o, await withProgress(`${name} ${subject}`, asked), `${name}: done`);
    });
}

program
  .command('rekey <name>')
  .description('replace the SAs that a selector, policy, remote or IKE SA names')
  .option('--ike', 'the IKE SA instead of its children')
  .addOption(runDirOption)
  .addOption(jsonOption)
  .action(async (subject: string, o: Common & { ike?: boolean }) => {
    const what = o.ike === true ? 'ike' : 'child';
    print(o, await askKeyDaemons(o.runDir, 'rekey', { name: subject, what }), 'rekey: begun');
  });

program
  .command('events')
  .description('print what happens, as it happens')
  .addOption(runDirOption)
  .addOption(jsonOption)
  .action(async (o: Common) => events(o.runDir, o.json === true));

program
  .command('setkey')
  .description('SAs, policies and movements by hand, in the language of setkey(8); from a file or standard input')
  .option('-f, --file <file>', 'statements; - is standard input')
  .option('-c, --command <text>', 'statements')
  .option('-D, --dump', 'dump the SAs; with -P the policies')
  .option('-F, --flush', 'remove the SAs; with -P the policies')
  .option('-P, --policies', 'policies instead of SAs, for -D and -F')
  .addOption(runDirOption)
  .addOption(jsonOption)
  .action(async (o: Common & { file?: string; command?: string; dump?: boolean; flush?: boolean; policies?: boolean }) => {
    const of = o.policies === true ? 'spd' : '';
    const verbs = [o.flush === true ? `${of}flush;` : '', o.dump === true ? `${of}dump;` : ''].join('');
    const ways = [verbs === '' ? undefined : verbs, o.command, o.file].filter((way) => way !== undefined);
    if (ways.length > 1) throw new Exit(EXIT.usage, 'setkey: expected one of -f FILE, -c TEXT, -D and -F; found several');
    if (o.policies === true && verbs === '') throw new Exit(EXIT.usage, 'setkey: -P goes with -D or -F');
    const { setkey } = await import('./front-door/setkey.ts');
    await setkey({ runDir: o.runDir, file: o.file, text: verbs === '' ? o.command : verbs, json: o.json });
  });

program
  .command('keygen <file>')
  .description('make a strong pre-shared key in a new file that is closed to others')
  .option('--bits <n>', 'strength', whole, KEY_BITS)
  .addOption(jsonOption)
  .action((file: string, o: { bits: number; json?: boolean }) => {
    keygen(file, o.bits);
    print(o, { file, bits: o.bits }, `${file}: a pre-shared key of ${o.bits} bits; write the same file on the other side`);
  });

function print(o: { readonly json?: boolean }, value: unknown, text: string): void {
  process.stdout.write(
    o.json === true ? `${JSON.stringify(value, undefined, 2)}\n` : text.endsWith('\n') || text === '' ? text : `${text}\n`,
  );
}

function seconds(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0 || value > 86_400)
    throw new InvalidArgumentError('expected seconds, more than 0 and at most 86400.');
  return value;
}

function port(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) throw new InvalidArgumentError('expected a whole number, 0 to 65535.');
  return Number(text);
}

function whole(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('expected a whole number, 1 to 999999.');
  return Number(text);
}

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof Exit) {
    process.stderr.write(`tanuki: ${error.message}\n`);
    process.exitCode = error.code;
  } else if (error instanceof Error && 'exitCode' in error) {
    process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage; // commander has written its own sentence
  } else {
    process.stderr.write(`tanuki: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = EXIT.failed;
  }
}
