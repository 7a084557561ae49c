/** Where KINK's tickets come from: a shell around the pure exchanges with a KDC, or around libkrb5 by the package node-krb5. */

import type { KerberosConfig } from '../src/config/config.ts';
import { SystemError, WireError } from '../src/errors.ts';
import type { RandomBytes } from '../src/machine.ts';
import { KdcClient } from '../src/runtime/kdc-client.ts';
import { readSecretFile } from '../src/runtime/secret-files.ts';
import { type Credential, type CredentialSource, lasts } from './krb5/credential.ts';
import { type Etype, PREFERRED_ETYPES } from './krb5/enctypes.ts';
import { KdcError, type KrbErrorName } from './krb5/errors.ts';
import { AsExchange, asksForTcp, type KdcExchange, TgsExchange } from './krb5/kdc-exchange.ts';
import { readKeytab } from './krb5/keytab.ts';
import { type Principal, showPrincipal } from './krb5/principal.ts';
import { loadNodeKrb5, NodeKrb5Source } from './node-krb5.ts';

export interface CredentialSourceOptions {
  readonly kerberos: KerberosConfig;
  /** Who we are: the client of every ticket. */
  readonly client: Principal;
  /** Wall clock in milliseconds. */
  readonly wall: () => number;
  readonly random: RandomBytes;
  /** An existing directory of ours for private files; a temporary one otherwise. */
  readonly directory?: string;
  /** Of session keys, best first; for `builtin`, since libkrb5 has its own list. */
  readonly etypes?: readonly Etype[];
  /** `tcp`: never ask by UDP. */
  readonly by?: 'udp-first' | 'tcp';
}

/** The source that `backend` names; `auto` takes node-krb5 where it loads. Throws SystemError where what is named cannot be had. */
export function openCredentialSource(options: CredentialSourceOptions): CredentialSource {
  const { backend, kdcs } = options.kerberos;
  if (backend === 'builtin') return new BuiltinSource(options, 'kerberos { backend builtin }');
  const loaded = loadNodeKrb5();
  if ('library' in loaded)
    return new NodeKrb5Source(
      options,
      loaded.library,
      backend === 'auto' ? 'node-krb5 is installed' : 'kerberos { backend node_krb5 }',
    );
  if (backend === 'node_krb5')
    throw new SystemError(
      `kerberos { backend node_krb5 } is not to be had: ${loaded.problem}; install libkrb5-dev and a C++ compiler and run npm install again, or write backend builtin`,
      'ENOENT',
    );
  if (kdcs.length === 0)
    throw new SystemError(
      `tickets can come from nowhere: ${loaded.problem}, and kerberos { … } names no KDC for our own client; add kdc HOST;`,
      'EDESTADDRREQ',
    );
  return new BuiltinSource(options, loaded.problem);
}

/** Tickets that are kept; the oldest makes room. */
const MOST_TICKETS = 1_024;
/** With these answers the ticket-granting ticket is of no use any more, and a new one may be. */
const STALE_TGT: readonly (KrbErrorName | undefined)[] = [
  'KRB_AP_ERR_TKT_EXPIRED',
  'KRB_AP_ERR_TKT_NYV',
  'KRB_AP_ERR_BAD_INTEGRITY',
  'KRB_AP_ERR_BADKEYVER',
  'KRB_AP_ERR_NOKEY',
  'KDC_ERR_TGT_REVOKED',
];

class BuiltinSource implements CredentialSource {
  readonly backend = 'builtin';
  readonly reason: string;
  readonly #options: CredentialSourceOptions;
  readonly #kdc: KdcClient;
  readonly #tickets = new Map<string, Credential>();
  /** Exchanges under way, by what they are for: who asks for the same meanwhile waits for the same. */
  readonly #asking = new Map<string, Promise<Credential>>();
  #tgt: Credential | undefined;

  constructor(options: CredentialSourceOptions, reason: string) {
    this.#options = options;
    this.reason = reason;
    this.#kdc = new KdcClient({ kdcs: options.kerberos.kdcs, by: options.by ?? 'udp-first', asksForTcp: totally(asksForTcp) });
  }

  async serviceTicket(peer: Principal, { fresh = false }: { readonly fresh?: boolean } = {}): Promise<Credential> {
    const { client, wall } = this.#options;
    const name = showPrincipal(peer);
    if (peer.realm !== client.realm)
      throw new SystemError(
        `${name} is of another realm than ${showPrincipal(client)}, and our own client asks one realm only; use kerberos { backend node_krb5 }`,
        'ENOTSUP',
      );
    const kept = this.#tickets.get(name);
    if (!fresh && kept !== undefined && lasts(kept, wall())) return kept;
    return this.#once(name, async () => {
      const credential = await this.#fromTgt(peer);
      this.#tickets.delete(name);
      this.#tickets.set(name, credential);
      if (this.#tickets.size > MOST_TICKETS) this.#tickets.delete(this.#tickets.keys().next().value!);
      return credential;
    });
  }

  /** Wipes the keys of what is kept: no one may use a credential of ours after this. */
  close(): void {
    this.#kdc.close();
    for (const { key } of this.#tickets.values()) key.key.wipe();
    this.#tgt?.key.key.wipe();
    this.#tickets.clear();
    this.#tgt = undefined;
  }

  async #fromTgt(peer: Principal): Promise<Credential> {
    const { random, etypes = PREFERRED_ETYPES } = this.#options;
    const tgt = await this.#grantingTicket();
    try {
      return await this.#exchange(new TgsExchange(tgt, peer, random, etypes));
    } catch (error) {
      if (!(error instanceof KdcError) || !STALE_TGT.includes(error.error)) throw error;
      if (this.#tgt === tgt) this.#tgt = undefined;
      return this.#exchange(new TgsExchange(await this.#grantingTicket(), peer, random, etypes));
    }
  }

  async #grantingTicket(): Promise<Credential> {
    if (this.#tgt !== undefined && lasts(this.#tgt, this.#options.wall())) return this.#tgt;
    return this.#once('', async () => {
      this.#tgt = await this.#initial();
      return this.#tgt;
    });
  }

  /** The keytab is read each time, so that a key that was changed is used without a restart. */
  async #initial(): Promise<Credential> {
    const { client, kerberos, random } = this.#options;
    const keytab = readKeytab(readSecretFile(kerberos.keytab));
    try {
      if (keytab.of(client).length === 0)
        throw new SystemError(
          `${kerberos.keytab} has no key of ${showPrincipal(client)}, but of ${keytab.principals().map(showPrincipal).join(', ') || 'nobody'}; export it (kadmin: ktadd -k ${kerberos.keytab} …)`,
          'ENOENT',
        );
      return await this.#exchange(new AsExchange(client, keytab, random));
    } finally {
      keytab.wipe();
    }
  }

  /** At most three requests: none of these exchanges has more. */
  async #exchange(exchange: KdcExchange): Promise<Credential> {
    const { wall } = this.#options;
    for (let requests = 0; requests < 3; requests++) {
      const outcome = exchange.conclude(await this.#kdc.ask(exchange.request(wall())), wall());
      if (outcome !== 'again') return outcome;
    }
    throw new SystemError('the KDC asks for pre-authentication again and again', 'EPROTO');
  }

  #once(name: string, ask: () => Promise<Credential>): Promise<Credential> {
    const under = this.#asking.get(name);
    if (under !== undefined) return under;
    const asking = ask().finally(() => this.#asking.delete(name));
    this.#asking.set(name, asking);
    return asking;
  }
}

/** What cannot be read does not ask for TCP; whoever concludes the exchange says what is wrong with it. */
function totally(asks: (answer: Uint8Array) => boolean): (answer: Uint8Array) => boolean {
  return (answer) => {
    try {
      return asks(answer);
    } catch (error) {
      if (error instanceof WireError) return false;
      throw error;
    }
  };
}
