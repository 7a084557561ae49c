/** Network namespaces joined by a veth: two hosts with outer and inner addresses, and everything undone at the end. */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Finished, must, Program, run, type SpawnOptions } from './process.ts';

/** Which family an address is of. */
export type Family = 'v4' | 'v6';

/** A host's addresses: `outer` on the link between the two, `inner` behind it (on a device of its own) for tunnel tests. */
export type HostAddresses = {
  readonly outer: Record<Family, string>;
  readonly inner: Record<Family, string>;
  readonly net: Record<Family, string>;
};

/** The two hosts' addresses, the same in every lab: RFC 5737 and RFC 3849 outside, private ones inside. */
export const ADDRESSES: { readonly a: HostAddresses; readonly b: HostAddresses } = {
  a: {
    outer: { v4: '192.0.2.1', v6: '2001:db8::1' },
    inner: { v4: '10.91.1.1', v6: 'fd91:1::1' },
    net: { v4: '10.91.1.0/24', v6: 'fd91:1::/64' },
  },
  b: {
    outer: { v4: '192.0.2.2', v6: '2001:db8::2' },
    inner: { v4: '10.91.2.1', v6: 'fd91:2::1' },
    net: { v4: '10.91.2.0/24', v6: 'fd91:2::/64' },
  },
};

/** The link's prefixes. */
export const LINK = { v4: '192.0.2.0/24', v6: '2001:db8::/64' } as const;

/** One network namespace with its programs. */
export class Namespace {
  readonly name: string;
  readonly #programs: Program[] = [];

  constructor(name: string) {
    this.name = name;
  }

  /** Runs a program in here to its end; `timeout` in seconds (20). */
  exec(argv: readonly string[], options: SpawnOptions & { readonly timeout?: number } = {}): Promise<Finished> {
    return run(this.#inside(argv), options);
  }
  /** Like `exec`, and fails unless it ends with 0. */
  must(argv: readonly string[], options: SpawnOptions & { readonly timeout?: number } = {}): Promise<string> {
    return must(this.#inside(argv), options);
  }
  /** Starts a program in here. Its pid is the program's own (`ip netns exec` replaces itself); it is killed with the lab. */
  spawn(argv: readonly string[], options: SpawnOptions = {}): Program {
    const program = new Program(this.#inside(argv), options);
    this.#programs.push(program);
    return program;
  }
  /** `ip` in here, e.g. `ip('link set eth0 up')`; fails unless it ends with 0. */
  ip(words: string): Promise<string> {
    return must(['ip', '-n', this.name, ...words.split(' ')]);
  }
  /** Writes `net.*` settings, e.g. `sysctl({ 'ipv4/ip_forward': 1 })`. */
  async sysctl(settings: Record<string, string | number>): Promise<void> {
    const lines = Object.entries(settings).map(([name, value]) => `echo ${value} > /proc/sys/net/${name}`);
    await this.must(['sh', '-ec', lines.join('\n')]);
  }
  /** Ends every program that was started here: SIGTERM, then SIGKILL. */
  async endPrograms(): Promise<void> {
    await Promise.all(this.#programs.splice(0).map((program) => program.stop(2)));
  }

  #inside(argv: readonly string[]): string[] {
    return ['ip', 'netns', 'exec', this.name, ...argv];
  }
}

/** One of the two hosts that protect their traffic. */
export class Host extends Namespace {
  readonly addresses: HostAddresses;

  constructor(name: string, addresses: HostAddresses) {
    super(name);
    this.addresses = addresses;
  }
}

let labs = 0;
const LOGS = join(tmpdir(), 'tanuki-interop-logs');

export type LabOptions = { readonly link?: boolean; readonly tcpBufferBytes?: number; readonly label?: string };

/** Two hosts `a` and `b` and a directory for files, all gone after `close`. */
export class Lab {
  readonly a: Host;
  readonly b: Host;
  /** A directory of mode 0700 for configuration, sockets and logs. */
  readonly dir: string;

  readonly #logs: string;
  readonly #others: Namespace[] = [];

  private constructor(a: Host, b: Host, dir: string, logs: string) {
    this.a = a;
    this.b = b;
    this.dir = dir;
    this.#logs = logs;
  }

  /**
   * Makes both namespaces and what is in them; first removes what a run that died has left. `link: false` leaves out the veth.
   * TCP's receive buffer is held to `tcpBufferBytes`: a window below what a peer's UDP socket can queue (about 90 packets) loses
   * nothing, so that both sides' counters must be equal. 0 leaves the system's own, for measuring throughput.
   */
  static async open({ link = true, tcpBufferBytes = 131_072, label = `lab-${labs + 1}` }: LabOptions = {}): Promise<Lab> {
    await removeLeftovers();
    const prefix = `tnk-${process.pid}-${++labs}`;
    const lab = new Lab(
      new Host(`${prefix}-a`, ADDRESSES.a),
      new Host(`${prefix}-b`, ADDRESSES.b),
      mkdtempSync(join(tmpdir(), `${prefix}-`)),
      join(LOGS, label.replace(/[^\w.+-]+/g, '-')),
    );
    try {
      for (const host of [lab.a, lab.b]) {
        await make(host);
        if (tcpBufferBytes > 0) await host.sysctl({ 'ipv4/tcp_rmem': `4096 ${tcpBufferBytes / 2} ${tcpBufferBytes}` });
      }
      if (link) {
        await cable(lab.a, 'eth0', lab.b, 'eth0');
        await Promise.all([lab.a, lab.b].map((host) => addOuter(host, 'eth0')));
      }
      await Promise.all([lab.a, lab.b].map(addInner));
    } catch (error) {
      await lab.close();
      throw error;
    }
    return lab;
  }

  /** Another namespace, without addresses: a router, or who watches. It forwards packets. */
  async other(name: string): Promise<Namespace> {
    const other = new Namespace(this.a.name.replace(/a$/, name));
    this.#others.push(other);
    await make(other);
    await other.sysctl({ 'ipv4/ip_forward': 1, 'ipv6/conf/all/forwarding': 1 });
    return other;
  }

  /**
   * Ends the programs, removes the namespaces (and with them the links, routes and rules) and the directory; the logs in it are kept
   * under `tanuki-interop-logs/LABEL` of the system's temporary directory until the next lab of this label ends.
   */
  async close(): Promise<void> {
    for (const host of [this.a, this.b, ...this.#others]) {
      await host.endPrograms();
      await removeNamespace(host.name);
    }
    rmSync(this.#logs, { recursive: true, force: true });
    for (const file of readdirSync(this.dir, { recursive: true, encoding: 'utf8' })) {
      if (!/\.(log|conf)$/.test(file)) continue;
      mkdirSync(this.#logs, { recursive: true });
      copyFileSync(join(this.dir, file), join(this.#logs, file.replaceAll('/', '-')));
    }
    rmSync(this.dir, { recursive: true, force: true });
  }
}

async function make(host: Namespace): Promise<void> {
  await must(['ip', 'netns', 'add', host.name]);
  await host.sysctl({
    'ipv6/conf/default/accept_dad': 0,
    'ipv4/conf/all/promote_secondaries': 1,
    'ipv4/conf/all/rp_filter': 0,
    'ipv4/conf/default/rp_filter': 0,
  });
  await host.ip('link set lo up');
}

/** A cable between two namespaces, both of its ends up. */
export async function cable(one: Namespace, device: string, other: Namespace, otherDevice: string): Promise<void> {
  await one.ip(`link add ${device} type veth peer name ${otherDevice} netns ${other.name}`);
  await one.ip(`link set ${device} up`);
  await other.ip(`link set ${otherDevice} up`);
}

/** Gives `device` the host's outer addresses and brings it up. */
export async function addOuter(host: Host, device: string): Promise<void> {
  const { v4, v6 } = host.addresses.outer;
  await host.ip(`link set ${device} up`);
  await host.ip(`address add ${v4}/24 dev ${device}`);
  await host.ip(`address add ${v6}/64 dev ${device} nodad`);
}

async function addInner(host: Host): Promise<void> {
  const { v4, v6 } = host.addresses.inner;
  const dummy = await run(['ip', '-n', host.name, 'link', 'add', 'inside', 'type', 'dummy']);
  const device = dummy.code === 0 ? 'inside' : 'lo';
  if (device === 'inside') await host.ip(`link set ${device} up`);
  await host.ip(`address add ${v4}/24 dev ${device}`);
  await host.ip(`address add ${v6}/64 dev ${device} nodad`);
}

async function removeNamespace(name: string): Promise<void> {
  const { stdout, code } = await run(['ip', 'netns', 'pids', name]);
  if (code !== 0) return;
  for (const pid of stdout.split('\n').map(Number)) {
    if (pid > 0 && pid !== process.pid) kill(pid);
  }
  await run(['ip', 'netns', 'delete', name]);
}

/** Namespaces and directories are named after the process that made them; where that one is gone, its run died. */
async function removeLeftovers(): Promise<void> {
  const names = existsSync('/run/netns') ? readdirSync('/run/netns') : [];
  for (const name of names) if (isLeftover(name)) await removeNamespace(name);
  for (const name of readdirSync(tmpdir())) if (isLeftover(name)) rmSync(join(tmpdir(), name), { recursive: true, force: true });
}

function isLeftover(name: string): boolean {
  const pid = /^tnk-(\d+)-\d+-/.exec(name)?.[1];
  return pid !== undefined && !existsSync(`/proc/${pid}`);
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Why namespaces cannot be used here, or undefined: then what needs them is skipped with this reason. */
export function namespacesMissing(...programs: readonly string[]): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root for network namespaces';
  if (!existsSync('/dev/net/tun')) return 'needs /dev/net/tun';
  const path = ['/usr/sbin', '/usr/bin', '/sbin', '/bin', ...(process.env.PATH ?? '').split(':')];
  const missing = ['ip', 'ping', ...programs].filter((program) => !path.some((folder) => existsSync(join(folder, program))));
  return missing.length === 0 ? undefined : `not installed: ${missing.join(', ')} (.ci/run installs the Debian packages)`;
}
