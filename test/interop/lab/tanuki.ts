/** Our own suite in a namespace: policy files from a typed scenario, `tanuki up` as its own processes, and what `tanuki status` says. */
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DatapathStatus } from '../../../src/datapath-process/ports.ts';
import { type SuiteStatus, statusOf } from '../../../src/front-door/status.ts';
import type { Mode } from '../../../src/ipsec/sa.ts';
import { controlClient } from '../../../src/runtime/control.ts';
import type { Namespace } from './namespaces.ts';
import { type Program, waitUntil } from './process.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const CLI = join(ROOT, 'dist/src/cli.js');

/** A peer, in the words of `remote { ikev2 { } }` or `ikev1 { }`. Times are in seconds; what is left out keeps its default. */
export type TanukiRemote = {
  readonly name: string;
  /** The protocol (ikev2). */
  readonly kmp?: 'ikev2' | 'ikev1';
  /** Literal address, `IP_ANY` or `IP_RW`. */
  readonly peer: string;
  /** `TYPE VALUE`, e.g. `ipaddr 192.0.2.1`. */
  readonly myId: string;
  readonly peersId: string;
  readonly psk: string;
  readonly encryption: string;
  /** Not with an AEAD. */
  readonly integrity?: string;
  /** Not with IKEv1. */
  readonly prf?: string;
  readonly group: string;
  readonly dpdSeconds?: number;
  readonly retries?: number;
  readonly retrySeconds?: number;
  readonly lifeSeconds?: number;
  readonly passive?: boolean;
  readonly pfs?: boolean;
  readonly forceEncapsulation?: boolean;
};

/** One protected pair of selectors: the selector has this name and `direction both`. */
export type TanukiPolicy = {
  readonly name: string;
  readonly remote: string;
  readonly mode: Mode;
  /** Address or prefix of our side and the peer's; `protocol` as in `upper_layer_protocol`. */
  readonly local: string;
  readonly peer: string;
  readonly protocol?: string;
  /** The request id of its SAs; spmd chooses where it is absent. */
  readonly reqid?: number;
  readonly mySaAddress: string;
  readonly peersSaAddress: string;
  readonly encryption: string;
  readonly integrity?: string;
  /** AH with `integrity` instead of ESP. */
  readonly ah?: boolean;
  /** Compressed before that. Not with IKEv2. */
  readonly ipcomp?: boolean;
  /** In AH with this integrity after that. Not with IKEv2. */
  readonly inAh?: string;
  readonly replayWindow?: number;
  readonly esn?: boolean;
  readonly initiate?: 'demand' | 'start';
  readonly lifeSeconds?: number;
  readonly lifePackets?: number;
};

export type TanukiScenario = {
  /** Local IKE addresses, else the word `MY_IP`. */
  readonly ike?: readonly string[];
  readonly logLevel?: 'debug' | 'info';
  readonly backend?: 'embedded' | 'xfrm';
  /** Microseconds. */
  readonly spin?: number;
  /** The policy file as it is, for what the words below do not say. */
  readonly text?: string;
  readonly remotes: readonly TanukiRemote[];
  readonly policies: readonly TanukiPolicy[];
};

/** Why the suite cannot be started here, or undefined. */
export function tanukiMissing(): string | undefined {
  const parts = [
    CLI,
    join(ROOT, 'dist/iked/cli.js'),
    join(ROOT, 'dist/spmd/cli.js'),
    join(ROOT, 'dist/src/datapath-process/cli.js'),
  ];
  const missing = parts.filter((part) => !existsSync(part));
  return missing.length === 0 ? undefined : `not built: ${missing.join(', ')} (npm run build)`;
}

/** The text of the policy file; pre-shared keys are in `DIR/NAME.psk`. */
export function policyFile(dir: string, scenario: TanukiScenario): string {
  const line = (word: string, value: string | number | undefined, unit = '') =>
    value === undefined ? [] : [`    ${word} ${value}${unit};`];
  const flag = (word: string, value: boolean | undefined) => line(word, value === undefined ? undefined : value ? 'on' : 'off');
  const remote = (r: TanukiRemote) => [
    `remote "${r.name}" {`,
    `  acceptable_kmp ${r.kmp ?? 'ikev2'};`,
    `  ${r.kmp ?? 'ikev2'} {`,
    ...line('peers_ipaddr', r.peer),
    ...line('my_id', quoteId(r.myId)),
    ...line('peers_id', quoteId(r.peersId)),
    ...line('kmp_auth_method', 'psk'),
    ...line('pre_shared_key', `"${join(dir, `${r.name}.psk`)}"`),
    ...line('kmp_enc_alg', r.encryption),
    ...line('kmp_hash_alg', r.integrity),
    ...line('kmp_prf_alg', r.prf),
    ...line('kmp_dh_group', r.group),
    ...line('dpd_delay', r.dpdSeconds, ' sec'),
    ...(r.kmp === 'ikev1' ? line('dpd_retry', r.dpdSeconds, ' sec') : []),
    ...(r.kmp === 'ikev1' ? line('dpd_maxfail', r.retries) : []),
    ...line('max_retry_to_send', r.retries),
    ...line('interval_to_send', r.retrySeconds, ' sec'),
    ...line('kmp_sa_lifetime_time', r.lifeSeconds, ' sec'),
    ...flag('passive', r.passive),
    ...flag('need_pfs', r.pfs),
    ...flag('force_encapsulation', r.forceEncapsulation),
    '  };',
    '};',
  ];
  const policy = (p: TanukiPolicy) => [
    `selector "${p.name}" {`,
    '    direction both;',
    ...line('src', p.local),
    ...line('dst', p.peer),
    ...line('upper_layer_protocol', p.protocol),
    ...line('policy_index', `"${p.name}"`),
    ...line('reqid', p.reqid),
    '};',
    `policy "${p.name}" {`,
    '    action auto_ipsec;',
    ...line('remote_index', `"${p.remote}"`),
    ...line('ipsec_mode', p.mode),
    ...line('ipsec_index', `"${p.name}"`),
    ...line('ipsec_level', 'unique'),
    ...line('my_sa_ipaddr', p.mySaAddress),
    ...line('peers_sa_ipaddr', p.peersSaAddress),
    ...line('initiate', p.initiate),
    '};',
    `ipsec "${p.name}" {`,
    ...line('ipsec_sa_lifetime_time', p.lifeSeconds, ' sec'),
    ...line('ipsec_sa_lifetime_packets', p.lifePackets),
    ...flag('ext_sequence', p.esn),
    ...line('replay_window', p.replayWindow),
    `    sa_index { ${['', ...others(p).map(([suffix]) => suffix)].map((suffix) => `"${p.name}${suffix}";`).join(' ')} };`,
    '};',
    ...others(p).flatMap(([suffix, words]) => [`sa "${p.name}${suffix}" { ${words} };`]),
    `sa "${p.name}" {`,
    ...line('sa_protocol', p.ah ? 'ah' : 'esp'),
    ...(p.ah ? line('ah_auth_alg', p.integrity) : [...line('esp_enc_alg', p.encryption), ...line('esp_auth_alg', p.integrity)]),
    '};',
  ];
  const others = (p: TanukiPolicy): (readonly [suffix: string, words: string])[] => [
    ...(p.inAh === undefined ? [] : [['-ah', `sa_protocol ah; ah_auth_alg ${p.inAh};`] as const]),
    ...(p.ipcomp ? [['-comp', 'sa_protocol ipcomp; ipcomp_alg deflate;'] as const] : []),
  ];
  const ike = scenario.ike === undefined ? 'MY_IP' : `{ ${scenario.ike.map((address) => `${address};`).join(' ')} }`;
  const datapath = [...line('backend', scenario.backend), ...line('spin', scenario.spin)].join(' ');
  return [
    `interface { ike ${ike};${datapath === '' ? '' : ` datapath { ${datapath} };`} };`,
    `logging { level ${scenario.logLevel ?? 'debug'}; };`,
    ...scenario.remotes.flatMap(remote),
    ...scenario.policies.flatMap(policy),
    '',
  ].join('\n');
}

/** `fqdn a.example` as the language wants it: values with other characters in quotes. */
function quoteId(identity: string): string {
  const [type, ...value] = identity.split(' ');
  return `${type} "${value.join(' ')}"`;
}

/** One suite in one namespace. */
export class Tanuki {
  readonly host: Namespace;
  readonly dir: string;
  readonly file: string;
  readonly runDir: string;
  #program: Program | undefined;

  /** `dir` is a directory of its own, made here when it is absent. */
  constructor(host: Namespace, dir: string) {
    this.host = host;
    this.dir = dir;
    this.file = join(dir, 'tanuki.conf');
    this.runDir = join(dir, 'run');
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  }

  /** What the daemons logged to standard error so far. */
  get log(): string {
    return this.#program === undefined ? '' : this.#program.stdout + this.#program.stderr;
  }

  /** Writes the policy file and the key files, mode 0600. `reload` makes a running suite take it. */
  write(scenario: TanukiScenario): void {
    for (const { name, psk } of scenario.remotes) writePrivate(join(this.dir, `${name}.psk`), psk);
    writePrivate(this.file, scenario.text ?? policyFile(this.dir, scenario));
  }

  /** Starts it and waits (15 s) until all daemons answer and the datapath has a policy of each direction. */
  async start(scenario: TanukiScenario, options: readonly string[] = [], env: Record<string, string> = {}): Promise<this> {
    this.write(scenario);
    const argv = [process.execPath, CLI, 'up', '-f', this.file, '--run-dir', this.runDir, ...options];
    const program = this.host.spawn(argv, { cwd: ROOT, logFile: join(this.dir, 'tanuki.log'), env });
    this.#program = program;
    await waitUntil(
      async () => {
        if (program.finished) throw new Error(`tanuki up ended with ${program.finished.code}:\n${this.log}`);
        const status = await this.status().catch(() => undefined);
        const ready = status?.daemons.every(({ answers }) => answers) && status.policies.length >= 2 * scenario.policies.length;
        return ready && status;
      },
      15,
      () => `tanuki up with its policies installed; its log:\n${this.log.slice(-4000)}`,
      200,
    );
    return this;
  }

  /** What `tanuki status --json` prints. */
  status(): Promise<SuiteStatus> {
    return statusOf(this.runDir);
  }
  /** What the datapath itself has, down to sequence numbers. */
  async datapath(): Promise<DatapathStatus> {
    const client = await controlClient(join(this.runDir, 'datapath.control.sock'));
    try {
      return (await client.ask('status')) as DatapathStatus;
    } finally {
      client.close();
    }
  }
  /** The child SAs that carry traffic. */
  async children(): Promise<SuiteStatus['childSas']> {
    return (await this.status()).childSas.filter(({ state }) => state === 'installed');
  }
  /** The established IKE SAs. */
  async ikeSas(): Promise<SuiteStatus['ikeSas']> {
    return (await this.status()).ikeSas.filter(({ state }) => state === 'established');
  }
  /** Negotiates what a selector, policy or remote names, and waits for it. */
  async initiate(name: string): Promise<void> {
    await this.#command(['initiate', name, '--timeout', '20']);
  }
  async terminate(name: string): Promise<void> {
    await this.#command(['terminate', name]);
  }
  /** Begins rekeying. */
  async rekey(name: string, what: 'child' | 'ike'): Promise<void> {
    await this.#command(['rekey', name, ...(what === 'ike' ? ['--ike'] : [])]);
  }
  async reload(): Promise<void> {
    await this.#command(['reload']);
  }
  /** The event stream as a program: its `stdout` has one JSON object a line. */
  events(): Program {
    return this.host.spawn([process.execPath, CLI, 'events', '--json', '--run-dir', this.runDir]);
  }

  /** SIGKILL for one daemon, by the pid that `status` gives. */
  async killDaemon(name: 'datapath' | 'spmd' | 'iked' | 'kinkd'): Promise<void> {
    const pid = (await this.status()).daemons.find((daemon) => daemon.name === name)?.pid;
    if (pid === undefined) throw new Error(`status gives no pid for ${name}`);
    process.kill(pid, 'SIGKILL');
  }
  /** Waits until a daemon that was killed runs again and answers. */
  async restarted(name: 'datapath' | 'spmd' | 'iked' | 'kinkd', seconds = 10): Promise<void> {
    await waitUntil(
      async () =>
        (await this.status().catch(() => undefined))?.daemons.some(
          (daemon) => daemon.name === name && daemon.restarts > 0 && daemon.answers,
        ),
      seconds,
      () => `${name} started again; the log:\n${this.log.slice(-3000)}`,
      100,
    );
  }

  /** SIGTERM: it deletes its SAs at the peers, and undoes what it did to the host. */
  async stop(): Promise<void> {
    const finished = await this.#program?.stop(10);
    if (finished && finished.code !== 0)
      throw new Error(`tanuki up ended with ${finished.signal ?? finished.code}:\n${this.log.slice(-4000)}`);
  }

  async #command(words: readonly string[], timeout = 40): Promise<string> {
    const { code, stdout, stderr } = await this.host.exec([process.execPath, CLI, ...words, '--run-dir', this.runDir], {
      timeout,
    });
    if (code !== 0)
      throw new Error(`tanuki ${words.join(' ')} ended with ${code}: ${stderr}${stdout}\nthe log:\n${this.log.slice(-3000)}`);
    return stdout;
  }
}

function writePrivate(path: string, text: string): void {
  writeFileSync(path, text, { mode: 0o600 });
  chmodSync(path, 0o600);
}
