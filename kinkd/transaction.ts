/**
 * One command of ours until its REPLY, RFC 4430 §9: each transmission is built anew, with another authenticator and Cksum but the same ticket
 * and XID, and any of the authenticators may be answered.
 */

import type { KeyShare } from '../src/crypto/dh.ts';
import type { NamedSa, Spis } from '../src/ipsec/sa.ts';
import { writeChain } from '../src/isakmp/chain.ts';
import type { Payload as QuickPayload } from '../src/isakmp/payloads.ts';
import type { Asker } from '../src/keying/asks.ts';
import type { Demand } from '../src/keying/demands.ts';
import type { PolicyTerms } from '../src/keying/terms.ts';
import type { Path } from '../src/net/address.ts';
import type { Association } from './association.ts';
import { type AuthenticatorTime, buildApReq } from './krb5/ap-exchange.ts';
import type { Credential } from './krb5/credential.ts';
import { ladder } from './ladder.ts';
import { encrypted, IPSEC_DOI, type Message, sealMessage, TYPE } from './message.ts';
import type { KinkPair } from './pair.ts';
import { type Payload, QUICK_MODE_VERSION } from './payloads.ts';

/** What a command is for, and what is remembered until it is answered. */
export type Work =
  | CreateWork
  | { readonly kind: 'delete'; readonly pairs: readonly KinkPair[]; readonly sas: readonly NamedSa[]; readonly why: string }
  | { readonly kind: 'status' };

export interface CreateWork {
  readonly kind: 'create';
  readonly demand: Demand;
  /** The pair that the new one is to take the place of. */
  readonly replaces: KinkPair | undefined;
  /** What was sent, once it was. */
  offer?: CreateOffer;
  /** Has its inbound SA in the datapath before the REPLY is there (optimistic keying, §3.2). */
  optimistic?: KinkPair;
  /** What was agreed on. */
  pair?: KinkPair;
}

export interface CreateOffer {
  readonly generation: number;
  readonly terms: PolicyTerms;
  readonly spi: number;
  /** It, and those that came with it. */
  readonly spis: Spis;
  readonly payloads: readonly QuickPayload[];
  readonly Ni_b: Uint8Array;
  readonly share: KeyShare | undefined;
}

export type TransactionStage =
  /** It waits for a ticket, an SPI, the optimistic SA. */
  | 'ticket'
  | 'spi'
  | 'installing'
  /** It was sent and waits for its REPLY. */
  | 'sent'
  /** The SAs that were agreed on are on their way into the datapath; then ACK is due. */
  | 'concluding'
  /** A REPLY that asks for an ACK may come again. */
  | 'lingering';

/** An authenticator that may be answered. */
export interface Outstanding extends AuthenticatorTime {
  /** When it was sent, `mono`. */
  readonly at: number;
}

export class Transaction implements Asker {
  readonly association: Association;
  readonly XID: number;
  /** Where it is sent; it moves with the two ends (MIGRATE). */
  path: Path;
  readonly work: Work;
  readonly since: number;
  stage: TransactionStage = 'ticket';
  /** One ticket for all transmissions (RFC 4430 §9). */
  credential: Credential | undefined;
  readonly outstanding: Outstanding[] = [];
  tries = 0;
  /** When time alone causes something, `mono`. */
  deadline: number | undefined;
  /** The REPLY asked for an ACK, or was not the optimistic one. */
  acknowledge = false;
  /** The clock was adjusted once already. */
  adjusted = false;
  /** It was begun anew, with a fresh ticket, after TKT_EXPIRED. */
  readonly renewed: boolean;
  /** What an unauthenticated error said. */
  hint: string | undefined;
  closed = false;

  constructor(association: Association, path: Path, work: Work, renewed = false) {
    const { host } = association;
    this.association = association;
    this.path = path;
    this.work = work;
    this.renewed = renewed;
    this.XID = host.table.newXid();
    this.since = host.now.mono;
    association.transactions.set(this.XID, this);
  }

  get messageType(): number {
    return { create: TYPE.CREATE, delete: TYPE.DELETE, status: TYPE.STATUS }[this.work.kind];
  }

  /** Sends the command, the first time or again, and says when to send it again. */
  transmit(quick: readonly QuickPayload[]): void {
    const { host, peer } = this.association;
    this.stage = 'sent';
    this.tries += 1;
    this.deadline = host.now.mono + waitFor(this.tries, peer.kink.retryInterval);
    this.#send(this.messageType, quick.length === 0 ? [] : [isakmp(quick)]);
  }

  /** ACK holds AP_REQ alone, RFC 4430 §6.2. */
  sendAck(): void {
    this.#send(TYPE.ACK, []);
  }

  #send(messageType: number, inner: readonly Payload[]): void {
    const { association, credential, path } = this;
    const { host } = association;
    const { random, now } = host;
    const { key } = credential!;
    const time = host.clock.next(now.wall + association.offsetMs);
    if (messageType !== TYPE.ACK) this.outstanding.push({ ...time, at: now.mono });
    const apReq = buildApReq(credential!, time, random);
    const outer: Payload[] = [{ type: 'AP_REQ', EPOCH: host.EPOCH, apReq }];
    if (inner.length > 0) outer.push(encrypted(inner, key, random));
    const message: Message = { messageType, DOI: IPSEC_DOI, XID: this.XID, ACKREQ: false, payloads: outer };
    association.report('ladder', ladder(message, inner), { direction: 'out', id: this.XID });
    host.emit({ kind: 'send', path, bytes: sealMessage(message, key) });
  }

  close(): void {
    this.closed = true;
    this.deadline = undefined;
    this.association.transactions.delete(this.XID);
  }
}

/** KINK_ISAKMP around Quick Mode's payloads, RFC 4430 §4.2.6. */
export function isakmp(payloads: readonly QuickPayload[]): Payload {
  const { first, octets } = writeChain(payloads);
  return { type: 'ISAKMP', first, version: QUICK_MODE_VERSION, chain: octets };
}

/** Truncated exponential back-off, RFC 4430 §9: how long the transmission with this number is waited for. */
export function waitFor(transmission: number, interval: number): number {
  return interval * Math.min(2 ** (transmission - 1), 64);
}
