/**
 * What we answered to one command of a peer's, RFC 4430 §3.3, §9: a command that comes again gets the same REPLY, built anew for its newest
 * authenticator, and causes nothing. A REPLY that asks for an ACK is sent again until that is there.
 */

import type { Payload as QuickPayload } from '../src/isakmp/payloads.ts';
import type { Asker } from '../src/keying/asks.ts';
import type { Path } from '../src/net/address.ts';
import type { Association } from './association.ts';
import type { Grant } from './grant.ts';
import { type Accepted, makeApRep } from './krb5/ap-exchange.ts';
import { ladder } from './ladder.ts';
import { encrypted, IPSEC_DOI, type Message, sealMessage, TYPE } from './message.ts';
import type { KinkPair } from './pair.ts';
import type { Payload } from './payloads.ts';
import { waitFor } from './transaction.ts';

/** How long an answer is remembered after its command was heard last: longer than any initiator repeats itself. Milliseconds. */
const REMEMBERED_MS = 60_000;

export type AnswerStage =
  /** The plan of a CREATE waits for SPIs. */
  | 'planned'
  /** Its SAs are on their way into the datapath. */
  | 'installing'
  /** The REPLY asked for an ACK. */
  | 'awaiting-ack'
  | 'answered';

export class Answer implements Asker {
  readonly association: Association;
  readonly XID: number;
  readonly messageType: number;
  path: Path;
  /** The command's, as it came last. */
  accepted: Accepted;
  stage: AnswerStage = 'answered';
  /** What a CREATE asked for, what it gets, and the generation that was decided under. */
  operations: readonly (readonly QuickPayload[])[] = [];
  grants: readonly Grant[] = [];
  generation = 0;
  /** One for each grant, as the datapath gives them. */
  spis: number[] = [];
  pairs: KinkPair[] = [];
  /** The REPLY that waits for the datapath. */
  pending: { readonly inner: readonly Payload[]; readonly ACKREQ: boolean } | undefined;
  ACKREQ = false;
  tries = 0;
  /** When the REPLY is sent again, or forgotten, `mono`. */
  deadline: number | undefined;
  closed = false;
  #inner: readonly Payload[] = [];

  constructor(association: Association, XID: number, messageType: number, path: Path, accepted: Accepted) {
    this.association = association;
    this.XID = XID;
    this.messageType = messageType;
    this.path = path;
    this.accepted = accepted;
  }

  /** Decides what the REPLY holds besides AP_REP, and sends it. */
  reply(inner: readonly Payload[], ACKREQ = false): void {
    this.#inner = inner;
    this.ACKREQ = ACKREQ;
    this.stage = ACKREQ ? 'awaiting-ack' : 'answered';
    this.transmit();
  }

  /** Sends the REPLY, the first time or again: because it is time, or because the command came again. */
  transmit(asked = false): void {
    const { association, accepted, ACKREQ } = this;
    const { host, peer } = association;
    if (this.stage === 'awaiting-ack') {
      if (!asked) this.tries += 1;
      this.deadline = host.now.mono + waitFor(this.tries, peer.kink.retryInterval);
    } else this.linger();
    const apRep: Payload = { type: 'AP_REP', EPOCH: host.EPOCH, apRep: makeApRep(accepted, host.random) };
    const sealed = this.#inner.length === 0 ? [] : [encrypted(this.#inner, accepted.key, host.random)];
    const message: Message = {
      messageType: TYPE.REPLY,
      DOI: IPSEC_DOI,
      XID: this.XID,
      ACKREQ,
      payloads: [apRep, ...sealed],
    };
    association.report('ladder', ladder(message, this.#inner), { direction: 'out', id: this.XID });
    host.emit({ kind: 'send', path: this.path, bytes: sealMessage(message, accepted.key) });
  }

  /** What it said stands no more: a command that comes yet again gets this. */
  retract(inner: readonly Payload[]): void {
    this.#inner = inner;
    this.ACKREQ = false;
    this.stage = 'answered';
    this.linger();
  }

  /** Remembered from now on, no more. */
  linger(): void {
    this.deadline = this.association.host.now.mono + REMEMBERED_MS;
  }

  forget(): void {
    this.closed = true;
    this.deadline = undefined;
    this.association.answers.delete(this.XID);
  }
}
