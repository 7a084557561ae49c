/** Questions for tickets, and what their answers are for. A KDC that is away holds up nobody but who asked. */

import { earliest } from '../src/machine.ts';
import type { Host } from './host.ts';
import { ticketArrived } from './initiator.ts';
import type { Credential } from './krb5/credential.ts';
import type { Transaction } from './transaction.ts';

interface Question {
  readonly transaction: Transaction;
  readonly fresh: boolean;
}

export class Tickets {
  readonly #host: Host;
  readonly #asked = new Map<number, Question>();
  #nextId = 1;

  constructor(host: Host) {
    this.#host = host;
  }

  ask(transaction: Transaction, fresh: boolean): void {
    const { myPrincipal: client, peersPrincipal: server } = transaction.association.peer;
    const id = this.#nextId++;
    this.#asked.set(id, { transaction, fresh });
    this.#host.emit({ kind: 'ask', id, question: { about: 'ticket', client, server, fresh } });
  }

  /** An answer that nobody waits for any more is of no use. */
  answered(id: number, credential: Credential | undefined, why: string): void {
    const question = this.#asked.get(id);
    if (question === undefined) return;
    this.#asked.delete(id);
    ticketArrived(question.transaction, credential, why, question.fresh);
  }

  /** Forgets questions whose asker gave up. */
  passTime(): void {
    for (const [id, { transaction }] of this.#asked) if (transaction.closed) this.#asked.delete(id);
  }

  wakeAt(): number | undefined {
    return earliest(...[...this.#asked.values()].map(({ transaction }) => transaction.deadline));
  }

  transactionOf(id: number): Transaction | undefined {
    return this.#asked.get(id)?.transaction;
  }
}
