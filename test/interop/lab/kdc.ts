/** A throw-away MIT realm: krb5kdc with its own database in a temporary directory, on a free port. Nothing in /etc or /var is touched. */

import { execFileSync, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Program } from './process.ts';

const ETYPES = 'aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96 aes256-cts-hmac-sha384-192 aes128-cts-hmac-sha256-128';
const FOLDERS = ['/usr/sbin', '/usr/local/sbin', '/usr/bin'];

/** Why there is no MIT KDC here, or undefined. */
export function missingKdc(): string | undefined {
  const absent = ['krb5kdc', 'kadmin.local', 'kdb5_util'].filter((name) => found(name) === undefined);
  return absent.length > 0 ? `no ${absent.join(', ')} (Debian: krb5-kdc krb5-admin-server)` : undefined;
}

export interface RealmOptions {
  readonly realm: string;
  /** Principals with random keys. The keytab of `kink/hosta` is `hosta.keytab`. What follows a comma is for kadmin: `kink/u,-allow_svr`. */
  readonly principals: readonly string[];
  /** The IPv4 address to listen on, and the words before the command that put it into a namespace. */
  readonly listen?: string;
  readonly within?: readonly string[];
  readonly port?: number;
  /** Longest life of a ticket, as krb5 writes it. */
  readonly life?: string;
  /** What libkrb5 asks session keys in. */
  readonly sessionEtypes?: string;
}

export class MitKdc {
  readonly address: { readonly host: string; readonly port: number };
  readonly #directory: string;
  readonly #options: RealmOptions;
  #daemon: Program | undefined;

  private constructor(options: RealmOptions, directory: string, port: number) {
    this.#options = options;
    this.#directory = directory;
    this.address = { host: options.listen ?? '127.0.0.1', port };
  }

  /** Makes the realm and starts its KDC. */
  static async open(options: RealmOptions): Promise<MitKdc> {
    const kdc = new MitKdc(options, mkdtempSync(join(tmpdir(), 'tanuki-kdc-')), options.port ?? (await freePort()));
    try {
      kdc.#create();
      await kdc.start();
      return kdc;
    } catch (error) {
      await kdc.close();
      throw error;
    }
  }

  /** What libkrb5 and the tools of MIT take from their environment. */
  get environment() {
    return {
      KRB5_CONFIG: this.file('krb5.conf'),
      KRB5_KDC_PROFILE: this.file('kdc.conf'),
      KRB5RCACHEDIR: this.file('rcache'),
    } as const;
  }

  file(name: string): string {
    return join(this.#directory, name);
  }

  /** The pid file appears once the sockets are bound. */
  async start(): Promise<void> {
    const pid = this.file('kdc.pid');
    rmSync(pid, { force: true });
    const command = [...(this.#options.within ?? []), found('krb5kdc')!, '-n', '-r', this.#options.realm, '-P', pid];
    this.#daemon = new Program(command, { env: this.environment });
    await this.#daemon.waitFor(() => existsSync(pid), 10, 'the KDC to listen');
  }

  /** Ends krb5kdc and keeps its database. */
  async stop(): Promise<void> {
    await this.#daemon?.stop();
    this.#daemon = undefined;
  }

  async close(): Promise<void> {
    await this.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #create(): void {
    const { realm, principals, life = '1d', sessionEtypes = ETYPES } = this.#options;
    const { host, port } = this.address;
    mkdirSync(this.file('rcache'), { mode: 0o700 });
    writeFileSync(
      this.file('krb5.conf'),
      `[libdefaults]
  default_realm = ${realm}
  dns_lookup_realm = false
  dns_lookup_kdc = false
  dns_canonicalize_hostname = false
  rdns = false
  kdc_timesync = 0
  ticket_lifetime = ${life}
  permitted_enctypes = ${ETYPES}
  default_tkt_enctypes = ${sessionEtypes}
  default_tgs_enctypes = ${sessionEtypes}
[realms]
  ${realm} = {
    kdc = ${host}:${port}
  }
`,
    );
    const keys = ETYPES.split(' ').map((etype) => `${etype}:normal`);
    writeFileSync(
      this.file('kdc.conf'),
      `[kdcdefaults]
  kdc_listen = ${host}:${port}
  kdc_tcp_listen = ${host}:${port}
[realms]
  ${realm} = {
    database_name = ${this.file('principal')}
    key_stash_file = ${this.file('stash')}
    acl_file = ${this.file('kadm5.acl')}
    supported_enctypes = ${keys.join(' ')}
    max_life = ${life}
    default_principal_flags = +preauth
  }
[logging]
  kdc = FILE:${this.file('kdc.log')}
  default = FILE:${this.file('krb5.log')}
`,
    );
    this.#tool('kdb5_util', ['-r', realm, '-P', 'throw-away', 'create', '-s']);
    const commands = principals.flatMap((principal) => {
      const [name, ...flags] = principal.split(',');
      const keytab = this.file(`${name!.split('/').at(-1)}.keytab`);
      return [`addprinc -randkey ${flags.join(' ')} -e ${keys.join(',')} ${name}`, `ktadd -k ${keytab} -norandkey ${name}`];
    });
    this.#tool('kadmin.local', ['-r', realm], `${commands.join('\n')}\n`);
  }

  /** kadmin.local ends with 0 even where a command fails, so its complaints are looked for. */
  #tool(name: string, argv: readonly string[], input = ''): void {
    const { status, stdout, stderr } = spawnSync(found(name)!, argv, {
      env: { ...process.env, ...this.environment },
      input,
      encoding: 'utf8',
      timeout: 20_000,
    });
    if (status !== 0 || / while /.test(stderr)) throw new Error(`${name} ${argv.join(' ')}: ${stdout}${stderr}`);
  }
}

/** Why there is no kinit here, or undefined. */
export function missingKinit(): string | undefined {
  return found('kinit') === undefined ? 'no kinit (Debian: krb5-user)' : undefined;
}

/** kinit with a keytab into a cache file, whose path it gives. */
export function kinit(kdc: MitKdc, keytab: string, cache: string, principal: string): string {
  const path = kdc.file(cache);
  execFileSync(found('kinit')!, ['-k', '-t', kdc.file(keytab), '-c', path, principal], {
    env: { ...process.env, ...kdc.environment },
  });
  return path;
}

function found(program: string): string | undefined {
  return FOLDERS.map((folder) => join(folder, program)).find((path) => existsSync(path));
}

/** krb5kdc binds with SO_REUSEADDR: on a port in use it would share the requests with whoever has it. */
async function freePort(): Promise<number> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(resolve));
  return port;
}
