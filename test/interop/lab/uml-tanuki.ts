/** Our own suite with `backend xfrm` in one namespace of a user-mode-linux guest, charon in another: two hosts of one real kernel. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { SuiteStatus } from '../../../src/front-door/status.ts';
import { waitUntil } from './process.ts';
import { policyFile, type TanukiScenario } from './tanuki.ts';
import type { UmlGuest } from './uml.ts';

const CLI = fileURLToPath(new URL('../../../dist/src/cli.js', import.meta.url));
const RELAY = fileURLToPath(new URL('./udp-relay.mjs', import.meta.url));
const RUN_DIR = '/tmp/tanuki';
const LOG = '/tmp/tanuki.log';
export const LEFT = 'left';
export const RIGHT = 'right';

/** The namespaces, a cable between them (`eth0` at both ends), and addresses on it and on a device behind each host. */
export async function twoHosts(
  guest: UmlGuest,
  addresses: Readonly<Record<'left' | 'right', { readonly outer: readonly string[]; readonly inner: readonly string[] }>>,
): Promise<void> {
  const host = (name: 'left' | 'right') => [
    `ip -n ${name} link set lo up; ip -n ${name} link set eth0 up`,
    `ip -n ${name} link add inside type dummy && ip -n ${name} link set inside up`,
    ...addresses[name].outer.map((address) => `ip -n ${name} address add ${address} dev eth0 nodad`),
    ...addresses[name].inner.map((address) => `ip -n ${name} address add ${address} dev inside nodad`),
    `ip netns exec ${name} sysctl -qw net.core.xfrm_acq_expires=3 net.core.xfrm_larval_drop=0`,
  ];
  await guest.must(
    [
      'set -e; mkdir -p /run/netns',
      `ip netns add ${LEFT}; ip netns add ${RIGHT}`,
      `ip link add eth0 netns ${LEFT} type veth peer name eth0 netns ${RIGHT}`,
      ...host(LEFT),
      ...host(RIGHT),
    ].join('\n'),
  );
}

/** A cable each from `left` and `right` to a host between them, where a NAT of UDP's ports runs, its pid in /tmp/relay.pid. */
export async function natBetween(
  guest: UmlGuest,
  nat: {
    readonly left: { readonly outer: string };
    readonly right: { readonly outer: string };
    readonly near: string;
    readonly far: string;
  },
): Promise<void> {
  await guest.must(`set -e; ip netns add middle; ip -n middle link set lo up
ip link add eth1 netns left type veth peer name near netns middle
ip link add eth1 netns right type veth peer name far netns middle
for end in left/eth1/${nat.left.outer} right/eth1/${nat.right.outer} middle/near/${nat.near} middle/far/${nat.far}; do
  IFS=/ read name device address <<< $end
  ip -n $name link set $device up
  ip -n $name address add $address/24 dev $device
done
(ip netns exec middle ${process.execPath} ${RELAY} ${nat.far} ${nat.near} ${nat.left.outer} > /tmp/relay.log 2>&1 < /dev/null & echo $! > /tmp/relay.pid)`);
}

export class UmlTanuki {
  readonly guest: UmlGuest;
  /** Of its configuration; the guest and the host see it at the same path. */
  readonly dir: string;
  readonly #within: string;

  /** In the guest's first namespace, or another. */
  constructor(guest: UmlGuest, namespace?: string) {
    this.guest = guest;
    this.#within = namespace === undefined ? '' : `ip netns exec ${namespace} `;
    this.dir = join(guest.dir, 'tanuki');
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
  }

  write(scenario: TanukiScenario): void {
    for (const { name, psk } of scenario.remotes) this.#private(`${name}.psk`, psk);
    this.#private('tanuki.conf', scenario.text ?? policyFile(this.dir, scenario));
  }

  /** Starts it and waits (40 s: the guest is slow) until its policies are in the kernel. */
  async start(scenario: TanukiScenario): Promise<this> {
    this.write(scenario);
    await this.guest.must(
      `(${this.#within}${process.execPath} ${CLI} up -f ${join(this.dir, 'tanuki.conf')} --run-dir ${RUN_DIR} > ${LOG} 2>&1 < /dev/null & echo $! > /tmp/tanuki.pid)`,
    );
    let seen = '';
    await waitUntil(
      async () => {
        const status = await this.status().catch((error: Error) => {
          seen = error.message;
        });
        seen = JSON.stringify(status) ?? seen;
        return status?.daemons.every(({ answers }) => answers) && status.policies.length >= 2 * scenario.policies.length;
      },
      40,
      () => `tanuki up in the guest, which says ${seen}`,
      200,
    ).catch(async (error: Error) => {
      throw new Error(`${error.message}\n${(await this.log()).slice(-4000)}`);
    });
    return this;
  }

  async status(): Promise<SuiteStatus> {
    return JSON.parse(await this.command('status --json'));
  }

  /** One command of the front door. */
  async command(words: string, seconds = 40): Promise<string> {
    const script = `${process.execPath} ${CLI} ${words} --run-dir ${RUN_DIR}`;
    const { code, stdout, stderr } = await this.guest.exec(script, seconds);
    if (code !== 0)
      throw new Error(`tanuki ${words} ended with ${code}: ${stderr}${stdout}\nthe log:\n${(await this.log()).slice(-4000)}`);
    return stdout;
  }

  log(): Promise<string> {
    return this.guest.must(`cat ${LOG}`);
  }

  /** SIGTERM, and waits until it has undone what it did. */
  async stop(): Promise<void> {
    await this.guest.must(
      `kill $(cat /tmp/tanuki.pid); for i in $(seq 200); do [ -d /proc/$(cat /tmp/tanuki.pid) ] || exit 0; sleep 0.05; done; exit 1`,
    );
  }

  #private(name: string, text: string): void {
    const path = join(this.dir, name);
    writeFileSync(path, text, { mode: 0o600 });
    chmodSync(path, 0o600);
  }
}
