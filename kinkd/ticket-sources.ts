/** Where the machine's questions for tickets go: one source for each name of ours, opened when a configuration first has it. */

import type { Config, KerberosConfig } from '../src/config/config.ts';
import { SystemError } from '../src/errors.ts';
import type { Event } from '../src/event.ts';
import type { RandomBytes } from '../src/machine.ts';
import { openCredentialSource } from './credentials.ts';
import type { Credential, CredentialSource } from './krb5/credential.ts';
import { KdcError } from './krb5/errors.ts';
import { type Principal, parsePrincipal, showPrincipal } from './krb5/principal.ts';
import type { TicketQuestion } from './ports.ts';

type Answer = { readonly ticket: Credential } | { readonly ticket: undefined; readonly why: string };

export class TicketSources {
  readonly #options: { directory: string; random: RandomBytes; report: (event: Event) => void };
  /** By the name of ours; a string says why there is none. */
  readonly #sources = new Map<string, CredentialSource | string>();
  #kerberos: KerberosConfig | undefined;

  constructor(options: { directory: string; random: RandomBytes; report: (event: Event) => void }) {
    this.#options = options;
  }

  /** Which implementation it is goes to the log: the behaviour depends on what was installed. */
  configure({ kerberos, remotes }: Config): void {
    if (JSON.stringify(kerberos) !== JSON.stringify(this.#kerberos)) this.close();
    this.#kerberos = kerberos;
    const wanted = remotes.flatMap(({ kink, acceptableKmp }) =>
      kink !== undefined && acceptableKmp.includes('kink') ? [kink.myPrincipal] : [],
    );
    for (const name of wanted) if (!this.#sources.has(name)) this.#open(parsePrincipal(name), kerberos);
  }

  #open(client: Principal, kerberos: KerberosConfig): CredentialSource | string {
    const { directory, random, report } = this.#options;
    const name = showPrincipal(client);
    let source: CredentialSource | string;
    try {
      source = openCredentialSource({ kerberos, client, wall: Date.now, random, directory });
      const message = `tickets for ${name} come from ${source.backend}: ${source.reason}`;
      report({ name: 'ticket-source', severity: 'info', message, backend: source.backend, principal: name });
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      source = error.message;
      report({ name: 'ticket-source-failed', severity: 'error', message: error.message, principal: name });
    }
    this.#sources.set(name, source);
    return source;
  }

  /** Never blocks: the answer comes when it comes. */
  ask({ client, server, fresh }: TicketQuestion['question'], answer: (answer: Answer) => void): void {
    const source =
      this.#sources.get(showPrincipal(client)) ??
      (this.#kerberos && this.#open(client, this.#kerberos)) ??
      'no configuration is in force';
    if (typeof source === 'string') return answer({ ticket: undefined, why: source });
    source.serviceTicket(server, { fresh }).then(
      (ticket) => answer({ ticket }),
      (error: unknown) => {
        const why = error instanceof Error ? error.message : String(error);
        answer({ ticket: undefined, why });
        if (error instanceof SystemError || error instanceof KdcError) return;
        this.#options.report({
          name: 'fault',
          severity: 'error',
          message: `a ticket source failed otherwise than it may: ${why}`,
        });
      },
    );
  }

  close(): void {
    for (const source of this.#sources.values()) if (typeof source !== 'string') source.close();
    this.#sources.clear();
  }
}
