/** A user-mode-linux guest: a real Linux kernel with ESP, AH and XFRM, joined to a namespace by a tap and driven by commands. */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type CharonChildSa,
  type CharonConnection,
  type CharonIkeSa,
  type CharonOptions,
  parseRawSas,
  strongswanConf,
  swanctlConf,
} from './charon.ts';
import { addOuter, type Host, type HostAddresses } from './namespaces.ts';
import { type Finished, must, type Program, waitUntil } from './process.ts';

const MODULES = '/usr/lib/uml/modules';
const TAP = 'uml0';
const BULK = fileURLToPath(new URL('./bulk.mjs', import.meta.url));

/** Why no guest can be booted here, or undefined. */
export function umlMissing(): string | undefined {
  if (!existsSync('/usr/bin/linux.uml') || !existsSync(MODULES)) return 'not installed: user-mode-linux';
  return existsSync('/usr/sbin/modprobe') || existsSync('/sbin/modprobe') ? undefined : 'not installed: kmod';
}

/**
 * A running guest. It sees the host's file system read-only and `dir` writable at the same path; its interface has `addresses`, the tap
 * at the other end is the `host` namespace's device `uml0` with that namespace's outer addresses. Open the lab with `link: false`.
 */
export class UmlGuest {
  readonly dir: string;
  readonly addresses: HostAddresses;
  readonly #program: Program;
  #commands = 0;
  #programs = 0;

  private constructor(program: Program, dir: string, addresses: HostAddresses) {
    this.#program = program;
    this.dir = dir;
    this.addresses = addresses;
  }

  /** Boots it and waits (30 s) until it takes commands. `modules` are loaded first. */
  static async boot(
    host: Host,
    dir: string,
    addresses: HostAddresses,
    modules: readonly string[] = MODULE_NAMES,
  ): Promise<UmlGuest> {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    await must(['ip', '-n', host.name, 'tuntap', 'add', TAP, 'mode', 'tap']);
    await addOuter(host, TAP);
    writeFileSync(join(dir, 'init.sh'), initScript(dir, addresses, modules), { mode: 0o755 });
    writeFileSync(join(dir, 'modprobe'), `#!/bin/sh\nPATH=/usr/sbin:/sbin:/usr/bin:/bin exec modprobe -d /tmp/root "$@"\n`, {
      mode: 0o755,
    });
    const options = ['mem=256M', 'rootfstype=hostfs', 'rootflags=/', 'ro', `init=${join(dir, 'init.sh')}`, 'quiet', 'loglevel=3'];
    const consoles = ['con0=null,fd:1', 'con=null', 'ssl=null', `vec0:transport=tap,ifname=${TAP},depth=128,gro=0`];
    const program = host.spawn(['/usr/bin/linux.uml', ...options, ...consoles], { env: { TMPDIR: '/tmp' } });
    const guest = new UmlGuest(program, dir, addresses);
    await program.waitFor(() => existsSync(join(dir, 'ready')), 30, 'a booted guest');
    return guest;
  }

  /** What the guest's console showed. */
  get console(): string {
    return this.#program.stdout + this.#program.stderr;
  }

  /** Runs a bash script in the guest, at most `seconds` (30). Commands run one after the other. */
  async exec(script: string, seconds = 30): Promise<Finished> {
    const number = ++this.#commands;
    const file = join(this.dir, `command-${number}`);
    writeFileSync(`${file}.new`, script);
    renameSync(`${file}.new`, file);
    await this.#program.waitFor(() => existsSync(`${file}.done`), seconds, `the guest's answer to: ${script}`);
    const read = (kind: string) => readFileSync(`${file}.${kind}`, 'utf8');
    return { code: Number(read('code')), signal: null, stdout: read('out'), stderr: read('err') };
  }
  /** Like `exec`, and fails unless it ends with 0. */
  async must(script: string, seconds = 30): Promise<string> {
    const { code, stdout, stderr } = await this.exec(script, seconds);
    if (code !== 0) throw new Error(`the guest's command ended with ${code}: ${script}\n${stdout}${stderr}`);
    return stdout;
  }

  /** Twenty pings a second from a namespace of the guest, until it is stopped. */
  async pings(namespace: string, from: string, to: string): Promise<GuestPings> {
    const file = `/tmp/pings-${++this.#programs}`;
    await this.#background(`ip netns exec ${namespace} ping -n -I ${from} -i 0.05 ${to}`, file);
    return {
      stop: async () => {
        const printed = await this.#interrupt(file);
        const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(printed) ?? [];
        if (sent === undefined) throw new Error(`ping printed no summary: ${printed}`);
        // The last one may be on its way.
        const last = Math.max(...[...printed.matchAll(/icmp_seq=(\d+) /g)].map(([, seq]) => Number(seq)));
        return { sent: Number(sent), lost: (Number(sent) - last <= 2 ? last : Number(sent)) - Number(received) };
      },
    };
  }

  /** A transfer between two of its namespaces at a rate in Mbit/s, until it is finished. */
  async transfer(
    sender: { readonly name: string; readonly address: string },
    receiver: { readonly name: string; readonly address: string },
    mbitPerSecond: number,
  ): Promise<GuestTransfer> {
    const port = 5300 + ++this.#programs;
    const [served, sent] = [`/tmp/served-${port}`, `/tmp/sent-${port}`];
    const bulk = `${process.execPath} ${BULK}`;
    await this.#background(`ip netns exec ${receiver.name} ${bulk} serve ${receiver.address} ${port}`, served);
    await this.must(`for i in $(seq 200); do grep -q listening ${served} && exit 0; sleep 0.05; done; cat ${served}; exit 1`);
    const { address } = sender;
    await this.#background(
      `ip netns exec ${sender.name} ${bulk} send ${address} ${receiver.address} ${port} ${1e9} ${mbitPerSecond}`,
      sent,
    );
    return { finish: async () => JSON.parse(await this.#interrupt(sent)) };
  }

  /** `ip netns exec` becomes what it starts: the pid is the program's. */
  async #background(command: string, file: string): Promise<void> {
    await this.must(`(${command} > ${file} 2>&1 < /dev/null & echo $! > ${file}.pid)`);
  }

  /** SIGINT, and what it printed by its end. */
  #interrupt(file: string): Promise<string> {
    return this.must(
      `pid=$(cat ${file}.pid); kill -INT $pid; for i in $(seq 400); do [ -d /proc/$pid ] || break; sleep 0.05; done; cat ${file}`,
    );
  }

  /** Powers it off; kills it when that takes more than 5 s. */
  async close(): Promise<void> {
    writeFileSync(join(this.dir, 'power-off'), '');
    try {
      await waitUntil(() => this.#program.finished, 5, 'the guest powered off');
    } catch {
      await this.#program.stop(0);
    }
  }
}

export interface GuestPings {
  /** How many were sent and not answered, but for one that was on its way. */
  stop(): Promise<{ readonly sent: number; readonly lost: number }>;
}

export interface GuestTransfer {
  finish(): Promise<{ readonly octets: number; readonly intact: boolean }>;
}

const MODULE_NAMES =
  'esp4 esp6 ah4 ah6 ipcomp ipcomp6 deflate xfrm_user af_key tun dummy gcm ccm ctr cbc chacha20poly1305 sha256 sha512 cmac xcbc seqiv echainiv authenc authencesn'.split(
    ' ',
  );

/** The guest's first process: file systems, modules, addresses, then commands from `dir` until the file `power-off` appears. */
function initScript(dir: string, { outer, inner }: HostAddresses, modules: readonly string[]): string {
  return `#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/keep
mount -t hostfs hostfs /run/keep -o ${dir}
mount -t tmpfs tmpfs /tmp
mkdir -p ${dir} /tmp/root/lib/modules
mount --move /run/keep ${dir}
mount --bind ${MODULES} /tmp/root/lib/modules
echo ${dir}/modprobe > /proc/sys/kernel/modprobe
for module in ${modules.join(' ')}; do ${dir}/modprobe -q $module || echo $module >> ${dir}/modules-missing; done
mount -t tmpfs tmpfs /dev 2>/dev/null
mkdir -p /dev/net && mknod /dev/net/tun c 10 200; mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9; mknod -m 666 /dev/random c 1 8
ln -s /proc/self/fd /dev/fd
echo 3 > /proc/sys/net/core/xfrm_acq_expires
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
ip link set lo up
ip link set vec0 up
ip address add ${outer.v4}/24 dev vec0
ip address add ${outer.v6}/64 dev vec0 nodad
ip link add inside type dummy && ip link set inside up
ip address add ${inner.v4}/24 dev inside
ip address add ${inner.v6}/64 dev inside nodad
cd ${dir}
echo > ready
number=1
while [ ! -e power-off ]; do
  if [ -e command-$number ]; then
    bash command-$number > /tmp/out 2> /tmp/err < /dev/null
    echo $? > command-$number.code
    cp /tmp/out command-$number.out
    cp /tmp/err command-$number.err
    sync
    echo > command-$number.done
    number=$((number + 1))
  else
    sleep 0.05
  fi
done
sync
echo 1 > /proc/sys/kernel/sysrq
echo o > /proc/sysrq-trigger
sleep 5
`;
}

/** charon in a guest over the real kernel's ESP (`kernel-netlink`): raw ESP, tunnel and transport mode. Controlled by swanctl inside. */
export class UmlCharon {
  readonly guest: UmlGuest;
  readonly #dir: string;
  /** What puts a command into its namespace; empty: the guest's first. */
  readonly #within: string;

  constructor(guest: UmlGuest, options: Omit<CharonOptions, 'kernel'> & { readonly namespace?: string } = {}) {
    this.guest = guest;
    this.#within = options.namespace === undefined ? '' : `ip netns exec ${options.namespace} `;
    this.#dir = join(guest.dir, 'charon');
    mkdirSync(this.#dir, { recursive: true });
    writeFileSync(join(this.#dir, 'strongswan.conf'), strongswanConf('/tmp', { ...options, kernel: 'netlink' }));
  }

  async start(connections: readonly CharonConnection[]): Promise<void> {
    writeFileSync(join(this.#dir, 'swanctl.conf'), swanctlConf(connections), { mode: 0o600 });
    await this.guest.must(`${this.#env()}
      (${this.#within}/usr/sbin/charon-systemd > /tmp/charon.out 2>&1 < /dev/null & echo $! > /tmp/charon.pid)
      for i in $(seq 100); do [ -S /tmp/charon.vici ] && break; sleep 0.05; done
      ${this.#swanctl('--load-all')}`);
  }
  async initiate(child: string, seconds = 20): Promise<void> {
    await this.#must(`--initiate --child ${child} --timeout ${seconds}`);
  }
  async terminate(ike: string): Promise<void> {
    await this.#must(`--terminate --ike ${ike} --timeout 10`);
  }
  async rekey(what: { readonly child: string } | { readonly ike: string }): Promise<void> {
    await this.#must('child' in what ? `--rekey --child ${what.child}` : `--rekey --ike ${what.ike}`);
  }
  async kill(): Promise<void> {
    await this.guest.must(
      `kill -9 $(cat /tmp/charon.pid); ${this.#within}ip xfrm state flush; ${this.#within}ip xfrm policy flush`,
    );
  }
  log(): Promise<string> {
    return this.guest.must('cat /tmp/charon.log');
  }
  async sas(): Promise<readonly CharonIkeSa[]> {
    return parseRawSas(await this.#must('--list-sas --raw'));
  }
  async children(): Promise<readonly CharonChildSa[]> {
    return (await this.sas()).flatMap(({ children }) => children).filter(({ state }) => state === 'INSTALLED');
  }
  /** The kernel's own view of its SAs (no keys). */
  xfrmState(): Promise<string> {
    return this.guest.must(`${this.#within}ip -s xfrm state list nokeys`);
  }

  async #must(words: string): Promise<string> {
    const { code, stdout, stderr } = await this.guest.exec(`${this.#env()}\n${this.#swanctl(words)}`);
    if (code !== 0)
      throw new Error(`swanctl ${words} in the guest ended with ${code}\n${stdout}${stderr}${(await this.log()).slice(-3000)}`);
    return stdout;
  }
  #env(): string {
    return `export STRONGSWAN_CONF=${this.#dir}/strongswan.conf SWANCTL_DIR=${this.#dir}`;
  }
  #swanctl(words: string): string {
    return `swanctl ${words} --uri unix:///tmp/charon.vici`;
  }
}
