/**
 * The quick start (`npm start`): two complete nodes on this machine, as any user, without privilege or configuration, over the protocol that
 * `--protocol` names. Shows the negotiation as the RFC's ladder, the SAs it installed, and pings through ESP; then stays up until Ctrl-C, or
 * leaves with `--once`.
 */

import { chmodSync, copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { lint } from './config/index.ts';
import type { PingResult } from './datapath-process/ports.ts';
import type { Event } from './event.ts';
import { ask } from './front-door/ask.ts';
import { keygen } from './front-door/keygen.ts';
import { pingLine } from './front-door/ping.ts';
import { type ChildSa, statusOf } from './front-door/status.ts';
import { IpAddress } from './net/address.ts';
import { type Realm, type RealmSpec, startRealm } from './quickstart/realm.ts';
import { sourceFiles } from './runtime/files.ts';
import type { Daemon } from './runtime/shell.ts';
import { startSuite } from './suite.ts';

/** The policies lie beside `dist` in a checkout and in the installed package. */
const POLICIES = fileURLToPath(new URL('../../policies/quickstart/', import.meta.url));
const NODES = [
  { name: 'A', file: 'a.conf', inner: '10.1.0.1', peersInner: '10.2.0.1' },
  { name: 'B', file: 'b.conf', inner: '10.2.0.1', peersInner: '10.1.0.1' },
] as const;
const PINGS = 3;
const READY_LIMIT_MS = 10_000;

/** What each protocol is, for people: where the ladder is drawn. */
const PROTOCOLS = {
  ikev2: 'RFC 7296 §1.2',
  ikev1: 'RFC 2409 §5.4, §5.5',
  kink: 'RFC 4430 §3',
} as const;
type Protocol = keyof typeof PROTOCOLS;

interface Node {
  readonly name: string;
  readonly runDir: string;
  readonly suite: Daemon;
}

async function quickstart(protocol: Protocol, once: boolean): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'tanuki-'));
  const nodes: Node[] = [];
  let realm: Realm | undefined;
  let interrupted: () => void = () => {};
  const interruption = new Promise<void>((resolve) => {
    interrupted = resolve;
  });
  const leave = () => {
    hopeless ??= 'interrupted';
    interrupted();
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, leave);
  try {
    say('Tanuki quick start: two nodes on this machine, no privilege, no configuration.');
    say(`Policies: ${POLICIES}{a,b}.conf`);
    preparePolicies(directory, protocol);
    if (protocol === 'kink') {
      realm = await startRealm(realmOf(directory), say);
      say(`Kerberos: ${realm.what}.`);
    }
    for (const { name, file } of NODES) {
      const runDir = join(directory, name.toLowerCase());
      const suite = await startSuite({
        file: join(directory, file),
        runDir,
        quiet: true,
        onEvent: (daemon, event) => show(name, daemon, event),
      });
      nodes.push({ name, runDir, suite });
    }
    say(`\nThe negotiation (${PROTOCOLS[protocol]}), as A saw it; A speaks to the right:\n`);
    await until(() => childrenUp(nodes), READY_LIMIT_MS);
    for (const node of nodes) await showSas(node);
    await pings(nodes[0]!);
    for (const node of nodes) await showCounters(node);
    if (!once) {
      say(`\nBoth nodes stay up until Ctrl-C. Meanwhile, in another terminal:`);
      say(`  npx tanuki status --run-dir ${nodes[0]!.runDir}`);
      say(`  npx tanuki ping ${NODES[0].peersInner} --run-dir ${nodes[0]!.runDir}`);
      say(`  npx tanuki rekey net --run-dir ${nodes[0]!.runDir}`);
      say(`  npx tanuki events --run-dir ${nodes[1]!.runDir}`);
      await interruption;
      say('\nGoing down.');
    }
  } finally {
    goingDown = true;
    for (const node of nodes.reverse()) await node.suite.stop();
    await realm?.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The policy files with the protocol in them, and a fresh pre-shared key, private to this run. */
function preparePolicies(directory: string, protocol: Protocol): void {
  if (!existsSync(POLICIES)) throw new Error(`the example policies are missing: expected them in ${POLICIES}`);
  for (const file of readdirSync(POLICIES)) {
    copyFileSync(join(POLICIES, file), join(directory, file));
    chmodSync(join(directory, file), 0o600);
  }
  const chosen = join(directory, 'protocol.conf');
  writeFileSync(chosen, readFileSync(chosen, 'utf8').replace(/(PROTOCOL\s+)\w+/, `$1${protocol}`));
  keygen(join(directory, 'quickstart.psk'), 256);
}

/** The realm that the policies name, with a key for each node. */
function realmOf(directory: string): RealmSpec {
  const policies = NODES.flatMap(({ file }) => lint(join(directory, file), sourceFiles).config ?? []);
  const { realm, kdcs: [kdc] = [] } = policies[0]?.kerberos ?? {};
  const address = kdc === undefined ? undefined : IpAddress.parse(kdc.host);
  if (realm === undefined || kdc === undefined || address === undefined)
    throw new Error(`${POLICIES}common.conf: kerberos { } names no realm, or no KDC by its address`);
  return {
    name: realm,
    kdc: { address, port: kdc.port },
    directory: join(directory, 'kdc'),
    principals: policies.map(({ kerberos, remotes }) => ({
      principal: remotes.flatMap(({ kink }) => kink?.myPrincipal ?? [])[0] ?? '',
      keytab: kerberos.keytab,
    })),
  };
}

const problems: string[] = [];
/** Why waiting on is pointless: what stands in the way does not go away by itself. */
let hopeless: string | undefined;
const HOPELESS: readonly string[] = ['socket-failed', 'datapath-problem', 'configuration-rejected'];
let goingDown = false;

function show(node: string, daemon: string, event: Event): void {
  if (!goingDown && event.name === 'ladder' && node === 'A') say(`  ${event.message}`);
  if (!goingDown && (event.severity === 'warning' || event.severity === 'error')) {
    problems.push(`node ${node}, ${daemon}: ${event.message}`);
    if (HOPELESS.includes(event.name)) hopeless ??= problems.at(-1);
    say(`  ! node ${node}, ${daemon}: ${event.message}`);
  }
}

async function childrenUp(nodes: readonly Node[]): Promise<boolean> {
  for (const { runDir } of nodes) if (!(await childSas(runDir)).some((child) => child.state === 'installed')) return false;
  return true;
}

async function childSas(runDir: string): Promise<readonly ChildSa[]> {
  return (await statusOf(runDir)).childSas;
}

async function showSas({ name, runDir }: Node): Promise<void> {
  const status = await statusOf(runDir);
  say(`\nNode ${name}, cipher ${status.cipher}:`);
  for (const ike of status.ikeSas) say(`  IKE SA   ${ike.name} ${ike.state}, ${ike.local} - ${ike.peer}, ${ike.suite}`);
  for (const peer of status.kinkPeers) say(`  KINK     ${peer.name}, ${peer.local} - ${peer.peer}, epoch ${peer.epoch}`);
  for (const child of status.childSas) {
    say(
      `  child SA ${child.selector} ${child.state}, ${child.protocol} ${child.mode}, SPI in ${child.spiIn} out ${child.spiOut}, ${child.suite}`,
    );
    say(`           ${child.localSelectors.join(', ')} === ${child.peerSelectors.join(', ')}`);
  }
}

async function pings({ runDir }: Node): Promise<void> {
  say(`\nPings from A (${NODES[0].inner}) through ESP:`);
  for (let sequence = 1; sequence <= PINGS; sequence++) {
    const result = (await ask('datapath', runDir, 'ping', {
      address: NODES[0].peersInner,
      sequence,
      timeoutMs: 2_000,
    })) as PingResult;
    say(`  ${pingLine(NODES[0].peersInner, sequence, result)}`);
    if (!result.answered) throw new Error(`ping ${sequence} was not answered: ${result.why}`);
  }
}

async function showCounters({ name, runDir }: Node): Promise<void> {
  for (const child of await childSas(runDir)) {
    say(
      `  node ${name}: in ${child.packetsIn} packets, ${child.bytesIn} octets; out ${child.packetsOut} packets, ${child.bytesOut} octets`,
    );
  }
}

async function until(condition: () => Promise<boolean>, limitMs: number): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!(await condition())) {
    if (hopeless !== undefined) throw new Error(hopeless);
    if (Date.now() > deadline)
      throw new Error(`no child SA within ${limitMs / 1000} s${problems.length === 0 ? '' : `; ${problems.at(-1)}`}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

await new Command('quickstart')
  .description('Two nodes on this machine, joined by IPsec.')
  .option('--once', 'leave after the pings')
  .addOption(new Option('--protocol <word>', 'what the nodes speak').choices(Object.keys(PROTOCOLS)).default('ikev2'))
  .action(async (options: { once?: boolean; protocol: Protocol }) => {
    try {
      await quickstart(options.protocol, options.once === true);
      process.exitCode = 0;
    } catch (error) {
      if (hopeless === 'interrupted' && options.once !== true) return;
      process.stderr.write(`quick start: ${error instanceof Error ? error.message : String(error)}\n`);
      process.exitCode = 1;
    }
  })
  .parseAsync();
