/** strongSwan's charon in a namespace: its configuration from a typed description, control over VICI, its SAs as objects. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Mode } from '../../../src/ipsec/sa.ts';
import type { Namespace } from './namespaces.ts';
import { type Program, waitUntil } from './process.ts';
import { type Message, Vici } from './vici.ts';

/** A child of a connection, in swanctl.conf's words. `esp` is a comma list of suites; times are in seconds and 0 means never. */
export type CharonChild = {
  readonly name: string;
  readonly esp: string;
  /** Of AH, instead of ESP. */
  readonly ah?: string;
  /** Compressed before that. */
  readonly ipcomp?: boolean;
  readonly mode?: Mode;
  readonly localTs?: readonly string[];
  readonly remoteTs?: readonly string[];
  readonly start?: 'none' | 'start' | 'trap';
  readonly dpdAction?: 'clear' | 'trap' | 'restart';
  readonly closeAction?: 'none' | 'trap' | 'start';
  readonly rekeySeconds?: number;
  readonly lifeSeconds?: number;
  readonly rekeyBytes?: number;
  readonly rekeyPackets?: number;
};

/** A connection authenticated by a pre-shared key. `remote` may be `%any`. */
export type CharonConnection = {
  /** Of IKE; 2 unless it is said. */
  readonly version?: 1 | 2;
  readonly name: string;
  readonly local: string;
  readonly remote: string;
  readonly localId: string;
  readonly remoteId: string;
  readonly psk: string;
  readonly ike: string;
  readonly children: readonly CharonChild[];
  readonly dpdSeconds?: number;
  /** IKEv1: how long without an answer the peer counts as alive. */
  readonly dpdTimeoutSeconds?: number;
  readonly rekeySeconds?: number;
  readonly encap?: boolean;
  readonly mobike?: boolean;
  readonly unique?: 'no' | 'never' | 'keep' | 'replace';
};

/** How this charon is to run. `strongswan` is added to its section of strongswan.conf. */
export type CharonOptions = {
  /** `libipsec`: userspace ESP behind a TUN, always in UDP. `netlink`: the kernel's own. */
  readonly kernel?: 'libipsec' | 'netlink';
  /** The first retransmission after this many seconds (4), times 1.8 for each further one. */
  readonly retransmitSeconds?: number;
  readonly retransmitTries?: number;
  readonly strongswan?: string;
};

export type CharonChildSa = {
  readonly name: string;
  readonly id: number;
  readonly state: string;
  readonly mode: string;
  readonly encap: boolean;
  readonly spiIn: string;
  readonly spiOut: string;
  readonly suite: string;
  readonly bytesIn: number;
  readonly packetsIn: number;
  readonly bytesOut: number;
  readonly packetsOut: number;
  readonly localTs: readonly string[];
  readonly remoteTs: readonly string[];
};

export type CharonIkeSa = {
  readonly name: string;
  readonly id: number;
  readonly state: string;
  readonly version: number;
  readonly initiator: boolean;
  readonly spiInitiator: string;
  readonly spiResponder: string;
  readonly localHost: string;
  readonly remoteHost: string;
  readonly remotePort: number;
  readonly suite: string;
  /** Its own exchanges, running or waiting to run. */
  readonly tasks: readonly string[];
  readonly children: readonly CharonChildSa[];
};

const PLUGINS =
  'random nonce openssl aes sha1 sha2 hmac kdf ctr ccm gcm chapoly curve25519 xcbc cmac pem pkcs1 pkcs8 x509 pubkey constraints';

/** The text of strongswan.conf; `dir` holds the VICI socket and the log. */
export function strongswanConf(dir: string, options: CharonOptions): string {
  const libipsec = (options.kernel ?? 'libipsec') === 'libipsec';
  const plugins = `${PLUGINS} ${libipsec ? 'kernel-libipsec ' : ''}kernel-netlink socket-default vici`;
  const marks = libipsec
    ? `kernel-libipsec { allow_peer_ts = yes }
    kernel-netlink { fwmark = !0x42 }
    socket-default { fwmark = 0x42 }`
    : '';
  return `charon-systemd {
  load = ${plugins}
  retransmit_timeout = ${options.retransmitSeconds ?? 4}
  retransmit_tries = ${options.retransmitTries ?? 5}
  ${options.strongswan ?? ''}
  journal { default = -1 }
  filelog {
    log { path = ${join(dir, 'charon.log')}
      time_format = %T
      default = 1
      ike = 2
      cfg = 2
      flush_line = yes
    }
  }
  plugins {
    vici { socket = unix://${join(dir, 'charon.vici')} }
    ${marks}
  }
}
swanctl { load = random openssl pem pkcs1 pkcs8 x509 pubkey constraints }
`;
}

/** The text of swanctl.conf. */
export function swanctlConf(connections: readonly CharonConnection[]): string {
  const child = (c: CharonChild) => `      ${c.name} {
        ${c.ah === undefined ? `esp_proposals = ${c.esp}` : `ah_proposals = ${c.ah}`}
        ipcomp = ${c.ipcomp ? 'yes' : 'no'}
        mode = ${c.mode ?? 'tunnel'}
        local_ts = ${(c.localTs ?? ['dynamic']).join(',')}
        remote_ts = ${(c.remoteTs ?? ['dynamic']).join(',')}
        start_action = ${c.start ?? 'none'}
        dpd_action = ${c.dpdAction ?? 'clear'}
        close_action = ${c.closeAction ?? 'none'}
        rekey_time = ${c.rekeySeconds ?? 0}
        ${c.lifeSeconds === undefined ? '' : `life_time = ${c.lifeSeconds}`}
        rand_time = 0
        rekey_bytes = ${c.rekeyBytes ?? 0}
        rand_bytes = 0
        rekey_packets = ${c.rekeyPackets ?? 0}
        rand_packets = 0
      }`;
  const connection = (c: CharonConnection) => `  ${c.name} {
    version = ${c.version ?? 2}
    local_addrs = ${c.local}
    remote_addrs = ${c.remote}
    proposals = ${c.ike}
    rekey_time = ${c.rekeySeconds ?? 0}
    rand_time = 0
    dpd_delay = ${c.dpdSeconds ?? 0}
    dpd_timeout = ${c.dpdTimeoutSeconds ?? 0}
    encap = ${c.encap ? 'yes' : 'no'}
    mobike = ${c.mobike ? 'yes' : 'no'}
    unique = ${c.unique ?? 'replace'}
    local {
      auth = psk
      id = ${c.localId}
    }
    remote {
      auth = psk
      id = ${c.remoteId}
    }
    children {
${c.children.map(child).join('\n')}
    }
  }`;
  const secret = (c: CharonConnection) => `  ike-${c.name} {
    id-1 = ${c.localId}
    id-2 = ${c.remoteId}
    secret = "${c.psk}"
  }`;
  return `connections {\n${connections.map(connection).join('\n')}\n}\nsecrets {\n${connections.map(secret).join('\n')}\n}\n`;
}

/** One charon in one namespace. After `kill` it can be started again with the same configuration. */
export class Charon {
  readonly host: Namespace;
  readonly dir: string;
  #connections: readonly CharonConnection[] = [];
  #program: Program | undefined;
  #vici: Vici | undefined;

  /** `dir` is a directory of its own, made here when it is absent. */
  constructor(host: Namespace, dir: string, options: CharonOptions = {}) {
    this.host = host;
    this.dir = dir;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    writeFileSync(join(dir, 'strongswan.conf'), strongswanConf(dir, options));
  }

  /** What charon logged so far (`ike` and `cfg` at level 2). */
  get log(): string {
    const path = join(this.dir, 'charon.log');
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  /** Starts it, waits for its VICI socket (10 s) and loads what was loaded before, if anything. */
  async start(connections: readonly CharonConnection[] = this.#connections): Promise<this> {
    const socket = join(this.dir, 'charon.vici');
    rmSync(socket, { force: true });
    const program = this.host.spawn(['/usr/sbin/charon-systemd'], { env: this.#env() });
    this.#program = program;
    await program.waitFor(() => existsSync(socket), 10, 'a VICI socket');
    this.#vici = await waitUntil(() => Vici.open(socket).catch(() => undefined), 5, 'a connection to the VICI socket');
    if (connections.length > 0) await this.load(connections);
    return this;
  }

  /** Replaces all connections and secrets. */
  async load(connections: readonly CharonConnection[]): Promise<void> {
    this.#connections = connections;
    writeFileSync(join(this.dir, 'swanctl.conf'), swanctlConf(connections), { mode: 0o600 });
    await this.host.must(['swanctl', '--load-all', '--uri', `unix://${join(this.dir, 'charon.vici')}`], { env: this.#env() });
  }

  /** Initiates a child (and its IKE SA); fails where charon says that it failed within `seconds`. */
  async initiate(child: string, seconds = 15): Promise<void> {
    await this.#command('initiate', { child, timeout: String(seconds * 1000), loglevel: '-1' });
  }
  /** Ends a child or an IKE SA by name; `force` does not wait for the peer's answer. */
  async terminate(what: { readonly child: string } | { readonly ike: string }, seconds = 10, force = false): Promise<void> {
    await this.#command('terminate', {
      ...what,
      timeout: String(seconds * 1000),
      loglevel: '-1',
      ...(force && { force: 'yes' }),
    });
  }
  /** Begins rekeying (it goes on after this returns; `sas` shows when it is done). */
  async rekey(what: { readonly child: string } | { readonly ike: string }): Promise<void> {
    await this.#command('rekey', { ...what });
  }

  /** All SAs, also those that are on their way out. */
  async sas(): Promise<readonly CharonIkeSa[]> {
    const { events } = await this.#open().command('list-sas', {}, 'list-sa');
    return events.flatMap((event) => Object.entries(event).map(([name, sa]) => ikeSa(name, sa as Message)));
  }
  /** The ESTABLISHED IKE SAs. */
  async ikeSas(): Promise<readonly CharonIkeSa[]> {
    return (await this.sas()).filter(({ state }) => state === 'ESTABLISHED');
  }
  /** The INSTALLED children of all IKE SAs (a deleted one lingers for about 5 s in another state). */
  async children(): Promise<readonly CharonChildSa[]> {
    return (await this.sas()).flatMap(({ children }) => children).filter(({ state }) => state === 'INSTALLED');
  }

  /** SIGKILL: what a crash is. */
  async kill(): Promise<void> {
    this.#vici?.close();
    this.#vici = undefined;
    this.#program?.kill('SIGKILL');
    await this.#program?.exited;
  }
  /** SIGTERM: charon deletes its SAs at the peers first. */
  async stop(): Promise<void> {
    this.#vici?.close();
    this.#vici = undefined;
    await this.#program?.stop(10);
  }
  async restart(): Promise<void> {
    await this.kill();
    await this.start();
  }

  #env(): Record<string, string> {
    return { STRONGSWAN_CONF: join(this.dir, 'strongswan.conf'), SWANCTL_DIR: this.dir };
  }
  #open(): Vici {
    if (!this.#vici) throw new Error(`charon in ${this.host.name} is not running`);
    return this.#vici;
  }
  async #command(name: string, message: Message): Promise<void> {
    try {
      await this.#open().command(name, message);
    } catch (error) {
      throw new Error(`${(error as Error).message}; the end of its log:\n${this.log.split('\n').slice(-25).join('\n')}`);
    }
  }
}

/** The SAs in the output of `swanctl --list-sas --raw`: one `list-sa event {...}` a line. */
export function parseRawSas(raw: string): readonly CharonIkeSa[] {
  return raw
    .split('\n')
    .filter((line) => line.startsWith('list-sa event'))
    .flatMap((line) => Object.entries(parseRaw(line.slice(line.indexOf('{')))))
    .map(([name, sa]) => ikeSa(name, sa as Message));
}

/** `{key=value section {...} list=[a b]}`; values run to the next ` key=`, ` key {` or closing bracket. */
function parseRaw(line: string): Message {
  let at = 1;
  const section = (): Message => {
    const message: Message = {};
    while (at < line.length && line[at] !== '}') {
      const key = /^ ?([^ ={}[\]]+)(=\[| \{|=)/.exec(line.slice(at));
      if (!key) throw new Error(`swanctl --raw: expected key=value, a list or a section, found "${line.slice(at, at + 40)}"`);
      at += key[0].length;
      if (key[2] === ' {') {
        message[key[1]!] = section();
        at += 1;
      } else if (key[2] === '=[') {
        const end = line.indexOf(']', at);
        message[key[1]!] = line.slice(at, end).split(' ').filter(Boolean);
        at = end + 1;
      } else {
        const value = /^.*?(?=\}| [^ ={}[\]]+(?:=| \{))/.exec(line.slice(at))?.[0] ?? '';
        message[key[1]!] = value;
        at += value.length;
      }
    }
    return message;
  };
  return section();
}

function ikeSa(name: string, sa: Message): CharonIkeSa {
  return {
    name,
    id: Number(sa.uniqueid),
    state: text(sa.state),
    version: Number(sa.version),
    initiator: sa.initiator === 'yes',
    spiInitiator: text(sa['initiator-spi']),
    spiResponder: text(sa['responder-spi']),
    localHost: text(sa['local-host']),
    remoteHost: text(sa['remote-host']),
    remotePort: Number(sa['remote-port']),
    suite: ['encr-alg', 'encr-keysize', 'integ-alg', 'prf-alg', 'dh-group'].flatMap((key) => sa[key] ?? []).join('-'),
    tasks: ['tasks-active', 'tasks-queued'].flatMap((key) => sa[key] ?? []) as string[],
    children: Object.values((sa['child-sas'] ?? {}) as Message).map((child) => childSa(child as Message)),
  };
}

function childSa(sa: Message): CharonChildSa {
  return {
    name: text(sa.name),
    id: Number(sa.uniqueid),
    state: text(sa.state),
    mode: text(sa.mode),
    encap: sa.encap === 'yes',
    spiIn: text(sa['spi-in']),
    spiOut: text(sa['spi-out']),
    suite: ['encr-alg', 'encr-keysize', 'integ-alg', 'dh-group', 'esn'].flatMap((key) => sa[key] ?? []).join('-'),
    bytesIn: Number(sa['bytes-in'] ?? 0),
    packetsIn: Number(sa['packets-in'] ?? 0),
    bytesOut: Number(sa['bytes-out'] ?? 0),
    packetsOut: Number(sa['packets-out'] ?? 0),
    localTs: (sa['local-ts'] ?? []) as string[],
    remoteTs: (sa['remote-ts'] ?? []) as string[],
  };
}

function text(value: Message[string] | undefined): string {
  return typeof value === 'string' ? value : '';
}
