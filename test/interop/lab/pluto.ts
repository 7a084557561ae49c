/** libreswan's pluto in a guest, over the real kernel's ESP. Its package conflicts with strongSwan's: `.ci/run` unpacks it beside the system. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { must, waitUntil } from './process.ts';
import type { UmlGuest } from './uml.ts';

const UNPACKED = '/var/cache/tanuki-interop/libreswan/usr/libexec/ipsec';
/** Where it looks for its own programs: in the guest they are there. */
const PROGRAMS = '/usr/libexec/ipsec';
const CERTUTIL = '/usr/bin/certutil';

/** Why it cannot be run here, or undefined. */
export function plutoMissing(): string | undefined {
  if (!existsSync(join(UNPACKED, 'pluto'))) return `not unpacked: libreswan (.ci/run --packages-only puts it under ${UNPACKED})`;
  return existsSync(CERTUTIL) ? undefined : 'not installed: libnss3-tools';
}

/** A tunnel by IKEv1 with a pre-shared key, in ipsec.conf's words. `left` is pluto. */
export type PlutoConnection = {
  readonly name: string;
  readonly left: string;
  readonly leftSubnet: string;
  readonly right: string;
  readonly rightSubnet: string;
  readonly psk: string;
  /** `aes256-sha2_256-modp2048`. */
  readonly ike: string;
  readonly esp: string;
  /** Of AH, instead of ESP: `sha1`. */
  readonly ah?: string;
  /** IPComp inside of it. */
  readonly compress?: boolean;
  readonly pfs: boolean;
};

export class Pluto {
  readonly #guest: UmlGuest;
  readonly #dir: string;

  constructor(guest: UmlGuest) {
    this.#guest = guest;
    this.#dir = join(guest.dir, 'pluto');
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
  }

  /** What it logged so far. */
  get log(): string {
    const path = join(this.#dir, 'pluto.log');
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  /** Starts it with these connections loaded; routes to the peer's subnets must be there. */
  async start(connections: readonly PlutoConnection[]): Promise<this> {
    writeFileSync(join(this.#dir, 'ipsec.conf'), ipsecConf(connections));
    const secrets = connections.map(({ left, right, psk }) => `${left} ${right} : PSK "${psk}"\n`);
    writeFileSync(join(this.#dir, 'ipsec.secrets'), [...new Set(secrets)].join(''), { mode: 0o600 });
    await must([CERTUTIL, '-N', '-d', `sql:${this.#dir}`, '--empty-password']);
    const files = `--config ${this.#dir}/ipsec.conf --secretsfile ${this.#dir}/ipsec.secrets --nssdir ${this.#dir} --rundir /run/pluto`;
    await this.#guest.must(`set -e
      # The first SA of a kind loads modules, which takes seconds: its SPI must last as long.
      echo 30 > /proc/sys/net/core/xfrm_acq_expires
      mount -t tmpfs tmpfs /usr/libexec
      mkdir -p /run/pluto ${PROGRAMS}
      mount --bind ${UNPACKED} ${PROGRAMS}
      (${PROGRAMS}/pluto --nofork --nhelpers 0 --no-dnssec --logfile ${this.#dir}/pluto.log ${files} > /tmp/pluto.out 2>&1 < /dev/null &)
      for i in $(seq 200); do [ -S /run/pluto/pluto.ctl ] && break; sleep 0.05; done
      [ -S /run/pluto/pluto.ctl ] || { cat /tmp/pluto.out; exit 1; }
      ${PROGRAMS}/addconn --config ${this.#dir}/ipsec.conf --ctlsocket /run/pluto/pluto.ctl ${connections.map(({ name }) => name).join(' ')}
      ${whack('--listen')}`);
    return this;
  }

  /** Begins a connection and waits until its tunnel is there. */
  async initiate(name: string): Promise<void> {
    const before = this.established(name);
    await this.#guest.exec(whack(`--initiate --name ${name} --asynchronous`));
    await waitUntil(
      () => this.established(name) > before,
      20,
      () => `pluto's tunnel ${name}; its log:\n${this.log.slice(-3000)}`,
    );
  }
  async terminate(name: string): Promise<void> {
    await this.#guest.must(whack(`--terminate --name ${name}`));
  }
  /** How many Quick Modes of a connection have come to their end. */
  established(name: string): number {
    return [...this.log.matchAll(/"(\w+)" #\d+: .*IPsec SA established/g)].filter(([, of]) => of === name).length;
  }
}

function whack(words: string): string {
  return `${PROGRAMS}/whack --ctlsocket /run/pluto/pluto.ctl ${words}`;
}

function ipsecConf(connections: readonly PlutoConnection[]): string {
  const connection = (c: PlutoConnection) => `conn ${c.name}
  ikev2=no
  authby=secret
  left=${c.left}
  leftsubnet=${c.leftSubnet}
  leftupdown=%disabled
  right=${c.right}
  rightsubnet=${c.rightSubnet}
  ike=${c.ike}
  ${c.ah === undefined ? `esp=${c.esp}` : `phase2=ah\n  ah=${c.ah}`}
  compress=${c.compress ? 'yes' : 'no'}
  pfs=${c.pfs ? 'yes' : 'no'}
  auto=ignore
`;
  return `config setup
  protostack=xfrm
  ikev1-policy=accept
  uniqueids=yes

${connections.map(connection).join('\n')}`;
}
