/** Tickets through libkrb5, by the optional package node-krb5 (npm's `krb5`): it fills a private credential cache, which we then read. */

import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KerberosConfig } from '../src/config/config.ts';
import { SystemError } from '../src/errors.ts';
import { readCcache } from './krb5/ccache.ts';
import { type Credential, type CredentialSource, lasts } from './krb5/credential.ts';
import { type Principal, samePrincipal, showPrincipal } from './krb5/principal.ts';

/** The two functions of the package that are used. Failures come as errors with libkrb5's sentence and no code. */
export interface NodeKrb5 {
  kinit(options: { principal: string; realm: string; keytab: string; ccname: string }): Promise<string>;
  spnego(options: { service_principal: string; ccname: string }): Promise<string>;
}

/** The package, or why it cannot be had. */
export function loadNodeKrb5(): { readonly library: NodeKrb5 } | { readonly problem: string } {
  try {
    return { library: createRequire(import.meta.url)('node-krb5') as NodeKrb5 };
  } catch (error) {
    return { problem: `the package node-krb5 does not load (${(error as Error).message.split('\n')[0]})` };
  }
}

/** A call that takes longer is given up; libkrb5 itself needs 18 s for a KDC that is gone. */
const LONGEST_MS = 25_000;
const WAITING = 64;

export class NodeKrb5Source implements CredentialSource {
  readonly backend = 'node_krb5';
  readonly reason: string;
  readonly #client: Principal;
  readonly #kerberos: KerberosConfig;
  readonly #wall: () => number;
  readonly #library: NodeKrb5;
  readonly #directory: string;
  /** Whether the cache holds a ticket-granting ticket, and until when. */
  #tgt: Credential | undefined;
  #closed = false;

  constructor(
    options: { kerberos: KerberosConfig; client: Principal; wall: () => number; directory?: string },
    library: NodeKrb5,
    reason: string,
  ) {
    this.#client = options.client;
    this.#kerberos = options.kerberos;
    this.#wall = options.wall;
    this.#library = library;
    this.reason = reason;
    this.#directory = mkdtempSync(join(options.directory ?? tmpdir(), 'krb5-'));
    chmodSync(this.#directory, 0o700);
    if (options.kerberos.kdcs.length > 0)
      writeFileSync(this.#conf, krb5Conf(options.kerberos, options.client.realm), { mode: 0o600 });
  }

  async serviceTicket(peer: Principal, { fresh = false }: { readonly fresh?: boolean } = {}): Promise<Credential> {
    // The package splits at the first slash and knows no escapes.
    for (const principal of [this.#client, peer]) {
      if (principal.components.length > 2 || principal.components.some((part) => /[\\/@\s\0]/.test(part)))
        throw new SystemError(
          `node-krb5 takes names of one or two plain parts, not ${showPrincipal(principal)}; use kerberos { backend builtin }`,
          'EINVAL',
        );
    }
    return alone(async () => {
      if (this.#closed) throw new SystemError('no longer asking libkrb5: closed', 'ECANCELED');
      const kept = fresh ? undefined : this.#kept(peer);
      if (kept !== undefined) return kept;
      // The cache would give the same ticket again, so a fresh one needs a new cache.
      if (fresh || this.#tgt === undefined || !lasts(this.#tgt, this.#wall()) || this.#find(peer) !== undefined)
        await this.#kinit();
      await this.#native(`ticket for ${showPrincipal(peer)}`, () =>
        this.#library.spnego({ service_principal: showPrincipal(peer), ccname: this.#ccache }),
      );
      const credential = this.#find(peer);
      if (credential === undefined)
        throw new SystemError(
          `libkrb5 left no usable ticket for ${showPrincipal(peer)} in its cache; is its enctype one of AES?`,
          'ENOENT',
        );
      return credential;
    });
  }

  close(): void {
    this.#closed = true;
    this.#tgt = undefined;
    rmSync(this.#directory, { recursive: true, force: true });
  }

  get #ccache(): string {
    return join(this.#directory, 'ccache');
  }

  get #conf(): string {
    return join(this.#directory, 'krb5.conf');
  }

  /** Removes the cache first: kinit only ever appends to it. */
  async #kinit(): Promise<void> {
    const { components, realm } = this.#client;
    rmSync(this.#ccache, { force: true });
    this.#tgt = undefined;
    await this.#native(`ticket-granting ticket of ${showPrincipal(this.#client)}`, () =>
      this.#library.kinit({ principal: components.join('/'), realm, keytab: this.#kerberos.keytab, ccname: this.#ccache }),
    );
    this.#tgt = this.#read().find(({ server }) => server.components[0] === 'krbtgt');
  }

  #kept(peer: Principal): Credential | undefined {
    const found = this.#tgt === undefined ? undefined : this.#find(peer);
    return found !== undefined && lasts(found, this.#wall()) ? found : undefined;
  }

  #find(peer: Principal): Credential | undefined {
    return this.#read().findLast(({ server }) => samePrincipal(server, peer));
  }

  #read(): readonly Credential[] {
    let bytes: Uint8Array;
    try {
      bytes = Uint8Array.from(readFileSync(this.#ccache));
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return [];
      throw new SystemError(`cannot read the credential cache: ${message}`, code);
    }
    return readCcache(bytes).credentials;
  }

  /** libkrb5 takes its configuration from the environment when a call begins. */
  async #native<T>(asked: string, call: () => Promise<T>): Promise<T> {
    const before = process.env.KRB5_CONFIG;
    const own = this.#kerberos.kdcs.length > 0;
    if (own) process.env.KRB5_CONFIG = this.#conf;
    try {
      return await call();
    } catch (error) {
      throw new SystemError(`${asked}: libkrb5 says: ${(error as Error).message}`, 'EPROTO');
    } finally {
      if (own) {
        if (before === undefined) delete process.env.KRB5_CONFIG;
        else process.env.KRB5_CONFIG = before;
      }
    }
  }
}

let last: Promise<unknown> = Promise.resolve();
let waiting = 0;

/**
 * One native call at a time in this process: each holds one of the four threads that Node's files and names share. Who waits too long is told so,
 * but the next call begins only when this one has come back.
 */
function alone<T>(call: () => Promise<T>): Promise<T> {
  if (waiting >= WAITING) return Promise.reject(new SystemError(`${WAITING} requests to libkrb5 wait already`, 'EBUSY'));
  waiting += 1;
  const result = last.then(call).finally(() => {
    waiting -= 1;
  });
  last = result.catch(() => undefined); // told to who asked
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new SystemError(`libkrb5 did not answer within ${LONGEST_MS / 1000} s; is a KDC reachable?`, 'ETIMEDOUT')),
      LONGEST_MS,
    );
    result.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** Nothing is looked up in DNS, and no clock is taken over from the KDC: the daemon goes by its own. */
function krb5Conf({ kdcs, clockSkew }: KerberosConfig, realm: string): string {
  const address = ({ host, port }: { readonly host: string; readonly port: number }) =>
    `${host.includes(':') ? `[${host}]` : host}:${port}`;
  return `[libdefaults]
  default_realm = ${realm}
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
  kdc_timesync = 0
  clockskew = ${Math.round(clockSkew / 1000)}
[realms]
  ${realm} = {
${kdcs.map((kdc) => `    kdc = ${address(kdc)}\n`).join('')}  }
`;
}
