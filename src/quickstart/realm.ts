/** The Kerberos realm of the quick start over KINK: MIT's KDC where it is installed, a stand-in in this process where not. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PREFERRED_ETYPES } from '../../kinkd/krb5/enctypes.ts';
import { Keytab, writeKeytab } from '../../kinkd/krb5/keytab.ts';
import { parsePrincipal, samePrincipal, ticketGranter } from '../../kinkd/krb5/principal.ts';
import { StandInKdc } from '../../kinkd/krb5/stand-in-kdc.ts';
import { WireError } from '../errors.ts';
import { type Endpoint, showEndpoint } from '../net/address.ts';
import { systemRandom } from '../runtime/random.ts';
import { bindUdp } from '../runtime/udp.ts';

export interface RealmSpec {
  readonly name: string;
  /** Where the KDC listens. */
  readonly kdc: Endpoint;
  /** A folder of ours, for the KDC's database. */
  readonly directory: string;
  /** Who gets a key, and the file that it goes into. */
  readonly principals: readonly { readonly principal: string; readonly keytab: string }[];
}

export interface Realm {
  /** One sentence for people: which KDC it is. */
  readonly what: string;
  stop(): Promise<void>;
}

const TOOLS = ['krb5kdc', 'kdb5_util', 'kadmin.local'] as const;
const READY_LIMIT_MS = 5_000;

/** `warn` hears of what goes wrong later. */
export async function startRealm(spec: RealmSpec, warn: (text: string) => void): Promise<Realm> {
  return mitInstalled() ? startMit(spec) : startStandIn(spec, warn);
}

export function mitInstalled(): boolean {
  return TOOLS.every((tool) => toolPath(tool) !== undefined);
}

function toolPath(tool: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/local/sbin', '/sbin'];
  return folders.map((folder) => join(folder, tool)).find(existsSync);
}

/** krb5kdc as a child, with a database of its own. */
export async function startMit({ name, kdc, directory, principals }: RealmSpec): Promise<Realm> {
  mkdirSync(directory, { mode: 0o700, recursive: true });
  const file = (of: string) => join(directory, of);
  const at = `${kdc.address}:${kdc.port}`;
  writeFileSync(file('krb5.conf'), `[libdefaults]\n default_realm = ${name}\n[realms]\n ${name} = {\n  kdc = ${at}\n }\n`);
  writeFileSync(
    file('kdc.conf'),
    `[kdcdefaults]
 kdc_listen = ${at}
 kdc_tcp_listen = ${at}
[realms]
 ${name} = {
  database_name = ${file('principal')}
  key_stash_file = ${file('stash')}
  acl_file = ${file('acl')}
  supported_enctypes = aes256-cts-hmac-sha384-192:normal aes256-cts-hmac-sha1-96:normal
 }
[dbmodules]
 ${name} = {
  db_library = db2
  database_name = ${file('principal')}
 }
[logging]
 default = FILE:${file('log')}
`,
  );
  const env = { ...process.env, KRB5_CONFIG: file('krb5.conf'), KRB5_KDC_PROFILE: file('kdc.conf') };
  const run = (tool: (typeof TOOLS)[number], ...args: string[]) =>
    execFileSync(toolPath(tool)!, args, { env, stdio: ['ignore', 'pipe', 'pipe'], timeout: 20_000 });
  run('kdb5_util', '-r', name, '-P', systemRandom(16).join(''), 'create', '-s');
  for (const { principal, keytab } of principals) {
    run('kadmin.local', '-r', name, '-q', `addprinc -randkey ${principal}`);
    run('kadmin.local', '-r', name, '-q', `ktadd -k ${keytab} -norandkey ${principal}`);
  }
  const pidFile = file('pid');
  const child = spawn(toolPath('krb5kdc')!, ['-n', '-r', name, '-P', pidFile], { env, stdio: 'ignore' });
  // It writes the file once its sockets are bound.
  const deadline = Date.now() + READY_LIMIT_MS;
  while (!existsSync(pidFile)) {
    if (child.exitCode !== null || Date.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(`krb5kdc did not start at ${showEndpoint(kdc)}; see ${file('log')}: is that port in use?`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return { what: `tickets come from the installed krb5kdc, at ${showEndpoint(kdc)}`, stop: () => ended(child) };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const end = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await end;
}

/** A socket of this process in front of the stand-in. */
export async function startStandIn({ name, kdc, principals }: RealmSpec, warn: (text: string) => void): Promise<Realm> {
  const etypes = PREFERRED_ETYPES.slice(0, 1);
  const named = principals.map(({ principal, keytab }) => ({ principal: parsePrincipal(principal, name), keytab }));
  const everyone = [ticketGranter(name), ...named.map(({ principal }) => principal)];
  const entries = everyone.flatMap((principal) => StandInKdc.principalKeys(principal, etypes, systemRandom));
  for (const { principal, keytab } of named) {
    const own = entries.filter((entry) => samePrincipal(entry.principal, principal));
    writeFileSync(keytab, writeKeytab(own, Date.now()), { mode: 0o600 });
  }
  const answers = new StandInKdc(name, new Keytab(entries), systemRandom);
  const socket = await bindUdp(kdc, {
    onDatagram(bytes, remote) {
      try {
        socket.send(answers.answer(bytes, Date.now()), remote);
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        warn(`the stand-in KDC got what is no request: ${error.message}`);
      }
    },
    onError: ({ message }) => warn(message),
  });
  return {
    what: `no krb5kdc is installed: tickets come from a small stand-in of our own, at ${showEndpoint(kdc)}`,
    stop: () => socket.close(),
  };
}
